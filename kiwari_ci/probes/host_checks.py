"""A host held against the plan: engine, disk, memory, networks, files, who may deploy, and its host key."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from kiwari_ci.output.generated_files import GeneratedFiles
from kiwari_ci.plan import DeployHost, DeployKey
from kiwari_ci.probes.findings import Finding, FindingGroup, RunbookIndex
from kiwari_ci.probes.ssh_host import HostFacts, SshTarget
from kiwari_ci.proxies.registry import find_planned_proxy

MIN_ENGINE_VERSION, MIN_COMPOSE_VERSION, MIN_PYTHON_VERSION = (
    (20, 10),
    (2, 20),
    (3, 8),
)  # what bin/deploy asks for, as the free space
MIN_FREE_DISK_MB = 1500  # MB
MIN_FREE_MEMORY_MB = 256  # MB: a new container starts beside the old one
AUTHORIZED_KEY_LINE = re.compile(r"(?:^|\s)(?P<kind>ssh-\S+|ecdsa-\S+|sk-\S+) (?P<blob>AAAA\S+)(?: (?P<comment>.*))?$")
FORCED_COMMAND = re.compile(r'command="([^"]*)"')


@dataclass(frozen=True)
class KnownHostsEntry:
    """The known_hosts line that jobs go by, or why nobody can say; `address`: what its line must be for, if known."""

    text: str = ""
    why: str = ""
    address: str = ""


def check_host_system(group: FindingGroup, host: DeployHost, facts: HostFacts, book: RunbookIndex) -> Iterator[Finding]:
    """The machine itself; without Docker nothing else of it can be said."""
    yield _check_python(group, facts, book)
    yield _check_memory(group, facts)
    version, said = facts.word("engine"), facts.first("engine")[-1:]
    if not version:
        why = "".join(said) or "no words"
        yield group.wrong("docker", why, "an engine that this login may ask", _suggest_docker_fix(why, book))
        yield group.not_asked("disk, networks, containers", "docker does not answer")
        return
    yield _check_docker(group, version, facts, book)
    yield _check_disk_space(group, facts)
    there = {name for (name,) in facts.all("network")}
    for network, cure in _list_required_networks(host, book).items():
        if network in there:
            yield group.ok(f"network {network}", "exists")
        else:
            yield group.wrong(f"network {network}", "none", "a Docker network of that name", cure)
    if host.public and find_planned_proxy(host.proxy).is_on_shared_network:
        yield _check_proxy_container(group, host, facts, book)


def _check_python(group: FindingGroup, facts: HostFacts, book: RunbookIndex) -> Finding:
    version = facts.word("python")
    if _is_version_at_least(version, MIN_PYTHON_VERSION):
        return group.ok("python3", version)
    cure = book.step("Files on the server")
    return group.wrong("python3", version or "none", "/usr/bin/python3 of version 3.8 or newer, for bin/deploy", cure)


def _is_version_at_least(version: str, oldest: tuple[int, int]) -> bool:
    match = re.match(r"v?(\d+)\.(\d+)", version)
    return match is not None and (int(match[1]), int(match[2])) >= oldest


def _suggest_docker_fix(said: str, book: RunbookIndex) -> str:
    if "permission denied" in said.lower():
        return f'sudo usermod -aG docker "$USER", then log in again; {book.step("Files on the server")}'
    return f"on the server: sudo systemctl start docker; {book.step('Files on the server')}"


def _check_docker(group: FindingGroup, docker: str, facts: HostFacts, book: RunbookIndex) -> Finding:
    compose = facts.word("compose").removeprefix("v")
    saw = f"{docker}, compose {compose or 'none'}"
    if not _is_version_at_least(docker, MIN_ENGINE_VERSION):
        return group.wrong("docker", saw, "Docker Engine 20.10 or newer", book.step("Files on the server"))
    if not _is_version_at_least(compose, MIN_COMPOSE_VERSION):
        cure = f"Docker's compose plugin: {book.step('Files on the server')}"
        return group.wrong("docker", saw, "compose 2.20 or newer", cure)
    return group.ok("docker", saw)


def _check_disk_space(group: FindingGroup, facts: HostFacts) -> Finding:
    folder, free = (*facts.first("disk"), "", "")[:2]
    if not free.isdigit():
        return group.not_asked("disk", f"no free space is told for {folder}")
    saw = f"{free} MB free in {folder}"
    if int(free) >= MIN_FREE_DISK_MB:
        return group.ok("disk", saw)
    return group.wrong(
        "disk", saw, f"{MIN_FREE_DISK_MB} MB or more: with less, nothing is deployed", "docker system df says what"
    )


def _check_memory(group: FindingGroup, facts: HostFacts) -> Finding:
    found = {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", facts.word("memory"))}
    if "MemAvailable" not in found:
        return group.not_asked("memory", "the kernel does not say what is available")
    free, swap = found["MemAvailable"], found.get("SwapFree", 0)
    saw = f"{free} MB of {found.get('MemTotal', 0)} available, swap {swap} MB free of {found.get('SwapTotal', 0)}"
    if free + swap >= MIN_FREE_MEMORY_MB:
        return group.ok("memory", saw)
    return group.wrong(
        "memory", saw, f"{MIN_FREE_MEMORY_MB} MB: the new one starts beside the old", "more memory, or swap"
    )


def _list_required_networks(host: DeployHost, book: RunbookIndex) -> dict[str, str]:
    """The networks that must be there, with the command that makes each."""
    made = {server.network: book.command(f"/{server.name} && docker compose up") for server in host.servers}
    wanted = [host.network, *(name for stack in host.stacks for name in stack.networks), *made]
    cures = {name: made.get(name) or f"start what has it, or: docker network create {name}" for name in wanted}
    return cures | {host.network: book.command("docker network create", host.network)}


def _check_proxy_container(group: FindingGroup, host: DeployHost, facts: HostFacts, book: RunbookIndex) -> Finding:
    """The proxy is known by its name where its stack is generated, else by its image, or by the port that it holds."""
    there, cure = list(facts.containers().values()), book.step("Proxy hosts")
    for front in host.fronts:
        there = [each for each in there if each.name == front.name]
        if not there:
            start = book.command(f"/{front.name} && docker compose up")
            return group.wrong("proxy", f"no container `{front.name}`", f"one on {host.network}", start)
    proxy = find_planned_proxy(host.proxy)
    found = [each for each in there if host.fronts or proxy.runs_image(each.image) or "443" in each.ports.split()]
    if not found:
        return group.wrong("proxy", "no container of its image, none on port 443", f"one on {host.network}", cure)
    name, networks = found[0].name, found[0].networks.split()
    if found[0].status != "running":
        return group.wrong("proxy", f"{name} is {found[0].status}", "running", f"on the server: docker start {name}")
    if host.network not in networks:
        cure = f"docker network connect {host.network} {name}; {cure}"
        return group.wrong("proxy", f"{name} is on {', '.join(networks)}", f"on {host.network}", cure)
    required_version = proxy.describe_required_version(found[0].image)
    if required_version:
        return group.wrong("proxy", f"{name} is {found[0].image}", required_version, cure)
    return group.ok("proxy", f"{name} is on {host.network}")


def check_placed_file(
    group: FindingGroup, path: str, host: DeployHost, tree: GeneratedFiles, facts: HostFacts, book: RunbookIndex
) -> Finding:
    """A generated file that a person has placed on the host: its bytes, and whether it can be run."""
    wanted = tree[f"deploy/{path}"]
    digest = hashlib.sha256(wanted.text.encode()).hexdigest()
    there, mode = facts.first("file", path) or ("", "")
    cure = book.command("git archive HEAD", f"deploy/{path.partition('/')[0]} |")
    for front in host.fronts:
        if path in front.paths() and front.reload:
            cure = f"{cure}; then {book.command(f'/{front.name} && {front.reload}')}"
    if not there:
        return group.wrong(path, "is not there", f"in {host.folder}", cure)
    if there != digest:
        expected = f"sha256 {digest[:12]}, which the spec makes"
        return group.wrong(path, f"another one: sha256 {there[:12]}", expected, cure)
    if wanted.executable and path == "bin/deploy" and not int(mode, 8) & 0o100:
        return group.wrong(path, f"mode {mode}", "one that can be run", f"chmod +x {host.folder}/{path}")
    return group.ok(path, f"sha256 {digest[:12]}")


def check_deploy_key(
    group: FindingGroup, host: DeployHost, key: DeployKey, facts: HostFacts, book: RunbookIndex
) -> Finding:
    """The line of a deploy key: it may deploy these stacks, and nothing else."""
    subject, cure = f"deploy key {key.secret}", f"~/.ssh/authorized_keys: {book.step('Deploy key')}"
    wanted = f'restrict,command="{host.folder}/bin/deploy {" ".join(key.words)}"'
    lines = [match for (line,) in facts.all("authorized") if (match := AUTHORIZED_KEY_LINE.search(line))]
    mine = _find_deploy_key_lines(host, key, lines)
    if not mine:
        return group.wrong(subject, "no line of that key", wanted, cure)
    faults = [fault for line in mine for fault in _find_key_faults(line, key, lines)]
    if faults:
        return group.wrong(subject, "; ".join(dict.fromkeys(faults)), wanted, cure)
    return group.ok(subject, f"restricted to {' '.join(key.words)}")


def _find_deploy_key_lines(host: DeployHost, key: DeployKey, lines: list[re.Match[str]]) -> list[re.Match[str]]:
    """Those with its name for a comment, as the runbook makes them; or for its stacks; or all, with one key only."""
    named = [line for line in lines if line["comment"] == key.secret]
    deploying = [line for line in lines if _parse_forced_command(line)[:1] == [f"{host.folder}/bin/deploy"]]
    same = [line for line in deploying if set(_parse_forced_command(line)[1:]) == set(key.words)]
    return named or same or (deploying if len(host.keys) == 1 else [])


def _parse_forced_command(line: re.Match[str]) -> list[str]:
    found = FORCED_COMMAND.search(_get_key_options(line))
    return found[1].split() if found else []


def _get_key_options(line: re.Match[str]) -> str:
    return line.string[: line.start()]


def _find_key_faults(line: re.Match[str], key: DeployKey, lines: list[re.Match[str]]) -> Iterator[str]:
    command, *stacks = _parse_forced_command(line) or [""]
    if not command.endswith("/bin/deploy"):
        yield f"a full login: {command or 'no command'}"
        return
    if "restrict" not in FORCED_COMMAND.sub("", _get_key_options(line)).split(","):
        yield "without `restrict` it also forwards ports"
    if more := sorted(set(stacks) - set(key.words)):
        yield f"it may touch {' '.join(more)}, too"
    if less := sorted(set(key.words) - set(stacks)):
        yield f"it may not touch {' '.join(less)}"
    if any(other["blob"] == line["blob"] and not FORCED_COMMAND.search(_get_key_options(other)) for other in lines):
        yield "another line gives the same key a full login"


def check_host_key(
    group: FindingGroup,
    host: DeployHost,
    known: KnownHostsEntry,
    reached: SshTarget,
    facts: HostFacts,
    book: RunbookIndex,
) -> Finding:
    """What jobs know the host by, held against what it presents: over the network, or else by its own files."""
    subject, name = "host key", host.known_hosts.name
    presented = reached.keys or {(words[0], words[1]) for words in facts.all("hostkey") if len(words) == 2}
    if known.why:
        return group.not_asked(subject, known.why)
    if not presented:
        return group.not_asked(subject, f"{reached.name or 'the host'} presents none to this machine")
    entries = [line.split() for line in known.text.splitlines() if line.strip() and line[0] != "#"]
    cure = f"{book.step('Host key')}, then {book.command(f' set {name}')}"
    if not entries or any(len(words) < 3 for words in entries):
        return group.wrong(subject, f"{name} is no known_hosts line", "ADDRESS TYPE KEY", cure)
    if known.address and not any(_is_entry_for_address(words[0], known.address) for words in entries):
        return group.wrong(subject, f"{name} is for {entries[0][0]}", f"for {known.address}", cure)
    if not any((words[1], words[2]) in presented for words in entries):
        kinds = ", ".join(sorted(kind for kind, _ in presented))
        return group.wrong(subject, f"the host presents others ({kinds})", f"one of {name}", cure)
    return group.ok(subject, f"is that of {name}")


def _is_entry_for_address(names: str, address: str) -> bool:
    return names.startswith("|1|") or address in names.split(",")
