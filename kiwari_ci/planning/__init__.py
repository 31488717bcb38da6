"""EffectiveSpec → Plan: every name, default and expression of the output is decided here, once."""

from kiwari_ci.effective_spec import EffectiveEnvironment, EffectiveHost, EffectiveSpec
from kiwari_ci.effective_spec.branch_patterns import format_policy_pattern
from kiwari_ci.effective_spec.hosts import pull_token_setting
from kiwari_ci.engines.all_engines import find_engine
from kiwari_ci.github_facts import action_pins
from kiwari_ci.plan_model import (
    BuiltBranch,
    Cluster,
    ComposeStack,
    DeployHost,
    DriftWorkflow,
    GitHubSetting,
    Host,
    PinnedAction,
    Plan,
    PlannedService,
    PostgresServer,
    RequiredSetting,
    ServiceWorkflow,
    Stack,
)
from kiwari_ci.planning import builds, required_settings, runbook_steps
from kiwari_ci.planning.escape_hatches import list_escape_hatches
from kiwari_ci.planning.hosts import list_long_running, plan_proxy_guides
from kiwari_ci.planning.pull_requests import plan_pull_request_workflows
from kiwari_ci.planning.runbook_steps import DeployedRef
from kiwari_ci.planning.stacks import EnvironmentStacks
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
    project = spec.project
    environment_stacks = EnvironmentStacks(spec)
    environments = spec.environments.values()
    stacks = tuple(stack for environment in environments for stack in environment_stacks.list_stacks(environment))
    first_stacks = tuple(environment_stacks.first_stack(environment) for environment in environments)
    compose_stacks = [stack for stack in stacks if isinstance(stack, ComposeStack)]
    servers = tuple(
        find_engine(server.host.engine).plan_database_server(spec, server) for server in spec.databases.values()
    )
    every_host = tuple(_plan_host(spec, host, environment_stacks, servers) for host in spec.hosts.values())
    hosts = tuple(host for host in every_host if isinstance(host, DeployHost))
    workflows = tuple(
        plan_service_workflow(group, environment_stacks, pins.pins)
        for group in spec.image_groups
        if group.root.build_branches
    )
    environment_workflows = tuple(
        plan_environment_workflow(environment, environment_stacks, pins.pins)
        for environment in environments
        if environment.has_own_workflow
    )
    built_branches = _list_built_branches(workflows)
    tokens = _collect_pull_tokens(spec) if any(host.stacks for host in hosts) else ()
    login = builds.plan_registry_login(spec.registry)
    build_settings = required_settings.collect_build_settings(spec, login)
    step_settings = required_settings.collect_step_settings(spec)
    needs = required_settings.collect_required_settings(
        every_host, tokens, build_settings, step_settings, spec.registry.host
    )
    first_tags = dict.fromkeys(workflow.example for workflow in environment_workflows if workflow.example)
    pull_requests = plan_pull_request_workflows(spec, pins.pins)
    new_workflows = [workflow.name for workflow in workflows] + [workflow.name for workflow in environment_workflows]
    takeovers = plan_takeovers(
        spec,
        stacks,
        built_branches,
        environment_workflows,
        new_files=[f"{name}.yml" for name in new_workflows],
    )
    pushed_before_takeovers = list_branches_before_takeovers(built_branches, takeovers)
    tags_of_takeovers = {takeover.first_tag for takeover in takeovers}
    tags_after_takeovers = tuple(tag for tag in first_tags if tag not in tags_of_takeovers)
    required_checks = (DRIFT_CHECK, *(workflow.check for workflow in pull_requests))
    migrating = [f"`{name}`" for name, service in spec.services.items() if service.migrate]
    release_workflows = [workflow for workflow in environment_workflows if workflow.pattern]
    return Plan(
        project=project.name,
        repository=project.repository,
        default_branch=project.default_branch,
        default_branch_in_url=project.default_branch.replace("/", "%2F"),
        build_branch=built_branches[0].branch if built_branches else project.default_branch,
        pushed=built_branches,
        runner=project.runner[0] if len(project.runner) == 1 else "",
        runner_labels=tuple(project.runner),
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
        tokens=tokens,
        pulls_with_job_token=spec.registry.pull_token.secret is None,
        needs=needs,
        first_tags=tuple(first_tags),
        tags_after_takeovers=tags_after_takeovers,
        tagged_branches=" or ".join(dict.fromkeys(workflow.branches for workflow in release_workflows)),
        released=any(workflow.builds for workflow in release_workflows),
        by_hand=tuple(workflow for workflow in environment_workflows if workflow.by_hand),
        domains=_list_domains(every_host),
        proxy_guides=plan_proxy_guides(hosts, takeovers),
        takeovers=takeovers,
        pushed_before_takeovers=pushed_before_takeovers,
        removed_before_takeovers=list_workflows_removed_before(pushed_before_takeovers, takeovers),
        answering=_list_health_checked(spec, first_stacks),
        standing=tuple(accessories for host in hosts for accessories in list_long_running(host)),
        pushing=", ".join(stack.environment for stack in compose_stacks if stack.pushed),
        rendered=", ".join(stack.environment for stack in compose_stacks if stack.sent),
        getting_files=", ".join(stack.environment for stack in compose_stacks if stack.pushed or stack.sent),
        migrating=", ".join(migrating),
        migrated=any(server.migrations_image for server in servers),
        runbook=runbook_steps.plan_runbook(
            project.name,
            project.repository,
            hosts,
            tuple(host for host in every_host if isinstance(host, Cluster)),
            first_stacks,
            repository_settings=(*tokens, *build_settings, *step_settings),
            required_settings=needs,
            deployed_refs=_list_deployed_refs(spec, needs),
            version_tags=list(dict.fromkeys(workflow.pattern for workflow in release_workflows)),
            required_checks=required_checks,
            takeovers=takeovers,
            has_first_release=bool(tags_after_takeovers),
        ),
        hatches=list_escape_hatches(spec),
        spec_text=spec_text,
        pins=action_pins.build_pins_file(pins),
        dependabot=(action_pins.build_dependabot_config(pins),) if project.dependabot else (),
    )


def _plan_actions(pins: action_pins.PinSet) -> dict[str, PinnedAction]:
    """Plan the actions by the names that templates have for them: `actions/checkout` is `checkout`."""
    return {
        name.split("/")[1].replace("-", "_"): action_pins.build_pinned_action(pins.pins[name])
        for name in action_pins.DEFAULT_PINS
    }


def _plan_host(
    spec: EffectiveSpec, host: EffectiveHost, stacks: EnvironmentStacks, servers: tuple[PostgresServer, ...]
) -> Host:
    """Plan a host with the stacks that are on it."""
    own_stacks = {
        name: stacks.find_stack(environment, host)
        for name, environment in spec.environments.items()
        if host.name in environment.host_names
    }
    return find_engine(host.engine).plan_host(spec, host, own_stacks, servers)


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


def _collect_pull_tokens(spec: EffectiveSpec) -> tuple[GitHubSetting, ...]:
    """Collect what hosts pull images with, except for the job's own token, which nobody sets."""
    token = pull_token_setting(spec.registry)
    return (token,) if token.kind else ()


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


def _list_domains(hosts: tuple[Host, ...]) -> tuple[str, ...]:
    """List the domains of all hosts, each once."""
    return tuple(dict.fromkeys(domain for host in hosts for domain in host.domains))
