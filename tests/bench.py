"""Prints how much more work commands are than a bare import of the libraries: on Kiwari, and on 1,000 services.

It counts the processor's time, of which busy neighbours change little, by turns in one run, and compares medians.
`check` and `generate` on a large spec are counted a few times only.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
BARE = "import click, pydantic, jinja2, yaml\nclass Model(pydantic.BaseModel):\n    field: int\n"
GENERATOR = "git+https://github.com/example/kiwari-ci@" + "0" * 40  # what the drift check would install
RUNS, RUNS_OF_LARGE = 15, 3
SIZES = (250, 500, 1000)  # services of a large spec


def measure_seconds(*arguments: str) -> Callable[[], float]:
    """A function that runs Python with these arguments, and returns the processor's time that it took."""
    # As where the tool is installed, modules are compiled once: a run that compiles them again is another measurement.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def run_once() -> float:
        process = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(arguments)} ended with {process.returncode}")
        return usage.ru_utime + usage.ru_stime

    return run_once


def write_large_spec(path: Path, size: int) -> None:
    """Write a spec of so many services in one environment."""
    lines = ["project: {name: shop, repository: example/shop}", f"generator: {GENERATOR}", "hosts: {vps: {}}"]
    lines.append("services:")
    for number in range(size):
        lines += [f"  web{number}:", "    port: 8080", f"    build: {{dockerfile: web{number}/Dockerfile}}"]
    lines += ["environments:", "  production:", "    host: vps", "    deploy_on: {push: main}"]
    path.write_text("\n".join([*lines, ""]))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        program = ["-m", "kiwari_ci"]
        kiwari = ["specs/kiwari.yaml", "--out", f"{folder}/kiwari"]
        commands = {
            "bare imports": measure_seconds("-c", BARE),
            "--version": measure_seconds(*program, "--version"),
            "--help": measure_seconds(*program, "--help"),
            "generate": measure_seconds(*program, "generate", *kiwari),
            "check": measure_seconds(*program, "check", *kiwari),
        }
        large = {}
        for size in SIZES:
            write_large_spec(Path(folder, f"{size}.yaml"), size)
            words = [f"{folder}/{size}.yaml", "--out", f"{folder}/{size}"]
            large[f"generate {size:,}"] = measure_seconds(*program, "generate", *words)
            large[f"check {size:,}"] = measure_seconds(*program, "check", *words)
        times: dict[str, list[float]] = {name: [] for name in commands | large}
        for run_once in commands.values():
            run_once()  # compiles modules and templates
        for _ in range(RUNS):  # by turns, so that a busy moment falls on all alike
            for name, run_once in commands.items():
                times[name].append(run_once())
        for _ in range(RUNS_OF_LARGE):
            for name, run_once in large.items():
                times[name].append(run_once())
    bare = statistics.median(times["bare imports"])
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{name:14} {median * 1000:6.0f} ms  {median / bare:5.2f}x")


main()
