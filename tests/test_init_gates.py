"""`kiwari-ci init`, and jobs for which a build waits today: who does what it says keeps them as a gate."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kiwari_ci.commands.init import build_init_result, format_init_result
from kiwari_ci.commands.init.draft_text import InitResult
from kiwari_ci.spec_loading.yaml_source import parse_yaml
from tests.cli_runner import kiwari_ci

CI = """\
name: CI
on: {push: {branches: [main]}, pull_request: {}}
env: {LEVEL: info}
jobs:
  changes:
    runs-on: ubuntu-latest
    outputs: {web: "${{ steps.a.outputs.web }}"}
    steps: [{id: a, run: "echo web=true >> $GITHUB_OUTPUT"}]
  lint:
    needs: changes
    runs-on: ubuntu-latest
    steps: [{uses: actions/checkout@v4}, {run: make lint}]
  unit:
    runs-on: ubuntu-latest
    permissions: {contents: read}
    steps: [{uses: actions/checkout@v4}, {run: npm test}, {uses: example/report@v1}]
  build:
    needs: [lint, unit]
    if: github.event_name == 'push'
    runs-on: ubuntu-latest
    steps:
      - {uses: docker/build-push-action@v6, with: {context: ., push: true, tags: "ghcr.io/example/shop:latest"}}
  deploy:
    needs: build
    if: github.event_name == 'push'
    runs-on: ubuntu-latest
    environment: production
    steps: [{run: "ssh deploy@192.0.2.1 'cd /srv/shop && docker compose up -d'"}]
"""


def init(folder: Path, workflow: str, **files: str) -> InitResult:
    """The draft for a repository whose workflow tests, builds and deploys."""
    texts = {"Dockerfile": "FROM scratch\nCOPY . .\nEXPOSE 80\n", ".github/workflows/ci.yml": workflow, **files}
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return build_init_result(folder, "example/shop")


def list_calls(workflow: dict[str, Any]) -> list[str]:
    """The jobs of a workflow that call the tests."""
    return [name for name, job in workflow["jobs"].items() if job.get("uses") == "./.github/workflows/tests.yml"]


def test_who_moves_the_jobs_has_them_before_the_build_and_on_pull_requests(tmp_path: Path) -> None:
    result = init(tmp_path, CI)
    output = " ".join(format_init_result(result, tmp_path).split())
    assert "builds wait for changes, lint, unit today; to keep that, move these jobs from ci.yml" in output
    line = re.search(r"# (test: \{workflow: tests\.yml\})", result.text)
    assert line

    today = yaml.safe_load(CI)
    moved = {name: job for name, job in today["jobs"].items() if name in ("changes", "lint", "unit")}
    tests = {"on": {"workflow_call": None}, "env": today["env"], "jobs": moved}
    (tmp_path / ".github/workflows/tests.yml").write_text(yaml.safe_dump(tests))
    (tmp_path / ".github/workflows/ci.yml").unlink()
    drafted_test = re.search(r"    test:\n(?:      .*\n)+", result.text)
    assert drafted_test
    (tmp_path / "specs").mkdir()
    spec = result.text.replace(drafted_test[0], f"    {line[1]}\n")
    spec = f"generator: 'kiwari-ci==0.1.0 --hash=sha256:{'0' * 64}'\n{spec}"
    (tmp_path / result.path).write_text(spec)

    generated = kiwari_ci("generate", tmp_path / result.path, "--out", tmp_path)
    assert generated.code == 0, generated.err
    build = yaml.safe_load((tmp_path / ".github/workflows/app-ci.yml").read_text())
    (call,) = list_calls(build)
    builders = [name for name, job in build["jobs"].items() if "docker/build-push-action" in str(job)]
    assert builders and all(call in build["jobs"][name]["needs"] for name in builders)
    pull_request = yaml.safe_load((tmp_path / ".github/workflows/pull-requests.yml").read_text())
    (call,) = list_calls(pull_request)
    assert call in pull_request["jobs"]["all-passed"]["needs"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("{run: make lint}", "{run: make lint, env: {KEY: '${{ secrets.KEY }}'}}"), "the secrets KEY (lint)"),
        (("permissions: {contents: read}", "permissions: {checks: write}"), "the `permissions` of unit"),
        (("permissions: {contents: read}", "concurrency: unit"), "the `concurrency` of unit"),
        (("name: CI", "defaults: {run: {shell: bash}}"), "the `env` of today and the `defaults` of today"),
        (("name: CI", "name: CI"), "require the check `all-passed`"),
        (("name: CI", "name: CI"), "then remove ci.yml, of which nothing is left"),
    ],
)
def test_all_that_the_move_needs_is_told(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    result = init(tmp_path, CI.replace(*change))
    assert told in " ".join(format_init_result(result, tmp_path).split())


def test_the_name_of_the_new_workflow_is_free(tmp_path: Path) -> None:
    result = init(tmp_path, CI, **{".github/workflows/tests.yml": "on: schedule\njobs: {a: {steps: [{run: x}]}}\n"})
    assert "# test: {workflow: checks.yml}" in result.text


def test_a_build_without_a_drafted_test_is_asked(tmp_path: Path) -> None:
    result = init(tmp_path, CI.replace("npm test", "make check"))
    (question,) = [question for _, question in result.decisions if "is built without a test" in question]
    assert "its build waits for changes, lint, unit of .github/workflows/ci.yml today" in question


def test_a_test_that_is_drafted_whole_needs_no_move(tmp_path: Path) -> None:
    workflow = CI.replace("needs: [lint, unit]", "needs: unit").replace(", {uses: example/report@v1}", "")
    result = init(tmp_path, workflow)
    assert "move these jobs" not in format_init_result(result, tmp_path)
    spec = parse_yaml(result.path, result.text).data
    assert spec["services"]["app"]["test"]["run"] == "npm test"


def test_a_job_between_the_build_and_the_deploy_is_told(tmp_path: Path) -> None:
    scan = "  scan:\n    needs: build\n    runs-on: ubuntu-latest\n    steps: [{run: trivy image x}]\n"
    workflow = CI.replace("    needs: build\n", "    needs: scan\n").replace("  deploy:\n", f"{scan}  deploy:\n")
    output = " ".join(format_init_result(init(tmp_path, workflow), tmp_path).split())
    assert "deploy, which is replaced, waits for it today. A check of the image before the deploy can be" in output
    assert "move these jobs from ci.yml" in output and "scan from ci.yml" not in output
