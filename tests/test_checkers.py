"""Each outside checker finds the fault that is planted for it: silence elsewhere is its word, not its absence."""

from pathlib import Path

import pytest

from tests import checkers
from tests.checkers import Checker

GOOD = (checkers.HERE / "good.yml").read_text()
STACK = """\
name: shop
services:
  api:
    image: example.com/api:staging
    init: true
    env_file: .env
    environment:
      PASSWORD: ${PASSWORD:?}
"""
ACTION = """\
name: shop
description: says hello
runs:
  using: composite
  steps:
    - shell: bash
      env:
        NAME: ${{ inputs.name }}
      run: echo "$NAME"
inputs:
  name:
    description: whom
"""
SCRIPT = '#!/usr/bin/env bash\necho "$1"\n'

# The checker, the text that is taken out, what comes instead, and a word of what it must say.
WORKFLOW_FAULTS = [
    (checkers.zizmor, '"$TITLE"', '"${{ github.event.head_commit.message }}"', "template-injection"),
    (checkers.zizmor, "permissions: {}", "permissions: write-all # zizmor: ignore[excessive-permissions]", "excessive"),
    (checkers.zizmor, "jobs:", "jobs: [", "failed to load"),
    (checkers.workflow_schema, "runs-on: ubuntu-24.04", "runs_on: ubuntu-24.04", "runs-on"),
    (checkers.actionlint, "needs: build", "needs: biuld", "biuld"),
    (checkers.actionlint, "steps.build.outputs", "steps.bulid.outputs", "bulid"),
    (checkers.workflow_parser, "needs: build", "needs: [biuld]", "biuld"),
    (checkers.workflow_parser, "id: build", "ids: build", "ids"),
    (checkers.language_service, "secrets.VPS_HOST", "secret.VPS_HOST", "secret"),
    (checkers.language_service, "id: build", "id: build\n        foo: |\n          text", "foo"),
    (checkers.yamllint, "    name: build", "    name:  build", "too many spaces"),
    (checkers.prettier, "permissions: {}", "permissions: {contents: read}", "good.yml"),
    (checkers.yamllint, "permissions: {}", "permissions: {}\npermissions: {}", "duplication"),
    (checkers.shellcheck, 'api "$DIGEST"', "api $DIGEST", "good.yml:deploy.0:"),
    (checkers.shell_syntax, "trap 'rm", "trap ('rm", "good.yml:deploy.0:"),
]
STACK_FAULTS = [
    (checkers.compose_schema, "init: true", "innit: true", "innit"),
    (checkers.compose_config, "init: true", "depends_on: [db]", "db"),
    (checkers.compose_config, "${PASSWORD:?}", "${PASWORD:?}", "PASWORD"),
    (checkers.compose_config, "${PASSWORD:?}", "${PASWORD}", "PASWORD"),
    (checkers.yamllint, "init: true", "init: yes", "truthy"),
]
MANIFEST = """---
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  ports:
    - port: 80
"""
MANIFEST_FAULTS = [
    (checkers.kubernetes_schema, "ports:", "prots:", "prots"),
    (checkers.kubernetes_schema, "port: 80", "port: eighty", "eighty"),
]
ACTION_FAULTS = [
    (checkers.zizmor, 'echo "$NAME"', 'echo "${{ inputs.name }}"', "template-injection"),
    (checkers.action_schema, "    - shell: bash\n      env", "    - env", "steps"),
    (checkers.shellcheck, '"$NAME"', "$NAME", "action.yml:runs.0:"),
]
SCRIPT_FAULTS = [
    (checkers.shellcheck, '"$1"', "$1", "SC2086"),
    (checkers.shell_syntax, '"$1"', '"$1', "unexpected EOF"),
]
FAULTS = [
    *((*fault, GOOD, "good.yml") for fault in WORKFLOW_FAULTS),
    *((*fault, STACK, "docker-compose.yml") for fault in STACK_FAULTS),
    *((*fault, MANIFEST, "kubernetes.yaml") for fault in MANIFEST_FAULTS),
    *((*fault, ACTION, "action.yml") for fault in ACTION_FAULTS),
    *((*fault, SCRIPT, "script") for fault in SCRIPT_FAULTS),
]


def place(folder: Path, name: str, text: str) -> Path:
    """Write the file, and beside it the example of its env file."""
    (folder / ".env.example").write_text("PASSWORD=\n")
    (folder / name).write_text(text)
    return folder / name


# The tests of the checkers themselves change when a checker does: the ordinary tests have those of the quick ones.
@pytest.mark.parametrize(
    ("checker", "old", "new", "word", "text", "name"),
    [
        pytest.param(*fault, id=f"{fault[0].__name__}-{i}", marks=checkers.mark_unless_quick(fault[0]))
        for i, fault in enumerate(FAULTS)
    ],
)
def test_checker_finds_what_is_planted(
    tmp_path: Path, checker: Checker, old: str, new: str, word: str, text: str, name: str
) -> None:
    assert old in text
    complaints = checkers.findings(checker, [place(tmp_path, name, text.replace(old, new, 1))])
    assert any(word in line for line in complaints), complaints


@pytest.mark.parametrize(
    ("checker", "text", "name"),
    [
        pytest.param(checker, text, name, id=f"{checker.__name__}-{name}", marks=checkers.mark_unless_quick(checker))
        for checkers_of_file, text, name in (
            (checkers.WORKFLOWS, GOOD, "good.yml"),
            (checkers.STACKS, STACK, "docker-compose.yml"),
            (checkers.MANIFESTS, MANIFEST, "kubernetes.yaml"),
            (checkers.ACTIONS, ACTION, "action.yml"),
            (checkers.SCRIPTS, SCRIPT, "script"),
        )
        for checker in checkers_of_file
    ],
)
def test_checker_is_silent_on_good_files(tmp_path: Path, checker: Checker, text: str, name: str) -> None:
    assert checkers.findings(checker, [place(tmp_path, name, text)]) == []


def test_every_checker_has_a_fault() -> None:
    every = {*checkers.WORKFLOWS, *checkers.ACTIONS, *checkers.STACKS, *checkers.MANIFESTS, *checkers.SCRIPTS}
    assert every == {checker for checker, *_ in FAULTS}


def test_one_call_tells_of_every_file(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yml", tmp_path / "second.yml"
    for file in (first, second):
        file.write_text(GOOD.replace("- api/**", "-  api/**"))
    complaints = checkers.yamllint([first, second])
    assert [line.partition(":")[0] for line in complaints] == [str(first), str(second)]


def test_missing_checker_skips_here_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(files: object) -> list[str]:
        raise checkers.Missing("such-a-tool")

    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="such-a-tool"):
        checkers.findings(gone, [])
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="such-a-tool"):
        checkers.findings(gone, [])


def test_a_tool_that_fails_without_a_word_is_a_finding() -> None:
    assert checkers._run_checker(["false"], []) == ["false ended with 1 and said nothing"]
