"""Connections, runners, keys, and the proxy."""

from collections.abc import Callable

from tests.engine.server import eventually
from tests.rehearsal.github import Run
from tests.rehearsal.trial import Claim, fault
from tests.rehearsal.verdict import GREEN_RIGHT, GREEN_WRONG, RED_RIGHT
from tests.rehearsal.world import World, domain

API = ("staging", "api")


def in_the_middle(world: World, do: Callable[[Run], object]) -> Claim:
    """Does something while the API is being deployed: the new container is there (ours), or its image is pulled."""
    world.commit("api")
    (run,) = world.push("after-build")
    run.arrives("after-build")
    server = world.server
    if world.ours:
        run.release("after-build")
        eventually(lambda: "pos-api-staging-next" in server.containers(), 60, "the new container is there")
        do(run)
    else:
        with world.registry_silent():
            run.release("after-build")
            pulls = ("pgrep", "-u", "deployer", "-f", "compose pull")
            eventually(lambda: server.run(*pulls, check=False).returncode == 0, 60, "compose pulls")
            do(run)
    return Claim([run.wait()])


@fault("the SSH connection drops in the middle", RED_RIGHT, RED_RIGHT, says="the host does not say what serves")
def connection_drops(world: World) -> Claim:
    return in_the_middle(world, lambda _: world.server.run("pkill", "-KILL", "-f", "^sshd: deployer"))


@fault("the runner is lost in the middle", RED_RIGHT, RED_RIGHT)
def runner_lost(world: World) -> Claim:
    return in_the_middle(world, world.github.lose_runner)


@fault("the deploy is killed on the server, with what it began", RED_RIGHT, RED_RIGHT, leaves=True)
def killed(world: World) -> Claim:
    words = "docker/bin/deploy|docker compose|docker-compose"
    return in_the_middle(world, lambda _: world.server.run("pkill", "-KILL", "-u", "deployer", "-f", words))


@fault("the engine restarts in the middle", (RED_RIGHT, GREEN_RIGHT), RED_RIGHT, outage=True, leaves=True)
def engine_restarts(world: World) -> Claim:
    return in_the_middle(world, lambda _: world.restart_engine())


@fault("the engine restarts between build and deploy", GREEN_RIGHT, GREEN_RIGHT, outage=True)
def engine_restarts_before(world: World) -> Claim:
    world.commit("api")
    (run,) = world.push("after-build")
    run.arrives("after-build")
    world.restart_engine()
    run.release("after-build")
    return Claim([run])


@fault("the server has another host key", RED_RIGHT, GREEN_WRONG, says="Host key verification failed.")
def other_host_key(world: World) -> Claim:
    """For SSH a server with another key is another server: whoever answers there would get the token."""
    server = world.server
    config = server.folder / "sshd_config"
    text = config.read_text()
    server.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{server.folder}/keys/other")

    def host_key(words: str) -> None:
        config.write_text(words)
        server.run("pkill", "-HUP", "-f", "/usr/sbin/sshd -D")

    host_key(text.replace("/keys/host\n", "/keys/other\n"))
    try:
        world.commit("api")
        (run,) = world.push()
        run.wait()
    finally:
        host_key(text)
        server.run("rm", f"{server.folder}/keys/other", f"{server.folder}/keys/other.pub")
    return Claim([run], never="a server with a key that nobody knows was trusted")


@fault("the deploy key is not the server's", RED_RIGHT, RED_RIGHT, says="Permission denied (publickey")
def other_key(world: World) -> Claim:
    secrets = world.github.secrets
    good = secrets["VPS_SSH_KEY"]
    secrets["VPS_SSH_KEY"] = (world.server.folder / "keys/host").read_text()
    try:
        world.commit("api")
        (run,) = world.push()
        run.wait()
    finally:
        secrets["VPS_SSH_KEY"] = good
    return Claim([run])


@fault("a secret is not set", RED_RIGHT, RED_RIGHT, says="VPS_HOST is not set: runbook, step 5")
def secret_not_set(world: World) -> Claim:
    host = world.github.secrets.pop("VPS_HOST")
    try:
        world.commit("api")
        (run,) = world.push()
        run.wait()
    finally:
        world.github.secrets["VPS_HOST"] = host
    return Claim([run])


@fault("somebody else has the deploy key", RED_RIGHT, GREEN_WRONG, quick=True)
def stolen_key(world: World) -> Claim:
    """Every way in that a key can have: a shell, a command of one's own, words that a shell would run."""
    mark = f"{world.server.home}/stolen"
    deploy = f"deploy 1 pos-staging 9 {64 * '0'} 1 pos-api-staging=sha256:{64 * '0'}"
    tries = [f"touch {mark}", f"{deploy}; touch {mark}", f"{deploy} $(touch {mark})", f"{deploy}\ntouch {mark}"]
    codes = [world.server.key(words).returncode for words in tries]
    world.server.run(*world.server.ssh(f"touch {mark}", key="ci")[:-1], check=False, stdin=f"touch {mark}\n")
    done = world.server.run("rm", mark, check=False).returncode == 0
    return Claim(green=done or 0 in codes, never="it opens the whole server")


def in_front(world: World, directive: str, never: str = "") -> Claim:
    """While what stands in front of staging's API answers by itself."""
    world.commit("api")
    world.front.answer({domain(API): directive})
    try:
        (run,) = world.push()
        run.wait()
    finally:
        world.front.answer({})
    return Claim([run], never=never)


@fault(
    "a CDN answers 403 in its place",
    RED_RIGHT,
    RED_RIGHT,
    says="/health answered 403, not 200; to go back, on vps: ",
    outage=True,
)
def forbidden(world: World) -> Claim:
    return in_front(world, "return 403;")


@fault(
    "the domain answers with a redirect",
    RED_RIGHT,
    GREEN_WRONG,
    says="/health answered 301, not 200; to go back, on vps: ",
    outage=True,
)
def redirected(world: World) -> Claim:
    return in_front(world, "return 301 https://login.example.com/;", never="the domain leads elsewhere")
