"""The asking commands, on real git repositories; GitHub's limits are its documentation's."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from kiwari_ci import generator
from kiwari_ci.commands.affected import analysis as rules
from kiwari_ci.commands.affected import report
from kiwari_ci.commands.graph import html_page
from kiwari_ci.planning import pipeline_graph
from kiwari_ci.readers import git_history
from kiwari_ci.readers.git_history import ChangedFiles
from tests.cli_runner import kiwari_ci
from tests.repository import Repository

ROOT = Path(__file__).parents[1]
SPEC = ROOT / "specs/kiwari.yaml"
PLAN, TREE = generator.generate_files(SPEC)
VECTORS = json.loads((ROOT / "tests/data/glob-vectors.json").read_text())
ZEROS = "0" * 40


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """With one commit of a file of each service."""
    checkout = Repository(tmp_path)
    checkout.commit("start", api__main="1", admin__page="1", docker__other="1")
    return checkout


def runs(answer: rules.AffectedResult, on: str = "") -> list[str]:
    """The workflows that an answer has running, on an event."""
    return [workflow.workflow for workflow in answer.touched if on in workflow.on]


def why(answer: rules.AffectedResult, name: str) -> str:
    """Why something is spared."""
    return next(spared.why for spared in answer.spared if spared.name == name)


def push(*files: str, **facts: Any) -> rules.AffectedResult:
    """What a push of these files to the default branch touches."""
    return rules.find_affected_by_files(PLAN, ChangedFiles(files, **facts), pushed=True)


def run_affected(*words: object) -> dict[str, Any]:
    """What `affected` says, as a program reads it."""
    result = kiwari_ci("affected", SPEC, *words, "--format", "json")
    assert result.code == 0, result.err
    report: dict[str, Any] = json.loads(result.out)
    return report


def test_the_jobs_and_triggers_are_those_of_the_workflows() -> None:
    services = {workflow.name: workflow.jobs() for workflow in PLAN.workflows}
    promotions = {promotion.name: promotion.jobs() for promotion in PLAN.promotions}
    for name, jobs in {**services, **promotions, "pipeline-drift": ("drift",)}.items():
        written = yaml.load(TREE[f".github/workflows/{name}.yml"].text, yaml.CSafeLoader)
        assert tuple(written["jobs"]) == jobs
        on = written[True]
        assert set(on) - {"workflow_dispatch"} == (
            {"push", "pull_request", "merge_group"} if name == "pipeline-drift" else {"push"}
        )
        assert name not in services or set(on["push"]) == {"branches", "paths"}
        assert name not in promotions or set(on["push"]) == {"tags"}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{','.join(v['patterns'])} {v['name']}")
def test_a_filter_of_githubs_own_examples(vector: dict[str, Any]) -> None:
    first = PLAN.workflows[0]
    filters = tuple(type(first.push_filters[0])(pattern, "") for pattern in vector["patterns"])
    workflow = replace(first, push_filters=filters)
    answer = rules.find_affected_by_files(
        replace(PLAN, workflows=(workflow,)), ChangedFiles((vector["name"],)), pushed=True
    )
    assert (first.name in runs(answer)) is vector["included"]


def test_a_file_touches_its_service_and_no_other() -> None:
    answer = push("api/main.go")
    assert runs(answer) == ["pipeline-drift", "api-ci"]
    touched = answer.touched[1]
    assert touched.images == ("ghcr.io/iqbalmuhyiddin/kiwari-api:staging", "ghcr.io/iqbalmuhyiddin/kiwari-api:src-…")
    assert touched.places == (
        rules.AffectedContainer("staging", "vps", "pos-api-staging", "https://stg-api.nasibakarkiwari.com"),
    )
    assert "api/main.go matches none of its paths: admin/**" in why(answer, "admin-ci")
    assert why(answer, "production") == "pos-api, pos-admin stay as they are until a tag v*"
    assert why(answer, "promote") == "runs on a tag v*, whatever files changed"


def test_a_pull_request_runs_the_drift_check_and_its_merge_the_rest() -> None:
    answer = rules.find_affected_by_files(PLAN, ChangedFiles(("api/main.go",)), pushed=False)
    assert runs(answer, "pull request") == ["pipeline-drift"]
    assert runs(answer, "merge into main") == ["pipeline-drift", "api-ci"]


def test_another_branch_runs_nothing() -> None:
    answer = rules.find_affected_by_files(PLAN, ChangedFiles(("api/main.go",)), pushed=True, branch="topic")
    assert runs(answer) == []
    assert why(answer, "api-ci") == "runs on pushes to main only"


def test_of_301_files_the_last_is_not_looked_at() -> None:
    many = tuple(f"a{number:03}" for number in range(299))
    assert "api-ci" in runs(push(*many, "api/main.go"))
    beyond = push(*many, "aaa", "api/main.go")
    assert "api-ci" not in runs(beyond)
    assert "file 301, and GitHub looks at 300; by hand: gh workflow run api-ci --ref main" in why(beyond, "api-ci")
    assert beyond.notes == ("301 files: GitHub looks at the first 300 of them, by path, and at no other",)


def test_over_a_thousand_commits_everything_runs() -> None:
    assert runs(push("x", commits=1000)) == ["pipeline-drift"]
    answer = push("x", commits=1001)
    assert runs(answer) == ["pipeline-drift", "api-ci", "admin-ci"]
    assert "1001 commits" in answer.notes[0]


def test_no_file_is_no_run_but_the_drift_check() -> None:
    answer = push()
    assert runs(answer) == ["pipeline-drift"] and why(answer, "api-ci") == "no file changed"


def test_a_word_in_the_commit_skips_all(repository: Repository) -> None:
    for message in ("x [skip ci]", "x\n\n[no ci]", "x\n\nbody\n\nskip-checks: true"):
        repository.commit(message, api__main=message)
        answer = rules.find_affected_by_files(
            PLAN, git_history.find_changed_files(repository.read(), "HEAD~1", "HEAD", True), True
        )
        assert runs(answer) == [] and "the newest commit says" in why(answer, "api-ci")
    repository.commit("skip-checks: true", api__main="9")
    assert git_history.find_changed_files(repository.read(), "HEAD~1", "HEAD", True).skip == ""


def test_a_tag_asks_no_path() -> None:
    answer = rules.find_affected_by_tags(PLAN, ["v1.2.0"])
    assert runs(answer) == ["promote"]
    assert [place.container for place in answer.touched[0].places] == ["pos-api", "pos-admin"]
    assert "ghcr.io/iqbalmuhyiddin/kiwari-api:v1.2.0" in answer.touched[0].images
    assert "takes no tag" in why(answer, "api-ci")


def test_a_tag_that_is_no_version_fails_in_the_first_job() -> None:
    for tag in ("v1.2", "v01.2.3", "v1.2.3-rc1"):
        (touched,) = rules.find_affected_by_tags(PLAN, [tag]).touched
        assert touched.jobs == ("promote-images",) and not touched.places and "fails" in touched.why
    assert why(rules.find_affected_by_tags(PLAN, ["1.2.3"]), "promote") == "v* does not match 1.2.3"


def test_four_tags_at_once_are_no_event() -> None:
    tags = ["v1.0.0", "v1.0.1", "v1.0.2", "v1.0.3"]
    assert len(runs(rules.find_affected_by_tags(PLAN, tags[:3]))) == 3
    answer = rules.find_affected_by_tags(PLAN, tags)
    assert runs(answer) == [] and "one by one" in answer.notes[0]


def test_what_a_person_does() -> None:
    answer = push("api/migrations/1.up.sql", "deploy/bin/deploy", "deploy/pos-staging/docker-compose.yml")
    assert [step.partition(":")[0] for step in answer.by_hand] == [
        "api/migrations/1.up.sql",
        "deploy/pos-staging/docker-compose.yml",
        "deploy/bin/deploy",
    ]


def test_what_a_deploy_sends_no_person_copies() -> None:
    plan = generator.load_spec(ROOT / "tests/cases/ok/sync/spec.yaml").plan
    files = [
        f"deploy/shop-{stack}/{file}" for stack in ("staging", "demo") for file in ("docker-compose.yml", "Caddyfile")
    ]
    manual_steps = [*rules._list_manual_steps(plan, files)]
    assert [step.partition(":")[0] for step in manual_steps] == files[2:]


def test_a_push_that_changes_only_what_a_deploy_sends_is_deployed() -> None:
    """A higher memory limit is in the compose file alone: the workflow of the service that runs there starts."""
    plan = generator.load_spec(ROOT / "tests/cases/ok/sync/spec.yaml").plan
    sent, copied = ("deploy/shop-staging/docker-compose.yml",), ("deploy/shop-demo/docker-compose.yml",)

    with_sync = rules.find_affected_by_files(plan, ChangedFiles(sent), True, "main")
    without_sync = rules.find_affected_by_files(plan, ChangedFiles(copied), True, "main")

    assert [run.workflow for run in with_sync.touched if run.places] == ["web-ci"]
    assert not any(run.places for run in without_sync.touched)


def test_three_dots_for_a_pull_request_two_for_a_push(repository: Repository) -> None:
    repository.git("checkout", "-q", "-b", "topic")
    repository.commit("mine", api__main="2")
    repository.git("checkout", "-q", "main")
    repository.commit("theirs", admin__page="2")
    pulled = run_affected("--base", "main", "--head", "topic", "--repo", repository.folder)
    assert "main...topic (three-dot" in pulled["about"]
    assert [workflow["workflow"] for workflow in pulled["touched"] if "merge" in workflow["on"]] == [
        "pipeline-drift",
        "api-ci",
    ]
    pushed = run_affected("--base", "main", "--head", "topic", "--event", "push", "--repo", repository.folder)
    assert "main..topic (two-dot" in pushed["about"]
    assert [workflow["workflow"] for workflow in pushed["touched"]] == ["pipeline-drift", "api-ci", "admin-ci"]


def test_a_new_branch_is_compared_with_what_was_before_it(repository: Repository, tmp_path: Path) -> None:
    first = git_history.find_changed_files(repository.read(), ZEROS, "HEAD", True)
    assert first.files == ("admin/page", "api/main", "docker/other") and "compared with nothing" in first.source
    repository.git("update-ref", "refs/remotes/origin/main", "HEAD")
    repository.commit("two", api__main="2")
    repository.commit("three", api__more="3")
    assert git_history.find_changed_files(repository.read(), ZEROS, "HEAD", True).files == ("api/main", "api/more")


def test_a_move_is_both_of_its_paths(repository: Repository) -> None:
    repository.git("mv", "api/main", "admin/main")
    repository.commit("move")
    assert git_history.find_changed_files(repository.read(), "HEAD~1", "HEAD", True).files == ("admin/main", "api/main")


def test_files_of_a_list_and_hostile_names(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    result = kiwari_ci("affected", SPEC, "--files", "./api/a b", "api/\x1b[31m|<b>", "--event", "push")
    assert "push to main: 2 files" in result.out and "\x1b" not in result.out
    shown = report.format_affected_markdown(push("api/\n\x1b|<script>@everyone"))
    assert "\\<script" in shown and "@everyone" not in shown and "\x1b" not in shown
    assert "admin-ci" in kiwari_ci("affected", SPEC, "--files", "admin/x", "api/y", "--format", "markdown").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--files"], "--files names no file"),
        ([], "name what changes, in one way"),
        (["--tag", "v1", "--files", "x"], "name what changes, in one way"),
        (["--base", "none"], "none is no commit that this checkout has"),
        (["--base", "--output=x"], "--output=x is no commit"),
    ],
)
def test_what_is_refused(words: list[str], message: str, repository: Repository) -> None:
    result = kiwari_ci("affected", SPEC, *words, "--repo", repository.folder)
    assert result.code == 2 and message in result.err
    assert repository.git("status", "--porcelain") == ""


def test_no_checkout_and_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = kiwari_ci("affected", SPEC, "--base", "main", "--repo", tmp_path)
    assert result.code == 2 and "is in no git checkout" in result.err
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "git is not installed" in kiwari_ci("affected", SPEC, "--base", "main", "--repo", tmp_path).err


def test_the_page_and_the_flowchart_show_all_of_the_plan() -> None:
    drawn = pipeline_graph.build_pipeline_graph(PLAN)
    flowchart, html = pipeline_graph.render_mermaid(drawn), html_page.render_html_page(drawn)
    for stack in PLAN.stacks:
        for instance in stack.instances:
            assert f'"{instance.container}"' in flowchart and f">{instance.container}<" in html
            assert instance.domain in flowchart and f'href="https://{instance.domain}"' in html
    assert flowchart.count("promote-images") == html.count("promote-images") == 1
    assert "staging" in drawn.lanes[1].source and drawn.lanes[0].source == ""


def test_addresses_have_the_scheme_of_their_host() -> None:
    plan = generator.load_spec(ROOT / "tests/cases/ok/scheme-nginx-proxy-manager/spec.yaml").plan
    html = html_page.render_html_page(pipeline_graph.build_pipeline_graph(plan))
    assert 'href="http://shop.internal.example.com"' in html and 'href="https://shop.example.com"' in html
    answer = rules.find_affected_by_files(plan, ChangedFiles(("web/a",)), pushed=True)
    assert "on intranet, http://shop.internal.example.com" in report.format_affected_text(answer)


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    html = html_page.render_html_page(pipeline_graph.build_pipeline_graph(PLAN))
    assert not re.search(r"<script|<img|<link|url\(|@import|\bsrc=|\bon\w+=", html)
    assert "default-src 'none'" in html


def test_hostile_texts_are_escaped() -> None:
    drawn = pipeline_graph.build_pipeline_graph(PLAN)
    bad = '"]<script>alert(1)</script>\n&'
    rows = tuple(replace(row, container=bad, domain=bad, url=bad, image=bad) for row in drawn.lanes[0].rows)
    drawn = replace(drawn, project=bad, lanes=(replace(drawn.lanes[0], rows=rows, host=bad),))
    assert "<script" not in html_page.render_html_page(drawn)
    flowchart = pipeline_graph.render_mermaid(drawn)
    assert "script>" not in flowchart and "alert(" not in flowchart and "#60;" in flowchart


def test_graph_writes_a_file_and_says_why_not(tmp_path: Path) -> None:
    assert kiwari_ci("graph", SPEC).out.startswith("flowchart LR\n")
    assert kiwari_ci("graph", SPEC, "--html", tmp_path / "p.html").code == 0
    assert (tmp_path / "p.html").read_text().startswith("<!doctype html>")
    result = kiwari_ci("graph", SPEC, "--html", tmp_path / "none/p.html")
    assert result.code == 2 and "name a file in a folder that is there" in result.err


def test_a_page_overwrites_pages_only(tmp_path: Path) -> None:
    spec, html = tmp_path / "shop.yaml", tmp_path / "graph.html"
    spec.write_bytes(SPEC.read_bytes())
    assert "exists, and is not an HTML page" in kiwari_ci("graph", spec, "--html", spec).err
    assert spec.read_bytes() == SPEC.read_bytes()
    assert kiwari_ci("graph", spec, "--html", html).code == kiwari_ci("graph", spec, "--html", html).code == 0


def test_services_of_one_workflow() -> None:
    """The workflow runs, with the jobs of the services that a push touches."""
    plan = generator.load_spec(Path(__file__).parent / "cases/ok/depends-on-services/spec.yaml").plan
    answer = rules.find_affected_by_files(plan, ChangedFiles(("api/main.go",)), pushed=True, branch="main")
    [run] = [each for each in answer.touched if each.workflow == "schema-ci"]
    assert run.jobs == ("changes", "test-api_unit", "test-api_types", "build-api", "deploy-staging")
    assert run.images == ("ghcr.io/example/shop-api:staging", "ghcr.io/example/shop-api:src-…")
    assert [place.container for place in run.places] == ["shop-api-staging", "shop-clock-staging"]
    plan = generator.load_spec(Path(__file__).parent / "cases/ok/build-base/spec.yaml").plan
    answer = rules.find_affected_by_files(plan, ChangedFiles(("web/main.go",)), pushed=True)
    [run] = [each for each in answer.touched if each.workflow == "php-base-ci"]
    assert run.jobs == ("changes", "build-php-base", "build-tools", "build-web", "deploy-production")
    assert {image.partition(":")[0] for image in run.images} == {"ghcr.io/example/shop-web"}


@pytest.mark.parametrize(
    ("case", "branch", "file", "jobs"),
    [
        ("sync-of-two-branches", "main", "deploy/shop-testing/docker-compose.yml", ["changes"]),
        (
            "sync-of-two-branches",
            "develop",
            "deploy/shop-testing/docker-compose.yml",
            ["changes", "test-web", "build-web", "deploy-testing"],
        ),
        ("sync-of-two-branches", "main", "web/page", ["changes", "test-web", "build-web", "deploy-staging"]),
        ("depends-on-services", "develop", "web/page", ["changes"]),
        ("depends-on-services", "main", "deploy/shop-testing/docker-compose.yml", ["changes"]),
        (
            "depends-on-services",
            "develop",
            "deploy/shop-testing/docker-compose.yml",
            ["changes", "test-api_unit", "test-api_types", "build-api", "build-schema", "deploy-testing"],
        ),
        ("build-base-elsewhere", "main", "web/page", ["changes", "test-php", "build-php", "build-web", "deploy-demo"]),
    ],
)
def test_what_a_branch_does_not_deploy_does_not_run(case: str, branch: str, file: str, jobs: list[str]) -> None:
    plan = generator.load_spec(ROOT / "tests/cases/ok" / case / "spec.yaml").plan
    answer = rules.find_affected_by_files(plan, ChangedFiles((file,)), pushed=True, branch=branch)
    runs = [each for each in answer.touched if each.workflow != "pipeline-drift"]
    assert [list(run.jobs) for run in runs] == [jobs]
