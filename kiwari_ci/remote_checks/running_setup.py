"""Finds what serves an environment before its first deploy, and writes it as the spec's field `takeover`."""

import re
from collections.abc import Iterator

from kiwari_ci.plan_model import AccessoryContainer, ComposeStack, DeployHost, Plan, ServiceContainer, Takeover
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.remote_checks.findings import Finding, FindingGroup
from kiwari_ci.remote_checks.ssh_host import ContainerState, HostFacts


def check_running_setup(
    group: FindingGroup, plan: Plan, host: DeployHost, stack: ComposeStack, facts: HostFacts
) -> Iterator[Finding]:
    """Print the field `takeover`, where containers of the environment run that nothing of the spec put there.

    A field that is in the spec keeps what it says; it is printed if the host shows more.
    """
    if was_ever_deployed(stack, facts):
        return
    running_by_name = find_running_containers(host, stack, facts)
    written = find_takeover(plan, stack)
    field = format_takeover_field(running_by_name, facts, written)
    if running_by_name and (written is None or field != format_takeover_field({}, None, written)):
        names = ", ".join(container.name for containers in running_by_name.values() for container in containers)
        expected = f"environments.{stack.environment}.takeover says so, and the runbook then how to take it over"
        yield group.wrong("takeover", f"{names} may serve it today", expected, f"compare, then write: {field}")


def find_takeover(plan: Plan, stack: ComposeStack) -> Takeover | None:
    """What the spec says in `takeover` of the environment of a stack."""
    return next((takeover for takeover in plan.takeovers if takeover.stack == stack.name), None)


def was_ever_deployed(stack: ComposeStack, facts: HostFacts) -> bool:
    """Whether the host has a record of a deploy of the stack."""
    return bool(facts.first("record", stack.name))


def find_running_containers(host: DeployHost, stack: ComposeStack, facts: HostFacts) -> dict[str, list[ContainerState]]:
    """The running containers that stand for the services and accessories of a stack, by the names in the spec.

    It is the container with the planned name; else the only one that has the service's name as a word of its own, or
    the only one with the accessory's image. Several that differ only in the number that Compose gives the replicas of
    one service stand for it together. What the spec put on the host is not one of them.
    """
    planned_elsewhere = {
        container.container
        for other_stack in host.stacks
        if other_stack != stack
        for container in other_stack.containers
    }
    planned_elsewhere |= {server.name for server in host.servers}
    running = [
        container
        for container in facts.containers().values()
        if container.status == "running" and container.name not in planned_elsewhere
    ]
    running_by_name: dict[str, list[ContainerState]] = {}
    for planned in stack.containers:
        name = _get_spec_name(planned)
        same_name = [container for container in running if container.name == planned.container]
        matches = same_name or [container for container in running if _stands_for(container, planned)]
        if len({(container.project, _strip_replica_number(container)) for container in matches}) == 1:
            running_by_name.setdefault(name, sorted(matches, key=_get_replica_number))
    return running_by_name


def _strip_replica_number(container: ContainerState) -> str:
    """The name that the replicas of one service of a Compose project have in common."""
    return re.sub(r"(?<=[-_])[0-9]+$", "", container.name) if container.project else container.name


def _get_replica_number(container: ContainerState) -> int:
    number = container.name.removeprefix(_strip_replica_number(container))
    return int(number) if number else 0


def format_takeover_field(
    running_by_name: dict[str, list[ContainerState]], facts: HostFacts | None, written: Takeover | None
) -> str:
    """The field as one line of YAML: what the spec says already, and what the host shows beside it.

    Where the spec has no such field, the folder and the workflows are for a person to add.
    """
    projects = {container.project for containers in running_by_name.values() for container in containers}
    project = projects.pop() if len(projects) == 1 else ""
    all_containers = facts.containers().values() if facts else ()
    front = [container.name for container in all_containers if container.web_ports]
    ports = front[0] if len(front) == 1 else ""
    names = {name: [container.name for container in containers] for name, containers in running_by_name.items()}
    folder, workflows = "", ""
    if written:
        project, ports = written.project or project, written.ports or ports
        folder, workflows = written.folder, ", ".join(written.old_pipeline.workflows)
        names |= {
            taken.name: [container.today for container in written.containers if container.name == taken.name]
            for taken in written.containers
        }
    pairs = ", ".join(f"{name}: {_format_names(names_today)}" for name, names_today in names.items())
    parts = {
        "project": project,
        "folder": folder,
        "workflows": f"[{workflows}]" if workflows else "",
        "ports": ports,
        "containers": f"{{{pairs}}}" if pairs else "",
    }
    return f"takeover: {{{', '.join(f'{key}: {text}' for key, text in parts.items() if text)}}}"


def _format_names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"[{', '.join(names)}]"


def _get_spec_name(planned: object) -> str:
    if isinstance(planned, ServiceContainer):
        return planned.service
    assert isinstance(planned, AccessoryContainer)
    return planned.name


def _stands_for(container: ContainerState, planned: object) -> bool:
    if isinstance(planned, AccessoryContainer):
        return _parse_name(container.image) == _parse_name(planned.image)
    return _get_spec_name(planned) in re.split("[-_.]", container.name)


def _parse_name(image: str) -> str:
    return parse_image_reference(image).familiar_name
