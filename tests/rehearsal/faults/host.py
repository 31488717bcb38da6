"""Files on the server: env files, compose files, hooks."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.engine.server import PROGRAM, UID, eventually
from tests.rehearsal.trial import Claim, fault
from tests.rehearsal.verdict import GREEN_RIGHT, GREEN_WRONG, RED_RIGHT
from tests.rehearsal.world import World, container

API = ("staging", "api")
COMPOSE = "deploy/pos-staging/docker-compose.yml"
OTHER_VALUE = "pos-staging/.env:1: Compose reads another value for JWT_SECRET"
OTHER_COMPOSE_FILE = "differs from the commit's. Copy it and run the job again: git archive HEAD deploy/pos-staging |"


def on_the_server(world: World, name: str) -> Path:
    """A file of staging's stack, where the server has it."""
    return world.server.docker_folder / "pos-staging" / name


@contextmanager
def replaced(path: Path, text: str | None) -> Iterator[None]:
    """While a file holds something else, or is away."""
    good = path.read_text()
    path.unlink() if text is None else path.write_text(text)
    try:
        yield
    finally:
        path.write_text(good)


def with_env_file(world: World, text: str | None, setting: str = "", value: str = "") -> Claim:
    """A push while the env file is so; a green run promises that the container has that value."""
    world.commit("api")
    with replaced(on_the_server(world, ".env"), text):
        (run,) = world.push()
        run.wait()
        got = environment(world).get(setting, "")
    wrong = f"the container has {setting}={got}, the file says {value}" if got != value else ""
    return Claim([run], untrue=lambda: wrong)


def environment(world: World) -> dict[str, str]:
    """What the API's container has in its environment."""
    form = '{{range .Config.Env}}{{.}}{{"\\n"}}{{end}}'
    lines = world.server.docker("inspect", "-f", form, container(API), check=False).splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


@fault(
    "the env file is missing",
    RED_RIGHT,
    RED_RIGHT,
    says="pos-staging/.env is missing. Create it on the server, from ",
    quick=True,
)
def env_missing(world: World) -> Claim:
    return with_env_file(world, None)


@fault("the env file still has its change-me", RED_RIGHT, GREEN_RIGHT, says="still has change-me")
def env_unfinished(world: World) -> Claim:
    return with_env_file(world, "JWT_SECRET=change-me\n", "JWT_SECRET", "change-me")


@fault(
    "the env file has a password with an unquoted `$`",
    RED_RIGHT,
    GREEN_WRONG,
    says=OTHER_VALUE,
    quick=True,
)
def env_dollar(world: World) -> Claim:
    return with_env_file(world, "JWT_SECRET=$apr1$uZ5n$x\n", "JWT_SECRET", "$apr1$uZ5n$x")


@fault("the env file has a password with `$HOME` in it", RED_RIGHT, GREEN_WRONG, says=OTHER_VALUE)
def env_home(world: World) -> Claim:
    return with_env_file(world, "JWT_SECRET=ab$HOME\n", "JWT_SECRET", "ab$HOME")


@fault("the env file has quotes, spaces, `$apr1$` and ü in single quotes", GREEN_RIGHT, GREEN_RIGHT)
def env_quoted(world: World) -> Claim:
    value = 'a "b" $apr1$c \\ `d` ü #e'
    return with_env_file(world, f"JWT_SECRET='{value}'\n", "JWT_SECRET", value)


@fault(
    "the commit changes the compose file, and the server has the old one",
    RED_RIGHT,
    GREEN_WRONG,
    says=OTHER_COMPOSE_FILE,
)
def compose_in_the_commit(world: World) -> Claim:
    good = (world.clone / COMPOSE).read_text()
    world.write(COMPOSE, good.replace("env_file: .env\n", "env_file: .env\n    environment: {FEATURE: 'on'}\n"))
    world.commit("api")
    (run,) = world.push()
    run.wait()
    world.write(COMPOSE, good)
    return Claim(
        [run], untrue=lambda: "" if "FEATURE" in environment(world) else "the container lacks what the commit gives it"
    )


@fault(
    "somebody has pinned an older image in the server's compose file", RED_RIGHT, GREEN_WRONG, says=OTHER_COMPOSE_FILE
)
def compose_on_the_server(world: World) -> Claim:
    file = on_the_server(world, "docker-compose.yml")
    world.commit("api")
    pinned = f"kiwari-api@{world.digest(API)}"
    with replaced(file, file.read_text().replace("kiwari-api:staging", pinned)):
        (run,) = world.push()
        run.wait()
    return Claim([run])


@fault(
    "a person has added a line to the override file",
    RED_RIGHT,
    GREEN_RIGHT,
    says="docker-compose.override.yml has lines that bin/deploy did not write",
)
def line_in_override(world: World) -> Claim:
    """The design has no such file: there the person makes it, and Compose reads it."""
    file = on_the_server(world, "docker-compose.override.yml")
    line = "    environment: {FEATURE: 'on'}\n"
    text = file.read_text() if world.ours else ""
    file.write_text((text or "services:\n  pos-api-staging:\n") + line)
    world.commit("api")
    (run,) = world.push()
    run.wait()
    has_it = "FEATURE" in environment(world)
    if world.ours:
        file.write_text(text)
    else:
        file.unlink()
    return Claim([run], untrue=lambda: "" if has_it else "the container lacks what the line gives it")


@fault(
    "root goes back at night, and a commit comes in the morning",
    GREEN_RIGHT,
    GREEN_RIGHT,
    says="belongs to deployer. On the server: sudo -u deployer ",
)
def as_root(world: World) -> Claim:
    """Files that would be root's would stop every later deploy."""
    folder = world.server.docker_folder
    words: tuple[str, ...]
    if world.ours:
        words = (f"{folder}/bin/deploy", "rollback", "pos-staging", container(API))
    else:
        words = ("sh", "-c", f"cd {folder}/pos-staging && docker compose up -d")
    by_hand = world.server.run(*words, check=not world.ours)
    world.commit("api")
    return Claim(world.push(), by_hand=by_hand.stderr)


@fault("the program on the server is replaced while it deploys", GREEN_RIGHT, ())
def program_replaced(world: World) -> Claim:
    """Written in place, and shorter, as `scp` does."""
    program = world.server.docker_folder / "bin/deploy"
    world.commit("api")
    (run,) = world.push("after-build")
    run.arrives("after-build")
    run.release("after-build")
    eventually(lambda: f"{container(API)}-next" in world.server.containers(), 60, "the deploy is at work")
    program.write_text("raise SystemExit('half of a program')\n")
    try:
        run.wait()
    finally:
        program.write_bytes(PROGRAM.read_bytes())
    return Claim([run])


@fault("a hook leaves something running, and another deploy comes", GREEN_RIGHT, ())
def hook_leaves_something(world: World) -> Claim:
    """What a hook has started must not hold the lock."""
    hooks, compose_file = on_the_server(world, "hooks"), on_the_server(world, "docker-compose.yml")
    good, script = (world.clone / COMPOSE).read_text(), "sleep 600 &\n"
    headed = f"# Files beside it: hooks/before\n{good}"
    hooks.mkdir()
    (hooks / "before").write_text(script)
    world.write(COMPOSE, headed)
    world.write("deploy/pos-staging/hooks/before", script)
    compose_file.write_text(headed)
    world.server.run("chown", "-R", f"{UID}:{UID}", str(hooks))
    try:
        world.commit("api")
        first = [run.wait() for run in world.push()]
        assert world.server.run("pgrep", "-u", str(UID), "-x", "sleep").stdout, "the hook left nothing"
        world.commit("api")
        second = [run.wait() for run in world.push()]
    finally:
        world.server.run("pkill", "-u", str(UID), "-x", "sleep", check=False)
        shutil.rmtree(hooks)
        shutil.rmtree(world.clone / "deploy/pos-staging/hooks")
        world.write(COMPOSE, good)
        compose_file.write_text(good)
    return Claim(second, green=all(run.green for run in [*first, *second]))
