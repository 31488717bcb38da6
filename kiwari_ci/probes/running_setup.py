"""Finds what serves an environment before its first deploy, and writes it as the spec's field `takeover`."""

import re
from collections.abc import Iterator

from kiwari_ci.plan import AccessoryContainer, ComposeStack, DeployHost, Plan, ServiceContainer
from kiwari_ci.probes.findings import Finding, FindingGroup
from kiwari_ci.probes.ssh_host import ContainerState, HostFacts
from kiwari_ci.readers.image_reference import parse_image_reference

_WEB_PORTS = {"80", "443"}


def check_running_setup(
    group: FindingGroup, plan: Plan, host: DeployHost, stack: ComposeStack, facts: HostFacts
) -> Iterator[Finding]:
    """Print the field `takeover`, where containers of the environment run that nothing of the spec put there."""
    if was_ever_deployed(stack, facts) or any(takeover.stack == stack.name for takeover in plan.takeovers):
        return
    running_by_name = find_running_containers(host, stack, facts)
    if running_by_name:
        names = ", ".join(container.name for container in running_by_name.values())
        expected = f"environments.{stack.environment}.takeover says so, and the runbook then how to take it over"
        field = format_takeover_field(running_by_name, facts)
        yield group.wrong("takeover", f"{names} may serve it today", expected, f"compare, then write: {field}")


def was_ever_deployed(stack: ComposeStack, facts: HostFacts) -> bool:
    """Whether the host has a record of a deploy of the stack."""
    return bool(facts.first("record", stack.name))


def find_running_containers(host: DeployHost, stack: ComposeStack, facts: HostFacts) -> dict[str, ContainerState]:
    """The running containers that stand for the services and accessories of a stack, by the names in the spec.

    It is the container with the planned name; else the only one that has the service's name as a word of its own, or
    the only one with the accessory's image. What the spec put on the host is not one of them.
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
    running_by_name: dict[str, ContainerState] = {}
    for planned in stack.containers:
        name = _get_spec_name(planned)
        same_name = [container for container in running if container.name == planned.container]
        matches = same_name or [container for container in running if _stands_for(container, planned)]
        if len(matches) == 1:
            running_by_name.setdefault(name, matches[0])
    return running_by_name


def format_takeover_field(running_by_name: dict[str, ContainerState], facts: HostFacts) -> str:
    """The field as one line of YAML; the workflows are for a person to add."""
    parts = []
    projects = {container.project for container in running_by_name.values()}
    if len(projects) == 1 and (project := projects.pop()):
        parts.append(f"project: {project}")
    front = [container.name for container in facts.containers().values() if _WEB_PORTS & set(container.ports.split())]
    if len(front) == 1:
        parts.append(f"ports: {front[0]}")
    names = ", ".join(f"{name}: {container.name}" for name, container in running_by_name.items())
    parts.append(f"containers: {{{names}}}")
    return f"takeover: {{{', '.join(parts)}}}"


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
