"""The runbook's first steps, typed as they stand: an empty server is ready for its first deploy."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.images import Images
from tests.engine.server import GENERATED, USER, Result, Server, generated, throw_away, version

STEP = re.compile(r"^### (\d+)\. .*?\n(.*?)(?=^##)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)
WORKED = re.compile(r"^It worked: `([^`]+)`", re.MULTILINE)


class Person:
    """Somebody with a clone of the repository, whose own key logs in to the server."""

    def __init__(self, server: Server, tree: Path = GENERATED) -> None:
        self.server = server
        self.home = server.folder / "person"
        (self.home / ".ssh").mkdir(parents=True)
        (self.home / "bin").mkdir()
        config = f"IdentityFile {server.folder}/keys/person\nUserKnownHostsFile {server.folder}/known_hosts\n"
        (self.home / ".ssh/config").write_text(config)
        (self.home / "bin/ssh").write_text(
            '#!/bin/sh\nexec /usr/bin/ssh -F ~/.ssh/config "$@"\n'
        )  # ssh asks passwd for ~
        (self.home / "bin/ssh").chmod(0o755)
        self.clone = self.home / "clone"
        shutil.copytree(tree, self.clone)
        for words in (
            ("init", "-q", "-b", "main"),
            ("add", "."),
            ("-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-qmx"),
        ):
            subprocess.run(["git", "-C", self.clone, *words], check=True)

    def types(self, command: str) -> Result:
        """Types a command into a bash in the clone, in which the server's address is known."""
        body = f'cd "$HOME/clone" && VPS={USER}@127.0.0.1\n{command}'
        environment = {"HOME": str(self.home), "PATH": f"{self.home}/bin:/usr/bin:/bin:/usr/sbin"}
        return self.server.run("bash", "-c", body, check=False, env=environment)


@contextlib.contextmanager
def empty_server(tree: Path = GENERATED, disk: str = "") -> Iterator[Person]:
    """A server that has nothing but an engine, and a person whose key it knows, with a clone of that tree."""
    with throw_away(disk=disk) as server:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", server.folder / "keys/person"], check=True)
        shutil.rmtree(server.docker_folder)
        public = (server.folder / "keys/person.pub").read_text()
        (server.home / ".ssh/authorized_keys").write_text(public)
        server.run("mount", "--bind", str(server.folder / "keys/host.pub"), "/etc/ssh/ssh_host_ed25519_key.pub")
        yield Person(server, tree)


@pytest.fixture(scope="module")
def person(images: Images) -> Iterator[Person]:
    """An empty server of its own; `images` says whether an engine can run."""
    with empty_server() as person:
        yield person


def step(number: int, tree: Path = GENERATED) -> tuple[str, str]:
    """The commands of a step of a tree's runbook, and the one that shows it worked."""
    text = dict(STEP.findall((tree / "deploy/RUNBOOK.md").read_text()))[str(number)]
    return "".join(BLOCK.findall(text)), WORKED.findall(text)[0]


def test_files_on_the_server(person: Person) -> None:
    commands, worked = step(1)
    done = person.types(commands.replace("VPS=USER@ADDRESS", f"VPS={USER}@127.0.0.1"))
    assert done.returncode == 0, done.stderr
    assert (person.server.docker_folder / "bin/deploy").read_bytes() == generated("deploy/bin/deploy").read_bytes()
    shown = person.types(worked)
    assert shown.returncode == 0 and "Docker Compose version" in shown.stdout, shown.stderr
    assert shown.stdout.endswith(f"bin/deploy {version(generated('deploy/bin/deploy'))}\n")


def test_env_files(person: Person) -> None:
    commands, worked = step(2)
    make, edit, *_ = commands.splitlines()
    assert person.types(make).returncode == 0
    assert " editor postgres/.env pos-staging/.env pos-production/.env" in edit
    assert person.types(worked).returncode == 1, "not filled in yet"
    for file in ("postgres/.env", "pos-staging/.env", "pos-production/.env"):
        path: Path = person.server.docker_folder / file
        assert path.stat().st_mode & 0o777 == 0o600
        person.server.run("sed", "-i", "s/change-me/filled$in/; s/=''/='filled$in'/", str(path))
    again, shown = person.types(make), person.types(worked)
    assert (again.returncode, shown.returncode, shown.stdout) == (0, 0, "")
    assert "filled$in" in (person.server.docker_folder / "pos-staging/.env").read_text(), "never overwritten"


def test_deploy_key_and_host_key(person: Person) -> None:
    commands, worked = step(3)
    done = person.types(commands)
    assert done.returncode == 0, done.stderr
    shown = person.types(worked)
    assert (shown.returncode, shown.stdout) == (0, f"bin/deploy {version(generated('deploy/bin/deploy'))}\n"), (
        shown.stderr
    )
    assert person.types(worked.replace(" status pos-staging", " id")).returncode == 64

    commands, worked = step(4)
    known = person.types(f"{commands}\n{worked}")
    assert known.stdout == "known\n", known.stderr


def test_the_first_deploy_then_works(person: Person) -> None:
    """With the key of step 3, on the server that steps 1 and 2 made ready; its network is step 6's."""
    server = person.server
    for name in ("", ".pub"):
        shutil.copy(person.home / f".ssh/kiwari-VPS_SSH_KEY{name}", server.folder / f"keys/ci{name}")
    result = server.deploy("pos-api-staging", Images(server).api("first"), 1)
    assert result.returncode == 0, result.stdout
    assert server.serves("pos-api-staging") == "first"
