"""Generated and golden files, and our own workflow, action and scripts, pass every outside checker and the policy."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import checkers, policy
from tests.checkers import ROOT, Checker

TREES = [ROOT / "generated", *sorted(ROOT.glob("tests/cases/ok/*/expected"))]
FILES = sorted(file for tree in TREES for file in tree.rglob("*") if file.is_file())

WORKFLOWS = [file for file in FILES if file.match(".github/workflows/*.yml")]
DEPENDABOT = [file for file in FILES if file.name == "dependabot.yml"]
STACKS = [file for file in FILES if file.name == "docker-compose.yml"]
MANIFESTS = [file for file in FILES if file.name in ("kubernetes.yaml", "database.yaml", "setup.yaml")]
SCRIPTS = [file for file in FILES if re.match(rb"#!.*\b(ba)?sh\n", file.read_bytes())]
OTHER_YAML = [file for file in FILES if file.suffix in (".yml", ".yaml") and file not in WORKFLOWS + STACKS + MANIFESTS]

OWN_WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
IN_PLACES = [*sorted((ROOT / ".ci").iterdir()), ROOT / "docs/demo"]
OWN_SCRIPTS = [file for file in IN_PLACES if file.read_bytes().startswith(b"#!")]
OWN_ACTIONS = [ROOT / "action.yml", ROOT / "kiwari_ci/github_facts/action.yml"]
OWN_YAML = [*sorted(ROOT.glob("specs/**/*.yaml")), ROOT / ".pre-commit-hooks.yaml"]

KINDS: list[tuple[list[Checker], list[Path]]] = [
    (checkers.WORKFLOWS, WORKFLOWS + OWN_WORKFLOWS),
    (checkers.ACTIONS, OWN_ACTIONS),
    (checkers.DEPENDABOT, DEPENDABOT),
    (checkers.STACKS, STACKS),
    (checkers.MANIFESTS, MANIFESTS),
    (checkers.SCRIPTS, SCRIPTS + OWN_SCRIPTS),
    ([checkers.yamllint], OTHER_YAML + OWN_YAML),
]


def choose_some(files: list[Path]) -> list[Path]:
    """All but the goldens; a few of those where there is nothing else."""
    return [file for file in files if not file.is_relative_to(ROOT / "tests/cases")] or files[:3]


def list_checks() -> Iterator[Any]:
    """Each checker with all its files, which it reads in one go; if it is not quick, the ordinary tests have some."""
    some_files: dict[Checker, list[Path]] = {}
    all_files: dict[Checker, list[Path]] = {}
    for checkers_of_kind, files in KINDS:
        for checker in checkers_of_kind:
            some_files.setdefault(checker, []).extend(choose_some(files))
            all_files.setdefault(checker, []).extend(files)
    for checker, files in all_files.items():
        marks = checkers.mark_unless_quick(checker)
        if marks and checker not in checkers.FOR_CI_ALONE:
            yield pytest.param(checker, some_files[checker], id=f"{checker.__name__}-some", marks=pytest.mark.sample)
        yield pytest.param(checker, files, id=checker.__name__, marks=marks)


@pytest.mark.parametrize(("checker", "files"), list(list_checks()))
def test_outside_checker_is_silent(checker: Checker, files: list[Path]) -> None:
    complaints = checkers.findings(checker, files)
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("workflow", WORKFLOWS + OWN_WORKFLOWS, ids=lambda file: str(file.relative_to(ROOT)))
def test_workflow_follows_the_policy(workflow: Path) -> None:
    assert policy.check(workflow) == []


def test_the_action_does_as_workflows_must() -> None:
    """What it uses is pinned, and no input becomes part of a script."""
    for action in OWN_ACTIONS:
        for step in yaml.load(action.read_text(), yaml.CSafeLoader)["runs"]["steps"]:
            assert re.search(r"@[0-9a-f]{40}$", step.get("uses", "@" + "0" * 40))
            assert "${{" not in step.get("run", "") and step.get("shell", "bash") == "bash"


def test_there_is_something_to_check() -> None:
    folders = {file.relative_to(ROOT).parts[0] for file in WORKFLOWS + STACKS + SCRIPTS}
    assert "generated" in folders
    for files in (WORKFLOWS, OWN_WORKFLOWS, DEPENDABOT, STACKS, MANIFESTS, SCRIPTS, OWN_SCRIPTS, OTHER_YAML):
        assert files


def test_every_tree_has_a_file_of_some_kind() -> None:
    """A case whose files are looked at by no checker would be a golden nobody reads."""
    looked_at = {*WORKFLOWS, *STACKS, *MANIFESTS, *SCRIPTS, *OTHER_YAML}
    assert [str(tree) for tree in TREES if not any(file.is_relative_to(tree) for file in looked_at)] == []
