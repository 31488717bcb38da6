"""Going back, by a person on the server and through the key."""

import datetime

import pytest

from tests.engine.conftest import succeeds
from tests.engine.images import Images
from tests.engine.server import Server, seen

API = "pos-api-staging"
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
    (server.home / ".curlrc").write_text("connect-to = ::127.0.0.1:9\n")

    began = utc()

    with server.hung_up(f"{API}-next"):
        result = server.by_hand(f"{settings} docker/bin/deploy rollback pos-staging {API}")

    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1].split()[:4] == ["SERVING", API, newest, before]
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
    assert server.digest(API) == oldest
    assert server.serves(API)


def test_a_second_rollback_leaves_out_what_was_gone_back_from(server: Server, images: Images) -> None:
    """A good one, a bad one, back, the next one: before that the good one served."""
    good, bad, following = images.api("good"), images.api("bad"), images.api("following")
    for digest in (good, bad):
        succeeds(server.deploy(API, digest, server.commit()))
    succeeds(server.by_hand(f"docker/bin/deploy rollback pos-staging {API}"))
    succeeds(server.deploy(API, following, server.commit()))

    succeeds(server.by_hand(f"docker/bin/deploy rollback pos-staging {API}"))

    assert server.digest(API) == good


def test_rollback_to_what_never_served(server: Server, images: Images) -> None:
    before = seen(server, API)

    result = server.key(f"rollback pos-staging {API} {images.api('never')}", token=None)

    assert result.returncode == 65, result.stdout
    assert "served no such image before" in result.stdout
    assert seen(server, API) == before
