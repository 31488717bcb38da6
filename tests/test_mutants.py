"""The changes that a shell script is tried with (tests/rehearsal/mutants.py) are what they claim to be."""

import collections
import dataclasses
import functools
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.rehearsal.kept import ENGINE, LATER, ROOT, Kept, Result, files, record, recorded, shared
from tests.rehearsal.machine import Broken, Machine
from tests.rehearsal.mutants import ALL, FEW, Court, judge, summed_up
from tests.rehearsal.mutator import Mutant, mutants

SCRIPT = """\
set -euo pipefail
root=$(dirname "$0")
[ -e "$root/stack" ] || die 64 "no stack here"
flock -n 9 || { echo waiting && flock -w 600 9; } || die 75 "no end"
while read -r each; do
  docker inspect -f '{{.State.Status}}' "$each" 2>&1 | grep -qx running
done
if [[ $sequence -lt ${last:-0} ]]; then
  echo superseded && exit
fi
docker compose up -d --no-deps "$service"
echo "$new $sequence" >>"$record"
"""
EVERY = mutants(SCRIPT)
ARGUED, NOT_ARGUED = EVERY[-1:], EVERY[:-1]
# A line that says nothing of its own: empty, a comment, or where a block begins or ends.
SILENT = re.compile(r"\s*((#.*|\w+\(\) \{|\}|fi|else|done)(\s*#.*)?)?")


def changed(script: str) -> set[str]:
    return {mutant.text for mutant in mutants(script)}


def test_each_differs_from_the_script_and_from_the_others() -> None:
    assert SCRIPT not in {mutant.text for mutant in EVERY}
    assert len({mutant.text for mutant in EVERY}) == len({mutant.id for mutant in EVERY}) == len(EVERY)


def test_each_is_a_shell_script() -> None:
    broken = [str(mutant) for mutant in EVERY if not parses(mutant)]
    assert not broken, "\n".join(broken)


def parses(mutant: Mutant) -> bool:
    return subprocess.run(["bash", "-n"], input=mutant.text, text=True, capture_output=True).returncode == 0


def test_each_line_that_says_something_is_changed() -> None:
    said = {number for number, line in enumerate(SCRIPT.splitlines(), 1) if not SILENT.fullmatch(line)}
    assert said - {number for mutant in EVERY for number in mutant.lines} == set()


def test_a_guard_is_passed_and_shut() -> None:
    assert changed("[ -e x ] || die 64 y\n") == {
        ": || die 64 y\n",
        "false || die 64 y\n",
        "[ -e x ] || :\n",
        "[ -e x ] || die 0 y\n",
    }


def test_what_stands_before_a_condition_is_no_part_of_it() -> None:
    assert changed("a=b # a note\n[[ $a ]] && c\n") >= {
        ": # a note\n[[ $a ]] && c\n",
        "a='' # a note\n[[ $a ]] && c\n",
        "a=b # a note\nfalse && c\n",
        "a=b # a note\n[[ $a ]] && :\n",
    }
    assert "{ a; } || b\n" in changed("! { a; } || b\n")


def test_options_redirections_stages_and_programs() -> None:
    assert changed("curl -qs -m 5 x 2>&1 | grep -x y\n") >= {
        "curl -q -m 5 x 2>&1 | grep -x y\n",
        "curl -s -m 5 x 2>&1 | grep -x y\n",
        "curl -qs  x 2>&1 | grep -x y\n",
        "curl -qs -m 5 x  | grep -x y\n",
        "curl -qs -m 5 x 2>&1 | cat\n",
        ": | grep -x y\n",
    }
    assert "awk '!seen[$1]++ || ++n <= 3'\n" in changed("awk '!seen[$1]++ && ++n <= 3'\n")


@pytest.fixture(autouse=True)
def argued(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last change is one that somebody has argued for."""
    monkeypatch.setattr("tests.rehearsal.mutants.EXCEPTIONS", {each.id: "argued" for each in ARGUED})


def test_what_was_found_out_is_void_when_what_it_hangs_on_has_changed(tmp_path: Path) -> None:
    path, (first, second, *_) = tmp_path / "kept.jsonl", files()
    kept = Kept(SCRIPT, path)
    killer = Result(f"{first}::test_a", False, 1.5, frozenset({3, 1}))
    kept.tests(first, [dataclasses.replace(killer, green=True)])
    kept.red("killed", killer)
    kept.passes("survives", [killer, Result(f"{second}::test_b", True, 1.5, frozenset()), killer])

    again = Kept(SCRIPT, path)
    assert again.results() == [dataclasses.replace(killer, green=True)]
    assert again.reds() == {"killed": killer.test}
    assert again.passed() == {"survives": {killer.test, f"{second}::test_b"}}

    again.texts[second] += b"# another test"
    assert again.results() and again.reds() == {"killed": killer.test}
    assert again.passed() == {"survives": {killer.test}}, "a new test may kill what survived"
    again.texts[first] += b"# another test"
    assert not again.results() and not again.reds() and not again.passed()
    other = Kept(f"{SCRIPT}# changed", path)
    assert not other.results() and not other.reds() and not other.passed()


def test_verdicts_hang_on_all_that_their_tests_use() -> None:
    assert {path.name for path in shared()} >= {"server.py", "images.py", "main.go", "swap.py"}
    for name in LATER:
        assert (ENGINE / name).exists()
        word = re.compile(rf"\b{name.removesuffix('.py')}\b")
        assert not [path for path in (*shared(), *map(ROOT.joinpath, files())) if word.search(path.read_text())]


def test_verdicts_are_recorded_for_other_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.rehearsal.kept.KILLERS", tmp_path / "killers.json")
    kept = Kept(SCRIPT, tmp_path / "kept.jsonl")
    for mutant in EVERY[:2]:
        kept.red(mutant.id, Result(f"{files()[0]}::test_a", False, 1.5, frozenset()))

    record(kept)

    elsewhere = Kept(SCRIPT, tmp_path / "none", recorded())
    assert elsewhere.reds() == kept.reds() == {mutant.id: f"{files()[0]}::test_a" for mutant in EVERY[:2]}
    changed = Kept(f"{SCRIPT}# changed", tmp_path / "none", recorded())
    assert changed.reds() == {} and changed.hints == kept.reds()


class Bench(Court):
    """A court without an engine: what becomes of a mutant is told beforehand."""

    def __init__(self, kept: Kept, tells: Callable[[Mutant], Result | None]) -> None:
        self.script, self.kept, self.tells, self.tests = SCRIPT, kept, tells, []
        self.killers, self.passed = collections.defaultdict(list), collections.defaultdict(set)
        self.asked: list[int] = []  # with how many tests

    def killer(self, machine: Machine, mutant: Mutant, most: int) -> Result | None:
        self.asked.append(most)
        return self.tells(mutant)


def test_a_trial_that_cannot_tell_is_no_pass_and_stops_no_other(tmp_path: Path) -> None:
    killed, unclear, survivor = NOT_ARGUED[:3]
    killer, said = Result(f"{files()[0]}::test_a", False, 1.5, frozenset()), list[str]()

    def tells(mutant: Mutant) -> Result | None:
        if mutant == unclear:
            raise Broken("the machine has gone")
        return killer if mutant == killed else None

    bench = Bench(Kept(SCRIPT, tmp_path / "kept.jsonl"), tells)
    fates = judge(bench, NOT_ARGUED[:3], 1, said.append)

    assert fates == {killed.id: "red", unclear.id: "CANNOT TELL", survivor.id: "STAYS GREEN"}
    assert "CANNOT TELL: the machine has gone" in "".join(said)
    assert bench.kept.reds() == {killed.id: killer.test}, "what nobody could tell is tried again"
    assert not summed_up(NOT_ARGUED[:2], fates, set(), said.append)
    assert not summed_up([survivor], fates, set(), said.append)
    assert not summed_up([killed, NOT_ARGUED[3]], {killed.id: "red"}, set(), said.append), "one was not tried"
    assert not summed_up([killed], {killed.id: "red"}, {killed.id}, said.append), "an argument for what is red"
    assert summed_up([killed], {killed.id: "red"}, set(), said.append)


class Shaky(Machine):
    """A machine without an engine, where a mutant makes some tests red, some of them only after another test.

    It may break the machine too: then all is red there, until it is made anew.
    """

    def __init__(self, red: str, later: str = "", breaks: bool = False) -> None:
        super().__init__(SCRIPT)
        self.reds, self.later, self.breaks, self.sound, self.trials = red, later, breaks, True, 0

    def stop(self) -> None:
        self.sound = True

    def trial(self, script: str, tests: Sequence[Result]) -> list[Result]:
        self.trials += 1
        results = []
        for at, test in enumerate(tests):
            reds = "" if script == SCRIPT else self.reds + self.later * bool(at)
            green = self.sound and test.test[-1] not in reds and test.seconds > 0  # which is its patience
            results.append(dataclasses.replace(test, green=green, seconds=test.seconds * green))  # red is quick
            if not green:
                break
        self.sound = self.sound and not (self.breaks and script != SCRIPT)
        return results


def on_trial(tmp_path: Path) -> tuple[Bench, list[Result]]:
    tests = [Result(f"{files()[0]}::test_{name}", True, 1, frozenset(EVERY[0].lines)) for name in "abcd"]
    return Bench(Kept(SCRIPT, tmp_path / "kept.jsonl"), lambda _: None), tests


@pytest.mark.parametrize("breaks", [False, True])
def test_a_machine_that_a_mutant_has_broken_judges_no_other(tmp_path: Path, breaks: bool) -> None:
    (bench, tests), machine = on_trial(tmp_path), Shaky(red="b", breaks=breaks)

    for mutant in EVERY[:2]:
        assert bench.red(machine, mutant, tests) == tests[1]


def reds(tmp_path: Path, machine: Shaky) -> list[str]:
    """Which tests two changes of one line make red."""
    bench, tests = on_trial(tmp_path)
    bench.tests = tests
    bench.killer = functools.partial(Court.killer, bench)  # type: ignore[method-assign]
    return [each.test[-1] for each in bench.all_killers(machine, NOT_ARGUED[:2], most=1) if isinstance(each, Result)]


def test_the_reds_of_several_mutants_are_proven_at_once(tmp_path: Path) -> None:
    machine = Shaky(red="a")

    assert reds(tmp_path, machine) == ["a", "a"]
    assert machine.trials == 3


@pytest.mark.parametrize("red", ["", "a"])
def test_where_they_cannot_be_proven_at_once_each_is_by_itself(tmp_path: Path, red: str) -> None:
    """On a machine that one of them has broken, all is red."""
    machine = Shaky(red, breaks=True)
    machine.sound = False

    assert reds(tmp_path, machine) == [*red, *red]


def test_a_test_that_is_red_only_after_others_is_passed(tmp_path: Path) -> None:
    (bench, tests), machine, mutant = on_trial(tmp_path), Shaky(red="d", later="b"), EVERY[0]

    assert bench.red(machine, mutant, tests[:3]) is None
    assert bench.passed[mutant.id] == bench.kept.passed()[mutant.id] == {each.test for each in tests[:3]}
    tried = machine.trials
    assert bench.red(machine, mutant, tests[:3]) is None
    assert machine.trials == tried, "what it has passed is not tried again"
    assert bench.red(machine, mutant, tests) == tests[3]


def test_a_test_that_is_red_with_the_script_as_it_is_tells_nothing(tmp_path: Path) -> None:
    class Gone(Shaky):
        stops = 0

        def stop(self) -> None:
            self.stops += 1

    (bench, tests), machine = on_trial(tmp_path), Gone(red="")
    machine.sound = False

    with pytest.raises(Broken, match="::test_a is red with the script as it is"):
        bench.red(machine, EVERY[0], tests)
    assert machine.stops == 2, "it judges no other"
    assert not bench.passed[EVERY[0].id]


def test_what_made_it_red_before_or_the_other_changes_of_its_line_is_tried_first(tmp_path: Path) -> None:
    (bench, tests), mutant, other = on_trial(tmp_path), EVERY[0], EVERY[-1]
    bench.tests = tests
    a, b, c, d = tests

    assert bench.likely(mutant) == []
    for sibling, killer in ((other, a), (mutant, d), (mutant, c)):
        bench.remember(sibling, killer.test)
    assert bench.likely(mutant) == [c, d]

    bench.kept.red(mutant.id, b)
    bench.kept = Kept(f"{SCRIPT}# changed", bench.kept.path)
    assert bench.kept.reds() == {}
    assert bench.likely(mutant) == [b, c, d]


def test_of_each_line_one_change_comes_first(tmp_path: Path) -> None:
    bench, tests = on_trial(tmp_path)
    bench.tests = tests  # all of the first one's lines
    first, *rest, other = NOT_ARGUED
    second = next(it for it in rest if it.lines == first.lines)

    assert bench.in_order([first, second, other]) == [other, first, second]


def test_for_what_is_argued_a_few_tests_are_enough(tmp_path: Path) -> None:
    argued, survivor = ARGUED[0], NOT_ARGUED[0]
    bench = Bench(Kept(SCRIPT, tmp_path / "kept.jsonl"), lambda _: None)
    bench.tests = [
        Result(f"test_{each}", True, 1, frozenset([*argued.lines, *survivor.lines])) for each in range(FEW + 1)
    ]

    assert judge(bench, [argued], 1, print) == {argued.id: "argued"}
    assert bench.asked == [FEW]
    assert judge(bench, [survivor], 1, print) == {survivor.id: "STAYS GREEN"}
    assert bench.asked == [FEW, FEW, ALL]


def test_no_mutant_is_taken_up_when_time_is_over(tmp_path: Path) -> None:
    bench = Bench(Kept(SCRIPT, tmp_path / "kept.jsonl"), lambda _: None)

    assert judge(bench, EVERY[:3], 0, print) == {}
