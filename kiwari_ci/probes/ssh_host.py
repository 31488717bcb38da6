"""One host, over the user's own ssh: a read-only script's facts, where the host is, and the host keys it presents."""

import ipaddress
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kiwari_ci.plan import EnvFile, Host
from kiwari_ci.probes.calls import LIMIT, PATIENCE, Ran, last_line, run
from kiwari_ci.probes.dns_tls import Net, Place

INIT = "init/init-databases.sh"
SCRIPT = Path(__file__).with_name("host.sh")
# Nobody is asked for a password, nothing is written to known_hosts, and no connection outlives the question.
OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": str(PATIENCE),
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


class Container(NamedTuple):
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
class Facts:
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

    def containers(self) -> dict[str, Container]:
        """All containers of the engine, by name."""
        rows = [row for row in self.all("container") if len(row) == len(Container._fields)]
        return {row[0]: Container(*row) for row in rows}


@dataclass(frozen=True)
class Reached:
    """Where ssh goes for a host, and the host keys that it presents there as (type, key)."""

    name: str = ""
    addresses: tuple[str, ...] = ()
    keys: frozenset[tuple[str, str]] = frozenset()


def ask(host: Host, destination: str) -> Facts:
    """All facts of a host in one round trip."""
    options = [word for key, value in OPTIONS.items() for word in ("-o", f"{key}={value}")]
    script = f"set -- {shlex.join(_words(host))}\n{SCRIPT.read_text()}"
    return facts(run(["ssh", "-T", *options, "--", destination, "bash", "-s"], stdin=script, seconds=LIMIT - 2))


def facts(ran: Ran) -> Facts:
    """Read what the script printed; what a login shell prints before it is no fact."""
    lines = ran.out.split("\n")
    if "begin" in lines and "end" in lines:
        said = lines[lines.index("begin") + 1 : lines.index("end")]
        return Facts(tuple(tuple(line.split("\t")) for line in said))
    if "bin/deploy" in ran.err:
        return Facts(why="ssh used the deploy key, which may do no more than deploy: log in with one of your own")
    why = "its answer broke off" if "begin" in lines else last_line(ran.err or ran.out)
    return Facts(why=f"ssh: {why.removeprefix('ssh: ')}")


def reach(destination: str, net: Net) -> Reached:
    """Where ssh would connect to, by its own configuration; nothing of it is asked but the host keys."""
    said = run(["ssh", "-G", "--", destination])
    settings = dict(line.split(" ", 1) for line in said.out.splitlines() if " " in line)
    name, port = settings.get("hostname", ""), settings.get("port", "22")
    jumps = settings.get("proxyjump", "none") != "none" or settings.get("proxycommand", "none") != "none"
    if said.code or not name:
        return Reached()
    addresses = _addresses(name, net)
    if jumps or not addresses:
        return Reached(name, addresses)
    scanned = run(["ssh-keyscan", "-T", str(PATIENCE), "-p", port, "--", addresses[0]])
    found = [line.split() for line in scanned.out.splitlines() if not line.startswith("#")]
    return Reached(name, addresses, frozenset((words[1], words[2]) for words in found if len(words) >= 3))


def place(host: Host, reached: Reached, seen: Facts) -> Place:
    """All addresses by which a host is known: where ssh finds it, and its own; Traefik has no route at first."""
    own = _only_addresses(seen.word("addresses"))
    unrouted = (404,) if host.proxy == "traefik" else ()
    return Place(frozenset([*reached.addresses, *own]), complete=bool(own), unrouted=unrouted)


def _words(host: Host) -> list[str]:
    """What the script is to look at: the folder, then everything in it that the plan knows."""
    words = [f"file:{path}" for path in files(host)]
    words += [f"env:{server.name}/{_env(server.env_file)}" for server in host.servers]
    words += [f"env:{stack.name}/{_env(file)}" for stack in host.stacks for file in stack.env_files]
    words += [f"stack:{stack.name}" for stack in host.stacks]
    words += [f"database:{server.name}" for server in host.servers]
    return [host.folder, *words]


def files(host: Host) -> list[str]:
    """The generated files that a person has placed, below the host's folder."""
    placed = [f"{server.name}/{file}" for server in host.servers for file in ("docker-compose.yml", INIT)]
    placed += [
        f"{stack.name}/{file}"
        for stack in host.stacks
        for file in ("docker-compose.yml", *(f"hooks/{hook.name}" for hook in stack.hooks))
    ]
    return ["bin/deploy", *placed, *(file for front in host.fronts for file in front.paths())]


def keys(env_file: EnvFile) -> list[str]:
    """The keys of an env file, in the spec's order."""
    return [line.key for group in env_file.groups for line in group.lines]


def _env(env_file: EnvFile) -> str:
    return f"{env_file.name}:{','.join(keys(env_file))}"


def _addresses(name: str, net: Net) -> tuple[str, ...]:
    if found := _only_addresses(name):
        return tuple(found)
    try:
        return tuple(net.resolve(name))
    except (OSError, UnicodeError):
        return ()


def _only_addresses(text: str) -> list[str]:
    """The words that are addresses."""
    found = []
    for word in text.split():
        try:
            found.append(str(ipaddress.ip_address(word)))
        except ValueError:
            continue
    return found
