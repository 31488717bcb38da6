"""Runs that overlap, come late, or are repeated."""

from collections.abc import Sequence

from tests.notices import SUPERSEDED, WAITING
from tests.rehearsal.github import Run
from tests.rehearsal.trial import Claim, fault
from tests.rehearsal.verdict import GREEN_RIGHT, GREEN_WRONG, RED_RIGHT, RED_WRONG
from tests.rehearsal.world import World, container

API = ("staging", "api")


def together(runs: Sequence[Run]) -> list[Run]:
    """Lets runs go on that wait after their build, all at once."""
    for run in runs:
        run.arrives("after-build")
    for run in runs:
        run.release("after-build")
    return list(runs)


@fault("two services at once", GREEN_RIGHT, (GREEN_RIGHT, RED_RIGHT, RED_WRONG), says=WAITING)
def two_services(world: World) -> Claim:
    world.commit("api", "admin")
    return Claim(together(world.push("after-build")))


@fault(
    "two pushes of one service at once",
    GREEN_RIGHT,
    (GREEN_RIGHT, RED_RIGHT, GREEN_WRONG, RED_WRONG),
    says=f"{WAITING}deploy pos-staging ",
)
def same_service(world: World) -> Claim:
    world.commit("api")
    first = world.push("after-build")
    world.commit("api")
    return Claim(together([*first, *world.push("after-build")]))


@fault("the run of an older commit is slow, and comes last", GREEN_RIGHT, GREEN_WRONG, says=SUPERSEDED, quick=True)
def older_run_late(world: World) -> Claim:
    world.commit("api")
    (late,) = world.push("before-build")
    late.arrives("before-build")
    world.commit("api")
    (newest,) = world.push()
    newest.wait()
    late.release("before-build")
    return Claim([newest, late], wanted={API: world.now["api"]})


@fault("an old run is run again", GREEN_RIGHT, GREEN_WRONG, says=SUPERSEDED)
def run_again(world: World) -> Claim:
    world.commit("api")
    (old,) = world.push()
    old.wait()
    world.commit("api")
    (newest,) = world.push()
    newest.wait()
    return Claim([newest, world.github.again(old)], wanted={API: world.now["api"]})


@fault(
    "the server has a commit's number that the branch does not have",
    RED_RIGHT,
    (),
    says="the host says that commit number 999999999 serves",
    quick=True,
)
def unknown_number(world: World) -> Claim:
    """Whoever has the deploy key can say any number. A green run would never bring anything into service again."""
    name = container(API)
    record = world.server.stack_file(name, f".deploys/{name}")
    text = record.read_text()
    assert world.server.deploy(name, world.digest(API), 999_999_999).returncode == 0
    world.commit("api")
    (run,) = world.push()
    run.wait()
    record.write_text(text)
    return Claim([run])


@fault("a run that was green is run again", GREEN_RIGHT, GREEN_RIGHT)
def green_again(world: World) -> Claim:
    world.commit("api")
    (run,) = world.push()
    run.wait()
    return Claim([run, world.github.again(run)])


@fault("a commit is reverted", GREEN_RIGHT, GREEN_RIGHT)
def reverted(world: World) -> Claim:
    version = world.now["api"]
    text = (world.clone / "docker/Dockerfile.api").read_text()
    world.commit("api")
    (run,) = world.push()
    run.wait()
    world.write("docker/Dockerfile.api", text)
    world.now["api"] = version
    world.commit()
    return Claim(world.push())


@fault("301 changed files, then a tag", RED_RIGHT, GREEN_WRONG, says="built no image from this source", settled=True)
def too_many_files(world: World) -> Claim:
    """GitHub's path filters look at the first 300 files only: the push of the newest API starts nothing."""
    for number in range(300):
        world.write(f"aaa/{number}", str(world.count))
    world.commit("api")
    pushed = world.push()
    claim = Claim([*pushed, *world.release()])
    for run in claim.runs:
        run.wait()
    assert not pushed
    return claim
