"""What comes of Kiwari's spec: current, the same everywhere, as short as promised, and of one mind."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci import generator
from kiwari_ci.file_output.generated_files import GeneratedFiles, compare_files, is_program_file
from kiwari_ci.github_facts import path_filters
from tests.repository import Repository
from tests.workflow import Workflow

ROOT = Path(__file__).parents[1]
SPEC = ROOT / "specs/kiwari.yaml"
PLAN, TREE = generator.generate_files(SPEC)
WORKFLOWS = {
    Path(path).stem: Workflow(file.text)
    for path, file in TREE.items()
    if path.startswith(".github/workflows/") and path.endswith(".yml")
}
SERVICE_WORKFLOWS = {name: workflow for name, workflow in WORKFLOWS.items() if name.endswith("-ci")}


def test_generated_is_current() -> None:
    """The drift check: `make generate` is the cure."""
    assert [
        f"{difference.kind}: {difference.path}" for difference in compare_files(ROOT / "generated", TREE, PLAN.project)
    ] == []


def test_nothing_else_is_in_there() -> None:
    existing = {
        path.relative_to(ROOT / "generated").as_posix() for path in (ROOT / "generated").rglob("*") if path.is_file()
    }
    assert existing == TREE.keys()


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
    assert compare_files(tmp_path / "out", TREE, PLAN.project) == []


def test_line_ends_of_windows_make_no_difference(tmp_path: Path) -> None:
    copy = tmp_path / "kiwari.yaml"
    copy.write_bytes(b"\xef\xbb\xbf" + SPEC.read_bytes().replace(b"\n", b"\r\n"))
    assert generator.generate_files(copy)[1] == TREE


def test_no_line_ends_in_a_blank_or_a_carriage_return() -> None:
    for path, file in TREE.items():
        assert file.text.endswith("\n") and not file.text.endswith("\n\n"), path
        assert not re.search(r"[ \t\r]$", file.text, re.MULTILINE), path


def test_every_head_says_what_it_is() -> None:
    for path, file in TREE.items():
        who = "An example, written" if path.endswith(".example") else "Generated"
        words = f"{who} by kiwari-ci (kiwari). Edit the spec, then run: kiwari-ci generate"
        says_so = any(words in line for line in file.text.splitlines()[:2]) or is_program_file(path, file.text)
        assert says_so == file.marked, path
    assert [path for path, file in TREE.items() if not file.marked] == ["specs/kiwari.yaml"]


# Short, and measured.


def test_workflows_are_short() -> None:
    """One statement a line: what several workflows would repeat is in the two programs."""
    lengths = [len(workflow.text.splitlines()) for name, workflow in WORKFLOWS.items() if name != "pipeline-drift"]
    assert sum(lengths) <= 500 and max(lengths) <= 200


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_line_of_a_script_is_long(name: str) -> None:
    """But those that a person reads in a log, and lists of paths."""
    for where, _, body in WORKFLOWS[name].runs:
        for line in body.splitlines():
            is_message = "::error::" in line or "fail " in line
            assert len(line) <= 125 or is_message or "<<<" in line or name == "pipeline-drift", (where, line)


@pytest.mark.parametrize("stack", [stack.name for stack in PLAN.stacks])
def test_each_compose_service_is_short(stack: str) -> None:
    services = TREE[f"deploy/{stack}/docker-compose.yml"].text.split("\nservices:\n")[1].split("\nnetworks:\n")[0]
    for service in re.split(r"\n\n", services.strip("\n")):
        assert len(service.splitlines()) <= 17, service


def changed_by(tmp_path: Path, old: str, new: str) -> GeneratedFiles:
    """The files, but the spec's copy, that another text of the spec makes otherwise."""
    text = SPEC.read_text()
    assert text.count(old) == 1
    (tmp_path / "kiwari.yaml").write_text(text.replace(old, new))
    tree = generator.generate_files(tmp_path / "kiwari.yaml")[1]
    return {path: file for path, file in tree.items() if file != TREE.get(path) and file.marked}


def test_a_health_path_touches_what_asks_for_it(tmp_path: Path) -> None:
    """The addresses stand in plain sight, in each workflow that asks."""
    files = changed_by(tmp_path, "health: {path: /health}", "health: {path: /healthz}")
    workflows = {f".github/workflows/{name}.yml" for name in ("api-ci", "promote")}
    stacks = {f"deploy/{stack.name}/docker-compose.yml" for stack in PLAN.stacks}
    assert files.keys() == {*workflows, *stacks, "deploy/RUNBOOK.md"}


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
    assert sparse == path_filters.build_sparse_patterns(paths)
    [command] = re.findall(r"^key=\$\(git ls-files -s -- (.*) \|$", source["run"], re.MULTILINE)
    assert shlex.split(command) == path_filters.build_git_pathspecs(paths)
    promote = next(step for step in steps(WORKFLOWS["promote"], "promote-images") if step.get("id") == "find")["run"]
    [(key, repository)] = re.findall(rf"(key=\$\(git [^=]*?\)\n)find_image \S+ {name} (\S+) ", promote)
    assert key in source["run"], "the promotion computes another key"
    assert f"{repository}:" in build(workflow)["tags"]


@pytest.mark.parametrize("name", SERVICE_WORKFLOWS)
def test_what_shapes_an_image_is_in_its_filter(name: str) -> None:
    workflow = WORKFLOWS[name]
    paths = workflow.data["on"]["push"]["paths"]
    for path in (build(workflow)["file"], f".github/workflows/{name}.yml", ".dockerignore"):
        assert path_filters.is_included(paths, path), path


@pytest.mark.parametrize("name", SERVICE_WORKFLOWS)
def test_what_is_pushed_is_what_compose_runs(name: str) -> None:
    """Each stack that a service's workflow deploys to runs an image under a tag that the build pushes."""
    workflow = WORKFLOWS[name]
    tags = build(workflow)["tags"].splitlines()
    deploys = [(job, step) for _, job, step in workflow.steps if step.get("id") == "deploy"]
    assert deploys
    for job, step in deploys:
        words = shlex.split(step["run"])
        stack, (container, _, _) = words[words.index("--stack") + 1], words[-1].partition("=")
        assert compose(stack)["services"][container]["image"] in tags
        assert f"deploy/{stack}" in job["steps"][0]["with"]["sparse-checkout"].splitlines()


def test_what_is_promoted_is_what_production_runs() -> None:
    promotion = PLAN.promotions[0]
    text = WORKFLOWS["promote"].text
    images = {service["image"] for service in compose(promotion.deploy.folder)["services"].values()}
    assert images == {f"{source.repository}:{promotion.tag}" for source in promotion.sources}
    assert f'-t "${{image%@*}}:{promotion.tag}"' in text
    assert all(f"find_image digest-{source.service} " in text for source in promotion.sources)


def test_every_address_that_is_asked_is_a_declared_domain() -> None:
    environments = generator.load_spec(SPEC).spec.environments.values()
    declared = {route.domain for place in environments for routes in place.domains.values() for route in routes}
    asked = {
        address
        for workflow in WORKFLOWS.values()
        for address in re.findall(r"--retry-all-errors https://([^/\s]+)", workflow.text)
    }
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


# What the steps do, with stand-ins for the programs that they call.


def run(body: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A step's script, as the runner runs it; programs in `folder` come first."""
    bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", body]
    places = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), "GITHUB_OUTPUT": str(folder / "output")}
    return subprocess.run(bash, cwd=folder, env=places | environment, capture_output=True, text=True)


def program(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def deploys() -> list[tuple[str, Any]]:
    return [
        (name, step)
        for name, workflow in WORKFLOWS.items()
        for _, _, step in workflow.steps
        if step.get("id") == "deploy"
    ]


@pytest.mark.parametrize(("name", "step"), deploys(), ids=[name for name, _ in deploys()])
def test_a_deploy_is_one_call_with_the_names_of_its_variables(tmp_path: Path, name: str, step: Any) -> None:
    program(tmp_path / "deploy/bin/deploy-over-ssh", 'printf "%s\\n" "$@"')
    values = {key: f"value-of-{key}" for key in step["env"]}
    done = run(step["run"], tmp_path, **values)
    words = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    options = dict(zip(words[0:-1:2], words[1::2], strict=False))
    assert options["--sequence"] == values["SEQUENCE"]
    for option in ("--address", "--user", "--key", "--known-hosts", "--token"):
        assert options[option] in step["env"], option
    secrets = {key for key, value in step["env"].items() if "secrets." in value}
    assert secrets and not {values[key] for key in secrets} & set(words), "no value of a secret is an argument"
    images = dict(word.split("=") for word in words if "=" in word)
    stack = next(stack for stack in PLAN.stacks if stack.name == options["--stack"])
    wanted = {instance.container: values[instance.digest] for instance in stack.instances if instance.digest in values}
    assert images == wanted and images


def test_a_deploy_is_red_when_the_call_is(tmp_path: Path) -> None:
    program(tmp_path / "deploy/bin/deploy-over-ssh", "exit 69")
    _, step = deploys()[0]
    assert run(step["run"], tmp_path, **dict.fromkeys(step["env"], "x")).returncode == 69


def see_that_a_newer_commit_serves(folder: Path, newer: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the step of a promotion whose deploy changed nothing, because that number serves."""
    step = next(step for step in steps(WORKFLOWS["promote"], "deploy-production") if "NEWER" in step.get("env", {}))
    return run(step["run"], folder, NEWER=newer, **environment)


@pytest.mark.parametrize(("newer", "code"), [("1", 0), ("2", 0), ("3", 1)])
def test_a_newer_commit_must_be_on_the_branch(tmp_path: Path, newer: str, code: int) -> None:
    repository = Repository(tmp_path / "history")
    first = repository.commit("one")
    repository.commit("two")
    repository.git("tag", "v1.3.0")
    done = see_that_a_newer_commit_serves(
        tmp_path, newer, GITHUB_REF_TYPE="tag", GITHUB_REF_NAME="v1.2.0", GITHUB_SHA=first
    )
    assert done.returncode == code
    assert ("commit number 3 serves, and main has only 2 commits" in done.stdout) == bool(code)


@pytest.mark.parametrize(
    ("tag", "kind", "code"),
    [("v1.3.0", "tag", 0), ("v1.3.0-rc.1", "tag", 1), ("", "tag", 1), ("", "branch", 0)],
)
def test_a_tag_that_changed_nothing_is_red_unless_a_newer_one_did(
    tmp_path: Path, tag: str, kind: str, code: int
) -> None:
    repository = Repository(tmp_path / "history")
    first = repository.commit("one")
    repository.git("tag", "v1.2.0")
    repository.commit("two")
    if tag:
        repository.git("tag", tag)
    done = see_that_a_newer_commit_serves(
        tmp_path, "2", GITHUB_REF_TYPE=kind, GITHUB_REF_NAME="v1.2.0", GITHUB_SHA=first
    )
    assert done.returncode == code
    assert ("v1.2.0 changed nothing: commit number 2 serves, and no newer tag" in done.stdout) == bool(code)


def checks() -> list[Any]:
    return [step for workflow in WORKFLOWS.values() for _, _, step in workflow.steps if "curl" in step.get("run", "")]


@pytest.mark.parametrize(("answer", "code", "green"), [("200", 0, True), ("302", 0, False), ("000", 7, False)])
@pytest.mark.parametrize("step", checks(), ids=lambda step: step["name"])
def test_the_check_from_outside_wants_its_status(
    tmp_path: Path, step: Any, answer: str, code: int, green: bool
) -> None:
    """Whatever curl says of it: one that follows nothing calls a redirect fine."""
    program(tmp_path / "sleep", ":")
    program(tmp_path / "curl", f"echo {answer}; exit {code}")
    done = run(step["run"], tmp_path)
    assert (done.returncode == 0) == green
    assert f"answered: {answer}" in done.stdout
    assert green or re.search(r"to go back, on vps: ~/docker/bin/deploy rollback \S+ \S+$", done.stdout.strip())


@pytest.mark.parametrize(("workflow", "job"), [("web-ci", "deploy-staging"), ("promote", "deploy-production")])
def test_steps_after_a_deploy_know_what_the_health_check_found(workflow: str, job: str) -> None:
    tree = generator.generate_files(ROOT / "tests/cases/ok/steps/spec.yaml")[1]
    steps = Workflow(tree[f".github/workflows/{workflow}.yml"].text).data["jobs"][job]["steps"]
    names = [step.get("name", "") for step in steps]
    (check,) = [number for number, name in enumerate(names) if name.startswith("Health check of ")]
    assert check < names.index("Keep the log")


def test_the_required_check_reports_in_a_merge_queue() -> None:
    assert "merge_group" in WORKFLOWS["pipeline-drift"].data["on"]


def test_what_a_pull_request_is_compared_with_is_a_full_name() -> None:
    """`diff` gets a commit, never a word such as `HEAD^1` that it would have to look up."""
    steps_of_drift = [
        step["run"] for _, _, step in WORKFLOWS["pipeline-drift"].steps if "--against" in step.get("run", "")
    ]
    assert steps_of_drift and all('--against "$base"' in script for script in steps_of_drift)


def test_no_container_gains_privileges() -> None:
    files = [path for path in TREE if path.endswith("docker-compose.yml")]
    services = [service for path in files for service in Workflow(TREE[path].text).data["services"].values()]
    assert len(files) == 3 and services
    for service in services:
        assert service["security_opt"] == ["no-new-privileges:true"] and service["cap_drop"] == ["NET_RAW"]


def test_a_spec_may_give_privileges_back(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    privileges = "port: 8081\n    compose: {cap_drop: [], security_opt: [seccomp=unconfined]}"
    spec.write_text(SPEC.read_text().replace("port: 8081", privileges))
    files = generator.generate_files(spec)[1]
    services = Workflow(files["deploy/pos-staging/docker-compose.yml"].text).data["services"]
    assert services["pos-api-staging"]["cap_drop"] == []
    assert services["pos-api-staging"]["security_opt"] == ["seccomp=unconfined"]
    assert services["pos-admin-staging"]["cap_drop"] == ["NET_RAW"]


def test_the_runbook_keeps_each_secret_in_the_environments_that_read_it() -> None:
    commands = [command for command in PLAN.runbook.settings if command.kind == "secret"]
    assert {command.name for command in commands} == {need.name for need in PLAN.needs if need.kind == "secret"}
    for command in commands:
        assert command.environment in ("staging", "production")
        assert f"gh secret set {command.name} --env {command.environment}" in command.line
    refs = [command.line.partition("policies ")[2] for command in PLAN.runbook.protect_environments]
    assert list(filter(None, refs)) == ["-f type=branch -f name=main", "-f type=tag -f 'name=v*'"]


def test_a_public_log_shows_output_when_the_spec_says_so(tmp_path: Path) -> None:
    files = changed_by(tmp_path, "  default_branch: main\n", "  default_branch: main\n  public_logs: true\n")
    workflows = {path: file.text for path, file in files.items() if path.startswith(".github/")}
    assert {path.rpartition("/")[2] for path in workflows} == {"api-ci.yml", "admin-ci.yml", "promote.yml"}
    assert all("--show-output" in text for text in workflows.values())
    assert not any("--show-output" in workflow.text for workflow in WORKFLOWS.values())
