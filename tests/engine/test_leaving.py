"""A team leaves: the ejected files, brought to the server with the command that `eject` prints, deploy as before."""

import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.cli_runner import kiwari_ci
from tests.engine.images import Images
from tests.engine.person import Person, person_who_logs_in
from tests.engine.server import files_checksum, throw_away, without_waits

API = "pos-api-staging"
COMPOSE_FILE = "pos-staging/docker-compose.yml"


@pytest.fixture
def person(engine: None) -> Iterator[Person]:
    """A server of its own that was generated for, and a person whose key it knows."""
    with throw_away() as server:
        without_waits(server.docker_folder / COMPOSE_FILE)
        person = person_who_logs_in(server)
        without_waits(person.clone / "deploy" / COMPOSE_FILE)
        example = (person.clone / "deploy/pos-staging/.env.example").read_text()
        env_file = server.docker_folder / "pos-staging/.env"
        env_file.write_text(example.replace("change-me", "filled-in").replace("=''", "='filled-in'"))
        yield person


def test_what_was_ejected_deploys(person: Person) -> None:
    server = person.server
    images = Images(server)
    assert server.deploy(API, images.api("of-kiwari-ci"), server.commit()).returncode == 0
    before = server.container_id(API)
    command, digest = eject_and_commit(person), images.api("our-own")
    without_waits(person.clone / "deploy" / COMPOSE_FILE)
    commit(person)

    refused = server.key(request_of_the_commit(person, digest))
    assert refused.returncode == 69, refused.stdout
    assert server.container_id(API) == before

    copied = person.types(command)
    assert copied.returncode == 0, copied.stderr
    program = server.docker_folder / "bin/deploy"
    assert program.read_bytes() == (person.clone / "deploy/bin/deploy").read_bytes()
    assert program.stat().st_mode & 0o111

    deployed = server.key(request_of_the_commit(person, digest))
    assert deployed.returncode == 0, deployed.stdout
    assert server.serves(API) == "our-own"
    server.by_hand(f"docker/bin/deploy rollback pos-staging {API}", check=True)
    assert server.serves(API) == "of-kiwari-ci"


def eject_and_commit(person: Person) -> str:
    """Leaves, and commits; the command for the server that was printed."""
    printed = kiwari_ci("eject", person.clone / "specs/kiwari.yaml", "--out", person.clone)
    assert printed.code == 0, printed.err
    commit(person)
    [command] = re.findall(r"VPS=USER@ADDRESS; (git archive .*)", printed.out)
    return str(command)


def commit(person: Person) -> None:
    """Commits all that changed in the clone."""
    who = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
    for words in (["add", "-A"], [*who, "commit", "-q", "--allow-empty", "-m", "ours"]):
        subprocess.run(["git", *words], cwd=person.clone, check=True)


def request_of_the_commit(person: Person, digest: str) -> str:
    """A deploy as the ejected workflow asks for it: with the checksum of the ejected files."""
    server = person.server
    files = files_checksum(person.clone / "deploy/pos-staging")
    return server.words(API, digest, server.commit(), files=files)
