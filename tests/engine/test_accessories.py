"""Third-party services of a stack: a deploy starts what is not there, and leaves alone what runs."""

import pytest

from tests.engine.conftest import succeeds
from tests.engine.images import Images
from tests.engine.server import Server, outcome
from tests.engine.shop import WEB, Shop

STORE, INIT, LAST = "shop-store", "shop-init", "shop-a-last"
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
UNHEALTHY = "healthcheck: {test: [CMD, /app, ends, '1'], interval: 1s, retries: 1}"
NEEDS = "    depends_on: [{name}]\n"


def accessory(name: str, kind: str = '"yes"', command: str = "[]", more: str = RUNS) -> str:
    """A service of somebody else's image, as a compose file has it."""
    return ACCESSORY.format(name=name, kind=kind, command=command, more=more)


@pytest.fixture(autouse=True)
def image(server: Server, images: Images) -> None:
    """Somebody else's image, which the engine has."""
    if not server.docker("image", "ls", "-q", "accessory:1"):
        server.docker("build", "-q", "-t", "accessory:1", str(images.context))


def state(server: Server, name: str) -> str:
    """Its state, and the code with which it ended."""
    return server.docker("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name)


def test_accessories_are_started_in_their_order_and_left_alone(shop: Shop, server: Server, images: Images) -> None:
    """The names are in the other order, so that an alphabet would start them wrongly."""
    init = accessory(INIT, "once", "[ends, '0', 1s]", AFTER.format(more=ONCE, name=STORE, condition="service_started"))
    last = accessory(LAST, more=AFTER.format(more=RUNS, name=INIT, condition="service_completed_successfully"))
    shop.write(last + init + accessory(STORE))

    one, two = images.api("uno"), images.api("due")
    first = shop.deploy(one)

    assert first.returncode == 0, first.stdout
    assert "other settings" not in first.stdout
    assert (state(server, STORE), state(server, INIT)) == ("running 0", "exited 0")
    times = "{{.State.StartedAt}}|{{.State.FinishedAt}}"
    started, ended = (server.docker("inspect", "-f", times, name).split("|") for name in (LAST, INIT))
    assert started[0] > ended[1], "it waited for the end of the one before it"

    store, once, dangling = server.container_id(STORE), server.container_id(INIT), server.dangling()
    server.docker("stop", "-t", "0", LAST)
    shop.write(last + init.replace("1s", "2s") + accessory(STORE, command="[other]"))
    second = shop.deploy(two)

    assert second.returncode == 0, second.stdout
    assert state(server, LAST) == "running 0", "what was stopped is started"
    assert server.container_id(STORE) == store
    assert server.container_id(INIT) != once, "what runs once runs anew, as the compose file has it now"
    assert server.dangling() == dangling, "its volume went with it"
    (message,) = [line for line in second.stdout.splitlines() if "other settings" in line]
    assert STORE in message
    server.by_hand(message.partition("To recreate it: ")[2], check=True)
    assert server.container_id(STORE) != store
    assert "other settings" not in shop.deploy(two, shop.sequence).stdout


def test_an_accessory_that_comes_after_the_service_does_not_bring_it(
    shop: Shop, server: Server, images: Images
) -> None:
    """Compose alone would start the service first, from the tag in its file, which it may not pull."""
    shop.write(accessory(STORE, more=AFTER.format(more=RUNS, name=WEB, condition="service_started")))

    succeeds(shop.deploy(images.api("uno")))

    assert (server.serves(WEB), state(server, STORE)) == ("uno", "running 0")


def test_what_a_service_needs_is_left_alone_when_it_starts_beside(shop: Shop, server: Server, images: Images) -> None:
    shop.write(NEEDS.format(name=STORE) + accessory(STORE), rollout="")
    succeeds(shop.deploy(images.api("uno")))
    before = server.container_id(STORE)
    shop.write(NEEDS.format(name=STORE) + accessory(STORE, command="[other]"), rollout="")

    result = shop.deploy(images.api("due"))

    assert result.returncode == 0, result.stdout
    assert f"starting {WEB}-next beside {WEB}" in result.stdout
    assert (server.serves(WEB), server.container_id(STORE)) == ("due", before)


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
    assert f"{STORE} runs with other settings" not in same.stdout
    assert f"{STORE} runs with other settings" in other.stdout


@pytest.mark.parametrize(
    ("broken", "needed", "says"),
    [
        (accessory(INIT, "once", "[ends, '3']", ONCE), INIT, "exit code 3"),
        (
            accessory(INIT, "once", "[ends, '3']", ONCE)
            + accessory(STORE, more=AFTER.format(more=RUNS, name=INIT, condition="service_started")),
            STORE,
            INIT,
        ),
        (accessory(STORE, more="restart: 'no'\n    entrypoint: [/app, ends, '0']"), STORE, "exited"),
        (accessory(STORE).replace("accessory:1", "accessory:none"), STORE, "accessory:none"),
        (
            accessory(STORE, more=f"{RUNS}\n    {UNHEALTHY}"),
            STORE,
            "running since",
        ),
    ],
    ids=["ends-badly", "needs-what-ends-badly", "ends", "no-image", "unhealthy"],
)
def test_an_accessory_that_fails_stops_what_depends_on_it(
    shop: Shop, server: Server, images: Images, broken: str, needed: str, says: str
) -> None:
    shop.bring_into_service(images.api("uno"))
    before = server.container_id(WEB)
    shop.write(NEEDS.format(name=needed) + broken)

    result = shop.deploy(images.api("due"))

    assert result.returncode == 69, result.stdout
    assert "is not healthy, and a deployed service depends on it" in outcome(result)["message"]
    assert says in result.stdout
    assert "\n##[" not in result.stdout
    assert (server.container_id(WEB), server.serves(WEB)) == (before, "uno")


def test_an_accessory_that_fails_does_not_stop_what_does_not_depend_on_it(
    shop: Shop, server: Server, images: Images
) -> None:
    last = accessory(LAST, more=AFTER.format(more=RUNS, name=INIT, condition="service_completed_successfully"))
    shop.write(accessory(INIT, "once", "[ends, '3']", ONCE) + last)

    result = shop.deploy(images.api("uno"))

    assert result.returncode == 0, result.stdout
    assert "some accessories could not be started" in result.stdout
    assert state(server, LAST) == "created 0", "Compose waits in vain for what it depends on"
    assert server.serves(WEB) == "uno"


def test_a_health_check_is_waited_for(shop: Shop, server: Server, images: Images) -> None:
    check = "healthcheck: {test: [CMD, /app, ends, '0', 2s], interval: 1s, retries: 1}"
    shop.write(NEEDS.format(name=STORE) + accessory(STORE, more=f"{RUNS}\n    {check}"))

    succeeds(shop.deploy(images.api("uno")))

    healthy_at = server.docker("inspect", "-f", "{{(index .State.Health.Log 0).End}}", STORE)
    created_at = server.docker("inspect", "-f", "{{.Created}}", WEB)
    assert created_at[:19] >= healthy_at[:19].replace(" ", "T"), "the service was made after the check had passed"


def test_an_accessory_that_was_given_another_name(shop: Shop, server: Server, images: Images) -> None:
    """The old one is named, of whose name no dot stands for another byte, and no pin of it stops anything."""
    shop.write(accessory(STORE))
    succeeds(shop.deploy(images.api("uno")))
    shop.write(accessory("shop.store"))

    result = shop.deploy(images.api("due"))

    assert result.returncode == 69, result.stdout
    assert f"docker rm -f {STORE}" in outcome(result)["message"]
    assert server.serves(WEB) == "due"


def test_an_accessory_is_not_deployed(shop: Shop, images: Images) -> None:
    shop.write(accessory(STORE))

    result = shop.deploy_set({STORE: images.api("uno")})

    assert result.returncode == 64, result.stdout
    assert f"{STORE} is an accessory" in result.stdout
