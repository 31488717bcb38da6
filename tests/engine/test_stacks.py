"""Two stacks on one server: promotion, work by hand, what stays on the disk, and what `status` tells of them."""

from collections.abc import Iterable

import pytest

from tests.engine.conftest import succeeds
from tests.engine.images import REGISTRY, Images
from tests.engine.server import Server, outcome, version
from tests.engine.shop import WEB, Shop, allow, service_text

LIVE = "shop-live"
FROM_SHOP = f"      deploy.from: shop/{WEB}\n"


@pytest.fixture
def live(shop: Shop, server: Server, images: Images) -> Shop:
    """A second stack, into which an image comes only after the first has served it; the first one's end is its end."""
    live = Shop(server, images, LIVE)
    live.write(labels=FROM_SHOP)
    return live


def on_the_disk(server: Server, digests: Iterable[str]) -> set[str]:
    """Those of these images that the engine has."""
    listed = server.docker("image", "ls", "--digests", "--format", "{{.Digest}}", f"{REGISTRY}/kiwari-api")
    return set(listed.split()) & set(digests)


def test_a_stack_takes_only_what_the_stack_before_it_served(
    shop: Shop, live: Shop, server: Server, images: Images
) -> None:
    served, unseen = images.api("uno"), images.api("unseen")
    shop.bring_into_service(served)
    before = (server.container_id(WEB), shop.record(), shop.pinned())

    refused = live.deploy(unseen)

    assert refused.returncode == 65, refused.stdout
    assert f"shop/{WEB} has never served {unseen}" in refused.stdout
    assert live.web not in server.containers()
    assert live.record() == []

    promoted = live.deploy(served)

    assert promoted.returncode == 0, promoted.stdout
    assert (server.digest(live.web), server.serves(live.web)) == (served, "uno")
    assert (server.container_id(WEB), shop.record(), shop.pinned()) == before, "the first stack is left alone"


def test_each_stack_has_a_lock_of_its_own(shop: Shop, live: Shop, server: Server, images: Images) -> None:
    """Staging's long migration does not hold up production."""
    digest = images.api("uno")
    shop.bring_into_service(digest)
    shop.write(labels='      deploy.migrate: "ends 0 300s"\n')
    migrating = shop.begin(shop.words(images.api("due")))
    try:
        shop.wait_for_container(f"{WEB}-next-migrate")

        result = live.deploy(digest)

        assert f"{WEB}-next-migrate" in server.containers(), "the other stack is still at work"
        assert result.returncode == 0, result.stdout
    finally:
        shop.kill_with_children()
        migrating.wait(30)


def test_containers_that_the_stack_no_longer_has_are_named_after_the_deploy(
    shop: Shop, server: Server, images: Images
) -> None:
    """A domain may still lead to them. Who goes back is not held up by them."""
    one = images.api("uno")
    old = {"shop-bygone", "shop-former"}
    shop.write("".join(service_text(name) for name in sorted(old)))
    shop.bring_into_service(one, services=(WEB, *sorted(old)))
    shop.write()

    result = shop.deploy(images.api("due"))

    assert result.returncode == 69, result.stdout
    report = outcome(result)
    assert [(service["service"], service["result"]) for service in report["services"]] == [(WEB, "serving")]
    assert all(name in report["message"] for name in old), report["message"]
    assert server.serves(WEB) == "due"
    assert (old & server.containers()) == old, "they are not removed"

    back = shop.roll_back()

    assert back.returncode == 0, back.stdout
    assert server.serves(WEB) == "uno"

    server.docker("rm", "-fv", *old)
    again = shop.deploy(images.api("due"))
    assert again.returncode == 0, again.stdout


@pytest.mark.parametrize("rollout", ["", "      deploy.rollout: recreate\n"])
def test_compose_by_hand_keeps_what_serves(shop: Shop, server: Server, images: Images, rollout: str) -> None:
    """A person's `pull` and `up` move no service to the newest tag; the container of a start-first service stays."""
    shop.write(rollout=rollout)
    shop.bring_into_service(images.api("uno"))
    succeeds(shop.deploy(images.api("due")))
    images.api("newer, under the same tag")
    before, container = server.image(WEB), server.container_id(WEB)

    with server.logged_in():
        server.by_hand("cd docker/shop && docker compose pull && docker compose up -d", check=True)

    assert (server.image(WEB), server.containers() & {WEB, f"{WEB}-previous"}) == (before, {WEB})
    assert server.serves(WEB) == "due"
    if not rollout:
        assert server.container_id(WEB) == container
    succeeds(shop.deploy(images.api("tre")))


@pytest.mark.long
def test_the_last_three_images_of_each_service_stay(shop: Shop, live: Shop, server: Server, images: Images) -> None:
    """And what is among the last three of another service, in any stack."""
    digests = [images.api(word) for word in ("uno", "due", "tre", "quattro", "cinque", "sei")]
    live.write()
    succeeds(live.deploy(digests[1]))
    for digest in digests[:5]:
        succeeds(shop.deploy(digest))
    assert on_the_disk(server, digests) == {digests[1], *digests[2:5]}

    succeeds(shop.deploy(digests[4]))  # the same again is not another one
    assert on_the_disk(server, digests) == {digests[1], *digests[2:5]}

    succeeds(shop.deploy(digests[5]))
    assert on_the_disk(server, digests) == {digests[1], *digests[3:6]}
    back = shop.roll_back(digest=digests[3])
    assert back.returncode == 0, back.stdout


def test_status_tells_what_is_pinned_and_what_runs(shop: Shop, live: Shop, server: Server, images: Images) -> None:
    for stack in (shop, live):
        stack.bring_into_service(images.api("uno"))
    allow(server, "sender", LIVE)

    everything = server.by_hand("docker/bin/deploy status")
    one = server.key(f"status {LIVE}", token=None, key="sender")
    other = server.key("status shop", token=None, key="sender")

    assert (everything.returncode, one.returncode, other.returncode) == (0, 0, 64)
    assert f"pinned: {' '.join(shop.record()[-1])}" in everything.stdout
    assert f"pinned: {' '.join(live.record()[-1])}" in everything.stdout
    assert f"pinned: {' '.join(live.record()[-1])}" in one.stdout
    assert f"shop/.deploys/{WEB}" not in one.stdout
    first_lines = {result.stdout.splitlines()[0] for result in (everything, one)}
    assert len(first_lines) == 1
    assert version(server.docker_folder / "bin/deploy") in first_lines.pop()
    assert "DOES NOT" not in everything.stdout

    server.docker("stop", live.web)
    stopped = server.key(f"status {LIVE}", token=None, key="sender").stdout
    assert f"{live.web}: DOES NOT ANSWER: exited" in stopped
