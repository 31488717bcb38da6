"""Two deploys at once, in every order: the newer commit serves, and none is green that does not serve."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.kubernetes.fake_kubectl import Image
from tests.kubernetes.together import run_together
from tests.kubernetes.world import STACK, World, digest, job, web

EXITS = Image(exits_after=0.5, exit_code=3)
HANGS = Image(answers_after=None)
SOME_DELAYS = [0, 0.35, 14]
DELAYS = [
    delay if delay in SOME_DELAYS else pytest.param(delay, marks=pytest.mark.exhaustive)
    for delay in (0, 0.15, 0.35, 0.5, 1.3, 3, 8, 12, 14, 14.5, 15, 20)
]


def order(world: World, version: int, behaviour: Image | None = None) -> Sequence[str]:
    image = world.image("web", version, behaviour)
    return ("deploy", "--stack", STACK, "--sequence", str(version), f"web={image}")


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("has_old", [True, False], ids=["after others", "the first"])
@pytest.mark.parametrize("replicas", [1, 3])
def test_the_newer_one_is_first(root: Path, delay: float, has_old: bool, replicas: int) -> None:
    world = World(root, web(replicas=replicas))
    if has_old:
        world.deploy(1)
    newer, older = run_together(world, (0, order(world, 8)), (delay, order(world, 7)))

    assert (newer.code, older.code) == (0, 3)
    assert older.result["newest_sequence"] == 8
    assert older.result["services"][0]["now"] == digest("web", 8)
    assert world.serves(8)
    assert world.cluster.unserved == []


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("has_old", [True, False], ids=["after others", "the first"])
@pytest.mark.parametrize("replicas", [1, 3])
def test_the_older_one_is_first(root: Path, delay: float, has_old: bool, replicas: int) -> None:
    world = World(root, web(replicas=replicas))
    if has_old:
        world.deploy(1)
    older, newer = run_together(world, (0, order(world, 7)), (delay, order(world, 8)))

    assert newer.code == 0
    assert older.code in (0, 3)  # 0: it served before the newer one began
    assert (older.code == 0) == (f"{digest('web', 7)} 7" in world.records())
    assert world.serves(8)
    assert not has_old or world.cluster.unserved == []


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("behaviour", [EXITS, HANGS], ids=["exits", "hangs"])
def test_the_newer_one_is_bad(world: World, delay: float, behaviour: Image) -> None:
    """The older one waits for the outcome, and then goes on."""
    world.deploy(1)
    older, newer = run_together(world, (0, order(world, 7)), (delay, order(world, 8, behaviour)))

    assert (older.code, newer.code) == (0, 1)
    assert world.serves(7)
    assert world.deployment().sequence == 7
    assert world.cluster.unserved == []


@pytest.mark.parametrize("delay", DELAYS)
def test_a_bad_newer_one_is_first(world: World, delay: float) -> None:
    world.deploy(1)
    newer, older = run_together(world, (0, order(world, 8, EXITS)), (delay, order(world, 7)))

    assert (newer.code, older.code) == (1, 0)
    assert world.serves(7)


@pytest.mark.parametrize("delay", DELAYS)
def test_both_are_bad(world: World, delay: float) -> None:
    world.deploy(1)
    first, second = run_together(world, (0, order(world, 7, EXITS)), (delay, order(world, 8, HANGS)))

    assert (first.code, second.code) == (1, 1)
    world.settle()
    assert world.serves(1)
    assert world.deployment().sequence == 1


@pytest.mark.parametrize("delay", DELAYS)
def test_the_same_commit_twice(world: World, delay: float) -> None:
    world.deploy(1)
    first, second = run_together(world, (0, order(world, 2)), (delay, order(world, 2)))

    assert {first.code, second.code} <= {0, 3}
    assert 0 in (first.code, second.code)
    assert world.serves(2)


@pytest.mark.parametrize("delay", DELAYS)
def test_a_rollback_during_a_deploy_wins(world: World, delay: float) -> None:
    """It does not wait: it is the way out of trouble."""
    world.deploy(1)
    world.deploy(2)
    deploy, rollback = run_together(
        world, (0, order(world, 3, HANGS)), (delay + 2, ("rollback", STACK, "web", digest("web", 1)))
    )

    assert (deploy.code, rollback.code) == (1, 0)
    assert deploy.says("somebody has taken this rollout back")
    world.settle()
    assert world.serves(1)


@pytest.mark.parametrize("has_old", [True, False], ids=["after others", "the first"])
def test_a_cancel_during_a_deploy(world: World, has_old: bool) -> None:
    if has_old:
        world.deploy(1)
    deploy, cancel = run_together(world, (0, order(world, 3, HANGS)), (20, ("cancel", STACK)))

    assert deploy.code == 1
    assert deploy.says("somebody has taken this rollout back")
    assert cancel.code == (0 if has_old else 1)
    assert not has_old or world.serves(1)


@pytest.mark.parametrize("delay", DELAYS)
def test_migrations_never_run_at_the_same_time(root: Path, delay: float) -> None:
    world = World(root, web(), job())
    world.deploy(1)
    slow = Image(job_seconds=6)
    older, newer = run_together(world, (0, order(world, 7, slow)), (delay, order(world, 8, slow)))

    assert newer.code == 0
    assert older.code in (0, 3)
    assert world.cluster.concurrent_jobs == 1
    assert world.serves(8)


@pytest.mark.parametrize("delay", DELAYS)
def test_three_at_once(root: Path, delay: float) -> None:
    world = World(root, web(replicas=3))
    world.deploy(1)
    orders = [(0.0, order(world, 6)), (delay, order(world, 8, EXITS)), (delay / 2, order(world, 7))]
    oldest, newest, middle = run_together(world, *orders)

    assert newest.code == 1
    assert middle.code == 0
    assert oldest.code in (0, 3)
    assert world.serves(7)
    assert world.cluster.unserved == []
