"""Backups and jobs on a real engine: a dump of a real PostgreSQL comes back, and a job runs the image that serves."""

import shutil
from collections.abc import Iterator

import pytest

from kiwari_ci.engines.compose import database
from tests.engine.images import Images
from tests.engine.server import UID, Result, Server, outcome
from tests.engine.shop import WEB, Shop
from tests.rehearsal.stand_ins import postgres

IMAGE = "postgres:for-backups"
STACK = "shop-database"
BASE = "receipts"
SERVER_FILE = f"""\
name: {STACK}
x-schedule:
  backups:
    {BASE}: {{schedule: "15 3 * * *", keep: 5, copy-command: "cp \\"$$BACKUP_FILE\\" $$HOME/copied"}}
services:
  {STACK}:
    image: {IMAGE}
    pull_policy: never
    container_name: {STACK}
    environment: {{POSTGRES_USER: captain, POSTGRES_PASSWORD: "${{NOT_SET_HERE:-secret}}"}}
    healthcheck: {{test: [CMD, pg_isready, -U, captain, -h, 127.0.0.1], interval: 1s, retries: 60}}
    volumes: ["data:/var/lib/postgresql/data"]
volumes:
  data:
"""
JOBS = """\
x-schedule:
  jobs:
    tidy: {schedule: "0 4 * * *", service: shop-web, command: [ends, "0"]}
    broken: {schedule: "0 4 * * *", service: shop-web, command: [ends, "7"]}
"""
MIGRATION = f'      deploy.migrate: "ends 0"\n      deploy.backup: {STACK}/{BASE}\n'
ROWS = "SELECT count(*) || ' ' || md5(string_agg(receipt::text, ',' ORDER BY id)) FROM receipt"


@pytest.fixture
def base(server: Server, shop: Shop) -> Iterator[None]:
    """A PostgreSQL server in a stack of its own, with a database of a thousand receipts."""
    if not server.docker("image", "ls", "-q", IMAGE):
        postgres(server, IMAGE)
    program = server.docker_folder / "bin/database"
    shutil.copy(database.__file__, program)
    program.chmod(0o755)
    folder = server.docker_folder / STACK
    folder.mkdir()
    (folder / "docker-compose.yml").write_text(SERVER_FILE)
    server.run("chown", "-R", f"{UID}:{UID}", str(server.docker_folder))
    server.by_hand(f"cd docker/{STACK} && docker compose up -d --wait", check=True)
    sql(server, f"CREATE DATABASE {BASE}", "postgres")
    sql(server, "CREATE TABLE receipt AS SELECT id, md5(id::text) AS note FROM generate_series(1, 1000) id")
    yield
    program.unlink()


def sql(server: Server, question: str, name: str = BASE) -> str:
    """What the server answers to its superuser."""
    return server.docker("exec", STACK, "psql", "-XqAt", "-U", "captain", "-d", name, "-c", question)


def ask(server: Server, words: str) -> Result:
    """What a person types; stdout and stderr together."""
    return server.by_hand(f"docker/bin/database {words} 2>&1")


def dumps(server: Server) -> list[str]:
    """The dumps on the server."""
    return sorted(path.name for path in (server.docker_folder / STACK / "backups" / BASE).glob("*"))


def test_a_dump_is_made_before_a_migration_and_brought_back(
    base: None, shop: Shop, server: Server, images: Images
) -> None:
    """Every row; what was written afterwards is kept beside, and comes back by the command that is printed."""
    shop.write(labels=MIGRATION)
    rows = sql(server, ROWS)

    deployed = shop.deploy(images.api("uno"))

    assert deployed.returncode == 0, deployed.stdout
    (dump,) = dumps(server)
    assert dump.endswith("-before-migration.dump")
    path = server.docker_folder / STACK / "backups" / BASE / dump
    assert (server.home / "copied").read_bytes() == path.read_bytes()
    assert "secret" not in deployed.stdout

    sql(server, "DELETE FROM receipt WHERE id > 10")
    restored = ask(server, f"restore {STACK} {BASE}")
    assert restored.returncode == 0, restored.stdout
    assert sql(server, ROWS) == rows
    assert rows.startswith("1000 ")

    (back,) = [line.partition("to go back: ")[2] for line in restored.stdout.splitlines() if "to go back" in line]
    assert server.by_hand(back).returncode == 0
    assert sql(server, "SELECT count(*) FROM receipt") == "10"


def test_without_a_dump_nothing_is_deployed(base: None, shop: Shop, server: Server, images: Images) -> None:
    shop.write()
    assert shop.deploy(images.api("uno")).returncode == 0
    server.docker("stop", STACK)
    shop.write(labels=MIGRATION)

    refused = shop.deploy(images.api("due"))

    assert refused.returncode == 69, refused.stdout
    assert "so nothing was migrated" in outcome(refused)["message"]
    assert server.serves(WEB) == "uno"


def test_jobs_run_the_image_that_serves(base: None, shop: Shop, server: Server, images: Images) -> None:
    """By hand and on a schedule; what failed is in `status`, and nothing of a job is left."""
    shop.write(JOBS)
    assert ask(server, "run shop tidy").returncode == 69, "nothing serves yet"
    assert shop.deploy(images.api("uno")).returncode == 0

    assert ask(server, "run shop tidy").returncode == 0
    failed = ask(server, "run shop broken")

    assert (failed.returncode, "exit code 7" in failed.stdout) == (1, True), failed.stdout
    assert not [name for name in server.containers() if "-job-" in name]
    assert server.serves(WEB) == "uno"
    assert ask(server, "due").returncode == 0
    said = ask(server, "status")
    assert said.returncode == 1
    assert "FAILURE: shop: job broken: the last run failed" in said.stdout
    assert "shop: job tidy: done" in said.stdout
