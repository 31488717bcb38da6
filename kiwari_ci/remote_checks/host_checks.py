"""Compares a host with the plan: engine, disk, memory, networks, files, who may deploy, and its host key."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from kiwari_ci.file_output.generated_files import GeneratedFiles
from kiwari_ci.plan_model import DeployHost, DeployKey
from kiwari_ci.proxies.all_proxies import find_planned_proxy
from kiwari_ci.remote_checks.findings import Finding, FindingGroup
from kiwari_ci.remote_checks.runbook_index import HostRunbookIndex
from kiwari_ci.remote_checks.ssh_host import OPTIONAL_PROGRAM, ContainerState, HostFacts, SshTarget

# What bin/deploy requires, as the free disk space below.
MIN_ENGINE_VERSION = (20, 10)
MIN_COMPOSE_VERSION = (2, 20)
MIN_PYTHON_VERSION = (3, 8)
MIN_FREE_DISK_MB = 1500
MIN_FREE_MEMORY_MB = 256  # a new container starts beside the old one
AUTHORIZED_KEY_LINE = re.compile(r"(?:^|\s)(?P<kind>ssh-\S+|ecdsa-\S+|sk-\S+) (?P<blob>AAAA\S+)(?: (?P<comment>.*))?$")
FORCED_COMMAND = re.compile(r'command="([^"]*)"')


@dataclass(frozen=True)
class KnownHostsEntry:
    """The known_hosts lines that jobs use, or why nobody can know them.

    `address` is what a line must be for; it is empty where nobody can know it.
    """

    text: str = ""
    why: str = ""
    address: str = ""


def check_host_system(
    group: FindingGroup, host: DeployHost, facts: HostFacts, runbook: HostRunbookIndex
) -> Iterator[Finding]:
    """Check the machine itself; without Docker there is nothing more to check on it."""
    yield _check_python(group, facts, runbook)
    yield _check_memory(group, facts)
    engine_version = facts.word("engine")
    if not engine_version:
        reason = "".join(facts.first("engine")[-1:]) or "no words"
        yield group.wrong("docker", reason, "an engine that this login may ask", _suggest_docker_fix(reason, runbook))
        yield group.not_asked("disk, networks, containers", "docker does not answer")
        return
    yield _check_docker(group, engine_version, facts, runbook)
    yield _check_disk_space(group, facts)
    existing_networks = {name for (name,) in facts.all("network")}
    for network, cure in _list_required_networks(host, runbook).items():
        if network in existing_networks:
            yield group.ok(f"network {network}", "exists")
        else:
            yield group.wrong(f"network {network}", "none", "a Docker network of that name", cure)
    if host.public and find_planned_proxy(host.proxy).is_on_shared_network:
        yield _check_proxy_container(group, host, facts, runbook)


def _check_python(group: FindingGroup, facts: HostFacts, runbook: HostRunbookIndex) -> Finding:
    version = facts.word("python")
    if _is_version_at_least(version, MIN_PYTHON_VERSION):
        return group.ok("python3", version)
    expected = "/usr/bin/python3 of version 3.8 or newer, for bin/deploy"
    return group.wrong("python3", version or "none", expected, runbook.step("files"))


def _is_version_at_least(version: str, oldest: tuple[int, int]) -> bool:
    match = re.match(r"v?(\d+)\.(\d+)", version)
    return match is not None and (int(match[1]), int(match[2])) >= oldest


def _suggest_docker_fix(reason: str, runbook: HostRunbookIndex) -> str:
    step = runbook.step("files")
    if "permission denied" in reason.lower():
        return f'sudo usermod -aG docker "$USER", then log in again; {step}'
    return f"on the server: sudo systemctl start docker; {step}"


def _check_docker(group: FindingGroup, engine_version: str, facts: HostFacts, runbook: HostRunbookIndex) -> Finding:
    compose_version = facts.word("compose").removeprefix("v")
    saw = f"{engine_version}, compose {compose_version or 'none'}"
    if not _is_version_at_least(engine_version, MIN_ENGINE_VERSION):
        return group.wrong("docker", saw, "Docker Engine 20.10 or newer", runbook.step("files"))
    if not _is_version_at_least(compose_version, MIN_COMPOSE_VERSION):
        cure = f"Docker's compose plugin: {runbook.step('files')}"
        return group.wrong("docker", saw, "compose 2.20 or newer", cure)
    return group.ok("docker", saw)


def _check_disk_space(group: FindingGroup, facts: HostFacts) -> Finding:
    folder, free_mb = (*facts.first("disk"), "", "")[:2]
    if not free_mb.isdigit():
        return group.not_asked("disk", f"df reported no free space for {folder}")
    saw = f"{free_mb} MB free in {folder}"
    if int(free_mb) >= MIN_FREE_DISK_MB:
        return group.ok("disk", saw)
    expected = f"{MIN_FREE_DISK_MB} MB or more: with less, nothing is deployed"
    return group.wrong("disk", saw, expected, "docker system df says what")


def _check_memory(group: FindingGroup, facts: HostFacts) -> Finding:
    megabytes = {key: int(number) for key, number in re.findall(r"(\w+):(\d+)", facts.word("memory"))}
    if "MemAvailable" not in megabytes:
        return group.not_asked("memory", "the kernel does not say what is available")
    available, free_swap = megabytes["MemAvailable"], megabytes.get("SwapFree", 0)
    saw = f"{available} MB of {megabytes.get('MemTotal', 0)} available, "
    saw += f"swap {free_swap} MB free of {megabytes.get('SwapTotal', 0)}"
    if available + free_swap >= MIN_FREE_MEMORY_MB:
        return group.ok("memory", saw)
    expected = f"{MIN_FREE_MEMORY_MB} MB: the new one starts beside the old"
    return group.wrong("memory", saw, expected, "more memory, or swap")


def _list_required_networks(host: DeployHost, runbook: HostRunbookIndex) -> dict[str, str]:
    """The networks that must exist, each with the command that makes it."""
    cures = {host.network: runbook.create_network(host.network)} if host.network else {}
    for stack in host.stacks:
        for network in stack.networks:
            cures.setdefault(network, f"start what has it, or: docker network create {network}")
    for server in host.servers:
        if server.network != host.network:
            cures[server.network] = runbook.start_server(server.name)
    return cures


def _check_proxy_container(
    group: FindingGroup, host: DeployHost, facts: HostFacts, runbook: HostRunbookIndex
) -> Finding:
    containers = list(facts.containers().values())
    port = "443" if host.scheme == "https" else "80"
    if host.fronts:
        (proxy_stack,) = host.fronts
        candidates = [container for container in containers if container.name == proxy_stack.name]
        if not candidates:
            cure = runbook.start_proxy(proxy_stack.name)
            return group.wrong("proxy", f"no container `{proxy_stack.name}`", f"one on {host.network}", cure)
    else:
        # Nobody knows how a person has called it: its image tells, or the port that it holds.
        proxy = find_planned_proxy(host.proxy)
        candidates = [
            container
            for container in containers
            if proxy.runs_image(container.image) or port in container.web_ports
        ]
        # One that serves plain HTTP only has port 80 alone.
        candidates = candidates or [container for container in containers if container.web_ports]
    if not candidates:
        saw, cure = "no container runs its image or publishes port 80 or 443", runbook.step("proxy_hosts")
        return group.wrong("proxy", saw, f"one on {host.network}", cure)
    return _check_proxy_state(group, host, candidates[0], runbook)


def _check_proxy_state(
    group: FindingGroup, host: DeployHost, proxy: ContainerState, runbook: HostRunbookIndex
) -> Finding:
    step = runbook.step("proxy_hosts")
    networks = proxy.networks.split()
    if proxy.status != "running":
        cure = f"on the server: docker start {proxy.name}"
        return group.wrong("proxy", f"{proxy.name} is {proxy.status}", "running", cure)
    if host.network not in networks:
        cure = f"docker network connect {host.network} {proxy.name}; {step}"
        seen = f"the container {proxy.name} is on {', '.join(networks)}"
        return group.wrong("proxy", seen, f"on {host.network}", cure)
    required_version = find_planned_proxy(host.proxy).describe_required_version(proxy.image)
    if required_version:
        return group.wrong("proxy", f"{proxy.name} is {proxy.image}", required_version, step)
    return group.ok("proxy", f"the container {proxy.name} is on the network {host.network}")


def check_placed_file(
    group: FindingGroup,
    path: str,
    host: DeployHost,
    files: GeneratedFiles,
    facts: HostFacts,
    runbook: HostRunbookIndex,
) -> Finding:
    """Check a generated file that a person has placed on the host: its bytes, and whether it can be run."""
    folder, _, name = path.partition("/")
    source_folder = host.find_source_folder(folder)
    file = files[f"deploy/{source_folder}/{name}"]
    expected_digest = hashlib.sha256(file.text.encode()).hexdigest()
    digest, mode = facts.first("file", path) or ("", "")
    cure = runbook.copy_files(source_folder)
    for proxy_stack in host.fronts:
        if path in proxy_stack.paths() and proxy_stack.reload:
            cure = f"{cure}; then {runbook.reload_proxy(proxy_stack.name)}"
    if not digest and path == OPTIONAL_PROGRAM:
        return group.ok(path, "is not there; only `kiwari-ci rotate` needs it")
    if not digest:
        return group.wrong(path, "is not there", f"in {host.folder}", cure)
    if digest != expected_digest:
        expected = f"sha256 {expected_digest[:12]}, which the spec makes"
        return group.wrong(path, f"differs: sha256 {digest[:12]}", expected, cure)
    if file.executable and path.startswith("bin/") and not int(mode, 8) & 0o100:
        return group.wrong(path, f"mode {mode}", "one that can be run", f"chmod +x {host.folder}/{path}")
    return group.ok(path, f"sha256 {expected_digest[:12]}")


def check_schedule(group: FindingGroup, facts: HostFacts, runbook: HostRunbookIndex) -> Finding:
    """Check the latest backups and jobs, as the database program on the host judges them."""
    subject = "backups and jobs"
    failures = [failure for (failure,) in facts.all("failure")]
    if facts.word("schedule") == "0":
        return group.ok(subject, "none failed, none is missed")
    if not failures:
        return group.not_asked(subject, "bin/database did not answer")
    return group.wrong(subject, "; ".join(failures), "none failed, none is missed", runbook.schedule_status())


def check_deploy_key(
    group: FindingGroup, host: DeployHost, key: DeployKey, facts: HostFacts, runbook: HostRunbookIndex
) -> Finding:
    """Check the line of a deploy key: it may deploy its stacks, and nothing else."""
    subject, cure = f"deploy key {key.secret}", f"~/.ssh/authorized_keys: {runbook.step('deploy_key')}"
    expected = f'restrict,command="{host.folder}/bin/deploy {" ".join(key.words)}"'
    matches = [AUTHORIZED_KEY_LINE.search(line) for (line,) in facts.all("authorized")]
    lines = [match for match in matches if match]
    key_lines = _find_deploy_key_lines(host, key, lines)
    if not key_lines:
        return group.wrong(subject, "no line of that key", expected, cure)
    faults = [fault for line in key_lines for fault in _find_key_faults(line, key, lines)]
    if faults:
        return group.wrong(subject, "; ".join(dict.fromkeys(faults)), expected, cure)
    return group.ok(subject, f"restricted to {' '.join(key.words)}")


def _find_deploy_key_lines(host: DeployHost, key: DeployKey, lines: list[re.Match[str]]) -> list[re.Match[str]]:
    """The lines of a key.

    The runbook puts the secret's name into the comment. Without such a line, those for the key's stacks count, and
    with one key only, all that deploy.
    """
    named = [line for line in lines if line["comment"] == key.secret]
    if named:
        return named
    deploying = [line for line in lines if _parse_forced_command(line)[:1] == [f"{host.folder}/bin/deploy"]]
    of_same_stacks = [line for line in deploying if set(_parse_forced_command(line)[1:]) == set(key.words)]
    if of_same_stacks:
        return of_same_stacks
    return deploying if len(host.keys) == 1 else []


def _parse_forced_command(line: re.Match[str]) -> list[str]:
    command = FORCED_COMMAND.search(_get_key_options(line))
    return command[1].split() if command else []


def _get_key_options(line: re.Match[str]) -> str:
    return line.string[: line.start()]


def _find_key_faults(line: re.Match[str], key: DeployKey, lines: list[re.Match[str]]) -> Iterator[str]:
    command, *words = _parse_forced_command(line) or [""]
    if not command.endswith("/bin/deploy"):
        yield f"a full login: {command or 'no command'}"
        return
    if "restrict" not in FORCED_COMMAND.sub("", _get_key_options(line)).split(","):
        yield "without `restrict` it also forwards ports"
    additional = sorted(set(words) - set(key.words))
    if additional:
        yield f"it may touch {' '.join(additional)}, too"
    missing = sorted(set(key.words) - set(words))
    if missing:
        yield f"it may not touch {' '.join(missing)}"
    same_key_lines = [other for other in lines if other["blob"] == line["blob"]]
    if any(not FORCED_COMMAND.search(_get_key_options(other)) for other in same_key_lines):
        yield "another line gives the same key a full login"


def check_host_key(
    group: FindingGroup,
    host: DeployHost,
    known: KnownHostsEntry,
    target: SshTarget,
    facts: HostFacts,
    runbook: HostRunbookIndex,
) -> Finding:
    """Compare the host key that jobs expect with the keys of the host: over the network, or else its own files."""
    subject, name = "host key", host.known_hosts.name
    presented = target.keys or {(words[0], words[1]) for words in facts.all("hostkey") if len(words) == 2}
    if known.why:
        return group.not_asked(subject, known.why)
    if not presented:
        return group.not_asked(subject, f"{target.name or 'the host'} presents none to this machine")
    entries = [line.split() for line in known.text.splitlines() if line.strip() and not line.startswith("#")]
    cure = f"{runbook.step('host_key')}, then {runbook.set_host_setting(host.known_hosts.kind, name)}"
    if not entries or any(len(words) < 3 for words in entries):
        return group.wrong(subject, f"{name} is no known_hosts line", "ADDRESS TYPE KEY", cure)
    if known.address and not any(_is_entry_for_address(words[0], known.address) for words in entries):
        return group.wrong(subject, f"{name} is for {entries[0][0]}", f"for {known.address}", cure)
    if not any((words[1], words[2]) in presented for words in entries):
        kinds = ", ".join(sorted(kind for kind, _ in presented))
        return group.wrong(subject, f"the host presents others ({kinds})", f"one of {name}", cure)
    return group.ok(subject, f"is that of {name}")


def _is_entry_for_address(names: str, address: str) -> bool:
    is_hashed = names.startswith("|1|")
    return is_hashed or address in names.split(",")
