"""A stand-in for a server with Docker: containers, networks, volumes, images and a clock, without any of them.

It answers the docker commands that the host program runs as Docker and Compose would, and takes the same steps
between them. Each step is a point at which the program can be killed, or the server lose its power.
"""

import base64
import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
from kiwari_ci.engines.compose.deploy_programs import rotate
from tests.host.compose_reader import Model, Unreadable, hash_of, printed, read_model

TOKEN = "a-token-of-the-registry"
PROJECT, SERVICE = "com.docker.compose.project", "com.docker.compose.service"
ONE_OFF, HASH, NUMBER = (
    "com.docker.compose.oneoff",
    "com.docker.compose.config-hash",
    "com.docker.compose.container-number",
)


READING = {"inspect", "ps", "version", "info", "logs", "ls"}  # commands that change nothing


class Killed(BaseException):
    """The program was killed: it can tidy up nothing."""


class Refused(Exception):
    """A command of Docker's ends with an error, perhaps after it has printed something."""

    def __init__(self, words: str, code: int = 1, printed: str = "") -> None:
        super().__init__(words)
        self.code = code
        self.printed = printed


@dataclasses.dataclass(frozen=True)
class Image:
    """What containers of an image do."""

    answers_after: float = 1  # seconds after its start
    status: int = 200
    port: int = 8080
    exits_after: float | None = None
    exit_code: int = 0
    silent_after: float | None = None  # it runs on, and answers no more
    silent_for: float = 1_000_000
    hangs: bool = False  # it takes connections and never answers
    needs_to_be_alone: bool = False  # it exits while another container of its repository runs
    works_only_beside: bool = False  # it exits under the name of its service
    migration_code: int = 0
    migration_seconds: float = 1
    has_health_check: bool = False  # Docker's own, which follows what it answers
    volumes: tuple[str, ...] = ()  # places for which Docker makes a volume without a name
    architecture: str = "amd64"
    labels: tuple[tuple[str, str], ...] = ()
    variables: tuple[str, ...] = ()
    printed: str = "started\n"


@dataclasses.dataclass
class Running:
    """A container of the stand-in."""

    id: str
    name: str
    reference: str
    image_id: str
    labels: dict[str, str]
    restart_policy: str
    aliases: dict[str, list[str]]  # for each network that it is on
    mounts: list[Model]
    ports: list[tuple[str, str]]  # the port, perhaps after an address and a colon, and the protocol
    addresses: dict[str, str] = dataclasses.field(default_factory=dict)
    status: str = "created"
    started_at: float = -1
    exit_code: int = 0
    restarts: int = 0
    restarts_at: float = math.inf  # while it is restarting: the time of its next start
    own_volumes: frozenset[str] = frozenset()  # those without a name that were created with it
    is_stopped_by_hand: bool = False
    is_removed_when_stopped: bool = False
    ends_after: float | None = None  # of a command that runs to its end
    ends_with: int = 0
    stop_timeout: int | None = None  # Docker kills it so many seconds after it was told to stop
    environment: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def is_running(self) -> bool:
        return self.status == "running"

    def copy(self) -> "Running":
        aliases = {network: list(names) for network, names in self.aliases.items()}
        return dataclasses.replace(self, aliases=aliases, labels=dict(self.labels), addresses=dict(self.addresses))

    @property
    def is_one_off(self) -> bool:
        return self.labels.get(ONE_OFF) == "True"


@dataclasses.dataclass(frozen=True)
class Moment:
    """Who had a name at a moment, and which containers answered."""

    time: float
    named: dict[str, frozenset[str]]
    answering: frozenset[str]


@dataclasses.dataclass
class State:
    """All that a server loses neither when the program is killed, nor when it loses its power."""

    clock: float = 1000
    created: int = 0
    containers: dict[str, Running] = dataclasses.field(default_factory=dict)
    networks: set[str] = dataclasses.field(default_factory=set)
    volumes: set[str] = dataclasses.field(default_factory=set)
    local: set[str] = dataclasses.field(default_factory=set)  # the images that are on the server
    migrations: list[str] = dataclasses.field(default_factory=list)
    passwords: dict[str, str] = dataclasses.field(default_factory=dict)  # of PostgreSQL's roles: SERVER ROLE

    def copy(self) -> "State":
        """One that does not change with this one; `copy.deepcopy` takes ten times as long."""
        return State(
            clock=self.clock,
            created=self.created,
            containers={id: container.copy() for id, container in self.containers.items()},
            networks=set(self.networks),
            volumes=set(self.volumes),
            local=set(self.local),
            migrations=list(self.migrations),
            passwords=dict(self.passwords),
        )


def image_id_of(reference: str) -> str:
    return "sha256:" + hashlib.sha256(reference.encode()).hexdigest()


class FakeMachine(deploy_program.Machine):
    """A server without Docker. `images` is all that registries have, `public` what they give without a login."""

    def __init__(self) -> None:
        self.state = State()
        self.images: dict[str, Image] = {}
        self.public: set[str] = set()
        self.calls: list[tuple[str, ...]] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.trace: list[Moment] = []
        self.watched: tuple[str, ...] = ()
        self.ended: list[tuple[float, str, str]] = []  # running containers that were told to end: time, name, id
        self.inherited_addresses: set[str] = set()  # set-aside containers that ended before their successor began
        self.doubles: list[str] = []  # moments at which the worker ran twice
        self.settled_at = -1.0
        self.points = 0
        self.killed_at: int | None = None
        self.is_dead = False
        self.at_each_point: Callable[[], None] | None = None
        self.free = 50_000
        self.memory = 8_000_000_000
        self.listening: list[
            deploy_program.Port
        ] = []  # ports that programs of the server hold, which are no containers
        self.engine_version, self.compose_version = "28.0.1", "2.40.0"
        self.hash_has_dependencies = False
        self.descriptions: dict[tuple[object, ...], str] = {}
        self.troubles: dict[str, list[str]] = {}  # errors with which the next commands of a verb end
        self.compose_is_killed_at: int | None = None  # the number of steps of Compose's until a signal ends docker
        self.seconds_before_restart = 0.0  # that a container is restarting, before Docker starts it again
        self.devices: dict[str, str] = {}  # the folders elsewhere that volumes stand for
        self.accepts: Callable[[Running], bool] = lambda container: True  # whether its variables let it answer
        self.modes: dict[str, Image] = {}  # what containers do whose variable MODE has that value
        self.given: list[str] = []  # what bin/database read from standard input
        self.scripts: list[tuple[str, dict[str, str]]] = []
        self.script_codes: dict[str, int] = {}
        self.database_code = 0  # with which bin/database ends

    def forget(self) -> None:
        """Begin to watch anew."""
        self.trace, self.ended, self.doubles = [], [], []

    # Kills, power cuts and the clock

    def kill_at(self, point: int) -> None:
        """Kill the program when it comes to that point, counted from now."""
        self.points, self.killed_at, self.is_dead = 0, point, False

    def revive(self) -> None:
        """Let the next run of the program live."""
        self.killed_at, self.is_dead = None, False

    def point(self) -> None:
        """A moment at which the program may be killed; what containers do by themselves is looked at now and then."""
        if self.state.clock > self.settled_at + 0.1:
            self.settle()
        if self.at_each_point:
            self.at_each_point()
        self.points += 1
        if self.killed_at is not None and self.points >= self.killed_at:
            self.is_dead = True
        if self.is_dead:
            raise Killed

    def boot(self) -> None:
        """The server loses its power, and starts again: Docker starts what has a restart policy."""
        self.settle()
        for container in self.everything():
            if container.is_running:
                self.end(container, 137)
        for container in self.everything():
            is_due = container.restart_policy == "always" or (
                container.restart_policy == "unless-stopped" and not container.is_stopped_by_hand
            )
            if is_due and container.status in ("exited", "restarting"):
                self.try_to_start(container)

    def try_to_start(self, container: Running) -> None:
        try:
            self.start(container)
        except Refused:
            container.status = "exited"

    def settle(self) -> None:
        """Let containers do what they do by themselves as time passes, and note who answers."""
        self.settled_at = self.state.clock
        for container in self.everything():
            if container.status == "restarting" and self.state.clock >= container.restarts_at:
                self.try_to_start(container)
            lives = self.state.clock - container.started_at
            image = self.image_of(container)
            ends_after = self.end_of(container, image)
            if not container.is_running or ends_after is None or lives < ends_after:
                continue
            code = container.ends_with if container.ends_after is not None else image.exit_code
            self.end(container, code)
            if container.restart_policy in ("always", "unless-stopped") or (
                container.restart_policy.startswith("on-failure") and code
            ):
                container.restarts += 1
                container.status, container.restarts_at = "restarting", self.state.clock + self.seconds_before_restart
                if not self.seconds_before_restart:
                    self.try_to_start(container)
        self.note()

    def end_of(self, container: Running, image: Image) -> float | None:
        """After how many seconds a container ends by itself."""
        if container.ends_after is not None:
            return container.ends_after
        if image.works_only_beside and not container.name.endswith("-next"):
            return 0.5
        if image.needs_to_be_alone:
            repository = deploy_program.repository_of(container.reference)
            others = [other for other in self.everything() if other.is_running and other is not container]
            if any(deploy_program.repository_of(other.reference) == repository for other in others):
                return 0.5
        return image.exits_after

    def note(self) -> None:
        """Add to the trace who has the watched names now, and who answers."""
        named = {name: frozenset(container.id for container in self.reached_by(name)) for name in self.watched}
        answering = frozenset(container.id for container in self.everything() if self.answers(container))
        last = self.trace[-1] if self.trace else None
        workers = [
            container.name
            for container in self.everything()
            if container.is_running and container.labels.get(SERVICE) == "worker"
        ]
        if len(workers) > 1:
            self.doubles.append(f"at {self.state.clock:.2f}: {workers}")
        if not last or (last.named, last.answering) != (named, answering):
            self.trace.append(Moment(self.state.clock, named, answering))

    def note_end(self, container: Running) -> None:
        """Note that a running container is told to end, and whether its address is free for the new own container."""
        self.ended.append((self.state.clock, container.name, container.id))
        own_name = container.name.removesuffix("-previous")
        if own_name != container.name and not self.find(own_name):
            self.inherited_addresses.add(container.id)

    def now(self) -> float:
        return self.state.clock

    def wait(self, seconds: float) -> None:
        """Let time pass, a second at a time."""
        end = self.state.clock + seconds
        while self.state.clock < end:
            self.state.clock = min(end, self.state.clock + 1)
            self.point()

    def available_memory(self) -> int:
        return self.memory

    def memory_of(self, process: int) -> int | None:
        return 50_000_000

    def listening_ports(self) -> list[deploy_program.Port]:
        """With those on which Docker listens for running containers."""
        containers = [container for container in self.everything() if container.is_running]
        published = [bound(port) for container in containers for port in container.ports]
        return self.listening + [deploy_program.port_from(*port) for port in published]

    def free_megabytes(self, folder: str) -> int:
        return self.free

    # Who answers

    def answers(self, container: Running) -> bool:
        image = self.image_of(container)
        lives = self.state.clock - container.started_at
        is_silent = image.silent_after is not None and 0 <= lives - image.silent_after < image.silent_for
        is_silent = is_silent or not self.accepts(container)
        return container.is_running and lives >= image.answers_after and not image.hangs and not is_silent

    def reached_by(self, name: str) -> list[Running]:
        """The containers to which a name leads on any network."""
        return [
            container
            for container in self.everything()
            if container.is_running
            and any(name == container.name or name in container.aliases[network] for network in container.addresses)
        ]

    def http_status(self, address: str, port: int, path: str, headers: dict[str, str]) -> int:
        self.point()
        self.asked.append((path, headers))
        for container in self.everything():
            image = self.image_of(container)
            if address not in container.addresses.values() or port != image.port:
                continue
            if image.hangs:
                self.state.clock += 5
                raise TimeoutError("timed out")
            if self.answers(container):
                return image.status
        raise ConnectionRefusedError(111, "Connection refused")

    def connect(self, address: str, port: int) -> None:
        self.http_status(address, port, "", {})

    def script(self, command: list[str], folder: Path, settings: dict[str, str]) -> int:
        self.point()
        self.scripts.append((command[-1], settings))
        return self.script_codes.get(command[-1], 0)

    def show(self, command: list[str], seconds: int, stdin: str = "") -> deploy_program.Output:
        """Run bin/database, which changes the password of a role, or bin/rotate, which undoes a rotation."""
        if command[0].endswith("bin/rotate"):
            return deploy_program.Output(self.undo_rotation(command[2]), "", "")
        if command[1] != "set-password":
            return super().show(command, seconds, stdin)
        self.point()
        self.given.append(stdin)
        role = " ".join(command[2:])
        old, new = stdin.splitlines()
        present = self.state.passwords.get(role)
        if present not in (old, new) or self.database_code:
            return deploy_program.Output(self.database_code or 69, "", "")
        self.state.passwords[role] = new
        self.point()
        return deploy_program.Output(0, "", "")

    def undo_rotation(self, stack: str) -> int:
        """Run `rotate undo`, with which nothing but the files is shared."""
        try:
            return rotate.undo(deploy_program.open_stack(self, stack, "rotate undo"))
        except deploy_program.Failed as failure:
            deploy_program.print_error(failure.message)
            return failure.code

    # What there is

    def everything(self) -> list[Running]:
        return list(self.state.containers.values())

    def image_of(self, container: Running) -> Image:
        behaviour = self.modes.get(container.environment.get("MODE", ""))
        return behaviour or self.images.get(container.reference) or Image()

    def find(self, name: str) -> Running | None:
        """A container by its name, its id, or the beginning of its id, in this order."""
        for container in self.everything():
            if name in (container.name, container.id):
                return container
        return next((container for container in self.everything() if container.id.startswith(name)), None)

    def get(self, name: str) -> Running:
        container = self.find(name)
        if not container:
            raise Refused(f"Error response from daemon: No such container: {name}")
        return container

    # Docker's commands

    def docker(
        self,
        *words: str,
        stdin: str = "",
        seconds: int = deploy_program.QUERY_SECONDS,
        prints_output: bool = False,
        can_be_cancelled: bool = False,
    ) -> deploy_program.Output:
        self.state.clock += 0.01
        self.point()
        self.calls.append(words)
        try:
            out = self.obey(list(words), stdin)
            output = deploy_program.Output(0, out, "")
        except Refused as error:
            output = deploy_program.Output(error.code, error.printed, f"{error}\n")
        except Unreadable as error:
            output = deploy_program.Output(1, "", f"{error}\n")
        if not READING & set(words[:2]) and "config" not in words:
            self.settle()
            self.point()
        return output

    def obey(self, words: list[str], stdin: str) -> str:
        """Do what a docker command does; return what it prints."""
        config = None
        if words[0] == "--config":
            config = Path(words[1])
            words = words[2:]
        verb = words[0] if words[0] != "compose" else f"compose {compose_verb(words)}"
        if self.troubles.get(verb):
            raise Refused(self.troubles[verb].pop(0))
        if words[0] == "compose":
            return self.compose(words[1:], stdin)
        if words[0] == "pull":
            return self.pull(words[-1], config)
        command = getattr(
            self, "do_" + "_".join(words[:2] if words[0] in ("image", "network", "volume") else words[:1])
        )
        skipped = 2 if words[0] in ("image", "network", "volume") else 1
        return str(command(words[skipped:]))

    def do_version(self, words: list[str]) -> str:
        assert words == ["--format", "{{json .}}"]
        return json.dumps({"Client": {}, "Server": {"Version": self.engine_version, "Arch": "amd64"}})

    def do_info(self, words: list[str]) -> str:
        assert words == ["--format", "{{json .}}"]
        return json.dumps({"DockerRootDir": "/var/lib/docker"})

    def do_ps(self, words: list[str]) -> str:
        assert words == ["-aq", "--no-trunc"]
        return "".join(f"{container.id}\n" for container in reversed(self.everything()))

    def do_inspect(self, words: list[str]) -> str:
        assert words[:2] == ["--type", "container"]
        descriptions, missing = [], []
        for name in words[2:]:
            container = self.find(name)
            if container:
                descriptions.append(self.description(container))
            else:
                missing.append(name)
        printed = f"[{','.join(descriptions)}]"
        if missing:
            lines = [f"Error response from daemon: No such container: {name}" for name in missing]
            raise Refused("\n".join(lines), printed=printed)
        return printed

    def description(self, container: Running) -> str:
        """As `docker inspect` prints it. It is kept until it changes: the program looks much more often than that."""
        has_health_check = self.image_of(container).has_health_check
        key = (
            container.id,
            container.name,
            container.status,
            container.started_at,
            container.exit_code,
            container.restarts,
            container.restart_policy,
            has_health_check,
            has_health_check and self.answers(container),
            repr(container.aliases),
            repr(container.addresses),
            len(container.labels),
            len(container.mounts),
        )
        if key not in self.descriptions:
            self.descriptions[key] = json.dumps(self.described(container))
        return self.descriptions[key]

    def described(self, container: Running) -> Model:
        """What `docker inspect` prints of a container."""
        image = self.image_of(container)
        health = "healthy" if self.answers(container) else "starting"
        return {
            "Id": container.id,
            "Name": f"/{container.name}",
            "Image": container.image_id,
            "RestartCount": container.restarts,
            "State": {
                "Status": container.status,
                "StartedAt": f"{container.started_at:.2f}" if container.started_at >= 0 else "0001-01-01T00:00:00Z",
                "ExitCode": container.exit_code,
                "OOMKilled": False,
                **({"Health": {"Status": health}} if image.has_health_check else {}),
            },
            "Config": {
                "Image": container.reference,
                "Labels": container.labels,
                **({"StopTimeout": container.stop_timeout} if container.stop_timeout else {}),
            },
            "HostConfig": {
                "RestartPolicy": restart_policy_of(container.restart_policy),
                "AutoRemove": container.is_removed_when_stopped,
                "PortBindings": {
                    f"80/{protocol}": [{"HostIp": address, "HostPort": port}]
                    for address, port, protocol in map(bound, container.ports)
                },
            },
            "NetworkSettings": {
                "Networks": {
                    name: {"Aliases": aliases, "IPAddress": container.addresses.get(name, "")}
                    for name, aliases in container.aliases.items()
                }
            },
            "Mounts": container.mounts,
        }

    def do_logs(self, words: list[str]) -> str:
        return self.image_of(self.get(words[-1])).printed

    def do_rename(self, words: list[str]) -> str:
        container = self.get(words[0])
        self.refuse_taken_name(words[1])
        container.name = words[1]
        return ""

    def refuse_taken_name(self, name: str) -> None:
        holder = next((container for container in self.everything() if container.name == name), None)
        if holder:
            raise Refused(
                f'Error response from daemon: Conflict. The container name "/{name}" is already in use'
                f' by container "{holder.id}". You have to remove (or rename) that container'
            )

    def do_stop(self, words: list[str]) -> str:
        container = self.get(words[-1])
        container.is_stopped_by_hand = True
        if container.is_running:
            self.note_end(container)
            self.end(container, 143)
        elif container.status == "restarting":
            container.status = "exited"
        return ""

    def do_start(self, words: list[str]) -> str:
        self.start(self.get(words[-1]))
        return ""

    def do_rm(self, words: list[str]) -> str:
        assert words[:-1] in (["-f"], ["-f", "-v"])
        container = self.find(words[-1])
        if not container:
            return ""  # with -f it is no error
        if container.is_running:
            self.note_end(container)
        self.remove(container)
        if "-v" in words:
            self.remove_own_volumes(container)
        return ""

    def do_update(self, words: list[str]) -> str:
        assert words[0] == "--restart"
        self.get(words[2]).restart_policy = words[1]
        return ""

    def do_network_inspect(self, words: list[str]) -> str:
        if words[0] not in self.state.networks:
            raise Refused(f"Error response from daemon: network {words[0]} not found")
        return "[]"

    def do_volume_ls(self, words: list[str]) -> str:
        assert words == ["-q"]
        return "".join(f"{name}\n" for name in sorted(self.state.volumes))

    def do_volume_inspect(self, words: list[str]) -> str:
        volumes = [
            {
                "Name": name,
                "Mountpoint": f"/var/lib/docker/volumes/{name}/_data",
                "Options": {"device": self.devices[name]} if name in self.devices else None,
            }
            for name in words
            if name in self.state.volumes
        ]
        missing = [name for name in words if name not in self.state.volumes]
        if missing:
            lines = [f"Error response from daemon: get {name}: no such volume" for name in missing]
            raise Refused("\n".join(lines), printed=json.dumps(volumes))
        return json.dumps(volumes)

    def do_network_disconnect(self, words: list[str]) -> str:
        network, container = words[0], self.get(words[1])
        # One that is restarting keeps its names: an engine since 28 has no endpoint of it then.
        if network not in container.aliases or container.status == "restarting":
            raise Refused(f"Error response from daemon: container {container.id} is not connected to network {network}")
        del container.aliases[network]
        container.addresses.pop(network, None)
        return ""

    def do_network_connect(self, words: list[str]) -> str:
        *options, network, name = words
        container = self.get(name)
        if network not in self.state.networks:
            raise Refused(f"Error response from daemon: network {network} not found")
        if container.status == "restarting":
            raise Refused(f"Error response from daemon: network sandbox for container {container.id} not found")
        if network in container.aliases:
            raise Refused(f"Error response from daemon: endpoint with name {name} already exists in network {network}")
        container.aliases[network] = options[1::2]
        if container.is_running:
            container.addresses[network] = self.free_address(network)
        return ""

    def do_image_inspect(self, words: list[str]) -> str:
        reference = words[-1]
        if reference not in self.state.local:
            raise Refused(f"Error response from daemon: No such image: {reference}")
        image = self.images[reference]
        labels = dict(image.labels) or None
        entry = {
            "Id": image_id_of(reference),
            "Architecture": image.architecture,
            "Config": {"Labels": labels, "Env": ["PATH=/bin", *image.variables]},
        }
        return json.dumps([entry])

    def do_image_ls(self, words: list[str]) -> str:
        assert words[:3] == ["--digests", "--format", "{{json .}}"]
        references = sorted(
            reference for reference in self.state.local if deploy_program.repository_of(reference) == words[3]
        )
        return "".join(
            json.dumps({"Repository": words[3], "Digest": deploy_program.digest_of(reference)}) + "\n"
            for reference in references
        )

    def do_image_rm(self, words: list[str]) -> str:
        reference = words[-1]
        if any(container.reference == reference for container in self.everything()):
            raise Refused(f"Error response from daemon: conflict: unable to remove {reference}: it is being used")
        self.state.local.discard(reference)
        return ""

    def pull(self, reference: str, config: Path | None) -> str:
        registry = deploy_program.registry_of(reference)
        if reference not in self.public:
            text = (config / "config.json").read_text() if config else "{}"
            login = json.loads(text).get("auths", {}).get(registry, {}).get("auth", "")
            if not base64.b64decode(login).decode().endswith(f":{TOKEN}"):
                raise Refused(f"Error response from daemon: Head {registry}: unauthorized: authentication required")
        if reference not in self.images:
            raise Refused(f"Error response from daemon: manifest for {reference} not found: manifest unknown")
        self.state.local.add(reference)
        return f"{reference}\n"

    # What happens to a container

    def free_address(self, network: str) -> str:
        taken = {container.addresses.get(network) for container in self.everything()}
        block = sorted(self.state.networks).index(network) + 18
        return next(address for number in range(2, 255) if (address := f"172.{block}.0.{number}") not in taken)

    def start(self, container: Running) -> None:
        if container.is_running:
            return
        for other in self.everything():
            taken = set(other.ports) & set(container.ports) if other.is_running else set()
            for port, _ in taken:
                raise Refused(
                    f"Error response from daemon: failed to set up container networking: Bind for 0.0.0.0:{port}"
                    " failed: port is already allocated"
                )
        for network in container.aliases:
            container.addresses[network] = self.free_address(network)
        container.status, container.started_at = "running", self.state.clock
        container.is_stopped_by_hand = False

    def end(self, container: Running, code: int) -> None:
        container.status, container.exit_code = "exited", code
        container.addresses = {}
        if container.is_removed_when_stopped:
            self.remove(container)

    def remove(self, container: Running) -> None:
        del self.state.containers[container.id]

    def remove_own_volumes(self, container: Running) -> None:
        """Remove the volumes that Docker made for a container; Compose hands them on by their names, as named ones."""
        used = {mount.get("Name") for other in self.everything() for mount in other.mounts}
        self.state.volumes -= container.own_volumes - used

    # Compose

    def compose(self, words: list[str], stdin: str) -> str:
        if words == ["version", "--short"]:
            return f"{self.compose_version}\n"
        texts: list[str] = []
        folder, project = Path("."), ""
        assert words[:2] == ["--env-file", "/dev/null"], "nothing else may set variables"
        words = words[2:]
        while words[0].startswith("-"):
            option, value, *words = words
            if option == "-f":
                texts.append(stdin if value == "-" else Path(value).read_text())
            elif option == "-p":
                project = value
            elif option == "--project-directory":
                folder = Path(value)
        model = read_model(texts, folder, project)
        command = {
            "config": self.compose_config,
            "run": self.compose_run,
            "up": self.compose_up,
            "create": self.compose_create,
        }
        return command[words[0]](model, words[1:])

    def compose_config(self, model: Model, words: list[str]) -> str:
        if words == ["--format", "json"]:
            return printed(model)
        assert words[0] == "--hash"
        if words[1] not in model["services"]:
            raise Refused(f"no such service: {words[1]}")
        return f"{words[1]} {hash_of(model['services'][words[1]], self.hash_has_dependencies)}\n"

    def changed(self) -> None:
        """A step of Compose's is done."""
        self.settle()
        self.point()
        if self.compose_is_killed_at is not None:
            self.compose_is_killed_at -= 1
            if self.compose_is_killed_at == 0:
                self.compose_is_killed_at = None
                raise Refused("", code=-9)

    def compose_run(self, model: Model, words: list[str]) -> str:
        options, words = take_options(words, {"-l", "--name"})
        assert "-T" in options and "--no-deps" in options
        service = words[0]
        settings = model["services"][service]
        self.have_image(settings["image"])
        name = str(options["--name"])
        container = self.make(model, service, name, is_one_off=True)
        if "-l" in options:
            key, _, value = str(options["-l"]).partition("=")
            container.labels[key] = value
        self.changed()
        if "-d" in options:
            self.start(container)
            return container.id
        image = self.image_of(container)
        container.ends_after, container.ends_with = image.migration_seconds, image.migration_code
        self.start(container)
        self.state.migrations.append(settings["image"])
        self.wait(image.migration_seconds)
        if "--rm" in options and container.id in self.state.containers:
            self.remove(container)
            self.remove_own_volumes(container)
        if image.migration_code:
            raise Refused("", image.migration_code)
        return ""

    def compose_up(self, model: Model, words: list[str]) -> str:
        options, (service,) = take_options(words, {"--pull"})
        assert "-d" in options and "--no-deps" in options
        if options.get("--pull") != "never":
            self.have_image(model["services"][service]["image"])
        settings = self.without_dependencies(model, service)
        containers = self.containers_of(model["name"], service)
        for surplus in containers[1:]:
            self.do_stop([surplus.name])
            self.changed()
            self.remove(surplus)
            self.changed()
        if not containers:
            name = settings.get("container_name") or f"{model['name']}-{service}-1"
            container = self.make(model, service, name)
            self.changed()
        elif "--force-recreate" in options or (
            "--no-recreate" not in options and self.is_diverged(containers[0], settings)
        ):
            container = self.recreate(model, service, containers[0])
        else:
            container = containers[0]
        self.start(container)
        return ""

    def compose_create(self, model: Model, words: list[str]) -> str:
        options, (service,) = take_options(words, {"--pull", "--scale"})
        assert "--no-recreate" in options and options["--pull"] == "never"
        settings = model["services"][service]
        scaled, _, wanted = str(options["--scale"]).partition("=")
        assert scaled == service
        if settings.get("container_name") and int(wanted) > 1:
            raise Refused(
                f'WARNING: The "{service}" service is using the custom container name "{settings["container_name"]}".'
                " Docker requires each container to have a unique name. Remove the custom name to scale the service"
            )
        containers = self.containers_of(model["name"], service)
        number = max([int(container.labels[NUMBER]) for container in containers], default=0)
        for _ in range(int(wanted) - len(containers)):
            number += 1
            name = settings.get("container_name") or f"{model['name']}-{service}-{number}"
            self.make(model, service, name, number=number)
            self.changed()
        return ""

    def containers_of(self, project: str, service: str) -> list[Running]:
        return [
            container
            for container in self.everything()
            if (container.labels.get(PROJECT), container.labels.get(SERVICE)) == (project, service)
            and not container.is_one_off
        ]

    def without_dependencies(self, model: Model, service: str) -> Model:
        """A service as `--no-deps` leaves it."""
        settings: Model = model["services"][service]
        return {key: value for key, value in settings.items() if key != "depends_on"}

    def is_diverged(self, container: Running, settings: Model) -> bool:
        return container.labels.get(HASH) != hash_of(
            settings, self.hash_has_dependencies
        ) or container.image_id != image_id_of(settings["image"])

    def recreate(self, model: Model, service: str, old: Running) -> Running:
        """Replace a container, in Compose's steps."""
        number = int(old.labels[NUMBER])
        name = model["services"][service].get("container_name") or f"{model['name']}-{service}-{number}"
        new = self.make(model, service, f"{old.id[:12]}_{name}", number=number, successor_of=old)
        self.changed()
        self.do_stop([old.name])
        self.changed()
        self.remove(old)
        self.changed()
        self.refuse_taken_name(name)
        new.name = name
        self.changed()
        return new

    def have_image(self, reference: str) -> None:
        if reference not in self.state.local:
            self.pull(reference, None)

    def make(
        self,
        model: Model,
        service: str,
        name: str,
        is_one_off: bool = False,
        number: int = 1,
        successor_of: Running | None = None,
    ) -> Running:
        """Create a container for a service, perhaps with the volumes without a name of the one that it replaces."""
        settings = self.without_dependencies(model, service)
        reference = settings["image"]
        if reference not in self.state.local:
            raise Refused(f"Error response from daemon: No such image: {reference}")
        self.refuse_taken_name(name)
        networks: dict[str, list[str]] = {}
        for key, options in settings["networks"].items():
            network = model["networks"][key]
            self.have(self.state.networks, network, "network")
            configured = list((options or {}).get("aliases") or [])
            own_name = settings.get("container_name") or f"{model['name']}-{service}-{number}"
            networks[network["name"]] = [name] if is_one_off else [own_name, service, *configured]
        mounts = []
        for volume in settings["volumes"]:
            source = volume.get("source")
            if not source:
                continue  # Docker makes it, as it does for the image's
            if volume["type"] == "volume":
                declared = model["volumes"][source]
                self.have(self.state.volumes, declared, "volume")
                source = declared["name"]
                if "driver_opts" in declared:
                    self.devices[source] = declared["driver_opts"]["device"]
            mounts.append(
                {
                    "Type": volume["type"],
                    "Name": source if volume["type"] == "volume" else "",
                    "Source": source if volume["type"] == "bind" else f"/var/lib/docker/volumes/{source}/_data",
                    "Destination": volume["target"],
                    "RW": not volume.get("read_only"),
                }
            )
        inherited = {mount.get("Destination"): mount for mount in (successor_of.mounts if successor_of else [])}
        named = {mount.get("Destination") for mount in mounts}
        without_name = [volume["target"] for volume in settings["volumes"] if not volume.get("source")]
        for place in (*self.images[reference].volumes, *without_name):
            if place in inherited and place not in named:
                mounts.append(inherited[place])
        return self.add(
            name=name,
            reference=reference,
            labels={
                **dict(self.images[reference].labels),
                **settings["labels"],
                PROJECT: model["name"],
                SERVICE: service,
                ONE_OFF: str(is_one_off),
                HASH: hash_of(settings, self.hash_has_dependencies),
                NUMBER: str(number),
            },
            restart_policy="no" if is_one_off else settings.get("restart") or "no",
            aliases=networks,
            mounts=mounts,
            without_name=without_name,
            stop_timeout=seconds_in(settings.get("stop_grace_period")),
            environment=dict(settings.get("environment") or {}),
            ports=[] if is_one_off else [published(port) for port in settings["ports"]],
        )

    def have(self, present: set[str], settings: Model, kind: str) -> None:
        if settings.get("external") and settings["name"] not in present:
            raise Refused(f"{kind} {settings['name']} declared as external, but could not be found")
        present.add(settings["name"])

    def add(self, without_name: Sequence[str] = (), **settings: Any) -> Running:
        """Make a container, whoever does it; Docker makes volumes for these places, and for those of its image."""
        self.state.created += 1
        id = hashlib.sha256(str(self.state.created).encode()).hexdigest()
        reference = settings["reference"]
        container = Running(id=id, image_id=image_id_of(reference), **settings)
        places = [*self.image_of(container).volumes, *without_name]
        taken = {mount.get("Destination") for mount in container.mounts}
        own_volumes = [volume_without_name(id, place) for place in places if place not in taken]
        container.mounts.extend(own_volumes)
        container.own_volumes = frozenset(mount["Name"] for mount in own_volumes)
        self.state.volumes |= container.own_volumes
        self.state.containers[id] = container
        return container

    def run_by_hand(self, name: str, reference: str, network: str, **settings: Any) -> Running:
        """A container that a person started with `docker run`."""
        self.state.local.add(reference)
        self.state.networks.add(network)
        settings = {"labels": {}, "restart_policy": "unless-stopped", "mounts": [], "ports": [], **settings}
        container = self.add(name=name, reference=reference, aliases={network: []}, **settings)
        self.start(container)
        return container


def volume_without_name(container_id: str, place: str) -> Model:
    """A volume that Docker makes by itself, as it is mounted."""
    name = hashlib.sha256(f"{container_id} {place}".encode()).hexdigest()
    source = f"/var/lib/docker/volumes/{name}/_data"
    return {"Type": "volume", "Name": name, "Source": source, "Destination": place, "RW": True}


def seconds_in(period: object) -> int | None:
    """The seconds of a period such as 20m0s, as Compose prints it."""
    match = re.fullmatch(r"(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?", str(period or ""))
    hours, minutes, seconds = (int(number or 0) for number in match.groups()) if match else (0, 0, 0)
    return hours * 3600 + minutes * 60 + seconds or None


def published(port: Model) -> tuple[str, str]:
    """A port of the compose file, as a container has it."""
    address = f"{port['host_ip']}:" if port.get("host_ip") else ""
    return f"{address}{port['published']}", port["protocol"]


def bound(port: tuple[str, str]) -> tuple[str, str, str]:
    """The address, the number and the protocol of a published port."""
    address, _, number = port[0].rpartition(":")
    return address, number, port[1]


def restart_policy_of(policy: str) -> Model:
    """A restart policy as `docker inspect` prints it."""
    name, _, most_restarts = policy.partition(":")
    return {"Name": name, "MaximumRetryCount": int(most_restarts or 0)}


def compose_verb(words: list[str]) -> str:
    return next((word for word in words if word in ("config", "run", "up", "create", "version")), "")


def take_options(words: list[str], with_value: set[str]) -> tuple[dict[str, str | bool], list[str]]:
    """The options at the beginning of a command, and the words behind them."""
    options: dict[str, str | bool] = {}
    while words and words[0].startswith("-"):
        option, *words = words
        if option in with_value:
            options[option], *words = words
        else:
            options[option] = True
    return options, words
