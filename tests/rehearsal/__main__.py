"""`make rehearse`: the generated pipeline and the literal design on trial, part by part, and the table at the end."""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial

from tests.engine.conftest import missing
from tests.rehearsal import database, figures, kills, leaks, on_trial, reached, schedules

Part = Callable[[bool, Callable[[str], None]], bool]
PARTS: dict[str, tuple[str, Part]] = {
    "schedules": ("every interleaving of pushes, tags, cancels and re-runs", schedules.run),
    "faults": ("both pipelines, broken in every way", on_trial.run),
    "database": ("PostgreSQL, its passwords and its walls", database.run),
    "leaks": ("where secrets get to", leaks.run),
    "kills": ("kill -9 at every command of the host script", kills.run),
    "reached": ("tags that build, candidates, and a person who goes back", reached.run),
    "figures": ("requests, seconds, layers, memory", figures.run),
}
ON_DEMAND = {"figures", "leaks", "reached"}  # not in the quick run


def say(part: str, began: float, line: str) -> None:
    """One line of progress: the part, its minutes and seconds, the words."""
    minutes, seconds = divmod(int(time.monotonic() - began), 60)
    print(f"{part:10}{minutes:2}:{seconds:02}  {line}", flush=True)


def main() -> int:
    """Runs the parts that are asked for; 0 when every one of them is as it should be."""
    parser = argparse.ArgumentParser(prog="make rehearse", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all of them by default")
    parser.add_argument("--quick", action="store_true", help="what CI runs, in ten minutes")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no part {unknown.pop()!r}: {', '.join(PARTS)}")
    if lacks := [*missing(), *on_trial.missing()]:
        print(f"the rehearsal needs {', '.join(lacks)}: as root on Debian 12, run .ci/install-engine")
        return 1
    failed = []
    for name in given.parts or [part for part in PARTS if not (given.quick and part in ON_DEMAND)]:
        words, part = PARTS[name]
        tell = partial(say, name, time.monotonic())
        tell(words)
        right = part(given.quick, tell)
        tell("as it should be" if right else "NOT AS IT SHOULD BE")
        failed += [] if right else [name]
    print("the rehearsal is " + (f"red: {', '.join(failed)}" if failed else "green"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
