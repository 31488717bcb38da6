"""A container that a person made, under the name of a service: it is taken over, and kept."""

import pytest

from tests.engine.images import REGISTRY, Images
from tests.engine.proxy import Proxy
from tests.engine.server import Server, outcome

API = "pos-api-staging"


def make_by_hand(server: Server, images: Images, name: str, version: str, verb: str = "run") -> str:
    """Makes a container with plain docker, on the network that it shares with the proxy, and returns its id."""
    image = f"{REGISTRY}/kiwari-api@{images.api(version)}"
    server.docker("--config", images.login, "pull", "-q", image)
    detached = ("-d",) if verb == "run" else ()
    server.docker(verb, *detached, "--name", name, "--network", "proxy", "--restart", "unless-stopped", image)
    return server.container_id(name)


@pytest.mark.usefixtures("clean")
def test_a_container_made_by_hand_is_taken_over_without_a_failed_request(
    server: Server, images: Images, proxy: Proxy
) -> None:
    server.place_files("pos-staging")
    by_hand = make_by_hand(server, images, API, "by-hand")

    with proxy.before(API), proxy.asked() as answers:
        result = server.deploy(API, images.api("two"), server.commit())
    print(answers)

    assert result.returncode == 0, result.stdout
    assert not answers.failed(), answers.failed()[:5]
    assert answers.versions() == ["by-hand", "two"]
    assert server.serves(API) == "two"
    form = "{{.Id}} {{.State.Status}} {{.HostConfig.RestartPolicy.Name}}"
    assert server.docker("inspect", "-f", form, f"{API}-before").split() == [by_hand, "exited", "no"]
    assert f"To remove it: docker rm {API}-before" in result.stdout
    assert server.containers() - {"proxy-manager"} == {API, f"{API}-before"}


@pytest.mark.usefixtures("api")
def test_one_that_was_taken_over_long_ago_does_not_come_back(server: Server, images: Images) -> None:
    """A later version that works beside the old one and not in its place goes on there."""
    container_id = make_by_hand(server, images, f"{API}-before", "by-hand", verb="create")

    result = server.deploy(API, images.api("alone", "wants-to-be-alone"), server.commit())

    assert result.returncode == 1, result.stdout
    assert outcome(result)["services"][0]["now"] == images.api("alone", "wants-to-be-alone")
    assert server.serves(f"{API}-next") == "alone"
    assert server.container_id(f"{API}-before") == container_id
