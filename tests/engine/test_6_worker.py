"""A service without a port (no health label): it cannot be asked, and two of it may not run, so it is replaced."""

import hashlib

from tests.engine.images import REGISTRY, Images
from tests.engine.server import UID, Server

WORKER = "jobs-worker"
COMPOSE = f"""\
name: jobs
services:
  {WORKER}:
    image: {REGISTRY}/kiwari-api:staging
    container_name: {WORKER}
    restart: unless-stopped
    init: true
"""


def test_a_worker_is_replaced_and_a_bad_one_names_the_way_back(server: Server, images: Images) -> None:
    folder = server.docker_folder / "jobs"
    folder.mkdir()
    (folder / "docker-compose.yml").write_text(COMPOSE)
    server.run("chown", "-R", f"{UID}:{UID}", str(folder))
    sha, good, bad = hashlib.sha256(COMPOSE.encode()).hexdigest(), images.api("w1", "works"), images.api("w2", "exits")

    first = server.as_person(f"docker/bin/deploy deploy jobs {WORKER} {good} 1 {sha} 1")
    assert first.returncode == 0, first.stdout
    assert first.stdout.splitlines()[-1].split(" ")[-1] == "-"

    second = server.as_person(f"docker/bin/deploy deploy jobs {WORKER} {bad} 2 {sha} 2")
    assert second.returncode == 1, second.stdout
    assert "version w2 starts" in second.stdout
    assert "Serving now: nothing" in second.stdout
    assert good in (folder / "docker-compose.override.yml").read_text()

    (way_back,) = [line for line in second.stdout.splitlines() if line.startswith("To go back: ")]
    back = server.as_person(way_back.removeprefix("To go back: "))
    assert back.returncode == 0, back.stdout
    assert server.digest(WORKER) == good
    assert server.docker("inspect", "-f", "{{.State.Status}} {{.RestartCount}}", WORKER) == "running 0"
