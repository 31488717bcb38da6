"""Probes a host over the user's own ssh: the facts of a read-only script, its addresses, and its host keys."""

import ipaddress
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kiwari_ci.plan_model import DeployHost, EnvFile
from kiwari_ci.proxies.all_proxies import find_planned_proxy
from kiwari_ci.remote_checks.calls import REQUEST_TIMEOUT, TOTAL_TIMEOUT, ProcessResult, find_last_line, run_process
from kiwari_ci.remote_checks.dns_tls import HostAddresses, NetworkBackend

OPTIONAL_PROGRAM = "bin/rotate"  # a host on which nobody rotates secrets can do without it
DATABASE_INIT_SCRIPT = "init/init-databases.sh"
WEB_PORTS = ("80", "443")
PROBE_SCRIPT = Path(__file__).with_name("host.sh")
DEPLOY_KEY_REASON = "ssh used the deploy key, which may do no more than deploy: log in with one of your own"
# ssh asks nobody for a password, writes nothing to known_hosts, and keeps no connection open.
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
    """A container as `docker inspect` shows it; networks and ports are separated by spaces."""

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

    @property
    def web_ports(self) -> tuple[str, ...]:
        """Those of ports 80 and 443 of the host that it publishes, as a reverse proxy does."""
        published = self.ports.split()
        return tuple(port for port in WEB_PORTS if port in published)


@dataclass(frozen=True)
class HostFacts:
    """The lines that the script printed, each as its words; without lines, `why` is the reason."""

    lines: tuple[tuple[str, ...], ...] = ()
    why: str = ""

    def all(self, *words: str) -> list[tuple[str, ...]]:
        """The words after these, of each line that begins with these."""
        count = len(words)
        return [line[count:] for line in self.lines if line[:count] == words]

    def first(self, *words: str) -> tuple[str, ...]:
        """The words after these, of the first line that begins with these; empty when there is none."""
        return next(iter(self.all(*words)), ())

    def word(self, *words: str) -> str:
        """The word after these in the first such line, or an empty one."""
        return next(iter(self.first(*words)), "")

    def containers(self) -> dict[str, ContainerState]:
        """All containers of the engine, by name."""
        rows = [row for row in self.all("container") if len(row) == len(ContainerState._fields)]
        return {row[0]: ContainerState(*row) for row in rows}


@dataclass(frozen=True)
class SshTarget:
    """Where ssh connects to for a host, and the host keys presented there, as pairs of type and key."""

    name: str = ""
    addresses: tuple[str, ...] = ()
    keys: frozenset[tuple[str, str]] = frozenset()


def probe_host(host: DeployHost, destination: str) -> HostFacts:
    """Collect all facts of a host over one connection."""
    script = f"set -- {shlex.join(_build_script_arguments(host))}\n{PROBE_SCRIPT.read_text()}"
    command = [*_build_ssh_words(SSH_OPTIONS), "--", destination, "bash", "-s"]
    return parse_host_facts(run_process(command, stdin=script, seconds=TOTAL_TIMEOUT - 2))


def build_ssh_command(destination: str, command: Sequence[str], is_terminal: bool = False) -> list[str]:
    """The command that runs other words on a host; each word arrives there as it is, whatever characters it has.

    A connection that is lost ends the command within a minute, however long the command itself takes.
    """
    options = SSH_OPTIONS | {"ServerAliveInterval": "15", "ServerAliveCountMax": "3"}
    if is_terminal:
        options |= {"RequestTTY": "force"}
    return [*_build_ssh_words(options), "--", destination, shlex.join(command)]


def format_login_hint(host_name: str) -> str:
    """How a person says where a host is, and with which login ssh reaches it."""
    return f"--ssh {host_name}=USER@ADDRESS, or `Host {host_name}` in ~/.ssh/config, says how to log in"


def _build_ssh_words(options: Mapping[str, str]) -> list[str]:
    # `-T` would win over RequestTTY.
    no_terminal = ["-T"] if options["RequestTTY"] == "no" else []
    return ["ssh", *no_terminal, *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]


def parse_host_facts(result: ProcessResult) -> HostFacts:
    """Parse what the script printed; a login shell may have printed something before it."""
    lines = result.out.split("\n")
    if "begin" in lines and "end" in lines:
        fact_lines = lines[lines.index("begin") + 1 : lines.index("end")]
        return HostFacts(tuple(tuple(line.split("\t")) for line in fact_lines))
    if "bin/deploy" in result.err:
        return HostFacts(why=DEPLOY_KEY_REASON)
    reason = "its answer broke off" if "begin" in lines else find_last_line(result.err or result.out)
    return HostFacts(why=f"ssh: {reason.removeprefix('ssh: ')}")


def resolve_ssh_target(destination: str, net: NetworkBackend) -> SshTarget:
    """Find out where ssh would connect to, by its own configuration, and which host keys are presented there."""
    result = run_process(["ssh", "-G", "--", destination])
    settings = dict(line.split(" ", 1) for line in result.out.splitlines() if " " in line)
    name, port = settings.get("hostname", ""), settings.get("port", "22")
    if result.code or not name:
        return SshTarget()
    if settings.get("proxycommand", "none") != "none":
        return SshTarget(name)  # its address leads to what the program connects to, such as Cloudflare
    addresses = _resolve_addresses(name, net)
    is_reached_through_another = settings.get("proxyjump", "none") != "none"
    if is_reached_through_another or not addresses:
        return SshTarget(name, addresses)
    scan = run_process(["ssh-keyscan", "-T", str(REQUEST_TIMEOUT), "-p", port, "--", addresses[0]])
    key_lines = [line.split() for line in scan.out.splitlines() if not line.startswith("#")]
    return SshTarget(name, addresses, frozenset((words[1], words[2]) for words in key_lines if len(words) >= 3))


def collect_host_addresses(host: DeployHost, target: SshTarget, facts: HostFacts) -> HostAddresses:
    """Collect the addresses of a host: those that ssh uses, and those that the host has told itself."""
    own_addresses = _parse_ip_addresses(facts.word("addresses"))
    unrouted = find_planned_proxy(host.proxy).unrouted_statuses
    addresses = frozenset([*target.addresses, *own_addresses])
    return HostAddresses(addresses, complete=bool(own_addresses), unrouted=unrouted)


def _build_script_arguments(host: DeployHost) -> list[str]:
    """What the script looks at: the host's folder, then everything in it that the plan has."""
    words = [f"file:{path}" for path in list_placed_files(host)]
    words += [f"env:{server.name}/{_format_env_argument(server.env_file)}" for server in host.servers]
    words += [f"env:{stack.name}/{_format_env_argument(file)}" for stack in host.stacks for file in stack.env_files]
    words += [f"stack:{stack.name}" for stack in host.stacks]
    words += [f"database:{server.name}" for server in host.servers]
    words += ["schedule:"] if host.has_schedule else []
    return [host.folder, *words]


def list_placed_files(host: DeployHost) -> list[str]:
    """The generated files that a person has placed, below the host's folder."""
    paths = ["bin/deploy", "bin/database"] if host.has_schedule else ["bin/deploy"]
    if any(stack.env_files for stack in host.stacks):
        paths.append(OPTIONAL_PROGRAM)
    for server in host.servers:
        paths += [f"{server.name}/docker-compose.yml", f"{server.name}/{DATABASE_INIT_SCRIPT}"]
    for stack in host.stacks:
        paths.append(f"{stack.name}/docker-compose.yml")
        paths += [f"{stack.name}/hooks/{hook.name}" for hook in stack.hooks]
    for proxy_stack in host.fronts:
        paths += proxy_stack.paths()
    return paths


def list_env_keys(env_file: EnvFile) -> list[str]:
    """The keys of an env file, in the spec's order."""
    return [line.key for group in env_file.groups for line in group.lines]


def _format_env_argument(env_file: EnvFile) -> str:
    return f"{env_file.name}:{','.join(list_env_keys(env_file))}"


def _resolve_addresses(name: str, net: NetworkBackend) -> tuple[str, ...]:
    addresses = _parse_ip_addresses(name)
    if addresses:
        return tuple(addresses)
    try:
        return tuple(net.resolve(name))
    except (OSError, UnicodeError):
        return ()


def _parse_ip_addresses(text: str) -> list[str]:
    """The words that are addresses."""
    addresses = []
    for word in text.split():
        try:
            addresses.append(str(ipaddress.ip_address(word)))
        except ValueError:
            continue
    return addresses
