"""Services that end: they run before those that depend on them, and their exit code is their result."""

from pathlib import Path

import pytest

from tests.host.fake_docker import Image
from tests.host.world import WEB, Snapshot, World

SEED = """
  seed:
    image: ghcr.io/acme/seed:main
    container_name: seed
    restart: "no"
    labels:
      deploy.once: "yes"
    networks:
      - proxy
"""
NEEDS_SEED = "    depends_on:\n      seed: {condition: service_completed_successfully}\n"
NEEDY_WEB = WEB.replace("    env_file: .env\n", NEEDS_SEED)
FAILS = Image(migration_code=7)


@pytest.fixture
def world(root: Path) -> World:
    return World(root, NEEDY_WEB, SEED)


def reference(world: World, version: int) -> str:
    return f"ghcr.io/acme/seed@{world.image('seed', version)}"


def test_it_runs_before_what_depends_on_it(world: World) -> None:
    seed, web = world.image("seed", 1), world.image("web", 1)

    outcome = world.deploy({"web": web, "seed": seed}, 1)

    assert outcome.code == 0
    assert outcome.results == {"web": "serving", "seed": "serving"}
    assert world.machine.state.migrations == [reference(world, 1)]
    assert outcome.text.index("running seed to its end") < outcome.text.index("replacing web")
    assert outcome.says(f"HAS RUN TO ITS END: seed with {seed}")
    assert {entry["service"]: entry["now"] for entry in outcome.result["services"]} == {"web": web, "seed": seed}
    assert world.names() == ["web"]
    assert world.pins() == {"web": web, "seed": seed}


def test_migrations_come_before_one_shots(root: Path) -> None:
    """A migration that fails leaves everything as it was, and a one-shot finds the migrated database."""
    migrating = NEEDY_WEB.replace("    labels:", '    labels:\n      deploy.migrate: "migrate up"')
    world = World(root, migrating, SEED)
    seed, web = world.image("seed", 1), world.image("web", 1)

    outcome = world.deploy({"web": web, "seed": seed}, 1)

    assert outcome.code == 0
    assert world.machine.state.migrations == [f"ghcr.io/acme/web@{web}", reference(world, 1)]
    steps = ["migrating with web", "running seed to its end", "replacing web"]
    assert sorted(steps, key=outcome.text.index) == steps

    fails = world.image("web", 2, FAILS)
    outcome = world.deploy({"web": fails, "seed": world.image("seed", 2)}, 2)

    assert outcome.code == 1 and outcome.says("the migration of web failed with exit code 7")
    assert world.machine.state.migrations[2:] == [f"ghcr.io/acme/web@{fails}"], "the one-shot has not run"
    assert world.pins() == {"web": web, "seed": seed}


def test_it_runs_again_with_the_same_image(world: World) -> None:
    images = {"seed": world.image("seed", 1)}
    world.deploy(images, 1)

    outcome = world.deploy(images, 1)

    assert outcome.code == 0
    assert world.machine.state.migrations == [reference(world, 1), reference(world, 1)]
    assert len(world.record("seed")) == 1


def test_one_that_fails_stops_what_depends_on_it(world: World) -> None:
    world.deploy({"web": world.image("web", 1), "seed": world.image("seed", 1)}, 1)
    images = {"web": world.image("web", 2), "seed": world.image("seed", 2, FAILS)}

    outcome = world.deploy(images, 2)

    assert outcome.code == 1
    assert outcome.says("seed ended with exit code 7")
    assert outcome.results == {"web": "not started", "seed": "failed"}
    assert world.serves("web", world.image("web", 1))
    assert world.names() == ["web"]
    assert world.pins()["seed"] == world.image("seed", 1)
    assert len(world.record("seed")) == 1
    assert world.machine.state.migrations == [reference(world, 1), f"ghcr.io/acme/seed@{images['seed']}"]


def test_what_depends_on_one_that_never_ran_is_refused(world: World) -> None:
    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == 69
    assert outcome.says("web depends on seed, which has never run to its end. Deploy seed first")
    assert world.names() == []


def test_what_depends_on_it_is_deployed_without_it(world: World) -> None:
    world.deploy({"seed": world.image("seed", 1)}, 1)

    outcome = world.deploy({"web": world.image("web", 2)}, 2)

    assert outcome.code == 0
    assert world.machine.state.migrations == [reference(world, 1)]


def test_a_rollback_runs_the_image_before(world: World) -> None:
    for version in (1, 2):
        assert world.deploy({"seed": world.image("seed", version)}, version).code == 0

    outcome = world.rollback("seed")

    assert outcome.code == 0
    assert world.machine.state.migrations[-1] == reference(world, 1)
    assert outcome.result["services"][0]["now"] == world.image("seed", 1)


def test_an_older_commit_does_not_run_it_again(world: World) -> None:
    world.deploy({"seed": world.image("seed", 2)}, 2)

    outcome = world.deploy({"seed": world.image("seed", 1)}, 1)

    assert outcome.code == 3
    assert world.machine.state.migrations == [reference(world, 2)]


def test_what_served_under_its_name_is_removed(root: Path) -> None:
    """It was a service that goes on, and is one that ends now."""
    world = World(root, SEED.replace('deploy.once: "yes"', 'deploy.x: "yes"'))
    assert world.deploy({"seed": world.image("seed", 1)}, 1).code == 0
    world.edit('deploy.x: "yes"', 'deploy.once: "yes"')

    assert world.deploy({"seed": world.image("seed", 2)}, 2).code == 0

    assert world.names() == []


def test_the_status_knows_that_it_has_no_container(world: World) -> None:
    world.deploy({"seed": world.image("seed", 1)}, 1)

    assert world.status().says("shop/.deploys/seed: has run to its end")


def test_a_deploy_that_was_killed_at_any_moment_is_done_by_the_next(world: World) -> None:
    for version in (1, 2):
        images = {"web": world.image("web", version), "seed": world.image("seed", version)}
        assert version == 2 or world.deploy(images, version).code == 0
    moments: dict[str, Snapshot] = {}

    def remember() -> None:
        snapshot = world.snapshot()
        moments.setdefault(snapshot.fingerprint(), snapshot)

    world.machine.at_each_point = remember
    assert world.deploy(images, 2).code == 0
    world.machine.at_each_point = None

    assert len(moments) > 10
    for moment in moments.values():
        world.restore(moment)
        outcome = world.deploy(images, 2)
        assert outcome.code == 0, outcome.text
        assert world.names() == ["web"]
        assert world.pins() == images
        assert world.machine.state.migrations[-1] == reference(world, 2)
