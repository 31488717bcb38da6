"""Tags of commits that were never built, served or reviewed, and tags that exist already."""

from tests.notices import SUPERSEDED
from tests.rehearsal.faults.images import registry_gone
from tests.rehearsal.trial import Claim, fault
from tests.rehearsal.verdict import GREEN_RIGHT, GREEN_WRONG, RED_RIGHT, RED_WRONG
from tests.rehearsal.world import PORTS, World


@fault("a tag of what staging serves", GREEN_RIGHT, GREEN_RIGHT, settled=True)
def tagged(world: World) -> Claim:
    world.commit("api", "admin")
    for run in world.push():
        run.wait()
    return Claim(world.release())


@fault(
    "a tag before its image is built",
    RED_RIGHT,
    GREEN_WRONG,
    says="built no image from this source",
    settled=True,
    quick=True,
)
def not_built(world: World) -> Claim:
    world.commit("api")
    (slow,) = world.push("before-build")
    slow.arrives("before-build")
    claim = Claim([run.wait() for run in world.release()])
    slow.release("before-build")
    slow.wait()
    return claim


@fault(
    "a tag of an image that staging never served",
    RED_RIGHT,
    RED_WRONG,
    says="pos-staging/pos-api-staging has never served",
    settled=True,
)
def never_served(world: World) -> Claim:
    world.commit("api", behaviour="exits")
    for run in world.push():
        run.wait()
    return Claim(world.release())


@fault("a tag of a commit that is not on main", RED_RIGHT, GREEN_WRONG, says="is not on main", settled=True)
def not_on_main(world: World) -> Claim:
    now = dict(world.now)
    world.git("checkout", "-q", "-b", "side")
    world.commit("api")
    runs = world.release()
    world.git("checkout", "-q", "main")
    world.git("branch", "-q", "-D", "side")
    world.now = now
    return Claim(runs)


@fault("a tag that is no version", RED_RIGHT, GREEN_WRONG, says="is not vMAJOR.MINOR.PATCH", settled=True)
def no_version(world: World) -> Claim:
    world.count += 1
    return Claim(world.tag(f"vnext-{world.count}"), never="production took it for a version")


@fault(
    "a version is tagged again, on other source",
    RED_RIGHT,
    GREEN_WRONG,
    says="exists already as another image",
    settled=True,
)
def tagged_again(world: World) -> Claim:
    (run,) = world.release()
    run.wait()
    name = run.ref.rpartition("/")[2]
    world.commit("api")
    for run in world.push():
        run.wait()
    return Claim(world.tag(name), never=f"{name} was one thing, and is another now")


@fault("a tag of an older commit than the one that serves", GREEN_RIGHT, GREEN_WRONG, says=SUPERSEDED, settled=True)
def older_tag(world: World) -> Claim:
    """Whoever looks the version up in the registry finds other bytes under it than the commit's."""
    older = world.git("rev-parse", "HEAD")
    world.commit("admin")
    for run in [*world.push()]:
        run.wait()
    for run in world.release():
        run.wait()
    world.count += 1
    name = f"v1.{world.count}.1"
    runs = world.tag(name, older)
    newest = {("production", service): world.now[service] for service in PORTS}

    def untrue() -> str:
        now, then = world.labelled("admin", name), world.versions[older]["admin"]
        return "" if now == then else f":{name} is {now}, and its source is {then}"

    return Claim(runs, wanted=newest, untrue=untrue)


@fault("the registry is gone when a tag comes", RED_RIGHT, RED_RIGHT, settled=True)
def registry_gone_at_tag(world: World) -> Claim:
    world.commit("api")
    for run in world.push():
        run.wait()
    with registry_gone(world):
        (run,) = world.release()
        run.wait()
    return Claim([run])
