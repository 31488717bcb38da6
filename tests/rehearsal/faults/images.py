"""The image is bad, or cannot be pulled."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.engine.server import eventually
from tests.notices import PULL_AGAIN
from tests.rehearsal.trial import Claim, fault
from tests.rehearsal.verdict import GREEN_RIGHT, GREEN_WRONG, RED_RIGHT, RED_WRONG
from tests.rehearsal.world import World, container

API = ("staging", "api")
IN_TROUBLE = "could not be pulled; the registry did not reject the token"


def deployed(world: World, behaviour: str) -> Claim:
    """A push of the API, behaving so."""
    world.commit("api", behaviour=behaviour)
    return Claim(world.push())


def restarting(world: World) -> str:
    """What is untrue of "it serves" while its container ends again and again."""
    count = world.server.docker("inspect", "-f", "{{.RestartCount}}", container(API))
    return f"its container restarted {count} times" if count != "0" else ""


@fault("the first deploy on an empty server", GREEN_RIGHT, (GREEN_RIGHT, RED_RIGHT), outage=True)
def first(world: World) -> Claim:
    for place in world.state():
        world.server.docker("rm", "-f", container(place), check=False)
    for records in world.server.docker_folder.glob("*/.deploys/*"):
        records.unlink()
    for pins in world.server.docker_folder.glob("pos-*/docker-compose.override.yml"):
        pins.unlink()
    world.commit("api", "admin")
    return Claim(world.push())


@fault("the tests fail", RED_RIGHT, RED_RIGHT, says="--- FAIL: TestAPI", quick=True)
def tests_fail(world: World) -> Claim:
    good = (world.clone / "api/api_test.go").read_text()
    world.write("api/api_test.go", good.replace("{}", '{ t.Fatal("no") }'))
    claim = deployed(world, "answers")
    world.write("api/api_test.go", good)
    return claim


@fault("the new image exits at once", RED_RIGHT, RED_WRONG, says="restarts, exit code 3")
def exits(world: World) -> Claim:
    return deployed(world, "exits")


@fault("the new image answers, and dies soon after", RED_RIGHT, (GREEN_WRONG, RED_WRONG), says="did not stay up")
def dies_later(world: World) -> Claim:
    return Claim(deployed(world, "restarts").runs, untrue=lambda: restarting(world))


@fault("the new image never answers", RED_RIGHT, RED_WRONG, says="did not become healthy within 60 seconds")
def hangs(world: World) -> Claim:
    return deployed(world, "hangs")


@fault("the new image answers 400 to everything", RED_RIGHT, RED_WRONG, says="the answer was 400")
def refuses(world: World) -> Claim:
    return deployed(world, "answers-400")


@fault("the new image boots for 20 seconds", GREEN_RIGHT, GREEN_RIGHT)
def boots_slowly(world: World) -> Claim:
    return deployed(world, "boots-in-20s")


@fault("the new image boots for 70 seconds", RED_RIGHT, RED_WRONG, says="did not become healthy within 60 seconds")
def boots_too_slowly(world: World) -> Claim:
    return deployed(world, "boots-in-70s")


@fault("the image is for another processor", RED_RIGHT, RED_WRONG, says="exec /app failed")
def other_processor(world: World) -> Claim:
    app = world.clone / "api/app"
    good = app.read_bytes()
    environment = {**os.environ, "GOARCH": "arm64", "CGO_ENABLED": "0"}
    subprocess.run(["go", "build", "-o", app, "."], cwd=world.images.context, env=environment, check=True)
    try:
        return deployed(world, "answers")
    finally:
        app.write_bytes(good)


@fault("the registry refuses the server's token", RED_RIGHT, RED_RIGHT, says="ghcr.io refused the token", quick=True)
def token_refused(world: World) -> Claim:
    world.commit("api")
    token, login = world.github.secrets["GHCR_TOKEN"], world.server.home / ".docker/config.json"
    known = login.read_text() if login.exists() else ""
    world.github.secrets["GHCR_TOKEN"] = "expired"
    if known:
        login.write_text("{}")
    try:
        (run,) = world.push()
        run.wait()
    finally:
        world.github.secrets["GHCR_TOKEN"] = token
        if known:
            login.write_text(known)
    return Claim([run])


@contextlib.contextmanager
def registry_gone(world: World) -> Iterator[None]:
    """While the registry refuses connections."""
    rule = ("OUTPUT", "-d", "127.0.0.1", "-p", "tcp", "--dport", "443", "-j", "REJECT")
    world.server.run("iptables", "-A", *rule)
    try:
        yield
    finally:
        world.server.run("iptables", "-D", *rule)


@fault("the registry is gone between build and deploy", RED_RIGHT, RED_RIGHT, says=IN_TROUBLE)
def registry_gone_before(world: World) -> Claim:
    world.commit("api")
    (run,) = world.push("after-build")
    run.arrives("after-build")
    with registry_gone(world):
        run.release("after-build")
        run.wait()
    return Claim([run])


@contextlib.contextmanager
def registry_answers(world: World, status: int) -> Iterator[None]:
    """While the registry answers each request with that status."""
    port = 8443
    rule = ("OUTPUT", "-d", "127.0.0.1", "-p", "tcp", "--dport", "443", "-j", "REDIRECT", "--to-ports", str(port))
    program = str(Path(__file__).parents[1] / "overloaded.py")
    with world.server.beside(sys.executable, program, str(world.server.folder), str(port), str(status)):
        listens = ("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}")
        eventually(lambda: world.server.run(*listens, check=False).returncode == 0, 10, "the other registry listens")
        world.server.run("iptables", "-t", "nat", "-A", *rule)
        try:
            yield
        finally:
            world.server.run("iptables", "-t", "nat", "-D", *rule)


@fault("the registry answers 503 for a moment", GREEN_RIGHT, RED_RIGHT, says=PULL_AGAIN)
def registry_busy(world: World) -> Claim:
    """Until it was asked once, and the design's run has ended."""
    world.commit("api")
    (run,) = world.push("after-build")
    run.arrives("after-build")
    with registry_answers(world, 503):
        run.release("after-build")
        eventually(lambda: run.ended.is_set() or PULL_AGAIN in run.log, 60, "the registry was asked")
    return Claim([run.wait()])


@fault("the registry answers 429 to everything", RED_RIGHT, RED_RIGHT, says=IN_TROUBLE)
def registry_limits(world: World) -> Claim:
    world.commit("api")
    (run,) = world.push("after-build")
    run.arrives("after-build")
    with registry_answers(world, 429):
        run.release("after-build")
        run.wait()
    return Claim([run])


def heavy(world: World, megabytes: int) -> None:
    """A new version of the API with so much in it that nothing compresses."""
    (world.clone / "api/data").write_bytes(os.urandom(megabytes << 20))
    world.version("api", more="COPY api/data /data\n")


@fault("a layer arrives broken", RED_RIGHT, RED_RIGHT, says=IN_TROUBLE)
def registry_gone_halfway(world: World) -> Claim:
    heavy(world, 2)
    world.commit()
    (run,) = world.push("after-build")
    run.arrives("after-build")
    blobs = world.server.folder.glob("registry/**/blobs/sha256/*/*/data")
    newest: Path = max((blob for blob in blobs if blob.stat().st_size > 2 << 20), key=lambda blob: blob.stat().st_mtime)
    whole = newest.read_bytes()
    newest.write_bytes(whole[: len(whole) // 2])
    run.release("after-build")
    run.wait()
    newest.write_bytes(whole)
    return Claim([run])


@contextlib.contextmanager
def full(world: World, free_bytes: int) -> Iterator[None]:
    """While the engine's disk has only so many MB left."""
    file = f"{world.server.folder}/data/filler"
    body = 'left=$(df -m --output=avail "$1" | tail -n 1) && fallocate -l $((left - $2))M "$1/filler"'
    world.server.run("bash", "-c", body, "bash", f"{world.server.folder}/data", str(free_bytes))
    try:
        yield
    finally:
        world.server.run("rm", "-f", file)


@fault("the server's disk is full", RED_RIGHT, RED_RIGHT, says="MB left on")
def disk_full(world: World) -> Claim:
    world.commit("api")
    with full(world, 1):
        (run,) = world.push()
        run.wait()
    return Claim([run])


@fault("the server's disk fills up during the pull", RED_RIGHT, RED_RIGHT, says="does not fit on the disk")
def disk_fills(world: World) -> Claim:
    """The registry answers only when it is full: after the program has looked at the disk."""
    heavy(world, 2)
    world.commit()
    (run,) = world.push("after-build")
    run.arrives("after-build")
    with contextlib.ExitStack() as silence:
        silence.enter_context(world.registry_silent())
        run.release("after-build")
        asks = ("pgrep", "-u", "deployer", "-f", "docker .*pull")
        eventually(lambda: world.server.run(*asks, check=False).returncode == 0, 60, "the server asks the registry")
        with full(world, 1):
            silence.close()
            run.wait()
    return Claim([run])


@fault("a Dockerfile that copies what its filter misses", RED_RIGHT, GREEN_WRONG, says="/shared/words")
def missed_by_the_filter(world: World) -> Claim:
    """First the Dockerfile copies it, then only the copied file changes: what should serve is the second version."""
    world.write("shared/words", "one")
    world.version("api", more="COPY shared/words /words\n")
    world.commit()
    runs = world.push()
    for run in runs:
        run.wait()
    world.write("shared/words", "two")
    world.commit()
    stale = "the change of shared/words started nothing, and nobody was told"
    return Claim([*runs, *world.push()], never=stale)
