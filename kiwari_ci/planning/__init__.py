"""EffectiveSpec → Plan: every name, default and expression of the output is decided here, once."""

from kiwari_ci.effective_spec import EffectiveEnvironment, EffectiveSpec
from kiwari_ci.effective_spec.branch_patterns import format_policy_pattern
from kiwari_ci.engines.all_engines import find_engine
from kiwari_ci.github_facts import action_pins
from kiwari_ci.plan_model import (
    BuiltBranch,
    Cluster,
    DeployHost,
    DriftWorkflow,
    EnvironmentWorkflow,
    Host,
    PinnedAction,
    Plan,
    PlannedService,
    PostgresServer,
    RequiredSetting,
    ServiceWorkflow,
    Stack,
    Takeover,
)
from kiwari_ci.planning import builds, required_settings, runbook_steps
from kiwari_ci.planning.escape_hatches import list_escape_hatches
from kiwari_ci.planning.hosts import list_long_running, plan_proxy_guides
from kiwari_ci.planning.pull_requests import plan_pull_request_workflows
from kiwari_ci.planning.runbook_steps import DeployedRef
from kiwari_ci.planning.stacks import EnvironmentStacks
from kiwari_ci.planning.steps import ActionPins
from kiwari_ci.planning.takeover import (
    list_branches_before_takeovers,
    list_workflows_removed_before,
    plan_takeovers,
)
from kiwari_ci.planning.workflows import plan_environment_workflow, plan_service_workflow

DRIFT_CHECK = "drift"  # the job of the drift workflow


def build_plan(
    spec: EffectiveSpec,
    spec_name: str,
    spec_text: str,
    pins: action_pins.PinSet = action_pins.DEFAULT_PIN_SET,
    installed_source: str = "",
) -> Plan:
    """Decide everything about a spec that the rules found sound.

    `spec_name` is the name of its file; `pins` has the commits of its actions.
    `installed_source` says how this tool can be installed again, for a spec that does not.
    """
    environment_stacks = EnvironmentStacks(spec)
    stacks = _list_all_stacks(spec, environment_stacks)
    first_stacks = _list_first_stacks(spec, environment_stacks)
    servers = _plan_database_servers(spec)
    every_host = _plan_hosts(spec, environment_stacks, servers)
    hosts = tuple(host for host in every_host if isinstance(host, DeployHost))

    workflows = _plan_service_workflows(spec, environment_stacks, pins.pins)
    environment_workflows = _plan_environment_workflows(spec, environment_stacks, pins.pins)
    pull_requests = plan_pull_request_workflows(spec, pins.pins)
    required_checks = (DRIFT_CHECK, *(workflow.check for workflow in pull_requests))

    built_branches = _list_built_branches(workflows)
    pushed_before = list_branches_before_takeovers(spec, built_branches)
    takeovers = plan_takeovers(spec, stacks, built_branches, pushed_before, workflows, environment_workflows)
    tags_after_takeovers = _list_tags_after_takeovers(environment_workflows, takeovers)

    login = builds.plan_registry_login(spec.registry)
    settings = required_settings.collect_settings(spec, every_host, login)
    runbook = runbook_steps.plan_runbook(
        spec.project.name,
        spec.project.repository,
        hosts,
        tuple(host for host in every_host if isinstance(host, Cluster)),
        first_stacks,
        repository_settings=settings.of_no_host,
        required_settings=settings.required,
        deployed_refs=_list_deployed_refs(spec, settings.required),
        version_tags=_list_version_patterns(environment_workflows),
        required_checks=required_checks,
        takeovers=takeovers,
        has_first_release=bool(tags_after_takeovers),
    )
    return Plan(
        project=spec.project.name,
        repository=spec.project.repository,
        default_branch=spec.project.default_branch,
        pushed=built_branches,
        runner_labels=tuple(spec.project.runner),
        registry=spec.registry.host,
        login=login,
        actions=_plan_actions(pins),
        workflows=workflows,
        promotions=environment_workflows,
        pull_requests=pull_requests,
        required_checks=required_checks,
        drift=_plan_drift_workflow(spec.generator, f"specs/{spec_name}", installed_source),
        stacks=stacks,
        servers=servers,
        every_host=every_host,
        tokens=settings.tokens,
        pulls_with_job_token=spec.registry.pull_token.secret is None,
        needs=settings.required,
        tags_after_takeovers=tags_after_takeovers,
        proxy_guides=plan_proxy_guides(hosts, takeovers),
        takeovers=takeovers,
        pushed_before_takeovers=pushed_before,
        removed_before_takeovers=list_workflows_removed_before(pushed_before, takeovers),
        answering=_list_health_checked(spec, first_stacks),
        standing=tuple(accessories for host in hosts for accessories in list_long_running(host)),
        migrating=", ".join(f"`{name}`" for name, service in spec.services.items() if service.migrate),
        runbook=runbook,
        hatches=list_escape_hatches(spec),
        spec_text=spec_text,
        pins=action_pins.build_pins_file(pins),
        dependabot=(action_pins.build_dependabot_config(pins),) if spec.project.dependabot else (),
    )


def _list_all_stacks(spec: EffectiveSpec, stacks: EnvironmentStacks) -> tuple[Stack, ...]:
    """List the stacks of all environments, each once."""
    return tuple(stack for environment in spec.environments.values() for stack in stacks.list_stacks(environment))


def _list_first_stacks(spec: EffectiveSpec, stacks: EnvironmentStacks) -> tuple[Stack, ...]:
    """List the stack on the first host of each environment."""
    return tuple(stacks.first_stack(environment) for environment in spec.environments.values())


def _plan_database_servers(spec: EffectiveSpec) -> tuple[PostgresServer, ...]:
    return tuple(
        find_engine(server.host.engine).plan_database_server(spec, server) for server in spec.databases.values()
    )


def _plan_service_workflows(
    spec: EffectiveSpec, stacks: EnvironmentStacks, actions: ActionPins
) -> tuple[ServiceWorkflow, ...]:
    """Plan the workflows that pushes start."""
    groups = [group for group in spec.image_groups if group.root.build_branches]
    return tuple(plan_service_workflow(group, stacks, actions) for group in groups)


def _plan_environment_workflows(
    spec: EffectiveSpec, stacks: EnvironmentStacks, actions: ActionPins
) -> tuple[EnvironmentWorkflow, ...]:
    """Plan the workflows that tags or persons start."""
    environments = [environment for environment in spec.environments.values() if environment.has_own_workflow]
    return tuple(plan_environment_workflow(environment, stacks, actions) for environment in environments)


def _list_version_patterns(workflows: tuple[EnvironmentWorkflow, ...]) -> list[str]:
    """List the patterns of the tags that deploy an environment, each once."""
    return list(dict.fromkeys(workflow.pattern for workflow in workflows if workflow.pattern))


def _list_tags_after_takeovers(
    workflows: tuple[EnvironmentWorkflow, ...], takeovers: tuple[Takeover, ...]
) -> tuple[str, ...]:
    """List an example of each tag that deploys an environment, except for those that a takeover pushes."""
    pushed_by_takeovers = {takeover.first_tag for takeover in takeovers}
    examples = dict.fromkeys(workflow.example for workflow in workflows if workflow.example)
    return tuple(tag for tag in examples if tag not in pushed_by_takeovers)


def _plan_actions(pins: action_pins.PinSet) -> dict[str, PinnedAction]:
    """Plan the actions by the names that templates have for them: `actions/checkout` is `checkout`."""
    return {
        name.split("/")[1].replace("-", "_"): action_pins.build_pinned_action(pins.pins[name])
        for name in action_pins.DEFAULT_PINS
    }


def _plan_hosts(
    spec: EffectiveSpec, stacks: EnvironmentStacks, servers: tuple[PostgresServer, ...]
) -> tuple[Host, ...]:
    """Plan each host with the stacks that are on it."""
    hosts = []
    for host in spec.hosts.values():
        own_stacks = {
            name: stacks.find_stack(environment, host)
            for name, environment in spec.environments.items()
            if host.name in environment.host_names
        }
        hosts.append(find_engine(host.engine).plan_host(spec, host, own_stacks, servers))
    return tuple(hosts)


def _list_deployed_refs(spec: EffectiveSpec, needs: tuple[RequiredSetting, ...]) -> dict[str, list[DeployedRef]]:
    """List the branches and tags whose runs deploy to each of GitHub's environments, or build in `build`."""
    refs = {environment.name: _list_refs_of(environment) for environment in spec.environments.values()}
    if any(required_settings.BUILD_ENVIRONMENT in need.environments for need in needs):
        every_ref = [("branch", branch) for branch in spec.built_branches]
        every_ref += [ref for own_refs in refs.values() for ref in own_refs]
        refs[required_settings.BUILD_ENVIRONMENT] = list(dict.fromkeys(every_ref))
    return refs


def _list_refs_of(environment: EffectiveEnvironment) -> list[DeployedRef]:
    deploy_on = environment.model.deploy_on
    refs: list[DeployedRef] = [("branch", deploy_on.push)] if deploy_on.push else []
    if environment.tag_pattern:
        refs.append(("tag", environment.tag_pattern.text))
    elif environment.is_ordered_by_run:
        refs += [("branch", format_policy_pattern(branch)) for branch in environment.release_branches]
    elif deploy_on.dispatch:
        refs.append(("branch", environment.deploy_branch))
        if environment.has_own_builds:
            refs.append(("tag", "*"))  # a person chooses an older commit by any tag of it
    return list(dict.fromkeys(refs))


def _list_health_checked(spec: EffectiveSpec, stacks: tuple[Stack, ...]) -> tuple[PlannedService, ...]:
    """List one container of each service that is asked for its health over HTTP, where it runs first."""
    first_instances: dict[str, PlannedService] = {}
    for stack in stacks:
        for instance in stack.instances:
            first_instances.setdefault(instance.service, instance)
    asked_names = [name for name, service in spec.services.items() if service.port and service.health.by == "http"]
    return tuple(first_instances[name] for name in asked_names if name in first_instances)


def _list_built_branches(workflows: tuple[ServiceWorkflow, ...]) -> tuple[BuiltBranch, ...]:
    """List the branches that are built, each with the workflows that do so."""
    workflows_by_branch: dict[str, list[str]] = {}
    for workflow in workflows:
        for branch in workflow.branches:
            workflows_by_branch.setdefault(branch, []).append(workflow.name)
    return tuple(BuiltBranch(branch, tuple(names)) for branch, names in workflows_by_branch.items())


def _plan_drift_workflow(generator: str | None, spec_path: str, installed_source: str) -> DriftWorkflow:
    """How the workflow gets the tool; a source that only the installation says is told to the tool that runs there."""
    requirement = generator or installed_source
    source_from_installation = "" if generator else installed_source
    if not requirement.startswith("git+"):
        return DriftWorkflow(requirement, "", "", spec_path, source_from_installation)
    repository, commit = requirement.removeprefix("git+https://github.com/").split("@")
    return DriftWorkflow("", repository.removesuffix(".git"), commit, spec_path, source_from_installation)
