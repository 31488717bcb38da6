"""One host, over the user's own ssh: a read-only script's facts, where the host is, and the host keys it presents."""

import ipaddress
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kiwari_ci.plan import DeployHost, EnvFile
from kiwari_ci.probes.calls import REQUEST_TIMEOUT, TOTAL_TIMEOUT, ProcessResult, find_last_line, run_process
from kiwari_ci.probes.dns_tls import HostAddresses, NetworkBackend
from kiwari_ci.proxies.registry import find_planned_proxy

DATABASE_INIT_SCRIPT = "init/init-databases.sh"
PROBE_SCRIPT = Path(__file__).with_name("host.sh")
# Nobody is asked for a password, nothing is written to known_hosts, and no connection outlives the question.
SSH_OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": str(REQUEST_TIMEOUT),
    "StrictHostKeyChecking": "yes",
    "UpdateHostKeys": "no",
    "ControlMaster": "no",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
}


class ContainerState(NamedTuple):
    """A container, as `docker inspect` has it; networks and ports are separated by blanks."""

    name: str
    image: str
    status: str
    started: str
    restarts: str
    code: str
    oom: str
    health: str
    project: str
    networks: str
    ports: str
    label: str


@dataclass(frozen=True)
class HostFacts:
    """What the script printed, a tuple of words a line; without lines, `why` says why."""

    lines: tuple[tuple[str, ...], ...] = ()
    why: str = ""

    def all(self, *words: str) -> list[tuple[str, ...]]:
        """What follows these words, of each line that begins with them."""
        count = len(words)
        return [line[count:] for line in self.lines if line[:count] == words]

    def first(self, *words: str) -> tuple[str, ...]:
        """What follows these words in the first line that begins with them; empty when there is none."""
        return next(iter(self.all(*words)), ())

    def word(self, *words: str) -> str:
        """The one that follows these words, or an empty one."""
        return next(iter(self.first(*words)), "")

    def containers(self) -> dict[str, ContainerState]:
        """All containers of the engine, by name."""
        rows = [row for row in self.all("container") if len(row) == len(ContainerState._fields)]
        return {row[0]: ContainerState(*row) for row in rows}


@dataclass(frozen=True)
class SshTarget:
    """Where ssh goes for a host, and the host keys that it presents there as (type, key)."""

    name: str = ""
    addresses: tuple[str, ...] = ()
    keys: frozenset[tuple[str, str]] = frozenset()


def probe_host(host: DeployHost, destination: str) -> HostFacts:
    """All facts of a host in one round trip."""
    options = [word for key, value in SSH_OPTIONS.items() for word in ("-o", f"{key}={value}")]
    script = f"set -- {shlex.join(_build_script_arguments(host))}\n{PROBE_SCRIPT.read_text()}"
    return parse_host_facts(
        run_process(["ssh", "-T", *options, "--", destination, "bash", "-s"], stdin=script, seconds=TOTAL_TIMEOUT - 2)
    )


def parse_host_facts(ran: ProcessResult) -> HostFacts:
    """Read what the script printed; what a login shell prints before it is no fact."""
    lines = ran.out.split("\n")
    if "begin" in lines and "end" in lines:
        said = lines[lines.index("begin") + 1 : lines.index("end")]
        return HostFacts(tuple(tuple(line.split("\t")) for line in said))
    if "bin/deploy" in ran.err:
        return HostFacts(why="ssh used the deploy key, which may do no more than deploy: log in with one of your own")
    why = "its answer broke off" if "begin" in lines else find_last_line(ran.err or ran.out)
    return HostFacts(why=f"ssh: {why.removeprefix('ssh: ')}")


def resolve_ssh_target(destination: str, net: NetworkBackend) -> SshTarget:
    """Where ssh would connect to, by its own configuration; nothing of it is asked but the host keys."""
    said = run_process(["ssh", "-G", "--", destination])
    settings = dict(line.split(" ", 1) for line in said.out.splitlines() if " " in line)
    name, port = settings.get("hostname", ""), settings.get("port", "22")
    jumps = settings.get("proxyjump", "none") != "none" or settings.get("proxycommand", "none") != "none"
    if said.code or not name:
        return SshTarget()
    addresses = _resolve_addresses(name, net)
    if jumps or not addresses:
        return SshTarget(name, addresses)
    scanned = run_process(["ssh-keyscan", "-T", str(REQUEST_TIMEOUT), "-p", port, "--", addresses[0]])
    found = [line.split() for line in scanned.out.splitlines() if not line.startswith("#")]
    return SshTarget(name, addresses, frozenset((words[1], words[2]) for words in found if len(words) >= 3))


def collect_host_addresses(host: DeployHost, reached: SshTarget, seen: HostFacts) -> HostAddresses:
    """All addresses by which a host is known: where ssh finds it, and its own; Traefik has no route at first."""
    own = _parse_ip_addresses(seen.word("addresses"))
    unrouted = find_planned_proxy(host.proxy).unrouted_statuses
    return HostAddresses(frozenset([*reached.addresses, *own]), complete=bool(own), unrouted=unrouted)


def _build_script_arguments(host: DeployHost) -> list[str]:
    """What the script is to look at: the folder, then everything in it that the plan knows."""
    words = [f"file:{path}" for path in list_placed_files(host)]
    words += [f"env:{server.name}/{_format_env_argument(server.env_file)}" for server in host.servers]
    words += [f"env:{stack.name}/{_format_env_argument(file)}" for stack in host.stacks for file in stack.env_files]
    words += [f"stack:{stack.name}" for stack in host.stacks]
    words += [f"database:{server.name}" for server in host.servers]
    return [host.folder, *words]


def list_placed_files(host: DeployHost) -> list[str]:
    """The generated files that a person has placed, below the host's folder."""
    placed = [
        f"{server.name}/{file}" for server in host.servers for file in ("docker-compose.yml", DATABASE_INIT_SCRIPT)
    ]
    placed += [
        f"{stack.name}/{file}"
        for stack in host.stacks
        for file in ("docker-compose.yml", *(f"hooks/{hook.name}" for hook in stack.hooks))
    ]
    return ["bin/deploy", *placed, *(file for front in host.fronts for file in front.paths())]


def list_env_keys(env_file: EnvFile) -> list[str]:
    """The keys of an env file, in the spec's order."""
    return [line.key for group in env_file.groups for line in group.lines]


def _format_env_argument(env_file: EnvFile) -> str:
    return f"{env_file.name}:{','.join(list_env_keys(env_file))}"


def _resolve_addresses(name: str, net: NetworkBackend) -> tuple[str, ...]:
    if found := _parse_ip_addresses(name):
        return tuple(found)
    try:
        return tuple(net.resolve(name))
    except (OSError, UnicodeError):
        return ()


def _parse_ip_addresses(text: str) -> list[str]:
    """The words that are addresses."""
    found = []
    for word in text.split():
        try:
            found.append(str(ipaddress.ip_address(word)))
        except ValueError:
            continue
    return found
