"""Leaving: everything still is what it was, nothing needs the generator, and nothing that a person wrote is lost."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from kiwari_ci import generator
from kiwari_ci.file_output.generated_files import PROGRAM_MARKERS, format_example_marker, format_marker
from kiwari_ci.rendering.render import DRIFT_WORKFLOW_PATH
from tests import checkers, policy
from tests.checkers import Checker
from tests.cli_runner import kiwari_ci

ROOT = Path(__file__).parents[1]
SPEC = "specs/kiwari.yaml"
PLAN, TREE = generator.generate_files(ROOT / SPEC)
INIT = "deploy/postgres/init/init-databases.sh"
MARKERS = "|".join(re.escape(format_line("kiwari")) for format_line in (format_marker, format_example_marker))
MARKER = re.compile(rf"^.*({MARKERS}).*\n", re.MULTILINE)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout that was generated into; the spec is its own."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "generated", tmp_path, dirs_exist_ok=True)
    return tmp_path


def files(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): path.read_text(errors="replace")
        for path in root.rglob("*")
        if path.is_file()
    }


def test_only_the_marker_goes(root: Path) -> None:
    result = kiwari_ci("eject")
    assert (result.code, result.err) == (0, "")
    expected = {path: MARKER.sub("", file.text) for path, file in TREE.items() if path != DRIFT_WORKFLOW_PATH}
    remaining = files(root)
    assert remaining.keys() == expected.keys()
    assert [path for path in remaining if remaining[path] != expected[path]] == ["deploy/RUNBOOK.md"]
    assert (root / "deploy/bin/deploy").stat().st_mode & 0o777 == 0o755
    assert "  removed  .github/workflows/pipeline-drift.yml" in result.out.splitlines()
    assert "Settings, Branches: no longer require the check `drift`" in result.out


def test_nothing_names_the_generator_any_more(root: Path) -> None:
    result = kiwari_ci("eject")
    assert f"git rm {SPEC}" in result.out, "the spec is a person's file"
    (root / SPEC).unlink()
    for path, text in files(root).items():
        if path in PROGRAM_MARKERS:
            continue  # their heads say where they come from, and name no project
        assert not re.search(r"kiwari[-_]ci|\bspec\b|generated", text, re.IGNORECASE), path


def test_the_printed_command_is_the_runbooks(root: Path) -> None:
    """What brings the files to the server is what the runbook has for a changed file, in one go."""
    [command] = re.findall(r"VPS=USER@ADDRESS; (git archive .*)", kiwari_ci("eject").out)
    runbook = (root / "deploy/RUNBOOK.md").read_text()
    for source in PLAN.hosts[0].sources:
        unpacking = "'umask 022; tar -x --strip-components=1 -C docker'"
        assert f'git archive HEAD {source} | ssh "$VPS" {unpacking}\n' in runbook
    archive = f"git archive HEAD {' '.join(PLAN.hosts[0].sources)} | "
    assert command == archive + "ssh \"$VPS\" 'umask 022; tar -x --strip-components=1 -C docker'"


@pytest.mark.parametrize(
    ("checker", "pattern"),
    [
        pytest.param(checker, pattern, id=f"{checker.__name__}-{pattern}", marks=checkers.mark_unless_quick(checker))
        for pattern, checkers_of_pattern in (
            (".github/workflows/*.yml", checkers.WORKFLOWS),
            ("deploy/*/docker-compose.yml", [checkers.compose_schema]),
            ("deploy/*/init/*.sh", checkers.SCRIPTS),
        )
        for checker in checkers_of_pattern
    ],
)
def test_outside_checkers_stay_silent(root: Path, checker: Checker, pattern: str) -> None:
    assert kiwari_ci("eject").code == 0
    files_of_checker = sorted(root.glob(pattern))
    assert files_of_checker and checkers.findings(checker, files_of_checker) == []


def test_the_policy_holds(root: Path) -> None:
    assert kiwari_ci("eject").code == 0
    workflows = sorted(root.glob(".github/workflows/*.yml"))
    assert len(workflows) == 3 and [policy.check(workflow) for workflow in workflows] == [[], [], []]


def test_check_and_generate_know_an_ejected_tree(root: Path) -> None:
    kiwari_ci("eject")
    before = files(root)
    result = kiwari_ci("check", "--out", ".")
    assert result.code == 1
    assert "\n  not written by kiwari-ci (no marker): deploy/RUNBOOK.md\n" in result.out
    cure = "kiwari-ci generate --out . --force # it also overwrites files that kiwari-ci did not write"
    assert result.out.endswith(f"cure: {cure}\n")
    assert kiwari_ci("generate", "--out", ".").code == 73
    assert files(root) == before
    assert "it is ejected already" in (again := kiwari_ci("eject", "--out", ".")).err and again.code == 73


def test_a_copy_of_the_spec_goes_and_the_spec_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("specs", "generated"):
        shutil.copytree(ROOT / name, tmp_path / name)
    result = kiwari_ci("eject")
    assert "  removed  specs/kiwari.yaml" in result.out and "git rm" not in result.out
    assert Path(SPEC).exists() and not Path("generated/specs").exists()


def test_a_changed_copy_of_the_spec_stays(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "generated", tmp_path / "out")
    with (tmp_path / "out" / SPEC).open("a") as copy:
        copy.write("# a note\n")
    result = kiwari_ci("eject", ROOT / SPEC, "--out", tmp_path / "out", "--format", "json")
    assert json.loads(result.out)["spec"] == SPEC
    assert (tmp_path / "out" / SPEC).exists()


def test_hand_edits_stay(root: Path) -> None:
    """Also with the line ends of another system, and in a file whose mode is another."""
    script, compose, old = Path(INIT), Path("deploy/postgres/docker-compose.yml"), Path("deploy/old.yml")
    program = Path("deploy/bin/deploy")
    program.write_text(changed := program.read_text() + "# mine\n")
    script.write_text(edited := script.read_text() + "# mine\n")
    script.chmod(0o644)
    compose.write_bytes(windows := compose.read_bytes().replace(b"\n", b"\r\n"))
    old.write_text("mine\n")
    result = kiwari_ci("eject")
    assert f"  freed    {INIT} (edited by hand: kept so)" in result.out.splitlines()
    assert program.read_text() == changed
    assert script.read_text() == MARKER.sub("", edited) and script.stat().st_mode & 0o777 == 0o644
    assert compose.read_bytes() == windows.partition(b"\n")[2]
    assert old.read_text() == "mine\n"


def test_what_is_not_ours_stays(root: Path) -> None:
    Path("deploy/bin/deploy").write_text("#!/bin/sh\n")
    Path("deploy/other.yml").write_text(f"# {format_marker('other')}\n")
    assert kiwari_ci("eject").code == 0
    assert Path("deploy/bin/deploy").read_text() == "#!/bin/sh\n"
    assert Path("deploy/other.yml").exists()


HARM = {
    "missing": ("rm deploy/RUNBOOK.md", "deploy/RUNBOOK.md: not there; kiwari-ci generate writes it"),
    "binary": (r"printf '\377' >>deploy/RUNBOOK.md", "deploy/RUNBOOK.md: not UTF-8 text: byte "),
    "link": ("rm -r deploy && ln -s / deploy", "deploy is a link, and nothing is written through a link"),
    "nothing": ("rm -r deploy .github", ".: no generated file of kiwari is here, or it is ejected already"),
}


@pytest.mark.parametrize(("harm", "words"), HARM.values(), ids=HARM)
def test_refused_and_nothing_changed(root: Path, harm: str, words: str) -> None:
    subprocess.run(["bash", "-c", harm], cwd=root, check=True)
    before = files(root)
    result = kiwari_ci("eject", "--out", ".")
    assert (result.code, result.out) == (73, "")
    assert words in result.err and "Traceback" not in result.err
    assert files(root) == before


def test_a_stopped_run_is_finished_by_the_next(root: Path) -> None:
    """Some files are free already, some not."""
    for name in ("api-ci.yml", "promote.yml"):
        path = Path(".github/workflows", name)
        path.write_text(MARKER.sub("", path.read_text()))
    assert kiwari_ci("eject").code == 0
    assert not any(MARKER.search(text) for text in files(root).values()) and not Path(DRIFT_WORKFLOW_PATH).exists()
