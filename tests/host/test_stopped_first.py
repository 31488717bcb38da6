"""What cannot run twice: a worker, a service with `recreate`. The old container is stopped, kept, and comes back."""

from pathlib import Path

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
from tests.host.fake_docker import Image
from tests.host.world import WEB, WORKER, World, compose_file

RECREATE = WEB.replace("deploy.host:", "deploy.rollout: recreate\n      deploy.host:").replace("web", "store")
SERVICES = {"worker": WORKER, "store": RECREATE}
DATA = "    volumes:\n      - data:/data\n    networks:"


@pytest.fixture(params=SERVICES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(root: Path, name: str) -> World:
    world = World(root, SERVICES[name])
    assert world.deploy({name: world.image(name, 1)}, 1).code == 0
    return world


def test_a_good_image(world: World, name: str) -> None:
    old = world.container(name)
    digest = world.image(name, 2)

    outcome = world.deploy({name: digest}, 2)

    assert outcome.code == 0, outcome.text
    assert world.names() == [name] and world.serves(name, digest)
    assert world.container(name).restart_policy == "unless-stopped"
    assert not world.container(name).is_one_off
    assert world.pins() == {name: digest}
    # The old one has ended before the new one starts.
    assert world.machine.ended[-1][2] == old.id and world.machine.ended[-1][0] <= world.container(name).started_at


def test_again_and_again(world: World, name: str) -> None:
    """Each container is made by asking Compose for one more: none is left over."""
    for version in range(2, 7):
        digest = world.image(name, version)
        assert world.deploy({name: digest}, version).code == 0
        assert world.names() == [name] and world.serves(name, digest)
        again = world.deploy({name: digest}, version)
        assert again.results == {name: "unchanged"}


@pytest.mark.parametrize(
    "image",
    [
        Image(exits_after=0.5, exit_code=3),
        Image(exits_after=0, exit_code=127),
        Image(exits_after=8, exit_code=4),
        Image(works_only_beside=True),
    ],
)
def test_a_bad_image(world: World, name: str, image: Image) -> None:
    """The same container comes back, with its restart policy; no second one was made from its image."""
    old = world.container(name)
    before = (old.id, old.reference)
    outcome = world.deploy({name: world.image(name, 2, image)}, 2)

    assert (outcome.code, outcome.results) == (1, {name: "failed"})
    assert world.names() == [name]
    back = world.container(name)
    assert (back.id, back.reference) == before
    assert back.is_running and back.restart_policy == "unless-stopped"
    assert world.pins() == {name: deploy_program.digest_of(back.reference)}
    assert len(world.record(name)) == 1
    assert outcome.says("| started")

    world.machine.boot()
    assert world.container(name).is_running


@pytest.mark.parametrize(("answers_after", "code"), [(40, 0), (100, 0), (900, 1)])
def test_a_worker_with_a_health_check_of_dockers(root: Path, answers_after: float, code: int) -> None:
    """Its first check may be half a minute away: until then Docker does not know whether it is healthy."""
    world = World(root, WORKER)
    assert world.deploy({"worker": world.image("worker", 1)}, 1).code == 0

    image = Image(has_health_check=True, answers_after=answers_after)
    outcome = world.deploy({"worker": world.image("worker", 2, image)}, 2)

    assert outcome.code == code, outcome.text
    world.machine.wait(2)
    assert world.serves("worker", world.image("worker", 2, image) if code == 0 else world.image("worker", 1))
    reason = "worker did not become healthy within 120 seconds: Docker's health check has not passed yet"
    assert outcome.says(reason) == (code == 1)


def test_two_never_run_at_once(root: Path) -> None:
    world = World(root, WORKER.replace("    networks:", DATA), rest="volumes:\n  data:\n")
    for version in (1, 2, 3):
        image = Image(needs_to_be_alone=True, exits_after=8 if version == 2 else None)
        world.deploy({"worker": world.image("worker", version, image)}, version)

    assert world.serves("worker", world.image("worker", 3, Image(needs_to_be_alone=True)))
    assert world.machine.doubles == []


def test_a_worker_that_did_not_run_before_is_not_brought_back(root: Path) -> None:
    """Nobody starts what a person had stopped; a container that ended by itself is replaced."""
    world = World(root, WORKER)
    world.deploy({"worker": world.image("worker", 1)}, 1)
    world.machine.do_stop(["worker"])

    outcome = world.deploy({"worker": world.image("worker", 2, Image(exits_after=0.5))}, 2)

    assert outcome.code == 1
    good = world.image("worker", 3)
    assert world.deploy({"worker": good}, 3).code == 0
    assert world.names() == ["worker"] and world.serves("worker", good)


def test_a_worker_that_a_person_made(root: Path) -> None:
    """It stops before ours starts, is kept, and comes back if ours is bad."""
    world = World(root, WORKER)
    foreign = world.machine.run_by_hand("worker", "ghcr.io/acme/worker:old", "proxy")

    bad = world.deploy({"worker": world.image("worker", 1, Image(exits_after=0.5))}, 1)
    assert bad.code == 1
    assert world.names() == ["worker"] and foreign.name == "worker" and foreign.is_running
    assert foreign.restart_policy == "unless-stopped"

    digest = world.image("worker", 2)
    good = world.deploy({"worker": digest}, 2)
    assert good.code == 0, good.text
    assert world.serves("worker", digest)
    assert foreign.name == "worker-before" and not foreign.is_running and foreign.restart_policy == "no"


def test_a_volume_without_a_name_stays(root: Path) -> None:
    """As with `docker compose up`, which hands it on to the new container."""
    world = World(root, WORKER)
    assert world.deploy({"worker": world.image("worker", 1)}, 1).code == 0
    volume = 64 * "a"
    world.machine.state.volumes.add(volume)
    mount = {"Type": "volume", "Name": volume, "Source": f"/volumes/{volume}", "Destination": "/cache", "RW": True}
    world.container("worker").mounts.append(mount)

    for version in (2, 3):
        digest = world.image("worker", version)
        assert world.deploy({"worker": digest}, version).code == 0
        mounted = [(entry["Name"], entry["Destination"]) for entry in world.container("worker").mounts]
        assert mounted == [(volume, "/cache")]
        assert world.deploy({"worker": digest}, version).results == {"worker": "unchanged"}


def volume_at(world: World, place: str) -> str:
    (name,) = [mount["Name"] for mount in world.container("worker").mounts if mount["Destination"] == place]
    return str(name)


def test_a_volume_without_a_name_that_the_compose_file_asks_for(root: Path) -> None:
    world = World(root, WORKER.replace("    networks:", "    volumes:\n      - /cache\n    networks:"))
    assert world.deploy({"worker": world.image("worker", 1)}, 1).code == 0
    volume = volume_at(world, "/cache")

    digest = world.image("worker", 2)
    assert world.deploy({"worker": digest}, 2).code == 0

    assert volume_at(world, "/cache") == volume
    assert world.deploy({"worker": digest}, 3).results == {"worker": "unchanged"}


def test_a_volume_that_would_hide_the_data_of_one_without_a_name(root: Path) -> None:
    """A deploy is refused; a rollback goes on, and removes no data."""
    world = World(root, WORKER)
    for version in (1, 2):
        digest = world.image("worker", version, Image(volumes=("/data",)))
        assert world.deploy({"worker": digest}, version).code == 0
    volume, before = volume_at(world, "/data"), world.container("worker").id
    world.write(compose_file(WORKER.replace("    networks:", DATA), rest="volumes:\n  data:\n"))

    outcome = world.deploy({"worker": world.image("worker", 3)}, 3)

    assert outcome.code == 69, outcome.text
    assert outcome.says("worker has its data of /data in a volume without a name")
    assert outcome.says("and the compose file mounts shop_data there")
    copying = f"docker run --rm -v {volume}:/old:ro -v shop_data:/new alpine cp -a /old/. /new/"
    assert outcome.says(f"docker stop worker && {copying} && docker rm worker")
    assert world.container("worker").id == before and world.container("worker").is_running

    assert world.rollback("worker").code == 0
    assert volume_at(world, "/data") == "shop_data"
    assert volume in world.machine.state.volumes


def test_a_person_runs_compose_up(world: World, name: str) -> None:
    """With the files of the folder it starts the same image: Compose may make the container anew, and no other one."""
    digest = world.image(name, 2)
    world.deploy({name: digest}, 2)
    stack = world.stack()
    stack.read_compose_file()

    assert stack.compose("up", "-d", "--no-deps", name, pins=stack.pins).code == 0

    world.machine.wait(2)
    assert world.names() == [name] and world.serves(name, digest)
    assert world.deploy({name: digest}, 3).results == {name: "unchanged"}


def test_the_limit_of_a_restart_policy_comes_back(root: Path) -> None:
    world = World(root, WORKER.replace("unless-stopped", "on-failure:3"))
    assert world.deploy({"worker": world.image("worker", 1)}, 1).code == 0
    assert world.container("worker").restart_policy == "on-failure:3"

    assert world.deploy({"worker": world.image("worker", 2, Image(exits_after=0.5))}, 2).code == 1

    assert world.container("worker").restart_policy == "on-failure:3"
