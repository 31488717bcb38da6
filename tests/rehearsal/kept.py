"""What was found out about the host script's mutants, written down as it goes: a run that was cut short goes on."""

import dataclasses
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.engine.server import generated

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "tests/engine"
KEPT = ROOT / "build/mutants.jsonl"
KILLERS = Path(__file__).with_name("killers.json")  # the mutants that each test makes red
LATER = ("examples.py", "fronts.py", "talker.py")  # of tests/engine: what only its tests 7 to 9 use


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

    @property
    def file(self) -> str:
        """Where the test stands."""
        return self.test.partition("::")[0]


def result(said: dict[str, Any]) -> Result:
    """One that was written as JSON."""
    return Result(**{**said, "lines": frozenset(said["lines"])})


def files() -> list[str]:
    """Where the tests stand that a mutant can make red."""
    return [str(path.relative_to(ROOT)) for path in sorted(ENGINE.glob("test_[1-6]_*.py"))]


def shared() -> list[Path]:
    """What all these tests use: the rest of tests/engine, and what puts a mutant in the script's place."""
    paths = [path for path in ENGINE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    used = [path for path in paths if not path.name.startswith("test_") and path.name not in LATER]
    return sorted([*used, Path(__file__).with_name("swap.py")])


def recorded() -> list[dict[str, Any]]:
    """The verdicts that lie beside this file, as lines of what was found out."""
    return [
        {"mutant": mutant, "red": test, "hangs_on": [test.partition("::")[0]], "with": found["with"]}
        for test, found in json.loads(KILLERS.read_text()).items()
        for mutant in found["red"]
    ]


class Kept:
    """A file with a line of JSON for each thing found out, and what it was found out with: else it is void.

    What a test does, and whether a mutant makes it red, hangs on the script, on the test's file and on what all tests
    share.
    """

    def __init__(self, script: str, path: Path, before: Iterable[dict[str, Any]] = ()) -> None:
        self.path = path
        self.texts = {file: (ROOT / file).read_bytes() for file in files()}  # as they are run
        self.shared = checksum(script.encode(), *(path.read_bytes() for path in shared()))
        lines = path.read_text().splitlines() if path.exists() else []
        self.lines = [*before, *map(json.loads, lines)]
        # What made a mutant red last, even if that is void by now: a hint where to begin.
        self.hints: dict[str, str] = {line["mutant"]: line["red"] for line in self.lines if "red" in line}

    def results(self) -> list[Result]:
        """What each test did with the script as it is: of those files whose tests were all run."""
        found = {line["file"]: line["results"] for line in self.lines if "file" in line and self.holds(line)}
        return [result(each) for file in files() for each in found.get(file, [])]

    def reds(self) -> dict[str, str]:
        """The test that makes a mutant red, by the mutant's id."""
        return {line["mutant"]: line["red"] for line in self.lines if "red" in line and self.holds(line)}

    def passed(self) -> dict[str, set[str]]:
        """The tests that a mutant has passed, by the mutant's id."""
        found = defaultdict[str, set[str]](set)
        for line in self.lines:
            if "passed" in line and self.holds(line):
                found[line["mutant"]].update(line["passed"])
        return found

    def tests(self, file: str, results: Iterable[Result]) -> None:
        """Writes down what the tests of one file did."""
        made = [{**dataclasses.asdict(each), "lines": sorted(each.lines)} for each in results]
        self.write({"file": file, "results": made}, [file])

    def red(self, mutant: str, killer: Result) -> None:
        """Writes down which test a mutant makes red."""
        self.write({"mutant": mutant, "red": killer.test}, [killer.file])

    def passes(self, mutant: str, tests: Iterable[Result]) -> None:
        """Writes down which tests a mutant does not make red by itself: a line for each of their files."""
        for file, those in groupby(sorted(tests, key=lambda each: each.file), lambda each: each.file):
            self.write({"mutant": mutant, "passed": [each.test for each in those]}, [file])

    def write(self, line: dict[str, object], hangs_on: list[str]) -> None:
        """Adds a line to the file."""
        line = {**line, "hangs_on": hangs_on, "with": self.stamp(hangs_on)}
        self.lines.append(line)
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def holds(self, line: dict[str, Any]) -> bool:
        """Nothing that it hangs on has changed since."""
        return set(line["hangs_on"]) <= self.texts.keys() and line["with"] == self.stamp(line["hangs_on"])

    def stamp(self, hangs_on: list[str]) -> str:
        """Tells the script and the tests from those of another time."""
        return checksum(self.shared.encode(), *(self.texts[file] for file in sorted(hangs_on)))


def checksum(*parts: bytes) -> str:
    """Of all parts, one after the other."""
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def record(kept: Kept) -> None:
    """Writes down which test makes which mutant red, for other machines: `python -m tests.rehearsal.kept`."""
    reds = kept.reds()
    found = {
        test: {"with": kept.stamp([test.partition("::")[0]]), "red": sorted(it for it in reds if reds[it] == test)}
        for test in sorted(set(reds.values()))
    }
    KILLERS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    record(Kept(generated("deploy/bin/deploy").read_text(), KEPT, recorded()))
