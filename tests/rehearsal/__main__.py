"""`make rehearse`: the generated pipeline and the literal design on trial, part by part."""

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.engine.conftest import missing
from tests.rehearsal import database, figures, kills, leaks, on_trial, reached, schedules

Part = Callable[[bool, Callable[[str], None]], bool]
PARTS: dict[str, tuple[str, Part]] = {
    "schedules": ("every interleaving of pushes, tags, cancels and re-runs", schedules.run),
    "faults": ("both pipelines, broken in every way", on_trial.run),
    "database": ("PostgreSQL, its passwords and its walls", database.run),
    "leaks": ("where secrets get to", leaks.run),
    "kills": ("kill -9 of the host program and of docker, at docker's calls", kills.run),
    "reached": ("tags that build, candidates, and a person who goes back", reached.run),
    "figures": ("requests, seconds, layers, memory", figures.run),
}
COMPUTES = {"schedules"}  # and waits for nothing
ON_DEMAND = {"figures", "leaks", "reached"}  # not in the quick run


def say(part: str, began: float, line: str) -> None:
    """One line of progress: the part, its minutes and seconds, the words."""
    minutes, seconds = divmod(int(time.monotonic() - began), 60)
    print(f"{part:10}{minutes:2}:{seconds:02}  {line}", flush=True)


def run_part(name: str, quick: bool) -> bool:
    """Runs one part; whether all of it is as it should be."""
    words, part = PARTS[name]
    if quick and name in COMPUTES:
        os.nice(10)  # it takes what processor time the others leave, which end later
    tell = partial(say, name, time.monotonic())
    tell(words)
    is_right = part(quick, tell)
    tell("as it should be" if is_right else "NOT AS IT SHOULD BE")
    return is_right


def main() -> int:
    """Runs the parts that are asked for; 0 when every one of them is as it should be.

    The quick parts run side by side, for all but the schedules mostly wait.
    """
    parser = argparse.ArgumentParser(prog="make rehearse", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all of them by default")
    parser.add_argument("--quick", action="store_true", help="what CI runs, in six minutes")
    words = parser.parse_args()
    if unknown := set(words.parts) - set(PARTS):
        parser.error(f"no part {unknown.pop()!r}: {', '.join(PARTS)}")
    if lacks := [*missing(), *on_trial.missing()]:
        print(f"the rehearsal needs {', '.join(lacks)}: as root on Debian 12, run .ci/install-engine")
        return 1
    names = words.parts or [name for name in PARTS if not (words.quick and name in ON_DEMAND)]
    with ProcessPoolExecutor(len(names) if words.quick else 1) as pool:
        results = dict(zip(names, pool.map(partial(run_part, quick=words.quick), names), strict=True))
    failed = [name for name, is_right in results.items() if not is_right]
    print("the rehearsal is " + (f"red: {', '.join(failed)}" if failed else "green"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
