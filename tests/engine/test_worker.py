"""What two of may not run: a service without a port (no health label, it cannot be asked), and one that says so."""

import hashlib
import time

import pytest

from tests.engine.images import REGISTRY, Images
from tests.engine.server import UID, Result, Server

WORKER, ALONE = "jobs-worker", "jobs-alone"
SERVICE = """\
  {name}:
    image: {registry}/kiwari-api:staging
    container_name: {name}
    restart: unless-stopped
    init: true
"""
COMPOSE = f"""\
name: jobs
services:
{SERVICE.format(name=WORKER, registry=REGISTRY)}\
    depends_on: [jobs-elsewhere]
{SERVICE.format(name=ALONE, registry=REGISTRY)}\
    labels:
      deploy.health: ":8081/a[1]{{b}}"
      deploy.rollout: recreate
  jobs-elsewhere:
    image: {REGISTRY}/never-pushed:staging
"""


@pytest.fixture
def jobs(server: Server) -> None:
    """A stack that the key may not touch, deployed by hand."""
    folder = server.docker_folder / "jobs"
    folder.mkdir(exist_ok=True)
    (folder / "docker-compose.yml").write_text(COMPOSE)
    server.run("chown", "-R", f"{UID}:{UID}", str(folder))


def deploy(server: Server, service: str, digest: str, sequence: int) -> Result:
    """As the runbook's author would, by hand."""
    sha = hashlib.sha256(COMPOSE.encode()).hexdigest()
    return server.as_person(f"docker/bin/deploy deploy jobs {service} {digest} {sequence} {sha} {sequence}")


@pytest.mark.usefixtures("jobs")
def test_a_worker_is_replaced_and_a_bad_one_names_the_way_back(server: Server, images: Images) -> None:
    folder, good, bad = server.docker_folder / "jobs", images.api("w1", "works"), images.api("w2", "exits")

    nothing = deploy(server, WORKER, bad, 1)
    assert nothing.returncode == 1, nothing.stdout
    assert "Serving now: nothing" in nothing.stdout
    assert "To go back" not in nothing.stdout

    first = deploy(server, WORKER, good, 2)
    assert first.returncode == 0, first.stdout
    assert first.stdout.splitlines()[-1].split(" ")[-1] == "-"

    late = deploy(server, WORKER, good, 1)
    assert late.returncode == 0, late.stdout
    assert late.stdout.splitlines()[-1].split(" ")[::5] == ["SUPERSEDED", "-"]

    second = deploy(server, WORKER, bad, 3)
    assert second.returncode == 1, second.stdout
    assert "version w2 starts" in second.stdout
    assert "Serving now: nothing" in second.stdout
    assert good in (folder / "docker-compose.override.yml").read_text()

    (way_back,) = [line for line in second.stdout.splitlines() if line.startswith("To go back: ")]
    back = server.as_person(way_back.removeprefix("To go back: "))
    assert back.returncode == 0, back.stdout
    assert server.digest(WORKER) == good
    assert server.docker("inspect", "-f", "{{.State.Status}} {{.RestartCount}}", WORKER) == "running 0"


@pytest.mark.usefixtures("jobs")
def test_two_of_a_service_that_must_be_alone_never_run(server: Server, images: Images) -> None:
    began, digests = time.time(), [images.api("alone-1"), images.api("alone-2")]

    for sequence, digest in enumerate(digests, 1):
        result = deploy(server, ALONE, digest, sequence)
        assert result.returncode == 0, result.stdout
        assert server.digest(ALONE) == digest

    asked = ("--filter", "event=create", "--format", "{{.Actor.Attributes.name}}")
    made = server.docker("events", "--since", f"{began:.0f}", "--until", f"{time.time():.0f}", *asked)
    assert f"{ALONE}-next" not in made.split()
