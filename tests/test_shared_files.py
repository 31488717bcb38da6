"""Files that several stacks have: what the job that deploys checks out, and what it copies."""

import shutil
import subprocess
from pathlib import Path

import pytest

from kiwari_ci import generator
from kiwari_ci.engines.compose.deploy_programs import deploy_over_ssh
from tests.repository import Repository
from tests.workflow import Workflow

SPEC = Path(__file__).parent / "cases/ok/shared-files/spec.yaml"


@pytest.fixture
def checkout(tmp_path: Path) -> Repository:
    """The generated files in a repository, with the files that the stacks share."""
    repository = Repository(tmp_path / "shop")
    shared_files = {"config/nginx.conf": "events {}\n", "limits.json": "{}\n", "access/users": "ann\n"}
    stack_files = {"deploy/shop-production/robots.txt": "User-agent: *\n", "web/main.js": ""}
    generated = {path: file.text for path, file in generator.generate_files(SPEC)[1].items()}
    for path, text in {**generated, **shared_files, **stack_files}.items():
        (repository.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (repository.folder / path).write_text(text)
    return repository


def prepare_deploy(repository: Repository, workflow: str, job: str) -> Path:
    """Check out what a job that deploys checks out, copy as it does, and name the folder of its stack."""
    repository.git("add", ".")
    repository.commit("first")
    text = (repository.folder / workflow).read_text()
    steps = [step for where, _, step in Workflow(text).steps if where[1] == job]
    folders = str(steps[0]["with"]["sparse-checkout"]).split()
    repository.git("sparse-checkout", "set", "--skip-checks", *folders)  # actions/checkout has no files yet
    [script] = [step["run"] for step in steps if step.get("name") == "Copy the files that several stacks have"]
    shell = ["bash", "-euo", "pipefail", "-c", script]
    subprocess.run(shell, cwd=repository.folder, check=True, stdout=subprocess.PIPE, text=True)
    [folder] = [folder for folder in folders if folder.startswith("deploy/shop-")]
    return repository.folder / folder


def test_a_deploy_sends_one_file_of_the_repository_to_each_stack(checkout: Repository) -> None:
    folder = prepare_deploy(checkout, ".github/workflows/promote.yml", "deploy-production")
    files = {file.name: file.content for file in deploy_over_ssh.read_stack_files(folder)}
    compose = files.pop("docker-compose.yml")
    assert files == {
        "robots.txt": b"User-agent: *\n",
        "nginx.conf": b"events {}\n",
        "conf/limits.json": b"{}\n",
        "conf/users": b"ann\n",
    }
    assert b"./nginx.conf:/etc/nginx/nginx.conf:ro" in compose
    assert not (checkout.folder / "web").exists(), "the job has the files that it needs, and no others"


@pytest.mark.parametrize("link", ["config/nginx.conf", "config", "deploy/shop-staging/nginx.conf"])
def test_a_symbolic_link_neither_sends_nor_changes_files_elsewhere(checkout: Repository, link: str) -> None:
    elsewhere = checkout.folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "nginx.conf").write_text("private\n")
    if link == "config":
        shutil.rmtree(checkout.folder / link)
        (checkout.folder / link).symlink_to(elsewhere)
    else:
        (checkout.folder / link).unlink(missing_ok=True)
        (checkout.folder / link).symlink_to(elsewhere / "nginx.conf")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        prepare_deploy(checkout, ".github/workflows/api-ci.yml", "deploy-staging")
    assert f"::error::{'config/nginx.conf' if link == 'config' else link} is a symbolic link" in failed.value.stdout
    assert (elsewhere / "nginx.conf").read_text() == "private\n"
