"""A service that publishes ports on the server: its temporary container, which has none, only proves the image."""

from pathlib import Path

import pytest

from tests.host.compose_reader import Model
from tests.host.fake_docker import Image, Killed, Refused, Running
from tests.host.world import WEB, World, compose_file

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


def refuse_port(world: World, monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    """A process of the server, which is no container, holds the port."""
    start = world.machine.start

    def refuse(container: Running) -> None:
        if any(port == number for port, _ in container.ports):
            raise Refused(f"Error response from daemon: failed to bind host port 0.0.0.0:{number}/tcp: in use")
        start(container)

    monkeypatch.setattr(world.machine, "start", refuse)


def test_new_settings_of_the_same_image_that_do_not_start(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose has removed the old container by then: it is made again, with its old settings."""
    old = world.image("web", 1)
    refuse_port(world, monkeypatch, "9090")
    files = {"docker-compose.yml": compose_file(PUBLISHING.replace('"8080:8080"', '"8080:8080", "9090:9090"'))}

    outcome = world.deploy({"web": old}, 2, files=files)

    assert outcome.code == 1 and outcome.says("failed to bind host port 0.0.0.0:9090/tcp")
    assert outcome.says("nothing serves: creating web again from its old image")
    world.machine.wait(2)
    assert world.names() == ["web"] and world.serves("web", old)
    assert world.container("web").ports == [("8080", "tcp")]
    assert "9090" not in (world.folder / "docker-compose.yml").read_text()


def test_new_settings_of_the_same_image_with_which_it_does_not_answer(world: World) -> None:
    """It runs, so it is not taken for the old container."""
    old = world.image("web", 1)
    world.machine.accepts = lambda container: ("9090", "tcp") not in container.ports
    files = {"docker-compose.yml": compose_file(PUBLISHING.replace('"8080:8080"', '"8080:8080", "9090:9090"'))}

    outcome = world.deploy({"web": old}, 2, files=files)

    assert outcome.code == 1
    world.machine.wait(2)
    assert world.names() == ["web"] and world.serves("web", old)
    assert world.container("web").ports == [("8080", "tcp")]
