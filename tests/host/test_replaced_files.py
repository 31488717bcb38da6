"""Files that a deploy has replaced: the old ones come back with the old version."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
from tests.host.fake_docker import Image, Killed, Running
from tests.host.world import WEB, WORKER, World, compose_file, compose_labels

EXITS = Image(exits_after=0.5, exit_code=3)
BESIDE = "# Files beside it: conf/app.conf second.conf hooks/after\n"


def mounting(service: str, *names: str) -> str:
    lines = "".join(f"      - ./{name}:/etc/{name}:ro\n" for name in names)
    return service.replace("    networks:", f"    volumes:\n{lines}    networks:")


def files(*services: str, version: str) -> dict[str, str]:
    """What is sent; each file says of which version it is."""
    return {
        "docker-compose.yml": f"{BESIDE}# {version}\n" + compose_file(*services),
        ".env": f"SECRET='{version}'\n",
        "conf/app.conf": version,
        "second.conf": version,
        "hooks/after": f"# {version}",
    }


def versions(world: World) -> dict[str, str]:
    """The version of each file in the stack's folder."""
    version_by_name = {}
    for name in files(version=""):
        text = (world.folder / name).read_text() if (world.folder / name).exists() else ""
        version_by_name[name] = next((version for version in ("old", "new") if version in text), "")
    return version_by_name


def all_of(version: str) -> dict[str, str]:
    return dict.fromkeys(files(version=""), version)


def check_that_no_copy_is_left(world: World) -> None:
    assert not list(world.folder.glob(".deploys/.replaced*"))


MOUNTING_WORKER = mounting(WORKER, "conf/app.conf").replace("    restart:", "    env_file: .env\n    restart:")
MOUNTING_WEB = mounting(WEB, "conf/app.conf")


def world_with(root: Path, *services: str) -> World:
    world = World(root, *services)
    names = ["web" if "web:" in service else "worker" for service in services]
    outcome = world.deploy({name: world.image(name, 1) for name in names}, 1, files=files(*services, version="old"))
    assert outcome.code == 0, outcome.text
    assert versions(world) == all_of("old")
    check_that_no_copy_is_left(world)
    return world


@pytest.fixture
def worker_world(root: Path) -> World:
    return world_with(root, MOUNTING_WORKER)


def deploy_worker(world: World, image: Image | None = None) -> deploy_program.Json:
    outcome = world.deploy({"worker": world.image("worker", 2, image)}, 2, files=files(MOUNTING_WORKER, version="new"))
    return dict(outcome.result)


def test_the_new_files_stay_with_the_new_version(worker_world: World) -> None:
    assert deploy_worker(worker_world)["exit"] == 0

    assert versions(worker_world) == all_of("new")
    check_that_no_copy_is_left(worker_world)


def test_the_old_worker_starts_with_its_old_files(worker_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its configuration is read when it starts, so that is when the file has to be the old one."""
    started_with: list[str] = []
    start = worker_world.machine.do_start

    def look_and_start(words: list[str]) -> str:
        started_with.append((worker_world.folder / "conf/app.conf").read_text())
        return start(words)

    id = worker_world.container("worker").id
    monkeypatch.setattr(worker_world.machine, "do_start", look_and_start)
    mode = (worker_world.folder / "conf/app.conf").stat().st_mode

    assert deploy_worker(worker_world, EXITS)["exit"] == 1

    assert worker_world.container("worker").id == id
    assert started_with == ["new", "old"]
    assert versions(worker_world) == all_of("old")
    assert (worker_world.folder / "conf/app.conf").stat().st_mode == mode
    check_that_no_copy_is_left(worker_world)


def test_a_file_that_is_new_goes(worker_world: World) -> None:
    (worker_world.folder / "second.conf").unlink()

    assert deploy_worker(worker_world, EXITS)["exit"] == 1

    assert not (worker_world.folder / "second.conf").exists()


def test_no_file_is_removed_through_a_link(worker_world: World) -> None:
    """A container that mounts the stack's folder may have put one there."""
    (worker_world.folder / "conf/app.conf").unlink()
    (worker_world.folder / "conf").rmdir()
    id = worker_world.container("worker").id
    kill_when(worker_world, lambda: not is_running(worker_world, id))
    (worker_world.folder / "conf").rename(worker_world.root / "theirs")
    (worker_world.folder / "conf").symlink_to(worker_world.root / "theirs")

    outcome = worker_world.deploy({"worker": worker_world.image("worker", 3)}, 3)

    assert outcome.code == 69
    assert outcome.says("conf is a symbolic link, which is never followed")
    assert (worker_world.root / "theirs/app.conf").read_text() == "new"


def test_a_file_whose_copy_is_lost_stays_as_it_is(worker_world: World) -> None:
    """Without its copy it is not the same as a file that did not exist before."""
    id = worker_world.container("worker").id
    kill_when(worker_world, lambda: not is_running(worker_world, id))
    (worker_world.folder / ".deploys/.replaced/second.conf").unlink()

    free, worker_world.machine.free = worker_world.machine.free, 3
    outcome = worker_world.deploy({"worker": worker_world.image("worker", 3)}, 3)
    worker_world.machine.free = free

    assert outcome.code == 69
    assert outcome.says("note: second.conf stays as it is, because the copy of its old version is missing")
    assert versions(worker_world) == {**all_of("old"), "second.conf": "new"}
    assert worker_world.container("worker").id == id and is_running(worker_world, id)
    check_that_no_copy_is_left(worker_world)


def test_a_deploy_that_ends_before_it_replaces_a_container(root: Path) -> None:
    migrating = MOUNTING_WORKER.replace("    volumes:", '    labels:\n      deploy.migrate: "up"\n    volumes:')
    world = world_with(root, migrating)
    digest = world.image("worker", 2, Image(migration_code=1))

    outcome = world.deploy({"worker": digest}, 2, files=files(migrating, version="new"))

    assert outcome.code == 1 and outcome.says("the migration of worker failed")
    assert versions(world) == all_of("old")


def test_a_disk_that_is_full_at_the_second_file(worker_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    install_file = deploy_program.install_file

    def refuse(source: Path, folder: Path, name: str) -> None:
        if source.read_text() == "new" and name == "second.conf":
            raise OSError(28, "No space left on device", name)
        install_file(source, folder, name)

    with monkeypatch.context() as patch:
        patch.setattr(deploy_program, "install_file", refuse)
        assert deploy_worker(worker_world)["exit"] == 69

    assert versions(worker_world) == all_of("old")
    check_that_no_copy_is_left(worker_world)
    assert deploy_worker(worker_world)["exit"] == 0
    assert versions(worker_world) == all_of("new")


def kill_when(world: World, is_time: Callable[[], bool]) -> None:
    """Deploy a good image with new files, with the program killed as soon as the condition is true."""

    def kill() -> None:
        world.machine.is_dead = world.machine.is_dead or is_time()

    world.machine.at_each_point = kill
    with pytest.raises(Killed):
        deploy_worker(world)
    world.machine.at_each_point = None
    world.machine.revive()


def deploy_that_is_refused(world: World) -> None:
    """Such a deploy recovers the stack, and changes nothing else."""
    free, world.machine.free = world.machine.free, 3
    assert world.deploy({"worker": world.image("worker", 3)}, 3).code == 69
    world.machine.free = free


def deploy_and_die_before_file(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deploys the worker; the program is killed when it is about to install the file of this name."""
    install_file = deploy_program.install_file

    def die(source: Path, folder: Path, file_name: str) -> None:
        if file_name == name:
            raise Killed
        install_file(source, folder, file_name)

    with monkeypatch.context() as patch:
        patch.setattr(deploy_program, "install_file", die)
        with pytest.raises(Killed):
            deploy_worker(world)


def test_a_kill_between_two_files(worker_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy_and_die_before_file(worker_world, "second.conf", monkeypatch)
    assert set(versions(worker_world).values()) == {"old", "new"}

    deploy_that_is_refused(worker_world)

    assert versions(worker_world) == all_of("old")
    check_that_no_copy_is_left(worker_world)


def is_running(world: World, id: str) -> bool:
    return any(container.is_running for container in world.machine.everything() if container.id == id)


def test_a_kill_while_the_old_worker_is_stopped(worker_world: World) -> None:
    id = worker_world.container("worker").id
    kill_when(worker_world, lambda: not is_running(worker_world, id))
    assert versions(worker_world) == all_of("new")

    deploy_that_is_refused(worker_world)

    assert worker_world.container("worker").id == id and worker_world.container("worker").is_running
    assert versions(worker_world) == all_of("old")
    check_that_no_copy_is_left(worker_world)


def test_a_kill_after_the_new_worker_was_recorded(worker_world: World) -> None:
    kill_when(worker_world, lambda: len(worker_world.record("worker")) == 2 and note_is_empty(worker_world))

    deploy_that_is_refused(worker_world)

    assert worker_world.serves("worker", worker_world.image("worker", 2))
    assert versions(worker_world) == all_of("new")
    check_that_no_copy_is_left(worker_world)


def note_is_empty(world: World) -> bool:
    path = world.folder / ".deploys/.replaced.json"
    return not path.exists() or not deploy_program.read_json(path)["names"]


def test_a_set_of_which_one_serves(root: Path) -> None:
    """Only the file that none but the failed service mounts comes back; the next deploy sends all of them again."""
    services = (mounting(WEB, "second.conf"), mounting(WORKER, "conf/app.conf"))
    world = world_with(root, *services)
    images = {"web": world.image("web", 2), "worker": world.image("worker", 2, EXITS)}

    outcome = world.deploy(images, 2, files=files(*services, version="new"))

    assert outcome.results == {"web": "serving", "worker": "failed"}
    assert versions(world) == {**all_of("new"), "conf/app.conf": "old"}
    check_that_no_copy_is_left(world)
    good = {"web": world.image("web", 3), "worker": world.image("worker", 3)}
    assert world.deploy(good, 3, files=files(*services, version="new")).code == 0
    assert versions(world) == all_of("new")


def fail_once_the_old_worker_is_back(world: World, new_web: str) -> None:
    """Let the new containers of web answer until the old worker has its name again."""
    old_worker = world.container("worker").id
    was_set_aside: list[bool] = []

    def accepts(container: Running) -> bool:
        if world.machine.find("worker-previous"):
            was_set_aside.append(True)
        worker = world.machine.find("worker")
        is_back = bool(was_set_aside) and worker is not None and worker.id == old_worker and worker.is_running
        return deploy_program.digest_of(container.reference) != new_web or not is_back

    world.machine.accepts = accepts


def test_a_worker_that_comes_back_while_another_service_has_its_new_file(root: Path) -> None:
    """It reads the new file when it starts, before that of the other one fails, too, and the old file is back."""
    services = (MOUNTING_WEB, MOUNTING_WORKER)
    world = world_with(root, *services)
    old = world.container("worker").id
    images = {"web": world.image("web", 2), "worker": world.image("worker", 2, Image(exits_after=4))}
    fail_once_the_old_worker_is_back(world, images["web"])

    outcome = world.deploy(images, 2, files=files(*services, version="new"))

    assert outcome.results == {"web": "failed", "worker": "failed"}
    assert world.container("worker").id == old and is_running(world, old)
    assert versions(world) == all_of("old")
    assert outcome.says("note: worker was started with a version of conf/app.conf that is not there any more")
    assert world.status().says("note: worker read another version of a file that it mounts: the next deploy of worker")
    again = world.deploy({"worker": world.image("worker", 1)}, 3, files=files(*services, version="old"))
    assert again.results == {"worker": "serving"} and world.container("worker").id != old
    assert not world.status().says("note:")


DEPENDENT_WEB = mounting(WEB, "second.conf").replace("    networks:", "    depends_on: [worker]\n    networks:")


def test_a_service_that_fails_after_another_one_serves(root: Path) -> None:
    """While the first service is put into service, the second one waits. Its file comes back when it fails later."""
    services = (DEPENDENT_WEB, MOUNTING_WORKER)
    world = world_with(root, *services)
    images = {"web": world.image("web", 2, EXITS), "worker": world.image("worker", 2)}

    outcome = world.deploy(images, 2, files=files(*services, version="new"))

    assert outcome.results == {"web": "failed", "worker": "serving"}
    assert versions(world) == {**all_of("new"), "second.conf": "old"}
    assert world.serves("web", world.image("web", 1))
    check_that_no_copy_is_left(world)


def test_a_kill_while_the_second_service_waits(root: Path) -> None:
    """The file of the first one, which serves, stays; the file of the second one comes back."""
    services = (DEPENDENT_WEB, MOUNTING_WORKER)
    world = world_with(root, *services)
    images = {"web": world.image("web", 2), "worker": world.image("worker", 2)}

    def kill() -> None:
        world.machine.is_dead = world.machine.is_dead or bool(world.machine.find("web-next"))

    world.machine.at_each_point = kill
    with pytest.raises(Killed):
        world.deploy(images, 2, files=files(*services, version="new"))
    world.machine.at_each_point = None
    world.machine.revive()
    world.machine.do_rm(["-f", "-v", "web-next"])
    assert len(world.record("worker")) == 2

    free, world.machine.free = world.machine.free, 3
    assert world.deploy({"worker": world.image("worker", 3)}, 3).code == 69
    world.machine.free = free

    assert versions(world) == {**all_of("new"), "second.conf": "old"}
    check_that_no_copy_is_left(world)


def test_a_container_without_a_record_that_this_deploy_does_not_touch(root: Path) -> None:
    """A stack is taken over one service at a time: the worker, which a person started, needs no new files."""
    services = (MOUNTING_WEB, WORKER)
    world = World(root, *services)
    world.machine.run_by_hand("worker", "ghcr.io/acme/worker:old", "proxy", labels=compose_labels("worker"))
    assert world.deploy({"web": world.image("web", 1)}, 1, files=files(*services, version="old")).code == 0

    outcome = world.deploy({"web": world.image("web", 2, EXITS)}, 2, files=files(*services, version="new"))

    assert outcome.results == {"web": "failed"}
    assert versions(world) == all_of("old")
    check_that_no_copy_is_left(world)


def test_a_temporary_container_that_goes_on_serving_keeps_its_files(root: Path) -> None:
    world = world_with(root, MOUNTING_WEB)
    digest = world.image("web", 2, Image(works_only_beside=True))

    outcome = world.deploy({"web": digest}, 2, files=files(MOUNTING_WEB, version="new"))

    assert outcome.code == 1 and world.machine.find("web-next")
    assert versions(world) == all_of("new")


def test_a_new_container_that_restarts_once_while_it_is_watched_keeps_its_files(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is healthy again, so the temporary container goes, and this one serves."""
    world = world_with(root, MOUNTING_WEB)
    new = world.image("web", 2, Image(answers_after=0))
    end_of = world.machine.end_of

    def end_once(container: Running, image: Image) -> float | None:
        is_new = container.name == "web" and deploy_program.digest_of(container.reference) == new
        return 6 if is_new and container.restarts == 0 else end_of(container, image)

    monkeypatch.setattr(world.machine, "end_of", end_once)

    outcome = world.deploy({"web": new}, 2, files=files(MOUNTING_WEB, version="new"))

    assert outcome.code == 1 and outcome.says("web did not stay up")
    assert world.names() == ["web"] and world.serves("web", new)
    assert outcome.result["services"][0]["now"] == new
    assert versions(world) == all_of("new")
    assert world.deploy({"web": world.image("web", 3)}, 3, files=files(MOUNTING_WEB, version="new")).code == 0


def test_a_new_image_that_never_served_leaves_the_old_files(root: Path) -> None:
    world = world_with(root, MOUNTING_WEB)

    outcome = world.deploy({"web": world.image("web", 2, EXITS)}, 2, files=files(MOUNTING_WEB, version="new"))

    assert outcome.code == 1 and world.names() == ["web"]
    assert versions(world) == all_of("old")


def test_a_service_that_is_made_again_has_its_old_settings(root: Path) -> None:
    """No container is left that answers: Compose creates the old one again, from the old compose file."""
    world = world_with(root, MOUNTING_WEB)
    renamed = MOUNTING_WEB.replace("shop.example.com", "other.example.com")
    falls_silent = Image(works_only_beside=True, silent_after=12.7)

    outcome = world.deploy({"web": world.image("web", 2, falls_silent)}, 2, files=files(renamed, version="new"))

    assert outcome.code == 1 and outcome.says("nothing serves: creating web again from its old image")
    assert world.container("web").labels["deploy.host"] == "shop.example.com"
    assert versions(world) == all_of("old")


def test_the_first_files_of_a_stack_stay(root: Path) -> None:
    """There is no old version, and a person may want to look at them."""
    world = World(root, MOUNTING_WORKER)
    (world.folder / "docker-compose.yml").unlink()
    (world.folder / ".env").unlink()

    assert deploy_worker(world, EXITS)["exit"] == 1

    assert versions(world) == all_of("new")


def link_in_place_of_a_file(world: World) -> Path:
    place = world.folder / "second.conf"
    (world.folder / "outside").write_text("old")
    place.unlink()
    place.symlink_to(world.folder / "outside")
    return place


def test_a_deploy_that_meets_a_link_leaves_nothing_to_restore(worker_world: World) -> None:
    link_in_place_of_a_file(worker_world)

    assert deploy_worker(worker_world)["exit"] == 69

    check_that_no_copy_is_left(worker_world)
    digest = worker_world.image("worker", 1)
    assert worker_world.rollback("worker", digest).code == 0


def test_a_rollback_goes_on_where_old_files_cannot_come_back(
    worker_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy_and_die_before_file(worker_world, "hooks/after", monkeypatch)
    place = link_in_place_of_a_file(worker_world)
    digest = worker_world.image("worker", 1)

    assert deploy_worker(worker_world)["exit"] == 69
    outcome = worker_world.rollback("worker", digest)

    assert outcome.code == 0, outcome.text
    assert outcome.says("second.conf is a symbolic link, which is never followed")
    assert outcome.says("the rollback goes on all the same")
    place.unlink()
    deploy_that_is_refused(worker_world)
    assert versions(worker_world) == all_of("old")
    check_that_no_copy_is_left(worker_world)


def test_a_recovery_keeps_an_override_file_that_a_person_has_edited(worker_world: World) -> None:
    id = worker_world.container("worker").id
    kill_when(worker_world, lambda: not is_running(worker_world, id))
    path = worker_world.folder / "docker-compose.override.yml"
    path.write_text(edited := path.read_text() + "# mine\n")

    deploy_that_is_refused(worker_world)

    assert versions(worker_world) == all_of("old")
    assert path.read_text() == edited
