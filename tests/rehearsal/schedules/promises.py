"""What a pipeline owes its people, as questions to a state."""

from collections.abc import Iterator

from tests.rehearsal.schedules.queues import ACTIVE, DROPPED, GREEN, Run
from tests.rehearsal.schedules.world import Plan, World

ATTEMPTS = 8  # an image is its commit * ATTEMPTS + its build's attempt
RIGHT, NEWEST, LOST, TAGGED, ALONE = PROMISES = (
    "Green is right",
    "The newest serves at the end",
    "Nothing is silently lost",
    "Production serves what the tag says",
    "One deploy at a time",
)

Runs = tuple[Run, ...]
Images = tuple[int, ...]
Served = frozenset[tuple[int, int]]


class Promises:
    """The promises of a world."""

    def __init__(self, world: World) -> None:
        self.world, self.plans, self.count = world, world.plans, len(world.names)
        ops = [(op, plan.commit) for plan in self.plans for op in plan.ops]
        published = {(op.service, commit) for op, commit in ops if op.kind == "publish"}
        self.findable = published | {(name, 0) for name in world.names if world.bounds.tags}

    def bad(self, service: int, image: int) -> bool:
        """Whether an image does not become healthy."""
        return self.world.bounds.bad == (self.world.names[service], image // ATTEMPTS)

    def has(self, serving: Images, place: int, commit: int) -> bool:
        """Whether a place serves a commit's source or a newer one's, and does serve."""
        service, image = place % self.count, serving[place]
        return image // ATTEMPTS >= self.world.source(service, commit) and not self.bad(service, image)

    def place(self, plan: Plan, service: int) -> int:
        """Where a run deploys a service to."""
        return (self.count if plan.kind == "tag" else 0) + service

    def green_is_right(self, serving: Images, plan: Plan) -> bool:
        """Green: each of the run's services serves its commit's source, or a newer one's."""
        return all(self.has(serving, self.place(plan, service), plan.commit) for service in plan.services)

    def counts(self, service: int, image: int) -> bool:
        """Whether anybody will ask if staging served this image: a promotion can find it."""
        return (self.world.names[service], image // ATTEMPTS) in self.findable and not self.bad(service, image)

    def is_tagged(self, runs: Runs, served: Served, by: int, service: int, image: int) -> bool:
        """Whether a promotion (this run's, or one that is on or green) means this image, and staging served it."""
        source = self.world.source(service, image // ATTEMPTS)
        live = [plan for i, plan in enumerate(self.plans) if i == by or runs[i].status in (ACTIVE, GREEN)]
        means = any(plan.kind == "tag" and self.world.source(service, plan.commit) == source for plan in live)
        return means and (service, image) in served

    def broken_at_rest(self, pushed: int, runs: Runs, serving: Images) -> Iterator[str]:
        """The promises that are broken when nothing moves any more, as things stand."""
        newest = [0] * len(serving)
        for plan, run in zip(self.plans, runs, strict=True):
            for service in plan.services if run.status == GREEN else ():
                place = self.place(plan, service)
                newest[place] = max(newest[place], plan.commit)
        if not all(self.has(serving, place, commit) for place, commit in enumerate(newest)):
            yield NEWEST
        if not all(self.has(serving, place, commit) for place, commit in self._unheard(pushed, runs)):
            yield LOST

    def _unheard(self, pushed: int, runs: Runs) -> Iterator[tuple[int, int]]:
        """Each place and commit that no run answers for: there is none, or GitHub's queue dropped it."""
        heard = {
            (self.place(plan, service), plan.commit)
            for plan, run in zip(self.plans, runs, strict=True)
            for service in plan.services
            if plan.kind == "push" and run.status != DROPPED
        }
        for commit in range(1, pushed + 1):
            changed = (service for service in range(self.count) if self.world.source(service, commit) == commit)
            yield from ((service, commit) for service in changed if (service, commit) not in heard)
        for plan, run in zip(self.plans, runs, strict=True):
            if plan.kind == "tag" and run.status == DROPPED and not plan.refused:
                yield from ((self.place(plan, service), plan.commit) for service in plan.services)
