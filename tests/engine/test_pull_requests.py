"""The workflow of pull requests, run by act: what the check that is required says of a few pull requests.

No engine runs: act runs the jobs on this machine, with a stand-in for actions/checkout. What they print is not looked
at, for act sometimes loses the output of a step that ends at once; tests/test_pull_requests.py does.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from kiwari_ci import generator
from kiwari_ci.file_output.generated_files import write_files
from kiwari_ci.planning.pull_requests import WORKFLOW_PATH
from tests.rehearsal.github import HERE, USES, parsed
from tests.rehearsal.on_trial import act
from tests.repository import Repository

# Builds that take a secret are not tried in pull requests, which would need an engine.
SPEC = """\
project: {name: shop, repository: example/shop, pull_requests: true}
hosts: {vps: {}}
services:
  api: {port: 80, build: {secrets: {token: TOKEN}}, test: {run: grep -q good api/code}}
  web: {port: 80, build: {secrets: {token: TOKEN}}, test: {run: grep -q good web/code}}
environments: {live: {deploy_on: {push: main}}}
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository with two services, and what is generated for them."""
    if not os.path.exists(act()):
        words = "the workflow of pull requests needs act: as root on Debian 12, run .ci/install-engine"
        pytest.fail(words) if os.environ.get("CI") == "true" else pytest.skip(words)
    folder = tmp_path_factory.mktemp("shop")
    repository = Repository(folder / "repository")
    (folder / "shop.yaml").write_text(SPEC)
    plan, files = generator.generate_files(folder / "shop.yaml")
    write_files(repository.folder, files, plan.project)
    repository.git("config", "uploadpack.allowAnySHA1InWant", "true")
    repository.commit("start", api__code="good", web__code="good")
    return repository


def check(repository: Repository, folder: Path, **files: str) -> dict[str, str]:
    """Open a pull request with these changes, and run its workflow for the merge commit; how each job ended."""
    repository.git("checkout", "-q", "-B", "topic", "main")
    repository.commit("change", **files)
    repository.git("checkout", "-q", "--detach", "main")
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "topic")
    work = folder / "work"
    subprocess.run(["git", "clone", "-q", f"file://{repository.folder}", str(work)], check=True)
    commit = repository.git("rev-parse", "HEAD")
    for words in (["checkout", "-q", commit], ["remote", "set-url", "origin", "https://github.com/example/shop"]):
        subprocess.run(["git", "-C", str(work), "-c", "advice.detachedHead=false", *words], check=True)
    (folder / "event.json").write_text(json.dumps({"pull_request": {"number": 1}}))
    text = (work / WORKFLOW_PATH).read_text()
    words = ["pull_request", "-C", str(work), "-W", WORKFLOW_PATH, "-e", str(folder / "event.json"), "--json"]
    words += ["--no-skip-checkout", "--no-cache-server", "--action-cache-path", str(folder / "cache")]
    words += ["-P", "ubuntu-24.04=-self-hosted"]
    for name, _, action in sorted(set(USES.findall(text))):
        words += ["--local-repository", f"{name}={HERE / 'actions' / action}"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "REHEARSAL_REPOSITORY": str(repository.folder)}
    done = subprocess.run([act(), *words], env=environment, capture_output=True, text=True, timeout=120)
    lines = [parsed(line) for line in done.stdout.splitlines()]
    results = {line["jobID"]: line["jobResult"] for line in lines if "jobResult" in line}
    assert results, done.stdout + done.stderr
    return results


def test_only_the_service_that_is_touched_is_tested(repository: Repository, tmp_path: Path) -> None:
    results = check(repository, tmp_path, api__code="good, and new")
    assert results == {"changes": "success", "test-api": "success", "all-passed": "success"}


def test_a_failed_test_is_red_at_the_end(repository: Repository, tmp_path: Path) -> None:
    results = check(repository, tmp_path, api__code="bad", web__code="good, and new")
    assert results == {
        "changes": "success",
        "test-api": "failure",
        "test-web": "success",
        "all-passed": "failure",
    }


def test_a_change_of_no_service_is_green(repository: Repository, tmp_path: Path) -> None:
    results = check(repository, tmp_path, README="new")
    assert results == {"changes": "success", "all-passed": "success"}
