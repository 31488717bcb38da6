"""Health without HTTP: a TCP connection, or Docker's own health check."""

from pathlib import Path

import pytest

from tests.host.fake_docker import Image
from tests.host.world import DB, WEB, WORKER, Outcome, World

TCP_WEB = WEB.replace('":8080/health"', '"tcp:8080"')
DOCKER_WEB = WEB.replace('":8080/health"', '"healthcheck"')
WORKER_LABELS = '    labels:\n      deploy.health: "healthcheck"\n      deploy.rollout: "recreate"\n'
DOCKER_WORKER = WORKER.replace("    networks:", f"{WORKER_LABELS}    networks:", 1)


def deploy(world: World, name: str, version: int, behaviour: Image) -> Outcome:
    return world.deploy({name: world.image(name, version, behaviour)}, version)


@pytest.mark.parametrize(
    ("service", "name", "good", "bad", "problem"),
    [
        (TCP_WEB, "web", Image(status=500), Image(port=9), "a connection to port 8080: [Errno 111] Connection refused"),
        (
            DOCKER_WEB,
            "web",
            Image(has_health_check=True, answers_after=20),
            Image(has_health_check=True, answers_after=999),
            "Docker's health check",
        ),
        (DOCKER_WORKER, "worker", Image(has_health_check=True), Image(), "it has no health check of Docker's"),
    ],
    ids=["tcp", "docker", "worker"],
)
def test_the_old_one_goes_when_the_new_one_is_well(
    root: Path, service: str, name: str, good: Image, bad: Image, problem: str
) -> None:
    world = World(root, service)
    assert deploy(world, name, 1, good).code == 0

    failed = deploy(world, name, 2, bad)

    assert failed.code == 1
    assert failed.says(problem)
    assert f"@{world.image(name, 1, good)}" in world.container(name).reference
    assert deploy(world, name, 3, good).code == 0
    assert world.names() == [name]


def test_one_that_docker_calls_healthy_starts_beside_the_old_one(root: Path) -> None:
    world = World(root, DOCKER_WEB)
    healthy = Image(has_health_check=True, answers_after=5)
    deploy(world, "web", 1, healthy)

    outcome = deploy(world, "web", 2, healthy)

    assert outcome.says("web-next is healthy, and gets the name web")


@pytest.mark.parametrize("can_be_pulled", [True, False])
def test_an_accessory_that_nothing_depends_on_stops_no_deploy(root: Path, can_be_pulled: bool) -> None:
    world = World(root, WEB, DB, rest="volumes:\n  data:\n")
    if can_be_pulled:
        world.machine.images["postgres:17"] = Image(has_health_check=True, answers_after=9999)
        world.machine.public.add("postgres:17")

    outcome = world.deploy({"web": world.image("web", 1)}, 1)

    assert outcome.code == 0
    assert world.serves("web", world.image("web", 1))
