"""Several services in one request: order, migrations, accessories and hooks."""

import shutil
from pathlib import Path

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
from tests.host.fake_docker import Image, Killed
from tests.host.watching import unserved
from tests.host.world import DB, WEB, WORKER, World, compose_labels

API = WEB.replace("web", "api").replace("    env_file: .env\n", "    depends_on: [db]\n")
FRONT = WEB.replace("    env_file: .env\n", "    depends_on: [api]\n")
MIGRATING_API = API.replace("deploy.host:", "deploy.migrate: ./migrate 'up and' --all\n      deploy.host:")
DATA = "volumes:\n  data:\n"
CACHE_SECONDS = {"web": 11.0, "api": 11.0}
EXITS = Image(exits_after=0.5, exit_code=3)


def world_of(root: Path, *services: str) -> World:
    world = World(root, *services, rest=DATA)
    world.machine.images["postgres:17"] = Image(has_health_check=True, answers_after=5)
    world.machine.public.add("postgres:17")
    return world


def start(world: World, *names: str) -> None:
    assert world.deploy({name: world.image(name, 1) for name in names}, 1).code == 0
    world.machine.forget()
    world.machine.watched = tuple(name for name in names if name in CACHE_SECONDS)
    world.machine.settle()


def started(world: World) -> list[str]:
    """The services in the order in which their containers were started."""
    running = sorted(world.machine.everything(), key=lambda container: container.started_at)
    return [container.name for container in running]


def test_two_share_the_waits(root: Path) -> None:
    world = world_of(root, WEB, API, DB)
    start(world, "web", "api")
    began = world.machine.now()

    outcome = world.deploy({"web": world.image("web", 2), "api": world.image("api", 2)}, 2)

    assert outcome.results == {"web": "serving", "api": "serving"}
    assert world.machine.now() - began < 30
    assert world.names() == ["api", "db", "web"]
    assert not unserved(world.machine.trace, CACHE_SECONDS)


@pytest.mark.parametrize("memory", [0, 70_000_000])
def test_they_go_one_after_the_other_where_memory_is_short(root: Path, memory: int) -> None:
    world = world_of(root, WEB, API, DB)
    start(world, "web", "api")
    world.machine.memory = memory
    most = 0

    def count() -> None:
        nonlocal most
        most = max(most, sum(name.endswith("-next") for name in world.names()))

    world.machine.at_each_point = count
    outcome = world.deploy({"web": world.image("web", 2), "api": world.image("api", 2)}, 2)

    assert outcome.results == {"web": "serving", "api": "serving"}
    assert most == 1
    assert outcome.says("note: web needs about 50 MB of memory beside its old container") is (memory == 0)
    assert not unserved(world.machine.trace, CACHE_SECONDS)


def test_the_services_of_a_batch_are_pinned_to_the_images_that_run(root: Path) -> None:
    """After a power cut, `docker compose up` by hand must not go back to the old image of one of them."""
    world = world_of(root, WEB, API)
    start(world, "web", "api")
    old = world.pins()
    new = {name: world.image(name, 2) for name in ("web", "api")}
    seen = []

    def look() -> None:
        if all(world.serves(name, digest) for name, digest in new.items()):
            seen.append(world.pins())

    world.machine.at_each_point = look
    assert world.deploy(new, 2).code == 0

    assert seen and all(pins == {**old, **new} for pins in seen)


def test_what_is_depended_on_goes_first(root: Path) -> None:
    world = world_of(root, FRONT, API, DB)

    outcome = world.deploy({"web": world.image("web", 1), "api": world.image("api", 1)}, 1)

    assert outcome.code == 0, outcome.text
    assert started(world) == ["db", "api", "web"]


def test_what_depends_on_a_bad_one_is_not_started(root: Path) -> None:
    world = world_of(root, FRONT, API, WORKER, DB)
    start(world, "web", "api", "worker")
    images = {"web": world.image("web", 2), "api": world.image("api", 2, EXITS), "worker": world.image("worker", 2)}
    web = world.container("web").id

    outcome = world.deploy(images, 2)

    assert outcome.code == 1
    assert outcome.results == {"web": "not started", "api": "failed", "worker": "serving"}
    assert outcome.says("web is not started: it depends on api")
    assert world.container("web").id == web
    assert world.serves("api", world.image("api", 1)) and world.serves("worker", images["worker"])
    assert {name: len(world.record(name)) for name in images} == {"web": 1, "api": 1, "worker": 2}
    assert world.pins() == {"web": world.image("web", 1), "api": world.image("api", 1), "worker": images["worker"]}
    assert not unserved(world.machine.trace, CACHE_SECONDS)


def test_versions_that_are_mixed_after_a_failure_are_listed_with_both_ways_out(root: Path) -> None:
    world = world_of(root, WEB, API, WORKER, DB)
    start(world, "web", "api", "worker")
    images = {"web": world.image("web", 2), "api": world.image("api", 2, EXITS), "worker": world.image("worker", 2)}

    outcome = world.deploy(images, 2)

    program = f"{root}/bin/deploy rollback shop"
    assert outcome.text.splitlines()[-7:-1] == [
        "==> VERSIONS ARE MIXED NOW:",
        f"==>   new version: web {images['web']}",
        f"==>   new version: worker {images['worker']}",
        f"==>   old version: api {world.image('api', 1)}",
        "==> to go forward, remove the cause, then: gh run rerun 4002 --failed",
        f"==> to go back: {program} web {world.image('web', 1)} && {program} worker {world.image('worker', 1)}",
    ]


def test_mixed_versions_of_a_first_deploy_have_no_way_back(root: Path) -> None:
    world = world_of(root, WEB, API, DB)

    outcome = world.deploy({"web": world.image("web", 1), "api": world.image("api", 1, EXITS)}, 1)

    assert outcome.says("==>   old version: api nothing answers")
    assert outcome.says("==> there is no version to go back to for: web")
    assert not outcome.says("to go back:")


@pytest.mark.parametrize("behaviours", [(EXITS, EXITS), (None, None)])
def test_versions_that_are_not_mixed_are_not_listed(root: Path, behaviours: tuple[Image | None, Image | None]) -> None:
    world = world_of(root, WEB, API, DB)
    start(world, "web", "api")
    images = {name: world.image(name, 2, behaviour) for name, behaviour in zip(("web", "api"), behaviours, strict=True)}

    assert not world.deploy(images, 2).says("VERSIONS ARE MIXED")


def test_services_that_depend_on_each_other_end_all_the_same(root: Path) -> None:
    world = world_of(root, FRONT, API.replace("[db]", "[web]"))

    assert world.deploy({"web": world.image("web", 1), "api": world.image("api", 1)}, 1).code == 0


def test_one_of_two_is_older(root: Path) -> None:
    world = world_of(root, WEB, API, DB)
    start(world, "web", "api")
    world.deploy({"web": world.image("web", 5)}, 5)

    outcome = world.deploy({"web": world.image("web", 3), "api": world.image("api", 3)}, 3)

    assert outcome.code == 3
    assert outcome.results == {"web": "superseded", "api": "serving"}
    assert outcome.result["result"] == "superseded" and outcome.result["newest_sequence"] == 5
    assert world.serves("web", world.image("web", 5)) and world.serves("api", world.image("api", 3))


# Migrations


def test_a_migration_runs_once_with_the_new_image_before_anything_changes(root: Path) -> None:
    world = world_of(root, MIGRATING_API, WEB, DB)
    start(world, "web", "api")
    world.machine.state.migrations.clear()
    digest = world.image("api", 2)

    outcome = world.deploy({"web": world.image("web", 2), "api": digest}, 2)

    assert outcome.code == 0
    assert world.machine.state.migrations == [f"ghcr.io/acme/api@{digest}"]
    calls = [call for call in world.machine.calls if "run" in call]
    assert calls[-3][-5:] == ("api-next-migrate", "api", "./migrate", "up and", "--all")
    assert outcome.says("==> migrating with api: ./migrate 'up and' --all")
    assert world.names() == ["api", "db", "web"]


def test_a_migration_that_fails_changes_nothing(root: Path) -> None:
    world = world_of(root, MIGRATING_API, WEB, DB)
    start(world, "web", "api")
    before = {container.id: container.started_at for container in world.machine.everything()}

    images = {"web": world.image("web", 2), "api": world.image("api", 2, Image(migration_code=7))}
    outcome = world.deploy(images, 2)

    assert outcome.code == 1
    assert outcome.says("the migration of api failed with exit code 7. No container of the service was changed")
    assert set(outcome.results.values()) == {"not started"}
    assert {container.id: container.started_at for container in world.machine.everything()} == before
    assert world.pins() == {"web": world.image("web", 1), "api": world.image("api", 1)}


def database_program(root: Path, code: int) -> Path:
    """A bin/database that notes its words, and ends with that code; the file with the words."""
    (root / "bin").mkdir()
    program = root / "bin/database"
    program.write_text(f'#!/bin/sh\necho "$@" >>{root}/asked\necho dumped\nexit {code}\n')
    program.chmod(0o755)
    return root / "asked"


BACKED_UP_API = MIGRATING_API.replace("deploy.migrate:", "deploy.backup: postgres/shop_live\n      deploy.migrate:")


def test_the_database_is_dumped_before_the_migration(root: Path) -> None:
    world = world_of(root, BACKED_UP_API, DB)
    asked = database_program(root, 0)

    outcome = world.deploy({"api": world.image("api", 1)}, 1)

    assert outcome.code == 0
    assert asked.read_text() == "backup postgres shop_live before-migration\n"
    assert outcome.text.index("| dumped") < outcome.text.index("==> migrating with api")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (1, "the dump of shop_live failed with exit code 1, so nothing was migrated"),
        (None, "bin/database is missing, and dumps before migrations need it. Copy it: git archive HEAD"),
    ],
)
def test_without_a_dump_nothing_is_migrated(root: Path, code: int | None, message: str) -> None:
    world = world_of(root, MIGRATING_API, DB)
    start(world, "api")
    world.machine.state.migrations.clear()
    if code is not None:
        database_program(root, code)
    path = world.folder / "docker-compose.yml"
    path.write_text(path.read_text().replace(MIGRATING_API, BACKED_UP_API))

    outcome = world.deploy({"api": world.image("api", 2)}, 2)

    assert outcome.code == 69
    assert outcome.says(message)
    assert world.machine.state.migrations == []
    assert world.serves("api", world.image("api", 1))


def test_an_old_version_that_does_not_get_on_with_what_the_migration_changed(root: Path) -> None:
    world = world_of(root, MIGRATING_API, DB)
    start(world, "api")
    world.image("api", 1, Image(status=500))

    outcome = world.deploy({"api": world.image("api", 2)}, 2)

    assert outcome.code == 0
    assert outcome.says("AFTER THE MIGRATION api DOES NOT ANSWER ANY MORE")


def test_going_back_does_not_migrate(root: Path) -> None:
    world = world_of(root, MIGRATING_API, DB)
    start(world, "api")
    world.deploy({"api": world.image("api", 2)}, 2)
    world.machine.state.migrations.clear()

    assert world.rollback("api").code == 0
    assert world.machine.state.migrations == []


# Accessories


def test_an_accessory_is_started_and_waited_for(root: Path) -> None:
    world = world_of(root, API, DB)
    world.machine.images["postgres:17"] = Image(has_health_check=True, answers_after=30)

    assert world.deploy({"api": world.image("api", 1)}, 1).code == 0

    assert world.container("api").started_at - world.container("db").started_at >= 30


def test_an_accessory_that_a_person_stopped(root: Path) -> None:
    """It starts again, and the log says so, and how a person prevents it."""
    world = world_of(root, API, DB)
    start(world, "api")
    world.machine.do_stop(["db"])

    outcome = world.deploy({"api": world.image("api", 2)}, 2)

    assert outcome.code == 0, outcome.text
    assert world.container("db").is_running
    assert outcome.says("note: db was stopped, and a deploy starts it again, as `docker compose up` does.")
    assert outcome.says(f"flock {world.folder}/.deploy.lock bash")
    assert not world.deploy({"api": world.image("api", 3)}, 3).says("note: db was stopped")


def test_an_accessory_that_nobody_needs_is_not_waited_for(root: Path) -> None:
    world = world_of(root, WEB, DB)
    world.machine.images["postgres:17"] = Image(has_health_check=True, answers_after=900)

    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == 0
    assert world.machine.now() < 1030


@pytest.mark.parametrize("image", [Image(exits_after=0, exit_code=3), Image(has_health_check=True, answers_after=900)])
def test_an_accessory_that_does_not_become_well(root: Path, image: Image) -> None:
    world = world_of(root, API, DB.replace("    restart: unless-stopped\n", ""))
    world.machine.images["postgres:17"] = image

    outcome = world.deploy({"api": world.image("api", 1)}, 1)

    assert outcome.code == 69
    assert outcome.says("db is not healthy, and a deployed service depends on it")
    assert outcome.says("| started")
    assert world.names() == ["db"]


def test_an_accessory_that_runs_is_never_touched(root: Path) -> None:
    world = world_of(root, API, DB)
    start(world, "api")
    before = vars(world.container("db").copy())
    world.edit("container_name: db", "container_name: db\n    environment: {A: b}")

    outcome = world.deploy({"api": world.image("api", 2)}, 2)

    assert outcome.code == 0
    assert vars(world.container("db")) == before
    assert outcome.says(f"cd {world.folder} && docker compose up -d --no-deps db")


def test_an_accessory_that_is_stopped_is_started_as_it_is(root: Path) -> None:
    world = world_of(root, API, DB)
    start(world, "api")
    id = world.container("db").id
    world.machine.do_stop(["db"])
    world.edit("container_name: db", "container_name: db\n    environment: {A: b}")

    assert world.deploy({"api": world.image("api", 2)}, 2).code == 0

    assert world.container("db").id == id and world.container("db").is_running


def test_a_database_that_runs_under_its_name_is_left_alone(root: Path) -> None:
    world = world_of(root, API, DB)
    mount = {"Type": "volume", "Name": "shop_data", "Source": "/var/lib/docker/volumes/shop_data/_data"}
    foreign = world.machine.run_by_hand("db", "postgres:16", "proxy", mounts=[mount])

    assert world.deploy({"api": world.image("api", 1)}, 1).code == 0

    assert foreign.is_running and world.names() == ["api", "db"]


def test_no_note_about_a_database_of_another_compose_service_under_its_name(root: Path) -> None:
    """It belongs to the compose file by its name, as after the takeover of a project of the same name."""
    world = world_of(root, API, DB)
    mount = {"Type": "volume", "Name": "shop_data", "Source": "/var/lib/docker/volumes/shop_data/_data"}
    labels = compose_labels("database")
    adopted = world.machine.run_by_hand("db", "postgres:16", "proxy", mounts=[mount], labels=labels)
    world.machine.run_by_hand("caddy", "caddy:2", "proxy", labels=compose_labels("caddy"))

    check, deploy = world.check(), world.deploy({"api": world.image("api", 1)}, 1)

    for outcome in (check, deploy):
        assert outcome.code == 0
        assert outcome.says("note: caddy runs in the project shop, but belongs to no service")
        assert not outcome.says("note: db runs in the project")
    assert adopted.is_running and world.names() == ["api", "caddy", "db"]


def test_a_service_of_the_compose_file_under_another_key_does_not_fail_a_deploy(root: Path) -> None:
    """Its key was changed and not its container name, so its next deploy replaces the container that runs."""
    world = world_of(root, WEB, API, DB)
    start(world, "web", "api")
    world.edit("  api:\n", "  backend:\n")

    outcome = world.deploy({"web": world.image("web", 2)}, 2)

    assert outcome.code == 0, outcome.text
    assert world.container("api").is_running


def test_an_accessory_that_runs_once_runs_anew_for_each_deploy(root: Path) -> None:
    once = DB.replace('"yes"', '"once"').replace("unless-stopped", '"no"')
    world = world_of(root, API, once)
    world.machine.images["postgres:17"] = Image(exits_after=3)
    start(world, "api")
    first = world.container("db")

    assert world.deploy({"api": world.image("api", 2)}, 2).code == 0
    assert world.container("db").id != first.id

    world.machine.images["postgres:17"] = EXITS
    outcome = world.deploy({"api": world.image("api", 3)}, 3)
    assert outcome.code == 69
    assert world.serves("api", world.image("api", 2))


# Hooks


def test_a_hook_that_a_commit_has_removed(world: World) -> None:
    """Its file is still on the server."""
    world.add_hooks("before", "after")
    world.edit("# Files beside it: hooks/before hooks/after", "# Files beside it: hooks/after")

    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == 0
    assert [name for name, _ in world.machine.scripts] == ["hooks/after"]
    assert outcome.says("note: hooks/before does not run, because docker-compose.yml does not name it in the line")


def test_hooks(world: World) -> None:
    world.add_hooks("before", "after")
    digest = world.image("web", 1)

    assert world.deploy({"web": digest}, 1).code == 0

    settings = {"VERB": "deploy", "SERVICE": "web", "IMAGE": f"ghcr.io/acme/web@{digest}"}
    assert world.machine.scripts == [("hooks/before", settings), ("hooks/after", {**settings, "EXIT_CODE": "0"})]
    assert not list(world.folder.glob(".deploys/*hook*"))


def test_a_hook_before_that_fails(world: World) -> None:
    world.add_hooks("before", "after")
    world.machine.script_codes["hooks/before"] = 1

    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == 69
    assert outcome.says("shop/hooks/before failed")
    assert world.names() == []
    assert world.machine.scripts[-1][1]["EXIT_CODE"] == "69"


def test_going_back_does_not_wait_for_a_hook_that_fails(world: World) -> None:
    for version in (1, 2):
        world.deploy({"web": world.image("web", version)}, version)
    world.add_hooks("before")
    world.machine.script_codes["hooks/before"] = 1

    outcome = world.rollback("web")

    assert outcome.code == 0
    assert world.serves("web", world.image("web", 1))


def test_a_hook_after_that_fails_is_owed(world: World) -> None:
    world.add_hooks("after")
    world.machine.script_codes["hooks/after"] = 1
    digest = world.image("web", 1)

    outcome = world.deploy({"web": digest}, 1)

    assert outcome.code == 69
    assert outcome.says("the new version serves, but shop/hooks/after failed")
    assert world.serves("web", digest)

    world.machine.script_codes.clear()
    world.machine.scripts.clear()
    again = world.deploy({"web": digest}, 2)
    assert again.code == 0
    assert again.says("hooks/after failed after an earlier deploy: it runs again") and not again.says("interrupted")
    assert [settings["EXIT_CODE"] for _, settings in world.machine.scripts] == ["0", "0"]


def test_a_hook_after_that_a_killed_deploy_owes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.add_hooks("after")
    digest = world.image("web", 1)

    def be_killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(deploy_program, "run_hook", be_killed)
        with pytest.raises(Killed):
            world.deploy({"web": digest}, 1)

    again = world.deploy({"web": digest}, 2)
    assert again.code == 0 and again.says("an interrupted deploy did not run hooks/after: it runs now")
    assert [settings["EXIT_CODE"] for _, settings in world.machine.scripts] == ["137", "0"]


def test_a_hook_after_is_told_of_a_bad_image(world: World) -> None:
    world.add_hooks("after")

    outcome = world.deploy({"web": world.image("web", 1, EXITS)}, 1)

    assert outcome.code == 1
    assert world.machine.scripts[-1][1]["EXIT_CODE"] == "1"


def test_hooks_are_none_of_a_superseded_deploys_business(world: World) -> None:
    world.deploy({"web": world.image("web", 5)}, 5)
    world.add_hooks("before", "after")

    assert world.deploy({"web": world.image("web", 4)}, 4).code == 3
    assert world.machine.scripts == []


def test_services_that_a_deploy_does_not_concern_cost_no_calls_of_docker(root: Path) -> None:
    others = [WORKER.replace("worker", f"worker{number}") for number in range(4)]
    calls = []
    for services in ([WEB, DB], [WEB, DB, *others]):
        world = World(root, *services, rest=DATA)
        world.machine.images["postgres:17"] = Image()
        world.machine.public.add("postgres:17")
        start(world, "web")
        world.machine.calls.clear()
        assert world.deploy({"web": world.image("web", 2)}, 2).code == 0
        calls.append(len(world.machine.calls))
        shutil.rmtree(world.folder)
    assert calls[0] == calls[1]
