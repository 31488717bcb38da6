"""The changes that the host script is tried with (tests/rehearsal/mutants.py) are what they claim to be."""

import re
import subprocess

from tests.engine.server import generated
from tests.rehearsal.arguments import EXCEPTIONS, QUICK
from tests.rehearsal.mutator import Mutant, mutants

SCRIPT = generated("deploy/bin/deploy").read_text()
EVERY = mutants(SCRIPT)
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


def test_what_is_argued_or_sampled_is_there() -> None:
    assert QUICK and EXCEPTIONS.keys() | QUICK.keys() <= {mutant.id for mutant in EVERY}
