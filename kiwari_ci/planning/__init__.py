"""Spec → Plan: every name, default and expression is decided here, once."""

from kiwari_ci import schema
from kiwari_ci.effective import built_images, derived, triggers
from kiwari_ci.github import action_pins
from kiwari_ci.plan import Drift, Instance, Plan, Pushed, ServiceWorkflow, Setting, Stack
from kiwari_ci.planning import builds, required_settings
from kiwari_ci.planning.escape_hatches import hatches
from kiwari_ci.planning.hosts import host, server, standing
from kiwari_ci.planning.stacks import stack
from kiwari_ci.planning.workflows import promotion, workflow


def resolve(given: schema.Spec, spec_name: str, spec_text: str, own: action_pins.Own = action_pins.NONE) -> Plan:
    """Decide everything about a spec that the rules found sound; `spec_name` is its file's name, `own` has its pins."""
    stacks = {name: stack(given, name) for name in given.environments}
    servers = tuple(server(given, name) for name in given.databases)
    tokens = _tokens(given)
    hosts = tuple(host(given, name, stacks, servers) for name in given.hosts)
    workflows = tuple(workflow(given, image, stacks, own.pins) for image in built_images.images(given))
    own_workflow = [name for name in given.environments if triggers.has_workflow(given, name)]
    promotions = tuple(promotion(given, name, stacks, workflows, own.pins) for name in own_workflow)
    pushed, login = _pushed(workflows), builds.login(given)
    of_builds = required_settings.of_builds(workflows, login)
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
        actions={name.split("/")[1].replace("-", "_"): action_pins.action(own.pins[name]) for name in action_pins.PINS},
        workflows=tuple(each for each in workflows if each.branches or (each.on_pull_requests and each.jobs())),
        promotions=promotions,
        drift=_drift(given, f"specs/{spec_name}"),
        stacks=tuple(stacks.values()),
        servers=servers,
        hosts=hosts,
        tokens=tokens,
        needs=required_settings.at_github(hosts, tokens, of_builds, given.registry.host),
        build_needs=tuple(need for need in of_builds if need.name not in {token.name for token in tokens}),
        first_tags=tuple(dict.fromkeys(each.example for each in promotions if each.example)),
        released=any(each.builds and each.pattern for each in promotions),
        by_hand=tuple(each for each in promotions if each.by_hand),
        domains=tuple(each.domain for stack in stacks.values() for each in stack.containers if each.domain),
        managed=tuple(each.domain for host in hosts for each in host.managed),
        answering=_answering(given, stacks),
        standing=tuple(each for host in hosts for each in standing(host)),
        pushing=", ".join(stack.environment for stack in stacks.values() if stack.pushed),
        rendered=", ".join(stack.environment for stack in stacks.values() if stack.sent),
        migrating=", ".join(f"`{name}`" for name, service in given.services.items() if service.migrate),
        migrated=any(server.migrations_image for server in servers),
        start_title="Network and PostgreSQL" if servers else "Network",
        hatches=hatches(given),
        spec_text=spec_text,
        pins=action_pins.file_of(own),
        dependabot=(action_pins.bot_of(own),) if given.project.dependabot else (),
    )


def _tokens(given: schema.Spec) -> tuple[Setting, ...]:
    """What hosts pull images with, but for the job's own."""
    settings = dict.fromkeys(derived.settings_of(given, name)["token"] for name in given.environments)
    return tuple(token for token in settings if token.kind)


def _answering(given: schema.Spec, stacks: dict[str, Stack]) -> tuple[Instance, ...]:
    """One of each service that is asked for its health, where it runs first."""
    instances = [instance for stack in stacks.values() for instance in stack.instances]
    first = {instance.service: instance for instance in reversed(instances)}
    return tuple(first[name] for name, service in given.services.items() if service.port and name in first)


def _pushed(workflows: tuple[ServiceWorkflow, ...]) -> tuple[Pushed, ...]:
    """The branches that are built, each with the workflows that do so."""
    branches = dict.fromkeys(branch for each in workflows for branch in each.branches)
    return tuple(
        Pushed(branch, tuple(each.source.workflow for each in workflows if branch in each.branches))
        for branch in branches
    )


def _drift(given: schema.Spec, spec_path: str) -> Drift:
    if given.generator.startswith("kiwari-ci=="):
        return Drift(given.generator, "", "", spec_path)
    repository, commit = given.generator.removeprefix("git+https://github.com/").split("@")
    return Drift("", repository.removesuffix(".git"), commit, spec_path)
