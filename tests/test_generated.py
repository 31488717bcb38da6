"""What comes of Kiwari's spec: current, the same everywhere, as short as promised, and of one mind."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci import globs, pipeline
from kiwari_ci.tree import Tree, compare
from tests.workflow import Workflow

ROOT = Path(__file__).parents[1]
SPEC = ROOT / "specs/kiwari.yaml"
PLAN, TREE = pipeline.build(SPEC)
WORKFLOWS = {
    Path(path).stem: Workflow(file.text)
    for path, file in TREE.items()
    if path.startswith(".github/workflows/") and path.endswith(".yml")
}
SERVICE_WORKFLOWS = {name: workflow for name, workflow in WORKFLOWS.items() if name.endswith("-ci")}


def test_generated_is_current() -> None:
    """The drift check: `make generate` is the cure."""
    assert [f"{each.kind}: {each.path}" for each in compare(ROOT / "generated", TREE, PLAN.project)] == []


def test_nothing_else_is_in_there() -> None:
    there = {
        path.relative_to(ROOT / "generated").as_posix() for path in (ROOT / "generated").rglob("*") if path.is_file()
    }
    assert there == TREE.keys()


# The same bytes, whatever is around.


@pytest.mark.parametrize(
    ("folder", "spec", "umask", "environment"),
    [
        (ROOT, "specs/kiwari.yaml", 0o022, {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Asia/Jakarta"}),
        (ROOT / "specs", "kiwari.yaml", 0o077, {"PYTHONHASHSEED": "2", "LC_ALL": "POSIX", "PYTHONUTF8": "0"}),
        (Path("/"), str(SPEC), 0o002, {"PYTHONHASHSEED": "3", "LANG": "tr_TR.UTF-8", "PYTHONIOENCODING": "latin-1"}),
    ],
)
def test_the_same_bytes(tmp_path: Path, folder: Path, spec: str, umask: int, environment: dict[str, str]) -> None:
    subprocess.run(
        [sys.executable, "-m", "kiwari_ci", "generate", spec, "--out", tmp_path / "out"],
        cwd=folder,
        umask=umask,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | environment,
        check=True,
        capture_output=True,
    )
    assert compare(tmp_path / "out", TREE, PLAN.project) == []


def test_line_ends_of_windows_make_no_difference(tmp_path: Path) -> None:
    copy = tmp_path / "kiwari.yaml"
    copy.write_bytes(b"\xef\xbb\xbf" + SPEC.read_bytes().replace(b"\n", b"\r\n"))
    assert pipeline.build(copy)[1] == TREE


def test_no_line_ends_in_a_blank_or_a_carriage_return() -> None:
    for path, file in TREE.items():
        assert file.text.endswith("\n") and not file.text.endswith("\n\n"), path
        assert not re.search(r"[ \t\r]$", file.text, re.MULTILINE), path


def test_every_head_says_what_it_is() -> None:
    for path, file in TREE.items():
        who = "An example, written" if path.endswith(".example") else "Generated"
        words = f"{who} by kiwari-ci (kiwari). Edit the spec, then run: kiwari-ci generate"
        assert any(words in line for line in file.text.splitlines()[:2]) == file.marked, path
    assert [path for path, file in TREE.items() if not file.marked] == ["specs/kiwari.yaml"]


# Short, and measured.


def test_workflows_are_short() -> None:
    assert (
        sum(len(workflow.text.splitlines()) for name, workflow in WORKFLOWS.items() if name != "pipeline-drift") <= 350
    )


@pytest.mark.parametrize("stack", [stack.name for stack in PLAN.stacks])
def test_each_compose_service_is_short(stack: str) -> None:
    services = TREE[f"deploy/{stack}/docker-compose.yml"].text.split("\nservices:\n")[1].split("\nnetworks:\n")[0]
    for service in re.split(r"\n\n", services.strip("\n")):
        assert len(service.splitlines()) <= 14, service


def changed_by(tmp_path: Path, old: str, new: str) -> Tree:
    """The files, but the spec's copy, that another text of the spec makes otherwise."""
    text = SPEC.read_text()
    assert text.count(old) == 1
    (tmp_path / "kiwari.yaml").write_text(text.replace(old, new))
    tree = pipeline.build(tmp_path / "kiwari.yaml")[1]
    return {path: file for path, file in tree.items() if file != TREE.get(path) and file.marked}


def test_a_health_path_touches_three_files(tmp_path: Path) -> None:
    files = changed_by(tmp_path, "health: {path: /health}", "health: {path: /healthz}")
    assert 1 <= len(files) <= 3, list(files)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("port: 3000", "port: 3001"),
        ("health: {path: /}", "health: {path: /login, status: 302}"),
        ("paths: [admin/**]", 'paths: [admin/**, "!admin/docs/**"]'),
        ("image: kiwari-admin", "image: kiwari-office"),
        ("      ORIGIN: {domain: url}\n", ""),
        ("admin: stg-admin.nasibakarkiwari.com", "admin: office.nasibakarkiwari.com"),
    ],
)
def test_a_service_touches_only_what_names_it(tmp_path: Path, old: str, new: str) -> None:
    files = changed_by(tmp_path, old, new)
    assert files and all("admin" in file.text for file in files.values())
    assert ".github/workflows/api-ci.yml" not in files


# Of one mind: what is read back from different files agrees.


def compose(stack: str) -> Any:
    return Workflow(TREE[f"deploy/{stack}/docker-compose.yml"].text).data


def steps(workflow: Workflow, job: str) -> list[Any]:
    return list(workflow.data["jobs"][job]["steps"])


def build(workflow: Workflow) -> Any:
    return next(step for step in steps(workflow, "build-and-push") if step.get("id") == "build")["with"]


@pytest.mark.parametrize("name", SERVICE_WORKFLOWS)
def test_filter_key_and_checkout_see_the_same_files(name: str) -> None:
    workflow = WORKFLOWS[name]
    paths = workflow.data["on"]["push"]["paths"]
    checkout, source = steps(workflow, "build-and-push")[:2]
    sparse = checkout["with"]["sparse-checkout"].splitlines()
    assert sparse == [*globs.sparse(paths), *(line for line in sparse if line.startswith("/deploy/"))]
    [command] = re.findall(r"git ls-files -s -- (.*)\)$", source["run"], re.MULTILINE)
    assert shlex.split(command) == globs.pathspecs(paths)
    promote = next(step for step in steps(WORKFLOWS["promote"], "promote-images") if step.get("id") == "find")["run"]
    [words] = re.findall(rf"^find_image (\S+ {name} .*)$", promote, re.MULTILINE)
    assert shlex.split(words)[3:] == globs.pathspecs(paths)
    assert f"{shlex.split(words)[2]}:" in build(workflow)["tags"]


@pytest.mark.parametrize("name", SERVICE_WORKFLOWS)
def test_what_shapes_an_image_is_in_its_filter(name: str) -> None:
    workflow = WORKFLOWS[name]
    paths = workflow.data["on"]["push"]["paths"]
    for path in (build(workflow)["file"], f".github/workflows/{name}.yml", ".dockerignore"):
        assert globs.included(paths, path), path


@pytest.mark.parametrize("name", SERVICE_WORKFLOWS)
def test_what_is_pushed_is_what_compose_runs(name: str) -> None:
    """Each stack that a service's workflow deploys to runs an image under a tag that the build pushes."""
    workflow = WORKFLOWS[name]
    tags = build(workflow)["tags"].splitlines()
    deploys = [step["run"] for _, job, step in workflow.steps if "environment" in job and "ssh" in step.get("run", "")]
    assert deploys
    for run in deploys:
        [stack] = re.findall(r"^ *\S+ deploy (\S+) \"\$2\"", run, re.MULTILINE)
        [container] = re.findall(r'^deploy \S+ (\S+) "\$DIGEST"$', run, re.MULTILINE)
        assert compose(stack)["services"][container]["image"] in tags
        assert f"deploy/{stack}/docker-compose.yml" in str(steps(workflow, "build-and-push"))


def test_what_is_promoted_is_what_production_runs() -> None:
    promotion = PLAN.promotions[0]
    text = WORKFLOWS["promote"].text
    images = {service["image"] for service in compose(promotion.deploy.stack.name)["services"].values()}
    assert images == {f"{source.repository}:{promotion.tag}" for source in promotion.sources}
    assert f'-t "${{image%@*}}:{promotion.tag}"' in text
    assert all(f"find_image digest-{source.service} " in text for source in promotion.sources)


def test_every_address_that_is_asked_is_a_declared_domain() -> None:
    declared = {
        domain for place in pipeline.decide(SPEC).spec.environments.values() for domain in place.domains.values()
    }
    asked = {found for workflow in WORKFLOWS.values() for found in re.findall(r"url=https://([^$]+)\$", workflow.text)}
    shown = {
        job["environment"]["url"].removeprefix("https://")
        for workflow in WORKFLOWS.values()
        for _, job in workflow.jobs
        if "environment" in job
    }
    assert asked == declared and shown <= declared


def test_only_what_is_set_up_is_read() -> None:
    """The runbook's table has every secret and variable that a workflow reads, and no other."""
    texts = "".join(workflow.text for workflow in WORKFLOWS.values())
    read = set(re.findall(r"\b(?:secrets|vars)\.(\w+)", texts)) - {"GITHUB_TOKEN"}
    assert (
        set(re.findall(r"^\| `(\w+)` \| (?:secret|variable) \|", TREE["deploy/RUNBOOK.md"].text, re.MULTILINE)) == read
    )


@pytest.mark.parametrize("name", ["VPS_HOST", "VPS_USER", "VPS_SSH_KEY", "GHCR_TOKEN", "VPS_KNOWN_HOSTS"])
def test_a_secret_that_is_not_set_is_named(tmp_path: Path, name: str) -> None:
    """And nobody is called: in place of ssh a program that would be green."""
    step = next(step for step in steps(WORKFLOWS["api-ci"], "deploy-staging") if step.get("id") == "deploy")
    (tmp_path / "ssh").write_text("#!/bin/sh\ncat >/dev/null; echo SERVING it was now 1 /\n")
    (tmp_path / "ssh").chmod(0o755)
    environment = {key: "x" for key in step["env"]} | {name: ""}
    places = {"RUNNER_TEMP": str(tmp_path), "GITHUB_OUTPUT": "output", "GITHUB_STEP_SUMMARY": "summary"}
    environment |= places | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_RUN_ID": "1", "GITHUB_SHA": "0"}
    bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    done = subprocess.run(bash, env=environment, capture_output=True, text=True)
    assert done.returncode and f"{name}: not set: runbook, step 5" in done.stderr
    good = subprocess.run(bash, env=environment | {name: "x"}, capture_output=True, text=True)
    assert good.returncode == 0, good.stderr
