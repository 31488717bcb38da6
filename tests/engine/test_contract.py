"""What the host program relies on in Docker and Compose is so; tests/host holds its stand-in for Docker to the same.

`.venv/bin/pytest tests/engine/test_contract.py --snapshot-update` writes down what the engine does.
"""

import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
from tests.contract import EXPECTED, NETWORK, SCRIPTS, STACK, Bench, transcript
from tests.engine.images import Images
from tests.engine.server import TOKEN, Server

# Run in a container's network: asks Docker's name server for a name, and prints the addresses that it leads to.
LOOK_UP = """
import socket, sys
question = b"".join(bytes([len(part)]) + part.encode() for part in sys.argv[1].split(".")) + b"\\0\\0\\1\\0\\1"
asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asker.settimeout(3)
asker.sendto(b"\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0" + question, ("127.0.0.11", 53))
try:
    answer = asker.recv(4096)
except TimeoutError: # of a name that it does not know it asks others, and the server has nobody to ask
    sys.exit()
place = 12 + len(question)
for _ in range(int.from_bytes(answer[6:8], "big")):
    while answer[place] and answer[place] < 192:
        place += answer[place] + 1
    place += 2 if answer[place] >= 192 else 1
    length = int.from_bytes(answer[place + 8 : place + 10], "big")
    if answer[place : place + 2] == b"\\0\\1":
        print(socket.inet_ntoa(answer[place + 10 : place + 10 + length]))
    place += 10 + length
"""


class Engine(deploy_program.Machine):
    """The throw-away server's Docker."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def docker(
        self,
        *arguments: str,
        stdin: str = "",
        seconds: int = deploy_program.QUERY_SECONDS,
        prints_output: bool = False,
        can_be_cancelled: bool = False,
    ) -> deploy_program.Output:
        """Run docker on the server."""
        command = self.server.inside("env", "-C", "/", "docker", *arguments)  # Compose wants a folder to be in
        ended = subprocess.run(command, input=stdin, text=True, capture_output=True, timeout=seconds)
        return deploy_program.Output(ended.returncode, ended.stdout, ended.stderr)


class EngineBench(Bench):
    """A script's server is a real one."""

    machine: Engine

    def run_by_hand(self, name: str, is_removed_when_stopped: bool = False) -> None:
        """As a person does."""
        end = ("--rm",) if is_removed_when_stopped else ("--restart", "unless-stopped")
        options = ("-d", "--name", name, "--network", NETWORK, *end)
        self.machine.server.docker("run", *options, self.images["one"])

    def command_that_ends(self, code: int) -> list[str]:
        """The service in the images has such a command."""
        return ["ends", str(code)]

    def reached_by(self, name: str) -> list[str]:
        """Asks from a container on the network."""
        process = self.machine.server.docker("inspect", "-f", "{{.State.Pid}}", "onlooker")
        words = ("nsenter", "-t", process, "-n", "python3", "-c", LOOK_UP, name)
        addresses = set(self.machine.server.run(*words).stdout.split())
        return [container.name for container in self.stack.containers() if addresses & set(container.addresses)]


@pytest.fixture(scope="module")
def references(server: Server, images: Images) -> dict[str, str]:
    """The images of the scripts, by digest."""
    digests = {
        "one": images.push("contract", "contract-one"),
        "two": images.push("contract", "contract-two"),
        "labelled": images.push("contract", "contract-labelled", label="traefik.enable=true"),
        "exits": images.push("contract", "contract-exits", "exits"),
    }
    digests["unknown"] = f"sha256:{64 * '0'}"
    return {name: f"{images.registry}/contract@{digest}" for name, digest in digests.items()}


@pytest.fixture
def bench(server: Server, images: Images, references: dict[str, str]) -> Iterator[EngineBench]:
    """A server without containers, but for one that looks names up."""
    remove_all(server)
    for name, reference in references.items():
        if name != "unknown":
            server.docker("--config", images.login, "pull", "-q", reference)
    server.docker("run", "-d", "--name", "onlooker", "--network", NETWORK, references["one"])
    folder = server.docker_folder / STACK
    yield EngineBench(Engine(server), folder, references, TOKEN)
    remove_all(server)
    shutil.rmtree(folder)


def remove_all(server: Server) -> None:
    """Removes what scripts and earlier tests have made."""
    if containers := server.containers() - {"proxy-manager"}:
        server.docker("rm", "-fv", *containers)
    server.docker("volume", "rm", "-f", f"{STACK}_files", f"{STACK}_elsewhere", check=False)
    server.docker("network", "rm", f"{STACK}_default", check=False)


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_engine_does_what_is_written_down(bench: EngineBench, snapshot: Any, name: str) -> None:
    snapshot.snapshot_dir = EXPECTED

    snapshot.assert_match(transcript(bench, name), f"{name}.txt")
