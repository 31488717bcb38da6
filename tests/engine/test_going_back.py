"""Going back, by a person on the server and through the key."""

import contextlib
import subprocess
from collections.abc import Iterator

import pytest

from tests.engine.conftest import succeeds
from tests.engine.images import REGISTRY, Images
from tests.engine.server import USER, Server, eventually, outcome, seen

API, ADMIN = "pos-api-staging", "pos-admin-staging"
pytestmark = pytest.mark.usefixtures("versions")


def recorded(server: Server) -> list[str]:
    """The digests of the record, newest first."""
    return [line[0].partition("@")[2] for line in reversed(server.record(API))]


def go_back(server: Server, *digest: str) -> str:
    """Goes back as a person on the server, and returns the digest that serves then."""
    succeeds(server.by_hand(f"docker/bin/deploy rollback pos-staging {API} {' '.join(digest)}"))
    return server.digest(API)


def test_rollback_through_the_key_leaves_the_sequence(server: Server) -> None:
    """Its number stays that of the newest commit: an older one that comes late changes nothing."""
    newest, before, *_ = recorded(server)
    sequence = server.record(API)[-1][1]

    result = server.key(f"rollback pos-staging {API}", token=None)

    assert result.returncode == 0, result.stdout
    (row,) = outcome(result)["services"]
    assert (row["service"], row["result"], row["before"], row["now"]) == (API, "serving", newest, before)
    assert server.image(API) == server.pinned(API)
    assert server.digest(API) == before
    assert server.record(API)[-1][1] == sequence
    assert server.serves(API) == "version-4"


def test_rollback_goes_on_when_the_terminal_closes(server: Server) -> None:
    """And nothing in the person's environment has a say."""
    settings = "COMPOSE_FILE=/nowhere COMPOSE_PROJECT_NAME=elsewhere DOCKER_HOST=tcp://127.0.0.1:9 TZ=XXX-7"
    words = f"{settings} docker/bin/deploy rollback pos-staging {API}"
    in_a_terminal = f'cd; exec script -qc "env --default-signal=HUP {words}" /dev/null'
    command = server.inside("su", USER, "-s", "/bin/bash", "-c", in_a_terminal)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as terminal:
        eventually(lambda: f"{API}-next" in server.containers(), 60, "the rollback is in the middle")
        server.run("pkill", "-KILL", "-x", "script")
        assert terminal.wait(timeout=10) != 0

    eventually(lambda: not server.locked(), 60, "the rollback has ended")
    assert server.serves(API) == "version-4"
    assert server.record(API)[-1][3] == "rollback"
    log = max(server.stack_file(API, "log").iterdir(), key=lambda path: path.stat().st_mtime)
    eventually(lambda: '"result": "serving"' in log.read_text().splitlines()[-1], 10, "its result is in the log")
    assert log.stat().st_mode & 0o077 == 0


def test_rollback_to_a_named_digest_when_the_service_is_broken(server: Server) -> None:
    """It served once, but is no longer on the disk: it must be pulled, which a person's own login allows."""
    oldest = recorded(server)[-1]
    before = seen(server, API)
    refused = server.key(f"rollback pos-staging {API} {oldest}", token=None)
    assert refused.returncode == 65, refused.stdout
    assert "could not pull" in refused.stdout and "Log in first: docker login ghcr.io" in refused.stdout
    assert seen(server, API) == before

    server.docker("kill", API)
    with server.logged_in():
        result = server.by_hand(f"docker/bin/deploy rollback pos-staging {API} {oldest}")

    assert result.returncode == 0, result.stdout
    assert server.digest(API) == oldest
    assert server.serves(API) == "version-1"


def test_one_that_was_gone_back_from_comes_again(server: Server) -> None:
    """By its digest; without one, it is left out: before it serves what served before."""
    newest, before, *_ = recorded(server)

    assert go_back(server) == before
    assert go_back(server, newest) == newest
    assert go_back(server) == before


@contextlib.contextmanager
def no_registry(server: Server) -> Iterator[None]:
    """While the registry's name leads nowhere: dockerd keeps names for a while, so it is waited for, at both ends."""
    hosts, pull = server.folder / "etc/hosts", f"docker pull -q {server.image(API)}"
    names = hosts.read_text()
    server.docker("image", "rm", "-f", f"{REGISTRY}/kiwari-api@{recorded(server)[-1]}", check=False)
    with server.logged_in():
        hosts.write_text(names.replace("ghcr.io", ""))
        try:
            eventually(lambda: server.by_hand(pull).returncode != 0, 20, "no registry")
            yield
        finally:
            hosts.write_text(names)
            eventually(lambda: server.by_hand(pull).returncode == 0, 20, "the registry again")


def test_what_is_kept_needs_no_registry_to_go_back_to(server: Server) -> None:
    before = recorded(server)[1]

    with no_registry(server):
        assert go_back(server) == before


def test_rollback_to_what_never_served(server: Server, images: Images) -> None:
    digest, record = images.api("never"), server.stack_file(API, f".deploys/{API}")
    note = f"# {REGISTRY}/kiwari-api@{digest} 99 2026-01-01T00:00:00Z 1 never came: a note by hand\n"
    record.write_text(record.read_text() + note)
    before = seen(server, API)

    command = server.near(*server.ssh(f"rollback pos-staging {API} {digest}"))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        code = client.wait(timeout=9)  # it waits for no token and no files: nobody ends what it could read
        assert client.stdout
        printed = client.stdout.read().decode()

    assert code == 65, printed
    assert "has no such image" in printed
    assert seen(server, API) == before
