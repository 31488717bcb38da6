"""Every part of the host script earns its place: changed in one place at a time, it makes a test of tests/engine red.

`python -m tests.rehearsal.mutants [--quick] [--only REGEX]`; a part whose change stays green is needless, or is argued.
"""

import argparse
import dataclasses
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.engine.conftest import missing
from tests.engine.server import generated
from tests.rehearsal.arguments import EXCEPTIONS, QUICK
from tests.rehearsal.mutator import Mutant, mutants

ROOT = Path(__file__).parents[2]
MACHINES = 3
SHOWN, SAMPLE_PATIENCE = 150, 15  # characters of a line; seconds that a test of the sample may well take
FIRST = "test_the_first_deploy"  # it needs an empty server
# In place of the script's second line, a comment: each line that runs leaves its number.
TRACER = """exec 7>>"${0%docker/bin/deploy}.trace"; BASH_XTRACEFD=7 PS4='@$LINENO '; set -x"""

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Result:
    """One test of a trial: its node id, its end, how long it took, the lines of the script that it ran."""

    test: str
    green: bool
    seconds: float
    lines: frozenset[int]

    @property
    def name(self) -> str:
        """The test without its folder."""
        return self.test.removeprefix("tests/engine/")


class Broken(Exception):
    """The harness cannot tell: a test is red with the script as it is."""


def traced(script: str) -> str:
    """The script, leaving the number of each line that it runs; the lines keep their numbers."""
    first, _, *rest = script.split("\n")
    return "\n".join([first, TRACER, *rest])


class Machine:
    """A machine with an engine, for one trial after the other; it is made when it is first needed."""

    def __init__(self, script: str) -> None:
        self.script = script
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process:
            self.asks.close()
            self.process.wait()
            self.answers.close()
        self.process = None

    def start(self) -> None:
        """Starts pytest, which makes the machine for its first test."""
        asked, asks = os.pipe()
        answers, answered = os.pipe()
        self.asks, self.answers = os.fdopen(asks, "w"), os.fdopen(answers)
        files = [str(file) for file in sorted((ROOT / "tests/engine").glob("test_[1-6]_*.py"))]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-q", "-p", "tests.rehearsal.swap", "-p", "no:cacheprovider", *files],
            cwd=ROOT,
            env={**os.environ, "KIWARI_TRIAL": f"{asked} {answered}"},
            pass_fds=(asked, answered),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(asked)
        os.close(answered)

    def trial(self, script: str, tests: Sequence[Result] = (), stop: bool = True) -> list[Result]:
        """Runs tests in that order (all, when none is named) with that script on an empty server, to the first red."""
        if not self.process:
            self.start()
        limits = {each.test: int(15 + 3 * each.seconds) for each in tests}
        self.asks.write(json.dumps({"right": self.script, "tried": script, "tests": limits, "stop": stop}) + "\n")
        self.asks.flush()
        answer = self.answers.readline()
        if not answer:
            self.__exit__()
            raise Broken("the machine has gone: see what make engine-test says")
        return [Result(**{**each, "lines": frozenset(each["lines"])}) for each in json.loads(answer)]


class Court:
    """The script, and what each test does with it; knows which runs of tests are green with it."""

    def __init__(self, script: str, say: Say) -> None:
        self.script = script
        with Machine(script) as machine:
            self.tests = machine.trial(traced(script), stop=False)
        red = [each.name for each in self.tests if not each.green]
        if red:
            raise Broken(f"red with the script as it is: {', '.join(red)}")
        self.green: set[tuple[str, ...]] = set()
        say(f"{len(self.tests)} tests, {sum(each.seconds for each in self.tests):.0f} s")

    def tests_of(self, mutant: Mutant) -> list[Result]:
        """The tests that run the mutant's lines: the one for an empty server, then the quick ones."""
        found = [each for each in self.tests if each.lines & set(mutant.lines)]
        return sorted(found, key=lambda each: (FIRST not in each.test, each.seconds))

    def killer(self, machine: Machine, mutant: Mutant) -> Result | None:
        """The first test that is red with the mutant, and green after the same tests with the script as it is."""
        tests = self.tests_of(mutant)
        if not tests:
            return None
        *_, last = machine.trial(mutant.text, tests)
        if last.green:
            return None
        names = [each.test for each in tests]
        self.prove(machine, tests[: names.index(last.test) + 1])
        return last

    def prove(self, machine: Machine, tests: Sequence[Result]) -> None:
        """Those tests, in this order, are green with the script as it is."""
        names = tuple(each.test for each in tests)
        if not any(done[: len(names)] == names for done in list(self.green)):
            *_, last = machine.trial(self.script, tests)
            if not last.green:
                raise Broken(f"{last.name} is red after {len(names) - 1} others with the script as it is")
            self.green.add(names)


def judge(court: Court, accused: Sequence[Mutant], say: Say) -> list[Mutant]:
    """Tries all mutants, on several machines side by side; those that stay green."""
    left, survivors, done = iter(accused), list[Mutant](), itertools.count(1)

    def work() -> None:
        with Machine(court.script) as machine:
            for mutant in left:  # each worker takes the next one
                began = time.monotonic()
                try:
                    killer = court.killer(machine, mutant)
                except Broken as reason:  # a test that is red for another reason: once more, on the machine as it is
                    say(f"once more: {reason}")
                    killer = court.killer(machine, mutant)
                fate = f"red: {killer.name}" if killer else "argued" if mutant.id in EXCEPTIONS else "STAYS GREEN"
                took = time.monotonic() - began
                say(f"{next(done)}/{len(accused)} {took:4.0f} s  {fate}  <- {mutant.id[:SHOWN]}")
                if not killer:
                    survivors.append(mutant)

    with ThreadPoolExecutor(MACHINES) as pool:
        for worker in [pool.submit(work) for _ in range(MACHINES)]:
            worker.result()
    return survivors


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


def run(quick: bool, say: Say, only: str = "") -> bool:
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
    survivors = judge(Court(script, say), accused, say)
    unargued = [mutant for mutant in survivors if mutant.id not in EXCEPTIONS]
    argued = {mutant.id for mutant in survivors} & EXCEPTIONS.keys()
    stale = {name for name in EXCEPTIONS if re.search(only, name)} - argued
    for mutant in unargued:
        say(f"STAYS GREEN\n{mutant}")
    for name in stale:
        say(f"ARGUED FOR NOTHING: no such change, or it is red: {name}")
    killed = len(accused) - len(survivors)
    say(f"{len(accused)} mutants: {killed} killed, {len(argued)} argued, {len(unargued)} survive")
    return not unargued and not stale


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few mutants, about a minute and a half")
    parser.add_argument("--only", default="", metavar="REGEX", help="mutants whose words match")
    options = parser.parse_args()
    return 0 if run(options.quick, lambda line: print(line, flush=True), options.only) else 1


if __name__ == "__main__":
    sys.exit(main())
