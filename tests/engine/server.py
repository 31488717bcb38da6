"""A throw-away server to deploy to: its engine, its registry, its sshd and its files, as the runbook leaves them."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GENERATED = HERE.parents[1] / "generated"
PROGRAM = HERE.parents[1] / "kiwari_ci/engines/compose/deploy_programs/deploy.py"
ROTATION_PROGRAM = HERE.parents[1] / "kiwari_ci/engines/compose/deploy_programs/rotate.py"
USER, UID, DOCKER_GROUP = "deployer", 4321, 4322
# Registries of tests: at the address of one a test puts what it wants, at the other nothing answers.
BUSY_REGISTRY, DEAD_REGISTRY = "busy.example.com", "dead.example.com"
KEY_STACKS = ("pos-staging", "pos-production")

# What the registry knows of: a token with everything in it that a shell or a format string would trip over.
TOKEN = r"""s$cret'to"ken \t `x` %s"""
TOKEN_BCRYPT = "$2b$04$6tnO91r/zaM8oKCw1o55n.gRhbJPekmd4iKK/VMwaJf8OaRghRKkW"

# What is sent behind the token where there are no files: their length and checksum.
NO_FILES = f"0 {hashlib.sha256(b'').hexdigest()}\n".encode()

Result = subprocess.CompletedProcess[str]


def generated(path: str) -> Path:
    """One file of the generated tree, as it is in the repository."""
    return GENERATED / path


def version(program: Path) -> str:
    """The line that `status` begins with, for a host program with these bytes."""
    return f"bin/deploy 1.0 sha256:{hashlib.sha256(program.read_bytes()).hexdigest()}"


def without_waits(compose_file: Path) -> None:
    """Tells a stack on the server that no proxy keeps names, so that its deploys wait for none."""
    text = compose_file.read_text()
    compose_file.write_text(re.sub(r'deploy\.name-cache: "[0-9]+"', 'deploy.name-cache: "0"', text))


def eventually(true: Callable[[], bool], seconds: float, what: str) -> None:
    """Waits until that is true; a test's end state is never a guess about time."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)


@contextlib.contextmanager
def run_beside(command: Sequence[str], environment: dict[str, str] | None = None) -> Iterator[list[str]]:
    """Runs a program until the block ends, and with it its standard input; its lines are complete then."""
    lines: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as program:
        reader = threading.Thread(target=lambda: lines.extend(program.stdout or ()))
        reader.start()
        try:
            yield lines
        finally:
            assert program.stdin
            program.stdin.close()
            reader.join(60)


class Server:
    """The machine that `tests/engine/machine` makes, seen from outside of its namespaces."""

    def __init__(self, folder: Path, tree: Path = GENERATED) -> None:
        self.folder = folder
        self.tree = tree
        self.home = folder / "home"
        self.docker_folder = self.home / "docker"
        self.pid = 0
        self.commits = 0

    # Commands

    def near(self, *command: str) -> list[str]:
        """The command line that runs a command with the machine's network and files, as a process of ours."""
        return ["nsenter", "-t", str(self.pid), "-m", "-n", f"--wd={self.folder}", "--", *command]

    def inside(self, *command: str) -> list[str]:
        """The command line that runs a command as a process of the machine's."""
        return ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "-i", "-u", f"--wd={self.folder}", "--", *command]

    def run(self, *command: str, check: bool = True, stdin: str = "", env: Mapping[str, str] | None = None) -> Result:
        """Runs a command on the machine as root; a failure shows its words."""
        result = subprocess.run(
            self.inside(*command),
            input=stdin,
            text=True,
            capture_output=True,
            timeout=300,
            env={**os.environ, **(env or {})},
        )
        assert not check or result.returncode == 0, f"{shlex.join(command)}\n{result.stdout}\n{result.stderr}"
        return result

    def docker(self, *words: str, check: bool = True) -> str:
        """Asks the engine."""
        return self.run("docker", *words, check=check).stdout.strip()

    def by_hand(self, command: str, check: bool = False) -> Result:
        """What a person types who has logged in to the server."""
        return self.run("su", USER, "-s", "/bin/bash", "-c", f"cd; {command}", check=check)

    def as_person(self, command: str) -> Result:
        """What a person says on the server to the host program, with the token at hand; stdout and stderr together."""
        return self.by_hand(f"printf '%s' {shlex.quote(TOKEN)} | {command} 2>&1")

    def ssh(self, *words: str, key: str = "ci") -> list[str]:
        """The command line with which CI reaches the server: options of ssh, and one command."""
        options = ["BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=yes", "ServerAliveInterval=15"]
        options.append(f"UserKnownHostsFile={self.folder}/known_hosts")
        flags = [word for option in options for word in ("-o", option)]
        address = f"{USER}@127.0.0.1"
        return ["ssh", "-F", "none", "-i", str(self.folder / "keys" / key), *flags, *words[:-1], address, words[-1]]

    def key(self, command: str, token: str | None = TOKEN, key: str = "ci", sent: bytes = b"") -> Result:
        """Says one command through the restricted key; stdout and stderr come together, as in a workflow's log.

        What is sent behind the token is given whole: a line with its length and checksum, and the archive.
        """
        ended = subprocess.run(
            self.near(*self.ssh(command, key=key)),
            input=b"" if token is None else f"{token}\n".encode() + (sent or NO_FILES),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=400,
        )
        return Result(ended.args, ended.returncode, ended.stdout.decode(errors="replace"), "")

    @contextlib.contextmanager
    def beside(self, *command: str) -> Iterator[list[str]]:
        """Runs a program until the block ends, and with it its standard input; its lines are complete then."""
        with run_beside(self.inside(*command)) as lines:
            yield lines

    # The deploy path

    def words(self, service: str, digest: str, sequence: int, run: int = 1, files: str = "", stack: str = "") -> str:
        """The request of a deploy of one service, as the workflow puts it together."""
        stack = stack or stack_of(service)
        files = files or files_checksum(self.docker_folder / stack)
        return f"deploy 1 {stack} {sequence} {files} {run} {service}={digest}"

    def deploy(self, service: str, digest: str, sequence: int, run: int = 1) -> Result:
        """Deploys as CI does, and waits."""
        return self.key(self.words(service, digest, sequence, run))

    def start(self, command: str, token: str = TOKEN) -> subprocess.Popen[str]:
        """Begins to say a command through the key, and does not wait."""
        process = subprocess.Popen(
            self.near(*self.ssh(command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdin
        process.stdin.write(f"{token}\n{NO_FILES.decode()}")
        process.stdin.close()
        process.stdin = None  # communicate() must not look for it
        return process

    def kill_deploy(self, signal: str = "KILL", stack: str = "pos-staging") -> None:
        """Sends a signal to the process that holds a stack's lock: only to it, not to what it has started."""
        holder = json.loads((self.docker_folder / stack / ".deploy.lock").read_text())
        self.run("kill", f"-{signal}", str(holder["pid"]))

    def leave_token(self) -> None:
        """What a deploy leaves that is killed between login and pull."""
        of_stack = hashlib.sha256(str(self.docker_folder / "pos-staging").encode()).hexdigest()[:16]
        folder = f"/dev/shm/kiwari-ci-{of_stack}-abc"
        self.by_hand(f"mkdir -m 700 {folder} && printf secret >{folder}/config.json", check=True)

    @contextlib.contextmanager
    def logged_in(self) -> Iterator[None]:
        """While a person on the server is logged in to the registry: `docker login`, as the design has it."""
        login = f"printf '%s' {shlex.quote(TOKEN)} | docker login ghcr.io -u x-access-token --password-stdin"
        self.by_hand(login, check=True)
        try:
            yield
        finally:
            self.by_hand("docker logout ghcr.io", check=True)

    # The stacks' files

    def place_files(self, stack: str, **labels: str) -> None:
        """Places a stack's compose file and env file as the runbook does; each service has these labels, too.

        An underscore in a label's name stands for the hyphen of the real name: `name_cache` is `deploy.name-cache`.
        """
        folder = self.docker_folder / stack
        folder.mkdir(exist_ok=True)
        lines = "".join(f'\\n      deploy.{name.replace("_", "-")}: "{text}"' for name, text in labels.items())
        compose_file = (self.tree / f"deploy/{stack}/docker-compose.yml").read_text()
        names = "|".join(name.replace("_", "-") for name in labels)
        if names:
            compose_file = re.sub(rf"^ +deploy\.({names}): .*\n", "", compose_file, flags=re.MULTILINE)
        compose_file = re.sub(r"^( +deploy\.health: .*)$", rf"\1{lines}", compose_file, flags=re.MULTILINE)
        (folder / "docker-compose.yml").write_text(compose_file)
        (folder / ".env").write_text("GREETING='costs $5'\n")
        self.give_to_user(folder)

    def give_to_user(self, path: Path) -> None:
        """Makes the login that deploys the owner of a folder of its own, and of all in it."""
        subprocess.run(["chown", "-R", f"{UID}:{UID}", path], check=True)

    # What is so

    def serves(self, container: str) -> str | None:
        """The version that a container answers with, or None."""
        form = '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}{{index .Config.Labels "deploy.health"}}'
        place = self.docker("inspect", "-f", form, container, check=False)
        return self.run("curl", "-sf", "-m", "3", f"http://{place}", check=False).stdout or None

    def image(self, container: str) -> str:
        """The image that a container was made from, by digest."""
        return self.docker("inspect", "-f", "{{.Config.Image}}", container)

    def container_id(self, container: str) -> str:
        """Tells one container from the next of the same name."""
        return self.docker("inspect", "-f", "{{.Id}}", container)

    def containers(self) -> set[str]:
        """The names of all containers, stopped ones too."""
        return set(self.docker("ps", "-a", "--format", "{{.Names}}").split())

    def dangling(self) -> set[str]:
        """The volumes that no container has any more: each of the images here has one without a name."""
        return set(self.docker("volume", "ls", "-q", "--filter", "dangling=true").split())

    def stack_file(self, service: str, name: str) -> Path:
        """A file in the folder of the service's stack."""
        return self.docker_folder / stack_of(service) / name

    def record(self, service: str) -> list[list[str]]:
        """The service's state file: image@digest, sequence, time, run of each line."""
        path = self.stack_file(service, f".deploys/{service}")
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def digest(self, service: str) -> str:
        """The digest of the image that the service's container was made from."""
        return self.image(service).partition("@")[2]

    def pinned(self, service: str) -> str | None:
        """The image that the override file pins the service to; none for a service that the stack no longer has."""
        lines = self.stack_file(service, "docker-compose.override.yml").read_text().splitlines()
        line = next((line for line in lines if line.strip().startswith(f"{service}:")), "")
        return line.split('"')[1] if '"' in line else None

    def tokens(self) -> list[str]:
        """What lies in memory that a deploy put there."""
        return self.run("find", "/dev/shm", "-mindepth", "1").stdout.split()

    def locked(self) -> bool:
        """Whether anything holds the lock of a stack, or of the server."""
        locks = [*self.docker_folder.glob("*/.deploy.lock"), *self.docker_folder.glob(".host.lock")]
        return any(self.run("flock", "-n", str(lock), "true", check=False).returncode for lock in locks)

    def commit(self) -> int:
        """The number of the next commit on the main branch: what `git rev-list --count` says."""
        self.commits += 1
        return self.commits


def files_checksum(folder: Path) -> str:
    """The checksum of a stack's compose file and of the files that its head names, as `sha256sum` makes it."""
    beside = re.findall(r"^# Files beside it: (.+)$", (folder / "docker-compose.yml").read_text(), re.MULTILINE)
    names = ["docker-compose.yml", *(shlex.split(beside[0]) if beside else [])]
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    return hashlib.sha256("".join(sums).encode()).hexdigest()


def outcome(result: Result) -> dict[str, Any]:
    """What a deploy reports at its end, for the workflow."""
    report: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return report


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a refused or failed deploy must leave as it was."""

    serves: str | None
    container: str
    containers: frozenset[str]
    dangling: set[str]
    record: list[list[str]]
    pinned: str | None
    tokens: list[str]
    locked: bool


def seen(server: Server, service: str) -> Seen:
    """Looks at everything that a deploy of this service could change."""
    return Seen(
        serves=server.serves(service),
        container=server.container_id(service),
        containers=frozenset(server.containers()),
        dangling=server.dangling(),
        record=server.record(service),
        pinned=server.pinned(service),
        tokens=server.tokens(),
        locked=server.locked(),
    )


def stack_of(service: str) -> str:
    """The stack that a service of Kiwari belongs to."""
    return "pos-staging" if service.endswith("-staging") else "pos-production"


@contextlib.contextmanager
def throw_away(tree: Path = GENERATED, disk: str = "") -> Iterator[Server]:
    """Starts a machine with a tree's deploy/, and takes it down whatever happens: also when this process is killed.

    With a size for the engine's `disk` it has a second engine too, /run/runner.sock, for what is built.
    """
    folder = Path(tempfile.mkdtemp(prefix="kiwari-engine-"))
    server = Server(folder, tree)
    prepare(server)
    if disk:
        (folder / "disk").write_text(disk)
    with open(folder / "machine.log", "w") as log:
        process = subprocess.Popen(
            [str(HERE / "machine"), str(folder)], stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
    assert process.stdin
    try:
        eventually((folder / "pid").exists, 10, "the machine has namespaces")
        server.pid = int((folder / "pid").read_text())
        eventually(lambda: up(server), 60, f"dockerd, registry and sshd answer: see {folder}/*.log")
        server.docker("network", "create", "proxy")
        yield server
    finally:
        process.stdin.close()
        process.wait(timeout=60)
    assert not folder.exists()


def up(server: Server) -> bool:
    """Whether the engine, the registry and sshd all answer."""
    probe = "exec 3<>/dev/tcp/127.0.0.1/443 4<>/dev/tcp/127.0.0.1/22 && docker version"
    return server.run("bash", "-c", probe, check=False).returncode == 0


def prepare(server: Server) -> None:
    """Lays out the machine's files, and the server's as the runbook leaves them."""
    folder = server.folder
    folder.chmod(0o755)
    write_system(folder)
    for name in ("host", "ci", "staging-only"):
        (folder / "keys").mkdir(exist_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "keys" / name], check=True)
    (folder / "known_hosts").write_text("127.0.0.1 " + (folder / "keys/host.pub").read_text())
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:22\nHostKey {folder}/keys/host\nUsePAM no\nPidFile none\nAcceptEnv LANG LC_*\n"
    )
    bin_folder = server.docker_folder / "bin"
    bin_folder.mkdir(parents=True)
    if (server.tree / "deploy/bin/deploy").exists():
        for program, name in ((PROGRAM, "deploy"), (ROTATION_PROGRAM, "rotate")):
            shutil.copy(program, bin_folder / name)
            (bin_folder / name).chmod(0o755)
    for stack in KEY_STACKS:
        server.place_files(stack)
    ssh_folder = server.home / ".ssh"
    ssh_folder.mkdir()
    lines = [authorized(server, "ci", KEY_STACKS), authorized(server, "staging-only", KEY_STACKS[:1])]
    (ssh_folder / "authorized_keys").write_text("".join(lines))
    subprocess.run(["chown", "-R", f"{UID}:{UID}", server.home], check=True)
    subprocess.run(["chmod", "-R", "go-w", server.home], check=True)


def authorized(server: Server, key: str, stacks: Sequence[str]) -> str:
    """The line of the runbook that lets a key deploy, and do no more."""
    public = (server.folder / "keys" / f"{key}.pub").read_text()
    return f'restrict,command="docker/bin/deploy {" ".join(stacks)}" {public}'


def write_system(folder: Path) -> None:
    """The files that the machine sees in /etc, and its registry's and engine's settings."""
    etc = folder / "etc"
    etc.mkdir()
    (folder / "home").mkdir()
    (folder / "daemon.json").write_text("{}\n")
    (etc / "hosts").write_text(
        f"127.0.0.1 localhost ghcr.io {socket.gethostname()}\n127.0.0.2 {BUSY_REGISTRY}\n127.0.0.3 {DEAD_REGISTRY}\n"
    )
    (etc / "resolv.conf").write_text("")
    (etc / "passwd").write_text(
        "root:x:0:0::/root:/bin/bash\nsshd:x:101:65534::/run/sshd:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n"
        f"{USER}:x:{UID}:{UID}::{folder}/home:/bin/bash\n"
    )
    (etc / "group").write_text(f"root:x:0:\nnogroup:x:65534:\n{USER}:x:{UID}:\ndocker:x:{DOCKER_GROUP}:{USER}\n")
    (etc / "shadow").write_text(f"root:*:20000:0:99999:7:::\n{USER}:*:20000:0:99999:7:::\n")
    certificate(folder)
    (folder / "htpasswd").write_text(f"x-access-token:{TOKEN_BCRYPT}\n")
    (folder / "registry.yml").write_text(
        f"version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\n"
        f"http: {{addr: '127.0.0.1:443', tls: {{certificate: {folder}/tls.crt, key: {folder}/tls.key}}}}\n"
        f"auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}\n"
    )


def certificate(folder: Path) -> None:
    """A throw-away certificate for the registry and for the domains, which the whole machine trusts."""
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-days", "60", "-subj", "/CN=test"]
    names = "subjectAltName=DNS:ghcr.io,DNS:*.nasibakarkiwari.com,DNS:*.example.com"
    files = ["-keyout", f"{folder}/tls.key", "-out", f"{folder}/tls.crt"]
    subprocess.run([*words, "-addext", names, *files], check=True, capture_output=True)
