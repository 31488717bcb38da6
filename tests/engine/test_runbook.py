"""The runbook's first steps, typed as they stand: an empty server is ready for its first deploy."""

import shutil
from pathlib import Path

import pytest

from tests.engine.images import Images
from tests.engine.person import Person, empty_server, step
from tests.engine.server import USER, generated, version, without_waits

ENV_FILES = ("postgres/.env", "pos-staging/.env", "pos-production/.env")


@pytest.mark.usefixtures("engine")
def test_the_first_steps_make_a_server_ready_for_its_first_deploy() -> None:
    with empty_server() as person:
        place_files(person)
        fill_in_env_files(person)
        let_a_key_deploy(person)
        read_the_host_key(person)
        deploy_with_that_key(person)


def place_files(person: Person) -> None:
    """Step 1."""
    commands, worked = step(1)
    copied = person.types(commands.replace("VPS=USER@ADDRESS", f"VPS={USER}@127.0.0.1"))
    assert copied.returncode == 0, copied.stderr
    program = person.server.docker_folder / "bin/deploy"
    assert program.read_bytes() == generated("deploy/bin/deploy").read_bytes()
    shown = person.types(worked)
    assert shown.returncode == 0 and "Docker Compose version" in shown.stdout, shown.stderr
    assert shown.stdout.endswith(f"{version(program)}\n")


def fill_in_env_files(person: Person) -> None:
    """Step 2: what is filled in is never overwritten."""
    commands, worked = step(2)
    make, edit, *_ = commands.splitlines()
    assert person.types(make).returncode == 0
    assert f" editor {' '.join(ENV_FILES)}" in edit
    assert person.types(worked).returncode == 1, "not filled in yet"
    for file in ENV_FILES:
        path: Path = person.server.docker_folder / file
        assert path.stat().st_mode & 0o777 == 0o600
        person.server.run("sed", "-i", "s/change-me/filled$in/; s/=''/='filled$in'/", str(path))
    again = person.types(make)
    shown = person.types(worked)
    assert (again.returncode, shown.returncode, shown.stdout) == (0, 0, "")
    assert "filled$in" in (person.server.docker_folder / "pos-staging/.env").read_text()


def let_a_key_deploy(person: Person) -> None:
    """Step 3: the key may ask what serves, and run nothing else."""
    commands, worked = step(3)
    done = person.types(commands)
    assert done.returncode == 0, done.stderr
    shown = person.types(worked)
    expected = version(generated("deploy/bin/deploy"))
    assert (shown.returncode, shown.stdout) == (0, f"{expected}\n"), shown.stderr
    assert person.types(worked.replace(" status pos-staging", " id")).returncode == 64


def read_the_host_key(person: Person) -> None:
    """Step 4."""
    commands, worked = step(4)
    known = person.types(f"{commands}\n{worked}")
    assert known.stdout == "known\n", known.stderr


def deploy_with_that_key(person: Person) -> None:
    """What all of it is for; the network is step 6's."""
    server = person.server
    for name in ("", ".pub"):
        shutil.copy(person.home / f".ssh/kiwari-VPS_SSH_KEY{name}", server.folder / f"keys/ci{name}")
    without_waits(server.docker_folder / "pos-staging/docker-compose.yml")
    result = server.deploy("pos-api-staging", Images(server).api("first"), 1)
    assert result.returncode == 0, result.stdout
    assert server.serves("pos-api-staging") == "first"
