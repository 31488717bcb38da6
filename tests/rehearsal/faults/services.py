"""Services that are added, removed or renamed, while the server has the old files."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable

from tests.rehearsal.trial import Claim, fault
from tests.rehearsal.verdict import GREEN_WRONG, RED_RIGHT
from tests.rehearsal.world import World

SPEC, STACK = "specs/kiwari.yaml", "deploy/pos-staging/docker-compose.yml"
JOBS = """  jobs:
    image: kiwari-jobs
    paths: [jobs/**]
    port: 9
    build: {dockerfile: docker/Dockerfile.jobs}
"""
ADDED = "kiwari-jobs-staging"  # as the spec's default names its container
LITERAL_ADDED = "pos-jobs-staging"
LITERAL_JOBS = """  pos-jobs-staging:
    image: ghcr.io/iqbalmuhyiddin/kiwari-jobs:staging
    container_name: pos-jobs-staging
    restart: unless-stopped
    env_file: .env

"""
Edit = Callable[[str], str]


def edited(world: World, path: str, edit: Edit) -> None:
    """A file of the repository, edited; the edit has to do something."""
    text = (world.clone / path).read_text()
    assert edit(text) != text, f"{path} has nothing to edit"
    world.write(path, edit(text))


def spec(world: World, edit: Edit) -> None:
    """The spec is edited, and everything generated from it."""
    edited(world, SPEC, edit)
    subprocess.run([sys.executable, "-m", "kiwari_ci", "generate"], cwd=world.clone, check=True, capture_output=True)


def changed(world: World, edit: Edit) -> None:
    """What a team does to change its stack: edit the spec and generate, or edit the compose file."""
    spec(world, edit) if world.ours else edited(world, STACK, edit)


def copied(world: World) -> None:
    """A person copies the stack's compose file to the server."""
    shutil.copyfile(world.clone / STACK, world.server.docker_folder / "pos-staging/docker-compose.yml")


def undone(world: World) -> None:
    """The commit before, in the developer's files and on the server; what else was started goes."""
    world.git("read-tree", "-u", "--reset", "HEAD~1")
    copied(world)
    for name in (ADDED, LITERAL_ADDED, "pos-backend-staging"):
        world.server.docker("rm", "-f", name, check=False)


def running(world: World, name: str) -> bool:
    """Whether a container of that name runs."""
    return bool(world.server.docker("ps", "-q", "--filter", f"name=^{name}$"))


def without_admin(text: str) -> str:
    """The spec, or a literal compose file, without the admin."""
    text = re.sub(r"\n  (pos-)?admin(-staging)?:\n(    .*\n)+", "\n", text)
    return re.sub(r", admin: pos-admin(-staging)?|\n +admin: \S+\.com", "", text)


@fault("a service is added", RED_RIGHT, GREEN_WRONG, says=f"there is no service '{ADDED}' in: ")
def added(world: World) -> Claim:
    """Nobody has copied the new compose file to the server yet."""
    if world.ours:
        spec(world, lambda text: text.replace("\nenvironments:\n", f"{JOBS}\nenvironments:\n"))
    else:
        edited(world, STACK, lambda text: text.replace("\nnetworks:\n", f"\n{LITERAL_JOBS}networks:\n"))
        text = (world.clone / ".github/workflows/admin-ci.yml").read_text().replace("admin", "jobs")
        world.write(".github/workflows/jobs-ci.yml", text.partition("      - name: Health check")[0])
    (world.clone / "jobs").mkdir()
    shutil.copy(world.clone / "api/app", world.clone / "jobs")
    world.write(
        "docker/Dockerfile.jobs", 'FROM scratch\nCOPY jobs/app /app\nENV BEHAVIOUR=works\nENTRYPOINT ["/app"]\n'
    )
    world.commit()
    runs = [run.wait() for run in world.push()]
    assert [run.workflow for run in runs] == ["jobs-ci"]
    works = running(world, ADDED if world.ours else LITERAL_ADDED)
    undone(world)
    return Claim(runs, untrue=lambda: "" if works else "it does not run")


@fault(
    "a service gets another name, and its domain still leads to the old one",
    RED_RIGHT,
    GREEN_WRONG,
    says="still run: pos-api-staging",
    leaves=True,
)
def renamed(world: World) -> Claim:
    changed(world, lambda text: text.replace("pos-api-staging", "pos-backend-staging"))
    world.commit("api")
    copied(world)
    (run,) = world.push()
    run.wait()
    undone(world)
    return Claim([run])


@fault("a service is removed, and runs on", RED_RIGHT, GREEN_WRONG, says="still run: pos-admin-staging", leaves=True)
def removed(world: World) -> Claim:
    changed(world, without_admin)
    (world.clone / ".github/workflows/admin-ci.yml").unlink(missing_ok=True)
    world.commit("api")
    copied(world)
    runs = [run.wait() for run in world.push()]
    undone(world)
    return Claim(runs, never="the admin still runs")
