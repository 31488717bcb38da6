"""Tags on several branches: which commits may be tagged, and which of two versions serves."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from kiwari_ci import generator
from kiwari_ci.file_output.generated_files import GeneratedFiles
from kiwari_ci.plan_model import EnvironmentWorkflow
from tests.repository import Repository
from tests.workflow import Workflow

SPEC = Path(__file__).parent / "cases/ok/tag-branches/spec.yaml"
PLAN, FILES = generator.generate_files(SPEC)
CANDIDATES, FINALS = PLAN.promotions


@pytest.fixture
def history(tmp_path: Path) -> Repository:
    """v1.4.0 and v1.5.0 on main, and a hotfix of the first on a release branch of the origin."""
    repository = Repository(tmp_path / "repository")
    repository.commit("first")
    repository.git("tag", "v1.4.0")
    repository.git("branch", "release/1.4")
    repository.commit("second")
    repository.git("tag", "v1.5.0")
    repository.git("checkout", "-q", "release/1.4")
    repository.commit("hotfix")
    for branch in ("main", "release/1.4"):
        repository.git("update-ref", f"refs/remotes/origin/{branch}", branch)
    return repository


def find_script(workflow: str, step_id: str, files: GeneratedFiles = FILES) -> str:
    steps = [step for _, _, step in Workflow(files[f".github/workflows/{workflow}.yml"].text).steps]
    [script] = [step["run"] for step in steps if step.get("id") == step_id or step.get("name") == step_id]
    return str(script)


def run_script(script: str, folder: Path, tag: str, **variables: str) -> tuple[int, str]:
    output = folder.parent / "output"
    output.write_text("")
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "GITHUB_REF_NAME": tag, "GITHUB_OUTPUT": str(output), **variables},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr + output.read_text()


def promote(repository: Repository, tag: str, files: GeneratedFiles = FILES) -> tuple[int, str]:
    """What a tag at the checked out commit does, with a registry that has every image."""
    docker = """gh() { :; } # verifies signatures
    docker() {
      if [ "$3" = inspect ]; then
        if [ "${5#*:src-}" != "$5" ] || [ -e ../tagged ]; then echo image; else echo ': not found' >&2; return 1; fi
      else echo "TAG $6"; touch ../tagged; fi
    }
    """
    (repository.folder.parent / "tagged").unlink(missing_ok=True)
    return run_script(docker + find_script("promote", "find", files), repository.folder, tag)


def test_a_hotfix_on_a_release_branch(history: Repository) -> None:
    history.git("tag", "v1.4.1")
    code, text = promote(history, "v1.4.1")
    assert code == 0, text
    assert "sequence=1004001\n" in text
    assert "TAG ghcr.io/example/shop-web:v1.4.1" in text
    assert "TAG ghcr.io/example/shop-web:production" not in text, "v1.5.0 is newer"


def test_the_newest_version_gets_the_moving_tag(history: Repository) -> None:
    history.git("checkout", "-q", "main")
    for tag in ("v1.9.0", "v1.10.0", "v1.11.0-rc.1"):
        history.git("tag", tag)
    assert "shop-web:production" in promote(history, "v1.10.0")[1]
    assert "shop-web:production" not in promote(history, "v1.9.0")[1]


def test_only_a_newer_version_keeps_the_moving_tag(history: Repository) -> None:
    """Without `branches`, the newest tagged commit counts; other tags that begin like a version are none."""
    _, files = generator.generate_files(SPEC.parent.parent / "reached-by-branch-by-hand/spec.yaml")
    history.git("checkout", "-q", "main")
    history.git("tag", "v1.6.0")
    history.git("commit", "-q", "--allow-empty", "-m", "third")
    for tag in ("v-nightly", "v1.7.0-rc.1", "v1.7", "build-1.7.0"):
        history.git("tag", tag)
    history.git("checkout", "-q", "v1.6.0")
    history.git("update-ref", "refs/remotes/origin/main", "main")
    assert "TAG ghcr.io/example/shop-web:production" in promote(history, "v1.6.0", files)[1]
    history.git("tag", "v1.7.0", "main")
    text = promote(history, "v1.6.0", files)[1]
    assert "TAG ghcr.io/example/shop-web:v1.6.0" in text and "shop-web:production" not in text


def test_a_commit_of_another_branch_is_refused(history: Repository) -> None:
    history.commit("not pushed")
    history.git("update-ref", "refs/remotes/origin/feature", "HEAD")
    history.git("update-ref", "refs/remotes/origin/release/old/1.4", "HEAD")
    history.git("tag", "origin/main")
    code, text = promote(history, "v1.4.1")
    assert code == 1 and "v1.4.1 is not on main or release/*" in text


@pytest.mark.parametrize(
    ("tag", "message"),
    [
        ("v1.4", "v1.4 is not vMAJOR.MINOR.PATCH"),
        ("v2026.1130.1", "v2026.1130.1: 2026 is more than 999"),
        ("v0.0.0", "the lowest version is 0.0.1"),
    ],
)
def test_a_version_that_has_no_place_in_the_order_is_not_tagged(history: Repository, tag: str, message: str) -> None:
    code, text = promote(history, tag)
    assert code == 1 and message in text and "TAG" not in text


@pytest.mark.parametrize(
    ("workflow", "tag", "number"),
    [
        (FINALS, "v1.4.1", 1004001),
        (FINALS, "v999.999.999", 999_999_999),
        (CANDIDATES, "v1.4.1-rc.2", 1004001002),
        (CANDIDATES, "v0.0.1-rc.0", 1000),
    ],
)
def test_the_number_of_a_version(workflow: EnvironmentWorkflow, tag: str, number: int) -> None:
    assert workflow.number_of(tag) == number and workflow.tag_of(number) == tag


def test_a_hotfix_changes_nothing_where_a_newer_version_serves(history: Repository) -> None:
    """Whoever pushed the tag must see that: the run is not green."""
    history.git("tag", "v1.4.1")
    history.git("clone", "-q", ".", "history")
    script = find_script("promote", "See that a newer version with this commit serves on vps")
    commit = {"GITHUB_SHA": history.git("rev-parse", "HEAD"), "NEWER": "1005000"}
    code, text = run_script(script, history.folder, "v1.4.1", **commit)
    assert code == 1
    assert "v1.4.1 changed nothing: v1.5.0 serves, which is a newer version and does not contain this commit" in text
    # A newer tag that contains it has overtaken it.
    history.commit("second hotfix")
    history.git("tag", "v1.4.2")
    history.git("-C", "history", "fetch", "-q", "--tags")
    code, text = run_script(script, history.folder, "v1.4.1", **{**commit, "NEWER": "1004002"})
    assert code == 0 and "v1.4.2" in text


@pytest.mark.parametrize(
    ("revision", "code"), [("THIS", 0), ("another", 1)], ids=["the same commit", "a tag that was moved"]
)
def test_a_repeated_run_replaces_what_it_has_built_before(tmp_path: Path, revision: str, code: int) -> None:
    """It builds again, and takes nothing from the registry, where anybody who can push a branch may have put it."""
    repository = Repository(tmp_path / "repository")
    commit = repository.commit("first")
    labels = f'"org.opencontainers.image.revision": "{revision.replace("THIS", commit)}"'
    docker = f"""docker() {{
      case "$3 $4" in
        "inspect --format") echo '{labels}' ;;
        inspect*) if [ -e ../tagged ]; then printf new; else echo old; fi ;;
        *) echo "TAG $6"; touch ../tagged ;;
      esac
    }}
    """
    digest = f"sha256:{hashlib.sha256(b'new').hexdigest()}"
    variables = {"DIGEST_WEB": digest, "GITHUB_SHA": commit}
    done, text = run_script(docker + find_script("release", "find"), repository.folder, "v1.4.1-rc.1", **variables)
    assert done == code, text
    assert ("TAG ghcr.io/example/shop-web:v1.4.1-rc.1" in text) == (code == 0)
    assert ("exists already as another image" in text) == (code == 1)
