"""Spec → Plan: every name, default and expression is decided here, once."""

from kiwari_ci import derive, needs, pins, reach, spec
from kiwari_ci.plan import Drift, Instance, Plan, Pushed, ServiceWorkflow
from kiwari_ci.resolve.hatches import hatches
from kiwari_ci.resolve.hosts import host, server, standing
from kiwari_ci.resolve.stacks import stack
from kiwari_ci.resolve.workflows import promotion, workflow


def resolve(given: spec.Spec, spec_name: str, spec_text: str, own: pins.Own = pins.NONE) -> Plan:
    """Decide everything about a spec that the rules found sound; `spec_name` is its file's name, `own` has its pins."""
    spec_path = f"specs/{spec_name}"
    stacks = {name: stack(given, name) for name in given.environments}
    servers = tuple(server(given, name) for name in given.databases)
    instances = [instance for stack in stacks.values() for instance in stack.instances]
    settings = dict.fromkeys(derive.settings_of(given, name)["token"] for name in given.environments)
    tokens = tuple(token for token in settings if token.kind)
    hosts = tuple(host(given, name, stacks, servers) for name in given.hosts)
    workflows = tuple(workflow(given, name, stacks, own.pins) for name in derive.built_services(given))
    own_workflow = [name for name in given.environments if reach.has_workflow(given, name)]
    promotions = tuple(promotion(given, name, stacks, workflows) for name in own_workflow)
    pushed = _pushed(workflows)
    return Plan(
        project=given.project.name,
        repository=given.project.repository,
        default_branch=given.project.default_branch,
        default_branch_in_url=given.project.default_branch.replace("/", "%2F"),
        build_branch=pushed[0].branch if pushed else given.project.default_branch,
        pushed=pushed,
        runner=given.project.runner,
        pull_requests=given.project.pull_requests,
        registry=given.registry.host,
        actions={pin.action.split("/")[1].replace("-", "_"): pins.action(pin) for pin in own.pins.values()},
        workflows=tuple(each for each in workflows if each.branches or (given.project.pull_requests and each.jobs())),
        promotions=promotions,
        drift=_drift(given, spec_path),
        stacks=tuple(stacks.values()),
        servers=servers,
        hosts=hosts,
        tokens=tokens,
        needs=needs.at_github(hosts, tokens, workflows),
        first_tags=tuple(dict.fromkeys(each.example for each in promotions if each.example)),
        released=any(each.builds and each.pattern for each in promotions),
        by_hand=tuple(each for each in promotions if each.by_hand),
        domains=tuple(each.domain for stack in stacks.values() for each in stack.containers if each.domain),
        managed=tuple(each.domain for host in hosts for each in host.managed),
        answering=_answering(given, instances),
        standing=tuple(each for host in hosts for each in standing(host)),
        rendered=", ".join(stack.environment for stack in stacks.values() if stack.sent),
        migrating=", ".join(f"`{name}`" for name, service in given.services.items() if service.migrate),
        migrated=any(server.migrations_image for server in servers),
        start_title="Network and PostgreSQL" if servers else "Network",
        hatches=hatches(given),
        spec_text=spec_text,
        pins=pins.file_of(own),
        dependabot=(pins.bot_of(own),) if given.project.dependabot else (),
    )


def _answering(given: spec.Spec, instances: list[Instance]) -> tuple[Instance, ...]:
    """Of each service that has a port the first instance, in the spec's order."""
    first = {instance.service: instance for instance in reversed(instances)}
    return tuple(first[name] for name, service in given.services.items() if service.port and name in first)


def _pushed(workflows: tuple[ServiceWorkflow, ...]) -> tuple[Pushed, ...]:
    """The branches that are built, each with the workflows that do so."""
    branches = dict.fromkeys(branch for each in workflows for branch in each.branches)
    return tuple(
        Pushed(branch, tuple(each.source.workflow for each in workflows if branch in each.branches))
        for branch in branches
    )


def _drift(given: spec.Spec, spec_path: str) -> Drift:
    if given.generator.startswith("kiwari-ci=="):
        return Drift(given.generator, "", "", spec_path)
    repository, commit = given.generator.removeprefix("git+https://github.com/").split("@")
    return Drift("", repository.removesuffix(".git"), commit, spec_path)
