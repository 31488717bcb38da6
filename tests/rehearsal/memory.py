"""Prints the most memory (MB, proportional set size) that deploys and containers used at one time: run on the machine.

memory.py NAME UID: containers are the processes whose cgroup has that name; deploys are those of that user.
"""

import select
import sys
from contextlib import suppress
from pathlib import Path


def used(name: str, user: int) -> int:
    """kB, now."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.stat().st_uid == user or name in (process / "cgroup").read_text():
                lines = (process / "smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def main() -> None:
    """Looks every 0.2 s until standard input ends."""
    most = 0
    while not select.select([sys.stdin], [], [], 0.2)[0]:
        most = max(most, used(sys.argv[1], int(sys.argv[2])))
    print(most >> 10)


if __name__ == "__main__":
    main()
