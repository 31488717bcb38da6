"""Machines with an engine, on which the host script, changed or as it is, is tried by the tests of tests/engine."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tests.rehearsal.kept import ROOT, Result, files, result

MACHINES = 2 * (os.cpu_count() or 1)  # a test mostly waits
PYTEST = ["-m", "pytest", "-q", "-p", "tests.rehearsal.swap", "-p", "no:cacheprovider"]
ENDS_WITH_US = ["setpriv", "--pdeathsig", "TERM"]
# In place of the script's second line, a comment: each line that runs leaves its number.
TRACER = """exec 7>>"${0%docker/bin/deploy}.trace"; BASH_XTRACEFD=7 PS4='@$LINENO '; set -x"""

T = TypeVar("T")


class Broken(Exception):
    """The harness cannot tell: a test is red with the script as it is, or the machine has gone."""


def traced(script: str) -> str:
    """The script, leaving the number of each line that it runs; the lines keep their numbers."""
    first, _, *rest = script.split("\n")
    return "\n".join([first, TRACER, *rest])


class Machine:
    """A machine with an engine, for one trial after the other; it is made when it is first needed."""

    def __init__(self, script: str) -> None:
        self.script = script
        self.process: subprocess.Popen[bytes] | None = None
        self.trusted = False  # what is red on it is proven later, for several mutants at once

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Takes the machine down; the next trial makes another."""
        if self.process:
            with contextlib.suppress(OSError):  # it has gone by itself
                self.asks.close()
            self.process.wait()
            self.answers.close()
        self.process = None

    def start(self) -> None:
        """Starts pytest, which makes the machine for its first test."""
        asked, asks = os.pipe()
        answers, answered = os.pipe()
        self.asks, self.answers = os.fdopen(asks, "w"), os.fdopen(answers)
        self.process = subprocess.Popen(
            [*ENDS_WITH_US, sys.executable, *PYTEST, *files()],
            cwd=ROOT,
            env={**os.environ, "KIWARI_TRIAL": f"{asked} {answered}"},
            pass_fds=(asked, answered),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(asked)
        os.close(answered)

    def trial(self, script: str, tests: Sequence[Result]) -> list[Result]:
        """Runs tests in that order with that script on an empty server, to the first red."""
        return self.ask(script, {each.test: int(15 + 3 * each.seconds) for each in tests}, stop=True)

    def ask(self, script: str, tests: dict[str, int], stop: bool) -> list[Result]:
        """Runs tests, or files of them, none longer than so many seconds, with that script on an empty server."""
        if not self.process:
            self.start()
        try:
            self.asks.write(json.dumps({"right": self.script, "tried": script, "tests": tests, "stop": stop}) + "\n")
            self.asks.flush()
            answer = self.answers.readline()
        except OSError:
            answer = ""
        if not answer:
            self.stop()
            raise Broken("the machine has gone: see what make engine-test says")
        return [result(each) for each in json.loads(answer)]


def side_by_side(script: str, todo: Iterable[T], work: Callable[[Machine, T], None]) -> None:
    """Works through all, on several machines, of which each takes the next one."""
    left = iter(todo)

    def take() -> None:
        with Machine(script) as machine:
            for each in left:
                work(machine, each)

    with ThreadPoolExecutor(MACHINES) as pool:
        for worker in [pool.submit(take) for _ in range(MACHINES)]:
            worker.result()
