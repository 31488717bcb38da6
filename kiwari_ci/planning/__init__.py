"""Spec → Plan: every name, default and expression is decided here, once."""

from kiwari_ci import schema
from kiwari_ci.effective import built_images, derived, triggers
from kiwari_ci.github import action_pins
from kiwari_ci.plan import (
    BuiltBranch,
    ComposeStack,
    DriftWorkflow,
    GitHubSetting,
    Plan,
    ServiceContainer,
    ServiceWorkflow,
)
from kiwari_ci.planning import builds, required_settings
from kiwari_ci.planning.escape_hatches import list_escape_hatches
from kiwari_ci.planning.hosts import list_long_running, plan_deploy_host, plan_postgres_server
from kiwari_ci.planning.stacks import plan_stack
from kiwari_ci.planning.workflows import plan_environment_workflow, plan_service_workflow


def build_plan(
    given: schema.Spec,
    spec_name: str,
    spec_text: str,
    own: action_pins.PinSet = action_pins.DEFAULT_PIN_SET,
    installed_source: str = "",
) -> Plan:
    """Decide everything about a spec that the rules found sound; `spec_name` is its file's name, `own` has its pins.

    `installed_source` says how this tool can be installed again, for a spec that does not.
    """
    stacks = {name: plan_stack(given, name) for name in given.environments}
    servers = tuple(plan_postgres_server(given, name) for name in given.databases)
    tokens = _collect_pull_tokens(given)
    hosts = tuple(plan_deploy_host(given, name, stacks, servers) for name in given.hosts)
    workflows = tuple(
        plan_service_workflow(given, image, stacks, own.pins) for image in built_images.list_built_images(given)
    )
    own_workflow = [name for name in given.environments if triggers.has_own_workflow(given, name)]
    promotions = tuple(plan_environment_workflow(given, name, stacks, workflows, own.pins) for name in own_workflow)
    pushed, login = _list_built_branches(workflows), builds.plan_registry_login(given)
    of_builds = required_settings.collect_build_settings(workflows, login)
    return Plan(
        project=given.project.name,
        repository=given.project.repository,
        default_branch=given.project.default_branch,
        default_branch_in_url=given.project.default_branch.replace("/", "%2F"),
        build_branch=pushed[0].branch if pushed else given.project.default_branch,
        pushed=pushed,
        runner=given.project.runner[0] if len(given.project.runner) == 1 else "",
        runner_labels=tuple(given.project.runner),
        pull_requests=given.project.pull_requests,
        registry=given.registry.host,
        login=login,
        actions={
            name.split("/")[1].replace("-", "_"): action_pins.build_pinned_action(own.pins[name])
            for name in action_pins.DEFAULT_PINS
        },
        workflows=tuple(each for each in workflows if each.branches or (each.on_pull_requests and each.jobs())),
        promotions=promotions,
        drift=_plan_drift_workflow(given, f"specs/{spec_name}", installed_source),
        stacks=tuple(stacks.values()),
        servers=servers,
        hosts=hosts,
        tokens=tokens,
        needs=required_settings.collect_required_settings(hosts, tokens, of_builds, given.registry.host),
        build_needs=tuple(need for need in of_builds if need.name not in {token.name for token in tokens}),
        first_tags=tuple(dict.fromkeys(each.example for each in promotions if each.example)),
        released=any(each.builds and each.pattern for each in promotions),
        by_hand=tuple(each for each in promotions if each.by_hand),
        domains=tuple(each.domain for stack in stacks.values() for each in stack.containers if each.domain),
        managed=tuple(each.domain for host in hosts for each in host.managed),
        answering=_list_health_checked(given, stacks),
        standing=tuple(each for host in hosts for each in list_long_running(host)),
        pushing=", ".join(stack.environment for stack in stacks.values() if stack.pushed),
        rendered=", ".join(stack.environment for stack in stacks.values() if stack.sent),
        migrating=", ".join(f"`{name}`" for name, service in given.services.items() if service.migrate),
        migrated=any(server.migrations_image for server in servers),
        start_title="Network and PostgreSQL" if servers else "Network",
        hatches=list_escape_hatches(given),
        spec_text=spec_text,
        pins=action_pins.build_pins_file(own),
        dependabot=(action_pins.build_dependabot_config(own),) if given.project.dependabot else (),
    )


def _collect_pull_tokens(given: schema.Spec) -> tuple[GitHubSetting, ...]:
    """What hosts pull images with, but for the job's own."""
    settings = dict.fromkeys(derived.resolve_deploy_settings(given, name)["token"] for name in given.environments)
    return tuple(token for token in settings if token.kind)


def _list_health_checked(given: schema.Spec, stacks: dict[str, ComposeStack]) -> tuple[ServiceContainer, ...]:
    """One of each service that is asked for its health, where it runs first."""
    instances = [instance for stack in stacks.values() for instance in stack.instances]
    first = {instance.service: instance for instance in reversed(instances)}
    return tuple(first[name] for name, service in given.services.items() if service.port and name in first)


def _list_built_branches(workflows: tuple[ServiceWorkflow, ...]) -> tuple[BuiltBranch, ...]:
    """The branches that are built, each with the workflows that do so."""
    branches = dict.fromkeys(branch for each in workflows for branch in each.branches)
    return tuple(
        BuiltBranch(branch, tuple(each.source.workflow for each in workflows if branch in each.branches))
        for branch in branches
    )


def _plan_drift_workflow(given: schema.Spec, spec_path: str, installed_source: str) -> DriftWorkflow:
    """How the workflow gets the tool; a source that only the installation says is told to the tool that runs there."""
    requirement = given.generator or installed_source
    told = "" if given.generator else installed_source
    if not requirement.startswith("git+"):
        return DriftWorkflow(requirement, "", "", spec_path, told)
    repository, commit = requirement.removeprefix("git+https://github.com/").split("@")
    return DriftWorkflow("", repository.removesuffix(".git"), commit, spec_path, told)
