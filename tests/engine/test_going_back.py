"""Going back, by a person on the server and through the key."""

import contextlib
import datetime
import subprocess
from collections.abc import Iterator

import pytest

from tests.engine.conftest import succeeds
from tests.engine.images import REGISTRY, Images
from tests.engine.server import Server, eventually, seen
from tests.engine.test_1_serving import said

API, ADMIN = "pos-api-staging", "pos-admin-staging"
pytestmark = pytest.mark.usefixtures("versions")


def digests(server: Server) -> list[str]:
    """What the record says was deployed (not gone back to), newest first, each once."""
    lines = [line for line in server.record(API) if line[3] != "rollback"]
    return list(dict.fromkeys(line[0].partition("@")[2] for line in reversed(lines)))


def utc() -> str:
    """Now, as the host script says it."""
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"


def test_rollback_by_a_person_whose_terminal_closes_leaves_the_sequence(server: Server) -> None:
    newest, before, *_ = digests(server)
    sequence = server.record(API)[-1][1]

    settings = "COMPOSE_FILE=/nowhere COMPOSE_PROJECT_NAME=elsewhere http_proxy=http://127.0.0.1:9 TZ=XXX-7"
    (server.home / ".curlrc").write_text('connect-to = "::127.0.0.1:9"\n')

    began = utc()

    with server.hung_up(f"{API}-next"):
        # which nohup around the tests would keep from it
        result = server.by_hand(f"env --default-signal=HUP {settings} docker/bin/deploy rollback pos-staging {API}")

    assert result.returncode == 0, result.stdout + result.stderr
    beside, serving = said(result)
    assert len(beside) == 64 and serving.split()[:4] == ["SERVING", API, newest, before]
    assert server.image(API) == server.pinned(API)
    assert server.digest(API) == before
    assert server.record(API)[-1][1] == sequence
    doing, _, since = (server.docker_folder / ".deploy.lock").read_text().rstrip().rpartition(" ")
    log = max(path.name for path in server.stack_file(API, "log").iterdir())
    assert doing == f"rollback pos-staging {API}, run by hand, since"
    assert began <= log[:19] + "Z" <= since <= server.record(API)[-1][2] <= utc()
    assert server.serves(API)


def test_rollback_to_a_named_digest_when_the_service_is_broken(server: Server) -> None:
    """It served once, but is out of the last three: it must be pulled, which a person's own login allows."""
    kept = server.docker("image", "ls", "--digests", "--format", "{{.Digest}}").split()
    *_, oldest = [digest for digest in digests(server) if digest not in kept]
    before = seen(server, API)
    refused = server.key(f"rollback pos-staging {API} {oldest}", token=None)
    assert refused.returncode == 65, refused.stdout
    assert "could not pull" in refused.stdout
    assert seen(server, API) == before

    server.docker("kill", API)
    with server.logged_in():
        result = server.by_hand(f"docker/bin/deploy rollback pos-staging {API} {oldest}")

    assert result.returncode == 0, result.stdout
    pulled, serving = said(result)
    assert pulled.endswith(oldest) and serving.startswith("SERVING")
    assert server.digest(API) == oldest
    assert server.serves(API)


def back(server: Server, *digest: str) -> str:
    """Goes back, and says to what."""
    succeeds(server.by_hand(f"docker/bin/deploy rollback pos-staging {API} {' '.join(digest)}"))
    return server.digest(API)


def test_a_second_rollback_leaves_out_what_was_gone_back_from(server: Server, images: Images) -> None:
    """A good one, a bad one, back, the next one, twice: before that the good one served, and before that another."""
    first, good, bad, following = server.digest(API), images.api("good"), images.api("bad"), images.api("following")
    for digest in (good, bad):
        succeeds(server.deploy(API, digest, server.commit()))
    assert back(server) == good
    for _ in "twice":
        succeeds(server.deploy(API, following, server.commit()))

    assert back(server) == good
    with server.logged_in():  # three others have served since
        assert back(server) == first


def test_one_that_was_gone_back_from_comes_again(server: Server) -> None:
    """By its digest; before it serves what served before, as ever, and not what a person has noted in the record."""
    newest, before = server.digest(API), back(server)
    record, note = server.stack_file(API, f".deploys/{API}"), f"\n# @{newest} was no better\n"

    assert back(server, newest) == newest
    record.write_text(record.read_text() + note)
    assert back(server) == before
    record.write_text(record.read_text().replace(note, ""))


@contextlib.contextmanager
def no_registry(server: Server) -> Iterator[None]:
    """While the registry's name leads nowhere: dockerd keeps names for a while, so it is waited for, at both ends."""
    hosts, pull = server.folder / "etc/hosts", f"docker pull -q {server.image(API)}"
    names = hosts.read_text()
    with server.logged_in():
        hosts.write_text(names.replace("ghcr.io", ""))
        try:
            eventually(lambda: server.by_hand(pull).returncode != 0, 20, "no registry")
            yield
        finally:
            hosts.write_text(names)
            eventually(lambda: server.by_hand(pull).returncode == 0, 20, "the registry again")


def test_what_is_kept_needs_no_registry_to_go_back_to(server: Server) -> None:
    with no_registry(server):
        assert back(server)
    assert server.serves(API)


def test_rollback_to_what_never_served(server: Server, images: Images) -> None:
    digest, record = images.api("never"), server.stack_file(API, f".deploys/{API}")
    lines = record.read_text()
    record.write_text(f"{lines}# {REGISTRY}/kiwari-api@{digest} 99 2026-01-01T00:00:00Z 1 never came: a note by hand\n")
    before = seen(server, API)

    command = server.near(*server.ssh(f"rollback pos-staging {API} {digest}"))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        code = client.wait(timeout=9)  # it waits for no token and no files: nobody ends what it could read
        assert client.stdout
        told = client.stdout.read().decode()

    assert code == 65, told
    assert "served no such image before" in told
    assert seen(server, API) == before
    record.write_text(lines)


@pytest.mark.usefixtures("admin")
def test_rollback_of_what_has_no_record(server: Server) -> None:
    record = server.stack_file(ADMIN, f".deploys/{ADMIN}")
    record.rename(server.folder / "record")
    try:
        result = server.key(f"rollback pos-staging {ADMIN}", token=None)
    finally:
        (server.folder / "record").rename(record)

    assert result.returncode == 65, result.stdout
    assert said(result)[0] == f"deploy: {ADMIN} served no such image before: see pos-staging/.deploys/{ADMIN}"
