"""A person chooses the branch of a deploy: which branches, which run serves, and what production takes of it."""

import subprocess
from pathlib import Path

import pytest

from kiwari_ci import generator
from kiwari_ci.commands.deployed_commits import explain_unknown_commit, format_deployed_number
from kiwari_ci.effective_spec.branch_patterns import format_policy_pattern
from kiwari_ci.engines.compose.deploy_programs import deploy_over_ssh
from tests.repository import Repository
from tests.workflow import Workflow

SPEC = Path(__file__).parent / "cases/ok/reached-by-branch-by-hand/spec.yaml"
PLAN, FILES = generator.generate_files(SPEC)


def find_script(workflow: str, job: str, step_name: str) -> str:
    steps = [
        step
        for where, _, step in Workflow(FILES[f".github/workflows/{workflow}.yml"].text).steps
        if where[1] == job and step_name in (step.get("id"), step.get("name"))
    ]
    [step] = steps
    return str(step["run"])


def run_script(script: str, folder: Path, **variables: str) -> tuple[int, str]:
    output = folder / "output"
    output.write_text("")
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "GITHUB_OUTPUT": str(output), **variables},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr + output.read_text()


@pytest.mark.parametrize(
    ("ref", "is_taken"),
    [
        ("refs/heads/main", True),
        ("refs/heads/feature/a", True),
        ("refs/heads/feature/team/a", True),
        ("refs/heads/feature", False),
        ("refs/heads/main/more", False),
        ("refs/heads/release/1.4", False),
        ("refs/tags/main", False),
    ],
)
def test_a_run_takes_the_branches_of_the_spec(tmp_path: Path, ref: str, is_taken: bool) -> None:
    script = find_script("deploy-dev", "check-commit", "Check what is deployed")
    _, kind, name = ref.split("/", 2)
    words = {"GITHUB_REF_NAME": name, "GITHUB_REF_TYPE": {"heads": "branch", "tags": "tag"}[kind]}
    code, text = run_script(script, tmp_path, GITHUB_REF=ref, **words)
    assert code == (0 if is_taken else 1)
    assert (
        is_taken or f"dev takes main or feature/**, and the {words['GITHUB_REF_TYPE']} {name} is none of these" in text
    )


@pytest.mark.parametrize(
    ("pattern", "policy"),
    [("**", "**/*"), ("feature/**", "feature/**/*"), ("release/*", "release/*"), ("main", "main")],
)
def test_the_branches_as_the_environment_of_github_has_them(pattern: str, policy: str) -> None:
    assert format_policy_pattern(pattern) == policy


def test_the_number_is_that_of_the_run_and_higher_than_a_count_of_commits(tmp_path: Path) -> None:
    fakes = """
    docker() { echo image; }
    gh() { echo "GH $*"; }
    """
    script = fakes + find_script("deploy-dev", "find-images", "find")
    code, text = run_script(script, tmp_path, GITHUB_RUN_NUMBER="7", DIGEST_WEB="sha256:1", GH_TOKEN="t")
    assert code == 0, text
    assert "sequence=999000000007\n" in text
    assert "workflows/deploy-dev[.]yml@" in text and "web-ci" not in text, "the workflow whose signature is verified"
    assert format_deployed_number(PLAN, "dev", 999_000_000_007) == "run 7 of deploy-dev"
    assert format_deployed_number(PLAN, "dev", 120) == "commit number 120", "it served before a person chose branches"
    assert "the page of the run has its commit" in explain_unknown_commit(PLAN, "dev", 999_000_000_007, "main")


def test_the_number_is_higher_than_that_of_a_candidate_and_the_hosts_take_it() -> None:
    """A candidate's number has three digits for each of its four parts."""
    (base,) = {workflow.run_base for workflow in PLAN.promotions if workflow.run_base}
    assert base > 998_999_999_999
    assert deploy_over_ssh.SEQUENCE.fullmatch(str(base + 1_000_000))


def test_a_run_that_a_later_run_overtook_fails(tmp_path: Path) -> None:
    """Another branch serves: whoever started the earlier run must see that."""
    script = find_script("deploy-dev", "deploy-dev", "See that no newer run serves on vps")
    code, text = run_script(script, tmp_path, NEWER="999000000008", GITHUB_REF_NAME="feature/a")
    assert code == 1 and "feature/a changed nothing: run 8 of deploy-dev serves, which was started later" in text


def test_production_takes_no_image_of_a_chosen_branch(tmp_path: Path) -> None:
    """The same files have another tag when the run of a chosen branch built them, also when that branch is main."""

    def name_source(workflow: str, job: str) -> str:
        repository = Repository(tmp_path / workflow)
        (repository.folder / "web").mkdir()
        (repository.folder / "web/Dockerfile").write_text("FROM scratch\n")
        repository.git("add", ".")
        repository.commit("first")
        script = find_script(workflow, job, "source")
        code, text = run_script(script, repository.folder, GITHUB_REF="refs/heads/main")
        assert code == 0, text
        return text.partition("key=")[2].splitlines()[0]

    assert name_source("deploy-dev", "build-web") != name_source("web-ci", "build-and-push")


def test_a_promotion_verifies_the_workflow_that_built_for_its_origin(tmp_path: Path) -> None:
    """Where pushes build for one environment and candidates for another, two workflows build the same service."""
    spec = tmp_path / "kiwari.yaml"
    spec.write_text(
        "project: {name: shop, repository: example/shop}\n"
        "hosts: {vps: {}}\n"
        "services: {web: {port: 8080, build: {attest: true}}}\n"
        "environments:\n"
        "  dev: {deploy_on: {push: main}}\n"
        "  staging: {deploy_on: {tag: 'v*-rc.*', dispatch: true}}\n"
        "  production: {deploy_on: {tag: 'v*'}, promote: staging}\n"
        "  demo: {deploy_on: {push: main, tag: 'demo*'}}\n"
        "  asia: {deploy_on: {tag: 'asia*'}, promote: demo}\n"
    )
    plan, _ = generator.generate_files(spec)
    main, any_ref = "refs/heads/main", "(refs/heads/main|refs/tags/.+)"
    assert {
        workflow.deploy.environment: (workflow.sources[0].builder, workflow.signed_ref) for workflow in plan.promotions
    } == {
        "staging": ("release-staging", any_ref),
        "production": ("release-staging", any_ref),
        "demo": ("release-demo", any_ref),
        "asia": ("web-ci", main),
    }
