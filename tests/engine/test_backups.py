"""Backups, jobs and passwords on a real engine.

A dump of a real PostgreSQL comes back, a job runs the image that serves, and a rotated password reaches the role and
the service, or neither of them.
"""

import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kiwari_ci.engines.compose.deploy_programs import database
from tests.engine.images import REGISTRY, Images
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
    result = ask(server, "status")
    assert result.returncode == 1
    assert "FAILURE: shop: job broken: the last run failed" in result.stdout
    assert "shop: job tidy: done" in result.stdout


CLIENT = f"{REGISTRY}/kiwari-client:staging"
CLIENT_IMAGE = f"""\
FROM {IMAGE}
ENV PGHOST={STACK} PGUSER=app PGDATABASE={BASE}
ENTRYPOINT ["sleep", "100000"]
HEALTHCHECK --interval=1s --retries=3 CMD case $PGPASSWORD in *bad*) exit 1;; esac; psql -Xw -c ""
"""
CLIENT_FILE = f"""\
name: shop
services:
  shop-web:
    image: {CLIENT}
    container_name: shop-web
    restart: unless-stopped
    init: true
    env_file: .env
    labels:
      deploy.health: healthcheck
      deploy.name-cache: "0"
      deploy.start-period: "30"
networks:
  default: {{name: {STACK}_default, external: true}}
"""
ROTATE = f"docker/bin/rotate password shop DATABASE_URL,PGPASSWORD {STACK} app APP_PASSWORD"
OLD_PASSWORD, NEW_PASSWORD, BAD_PASSWORD = "oldPassword1", "newPass/w0rd:2", "badPassword3"


@pytest.fixture
def client(base: None, shop: Shop, server: Server, images: Images) -> None:
    """A service that is healthy as long as it can open a session as the role `app`, with the password that it has."""
    context = server.folder / "client"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text(CLIENT_IMAGE)
    server.docker("build", "-q", "-t", CLIENT, str(context))
    server.docker("--config", images.login, "push", "-q", CLIENT)
    digest = server.docker("inspect", "-f", "{{index .RepoDigests 0}}", CLIENT).partition("@")[2]
    sql(server, "ALTER SYSTEM SET log_statement = 'all'", "postgres")
    sql(server, "SELECT pg_reload_conf()", "postgres")
    sql(server, f"CREATE ROLE app LOGIN PASSWORD '{OLD_PASSWORD}'")
    shop.write_whole(CLIENT_FILE)
    shop.put(".env", env_file(OLD_PASSWORD, OLD_PASSWORD))
    (server.docker_folder / STACK / ".env").write_text(f"APP_PASSWORD='{OLD_PASSWORD}'\n")
    server.run("chown", "-R", f"{UID}:{UID}", str(server.docker_folder / STACK))
    for folder in (STACK, "shop"):
        (server.docker_folder / folder / ".env").chmod(0o600)
    deployed = shop.deploy(digest)
    assert deployed.returncode == 0, deployed.stdout


def env_file(password: str, encoded: str) -> str:
    """The env file of the service, with a password as it is and as a part of a URL."""
    return f"DATABASE_URL='postgres://app:{encoded}@{STACK}:5432/{BASE}'\nPGPASSWORD='{password}'\n"


def rotate(server: Server, password: str) -> Result:
    """What a person pipes into the request; stdout and stderr together."""
    words = ("su", "deployer", "-s", "/bin/sh", "-c", f"cd; {ROTATE} 2>&1")
    return server.run(*words, check=False, stdin=f"{password}\n")


def logs_in(server: Server, password: str) -> bool:
    """Whether the server accepts a password of the role, over the network."""
    words = ("exec", "-i", "shop-web", "sh", "-c", "read -r PGPASSWORD; export PGPASSWORD; psql -Xw -c ''")
    return server.run("docker", *words, check=False, stdin=f"{password}\n").returncode == 0


def has_everywhere(server: Server, password: str, encoded: str) -> bool:
    """Whether the service, its env file, the server's env file and the role have this password."""
    variables = server.docker("inspect", "-f", '{{join .Config.Env "\\n"}}', "shop-web").splitlines()
    return (
        {line.replace("'", "") for line in env_file(password, encoded).splitlines()} <= set(variables)
        and (server.docker_folder / "shop/.env").read_text() == env_file(password, encoded)
        and (server.docker_folder / STACK / ".env").read_text() == f"APP_PASSWORD='{password}'\n"
        and logs_in(server, password)
    )


@contextmanager
def arguments_seen() -> Iterator[set[str]]:
    """The arguments of all processes of the machine that run meanwhile, as far as they live for a moment."""
    seen: set[str] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.01):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_text(errors="replace"))
                except OSError:
                    continue

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def test_a_password_is_rotated_in_postgresql_and_in_its_service(client: None, server: Server) -> None:
    """The old one is refused afterwards, and neither is in an argument, a log or the output."""
    with arguments_seen() as seen:
        rotated = rotate(server, NEW_PASSWORD)

    assert rotated.returncode == 0, rotated.stdout
    assert has_everywhere(server, NEW_PASSWORD, "newPass%2Fw0rd%3A2")
    assert not logs_in(server, OLD_PASSWORD)
    assert server.docker("inspect", "-f", "{{.State.Health.Status}}", "shop-web") == "healthy"
    assert server.containers() >= {"shop-web"} and "shop-web-next" not in server.containers()
    logs = "".join(path.read_text() for path in (server.docker_folder / "shop/log").iterdir())
    # The fixture itself created the role by a statement with the old password.
    for text in (rotated.stdout, logs, "".join(seen), server.docker("logs", STACK)):
        assert NEW_PASSWORD not in text and "newPass%2F" not in text
    assert OLD_PASSWORD not in rotated.stdout + logs and any("set-password" in words for words in seen)
    for folder in (STACK, "shop"):
        assert stat.S_IMODE((server.docker_folder / folder / ".env").stat().st_mode) == 0o600


@pytest.mark.long
def test_a_service_that_fails_with_the_new_password_gets_everything_back(client: None, server: Server) -> None:
    before = server.container_id("shop-web")

    rotated = rotate(server, BAD_PASSWORD)

    assert rotated.returncode == 1, rotated.stdout
    assert has_everywhere(server, OLD_PASSWORD, OLD_PASSWORD)
    assert not logs_in(server, BAD_PASSWORD)
    assert server.container_id("shop-web") == before, "the old container never stopped"
    assert BAD_PASSWORD not in rotated.stdout and OLD_PASSWORD not in rotated.stdout
    assert "undoing a rotation: APP_PASSWORD in shop-database/.env, DATABASE_URL in shop/.env" in rotated.stdout
    assert not (server.docker_folder / "shop/.deploys/.rotation.json").exists()
