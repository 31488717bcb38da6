"""The engine is restarted or killed, or the server loses its power, while a service's container is recreated."""

import pytest

from tests.engine.conftest import succeeds
from tests.engine.images import Images
from tests.engine.proxy import Proxy
from tests.engine.server import Server, eventually
from tests.engine.stand_ins import compose_plugin, stand_in

API = "pos-api-staging"

# Compose as it is until it recreates the service; then it does a part of that, and waits for the test.
STOPS_IN_THE_MIDDLE = """
case " $* " in *" up "*)
  {part}
  touch {home}/reached
  until [ -e {home}/go-on ]; do sleep 0.1; done
  exit 1 ;;
esac
exec "$REAL" "$@"
"""
# The old container is stopped, and there is no new one yet.
STOPPED = f"docker stop {API}"
# The old one is gone, and the new one is there and was never started.
CREATED = 'for word; do [ "$word" != -d ] || word=--no-start; set -- "$@" "$word"; shift; done; "$REAL" "$@"'


# What ends when the server loses its power.
EVERYTHING = "dockerd|containerd|containerd-shim|docker-init|app"


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(
    ("signal", "processes", "part"),
    [("TERM", "dockerd", STOPPED), ("KILL", EVERYTHING, CREATED)],
    ids=["engine-restarted", "power-cut"],
)
def test_the_service_is_there_when_the_engine_is_back(
    server: Server, images: Images, proxy: Proxy, signal: str, processes: str, part: str
) -> None:
    """Nobody deploys in between, and nothing is left of the deploy but its containers."""
    following = images.api("following")
    deploy_until_the_engine_ends(server, images.api("new"), part, signal, processes)

    with proxy.before(API):  # which finds it by its name
        assert server.serves(f"{API}-next") == "new"
    succeeds(server.deploy(API, following, server.commit()))
    assert server.serves(API) == "following"
    assert server.containers() - {"proxy-manager"} == {API}


@pytest.mark.usefixtures("api")
def test_a_deploy_repairs_what_a_killed_engine_left(server: Server, images: Images) -> None:
    """Docker 20.10 does not start containers again whose engine alone was killed: none of the server's."""
    following = images.api("following")
    deploy_until_the_engine_ends(server, images.api("new"), CREATED, "KILL", "dockerd")

    succeeds(server.deploy(API, following, server.commit()))

    assert server.serves(API) == "following"
    assert server.containers() - {"proxy-manager"} == {API}


def deploy_until_the_engine_ends(server: Server, digest: str, part: str, signal: str, processes: str) -> None:
    """Deploys, ends the program and the engine while Compose recreates the container, and waits for the engine."""
    reached, go_on = server.home / "reached", server.home / "go-on"
    for flag in (reached, go_on):
        flag.unlink(missing_ok=True)
    with stand_in(server, compose_plugin(server), STOPS_IN_THE_MIDDLE.format(part=part, home=server.home)):
        client = server.start(server.words(API, digest, server.commit()))
        eventually(reached.exists, 60, "compose is in the middle")
        server.kill_deploy()
        end_engine(server, signal, processes)
        go_on.touch()
        client.communicate(timeout=60)
        eventually(lambda: not server.locked(), 30, "what the deploy began has ended")


def end_engine(server: Server, signal: str, processes: str) -> None:
    """Ends dockerd, and what else is named; the machine starts it again, and it is waited for."""
    process = server.run("cat", "/run/docker.pid").stdout
    server.run("pkill", f"-{signal}", "-x", processes)

    def is_back() -> bool:
        answers = server.run("docker", "version", check=False).returncode == 0
        return answers and server.run("cat", "/run/docker.pid", check=False).stdout not in ("", process)

    eventually(is_back, 90, "the engine is back")
