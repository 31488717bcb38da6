"""The search: breadth first, so that what is found first is shortest."""

import gc
from collections.abc import Collection
from dataclasses import dataclass, field

from tests.rehearsal.schedules.drawn import Design, Op
from tests.rehearsal.schedules.moves import Move, Moves, State
from tests.rehearsal.schedules.promises import ALONE, LOST, NEWEST, PROMISES, RIGHT, TAGGED
from tests.rehearsal.schedules.world import Bounds, World

SO = {
    RIGHT: "it is green, and ",
    NEWEST: "nothing happens any more, and ",
    LOST: "nothing happens any more, no run of this commit has ended, and ",
    TAGGED: "",
}


@dataclass
class Search:
    """What was seen of a world: its states, {promise: the shortest way to break it}, (kind, status) of ended runs."""

    design: Design
    bounds: Bounds
    wanted: Collection[str] = PROMISES
    shorter_than: dict[str, int] = field(default_factory=dict)  # moves; a longer way is not worth looking for
    broken: dict[str, list[str]] = field(default_factory=dict)
    ends: set[tuple[str, int]] = field(default_factory=set)
    came_from: dict[State, State | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.moves = Moves(World(self.design, self.bounds))
        collecting = gc.isenabled()
        gc.disable()  # millions of tuples without a circle among them
        try:
            self._search()
        finally:
            self.states = len(self.came_from)
            self.came_from.clear()
            if collecting:
                gc.enable()

    def _search(self) -> None:
        level, depth = [self.moves.first()], 0
        self.came_from[level[0]] = None
        while level and any(depth < self.shorter_than.get(promise, depth + 1) for promise in self._open()):
            level, depth = [after for state in level for after in self._onward(state)], depth + 1

    def _open(self) -> list[str]:
        return [promise for promise in self.wanted if promise not in self.broken]

    def _onward(self, state: State) -> list[State]:
        """The new states after one; what is broken in it or on the way is noted."""
        own = self.moves.own(state)
        for promise in () if own else self.moves.promises.broken_at_rest(state.pushed, state.runs, state.serving):
            self._note(promise, state, [])
        if not own:
            self.ends |= {(plan.kind, run.status) for plan, run in zip(self.moves.plans, state.runs, strict=True)}
        new = []
        for move in (*own, *self.moves.of_people(state)):
            for promise in move.breaks:
                self._note(promise, state, [move])
            if move.state not in self.came_from:
                self.came_from[move.state] = state
                new.append(move.state)
        return new

    def _note(self, promise: str, state: State, last: list[Move]) -> None:
        if promise in self._open():
            after = last[-1].state if last else state
            self.broken[promise] = [*self._way_to(state), *(move.says for move in last), self._so(promise, after)]

    def _so(self, promise: str, state: State) -> str:
        """The last sentence: why this breaks the promise."""
        if promise == ALONE:
            return "So: two deploys change the host at the same time"
        stacks = self.moves.world.stacks[promise == TAGGED : 2 if self.bounds.tags else 1]
        serve = " and ".join(
            f"{stack} serves {self.moves.places_in_words(state.serving, Op('deploy', stack))}" for stack in stacks
        )
        return f"So: {SO[promise]}{serve}"

    def _way_to(self, state: State) -> list[str]:
        says: list[str] = []
        while (earlier := self.came_from[state]) is not None:
            moves = (*self.moves.own(earlier), *self.moves.of_people(earlier))
            says.append(next(move.says for move in moves if move.state == state))
            state = earlier
        return says[::-1]
