"""The programs run with the oldest Python that they promise, where the machine has one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kiwari_ci.engines.compose import database, host, over_ssh
from kiwari_ci.engines.kubernetes import rollout

PROGRAMS = [Path(str(module.__file__)) for module in (host, over_ssh, database, rollout)]


def oldest_python() -> str:
    """A Python 3.8 of this machine: on PATH, or one of pyenv's."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    installed = sorted(str(path) for path in root.glob("versions/3.8.*/bin/python3.8"))
    python = installed[-1] if installed else shutil.which("python3.8")
    if not python:
        pytest.skip("this machine has no Python 3.8")
    return python


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_a_request_is_read_and_refused(program: Path) -> None:
    ended = subprocess.run([oldest_python(), "-I", str(program), "nonsense"], capture_output=True, text=True)

    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert "nonsense" in ended.stdout + ended.stderr or "unknown request" in ended.stderr


def test_status_of_a_server_without_stacks(tmp_path: Path) -> None:
    program = tmp_path / "bin/deploy"
    program.parent.mkdir()
    shutil.copy(PROGRAMS[0], program)

    ended = subprocess.run([oldest_python(), "-I", str(program), "status"], capture_output=True, text=True)

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"bin/deploy {host.VERSION} sha256:")


def test_an_older_python_gets_one_sentence(tmp_path: Path) -> None:
    """The version is looked at before anything that an older Python lacks is imported."""
    program = tmp_path / "deploy"
    text = PROGRAMS[0].read_text()
    assert "sys.version_info < (3, 8)" in text
    program.write_text(text.replace("sys.version_info < (3, 8)", "sys.version_info < (9, 0)"))

    ended = subprocess.run(["python3", "-I", str(program), "status"], capture_output=True, text=True)

    assert ended.returncode == 1
    assert ended.stderr.startswith("deploy: Python 3.8 or newer is needed, and this server has ")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_nothing_needs_a_newer_python(program: Path) -> None:
    vermin = Path(sys.executable).parent / "vermin"
    command = [str(vermin), "--target=3.8-", "--no-tips", str(program)]

    ended = subprocess.run(command, capture_output=True, text=True)

    assert ended.returncode == 0, ended.stdout
