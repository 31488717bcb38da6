"""A service that publishes ports on the server: its temporary container, which has none, only proves the image."""

from pathlib import Path

import pytest

from tests.host.compose_reader import Model
from tests.host.fake_docker import Image, Killed, Refused
from tests.host.world import WEB, World

PUBLISHING = WEB.replace("    networks:", '    ports: ["8080:8080"]\n    networks:')
ONLY_BESIDE = Image(works_only_beside=True)


@pytest.fixture
def world(root: Path) -> World:
    world = World(root, PUBLISHING)
    assert world.deploy({"web": world.image("web", 1)}, 1).code == 0
    return world


def test_the_old_image_comes_back_if_the_own_container_fails(world: World) -> None:
    """The temporary container is healthy, and no request from outside can reach it."""
    old = world.image("web", 1)

    outcome = world.deploy({"web": world.image("web", 2, ONLY_BESIDE)}, 2)

    assert outcome.code == 1
    assert outcome.says("nothing serves: creating web again from its old image")
    world.machine.wait(2)
    assert world.names() == ["web"] and world.serves("web", old)
    assert world.container("web").restart_policy == "unless-stopped"


def test_a_temporary_container_is_not_what_serves_now(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not be removed, and the old image could not be started."""

    def refuse(*_: object) -> str:
        raise Refused("Error response from daemon: device or resource busy")

    create_new = world.machine.compose_up

    def create_and_refuse_the_next(model: Model, words: list[str]) -> str:
        monkeypatch.setattr(world.machine, "compose_up", refuse)
        return create_new(model, words)

    monkeypatch.setattr(world.machine, "do_rm", refuse)
    monkeypatch.setattr(world.machine, "compose_up", create_and_refuse_the_next)

    outcome = world.deploy({"web": world.image("web", 2, ONLY_BESIDE)}, 2)

    assert outcome.code == 1 and world.machine.find("web-next")
    assert outcome.result["services"][0]["now"] is None


def test_an_interrupted_deploy_goes_back_to_the_old_image(world: World) -> None:
    old = world.image("web", 1)

    def kill_without_own_container() -> None:
        world.machine.is_dead = world.machine.is_dead or world.machine.find("web") is None

    world.machine.at_each_point = kill_without_own_container
    with pytest.raises(Killed):
        world.deploy({"web": world.image("web", 2, ONLY_BESIDE)}, 2)
    world.machine.at_each_point = None
    world.machine.revive()
    world.machine.free = 3

    assert world.deploy({"web": world.image("web", 3)}, 3).code == 69

    world.machine.wait(2)
    assert world.names() == ["web"] and world.serves("web", old)
