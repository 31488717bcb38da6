"""Every part of the host script earns its place: changed in one place at a time, it makes a test of tests/engine red.

`python -m tests.rehearsal.mutants [--quick] [--only REGEX] [--minutes N]`; a part whose change stays green is needless,
or is argued. What is found out is kept in build/mutants.jsonl: the next run goes on where this one was cut short. What
made a mutant red is in killers.json too, for other machines, and holds while the script and the test are the same.
"""

import argparse
import contextlib
import math
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from tests.engine.conftest import missing
from tests.engine.server import generated
from tests.rehearsal.arguments import EXCEPTIONS, QUICK
from tests.rehearsal.kept import KEPT, Kept, Result, files, recorded
from tests.rehearsal.machine import Broken, Machine, side_by_side, traced
from tests.rehearsal.mutator import Mutant, mutants

RED, ARGUED, GREEN, UNKNOWN = "red", "argued", "STAYS GREEN", "CANNOT TELL"
SHOWN, SAMPLE_PATIENCE = 150, 15  # characters of a line; seconds that a test of the sample may well take
BATCH = 8  # mutants whose reds are proven at once
LIKELY, FEW, ALL = 2, 5, sys.maxsize  # how many tests: the likeliest, those of the first time through, of the second
FIRST = "test_the_first_deploy"  # it needs an empty server

Say = Callable[[str], None]


class Court:
    """The script, what each test does with it, and which tests have made changes of it red so far."""

    def __init__(self, script: str, kept: Kept, say: Say) -> None:
        self.script = script
        self.kept = kept
        found = kept.results()
        side_by_side(script, [file for file in files() if file not in {each.file for each in found}], self.trace)
        self.tests = kept.results()
        say(f"{len(self.tests)} tests, {sum(each.seconds for each in self.tests):.0f} s")
        # All machines add to these: the tests that made a change of a line red, and those that a mutant has passed.
        self.killers: dict[int, list[str]] = defaultdict(list)
        self.passed = kept.passed()

    def trace(self, machine: Machine, file: str) -> None:
        """Runs the tests of one file with the script as it is."""
        results = machine.ask(traced(self.script), {file: 0}, stop=False)
        if red := [each.name for each in results if not each.green]:
            raise Broken(f"red with the script as it is: {', '.join(red)}")
        self.kept.tests(file, results)

    def rank(self, known: Mapping[str, str]) -> None:
        """The test for an empty server first, then those that made many mutants red in a short time."""
        kills = Counter(known.values())
        self.tests.sort(key=lambda each: (FIRST not in each.test, -kills[each.test] / (1 + each.seconds), each.seconds))

    def in_order(self, accused: Sequence[Mutant]) -> list[Mutant]:
        """The argued last; one change of each line first, as it helps to judge the others; then what few tests meet.

        The changes of one line, which the same tests make red, stand together.
        """
        lines, places = Counter[int](), dict[str, tuple[bool, bool, int, int]]()
        for mutant in accused:
            lines.update(mutant.lines)
            first = max(lines[line] for line in mutant.lines) == 1
            places[mutant.id] = (mutant.id in EXCEPTIONS, not first, len(self.tests_of(mutant)), mutant.lines.start)
        return sorted(accused, key=lambda each: places[each.id])

    def tests_of(self, mutant: Mutant) -> list[Result]:
        """The tests that run the mutant's lines."""
        return [each for each in self.tests if each.lines & set(mutant.lines)]

    def likely(self, mutant: Mutant) -> list[Result]:
        """The test that made it red at another time, then those that made the most other changes of its lines red."""
        hint = self.kept.hints.get(mutant.id)
        known = Counter(name for line in mutant.lines for name in list(self.killers[line]))
        often = {hint, *(name for name, _ in known.most_common(LIKELY))}
        return sorted(
            [each for each in self.tests_of(mutant) if each.test in often], key=lambda each: each.test != hint
        )

    def all_killers(self, machine: Machine, batch: Sequence[Mutant], most: int) -> Sequence[Result | Broken | None]:
        """Each one's killer, all proven at once; where that cannot be, one by one, on a new machine."""
        together = self.proven_at_once(machine, batch, most) if len(batch) > 1 else None
        return together or [self.told(machine, mutant, most) for mutant in batch]

    def proven_at_once(self, machine: Machine, batch: Sequence[Mutant], most: int) -> list[Result | None] | None:
        """Their killers, when all of these are green with the right script at the end; else none, and no machine."""
        machine.trusted = True
        with contextlib.suppress(Broken):
            found = [self.killer(machine, mutant, most) for mutant in batch]
            tests = {each.test: each for each in found if each}
            in_order = [tests[name] for name in sorted(tests, key=lambda name: (FIRST not in name, name))]
            if not tests or machine.trial(self.script, in_order)[-1].green:
                machine.trusted = False
                return found
        machine.trusted = False
        machine.stop()
        return None

    def told(self, machine: Machine, mutant: Mutant, most: int) -> Result | Broken | None:
        """Its killer, or why nobody can tell."""
        try:
            return self.killer(machine, mutant, most)
        except Broken as reason:
            return reason

    def killer(self, machine: Machine, mutant: Mutant, most: int) -> Result | None:
        """The first of its tests, or of the likely and so many others, that it makes red by itself."""
        for tests in (self.likely(mutant), self.tests_of(mutant)[:most]):
            if found := self.red(machine, mutant, tests):
                self.remember(mutant, found.test)
                return found
        return None

    def red(self, machine: Machine, mutant: Mutant, tests: Sequence[Result]) -> Result | None:
        """The first of these tests that the mutant makes red by itself; each is tried once."""
        while left := [each for each in tests if each.test not in self.passed[mutant.id]]:
            results = machine.trial(mutant.text, left)
            tried, last = left[: len(results)], left[len(results) - 1]  # which knows how long it takes when it is green
            if not results[-1].green and self.proven(machine, mutant, last, alone=len(tried) == 1):
                return last
            self.passed[mutant.id] |= {each.test for each in tried}
            self.kept.passes(mutant.id, tried)
        return None

    def proven(self, machine: Machine, mutant: Mutant, test: Result, alone: bool) -> bool:
        """The test is red with the mutant and no other test before it, and green with the right script.

        So what the others left behind is not what makes it red, nor what a mutant has done to the machine.
        """
        for _ in range(2):
            if machine.trusted or machine.trial(self.script, [test])[-1].green:
                return alone or not machine.trial(mutant.text, [test])[-1].green
            machine.stop()  # the next trial makes a new one
            alone = False
        raise Broken(f"{test.name} is red with the script as it is, on a new machine too")

    def remember(self, mutant: Mutant, killer: str) -> None:
        """Which test it was, for the other changes of the same lines."""
        for line in mutant.lines:
            self.killers[line].append(killer)


def judge(court: Court, accused: Sequence[Mutant], minutes: float, say: Say) -> dict[str, str]:
    """What becomes of each mutant, by its id, unless time runs out.

    Twice through all: first with a few tests each, then with all of them, for what was neither red nor argued.
    """
    known, fates, end = court.kept.reds(), dict[str, str](), time.monotonic() + 60 * minutes

    def settle(mutant: Mutant, killer: str) -> str:
        fates[mutant.id] = RED if killer else ARGUED if mutant.id in EXCEPTIONS else GREEN
        return f"{fates[mutant.id]}: {killer.removeprefix('tests/engine/')}" if killer else fates[mutant.id]

    def tell(mutant: Mutant, most: int, killer: Result | Broken | None) -> str:
        tests = len(court.tests_of(mutant))
        if isinstance(killer, Broken):
            if most == ALL:
                fates[mutant.id] = UNKNOWN
            return f"{UNKNOWN}: {killer}"
        if killer:
            court.kept.red(mutant.id, killer)
        if killer or tests <= most or mutant.id in EXCEPTIONS:
            return settle(mutant, killer.test if killer else "")
        return f"not red in {most} tests of {tests}"

    def work(machine: Machine, batch: Sequence[Mutant], most: int) -> None:
        if time.monotonic() > end:
            return
        for mutant, killer in zip(batch, court.all_killers(machine, batch, most), strict=True):
            words = tell(mutant, most, killer)
            say(f"{len(fates)}/{len(accused)}  {words}  <- {mutant.id[:SHOWN]}")

    for mutant in accused:
        if mutant.id in known:
            settle(mutant, known[mutant.id])
        if killer := court.kept.hints.get(mutant.id):
            court.remember(mutant, killer)
    for most, size in ((FEW, BATCH), (ALL, 1)):
        court.rank(court.kept.reds())
        left = court.in_order([each for each in accused if each.id not in fates])
        batches = [left[at : at + size] for at in range(0, len(left), size)]
        side_by_side(court.script, batches, partial(work, most=most))
    return fates


def sample(script: str, every: Sequence[Mutant], say: Say) -> bool:
    """Tries a few: each makes the test red that is named beside it, and that test is green with the script as it is."""
    named = {name: Result(f"tests/engine/{test}", True, SAMPLE_PATIENCE, frozenset()) for name, test in QUICK.items()}
    survivors = 0
    with Machine(script) as machine:
        greens = machine.trial(script, list(dict.fromkeys(named.values())))
        if not greens[-1].green:
            raise Broken(f"{greens[-1].name} is red with the script as it is")
        for mutant in every:
            if test := named.get(mutant.id):
                *_, last = machine.trial(mutant.text, [test])
                survivors += last.green
                say(f"{'STAYS GREEN' if last.green else 'red'}: {test.name}  <- {mutant.id[:SHOWN]}")
    say(f"{len(named)} of {len(every)} mutants: {len(named) - survivors} killed, {survivors} survive")
    return survivors == 0


def run(quick: bool, say: Say, only: str = "", minutes: float = math.inf) -> bool:
    """Tries the script's mutants, or a few; true when each is red or argued, and no argument is idle.

    What this machine lacks is said, and is false.
    """
    if parts := missing():
        say(f"the mutants need {', '.join(parts)}: as root on Debian 12, run .ci/install-engine")
        return False
    script = generated("deploy/bin/deploy").read_text()
    every = mutants(script)
    if quick:
        return sample(script, every, say)
    accused = [mutant for mutant in every if re.search(only, mutant.id)]
    if not accused:
        raise SystemExit(f"no change matches {only}")
    try:
        fates = judge(Court(script, Kept(script, KEPT, recorded()), say), accused, minutes, say)
    except Broken as reason:
        say(f"{UNKNOWN} anything: {reason}")
        return False
    return summed_up(accused, fates, {name for name in EXCEPTIONS if re.search(only, name)}, say)


def summed_up(accused: Sequence[Mutant], fates: Mapping[str, str], argued: set[str], say: Say) -> bool:
    """Says which mutants are neither red nor argued, and how many of each there are; true when there is no such one."""
    for mutant in accused:
        if fates.get(mutant.id) in (GREEN, UNKNOWN):
            say(f"{fates[mutant.id]}\n{mutant}")
    idle = argued - {mutant.id for mutant in accused if fates.get(mutant.id) != RED}
    for name in idle:
        say(f"ARGUED FOR NOTHING: no such change, or it is red: {name}")
    counts, left = Counter(fates.values()), len(accused) - len(fates)
    words = ", ".join(f"{counts[fate]} {fate}" for fate in (RED, ARGUED, GREEN, UNKNOWN))
    say(f"{len(accused)} mutants: {words}{f', {left} not tried: run it again' if left else ''}")
    return not (counts[GREEN] or counts[UNKNOWN] or left or idle)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few mutants, about a minute and a half")
    parser.add_argument("--only", default="", metavar="REGEX", help="mutants whose words match")
    parser.add_argument("--minutes", type=float, default=math.inf, metavar="N", help="takes up no other one after that")
    options = parser.parse_args()
    return 0 if run(options.quick, lambda line: print(line, flush=True), options.only, options.minutes) else 1


if __name__ == "__main__":
    sys.exit(main())
