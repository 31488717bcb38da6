"""All that can happen next: the states of the search, and the moves between them.

A state is everything that a later move or a promise can see. Left out is what nobody sees: tests, a build before its
image is pushed, a pull by digest, a tag that nothing reads. What a deploy does under the lock is two moves: looking at
the record, and (swap, record, release, answer) together, for only the lock's holder reads the record. A dropped
connection, a time-out, and giving up on the lock are a cancel: the client is gone, the host may go on.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from tests.rehearsal.schedules.drawn import Op
from tests.rehearsal.schedules.promises import ALONE, ATTEMPTS, RIGHT, TAGGED, Images, Promises, Runs, Served
from tests.rehearsal.schedules.queues import ABSENT, ACTIVE, CANCELLED, DROPPED, GREEN, HELD, QUEUED, RED, Queues, Run
from tests.rehearsal.schedules.world import Plan, World

T = TypeVar("T")
WAITING, GOING = range(2)
NONE = -1
FRESH = Run(QUEUED, 0, 0, ())


class Remote(NamedTuple):
    """A deploy on the host: whose, at which op, of which image, whether somebody waits for it, its phase."""

    run: int
    pc: int
    image: int
    watched: bool
    phase: int


class State(NamedTuple):
    """All that a later move or a promise can see; places are stack * services + service."""

    pushed: int
    runs: Runs
    remotes: tuple[Remote, ...]
    tags: Images  # of the registry
    pulled: Images  # by place: what the host's own copy of the tag is
    serving: Images  # by place
    record: tuple[int, ...]  # by place: the last sequence
    served: Served  # (service, image): what staging ever served
    cancels: int
    reruns: int


class Move(NamedTuple):
    """A sentence, the state after it, and the promises that it breaks."""

    says: str
    state: State
    breaks: tuple[str, ...] = ()


class Moves:
    """What can happen in a world."""

    def __init__(self, world: World) -> None:
        self.world, self.host, self.plans = world, world.design.host, world.plans
        self.promises, self.queues = Promises(world), Queues(world)
        self.names, self.count = world.names, len(world.names)
        named = [(name, stack[name]) for stack in world.design.stacks.values() for name in self.names]
        self.slot_of_place = [world.slots.get((name, tag, "mutable"), NONE) for name, tag in named]

    def first(self) -> State:
        """Commit 0 serves everywhere."""
        bounds, places = self.world.bounds, (0,) * (len(self.world.stacks) * self.count)
        tags = tuple(0 if slot[-1] in (0, "mutable") else NONE for slot in self.world.slots)
        served = frozenset((service, 0) for service in range(self.count) if self.promises.counts(service, 0))
        runs = (FRESH._replace(status=ABSENT),) * len(self.plans)
        return State(0, runs, (), tags, places, places, places, served, bounds.cancels, bounds.reruns)

    def own(self, state: State) -> list[Move]:
        """What runners and host do next, in any order; when there is nothing, all is at rest."""
        moves: list[Move] = []
        for i, run in enumerate(state.runs):
            if run.status == ACTIVE:
                moves += self._step(state, i, run)
        for remote in state.remotes:
            moves += self._swap(state, remote) if remote.phase == GOING else self._begin(state, remote)
        return moves

    def of_people(self, state: State) -> Iterator[Move]:
        """Pushes, tags, runs by hand, cancels and re-runs."""
        if state.pushed < len(self.world.bounds.touches):
            commit = state.pushed + 1
            new = [i for i, plan in enumerate(self.plans) if plan.kind == "push" and plan.commit == commit]
            touched = " and ".join(self.world.bounds.touches[state.pushed])
            words = f"commit {commit} is pushed; it changes {touched}"
            yield self._queued(state._replace(pushed=commit), new, FRESH, words)
        for i, run in enumerate(state.runs):
            plan = self.plans[i]
            if run.status == ABSENT and (plan.kind == "hand" or plan.kind == "tag" and plan.commit <= state.pushed):
                yield self._queued(state, [i], FRESH, plan.event)
            elif run.status in (QUEUED, HELD, ACTIVE) and state.cancels:
                yield from self._cancels(state, i, run)
            elif run.status in (GREEN, RED, CANCELLED, DROPPED) and state.reruns:
                yield from self._reruns(state, i, run)

    # What a run does.

    def _step(self, state: State, i: int, run: Run) -> list[Move]:
        plan = self.plans[i]
        op, slot = plan.ops[run.pc], plan.slots[run.pc]
        service = self.names.index(op.service) if op.service else NONE
        if op.kind in ("deploy", "restart"):
            if any(remote.run == i and remote.watched for remote in state.remotes):
                return []
            image = run.found[service] if plan.kind == "tag" and op.kind == "deploy" else self._built(plan, run)
            return self._begin(state, Remote(i, run.pc, image, True, WAITING))
        if op.kind == "publish":
            image = run.found[service] if plan.kind == "tag" else self._built(plan, run)
            words = f"{plan.words} pushes {op.service}'s image :{op.tag}, made from commit {image // ATTEMPTS}"
            return [self._onward(state._replace(tags=_put(state.tags, slot, image)), i, words)]
        if op.kind == "find":
            return [self._find(state, i, run, service)]
        if op.kind == "check" and self.promises.bad(service, state.serving[self.promises.place(plan, service)]):
            return [self._ended(state, i, RED, f"{plan.words} turns red: {op.service} does not answer")]
        return [self._onward(state, i, f"{plan.words} sees that {op.service} answers" if service >= 0 else plan.words)]

    def _built(self, plan: Plan, run: Run) -> int:
        return plan.commit * ATTEMPTS + run.attempt

    def _find(self, state: State, i: int, run: Run, service: int) -> Move:
        plan = self.plans[i]
        op, image = plan.ops[run.pc], state.tags[plan.slots[run.pc]]
        if image == NONE or plan.refused:
            why = "its commit is not on main" if plan.refused else f"{op.service} has no image of this source yet"
            return self._ended(state, i, RED, f"{plan.words} turns red: {why}")
        run = run._replace(found=_put(run.found or (NONE,) * self.count, service, image))
        words = f"{plan.words} finds {op.service}'s image of commit {image // ATTEMPTS} by its :{op.tag}"
        return self._onward(state._replace(runs=_put(state.runs, i, run)), i, words)

    # What the host does.

    def _begin(self, state: State, remote: Remote) -> list[Move]:
        """The host starts, with the lock when there is one: compose pulls, or the record is read."""
        busy = any(other.phase == GOING for other in state.remotes)
        if busy and self.host.lock:
            return []
        plan, others = self.plans[remote.run], _without(state.remotes, remote)
        op, going = plan.ops[remote.pc], _with(others, remote._replace(phase=GOING))
        if op.kind == "restart":
            pulled = tuple(
                state.tags[self.slot_of_place[p]] if p in self.places(op) else image
                for p, image in enumerate(state.pulled)
            )
            words = f"{plan.words}: {op.stack} pulls {self.places_in_words(pulled, op)}"
            state = state._replace(remotes=going, pulled=pulled)
        elif refusal := self._refusal(state, remote, plan, op):
            words, status = refusal
            return [self._answer(state._replace(remotes=others), remote, f"{plan.words}: the host {words}", status)]
        else:
            words = f"{plan.words}: the host starts with {op.service} of commit {remote.image // ATTEMPTS}"
            state = state._replace(remotes=going)
        return [Move(words, state, (ALONE,) if busy else ())]

    def _refusal(self, state: State, remote: Remote, plan: Plan, op: Op) -> tuple[str, int] | None:
        """Why the record says that nothing is to be done, and what the run makes of it."""
        place, rule = self.places(op)[0], self.host.superseded
        last = state.record[place]
        if rule and (plan.sequence < last or rule == "le" and plan.sequence == last > 0):
            return f"says that {op.service} is superseded", ACTIVE
        if self.host.only_served and place >= self.count and (place - self.count, remote.image) not in state.served:
            return f"refuses {op.service}: staging never served it", RED
        return None

    def places(self, op: Op) -> list[int]:
        """The places that an op is about: stack and service, or all of the stack."""
        base = self.world.stacks.index(op.stack) * self.count
        return [base + s for s, name in enumerate(self.names) if op.service in ("", name)]

    def places_in_words(self, images: Images, op: Op) -> str:
        """What an op's places have, in words."""
        return ", ".join(f"{self.names[p % self.count]} of commit {images[p] // ATTEMPTS}" for p in self.places(op))

    def _swap(self, state: State, remote: Remote) -> list[Move]:
        """The host's deploy ends: swap, record, release, answer; a bad image ends here, where it is tried."""
        plan = self.plans[remote.run]
        op, serving, record = plan.ops[remote.pc], state.serving, state.record
        state, places = state._replace(remotes=_without(state.remotes, remote)), self.places(op)
        if op.kind == "deploy" and self.promises.bad(places[0] % self.count, remote.image):
            words = f"{plan.words}: {op.service} of commit {plan.commit} does not answer, the old one stays; red"
            return [self._answer(state, remote, words, RED)]
        if op.kind == "deploy":
            record = _put(record, places[0], plan.sequence)
        for place in places:
            serving = _put(serving, place, remote.image if op.kind == "deploy" else state.pulled[place])
        new = {(place % self.count, serving[place]) for place in places}
        breaks: tuple[str, ...] = ()
        if places[0] < self.count:
            state = state._replace(served=state.served | {image for image in new if self.promises.counts(*image)})
        elif not all(self.promises.is_tagged(state.runs, state.served, remote.run, *image) for image in new):
            breaks = (TAGGED,)
        words = f"{plan.words}: {op.stack} serves {self.places_in_words(serving, op)}"
        move = self._answer(state._replace(serving=serving, record=record), remote, words)
        return [move._replace(breaks=(*move.breaks, *breaks))]

    def _answer(self, state: State, remote: Remote, words: str, status: int = ACTIVE) -> Move:
        """The host's answer, if there is still somebody who waits for it."""
        if not remote.watched:
            return Move(f"{words} (nobody waits for it)", state)
        return (
            self._onward(state, remote.run, words)
            if status == ACTIVE
            else self._ended(state, remote.run, status, words)
        )

    # How runs begin, wait and end.

    def _onward(self, state: State, i: int, words: str) -> Move:
        """A run's next op, in its next job's queue; or its green end, and whether that is right."""
        plan, run = self.plans[i], state.runs[i]
        if run.pc + 1 == len(plan.ops):
            move = self._ended(state, i, GREEN, f"{words}; green")
            return move if self.promises.green_is_right(state.serving, plan) else move._replace(breaks=(RIGHT,))
        run = run._replace(pc=run.pc + 1)
        if (plan.queues[run.pc] or plan.queues[run.pc - 1]) and plan.job_of[run.pc] != plan.job_of[run.pc - 1]:
            return self._queued(state, [i], run._replace(status=HELD), words)
        return Move(words, state._replace(runs=_put(state.runs, i, run)))

    def _ended(self, state: State, i: int, status: int, words: str) -> Move:
        run = state.runs[i]._replace(status=status) if state.reruns else Run(status, 0, 0, ())
        runs = [*_put(state.runs, i, run)]
        self.queues.settle(runs)
        return Move(words, state._replace(runs=tuple(runs)))

    def _queued(self, state: State, new: list[int], run: Run, words: str) -> Move:
        """Some runs come to a queue; what GitHub drops for them goes on only on the host."""
        runs = [*state.runs]
        for i in new:
            runs[i] = run
            self.queues.admit(runs, i)
        self.queues.settle(runs)
        for i, (was, now) in enumerate(zip(state.runs, runs, strict=True)):
            if now.status == DROPPED != was.status:
                words += f"; GitHub's queue drops {self.plans[i].words}"
        remotes = (
            remote._replace(watched=remote.watched and runs[remote.run].status != DROPPED) for remote in state.remotes
        )
        return Move(words, state._replace(runs=tuple(runs), remotes=tuple(sorted(remotes))))

    # What people do to runs.

    def _cancels(self, state: State, i: int, run: Run) -> Iterator[Move]:
        """A cancel takes the client; what it started on the host ends with it, or goes on, or begins only now."""
        plan, mine = self.plans[i], [remote for remote in state.remotes if remote.run == i and remote.watched]
        state, words = state._replace(cancels=state.cancels - 1), f"{plan.words} is cancelled"
        if mine:
            others = _without(state.remotes, mine[0])
            alone = state._replace(remotes=_with(others, mine[0]._replace(watched=False)))
            yield self._ended(alone, i, CANCELLED, f"{words}; the host goes on")
            if not self.host.outlives:
                yield self._ended(
                    state._replace(remotes=others), i, CANCELLED, f"{words}, and with it what the host did"
                )
            return
        yield self._ended(state, i, CANCELLED, words)
        op = plan.ops[run.pc]
        if run.status == ACTIVE and op.kind in ("deploy", "restart"):
            is_lookup = run.found and op.service
            image = run.found[self.names.index(op.service)] if is_lookup else self._built(plan, run)
            remote = Remote(i, run.pc, image, False, WAITING)
            late = state._replace(remotes=_with(state.remotes, remote))
            yield self._ended(late, i, CANCELLED, f"{words}; the host has its order already")

    def _reruns(self, state: State, i: int, run: Run) -> Iterator[Move]:
        """All jobs again, or from any job that there was: the failed one, or one by name."""
        plan = self.plans[i]
        reached = run.pc if run.status != GREEN else len(plan.ops) - 1
        firsts = [pc for pc in range(1, reached + 1) if plan.job_of[pc] != plan.job_of[pc - 1]]
        state = state._replace(reruns=state.reruns - 1)
        builds = plan.ops[0].kind == "publish" and plan.kind != "tag"
        again = {0: Run(QUEUED, 0, run.attempt + builds, ())} | {
            pc: Run(QUEUED, pc, run.attempt, run.found) for pc in firsts
        }
        for pc, new in again.items():
            runs = _put(state.runs, i, new)
            if not state.reruns:
                runs = tuple(Run(r.status, 0, 0, ()) if r.status >= GREEN else r for r in runs)
            words = f"{plan.words} is run again" + (", but only its last jobs" if pc else "")
            yield self._queued(state._replace(runs=runs), [i], new, words)


def _put(values: tuple[T, ...], index: int, value: T) -> tuple[T, ...]:
    return (*values[:index], value, *values[index + 1 :])


def _without(remotes: tuple[Remote, ...], remote: Remote) -> tuple[Remote, ...]:
    """The others; one that never was there is no fault: a client begins at once when the lock is free."""
    index = remotes.index(remote) if remote in remotes else len(remotes)
    return remotes[:index] + remotes[index + 1 :]


def _with(remotes: tuple[Remote, ...], remote: Remote) -> tuple[Remote, ...]:
    return tuple(sorted((*remotes, remote)))
