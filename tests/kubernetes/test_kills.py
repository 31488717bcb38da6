"""The program is killed before and after each of its calls: what served serves, and the next deploy finds its way."""

import copy
import dataclasses
from pathlib import Path

import pytest

from tests.kubernetes.fake_kubectl import Image, Killed
from tests.kubernetes.world import World, job, web

pytestmark = pytest.mark.long

BEHAVIOURS = {
    "good": Image(),
    "exits": Image(exits_after=0.5, exit_code=3),
    "hangs": Image(answers_after=None),
    "dies late": Image(exits_after=8),
    "no pull": Image(pull_error="401 Unauthorized"),
}
CALLS_AT_THE_END = 8  # of the many looks of a rollout, which are alike, these and the first are enough


@dataclasses.dataclass
class Interrupted:
    """A deploy of version 2 that ends at a call."""

    documents: tuple[str, ...]
    behaviour: Image
    has_old: bool = True

    def prepare(self, root: Path) -> World:
        patient = "progressDeadlineSeconds: 75"
        world = World(root, *(text.replace(patient, "progressDeadlineSeconds: 20") for text in self.documents))
        if self.has_old:
            world.deploy(1)
        world.again()
        return world

    def calls(self, root: Path) -> list[int]:
        """The numbers of the calls at which it is interrupted: all changes, and some of the looks."""
        world = self.prepare(root)
        world.deploy(2, self.behaviour)
        last = world.kubectl.calls
        return sorted({*range(1, min(last, 18) + 1), *range(max(1, last - CALLS_AT_THE_END), last + 1)})


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("has_old", [True, False], ids=["after others", "the first"])
def test_a_kill_at_each_call(root: Path, behaviour: str, has_old: bool) -> None:
    scenario = Interrupted((web(), job()), BEHAVIOURS[behaviour], has_old)
    calls = scenario.calls(root)
    prepared = scenario.prepare(root)
    start = copy.deepcopy(prepared.cluster)
    assert len(calls) > 10
    for number in calls:
        for moment in ("dies_before", "dies_after"):
            world = prepared
            world.cluster = copy.deepcopy(start)
            setattr(world.again(), moment, number)
            with pytest.raises(Killed):
                world.deploy(2, scenario.behaviour)
            world.again()
            world.cluster.advance(20)
            where = f"{moment} {number}"
            if has_old:
                assert world.cluster.unserved == [], where
            assert world.deploy(3).code == 0, where
            assert world.serves(3), where
            assert world.records()[-1].endswith(" 3"), where
            if has_old:
                assert world.cluster.unserved == [], where


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_the_run_is_repeated_after_a_kill(root: Path, behaviour: str) -> None:
    """The same commit again: a good one serves, a bad one is refused, and what served comes back."""
    scenario = Interrupted((web(), job()), BEHAVIOURS[behaviour])
    calls = scenario.calls(root)
    prepared = scenario.prepare(root)
    start = copy.deepcopy(prepared.cluster)
    for number in calls:
        world = prepared
        world.cluster = copy.deepcopy(start)
        world.again().dies_after = number
        with pytest.raises(Killed):
            world.deploy(2, scenario.behaviour)
        world.again()
        world.cluster.advance(5)
        outcome = world.deploy(2, scenario.behaviour)

        assert (outcome.code == 0) == (behaviour == "good"), f"call {number}"
        world.settle()
        assert world.serves(2 if behaviour == "good" else 1), f"call {number}"
        assert world.cluster.unserved == [], f"call {number}"


@pytest.mark.parametrize("behaviour", ["good", "hangs"])
def test_a_rollback_after_a_kill(root: Path, behaviour: str) -> None:
    """It is the way out, also if the deploy before it came to no end."""
    scenario = Interrupted((web(),), BEHAVIOURS[behaviour])
    calls = scenario.calls(root)
    for number in calls:
        world = scenario.prepare(root)
        world.kubectl.dies_after = number
        with pytest.raises(Killed):
            world.deploy(2, scenario.behaviour)
        world.again()
        has_recorded = len(world.records()) == 2
        first = world.records()[0].split()[0]

        assert world.rollback(to=first).code == 0, f"call {number}"
        assert world.serves(1), f"call {number}"
        assert world.deployment().is_settled
        assert len(world.records()) == (3 if has_recorded else 2)
