"""Compares a stack with the plan: its env files, by the names of their keys, and its containers, by their pins."""

import datetime
from collections.abc import Iterator

from kiwari_ci.plan_model import (
    AccessoryContainer,
    ComposeContainer,
    ComposeStack,
    DeployHost,
    EnvFile,
    PlannedContainer,
    ServiceContainer,
)
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.remote_checks.findings import Finding, FindingGroup
from kiwari_ci.remote_checks.runbook_index import HostRunbookIndex
from kiwari_ci.remote_checks.ssh_host import ContainerState, HostFacts, list_env_keys

# Compose reads these otherwise than a person does, so bin/deploy refuses them.
ENV_SYNTAX_FAULTS = {
    "dollar": "a $ without single quotes",
    "backslash": "a backslash without single quotes",
    "comment": "text behind the value, which Compose takes for a comment",
    "lines": "a value of several lines: keep it in base64",
}
RECENT_RESTART_SECONDS = 600  # a container that restarted by itself so lately will do so again


def check_env_file(
    group: FindingGroup, folder: str, env_file: EnvFile, facts: HostFacts, runbook: HostRunbookIndex
) -> Finding:
    """Check an env file: it exists, only its owner may read it, and every key has a value. No value leaves the host."""
    path = f"{folder}/{env_file.name}"
    mode = facts.word("env", path) or "missing"
    if mode == "missing":
        return group.wrong(path, "is not there", f"made of {path}.example", runbook.create_env_files())
    if mode == "unreadable":
        cure = f"chown it; {runbook.edit_env_files()}"
        return group.wrong(path, "this login may not read it", "a file of the login's", cure)
    flags_by_key = {key: flags.split() for key, flags in facts.all("key", path)}
    faults = list(_find_env_file_faults(env_file, flags_by_key))
    expected_keys = list_env_keys(env_file)
    if faults:
        return group.wrong(path, "; ".join(faults), ", ".join(expected_keys), runbook.edit_env_files())
    if int(mode, 8) & 0o077:
        return group.wrong(path, f"mode {mode}: others may read it", "mode 600", f"chmod 600 {path}")
    additional_keys = [key for key in flags_by_key if key not in expected_keys]
    saw = f"{len(expected_keys)} keys filled in{_describe_additional_lines(path, additional_keys, facts)}"
    return group.ok(path, saw)


def _find_env_file_faults(env_file: EnvFile, flags_by_key: dict[str, list[str]]) -> Iterator[str]:
    lines = [line for section in env_file.groups for line in section.lines]
    missing = [line.key for line in lines if line.key not in flags_by_key]
    if missing:
        yield f"missing: {', '.join(missing)}"
    keys_with_value = {line.key for line in lines if line.value or line.note}
    empty = [key for key, flags in flags_by_key.items() if "empty" in flags and key in keys_with_value]
    if empty:
        yield f"empty: {', '.join(empty)}"
    unchanged = [key for key, flags in flags_by_key.items() if "change-me" in flags]
    if unchanged:
        yield f"still change-me: {', '.join(unchanged)}"
    for flag, fault in ENV_SYNTAX_FAULTS.items():
        keys = [key for key, flags in flags_by_key.items() if flag in flags]
        if keys:
            yield f"{fault}: {', '.join(keys)}"


def _describe_additional_lines(path: str, additional_keys: list[str], facts: HostFacts) -> str:
    """Name what the spec does not have: it may be on purpose, or a misspelt key."""
    parts = list(additional_keys)
    other_lines = facts.word("others", path)
    if other_lines:
        parts.append(f"{other_lines} lines more")
    return f"; not in the spec: {', '.join(parts)}" if parts else ""


def is_deployed(stack: ComposeStack, container: PlannedContainer, facts: HostFacts) -> bool:
    """Whether a container was ever put into service; True also when nobody knows."""
    if facts.why or not facts.word("engine"):
        return True
    has_record = bool(facts.first("record", stack.name, container.container))
    return has_record or container.container in facts.containers()


def check_stack_containers(
    group: FindingGroup,
    host: DeployHost,
    stack: ComposeStack,
    facts: HostFacts,
    destination: str,
    runbook: HostRunbookIndex,
    now: float,
) -> Iterator[Finding]:
    """Check every container of a stack: it runs the image that is pinned, and answers from the host."""
    for instance in stack.instances:
        yield _check_service_container(group, host, stack, instance, facts, destination, runbook, now)
    for accessory in stack.accessories:
        yield _check_accessory(group, host, stack, accessory, facts, destination, runbook)
    yield from _check_unwanted_files(group, host, stack, facts, destination)


def _check_unwanted_files(
    group: FindingGroup, host: DeployHost, stack: ComposeStack, facts: HostFacts, destination: str
) -> Iterator[Finding]:
    """Report files that Compose would read beside the generated one; bin/deploy refuses to deploy with them."""
    for kind, saw, expected in (
        ("foreign", "has lines that bin/deploy did not write", "lines of bin/deploy only; others belong into the spec"),
        ("unwanted", "Compose would read it", "no compose file but docker-compose.yml"),
    ):
        for path in (line[0] for line in facts.all(kind) if line):
            if path.startswith(f"{stack.name}/"):
                cure = f"move it away: ssh {destination} 'cd {host.folder} && mv {path} {path}.before'"
                yield group.wrong(path, saw, expected, cure)


def _check_service_container(
    group: FindingGroup,
    host: DeployHost,
    stack: ComposeStack,
    instance: ServiceContainer,
    facts: HostFacts,
    destination: str,
    runbook: HostRunbookIndex,
    now: float,
) -> Finding:
    name = instance.container
    container, pinned_image = facts.containers().get(name), _find_pinned_image(stack, name, facts)
    if not container and not pinned_image:
        return _report_not_deployed(group, name, runbook)
    if instance.once:
        return group.ok(name, f"has run to its end with {parse_image_reference(pinned_image).digest[:19]}")
    start = _format_start_command(host, stack, name, destination)
    deploy = f"deploy it: {runbook.step('first_push')}"
    expected = pinned_image or "an image that bin/deploy has put into service"
    if not container:
        return group.wrong(name, "no container", expected, start)
    if container.image != pinned_image:
        return group.wrong(name, f"runs {container.image}", expected, start if pinned_image else deploy)
    override = facts.word("pin", stack.name, name)
    if override != pinned_image:
        return group.wrong(name, f"the override file pins {override or 'nothing'}", expected, deploy)
    fault = _find_service_fault(instance, container, facts, now)
    if fault:
        expected = _describe_expected_state(instance)
        cure = f"docker logs {name}; {runbook.rollback(stack.name, name)}"
        return group.wrong(name, fault, expected, cure)
    restarts = "" if container.restarts == "0" else f", {container.restarts} restarts"
    digest = parse_image_reference(pinned_image).digest[:19]
    return group.ok(name, f"serves {digest}, the image of the last deploy{restarts}")


def _report_not_deployed(group: FindingGroup, name: str, runbook: HostRunbookIndex) -> Finding:
    return group.not_asked(name, f"nothing was deployed yet; {runbook.step('first_push')}")


def _format_start_command(host: DeployHost, stack: ComposeStack, name: str, destination: str) -> str:
    return f"ssh {destination} 'cd {host.folder}/{stack.name} && docker compose up -d --no-deps {name}'"


def _check_accessory(
    group: FindingGroup,
    host: DeployHost,
    stack: ComposeStack,
    accessory: AccessoryContainer,
    facts: HostFacts,
    destination: str,
    runbook: HostRunbookIndex,
) -> Finding:
    """Check somebody else's image: it is the compose file's, and runs, or ended well when it runs `once`."""
    name = accessory.container
    container = facts.containers().get(name)
    is_stack_deployed = any(facts.first("record", stack.name, instance.container) for instance in stack.instances)
    if not container and not is_stack_deployed:
        return _report_not_deployed(group, name, runbook)
    start = _format_start_command(host, stack, name, destination)
    if not container:
        return group.wrong(name, "no container", accessory.image, start)
    if container.image != accessory.image:
        return group.wrong(name, f"runs {container.image}", accessory.image, start)
    if accessory.once and container.status == "exited" and container.code == "0":
        return group.ok(name, "has run to its end")
    fault = _find_container_fault(accessory, container)
    if fault:
        return group.wrong(name, fault, "running, on its networks", f"docker logs {name}; {start}")
    return group.ok(name, f"runs {container.image}")


def _find_pinned_image(stack: ComposeStack, name: str, facts: HostFacts) -> str:
    return facts.word("record", stack.name, name).partition(" ")[0]


def _find_service_fault(instance: ServiceContainer, container: ContainerState, facts: HostFacts, now: float) -> str:
    """What is wrong with a service's container of the right image; empty when nothing is."""
    fault = _find_container_fault(instance, container)
    if fault:
        return fault
    if instance.health == "healthcheck" and container.health != "healthy":
        return f"Docker's health check says: {container.health or 'there is none'}"
    if facts.word("python"):
        fault = _find_answer_fault(instance, facts.word("answer", instance.container))
        if fault:
            return fault
    if container.restarts != "0" and now - _parse_timestamp(container.started) < RECENT_RESTART_SECONDS:
        return f"{container.restarts} restarts, the last a moment ago"
    return ""


def _find_answer_fault(instance: ServiceContainer, answer: str) -> str:
    """What is wrong with what a container answered when it was asked as a deploy asks it; empty when nothing is."""
    if instance.health.startswith(":") and answer != str(instance.health_status):
        return f"answers {instance.health} with {answer or 'nothing'}"
    if instance.health.startswith("tcp:") and answer != "open":
        return f"accepts no connection at port {instance.port}"
    return ""


def _describe_expected_state(instance: ServiceContainer) -> str:
    """What a deploy waits for, in words."""
    if instance.health.startswith(":"):
        return f"running, and answering {instance.health}"
    if instance.health.startswith("tcp:"):
        return f"running, and accepting connections at port {instance.port}"
    if instance.health == "healthcheck":
        return "running, and healthy"
    return "running"


def _find_container_fault(planned: ComposeContainer, container: ContainerState) -> str:
    """What is wrong with any container of the right image, by what Docker says of it; empty when nothing is."""
    if container.status != "running":
        out_of_memory = ", out of memory" if container.oom == "true" else ""
        return f"{container.status}, exit code {container.code}{out_of_memory}"
    networks = container.networks.split()
    missing_networks = [name for name in planned.docker_networks if name not in networks]
    if missing_networks:
        return f"is not on the network {', '.join(missing_networks)}"
    return "unhealthy" if container.health == "unhealthy" else ""


def _parse_timestamp(time: str) -> float:
    try:
        return datetime.datetime.fromisoformat(time).timestamp()
    except ValueError:
        return 0
