"""A service that publishes ports on the server: its temporary container, which has none, only proves the image."""

import socket
from pathlib import Path

import pytest

from kiwari_ci.engines.compose.deploy_programs import deploy as deploy_program
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


RECREATED = PUBLISHING.replace("    labels:", "    labels:\n      deploy.rollout: recreate")
DATABASE = """
  pg:
    image: postgres:18
    container_name: pg
    labels:
      deploy.accessory: "yes"
    ports: ["5432:5432"]
    networks:
      - proxy
"""
HELD = "web publishes port 9090/tcp, on which a program listens that is not in a container. Stop that program"


@pytest.mark.parametrize("form", [PUBLISHING, RECREATED], ids=["start-first", "recreate"])
def test_a_port_that_a_program_of_the_server_holds(root: Path, form: str) -> None:
    """It is found before anything stops; its own port, on which Docker listens for it, is not meant."""
    world = World(root, form)
    assert world.deploy({"web": world.image("web", 1)}, 1).code == 0
    before = world.container("web").id
    world.edit('"8080:8080"', '"8080:8080", "9090:9090"')
    world.machine.listening = [deploy_program.Port("", "9090", "tcp"), deploy_program.Port("", "8080", "udp")]

    outcome = world.deploy({"web": world.image("web", 2)}, 2)

    assert outcome.code == 69 and outcome.says(HELD), outcome.text
    assert outcome.says("This names it: sudo ss -lnptu 'sport = :9090'")
    assert not outcome.says("publishes port 8080")
    assert world.container("web").id == before and world.container("web").is_running
    assert world.check().code == 69 and world.check().says(HELD)
    world.machine.listening = []
    assert world.deploy({"web": world.image("web", 2)}, 2).code == 0


@pytest.mark.parametrize(
    ("published", "listening", "is_held"),
    [
        ("9090:80", "127.0.0.1", True),
        ("127.0.0.1:9090:80", "", True),
        ("127.0.0.1:9090:80", "192.0.2.7", False),
        ("9090:80/udp", "", False),
    ],
)
def test_the_address_and_the_protocol_of_a_program_count(
    root: Path, published: str, listening: str, is_held: bool
) -> None:
    world = World(root, PUBLISHING.replace("8080:8080", published))
    world.machine.listening = [deploy_program.Port(listening, "9090", "tcp")]

    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == (69 if is_held else 0), outcome.text


def test_a_port_of_an_accessory_that_a_service_needs(root: Path) -> None:
    world = World(root, WEB.replace("    networks:", "    depends_on:\n      - pg\n    networks:"), DATABASE)
    world.machine.images["postgres:18"] = Image()
    world.machine.public.add("postgres:18")
    world.machine.listening = [deploy_program.Port("127.0.0.1", "5432", "tcp")]

    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == 69 and outcome.says("pg publishes port 5432/tcp, on which a program"), outcome.text
    world.machine.listening = []
    assert world.deploy({"web": world.image("web", 1)}, 1).code == 0
    assert world.deploy({"web": world.image("web", 2)}, 2).code == 0, "Docker itself listens for the accessory"


@pytest.mark.parametrize("status", ["paused", "restarting"])
def test_docker_listens_also_for_a_container_that_does_not_run(
    world: World, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not taken for another program, and another container of that kind has the port."""
    world.machine.listening = [deploy_program.Port("", "8080", "tcp"), deploy_program.Port("", "53", "udp")]
    world.machine.run_by_hand("other", "dns:1", "proxy", ports=[("53", "udp")]).status = status
    world.container("web").status = status
    world.edit('"8080:8080"', '"8080:8080", "53:53/udp"')

    assert world.check().says("web publishes port 53, which other uses")
    assert not world.check().says("on which a program listens")


def test_a_container_on_the_servers_network_holds_the_port_that_it_publishes_next(world: World) -> None:
    world.edit('"8080:8080"', '"8080:8080", "9090:9090"')
    world.machine.listening = [deploy_program.Port("", "9090", "tcp")]
    world.machine.state.networks.add("host")
    world.container("web").aliases["host"] = []

    assert not world.check().says("publishes port")


@pytest.mark.parametrize(
    ("family", "kind", "address", "shown", "protocol"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, "127.0.0.1", "127.0.0.1", "tcp"),
        (socket.AF_INET, socket.SOCK_STREAM, "0.0.0.0", "", "tcp"),
        (socket.AF_INET, socket.SOCK_DGRAM, "127.0.0.1", "127.0.0.1", "udp"),
        (socket.AF_INET6, socket.SOCK_STREAM, "::1", "::1", "tcp"),
        (socket.AF_INET6, socket.SOCK_STREAM, "::", "", "tcp"),
        (socket.AF_INET6, socket.SOCK_STREAM, "::ffff:127.0.0.1", "127.0.0.1", "tcp"),
    ],
)
def test_the_kernel_lists_who_listens(family: int, kind: int, address: str, shown: str, protocol: str) -> None:
    with socket.socket(family, kind) as listener:
        try:
            listener.bind((address, 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        port = deploy_program.Port(shown, str(listener.getsockname()[1]), protocol)
        if kind == socket.SOCK_STREAM:
            assert port not in deploy_program.Machine().listening_ports(), "nobody listens yet"
            listener.listen()
        assert port in deploy_program.Machine().listening_ports()
    assert port not in deploy_program.Machine().listening_ports()


def test_a_boot_does_not_start_the_old_container_beside_the_new_one(root: Path) -> None:
    """The old one was started by a person, with a restart policy that also starts a stopped container."""
    world = World(root, PUBLISHING)
    world.machine.run_by_hand("web", world.image("web", 1), "proxy", restart_policy="always", ports=[("8080", "tcp")])
    policies_of_stopped = set()

    def look() -> None:
        old = world.machine.find("web-previous")
        if old and not old.is_running:
            policies_of_stopped.add(old.restart_policy)

    world.machine.at_each_point = look
    outcome = world.deploy({"web": world.image("web", 2)}, 1)

    assert outcome.code == 0, outcome.text
    assert policies_of_stopped == {"no"}
