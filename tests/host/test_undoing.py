"""What goes wrong while a deploy is undone: what served before serves again all the same."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
from tests.host.fake_docker import Image, Killed, Refused, Running
from tests.host.world import WEB, WORKER, World

EXITS = Image(exits_after=0.5, exit_code=3)


@pytest.fixture
def worker_world(root: Path) -> World:
    """A worker serves, which is stopped before its successor starts."""
    world = World(root, WORKER)
    assert world.deploy({"worker": world.image("worker", 1)}, 1).code == 0
    return world


@contextlib.contextmanager
def cancelled_at_each_record(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A deploy is cancelled after it has written a record."""
    add_record = deploy_program.Stack.add_record

    def add_and_cancel(stack: deploy_program.Stack, name: str, record: deploy_program.Record) -> None:
        add_record(stack, name, record)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(deploy_program.Stack, "add_record", add_and_cancel)
        yield


def check_that_the_old_worker_is_back(world: World, id: str) -> None:
    back = world.container("worker")
    assert (back.id, back.is_running, back.restart_policy) == (id, True, "unless-stopped")
    assert world.names() == ["worker"]
    good = world.image("worker", 9)
    assert world.deploy({"worker": good}, 9).code == 0
    assert world.names() == ["worker"] and world.serves("worker", good)
    assert not world.machine.doubles


def test_a_disk_that_is_full_while_the_old_worker_is_stopped(
    worker_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = worker_world.container("worker").id
    write_file = deploy_program.write_file

    def refuse_while_it_is_kept(path: Path, content: bytes, mode: int) -> None:
        if worker_world.machine.ended:
            raise OSError(28, "No space left on device", str(path))
        write_file(path, content, mode)

    worker_world.machine.forget()
    with monkeypatch.context() as patch:
        patch.setattr(deploy_program, "write_file", refuse_while_it_is_kept)
        outcome = worker_world.deploy({"worker": worker_world.image("worker", 2)}, 2)

    assert outcome.code == 1
    assert outcome.says("No space left on device")
    check_that_the_old_worker_is_back(worker_world, id)


@pytest.mark.parametrize(
    "error", [deploy_program.Failed(69, "docker logs did not end"), OSError(12, "Cannot allocate memory")]
)
def test_a_log_that_cannot_be_had(worker_world: World, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    id = worker_world.container("worker").id

    def refuse(words: list[str]) -> str:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(worker_world.machine, "do_logs", refuse)
        outcome = worker_world.deploy({"worker": worker_world.image("worker", 2, EXITS)}, 2)

    assert (outcome.code, outcome.results) == (1, {"worker": "failed"})
    check_that_the_old_worker_is_back(worker_world, id)


def test_a_service_that_fails_while_a_removed_one_still_runs(world: World) -> None:
    """The new version serves no more, so the report on the removed service must not say that it does."""
    front = "\n  front:" + WORKER.partition("  worker:")[2].replace("worker", "front")
    front = front.replace("    networks:", "    depends_on: [web]\n    networks:")
    labels = {"com.docker.compose.project": "shop", "com.docker.compose.service": "old", "deploy.health": ":80/"}
    world.edit("\nnetworks:", front + "\nnetworks:")
    world.machine.run_by_hand("old", "nginx:1", "proxy", labels=labels)
    images = {"web": world.image("web", 1, Image(silent_after=15)), "front": world.image("front", 1)}

    outcome = world.deploy(images, 1)

    assert outcome.code == 1
    assert outcome.results == {"web": "failed", "front": "serving"}
    assert outcome.says("web was healthy at first, and is not any more")
    assert not outcome.says("the new version serves")
    assert outcome.says("containers of services that the compose file no longer has still run: old")


@pytest.mark.usefixtures("cancellable")
def test_a_migration_that_hangs_and_is_cancelled_leaves_nothing_half_done(root: Path) -> None:
    world = World(root, WEB.replace("    labels:", '    labels:\n      deploy.migrate: "migrate up"'))
    world.add_hooks("after")
    assert world.deploy({"web": world.image("web", 1)}, 1).code == 0
    old, files = world.container("web").id, (world.folder / "docker-compose.yml").read_text()
    pins, record = world.pins(), world.record("web")

    def cancel_once() -> None:
        container = world.machine.find("web-next-migrate")
        if container and container.is_running:
            world.machine.at_each_point = None
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    world.machine.at_each_point = cancel_once
    hangs = world.image("web", 2, Image(migration_seconds=100_000))
    outcome = world.deploy({"web": hangs}, 2, files={"docker-compose.yml": f"{files}# new\n"})

    assert outcome.code == 1 and outcome.result["message"] == "the deploy was cancelled"
    assert outcome.says("stopping web-next-migrate")
    assert [container.name for container in world.machine.everything() if container.is_running] == ["web"]
    assert world.container("web").id == old and world.serves("web", world.image("web", 1))
    assert (world.pins(), world.record("web")) == (pins, record)
    assert (world.folder / "docker-compose.yml").read_text() == files
    assert world.machine.scripts[-1][1]["EXIT_CODE"] == "1"
    assert world.deploy({"web": world.image("web", 3)}, 3).code == 0
    assert world.names() == ["web"]


@pytest.mark.usefixtures("cancellable")
def test_a_cancel_while_it_is_undone(worker_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits until what served before is back."""
    id = worker_world.container("worker").id

    def cancel(words: list[str]) -> str:
        # To this thread: the program has no other one that could take the signal.
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        return "started\n"

    with monkeypatch.context() as patch:
        patch.setattr(worker_world.machine, "do_logs", cancel)
        outcome = worker_world.deploy({"worker": worker_world.image("worker", 2, EXITS)}, 2)

    assert outcome.code == 1
    assert outcome.result["message"] == "the deploy was cancelled"
    check_that_the_old_worker_is_back(worker_world, id)


def test_a_mistake_of_the_programs_own_while_the_old_worker_is_stopped(
    worker_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = worker_world.container("worker").id

    def fail(*_: object) -> None:
        raise KeyError("a mistake")

    with monkeypatch.context() as patch:
        patch.setattr(deploy_program, "create_successor", fail)
        outcome = worker_world.deploy({"worker": worker_world.image("worker", 2)}, 2)

    assert outcome.code == 1
    assert outcome.says("a mistake in bin/deploy itself: KeyError('a mistake')")
    check_that_the_old_worker_is_back(worker_world, id)


def test_a_container_that_docker_had_started_when_it_failed_does_not_go_on_for_ever(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the first deploy: nothing takes its place, and Docker would start it again and again."""
    world = World(root, WORKER)
    up = world.machine.compose_up

    def start_and_fail(model: Any, words: list[str]) -> str:
        up(model, words)
        raise Refused("Error response from daemon: context deadline exceeded")

    monkeypatch.setattr(world.machine, "compose_up", start_and_fail)

    outcome = world.deploy({"worker": world.image("worker", 1)}, 1)

    assert outcome.code == 1 and outcome.says("worker could not be started")
    assert outcome.says("worker is stopped, because nothing served before it")
    assert (world.container("worker").is_running, world.container("worker").restart_policy) == (False, "no")


@pytest.mark.parametrize("name", ["web", "worker"])
def test_where_nothing_is_left_the_image_that_served_before_is_started(world: World, name: str) -> None:
    """There is no old container to bring back: a person has removed it."""
    old = world.image(name, 1)
    assert world.deploy({name: old}, 1).code == 0
    world.machine.do_rm(["-f", "-v", name])

    outcome = world.deploy({name: world.image(name, 2, EXITS)}, 2)

    assert outcome.code == 1
    assert outcome.says(f"nothing serves: creating {name} again from its old image ghcr.io/acme/{name}@{old}")
    world.machine.wait(2)
    assert world.names() == [name] and world.serves(name, old)
    assert world.pins() == {name: old}


def test_a_service_that_fails_while_another_follows(world: World) -> None:
    """A last look finds it, and the run is red."""
    front = "\n  front:" + WORKER.partition("  worker:")[2].replace("worker", "front")
    world.edit("\nnetworks:", front.replace("    networks:", "    depends_on: [web]\n    networks:") + "\nnetworks:")
    images = {"web": world.image("web", 1, Image(silent_after=15)), "front": world.image("front", 1)}

    outcome = world.deploy(images, 1)

    assert outcome.code == 1
    assert outcome.results == {"web": "failed", "front": "serving"}
    assert outcome.says("web was healthy at first, and is not any more")


@pytest.mark.usefixtures("cancellable")
def test_a_cancel_during_a_migration_stops_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not run on while hooks/after runs and the next deploy takes the lock."""
    world = World(root, WEB.replace('deploy.name-cache: "11"', 'deploy.migrate: "migrate up"'))
    world.add_hooks("after")
    running_at_hook: list[str] = []

    def cancel(_: float) -> None:
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    def script(command: list[str], folder: Path, settings: dict[str, str]) -> int:
        running_at_hook.extend(container.name for container in world.machine.everything() if container.is_running)
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(world.machine, "wait", cancel)
        patch.setattr(world.machine, "script", script)
        outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.result["message"] == "the deploy was cancelled"
    assert world.machine.state.migrations and running_at_hook == []


@pytest.mark.parametrize("step", ["record", "pins"])
def test_a_disk_that_is_full_when_a_worker_is_recorded(
    worker_world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The container, the record and the pins agree about the old image."""
    id, old = worker_world.container("worker").id, worker_world.image("worker", 1)
    new = worker_world.image("worker", 2)
    begun = worker_world.machine.now()
    write_file = deploy_program.write_file

    def is_being_recorded() -> bool:
        worker = worker_world.machine.find("worker")
        return bool(worker and worker.id != id and worker_world.machine.now() > begun + 10)

    def refuse_to_sync(stream: object) -> None:
        if is_being_recorded():
            raise OSError(28, "No space left on device")

    def refuse_pins(path: Path, content: bytes, mode: int) -> None:
        if path.name == deploy_program.PINS_FILE and is_being_recorded():
            raise OSError(28, "No space left on device", str(path))
        write_file(path, content, mode)

    with monkeypatch.context() as patch:
        if step == "record":
            patch.setattr(deploy_program, "sync", refuse_to_sync)
        else:
            patch.setattr(deploy_program, "write_file", refuse_pins)
        outcome = worker_world.deploy({"worker": new}, 2)

    assert (outcome.code, outcome.results) == (1, {"worker": "failed"})
    assert len(worker_world.record("worker")) == 1
    worker_world.machine.wait(2)
    assert worker_world.serves("worker", old) and worker_world.pins() == {"worker": old}
    check_that_the_old_worker_is_back(worker_world, id)


@pytest.mark.usefixtures("cancellable")
def test_a_cancel_while_a_worker_is_recorded(worker_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits until the record, the pins and the result agree."""
    new = worker_world.image("worker", 2)

    with cancelled_at_each_record(monkeypatch):
        outcome = worker_world.deploy({"worker": new}, 2)

    assert outcome.result["message"] == "the deploy was cancelled"
    assert worker_world.serves("worker", new) and worker_world.pins() == {"worker": new}
    assert f"@{new} " in worker_world.record("worker")[-1]


def test_an_error_while_one_service_is_undone_does_not_stop_the_undoing_of_the_others(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(root, WORKER, WORKER.replace("worker", "second"))
    names = ["worker", "second"]
    assert world.deploy({name: world.image(name, 1) for name in names}, 1).code == 0
    old = {name: world.container(name).id for name in names}
    remove = world.machine.do_rm
    troubles = ["Error response from daemon: device or resource busy"]

    def refuse_once(words: list[str]) -> str:
        if troubles:
            raise Refused(troubles.pop())
        return remove(words)

    with monkeypatch.context() as patch:
        patch.setattr(world.machine, "do_rm", refuse_once)
        outcome = world.deploy({name: world.image(name, 2, EXITS) for name in names}, 2)

    assert outcome.code == 1 and not troubles
    assert world.container("second").id == old["second"] and world.container("second").is_running
    good = {name: world.image(name, 3) for name in names}
    assert world.deploy(good, 3).code == 0
    assert world.names() == sorted(names)


def test_an_old_worker_that_cannot_be_started_does_not_block_later_deploys(
    worker_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, start = worker_world.container("worker").id, worker_world.machine.start

    def refuse_the_old_one(container: Running) -> None:
        if container.id == old:
            raise Refused("Error response from daemon: port is already allocated")
        start(container)

    with monkeypatch.context() as patch:
        patch.setattr(worker_world.machine, "start", refuse_the_old_one)
        assert worker_world.deploy({"worker": worker_world.image("worker", 2, EXITS)}, 2).code == 1
        good = worker_world.image("worker", 3)

        outcome = worker_world.deploy({"worker": good}, 3)

    assert outcome.code == 0
    assert outcome.says("an interrupted deploy was bringing back worker: starting it")
    assert outcome.says("the clean-up failed")
    worker_world.machine.wait(2)
    assert worker_world.names() == ["worker"] and worker_world.serves("worker", good)


def test_the_log_of_the_container_that_failed(root: Path) -> None:
    """The temporary container of the same image is healthy, and its log does not say why."""
    world = World(root, WEB)
    assert world.deploy({"web": world.image("web", 1)}, 1).code == 0

    outcome = world.deploy({"web": world.image("web", 2, Image(works_only_beside=True))}, 2)

    assert outcome.code == 1
    assert outcome.says("| web: ")
    assert world.container("web").restart_policy == "no" and not world.container("web").is_running


def test_a_new_container_that_restarts_while_it_is_watched_does_not_replace_the_temporary_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers again when the program looks, and fails again later."""
    world = World(root, WEB)
    assert world.deploy({"web": world.image("web", 1)}, 1).code == 0

    end_of = world.machine.end_of

    def end_of_own(container: Running, image: Image) -> float | None:
        return 6 if container.name == "web" and image == Image(answers_after=0) else end_of(container, image)

    with monkeypatch.context() as patch:
        patch.setattr(world.machine, "end_of", end_of_own)
        outcome = world.deploy({"web": world.image("web", 2, Image(answers_after=0))}, 2)

    assert outcome.code == 1
    (reached,) = world.machine.reached_by("web")
    assert reached.name == "web-next" and world.machine.answers(reached)


def test_docker_restarts_while_the_old_worker_is_stopped(worker_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be undone before it answers again."""
    id = worker_world.container("worker").id
    obey = worker_world.machine.obey
    answers_again: list[float] = []

    def refuse_for_a_while(words: list[str], stdin: str) -> str:
        if "create" in words:
            answers_again.append(worker_world.machine.now() + 40)
        if answers_again and worker_world.machine.now() < answers_again[0]:
            raise Refused("Cannot connect to the Docker daemon at unix:///var/run/docker.sock")
        return obey(words, stdin)

    with monkeypatch.context() as patch:
        patch.setattr(worker_world.machine, "obey", refuse_for_a_while)
        outcome = worker_world.deploy({"worker": worker_world.image("worker", 2)}, 2)

    assert (outcome.code, outcome.results) == (1, {"worker": "failed"})
    assert outcome.result["services"][0]["now"] == worker_world.image("worker", 1)
    check_that_the_old_worker_is_back(worker_world, id)


def test_a_docker_that_never_answers_again_ends_the_deploy(
    worker_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = worker_world.container("worker").id
    obey = worker_world.machine.obey
    begun: list[bool] = []

    def refuse(words: list[str], stdin: str) -> str:
        begun.extend([True] if "create" in words else [])
        if begun:
            raise Refused("Cannot connect to the Docker daemon at unix:///var/run/docker.sock")
        return obey(words, stdin)

    with monkeypatch.context() as patch:
        patch.setattr(worker_world.machine, "obey", refuse)
        assert worker_world.deploy({"worker": worker_world.image("worker", 2)}, 2).code != 0

    check_that_the_old_worker_is_back_after_a_deploy(worker_world, id)


def check_that_the_old_worker_is_back_after_a_deploy(world: World, id: str) -> None:
    world.machine.free = 3
    assert world.deploy({"worker": world.image("worker", 3)}, 3).code == 69
    world.machine.free = 50_000
    check_that_the_old_worker_is_back(world, id)


def test_the_new_worker_may_end_before_the_old_one_comes_back(
    worker_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both may mount the same data, and a process that is killed may leave half of a write."""
    remove = worker_world.machine.do_rm
    removed_while_running: list[str] = []

    def look_and_remove(words: list[str]) -> str:
        container = worker_world.machine.find(words[-1])
        if container and container.is_running:
            removed_while_running.append(container.name)
        return remove(words)

    def refuse_to_record(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(worker_world.machine, "do_rm", look_and_remove)
        patch.setattr(deploy_program.Stack, "add_record", refuse_to_record)
        assert worker_world.deploy({"worker": worker_world.image("worker", 2)}, 2).code == 1

    assert removed_while_running == []


def test_a_worker_that_takes_long_to_end_is_waited_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Docker would complete the stop after the program had given up, and the worker would stay down."""
    world = World(root, WORKER.replace("    networks:", "    stop_grace_period: 30m0s\n    networks:"))
    assert world.deploy({"worker": world.image("worker", 1)}, 1).code == 0
    docker = world.machine.docker
    limits: list[int] = []

    def note_limit(*words: str, seconds: int = 60, **options: Any) -> deploy_program.Output:
        if words[0] == "stop":
            limits.append(seconds)
        return docker(*words, seconds=seconds, **options)

    monkeypatch.setattr(world.machine, "docker", note_limit)
    assert world.deploy({"worker": world.image("worker", 2)}, 2).code == 0

    assert limits and min(limits) > 30 * 60


def test_changes_have_more_time_than_questions(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy disk makes Docker slow; a change that is given up halfway is undone although it may complete."""
    world = World(root, WEB, WORKER)
    docker = world.machine.docker
    limits: dict[tuple[str, ...], int] = {}

    def note_limit(*words: str, seconds: int = deploy_program.QUERY_SECONDS, **options: Any) -> deploy_program.Output:
        limits[words[:2] if words[0] in ("network", "image") else words[:1]] = seconds
        return docker(*words, seconds=seconds, **options)

    monkeypatch.setattr(world.machine, "docker", note_limit)
    for number in range(1, 6):
        images = {"web": world.image("web", number), "worker": world.image("worker", number)}
        assert world.deploy(images, number).code == 0

    changes = [("start",), ("network", "connect"), ("network", "disconnect"), ("image", "rm")]
    assert {change: limits[change] for change in changes} == dict.fromkeys(changes, deploy_program.CHANGE_SECONDS)
    assert limits[("inspect",)] == deploy_program.QUERY_SECONDS


@pytest.mark.parametrize(("ends_after", "code"), [(20, 0), (1_000_000, 1)])
def test_a_worker_that_docker_cannot_stop(worker_world: World, ends_after: int, code: int) -> None:
    """A process waits for a disk, for example. When it ends, Docker does not start it again."""
    machine = worker_world.machine
    old = worker_world.container("worker")

    def give_up(words: list[str]) -> str:
        if machine.get(words[-1]).id == old.id:
            old.is_stopped_by_hand = True
            old.ends_after = machine.state.clock - old.started_at + ends_after
            machine.do_stop = stop  # type: ignore[method-assign]
            raise Refused("tried to kill container, but did not receive an exit event")
        return stop(words)

    stop = machine.do_stop
    machine.do_stop = give_up  # type: ignore[method-assign]
    outcome = worker_world.deploy({"worker": worker_world.image("worker", 2)}, 2)

    assert outcome.code == code, outcome.text
    assert not machine.doubles
    if code == 0:
        assert outcome.says("note: worker-previous has ended, although Docker reported: docker stop failed: tried to")
        assert worker_world.serves("worker", worker_world.image("worker", 2))
    else:
        assert outcome.says("worker-previous does not end, although it was stopped and killed: docker stop failed:")
        assert outcome.says("If it ends later, nothing starts it again")
        assert worker_world.container("worker").id == old.id


@pytest.mark.parametrize("does_compose_start_the_old_one", [True, False])
def test_a_container_that_could_not_be_brought_back_is_not_forgotten(
    worker_world: World, monkeypatch: pytest.MonkeyPatch, does_compose_start_the_old_one: bool
) -> None:
    """Docker refuses twice: first when the deploy is undone, then when the next one recovers it."""
    id = worker_world.container("worker").id
    rename = worker_world.machine.do_rename

    def refuse_the_old_name(words: list[str]) -> str:
        if words == ["worker-previous", "worker"]:
            raise Refused("Error response from daemon: device or resource busy")
        return rename(words)

    def refuse_to_remove(*_: object) -> str:
        raise Refused("Error response from daemon: device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr(worker_world.machine, "do_rename", refuse_the_old_name)
        patch.setattr(worker_world.machine, "do_rm", refuse_to_remove)
        if not does_compose_start_the_old_one:
            patch.setattr(worker_world.machine, "compose_up", refuse_to_remove)
        late = Image(exits_after=8, exit_code=4)
        assert worker_world.deploy({"worker": worker_world.image("worker", 2, late)}, 2).code == 1
        if not does_compose_start_the_old_one:
            assert worker_world.names() == ["worker", "worker-previous"]
            worker_world.machine.do_start(["worker"])
        outcome = worker_world.deploy({"worker": worker_world.image("worker", 3, late)}, 3)

    assert outcome.code == 1
    assert outcome.says("worker-previous is still there: an interrupted deploy could not bring it back")
    check_that_the_old_worker_is_back_after_a_deploy(worker_world, id)


def world_in_which_the_temporary_container_serves(root: Path) -> World:
    """A deploy has failed in such a way that only its temporary container answers."""
    world = World(root, WEB)
    assert world.deploy({"web": world.image("web", 1)}, 1).code == 0
    assert world.deploy({"web": world.image("web", 2, Image(works_only_beside=True))}, 2).code == 1
    assert world.machine.find("web-next")
    return world


@pytest.mark.parametrize("can_be_stopped", [False, True])
def test_a_temporary_container_of_an_earlier_deploy_that_cannot_be_removed(
    root: Path, can_be_stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the service's names: while it runs, some requests get answers of another image, and the run is red."""
    world = world_in_which_the_temporary_container_serves(root)

    def refusing(command: Callable[[list[str]], str]) -> Callable[[list[str]], str]:
        def refuse(words: list[str]) -> str:
            if world.serves("web", world.image("web", 3)):
                raise Refused("Error response from daemon: device or resource busy")
            return command(words)

        return refuse

    with monkeypatch.context() as patch:
        patch.setattr(world.machine, "do_network_disconnect", refusing(world.machine.do_network_disconnect))
        if not can_be_stopped:
            patch.setattr(world.machine, "do_stop", refusing(world.machine.do_stop))
        outcome = world.deploy({"web": world.image("web", 3)}, 3)

    assert world.container("web-next").is_running is not can_be_stopped
    if can_be_stopped:
        assert (outcome.code, outcome.results) == (0, {"web": "serving"})
    else:
        assert (outcome.code, outcome.results) == (1, {"web": "failed"})
        assert outcome.says("web-next could not be removed, and goes on answering requests for web with its old image")
    again = world.deploy({"web": world.image("web", 3)}, 3)
    assert again.code == 0 and world.names() == ["web"]


def test_a_container_that_somebody_replaces_meanwhile_is_not_what_was_deployed(root: Path) -> None:
    world = World(root, WEB, WORKER.replace("    networks:", "    depends_on: [web]\n    networks:"))
    images = {"web": world.image("web", 1), "worker": world.image("worker", 1)}

    def replace_web() -> None:
        web, worker = world.machine.find("web"), world.machine.find("worker")
        if web and worker and web.labels:
            world.machine.remove(web)
            world.machine.run_by_hand("web", f"ghcr.io/acme/web@{world.image('web', 7)}", "proxy")

    world.machine.at_each_point = replace_web
    outcome = world.deploy(images, 1)

    assert outcome.code == 1
    assert outcome.results == {"web": "failed", "worker": "serving"}
    assert outcome.says(f"web does not run ghcr.io/acme/web@{images['web']} any more")


def test_a_mistake_in_a_clean_up_does_not_turn_a_deploy_red(
    worker_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(worker_world.machine, "do_image_ls", lambda words: "this is not JSON\n")
        outcome = worker_world.deploy({"worker": worker_world.image("worker", 2)}, 2)

    assert outcome.code == 0 and outcome.says("the clean-up failed")


@pytest.mark.usefixtures("cancellable")
def test_a_cancel_after_the_first_record_of_two_leaves_one_container_of_each(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(root, WORKER, WORKER.replace("worker", "second"))
    names = ["worker", "second"]
    assert world.deploy({name: world.image(name, 1) for name in names}, 1).code == 0

    with cancelled_at_each_record(monkeypatch):
        outcome = world.deploy({name: world.image(name, 2) for name in names}, 2)

    assert outcome.result["message"] == "the deploy was cancelled"
    assert world.names() == sorted(names)


@pytest.mark.parametrize("is_killed", [True, False])
@pytest.mark.usefixtures("cancellable")
def test_a_rollback_from_an_image_that_was_never_recorded(
    root: Path, monkeypatch: pytest.MonkeyPatch, is_killed: bool
) -> None:
    """The image before it is the last one that is recorded, not the one before that."""
    world = World(root, WEB)
    for version in (1, 2):
        assert world.deploy({"web": world.image("web", version)}, version).code == 0

    def interrupt(*_: object) -> None:
        if is_killed:
            raise Killed
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(deploy_program, "watch_and_record", interrupt)
        with pytest.raises(Killed) if is_killed else contextlib.nullcontext():
            assert world.deploy({"web": world.image("web", 3)}, 3).code == 1
    assert world.serves("web", world.image("web", 3)) and len(world.record("web")) == 2

    assert world.rollback("web").code == 0

    assert world.serves("web", world.image("web", 2))


@pytest.mark.parametrize("step", ["the new one is created", "the old one is stopped", "it is removed", "the rename"])
def test_docker_is_killed_while_compose_replaces_the_container(world: World, step: str) -> None:
    """The old container may be gone already, while a proxy still sends requests to its address."""
    steps = ["start beside", "the new one is created", "the old one is stopped", "it is removed", "the rename"]
    assert world.deploy({"web": world.image("web", 1)}, 1).code == 0
    address = world.container("web").addresses["proxy"]
    new = world.image("web", 2)
    world.machine.compose_is_killed_at = steps.index(step) + 1

    outcome = world.deploy({"web": new}, 2)

    assert world.machine.compose_is_killed_at is None
    assert outcome.code == 0 and outcome.says("docker was killed while it replaced web: trying once more")
    assert world.serves("web", new) and world.names() == ["web"]
    assert world.container("web").addresses["proxy"] == address


def test_docker_is_killed_each_time_that_compose_replaces_the_container(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert world.deploy({"web": world.image("web", 1)}, 1).code == 0
    new = world.image("web", 2)

    def be_killed(*_: object) -> str:
        raise Refused("", code=-9)

    with monkeypatch.context() as patch:
        patch.setattr(world.machine, "compose_up", be_killed)
        outcome = world.deploy({"web": new}, 2)

    assert outcome.code == 1 and outcome.says("web could not be started: exit code -9")
    assert world.names() == ["web"] and not world.serves("web", new)


def test_the_log_of_the_container_that_serves_is_not_printed(root: Path) -> None:
    """It may have the data of customers, and everybody who reads the repository reads a run's log."""
    world = World(root, WEB)
    assert world.deploy({"web": world.image("web", 1)}, 1).code == 0
    old = world.container("web").id

    outcome = world.deploy({"web": world.image("web", 2, Image(exits_after=0.5))}, 2)

    assert outcome.code == 1 and world.container("web").id == old
    assert outcome.says("web-next: ") and outcome.says("web: running")
    asked_logs = [call for call in world.machine.calls if "logs" in call]
    assert [call[-1] for call in asked_logs] == ["web-next"]
