"""A stack held against the plan: its env files, by the names of their keys, and its containers, by their pins."""

import datetime
from collections.abc import Iterator

from kiwari_ci.plan import AccessoryContainer, ComposeStack, DeployHost, EnvFile, ServiceContainer
from kiwari_ci.plan import ComposeContainer as Planned
from kiwari_ci.probes.findings import Finding, FindingGroup, RunbookIndex
from kiwari_ci.probes.ssh_host import ContainerState, HostFacts, list_env_keys
from kiwari_ci.readers.image_reference import parse_image_reference

# What Compose reads in another way than a person: bin/deploy refuses it.
ENV_SYNTAX_FAULTS = {
    "dollar": "a $ without single quotes",
    "backslash": "a backslash without single quotes",
    "comment": "text behind the value, which Compose takes for a comment",
    "lines": "a value of several lines: keep it in base64",
}
RECENT_RESTART_SECONDS = 600  # seconds: one that came back by itself so lately will go again


def check_env_file(group: FindingGroup, folder: str, file: EnvFile, facts: HostFacts, book: RunbookIndex) -> Finding:
    """An env file: there, for its owner's eyes, with every key filled in. Values never left the host."""
    path = f"{folder}/{file.name}"
    state = facts.word("env", path) or "missing"
    cure = book.command("editor", path)
    if state == "missing":
        return group.wrong(path, "is not there", f"made of {path}.example", book.command("install -m 600", path))
    if state == "unreadable":
        return group.wrong(path, "this login may not read it", "a file of the login's", f"chown it; {cure}")
    there = {name: flags.split() for name, flags in facts.all("key", path)}
    if faults := list(_find_env_file_faults(file, there)):
        return group.wrong(path, "; ".join(faults), ", ".join(list_env_keys(file)), cure)
    if int(state, 8) & 0o077:
        return group.wrong(path, f"mode {state}: others may read it", "mode 600", f"chmod 600 {path}")
    return group.ok(path, f"{len(list_env_keys(file))} keys filled in{_describe_extra_keys(path, file, there, facts)}")


def _find_env_file_faults(file: EnvFile, there: dict[str, list[str]]) -> Iterator[str]:
    lines = [line for each in file.groups for line in each.lines]
    filled = {line.key for line in lines if line.value or line.note}
    if missing := [line.key for line in lines if line.key not in there]:
        yield f"missing: {', '.join(missing)}"
    if empty := [key for key, flags in there.items() if "empty" in flags and key in filled]:
        yield f"empty: {', '.join(empty)}"
    if left := [key for key, flags in there.items() if "change-me" in flags]:
        yield f"still change-me: {', '.join(left)}"
    for flag, fault in ENV_SYNTAX_FAULTS.items():
        if misread := [key for key, flags in there.items() if flag in flags]:
            yield f"{fault}: {', '.join(misread)}"


def _describe_extra_keys(path: str, file: EnvFile, there: dict[str, list[str]], facts: HostFacts) -> str:
    """What the spec does not have is the owner's own business, or a slip: it is named where a name it must be."""
    named = [key for key in there if key not in list_env_keys(file)]
    others = facts.word("others", path)
    parts = [*named, *([f"{others} lines more"] if others else [])]
    return f"; not in the spec: {', '.join(parts)}" if parts else ""


def is_deployed(stack: ComposeStack, container: Planned, facts: HostFacts) -> bool:
    """Whether something was ever put into service, as far as is known."""
    known = facts.first("record", stack.name, container.container) or container.container in facts.containers()
    return bool(facts.why or not facts.word("engine") or known)


def check_stack_containers(
    group: FindingGroup,
    host: DeployHost,
    stack: ComposeStack,
    facts: HostFacts,
    destination: str,
    book: RunbookIndex,
    now: float,
) -> Iterator[Finding]:
    """Every container of a stack: what runs against what is pinned, and whether it answers from the host."""
    for instance in stack.instances:
        yield _check_service_container(group, host, stack, instance, facts, destination, book, now)
    for accessory in stack.accessories:
        yield _check_accessory(group, host, stack, accessory, facts, destination, book)
    yield from _check_unwanted_files(group, host, stack, facts, destination)
    names = {name for each in stack.containers for name in (each.container, f"{each.container}-next")}
    for name, there in facts.containers().items():
        if there.project == stack.name and name not in names:
            cure = f"lead its domain elsewhere, then on the server: docker rm -f {name}"
            yield group.wrong(name, f"runs, which {stack.name} has no more", "no such container", cure)


def _check_unwanted_files(
    group: FindingGroup, host: DeployHost, stack: ComposeStack, facts: HostFacts, destination: str
) -> Iterator[Finding]:
    """Files that Compose would read beside the generated one; bin/deploy refuses to deploy with them."""
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
    book: RunbookIndex,
    now: float,
) -> Finding:
    name = instance.container
    there, pinned = facts.containers().get(name), _find_pinned_image(stack, name, facts)
    if not there and not pinned:
        return group.not_asked(name, f"nothing was deployed yet; {book.step('First push')}")
    again = f"ssh {destination} 'cd {host.folder}/{stack.name} && docker compose up -d --no-deps {name}'"
    anew = f"deploy it: {book.step('First push')}"
    expected = pinned or "an image that bin/deploy has put into service"
    if not there:
        return group.wrong(name, "no container", expected, again)
    if there.image != pinned:
        return group.wrong(name, f"runs {there.image}", expected, again if pinned else anew)
    override = facts.word("pin", stack.name, name)
    if override != pinned:
        saw = f"the override file pins {override or 'nothing'}"
        return group.wrong(name, saw, expected, anew)
    if fault := _find_service_fault(instance, there, facts, now):
        back = book.command("/bin/deploy rollback", f"{stack.name} {name} ")
        return group.wrong(
            name,
            fault,
            f"running{instance.health and f', and answering {instance.health}'}",
            f"docker logs {name}; {back}",
        )
    restarts = f", {there.restarts} restarts" if there.restarts != "0" else ""
    return group.ok(name, f"serves {parse_image_reference(pinned).digest[:19]}, as pinned{restarts}")


def _check_accessory(
    group: FindingGroup,
    host: DeployHost,
    stack: ComposeStack,
    accessory: AccessoryContainer,
    facts: HostFacts,
    destination: str,
    book: RunbookIndex,
) -> Finding:
    """Somebody else's image: as the compose file has it, and running, or ended well when it runs `once`."""
    name = accessory.container
    there = facts.containers().get(name)
    if not there and not any(facts.first("record", stack.name, each.container) for each in stack.instances):
        return group.not_asked(name, f"nothing was deployed yet; {book.step('First push')}")
    up = f"ssh {destination} 'cd {host.folder}/{stack.name} && docker compose up -d --no-deps {name}'"
    if not there:
        return group.wrong(name, "no container", accessory.image, up)
    if there.image != accessory.image:
        return group.wrong(name, f"runs {there.image}", accessory.image, up)
    if accessory.once and there.status == "exited" and there.code == "0":
        return group.ok(name, "has run to its end")
    if fault := _find_container_fault(accessory, there):
        return group.wrong(name, fault, "running, on its networks", f"docker logs {name}; {up}")
    return group.ok(name, f"runs {there.image}")


def _find_pinned_image(stack: ComposeStack, name: str, facts: HostFacts) -> str:
    return facts.word("record", stack.name, name).partition(" ")[0]


def _find_service_fault(instance: ServiceContainer, there: ContainerState, facts: HostFacts, now: float) -> str:
    """What is wrong with a service's container of the right image, or nothing."""
    if fault := _find_container_fault(instance, there):
        return fault
    answer = facts.word("answer", instance.container)
    if instance.health and facts.word("python") and answer != str(instance.health_status):
        return f"answers {instance.health} with {answer or 'nothing'}"
    if there.restarts != "0" and now - _parse_timestamp(there.started) < RECENT_RESTART_SECONDS:
        return f"{there.restarts} restarts, the last a moment ago"
    return ""


def _find_container_fault(planned: Planned, there: ContainerState) -> str:
    """What is wrong with any container of the right image, as Docker tells it, or nothing."""
    if there.status != "running":
        return f"{there.status}, exit code {there.code}{', out of memory' if there.oom == 'true' else ''}"
    if lacking := [name for name in planned.docker_networks if name not in there.networks.split()]:
        return f"is not on the network {', '.join(lacking)}"
    if there.health == "unhealthy":
        return "unhealthy"
    return ""


def _parse_timestamp(time: str) -> float:
    try:
        return datetime.datetime.fromisoformat(time).timestamp()
    except ValueError:
        return 0
