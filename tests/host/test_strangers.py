"""Containers of somebody else's, with names like those that a deploy uses: none of them is touched."""

from pathlib import Path

import pytest

from tests.host.fake_docker import Image
from tests.host.world import DB, WEB, WORKER, World

API = WEB.replace("web", "api").replace("    env_file: .env\n", "    depends_on: [db]\n")


@pytest.mark.parametrize("behaviour", [Image(), Image(exits_after=0.5)])
def test_a_container_whose_id_begins_with_the_services_name(root: Path, behaviour: Image) -> None:
    """Docker takes the beginning of an id for a name."""
    name = "6b86"
    world = World(root, WEB.replace("web", name))
    stranger = world.machine.run_by_hand("stranger", "nginx:1", "proxy")
    assert stranger.id.startswith(name)
    before = vars(stranger).copy()

    bad = world.deploy({name: world.image(name, 1, behaviour)}, 1)
    good = world.image(name, 2)
    outcome = world.deploy({name: good}, 2)

    assert (bad.code, outcome.code) == (0 if behaviour == Image() else 1, 0)
    assert world.serves(name, good)
    assert world.names() == [name, "stranger"]
    assert vars(stranger) == before


@pytest.mark.parametrize("suffix", ["next", "previous"])
@pytest.mark.parametrize("service", ["web", "worker"])
def test_a_name_that_a_deploy_needs_for_a_while(world: World, service: str, suffix: str) -> None:
    """A deploy is refused; going back fails where it needs the name. The stranger runs on either way."""
    for version in (1, 2):
        assert world.deploy({service: world.image(service, version)}, version).code == 0
    name = f"{service}-{suffix}"
    stranger = world.machine.run_by_hand(name, "nginx:1", "proxy")
    theirs, ours = vars(stranger).copy(), world.container(service).id

    refused = world.deploy({service: world.image(service, 3)}, 3)

    assert refused.code == 69
    assert refused.says(f"{name} was not made by a deploy, and deploys of {service} need that name")
    assert refused.says(f"docker rename {name} OTHER")
    assert world.container(service).id == ours and world.container(service).is_running

    outcome = world.rollback(service)

    is_needed = (service, suffix) in (("web", "next"), ("worker", "previous"))
    assert outcome.code == (1 if is_needed else 0)
    assert (world.container(service).id == ours) == is_needed
    assert world.container(service).is_running
    assert vars(stranger) == theirs

    world.machine.do_rename([name, "stranger"])
    good = world.image(service, 4)
    assert world.deploy({service: good}, 4).code == 0
    assert world.serves(service, good)
    assert world.names() == sorted([service, "stranger"])


@pytest.mark.parametrize("service", ["web", "worker"])
def test_a_container_that_docker_would_remove(world: World, service: str) -> None:
    """Nobody could bring it back."""
    world.machine.run_by_hand(service, "app:1", "proxy", is_removed_when_stopped=True)

    outcome = world.deploy({service: world.image(service, 1)}, 1)

    assert outcome.code == 69
    assert outcome.says(f"{service} was started with `docker run --rm`, so Docker would remove it when a deploy stops")
    assert world.container(service).is_running

    world.machine.do_stop([service])
    assert world.deploy({service: world.image(service, 1)}, 1).code == 0


def test_a_container_that_has_the_name_of_the_migration(world: World) -> None:
    """`docker compose run` would be refused after the pull."""
    world.edit("deploy.name-cache:", 'deploy.migrate: "migrate up"\n      deploy.name-cache:')
    world.machine.run_by_hand("web-next-migrate", "nginx:1", "proxy")

    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == 69
    assert outcome.says("web-next-migrate was not made by a deploy, and deploys of web need that name")
    assert world.names() == ["web-next-migrate"]


def test_going_back_starts_no_second_database(root: Path) -> None:
    """Going back waits for no finding, but data that another database has open is at stake."""
    world = World(root, API, DB, rest="volumes:\n  data:\n")
    world.machine.images["postgres:17"] = Image(has_health_check=True)
    world.machine.public.add("postgres:17")
    for version in (1, 2):
        assert world.deploy({"api": world.image("api", version)}, version).code == 0
    world.machine.do_rm(["-f", "-v", "db"])
    mount = {"Type": "volume", "Name": "shop_data", "Source": "/var/lib/docker/volumes/shop_data/_data"}
    world.machine.run_by_hand("old-db", "postgres:16", "proxy", mounts=[mount])

    outcome = world.rollback("api")

    assert outcome.code == 69
    assert outcome.says("old-db runs on shop_data, which db would use, too")
    assert world.names() == ["api", "old-db"]
    assert world.serves("api", world.image("api", 2))


def test_a_note_of_a_container_that_is_gone(root: Path) -> None:
    """A container of that name which the note does not mean is never brought back."""
    world = World(root, WORKER)
    old = world.image("worker", 1)
    assert world.deploy({"worker": old}, 1).code == 0
    note = '{"id": "gone", "restart": "always", "was_running": true}'
    (world.folder / ".deploys" / ".set-aside-worker").write_text(note)
    stranger = world.machine.run_by_hand("worker-previous", "nginx:1", "proxy")
    before = vars(stranger).copy()

    assert world.rollback("worker", old).code == 0

    assert world.serves("worker", old)
    assert vars(stranger) == before


def test_two_stacks_with_a_service_of_the_same_name(root: Path) -> None:
    """Their containers have different names, and so have the temporary ones."""
    world = World(root, WEB.replace("container_name: web", "container_name: shop-web"))
    stranger = world.machine.run_by_hand("web-next", "nginx:1", "proxy")
    before = vars(stranger).copy()
    for version in (1, 2):
        outcome = world.deploy({"web": world.image("web", version)}, version)
        assert outcome.code == 0, outcome.text

    assert world.names() == ["shop-web", "web-next"]
    assert vars(stranger) == before
