"""The ssh configuration of a deploy, with a real ssh and sshd: the host's key is checked through a program, too."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy_over_ssh
from kiwari_ci.remote_checks import ssh_host
from kiwari_ci.remote_checks.calls import ProcessResult
from kiwari_ci.remote_checks.dns_tls import NetworkBackend

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
# Connects standard input and output to a port of this machine, whatever address it is given.
CONNECT = """
import os, select, socket, sys
server = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
assert os.environ["ACCESS_SECRET"] == "of the program" and sys.argv[2] == "server.example.com"
peers = {0: server.sendall, server.fileno(): lambda data: os.write(1, data)}
while True:
    for number in select.select(list(peers), [], [])[0]:
        data = os.read(number, 65536)
        if not data:
            sys.exit()
        peers[number](data)
"""

pytestmark = pytest.mark.skipif(not Path(SSHD).exists(), reason="needs sshd")


@dataclass
class RealServer:
    """An sshd with the keys of a folder; a login there may run one command."""

    folder: Path
    port: int

    def connect(self, known_hosts: str) -> str:
        """What ssh prints when it asks the server for something through the program."""
        program = f"{sys.executable} {self.folder}/connect.py {self.port} %h"
        key = (self.folder / "key").read_text()
        login = deploy_over_ssh.Machine("server", "server.example.com", "root", key, known_hosts, "22")
        order = deploy_over_ssh.Order("shop", "1", "", "1", {}, "", (), login, jump=None, proxy_command=program)
        with deploy_over_ssh.private_folder(order, {"RUNNER_TEMP": str(self.folder)}) as private:
            words = ["ssh", "-F", "config", "-T", "--", "server", "anything"]
            environment = {"PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "ACCESS_SECRET": "of the program"}
            result = subprocess.run(words, cwd=private, env=environment, capture_output=True, text=True, timeout=30)
        return result.stdout + result.stderr


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealServer]:
    tmp_path.chmod(0o700)
    for name in ("host", "other", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    (tmp_path / "connect.py").write_text(CONNECT)
    (tmp_path / "authorized_keys").write_text(f'command="echo reached" {(tmp_path / "key.pub").read_text()}')
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    Path("/run/sshd").mkdir(exist_ok=True)
    words = [SSHD, "-D", "-f", "/dev/null", "-p", str(port), "-h", str(tmp_path / "host")]
    for setting in (f"AuthorizedKeysFile={tmp_path}/authorized_keys", "StrictModes=no", "PidFile=none", "UsePAM=no"):
        words += ["-o", setting]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:
        wait_for_port(port)
        yield RealServer(tmp_path, port)
        process.terminate()


def wait_for_port(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("sshd does not listen")


def test_a_server_with_the_known_key_is_reached_through_the_program(server: RealServer) -> None:
    assert server.connect(f"server.example.com {(server.folder / 'host.pub').read_text()}") == "reached\n"


def test_a_server_with_another_key_is_refused_through_the_program(server: RealServer) -> None:
    output = server.connect(f"server.example.com {(server.folder / 'other.pub').read_text()}")
    assert "Host key verification failed" in output
    assert "reached" not in output


def test_the_address_behind_a_program_is_not_taken_for_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cloudflare's own addresses are those of a name that leads through its tunnel."""
    settings = "hostname ssh.example.com\nport 22\nproxycommand cloudflared access ssh --hostname %h\n"
    monkeypatch.setattr(ssh_host, "run_process", lambda command: ProcessResult(0, settings, ""))
    assert ssh_host.resolve_ssh_target("vps", NetworkBackend()) == ssh_host.SshTarget("ssh.example.com")
