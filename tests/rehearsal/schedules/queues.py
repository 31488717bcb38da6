"""GitHub's queues: who runs, who waits, who is dropped.

A group has one that runs and one that waits; a new one takes the place of the one that waits, which is cancelled, and
with `cancel-in-progress` of the one that runs, too. Source: "Control the concurrency of workflows and jobs" in GitHub's
documentation.
"""

from typing import NamedTuple

from tests.rehearsal.schedules.drawn import Queue
from tests.rehearsal.schedules.world import World

ABSENT, QUEUED, HELD, ACTIVE, GREEN, RED, CANCELLED, DROPPED = range(8)  # held: the run is on, its next job waits


class Run(NamedTuple):
    """A run: its status, its next op, the attempt that built its image, the images it found (by service)."""

    status: int
    pc: int
    attempt: int
    found: tuple[int, ...]


class Queues:
    """The groups of a world; `runs` are lists that change in place."""

    def __init__(self, world: World) -> None:
        self.plans, self.all = world.plans, range(len(world.plans))
        groups = [{queue.group for queue in (plan.queue, *plan.queues) if queue} for plan in self.plans]
        # In a group that only one run can be in nobody waits.
        self.crowded = {
            group for own_groups in groups for group in own_groups if sum(group in other for other in groups) > 1
        }

    def admit(self, runs: list[Run], i: int) -> None:
        """Take one that is queued or held into its queue: it runs, or takes the place of the one that waits."""
        queue = self._wanted(runs[i], i)
        holders = self._holders(runs, i, queue)
        for j in self.all if holders else ():
            if j != i and (self._same(self._wanted(runs[j], j), queue) or queue and queue.cancels and j in holders):
                runs[j] = runs[j]._replace(status=DROPPED)
        if not holders or queue and queue.cancels:
            self._enter(runs, i)

    def settle(self, runs: list[Run]) -> None:
        """Let those begin who wait for a group that is free now."""
        for i in self.all if self.crowded else ():
            if runs[i].status in (QUEUED, HELD) and not self._holders(runs, i, self._wanted(runs[i], i)):
                self._enter(runs, i)

    def _enter(self, runs: list[Run], i: int) -> None:
        first = runs[i].status == QUEUED
        runs[i] = runs[i]._replace(status=HELD if first else ACTIVE)
        if first:
            self.admit(runs, i)

    def _wanted(self, run: Run, i: int) -> Queue | None:
        """What one waits for: the run's group, or its next job's."""
        if run.status == QUEUED:
            return self.plans[i].queue
        return self.plans[i].queues[run.pc] if run.status == HELD else None

    def _holders(self, runs: list[Run], but: int, queue: Queue | None) -> list[int]:
        if queue is None or queue.group not in self.crowded:
            return []
        return [j for j in self.all if j != but and self._holds(runs[j], j, queue)]

    def _holds(self, run: Run, i: int, queue: Queue) -> bool:
        plan = self.plans[i]
        in_run = run.status in (HELD, ACTIVE) and self._same(plan.queue, queue)
        return in_run or run.status == ACTIVE and self._same(plan.queues[run.pc], queue)

    @staticmethod
    def _same(one: Queue | None, other: Queue | None) -> bool:
        return one is not None and other is not None and one.group == other.group
