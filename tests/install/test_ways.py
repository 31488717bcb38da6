"""Each way of getting it, as docs/install.md has it, run for real."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from kiwari_ci.generator import generate_files
from kiwari_ci.rendering.render import DRIFT_WORKFLOW_PATH
from tests.install.conftest import GIT, INSTALL_PAGE, ROOT, Index, hash_file, lacks, run, section, succeeds

AGREEMENT = re.compile(r"\.: \d+ files agree with specs/kiwari\.yaml\n")
Repository = tuple[Path, str]


def filled(text: str, repository: Repository) -> str:
    bare, commit = repository
    return text.replace("https://github.com/OWNER/kiwari-ci", f"file://{bare}").replace("COMMIT", commit)


def agrees(person: dict[str, str], monorepo: Path) -> None:
    """What was installed says that a consumer's files are as they should be."""
    assert AGREEMENT.fullmatch(succeeds("~/.kiwari-ci/bin/kiwari-ci check", monorepo, person))


# The page


def test_from_a_commit(
    repository: Repository, index: Index, person: dict[str, str], monorepo: Path, tmp_path: Path
) -> None:
    succeeds(filled(section("With pip and hashes"), repository), tmp_path, index.of(person))
    agrees(person, monorepo)


def test_a_released_version(wheel: Path, index: Index, person: dict[str, str], monorepo: Path, tmp_path: Path) -> None:
    script = section("A released version")
    result = run(script.replace("HASH", "0" * 64), tmp_path, index.of(person))
    assert result.returncode == 1 and "THESE PACKAGES DO NOT MATCH THE HASHES" in result.stdout
    succeeds(script.replace("HASH", hash_file(wheel)), tmp_path, index.of(person))
    agrees(person, monorepo)


def test_without_a_network(wheels: Path, index: Index, person: dict[str, str], monorepo: Path, tmp_path: Path) -> None:
    """pip is not even asked to look at the index that it knows."""
    (tmp_path / "dist").symlink_to(wheels)
    asked = len(index.asked)
    succeeds(section("Without a network"), tmp_path, index.of(person))
    assert len(index.asked) == asked
    agrees(person, monorepo)


def test_a_dependency_with_other_bytes_is_refused(
    wheels: Path, person: dict[str, str], monorepo: Path, tmp_path: Path
) -> None:
    shutil.copytree(wheels, tmp_path / "dist")
    [click] = (tmp_path / "dist").glob("click-*.whl")
    click.write_bytes(click.read_bytes() + b"\0")
    result = run(section("Without a network"), tmp_path, person)
    assert result.returncode == 1 and "DO NOT MATCH THE HASHES" in result.stdout and "click" in result.stdout


# The drift workflow, which test_first_pull_request.py runs


def test_the_drift_step_refuses_another_wheel(
    index: Index, person: dict[str, str], monorepo: Path, tmp_path: Path
) -> None:
    spec = monorepo / "specs/kiwari.yaml"
    generator = f"generator: kiwari-ci==0.1.0 --hash=sha256:{'0' * 64}"
    spec.write_text(re.sub(r"^generator: .*", generator, spec.read_text(), flags=re.MULTILINE))
    _, files = generate_files(spec)
    compare, _ = [step["run"] for step in yaml.safe_load(files[DRIFT_WORKFLOW_PATH].text)["jobs"]["drift"]["steps"][1:]]
    red = run(compare, monorepo, {**index.of(person), "RUNNER_TEMP": str(tmp_path / "runner")})
    assert red.returncode == 1 and "DO NOT MATCH THE HASHES" in red.stdout


# The action


@pytest.fixture
def action(repository: Repository, index: Index, person: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of the action's steps, checked out where a runner puts it."""
    subprocess.run(["git", "clone", "-q", repository[0], tmp_path / "action"], check=True)
    places = {"RUNNER_TEMP": str(tmp_path / "runner"), "GITHUB_ACTION_PATH": str(tmp_path / "action")}
    return index.of(person) | places | {"COMMAND": "check", "SPEC": "", "OUT": "", "GITHUB_ACTIONS": "true"}


def test_the_actions_steps(action: dict[str, str], monorepo: Path) -> None:
    install, use = [step["run"] for step in yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]]
    assert succeeds(install, monorepo, action) == ""
    assert AGREEMENT.fullmatch(succeeds(use, monorepo, action))
    for names in ({"SPEC": "specs/kiwari.yaml", "OUT": "."}, {"COMMAND": "validate", "SPEC": "specs/kiwari.yaml"}):
        succeeds(use, monorepo, {**action, **names})
    (monorepo / "deploy/bin/deploy").chmod(0o644)
    red = run(use, monorepo, action)
    assert red.returncode == 1 and "::error file=deploy/bin/deploy" in red.stdout
    for hostile in ('$(touch owned)"; touch owned; "', "--help", "-"):
        assert run(use, monorepo, {**action, "SPEC": hostile}).returncode == 2
    assert not (monorepo / "owned").exists()


def test_the_action_wants_a_new_python(action: dict[str, str], monorepo: Path, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "old/python3").chmod(0o755)
    install = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"][0]["run"]
    red = run(install, monorepo, {**action, "PATH": f"{tmp_path}/old:{os.environ['PATH']}"})
    assert red.returncode == 1 and red.stdout.startswith("::error::kiwari-ci needs Python 3.11")


def test_the_action_by_act(
    repository: Repository, index: Index, person: dict[str, str], monorepo: Path, tmp_path: Path
) -> None:
    """A workflow of the page uses it; act does the runner's part: inputs, environment, composite steps."""
    act = shutil.which("act", path=f"{ROOT}/.venv/bin:{os.environ['PATH']}")
    if not act:
        lacks("act", ".ci/install-engine")
    job = yaml.safe_load(section("In a workflow of your own", "yaml").replace("COMMIT", repository[1]))
    checkout, validate = job["steps"]
    check = {**validate, "with": {"command": "check", "spec": "specs/kiwari.yaml", "out": "."}}
    workflow = {"on": "push", "jobs": {"it": {"runs-on": "self-hosted", "steps": [checkout, validate, check]}}}
    (tmp_path / "it.yml").write_text(json.dumps(workflow))
    tool = tmp_path / "tool"
    subprocess.run(["git", "clone", "-q", repository[0], tool], check=True)
    words = [str(act), "push", "-W", str(tmp_path / "it.yml"), "-P", "self-hosted=-self-hosted", "-C", str(monorepo)]
    words += ["--no-cache-server", "--no-skip-checkout"]
    stand_ins = {validate["uses"]: tool, checkout["uses"]: ROOT / "tests/rehearsal/actions/checkout"}
    words += [word for name, place in stand_ins.items() for word in ("--local-repository", f"{name}={place}")]
    caller = {**index.of(person), "REHEARSAL_REPOSITORY": str(monorepo)}
    names = ("PIP_INDEX_URL", "PIP_NO_INDEX", "PIP_CONFIG_FILE", "REHEARSAL_REPOSITORY")
    words += [word for name in names for word in ("--env", f"{name}={caller[name]}")]
    output = succeeds(shlex.join(words), monorepo, caller)
    assert "specs/kiwari.yaml is sound" in output and AGREEMENT.search(output)


# pre-commit


@pytest.fixture
def hooked(repository: Repository, wheels: Path, person: dict[str, str], monorepo: Path) -> dict[str, str]:
    """The consumer's repository has both hooks installed by the real pre-commit."""
    requirements = ROOT / "tests/install/requirements.txt"
    pip = f"~/tools/bin/pip install --quiet --find-links {wheels} --require-hashes --requirement {requirements}"
    succeeds(f"python3 -m venv ~/tools && {pip}", monorepo, person)
    config = filled(section("Before each commit", "yaml"), repository)
    (monorepo / ".pre-commit-config.yaml").write_text(config)
    environment = {**person, "PIP_FIND_LINKS": str(wheels), "PATH": f"{person['HOME']}/tools/bin:{person['PATH']}"}
    names = ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL")
    environment |= dict.fromkeys(names, "x@example.com")
    succeeds("pre-commit install --install-hooks && git add -A && git commit -qm hooks", monorepo, environment)
    return environment


def test_the_check_hook(hooked: dict[str, str], monorepo: Path) -> None:
    name = "generated files agree with the spec"
    (monorepo / "api").mkdir()
    (monorepo / "api/main.go").write_text("package main\n")
    output = succeeds("git add -A && git commit -m code", monorepo, hooked)
    assert re.search(rf"{name}\.+\(no files to check\)Skipped", output)
    succeeds("echo '# by hand' >>deploy/bin/deploy", monorepo, hooked)
    red = run("git add -A && git commit -m hand", monorepo, hooked)
    assert red.returncode == 1 and "edited by hand: deploy/bin/deploy" in red.stdout
    assert succeeds("git log -1 --format=%s", monorepo, hooked) == "code\n"
    succeeds("git checkout -q HEAD -- deploy", monorepo, hooked)
    spec = monorepo / "specs/kiwari.yaml"
    spec.write_text(spec.read_text().replace("path: /health", "path: /healthz"))
    assert "cure: kiwari-ci generate" in run("git commit -qam spec", monorepo, hooked).stdout


def test_the_generate_hook(hooked: dict[str, str], monorepo: Path) -> None:
    """It writes, and stops the commit once: what it wrote has to be added."""
    config = monorepo / ".pre-commit-config.yaml"
    config.write_text(config.read_text().replace("kiwari-ci-check", "kiwari-ci-generate"))
    spec = monorepo / "specs/kiwari.yaml"
    spec.write_text(spec.read_text().replace("path: /health", "path: /healthz"))
    red = run("git add -A && git commit -m spec", monorepo, hooked)
    assert red.returncode == 1 and "files were modified by this hook" in red.stdout
    assert "deploy/pos-staging/docker-compose.yml" in red.stdout
    assert "Passed" in succeeds("git add -A && git commit -m spec", monorepo, hooked)


def test_every_hook_is_in_the_page() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert all(hook["id"] in INSTALL_PAGE and not hook["pass_filenames"] for hook in hooks)
    files = {
        path
        for path in subprocess.run(
            [*GIT, "ls-files", "generated"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
    }
    for hook in hooks:
        assert all(
            re.search(hook["files"], path) and re.search(hook["files"], path.removeprefix("generated/"))
            for path in files
        )
        assert not any(
            re.search(hook["files"], path) for path in ("api/deploy/x", "README.md", "specs/a/b.yaml", "specs/x.md")
        )
