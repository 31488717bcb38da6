"""A deploy that was interrupted: what the next request does before its own work."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.host.fake_docker import Image, Killed, Refused
from tests.host.world import WEB, WORKER, World

CRASHES = Image(exits_after=4, exit_code=3)


def deploy_and_kill(world: World, name: str, version: int, when: Callable[[], bool]) -> None:
    """Deploy, with the program killed at the first point at which the condition is true."""

    def kill() -> None:
        world.machine.is_dead = world.machine.is_dead or when()

    world.machine.at_each_point = kill
    with pytest.raises(Killed):
        world.deploy({name: world.image(name, version)}, version)
    world.machine.at_each_point = None
    world.machine.revive()


def deploy_that_the_preflight_refuses(world: World, name: str) -> None:
    """Such a deploy recovers the stack, and changes nothing else."""
    free, world.machine.free = world.machine.free, 3
    assert world.deploy({name: world.image(name, 9)}, 9).code == 69
    world.machine.free = free


@pytest.fixture
def worker_world(root: Path) -> World:
    world = World(root, WORKER)
    assert world.deploy({"worker": world.image("worker", 1)}, 1).code == 0
    return world


@pytest.fixture
def web_world(root: Path) -> World:
    world = World(root, WEB)
    assert world.deploy({"web": world.image("web", 1)}, 1).code == 0
    return world


@pytest.mark.parametrize("verb", ["deploy", "rollback"])
def test_a_worker_that_crashes_in_a_loop_is_not_unchanged(worker_world: World, verb: str) -> None:
    """It runs at the moment at which the program looks, because Docker starts it again each time."""
    bad = worker_world.image("worker", 1, CRASHES)
    worker_world.machine.wait(10)
    assert worker_world.container("worker").is_running

    outcome = worker_world.deploy({"worker": bad}, 1) if verb == "deploy" else worker_world.rollback("worker", bad)

    assert (outcome.code, outcome.results) == (1, {"worker": "failed"})


def test_a_worker_that_crashed_once_is_unchanged(worker_world: World) -> None:
    good = worker_world.image("worker", 1, CRASHES)
    worker_world.machine.wait(6)
    worker_world.image("worker", 1)
    assert worker_world.container("worker").restarts > 0

    assert worker_world.deploy({"worker": good}, 1).results == {"worker": "unchanged"}


def test_a_recorded_worker_is_never_replaced_by_an_old_one(worker_world: World) -> None:
    """It has proved itself, and fails days later: only a rollback goes back."""
    deploy_and_kill(worker_world, "worker", 2, lambda: len(worker_world.record("worker")) == 2)
    assert worker_world.names() == ["worker", "worker-previous"]
    new = worker_world.container("worker").id
    worker_world.image("worker", 2, CRASHES)
    worker_world.machine.wait(10)

    deploy_that_the_preflight_refuses(worker_world, "worker")

    assert worker_world.names() == ["worker"]
    assert worker_world.container("worker").id == new
    assert not list(worker_world.folder.glob(".deploys/.set-aside-*"))


def test_a_kill_when_the_temporary_container_has_the_names_on_one_network_only(root: Path) -> None:
    world = World(
        root, WEB.replace("      - proxy\n", "      - inner\n      - proxy\n"), rest="  inner:\n    external: true\n"
    )
    world.machine.state.networks.add("inner")
    assert world.deploy({"web": world.image("web", 1)}, 1).code == 0

    def has_one_name() -> bool:
        container = world.machine.find("web-next")
        return container is not None and sum("web" in names for names in container.aliases.values()) == 1

    deploy_and_kill(world, "web", 2, has_one_name)
    world.machine.remove(world.container("web"))

    deploy_that_the_preflight_refuses(world, "web")

    aliases = world.container("web-next").aliases
    assert aliases.keys() == {"inner", "proxy"} and all("web" in names for names in aliases.values())


def kill_while_the_temporary_container_serves_alone(world: World) -> None:
    def is_alone() -> bool:
        return world.machine.find("web") is None and world.machine.find("web-next") is not None

    deploy_and_kill(world, "web", 2, is_alone)
    for container in world.machine.everything():
        if container.name not in ("web", "web-next"):
            world.machine.remove(container)
    assert world.names() == ["web-next"]


def test_the_only_container_of_a_service_is_given_time_to_start(web_world: World) -> None:
    kill_while_the_temporary_container_serves_alone(web_world)
    web_world.image("web", 2, Image(answers_after=20))
    web_world.machine.boot()

    deploy_that_the_preflight_refuses(web_world, "web")

    (reached,) = web_world.machine.reached_by("web")
    assert web_world.machine.answers(reached) and reached.name == "web-next"


def test_a_service_whose_last_container_fails_gets_its_old_image(web_world: World) -> None:
    kill_while_the_temporary_container_serves_alone(web_world)
    web_world.image("web", 2, Image(hangs=True))
    web_world.machine.boot()

    deploy_that_the_preflight_refuses(web_world, "web")

    web_world.machine.wait(2)
    assert web_world.names() == ["web"]
    assert web_world.serves("web", web_world.image("web", 1))


def test_an_old_container_that_compose_had_stopped_is_started_again(web_world: World) -> None:
    """The deploy was killed then, and its temporary container fails afterwards."""
    old = web_world.container("web").id

    def is_stopped() -> bool:
        return any(container.id == old and not container.is_running for container in web_world.machine.everything())

    deploy_and_kill(web_world, "web", 2, is_stopped)
    web_world.image("web", 2, Image(hangs=True))

    deploy_that_the_preflight_refuses(web_world, "web")

    web_world.machine.wait(2)
    assert web_world.names() == ["web"] and web_world.serves("web", web_world.image("web", 1))


def test_a_recorded_container_is_given_time_to_start(root: Path) -> None:
    """A foreign container is set aside, and must not come back meanwhile."""
    world = World(root, WEB)
    world.machine.images["ghcr.io/acme/web:old"] = Image()
    world.machine.run_by_hand("web", "ghcr.io/acme/web:old", "proxy")
    world.machine.wait(2)
    deploy_and_kill(world, "web", 1, lambda: len(world.record("web")) == 1)
    world.image("web", 1, Image(answers_after=20))
    world.machine.boot()

    deploy_that_the_preflight_refuses(world, "web")

    assert world.serves("web", world.image("web", 1))
    assert world.names() == ["web", "web-before"]


def test_a_container_that_a_person_made_during_the_outage_is_never_removed(worker_world: World) -> None:
    deploy_and_kill(
        worker_world,
        "worker",
        2,
        lambda: "worker-previous" in worker_world.names() and "worker" not in worker_world.names(),
    )
    by_hand = worker_world.machine.run_by_hand("worker", "nginx:1", "proxy")
    before = vars(by_hand).copy()

    refused = worker_world.deploy({"worker": worker_world.image("worker", 3)}, 3)

    assert refused.code == 69
    assert refused.says("Keep one of the two: docker rm -f worker-previous, or docker rm -f worker")
    assert vars(by_hand) == before
    assert worker_world.names() == ["worker", "worker-previous"]
    worker_world.machine.do_rm(["-f", "-v", "worker"])
    good = worker_world.image("worker", 3)
    assert worker_world.deploy({"worker": good}, 3).code == 0
    assert worker_world.names() == ["worker"] and worker_world.serves("worker", good)


def test_a_container_with_the_name_of_a_migration_is_not_removed(web_world: World) -> None:
    theirs = web_world.machine.run_by_hand("web-next-migrate", "nginx:1", "proxy")
    web_world.machine.do_stop(["web-next-migrate"])

    assert web_world.deploy({"web": web_world.image("web", 2)}, 2).code == 0

    assert theirs in web_world.machine.everything()


def cancel() -> None:
    # To this thread: the program has no other one that could take the signal.
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)


@pytest.mark.usefixtures("cancellable")
def test_a_cancel_during_the_recovery_leaves_no_service_down(
    worker_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes when the old container has its name again, and was not started yet."""
    old = worker_world.container("worker").id
    deploy_and_kill(
        worker_world,
        "worker",
        2,
        lambda: "worker-previous" in worker_world.names() and "worker" in worker_world.names(),
    )
    rename = worker_world.machine.do_rename

    def rename_and_cancel(words: list[str]) -> str:
        rename(words)
        cancel()
        return ""

    with monkeypatch.context() as patch:
        patch.setattr(worker_world.machine, "do_rename", rename_and_cancel)
        outcome = worker_world.deploy({"worker": worker_world.image("worker", 2)}, 2)

    assert outcome.result["message"] == "the deploy was cancelled"
    assert worker_world.container("worker").id == old and worker_world.container("worker").is_running


def test_an_owed_hook_runs_when_the_services_have_recovered(
    worker_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may end a maintenance mode."""
    worker_world.add_hooks("after")
    deploy_and_kill(
        worker_world,
        "worker",
        2,
        lambda: "worker-previous" in worker_world.names() and "worker" not in worker_world.names(),
    )
    names_at_hook: list[list[str]] = []

    def script(command: list[str], folder: Path, settings: dict[str, str]) -> int:
        names_at_hook.append(worker_world.names())
        return 0

    monkeypatch.setattr(worker_world.machine, "script", script)
    deploy_that_the_preflight_refuses(worker_world, "worker")

    assert names_at_hook == [["worker"]]


def test_a_set_aside_container_that_answers_is_what_serves(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A foreign container goes on running while it is set aside, and here it cannot get its name back."""
    world = World(root, WEB)
    old = world.image("web", "by hand")
    world.machine.run_by_hand("web", f"ghcr.io/acme/web@{old}", "proxy")
    world.machine.wait(2)
    rename = world.machine.do_rename

    def refuse_the_old_name(words: list[str]) -> str:
        if words[1] == "web":
            raise Refused("Error response from daemon: no space left on device")
        return rename(words)

    monkeypatch.setattr(world.machine, "do_rename", refuse_the_old_name)
    # The temporary container falls silent when the new own container has failed.
    bad = Image(works_only_beside=True, silent_after=12.7)
    outcome = world.deploy({"web": world.image("web", 1, bad)}, 1)

    assert outcome.code == 1
    assert world.names() == ["web-previous"]
    assert outcome.result["services"][0]["now"] == old


def test_a_docker_that_is_gone_is_not_a_container_that_is_gone(worker_world: World) -> None:
    """Without its socket, Docker says nothing about the old container: its note must stay."""
    note = worker_world.folder / ".deploys" / ".set-aside-worker"
    worker_world.deploy({"worker": worker_world.image("worker", 1)}, 1)
    note.write_text('{"id": "x", "restart": "always", "was_running": true}')
    words = "failed to connect to the docker API at unix:///var/run/docker.sock: dial unix: no such file or directory"
    worker_world.machine.troubles["inspect"] = [words] * 999

    outcome = worker_world.deploy({"worker": worker_world.image("worker", 2)}, 2)

    assert outcome.code == 69
    assert outcome.says("Docker does not answer: failed to connect")
    assert note.exists()


@pytest.mark.parametrize("service", ["web", "worker"])
def test_a_rollback_after_a_deploy_that_was_killed_before_its_record(root: Path, service: str) -> None:
    """The person wants the image back that served before that deploy: the recovery has done it already."""
    world = World(root, WEB, WORKER)
    for version in (1, 2):
        assert world.deploy({service: world.image(service, version)}, version).code == 0
    old = world.container(service).id
    other_name = f"{service}-previous" if service == "worker" else f"{service}-next"
    deploy_and_kill(world, service, 3, lambda: other_name in world.names())
    assert world.machine.find(other_name)

    outcome = world.rollback(service)

    assert outcome.code == 0, outcome.text
    assert world.serves(service, world.image(service, 2)) and world.container(service).id == old
    assert outcome.says(f"the last deploy of {service} ended before it was recorded: going back to the image")
    assert world.rollback(service).code == 0
    assert world.serves(service, world.image(service, 1))


def test_without_its_note_a_replacement_counts_as_not_recorded(worker_world: World) -> None:
    """The container that was set aside is known to have served. It must not be removed on a guess."""
    old = worker_world.container("worker").id
    deploy_and_kill(worker_world, "worker", 2, lambda: {"worker", "worker-previous"} <= {*worker_world.names()})
    (worker_world.folder / ".deploys/.replacing-worker").unlink()

    deploy_that_the_preflight_refuses(worker_world, "worker")

    assert worker_world.names() == ["worker"]
    assert worker_world.container("worker").id == old and worker_world.container("worker").is_running


def test_a_rollback_after_a_second_deploy_that_was_killed_with_the_recorded_image(root: Path) -> None:
    """The first one failed, and its temporary container serves. The second one asked for the image of the record."""
    world = World(root, WEB)
    for version in (1, 2):
        assert world.deploy({"web": world.image("web", version)}, version).code == 0
    assert world.deploy({"web": world.image("web", 3, Image(works_only_beside=True))}, 3).code == 1
    recorded, old = world.image("web", 2), world.container("web").id

    def is_new_one_up() -> bool:
        own = world.machine.find("web")
        return own is not None and own.id != old and world.serves("web", recorded)

    def kill() -> None:
        world.machine.is_dead = world.machine.is_dead or is_new_one_up()

    world.machine.at_each_point = kill
    with pytest.raises(Killed):
        world.deploy({"web": recorded}, 4)
    world.machine.at_each_point = None
    world.machine.revive()

    outcome = world.rollback("web")

    assert outcome.code == 0, outcome.text
    assert world.serves("web", world.image("web", 1))


def test_a_rollback_after_a_deploy_that_was_killed_after_its_record(worker_world: World) -> None:
    assert worker_world.deploy({"worker": worker_world.image("worker", 2)}, 2).code == 0
    deploy_and_kill(worker_world, "worker", 3, lambda: len(worker_world.record("worker")) == 3)

    assert worker_world.rollback("worker").code == 0

    assert worker_world.serves("worker", worker_world.image("worker", 2))
