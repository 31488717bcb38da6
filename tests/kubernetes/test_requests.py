"""What the program refuses, how it treats secrets, what it prints in a job, and what it tells a person."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kiwari_ci.engines.kubernetes.deploy_programs import rollout
from tests.kubernetes.fake_kubectl import Image
from tests.kubernetes.world import ACCESSORY, STACK, World, digest, job, web

GOOD = f"web={digest('web', 1)}"
DEPLOY = ("deploy", "--stack", STACK, "--sequence", "1")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "unknown request"),
        (("explode",), "unknown request"),
        (("rollback", STACK), "unknown request"),
        (("status",), "unknown request"),
        ((*DEPLOY,), "there is nothing to deploy"),
        ((*DEPLOY, "web=unchanged"), "there is nothing to deploy"),
        ((*DEPLOY, "web="), "web: '' is not the digest of an image"),
        ((*DEPLOY, "web=sha256:12"), "is not the digest of an image"),
        ((*DEPLOY, "Web=" + digest("web", 1)), "'Web' is not the name of a service"),
        ((*DEPLOY, GOOD, GOOD), "web is on the command line more than once"),
        ((*DEPLOY, "other=" + digest("web", 1)), "has no service 'other'"),
        (("deploy", "--stack", STACK, GOOD), "--sequence is missing"),
        (("deploy", "--sequence", "1", GOOD), "'' is not the name of a stack"),
        (("deploy", "--stack", "../x", "--sequence", "1", GOOD), "is not the name of a stack"),
        (("deploy", "--stack", "other", "--sequence", "1", GOOD), "there is no stack 'other' here"),
        (("deploy", "--stack", STACK, "--sequence", "0", GOOD), "--sequence '0' is not valid"),
        ((*DEPLOY, "--verbose", GOOD), "--verbose is not an option"),
        ((*DEPLOY, GOOD, "--kubeconfig"), "--kubeconfig needs 1 word behind it"),
        ((*DEPLOY, GOOD, "--kubeconfig", "a b"), "is not the name of a variable"),
        ((*DEPLOY, GOOD, "--kubeconfig", "KUBE"), "KUBE is not set: runbook, the step about GitHub"),
        ((*DEPLOY, GOOD, "--env", ".env", "A"), "--env needs 3 words behind it"),
        ((*DEPLOY, GOOD, "--env", ".env", "A", "NOT_SET"), "NOT_SET is not set"),
        ((*DEPLOY, GOOD, "--env", "../.env", "A", "B"), "is not the name of an env file"),
        ((*DEPLOY, GOOD, "--env-value", ".env", "A-B", "x"), "has a name that no variable can have"),
    ],
)
def test_a_request_that_is_refused(world: World, arguments: tuple[str, ...], sentence: str) -> None:
    outcome = world.run(*arguments)

    assert outcome.code == 64
    assert outcome.says(sentence)
    assert world.kubectl.commands == []


def test_a_file_that_is_not_yaml(world: World, root: Path) -> None:
    world.kubectl.answer = lambda words, stdin: rollout.Output(1, "", "error: error parsing web: mapping values\n")  # type: ignore[method-assign]
    outcome = world.run(*DEPLOY, GOOD)

    assert outcome.code == 64
    assert outcome.says("cannot be read: error: error parsing web")


# In a job of GitHub


@pytest.fixture
def job_files(world: World, tmp_path: Path) -> dict[str, Path]:
    files = {name: tmp_path / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    world.environment = {name: str(path) for name, path in files.items()}
    world.environment |= {"GITHUB_ACTIONS": "true", "GITHUB_SHA": "abc123", "GITHUB_RUN_ID": "4711"}
    return files


def test_a_job_gets_a_table(world: World, job_files: dict[str, Path]) -> None:
    world.deploy(1)
    outcome = world.deploy(2)

    assert outcome.code == 0
    lines = job_files["GITHUB_STEP_SUMMARY"].read_text().splitlines()
    assert lines[:2] == ["| Service | Image | Commit | Seconds | Result |", "| - | - | - | - | - |"]
    assert lines[-2] == f"| web | {digest('web', 1)} → {digest('web', 2)} | abc123 | 14 | serving |"
    assert not job_files["GITHUB_OUTPUT"].exists()
    assert world.deployment().mark.startswith("4711-")


def test_a_job_gets_an_error_that_says_why(world: World, job_files: dict[str, Path]) -> None:
    world.deploy(1)
    outcome = world.deploy(2, Image(exits_after=0.5, exit_code=3))

    errors = [line for line in outcome.text.splitlines() if line.startswith("::error::")]
    assert len(errors) == 1
    assert errors[0].startswith("::error::shop: web-")
    assert errors[0].endswith("did not stay up: exit code 3 (Error)")
    assert outcome.result["result"] == "failed"  # the last line all the same


def test_a_superseded_job_is_green_and_says_by_what(world: World, job_files: dict[str, Path]) -> None:
    world.deploy(2)
    outcome = world.deploy(1)

    assert outcome.code == 0
    assert outcome.result["exit"] == 3
    assert job_files["GITHUB_OUTPUT"].read_text() == "superseded-by=2\n"
    assert outcome.says(f"::notice::web: superseded by a newer commit; {digest('web', 2)} serves")


def test_a_request_that_is_refused_in_a_job(world: World, job_files: dict[str, Path]) -> None:
    assert world.run(*DEPLOY, "web=").text.startswith("::error::web: '' is not the digest")


def test_an_error_has_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """The text may be the cluster's, or that of an admission webhook."""
    rollout.print_error("denied: \x1b[2J\u202e100%\r\n::error::owned", is_job=True)
    assert capsys.readouterr().out == "::error::denied: ?[2J?100%25?%0A::error::owned\n"


def test_a_cancelled_job_takes_its_rollout_back(world: World, job_files: dict[str, Path]) -> None:
    world.deploy(1)

    def cancel() -> None:
        raise rollout.Stopped(signal.SIGINT)

    world.kubectl.at[world.cluster.clock + 6] = cancel
    outcome = world.deploy(2, Image(answers_after=None))

    assert outcome.code == 130
    assert outcome.result["message"] == "the run was cancelled"
    assert outcome.result["seconds"] < 9  # GitHub gives a cancelled step a few seconds
    assert world.deployment().sequence == 1
    world.settle()
    assert world.serves(1)


def test_a_mistake_in_the_program_takes_the_rollout_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.deploy(1)
    monkeypatch.setattr(rollout, "follow", lambda stack, services: 1 / 0)
    outcome = world.deploy(2)

    assert outcome.code == 1
    assert outcome.says("a mistake in bin/rollout itself: ZeroDivisionError")
    world.settle()
    assert world.serves(1)


# For a person


def test_status(root: Path) -> None:
    world = World(root, web(replicas=2), web("api"), ACCESSORY.replace("CACHE", 64 * "c"))
    world.deploy(1)
    outcome = world.run("status", STACK)

    assert outcome.code == 0
    assert outcome.says("shop/web: 2 of 2 pods serve")
    assert outcome.says(f"  served: ghcr.io/acme/web@{digest('web', 1)} 1 ")
    assert outcome.says("shop/api: DOES NOT RUN: it has no Deployment")
    assert not outcome.says("a rollout is under way")


def test_check_of_a_cluster_that_is_ready(root: Path) -> None:
    world = World(root, web(), job(), ACCESSORY.replace("CACHE", 64 * "c"))
    outcome = world.run("check", STACK)

    assert outcome.code == 0
    assert outcome.says("nothing that a check can see prevents a deploy of shop")
    assert world.kubectl.commands == []


def test_check_names_the_missing_rights(world: World) -> None:
    world.kubectl.forbidden = {("patch", "services"), ("get", "pods/log"), ("delete", "jobs.batch")}
    outcome = world.run("check", STACK)

    assert outcome.code == 69
    assert outcome.says("may not do this in the namespace shop: get pods/log, patch services, delete jobs.batch")


# The program as a process, with a kubectl that is a script

SCRIPT = """#!/bin/sh
[ "$2" = annotate ] && exec cat "$STATE/documents"
stat -c %a "$KUBECONFIG" >"$STATE/mode"
cat "$KUBECONFIG" >"$STATE/kubeconfig"
echo "$KUBECONFIG" >"$STATE/path"
env >"$STATE/environment"
echo "$@" >>"$STATE/arguments"
echo "Error from server (Forbidden): pods is forbidden" >&2
exit 1
"""


def test_the_kubeconfig_is_in_a_private_file_that_is_removed(tmp_path: Path) -> None:
    state, programs, runner = tmp_path / "state", tmp_path / "programs", tmp_path / "runner"
    for folder in (state, programs, runner, tmp_path / "deploy/bin", tmp_path / "deploy/shop"):
        folder.mkdir(parents=True)
    kubectl = programs / "kubectl"
    kubectl.write_text(SCRIPT)
    kubectl.chmod(0o755)
    document = {"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": {}}}
    (state / "documents").write_text(json.dumps(document))
    (tmp_path / "deploy/shop/kubernetes.yaml").write_text("")
    program = tmp_path / "deploy/bin/rollout"
    program.write_bytes(Path(rollout.__file__).read_bytes())
    secrets = {"CLUSTER_KUBECONFIG": "the secret kubeconfig", "JWT": "the secret token"}
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "STATE": str(state),
        "RUNNER_TEMP": str(runner),
        **secrets,
    }
    options = ["--kubeconfig", "CLUSTER_KUBECONFIG", "--env", ".env", "JWT_SECRET", "JWT"]

    ended = subprocess.run(
        [sys.executable, "-I", str(program), *DEPLOY, *options, GOOD], env=environment, capture_output=True, text=True
    )

    assert ended.returncode == 69
    assert "pods is forbidden" in ended.stderr
    assert (state / "kubeconfig").read_text() == "the secret kubeconfig"
    assert (state / "mode").read_text().strip() == oct(stat.S_IRUSR | stat.S_IWUSR)[2:]
    assert (state / "path").read_text().startswith(str(runner))
    assert list(runner.iterdir()) == []
    printed = ended.stdout + ended.stderr + (state / "arguments").read_text() + (state / "environment").read_text()
    assert "the secret" not in printed


def test_a_person_chooses_the_context(tmp_path: Path) -> None:
    for folder in (tmp_path / "programs", tmp_path / "deploy/bin", tmp_path / "deploy/shop"):
        folder.mkdir(parents=True)
    kubectl = tmp_path / "programs/kubectl"
    kubectl.write_text('#!/bin/sh\necho "$@" >&2\nexit 1\n')
    kubectl.chmod(0o755)
    (tmp_path / "deploy/shop/kubernetes.yaml").write_text("")
    program = tmp_path / "deploy/bin/rollout"
    program.write_bytes(Path(rollout.__file__).read_bytes())

    ended = subprocess.run(
        [sys.executable, "-I", str(program), "--context", "admin@shop", "status", "shop"],
        env={"PATH": f"{kubectl.parent}:{os.environ['PATH']}"}, capture_output=True, text=True,
    )  # fmt: skip

    assert "--context=admin@shop annotate" in ended.stderr


def test_without_kubectl(tmp_path: Path) -> None:
    (tmp_path / "deploy/bin").mkdir(parents=True)
    (tmp_path / "deploy/shop").mkdir()
    (tmp_path / "deploy/shop/kubernetes.yaml").write_text("")
    program = tmp_path / "deploy/bin/rollout"
    program.write_bytes(Path(rollout.__file__).read_bytes())

    ended = subprocess.run(
        [sys.executable, "-I", str(program), "status", "shop"], env={"PATH": "/nowhere"}, capture_output=True, text=True
    )

    assert (ended.returncode, ended.stderr) == (69, "rollout: kubectl is not installed\n")
