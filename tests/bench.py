"""Prints how much longer `generate` and `check` take on Kiwari than a process that only imports the libraries."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
BARE = "import click, pydantic, jinja2, yaml\nclass Model(pydantic.BaseModel):\n    field: int\n"
RUNS = 15


def seconds(*arguments: str) -> Callable[[], float]:
    def once() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
        return time.perf_counter() - start

    return once


def main() -> None:
    with tempfile.TemporaryDirectory() as out:
        ours = ["-m", "kiwari_ci"]
        commands = {
            "bare imports": seconds("-c", BARE),
            "generate": seconds(*ours, "generate", "specs/kiwari.yaml", "--out", out),
            "check": seconds(*ours, "check", "specs/kiwari.yaml", "--out", out),
        }
        for once in commands.values():
            once()
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(RUNS):  # by turns, so that a busy moment falls on all alike
            for name, once in commands.items():
                times[name].append(once())
    bare = statistics.median(times["bare imports"])
    for name, found in times.items():
        median = statistics.median(found)
        print(f"{name:13} {median * 1000:4.0f} ms  {median / bare:.2f}x")


main()
