"""Services that wait for one another share a workflow: what a push runs there, and what a failure holds back."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci import generator
from tests.repository import Repository
from tests.workflow import Workflow

CASES = Path(__file__).parent / "cases" / "ok"
ORDERED, BUILT_FROM = "depends-on-services", "build-base"
ZEROS = 40 * "0"  # GitHub's word for the commit before the first one of a branch


def read_workflow(case: str, name: str) -> Workflow:
    files = generator.generate_files(CASES / case / "spec.yaml")[1]
    return Workflow(files[f".github/workflows/{name}.yml"].text)


class Run:
    """A run of a workflow by GitHub's rules: which jobs run, when these services are touched and these jobs end so."""

    def __init__(self, workflow: Workflow, touched: set[str], branch: str, ends: dict[str, str] | None = None) -> None:
        self.jobs: dict[str, Any] = workflow.data["jobs"]
        self.branch = branch
        self.ends = ends or {}
        services = set(self.jobs["changes"]["outputs"]) - {"sequence_number"}
        self.outputs = {f"changes.outputs.{name}": str(name in touched).lower() for name in services}
        self.results: dict[str, str] = {}
        for job in self.jobs:
            self.results[job] = self.ends.get(job, "success") if self.starts(job) else "skipped"

    def needs(self, job: str) -> list[str]:
        needs = self.jobs[job].get("needs", [])
        return [needs] if isinstance(needs, str) else list(needs)

    def ancestors(self, job: str) -> set[str]:
        direct = self.needs(job)
        return {*direct, *(each for need in direct for each in self.ancestors(need))}

    def starts(self, job: str) -> bool:
        condition = self.jobs[job].get("if", "success()")
        if not re.search(r"\b(success|failure|cancelled|always)\(\)", condition):
            condition = f"success() && ({condition})"
        ended = {self.results[each] for each in self.ancestors(job)}
        needed = {self.results[each] for each in self.needs(job)}
        words = {
            "success()": str(ended <= {"success"}),
            "failure()": str("failure" in ended),
            "cancelled()": "False",
            "contains(needs.*.result, 'cancelled')": str("cancelled" in needed),
            "github.ref": f"'refs/heads/{self.branch}'",
            **{f"needs.{name}": repr(value) for name, value in self.outputs.items()},
        }
        for word in sorted(words, key=len, reverse=True):
            condition = condition.replace(word, words[word])
        condition = condition.replace("&&", " and ").replace("||", " or ").replace("!", " not ")
        return bool(eval(condition, {"__builtins__": {}}))  # noqa: S307 - of our own workflow

    def ran(self) -> list[str]:
        return [job for job, result in self.results.items() if result != "skipped" and job != "changes"]


ALL_OF_TESTING = ["test-api_unit", "test-api_types", "build-api", "build-schema", "deploy-testing"]


@pytest.mark.parametrize(
    ("touched", "branch", "expected"),
    [
        ({"web"}, "main", ["test-web", "build-web", "deploy-staging"]),
        (
            {"web", "api"},
            "main",
            ["test-web", "test-api_unit", "test-api_types", "build-web", "build-api", "deploy-staging"],
        ),
        ({"schema"}, "develop", ["build-schema", "deploy-testing"]),
        ({"web"}, "develop", []),
        ({"web", "api"}, "develop", ["test-api_unit", "test-api_types", "build-api", "deploy-testing"]),
        ({"web"}, "another", []),
        ({"stack_testing"}, "develop", ALL_OF_TESTING),
        ({"stack_testing"}, "main", []),
        (set(), "main", []),
    ],
)
def test_what_a_push_runs(touched: set[str], branch: str, expected: list[str]) -> None:
    assert Run(read_workflow(ORDERED, "schema-ci"), touched, branch).ran() == expected


@pytest.mark.parametrize("end", ["failure", "cancelled"])
@pytest.mark.parametrize("job", ["changes", "test-web", "test-api_unit", "build-web", "build-api", "build-schema"])
def test_one_deploy_waits_for_all_that_a_push_touches(job: str, end: str) -> None:
    """A job that ran too long ends as `cancelled`."""
    run = Run(read_workflow(ORDERED, "schema-ci"), {"web", "api", "schema"}, "main", {job: end})
    assert "deploy-staging" not in run.ran()


def test_an_environment_waits_for_no_service_that_it_does_not_have() -> None:
    run = Run(read_workflow(ORDERED, "schema-ci"), {"web", "api"}, "develop", {"test-web": "failure"})
    assert "deploy-testing" in run.ran()


@pytest.mark.parametrize(
    ("touched", "expected"),
    [
        ({"web"}, ["build-php-base", "build-tools", "build-web", "deploy-production"]),
        ({"api"}, ["build-php-base", "build-api", "deploy-production"]),
        ({"php-base"}, ["build-php-base"]),
    ],
)
def test_an_image_comes_after_those_that_it_is_built_from(touched: set[str], expected: list[str]) -> None:
    workflow = read_workflow(BUILT_FROM, "php-base-ci")
    assert Run(workflow, touched, "main").ran() == expected
    stopped = Run(workflow, touched, "main", {"build-php-base": "failure"}).ran()
    assert set(stopped) <= {"build-php-base", "build-tools"}
    assert not [step for _, _, step in workflow.steps if "until docker" in step.get("run", "")], "none waits in a job"


def test_an_image_that_is_built_again_is_built_after_its_tests() -> None:
    """Its source may have failed them in an earlier push."""
    workflow = read_workflow("build-base-elsewhere", "php-ci")
    assert Run(workflow, {"web"}, "main").ran() == ["test-php", "build-php", "build-web", "deploy-demo"]
    assert Run(workflow, {"web"}, "main", {"test-php": "failure"}).ran() == ["test-php"]


def test_a_release_builds_what_it_needs_in_one_run() -> None:
    jobs = read_workflow("build-base-elsewhere", "release").data["jobs"]
    assert "build-php" in jobs["build-web"]["needs"] and jobs["build-php"]["needs"] == "test-php"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"web/main.c": "2"}, "web"),
        ({"api/main.c": "2", "web/main.c": "2"}, "api web"),
        ({"base/main.c": "2"}, "php-base api web"),
        ({"base/docs/a.md": "2"}, "api web"),  # what the base leaves out may be their own
        ({".github/workflows/php-base-ci.yml": "2"}, "php-base tools api web"),
    ],
)
def test_the_services_that_a_push_touches(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    """Of all its commits; what git cannot compare counts as touched."""
    workflow = read_workflow(BUILT_FROM, "php-base-ci")
    repository = Repository(tmp_path)
    repository.commit("first", **{"base__main.c": "1", "web__main.c": "1", "api__main.c": "1"})
    before = repository.git("rev-parse", "HEAD").strip()
    repository.commit("second", **{name.replace("/", "__"): text for name, text in files.items()})
    repository.commit("third", README="of no service")
    assert find_touched(workflow, tmp_path, before) == set(expected.split())
    for unknown in ("", ZEROS, 40 * "1"):
        assert find_touched(workflow, tmp_path, unknown) == {"php-base", "tools", "api", "web"}


def find_touched(workflow: Workflow, folder: Path, before: str) -> set[str]:
    [script] = [step["run"] for _, _, step in workflow.steps if step.get("id") == "compare"]
    output = folder.parent / "output"
    output.write_text("")
    subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "BASE": before, "GITHUB_OUTPUT": str(output)},
        check=True,
        capture_output=True,
    )
    pairs = [line.partition("=") for line in output.read_text().splitlines()]
    return {name for name, _, value in pairs if value == "true"}


@pytest.mark.parametrize(
    ("result", "reused", "digest", "expected"),
    [
        ("skipped", "", "", "unchanged"),
        ("success", "true", "sha256:1", "unchanged"),
        ("success", "false", "sha256:1", "sha256:1"),
        ("success", "", "", ""),
    ],
)
def test_a_service_without_a_new_image_is_unchanged(result: str, reused: str, digest: str, expected: str) -> None:
    """An output that GitHub drops stays empty, and the program refuses that: nothing is left out by accident."""
    workflow = read_workflow("source-keys", "base-ci")
    [step] = [step for where, _, step in workflow.steps if step.get("id") == "deploy" and where[1] == "deploy-staging"]
    expression = step["env"]["DIGEST_BASE"].removeprefix("${{ ").removesuffix(" }}")
    values = {"result": result, "outputs.reused": reused, "outputs.digest": digest}
    for name, value in values.items():
        expression = expression.replace(f"needs.build-base.{name}", repr(value))
    assert eval(expression.replace("&&", "and").replace("||", "or"), {"__builtins__": {}}) == expected  # noqa: S307
