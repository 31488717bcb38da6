"""Kills the host program (kill -9), or the docker command that it runs, at the calls of docker that change something.

At each moment something healthy serves; the next deploy, of a newer version or the same one again, is right; and after
it nothing secret and nothing half done is left. tests/host/test_kills.py tries every point on a stand-in for Docker;
here it is a real one, for some runs, at every such call. `kill.sh` takes docker's place and kills: the program itself
is the generated one.
"""

import argparse
import contextlib
import queue
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from tests.engine.server import throw_away
from tests.rehearsal.rig import AFTER, BEFORE, DOCKER, GOOD, PROGRAM, RUNS, WITHIN, WORKS, Kill, Rig, Run, short

WAYS = [(who, when) for who in (PROGRAM, DOCKER) for when in (BEFORE, WITHIN, AFTER)]
LONG = ("pull", "compose", "stop")  # calls that take long enough to be killed within
# The quick part: a run, the beginning of a call, who is killed, and when. The first call of that kind is taken.
QUICK = (
    (GOOD, "compose run", PROGRAM, WITHIN),
    (GOOD, "network connect", PROGRAM, BEFORE),
    (GOOD, "compose up", PROGRAM, WITHIN),
    (GOOD, "compose up", DOCKER, WITHIN),
    (WORKS, "stop", PROGRAM, AFTER),
    (WORKS, "start", DOCKER, BEFORE),
)

A = TypeVar("A")
T = TypeVar("T")


def kills_of(run: Run, calls: Iterable[str]) -> list[Kill]:
    """The kills at the calls of a run; every other one is followed by the same deploy again."""
    kills: list[Kill] = []
    for number, call in enumerate(calls, 1):
        for who, when in WAYS:
            if when != WITHIN or who == PROGRAM or short(call).startswith(LONG):
                kills.append(Kill(run, number, call, who, when, is_same_again=len(kills) % 2 == 0))
    assert kills, f"{run.name}: the program changes nothing"
    return kills


def choose_quick(kills: list[Kill]) -> list[Kill]:
    """The few kills of the quick part."""
    chosen = []
    for run, call, who, when in QUICK:
        matching = [kill for kill in kills if kill.run is run and short(kill.call).startswith(call)]
        matching = [kill for kill in matching if (kill.who, kill.when) == (who, when)]
        assert matching, f"{run.name}: the program does not come to {call}"
        chosen.append(matching[0])
    return chosen


class Rigs:
    """Machines that work side by side."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.free: queue.Queue[Rig] = queue.Queue()

    def __enter__(self) -> "Rigs":
        with contextlib.ExitStack() as stack, ThreadPoolExecutor(self.number) as pool:
            for rig in [pool.submit(lambda: Rig(stack.enter_context(throw_away()))) for _ in range(self.number)]:
                self.free.put(rig.result())
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def on_one(self, action: Callable[[Rig], T]) -> T:
        """Does that on a machine that is free."""
        rig = self.free.get()
        try:
            return action(rig)
        finally:
            self.free.put(rig)

    def on_all(self, action: Callable[[Rig, A], T], things: Iterable[A]) -> Iterator[tuple[A, T]]:
        """Does that with each thing, and yields both in their order."""
        with ThreadPoolExecutor(self.number) as pool:
            things = list(things)
            results = pool.map(lambda thing: self.on_one(lambda rig: action(rig, thing)), things)
            yield from zip(things, results, strict=True)


def run(quick: bool, say: Callable[[str], None], names: Iterable[str] = ()) -> bool:
    """Does all trials, or the quick part of them, says a line for each, and whether all were right."""
    runs = [GOOD, WORKS] if quick else [run for run in RUNS if not names or run.name in names]
    verdicts: Counter[str] = Counter()
    with Rigs(1 if quick else 2) as rigs:
        try:
            kills = [kill for run, calls in rigs.on_all(Rig.calls_of, runs) for kill in kills_of(run, calls)]
            chosen = choose_quick(kills) if quick else kills
        except AssertionError as error:
            say(f"without any kill: {error}")
            return False
        for number, (kill, problems) in enumerate(rigs.on_all(Rig.trial, chosen), start=1):
            if problems and quick:
                # A busy machine may be late once: what is wrong twice is wrong.
                say("\n    ".join([f"{number}/{len(chosen)} {kill}: WRONG, so it is tried once more", *problems]))
                problems = rigs.on_one(partial(Rig.trial, kill=kill))
            verdict = "WRONG" if problems else "right" if problems is not None else "did not come to it"
            say("\n    ".join([f"{number}/{len(chosen)} {kill}: {verdict}", *(problems or ())]))
            verdicts[verdict] += 1
    calls = len({(kill.run, kill.number) for kill in chosen})
    ends = ", ".join(f"{times} {verdict}" for verdict, times in verdicts.items())
    say(f"kill -9 at {calls} calls of {len(runs)} runs, {len(chosen)} trials: {ends}")
    return verdicts["right"] == len(chosen)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few kills of two runs")
    parser.add_argument("--run", action="append", choices=[run.name for run in RUNS], help="only this, or these")
    words = parser.parse_args()
    return 0 if run(words.quick, lambda line: print(line, flush=True), words.run or ()) else 1


if __name__ == "__main__":
    sys.exit(main())
