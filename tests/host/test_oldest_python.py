"""The programs run with the oldest Python that they promise, where the machine has one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kiwari_ci.engines.compose.deploy_programs import database, deploy_over_ssh, rotate
from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
from kiwari_ci.engines.kubernetes.deploy_programs import rollout

PROGRAMS = [Path(str(module.__file__)) for module in (deploy_program, deploy_over_ssh, database, rotate, rollout)]


def oldest_python() -> str:
    """A Python 3.8 of this machine: on PATH, or one of pyenv's."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    installed = sorted(str(path) for path in root.glob("versions/3.8.*/bin/python3.8"))
    python = installed[-1] if installed else shutil.which("python3.8")
    if not python:
        pytest.skip("this machine has no Python 3.8")
    return python


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """The programs of a server, beside each other under their own names."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for module, name in ((deploy_program, "deploy"), (rotate, "rotate"), (database, "database")):
        shutil.copy(str(module.__file__), folder / name)
    return folder


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_a_request_is_read_and_refused(program: Path, bin_folder: Path) -> None:
    program = bin_folder / "rotate" if program.stem == "rotate" else program
    ended = subprocess.run([oldest_python(), "-I", str(program), "nonsense"], capture_output=True, text=True)

    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert "nonsense" in ended.stdout + ended.stderr or "unknown request" in ended.stderr


def test_status_of_a_server_without_stacks(bin_folder: Path) -> None:
    ended = subprocess.run(
        [oldest_python(), "-I", str(bin_folder / "deploy"), "status"], capture_output=True, text=True
    )

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"bin/deploy {deploy_program.VERSION} sha256:")


def test_the_rotation_program_uses_the_deploy_program_beside_it(bin_folder: Path) -> None:
    (bin_folder.parent / "shop").mkdir()
    command = [oldest_python(), "-I", str(bin_folder / "rotate")]

    version = subprocess.run([*command, "version"], capture_output=True, text=True)
    refused = subprocess.run([*command, "value", "shop", "KEY"], input="it's\n", capture_output=True, text=True)

    assert version.stdout.startswith(f"bin/rotate {rotate.VERSION} sha256:"), version.stderr
    assert (refused.returncode, refused.stderr.partition(". ")[0]) == (
        64,
        "rotate: the new value cannot be stored: it contains a single quote or ends with a backslash, which an env file"
        " cannot hold",
    )
    assert sorted(path.name for path in bin_folder.iterdir()) == ["database", "deploy", "rotate"]


def test_the_rotation_program_refuses_another_version_of_the_deploy_program(bin_folder: Path) -> None:
    deploy = bin_folder / "deploy"
    deploy.write_text(deploy.read_text().replace(f'VERSION = "{deploy_program.VERSION}"', 'VERSION = "0.1"'))
    refused = subprocess.run(["python3", "-I", str(bin_folder / "rotate"), "version"], capture_output=True, text=True)
    deploy.unlink()
    alone = subprocess.run(["python3", "-I", str(bin_folder / "rotate"), "version"], capture_output=True, text=True)

    assert (
        refused.returncode == 1
        and "is of another version of kiwari-ci: 0.1. Copy the folder deploy/bin" in refused.stderr
    )
    assert alone.returncode == 1 and f"{deploy} is missing, and this program needs it" in alone.stderr


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


def test_nothing_needs_a_newer_python() -> None:
    vermin = Path(sys.executable).parent / "vermin"
    command = [str(vermin), "--target=3.8-", "--no-tips", "--processes=1", *map(str, PROGRAMS)]

    ended = subprocess.run(command, capture_output=True, text=True)

    assert ended.returncode == 0, ended.stdout
