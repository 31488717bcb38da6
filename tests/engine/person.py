"""A person who follows the runbook: a clone of the repository, a key of their own, and a server that knows it."""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.engine.server import GENERATED, USER, Result, Server, throw_away

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
        # ssh finds its configuration by the home in passwd, not by $HOME.
        (self.home / "bin/ssh").write_text('#!/bin/sh\nexec /usr/bin/ssh -F ~/.ssh/config "$@"\n')
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


def person_who_logs_in(server: Server) -> Person:
    """A person with a clone, whose own key logs in to a server on which the runbook was followed."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", server.folder / "keys/person"], check=True)
    with (server.home / ".ssh/authorized_keys").open("a") as keys:
        keys.write((server.folder / "keys/person.pub").read_text())
    return Person(server)


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


def step(number: int, tree: Path = GENERATED) -> tuple[str, str]:
    """The commands of a step of a tree's runbook, and the one that shows it worked."""
    text = dict(STEP.findall((tree / "deploy/RUNBOOK.md").read_text()))[str(number)]
    return "".join(BLOCK.findall(text)), WORKED.findall(text)[0]
