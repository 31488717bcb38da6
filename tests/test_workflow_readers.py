"""What workflows of other people say, read once for init and diff."""

from typing import Any

import pytest
import yaml

from kiwari_ci.readers.docker_build import parse_docker_build
from kiwari_ci.readers.step_effects import find_workflow_effects
from kiwari_ci.readers.workflow import ReferenceContext, parse_workflow
from kiwari_ci.readers.workflow_calls import fill_in_call_values
from kiwari_ci.readers.workflow_matrix import MAX_MATRIX_COMBINATIONS, expand_matrix
from kiwari_ci.readers.workflow_triggers import (
    narrow_triggers,
    runs_on_pull_requests,
    split_alternatives,
    split_conjunction,
)
from kiwari_ci.readers.yaml_document import parse_yaml_document

TRIGGERS = ("on push to `main`", "on push to `develop`", "by hand")


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ({}, []),
        ({"a": "${{ fromJSON(inputs.list) }}"}, []),
        ({"a": [1, 2]}, [{"a": 1}, {"a": 2}]),
        ({"a": [1, 2], "b": [3]}, [{"a": 1, "b": 3}, {"a": 2, "b": 3}]),
        ({"a": [1, 2], "exclude": [{"a": 1}]}, [{"a": 2}]),
        ({"a": [1, 2], "include": [{"a": 2, "b": 3}]}, [{"a": 1}, {"a": 2, "b": 3}]),
        ({"a": [1, 2], "include": [{"b": 3}]}, [{"a": 1, "b": 3}, {"a": 2, "b": 3}]),
        ({"a": [1], "include": [{"a": 9}]}, [{"a": 1}, {"a": 9}]),
        ({"include": [{"a": 1}, {"a": 2}]}, [{"a": 1}, {"a": 2}]),
    ],
)
def test_the_combinations_of_a_matrix(matrix: dict[str, Any], expected: list[dict[str, Any]]) -> None:
    assert expand_matrix(matrix) == expected


def test_a_large_matrix_is_cut() -> None:
    axes = {name: list(range(1000)) for name in "abcdefgh"}
    assert len(expand_matrix(axes)) == MAX_MATRIX_COMBINATIONS
    assert expand_matrix({**axes, "exclude": [{"a": 0}]}) == []


def test_the_words_of_a_docker_build() -> None:
    line = "--push --cache-to type=gha -t a:1 --tag=b:2 -f api/Dockerfile --build-arg=A=1 --no-cache --secret id=x api"
    build = parse_docker_build(line.split())
    assert (build.context, build.pushes) == ("api", True)
    assert (build.tags, build.files, build.arguments) == (["a:1", "b:2"], ["api/Dockerfile"], ["A=1"])
    assert (build.secrets, build.targets) == (["id=x"], [])


def test_a_docker_build_whose_last_word_is_an_option() -> None:
    build = parse_docker_build(["api", "--progress", "plain"])
    assert (build.context, build.pushes) == ("api", False)


CALLED_WORKFLOW = """\
on: {workflow_call: {inputs: {environment: {type: string}, mode: {type: string, default: full}}}}
jobs:
  ship:
    if: inputs.mode == 'full'
    environment: ${{ inputs.environment == 'live' && 'production' || 'staging' }}
    steps: [{run: "echo ${{ inputs.mode }}"}]
  check:
    if: inputs.mode != 'full'
    steps: [{run: check}]
"""


@pytest.mark.parametrize(("expression", "environment"), [("live", "production"), ("test", "staging")])
def test_a_called_workflow_has_the_inputs_of_its_caller(expression: str, environment: str) -> None:
    caller = f"jobs: {{call: {{uses: ./.github/workflows/ship.yml, with: {{environment: {expression}}}}}}}"
    documents = {
        path: parse_yaml_document(path, text)
        for path, text in {
            ".github/workflows/ship.yml": CALLED_WORKFLOW,
            ".github/workflows/main.yml": f"on: push\n{caller}\n",
        }.items()
    }
    workflow = parse_workflow(documents[".github/workflows/main.yml"], ReferenceContext(documents))
    assert [job.environment for job in workflow.jobs] == [environment]
    assert [step.run for step in workflow.jobs[0].steps] == ["echo full"]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("matrix.app != 'web'", ["api"]),
        ("${{ matrix.app == 'web' }}", ["web"]),
        ("matrix.app == 'web' || matrix.app == 'docs'", ["web"]),
        ("matrix.app != 'web' && matrix.app != 'docs'", ["api"]),
        ("(matrix.app == 'web' || github.ref == 'refs/heads/main') && matrix.app != 'api'", ["web"]),
        ("matrix.app == 'web' || github.ref == 'refs/heads/main'", ["api", "web"]),
        ("github.ref == 'refs/heads/main'", ["api", "web"]),
    ],
)
def test_a_step_of_some_combinations_of_a_matrix(condition: str, expected: list[str]) -> None:
    step = {"run": "make ${{ matrix.app }}", "if": condition}
    job = {"runs-on": "ubuntu-latest", "strategy": {"matrix": {"app": ["api", "web"]}}, "steps": [step]}
    document = parse_yaml_document(".github/workflows/a.yml", yaml.safe_dump({"on": "push", "jobs": {"a": job}}))
    workflow = parse_workflow(document, ReferenceContext({document.path: document}, "example/shop"))
    assert [step.run for job in workflow.jobs for step in job.steps] == [f"make {name}" for name in expected]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("github.ref == 'refs/heads/main'", ("on push to `main`", "by hand")),
        (
            "!failure() && (needs.a == 'true' || b == 'x && y') && github.ref == 'refs/heads/main'",
            ("on push to `main`", "by hand"),
        ),
        ("needs.a == 'true' || b && github.ref == 'refs/heads/main'", TRIGGERS),
        ("github.event_name == 'workflow_dispatch' || github.ref == 'refs/heads/develop'", TRIGGERS[1:]),
        ("github.event_name == 'schedule' || startsWith(github.ref, 'refs/tags/')", TRIGGERS),
        ("(github.ref == 'refs/heads/main' || github.ref == 'refs/heads/develop') && needs.a == 'true'", TRIGGERS),
    ],
)
def test_the_triggers_that_a_condition_leaves(condition: str, expected: tuple[str, ...]) -> None:
    """Of several conditions that must all be true, each may name the branch."""
    assert narrow_triggers(TRIGGERS, condition) == expected


CHOICE = "startsWith(github.ref, 'refs/tags/v') && 'live' || 'staging'"


@pytest.mark.parametrize(
    ("environment", "matrix", "expected"),
    [
        (f"${{{{ {CHOICE} }}}}", {}, [("live", "on a tag `v*`"), ("staging", "on push to `main`")]),
        (
            "${{ matrix.env }}",
            {"env": [f"${{{{ {CHOICE} }}}}"]},
            [("live", "on a tag `v*`"), ("staging", "on push to `main`")],
        ),
        (
            {"name": "${{ matrix.env }}"},
            {"env": ["live", "staging"]},
            [("live", "on push to `main` on a tag `v*`"), ("staging", "on push to `main` on a tag `v*`")],
        ),
        ("${{ inputs.environment }}", {}, [("${{ inputs.environment }}", "on push to `main` on a tag `v*`")]),
    ],
)
def test_the_environments_of_a_job(
    environment: object, matrix: dict[str, object], expected: list[tuple[str, str]]
) -> None:
    """A job whose environment the ref or the matrix chooses is one job for each, with the triggers that remain."""
    step = {"run": "ssh me@192.0.2.1 'docker compose up -d'"}
    job = {"environment": environment, "strategy": {"matrix": matrix}, "steps": [step]}
    on = {"push": {"branches": ["main"], "tags": ["v*"]}}
    document = parse_yaml_document(".github/workflows/a.yml", yaml.safe_dump({"on": on, "jobs": {"a": job}}))
    workflow = parse_workflow(document, ReferenceContext({document.path: document}, "example/shop"))
    deploys = [
        (job.environment, " ".join(job.when))
        for job, effect in find_workflow_effects(workflow)
        if effect.kind == "deploy"
    ]
    assert deploys == expected


@pytest.mark.parametrize(
    ("condition", "runs"),
    [
        ("github.event_name != 'pull_request'", False),
        ("github.event_name == 'push' && needs.a == 'true'", False),
        ("github.ref == 'refs/heads/main'", False),
        ("github.event_name == 'push' || github.event.pull_request.user.login != 'renovate[bot]'", True),
        ("github.event.pull_request.user.login != 'renovate[bot]'", True),
        ("github.event_name != 'pull_request' || contains(github.event.pull_request.labels.*.name, 'try')", True),
    ],
)
def test_whether_a_condition_lets_a_job_run_on_pull_requests(condition: str, runs: bool) -> None:
    """A condition about the author of a pull request does not exclude pull requests."""
    assert runs_on_pull_requests(condition) is runs


@pytest.mark.parametrize(
    ("condition", "alternatives", "terms"),
    [
        ("a && (b || c)", ["a && (b || c)"], ["a", "(b || c)"]),
        ("(b || c)", ["b", "c"], ["(b || c)"]),
        ("(a) || (b)", ["(a)", "(b)"], ["(a) || (b)"]),
        ("(a && x == '||)') || tag", ["(a && x == '||)')", "tag"], ["(a && x == '||)') || tag"]),
        ("(a && b)", ["a && b"], ["a", "b"]),
        ("f(a) && g(b)", ["f(a) && g(b)"], ["f(a)", "g(b)"]),
        ("", [""], [""]),
        (")(", [")("], [")("]),
    ],
)
def test_a_condition_is_split_outside_of_brackets(condition: str, alternatives: list[str], terms: list[str]) -> None:
    assert split_alternatives(condition) == alternatives
    assert split_conjunction(condition) == terms


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("docker network create edge", ["docker network create edge"]),
        ("docker network inspect edge >/dev/null 2>&1 || docker network create edge", ["docker network create edge"]),
        ("cp edge/Caddyfile /opt/edge/", ["cp edge/Caddyfile /opt/edge/"]),
        ("check() {\n  curl http://localhost/up\n}\nif check; then echo yes; fi", []),
        ("grep -iE 'failed|rate limit' log", []),
        ("# it's the network\nreload-proxy # don't wait", ["reload-proxy"]),
    ],
)
@pytest.mark.parametrize("how", ["here-document", "action"])
def test_what_a_script_does_on_the_server(script: str, expected: list[str], how: str) -> None:
    here_document = {"run": f"ssh deploy@192.0.2.1 <<'EOF'\n{script}\nEOF\n"}
    action = {"uses": "appleboy/ssh-action@v1", "with": {"host": "192.0.2.1", "script": script}}
    step = action if how == "action" else here_document
    text = yaml.safe_dump({"on": "push", "jobs": {"deploy": {"runs-on": "ubuntu-latest", "steps": [step]}}})
    document = parse_yaml_document(".github/workflows/deploy.yml", text)
    workflow = parse_workflow(document, ReferenceContext({document.path: document}, "example/shop"))
    effects = [effect for _, effect in find_workflow_effects(workflow)]
    assert [effect.what for effect in effects if effect.kind == "remote"] == expected


@pytest.mark.parametrize(
    ("condition", "filled_in"),
    [
        ("(inputs.a == 'x' && inputs.b == 'y')", "true"),
        ("inputs.a == 'x' && inputs.b == 'z'", "false"),
        ("(inputs.a == 'x' && github.ref == 'r && s')", "github.ref == 'r && s'"),
        ("inputs.a == 'z' && success() || failure()", "'x' == 'z' && success() || failure()"),
    ],
)
def test_the_terms_of_a_condition_are_evaluated_one_by_one(condition: str, filled_in: str) -> None:
    job = parse_yaml_document("a.yml", f'if: "{condition}"').data
    assert fill_in_call_values(job, {"inputs.a": "x", "inputs.b": "y"})["if"] == filled_in
