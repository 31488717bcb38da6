"""tests/cases: small specs and what comes of them, word for word.

ok/NAME/spec.yaml -> ok/NAME/expected/: its first line says which behaviour, its second which files show it.
init/NAME/repository/ -> init/NAME/expected/: the spec that init writes there, and what it says.
err/NAME.yaml -> err/NAME.out: what `validate` prints of a spec with faults; advice/: of one that is sound.
commands/NAME.sh -> commands/NAME.out: lines of a shell with what they print, beside a small spec.
lint/: what `lint` prints of a small repository (test_lint.py).
"""

import ast
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci import generator
from kiwari_ci.output.generated_files import GeneratedFiles
from kiwari_ci.problems import SpecError
from tests.cli_runner import kiwari_ci

CASES = Path(__file__).parent / "cases"
PACKAGE = Path(generator.__file__).parent
OK = sorted(CASES.glob("ok/*/spec.yaml"))
ERR = sorted(CASES.glob("err/*.yaml"))
COMMANDS = sorted(CASES.glob("commands/*.sh"))
ADVICE = sorted(CASES.glob("advice/*.yaml"))
INIT = sorted(CASES.glob("init/*/repository"))

REPORTERS = {
    "at",
    "fault",
    "of",
    "_raise_problem",
    "_refuse",
    "report_at_key",
    "report_at_value",
    "report_at_span",
    "place",
    "Problem",
}
RULE = re.compile(r"[a-z]+(-[a-z]+)+|[a-z]{3,}")
DRIFT = {"drift"}  # said of generated files
OF_GIT = {"no-files", "submodule", "large-files"}  # said of what only a real checkout has: test_lint.py
OF_INSTALLATION = {"generator"}  # said of how the tool was installed: test_installed_tool.py


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
    said = kiwari_ci("validate", spec.name, "--format", "text")
    assert (said.code, said.out) == (2, "")
    snapshot.snapshot_dir = spec.parent
    snapshot.assert_match(said.err, f"{spec.stem}.out")


@pytest.mark.parametrize("spec", ADVICE, ids=lambda spec: spec.stem)
def test_advice(spec: Path, snapshot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(spec.parent)
    said = kiwari_ci("validate", spec.name, "--format", "text")
    assert (said.code, said.err) == (0, "")
    snapshot.snapshot_dir = spec.parent
    snapshot.assert_match(said.out, f"{spec.stem}.out")


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
    said = kiwari_ci(*(word.replace("$OUT", "") for word in shlex.split(command)[1:]))
    if not last:
        return ""
    return tail(said.out + said.err, int(rest[0].removeprefix("tail -n ")) if rest else None)


def tail(text: str, count: int | None) -> str:
    return "".join(text.splitlines(keepends=True)[-count if count else None :])


@pytest.mark.parametrize("repository", INIT, ids=lambda repository: repository.parent.name)
def test_init(repository: Path, snapshot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout(repository, tmp_path, repository.parent.name))
    said = kiwari_ci("init")
    specs = {path.as_posix(): path.read_text() for path in Path().glob("specs/*")}
    assert (said.code, bool(specs)) in ((0, True), (2, False))
    for path in specs:
        assert kiwari_ci("validate", path, "--format", "text").code == 0
        assert kiwari_ci("lint", path, "--checkout", ".", "--format", "text").code == 0
        assert "nothing was changed" in kiwari_ci("init").out
    snapshot.snapshot_dir = repository.parent
    snapshot.assert_match_dir(nested({"said.txt": said.out + said.err, **specs}), "expected")


def test_no_expectation_without_a_spec() -> None:
    assert {out.stem for out in CASES.glob("err/*.out")} <= {spec.stem for spec in ERR}
    assert {out.parent.name for out in CASES.glob("ok/*/expected")} == {spec.parent.name for spec in OK}


def test_every_rule_has_a_case() -> None:
    """Each name in brackets that the code can print stands in an .out file, and the other way round."""
    shown = {rule for out in CASES.glob("*/*.out") for rule in re.findall(r" \[([a-z-]+)\]$", out.read_text(), re.M)}
    folders = ("loading", "rules", "engines/compose/rules", "proxies", "github", "commands/lint", "commands")
    files = [*PACKAGE.glob("*.py"), *(file for folder in folders for file in PACKAGE.glob(f"{folder}/*.py"))]
    known = {rule for file in files for rule in rules_in(ast.parse(file.read_text()), file.stem == "advice")}
    assert shown == known - DRIFT - OF_GIT - OF_INSTALLATION


@pytest.mark.parametrize("spec", [*ERR, *ADVICE], ids=lambda spec: spec.stem)
def test_every_problem_has_a_cure(spec: Path) -> None:
    try:
        found = generator.load_spec(spec).advice
    except SpecError as faults:
        found = faults.problems
    assert found and all(problem.hint for problem in found)


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
    _, tree = generator.generate_files(spec)
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


def rules_in(tree: ast.Module, is_advice: bool) -> Iterator[str]:
    """The argument of each call that reports, what `rule = ...` chooses from, and the second word of advice."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node.func) in REPORTERS:
            yield from words(node.args[:3])[:1]
        elif isinstance(node, ast.Assign) and any(name_of(part) == "rule" for part in ast.walk(node.targets[0])):
            choice = node.value
            for part in [choice.body, choice.orelse] if isinstance(choice, ast.IfExp) else [choice]:
                yield from words(part.elts[:1] if isinstance(part, ast.Tuple) else [part])
        elif is_advice and isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
            yield from words(node.value.elts[1:2])


def name_of(node: ast.AST) -> str:
    return getattr(node, "id", getattr(node, "attr", ""))


def words(nodes: list[ast.expr]) -> list[str]:
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text for text in texts if RULE.fullmatch(text)]
