"""Two stacks on one host: promotion, hands, what stays on the disk, and what is said about it."""

import pytest

from tests.engine.images import REGISTRY, Images
from tests.engine.server import Server, seen

STAGING, PRODUCTION = "pos-api-staging", "pos-api"
pytestmark = pytest.mark.usefixtures("api")


def test_production_refuses_what_staging_never_served(server: Server, images: Images) -> None:
    result = server.deploy(PRODUCTION, images.api("unseen"), 99)

    assert result.returncode == 65, result.stdout
    assert "pos-staging/pos-api-staging never served" in result.stdout
    assert PRODUCTION not in server.containers()
    assert server.record(PRODUCTION) == []


def test_production_takes_what_staging_served(server: Server, images: Images) -> None:
    before, digest = seen(server, STAGING), server.digest(STAGING)

    result = server.deploy(PRODUCTION, digest, server.commit())

    assert result.returncode == 0, result.stdout
    assert server.digest(PRODUCTION) == digest
    assert server.serves(PRODUCTION) == server.serves(STAGING)
    after = seen(server, STAGING)
    assert (after.container, after.record, after.pinned) == (before.container, before.record, before.pinned)


def test_compose_by_hand_keeps_containers_and_bytes(server: Server) -> None:
    names = (STAGING, "pos-admin-staging")
    before = [(server.container_id(name), server.image(name)) for name in names]

    with server.logged_in():
        server.by_hand("cd docker/pos-staging && docker compose pull && docker compose up -d", check=True)

    assert [(server.container_id(name), server.image(name)) for name in names] == before


def test_the_last_three_images_of_each_service_stay(server: Server) -> None:
    kept = set()
    for service in (STAGING, PRODUCTION):
        images = [line[0] for line in reversed(server.record(service))]
        kept |= set(list(dict.fromkeys(images))[:3])
    form = "{{.Repository}}@{{.Digest}}"
    here = server.docker("image", "ls", "--digests", "--format", form, f"{REGISTRY}/kiwari-api")

    assert len(kept) >= 3
    assert set(here.split()) == kept


def test_status_says_what_is_pinned_and_what_runs(server: Server) -> None:
    everything = server.by_hand("docker/bin/deploy status")
    one = server.key("status pos-production", token=None)

    assert (everything.returncode, one.returncode) == (0, 0)
    assert f"pinned: {' '.join(server.record(STAGING)[-1])}" in everything.stdout
    assert f"pinned: {' '.join(server.record(PRODUCTION)[-1])}" in one.stdout
    assert "pos-staging" not in one.stdout
    assert "DOES NOT ANSWER" not in everything.stdout
