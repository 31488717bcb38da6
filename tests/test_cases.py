"""tests/cases: small specs and what comes of them, word for word.

ok/NAME/spec.yaml -> ok/NAME/expected/: its first line says which behaviour, its second which files show it.
init/NAME/repository/ -> init/NAME/expected/: the spec that init writes there, and what it says.
err/NAME.yaml -> err/NAME.out: what `validate` prints of a spec with faults; advice/: of one that is sound.
commands/NAME.sh -> commands/NAME.out: lines of a shell with what they print, beside a small spec.
lint/: what `lint` prints of a small repository (test_lint.py).
"""

import re
import shlex
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, get_args

import pytest

from kiwari_ci import generator
from kiwari_ci.commands.init.errors import InitRule
from kiwari_ci.file_output.generated_files import GeneratedFiles
from kiwari_ci.problems import RuleName, SpecError
from tests import sound_specs
from tests.cli_runner import kiwari_ci

CASES = Path(__file__).parent / "cases"
OK = sound_specs.CASES
ERR = sorted(CASES.glob("err/*.yaml"))
COMMANDS = sorted(CASES.glob("commands/*.sh"))
ADVICE = sorted(CASES.glob("advice*/*.yaml"))
INIT = sorted(CASES.glob("init/*/repository"))

# Rules without a case here, because no small spec alone breaks them.
RULES_TESTED_ELSEWHERE = {
    "no-files",  # test_lint.py, with the two below: they need a checkout made by git
    "submodule",
    "large-files",
    "generator",  # test_installed_tool.py: it depends on how the tool was installed
    "not-editable",  # test_set.py
    "no-such-path",  # test_set.py
    *get_args(InitRule),  # test_init.py
}


@pytest.mark.parametrize("spec", OK, ids=lambda spec: spec.parent.name)
def test_ok(spec: Path, snapshot: Any) -> None:
    snapshot.snapshot_dir = spec.parent
    tree = shown(spec)
    assert tree, "no file is compared"
    assert all(any(fnmatch(path, pattern) for path in tree) for pattern in patterns(spec)), "a pattern without a file"
    snapshot.assert_match_dir(nested({path: file.text for path, file in tree.items()}), "expected")


@pytest.mark.parametrize("spec", ERR, ids=lambda spec: spec.stem)
def test_err(spec: Path, snapshot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(spec.parent)
    result = kiwari_ci("validate", spec.name, "--format", "text")
    assert (result.code, result.out) == (2, "")
    snapshot.snapshot_dir = spec.parent
    snapshot.assert_match(result.err, f"{spec.stem}.out")


@pytest.mark.parametrize("spec", ADVICE, ids=lambda spec: spec.stem)
def test_advice(spec: Path, snapshot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(spec.parent)
    result = kiwari_ci("validate", spec.name, "--format", "text")
    assert (result.code, result.err) == (0, "")
    snapshot.snapshot_dir = spec.parent
    snapshot.assert_match(result.out, f"{spec.stem}.out")


@pytest.mark.parametrize("case", COMMANDS, ids=lambda case: case.stem)
def test_commands(case: Path, snapshot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    (tmp_path / "specs").mkdir()
    shutil.copy(CASES / "ok/minimal/spec.yaml", "specs/shop.yaml")
    lines = case.read_text().splitlines()
    snapshot.snapshot_dir = case.parent
    snapshot.assert_match(
        "".join(f"$ {line}\n{printed(line, last=line is lines[-1])}" for line in lines), f"{case.stem}.out"
    )


def printed(line: str, last: bool) -> str:
    """What a line of a shell prints; of our own command only the last does, without a second Python."""
    command, *rest = line.split(" | ")
    if not command.startswith("kiwari-ci "):
        return subprocess.run(["bash", "-c", line], check=True, capture_output=True, text=True).stdout
    result = kiwari_ci(*(word.replace("$OUT", "") for word in shlex.split(command)[1:]))
    if not last:
        return ""
    return tail(result.out + result.err, int(rest[0].removeprefix("tail -n ")) if rest else None)


def tail(text: str, count: int | None) -> str:
    return "".join(text.splitlines(keepends=True)[-count if count else None :])


@pytest.mark.parametrize("repository", INIT, ids=lambda repository: repository.parent.name)
def test_init(repository: Path, snapshot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout(repository, tmp_path, repository.parent.name))
    result = kiwari_ci("init")
    specs = {path.as_posix(): path.read_text() for path in Path().glob("specs/*")}
    assert (result.code, bool(specs)) in ((0, True), (2, False))
    for path in specs:
        assert kiwari_ci("validate", path, "--format", "text").code == 0
        assert kiwari_ci("lint", path, "--checkout", ".", "--format", "text").code == 0
        assert "nothing was changed" in kiwari_ci("init").out
    snapshot.snapshot_dir = repository.parent
    snapshot.assert_match_dir(nested({"said.txt": result.out + result.err, **specs}), "expected")


def test_no_expectation_without_a_spec() -> None:
    assert {out.stem for out in CASES.glob("err/*.out")} <= {spec.stem for spec in ERR}
    assert {out.parent.name for out in CASES.glob("ok/*/expected")} == {spec.parent.name for spec in OK}


def test_every_rule_has_a_case() -> None:
    printed_rules: set[str] = set()
    for output in CASES.glob("*/*.out"):
        printed_rules.update(re.findall(r" \[([a-z-]+)\]$", output.read_text(), re.MULTILINE))
    assert printed_rules == set(get_args(RuleName)) - RULES_TESTED_ELSEWHERE


@pytest.mark.parametrize("spec", [*ERR, *ADVICE], ids=lambda spec: spec.stem)
def test_every_problem_has_a_cure(spec: Path) -> None:
    try:
        problems = generator.load_spec(spec).advice
    except SpecError as faults:
        problems = faults.problems
    assert problems and all(problem.hint for problem in problems)


def checkout(repository: Path, folder: Path, name: str) -> Path:
    """A copy of a case's repository as a checkout, with a remote on GitHub."""
    shutil.copytree(repository, folder, dirs_exist_ok=True)
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main"], cwd=folder, check=True)
    remote = ["git", "remote", "add", "origin", f"git@github.com:Example/{name}.git"]
    subprocess.run(remote, cwd=folder, check=True)
    subprocess.run(["git", "add", "--all"], cwd=folder, check=True)
    return folder


def patterns(spec: Path) -> list[str]:
    """Which files a case shows: the words of its second line."""
    title, files = spec.read_text().splitlines()[:2]
    assert title.startswith("# ") and files.startswith("# files: ")
    return files.removeprefix("# files: ").split()


def shown(spec: Path) -> GeneratedFiles:
    """The files of a case that are compared."""
    _, tree = sound_specs.generate(spec)
    return {path: file for path, file in tree.items() if any(fnmatch(path, pattern) for pattern in patterns(spec))}


def nested(files: dict[str, str]) -> dict[str, Any]:
    """Folders as dicts: pytest-snapshot refuses `/` in a name."""
    root: dict[str, Any] = {}
    for path, text in files.items():
        *folders, name = path.split("/")
        folder = root
        for part in folders:
            folder = folder.setdefault(part, {})
        folder[name] = text
    return root
