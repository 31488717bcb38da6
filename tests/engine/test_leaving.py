"""A team leaves: the ejected files, brought to the server with the command that `eject` prints, deploy as before."""

import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.command import kiwari_ci
from tests.engine.images import Images
from tests.engine.person import Person
from tests.engine.server import Server, files_checksum, generated, throw_away

API = "pos-api-staging"


@pytest.fixture
def person(images: Images) -> Iterator[Person]:
    """A server of its own that was generated for, and a person whose key it knows; `images`: an engine can run."""
    with throw_away() as server:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", server.folder / "keys/person"], check=True)
        with (server.home / ".ssh/authorized_keys").open("a") as keys:
            keys.write((server.folder / "keys/person.pub").read_text())
        yield Person(server)


def ejected(person: Person) -> str:
    """Leave, and commit; the command for the server that was printed."""
    said = kiwari_ci("eject", person.clone / "specs/kiwari.yaml", "--out", person.clone)
    assert said.code == 0, said.err
    for words in (["add", "-A"], ["-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-qm", "ours"]):
        subprocess.run(["git", *words], cwd=person.clone, check=True)
    [command] = re.findall(r"VPS=USER@ADDRESS; (git archive .*)", said.out)
    return str(command)


def words(person: Person, server: Server, digest: str) -> str:
    """A deploy as the ejected workflow says it: with the checksum of the ejected compose file."""
    return server.words(API, digest, server.commit(), files=files_checksum(person.clone / "deploy/pos-staging"))


def test_what_was_ejected_deploys(person: Person) -> None:
    server = person.server
    images = Images(server)
    assert server.deploy(API, images.api("ours-no-more"), server.commit()).returncode == 0
    before = server.container_id(API)

    command, digest = ejected(person), images.api("our-own")
    refused = server.key(words(person, server, digest))
    assert refused.returncode == 69, refused.stdout
    assert server.container_id(API) == before

    copied = person.types(command)
    assert copied.returncode == 0, copied.stderr
    assert (server.docker_folder / "bin/deploy").read_bytes() != generated("deploy/bin/deploy").read_bytes()
    assert (server.docker_folder / "bin/deploy").stat().st_mode & 0o111
    assert "kiwari-ci" not in server.run("grep", "-rih", "kiwari-ci", str(server.docker_folder), check=False).stdout

    deployed = server.key(words(person, server, digest))
    assert deployed.returncode == 0, deployed.stdout
    assert server.serves(API) == "our-own"
    server.by_hand(f"docker/bin/deploy rollback pos-staging {API}", check=True)
    assert server.serves(API) == "ours-no-more"
