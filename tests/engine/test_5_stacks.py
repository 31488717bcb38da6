"""Two stacks on one host: promotion, hands, what stays on the disk, and what is said about it."""

import re

import pytest

from tests.engine.conftest import succeeds
from tests.engine.images import REGISTRY, Images
from tests.engine.server import Server, seen, version
from tests.engine.shop import allow

STAGING, PRODUCTION = "pos-api-staging", "pos-api"
pytestmark = pytest.mark.usefixtures("api")


def last_three(server: Server, service: str) -> list[str]:
    """The images that the service had last, newest first."""
    return list(dict.fromkeys(line[0] for line in reversed(server.record(service))))[:3]


def here(server: Server) -> set[str]:
    """The API's images that the engine has."""
    form = "{{.Repository}}@{{.Digest}}"
    return set(server.docker("image", "ls", "--digests", "--format", form, f"{REGISTRY}/kiwari-api").split())


def test_production_refuses_what_staging_never_served(server: Server, images: Images) -> None:
    containers, record = server.containers(), server.record(PRODUCTION)

    result = server.deploy(PRODUCTION, images.api("unseen"), 99)

    assert result.returncode == 65, result.stdout
    assert "pos-staging/pos-api-staging never served" in result.stdout
    assert (server.containers(), server.record(PRODUCTION)) == (containers, record)


def test_production_takes_what_staging_served(server: Server, images: Images) -> None:
    before, digest = seen(server, STAGING), server.digest(STAGING)

    result = server.deploy(PRODUCTION, digest, server.commit())

    assert result.returncode == 0, result.stdout
    assert server.digest(PRODUCTION) == digest
    assert server.serves(PRODUCTION) == server.serves(STAGING)
    after = seen(server, STAGING)
    assert (after.container, after.record, after.pinned) == (before.container, before.record, before.pinned)


@pytest.mark.usefixtures("admin")
def test_a_container_that_the_stack_no_longer_has_is_named_after_the_deploy(server: Server) -> None:
    """After a rename: the domain may still lead to it, and answer. Who goes back is not held up by it."""
    file, pins = (server.stack_file(STAGING, f"docker-compose{middle}.yml") for middle in ("", ".override"))
    old = {f"{STAGING}-old", "pos-old-staging"}
    good, digest, number = file.read_text(), server.digest(STAGING), server.commit()
    server.docker("tag", server.image(STAGING), f"{REGISTRY}/kiwari-api:staging")
    for name in old:
        file.write_text(good.replace(STAGING, name))
        server.by_hand(f"cd docker/pos-staging && docker compose -f docker-compose.yml up -d {name}", check=True)
    file.write_text(good)
    pins.write_text(pins.read_text() + "".join(f"  {name}: {{image: old}}\n" for name in old))
    try:
        result = server.deploy(STAGING, digest, number)
        back = server.by_hand(f"docker/bin/deploy rollback pos-staging {STAGING} {digest}")
    finally:
        server.docker("rm", "-fv", *old)

    assert (result.returncode, back.returncode) == (69, 0), result.stdout + back.stdout
    (told,) = re.findall(f"{STAGING} serves, but (.*) runs, which pos-staging has no more", result.stdout)
    assert set(told.split(" ")) == old
    assert f"FAILED. Serving now: {server.docker('inspect', '-f', '{{.Image}}', STAGING)} running" in result.stdout
    assert server.record(STAGING)[-1][1] == str(number)
    assert server.pinned(STAGING) == server.image(STAGING)
    assert server.deploy(STAGING, digest, number).returncode == 0


@pytest.mark.usefixtures("admin")
def test_compose_by_hand_keeps_containers_and_bytes(server: Server) -> None:
    names = (STAGING, "pos-admin-staging")
    before = [(server.container_id(name), server.image(name)) for name in names]

    with server.logged_in():
        server.by_hand("cd docker/pos-staging && docker compose pull && docker compose up -d", check=True)

    assert [(server.container_id(name), server.image(name)) for name in names] == before


@pytest.mark.usefixtures("versions")
def test_the_last_three_images_of_each_service_stay(server: Server, images: Images) -> None:
    """And what is among the last three of another service, in any stack. What was said stays for a month."""
    succeeds(server.deploy(STAGING, server.digest(STAGING), server.commit()))  # the same again is not another one
    elsewhere, third = server.stack_file(PRODUCTION, ".deploys/elsewhere"), last_three(server, STAGING)[2]
    logs = server.stack_file(STAGING, "log")
    young, *old = logs.iterdir()
    server.run("touch", "-d", "40 days ago", *map(str, old), str(logs))
    server.run("touch", "-d", "20 days ago", str(young))
    elsewhere.parent.mkdir(exist_ok=True)
    elsewhere.write_text(f"{third} 1 2026-01-01T00:00:00Z 1\n")
    try:
        result = server.deploy(STAGING, images.api("fourth"), server.commit())
    finally:
        elsewhere.unlink()

    assert result.returncode == 0, result.stdout
    assert set(logs.iterdir()) & {young, *old} == {young}
    assert third not in last_three(server, STAGING)
    assert here(server) == {*last_three(server, STAGING), *last_three(server, PRODUCTION), third}

    succeeds(server.deploy(STAGING, images.api("fifth"), server.commit()))
    assert here(server) == {*last_three(server, STAGING), *last_three(server, PRODUCTION)}


def test_a_stack_that_rested_for_a_season(server: Server) -> None:
    """All that was said, and the folder of it, is older than a month."""
    logs = server.stack_file(STAGING, "log")
    server.run("touch", "-d", "100 days ago", *map(str, logs.iterdir()), str(logs))

    succeeds(server.deploy(STAGING, server.digest(STAGING), server.commit()))

    assert len(list(logs.iterdir())) == 1


@pytest.mark.usefixtures("production")
def test_status_says_what_is_pinned_and_what_runs(server: Server) -> None:
    everything = server.by_hand("docker/bin/deploy status")
    one = server.key("status pos-production", token=None)

    assert (everything.returncode, one.returncode) == (0, 0)
    assert f"pinned: {' '.join(server.record(STAGING)[-1])}" in everything.stdout
    assert f"pinned: {' '.join(server.record(PRODUCTION)[-1])}" in one.stdout
    assert "pos-staging" not in one.stdout
    assert (
        everything.stdout.splitlines()[0]
        == one.stdout.splitlines()[0]
        == f"bin/deploy {version(server.docker_folder / 'bin/deploy')}"
    )
    assert "DOES NOT ANSWER" not in everything.stdout
    assert f"\npos-production/.deploys/{PRODUCTION}: sha256:" in f"\n{everything.stdout}"

    server.docker("stop", PRODUCTION)
    stopped = server.key("status pos-production", token=None).stdout
    server.docker("start", PRODUCTION)
    assert f"{PRODUCTION}: DOES NOT ANSWER: sha256:" in stopped


def test_a_key_without_a_stack_is_told_of_none(server: Server) -> None:
    allow(server, "nobody", "")

    result = server.key("status", key="nobody")

    assert (result.returncode, result.stdout) == (64, "deploy: this key may not touch ''\n")
