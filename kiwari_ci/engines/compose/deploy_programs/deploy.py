#!/usr/bin/python3 -I
"""The kiwari-ci host program: it puts images into service on this server.

Exit code 0 of `deploy` and `rollback` means that every service of the request now runs the image
that was asked for, and is healthy.

A GitHub workflow calls it over SSH. The line of its key in ~/.ssh/authorized_keys allows this
program and no other:

    restrict,command="docker/bin/deploy STACK STACK:env" ssh-ed25519 AAAA...

STACK is a folder beside bin/ that has a docker-compose.yml. The key may send requests for each
STACK in that line. Whoever has it can run another image in place of a service, and so read all that
the service can read. With STACK:env after STACK, the key may also send env files, and with
STACK:push all other files. That is root: a compose file can mount the whole disk. These are the
requests:

    deploy 1 STACK SEQUENCE FILES_SHA256 RUN SERVICE=DIGEST...    put these images into service
    rollback STACK SERVICE [DIGEST]    go back to the image that served before, or to this one
    check STACK                        print what would make a deploy fail; change nothing
    cancel STACK                       end the deploy that is running, and undo the services that
                                       are half replaced. Finished ones keep the new image, and so
                                       does one that answers only with its new own container
    status [STACK]                     print what serves

A person on the server types the same: ~/docker/bin/deploy status.

SEQUENCE is the number of commits of the branch; where tags of several branches deploy, it is a
number made of the tag's version. A deploy leaves a service as it is if its recorded number is
higher, so that a slow run of an older commit never replaces a newer one. It ends with exit code 3
if the newer image answers, and with 1 if it does not. A rollback that a person types on the
server lowers the recorded number to the lowest one with which the image was deployed, or to 0 if it
names the image that is recorded already. A rollback with a key does not lower it.

For `deploy`, the first line of standard input is the registry token. After it, a key has to send a
line "BYTES SHA256", and a tar archive of that length. BYTES may be 0; then no archive follows.

Exit codes: 0 the images serve, 1 they do not, 3 a newer commit serves, 64 the request is refused,
65 the image is refused, 69 something on the server needs a person, 75 another deploy holds the
lock, 77 the registry refused the token. With 69, either the server was not ready for the request,
or the new version serves and something else is left to do, such as a hook that failed: the message
says so.

Files that this program writes:

    STACK/.deploys/SERVICE              a line for each deploy: image, sequence, time, run
    STACK/docker-compose.override.yml   pins each service to the recorded image, so that a
                                        `docker compose up` by hand starts the same image
    STACK/docker-compose.override.yml.before
                                        that file as a person had edited it, before a rollback
    STACK/.deploys/FILE.before-TIME     an env file before a deploy changed it: the first one, and
                                        the 50 newest
    STACK/.deploys/.mounts-SERVICE      the checksum of the files that the own container mounts, as
                                        they were when a deploy started it
    STACK/log/                          the output of each run
    STACK/.deploy.lock, .host.lock      who deploys to the stack, and who changes network aliases or
                                        removes images on this server

If a deploy is killed or the server loses its power, nothing goes on by itself, also not when the
server boots. The next deploy, rollback or rotation of the stack finishes or undoes what was
interrupted, before its own work. It reads for that:

    STACK/.deploys/.replacing-SERVICE   the id of the own container that the last deploy began to
                                        replace, and whether its successor is recorded
    STACK/.deploys/.set-aside-SERVICE   the id of the set-aside container, and how it ran
    STACK/.deploys/.replaced/           the old version of files that were replaced;
                                        .replaced.json names them, and those that had none
    STACK/.deploys/owed-hook.json       hooks/after has not run yet, or has failed
    STACK/.deploys/trial.yml            pins the images that have not proved themselves
    STACK/.deploys/incoming-*/          sent files that are not installed yet
    STACK/.deploys/.rotation.json       what bin/rotate was changing, and has not undone

The scripts STACK/hooks/before and STACK/hooks/after run around each deploy and rollback if the
compose file names them in the line "Files beside it". They have VERB, SERVICE and IMAGE in
their environment, and `after` has EXIT_CODE, too. SERVICE and IMAGE hold all names, separated by
spaces.

The containers of a service, by the names that this file uses for them. NAME is the container name
that the compose file gives to the service.

    own container         NAME           what Compose runs for the service; it serves
    temporary container   NAME-next      runs a new image beside the own container, and serves while
                                         the own container is replaced
    set-aside container   NAME-previous  the old container, renamed until the new one has proved
                                         itself; it comes back if the new one fails
    foreign container     NAME           has that name, but was not made by this stack
    retained container    NAME-before    a foreign container after its replacement: stopped, and
                                         never removed by this program
    accessory                            a database or the like: started if it does not run, never
                                         replaced
    one-shot                             a service that ends, such as one that copies files into a
                                         volume: it runs in NAME-next-run, which is removed

A one-shot runs before the services that depend on it, and after the migrations of the request, also
after that of a service that depends on it: a migration that fails then leaves everything as it was.
A one-shot serves, in the words of this file, if it ended with exit code 0; then its image is
recorded like that of a container that answers.

A container is healthy if it runs and answers the HTTP request in the label deploy.health. Without
that label, as for a worker, it has to go on running, and Docker's HEALTHCHECK must pass if it has
one.

How to read this file. After the constants and the data comes `main`, and after it `perform`,
`deploy`, `roll_back` and `roll_out`, which are its table of contents. They call the parts below,
which follow a deploy from the request to the record. Each part begins with its number, as "# 6.":

     1. Parse and authorize   what a line of words asks for, and whether its sender may do that
     2. Detach and log        the work goes on if the connection drops
     3. Lock                  one deploy of a stack at a time; `cancel`
     4. Recover               finish or undo what a killed deploy has left
     5. Receive               the token, and files if the key may send them
     6. Preflight             all reasons why the deploy cannot succeed; `check`
     7. Install the files     and restore the old ones if the deploy fails
     8. Pull                  by digest, then look at what came
     9. Accessories           start those that are missing
    10. Migrate               after a dump; and the hooks around a deploy
    11. Replace               the old containers, by new ones that have proved themselves
    12. Undo                  what was done for a service that fails
    13. Names                 which container gets the requests to a service
    14. Health                whether a container serves
    15. Record                what serves, pin it for Compose, remove old images
    16. Report                what serves now, as text and as JSON; `status`
    17. The stack             its compose file, containers, record and pins
    18. The machine           Docker, HTTP, memory, disk, clock: the only part that touches them
    19. Helpers               small functions without a subject of their own

This file is the same in every repository: `sha256sum bin/deploy` shows whether it was changed.
"""

import sys

if sys.version_info < (3, 8):
    sys.exit(
        "deploy: Python 3.8 or newer is needed, and this server has %d.%d" % sys.version_info[:2]
    )

import base64
import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import io
import ipaddress
import json
import os
import pwd
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import termios
import threading
import time
import traceback
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import (
    IO,
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Sequence,
    Set,
    TextIO,
    Tuple,
)

VERSION = "1.0"
PROTOCOL = 1
PROGRAM = "deploy"  # errors begin with it; bin/rotate, which uses this file, sets its own name

OK, SERVING, NOT_SERVING, SUPERSEDED = 0, 0, 1, 3
BAD_REQUEST, BAD_IMAGE, NOT_READY, LOCKED, TOKEN_REFUSED = 64, 65, 69, 75, 77

ROOT = Path(__file__).resolve().parent.parent
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MEMORY_FOLDER = Path("/dev/shm")  # files there are in memory, and gone after a boot

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
SERVICE_KEY = r"[A-Za-z0-9._-]+"  # in a compose file; a request names only those that are a NAME
DIGEST = r"sha256:[0-9a-f]{64}"
REQUESTS = [
    re.compile(
        r"(?P<verb>deploy) (?P<protocol>[1-9][0-9]{0,3})"
        rf" (?P<stack>{NAME}) (?P<sequence>[1-9][0-9]{{0,11}})"
        r" (?P<files>[0-9a-f]{64}) (?P<run>[0-9]{1,20})"
        rf"(?P<images>(?: {NAME}={DIGEST}){{1,100}})"
    ),
    re.compile(
        rf"(?P<verb>rollback) (?P<stack>{NAME}) (?P<service>{NAME})(?: (?P<digest>{DIGEST}))?"
    ),
    re.compile(rf"(?P<verb>check|cancel) (?P<stack>{NAME})"),
    re.compile(rf"(?P<verb>status)(?: (?P<stack>{NAME}))?"),
]

VERBS = {"deploy", "rollback", "check", "cancel", "status"}

COMPOSE_FILE = "docker-compose.yml"
PINS_FILE = "docker-compose.override.yml"
RENAMED_FOLDER_HINT = (
    "(if the folder has another name in the repository, deploy/RUNBOOK.md has the command, under 'A"
    " changed file under deploy/')"
)
ROTATION_NOTE = ".rotation.json"
HOST_LOCK = ".host.lock"  # in ROOT
PINS_HEAD = "# Written by bin/deploy: what serves. Compose reads it by itself.\nservices:\n"
PINS_LINE = re.compile(rf'  {SERVICE_KEY}: \{{(?:image: "[^"\\]+")?\}}\n')
PINNED_IMAGE = re.compile(r'image: "([^"]+)"')
RECORD_LINE = re.compile(rf"([^ ]+@{DIGEST}) ([0-9]+) ([^ ]+) ([^ ]+)")
ENV_FILE_LINE = re.compile(r"^ +env_file: \"?([^\s\"]+)\"?$", re.MULTILINE)
FILES_BESIDE_LINE = re.compile(r"^# Files beside it: (.+)$", re.MULTILINE)
# This program writes these itself, so a request may not send them.
OWN_FILES = (PINS_FILE, ".deploys", ".deploy.lock", "log")
# Compose would read these instead of docker-compose.yml, or in addition to it.
FILES_THAT_COMPOSE_READS = (
    "compose.yaml",
    "compose.yml",
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.yaml",
    "docker-compose.override.yaml",
)
# Proxies and Compose act on labels with these prefixes. An image could bring its own, and so take
# over the requests for another service's domain.
LABELS_OF_PROXIES_AND_COMPOSE = ("traefik.", "caddy", "com.docker.compose.")
VARIABLES_OF_PROXIES = (  # of nginx-proxy
    "VIRTUAL_HOST",
    "VIRTUAL_HOST_MULTIPORTS",
    "VIRTUAL_PORT",
    "VIRTUAL_PATH",
)

# Proxies that find containers by themselves, and by what. Of these, the temporary container cannot
# be hidden: neither proxy knows a label that says so.
LABEL_OF_CADDY_DOCKER_PROXY = re.compile(r"caddy(_[0-9]+)?(\..+)?")
VARIABLES_FOUND_BY_NGINX_PROXY = ("VIRTUAL_HOST", "VIRTUAL_HOST_MULTIPORTS")

# Many containers may mount these, for example the socket of Docker and the time zone.
FOLDERS_WITHOUT_DATA = ("/dev/", "/etc/", "/proc/", "/run/", "/sys/")

# Docker reports a registry's answer only as text.
SIGNS_OF_A_REFUSED_TOKEN = (
    "unauthorized",
    "denied",
    "authentication required",
    "no basic auth",
    " 401",
    " 403",
)
SIGNS_OF_A_MISSING_IMAGE = (
    "manifest unknown",
    "not found",
    "no matching manifest",
    "invalid reference",
)

# Time limits, in seconds. The compose file can set two of them for a service, by labels.
ANSWER_SECONDS = 5  # a container answers one request of the health check
START_SECONDS = 60  # a new container becomes healthy; label deploy.start-period
NAME_CACHE_SECONDS = 11  # a proxy keeps the address of a name; label deploy.name-cache
WATCHED_SECONDS = 3  # a new container stays healthy, at least, before it counts as serving
OBSERVED_SECONDS = 11  # a new container without a health check keeps running
LOCK_SECONDS = 600  # the longest wait for a lock
NEXT_START_SECONDS = 5  # Docker starts a container that failed again; it waits longer each time
CANCEL_SECONDS = 180  # a cancelled deploy undoes what it began
DOCKER_SECONDS = 120  # Docker answers again, after its own restart
QUERY_SECONDS = 60  # a docker command that only reads
CHANGE_SECONDS = 900  # a docker command that changes something; a stop has more, see there
END_SECONDS = 60  # a container ends after all that Docker could not stop
# All attempts to pull, for each image of a request, in one budget: the generated deploy job ends
# after ten minutes, and ten more for each service, so that pulls alone never outlast it.
PULL_SECONDS = 480
PULL_PAUSES = (5, 20, 0)  # the waits after failed attempts to pull; the third attempt is the last
SCRIPT_SECONDS = 3600  # a migration or a hook
DUMP_SECONDS = 6 * 3600  # a dump before a migration
HEALTHCHECK_SECONDS = 120  # Docker's own health check of an accessory or a worker passes

LOG_DAYS = 30
LOGGED_LINES = 40  # of a failed container's log
MOST_LINES_SHOWN, MOST_LETTERS_SHOWN = 10_000, 2_000  # of the output of other programs
MOST_BYTES_SENT, MOST_FILES_SENT = 64 * 1024 * 1024, 1000
ENV_BACKUPS_TO_KEEP = 50  # of each env file, beside the first one
IMAGES_TO_KEEP = 3  # for each service, to go back to
FREE_MEGABYTES = 1500
OLDEST_ENGINE, OLDEST_COMPOSE = (20, 10), (2, 20)

# Compose would read .env of the stack's folder by itself, and obey settings in it.
COMPOSE = ("compose", "--env-file", "/dev/null")
# Traefik finds containers by labels, which the temporary container has from the compose file, too:
# without this, Traefik would send it requests before it has proved itself. Nor does it need them
# later: the generated router leads to the name of the service, which the container then gets.
NOT_FOR_TRAEFIK = ("-l", "traefik.enable=false")

Json = Dict[str, Any]
HIDDEN_VALUES: List[str] = []  # texts of which `quote` prints only stars; bin/rotate fills it


class Failed(Exception):
    """The request has failed: the exit code, and a sentence that says why and what to do."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class TimedOut(Failed):
    """A docker command did not end within its time limit."""


class Cancelled(Failed):
    """A person cancelled this deploy, or the server is shutting down."""


@dataclasses.dataclass(frozen=True)
class Caller:
    """Who sent the request: a person on the server, or a deploy key with a list of its rights."""

    request: str
    is_key: bool
    allowed: Tuple[str, ...]  # STACK, STACK:env and STACK:push, from the line in authorized_keys


@dataclasses.dataclass(frozen=True)
class Request:
    """A request that was parsed, and what its sender may do."""

    verb: str
    stack: str = ""
    sequence: int = 0
    files_sha256: str = ""
    run: str = ""
    images: Dict[str, str] = dataclasses.field(default_factory=dict)
    is_from_key: bool = False
    may_send_env_files: bool = False
    may_send_files: bool = False


@dataclasses.dataclass
class Delivery:
    """What standard input brings: the registry token, and the archive of files if one is sent."""

    token: str = ""
    archive: Optional[IO[bytes]] = None


@dataclasses.dataclass(frozen=True)
class Output:
    """The exit code of a command, and what it printed."""

    code: int  # below zero if a signal ended the command
    out: str
    err: str

    @property
    def last_line(self) -> str:
        """The last line that it printed as an error, to quote it in a message."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return printable(lines[-1]) if lines else f"exit code {self.code}"


@dataclasses.dataclass(frozen=True)
class Record:
    """A line of a service's record: an image that was put into service."""

    image: str
    sequence: int
    time: str
    run: str

    def __str__(self) -> str:
        return f"{self.image} {self.sequence} {self.time} {self.run}"


NO_RECORD = Record(image="", sequence=0, time="", run="")  # of a service that has never served


@dataclasses.dataclass(frozen=True)
class Finding:
    """A reason why a deploy cannot succeed, and what a person does about it."""

    problem: str
    cure: str
    code: int = NOT_READY

    def __str__(self) -> str:
        return f"{self.problem}. {self.cure}"


@dataclasses.dataclass(frozen=True)
class Health:
    """The health check of a service.

    It is a request over HTTP, and the status that it expects; or, of kind "tcp", a connection; or,
    of kind "docker", the health check that Docker runs in the container.
    """

    kind: str
    port: int = 0
    path: str = ""
    status: int = 0
    host: str = ""  # the Host header that the proxy would send; empty if there is no domain
    scheme: str = "https"  # with which clients reach the proxy

    def __str__(self) -> str:
        if self.kind == "tcp":
            return f"a connection to port {self.port}"
        if self.kind == "docker":
            return "Docker's health check"
        return f"{self.path} on port {self.port} should answer {self.status}"


@dataclasses.dataclass(frozen=True)
class Port:
    """A published port of the server."""

    address: str  # empty: all addresses of the server
    number: str
    protocol: str

    def conflicts_with(self, other: "Port") -> bool:
        """Whether two containers cannot publish both."""
        is_same = (self.number, self.protocol) == (other.number, other.protocol)
        return is_same and (self.address == other.address or "" in (self.address, other.address))


@dataclasses.dataclass(frozen=True)
class Container:
    """A container as `docker inspect` describes it."""

    name: str
    id: str
    process: int
    image: str
    image_id: str
    status: str
    started_at: str
    exit_code: int
    restarts: int
    is_out_of_memory: bool
    docker_health: str  # of the image's own HEALTHCHECK; empty if it has none
    restart_policy: str
    is_removed_when_stopped: bool  # it was started with `docker run --rm`
    labels: Dict[str, str]
    networks: Dict[str, Json]
    mounts: Tuple[Json, ...]
    ports: Tuple[Port, ...]
    stop_seconds: int  # after `docker stop`, until Docker kills it

    @property
    def is_running(self) -> bool:
        """Whether Docker says that it runs."""
        return self.status == "running"

    @property
    def has_processes(self) -> bool:
        """Whether it may write to its volumes: a paused or restarting container may, too."""
        return self.status in ("running", "paused", "restarting")

    @property
    def starts_at_boot(self) -> bool:
        """Whether Docker starts it when the server boots, although a person stopped it."""
        return self.restart_policy.startswith(("always", "on-failure"))

    @property
    def project(self) -> str:
        """The Compose project that it belongs to."""
        return self.labels.get("com.docker.compose.project", "")

    @property
    def service(self) -> str:
        """The Compose service that it belongs to."""
        return self.labels.get("com.docker.compose.service", "")

    @property
    def is_one_off(self) -> bool:
        """Whether `docker compose run` made it; `docker compose up` ignores such containers."""
        return self.labels.get("com.docker.compose.oneoff") == "True"

    @property
    def addresses(self) -> List[str]:
        """Its addresses, those of IPv4 first."""
        settings = list(self.networks.values())
        addresses = [network.get("IPAddress") for network in settings]
        addresses += [network.get("GlobalIPv6Address") for network in settings]
        return [str(address) for address in addresses if address and address != "invalid IP"]

    @property
    def state_text(self) -> str:
        """Its state, for the log."""
        text = (
            f"{self.status} since {self.started_at}, {self.restarts} restarts,"
            f" exit code {self.exit_code}"
        )
        return f"{text}, out of memory" if self.is_out_of_memory else text

    def is_same_run(self, other: "Container") -> bool:
        """Whether it has not stopped, started or restarted since `other` was inspected."""
        mine = (self.id, self.started_at, self.restarts, self.status)
        return mine == (other.id, other.started_at, other.restarts, other.status)


@dataclasses.dataclass(frozen=True)
class SetAside:
    """What STACK/.deploys/.set-aside-SERVICE says about the set-aside container of a service."""

    id: str = ""  # of that container; empty if none is set aside
    restart: str = ""  # its restart policy, which it lacks meanwhile
    was_running: bool = False


@dataclasses.dataclass(frozen=True)
class Replacement:
    """What STACK/.deploys/.replacing-SERVICE says about the last replacement of an own container.

    It tells the new container from the old one by its id, because a deploy may change settings only:
    then both run the same image.
    """

    old_container: str = ""  # the id of the own container before; empty if there was none
    image: str = ""  # that the request asked for
    records: int = 0  # the lines that the record had
    is_recorded: bool = False  # also if that needed no new line, because only settings changed


@dataclasses.dataclass(frozen=True)
class ReplacedFiles:
    """What STACK/.deploys/.replaced.json says about the files that a deploy has replaced."""

    names: List[str] = dataclasses.field(
        default_factory=list
    )  # of those that may have to come back
    added: List[str] = dataclasses.field(default_factory=list)  # those that did not exist before
    is_installed: bool = False  # whether all new versions are in their place


@dataclasses.dataclass
class Service:
    """A service as the compose file describes it, and how far this request has come with it."""

    name: str
    model: Json
    image: str = ""  # the image that the request asks for, by digest; empty if it asks for none
    image_id: str = ""
    previous_image: str = ""  # the image that the record named when the request began
    is_own_replaced: bool = False  # its new own container runs
    new_temporary: str = ""  # the id of the temporary container that this request created
    result: str = ""  # serving, unchanged, superseded, failed, not started; empty while undecided
    problem: str = ""  # why it failed
    seconds: int = 0  # from the start of the request until the result was known

    @property
    def labels(self) -> Dict[str, str]:
        """Its labels in the compose file. Labels of the image must not control a deploy."""
        return {key: unescape(str(text)) for key, text in (self.model.get("labels") or {}).items()}

    @property
    def temporary_name(self) -> str:
        """The name of its temporary container."""
        return f"{self.container_name}-next"

    @property
    def set_aside_name(self) -> str:
        """The name of its set-aside container."""
        return f"{self.container_name}-previous"

    @property
    def retained_name(self) -> str:
        """The name of its retained container."""
        return f"{self.container_name}-before"

    @property
    def runs_once(self) -> bool:
        """Whether it is a one-shot: it ends, and its exit code is its result."""
        return "deploy.once" in self.labels

    @property
    def one_off_name(self) -> str:
        """The name of the container in which its migration runs, or itself if it is a one-shot."""
        return f"{self.container_name}-next-{'run' if self.runs_once else 'migrate'}"

    @property
    def repository(self) -> str:
        """Its image without tag and digest."""
        return repository_of(unescape(str(self.model.get("image", ""))))

    @property
    def is_accessory(self) -> bool:
        """Whether it is a database or the like, which a deploy starts and never replaces."""
        return "deploy.accessory" in self.labels

    @property
    def is_accessory_that_ends(self) -> bool:
        """Whether it is an accessory that does not go on running, but prepares something."""
        return self.labels.get("deploy.accessory") == "once"

    @property
    def health(self) -> Optional[Health]:
        """Its health check; a worker may have none, and then only has to run."""
        label = self.labels.get("deploy.health", "")
        if label == "healthcheck":
            return Health("docker")
        match = re.fullmatch(r"tcp:([0-9]+)", label)
        if match:
            return Health("tcp", int(match[1]))
        match = re.fullmatch(r":([0-9]+)(/\S*)(?: ([0-9]{3}))?", label)
        if not match:
            return None
        host = self.labels.get("deploy.host", "")
        scheme = self.labels.get("deploy.scheme", "https")
        return Health("http", int(match[1]), match[2], int(match[3] or 200), host, scheme)

    @property
    def is_start_first(self) -> bool:
        """Whether a new image first proves itself in a temporary container."""
        return self.health is not None and self.labels.get("deploy.rollout") != "recreate"

    @property
    def must_run_alone(self) -> bool:
        """Whether no other container may write to its data: it is a database, or the spec says so."""
        return self.is_accessory or self.labels.get("deploy.rollout") == "recreate"

    @property
    def can_temporary_serve(self) -> bool:
        """Whether requests can reach its temporary container, which publishes no ports."""
        return not self.published

    @property
    def start_seconds(self) -> int:
        """How long a new container may take to become healthy."""
        default = START_SECONDS if self.health else HEALTHCHECK_SECONDS
        return seconds_of(self.labels.get("deploy.start-period"), default)

    @property
    def name_cache_seconds(self) -> int:
        """How long the proxy in front may go on using an old address of a name."""
        return seconds_of(self.labels.get("deploy.name-cache"), NAME_CACHE_SECONDS)

    @property
    def watched_seconds(self) -> int:
        """How long a new own container is watched; some fail only after a few seconds."""
        return max(self.name_cache_seconds, WATCHED_SECONDS) if self.health else OBSERVED_SECONDS

    @property
    def restart_policy(self) -> str:
        """Docker's restart policy for it."""
        return str(self.model.get("restart") or "no")

    @property
    def dependencies(self) -> Set[str]:
        """The services that it depends on, by depends_on."""
        return set(self.model.get("depends_on") or {})

    @property
    def migrate(self) -> List[str]:
        """The migration: a command that runs in the new image before it serves."""
        return shlex.split(self.labels.get("deploy.migrate", ""))

    @property
    def backup(self) -> Optional[Tuple[str, str]]:
        """The server and the database that are dumped before its migration; None if none is."""
        server, _, database = self.labels.get("deploy.backup", "").partition("/")
        return (server, database) if self.migrate and database else None

    @property
    def container_name(self) -> str:
        """The name of its own container."""
        return str(self.model.get("container_name") or self.name)

    @property
    def networks(self) -> Dict[str, Json]:
        """Its networks, by their keys in the compose file, with its settings on each."""
        return {
            name: settings or {} for name, settings in (self.model.get("networks") or {}).items()
        }

    @property
    def published(self) -> List[Port]:
        """The ports that it publishes."""
        return [
            port_from(port.get("host_ip"), port["published"], port.get("protocol"))
            for port in self.model.get("ports") or []
            if port.get("published")
        ]

    def names_on(self, network: str) -> List[str]:
        """Its DNS names on a network, which is named by its key in the compose file."""
        aliases = self.networks[network].get("aliases") or []
        return list(dict.fromkeys([self.name, self.container_name, *aliases]))


def main() -> int:
    """Handle one request; the exit code."""
    caller = take_caller()
    request = parse_request(caller)
    machine = Machine()
    if request.verb == "status":
        return print_status(machine, request.stack)
    stack = open_stack(machine, request.stack, f"{ROOT}/bin/deploy {caller.request}")
    if request.verb == "check":
        return print_findings(stack)
    if request.verb == "cancel":
        return cancel(stack, request)
    delivery = read_delivery(request)
    return run_detached(stack, request, lambda: perform(stack, request, delivery))


def perform(stack: "Stack", request: Request, delivery: Delivery) -> int:
    """Deploy, or go back; the exit code."""

    def work(services: List[Service]) -> None:
        undo_interrupted_rotation(stack, request.verb)
        with stack.locked(request):
            recover(stack, request.verb)
            run_owed_hook(stack)
            if request.verb == "rollback":
                roll_back(stack, request, services)
            else:
                deploy(stack, request, delivery, services)

    return carry_out(stack, request, work)


def carry_out(stack: "Stack", request: Request, work: Callable[[List[Service]], None]) -> int:
    """Do the work of a request, which adds its services to a list; then print what serves now."""
    services: List[Service] = []
    message = ""
    try:
        work(services)
        code = exit_code_of(services)
        message = " ".join(service.problem for service in services if service.problem)
    except Exception as error:
        failure = as_failure(error)
        code, message = failure.code, failure.message
        print_error(message)
    ignore_cancel()  # what the services do now is decided, and only has to be printed
    images = {service.name: serving_image(stack, service) for service in services}
    print_outcome(stack, request, services, images, code)
    print_result(stack, services, images, code, message)
    return code


def deploy(stack: "Stack", request: Request, delivery: Delivery, services: List[Service]) -> None:
    """Put the images of a request into service.

    The checks, the pull and the installation of the files come in this order because a refused
    request, or an image that cannot be pulled, must leave the stack's folder as it was.
    """
    with old_files_come_back_after_failure(stack, services):
        with unpacked(stack, request, delivery) as files:
            services += resolve_services(stack, request, files)
            for service in services:
                mark_if_superseded(stack, service, request.sequence)
            to_deploy = undecided(services)
            if not to_deploy:
                return
            preflight(stack, request, to_deploy, files)
            pull_images(stack, to_deploy, delivery.token)
            install_files(stack, files)
        stack.read_compose_file()  # as it is now, in the stack's folder
        refuse_missing_env_files(stack)
        roll_out(stack, request, to_deploy)
    check_again(stack, services)
    # Last, because orphans do not stand in the way of the new version.
    refuse_orphans(stack, services)


def roll_back(stack: "Stack", request: Request, services: List[Service]) -> None:
    """Put an image into service that served before.

    A rollback skips the checks of a deploy, or only reports them: it is the way out of trouble.
    """
    stack.read_compose_file()
    name, digest = next(iter(request.images.items()))  # the grammar allows no second one
    service = stack.service(name)
    service.image = image_to_go_back_to(stack, service, digest)
    services.append(service)
    for finding in findings_of(stack, [service], stack.files):
        progress(f"note: {finding}")
    refuse_missing_env_files(stack)
    move_edited_pins_away(stack)
    # Pinned before the pull, so that the clean-up of another stack does not remove the image.
    stack.write_trial_pins()
    ensure_rollback_image(stack, service)
    roll_out(stack, request, [service])
    check_again(stack, services)


def refuse_missing_env_files(stack: "Stack") -> None:
    """Fail if Compose has read the compose file only without its env files."""
    if not stack.are_env_files_read:
        raise Failed(
            NOT_READY,
            "Compose cannot read the env files, and no container starts without them. See why on"
            f" the server: cd {stack.folder} && docker compose config -q",
        )


def check_again(stack: "Stack", services: List[Service]) -> None:
    """At the end, check all services again: one may have failed while others were replaced."""
    for service in services:
        if service.runs_once or service.result not in ("serving", "unchanged"):
            continue
        service.problem = problem_at_the_end(stack, service)
        if service.problem:
            service.result = "failed"
            print_error(service.problem)


def problem_at_the_end(stack: "Stack", service: Service) -> str:
    """Why requests to a service may be answered by another image, or not at all; empty if not."""
    own = stack.find(service.container_name)
    if not own or not stack.owns(own, service) or own.image_id != service.image_id:
        return f"{service.name} does not run {service.image} any more: somebody else replaced it"
    for other in containers_of_old_version(stack, service):
        if other.is_running:
            return (
                f"{other.name} could not be removed, and goes on answering requests for"
                f" {service.name} with its old image or settings: run the job again"
            )
    if not stays_healthy(stack, service):
        return f"{service.name} was healthy at first, and is not any more"
    return ""


def containers_of_old_version(stack: "Stack", service: Service) -> List[Container]:
    """Other containers that answer requests to a service, if they run, with its old version."""
    containers = []
    set_aside = set_aside_container(stack, service)
    if set_aside:
        containers.append(set_aside)
    temporary = stack.temporary(service)
    is_of_earlier_deploy = temporary is not None and temporary.id != service.new_temporary
    if temporary and is_of_earlier_deploy and has_service_names(stack, service, temporary):
        containers.append(temporary)
    return containers


def roll_out(stack: "Stack", request: Request, services: List[Service]) -> None:
    """Migrate, then replace the containers; a service comes after those that it depends on."""
    start_accessories(stack, services)
    with hooks(stack, request.verb, services):
        if request.verb == "deploy":
            migrate(stack, services)
        replace_in_order(stack, request, services)
        with cleaning_up():
            remove_old_images(stack, services)


def replace_in_order(stack: "Stack", request: Request, services: List[Service]) -> None:
    """Replace the containers; a service whose dependency has failed is left as it is."""
    for level in dependency_levels(services):
        for service in level:
            mark_if_dependency_failed(service, services)
        replace_containers(stack, request, undecided(level))


# 1. Parse and authorize: a request is one line in a fixed grammar, and a key has a list of stacks.


def take_caller() -> Caller:
    """Read the request, and replace the environment.

    The sender could otherwise control Docker and Compose by variables such as COMPOSE_FILE or
    DOCKER_HOST.
    """
    asked_by_key = os.environ.get("SSH_ORIGINAL_COMMAND")
    home = pwd.getpwuid(os.geteuid()).pw_dir
    os.environ.clear()
    os.environ.update(HOME=home, PATH=PATH, LC_ALL="C", DOCKER_CONTEXT="default")
    os.umask(0o077)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    if asked_by_key is None:
        return Caller(" ".join(sys.argv[1:]), is_key=False, allowed=())
    return Caller(asked_by_key, is_key=True, allowed=tuple(sys.argv[1:]))


def parse_request(caller: Caller) -> Request:
    """Parse a request, and refuse one that is malformed or that the key does not allow."""
    match = next(filter(None, (grammar.fullmatch(caller.request) for grammar in REQUESTS)), None)
    if not match:
        raise Failed(BAD_REQUEST, "unknown request: the top of bin/deploy lists the requests")
    fields = match.groupdict()
    stack = fields.get("stack") or ""
    if caller.is_key and not stack:
        raise Failed(BAD_REQUEST, "with a deploy key, name the stack: status STACK")
    for name in (fields["verb"], stack):
        # With a key and no command, the key's list of stacks looks like a request of a person.
        if name in VERBS and (ROOT / name).is_dir():
            raise Failed(
                NOT_READY,
                f"no stack may be called '{name}', which is a request. Rename its folder, in the"
                f" spec and here: {ROOT / name}",
            )
    if caller.is_key and stack not in caller.allowed:
        raise Failed(BAD_REQUEST, f"this key has no right to the stack '{stack}'")
    if int(fields.get("protocol") or PROTOCOL) > PROTOCOL:
        raise Failed(
            BAD_REQUEST,
            f"this server's bin/deploy speaks protocol {PROTOCOL}, and the workflow a newer one."
            f" Replace the program: {replace_command()}",
        )
    return Request(
        verb=fields["verb"],
        stack=stack,
        sequence=int(fields.get("sequence") or 0),
        files_sha256=fields.get("files") or "",
        run=fields.get("run") or fields["verb"],
        images=requested_digests(fields),
        is_from_key=caller.is_key,
        may_send_env_files=not caller.is_key or f"{stack}:env" in caller.allowed,
        may_send_files=not caller.is_key or f"{stack}:push" in caller.allowed,
    )


def requested_digests(fields: Dict[str, Any]) -> Dict[str, str]:
    """The digest that the request asks for, by service; empty for a rollback without a digest."""
    if fields["verb"] == "rollback":
        return {fields["service"]: fields["digest"] or ""}
    digests: Dict[str, str] = {}
    for pair in (fields.get("images") or "").split():
        service, _, digest = pair.partition("=")
        if service in digests:
            raise Failed(BAD_REQUEST, f"the request names {service} twice")
        digests[service] = digest
    return digests


def open_stack(machine: "Machine", name: str, command: str) -> "Stack":
    """The stack of that name; its folder must exist, and belong to the user who runs `command`."""
    folder = ROOT / name
    if not folder.is_dir():
        raise Failed(
            BAD_REQUEST,
            f"there is no stack '{name}' on this server. Copy it: {how_to_copy_stack(name)}",
        )
    owner = folder.stat().st_uid
    if owner != os.geteuid():
        # For example root: it would leave files that the deploy user cannot replace later.
        login = name_of_user(owner)
        raise Failed(
            NOT_READY, f"{folder} belongs to {login}. On the server: sudo -u {login} {command}"
        )
    return Stack(machine, folder)


# 2. Detach and log: a process of its own does the work, which goes on if the connection drops.


def run_detached(stack: "Stack", request: Request, work: Callable[[], int]) -> int:
    """Do the work in another process, which writes to a log file, and print that file meanwhile."""
    log = open_log(stack, request)
    child = os.fork()
    if child == 0:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, end_on_signal)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os._exit(run_to_the_end(work))
    return print_log_until_end(log, child)


def run_to_the_end(work: Callable[[], int]) -> int:
    """Do the work; an exception that nothing handled goes to the log, too."""
    try:
        return work()
    except BaseException:
        traceback.print_exc()
        return NOT_SERVING
    finally:
        with contextlib.suppress(OSError):  # a full disk does not change what serves
            sys.stdout.flush()
            sys.stderr.flush()


def open_log(stack: "Stack", request: Request) -> int:
    """Open a new log file that only this user can read, and remove old ones."""
    stack.state.mkdir(exist_ok=True)
    folder = stack.folder / "log"
    folder.mkdir(exist_ok=True)
    oldest = time.time() - LOG_DAYS * 86400
    for path in folder.iterdir():
        is_log = re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T", path.name) and not path.is_symlink()
        with contextlib.suppress(FileNotFoundError):
            if is_log and path.stat().st_mtime < oldest:
                path.unlink()
    names = "+".join(request.images)[:100]
    name = f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S}-{request.verb}-{names}-{os.getpid()}"
    return os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)


def print_log_until_end(log: int, child: int) -> int:
    """Print the log as it grows, until the child process ends. Ctrl-C here does not end that."""
    offset = 0
    code: Optional[int] = None
    try:
        while True:
            text = os.pread(log, 65536, offset)
            if text:
                offset += len(text)
                write_all(1, text)
            elif code is not None:
                return code
            else:
                time.sleep(0.1)
                code = exit_code_if_ended(child)
    except (BrokenPipeError, KeyboardInterrupt):
        # `cancel` ends the request that holds the lock, which may be another one.
        print_error(
            "the request goes on without you. bin/deploy cancel STACK ends it once it holds the lock;"
            f" while it still waits for another deploy, this ends it: kill {child}"
        )
        return NOT_SERVING


def exit_code_if_ended(child: int) -> Optional[int]:
    """The exit code of the child process; None while it runs."""
    ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        return None
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    print_error(
        f"the deploy was killed by signal {os.WTERMSIG(status)};"
        " the next deploy finishes or undoes what it began"
    )
    return NOT_SERVING


def end_on_signal(number: int, frame: object) -> None:
    """Cancel the deploy on SIGTERM; a second SIGTERM must not interrupt the clean-up."""
    ignore_cancel()
    raise Cancelled(NOT_SERVING, "the deploy was cancelled")


def ignore_cancel() -> None:
    """From now on a cancel (SIGTERM) comes too late.

    With SIG_IGN, hooks/after and all that it starts would ignore the signal, too: a program that is
    executed inherits it, but not a handler.
    """
    signal.signal(signal.SIGTERM, do_nothing_on_signal)


def do_nothing_on_signal(number: int, frame: object) -> None:
    """Go on."""


# 3. Lock: one deploy of a stack at a time. The kernel holds the lock until this program and the
# docker commands that it started have ended. Hooks do not inherit it, because a hook may start a
# process that runs on. A second lock, .host.lock, is for the whole server: it is held for a moment
# while network aliases change and while images are removed.


@contextlib.contextmanager
def locked(
    path: Path,
    purpose: str,
    keep_for_children: "Optional[Machine]" = None,
    is_from_key: bool = False,
) -> Iterator[None]:
    """Hold the lock of a file, and write into it who holds it."""
    handle = wait_for_lock(path)
    try:
        with contextlib.suppress(OSError):  # the disk may be full, and a rollback is needed
            write_holder(handle, purpose, is_from_key)
        if keep_for_children:
            keep_for_children.inherited = (handle,)
        yield
    finally:
        if keep_for_children:
            keep_for_children.inherited = ()
        os.close(handle)


def write_holder(handle: int, purpose: str, is_from_key: bool) -> None:
    """Write into a lock's file who holds it, over what is there: that needs no space on the disk."""
    holder = {
        "doing": purpose,
        "since": utc_now(),
        "pid": os.getpid(),
        "is_from_key": is_from_key,
    }
    text = (json.dumps(holder) + "\n").encode()
    os.pwrite(handle, text, 0)
    os.ftruncate(handle, len(text))


def wait_for_lock(path: Path) -> int:
    """Open and lock a file."""
    end = time.monotonic() + LOCK_SECONDS
    is_announced = False
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        if os.geteuid() == 0:
            # A stack of root uses the server's lock, too; the owner of bin/ must be able to open it.
            os.fchown(handle, path.parent.stat().st_uid, -1)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # If somebody removed the file meanwhile, another deploy may hold the lock of a new one.
            if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)
        if not is_announced:
            announce_wait(path)
            is_announced = True
        if time.monotonic() > end:
            raise Failed(
                LOCKED,
                f"this request waited {LOCK_SECONDS} seconds for: {holder_of(path)}."
                f" {way_to_end_holder(path)}",
            )
        time.sleep(0.3)


def announce_wait(path: Path) -> None:
    """Print who holds a lock, and what a person can do if it is not released."""
    progress(f"waiting for another deploy: {holder_of(path)}")
    if path != ROOT / HOST_LOCK:  # which no request holds for more than a moment
        progress(
            "if it hangs, this ends it, and it undoes what is half replaced:"
            f" {cancel_command(path.parent.name)}"
        )


def way_to_end_holder(path: Path) -> str:
    """A sentence for a person: how to end what holds a lock."""
    if path == ROOT / HOST_LOCK:
        return way_to_free_lock(path)
    return f"To end that one safely: {cancel_command(path.parent.name)}"


def holder_of(path: Path) -> str:
    """Who holds a lock, as text."""
    holder = read_json(path)
    return f"{holder.get('doing', 'unknown')}, since {holder.get('since', 'unknown')}"


def read_json(path: Path) -> Json:
    """Read a JSON object that this program wrote; {} if the file is missing or incomplete."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads(path.read_text())
        if isinstance(content, dict):
            return content
    return {}


def write_json(path: Path, content: Json) -> None:
    """Write a JSON object, for `read_json`."""
    write_file(path, json.dumps(content).encode(), 0o600)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file."""
    if not path.exists():
        return False
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(handle)


def cancel(stack: "Stack", request: Request) -> int:
    """End the deploy that holds the stack's lock; it undoes what it began, as after a failure.

    With a key, only what a key started: a stolen one must not keep a person from going back.
    """
    if not is_locked(stack.lock_file):
        print(f"no deploy of {stack.name} is running")
        return OK
    holder = read_json(stack.lock_file)
    if request.is_from_key and not holder.get("is_from_key"):
        raise Failed(
            BAD_REQUEST,
            f"a key cannot cancel what a person started: {holder_of(stack.lock_file)}."
            f" On the server: {cancel_command(stack.name)}",
        )
    process = int(holder.get("pid") or 0)
    if not process:
        # A full disk does not stop a deploy from taking the lock, only from writing this down.
        raise Failed(
            LOCKED,
            f"the lock does not name the process that holds it: {way_to_free_lock(stack.lock_file)}",
        )
    print(f"cancelling: {holder_of(stack.lock_file)}")
    if is_this_program(process):
        os.kill(process, signal.SIGTERM)
    else:
        print("the deploy itself was killed, and a command that it started goes on: waiting for it")
    end = time.monotonic() + CANCEL_SECONDS
    while is_locked(stack.lock_file) and read_json(stack.lock_file).get("pid") == process:
        if time.monotonic() > end:
            raise Failed(
                LOCKED,
                f"the lock is still held after {CANCEL_SECONDS} seconds:"
                f" {way_to_free_lock(stack.lock_file)}",
            )
        time.sleep(0.3)
    print("it has ended")
    return OK


def way_to_free_lock(path: Path) -> str:
    """Which processes hold a lock, and how to end them: usually a docker command that hangs.

    After that, this program goes on and undoes what it began. It is named itself only if it has
    started no command; or else it waits for the lock, or for the command.
    """
    processes = processes_that_opened(path)
    commands = [process for process in processes if not is_this_program(process)] or processes
    if not commands:
        return f"{path} is held by another user's process, which `sudo fuser -v {path}` names"
    names = [
        f"{process} ({printable(' '.join(arguments_of(process))[:80])})" for process in commands
    ]
    return (
        f"{path} is held by the process {', '.join(names)}. If it hangs, end it: kill -9"
        f" {' '.join(map(str, commands))}. The next deploy repairs what is left"
    )


def processes_that_opened(path: Path) -> List[int]:
    """The other processes of this user that have a file open."""
    processes = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is of another user
            opened = any(os.path.samefile(link, path) for link in (folder / "fd").iterdir())
            if opened and int(folder.name) != os.getpid():
                processes.append(int(folder.name))
    return sorted(processes)


def arguments_of(process: int) -> List[str]:
    """The words of the command that a process runs; none if it has ended."""
    try:
        text = Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return []
    return text.rstrip("\0").split("\0")


def is_this_program(process: int) -> bool:
    """Whether a process runs this program; an old process number may belong to another one now."""
    names = [os.path.basename(argument) for argument in arguments_of(process)[:4]]
    return "deploy" in names or "rotate" in names


# 4. Recover: finish or undo a deploy that was killed, or that a power cut ended.


def undo_interrupted_rotation(stack: "Stack", verb: str) -> None:
    """Let bin/rotate undo a rotation that was killed: its old env files come back first.

    A rollback, the way out of trouble, leaves it to a later request if that is not possible, for
    example because PostgreSQL does not run.
    """
    if not stack.rotation_note.exists():
        return
    try:
        program = installed_program("rotate", "rotations that were interrupted")
        output = stack.machine.show([program, "undo", stack.name], SCRIPT_SECONDS)
        if output.code == LOCKED:
            raise Failed(
                LOCKED,
                f"a rotation of {stack.name} is still running, and this request waited for its lock."
                f" To end it: {cancel_command(stack.name)}",
            )
        if output.code != 0:
            raise Failed(
                NOT_READY,
                f"a rotation of {stack.name} was interrupted, and could not be undone: bin/rotate"
                " says why",
            )
    except Cancelled:
        raise
    except Failed as failure:
        if verb != "rollback":
            raise
        progress(f"note: {failure.message}; the rollback goes on all the same")


def recover(stack: "Stack", verb: str) -> None:
    """Finish or undo the interrupted deploys of all services of the stack.

    A new container goes on serving if it is recorded, or if no old container is left to come back.
    Else the old one comes back; the temporary container serves if no other is healthy. Which
    container is new is known by its id: a deploy that changes only settings has no new image.

    If the program was killed while it replaced files, the old ones come back before anything reads
    them, because old and new ones are mixed. In all other cases, which ones come back depends on
    what serves, and so this is decided later.
    """
    stack.state.mkdir(exist_ok=True)
    remove_stale_tokens(stack)
    remove_stale_files(stack)
    # No compose file has been read yet, so no service is known to need the new files, and all old
    # ones come back. Without a note there are none.
    if not stack.replaced().is_installed:
        restore_interrupted_files(stack, verb)
    try:
        stack.read_compose_file()
    except Cancelled:
        raise
    except Failed as failure:
        # This request may bring a compose file that is right.
        progress(f"note: {failure.message}")
        return
    # A disk that is full may prevent both, and must not prevent that an old container comes back.
    with cleaning_up():
        write_pins_unless_edited(stack)
    with cleaning_up():
        restore_files(stack)
    for service in interrupted_services(stack):
        wait_for_interrupted_one_off(stack, service)
        if not service.runs_once:
            with uninterrupted(), cleaning_up():
                recover_service(stack, service)
    if restore_interrupted_files(stack, verb):
        stack.forget_replaced_files()
        forget_ended_replacements(stack)


def interrupted_services(stack: "Stack") -> List[Service]:
    """The services of which an interrupted deploy may have left something.

    Nearly always there are none, and one look at all containers shows that.
    """
    containers = stack.containers()
    return [
        service
        for service in stack.services.values()
        if not service.is_accessory and may_be_interrupted(stack, service, containers)
    ]


def may_be_interrupted(stack: "Stack", service: Service, containers: List[Container]) -> bool:
    """Whether a service has more than its own container, or one that never ran."""
    if stack.set_aside_note(service).id:
        return True
    return any(
        container.project == stack.name
        and container.service == service.name
        and (container.name != service.container_name or container.status == "created")
        for container in containers
    )


def forget_ended_replacements(stack: "Stack") -> None:
    """Remove the notes about replacements of which no other container is left."""
    for service in stack.services.values():
        if not stack.has_replacement(service):
            continue
        if not stack.set_aside_note(service).id and not stack.temporary(service):
            stack.forget_replacement(service)


def restore_interrupted_files(stack: "Stack", verb: str) -> bool:
    """Restore files that an interrupted deploy has replaced; whether that was possible.

    A rollback, the way out of trouble, goes on if it was not. A later deploy tries it again.
    """
    try:
        restore_files(stack)
    except Cancelled:
        raise
    except (Failed, OSError) as error:
        if verb != "rollback":
            raise
        progress(f"note: {as_failure(error).message}; the rollback goes on all the same")
        return False
    return True


def recover_service(stack: "Stack", service: Service) -> None:
    """Recover one service, so that exactly one of its containers goes on serving.

    The first line that is true decides what happens to the set-aside container:

        no set-aside and no temporary container      nothing: no deploy was replacing the service
        it has its old name again                    it is started: its return was interrupted
        the new own container is recorded            it is retired
        it exists                                    it comes back in place of the own container

    After that, the temporary container is removed, unless no other is healthy. If nothing serves
    then, the own container is created again from the recorded image.
    """
    repair_half_created_containers(stack, service)
    note = stack.set_aside_note(service)
    if not note.id and not stack.temporary(service):
        return  # no deploy was replacing it
    try:
        settle_containers(stack, service, note)
    finally:
        if is_deploy_unrecorded(stack, service):
            stack.unrecorded.add(service.name)


def settle_containers(stack: "Stack", service: Service, note: SetAside) -> None:
    """Do what `recover_service` describes, for a service that a deploy was replacing."""
    wait_until_started(stack, service)
    own = stack.find(service.container_name)
    if own and own.id == note.id:
        # The rename of the set-aside container was the last thing that happened.
        progress(f"an interrupted deploy was bringing back {service.name}: starting it")
        resume_old_container(stack, service)
    elif is_replacement_recorded(stack, service):
        retire_set_aside_container(stack, service)
    elif set_aside_container(stack, service):
        progress(
            f"an interrupted deploy was replacing {service.name}: the old container comes back"
        )
        let_temporary_container_answer(stack, service)
        bring_back_set_aside_container(stack, service)
    if not set_aside_container(stack, service):
        stack.forget_set_aside(service)
    remove_temporary_container_unless_needed(stack, service)
    go_back_if_nothing_serves(stack, service)


def is_replacement_recorded(stack: "Stack", service: Service) -> bool:
    """Whether the deploy that replaced the own container last came as far as its record."""
    if not stack.has_replacement(service):
        return False  # unknown; the old container is known to have served
    note = stack.replacement(service)
    return note.is_recorded or len(stack.record(service.name)) > note.records


def is_deploy_unrecorded(stack: "Stack", service: Service) -> bool:
    """Whether the newest line of the record names the image that a rollback goes back to.

    It does if an interrupted deploy ended before its record: that image served before. There is one
    exception: a deploy that changed only settings, and whose container goes on serving. Then the
    newest line names the image that serves, and a rollback goes back to the one before it.
    """
    if is_replacement_recorded(stack, service):
        return False
    if stack.replacement(service).image != stack.newest_record(service.name).image:
        return True
    own = stack.find(service.container_name)
    is_old_one_back = own is not None and not is_new_container(stack, service, own)
    return is_old_one_back and not stack.temporary(service)


def wait_until_started(stack: "Stack", service: Service) -> None:
    """Wait until the own or the temporary container is healthy: they may still be starting.

    After a boot, for example, a container that answers nothing yet may be the only one that works.
    """
    for _ in stack.machine.each_second(service.start_seconds):
        containers = [stack.find(service.container_name)]
        if service.can_temporary_serve:
            containers.append(stack.temporary(service))
        starting = [
            container.name for container in containers if container and container.is_running
        ]
        if not starting or any(is_healthy(stack, service, name) for name in starting):
            return


def let_temporary_container_answer(stack: "Stack", service: Service) -> None:
    """Lead requests to the temporary container while the own container is exchanged."""
    temporary = stack.temporary(service)
    if temporary and temporary.is_running and not all(are_names_given(stack, service, temporary)):
        give_service_names(stack, service)
        wait_for_name_caches(stack, service)


def remove_temporary_container_unless_needed(stack: "Stack", service: Service) -> None:
    """Remove the temporary container, unless it is the only one that is healthy."""
    if not stack.temporary(service):
        return
    if not service.can_temporary_serve:
        let_old_container_serve(stack, service)
    elif not stays_healthy(stack, service) and is_healthy(stack, service, service.temporary_name):
        let_temporary_container_serve(stack, service)
        return
    progress(f"removing {service.temporary_name}")
    remove_temporary_container(stack, service)


def let_old_container_serve(stack: "Stack", service: Service) -> None:
    """For a service that publishes ports: bring the old version back, if nothing else serves.

    The temporary container was only a proof of the new image, but by the service's names other
    containers reach it meanwhile. So this comes before its removal.
    """
    if not stays_healthy(stack, service):
        write_pins_unless_edited(stack)
        go_back_if_nothing_serves(stack, service)
        wait_until_started(stack, service)


def let_temporary_container_serve(stack: "Stack", service: Service) -> None:
    """Give all requests to the temporary container, until a deploy replaces it."""
    progress(
        f"{service.temporary_name} serves in place of {service.name}, until a deploy replaces it"
    )
    stack.set_restart_policy(service.temporary_name, service.restart_policy)
    give_service_names(stack, service)
    if stack.find(service.container_name):
        # It has the service's names too, and may restart in a loop: some requests would go there.
        stack.set_restart_policy(service.container_name, "no")
        stack.stop(service.container_name)


def stays_healthy(stack: "Stack", service: Service) -> bool:
    """Whether the own container is healthy, and remains so for a while if that is in doubt."""
    first = stack.find(service.container_name)
    if not first or lasting_problem_of(stack, service, first):
        return False
    seconds = OBSERVED_SECONDS if is_health_in_doubt(stack, service, first) else 0
    end = stack.machine.now() + seconds
    while stack.machine.now() < end:
        stack.machine.wait(1)
        current = stack.find(service.container_name)
        if not current or not current.is_same_run(first):
            return False
        if lasting_problem_of(stack, service, current):
            return False
    return True


def is_health_in_doubt(stack: "Stack", service: Service, own: Container) -> bool:
    """Whether an own container that is healthy at this moment may stop in the next seconds."""
    temporary = stack.temporary(service)
    if temporary and has_service_names(stack, service, temporary):
        return True  # it was being replaced, and a command of Docker's may be about to stop it
    if set_aside_container(stack, service):
        return True  # the same
    if own.restarts > 0 and not service.health:
        return True  # a worker that fails runs now and then, because Docker starts it again
    # A new container that has failed in this request may fail again.
    return service.result == "failed" and is_new_container(stack, service, own)


def repair_half_created_containers(stack: "Stack", service: Service) -> None:
    """Repair what an interrupted `docker compose up` left.

    Compose creates a new container with the name ID_NAME (ID: 12 digits of the old one's id),
    removes the old one, and renames and starts the new one. A container that never ran is removed.
    If NAME exists, a container ID_NAME is removed; if not, it is renamed to NAME.
    """
    current = stack.find(service.container_name)
    for container in stack.containers_of(service):
        is_renamed = re.fullmatch(
            rf"[0-9a-f]{{12}}_{re.escape(service.container_name)}", container.name
        )
        if container.status == "created" or (is_renamed and current):
            stack.remove(container.name)
        elif is_renamed:
            stack.rename(container.name, service.container_name)
            current = container


def set_aside_container(stack: "Stack", service: Service) -> Optional[Container]:
    """The set-aside container; the note has its id, for the name alone could be anybody's."""
    note = stack.set_aside_note(service)
    if not note.id:
        return None
    container = stack.find(service.set_aside_name)
    return container if container and container.id == note.id else None


def wait_for_interrupted_one_off(stack: "Stack", service: Service) -> None:
    """Wait for the migration of an interrupted deploy: two at once could harm the database."""
    end = stack.machine.now() + SCRIPT_SECONDS
    while True:
        container = stack.find(service.one_off_name)
        if not container or not stack.is_temporary(container, service):
            return
        if not container.has_processes:
            stack.remove_with_volumes(service.one_off_name)
            return
        if stack.machine.now() > end:
            raise Failed(
                LOCKED, f"{service.one_off_name} of an interrupted deploy is still running"
            )
        progress(f"waiting for {service.one_off_name}, which an interrupted deploy started")
        stack.machine.wait(5)


def remove_stale_tokens(stack: "Stack") -> None:
    """Remove registry tokens in memory that a killed deploy of this stack left."""
    for folder in MEMORY_FOLDER.glob(f"{stack.token_prefix}*") if MEMORY_FOLDER.is_dir() else ():
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid == os.geteuid() and not folder.is_symlink():
                remove_folder(folder)


def remove_stale_files(stack: "Stack") -> None:
    """Remove files that a killed deploy had received, or had begun to write."""
    for folder in stack.state.glob("incoming-*"):
        remove_folder(folder)
    remove_half_written_files(stack.folder, stack.state)


def remove_half_written_files(*folders: Path) -> None:
    """Remove the files that `write_file` had begun to write when it was killed."""
    for folder in folders:
        for path in folder.glob(".new-*"):
            path.unlink()


def run_owed_hook(stack: "Stack") -> None:
    """Run hooks/after if it failed, or if its deploy was killed: it may end a maintenance mode."""
    if not stack.owed_hook.exists():
        return
    settings = read_json(stack.owed_hook)
    if "EXIT_CODE" in settings:
        progress("hooks/after failed after an earlier deploy: it runs again")
    else:
        progress("an interrupted deploy did not run hooks/after: it runs now")
        settings["EXIT_CODE"] = "137"  # as of a program that was killed
    if run_hook(stack, "after", settings) == 0:
        stack.owed_hook.unlink()
    else:
        progress("hooks/after failed: correct it; the next deploy runs it again")


# 5. Receive: the token, and files if the key may send them. Nothing is unpacked before its length
# and its checksum were compared with those that were announced.


def read_delivery(request: Request) -> Delivery:
    """Read standard input: the line of the token, a line "BYTES SHA256", and that many bytes.

    A person may leave out the second line.
    """
    if request.verb != "deploy":
        return Delivery()
    with without_echo():
        token = read_line(10).strip()
    if not token:
        raise Failed(BAD_REQUEST, "there is no registry token on standard input")
    if os.isatty(0):
        return Delivery(token)
    header = read_line(10).strip()
    if not header and not request.is_from_key:
        return Delivery(token)
    match = re.fullmatch(r"([0-9]{1,12}) ([0-9a-f]{64})", header)
    if not match:
        # This line is required also without files. Otherwise a connection that breaks before it
        # would look like a request that sends none.
        raise Failed(
            BAD_REQUEST, "the line after the token is not `BYTES SHA256`: run the job again"
        )
    length = int(match[1])
    if length == 0:
        return Delivery(token)
    if not (request.may_send_env_files or request.may_send_files):
        raise Failed(
            BAD_REQUEST,
            f"this key may send no files: its line has neither {request.stack}:env"
            f" nor {request.stack}:push",
        )
    if length > MOST_BYTES_SENT:
        raise Failed(
            BAD_REQUEST, f"{length} bytes of files are too many: the limit is {MOST_BYTES_SENT}"
        )
    return Delivery(token, read_archive(length, match[2]))


def read_archive(length: int, checksum: str) -> IO[bytes]:
    """Read that many bytes into a temporary file, and compare their checksum."""
    archive = tempfile.TemporaryFile()  # noqa: SIM115 - it is read later, and closed at the end
    digest = hashlib.sha256()
    missing = length
    while missing:
        is_ready = bool(select.select([0], [], [], QUERY_SECONDS)[0])
        block = os.read(0, min(missing, 65536)) if is_ready else b""
        if not block:
            raise Failed(
                BAD_REQUEST,
                f"the files did not arrive whole: {missing} bytes are missing. Run the job again",
            )
        archive.write(block)
        digest.update(block)
        missing -= len(block)
    if digest.hexdigest() != checksum:
        raise Failed(
            BAD_REQUEST,
            "the files that arrived do not have the checksum that the job announced. Run the job again",
        )
    archive.seek(0)
    return archive


def read_line(seconds: int) -> str:
    """Read a line of standard input, with its line break; without one if it ends before, or is late.

    It is read byte by byte, because a buffer would swallow the archive that follows.
    """
    end = time.monotonic() + seconds
    line = b""
    while len(line) < 65536:
        try:
            if not select.select([0], [], [], max(0.0, end - time.monotonic()))[0]:
                break
            byte = os.read(0, 1)
        except OSError:
            break
        line += byte
        if byte in (b"", b"\n"):
            break
    return line.decode(errors="replace")


@contextlib.contextmanager
def without_echo() -> Iterator[None]:
    """Hide what a person types: it is the token."""
    if not os.isatty(0):
        yield
        return
    original = termios.tcgetattr(0)
    silent = termios.tcgetattr(0)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(0, termios.TCSAFLUSH, silent)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSAFLUSH, original)


@contextlib.contextmanager
def unpacked(stack: "Stack", request: Request, delivery: Delivery) -> Iterator["Files"]:
    """The stack's files as they will be after this deploy: sent ones replace those of the server.

    If any service of the stack serves a newer commit, the files that were sent are ignored. If the
    key may send all files, those of the server are of that newer commit: the checksum of this
    request is then not compared with them.
    """
    if not delivery.archive:
        yield stack.files
        return
    newest = stack.newest_sequence()
    if request.sequence < newest:
        progress(
            f"the files that were sent are ignored: the server has those of commit number {newest},"
            " which is newer"
        )
        yield Files(stack.folder, are_newer=request.may_send_files)
        return
    folder = Path(tempfile.mkdtemp(prefix="incoming-", dir=stack.state))
    try:
        files = Files(stack.folder, folder)
        unpack(delivery.archive, folder)
        refuse_names_not_allowed(request, files)
        files.complete()
        yield files
    finally:
        remove_folder(folder)


def unpack(archive: IO[bytes], folder: Path) -> None:
    """Unpack an archive of plain files into a folder."""
    remaining = MOST_BYTES_SENT
    try:
        with tarfile.open(fileobj=archive, mode="r:") as tar:
            for count, entry in enumerate(tar):
                remaining -= entry.size
                if count >= MOST_FILES_SENT or entry.size < 0 or remaining < 0:
                    raise Failed(BAD_REQUEST, "too many or too large files were sent")
                unpack_file(tar, entry, folder)
    except (tarfile.TarError, FileExistsError, NotADirectoryError) as error:
        raise Failed(BAD_REQUEST, f"the files are not a valid tar archive: {error}") from error


def unpack_file(tar: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path) -> None:
    """Unpack one plain file with a plain name."""
    content = tar.extractfile(entry) if entry.isreg() else None
    if not content or not is_plain_name(entry.name) or entry.name.split("/")[0] in OWN_FILES:
        name = printable(entry.name)
        raise Failed(BAD_REQUEST, f"only plain files with plain names may be sent, not '{name}'")
    target = folder / entry.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as copy:
        shutil.copyfileobj(content, copy)
    target.chmod(0o600 if is_env_file(entry.name) else 0o755 if entry.mode & 0o100 else 0o644)


def is_plain_name(name: str) -> bool:
    """Whether a relative name has only harmless characters, and stays below its folder."""
    parts = name.split("/")
    is_plain = all(re.fullmatch(r"[A-Za-z0-9._-]+", part) for part in parts)
    return is_plain and not {".", ".."} & set(parts)


def is_env_file(name: str) -> bool:
    """Whether the name of a file is that of an env file, which may hold secrets."""
    return name.endswith(".env") and "/" not in name


def refuse_names_not_allowed(request: Request, files: "Files") -> None:
    """Refuse files that this key may not send, and files that the compose file does not name."""
    names = files.names()
    # Both compose files count: a file that either of them reads as an env file may have secrets. A
    # compose file itself never is one, so a key for env files cannot send a compose file that
    # declares other files to be env files.
    env_files = {*files.env_files(), *Files(files.installed).env_files()}
    env_files -= {COMPOSE_FILE, *FILES_THAT_COMPOSE_READS}
    for name in files.sent():
        is_env = is_env_file(name) or name in env_files
        if is_env and not request.may_send_env_files:
            raise Failed(
                BAD_REQUEST,
                "this key may not send env files: its line in authorized_keys has no"
                f" {request.stack}:env",
            )
        if not is_env and not request.may_send_files:
            raise Failed(
                BAD_REQUEST,
                "this key may send env files only: its line in authorized_keys has no"
                f" {request.stack}:push",
            )
        if name not in names:
            raise Failed(BAD_REQUEST, f"{name} was sent, but the compose file does not name it")
        if is_env:
            (files.folder / name).chmod(0o600)


class Files:
    """The files of a stack: the compose file, its env files, and the files beside it.

    "Beside it" are files such as hooks and mounted configuration, which a comment at the top of the
    compose file names. `incoming` is a folder with sent files that are not installed yet.
    """

    def __init__(
        self, installed: Path, incoming: Optional[Path] = None, are_newer: bool = False
    ) -> None:
        self.installed = installed
        self.folder = incoming or installed
        # Whether they are of a newer commit than the request: its checksum then cannot match.
        self.are_newer = are_newer

    def text(self) -> str:
        """The compose file; empty if there is none."""
        for folder in (self.folder, self.installed):
            if (folder / COMPOSE_FILE).is_file():
                return (folder / COMPOSE_FILE).read_text("utf-8", "replace")
        return ""

    def beside(self) -> List[str]:
        """The names of the files beside the compose file."""
        match = FILES_BESIDE_LINE.search(self.text())
        try:
            return shlex.split(match[1]) if match else []
        except ValueError as error:
            raise Failed(
                NOT_READY,
                f"the line 'Files beside it' of {COMPOSE_FILE} has a quote without its partner."
                " Generate the compose file again: kiwari-ci generate",
            ) from error

    def env_files(self) -> List[str]:
        """The names of the env files that lie in the stack's folder."""
        names = set(ENV_FILE_LINE.findall(self.text()))
        return sorted(name for name in names if is_plain_name(name))

    def names(self) -> List[str]:
        """The names of all files of the stack."""
        return [COMPOSE_FILE, *self.beside(), *self.env_files()]

    def sent(self) -> List[str]:
        """The names of the files that were sent."""
        if self.folder == self.installed:
            return []
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.folder)) for path in files)

    def complete(self) -> None:
        """Copy the files that were not sent to the sent ones: Compose reads them together."""
        for name in self.names():
            target = self.folder / name
            if not target.exists() and (self.installed / name).is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.installed / name, target)

    def checksum(self) -> str:
        """The checksum that `sha256sum docker-compose.yml FILES_BESIDE | sha256sum` prints."""
        return checksum_of_files(self.folder, [COMPOSE_FILE, *self.beside()])

    def changed(self) -> List[str]:
        """The names of the files that were sent, and that differ from those of the server.

        The other files have a copy among them, which differs in nothing.
        """
        return [
            name
            for name in self.sent()
            if not is_same_file(self.folder / name, self.installed / name)
        ]

    def install(self, names: Iterable[str]) -> None:
        """Copy files that were sent into the stack's folder."""
        env_files = self.env_files()
        for name in names:
            if name in env_files and (self.installed / name).is_file():
                self.back_up(name)
            install_file(self.folder / name, self.installed, name)
            progress(f"installed {name}")

    def back_up(self, name: str) -> None:
        """Copy an env file before it is replaced: it may be the only copy of a secret.

        The first backup of all is kept, and the newest ones: no number of bad files that are sent
        removes the secrets with which the stack began.
        """
        prefix = f"{name.replace('/', '-')}.before-"
        backup = (
            self.installed / ".deploys" / f"{prefix}{datetime.now(timezone.utc):%Y%m%dT%H%M%S.%fZ}"
        )
        write_file(backup, (self.installed / name).read_bytes(), 0o600)
        _, *later = sorted(backup.parent.glob(f"{prefix}*"))
        for path in later[:-ENV_BACKUPS_TO_KEEP]:
            path.unlink()


# 6. Preflight: find all reasons why the deploy cannot succeed, before anything changes.


def resolve_services(stack: "Stack", request: Request, files: Files) -> List[Service]:
    """The services of a request, as the compose file describes them."""
    stack.read_compose_file(files)
    services = []
    for name, digest in request.images.items():
        service = stack.service(name)
        service.image = f"{service.repository}@{digest}"
        services.append(service)
    return services


def mark_if_superseded(stack: "Stack", service: Service, sequence: int) -> None:
    """Give a service the result `superseded` if a newer commit serves."""
    newest = stack.newest_record(service.name)
    if sequence >= newest.sequence:
        return
    if not service.runs_once and not runs_image(stack, service, newest.image):
        # The newer commit fails, but only a person may decide that an older one replaces it.
        raise Failed(
            NOT_SERVING,
            f"commit number {sequence} is older than commit number {newest.sequence}, which was"
            f" deployed last to {service.name} and does not serve now. Deploy the newest commit"
            f" again, or go back: {rollback_command(stack, service)}",
        )
    progress(
        f"{service.name}: commit number {newest.sequence} serves, which is newer than {sequence}"
    )
    progress(
        f"if number {newest.sequence} is wrong, type on the server:"
        f" {rollback_command(stack, service, newest.image)} keeps this image and resets the number;"
        f" {rollback_command(stack, service)} goes back to the image before it"
    )
    service.result = "superseded"


def runs_image(stack: "Stack", service: Service, image: str) -> bool:
    """Whether its own container runs that image and is healthy."""
    current = stack.find(service.container_name)
    is_recorded = current and stack.owns(current, service) and current.image == image
    return bool(is_recorded) and is_healthy(stack, service)


def preflight(stack: "Stack", request: Request, services: List[Service], files: Files) -> None:
    """Refuse a deploy that cannot succeed, and print everything that a person has to do first."""
    findings = list(findings_of(stack, services, files))
    if files.checksum() != request.files_sha256 and not files.are_newer:
        findings.append(
            Finding(
                "the compose file on this server, or a file beside it, differs from the commit's",
                f"Copy it and run the job again: {how_to_copy_stack(stack.name)}",
            )
        )
    for service in services:
        findings += check_promotion(service)
    findings += check_registries(services)
    findings += check_disk(stack)
    refuse_findings(findings)


def refuse_findings(findings: List[Finding]) -> None:
    """Refuse a request for these reasons, if there are any."""
    if len(findings) == 1:
        raise Failed(findings[0].code, str(findings[0]))
    for finding in findings:
        print_error(str(finding))
    if findings:
        problems = "; ".join(finding.problem for finding in findings)
        raise Failed(findings[0].code, f"{len(findings)} problems prevent a deploy: {problems}")


def findings_of(stack: "Stack", services: Sequence[Service], files: Files) -> Iterator[Finding]:
    """The reasons why no deploy of these services could succeed."""
    yield from check_versions(stack)
    yield from check_compose_files(stack)
    yield from check_pins(stack)
    yield from check_env_files(stack, files)
    yield from check_networks_and_volumes(stack)
    containers = stack.containers()
    for service in services:
        yield from check_settings(service)
        yield from check_labels(service)
        yield from check_temporary_names(stack, service, containers)
        yield from check_holder_of_name(stack, service, containers)
        yield from check_ports(stack, service, containers)
        yield from check_one_shots(stack, service, services)
    accessories = [service for service in stack.services.values() if service.is_accessory]
    needed = needed_by(stack, services)
    for accessory in accessories:
        if accessory.name in needed:
            yield from check_ports(stack, accessory, containers)
    for service in [*services, *accessories]:
        yield from check_volumes_in_use(stack, service, containers)


def print_findings(stack: "Stack") -> int:
    """`check`: print why a deploy of the whole stack would fail."""
    stack.read_compose_file()
    services = [service for service in stack.services.values() if not service.is_accessory]
    findings = [*findings_of(stack, services, stack.files), *check_disk(stack)]
    for finding in findings:
        print_error(str(finding))
    if stack.rotation_note.exists():
        progress(unfinished_rotation(stack))
    for container in orphans(stack):
        progress(orphan_note(stack, container))
    if findings:
        return findings[0].code
    print(f"{stack.name} is ready for a deploy")
    return SERVING


def check_versions(stack: "Stack") -> Iterator[Finding]:
    """Docker Engine and Compose must be installed, and new enough."""
    engine = stack.engine()
    if version_of(str(engine.get("Version", ""))) < OLDEST_ENGINE:
        yield Finding(
            f"Docker Engine is {engine.get('Version') or 'unknown'}",
            f"{version_text(OLDEST_ENGINE)} or newer is needed",
        )
    output = stack.machine.docker("compose", "version", "--short")
    if output.code != 0 or version_of(output.out.strip()) < OLDEST_COMPOSE:
        yield Finding(
            f"Docker Compose is {output.out.strip() or 'missing'}",
            f"{version_text(OLDEST_COMPOSE)} or newer is needed: install the package"
            " docker-compose-plugin",
        )


def check_compose_files(stack: "Stack") -> Iterator[Finding]:
    """No other compose file may be in the folder: `docker compose up` by hand would read it."""
    for name in FILES_THAT_COMPOSE_READS:
        if os.path.lexists(stack.folder / name):
            yield Finding(
                f"{stack.folder / name} is in the way: Compose would read it",
                f"Move it away: mv {stack.folder / name} {stack.folder / name}.before",
            )


def check_pins(stack: "Stack") -> Iterator[Finding]:
    """The override file must be one that this program wrote, and that nobody has edited."""
    path = stack.folder / PINS_FILE
    if not os.path.lexists(path):
        return
    text = path.read_text("utf-8", "replace")
    lines = text[len(PINS_HEAD) :].splitlines(keepends=True)
    if not text.startswith(PINS_HEAD) or not all(PINS_LINE.fullmatch(line) for line in lines):
        yield Finding(
            f"{path} has lines that bin/deploy did not write, and would overwrite",
            f"Move them to the spec, specs/*.yaml, then move the file away: mv {path} {path}.before",
        )


def write_pins_unless_edited(stack: "Stack") -> None:
    """Pin the recorded images; what a person wrote into that file stays for the preflight."""
    if not any(check_pins(stack)):
        stack.write_pins()


def move_edited_pins_away(stack: "Stack") -> None:
    """Rename an override file that a person has edited, before this program writes its own."""
    if not any(check_pins(stack)):
        return
    path = stack.folder / PINS_FILE
    path.rename(f"{path}.before")
    progress(f"moved {path} to {path}.before: bin/deploy writes its own")


def check_env_files(stack: "Stack", files: Files) -> Iterator[Finding]:
    """Each env file must be complete, and mean to Compose what a person reads in it."""
    for name in files.env_files():
        path = files.folder / name
        shown = f"{stack.name}/{name}"
        if not path.is_file():
            yield Finding(f"{shown} is missing", f"Create it on the server, from {name}.example")
            continue
        lines = read_env_lines(path)
        yield from check_env_lines(shown, lines)
        yield from check_env_example(shown, lines, stack.folder / f"{name}.example")
        yield from check_env_values(stack, path, shown, lines)


@dataclasses.dataclass(frozen=True)
class EnvLine:
    """A line of an env file: its number, its key, and its value as a person reads it."""

    number: int
    key: str  # empty if the line is not KEY=VALUE
    env_value: str

    @property
    def shown_key(self) -> str:
        """The key, for a message; one of an unusual form may be part of a secret."""
        return self.key if re.fullmatch(r"[A-Z][A-Z0-9_]{0,63}", self.key) else "the key"


def read_env_lines(path: Path) -> List[EnvLine]:
    """The lines of an env file, without empty ones and comments."""
    lines = []
    for number, line in enumerate(path.read_text("utf-8-sig", "replace").split("\n"), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = re.fullmatch(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*[=:]\s*(.*)", text)
        lines.append(
            EnvLine(number, match[1], without_quotes(match[2]))
            if match
            else EnvLine(number, "", "")
        )
    return lines


def without_quotes(text: str) -> str:
    """The text inside a pair of quotes, or the text itself if there is no such pair."""
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text


def check_env_lines(shown: str, lines: List[EnvLine]) -> Iterator[Finding]:
    """Each line must be KEY=VALUE, filled in, and no setting of Docker or Compose itself."""
    first_numbers: Dict[str, int] = {}
    for line in lines:
        first = first_numbers.setdefault(line.key, line.number)
        if not line.key:
            yield Finding(
                f"{shown}:{line.number} is not KEY='value' on one line",
                "Correct it; keep a value of several lines in base64",
            )
        elif first != line.number:
            yield Finding(
                f"{shown}:{line.number}: {line.shown_key} is set in line {first}, too",
                "Remove one of the two lines",
            )
        elif "change-me" in line.env_value:
            yield Finding(
                f"{shown}:{line.number}: {line.shown_key} still has change-me", "Fill it in"
            )
        elif line.key.startswith(("COMPOSE_", "DOCKER_")) and shown.endswith("/.env"):
            yield Finding(
                f"{shown}:{line.number}: {line.shown_key} is a setting of Compose or Docker itself",
                "Remove the line",
            )


def check_env_example(shown: str, lines: List[EnvLine], example: Path) -> Iterator[Finding]:
    """Each key of the example file must be in the env file."""
    if not example.is_file():
        return
    present = {line.key for line in lines}
    for line in read_env_lines(example):
        if line.key and line.key not in present:
            yield Finding(f"{shown} lacks {line.key}, which {example.name} has", "Add it")


def check_env_values(
    stack: "Stack", path: Path, shown: str, lines: List[EnvLine]
) -> Iterator[Finding]:
    """Compose must read the same variables and values that a person sees.

    It replaces `$NAME` in a value, for example.
    """
    model = {"name": "env", "services": {"env": {"image": "env", "env_file": [str(path)]}}}
    output = stack.machine.docker(
        *COMPOSE, "-f", "-", "config", "--format", "json", stdin=json.dumps(model)
    )
    if output.code != 0:
        # The error of Compose is not shown, because it may quote a password.
        yield Finding(
            f"Compose cannot read {shown}",
            f"See why on the server: cd {stack.folder} && docker compose config -q",
        )
        return
    environment = json.loads(output.out)["services"]["env"].get("environment") or {}
    last_lines = {line.key: line for line in lines if line.key}
    for key, line in last_lines.items():
        if unescape(str(environment.get(key) or "")) != line.env_value:
            yield Finding(
                f"{shown}:{line.number}: Compose reads another value for {line.shown_key} than"
                " the line shows",
                "Put the value between single quotes, with none inside, and a comment on its"
                " own line",
            )
    if set(environment) - set(last_lines):
        # After a closing quote, Compose reads another KEY=VALUE from the same line.
        yield Finding(
            f"Compose reads more variables from {shown} than it has lines",
            "Write each variable on a line of its own",
        )


def check_networks_and_volumes(stack: "Stack") -> Iterator[Finding]:
    """External networks and volumes, which Compose does not create, must exist."""
    for kind in ("network", "volume"):
        for settings in (stack.model.get(f"{kind}s") or {}).values():
            name = str((settings or {}).get("name", ""))
            if (settings or {}).get("external") and stack.machine.docker(
                kind, "inspect", name
            ).code != 0:
                yield Finding(
                    f"the {kind} {name} is missing", f"Create it: docker {kind} create {name}"
                )


def check_holder_of_name(
    stack: "Stack", service: Service, containers: Sequence[Container]
) -> Iterator[Finding]:
    """The container that has the service's name must be one that a deploy can replace."""
    holder = find_container(containers, service.container_name)
    if not holder or service.runs_once:
        return  # a one-shot runs in a container of another name
    if stack.owns(holder, service):
        yield from check_hidden_data(stack, service, holder)
    else:
        yield from check_foreign_container(stack, service, containers, holder)


def check_foreign_container(
    stack: "Stack", service: Service, containers: Sequence[Container], holder: Container
) -> Iterator[Finding]:
    """A foreign container is taken over, if that is safe and can be undone."""
    is_of_other_stack = holder.project and (ROOT / holder.project / ".deploys").is_dir()
    if is_of_other_stack and holder.project != stack.name:
        yield Finding(
            f"the stack {holder.project} also has a service with the container name {holder.name}",
            "Give one of the two another container name in the spec",
        )
    if holder.is_removed_when_stopped:
        yield Finding(
            f"{holder.name} was started with `docker run --rm`, so Docker would remove it when a"
            " deploy stops it, and it could not come back if the new version fails",
            f"Start it without --rm, or stop it yourself: docker stop {holder.name}",
        )
    if find_container(containers, service.retained_name):
        yield Finding(
            f"{holder.name} was not made by this stack, and a deploy would rename it to"
            f" {service.retained_name}, which exists already",
            f"Remove that container if you do not need it: docker rm -f {service.retained_name}",
        )
    if set_aside_container(stack, service):
        yield Finding(
            f"{holder.name} was not made by this stack, and {service.set_aside_name} is the old"
            " container of an interrupted deploy",
            f"Keep one of the two: docker rm -f {service.set_aside_name}, or docker rm -f"
            f" {holder.name}",
        )
    yield from check_lost_data(stack, service, holder)


def check_one_shots(
    stack: "Stack", service: Service, services: Sequence[Service]
) -> Iterator[Finding]:
    """The one-shots that a service depends on have run to their end, or run in this request."""
    requested = {other.name for other in services}
    for name in sorted(service.dependencies - requested):
        one_shot = stack.services.get(name)
        if one_shot and one_shot.runs_once and not stack.newest_record(name).image:
            yield Finding(
                f"{service.name} depends on {name}, which has never run to its end",
                f"Deploy {name} first, then run the job again",
            )


def check_settings(service: Service) -> Iterator[Finding]:
    """The service must be one container, with a name by which deploys find it."""
    if not service.model.get("container_name"):
        yield Finding(f"{service.name} has no container_name", "Add it to the compose file")
    replicas = (service.model.get("deploy") or {}).get("replicas", service.model.get("scale", 1))
    if replicas != 1:
        yield Finding(
            f"{service.name} has {replicas} replicas in the compose file, and a deploy starts one",
            "Remove `replicas` and `scale` there",
        )


def check_labels(service: Service) -> Iterator[Finding]:
    """The labels that control this program must be valid."""
    labels = service.labels
    invalid = [] if service.health or "deploy.health" not in labels else ["deploy.health"]
    for label in ("deploy.start-period", "deploy.name-cache"):
        if label in labels and not re.fullmatch("[0-9]{1,5}", labels[label]):
            invalid.append(label)
    if labels.get("deploy.rollout", "recreate") != "recreate":
        invalid.append("deploy.rollout")
    if labels.get("deploy.scheme", "http") not in ("http", "https"):
        invalid.append("deploy.scheme")
    try:
        shlex.split(labels.get("deploy.migrate", ""))
    except ValueError:  # a quote without its partner
        invalid.append("deploy.migrate")
    for label in invalid:
        yield Finding(
            f"the label {label} of {service.name} is not valid",
            "Generate the compose file again: kiwari-ci generate",
        )


def check_temporary_names(
    stack: "Stack", service: Service, containers: Sequence[Container]
) -> Iterator[Finding]:
    """The names that a deploy gives to other containers of a service must not be somebody else's."""
    names = [] if service.runs_once else [service.temporary_name, service.set_aside_name]
    if service.runs_once or "deploy.migrate" in service.labels:
        names.append(service.one_off_name)
    for name in names:
        other = find_container(containers, name)
        if other and not stack.owns(other, service) and not stack.is_temporary(other, service):
            yield Finding(
                f"{name} was not made by a deploy, and deploys of {service.name} need that name",
                f"Give that container another name: docker rename {name} OTHER",
            )


def check_lost_data(stack: "Stack", service: Service, holder: Container) -> Iterator[Finding]:
    """The compose file must mount all named volumes and folders of a foreign container.

    An anonymous volume stays with the retained container.
    """
    mounted = {writable_source(stack, volume) for volume in service.model.get("volumes") or []}
    lost = sorted(writable_sources(holder) - mounted)
    if lost:
        yield Finding(
            f"{holder.name} was not made by this stack, and has volumes that the compose file does"
            f" not mount: {', '.join(lost)}",
            "Add them to the spec first, or the service would start without its data",
        )


def check_hidden_data(stack: "Stack", service: Service, holder: Container) -> Iterator[Finding]:
    """No other volume may be mounted over an anonymous one, whose data would be gone for it."""
    volumes = {volume.get("target"): volume for volume in service.model.get("volumes") or []}
    for mount in holder.mounts:
        volume = volumes.get(mount.get("Destination"), {})
        if is_anonymous_volume(mount) and volume.get("source"):
            name, target = holder.name, mount["Destination"]
            old, new = mount["Name"], writable_source(stack, volume) or volume["source"]
            copying = f"docker run --rm -v {old}:/old:ro -v {new}:/new alpine cp -a /old/. /new/"
            yield Finding(
                f"{name} has its data of {target} in a volume without a name, and the compose file"
                f" mounts {new} there",
                f"Copy the data, then run the job again: docker stop {name} && {copying} &&"
                f" docker rm {name}",
            )


def overlaps(source: str, sources: Set[str]) -> bool:
    """Whether a volume or folder equals, contains or lies in one of these."""
    return any(
        source == other or source.startswith(f"{other}/") or other.startswith(f"{source}/")
        for other in sources
    )


def writable_sources(container: Container) -> Set[str]:
    """The named volumes, and the folders of the server, that a container can write to."""
    sources = {
        str(mount.get("Name") or mount.get("Source"))
        for mount in container.mounts
        if mount.get("RW", True)
    }
    return {source for source in sources if not re.fullmatch("[0-9a-f]{64}", source)}


def is_anonymous_volume(mount: Json) -> bool:
    """Whether a mount is an anonymous volume, whose name Docker made up: 64 digits."""
    name = str(mount.get("Name") or "")
    return mount.get("Type") == "volume" and re.fullmatch("[0-9a-f]{64}", name) is not None


def check_ports(
    stack: "Stack", service: Service, containers: Sequence[Container]
) -> Iterator[Finding]:
    """No other container, and no program of the server, may hold a port that the service publishes.

    Docker would notice only when it starts the new container, perhaps after the old one was stopped.
    """
    holding = [container for container in containers if container.has_processes]
    own = find_container(holding, service.container_name)
    for port in service.published:
        for container in holding:
            is_other = container is not own and not stack.owns(container, service)
            if is_other and any(port.conflicts_with(other) for other in container.ports):
                yield Finding(
                    f"{service.name} publishes port {port.number}, which {container.name} uses",
                    f"Stop that container, or publish another port: docker stop {container.name}",
                )
    if own and "host" in own.networks:
        return  # it may hold the port itself, without publishing it, and it is replaced
    published = [port for container in holding for port in container.ports]
    for port in service.published:
        if is_held_by_program(port, stack.machine.listening_ports(), published):
            yield Finding(
                f"{service.name} publishes port {port.number}/{port.protocol}, on which a program"
                " listens that is not in a container",
                "Stop that program, or publish another port. This names it: sudo ss -lnptu"
                f" 'sport = :{port.number}'",
            )


def is_held_by_program(port: Port, listening: List[Port], published: List[Port]) -> bool:
    """Whether something else than Docker, which listens for its containers, holds a port."""
    return any(
        port.conflicts_with(other) and not any(map(other.conflicts_with, published))
        for other in listening
    )


def check_volumes_in_use(
    stack: "Stack", service: Service, containers: Sequence[Container]
) -> Iterator[Finding]:
    """No other container may write to the data of a service that must not run twice.

    Two databases on one volume destroy the data. If the service's own container runs, the deploy
    adds no second one to what is there.
    """
    if not service.must_run_alone:
        return
    own = find_container(containers, service.container_name)
    is_running_on = own is not None and own.has_processes
    if is_running_on and not service.is_accessory_that_ends:
        return
    if own and service.is_accessory and not stack.owns(own, service):
        yield Finding(
            f"{own.name} exists, does not run, and was not made by this stack",
            f"If you need its data, start it: docker start {own.name}."
            f" Otherwise remove it: docker rm {own.name}",
        )
        return
    sources = {writable_source(stack, volume) for volume in service.model.get("volumes") or []}
    folders_of_volumes = stack.folders_of_volumes() if sources - {""} else {}
    places = {place_of(source, folders_of_volumes) for source in sources - {""}}
    places = {place for place in places if not place.startswith(FOLDERS_WITHOUT_DATA)}
    for container in containers:
        if container is own or is_of_stack(stack, container):
            continue
        shared = sorted(
            source
            for source in writable_sources(container)
            if overlaps(place_of(source, folders_of_volumes), places)
        )
        if shared:
            yield from check_second_writer(service, container, ", ".join(shared))


def check_second_writer(service: Service, container: Container, shared: str) -> Iterator[Finding]:
    """A container that has the same data must not run, and Docker must not start it at a boot."""
    cure = f"docker update --restart no {container.name} && docker stop {container.name}"
    if container.has_processes:
        yield Finding(
            f"{container.name} runs on {shared}, which {service.name} would use, too",
            f"To let this stack take it over, stop that container, then run the job again: {cure}",
        )
    elif container.starts_at_boot:
        yield Finding(
            f"{container.name} is stopped, but Docker starts it again when the server boots, on"
            f" {shared}, which {service.name} would use, too",
            f"To let this stack take it over, run this, then run the job again: {cure}",
        )


def is_of_stack(stack: "Stack", container: Container) -> bool:
    """Whether Compose or a deploy made it for a service of this stack.

    One that a person started with `docker compose run` is not meant.
    """
    service = stack.services.get(container.service)
    if container.project != stack.name or not service:
        return False
    return not container.is_one_off or container.name == service.temporary_name


def place_of(source: str, folders_of_volumes: Dict[str, str]) -> str:
    """Where the data of a volume or folder are: one folder may be known by several names."""
    folder = folders_of_volumes.get(source, source)
    return os.path.realpath(folder) if folder.startswith("/") else folder


def writable_source(stack: "Stack", volume: Json) -> str:
    """Docker's name of a volume of the compose file, or a folder; empty if it is read-only."""
    if volume.get("read_only"):
        return ""
    if volume.get("type") == "volume":
        settings = (stack.model.get("volumes") or {}).get(volume.get("source")) or {}
        return str(settings.get("name") or volume.get("source") or "")
    return str(volume.get("source") or "") if volume.get("type") == "bind" else ""


def check_promotion(service: Service) -> Iterator[Finding]:
    """With the label deploy.from, only an image that served in that other stack may be deployed."""
    source, _, name = service.labels.get("deploy.from", "").partition("/")
    digest = digest_of(service.image)
    if source and all(
        digest_of(record.image) != digest
        for record in read_record(ROOT / source / ".deploys" / name)
    ):
        yield Finding(
            f"{source}/{name} has never served {digest}",
            "Deploy it there first, then run the job again",
            BAD_IMAGE,
        )


def check_registries(services: Sequence[Service]) -> Iterator[Finding]:
    """All images must come from one registry: another one must not see the token."""
    registries = sorted({registry_of(service.image) for service in services})
    if len(registries) > 1:
        yield Finding(
            f"the images are in several registries, {' and '.join(registries)}, and the token is"
            " for one of them",
            "Set one registry in the spec, and copy the compose file",
            BAD_REQUEST,
        )


def check_disk(stack: "Stack") -> Iterator[Finding]:
    """There must be space for another image."""
    folder = str(stack.machine.json("info", "--format", "{{json .}}").get("DockerRootDir") or "/")
    free = stack.machine.free_megabytes(folder)
    if free < FREE_MEGABYTES:
        yield Finding(
            f"Docker has {free} MB left on {folder}, and {FREE_MEGABYTES} are needed",
            "Free some space (docker system df), then run the job again",
        )


def orphans(stack: "Stack") -> List[Container]:
    """Running containers of this Compose project that belong to no service of the compose file.

    One that another compose file made belongs to a service or an accessory if it has its name.
    """
    names = [service.container_name for service in stack.services.values()]
    return [
        container
        for container in stack.containers()
        if container.project == stack.name
        and not container.is_one_off
        and container.is_running
        and container.service not in stack.services
        and container.name not in names
    ]


def orphan_note(stack: "Stack", container: Container) -> str:
    """A note about an orphan; no advice to remove it, because it may be somebody's database."""
    return (
        f"note: {container.name} runs in the project {stack.name},"
        " but belongs to no service of the compose file. It stays as it is: no deploy starts, stops"
        " or removes it. Never use --remove-orphans here, which removes it"
    )


def refuse_orphans(stack: "Stack", services: List[Service]) -> None:
    """Fail if a service that was removed from the compose file still runs.

    It is not removed here: its domain may still lead to it. If a service of the request does not
    serve, that is why the request fails, and orphans are only reported.
    """
    deployed = []
    for container in orphans(stack):
        if any(label.startswith("deploy.") for label in container.labels):
            deployed.append(container.name)
        else:
            progress(orphan_note(stack, container))
    if not deployed:
        return
    names = " ".join(sorted(deployed))
    report = (
        f"containers of services that the compose file no longer has still run: {names}. Point their"
        f" domains elsewhere, then: docker rm -f {names}"
    )
    if exit_code_of(services) == NOT_SERVING:
        progress(f"note: {report}")
    else:
        raise Failed(NOT_READY, f"the new version serves, but {report}")


# 7. Install the files that were sent, once the images are there. No symbolic link is followed.


def install_file(source: Path, folder: Path, name: str) -> None:
    """Copy one file into a stack's folder; refuse to write through a symbolic link.

    A file that a container may mount is overwritten in place, because a container that runs would
    go on seeing the old file if a new one took its name.
    """
    refuse_symbolic_links(folder, name)
    content, mode = source.read_bytes(), source.stat().st_mode & 0o777
    with named_in_errors(folder / name), folder_of(folder, name) as parent:
        target = parent / Path(name).name
        if not target.exists() or name == COMPOSE_FILE or is_env_file(name):
            write_file(target, content, mode)
            return
        with os.fdopen(os.open(target, os.O_RDWR | os.O_NOFOLLOW), "r+b") as stream:
            # A full disk has to show before the old content is gone.
            os.posix_fallocate(stream.fileno(), 0, max(len(content), 1))
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.truncate()
            sync(stream)


def remove_file(folder: Path, name: str) -> None:
    """Remove a file of a stack's folder, if it is there, through no symbolic link."""
    refuse_symbolic_links(folder, name)
    with folder_of(folder, name) as parent:
        (parent / Path(name).name).unlink(missing_ok=True)


def refuse_symbolic_links(folder: Path, name: str) -> None:
    """Fail if a file below a stack's folder, or a folder that it is in, is a symbolic link."""
    for place in places_below(folder, name):
        if place.is_symlink():
            raise Failed(
                NOT_READY,
                f"{place} is a symbolic link, which is never followed. Remove it, then run the job"
                " again",
            )


@contextlib.contextmanager
def folder_of(folder: Path, name: str) -> Iterator[Path]:
    """Open the folder of a file below a stack's folder, and create it if it is missing.

    A container that mounts a folder could put a link into it after the check above. So each folder
    is opened without following a link, and the path that is returned leads to what is open.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in name.split("/")[:-1]:
            is_new = not os.path.lexists(f"/proc/self/fd/{handle}/{part}")
            if is_new:
                os.mkdir(part, dir_fd=handle)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
            inner = os.open(part, flags, dir_fd=handle)
            os.close(handle)
            handle = inner
            if is_new:
                os.fchmod(handle, 0o755)  # a container may run as another user
        yield Path(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


def install_files(stack: "Stack", files: Files) -> None:
    """Install the files that were sent, after a copy of those that they replace.

    The copies are for the old version, which may have to serve again. A note names the files; it is
    written before the first one is replaced, so that the next deploy can go on from any moment.
    """
    changed = files.changed()
    if not changed:
        return
    if not (stack.folder / COMPOSE_FILE).is_file():
        files.install(changed)  # the first files of this stack: there is no old version
        return
    # Before the note is written: a file that cannot be replaced could not be restored either.
    for name in changed:
        refuse_symbolic_links(stack.folder, name)
    remove_folder(stack.old_versions)
    stack.old_versions.mkdir(mode=0o700)
    added = []
    for name in changed:
        old, copy = stack.folder / name, stack.old_versions / name
        if old.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_file(copy, old.read_bytes(), old.stat().st_mode & 0o777)
        else:
            added.append(name)
    stack.write_replaced(ReplacedFiles(changed, added, is_installed=False))
    files.install(changed)
    stack.write_replaced(ReplacedFiles(changed, added, is_installed=True))


@contextlib.contextmanager
def old_files_come_back_after_failure(stack: "Stack", services: List[Service]) -> Iterator[None]:
    """Restore replaced files at the end of a deploy in which a service fails."""
    try:
        yield
    except Exception:
        decide_about_replaced_files(stack, services)
        raise
    decide_about_replaced_files(stack, services)


def decide_about_replaced_files(stack: "Stack", services: List[Service]) -> None:
    """At the end of a deploy: restore the replaced files, or remove their copies."""
    with uninterrupted(), cleaning_up():
        for service in services:
            service.result = result_of(service)
        if exit_code_of(services) == NOT_SERVING:
            restore_files(stack)
        stack.forget_replaced_files()


def restore_files(stack: "Stack") -> None:
    """Restore the replaced files that no service needs which runs the new version."""
    names = files_to_restore(stack)
    for name in names:
        restore_file(stack, name)
    stack.settle_replaced(names)
    if COMPOSE_FILE in names and stack.services:
        stack.read_compose_file()
        write_pins_unless_edited(stack)
    for service in stack.services.values():
        report_other_version_of_files(stack, service, names)


def restore_file(stack: "Stack", name: str) -> None:
    """Restore the old version of a file; remove a file that did not exist before the deploy."""
    copy = stack.old_versions / name
    if name in stack.replaced().added:
        progress(f"{name} is removed: it did not exist before this deploy")
        remove_file(stack.folder, name)
    elif copy.is_file():
        progress(f"{name}: the version before this deploy comes back")
        install_file(copy, stack.folder, name)
    else:
        progress(
            f"note: {name} stays as it is, because the copy of its old version is missing: {copy}."
            " Compare it with the file of the commit that serves now"
        )


def report_other_version_of_files(stack: "Stack", service: Service, restored: List[str]) -> None:
    """Say so if a service runs with another version of these files than the restored one.

    Its old container came back while another service could still need the new version of the files;
    that service failed later. The container is not started again for that, because it serves.
    """
    recorded = stack.recorded_mounts(service)
    mounted = [name for name in restored if stack.mounts(service, name)]
    if mounted and recorded and recorded != stack.mounted_checksum(service):
        progress(
            f"note: {service.name} was started with a version of {', '.join(mounted)} that is not"
            f" there any more: the next deploy of {service.name} replaces its container"
        )


def files_to_restore(stack: "Stack") -> List[str]:
    """The names of the replaced files of which the old version comes back.

    If no service needs the new version, these are all. If some services need it, these are only the
    files that another service mounts, and none of them does: the compose file, for example, stays
    the new one.
    """
    names = stack.replaced().names
    if not names:
        return []
    new = [service for service in stack.services.values() if may_need_new_files(stack, service)]
    if not new:
        return names
    return names_that_only_others_mount(stack, names, new)


def files_that_stay(stack: "Stack") -> Set[str]:
    """The names of the replaced files of which the old version never comes back.

    These are all, except the files that only services mount which do not run the new version. Such
    a service may still wait for its turn, and fail later: then these files come back with it.
    """
    new = [
        service
        for service in stack.services.values()
        if may_need_new_files(stack, service) and not may_still_fail(service)
    ]
    names = stack.replaced().names
    return set(names) - set(names_that_only_others_mount(stack, names, new))


def names_that_only_others_mount(
    stack: "Stack", names: List[str], services: List[Service]
) -> List[str]:
    """Those of the files that a service mounts, but none of these services."""
    others = [service for service in stack.services.values() if service not in services]
    return [
        name
        for name in names
        if any(stack.mounts(service, name) for service in others)
        and not any(stack.mounts(service, name) for service in services)
    ]


def may_still_fail(service: Service) -> bool:
    """Whether this request has not decided yet what becomes of a service."""
    return bool(service.image) and not service.is_accessory and not service.result


def may_need_new_files(stack: "Stack", service: Service) -> bool:
    """Whether a service runs the new version, or will be started with it later.

    The first line that is true decides:

        it is an accessory                                    no: a deploy never replaces it
        it serves the new version                             yes
        its temporary container may serve                     yes
        this request has still to replace it                  yes
        no own container, or the old one can still come back  no
        it has failed                                         if its new container is kept
        a deploy has replaced its container                   yes
    """
    if service.is_accessory:
        return False
    if service.result == "serving":
        return True
    if service.can_temporary_serve and stack.temporary(service):
        return True
    if may_still_fail(service):
        return True
    own = stack.find(service.container_name)
    if not own or not stack.owns(own, service) or set_aside_container(stack, service):
        return False
    is_new = is_new_container(stack, service, own)
    if service.result == "failed":
        return is_new and is_new_container_kept(stack, service)
    return is_new


def is_new_container(stack: "Stack", service: Service, own: Container) -> bool:
    """Whether this request, or the interrupted one, has replaced the own container by this one."""
    return stack.has_replacement(service) and own.id != stack.replacement(service).old_container


def is_new_container_kept(stack: "Stack", service: Service) -> bool:
    """Whether the new container of a service that failed goes on serving, with the new files.

    It failed while it was watched, and is healthy again. Without HTTP, a container that fails looks
    healthy now and then, because Docker restarts it; so the old one takes its place.
    """
    return service.health is not None and is_healthy(stack, service)


# 8. Pull: by digest, with a login that is in memory only. Then check what was pulled.


def pull_images(stack: "Stack", services: List[Service], token: str) -> None:
    """Pull the images of these services."""
    stack.write_trial_pins()
    images = list(dict.fromkeys(service.image for service in services))
    end = stack.machine.now() + PULL_SECONDS * len(images)
    with stack.login(services[0], token) as login:  # the preflight allows one registry only
        for image in images:
            progress(f"pulling {image}")
            pull(stack, image, login, end)
    for service in services:
        check_image(stack, service)


def pull(stack: "Stack", image: str, login: Path, end: float) -> None:
    """Pull one image until a time of the clock; try again if the registry has trouble."""
    for pause in PULL_PAUSES:
        seconds = max(1, round(end - stack.machine.now()))
        output = pull_once(stack, image, seconds, "--config", str(login))
        if output.code == 0:
            return
        refuse_if_final(image, output)
        if stack.machine.now() + pause >= end:
            break
        if pause:
            progress(f"the pull failed; the next attempt is in {pause} seconds: {output.last_line}")
            stack.machine.wait(pause)
    raise Failed(
        NOT_READY,
        f"{image} could not be pulled; the registry did not reject the token: {output.last_line}",
    )


def pull_once(stack: "Stack", image: str, seconds: int, *options: str) -> Output:
    """Try to pull an image; a pull that reaches its time limit has failed like any other."""
    try:
        return stack.machine.docker(
            *options, "pull", "-q", image, seconds=seconds, can_be_cancelled=True
        )
    except TimedOut as failure:
        return Output(-signal.SIGKILL, "", failure.message)


def refuse_if_final(image: str, output: Output) -> None:
    """Fail if another attempt is of no use: a refused token, a missing image, a full disk."""
    # The name of an image may contain one of the signs.
    error = output.err.lower().replace(image.partition("@")[0].lower(), "")
    if any(sign in error for sign in SIGNS_OF_A_REFUSED_TOKEN):
        raise Failed(
            TOKEN_REFUSED,
            f"{registry_of(image)} refused the token: set a new one (deploy/RUNBOOK.md, step 5) and"
            f" run the job again. Its answer: {output.last_line}",
        )
    if any(sign in error for sign in SIGNS_OF_A_MISSING_IMAGE):
        raise Failed(BAD_IMAGE, f"could not pull {image}: {output.last_line}")
    if "no space left" in error:
        raise Failed(
            NOT_READY,
            f"{image} does not fit on the disk: free some space (docker system df), then run the"
            " job again",
        )


def ensure_rollback_image(stack: "Stack", service: Service) -> None:
    """Pull the image of a rollback if the server has it no more; a rollback brings no token."""
    if stack.machine.docker("image", "inspect", service.image).code != 0:
        progress(f"pulling {service.image}")
        output = pull_once(stack, service.image, PULL_SECONDS)
        if output.code != 0:
            raise Failed(
                BAD_IMAGE,
                f"could not pull {service.image}, which is no longer on this server:"
                f" {output.last_line}. Log in first: docker login {registry_of(service.image)}",
            )
    check_image(stack, service)


def check_image(stack: "Stack", service: Service) -> None:
    """Refuse an image for another platform, or with labels that proxies or Compose act on."""
    image = stack.machine.json("image", "inspect", service.image)[0]
    service.image_id = str(image["Id"])
    engine = stack.engine()
    if image.get("Architecture") != engine.get("Arch"):
        raise Failed(
            BAD_IMAGE,
            f"{service.image} is built for {image.get('Architecture')}, and this server is"
            f" {engine.get('Arch')}",
        )
    labels = (image.get("Config") or {}).get("Labels") or {}
    for label in sorted(labels):
        has_effect = label.lower().startswith(LABELS_OF_PROXIES_AND_COMPOSE)
        if has_effect and label not in service.labels:
            raise Failed(
                BAD_IMAGE,
                f"{service.image} has the label {printable(label)}, which a proxy or Compose acts"
                " on: remove it from the Dockerfile; such labels belong in the spec, specs/*.yaml",
            )
    for variable in (image.get("Config") or {}).get("Env") or []:
        key = variable.partition("=")[0]
        if key in VARIABLES_OF_PROXIES and key not in (service.model.get("environment") or {}):
            raise Failed(
                BAD_IMAGE,
                f"{service.image} sets the variable {key}, which a proxy acts on: remove it from"
                " the Dockerfile; such variables belong in the spec, specs/*.yaml",
            )


# 9. Accessories: start those that are missing. One that runs is never changed: it may hold data.


def start_accessories(stack: "Stack", services: List[Service]) -> None:
    """Start the accessories that are missing, and wait for those that these services need."""
    accessories = [service for service in stack.services.values() if service.is_accessory]
    missing = [accessory for accessory in accessories if not has_processes(stack, accessory)]
    if missing:
        start_missing_accessories(stack, missing)
    needed = needed_by(stack, services)
    for accessory in accessories:
        if accessory.name in needed:
            wait_for_accessory(stack, accessory)
        report_differences(stack, accessory)


def has_processes(stack: "Stack", accessory: Service) -> bool:
    """Whether the container of an accessory exists, and may write to its data."""
    container = stack.find(accessory.container_name)
    return container is not None and container.has_processes


def start_missing_accessories(stack: "Stack", missing: List[Service]) -> None:
    """Let Compose create and start accessories; one that has ended runs again."""
    refuse_shared_data(stack, missing)
    names = [accessory.name for accessory in missing]
    progress(f"starting {', '.join(names)}")
    for accessory in missing:
        container = stack.find(accessory.container_name)
        if container and accessory.is_accessory_that_ends and stack.owns(container, accessory):
            stack.remove_with_volumes(container.name)
        elif container:
            progress(
                f"note: {accessory.name} was stopped, and a deploy starts it again, as `docker"
                " compose up` does. While it must not run, keep deploys away in a shell with the"
                f" stack's lock: flock {stack.lock_file} bash"
            )
    output = stack.compose("up", "-d", "--no-deps", "--no-recreate", *names)
    if output.code != 0:
        # Only those that a service of this request needs make it fail, when they are waited for.
        progress(f"note: some accessories could not be started: {output.last_line}")


def refuse_shared_data(stack: "Stack", services: List[Service]) -> None:
    """Repeat this check of the preflight: a rollback skipped it, and the pull has taken time."""
    containers = stack.containers()
    for service in services:
        for finding in check_volumes_in_use(stack, service, containers):
            raise Failed(finding.code, str(finding))


def needed_by(stack: "Stack", services: Sequence[Service]) -> Set[str]:
    """The names of all services that these depend on, directly or indirectly."""
    needed: Set[str] = set()
    pending = [name for service in services for name in service.dependencies]
    while pending:
        name = pending.pop()
        if name not in needed and name in stack.services:
            needed.add(name)
            pending += stack.services[name].dependencies
    return needed


def wait_for_accessory(stack: "Stack", accessory: Service) -> None:
    """Wait until an accessory is healthy."""
    for _ in stack.machine.each_second(HEALTHCHECK_SECONDS):
        container = stack.find(accessory.container_name)
        if container and is_accessory_healthy(accessory, container):
            return
        if not container or not container.is_running or container.docker_health == "unhealthy":
            break
    print_end_of_log(stack, accessory)
    raise Failed(
        NOT_READY, f"{accessory.name} is not healthy, and a deployed service depends on it"
    )


def is_accessory_healthy(accessory: Service, container: Container) -> bool:
    """Whether it runs and Docker's health check passes, or ran once and ended with exit code 0."""
    if accessory.is_accessory_that_ends:
        return container.status == "exited" and container.exit_code == 0
    return container.is_running and container.docker_health in ("", "healthy")


def report_differences(stack: "Stack", accessory: Service) -> None:
    """Print how to give an accessory the settings of the compose file.

    A person decides when that is done: a database is gone while it is recreated.
    """
    container = stack.find(accessory.container_name)
    if not container:
        return
    if not stack.owns(container, accessory):
        report_missing_networks(stack, accessory, container)
    elif container.labels.get("com.docker.compose.config-hash") != stack.config_hash(accessory):
        progress(
            f"note: {accessory.name} runs with other settings than those of the compose file. To"
            f" recreate it: cd {stack.folder} && docker compose up -d --no-deps {accessory.name}"
        )


def report_missing_networks(stack: "Stack", accessory: Service, container: Container) -> None:
    """Print how to connect a foreign accessory to the stack's networks."""
    for key in accessory.networks:
        network = stack.network_name(key)
        if network not in container.networks:
            aliases = " ".join(f"--alias {name}" for name in accessory.names_on(key))
            progress(
                f"note: {container.name} was not made by this stack, and is not on its network"
                f" {network}. To connect it: docker network connect {aliases} {network}"
                f" {container.name}"
            )


# 10. Migrate: with the new images, before any container is replaced. Hooks are scripts of the user.


def migrate(stack: "Stack", services: List[Service]) -> None:
    """Run the migrations of these services.

    The old version serves meanwhile and afterwards, so it must work with the migrated database.
    """
    migrating = [service for service in services if service.migrate]
    if not migrating:
        return
    back_up_databases(stack, migrating)
    stack.write_trial_pins()
    for service in migrating:
        progress(f"migrating with {service.name}: {shlex.join(service.migrate)}")
        output = run_one_off(stack, service, service.migrate)
        if output.code != 0:
            raise Failed(
                NOT_SERVING,
                f"the migration of {service.name} failed with exit code {output.code}."
                " No container of the service was changed",
            )
    for service in services:
        if service.health and stack.find(service.container_name) and not is_healthy(stack, service):
            progress(
                f"AFTER THE MIGRATION {service.name} DOES NOT ANSWER ANY MORE: its old version does"
                " not work with the migrated database"
            )


def run_one_off(stack: "Stack", service: Service, command: Sequence[str]) -> Output:
    """Run a command, or a one-shot's own one, in a new container of the new image, to its end."""
    options = ("--rm", "-T", *NOT_FOR_TRAEFIK, "--no-deps", "--name", service.one_off_name)
    try:
        return stack.compose(
            "run",
            *options,
            service.name,
            *command,
            pins=stack.trial_pins,
            seconds=SCRIPT_SECONDS,
            prints_output=True,
        )
    finally:
        stop_one_off(stack, service)


def back_up_databases(stack: "Stack", services: List[Service]) -> None:
    """Dump the databases that these services migrate, each once; bin/database does it."""
    databases = dict.fromkeys(service.backup for service in services if service.backup)
    for server, database in databases:
        program = installed_program("database", "dumps before migrations")
        output = stack.machine.show(
            [program, "backup", server, database, "before-migration"], DUMP_SECONDS
        )
        if output.code != 0:
            raise Failed(
                NOT_READY,
                f"the dump of {database} failed with exit code {output.code}, so nothing was"
                " migrated, and no container of the service was changed",
            )


def installed_program(name: str, purpose: str) -> str:
    """The path of bin/NAME, another program of kiwari-ci, which must be there."""
    program = str(ROOT / "bin" / name)
    if not os.access(program, os.X_OK):
        raise Failed(
            NOT_READY,
            f"{program} is missing, and {purpose} need it. Copy it: {copy_command(f'bin/{name}')}",
        )
    return program


def stop_one_off(stack: "Stack", service: Service) -> None:
    """Stop what still runs: a cancel, or the time limit, ends only `docker` itself."""
    container = stack.find(service.one_off_name)
    if container and container.has_processes and stack.is_temporary(container, service):
        progress(f"stopping {service.one_off_name}")
        stack.stop(service.one_off_name)


@contextlib.contextmanager
def hooks(stack: "Stack", verb: str, services: List[Service]) -> Iterator[None]:
    """Run hooks/before, and at the end, also after a failure, hooks/after with the exit code."""
    if not (stack.folder / "hooks").is_dir():
        yield
        return
    names = " ".join(service.name for service in services)
    settings = {
        "VERB": verb,
        "SERVICE": names,
        "IMAGE": " ".join(service.image for service in services),
    }
    # If this deploy is killed, the next one sees from this file that hooks/after has to run.
    write_json(stack.owed_hook, settings)
    code = NOT_SERVING
    try:
        if run_hook(stack, "before", settings) != 0:
            if verb != "rollback":
                raise Failed(NOT_READY, f"{stack.name}/hooks/before failed")
            progress("note: hooks/before failed; a rollback goes on all the same")
        yield
        code = exit_code_of(services)
    except Failed as failure:
        code = failure.code
        raise
    finally:
        settings = {**settings, "EXIT_CODE": str(code)}
        is_done = run_hook(stack, "after", settings) == 0
        if is_done:
            stack.owed_hook.unlink()
        else:
            with cleaning_up():
                write_json(stack.owed_hook, settings)
    if not is_done:
        outcome = "the new version serves, but " if code == SERVING else ""
        raise Failed(
            NOT_READY,
            f"{outcome}{stack.name}/hooks/after failed: correct it; the next deploy runs it again",
        )


def run_hook(stack: "Stack", name: str, settings: Dict[str, str]) -> int:
    """Run a hook if there is one, and print its output; the exit code.

    One that the compose file no longer names is left over: no deploy removes a file.
    """
    if not (stack.folder / "hooks" / name).exists():
        return 0
    if f"hooks/{name}" not in stack.files.beside():
        progress(
            f"note: hooks/{name} does not run, because {COMPOSE_FILE} does not name it in the line"
            " 'Files beside it'"
        )
        return 0
    progress(f"running hooks/{name}")
    return stack.machine.script(["bash", f"hooks/{name}"], stack.folder, settings)


# 11. Replace the containers. A service that can run twice goes through these steps:
#
#   start_beside         The temporary container starts, without the service's names on any network.
#                        If it does not become healthy, no request has ever reached it, unless a
#                        proxy finds it by labels or variables: then the log has a note about that.
#   hand_over            It gets the names. Then wait until each proxy has looked them up again; only
#                        after that may the old container stop.
#   replace_own          Compose recreates the own container on the new image. The temporary
#                        container serves alone until the new one runs, which has the names from
#                        its start.
#   watch_and_record     The temporary container loses the names, for which Docker disconnects it
#                        for a moment. The new own container has to stay healthy for at least as
#                        long as a proxy keeps an old address. Then it is recorded, and the temporary
#                        container is stopped: no proxy sends it requests any more, and it finishes
#                        those that it has.
#
# For a service that cannot run twice, only the last two steps are done, and there is a gap: its old
# container is stopped first and set aside. Services are replaced in batches whose new containers
# fit into the free memory; the services of a batch share the waits.


def dependency_levels(services: List[Service]) -> List[List[Service]]:
    """Groups of services; each service depends only on services of earlier groups.

    Services that depend on each other in a circle end up in one group.
    """
    groups: List[List[Service]] = []
    pending = list(services)
    while pending:
        names = {service.name for service in pending}
        group = [
            service for service in pending if not service.dependencies & (names - {service.name})
        ] or pending
        groups.append(group)
        pending = [service for service in pending if service not in group]
    return groups


def mark_if_dependency_failed(service: Service, services: List[Service]) -> None:
    """Give a service the result `not started` if it depends on one that has failed."""
    failed = {other.name for other in services if other.result in ("failed", "not started")}
    if service.dependencies & failed:
        names = ", ".join(sorted(service.dependencies & failed))
        progress(f"{service.name} is not started: it depends on {names}")
        service.result = "not started"


def replace_containers(stack: "Stack", request: Request, services: List[Service]) -> None:
    """Replace the containers of services that do not depend on each other."""
    changing = []
    for service in services:
        if service.runs_once:
            run_to_its_end(stack, request, service)
        elif is_unchanged(stack, service):
            progress(f"{service.name} already runs this image with these settings")
            finish(stack, request, service, "unchanged")
        else:
            changing.append(service)
    for batch in batches_that_fit(stack, changing):
        try:
            replace_batch(stack, request, batch)
        except Exception as error:  # a cancel, for example: nothing may stay half replaced
            for service in undecided(batch):
                fail(stack, service, as_failure(error).message)
            raise


def run_to_its_end(stack: "Stack", request: Request, service: Service) -> None:
    """Run a one-shot with its new image, also if it has run with that image before."""
    stack.write_trial_pins()
    progress(f"running {service.name} to its end")
    with service_may_fail(stack, service):
        remove_own_container_of_one_shot(stack, service)
        output = run_one_off(stack, service, ())
        if output.code != 0:
            raise Failed(NOT_SERVING, f"{service.name} ended with exit code {output.code}")
        finish(stack, request, service, "serving")


def remove_own_container_of_one_shot(stack: "Stack", service: Service) -> None:
    """Remove what `docker compose up` by hand left, or what ran before it became a one-shot."""
    container = stack.find(service.container_name)
    if not container or not stack.owns(container, service):
        return
    if container.has_processes and "deploy.once" in container.labels:
        raise Failed(
            NOT_SERVING,
            f"{container.name} is running, which somebody started by hand: deploy again when it"
            " has ended",
        )
    stack.remove(container.name)


def batches_that_fit(stack: "Stack", services: List[Service]) -> List[List[Service]]:
    """Groups of services whose old and new containers fit into the memory at the same time."""
    batches: List[List[Service]] = []
    free = 0
    for service in services:
        needed = memory_needed(stack, service)
        if not batches or needed is None or needed > free:
            batches.append([])
            free = stack.machine.available_memory() // 5 * 4  # a fifth stays in reserve
            if needed is not None and needed > free and can_start_beside(stack, service):
                progress(
                    f"note: {service.name} needs about {megabytes(needed)} of memory beside its old"
                    f" container, and {megabytes(free)} are available: the kernel may kill a process"
                    " while both run"
                )
        batches[-1].append(service)
        free = free - needed if needed is not None else 0
    return batches


def memory_needed(stack: "Stack", service: Service) -> Optional[int]:
    """An estimate of the memory of a new container, in bytes; None if nothing is known.

    It is the memory limit of the service, or what the old container uses.
    """
    limit = str(service.model.get("mem_limit") or "")
    if limit.isdigit():
        return int(limit)
    container = stack.find(service.container_name)
    if not container or not container.is_running:
        return 0
    return stack.machine.memory_of(container.process)


def replace_batch(stack: "Stack", request: Request, services: List[Service]) -> None:
    """Replace the containers of a batch."""
    stack.write_trial_pins()
    for service in services:
        stack.note_replacement(service)
    beside = [service for service in services if can_start_beside(stack, service)]
    start_beside(stack, beside)
    hand_over(stack, undecided(beside))
    replace_own(stack, undecided(beside), set_unrecorded_container_aside)
    stopped_first = [service for service in services if service not in beside]
    replace_own(stack, stopped_first, stop_and_set_aside)
    watch_and_record(stack, request, undecided(services))


def undecided(services: List[Service]) -> List[Service]:
    """The services without a result: they are to be replaced, and nothing has gone wrong so far."""
    return [service for service in services if not service.result]


def is_unchanged(stack: "Stack", service: Service) -> bool:
    """Whether its own container runs this image with these settings, and is healthy."""
    container = stack.find(service.container_name)
    if not container or not stack.owns(container, service) or stack.temporary(service):
        return False
    if container.image != service.image or difference_from_files(stack, service, container):
        return False
    return stays_healthy(stack, service)


def difference_from_files(stack: "Stack", service: Service, container: Container) -> str:
    """How its own container differs from what the files say now, as text; empty if in nothing."""
    label = container.labels.get("com.docker.compose.config-hash")
    if label not in stack.hashes(service, container):
        return f"runs with other settings than {COMPOSE_FILE} and the env files say now"
    if stack.mounted_checksum(service) != stack.recorded_mounts(service):
        return "read another version of a file that it mounts"
    return ""


def can_start_beside(stack: "Stack", service: Service) -> bool:
    """Whether a temporary container starts first.

    It does not if no old container runs, which would have to go on serving. Nor if there is a
    temporary container of an earlier deploy: that may be the only one that works, and has the name.
    """
    container = stack.find(service.container_name)
    return (
        service.is_start_first
        and bool(container and container.is_running)
        and not stack.temporary(service)
    )


def start_beside(stack: "Stack", services: List[Service]) -> None:
    """Start the temporary containers."""
    for service in services:
        progress(f"starting {service.temporary_name} beside {service.name}")
        report_proxy_that_finds_containers(service)
        with service_may_fail(stack, service):
            options = ("-d", "-T", *NOT_FOR_TRAEFIK, "--no-deps", "--name", service.temporary_name)
            output = stack.compose("run", *options, service.name, pins=stack.trial_pins)
            refuse_failed_start(service.temporary_name, output)
            service.new_temporary = stack.get(service.temporary_name).id
            temporary = wait_until_healthy(stack, service, service.temporary_name)
            report_data_of_temporary_container(service, temporary)


def report_proxy_that_finds_containers(service: Service) -> None:
    """Say so if a proxy may send requests to the temporary container before its hand-over.

    This is no reason to refuse the deploy: without a temporary container, such a proxy would find
    the new own container just as early, and no other would answer meanwhile.
    """
    sign = sign_for_a_proxy(service)
    if sign:
        progress(
            f"note: {service.name} has {sign} finds containers: it may send requests to"
            f" {service.temporary_name} before that has proved itself. A proxy that leads to the"
            " name of the service does not"
        )


def sign_for_a_proxy(service: Service) -> str:
    """A label or variable of a service by which a proxy finds containers itself; empty if none."""
    for label in service.labels:
        if LABEL_OF_CADDY_DOCKER_PROXY.fullmatch(label):
            return f"the label {label}, by which caddy-docker-proxy"
    variables = service.model.get("environment") or {}  # with those of its env files
    for variable in VARIABLES_FOUND_BY_NGINX_PROXY:
        if variable in variables:
            return f"the variable {variable}, by which nginx-proxy"
    return ""


def report_data_of_temporary_container(service: Service, temporary: Container) -> None:
    """Say what is lost: a `VOLUME` of the image that the compose file does not mount.

    The temporary container has a volume of its own there, which is removed with it.
    """
    for mount in temporary.mounts:
        if is_anonymous_volume(mount):
            progress(
                f"note: what {temporary.name} writes to {mount['Destination']} is lost when"
                " it is removed, because the image has a VOLUME there that the spec does not"
                " mount. If it is data, mount a volume there, or set rollout: recreate"
            )


def hand_over(stack: "Stack", services: List[Service]) -> None:
    """Give the temporary containers the services' names, and wait until the proxies know."""
    watched = {}
    for service in services:
        progress(f"{service.temporary_name} is healthy, and gets the name {service.name}")
        with service_may_fail(stack, service):
            # From now on it may be the one that serves, so it has to start when the server boots.
            stack.set_restart_policy(service.temporary_name, service.restart_policy)
            give_service_names(stack, service)
            watched[service.name] = stack.get(service.temporary_name)
    seconds = announced_name_cache_seconds(undecided(services))
    watch_containers(stack, services, watched, seconds)


def replace_own(
    stack: "Stack", services: List[Service], make_way: Callable[["Stack", Service], None]
) -> None:
    """Replace the own containers of services; `make_way` sets an old container aside first."""
    for service in services:
        progress(f"replacing {service.name}")
        with service_may_fail(stack, service):
            make_way(stack, service)
            recreate(stack, service)
            service.is_own_replaced = True
            wait_until_healthy(stack, service, service.container_name)


def watch_and_record(stack: "Stack", request: Request, services: List[Service]) -> None:
    """Watch the new own containers for a while, record them, and remove what they replaced.

    The temporary container loses the names before the watch, so that the new own container answers
    all requests meanwhile. A temporary container of an earlier deploy may be the only one that
    works: it keeps the names until the new own container has proved itself.
    """
    watched = {}
    for service in services:
        with service_may_fail(stack, service):
            watched[service.name] = stack.get(service.container_name)
            temporary = stack.temporary(service)
            if temporary and temporary.id == service.new_temporary:
                remove_service_names(stack, service)
    seconds = max((service.watched_seconds for service in undecided(services)), default=0)
    if seconds:
        progress(f"watching the new containers for {seconds} seconds")
    watch_containers(stack, services, watched, seconds)
    try:
        for service in undecided(services):
            with service_may_fail(stack, service):
                finish(stack, request, service, "serving")
    finally:
        remove_what_was_replaced(stack, services)


def remove_what_was_replaced(stack: "Stack", services: List[Service]) -> None:
    """Remove the other containers of the services that now serve, also after a cancel."""
    with uninterrupted():
        for service in services:
            if service.result == "serving":
                with cleaning_up():
                    try_twice(remove_temporary_container, stack, service)
                with cleaning_up():
                    try_twice(retire_set_aside_container, stack, service)


def try_twice(step: "Callable[[Stack, Service], None]", stack: "Stack", service: Service) -> None:
    """Run a step of a clean-up again if it fails: a container that is left would use memory.

    The docker command may have been killed, for example because the server had too little memory.
    """
    try:
        step(stack, service)
    except Cancelled:
        raise
    except Exception:
        step(stack, service)


@contextlib.contextmanager
def cleaning_up() -> Iterator[None]:
    """Report an error, and go on: what serves does not depend on this step of a clean-up."""
    try:
        yield
    except Cancelled:
        raise
    except Exception as error:
        problem = as_failure(error).message
        progress(f"note: the clean-up failed, and the next deploy does it: {problem}")


def watch_containers(
    stack: "Stack", services: List[Service], watched: Dict[str, Container], seconds: int
) -> None:
    """Check new containers each second, so that one that fails late is undone at once."""
    for _ in stack.machine.each_second(seconds):
        for service in undecided(services):
            with service_may_fail(stack, service):
                refuse_change(stack, service, watched[service.name])
        if not undecided(services):
            return


def finish(stack: "Stack", request: Request, service: Service, result: str) -> None:
    """Pin what serves for Compose, and record it.

    The record comes last: if an earlier step fails, the old container comes back, and it must be
    the recorded one.
    """
    with uninterrupted():
        stack.write_pins({service.name: service.image})
        sequence = sequence_to_record(stack, request, service)
        latest = stack.newest_record(service.name)
        is_recorded = (latest.image, latest.sequence) == (service.image, sequence)
        if not is_recorded or request.verb == "rollback":
            stack.add_record(service.name, Record(service.image, sequence, utc_now(), request.run))
        service.result = result
        with cleaning_up():
            stack.mark_replacement_as_recorded(service)
    service.seconds = stack.seconds()
    with cleaning_up():
        stack.record_mounts(service)
    if result == "serving" and stack.replaced().names:
        with cleaning_up():
            # After a power cut, the old version of the files that it uses must not come back.
            stack.settle_replaced(files_that_stay(stack))
    container = stack.find(service.container_name)
    if container and container.docker_health == "unhealthy":
        progress(f"note: Docker's health check says that {container.name} is unhealthy")


def sequence_to_record(stack: "Stack", request: Request, service: Service) -> int:
    """The number of the commit that serves from now on: deploys with a lower one are superseded.

    A rollback with a key keeps the newest number, so that the run of an older commit that comes
    late does not replace the image of the rollback. A rollback by a person on the server lowers
    the number. It has to: after a deploy with a number that is much too high, by a mistake or with
    a stolen key, every later commit would be superseded.
    """
    if request.verb == "deploy":
        return request.sequence
    latest = stack.newest_record(service.name)
    if request.verb == "rotate":
        return latest.sequence  # it is the same image
    if request.is_from_key:
        return latest.sequence
    if latest.image == service.image:
        return 0  # a person confirms the image that serves: any commit may replace it
    return lowest_deployed_sequence(stack.record(service.name), service.image)


def recreate(stack: "Stack", service: Service) -> None:
    """Let Compose create and start the own container from the new image."""
    # Pinned before, so that after a power cut `docker compose up` by hand starts the new image.
    stack.write_pins({service.name: service.image})
    old = set_aside_container(stack, service)
    if old and stack.owns(old, service):
        create_successor(stack, service, old)
        return
    output = replace_by_compose(stack, service)
    if output.code < 0:
        # A signal ended docker, perhaps because memory was short. It may have removed the old
        # container already, to whose address a proxy still sends requests. Docker gives a new
        # container the lowest free address, so that requests which wait are answered.
        progress(f"docker was killed while it replaced {service.name}: trying once more")
        repair_half_created_containers(stack, service)
        output = replace_by_compose(stack, service)
    refuse_failed_start(service.name, output)


def replace_by_compose(stack: "Stack", service: Service) -> Output:
    """Let Compose replace the own container; it stops and removes the old one first."""
    # Forced, because perhaps only a mounted file has changed, which Compose does not notice.
    options = ("-d", "--no-deps", "--force-recreate", "--pull", "never")
    seconds = stack.change_seconds(service.container_name)
    return stack.compose("up", *options, service.name, pins=stack.pins, seconds=seconds)


def create_successor(stack: "Stack", service: Service, old: Container) -> None:
    """Create the new own container beside a set-aside container that Compose made.

    `docker compose up` would remove the set-aside container, which it finds by its labels. So
    Compose is asked to scale the service up by one container. The set-aside one has those labels
    still, and so Compose counts it: the new number is that of all containers and one more. Compose
    only scales a service without a fixed container name, and so the name is set afterwards.
    """
    model = stack.successor_model(service, old)
    known = {container.id for container in stack.containers_of(service)}
    scale = f"{service.name}={len(known) + 1}"
    options = ("--no-recreate", "--pull", "never", "--scale", scale)
    output = stack.compose_text(json.dumps(model), "create", *options, service.name)
    refuse_failed_start(service.name, output)
    for container in stack.containers_of(service):
        if container.id not in known:
            stack.rename(container.name, service.container_name)
    output = stack.machine.docker("start", service.container_name, seconds=CHANGE_SECONDS)
    refuse_failed_start(service.name, output)


def stop_and_set_aside(stack: "Stack", service: Service) -> None:
    """Stop the old container of a service that cannot run twice, and set it aside.

    It has no restart policy meanwhile: otherwise a server that boots would start both.
    """
    refuse_left_over_set_aside(stack, service)
    refuse_shared_data(stack, [service])
    if not service.is_start_first and stack.temporary(service):
        # It is of an earlier deploy: the service could run twice then.
        stack.set_restart_policy(service.temporary_name, "no")
        stack.stop(service.temporary_name)
    container = stack.find(service.container_name)
    if not container or (stack.owns(container, service) and not container.is_running):
        return  # it does not run, and Compose replaces it
    set_aside(stack, service, container)
    stack.set_restart_policy(service.set_aside_name, "no")
    stack.stop(service.set_aside_name)


def set_aside(stack: "Stack", service: Service, container: Container) -> None:
    """Rename an old container to NAME-previous, so that the new one can have its name.

    Its id is written to a file first. If this deploy is killed, the next one knows from it which
    container to bring back, and does not mistake another one for it.
    """
    refuse_left_over_set_aside(stack, service)
    note = SetAside(container.id, container.restart_policy, container.is_running)
    stack.write_set_aside_note(service, note)
    stack.rename(container.name, service.set_aside_name)


def refuse_left_over_set_aside(stack: "Stack", service: Service) -> None:
    """Fail if a container is still set aside: it may be the only one that works.

    Its note must not be overwritten, and it may run.
    """
    if stack.find(service.set_aside_name):
        raise Failed(
            NOT_READY,
            f"{service.set_aside_name} is still there: an interrupted deploy could not bring it"
            " back, and the reason is above. Remove the cause, then run the job again",
        )


def bring_back_set_aside_container(stack: "Stack", service: Service) -> None:
    """Remove the new own container, and let the set-aside one serve again under its old name."""
    old = set_aside_container(stack, service)
    if not old:
        return
    new = stack.find(service.container_name)
    if new and not stack.owns(new, service):
        progress(f"note: {new.name} was not made by this stack, so {old.name} does not come back")
        return
    if new:
        stack.stop(new.name)  # so that it can finish a write to a volume that both mount
        stack.remove(new.name)
    stack.rename(old.name, service.container_name)
    resume_old_container(stack, service)
    wait_until_own_is_healthy(stack, service)


def wait_until_own_is_healthy(stack: "Stack", service: Service) -> None:
    """Wait until the own container is healthy, so that no other one is taken for the only one."""
    for _ in stack.machine.each_second(service.start_seconds):
        if is_healthy(stack, service):
            return


def resume_old_container(stack: "Stack", service: Service) -> None:
    """Start a container that was set aside and has its old name again, if it ran before."""
    note = stack.set_aside_note(service)
    stack.set_restart_policy(service.container_name, note.restart or service.restart_policy)
    if note.was_running:
        stack.change("start", service.container_name)
        if not stack.get(service.container_name).is_running:
            raise Failed(NOT_SERVING, f"{service.container_name} did not start again")
        with cleaning_up():
            stack.record_mounts(service)  # it has read the files anew
    with cleaning_up():
        stack.mark_as_old(service, note.id)
    stack.forget_set_aside(service)


def set_unrecorded_container_aside(stack: "Stack", service: Service) -> None:
    """Set a container aside that could not be created again.

    It stays until the new container is recorded. It is a foreign one, or Compose made it for this
    service before the first deploy. A container of a recorded image is not set aside here: Compose
    replaces it, while the temporary container serves, and can create it again.

    It goes on running, unless it has to make room for the new container: one that publishes the
    same port, or that keeps the service's name after it is renamed, as those of Compose do. While
    the temporary container serves, the new one then gets its address, which proxies still use.
    """
    container = stack.find(service.container_name)
    if not container:
        return
    is_recorded = bool(stack.newest_record(service.name).image)
    if is_recorded and stack.owns(container, service):
        return
    set_aside(stack, service, container)
    if service.published or keeps_service_name(service, container):
        # Not after a boot either, beside the new one.
        stack.set_restart_policy(service.set_aside_name, "no")
        stack.stop(service.set_aside_name)


def keeps_service_name(service: Service, container: Container) -> bool:
    """Whether a container has the name of the service on a network, apart from its own name."""
    return any(
        service.name in (network.get("Aliases") or []) for network in container.networks.values()
    )


def retire_set_aside_container(stack: "Stack", service: Service) -> None:
    """Remove the set-aside container; a foreign one is stopped and retained instead."""
    old = set_aside_container(stack, service)
    if not old:
        return
    stack.set_restart_policy(old.name, "no")
    stack.stop(old.name)
    if stack.owns(old, service):
        stack.remove(old.name)
    else:
        stack.rename(old.name, service.retained_name)
        progress(
            f"the old container was not made by this stack: it is stopped, and its name is now"
            f" {service.retained_name}. To remove it: docker rm {service.retained_name}"
        )
    stack.forget_set_aside(service)


# 12. Undo: when a service fails, let its old container serve again.


@contextlib.contextmanager
def service_may_fail(stack: "Stack", service: Service) -> Iterator[None]:
    """Undo what was done for a service if it fails; the other services go on."""
    try:
        yield
    except Cancelled:
        raise
    except Exception as error:
        fail(stack, service, as_failure(error).message)


def fail(stack: "Stack", service: Service, problem: str) -> None:
    """Undo what was done for a service, so that its old container serves again.

    If the temporary container is the only healthy one, it stays and serves.
    """
    with uninterrupted():
        service.result = "failed"
        service.problem = problem
        service.seconds = stack.seconds()
        print_error(problem)
        wait_until_docker_answers(stack)
        print_end_of_log(stack, service)
        # An error in one of these steps must not prevent the others.
        with cleaning_up():
            restore_files(stack)  # first, because the old container reads them when it starts
        with cleaning_up():
            bring_back_set_aside_container(stack, service)
        with cleaning_up():
            remove_temporary_container_unless_needed(stack, service)
        with cleaning_up():
            stack.write_pins()
        with cleaning_up():
            go_back_if_nothing_serves(stack, service)
        with cleaning_up():
            stop_failed_first_container(stack, service)


def wait_until_docker_answers(stack: "Stack") -> None:
    """Wait while Docker restarts, for example for an update: nothing could be undone meanwhile."""
    for _ in stack.machine.each_second(DOCKER_SECONDS):
        with contextlib.suppress(Failed):
            if stack.machine.docker("version", "--format", "{{json .}}").code == 0:
                return


def go_back_if_nothing_serves(stack: "Stack", service: Service) -> None:
    """Create the own container again from its old image, if no container goes on serving."""
    with cleaning_up():
        restore_files(stack)
    image = stack.newest_record(service.name).image
    if not image or service.runs_once:
        return
    if service.can_temporary_serve and stack.temporary(service):
        return
    if is_own_container_kept(stack, service, image):
        return
    if any(check_volumes_in_use(stack, service, stack.containers())):
        return  # two writers would destroy the data
    create_from_old_image(stack, service, image)


def is_own_container_kept(stack: "Stack", service: Service, image: str) -> bool:
    """Whether the own container goes on serving after a failure; `image` is the recorded one.

    A new one that is not recorded does if it passes a health check over the network or of Docker's;
    without one, it never does. So after a cancel, a new container that is healthy goes on serving:
    to go back from it would interrupt the service. `print_outcome` prints the command for that.
    """
    own = stack.find(service.container_name)
    if not own:
        return False
    if is_new_container(stack, service, own) and not is_replacement_recorded(stack, service):
        return is_new_container_kept(stack, service)
    # It is the old one, which was perhaps not healthy before either; or a new one that is recorded.
    if own.image == image and own.has_processes:
        return True
    return is_healthy(stack, service)


def create_from_old_image(stack: "Stack", service: Service, image: str) -> None:
    """Let Compose create the own container from the recorded image, with the old files."""
    current = stack.find(service.container_name)
    is_new = current is not None and is_new_container(stack, service, current)
    if current:
        with cleaning_up():
            stack.mark_as_old(service, current.id)  # so that the old files come back
            restore_files(stack)
    progress(f"nothing serves: creating {service.name} again from its old image {image}")
    options = ["-d", "--no-deps", "--pull", "never"]
    if is_new and not set_aside_container(stack, service):
        options.append("--force-recreate")  # perhaps only a mounted file differs
    output = stack.compose("up", *options, service.name, pins=stack.pins)
    if output.code != 0:
        progress(f"that failed: {output.last_line}")
        return
    own = stack.find(service.container_name)
    if own:
        with cleaning_up():
            stack.mark_as_old(service, own.id)
            stack.record_mounts(service)


def stop_failed_first_container(stack: "Stack", service: Service) -> None:
    """Stop the new container of a first deploy that failed, unless it answers again.

    It replaced nothing, so nothing takes its place. Docker would restart it in a loop, and a worker
    would take a message from its queue each time. It is kept for `docker logs`.
    """
    others = [set_aside_container(stack, service), stack.temporary(service)]
    if stack.newest_record(service.name).image or any(others):
        return
    own = stack.find(service.container_name)
    if not own or not is_new_container(stack, service, own):
        return
    if is_new_container_kept(stack, service):
        return
    stack.set_restart_policy(own.name, "no")
    stack.stop(own.name)
    progress(
        f"{own.name} is stopped, because nothing served before it. To see why it failed:"
        f" docker logs {own.name}"
    )


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back a cancel (SIGTERM) until the end of a step."""
    original = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, original)


def remove_temporary_container(stack: "Stack", service: Service) -> None:
    """Remove the temporary container, after the proxies have forgotten its address.

    Until then it keeps its restart policy, also if it has failed: a request that a proxy sends to
    an address where nothing runs waits for many seconds. `docker stop` then lets it finish the
    requests that it has.
    """
    temporary = stack.temporary(service)
    if not temporary:
        return
    if has_service_names(stack, service, temporary):
        remove_service_names(stack, service)
        wait_for_name_caches(stack, service)
    stack.set_restart_policy(service.temporary_name, "no")
    stack.stop(service.temporary_name)
    stack.remove_with_volumes(service.temporary_name)


# 13. Names: the container that has the names of a service on its networks gets its requests.


def has_service_names(stack: "Stack", service: Service, temporary: Container) -> bool:
    """Whether the temporary container has the service's names on a network.

    It need not run: it has them also while Docker restarts it.
    """
    return any(are_names_given(stack, service, temporary))


def are_names_given(stack: "Stack", service: Service, temporary: Container) -> List[bool]:
    """For each network of a service, whether the temporary container has the service's names."""
    networks = [stack.network_name(key) for key in service.networks]
    settings = [temporary.networks.get(network) or {} for network in networks]
    return [service.name in (network.get("Aliases") or []) for network in settings]


def give_service_names(stack: "Stack", service: Service) -> None:
    """Add the service's names to the temporary container, which then gets its requests, too.

    A kill may have come when it had them on some networks only.
    """
    temporary = stack.get(service.temporary_name)
    if not all(are_names_given(stack, service, temporary)):
        rejoin(stack, service, has_names=True)


def remove_service_names(stack: "Stack", service: Service) -> None:
    """Remove the service's names from the temporary container: it gets no new requests.

    Docker 28 and newer can change nothing about the networks of a container that failed and waits
    for its next start. So this is tried again until the container runs; one that waits for longer
    is stopped, because it would get requests at its next start.
    """
    for _ in stack.machine.each_second(NEXT_START_SECONDS):
        try:
            rejoin(stack, service, has_names=False)
            return
        except Cancelled:
            raise
        except Failed:
            continue
    stack.set_restart_policy(service.temporary_name, "no")
    stack.stop(service.temporary_name)
    rejoin(stack, service, has_names=False)


def rejoin(stack: "Stack", service: Service, has_names: bool) -> None:
    """Disconnect the temporary container from each network, and connect it with other names.

    Docker has no other way to change names. The lock of the whole server is held, because for a
    moment another deploy could get the container's address, to which proxies still send requests.
    """
    with locked(ROOT / HOST_LOCK, f"names of {service.name}"):
        for key in service.networks:
            network = stack.network_name(key)
            names = service.names_on(key) if has_names else []
            aliases = [option for name in names for option in ("--alias", name)]
            ends = (network, service.temporary_name)
            stack.machine.docker("network", "disconnect", *ends, seconds=CHANGE_SECONDS)
            output = stack.machine.docker(
                "network", "connect", *aliases, *ends, seconds=CHANGE_SECONDS
            )
            if output.code != 0:
                raise Failed(
                    NOT_SERVING,
                    f"{service.temporary_name} could not join the network {network}:"
                    f" {output.last_line}",
                )


def wait_for_name_caches(stack: "Stack", service: Service) -> None:
    """Wait until the proxy in front has looked up the service's names again.

    The container that goes must have lost the names before: as long as it has them, the proxy finds
    it again.
    """
    stack.machine.wait(announced_name_cache_seconds([service]))


def announced_name_cache_seconds(services: List[Service]) -> int:
    """The seconds after which no proxy uses an old address of these services; print them."""
    seconds = max((service.name_cache_seconds for service in services), default=0)
    if seconds:
        progress(f"waiting {seconds} seconds: the proxy may use the old address for that long")
    return seconds


# 14. Health: a container serves if it runs and answers its health check.


def refuse_failed_start(name: str, output: Output) -> None:
    """Fail if Docker could not create or start a container."""
    if output.code != 0:
        raise Failed(NOT_SERVING, f"{name} could not be started: {output.last_line}")


def wait_until_healthy(stack: "Stack", service: Service, name: str) -> Container:
    """Wait until a new container is healthy; it must run the right image, and not restart."""
    first = stack.get(name)
    if service.image_id and first.image_id != service.image_id:
        raise Failed(BAD_IMAGE, f"{name} does not run {service.image}")
    problem = ""
    for _ in stack.machine.each_second(service.start_seconds):
        container = stack.get(name)
        if not container.is_same_run(first) or not container.is_running:
            raise Failed(NOT_SERVING, f"{name} did not stay up: {container.state_text}")
        problem = problem_of(stack, service, container)
        if not problem and not service.health and container.docker_health == "starting":
            problem = "Docker's health check has not passed yet"
        if not problem:
            return container
    raise Failed(
        NOT_SERVING,
        f"{name} did not become healthy within {service.start_seconds} seconds: {problem}",
    )


def refuse_change(stack: "Stack", service: Service, watched: Container) -> None:
    """Fail if a container was restarted or replaced since it was inspected, or is not healthy."""
    container = stack.get(watched.name)
    if not container.is_same_run(watched):
        raise Failed(NOT_SERVING, f"{container.name} did not stay up: {container.state_text}")
    problem = lasting_problem_of(stack, service, container)
    if problem:
        raise Failed(NOT_SERVING, f"{container.name} did not stay healthy: {problem}")


def is_healthy(stack: "Stack", service: Service, name: str = "") -> bool:
    """Whether the own container of a service, or the one of that name, is healthy."""
    container = stack.find(name or service.container_name)
    return container is not None and not lasting_problem_of(stack, service, container)


def lasting_problem_of(stack: "Stack", service: Service, container: Container) -> str:
    """As `problem_of`, but asked twice: one lost answer does not mean that a container fails."""
    if not problem_of(stack, service, container):
        return ""
    return problem_of(stack, service, stack.find(container.name) or container)


def problem_of(stack: "Stack", service: Service, container: Container) -> str:
    """Why a container is not healthy; empty if it is.

    The request comes from the server, because an image may have no program that can send one.
    """
    if not container.is_running:
        return container.state_text
    health = service.health
    if container.docker_health == "unhealthy" and (not health or health.kind == "docker"):
        return "Docker's health check says that it is unhealthy"
    if not health:
        return ""
    if health.kind == "docker":
        if not container.docker_health:
            return "it has no health check of Docker's, in the compose file or its image"
        is_well = container.docker_health == "healthy"
        return "" if is_well else "Docker's health check has not succeeded yet"
    problem = f"it has no address on a network, for {health}"
    for address in container.addresses:
        problem = problem_at(stack, health, address)
        if not problem:
            return ""
    return problem


def problem_at(stack: "Stack", health: Health, address: str) -> str:
    """Why a health check over the network fails at an address; empty if it succeeds."""
    headers = {"Host": health.host or f"{address}:{health.port}", "User-Agent": "kiwari-ci"}
    if health.host:
        headers["X-Forwarded-Proto"] = health.scheme
    try:
        if health.kind == "tcp":
            stack.machine.connect(address, health.port)
            return ""
        status = stack.machine.http_status(address, health.port, health.path, headers)
    except (OSError, ValueError, OverflowError) as error:
        return f"{health}: {error or type(error).__name__}"
    return "" if status == health.status else f"{health}: the answer was {status}"


# 15. Record what serves, pin it, clean up. Records are append-only; pins are made from them.


def read_record(path: Path) -> List[Record]:
    """The lines of a record, oldest first; notes of a person and incomplete lines are skipped."""
    if not path.is_file():
        return []
    matches = (
        RECORD_LINE.fullmatch(line) for line in path.read_text("utf-8", "replace").split("\n")
    )
    return [Record(match[1], int(match[2]), match[3], match[4]) for match in matches if match]


def image_to_go_back_to(stack: "Stack", service: Service, digest: str) -> str:
    """The image with that digest if it ever served; without a digest, the one that served before.

    If an image serves that is not recorded, because its deploy was cancelled or killed before that,
    the last recorded image is the one that served before, also if this request has undone that
    deploy already.
    """
    records = stack.record(service.name)
    if digest:
        images = [record.image for record in records if digest_of(record.image) == digest]
    else:
        images = images_without_undone_ones(records)
        if service.name in stack.unrecorded:
            progress(
                f"the last deploy of {service.name} ended before it was recorded: going back to the"
                " image that served before it"
            )
        elif images and serving_image(stack, service) in ("", images[-1]):
            images.pop()  # it serves, or nothing does: a rollback goes to the one before
    if not images:
        raise Failed(
            BAD_IMAGE,
            f"the record of {service.name} has no such image: see"
            f" {stack.name}/.deploys/{service.name}",
        )
    return images[-1]


def images_without_undone_ones(records: List[Record]) -> List[str]:
    """The recorded images, oldest first, without those from which somebody rolled back.

    So after deploys of 1 and 2, a rollback to 1 and a deploy of 3, the image before 3 is 1.
    """
    images: List[str] = []
    for record in records:
        if record.run == "rollback" and record.image in images:
            while images[-1] != record.image:
                images.pop()
        elif not images or images[-1] != record.image:
            images.append(record.image)
    return images


def lowest_deployed_sequence(records: List[Record], image: str) -> int:
    """The lowest commit number with which an image was deployed; 0 if only rollbacks name it."""
    numbers = [
        record.sequence for record in records if record.image == image and record.run != "rollback"
    ]
    return min(numbers, default=0)


def remove_old_images(stack: "Stack", services: List[Service]) -> None:
    """Remove images of these services, except those that a stack of this server can go back to.

    Only these repositories are cleaned up: `docker image prune` could remove somebody else's.
    """
    unreadable = unreadable_folders()
    if unreadable:
        names = ", ".join(str(path) for path in unreadable)
        progress(
            "note: old images stay, because this user cannot read which images a stack needs in"
            f" {names}"
        )
        return
    for repository in sorted(
        {service.repository for service in services if service.result == "serving"}
    ):
        output = stack.machine.docker(
            "image", "ls", "--digests", "--format", "{{json .}}", repository
        )
        for line in output.out.splitlines():
            remove_unneeded_image(stack, f"{repository}@{json.loads(line).get('Digest')}")


def remove_unneeded_image(stack: "Stack", image: str) -> None:
    """Remove an image that no stack needs.

    The lock is taken for each image: a removal may take long, and hand-overs wait for it.
    """
    with locked(ROOT / HOST_LOCK, f"removing {image}"):
        if "@sha256:" in image and image not in needed_images():
            stack.machine.docker("image", "rm", image, seconds=CHANGE_SECONDS)


def unreadable_folders() -> List[Path]:
    """Folders of stacks, or of their records, that this user cannot read: they belong to root."""
    folders = [folder for folder in sorted(ROOT.iterdir()) if folder.is_dir()]
    unreadable = [folder for folder in folders if not os.access(folder, os.X_OK)]
    for folder in folders:
        state = folder / ".deploys"
        if folder not in unreadable and state.is_dir() and not os.access(state, os.R_OK | os.X_OK):
            unreadable.append(state)
    return unreadable


def needed_images() -> Set[str]:
    """The images that the stacks of this server serve, go back to, or have just pulled."""
    needed: Set[str] = set()
    for path in ROOT.glob("*/.deploys/*"):
        newest_first = [record.image for record in reversed(read_record(path))]
        needed.update(list(dict.fromkeys(newest_first))[:IMAGES_TO_KEEP])
    for path in ROOT.glob("*/.deploys/trial.yml"):
        # An image that another stack has just pulled is not in a record yet.
        needed.update(PINNED_IMAGE.findall(path.read_text("utf-8", "replace")))
    return needed


# 16. Report: the output at the end of a request, and of `status`.


def exit_code_of(services: List[Service]) -> int:
    """The exit code for the results of all services of a request."""
    results = {service.result for service in services}
    if results & {"failed", "not started", ""}:
        return NOT_SERVING
    return SUPERSEDED if "superseded" in results else SERVING


def print_outcome(
    stack: "Stack", request: Request, services: List[Service], images: Dict[str, str], code: int
) -> None:
    """Print the image of each service that serves now; after a failure, also commands that help."""
    for service in services:
        image = images[service.name]
        shown = digest_of(image) or "nothing"
        result = result_of(service)
        title = "SERVING" if result in ("serving", "unchanged", "superseded") else result.upper()
        if service.runs_once and title == "SERVING":
            progress(f"HAS RUN TO ITS END: {service.name} with {shown}")
            continue
        progress(
            f"{title}: {service.name}; serving now: {shown}{settings_text(stack, service, image)}"
        )
        serves_another_image = image not in ("", service.previous_image)
        if result == "failed" and service.previous_image and serves_another_image:
            progress(f"to go back: {rollback_command(stack, service, service.previous_image)}")
    if code not in (SERVING, SUPERSEDED):
        print_mixed_versions(stack, request, services, images)


def settings_text(stack: "Stack", service: Service, image: str) -> str:
    """If a deploy has failed that changed only settings: whether the old or the new ones serve."""
    is_same_image = image == service.image == service.previous_image
    if service.result != "failed" or not is_same_image:
        return ""
    return f" with its {'new' if serves_new_version(stack, service, image) else 'old'} settings"


def serves_new_version(stack: "Stack", service: Service, image: str) -> bool:
    """Whether a service, of which this image serves, has the version of the request.

    Of one that failed, the old container may serve with the same image: only settings changed.
    """
    if image != service.image:
        return False
    if service.result != "failed":
        return True
    container = serving_container(stack, service)
    return container is not None and is_new_container(stack, service, container)


def print_mixed_versions(
    stack: "Stack", request: Request, services: List[Service], images: Dict[str, str]
) -> None:
    """After a failure, say if some services run the new version and others do not, and the way out.

    The services of a request belong to one commit, and may not work together in two versions.
    """
    new = [
        service for service in services if serves_new_version(stack, service, images[service.name])
    ]
    behind = [service for service in services if service not in new]
    changed = [service for service in new if service.image != service.previous_image]
    if not changed or not behind:
        return
    progress("VERSIONS ARE MIXED NOW:")
    for service in new:
        progress(f"  new version: {service.name} {digest_of(service.image)}")
    for service in behind:
        version = "newer version" if service.result == "superseded" else "old version"
        progress(
            f"  {version}: {service.name} {digest_of(images[service.name]) or 'nothing answers'}"
        )
    if request.run.isdigit():
        progress(f"to go forward, remove the cause, then: gh run rerun {request.run} --failed")
    if all(service.previous_image for service in changed):
        commands = [rollback_command(stack, service, service.previous_image) for service in changed]
        progress(f"to go back: {' && '.join(commands)}")
    else:
        names = ", ".join(service.name for service in changed if not service.previous_image)
        progress(f"there is no version to go back to for: {names}")


def serving_image(stack: "Stack", service: Service) -> str:
    """The image of the service's container that is healthy now; empty if none is.

    Of a one-shot it is the image that ran to its end last.
    """
    if service.runs_once:
        return stack.newest_record(service.name).image
    container = serving_container(stack, service)
    return container.image if container else ""


def serving_container(stack: "Stack", service: Service) -> Optional[Container]:
    """The service's container that is healthy now, if there is one."""
    names = [service.container_name, service.set_aside_name]
    if service.can_temporary_serve:
        names.insert(1, service.temporary_name)
    try:
        for name in names:
            container = stack.find(name)
            if not container or problem_of(stack, service, container):
                continue
            if not is_restarted_failure(service, container):
                return container
    except Cancelled:
        raise
    except (Failed, OSError):
        pass
    return None


def is_restarted_failure(service: Service, container: Container) -> bool:
    """Whether a service without HTTP has failed, and Docker restarts it: it may look healthy."""
    return service.result == "failed" and not service.health and container.restarts > 0


def print_result(
    stack: "Stack", services: List[Service], images: Dict[str, str], code: int, message: str
) -> None:
    """Print the last line: the outcome as JSON, for the workflow."""
    results = {SERVING: "serving", SUPERSEDED: "superseded"}
    result: Json = {
        "protocol": PROTOCOL,
        "result": results.get(code, "failed"),
        "exit": code,
        "stack": stack.name,
        "seconds": stack.seconds(),
        "message": printable(message),
        "services": [service_result(service, images[service.name]) for service in services],
    }
    if code == SUPERSEDED:
        result["newest_sequence"] = max(
            stack.newest_record(service.name).sequence for service in services
        )
    print_line(json.dumps(result))


def service_result(service: Service, image: str) -> Json:
    """The outcome of one service, of which this image serves, for the JSON line."""
    return {
        "service": service.name,
        "result": result_of(service),
        "before": digest_of(service.previous_image) or None,
        "now": digest_of(image) or None,
        "seconds": service.seconds,
    }


def result_of(service: Service) -> str:
    """The result of a service; it has none if the request failed before its turn."""
    return service.result or "not started"


def unfinished_rotation(stack: "Stack") -> str:
    """A sentence about a rotation that is not undone yet."""
    return (
        f"A rotation of {stack.name} failed or was interrupted, and is not undone yet: the next"
        " deploy, rollback or rotation does it first."
    )


def print_status(machine: "Machine", only: str) -> int:
    """`status`: print the version of this program, and what serves in each stack."""
    checksum = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    print(f"bin/deploy {VERSION} sha256:{checksum}")
    for path in sorted(ROOT.glob(f"{only or '*'}/.deploys/*")):
        records = read_record(path)
        if not records:
            continue
        stack = Stack(machine, path.parent.parent)
        print(f"{stack.name}/.deploys/{path.name}: {service_status(stack, path.name)}")
        print(f"  pinned: {records[-1]}")
        for sentence in notes_about_settings(stack, path.name):
            print(f"  note: {sentence}")
    for note in sorted(ROOT.glob(f"{only or '*'}/.deploys/{ROTATION_NOTE}")):
        print(unfinished_rotation(Stack(machine, note.parent.parent)))
    return OK


def service_status(stack: "Stack", name: str) -> str:
    """The state of one service, as text."""
    try:
        stack.read_compose_file()
        service = stack.services.get(name) or Service(name, {})
        if service.runs_once:
            return "has run to its end"
        container = stack.find(service.container_name)
        if not container:
            return "DOES NOT RUN: it has no container"
        problem = problem_of(stack, service, container)
        return (
            f"DOES NOT ANSWER: {problem}"
            if problem
            else f"{container.image} {container.state_text}"
        )
    except Failed as failure:
        return f"UNKNOWN: {failure.message}"


def notes_about_settings(stack: "Stack", name: str) -> Iterator[str]:
    """A sentence if the container of a service has other settings than the files describe now.

    The image does not show that: a deploy that changes only settings keeps it.
    """
    service = stack.services.get(name)
    if not service or service.runs_once:
        return
    with contextlib.suppress(Failed, OSError):  # the line above says if Docker does not answer
        if is_locked(stack.lock_file):
            return  # a deploy is at work
        own, temporary = stack.find(service.container_name), stack.temporary(service)
        if temporary:
            yield f"{temporary.name} is left of a deploy that failed or was interrupted"
        if own and own.is_running and stack.owns(own, service):
            service.image = own.image
            difference = difference_from_files(stack, service, own)
            if difference:
                yield f"{own.name} {difference}: the next deploy of {name} replaces it"


def print_end_of_log(stack: "Stack", service: Service) -> None:
    """Print the state of the containers, and the end of the log of the new ones.

    The log of an old one has nothing about this deploy, and perhaps the data of customers.
    """
    with contextlib.suppress(Failed, OSError):
        temporary, own = stack.temporary(service), stack.find(service.container_name)
        for container in filter(None, (temporary, own)):
            quote(f"{container.name}: {container.state_text}")
            has_new_log = container is temporary or is_new_container(stack, service, container)
            if not has_new_log and not service.is_accessory:
                continue
            output = stack.machine.docker("logs", "--tail", str(LOGGED_LINES), container.name)
            quote(output.out + output.err)


# 17. The stack: its files, and its containers as Docker knows them.


class Stack:
    """A Compose project of this server: a folder, and the containers of its compose file."""

    def __init__(self, machine: "Machine", folder: Path) -> None:
        self.machine = machine
        self.began = machine.now()
        self.folder = folder
        self.name = folder.name
        self.state = folder / ".deploys"
        self.files = Files(folder)
        self.pins = folder / PINS_FILE
        self.trial_pins = self.state / "trial.yml"
        self.lock_file = folder / ".deploy.lock"
        self.owed_hook = self.state / "owed-hook.json"
        self.old_versions = self.state / ".replaced"
        self.replaced_note = self.state / ".replaced.json"
        self.rotation_note = self.state / ROTATION_NOTE
        self.token_prefix = (
            "kiwari-ci-" + hashlib.sha256(str(folder).encode()).hexdigest()[:16] + "-"
        )
        self.model: Json = {}
        self.services: Dict[str, Service] = {}
        self.are_env_files_read = False
        self.unrecorded: Set[str] = set()  # services whose interrupted deploy was not recorded
        self._engine: Json = {}

    def seconds(self) -> int:
        """The seconds since the request began."""
        return round(self.machine.now() - self.began)

    def engine(self) -> Json:
        """What `docker version` prints about the engine, asked once: its version and platform."""
        if not self._engine:
            versions = self.machine.json("version", "--format", "{{json .}}")
            self._engine = versions.get("Server") or {}
        return self._engine

    # Its lock and its login

    @contextlib.contextmanager
    def locked(self, request: Request) -> Iterator[None]:
        """Hold the stack's lock."""
        words = [request.verb, self.name, *request.images]
        purpose = f"{' '.join(words)}, run {request.run}"
        with locked(self.lock_file, purpose, self.machine, request.is_from_key):
            yield

    @contextlib.contextmanager
    def login(self, service: Service, token: str) -> Iterator[Path]:
        """Write a Docker configuration for its registry into memory, and remove it afterwards.

        `docker login` is not used: it may write the token to a credential store on the disk.
        """
        try:
            folder = Path(tempfile.mkdtemp(prefix=self.token_prefix, dir=MEMORY_FOLDER))
        except OSError as error:
            raise Failed(
                NOT_READY,
                f"the token cannot be written to memory, in {MEMORY_FOLDER}: {error.strerror}",
            ) from error
        try:
            user = service.labels.get("deploy.user") or "x-access-token"
            account = base64.b64encode(f"{user}:{token}".encode()).decode()
            accounts = {registry_key(service.image): {"auth": account}}
            write_json(folder / "config.json", {"auths": accounts})
            yield folder
        finally:
            remove_folder(folder)

    # Its compose file

    def read_compose_file(self, files: Optional[Files] = None) -> None:
        """Let Compose read the stack's files, and set `model` and `services` from its answer."""
        files = files or self.files
        if not files.text():
            raise Failed(
                NOT_READY,
                f"{self.folder / COMPOSE_FILE} is missing. Copy it: {how_to_copy_stack(self.name)}",
            )
        config = ("config", "--format", "json")
        output = self.compose_text(files.text(), *config, folder=files.folder)
        self.are_env_files_read = output.code == 0
        if output.code != 0:
            # Perhaps an env file is missing. The preflight reports that, with its other findings.
            text = ENV_FILE_LINE.sub("", files.text())
            output = self.compose_text(text, *config, folder=files.folder)
        if output.code != 0:
            refuse_findings(list(check_versions(self)))  # perhaps Compose is missing
            # The error of Compose is not shown, because it may quote a password of an env file.
            raise Failed(
                NOT_READY,
                f"Compose cannot read {self.folder / COMPOSE_FILE}, or a file that it names."
                f" See why on the server: cd {self.folder} && docker compose config -q",
            )
        # Files that are not installed yet will be in the stack's folder.
        self.model = json.loads(output.out.replace(f"{files.folder}/", f"{self.folder}/"))
        earlier = self.services
        self.services = {
            name: Service(name, model) for name, model in self.model["services"].items()
        }
        # The services of this request keep what they have learned so far, such as their image.
        for name, service in earlier.items():
            if name in self.services and service.image:
                service.model = self.services[name].model
                self.services[name] = service

    def service(self, name: str) -> Service:
        """A service that a request may name."""
        service = self.services.get(name)
        if not service:
            raise Failed(
                BAD_REQUEST,
                f"there is no service '{name}' in: {', '.join(self.services)}. If it is new, copy"
                f" the compose file: {how_to_copy_stack(self.name)}",
            )
        if service.is_accessory:
            raise Failed(
                BAD_REQUEST,
                f"{name} is an accessory, which a deploy never replaces: its image is the one in"
                " the compose file",
            )
        service.previous_image = self.newest_record(name).image
        return service

    def compose(
        self,
        *arguments: str,
        pins: Optional[Path] = None,
        seconds: int = CHANGE_SECONDS,
        prints_output: bool = False,
    ) -> Output:
        """Run Compose on the stack's files. With -f for each, it does not look for others."""
        files = ["-f", str(self.folder / COMPOSE_FILE)] + (["-f", str(pins)] if pins else [])
        project = ["--project-directory", str(self.folder), "-p", self.name]
        return self.machine.docker(
            *COMPOSE, *project, *files, *arguments, seconds=seconds, prints_output=prints_output
        )

    def compose_text(self, text: str, *arguments: str, folder: Optional[Path] = None) -> Output:
        """Run Compose on the text of a compose file, with the env files of the stack or a folder."""
        options = ["--project-directory", str(folder or self.folder), "-p", self.name, "-f", "-"]
        return self.machine.docker(
            *COMPOSE, *options, *arguments, stdin=text, seconds=CHANGE_SECONDS
        )

    def model_of(self, service: Service) -> Json:
        """A compose file with that service alone, on its new image."""
        settings = dict(service.model)
        settings.pop("depends_on", None)
        if service.image:
            settings["image"] = service.image
        model: Json = {"name": self.name, "services": {service.name: settings}}
        for key in ("networks", "volumes", "configs", "secrets"):
            if key in self.model:
                model[key] = self.model[key]
        return model

    def successor_model(self, service: Service, container: Container) -> Json:
        """The compose file for `create_successor`: no container name, the old anonymous volumes."""
        model = self.model_of(service)
        settings = model["services"][service.name]
        settings.pop("container_name", None)
        volumes = {volume.get("target"): volume for volume in settings.get("volumes") or []}
        for mount in container.mounts:
            # The new container takes over anonymous volumes, as with `docker compose up`.
            name, target = mount.get("Name"), mount.get("Destination")
            if is_anonymous_volume(mount) and not volumes.get(target, {}).get("source"):
                volumes[target] = {"type": "volume", "source": name, "target": target}
                external = {name: {"name": name, "external": True}}
                model["volumes"] = {**(model.get("volumes") or {}), **external}
        if volumes:
            settings["volumes"] = list(volumes.values())
        return model

    def config_hash(self, service: Service) -> str:
        """Compose's checksum of a service's settings, which its containers have as a label."""
        model = self.model_of(service)
        if "depends_on" in service.model:
            model["services"][service.name]["depends_on"] = service.model["depends_on"]
            others = {name: self.services[name].model for name in needed_by(self, [service])}
            model["services"] = {**others, **model["services"]}
        return self.hash_of(model, service)

    def hash_of(self, model: Json, service: Service) -> str:
        """Compose's checksum of a service in a generated compose file; empty if it fails."""
        output = self.compose_text(json.dumps(model), "config", "--hash", service.name)
        return output.out.split()[-1] if output.code == 0 and output.out.split() else ""

    def hashes(self, service: Service, container: Container) -> Set[str]:
        """The checksums that its container may have as a label if no setting has changed."""
        successor = self.successor_model(service, container)
        return {self.config_hash(service), self.hash_of(successor, service)} - {""}

    def network_name(self, key: str) -> str:
        """Docker's name for a network of the compose file."""
        settings = (self.model.get("networks") or {}).get(key) or {}
        return str(settings.get("name") or key)

    # Its containers

    def containers(self) -> List[Container]:
        """All containers of the server, also stopped ones and those of other projects."""
        listed = self.machine.docker("ps", "-aq", "--no-trunc")
        if listed.code != 0:
            raise no_answer(listed)
        names = listed.out.split()
        if not names:
            return []
        output = self.machine.docker("inspect", "--type", "container", *names)
        if output.code != 0 and not is_missing(output):
            raise no_answer(output)
        return [container_from(entry) for entry in json.loads(output.out or "[]")]

    def folders_of_volumes(self) -> Dict[str, str]:
        """The folders of the server in which the data of its volumes are, by their names."""
        names = self.machine.docker("volume", "ls", "-q").out.split()
        if not names:
            return {}
        output = self.machine.docker("volume", "inspect", *names)
        folders = {}
        for volume in json.loads(output.out or "[]"):
            device = str((volume.get("Options") or {}).get("device") or "")
            is_folder = device.startswith("/")  # a volume may stand for a folder elsewhere
            folders[volume["Name"]] = device if is_folder else str(volume["Mountpoint"])
        return folders

    def containers_of(self, service: Service) -> List[Container]:
        """The containers that Compose regards as this service's."""
        return [container for container in self.containers() if self.owns(container, service)]

    def owns(self, container: Container, service: Service) -> bool:
        """Whether Compose made a container for this service of this stack."""
        return (
            container.project == self.name
            and container.service == service.name
            and not container.is_one_off
        )

    def find(self, name: str) -> Optional[Container]:
        """The container of that name, or None."""
        output = self.machine.docker("inspect", "--type", "container", name)
        if output.code == 0:
            # `docker inspect` also accepts the beginning of an id, so the name is compared.
            return find_container(map(container_from, json.loads(output.out)), name)
        if is_missing(output):
            return None
        raise no_answer(output)

    def temporary(self, service: Service) -> Optional[Container]:
        """The temporary container of a service, if there is one."""
        container = self.find(service.temporary_name)
        return container if container and self.is_temporary(container, service) else None

    def is_temporary(self, container: Container, service: Service) -> bool:
        """Whether a container is one that a deploy created with `docker compose run`."""
        is_of_service = container.project == self.name and container.service == service.name
        return is_of_service and container.is_one_off

    def set_aside_file(self, service: Service) -> Path:
        """The file that says which container is set aside."""
        return self.state / f".set-aside-{service.name}"

    def set_aside_note(self, service: Service) -> SetAside:
        """The note about the set-aside container of a service; an empty one if there is none."""
        return SetAside(**read_json(self.set_aside_file(service)))

    def write_set_aside_note(self, service: Service, note: SetAside) -> None:
        """Write the note about the set-aside container of a service."""
        write_json(self.set_aside_file(service), dataclasses.asdict(note))

    def forget_set_aside(self, service: Service) -> None:
        """Remove the note: no container is set aside any more."""
        self.set_aside_file(service).unlink(missing_ok=True)

    def replacement_file(self, service: Service) -> Path:
        """The file about the last replacement of a service's own container."""
        return self.state / f".replacing-{service.name}"

    def has_replacement(self, service: Service) -> bool:
        """Whether there is a note about a replacement of the own container."""
        return self.replacement_file(service).exists()

    def replacement(self, service: Service) -> Replacement:
        """The note about the last replacement; an empty one if there is none."""
        return Replacement(**read_json(self.replacement_file(service)))

    def note_replacement(self, service: Service) -> None:
        """Note which own container is replaced, before anything about it changes.

        If an interrupted replacement could not be finished or undone, the container that it made is
        still not recorded, and the old one is the one before that.
        """
        if self.has_replacement(service) and not is_replacement_recorded(self, service):
            self._change_replacement(service, image=service.image)
            return
        own = self.find(service.container_name)
        records = len(self.record(service.name))
        self._write_replacement(service, Replacement(own.id if own else "", service.image, records))

    def mark_replacement_as_recorded(self, service: Service) -> None:
        """Note that the new container is recorded: the old one never comes back."""
        self._change_replacement(service, is_recorded=True)

    def mark_as_old(self, service: Service, container_id: str) -> None:
        """Note that the own container, of this id, is not what the deploy created."""
        self._change_replacement(service, old_container=container_id)

    def _change_replacement(self, service: Service, **changes: Any) -> None:
        note = self.replacement(service)
        changed = dataclasses.replace(note, **changes)
        if self.has_replacement(service) and changed != note:
            self._write_replacement(service, changed)

    def _write_replacement(self, service: Service, note: Replacement) -> None:
        write_json(self.replacement_file(service), dataclasses.asdict(note))

    def forget_replacement(self, service: Service) -> None:
        """Remove the note: nothing is left of a replacement."""
        self.replacement_file(service).unlink(missing_ok=True)

    def get(self, name: str) -> Container:
        """The container of that name, which must exist."""
        container = self.find(name)
        if not container:
            raise Failed(NOT_SERVING, f"the container {name} does not exist any more")
        return container

    def rename(self, name: str, new_name: str) -> None:
        """Rename a container."""
        self.change("rename", name, new_name)

    def stop(self, name: str) -> None:
        """Stop a container; Docker kills it after its stop_grace_period.

        Docker gives up if a process cannot be killed, for example because it waits for a disk. Such
        a container may end at any moment, and then nothing starts it again. So it is waited for.
        """
        try:
            self.change("stop", name, seconds=self.change_seconds(name))
        except Cancelled:
            raise
        except Failed as failure:
            if not self.ends_in_time(name):
                raise Failed(
                    NOT_READY,
                    f"{name} does not end, although it was stopped and killed: {failure.message}. If"
                    " it ends later, nothing starts it again. To see what serves:"
                    f" {ROOT}/bin/deploy status {self.name}",
                ) from failure
            progress(f"note: {name} has ended, although Docker reported: {failure.message}")

    def ends_in_time(self, name: str) -> bool:
        """Whether a container that Docker could not stop ends within a minute."""
        for _ in self.machine.each_second(END_SECONDS):
            container = self.find(name)
            if not container or not container.has_processes:
                return True
        return False

    def change_seconds(self, name: str) -> int:
        """The time limit of a command that stops a container, which may take a long time to end."""
        container = self.find(name)
        return CHANGE_SECONDS + (container.stop_seconds if container else 0)

    def remove(self, name: str) -> None:
        """Remove a container; its anonymous volumes stay, because they may hold the only data."""
        self.change("rm", "-f", name)

    def remove_with_volumes(self, name: str) -> None:
        """Remove a container that was made for one deploy, and its anonymous volumes."""
        self.change("rm", "-f", "-v", name)

    def set_restart_policy(self, name: str, policy: str) -> None:
        """Change the restart policy of a container."""
        self.change("update", "--restart", policy, name)

    def change(self, *arguments: str, seconds: int = CHANGE_SECONDS) -> None:
        """Run a docker command that changes a container; it may be gone already."""
        output = self.machine.docker(*arguments, seconds=seconds)
        if output.code != 0 and not is_missing(output):
            raise Failed(NOT_READY, f"docker {arguments[0]} failed: {output.last_line}")

    # Its record and its pins

    def record(self, name: str) -> List[Record]:
        """The record of a service, oldest line first."""
        return read_record(self.state / name)

    def newest_record(self, name: str) -> Record:
        """The last line of the record of a service."""
        return (self.record(name) or [NO_RECORD])[-1]

    def newest_sequence(self) -> int:
        """The highest commit number that any service of the compose file serves.

        A service that the compose file no longer has does not count: nobody can lower its number.
        """
        return max((self.newest_record(name).sequence for name in self.services), default=0)

    def add_record(self, name: str, record: Record) -> None:
        """Append a line to the record, also after a line that a power cut has left incomplete."""
        path = self.state / name
        handle = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        # Without a buffer: after an error, its rest would be written when the file is closed.
        with named_in_errors(path), os.fdopen(handle, "r+b", buffering=0) as stream:
            size = stream.seek(0, os.SEEK_END)
            is_incomplete = size > 0 and os.pread(stream.fileno(), 1, size - 1) != b"\n"
            try:
                write_all(handle, (b"\n" if is_incomplete else b"") + f"{record}\n".encode())
                sync(stream)
            except OSError:
                os.ftruncate(handle, size)  # no deploy that fails may be in the record
                raise

    # The files that it mounts, and those that a deploy has replaced

    def replaced(self) -> ReplacedFiles:
        """The note about the files that a deploy has replaced; an empty one if there is none."""
        return ReplacedFiles(**read_json(self.replaced_note))

    def write_replaced(self, note: ReplacedFiles) -> None:
        """Write the note about the files that a deploy has replaced."""
        write_json(self.replaced_note, dataclasses.asdict(note))

    def settle_replaced(self, settled: Iterable[str]) -> None:
        """Note that these files have the version that they keep: the new one, or the old one again."""
        note = self.replaced()
        names = [name for name in note.names if name not in settled]
        if names != note.names:
            self.write_replaced(ReplacedFiles(names, note.added, is_installed=True))

    def forget_replaced_files(self) -> None:
        """Remove the copies of the replaced files: what is in the stack's folder stays."""
        self.replaced_note.unlink(missing_ok=True)
        remove_folder(self.old_versions)

    def mounts(self, service: Service, name: str) -> bool:
        """Whether a service mounts a file of the stack's folder, or a folder that it is in."""
        path = self.folder / name
        volumes = service.model.get("volumes") or []
        sources = [Path(str(volume.get("source"))) for volume in volumes]
        return any(source == path or source in path.parents for source in sources)

    def mounted_checksum(self, service: Service) -> str:
        """One checksum of the files beside the compose file that a service mounts; or empty."""
        names = [name for name in self.files.beside() if self.mounts(service, name)]
        return checksum_of_files(self.folder, names) if names else ""

    def recorded_mounts(self, service: Service) -> str:
        """The checksum of the mounted files when a deploy started the own container last."""
        path = self.state / f".mounts-{service.name}"
        return path.read_text() if path.is_file() else ""

    def record_mounts(self, service: Service) -> None:
        """Store the checksum of the mounted files: most programs read them only when they start."""
        checksum = self.mounted_checksum(service)
        if checksum != self.recorded_mounts(service):
            write_file(self.state / f".mounts-{service.name}", checksum.encode(), 0o600)

    def write_pins(self, images: Optional[Dict[str, str]] = None) -> None:
        """Pin each service to one of these images, or else to the recorded one.

        A service of the same batch whose new container runs already keeps its new image.
        """
        running = {
            name: service.image
            for name, service in self.services.items()
            if service.is_own_replaced and not service.result
        }
        self._write_pins(self.pins, {**running, **(images or {})})

    def write_trial_pins(self) -> None:
        """Pin the request's services to their new images, in a file that Compose gets only by -f.

        These images have not proved themselves, so `docker compose up` by hand must not use them.
        """
        images = {name: service.image for name, service in self.services.items() if service.image}
        self._write_pins(self.trial_pins, images)

    def _write_pins(self, path: Path, images: Dict[str, str]) -> None:
        text = PINS_HEAD
        for name, service in self.services.items():
            image = (
                "" if service.is_accessory else images.get(name) or self.newest_record(name).image
            )
            text += f'  {name}: {{image: "{image}"}}\n' if image else f"  {name}: {{}}\n"
        write_file(path, text.encode(), 0o644)


# 18. The machine: everything outside of this program. Tests replace this class.


class Machine:
    """The server: Docker, HTTP, memory, disk and clock."""

    inherited: Tuple[int, ...] = ()  # open files that docker commands inherit: the stack's lock

    def docker(
        self,
        *arguments: str,
        stdin: str = "",
        seconds: int = QUERY_SECONDS,
        prints_output: bool = False,
        can_be_cancelled: bool = False,
    ) -> Output:
        """Run docker; with `prints_output`, its output goes to the log while it runs."""
        command = ["docker", *arguments]
        if prints_output:
            return self.show(command, seconds)
        try:
            # Half of a change would be hard to undo.
            until_its_end = contextlib.nullcontext() if can_be_cancelled else uninterrupted()
            with memory_file() as out, memory_file() as err, until_its_end:
                # Files: with a pipe, docker would die if this program is killed.
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=out,
                    stderr=err,
                    pass_fds=self.inherited,
                    start_new_session=True,
                )
                with ended_with_its_group(process):
                    process.communicate(stdin.encode(), seconds)
                return Output(process.returncode, text_of(out), text_of(err))
        except subprocess.TimeoutExpired as error:
            raise TimedOut(
                NOT_READY, f"docker {verb_of(arguments)} did not end within {seconds} seconds"
            ) from error
        except FileNotFoundError as error:
            raise Failed(NOT_READY, "docker is not installed") from error

    def json(self, *arguments: str) -> Any:
        """Run docker, and parse the JSON that it prints."""
        output = self.docker(*arguments)
        if output.code != 0:
            raise no_answer(output)
        return json.loads(output.out)

    def show(self, command: List[str], seconds: int, stdin: str = "") -> Output:
        """Run a command, and print its output while it runs."""
        with memory_file() as given:
            given.write(stdin.encode())
            given.seek(0)
            process = subprocess.Popen(
                command,
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=self.inherited,
                start_new_session=True,
            )
        assert process.stdout
        timer = threading.Timer(seconds, kill_group, [process])
        timer.start()
        try:
            with ended_with_its_group(process), process.stdout as stream:
                for count, line in enumerate(iter(partial(stream.readline, 65536), b"")):
                    if count < MOST_LINES_SHOWN:
                        quote(line.decode(errors="replace"))
                return Output(process.wait(), "", "")
        finally:
            timer.cancel()

    def script(self, command: List[str], folder: Path, settings: Dict[str, str]) -> int:
        """Run a hook, print its output, and return its exit code.

        The output goes to a file in memory: a pipe would stay open as long as a background process
        of the hook runs, and a full disk must not prevent hooks/after.
        """
        with memory_file() as printed:
            try:
                process = subprocess.Popen(
                    command,
                    cwd=folder,
                    env={**os.environ, **settings},
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                with ended_with_its_group(process):
                    code = process.wait(SCRIPT_SECONDS)
            except subprocess.TimeoutExpired:
                code = 124
            printed.seek(0)
            quote(printed.read(MOST_LINES_SHOWN * 100).decode(errors="replace"))
        return code

    def connect(self, address: str, port: int) -> None:
        """Open a TCP connection, and close it."""
        socket.create_connection((address, port), ANSWER_SECONDS).close()

    def http_status(self, address: str, port: int, path: str, headers: Dict[str, str]) -> int:
        """Send a GET request and return the status of the answer; redirects are not followed.

        Only the first line of the answer is read, and for five seconds at most, because a broken
        container may send bytes without an end.
        """
        end = self.now() + ANSWER_SECONDS
        lines = [f"GET {path} HTTP/1.1", *(f"{key}: {text}" for key, text in headers.items())]
        answer = b""
        with socket.create_connection((address, port), ANSWER_SECONDS) as connection:
            connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
            while b"\n" not in answer and len(answer) < 1024:
                connection.settimeout(max(0.01, end - self.now()))
                block = connection.recv(1024)
                if not block:
                    break
                answer += block
        match = re.match(rb"HTTP/1\.[01] ([0-9]{3})", answer)
        if not match:
            raise ValueError("the answer is not HTTP")
        return int(match[1])

    def listening_ports(self) -> List[Port]:
        """The ports of the server on which a program listens, or Docker for a container."""
        ports: List[Port] = []
        for protocol in ("tcp", "udp"):
            for table in (protocol, f"{protocol}6"):
                with contextlib.suppress(OSError):  # there is no table without IPv6
                    rows = Path("/proc/net", table).read_text().splitlines()[1:]
                    ports += ports_from(rows, protocol)
        return ports

    def now(self) -> float:
        """Seconds of a clock that is never set."""
        return time.monotonic()

    def available_memory(self) -> int:
        """The free memory, in bytes."""
        match = re.search(r"MemAvailable: +([0-9]+) kB", Path("/proc/meminfo").read_text())
        return int(match[1]) * 1024 if match else 0

    def memory_of(self, process: int) -> Optional[int]:
        """The bytes of memory that the container of a process uses; None if unknown."""
        with contextlib.suppress(OSError, ValueError):
            for line in Path(f"/proc/{process}/cgroup").read_text().splitlines():
                _, controllers, group = line.split(":", 2)
                if not controllers:
                    return int(Path(f"/sys/fs/cgroup{group}/memory.current").read_text())
                if "memory" in controllers.split(","):
                    used = Path(f"/sys/fs/cgroup/memory{group}/memory.usage_in_bytes")
                    return int(used.read_text())
        return None

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def each_second(self, seconds: float) -> Iterator[None]:
        """Yield at once, and then each second, the last time when so many seconds have passed."""
        end = self.now() + seconds
        yield
        while self.now() < end:
            self.wait(1)
            yield

    def free_megabytes(self, folder: str) -> int:
        """The free space on the disk of a folder."""
        try:
            return shutil.disk_usage(folder).free // 1_000_000
        except OSError:
            return shutil.disk_usage("/").free // 1_000_000


# 19. Helpers.


def as_failure(error: Exception) -> Failed:
    """An error with its exit code and its message."""
    if isinstance(error, Failed):
        return error
    if isinstance(error, OSError):
        return Failed(NOT_READY, os_error_text(error))
    traceback.print_exc()
    return Failed(NOT_SERVING, f"a mistake in bin/deploy itself: {error!r}")


def no_answer(output: Output) -> Failed:
    """The failure of a docker command that only reads."""
    return Failed(NOT_READY, f"Docker does not answer: {output.last_line}")


def is_missing(output: Output) -> bool:
    """Whether Docker says that a container does not exist; a missing socket is something else."""
    return re.search("no such (container|object)", output.err.lower()) is not None


def container_from(entry: Json) -> Container:
    """A container, from an entry of the output of `docker inspect`."""
    state = entry["State"]
    health = (state.get("Health") or {}).get("Status", "")
    networks = (entry.get("NetworkSettings") or {}).get("Networks") or {}
    settings = entry.get("HostConfig") or {}
    return Container(
        name=entry["Name"].lstrip("/"),
        id=entry["Id"],
        process=int(state.get("Pid") or 0),
        image=entry["Config"]["Image"],
        image_id=entry["Image"],
        status=state["Status"],
        started_at=state.get("StartedAt", ""),
        exit_code=int(state.get("ExitCode") or 0),
        restarts=int(entry.get("RestartCount") or 0),
        is_out_of_memory=bool(state.get("OOMKilled")),
        docker_health="" if health == "none" else health,
        is_removed_when_stopped=bool(settings.get("AutoRemove")),
        restart_policy=restart_policy_from(settings.get("RestartPolicy")),
        labels=entry["Config"].get("Labels") or {},
        networks=networks,
        mounts=tuple(entry.get("Mounts") or ()),
        ports=tuple(
            port_from(binding.get("HostIp"), binding["HostPort"], port.partition("/")[2])
            for port, host_ports in (settings.get("PortBindings") or {}).items()
            for binding in host_ports or []
            if binding.get("HostPort")
        ),
        stop_seconds=int(entry["Config"].get("StopTimeout") or 0),
    )


def port_from(address: Any, number: Any, protocol: Any) -> Port:
    """A published port, with the same empty address for all forms of "on all addresses"."""
    is_everywhere = address in (None, "0.0.0.0", "::")  # noqa: S104 - it is compared, not used
    return Port("" if is_everywhere else str(address), str(number), str(protocol or "tcp"))


def ports_from(rows: Iterable[str], protocol: str) -> Iterator[Port]:
    """The ports on which somebody listens, from the rows of /proc/net/tcp or /proc/net/udp."""
    listening = "0A" if protocol == "tcp" else "07"
    for row in rows:
        _, local, _, state, *_ = row.split()
        if state == listening:
            address, _, number = local.partition(":")
            yield port_from(address_from(address), int(number, 16), protocol)


def address_from(digits: str) -> str:
    """An address in the form of /proc/net: words of 32 bits, each in the byte order of the CPU."""
    words = re.findall("[0-9A-F]{8}", digits)
    packed = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    address = ipaddress.ip_address(packed)
    return str(getattr(address, "ipv4_mapped", None) or address)


def restart_policy_from(settings: Optional[Json]) -> str:
    """A restart policy as `docker update --restart` takes it: on-failure may have a limit."""
    policy = str((settings or {}).get("Name") or "")
    most_restarts = (settings or {}).get("MaximumRetryCount")
    return f"{policy}:{most_restarts}" if policy == "on-failure" and most_restarts else policy


def find_container(containers: Iterable[Container], name: str) -> Optional[Container]:
    """The container of that name, or None."""
    return next((container for container in containers if container.name == name), None)


def progress(text: str) -> None:
    """Print a line of progress."""
    print_line(f"==> {printable(text)}")


def print_error(text: str) -> None:
    """Print an error, after the name of the program that a person typed."""
    print_line(f"{PROGRAM}: {printable(text)}", sys.stderr)


def quote(text: str) -> None:
    """Print the output of another program, so that no line is a command to GitHub's runner."""
    for value in HIDDEN_VALUES:
        text = text.replace(value, "***")
    for line in text.replace("\r", "\n").splitlines():
        print_line(f"| {printable(line[:MOST_LETTERS_SHOWN])}")


def print_line(text: str, stream: Optional[TextIO] = None) -> None:
    """Print a line; a full disk, where the log is, must not end a deploy half-way."""
    with contextlib.suppress(OSError):
        print(text, file=stream or sys.stdout, flush=True)


def printable(text: str) -> str:
    """Replace control characters, which a terminal would obey, and `##[` of GitHub's runner."""
    letters = [letter if letter.isprintable() or letter == "\t" else "?" for letter in text]
    return "".join(letters).replace("##[", "## [")


def unescape(text: str) -> str:
    """A text of Compose's output, in which each `$` is doubled."""
    return text.replace("$$", "$")


def seconds_of(text: Optional[str], default: int) -> int:
    """The number of seconds in a label."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,5}", text) else default


def digest_of(image: str) -> str:
    """The digest in the name of an image; empty if it has none."""
    return image.partition("@")[2]


def repository_of(image: str) -> str:
    """The name of an image without tag and digest."""
    name = image.partition("@")[0]
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}"


def registry_of(image: str) -> str:
    """The registry in the name of an image."""
    first, slash, _ = image.partition("/")
    return first if slash and (re.search("[.:]", first) or first == "localhost") else "docker.io"


def registry_key(image: str) -> str:
    """The key of an image's registry in Docker's configuration file."""
    registry = registry_of(image)
    return "https://index.docker.io/v1/" if registry == "docker.io" else registry


def verb_of(arguments: Sequence[str]) -> str:
    """The subcommands in the arguments of docker, for a message."""
    return " ".join(word for word in arguments if re.fullmatch(r"[a-z]+", word))[:40]


def megabytes(size: int) -> str:
    """A number of bytes, for a message."""
    return f"{size // 1_000_000} MB"


def version_of(text: str) -> Tuple[int, int]:
    """The first two numbers of a version."""
    match = re.match(r"v?([0-9]+)\.([0-9]+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def version_text(version: Tuple[int, int]) -> str:
    """A version, for a message."""
    return f"{version[0]}.{version[1]}"


def copy_command(folder: str) -> str:
    """The command that copies a folder of the repository's deploy/ to this server."""
    unpacking = f"umask 022; tar -x --strip-components=1 -C {ROOT}"
    return f"git archive HEAD deploy/{folder} | ssh HOST '{unpacking}'"


def how_to_copy_stack(name: str) -> str:
    """The command that copies a stack's folder, and where to find it if the folder was renamed."""
    return f"{copy_command(name)} {RENAMED_FOLDER_HINT}"


def rollback_command(stack: "Stack", service: Service, image: str = "") -> str:
    """The command for a person on the server that goes back, to this image or the one before."""
    command = f"{ROOT}/bin/deploy rollback {stack.name} {service.name} {digest_of(image)}"
    return command.rstrip()


def cancel_command(stack_name: str) -> str:
    """The command that ends what holds the lock of a stack."""
    return f"{ROOT}/bin/deploy cancel {stack_name}"


def replace_command() -> str:
    """The command that replaces this program, by a rename, so that it may run meanwhile."""
    program = f"{ROOT}/bin/deploy"
    steps = f"cat >{program}.new && chmod 755 {program}.new && mv {program}.new {program}"
    return f"ssh HOST '{steps}' <deploy/bin/deploy"


def utc_now() -> str:
    """The time, for records and locks."""
    return f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def name_of_user(number: int) -> str:
    """The name of a user."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def os_error_text(error: OSError) -> str:
    """An error of the operating system, as text."""
    place = f": {error.filename}" if error.filename else ""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    cure = ". Free some space (df -h, docker system df), then run the job again" if is_full else ""
    return f"{error.strerror or error or type(error).__name__}{place}{cure}"


def places_below(folder: Path, name: str) -> List[Path]:
    """The path of a file below a folder, after the folders that lead to it."""
    parts = name.split("/")
    return [folder.joinpath(*parts[: count + 1]) for count in range(len(parts))]


def checksum_of(path: Path) -> str:
    """The SHA-256 of a file; a missing file counts as an empty one."""
    return hashlib.sha256(path.read_bytes() if path.is_file() else b"").hexdigest()


def checksum_of_files(folder: Path, names: Iterable[str]) -> str:
    """One checksum of several files, as `sha256sum NAME... | sha256sum` in their folder prints it."""
    lines = [f"{checksum_of(folder / name)}  {name}\n" for name in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def is_same_file(first: Path, second: Path) -> bool:
    """Whether both files exist, with the same bytes, and both or none can be executed."""
    if not first.is_file() or not second.is_file():
        return False
    is_executable = [bool(path.stat().st_mode & 0o100) for path in (first, second)]
    return is_executable[0] == is_executable[1] and first.read_bytes() == second.read_bytes()


def write_file(path: Path, content: bytes, mode: int, group: int = -1) -> None:
    """Write a file, completely or not at all; a symbolic link is replaced, not followed.

    Its group is the one with this number, if this user may give it away.
    """
    handle, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    try:
        with named_in_errors(path), os.fdopen(handle, "wb") as stream:
            stream.write(content)
            sync(stream)
        with contextlib.suppress(PermissionError):
            os.chown(temporary, -1, group)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """Let an error name this file: that of a full disk names none."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def sync(stream: IO[bytes]) -> None:
    """Write a file through to the disk, so that it survives a power cut."""
    stream.flush()
    os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Write the names in a folder through to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and those that it started: they would hold its output and the stack's lock."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def ended_with_its_group(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Kill the group of a process that has not ended: after its time limit, or a cancel."""
    try:
        yield
    finally:
        if process.returncode is None:
            kill_group(process)
            process.wait()


def memory_file() -> IO[bytes]:
    """Create a file in memory."""
    return os.fdopen(os.memfd_create("output"), "w+b")


def text_of(stream: IO[bytes]) -> str:
    """The whole content of a file, as text."""
    stream.seek(0)
    return stream.read().decode(errors="replace")


def write_all(handle: int, content: bytes) -> None:
    """Write all bytes; os.write may write fewer."""
    while content:
        content = content[os.write(handle, content) :]


def remove_folder(folder: Path) -> None:
    """Remove a folder that this program created."""
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failed, OSError) as error:
        failure = as_failure(error)
        print_error(failure.message)
        sys.exit(failure.code)
