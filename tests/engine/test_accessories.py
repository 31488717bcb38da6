"""Third-party services of a stack: a deploy starts what is not there, and leaves alone what runs."""

import re

import pytest

from tests.engine.conftest import succeeds
from tests.engine.images import Images
from tests.engine.server import Server
from tests.engine.shop import WEB, Shop

STORE, INIT = "shop-store", "shop-init"
ACCESSORY = """\
  {name}:
    image: accessory:1
    pull_policy: never
    container_name: {name}
    command: {command}
    {more}
    labels: {{deploy.accessory: {kind}}}
"""
RUNS = "restart: unless-stopped"
ONCE = "restart: 'no'"
AFTER = "{more}\n    depends_on: {{{name}: {{condition: {condition}}}}}"


def accessory(name: str, kind: str = '"yes"', command: str = "[]", more: str = RUNS) -> str:
    return ACCESSORY.format(name=name, kind=kind, command=command, more=more)


@pytest.fixture(autouse=True)
def image(server: Server, images: Images) -> None:
    """Somebody else's image, which the engine has."""
    if not server.docker("image", "ls", "-q", "accessory:1"):
        server.docker("build", "-q", "-t", "accessory:1", str(images.context))


def state(server: Server, name: str) -> str:
    return server.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name)


def test_accessories_are_started_in_their_order_and_left_alone(shop: Shop, server: Server, images: Images) -> None:
    init = accessory(INIT, "once", "[ends, '0', 1s]", AFTER.format(more=ONCE, name=STORE, condition="service_started"))
    last = accessory("shop-last", more=AFTER.format(more=RUNS, name=INIT, condition="service_completed_successfully"))
    shop.write(last + init + accessory(STORE))

    one, two = images.api("uno"), images.api("due")
    first = shop.deploy(one)

    assert first.returncode == 0, first.stdout
    assert "other settings" not in first.stdout
    assert (state(server, STORE), state(server, INIT)) == ("running 0", "exited 0")
    at = "{{.State.StartedAt}}|{{.State.FinishedAt}}"
    started, ended = (server.docker("inspect", "-f", at, name).split("|") for name in ("shop-last", INIT))
    assert started[0] > ended[1], "it waited for the end of the one before it"

    store, once, dangling = server.container_id(STORE), server.container_id(INIT), server.dangling()
    server.docker("stop", "-t", "0", "shop-last")
    shop.write(last + init.replace("1s", "2s") + accessory(STORE, command="[other]"))
    second = shop.deploy(two)

    assert second.returncode == 0, second.stdout
    assert state(server, "shop-last") == "running 0", "what was stopped is started"
    assert server.container_id(STORE) == store
    assert server.container_id(INIT) != once, "what runs once runs anew, as the compose file has it now"
    assert server.dangling() == dangling, "its volume went with it"
    told = [line for line in second.stdout.splitlines() if "other settings" in line]
    command = f"cd {shop.folder} && docker compose up -d --no-deps {STORE}"
    assert told == [f"{STORE} has other settings than the compose file; to start it anew with these: {command}"]
    server.by_hand(command, check=True)
    assert server.container_id(STORE) != store
    assert "other settings" not in shop.deploy(two, shop.sequence).stdout


def test_an_accessory_that_comes_after_the_service_does_not_bring_it(
    shop: Shop, server: Server, images: Images
) -> None:
    """Compose alone would start the service first, from the tag in its file, which it may not pull."""
    shop.write(accessory(STORE, more=AFTER.format(more=RUNS, name=WEB, condition="service_started")))

    succeeds(shop.deploy(images.api("uno")))

    assert server.serves(WEB) == "uno"


def test_what_a_service_needs_is_left_alone_when_it_comes_beside(shop: Shop, server: Server, images: Images) -> None:
    file = shop.folder / "docker-compose.yml"
    for version, command in (("uno", "[]"), ("due", "[other]")):
        shop.write(f"    depends_on: [{STORE}]\n{accessory(STORE, command=command)}")
        shop.put(file.name, file.read_text().replace("      deploy.rollout: recreate\n", ""))
        before = server.docker("ps", "-aq", "--no-trunc", "-f", f"name={STORE}")
        result = shop.deploy(images.api(version))
        assert result.returncode == 0, result.stdout

    assert server.container_id(STORE) == before
    assert len(re.findall(r"^[0-9a-f]{64}$", result.stdout, re.M)) == 1, "it came beside"


def test_an_accessorys_env_file_belongs_to_its_settings(shop: Shop, images: Images) -> None:
    shop.write(accessory(STORE, more=f"{RUNS}\n    env_file: store.env\n    environment: {{B: 'a $$ b'}}"))
    shop.put("store.env", "A='one $ and more'\n")
    one = images.api("uno")
    succeeds(shop.deploy(one))
    same = shop.deploy(one)

    shop.put("store.env", "A=two\n")
    other = shop.deploy(one)

    succeeds(same)
    succeeds(other)
    assert f"{STORE} has other settings" not in same.stdout
    assert f"{STORE} has other settings" in other.stdout


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (accessory(INIT, "once", "[ends, '3']", ONCE), "exited since"),
        (accessory(INIT, "once", "[ends, '3']", ONCE) + accessory(STORE), "exit code 3"),
        (accessory(STORE, more="restart: 'no'\n    entrypoint: [/app, ends, '0']"), "exited"),
        (accessory(STORE).replace("accessory:1", "accessory:none"), "No such image: accessory:none"),
    ],
)
def test_an_accessory_that_fails_stops_the_deploy(
    shop: Shop, server: Server, images: Images, broken: str, says: str
) -> None:
    succeeds(shop.deploy(images.api("uno")))
    before = server.container_id(WEB)
    shop.write(broken)

    result = shop.deploy(images.api("due"))

    assert result.returncode == 69, result.stdout
    assert "is not well, and shop needs it" in result.stdout
    assert says in result.stdout
    assert "\n##[" not in result.stdout
    assert "FAILED. Serving now: sha256:" in result.stdout
    assert (server.container_id(WEB), server.serves(WEB)) == (before, "uno")


@pytest.mark.parametrize(
    ("check", "code"),
    [("test: [CMD, /app, ends, '0', 2s]", 0), ("test: [CMD, /app, ends, '1', 2s]", 69), ("test: [CMD, hangs]", 69)],
)
def test_a_health_check_is_waited_for(shop: Shop, server: Server, images: Images, check: str, code: int) -> None:
    """For two minutes at most: the last one never asks."""
    interval = "1h" if "hangs" in check else "1s"
    shop.write(accessory(STORE, more=f"{RUNS}\n    healthcheck: {{{check}, interval: {interval}, retries: 1}}"))

    result = shop.deploy(images.api("uno"))

    assert result.returncode == code, result.stdout
    assert ("shop-store is not well" in result.stdout) == (code == 69)


def test_an_accessory_that_was_given_another_name(shop: Shop, images: Images) -> None:
    """The old one is told, of whose name no dot stands for another byte, and what it was pinned by stops nothing."""
    shop.write(accessory(STORE))
    succeeds(shop.deploy(images.api("uno")))
    shop.write(accessory("shop.store"))

    result = shop.deploy(images.api("due"))

    assert result.returncode == 69, result.stdout
    assert f"{WEB} serves, but {STORE} runs, which shop has no more" in result.stdout


def test_an_accessory_is_not_deployed(shop: Shop, server: Server, images: Images) -> None:
    shop.write(accessory(STORE))

    result = server.as_person(f"docker/bin/deploy {shop.words(images.api('one')).replace(WEB, STORE)}")

    assert result.returncode == 64, result.stdout
    assert f"{STORE} is an accessory: its image is the compose file's" in result.stdout
