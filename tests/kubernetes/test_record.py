"""Records, rollbacks, promotions, and runs of an older commit by hand."""

from pathlib import Path

import pytest

from kiwari_ci.engines.kubernetes.deploy_programs import rollout
from tests.kubernetes.fake_kubectl import Image
from tests.kubernetes.world import STACK, World, digest, job, web

EXITS = Image(exits_after=0.5, exit_code=3)


def test_rollback_and_rollback_again(world: World) -> None:
    """It goes back by the record, and not forward again to the image that was bad."""
    for version in (1, 2, 3):
        world.deploy(version)

    assert world.rollback().code == 0
    assert world.serves(2)
    assert world.rollback().code == 0
    assert world.serves(1)
    outcome = world.rollback()
    assert outcome.code == 65
    assert outcome.says("the record of web has no such image")
    assert world.serves(1)


def test_what_is_before_a_deploy_that_follows_a_rollback(world: World) -> None:
    for version in (1, 2):
        world.deploy(version)
    world.rollback()
    world.deploy(3)
    world.rollback()

    assert world.serves(1)


def test_a_rollback_to_a_digest(world: World) -> None:
    for version in (1, 2, 3):
        world.deploy(version)

    assert world.rollback(to=digest("web", 1)).code == 0
    assert world.serves(1)
    assert world.rollback(to=digest("web", 9)).code == 65


def test_a_rollback_to_an_image_that_has_become_bad(world: World) -> None:
    for version in (1, 2):
        world.deploy(version)
    world.image("web", 1, EXITS)
    outcome = world.rollback()

    assert outcome.code == 1
    assert world.serves(2)
    assert world.records() == [f"{digest('web', 1)} 1", f"{digest('web', 2)} 2"]


def test_a_rollback_runs_no_migration(root: Path) -> None:
    world = World(root, web(), job())
    for version in (1, 2):
        world.deploy(version)
    world.rollback()

    assert len(world.cluster.of_kind("Job")) == 2


def test_a_rollback_by_a_person_forgets_a_number_that_is_too_high(world: World) -> None:
    world.deploy(1)
    world.deploy(2, sequence=999_999_999)
    assert world.deploy(3).code == 3
    assert world.rollback(to=digest("web", 2)).code == 0
    assert world.serves(2)

    assert world.deploy(3).code == 0


def test_after_a_rollback_the_next_commit_is_deployed(world: World) -> None:
    for version in (1, 2):
        world.deploy(version)
    world.rollback()

    assert world.deploy(3).code == 0
    assert world.serves(3)


def test_the_record_does_not_grow_without_end(world: World) -> None:
    for version in range(1, rollout.RECORDS_TO_KEEP + 4):
        assert world.deploy(version).code == 0

    assert len(world.records()) == rollout.RECORDS_TO_KEEP
    assert world.records()[-1].startswith(digest("web", rollout.RECORDS_TO_KEEP + 3))


# An older commit


def test_an_older_commit_changes_nothing(world: World) -> None:
    world.deploy(2)
    before = world.kubectl.commands.copy()
    outcome = world.deploy(1)

    assert outcome.code == 3
    assert outcome.result["newest_sequence"] == 2
    assert outcome.results == {"web": "superseded"}
    assert world.kubectl.commands == before


def test_an_older_commit_while_the_newer_one_fails(world: World) -> None:
    """Only a person may decide that it replaces the newer one."""
    world.deploy(2)
    world.image("web", 2, Image(answers_after=None))
    for pod in world.cluster.of_kind("Pod"):
        world.cluster.ready_since.pop(world.cluster.key(pod))
    outcome = world.deploy(1)

    assert outcome.code == 1
    assert outcome.says("was deployed last to web and does not serve now")


def test_a_newer_deploy_that_was_killed(world: World) -> None:
    world.deploy(1)
    world.kubectl.dies_after_command = "apply Deployment web kiwari-ci"
    with pytest.raises(BaseException) as killed:
        world.deploy(8, Image(answers_after=None))
    assert killed.typename == "Killed"
    world.again()

    outcome = world.deploy(7)
    assert outcome.code == 75
    assert outcome.says("deploy/bin/rollout cancel shop")
    assert world.run("cancel", STACK).code == 0
    assert world.serves(1)
    assert world.deploy(7).code == 0


def test_cancel_when_nothing_is_under_way(world: World) -> None:
    world.deploy(1)
    outcome = world.run("cancel", STACK)

    assert outcome.code == 0
    assert outcome.says("no rollout is under way")
    assert world.serves(1)


def by_hand(world: World, attempt: str = "1") -> None:
    world.environment |= {"GITHUB_EVENT_NAME": "workflow_dispatch", "GITHUB_RUN_ATTEMPT": attempt}


def put_back(world: World, version: int) -> tuple[str, ...]:
    image = f"web={world.image('web', version)}"
    return ("deploy", "--stack", STACK, "--sequence", str(version), "--put-back", image)


def test_a_person_chooses_an_older_commit(world: World) -> None:
    for version in (1, 2):
        world.deploy(version)
    by_hand(world)
    outcome = world.run(*put_back(world, 1))

    assert outcome.code == 0
    assert world.serves(1)
    assert world.deployment().sequence == 2  # a run of commit 1 that comes late changes nothing


def test_a_person_chooses_a_commit_that_never_served(world: World) -> None:
    world.deploy(2)
    by_hand(world)

    assert world.run(*put_back(world, 1)).code == 65
    assert world.serves(2)


def test_a_run_that_is_repeated_does_not_go_back(world: World) -> None:
    for version in (1, 2):
        world.deploy(version)
    by_hand(world, attempt="2")

    assert world.run(*put_back(world, 1)).code == 3
    assert world.serves(2)


# Promotion


def production(root: Path) -> World:
    """The stack `shop`, whose images must have served in the stack `staging`."""
    world = World(root, web(notes="\n    kiwari-ci/from: staging/web"))
    world.write(web(), "staging")
    return world


def test_what_served_in_staging_is_promoted(root: Path) -> None:
    world = production(root)
    image = f"web={world.image('web', 1)}"
    assert world.run("deploy", "--stack", "staging", "--sequence", "1", image).code == 0

    assert world.deploy(1).code == 0
    assert world.serves(1)


@pytest.mark.parametrize("was_tried", [True, False])
def test_what_staging_never_served_is_refused(root: Path, was_tried: bool) -> None:
    world = production(root)
    good = f"web={world.image('web', 1)}"
    world.run("deploy", "--stack", "staging", "--sequence", "1", good)
    world.deploy(1)
    if was_tried:
        bad = f"web={world.image('web', 2, EXITS)}"
        assert world.run("deploy", "--stack", "staging", "--sequence", "2", bad).code == 1
    before = world.kubectl.commands.copy()
    outcome = world.deploy(2)

    assert outcome.code == 65
    assert outcome.says(f"staging/web has never served {digest('web', 2)}")
    assert world.kubectl.commands == before
    assert world.serves(1)
