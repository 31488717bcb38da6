"""Deploys that are cut, killed, cancelled, doubled or late."""

import signal
import subprocess

import pytest

from tests.engine.conftest import bring_into_service, succeeds
from tests.engine.images import REGISTRY, Images
from tests.engine.proxy import Proxy
from tests.engine.server import Server, eventually, outcome, seen
from tests.engine.stand_ins import compose_plugin, stand_in

API, ADMIN, PRODUCTION = "pos-api-staging", "pos-admin-staging", "pos-api"
RECREATION = ("pgrep", "-f", f"compose .* up -d --no-deps .*--pull never {API}")
pytestmark = pytest.mark.usefixtures("api")


def ended(client: "subprocess.Popen[str]") -> tuple[int, str]:
    """How a deploy ended that was begun with `start`, and what it printed."""
    printed, _ = client.communicate(timeout=90)
    return client.returncode, printed


def aliases(server: Server, container: str) -> list[str]:
    """The names that lead to a container on the network that it shares with the proxy."""
    form = "{{range .NetworkSettings.Networks.proxy.Aliases}}{{.}} {{end}}"
    return server.docker("inspect", "-f", form, container, check=False).split()


def test_a_dropped_connection_stops_nothing_and_another_deploy_waits(server: Server, images: Images) -> None:
    first, admin = images.api("dropped", "boots-slowly"), images.admin("admin-one")
    number = server.commit()
    client = server.start(server.words(API, first, number, run=31))
    eventually(lambda: f"{API}-next" in server.containers(), 30, "the first deploy is in the middle")
    client.send_signal(signal.SIGKILL)
    client.communicate()
    assert server.locked()

    other = server.deploy(ADMIN, admin, number)

    assert other.returncode == 0, other.stdout
    assert f"waiting for another deploy: deploy pos-staging {API}, run 31, since" in other.stdout
    assert (server.serves(API), server.serves(ADMIN)) == ("dropped", "admin-one")
    assert server.record(API)[-1][0].endswith(first)
    assert server.containers() >= {API, ADMIN}
    assert f"{API}-next" not in server.containers()
    for service in (API, ADMIN):
        assert server.pinned(service) == server.image(service) == server.record(service)[-1][0]


def test_two_stacks_do_not_wait_for_each_other(server: Server, images: Images) -> None:
    """Each has a lock of its own: what is urgent in production does not wait for a slow start in staging."""
    server.place_files("pos-staging", name_cache="0", start_period="300")
    staging, promoted = images.api("slow-start", "hangs"), server.digest(API)
    client = server.start(server.words(API, staging, server.commit()))
    eventually(lambda: f"{API}-next" in server.containers(), 30, "staging's deploy is in the middle")

    result = server.deploy(PRODUCTION, promoted, server.commit())

    is_at_work = client.poll() is None
    succeeds(server.key("cancel pos-staging", token=None))
    code, printed = ended(client)
    assert result.returncode == 0, result.stdout
    assert "waiting for another deploy" not in result.stdout
    assert is_at_work, printed
    assert code == 1, printed
    assert server.serves(PRODUCTION) == server.serves(API) == "one"


def test_an_older_commit_that_waited_for_a_newer_one_changes_nothing(server: Server, images: Images) -> None:
    """What it reads before it has the lock is no longer true when it gets it."""
    late, newer = images.api("waited"), images.api("went-first", "boots-slowly")
    older_number, newer_number = server.commit(), server.commit()
    first = server.start(server.words(API, newer, newer_number))
    eventually(lambda: f"{API}-next" in server.containers(), 30, "the newer deploy is in the middle")

    result = server.deploy(API, late, older_number)

    assert ended(first)[0] == 0
    assert result.returncode == 3, result.stdout
    assert f"waiting for another deploy: deploy pos-staging {API}" in result.stdout
    report = outcome(result)
    assert (report["result"], report["newest_sequence"]) == ("superseded", newer_number)
    (row,) = report["services"]
    assert (row["service"], row["result"], row["before"], row["now"]) == (API, "superseded", newer, newer)
    assert server.serves(API) == "went-first"
    assert server.record(API)[-1][1] == str(newer_number)


def test_a_killed_deploy_is_cleared_by_the_next_even_of_the_same_commit(server: Server, images: Images) -> None:
    server.place_files("pos-staging", name_cache="5")  # so long does the new one serve beside the old one
    before, number = server.image(API), int(server.record(API)[-1][1])
    client = server.start(server.words(API, images.api("killed"), number))
    eventually(lambda: API in aliases(server, f"{API}-next"), 30, "the new one has the name too")
    assert server.tokens() == [], "its login went with the pull"
    server.kill_deploy()
    code, printed = ended(client)
    assert code != 0, "the client ends when the deploy does"
    assert "SERVING" not in printed
    assert server.serves(API) == "one"
    assert server.pinned(API) == before
    server.leave_token()
    dangling = server.dangling()
    server.place_files("pos-staging", name_cache="0")

    result = server.deploy(API, images.api("following"), number)

    assert result.returncode == 0, result.stdout
    assert server.serves(API) == "following"
    assert [line[1] for line in server.record(API)] == [str(number), str(number)]
    assert server.pinned(API) == server.image(API)
    assert f"{API}-next" not in server.containers()
    assert server.dangling() <= dangling
    assert server.tokens() == []


def test_what_a_killed_deploy_began_holds_the_lock_until_it_ends(server: Server, images: Images) -> None:
    client = server.start(server.words(API, images.api("half"), server.commit()))
    eventually(lambda: server.run(*RECREATION, check=False).returncode == 0, 60, "compose recreates the service")
    children = server.run(*RECREATION).stdout.split()
    server.run("kill", "-STOP", *children)
    server.kill_deploy()
    ended(client)

    assert server.locked()
    server.run("kill", "-CONT", *children)
    eventually(lambda: not server.locked(), 60, "compose ends")
    assert server.serves(f"{API}-next") == "half"
    assert API in aliases(server, f"{API}-next"), "whatever compose came to, this one serves"

    succeeds(server.deploy(API, images.api("two"), server.commit()))
    assert server.serves(API) == "two"
    assert f"{API}-next" not in server.containers()


def test_a_compose_that_is_killed_while_it_recreates_runs_once_more(server: Server, images: Images) -> None:
    """However far it had come: the container that it began to replace is replaced."""
    client = server.start(server.words(API, images.api("torn"), server.commit()))
    eventually(lambda: server.run(*RECREATION, check=False).returncode == 0, 60, "compose recreates the service")
    # One of the two may have ended with the other.
    server.run("kill", "-KILL", *server.run(*RECREATION).stdout.split(), check=False)
    code, printed = ended(client)

    assert code == 0, printed
    assert f"docker was killed while it replaced {API}: trying once more" in printed
    assert server.serves(API) == "torn"
    assert server.containers() - {"proxy-manager"} == {API}


def test_cancel_through_the_key_ends_a_deploy_that_waits(server: Server, images: Images) -> None:
    server.place_files("pos-staging", name_cache="0", start_period="300")
    before = seen(server, API)
    client = server.start(server.words(API, images.api("hangs", "hangs"), server.commit(), run=8))
    eventually(lambda: f"{API}-next" in server.containers(), 30, "the deploy waits for an answer")

    result = server.key("cancel pos-staging", token=None)

    code, printed = ended(client)
    assert result.returncode == 0, result.stdout
    assert f"cancelling: deploy pos-staging {API}, run 8, since " in result.stdout
    assert result.stdout.splitlines()[-1] == "it has ended"
    assert code == 1, printed
    assert "deploy: the deploy was cancelled" in printed
    assert seen(server, API) == before
    again = server.key("cancel pos-staging", token=None)
    assert (again.returncode, again.stdout) == (0, "no deploy of pos-staging is running\n")


@pytest.mark.long
def test_an_older_commit_that_arrives_late_changes_nothing(server: Server, images: Images, proxy: Proxy) -> None:
    """But it clears what a killed one has left, and nobody who comes through the proxy sees that."""
    server.place_files("pos-staging")
    late = server.commit()
    succeeds(server.deploy(API, images.api("second"), server.commit()))
    client = server.start(server.words(API, images.api("beside"), server.commit()))
    eventually(lambda: API in aliases(server, f"{API}-next"), 30, "the new one has the name, beside the old one")
    server.kill_deploy()
    ended(client)
    serving, record, container = server.digest(API), server.record(API), server.container_id(API)
    server.leave_token()
    file = server.stack_file(API, f".deploys/{API}")
    note = f"# {REGISTRY}/kiwari-api@{images.api('late')} 99 2026-01-01T00:00:00Z 1 was bad: a note by hand\n"
    lines = file.read_text()
    file.write_text(lines + note)

    with proxy.before(API), proxy.asked() as answers:
        result = server.deploy(API, images.api("late"), late)
    file.write_text(lines)

    assert not answers.failed(), answers.failed()[:5]
    assert result.returncode == 3, result.stdout
    assert outcome(result)["newest_sequence"] == int(record[-1][1])
    (row,) = outcome(result)["services"]
    assert (row["service"], row["result"], row["before"], row["now"]) == (API, "superseded", serving, serving)
    assert (server.container_id(API), server.record(API)) == (container, record)
    assert f"{API}-next" not in server.containers()
    assert server.tokens() == []


def test_an_older_commit_is_not_green_when_the_newer_one_does_not_answer(server: Server, images: Images) -> None:
    older = server.commit()
    bring_into_service(server, images, API, [images.api("one")])
    server.docker("stop", API)

    result = server.deploy(API, images.api("two"), older)

    assert result.returncode == 1, result.stdout
    assert f"was deployed last to {API} and does not serve now" in result.stdout
    assert outcome(result)["services"][0]["now"] is None


@pytest.mark.parametrize("code", [0, 125])
def test_a_compose_that_does_nothing_is_not_believed(server: Server, images: Images, code: int) -> None:
    before, digest = server.container_id(API), images.api("nothing")

    with stand_in(server, compose_plugin(server), f'case " $* " in *" up "*) exit {code} ;; esac\nexec "$REAL" "$@"'):
        result = server.deploy(API, digest, server.commit())

    assert result.returncode == 1, result.stdout
    assert outcome(result)["services"][0]["result"] == "failed"
    assert server.container_id(API) == before
    assert server.serves(API) == "one", "what served before serves, alone"
    assert f"{API}-next" not in server.containers()


@pytest.mark.parametrize("container", [f"{API}-next", API])
def test_what_was_started_again_while_it_was_watched_is_not_believed(
    server: Server, images: Images, container: str
) -> None:
    """It answers, but it may not the next time: the deploy is red, and what answers goes on."""
    server.place_files("pos-staging", name_cache="5")
    digest = images.api("again")
    client = server.start(server.words(API, digest, server.commit()))

    def is_watched() -> bool:
        image = server.docker("inspect", "-f", "{{.Config.Image}}", container, check=False)
        beside_has_the_name = API in aliases(server, f"{API}-next")
        return image.endswith(digest) and beside_has_the_name == (container != API) and bool(server.serves(container))

    eventually(is_watched, 60, "it answers, and is looked at again later")
    server.docker("restart", "-t", "0", container)
    code, printed = ended(client)

    assert code == 1, printed
    assert f"{container} did not stay up" in printed
    serves = f"{API}-next" if f"{API}-next" in server.containers() else API
    assert f"FAILED: {API}; serving now: {server.digest(serves)}" in printed
    assert server.serves(serves)
    server.place_files("pos-staging", name_cache="0")
    succeeds(server.deploy(API, images.api("calm"), server.commit()))
    assert server.containers() - {"proxy-manager"} == {API}


@pytest.mark.long
def test_the_one_that_serves_is_never_removed_whatever_fails(server: Server, images: Images) -> None:
    """A version that works beside the old one, but not in its place: it goes on where it works."""
    pinned = server.pinned(API)
    alone = server.deploy(API, images.api("alone", "wants-to-be-alone"), server.commit())
    assert alone.returncode == 1, alone.stdout
    assert f"{API} did not stay up" in alone.stdout
    assert f"serving now: {images.api('alone', 'wants-to-be-alone')}" in alone.stdout
    assert f"to go back: {server.docker_folder}/bin/deploy rollback pos-staging {API} sha256:" in alone.stdout
    assert server.serves(f"{API}-next") == "alone"
    assert API in aliases(server, f"{API}-next")
    assert server.record(API)[-1][0] == server.pinned(API) == pinned

    nowhere = server.deploy(API, "sha256:" + 64 * "0", server.commit())
    assert nowhere.returncode == 65, nowhere.stdout
    assert server.serves(f"{API}-next") == "alone"

    server.docker("network", "disconnect", "proxy", f"{API}-next")
    server.docker("network", "connect", "proxy", f"{API}-next")  # without the name, as a killed deploy can leave it
    bad = server.deploy(API, images.api("exits", "exits"), server.commit())
    assert bad.returncode == 1, bad.stdout
    assert server.serves(f"{API}-next") == "alone"
    assert API in aliases(server, f"{API}-next")
    assert server.pinned(API) == pinned

    good = server.deploy(API, images.api("whole"), server.commit())
    assert good.returncode == 0, good.stdout
    assert server.serves(API) == "whole"
    assert server.pinned(API) == server.image(API) != pinned
    assert f"{API}-next" not in server.containers()


@pytest.mark.parametrize("state", ["runs", "stopped"])
def test_a_compose_that_was_killed_before_it_gave_the_new_container_its_name(server: Server, state: str) -> None:
    """Compose makes it under the name of the old one behind twelve letters and digits, and renames it then."""
    half_made = f"0123456789ab_{API}"
    container, digest, sequence = server.container_id(API), server.digest(API), int(server.record(API)[-1][1])
    server.docker("rename", API, half_made)
    if state == "stopped":
        server.docker("stop", half_made)

    succeeds(server.deploy(API, digest, sequence))

    assert server.serves(API) == "one"
    assert half_made not in server.containers()
    assert (server.container_id(API) == container) == (state == "runs")


def test_a_deploy_that_is_told_to_end_takes_back_what_it_began(server: Server, images: Images) -> None:
    """SIGTERM: an operator's kill, or the server's shutdown."""
    server.place_files("pos-staging", name_cache="8", start_period="10")
    before = seen(server, API)
    client = server.start(server.words(API, images.api("ended"), server.commit()))
    eventually(lambda: API in aliases(server, f"{API}-next"), 30, "the new one has the name too")
    server.kill_deploy("TERM")
    code, printed = ended(client)

    assert code == 1, printed
    assert "deploy: the deploy was cancelled" in printed
    assert seen(server, API) == before
