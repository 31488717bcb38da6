"""Deploys that are cut, killed, doubled or late."""

import re
import signal
import time

import pytest

from tests.engine.conftest import succeeds
from tests.engine.images import REGISTRY, Images
from tests.engine.proxy import Proxy
from tests.engine.server import Server, eventually
from tests.engine.shop import Shop
from tests.engine.test_2_refused import compose, stand_in

API, ADMIN = "pos-api-staging", "pos-admin-staging"
pytestmark = pytest.mark.usefixtures("api")


def test_a_dropped_connection_stops_nothing_and_another_deploy_waits(server: Server, images: Images) -> None:
    first, admin = images.api("dropped"), images.admin("admin-one")
    number = server.commit()
    client = server.start(server.words(API, first, number, run=31))
    eventually(lambda: f"{API}-next" in server.containers(), 30, "the first deploy is in the middle")
    client.send_signal(signal.SIGKILL)
    client.communicate()
    assert server.locked()

    other = server.deploy(ADMIN, admin, number)

    assert other.returncode == 0, other.stdout
    assert other.stdout.startswith(f"waiting for: deploy pos-staging {API}, run 31, since")
    assert (server.serves(API), server.serves(ADMIN)) == ("dropped", "admin-one")
    assert server.record(API)[-1][0].endswith(first)
    assert server.containers() >= {API, ADMIN}
    assert f"{API}-next" not in server.containers()
    for service in (API, ADMIN):
        assert server.pinned(service) == server.image(service) == server.record(service)[-1][0]


def test_an_older_commit_that_waited_for_a_newer_one_changes_nothing(server: Server, images: Images) -> None:
    """What it reads before it has the lock is no longer true when it gets it."""
    late, newer = images.api("waited"), images.api("went-first", "boots-slowly")
    older_number, newer_number = server.commit(), server.commit()
    first = server.start(server.words(API, newer, newer_number))
    eventually(lambda: f"{API}-next" in server.containers(), 30, "the newer deploy is in the middle")

    result = server.deploy(API, late, older_number)

    first.communicate(timeout=60)
    assert first.returncode == 0
    assert result.returncode == 0, result.stdout
    assert result.stdout.startswith(f"waiting for: deploy pos-staging {API}")
    assert result.stdout.splitlines()[-1].startswith(f"SUPERSEDED {API} {newer} {newer} ")
    assert server.serves(API) == "went-first"
    assert server.record(API)[-1][1] == str(newer_number)


def test_a_killed_deploy_is_cleared_by_the_next_even_of_the_same_commit(server: Server, images: Images) -> None:
    version, before, number = server.serves(API), server.image(API), int(server.record(API)[-1][1])
    client = server.start(server.words(API, images.api("killed"), number))
    eventually(lambda: server.serves(f"{API}-next") == "killed", 30, "the new one runs beside the old")
    assert server.tokens() == [], "its login went with the pull"
    server.kill_deploy()
    said, _ = client.communicate(timeout=10)
    assert client.returncode != 0, "the client ends when the deploy does"
    assert "SERVING" not in said
    assert server.serves(API) == version
    assert server.pinned(API) == before
    server.leave_token()
    dangling = server.dangling()

    result = server.deploy(API, images.api("following"), number)

    assert result.returncode == 0, result.stdout
    assert server.serves(API) == "following"
    assert [line[1] for line in server.record(API)[-2:]] == [str(number), str(number)]
    assert server.pinned(API) == server.image(API)
    assert f"{API}-next" not in server.containers()
    assert server.dangling() == dangling
    assert server.tokens() == []


def test_what_a_killed_deploy_began_holds_the_lock_until_it_ends(server: Server, images: Images) -> None:
    client = server.start(server.words(API, images.api("half"), server.commit()))
    compose = ("pgrep", "-f", "compose up -d --no-deps")
    eventually(lambda: server.run(*compose, check=False).returncode == 0, 60, "compose recreates the service")
    children = server.run(*compose).stdout.split()
    server.run("kill", "-STOP", *children)
    server.kill_deploy()
    client.communicate(timeout=10)

    assert server.locked()
    server.run("kill", "-CONT", *children)
    eventually(lambda: not server.locked(), 60, "compose ends")
    assert server.serves(API) == server.serves(f"{API}-next") == "half"


@pytest.fixture
def left_beside(server: Server, images: Images) -> None:
    """What a killed deploy leaves, of a commit that is not the first: as the test above does, or made here."""
    if f"{API}-next" not in server.containers():
        server.commit()  # the one that can come late
        assert server.deploy(API, images.api("second"), server.commit()).returncode == 0
        client = server.start(server.words(API, images.api("beside"), server.commit()))
        aliases = ("inspect", "-f", "{{.NetworkSettings.Networks.proxy.Aliases}}", f"{API}-next")
        eventually(lambda: f"{API} " in server.docker(*aliases, check=False), 30, "it has the name, beside the old")
        server.kill_deploy()
        client.communicate(timeout=10)


@pytest.mark.usefixtures("left_beside")
def test_an_older_commit_that_arrives_late_changes_nothing(server: Server, images: Images, proxy: Proxy) -> None:
    """But it clears what the killed one has left, and nobody who comes through the proxy sees that."""
    serving, record, container = server.digest(API), server.record(API), server.container_id(API)
    late, file = images.api("late"), server.stack_file(API, f".deploys/{API}")
    server.leave_token()
    lines = file.read_text()
    file.write_text(f"{lines}# {REGISTRY}/kiwari-api@{late} 99 2026-01-01T00:00:00Z 1 was bad: a note by hand\n")

    with proxy.before(API), proxy.asked() as answers:
        result = server.deploy(API, late, int(record[-1][1]) - 1)
    file.write_text(lines)

    assert not answers.failed(), answers.failed()[:5]
    assert result.returncode == 0, result.stdout
    *told, last = result.stdout.splitlines()  # it may have to wait for a child of the killed one
    assert [line for line in told if not line.startswith("waiting for: ")] == [f"{API}-next"]
    word, service, old, new, _, path = last.split(" ")
    assert (word, service, old, new, path) == ("SUPERSEDED", API, serving, serving, "/health")
    assert (server.container_id(API), server.record(API)) == (container, record)
    assert f"{API}-next" not in server.containers()
    assert server.tokens() == []


@pytest.mark.usefixtures("admin")
def test_an_older_commit_is_not_green_when_the_newer_one_does_not_answer(server: Server, images: Images) -> None:
    late = server.commit()
    succeeds(server.deploy(ADMIN, images.admin("newer"), server.commit()))
    server.docker("stop", ADMIN)
    try:
        result = server.deploy(ADMIN, images.admin("late"), late)
    finally:
        server.docker("start", ADMIN)

    assert result.returncode == 1, result.stdout
    assert "is pinned and does not answer" in result.stdout
    assert "SUPERSEDED" not in result.stdout
    assert "Serving now: nothing" in result.stdout


@pytest.mark.parametrize(("ends", "code", "says"), [(0, 65, f"{API} does not run"), (18, 1, ""), (125, 1, "")])
def test_a_compose_that_does_nothing_is_not_believed(
    server: Server, images: Images, ends: int, code: int, says: str
) -> None:
    before = server.container_id(API)

    with stand_in(server, compose(server), f'case " $* " in *" up "*) exit {ends} ;; esac\nexec "$REAL" "$@"'):
        result = server.deploy(API, images.api(f"nothing-{ends}"), server.commit())

    assert result.returncode == code, result.stdout
    assert says in result.stdout
    assert "FAILED. Serving now: sha256:" in result.stdout
    assert server.container_id(API) == before


def test_what_had_ended_when_it_was_first_looked_at_is_not_waited_for(
    shop: Shop, server: Server, images: Images
) -> None:
    """It ends at once, and is not started again: nothing about it changes any more."""
    file, began = shop.folder / "docker-compose.yml", time.monotonic()
    shop.put(file.name, file.read_text().replace("unless-stopped", "'no'"))
    slow = '"$REAL" "$@"; code=$?; case " $* " in *" up "*) sleep 2 ;; esac; exit $code'

    with stand_in(server, compose(server), slow):
        result = shop.deploy(images.api("exits", "exits"))

    assert result.returncode == 1, result.stdout
    assert "exited since" in result.stdout and "0 restarts, exit code 3" in result.stdout
    assert time.monotonic() - began < 40


@pytest.mark.parametrize("container", [f"{API}-next", API])
def test_what_was_started_again_while_it_was_watched_is_not_believed(
    server: Server, images: Images, container: str
) -> None:
    """It answers, but it may not the next time. What stands beside it serves."""
    digest, form = (
        images.api(f"again-{len(container)}"),
        "{{.Config.Image}} {{.NetworkSettings.Networks.proxy.Aliases}}",
    )
    client = server.start(server.words(API, digest, server.commit()))

    def watched() -> bool:
        image, _, aliases = server.docker("inspect", "-f", form, container, check=False).partition(" ")
        return image.endswith(digest) and f"{API} " in aliases and bool(server.serves(container))

    eventually(watched, 60, "it answers, and is looked at again after eleven seconds")
    time.sleep(1)
    server.docker("restart", "-t", "0", container)
    said, _ = client.communicate(timeout=60)

    assert client.returncode == 1, said
    assert f"{container} did not stay up" in said
    serves = f"{API}-next" if container == API else API
    assert f"Serving now: {server.docker('inspect', '-f', life(), serves)}" in said
    succeeds(server.deploy(API, images.api(f"calm-{len(container)}"), server.commit()))


def life() -> str:
    """The form of the words that tell one container's life from another's."""
    return "{{.Image}} {{.State.Status}} since {{.State.StartedAt}}"


def test_one_answer_that_does_not_come_makes_no_gap(server: Server, images: Images) -> None:
    """What serves is asked again, before the new one may come in its place and not beside it."""
    asked = server.home / "asked"

    with stand_in(server, "/usr/bin/curl", f'mkdir {asked} 2>/dev/null && exit 28; exec "$REAL" "$@"'):
        result = server.deploy(API, images.api("asked-again"), server.commit())
    asked.rmdir()

    assert result.returncode == 0, result.stdout
    assert re.search(r"^[0-9a-f]{64}$", result.stdout, re.M), "it came beside"


def test_the_one_that_serves_is_never_removed_whatever_fails(server: Server, images: Images) -> None:
    """A version that works beside the old one, but not in its place: it goes on where it works."""
    pinned = server.pinned(API)
    alone = server.deploy(API, images.api("alone", "wants-to-be-alone"), server.commit())
    assert alone.returncode == 1, alone.stdout
    assert re.search(r"exit code 5|[1-9] restarts, exit code 0", alone.stdout), "looked at before or after a restart"
    assert "Serving now: sha256:" in alone.stdout
    assert f"To go back: {server.docker_folder}/bin/deploy rollback pos-staging {API} sha256:" in alone.stdout
    assert server.serves(f"{API}-next") == "alone"
    assert API in server.docker("inspect", "-f", "{{.NetworkSettings.Networks.proxy.Aliases}}", f"{API}-next")
    assert server.record(API)[-1][0] == server.pinned(API) != server.image(API)

    nowhere = server.deploy(API, "sha256:" + 64 * "0", server.commit())
    assert nowhere.returncode == 65, nowhere.stdout
    assert server.serves(f"{API}-next") == "alone"

    server.docker("network", "disconnect", "proxy", f"{API}-next")
    server.docker("network", "connect", "proxy", f"{API}-next")  # without the name, as a killed deploy can leave it
    bad = server.deploy(API, images.api("exits", "exits"), server.commit())
    assert bad.returncode == 1, bad.stdout
    assert server.serves(f"{API}-next") == "alone"
    assert API in server.docker("inspect", "-f", "{{.NetworkSettings.Networks.proxy.Aliases}}", f"{API}-next")
    assert server.pinned(API) != server.image(API)

    good = server.deploy(API, images.api("whole"), server.commit())
    assert good.returncode == 0, good.stdout
    assert server.serves(API) == "whole"
    assert server.pinned(API) == server.image(API) != pinned
    assert f"{API}-next" not in server.containers()


@pytest.mark.parametrize("state", ["runs", "stopped"])
def test_a_compose_that_was_killed_before_it_gave_the_new_container_its_name(
    server: Server, images: Images, state: str
) -> None:
    digest, sequence = images.api(f"renamed-{state}"), server.commit()
    succeeds(server.deploy(API, digest, sequence))
    server.docker("rename", API, f"0123456789ab_{API}")
    if state == "stopped":
        server.docker("stop", f"0123456789ab_{API}")

    succeeds(server.deploy(API, digest, sequence))

    assert server.serves(API) == f"renamed-{state}"
    assert f"0123456789ab_{API}" not in server.containers()
