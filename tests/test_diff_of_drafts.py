"""`kiwari-ci diff` after `kiwari-ci init`: it claims nothing that the drafted spec contradicts."""

from pathlib import Path

import pytest

from kiwari_ci import generator
from kiwari_ci.commands.diff import compare
from kiwari_ci.commands.init import build_init_result
from kiwari_ci.readers.file_sets import load_folder
from tests.test_init_gates import CI

SHARED = """\
on: {push: {branches: [main, develop]}}
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - {uses: docker/build-push-action@v6, with: {context: ., push: true, tags: "ghcr.io/example/shop:latest"}}
  staging:
    if: github.ref == 'refs/heads/develop'
    runs-on: ubuntu-latest
    environment: staging
    steps: [{run: "ssh deploy@192.0.2.1 'cd /srv/shop && docker compose -p shop-staging -f compose.yml up -d'"}]
  production:
    if: github.ref == 'refs/heads/main'
    runs-on: ubuntu-latest
    environment: production
    steps: [{run: "ssh deploy@192.0.2.1 'cd /srv/shop && docker compose -p shop-prod -f compose.yml up -d'"}]
"""
COMPOSE = """\
services:
  web: {image: ghcr.io/example/shop, container_name: "shop-${STAGE:-live}", volumes: ["files:/files"]}
  redis: {image: "redis:7", volumes: ["queue:/data"]}
volumes: {files: {}, queue: {}}
"""


def describe_changes(folder: Path, files: dict[str, str], removed: str = "") -> list[str]:
    """What `diff` says of the drafted spec, with what is told together; dangers begin with `!`.

    The lines of the draft that have `removed` in them are taken out.
    """
    texts = {"Dockerfile": "FROM node:22\nCOPY . .\nEXPOSE 3000\n", **files}
    for path, text in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    result = build_init_result(folder, "example/shop")
    spec = folder / result.path
    spec.parent.mkdir()
    kept_lines = [line for line in result.text.splitlines() if not removed or removed not in line]
    spec.write_text("\n".join(kept_lines))
    plan, generated = generator.generate_files(spec)
    side = load_folder(folder)
    after = {name: file.text for name, file in generated.items()}
    changes = compare.compare_pipelines(side, plan, after, side).changes
    return [
        f"{'! ' if change.is_dangerous else ''}{change.subject}: {change.words} {change.summary} {change.item}"
        for change in changes
    ]


def test_a_compose_file_of_two_environments_is_compared_with_both(tmp_path: Path) -> None:
    changes = describe_changes(tmp_path, {"compose.yml": COMPOSE, ".github/workflows/deploy.yml": SHARED})
    assert not [change for change in changes if "no deploy reads" in change]
    assert not [change for change in changes if "renamed" in change or "starts empty" in change]
    assert not [change for change in changes if "not compared" in change]
    for environment in ("staging", "production"):
        assert any(change.startswith(environment) and "accessory" in change for change in changes)


def test_a_volume_of_a_shared_compose_file_that_is_lost_is_marked_for_both(tmp_path: Path) -> None:
    files = {"compose.yml": COMPOSE, ".github/workflows/deploy.yml": SHARED}
    changes = describe_changes(tmp_path, files, removed="queue:/data")
    for environment in ("staging", "production"):
        assert [change for change in changes if change.startswith(f"! {environment}") and "queue" in change]


def test_the_file_that_the_deploys_of_another_environment_name_is_not_compared(tmp_path: Path) -> None:
    """Staging has a Compose file on its server only, so nothing is known of its containers."""
    workflow = SHARED.replace("shop-staging -f compose.yml", "shop-staging -f on-the-server.yml")
    changes = describe_changes(tmp_path, {"compose.yml": COMPOSE, ".github/workflows/deploy.yml": workflow})
    assert any(change.startswith("production") and "accessory" in change for change in changes)
    assert not [change for change in changes if change.startswith("staging") and "accessory" in change]


ON_ITS_RUNNER = (
    SHARED.partition("  staging:")[0]
    + """\
  production:
    runs-on: [self-hosted]
    environment: production
    env: {NAME: compose.second.yml}
    steps: [{run: "cd /srv/shop && docker compose up -d"}]
"""
)


@pytest.mark.parametrize("is_in_script", [True, False])
def test_the_compose_file_that_the_variable_names_is_compared(tmp_path: Path, is_in_script: bool) -> None:
    """A script sets the variable, or the job of a runner on the server does."""
    if is_in_script:
        workflow = ON_ITS_RUNNER.replace("cd /srv", "export COMPOSE_FILE=compose.second.yml; cd /srv")
    else:
        workflow = ON_ITS_RUNNER.replace("NAME:", "COMPOSE_FILE:")
    files = {"compose.second.yml": COMPOSE, "compose.yml": COMPOSE.replace("queue:/data", "other:/data")}
    changes = describe_changes(tmp_path, {**files, ".github/workflows/deploy.yml": workflow}, removed="queue:/data")
    assert [change for change in changes if change.startswith("! production") and "queue" in change]
    assert not [change for change in changes if "other:/data" in change]


@pytest.mark.parametrize(
    "condition",
    ["github.event_name == 'push'", "github.event_name == 'push' || github.event_name == 'workflow_dispatch'"],
)
def test_a_build_that_runs_on_no_pull_request_stops_none_there(tmp_path: Path, condition: str) -> None:
    workflow = CI.replace("github.event_name == 'push'", condition)
    changes = describe_changes(tmp_path, {".github/workflows/ci.yml": workflow})
    assert not [change for change in changes if "pull request" in change and "no longer" in change]
    assert not [change for change in changes if "its tests now also run on pull request" in change]


def test_a_build_of_pull_requests_goes_on_in_the_workflow_of_pull_requests(tmp_path: Path) -> None:
    workflow = CI.replace("    if: github.event_name == 'push'\n", "", 1)
    changes = describe_changes(tmp_path, {".github/workflows/ci.yml": workflow})
    assert not [change for change in changes if "no longer builds on pull request" in change]
    assert any("on pull request, `pull-requests` builds it, and pushes no image" in change for change in changes)


def test_a_secret_of_a_job_that_stays_is_still_needed(tmp_path: Path) -> None:
    uses = "{uses: example/report@v1, with: {token: '${{ secrets.REPORTS }}', team: '${{ vars.TEAM }}'}}"
    workflow = CI.replace("{uses: example/report@v1}", uses)
    changes = describe_changes(tmp_path, {".github/workflows/ci.yml": workflow})
    assert not [change for change in changes if "REPORTS" in change or "TEAM" in change]
