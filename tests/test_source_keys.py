"""What an image is found by: the scripts of generated workflows run here, with stand-ins for docker and gh."""

import hashlib
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci import generator
from tests.repository import Repository
from tests.workflow import Workflow

CASES = Path(__file__).parent / "cases" / "ok"
REGISTRY_PROGRAM = """#!/usr/bin/env bash
# A registry: a file for each tag, whose bytes are the manifest.
if [ "$3" = inspect ]; then
  cat "$REGISTRY/${5//[\\/:@]/_}" 2>/dev/null && exit 0
  echo "ERROR: $5: not found" >&2
  exit 1
fi
for file in "$REGISTRY"/*; do
  if [ "sha256:$(sha256sum <"$file" | cut -c1-64)" = "${7#*@}" ]; then
    cat "$file" >"$REGISTRY.copy"
  fi
done
cp "$REGISTRY.copy" "$REGISTRY/${6//[\\/:@]/_}"
"""
SIGNATURES_PROGRAM = """#!/usr/bin/env bash
printf '%s\\n' "$@" >>"$REGISTRY.signatures"
[ -e "$REGISTRY.signed" ]
"""


class Runner:
    """A machine that runs the steps of workflows in a checkout."""

    def __init__(self, folder: Path) -> None:
        self.repository = Repository(folder / "checkout")
        self.registry = folder / "registry"
        self.registry.mkdir()
        programs = folder / "programs"
        programs.mkdir()
        for name, text in (("docker", REGISTRY_PROGRAM), ("gh", SIGNATURES_PROGRAM)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "REGISTRY": str(self.registry)}
        self.outputs = folder / "outputs"

    def commit(self) -> None:
        """Commit the sources of both images, and say that the branches of the origin have them."""
        self.repository.commit("first", web__Dockerfile="FROM x", base__Dockerfile="FROM y")
        for branch in ("main", "develop"):
            self.repository.git("update-ref", f"refs/remotes/origin/{branch}", "HEAD")

    def push_image(self, tag: str, manifest: str) -> str:
        """Put an image into the registry; its digest."""
        (self.registry / re.sub("[/:@]", "_", tag)).write_text(manifest)
        return f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"

    def run(self, script: str, **environment: str) -> tuple[int, str, dict[str, str]]:
        """Run a step as GitHub does: its exit code, what it prints, and its outputs."""
        self.outputs.write_text("")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=self.repository.folder,
            env={**self.environment, "GITHUB_OUTPUT": str(self.outputs), **environment},
            capture_output=True,
            text=True,
        )
        pairs = (line.partition("=") for line in self.outputs.read_text().splitlines())
        return done.returncode, done.stdout + done.stderr, {name: value for name, _, value in pairs}


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    runner = Runner(tmp_path)
    runner.commit()
    return runner


def read_workflow(case: str, name: str) -> Workflow:
    files = generator.generate_files(CASES / case / "spec.yaml")[1]
    return Workflow(files[f".github/workflows/{name}.yml"].text)


def find_step(workflow: Workflow, step_id: str, job: str = "") -> Any:
    steps = [step for where, _, step in workflow.steps if step.get("id") == step_id and job in ("", where[1])]
    return steps[0]


def name_source(runner: Runner, service: str, ref: str = "refs/heads/main", **variables: str) -> dict[str, str]:
    """The outputs of the step that computes the key of an image; it removes `.git`, which the test keeps."""
    workflow = read_workflow("source-keys", "base-ci")
    script = find_step(workflow, "source", f"build-{service}")["run"].replace("rm -rf .git", "true")
    environment = {"VARIABLE_API_URL": "", "VARIABLE_MIRROR": "", "GITHUB_REF": ref, **variables}
    exit_code, text, outputs = runner.run(script, **environment)
    assert exit_code == 0, text
    return outputs


def promote(runner: Runner, **environment: str) -> tuple[int, str, dict[str, str]]:
    script = find_step(read_workflow("source-keys", "promote"), "find")["run"]
    values = {"VARIABLE_API_URL": "", "VARIABLE_MIRROR": "", "GITHUB_REF_NAME": "v1.2.0", "GITHUB_EVENT_NAME": "push"}
    return runner.run(script, **{**values, **environment})


def push_both_images(runner: Runner, **variables: str) -> str:
    """What the pushes to main have built; the digest of the web service's image."""
    key = name_source(runner, "base", **variables)["key"]
    runner.push_image(f"ghcr.io/example/shop-base:{key}", "base")
    key = name_source(runner, "web", **variables)["key"]
    return runner.push_image(f"ghcr.io/example/shop-web:{key}", "web")


def test_a_key_has_all_digits(runner: Runner) -> None:
    assert re.fullmatch("src-[0-9a-f]{64}", name_source(runner, "web")["key"])


def test_a_variable_of_a_build_is_in_the_key(runner: Runner) -> None:
    key = name_source(runner, "web")["key"]
    assert name_source(runner, "web", VARIABLE_API_URL="https://new.example.com")["key"] != key
    assert name_source(runner, "web", VARIABLE_MIRROR="mirror.example.com")["key"] != key, "that of its base"
    # Two variables cannot change places, whatever line ends they have.
    one = name_source(runner, "web", VARIABLE_API_URL="a\nMIRROR=b", VARIABLE_MIRROR="")
    other = name_source(runner, "web", VARIABLE_API_URL="a", VARIABLE_MIRROR="b")
    assert one["key"] != other["key"]


def test_a_file_with_the_name_of_a_commit_is_no_commit(runner: Runner) -> None:
    """Git refuses a word that is both, unless it is told which of them is meant."""
    count = find_step(read_workflow("source-keys", "base-ci"), "count")["run"]
    _, _, before = runner.run(count)
    runner.repository.commit("second", HEAD="a file")
    for branch in ("main", "develop"):
        runner.repository.git("update-ref", f"refs/remotes/origin/{branch}", "@")
    _, _, after = runner.run(count)
    assert int(after["sequence_number"]) == int(before["sequence_number"]) + 1


def test_branches_do_not_share_a_tag(runner: Runner) -> None:
    """A push always builds; what another branch builds of the same source later must not take the place."""
    keys = {name_source(runner, "web", f"refs/heads/{branch}")["key"] for branch in ("main", "develop")}
    assert len(keys) == 2
    workflow = read_workflow("source-keys", "base-ci")
    [(_, job, *_)] = [where for where, _, step in workflow.steps if step.get("id") == "found"]
    assert job == "build-base", "the image that others are built from, when no commit of the push touches it"


def test_a_base_that_a_push_does_not_touch_is_found_by_its_key(runner: Runner) -> None:
    step = find_step(read_workflow("source-keys", "base-ci"), "found")
    assert step["if"] == "needs.changes.outputs.base == 'false'"
    key = name_source(runner, "base")["key"]
    digest = runner.push_image(f"ghcr.io/example/shop-base:{key}", "base")
    image = step["env"]["IMAGE"].replace("${{ steps.source.outputs.key }}", key)
    folder = {"RUNNER_TEMP": str(runner.registry.parent)}
    assert runner.run(step["run"], IMAGE=image, **folder)[2] == {"digest": digest}
    exit_code, _, outputs = runner.run(step["run"], IMAGE=f"{image}-of-another-source", **folder)
    assert (exit_code, outputs) == (0, {}), "then it is built"


def test_a_promotion_finds_what_the_branch_of_staging_built(runner: Runner) -> None:
    (runner.registry.parent / "registry.signed").touch()
    digest = push_both_images(runner, VARIABLE_API_URL="https://a.example.com")
    exit_code, text, outputs = promote(runner, VARIABLE_API_URL="https://a.example.com")
    assert exit_code == 0, text
    assert outputs["digest-web"] == digest


def test_a_promotion_stops_when_a_variable_changed_since_staging(runner: Runner) -> None:
    (runner.registry.parent / "registry.signed").touch()
    push_both_images(runner, VARIABLE_API_URL="https://old.example.com")
    exit_code, text, outputs = promote(runner, VARIABLE_API_URL="https://new.example.com")
    assert exit_code == 1 and "digest-web" not in outputs
    assert "the present values of API_URL, MIRROR, a change of which needs a rebuild" in text


def test_an_image_without_its_signature_is_not_promoted(runner: Runner) -> None:
    push_both_images(runner)
    exit_code, text, _ = promote(runner)
    assert exit_code == 1 and "has no signature of base-ci: something else pushed it" in text
    assert not list(runner.registry.glob("*v1.2.0")), "nothing was tagged"
    words = (runner.registry.parent / "registry.signatures").read_text().split("\n")
    identity = words[words.index("--cert-identity-regex") + 1]
    signer = "https://github.com/example/shop/.github/workflows/base-ci.yml@refs/heads/"
    assert re.search(identity, f"{signer}main")
    assert not re.search(identity, f"{signer}main2") and not re.search(identity, f"{signer}develop")
    assert not re.search(identity, f"https://evil.example/{signer}main")


def test_a_tag_of_the_name_of_a_remote_branch_proves_nothing(runner: Runner) -> None:
    """A tag `origin/main` would come before the remote branch, if that had no full name."""
    (runner.registry.parent / "registry.signed").touch()
    runner.repository.commit("not merged", other="1")
    runner.repository.git("tag", "origin/main")
    push_both_images(runner)
    exit_code, text, _ = promote(runner)
    assert exit_code == 1 and "v1.2.0 is not on main" in text


def test_the_login_comes_after_the_steps_of_your_own() -> None:
    """What they install must not find a token that may push images."""
    steps = read_workflow("steps", "web-ci").data["jobs"]["build-and-push"]["steps"]
    names = [str(step.get("name") or step["uses"].partition("@")[0]) for step in steps]
    login = names.index("docker/login-action")
    assert names.index("Write down the licences") < login < names.index("Build and push")


def test_a_push_builds_whatever_tags_exist() -> None:
    """Whoever may push a branch can push a `src-` tag, so the job of a push builds without looking for one."""
    workflow = read_workflow("steps", "web-ci")
    job = workflow.data["jobs"]["build-and-push"]
    build = find_step(workflow, "build")
    assert "if" not in build and build["uses"].startswith("docker/build-push-action@")
    assert not any("if" in step for step in job["steps"])
    deploy = workflow.data["jobs"]["deploy-staging"]
    used = [value for step in deploy["steps"] for value in step.get("env", {}).values()]
    assert any("needs.build-and-push.outputs.digest" in str(value) for value in used), "the digest of this build"


@pytest.mark.parametrize("case", ["reached-by-tags", "build-scanned"])
def test_a_tag_that_builds_takes_no_image_from_the_registry(runner: Runner, case: str) -> None:
    """Whoever may push a branch can push a `src-` tag: the digest comes from the run's own build.

    Only a person who goes back to an older source gets the image that is there, and the host must have run it before.
    """
    name = {"reached-by-tags": "release-staging", "build-scanned": "release"}[case]
    workflow = read_workflow(case, name)
    reused = [step for _, _, step in workflow.steps if step.get("id") == "found"]
    assert all(step["if"] == "github.event_name == 'workflow_dispatch'" for step in reused)
    find = find_step(workflow, "find")
    expressions = [value for key, value in find["env"].items() if key.startswith("DIGEST_")]
    assert expressions and all(re.search(r"needs\.build-\w+\.outputs\.digest", value) for value in expressions)
    assert "src-" not in find["run"]
