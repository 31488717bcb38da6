"""The first pull request of a repository that has just adopted kiwari-ci: green, however the tool was installed.

A person follows docs/install.md, runs `init` and `generate`, does what `generate` asks for, and opens a pull request.
act runs the generated pipeline-drift.yml for it, as GitHub's runner would.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from kiwari_ci.rendering.render import DRIFT_WORKFLOW_PATH
from tests.install.conftest import GIT, ROOT, Index, hash_file, lacks, run, section, succeeds

TOOL = "~/.kiwari-ci/bin/kiwari-ci"
ADDRESS = "https://github.com/example/kiwari-ci"
AGREEMENT = re.compile(r"\.: \d+ files agree with specs/shop\.yaml")
VENDORED = ".github/kiwari-ci"
Repository = tuple[Path, str]


def reach_github(repository: Repository) -> dict[str, str]:
    """Settings of git that lead from the tool's address to the repository of this machine."""
    names = {"COUNT": "1", "KEY_0": f"url.file://{repository[0]}.insteadOf", "VALUE_0": ADDRESS}
    return {f"GIT_CONFIG_{name}": value for name, value in names.items()}


def install_from_a_commit(folder: Path, wheel: Path) -> str:
    return (
        f"python3 -m venv ~/.kiwari-ci\n~/.kiwari-ci/bin/pip install --quiet {shlex.quote(f'git+{ADDRESS}@COMMIT')}\n"
    )


def install_from_a_clone(folder: Path, wheel: Path) -> str:
    return section("With pip and hashes")


def install_from_a_wheel(folder: Path, wheel: Path) -> str:
    shutil.copy(wheel, folder)
    return f"python3 -m venv ~/.kiwari-ci\n~/.kiwari-ci/bin/pip install --quiet ./{wheel.name}\n"


def install_a_release(folder: Path, wheel: Path) -> str:
    return section("A released version").replace("HASH", hash_file(wheel))


def install_without_a_network(folder: Path, wheel: Path) -> str:
    return section("Without a network")


# How the tool is installed, and what its person then writes into the spec: `generate` printed the form of it.
WAYS = {
    "commit": (install_from_a_commit, ""),
    "clone": (install_from_a_clone, f"git+{ADDRESS}@COMMIT"),
    "wheel": (install_from_a_wheel, f"./{VENDORED}/WHEEL --hash=sha256:HASH"),
    "release": (install_a_release, "kiwari-ci==0.1.0 --hash=sha256:HASH"),
    "offline": (install_without_a_network, f"./{VENDORED}/WHEEL --hash=sha256:HASH"),
}
LONG_WAYS = ("clone", "release", "offline")  # the drift workflow of each has the form of another one's


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A repository with one service, in which nobody has used the tool yet; its branch `adopt` is checked out."""
    folder = tmp_path / "shop"
    (folder / "web").mkdir(parents=True)
    (folder / "web/Dockerfile").write_text("FROM scratch\nCOPY app /\nEXPOSE 8080\n")
    (folder / "web/app").write_text("a program\n")
    (folder / "click.py").write_text("raise SystemExit('a file of the checkout was imported')\n")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "a shop"], ["switch", "-qc", "adopt"]):
        subprocess.run([*GIT, *words], cwd=folder, check=True)
    return folder


def generate_as_asked(shop: Path, requirement: str, wheel: Path, person: Mapping[str, str]) -> None:
    """Run `init` and `generate`. If `generate` cannot know the source, write what it asks for, and run it again."""
    succeeds(f"{TOOL} init . --repository example/shop", shop, person)
    if not requirement:
        succeeds(f"{TOOL} generate", shop, person)
        return
    stopped = run(f"{TOOL} generate", shop, person)
    assert stopped.returncode == 2 and "nobody knows from where it was installed" in stopped.stdout
    if requirement.startswith("./"):
        (shop / VENDORED).mkdir(parents=True)
        shutil.copy(wheel, shop / VENDORED)
    spec = shop / "specs/shop.yaml"
    spec.write_text(f"{spec.read_text()}\ngenerator: {requirement}\n")
    succeeds(f"{TOOL} generate", shop, person)


def open_pull_request(shop: Path, message: str) -> None:
    """Commit everything, and check out what GitHub runs: the merge of the branch into main."""
    subprocess.run([*GIT, "add", "-A"], cwd=shop, check=True)
    subprocess.run([*GIT, "commit", "-qm", message], cwd=shop, check=True)
    subprocess.run([*GIT, "switch", "-q", "--detach", "main"], cwd=shop, check=True)
    subprocess.run([*GIT, "merge", "-q", "--no-ff", "-m", "the merge", "adopt"], cwd=shop, check=True)


def run_drift_workflow(shop: Path, runner: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """The generated workflow, run by act for a pull request. Only actions/checkout is replaced."""
    act = shutil.which("act", path=f"{ROOT}/.venv/bin:{os.environ['PATH']}")
    if not act:
        lacks("act", ".ci/install-engine")
    workflow = (shop / DRIFT_WORKFLOW_PATH).read_text()
    event = shop.parent / "event.json"
    event.write_text(json.dumps({"pull_request": {"head": {"ref": "adopt"}, "base": {"ref": "main"}}}))
    command = [act, "pull_request", "-C", str(shop), "-W", DRIFT_WORKFLOW_PATH, "-e", str(event)]
    command += ["--no-cache-server", "--no-skip-checkout", "-P", "ubuntu-24.04=-self-hosted"]
    for action in set(re.findall(r"uses: (actions/checkout@[0-9a-f]{40})", workflow)):
        command += ["--local-repository", f"{action}={ROOT}/tests/rehearsal/actions/checkout"]
    seen_by_steps = {name: value for name, value in runner.items() if name.startswith(("PIP_", "GIT_"))}
    for name, value in {**seen_by_steps, "REHEARSAL_REPOSITORY": str(shop)}.items():
        command += ["--env", f"{name}={value}"]
    return run(shlex.join(map(str, command)), shop, runner)


@pytest.mark.parametrize("way", [pytest.param(way, marks=[pytest.mark.long] * (way in LONG_WAYS)) for way in WAYS])
def test_the_first_pull_request_is_green(
    way: str,
    repository: Repository,
    wheel: Path,
    wheels: Path,
    index: Index,
    person: dict[str, str],
    shop: Path,
    tmp_path: Path,
) -> None:
    install, requirement = WAYS[way]
    online = {**index.of(person), **reach_github(repository)}
    filled_in = requirement.replace("COMMIT", repository[1]).replace("WHEEL", wheel.name)
    (tmp_path / "dist").symlink_to(wheels)

    commands = install(tmp_path, wheel).replace("OWNER", "example").replace("COMMIT", repository[1])
    succeeds(commands, tmp_path, online)
    generate_as_asked(shop, filled_in.replace("HASH", hash_file(wheel)), wheel, person)
    open_pull_request(shop, "adopt kiwari-ci")
    green = run_drift_workflow(shop, online)

    assert green.returncode == 0, green.stdout
    assert AGREEMENT.search(green.stdout)
    assert "a file of the checkout was imported" not in green.stdout


def test_a_pull_request_with_a_stale_file_is_red(
    repository: Repository, index: Index, person: dict[str, str], shop: Path, tmp_path: Path
) -> None:
    """The spec changes, and nobody runs `generate`."""
    online = {**index.of(person), **reach_github(repository)}
    environment = {**person, "PYTHONPATH": str(ROOT), "KIWARI_CI_SOURCE": f"git+{ADDRESS}@{repository[1]}"}
    tool = f"{ROOT}/.venv/bin/kiwari-ci"
    succeeds(f"{tool} init . --repository example/shop && {tool} generate", shop, environment)
    spec = shop / "specs/shop.yaml"
    spec.write_text(spec.read_text().replace("port: 8080", "port: 9090"))
    open_pull_request(shop, "another port")

    red = run_drift_workflow(shop, online)

    assert red.returncode == 1, red.stdout
    assert "deploy/shop-production/docker-compose.yml" in red.stdout and "kiwari-ci generate" in red.stdout
