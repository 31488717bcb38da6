"""Databases of a stack: two real PostgreSQL processes never run on one data folder, and none loses what it holds."""

import re

import pytest

from tests.engine.conftest import succeeds
from tests.engine.images import Images
from tests.engine.server import Server, eventually, outcome
from tests.engine.shop import WEB, Shop
from tests.rehearsal.stand_ins import postgres

IMAGE = "postgres:for-shops"
DATABASE, OLD = "shop-database", "shop-old-database"
VOLUME = "shop-old-data"
DATA = "/var/lib/postgresql/data"
SERVICES = f"""\
    depends_on:
      {DATABASE}: {{condition: service_healthy}}
  {DATABASE}:
    image: {IMAGE}
    pull_policy: never
    container_name: {DATABASE}
    restart: unless-stopped
    environment: {{POSTGRES_PASSWORD: secret}}
    healthcheck: {{test: [CMD, pg_isready, -U, postgres, -h, 127.0.0.1], interval: 1s, retries: 30}}
    volumes: ["data:{DATA}"]
    labels: {{deploy.accessory: "yes"}}
volumes:
  data: {{name: {VOLUME}, external: true}}
"""


@pytest.fixture(autouse=True)
def database_image(server: Server) -> None:
    """This machine's PostgreSQL as an image, which the engine has."""
    if not server.docker("image", "ls", "-q", IMAGE):
        postgres(server, IMAGE)


def start_by_hand(server: Server, name: str) -> None:
    """A database that somebody started before there was a stack, with a table in it."""
    server.docker("volume", "create", VOLUME)
    words = ("run", "-d", "--restart", "unless-stopped", "-e", "POSTGRES_PASSWORD=secret", "-v", f"{VOLUME}:{DATA}")
    server.docker(*words, "--name", name, IMAGE)
    ready = ("docker", "exec", name, "pg_isready", "-q", "-U", "postgres", "-h", "127.0.0.1")
    eventually(lambda: server.run(*ready, check=False).returncode == 0, 60, "the database answers")
    sql(server, name, "CREATE TABLE receipts AS SELECT 42 AS total")


def sql(server: Server, name: str, question: str) -> str:
    """What the database in that container answers."""
    return server.docker("exec", name, "psql", "-XqAt", "-U", "postgres", "-c", question)


def life(server: Server, name: str) -> str:
    """Which container it is, and since when its process runs."""
    return server.docker("inspect", "-f", "{{.Id}} {{.State.StartedAt}} {{.State.Status}}", name)


def running_on_the_data(server: Server) -> list[str]:
    """The containers that run on the volume."""
    return server.docker("ps", "--filter", f"volume={VOLUME}", "--format", "{{.Names}}").split()


def test_a_volume_in_use_is_given_to_no_second_database(shop: Shop, server: Server, images: Images) -> None:
    """The container of another project is named, with the commands that move its data over; they do."""
    start_by_hand(server, OLD)
    before = life(server, OLD)
    shop.write(SERVICES)
    one = images.api("uno")

    refused = shop.deploy(one)

    assert refused.returncode == 69, refused.stdout
    message = outcome(refused)["message"]
    assert OLD in message and VOLUME in message
    assert life(server, OLD) == before
    assert {DATABASE, WEB} & server.containers() == set(), "nothing was started"

    (commands,) = re.findall(r"docker .+", message)
    server.by_hand(commands, check=True)
    accepted = shop.deploy(one)

    assert accepted.returncode == 0, accepted.stdout
    assert sql(server, DATABASE, "SELECT total FROM receipts") == "42"
    assert running_on_the_data(server) == [DATABASE]
    assert server.serves(WEB) == "uno"


def test_a_stopped_container_of_the_project_is_no_reason_to_open_data_twice(
    shop: Shop, server: Server, images: Images
) -> None:
    """The stack's own database was stopped by hand, and somebody looks at its data with another one meanwhile."""
    server.docker("volume", "create", VOLUME)
    shop.write(SERVICES)
    one = images.api("uno")
    succeeds(shop.deploy(one))
    server.docker("stop", DATABASE)
    words = ("run", "-d", "-e", "POSTGRES_PASSWORD=secret", "-v", f"{VOLUME}:{DATA}", "--name", OLD)
    server.docker(*words, IMAGE)

    refused = shop.deploy(one)

    assert refused.returncode == 69, refused.stdout
    assert running_on_the_data(server) == [OLD]


def test_a_database_under_the_stacks_name_is_adopted(shop: Shop, server: Server, images: Images) -> None:
    """Whoever started it: it runs on, the same process, also in the next deploys."""
    start_by_hand(server, DATABASE)
    before = life(server, DATABASE)
    shop.write(SERVICES.replace("service_healthy", "service_started"))

    for version in ("uno", "due"):
        result = shop.deploy(images.api(version))
        assert result.returncode == 0, result.stdout
        assert server.serves(WEB) == version

    assert life(server, DATABASE) == before
    assert running_on_the_data(server) == [DATABASE]
    assert sql(server, DATABASE, "SELECT total FROM receipts") == "42"


def test_a_database_that_was_made_by_hand_and_stopped_is_not_replaced(
    shop: Shop, server: Server, images: Images
) -> None:
    """A person decides whether its data is to be kept: the message has both commands, and the first keeps it."""
    start_by_hand(server, DATABASE)
    server.docker("stop", DATABASE)
    shop.write(SERVICES.replace("service_healthy", "service_started"))
    one = images.api("uno")

    refused = shop.deploy(one)

    assert refused.returncode == 69, refused.stdout
    assert f"docker start {DATABASE}" in outcome(refused)["message"]
    server.docker("start", DATABASE)
    accepted = shop.deploy(one)
    assert accepted.returncode == 0, accepted.stdout
    assert sql(server, DATABASE, "SELECT total FROM receipts") == "42"
