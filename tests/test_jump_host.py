"""The key for a jump host, as the runbook writes its line, with a real sshd: it opens nothing else."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kiwari_ci import generator

SPEC = Path(__file__).parent / "cases" / "ok" / "ssh-jump" / "spec.yaml"
SSHD = shutil.which("sshd") or "/usr/sbin/sshd"

pytestmark = pytest.mark.skipif(not Path(SSHD).exists() or os.geteuid() != 0, reason="needs sshd, and root to run it")


def find_free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def login(tmp_path: Path) -> Iterator[list[str]]:
    """The command that logs in to a jump host whose authorized_keys has the runbook's line."""
    tmp_path.chmod(0o700)
    for name in ("host", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    runbook = generator.generate_files(SPEC)[1]["deploy/RUNBOOK.md"].text
    options = re.findall(r"printf '(restrict,port-forwarding\S+) '", runbook)[0].replace("%s", "127.0.0.1:2222")
    (tmp_path / "authorized_keys").write_text(f"{options} {(tmp_path / 'key.pub').read_text()}")
    port = str(find_free_port())
    Path("/run/sshd").mkdir(exist_ok=True)
    words = [SSHD, "-D", "-f", "/dev/null", "-p", port, "-h", str(tmp_path / "host")]
    for setting in (f"AuthorizedKeysFile={tmp_path}/authorized_keys", "StrictModes=no", "PidFile=none", "UsePAM=no"):
        words += ["-o", setting]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as server:
        time.sleep(1)
        ssh = ["ssh", "-p", port, "-i", str(tmp_path / "key"), "-F", "/dev/null"]
        for setting in ("IdentitiesOnly=yes", "StrictHostKeyChecking=no", "BatchMode=yes", "ExitOnForwardFailure=yes"):
            ssh += ["-o", setting]
        yield [*ssh, "-o", "UserKnownHostsFile=/dev/null"]
        server.terminate()


def run(words: list[str]) -> str:
    return subprocess.run(words, capture_output=True, text=True, timeout=20).stderr


def test_the_key_opens_no_port(login: list[str]) -> None:
    for listened in ("127.0.0.1", "localhost", "*"):
        text = run([*login, "-N", "-R", f"{listened}:{find_free_port()}:127.0.0.1:1", "root@127.0.0.1"])
        assert "remote port forwarding failed" in text


def test_the_key_leads_to_the_server_alone(login: list[str]) -> None:
    # Nothing listens on the server's port here: sshd has tried.
    assert "Connection refused" in run([*login, "-W", "127.0.0.1:2222", "root@127.0.0.1"])
    assert "administratively prohibited" in run([*login, "-W", "127.0.0.1:2223", "root@127.0.0.1"])
