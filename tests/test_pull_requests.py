"""The workflow of pull requests: what it decides for a change, in real repositories, and what its last job reports."""

import os
import re
import subprocess
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci import generator
from kiwari_ci.commands.affected import analysis
from kiwari_ci.commands.check.spec_location import find_spec_key
from kiwari_ci.github_facts import path_filters
from kiwari_ci.plan_model import Plan
from kiwari_ci.planning.pull_requests import WORKFLOW_PATH
from kiwari_ci.readers.git_history import ChangedFiles
from kiwari_ci.remote_checks import github
from kiwari_ci.remote_checks.findings import FindingGroup
from kiwari_ci.remote_checks.runbook_index import RunbookIndex
from kiwari_ci.rendering.render import render_files
from tests.repository import Repository
from tests.workflow import Workflow

PROJECT = "project: {name: shop, repository: example/shop, pull_requests: true}\nhosts: {vps: {}}\n"
SPEC = f"""{PROJECT}
services:
  api:
    port: 80
    paths: ["api/**", "shared/*.go", "!api/docs/**", "!**/*.md"]
    tests: {{unit: {{run: make unit}}, browser: {{workflow: browser.yml}}}}
  web: {{port: 80, build: {{context: .}}, test: {{run: make test}}}}
  site-map: {{port: 80, build: {{secrets: {{token: TOKEN}}}}, test: {{run: make test}}}}
environments: {{live: {{deploy_on: {{push: main}}}}}}
"""
SERVICES = {"api", "web", "site-map"}

# What a pull request changes, and the services that it touches.
CHANGES: list[tuple[dict[str, str], set[str]]] = [
    ({"README": "2"}, set()),
    ({"api/main.go": "2"}, {"api"}),
    ({"api/deep/er/main.go": "2"}, {"api"}),
    ({"api/main.go": ""}, {"api"}),
    ({"web/page": "2", "api/main.go": "2"}, {"api", "web"}),
    ({"shared/lib.go": "2"}, {"api"}),
    ({"shared/deep/lib.go": "2"}, set()),
    ({"api/docs/page": "2"}, set()),
    ({"api/docs/page": "2", "web/README.md": "2"}, {"web"}),
    ({"api/README.md": "2"}, set()),
    ({"api2/main.go": "2", "other/api/main.go": "2"}, set()),
    ({"site-map/a b\n'\"ö": "2"}, {"site-map"}),
    ({".dockerignore": "2"}, SERVICES),
    ({".github/workflows/api-ci.yml": "2"}, {"api"}),
    ({".github/workflows/browser.yml": "2"}, {"api"}),
    ({".github/workflows/pipeline-drift.yml": "2"}, set()),
    ({WORKFLOW_PATH: "2"}, SERVICES),
    ({}, set()),
]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return planned(tmp_path_factory.mktemp("spec"), SPEC)


def planned(folder: Path, text: str) -> Plan:
    (folder / "shop.yaml").write_text(text)
    return generator.load_spec(folder / "shop.yaml").plan


def workflow_of(folder: Path, text: str) -> Workflow:
    (folder / "shop.yaml").write_text(text)
    return Workflow(generator.generate_files(folder / "shop.yaml")[1][WORKFLOW_PATH].text)


@pytest.fixture(scope="module")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    return workflow_of(tmp_path_factory.mktemp("spec"), SPEC)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository in which a `main` has every file that a change is about."""
    repository = Repository(tmp_path_factory.mktemp("repository"))
    repository.git("config", "uploadpack.allowFilter", "true")
    repository.git("config", "uploadpack.allowAnySHA1InWant", "true")
    names = {name for files, _ in CHANGES for name in files}
    repository.commit("start", **dict.fromkeys((name.replace("/", "__") for name in names), "1"))
    return repository


def pull_request(repository: Repository, **files: str) -> str:
    """A pull request with these changes, merged into `main` as GitHub does to test it; the merge commit."""
    repository.git("checkout", "-q", "-B", "topic", "main")
    repository.commit("change", **{name.replace("/", "__"): text for name, text in files.items()})
    return merged(repository)


def merged(repository: Repository) -> str:
    """Merge `topic` into what was `main`, and stay there; the merge commit."""
    repository.git("checkout", "-q", "--detach", "main")
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "topic")
    return repository.git("rev-parse", "HEAD")


def checkout(repository: Repository, commit: str, folder: Path, depth: str) -> Path:
    """What actions/checkout leaves: no other file's content than those of `sparse-checkout`, and no way to get it."""
    git = ["git", "-C", str(folder), "-c", "advice.detachedHead=false"]
    folder.mkdir()
    history = ["--unshallow"] if depth == "0" else [f"--depth={depth}"]
    for words in (
        ["init", "-q"],
        ["remote", "add", "origin", f"file://{repository.folder}"],
        ["sparse-checkout", "set", ".github/workflows"],
        ["fetch", "-q", "--no-tags", "--filter=blob:none", *(history if depth != "0" else []), "origin", commit],
        ["checkout", "-q", commit],
        ["remote", "set-url", "origin", "file:///nowhere"],  # nor credentials to ask for more
    ):
        subprocess.run([*git, *words], check=True, capture_output=True)
    return folder


def touched_services(workflow: Workflow, folder: Path, base: str, **variables: str) -> set[str]:
    """Run the step that compares, as the runner does; what the jobs read of it."""
    job = workflow.data["jobs"]["changes"]
    step = job["steps"][-1]
    output = folder.with_name(f"{folder.name}-output")
    output.write_text("")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GITHUB_OUTPUT": str(output), "BASE": base}
    environment |= variables
    bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    subprocess.run(bash, cwd=folder, env=environment, check=True, capture_output=True)
    outputs = dict(line.split("=") for line in output.read_text().splitlines())
    assert outputs.keys() == job["outputs"].keys() and set(outputs.values()) <= {"true", "false"}
    return {service for service, touched in outputs.items() if touched == "true"}


@pytest.mark.parametrize(("files", "expected"), CHANGES, ids=[" ".join(files) or "nothing" for files, _ in CHANGES])
def test_the_services_that_a_change_touches(
    files: dict[str, str], expected: set[str], plan: Plan, workflow: Workflow, repository: Repository
) -> None:
    """Git in the job, GitHub's filters, and `affected` agree."""
    [planned_workflow] = plan.pull_requests
    by_filters = {
        service.service
        for service in planned_workflow.services
        for name in files
        if path_filters.is_included([path_filter.pattern for path_filter in service.change.filters], name)
        or name == WORKFLOW_PATH
    }
    pull_request(repository, **files)
    by_git = touched_services(workflow, repository.folder, "HEAD^1")

    assert by_git == by_filters == expected
    answer = analysis.find_affected_by_files(plan, ChangedFiles(tuple(files)), pushed=False)
    run = next(workflow for workflow in answer.touched if workflow.workflow == "pull-requests")
    jobs = {job for service in planned_workflow.services if service.service in expected for job in service.job_names}
    assert set(run.jobs) == {"changes", *jobs, "all-passed"}


def test_what_main_got_in_the_meantime_is_not_of_the_pull_request(
    workflow: Workflow, repository: Repository, tmp_path: Path
) -> None:
    repository.git("checkout", "-q", "-B", "topic", "main")
    repository.commit("change", web__page="3")
    repository.git("checkout", "-q", "main")
    repository.commit("meanwhile", api__main__go="3")
    commit = merged(repository)
    repository.git("branch", "-f", "main", "main^1")

    assert touched_services(workflow, checkout(repository, commit, tmp_path / "work", "2"), "HEAD^1") == {"web"}


def test_a_merge_group_is_compared_with_its_base(workflow: Workflow, repository: Repository, tmp_path: Path) -> None:
    """A group can have several commits, also without a merge commit."""
    base = repository.git("rev-parse", "main")
    repository.git("checkout", "-q", "--detach", "main")
    repository.commit("first of the group", web__page="4")
    commit = repository.commit("second of the group", api__main="4")
    repository.git("checkout", "-q", "main")

    assert touched_services(workflow, checkout(repository, commit, tmp_path / "work", "0"), base) == {"web", "api"}
    step = workflow.data["jobs"]["changes"]["steps"][-1]
    assert step["env"]["BASE"] == "${{ github.event.merge_group.base_sha || 'HEAD^1' }}"
    assert {"pull_request", "merge_group"} == workflow.data["on"].keys()


def test_a_mode_a_move_and_a_link_are_changes(workflow: Workflow, repository: Repository, tmp_path: Path) -> None:
    for number, script in enumerate(("chmod +x web/page", "git mv web/page page", "ln -sf /etc/passwd web/page")):
        repository.git("checkout", "-q", "-B", "topic", "main")
        repository.sh(script)
        commit = (repository.commit(script), merged(repository))[1]
        work = checkout(repository, commit, tmp_path / str(number), "2")
        assert touched_services(workflow, work, "HEAD^1") == {"web"}, script


def test_a_submodule_that_asks_to_be_ignored_is_a_change(
    workflow: Workflow, repository: Repository, tmp_path: Path
) -> None:
    """.gitmodules is the pull request's: it must not hide what moves."""
    repository.git("checkout", "-q", "-B", "with-submodule", "main")
    first = repository.git("rev-parse", "HEAD")
    (repository.folder / ".gitmodules").write_text('[submodule "web/lib"]\npath = web/lib\nurl = x\nignore = all\n')
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{first},web/lib")
    repository.git("add", ".gitmodules")
    repository.git("commit", "-qm", "with a submodule")
    second = repository.git("rev-parse", "HEAD")
    repository.git("update-index", "--cacheinfo", f"160000,{second},web/lib")
    repository.git("commit", "-qm", "it moves")
    commit = repository.git("rev-parse", "HEAD")
    repository.git("checkout", "-q", "main")

    assert touched_services(workflow, checkout(repository, commit, tmp_path / "work", "2"), "HEAD^1") == {"web"}


def test_what_git_cannot_compare_is_touched(workflow: Workflow, repository: Repository, tmp_path: Path) -> None:
    commit = pull_request(repository, README="5")
    shallow = checkout(repository, commit, tmp_path / "shallow", "1")
    assert touched_services(workflow, shallow, "HEAD^1") == SERVICES
    assert touched_services(workflow, shallow, "0" * 40) == SERVICES
    assert touched_services(workflow, shallow, "--output=x") == SERVICES
    (tmp_path / "empty").mkdir()
    assert touched_services(workflow, tmp_path / "empty", "HEAD^1") == SERVICES


# What the last job reports


def reported(
    workflow: Workflow, outputs: dict[str, str], results: dict[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run the last job, with what `changes` said and how each job ended."""
    [step] = workflow.data["jobs"]["all-passed"]["steps"]

    def evaluate(match: re.Match[str]) -> str:
        _, job, kind, *name = match[1].split(".")
        return results[job] if kind == "result" else outputs.get(name[0], "")

    text = re.sub(r"\$\{\{ ([\w.-]+) \}\}", evaluate, step["env"]["RESULTS"])
    bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(bash, env={"PATH": os.environ["PATH"], "RESULTS": text}, capture_output=True, text=True)


RESULTS = ("success", "failure", "cancelled", "skipped")


@pytest.mark.parametrize("changes", ["success", "failure", "cancelled"])
def test_only_success_and_what_the_change_does_not_touch_is_green(changes: str, tmp_path: Path) -> None:
    one = "services: {web: {port: 80, build: {secrets: {token: TOKEN}}, test: {run: make test}}}\n"
    workflow = workflow_of(tmp_path, PROJECT + one + "environments: {live: {deploy_on: {push: main}}}\n")
    for touched, result in product(("true", "false", ""), RESULTS):
        done = reported(workflow, {"web": touched}, {"changes": changes, "test-web": result})
        is_right = (touched, result) in (("true", "success"), ("false", "skipped"))
        assert (done.returncode == 0) == (is_right and changes == "success"), (touched, result, done.stdout)
        assert ("::error::test-web: " in done.stdout) != is_right
        assert ("::error::changes: " in done.stdout) == (changes != "success")


def test_it_says_of_each_job_how_it_ended(workflow: Workflow) -> None:
    outputs = {"api": "true", "web": "true", "site-map": "false"}
    results = {
        "changes": "success",
        "test-api_unit": "success",
        "test-api_browser": "failure",
        "build-api": "cancelled",
        "test-web": "success",
        "build-web": "skipped",
        "test-site-map": "skipped",
    }
    done = reported(workflow, outputs, results)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "changes: passed",
        "test-api_unit: passed",
        "::error::test-api_browser: the result is failure, not success",
        "::error::build-api: the result is cancelled, not success",
        "test-web: passed",
        "::error::build-web: the result is skipped, not success",
        "test-site-map: not needed, the change touches none of its files",
    ]


def test_it_reports_whatever_happened(workflow: Workflow) -> None:
    """A job that is skipped counts as passed for GitHub, so that it must never be; policy.py sees what it waits for."""
    job = workflow.data["jobs"]["all-passed"]
    assert job["if"] == "always()" and job["permissions"] == {}
    assert set(job["needs"]) == workflow.data["jobs"].keys() - {"all-passed"}


def test_jobs_of_a_service_wait_for_what_the_change_touches(plan: Plan, workflow: Workflow) -> None:
    [planned_workflow] = plan.pull_requests
    assert planned_workflow.jobs() == tuple(workflow.data["jobs"])
    for service in planned_workflow.services:
        for job in service.job_names:
            written = workflow.data["jobs"][job]
            assert written["needs"] == "changes"
            assert written["if"] == f"needs.changes.outputs.{service.service} == 'true'"
    assert workflow.data["jobs"]["test-api_browser"]["uses"] == "./.github/workflows/browser.yml"
    assert workflow.data["concurrency"]["cancel-in-progress"] is True


# What else knows it


def test_no_workflow_where_pull_requests_have_nothing_to_do(tmp_path: Path) -> None:
    nothing = "services: {web: {port: 80, build: {secrets: {token: TOKEN}}}}\n"
    live = "environments: {live: {deploy_on: {push: main}}}\n"
    without = planned(tmp_path, PROJECT + nothing + live)
    assert without.pull_requests == () and without.required_checks == ("drift",)
    off = planned(tmp_path, SPEC.replace("pull_requests: true", "pull_requests: false"))
    assert off.pull_requests == () and off.required_checks == ("drift",)


def test_a_service_that_no_push_builds_has_only_jobs_of_pull_requests(tmp_path: Path) -> None:
    spec = PROJECT + "services: {web: {port: 80}}\nenvironments: {live: {deploy_on: {tag: 'v*'}}}\n"
    (tmp_path / "shop.yaml").write_text(spec)
    plan, files = generator.generate_files(tmp_path / "shop.yaml")
    assert WORKFLOW_PATH in files and ".github/workflows/web-ci.yml" not in files
    assert plan.pull_requests[0].jobs() == ("changes", "build-web", "all-passed")


def test_the_runbook_names_both_checks(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(SPEC)
    plan, files = generator.generate_files(tmp_path / "shop.yaml")
    text = files["deploy/RUNBOOK.md"].text
    assert plan.required_checks == ("drift", "all-passed")
    assert "require the checks `drift` and `all-passed`, which says whether everything" in text
    assert 'prints `["drift","all-passed"]`, in any order.' in text
    ejected_runbook = render_files(replace(plan, ejected=True))["deploy/RUNBOOK.md"].text
    assert "make `all-passed`, and no other check of these workflows a required status check" in ejected_runbook


def test_other_files_of_workflows_come_from_where_they_did(plan: Plan) -> None:
    assert find_spec_key(WORKFLOW_PATH, plan) == ("project", "pull_requests")
    assert find_spec_key(".github/workflows/web-ci.yml", plan) == ("services", "web")


def test_a_push_and_a_tag_start_no_workflow_of_pull_requests(plan: Plan) -> None:
    for answer in (
        analysis.find_affected_by_files(plan, ChangedFiles(("web/page",)), pushed=True),
        analysis.find_affected_by_tags(plan, ["v1.2.0"]),
    ):
        assert "pull-requests" not in [run.workflow for run in answer.touched]
        spared: dict[str, Any] = {spared.name: spared.why for spared in answer.spared}
        assert spared["pull-requests"] == "runs on pull requests and in merge queues"


@pytest.mark.parametrize(
    ("contexts", "state"),
    [(["drift", "all-passed"], "ok"), (["drift"], "wrong"), (["all-passed"], "wrong"), (["drift", "test"], "wrong")],
)
def test_the_doctor_wants_both_checks_required(contexts: list[str], state: str, plan: Plan) -> None:
    pages = {github._build_protection_path(plan): github.GitHubResponse(({"contexts": contexts},))}
    runbook = RunbookIndex(plan.runbook, {}).for_host("vps")
    finding = github._check_branch_protection(FindingGroup("GitHub"), plan, github.GitHubState(pages), runbook)
    assert finding.state == state
    assert state == "ok" or "drift and all-passed, and no other" in str(finding)


# What runs everything, and for other branches


def test_everything_is_tested_whatever_a_change_touches(tmp_path: Path) -> None:
    spec = SPEC.replace("pull_requests: true", "pull_requests: true, tested_services: all")
    workflow, plan = workflow_of(tmp_path, spec), planned(tmp_path, spec)
    jobs = workflow.data["jobs"]
    assert plan.pull_requests[0].jobs() == tuple(jobs) and "changes" not in jobs
    assert not [name for name, job in jobs.items() if name != "all-passed" and ("if" in job or "needs" in job)]
    answer = analysis.find_affected_by_files(plan, ChangedFiles(("README",)), pushed=False)
    (run,) = [each for each in answer.touched if each.workflow == "pull-requests"]
    assert run.jobs == tuple(jobs) and run.why == "runs everything, whatever changes"
    assert not [each for each in answer.spared if each.name.startswith("pull-requests")]
    for result in RESULTS:  # no job may be skipped
        results = dict.fromkeys(jobs.keys() - {"all-passed"}, "success") | {"test-web": result}
        assert (reported(workflow, {}, results).returncode == 0) == (result == "success")


def test_pushes_to_branches_without_an_environment_are_tested(repository: Repository, tmp_path: Path) -> None:
    """A push is compared with the commit at which its branch left the default branch, for an earlier one may fail."""
    branches = "pull_requests: true, tested_branches: [develop, 'feature/**', 'm*']"
    spec = SPEC.replace("pull_requests: true", branches)
    workflow, plan = workflow_of(tmp_path, spec), planned(tmp_path, spec)
    assert workflow.data["on"]["push"]["branches"] == ["develop", "feature/**", "m*", "!main"]
    compare = workflow.data["jobs"]["changes"]["steps"][-1]
    before_of_push = "(github.event_name == 'push' && github.event.before)"
    assert compare["env"]["BASE"] == f"${{{{ github.event.merge_group.base_sha || {before_of_push} || 'HEAD^1' }}}}"
    repository.git("checkout", "-q", "-B", "develop", "main")
    before = repository.git("rev-parse", "HEAD")
    repository.commit("first of the push", web__page="7")
    commit = repository.commit("second of the push", README="7")
    work = checkout(repository, commit, tmp_path / "work", "0")
    pushed = {"GITHUB_EVENT_NAME": "push", "GITHUB_SHA": commit}
    assert touched_services(workflow, work, before, **pushed) == {"web"}, "there is no default branch"
    for name, commit_of_default, base, expected in (
        ("a later push", before, f"{commit}~1", {"web"}),
        ("the first push", before, "0" * 40, {"web"}),
        ("a push to the default branch", commit, f"{commit}~1", set()),
        ("a new branch without a commit of its own", commit, "0" * 40, SERVICES),
    ):
        subprocess.run(["git", "update-ref", "refs/remotes/origin/main", commit_of_default], cwd=work, check=True)
        assert touched_services(workflow, work, base, **pushed) == expected, name
    for branch, is_tested in (("develop", True), ("feature/a/b", True), ("main", False), ("other", False)):
        answer = analysis.find_affected_by_files(plan, ChangedFiles(("web/page",)), pushed=True, branch=branch)
        assert ("pull-requests" in [each.workflow for each in answer.touched]) == is_tested


def test_a_build_that_needs_generated_files_gets_them(tmp_path: Path) -> None:
    """The steps before the build run, too; with a secret, nothing is built."""
    steps = "steps: {before_build: [{name: Generate, run: make generated%s}]}"
    spec = PROJECT + "services: {web: {port: 80, %s}}\nenvironments: {live: {deploy_on: {push: main}}}\n"
    jobs = workflow_of(tmp_path, spec % (steps % "")).data["jobs"]
    names = [step.get("name") for step in jobs["build-web"]["steps"]]
    assert names.index("Generate") < names.index("Build, and push nothing")
    with_secret = spec % (steps % ", env: {FEED: {secret: FEED}}")
    assert planned(tmp_path, with_secret).pull_requests == ()
