"""From a hand-written pipeline that serves to the first deploy, as the runbook's chapter says, while a client asks.

The repositories are cases of init. What it drafts is taken as it is: each question is answered as it suggests.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine import fronts
from tests.engine.fronts import asked
from tests.engine.moving import Move, life, moving, sql
from tests.engine.proxy import Answers
from tests.engine.server import eventually
from tests.rehearsal.front import Front
from tests.rehearsal.stand_ins import postgres

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.long]


def expect_no_failure(answers: dict[str, Answers], versions: list[str]) -> None:
    """Every request was answered, and these versions did."""
    for url, each in answers.items():
        print(url, each, each.versions())
    for url, each in answers.items():
        assert len(each) > 50, url
        assert not each.failed(), (url, each.failed()[:5])
        assert each.versions() == versions, url


# The first user's repository, behind Nginx Proxy Manager, with PostgreSQL in a stack of its own.

KIWARI = "https://{}.nasibakarkiwari.com/"
STAGING = [KIWARI.format(name) for name in ("stg-api", "stg-admin")]
PRODUCTION = [KIWARI.format(name) for name in ("api", "admin")]


def start_kiwari(move: Move) -> None:
    """What runs on the server today: three stacks that a person has started, and the proxy."""
    server = move.server
    postgres(server)
    move.put_copy("deploy/postgres", "docker/postgres")
    move.put("docker/postgres/.env", (move.person.clone / "deploy/postgres/.env.example").read_text())
    for environment, tag in (("staging", "staging"), ("production", "latest")):
        place = f"docker/pos-{environment}"
        for name in ("docker-compose.yml", ".env.example", "admin.env.example"):
            text = (move.person.clone / f"deploy/{environment}/{name}").read_text()
            move.put(f"{place}/{name.removesuffix('.example')}", text.replace("change-me", f"of-{environment}"))
        for name, port in (("api", 8081), ("admin", 3000)):
            move.images.build(f"{move.images.registry}/kiwari-{name}:{tag}", f"{name}-by-hand", "answers", port)
    for stack in ("postgres", "pos-staging", "pos-production"):
        server.by_hand(f"cd docker/{stack} && docker compose up -d", check=True)
    ready = ("docker", "exec", "postgres", "pg_isready", "-q", "-h", "127.0.0.1")
    eventually(lambda: server.run(*ready, check=False).returncode == 0, 60, "the database answers")
    for database in ("pos_staging", "pos_production"):
        sql(server, "postgres", database, "CREATE TABLE receipts AS SELECT 42 AS total")


def test_from_the_first_users_own_pipeline_behind_nginx_proxy_manager(tmp_path: Path) -> None:
    with moving("kiwari-by-hand", tmp_path / "kiwari", "iqbalmuhyiddin/kiwari-monorepo") as move:
        server, images = move.server, move.images
        start_kiwari(move)
        front = Front(server, images, tree=move.person.clone)
        for url in (*STAGING, *PRODUCTION):
            move.wait_for(url, "api-by-hand" if "api" in url else "admin-by-hand")
        database = life(server, "postgres")
        digests = {
            "pos-api": images.push("kiwari-api", "api-new", tag="new"),
            "pos-admin": images.push("kiwari-admin", "admin-new", port=3000, tag="new"),
        }

        chapter = move.chapter("staging")
        compose_file = server.docker_folder / "pos-staging/docker-compose.yml"
        by_hand = compose_file.read_text()
        of_production = (server.docker_folder / "pos-production/docker-compose.yml").read_text()
        with asked(server, *STAGING, *PRODUCTION) as answers:
            move.prepares()
            move.types(chapter["Disable"].blocks[0].text)
            assert compose_file.read_text() == by_hand
            move.brings_files("staging")
            assert compose_file.read_text() != by_hand
            move.types(chapter["Bring"].find("To go back"))
            assert compose_file.read_text() == by_hand
            move.brings_files("staging")
            assert "ready" in move.checks("staging")
            move.deploys("staging", "*-ci.yml", digests)
        for url in PRODUCTION:
            assert not answers.pop(url).failed()
        for url in STAGING:
            name = "api" if "api" in url else "admin"
            expect_no_failure({url: answers[url]}, [f"{name}-by-hand", f"{name}-new"])

        move.goes_back("staging")
        for url in STAGING:
            move.wait_for(url, "api-by-hand" if "api" in url else "admin-by-hand")
        assert compose_file.read_text() == by_hand
        assert server.image("pos-api-staging") == f"{images.registry}/kiwari-api:staging", "and no new image is pinned"

        move.brings_files("staging")
        move.deploys("staging", "*-ci.yml", digests)
        with asked(server, *PRODUCTION) as answers:
            chapter = move.chapter("production")
            move.types(chapter["Wait"].blocks[0].text)
            move.brings_files("production")
            assert (server.docker_folder / "pos-production-before/docker-compose.yml").read_text() == of_production
            assert "ready" in move.checks("production")
            move.deploys("production", "promote.yml", digests)
        for url in PRODUCTION:
            name = "api" if "api" in url else "admin"
            expect_no_failure({url: answers[url]}, [f"{name}-by-hand", f"{name}-new"])
        assert life(server, "postgres") == database, "nobody has touched the database"
        for name in ("pos_staging", "pos_production"):
            assert sql(server, "postgres", name, "SELECT total FROM receipts") == "42"
        reached = ("docker", "run", "--rm", "--network", "container:pos-api", "--env-file")
        env_file = server.docker_folder / "pos-production/pos-api.env"
        plain = server.folder / "plain.env"
        plain.write_text(env_file.read_text().replace("'", ""))
        migration_output = server.run(*reached, str(plain), server.image("pos-api"), "migrate").stdout
        assert "migrates the PostgreSQL at postgres:5432" in migration_output
        server.run("kill", (server.folder / "front.pid").read_text().strip())
        front.nginx.wait(10)


# One stack of plain Compose, whose containers have the names that Compose gives, and a proxy of today before it.

SHOP, SHOP_API = "http://shop.example.com/", "http://api.example.com/"


def start_shop(move: Move) -> None:
    """What a person has started in ~/shop: the repository's own files, with images that were built by hand."""
    server = move.server
    for name in ("docker-compose.yml", "Caddyfile"):
        if (move.person.clone / name).exists():
            move.put(f"shop/{name}", (move.person.clone / name).read_text())
    move.put("shop/.env", "DB_PASSWORD=of-today\n")
    for name, port in (("web", 8080), ("api", 8081)):
        move.images.build(f"{move.images.registry}/shop-{name}:latest", f"{name}-by-hand", "answers", port)
    with (server.folder / "etc/hosts").open("a") as hosts:
        hosts.write("127.0.0.1 shop.example.com api.example.com\n")
    server.by_hand("cd shop && docker compose up -d --pull never", check=True)


def moves_one(move: Move, digests: dict[str, str]) -> None:
    """Follows the chapter of production up to the deploy."""
    chapter = move.chapter("production")
    move.prepares()
    assert "ready" in move.checks("production")
    move.types(chapter["Disable"].blocks[0].text)
    move.deploys("production", "*-ci.yml", digests)


def test_from_plain_compose_with_caddy_and_postgresql_in_the_stack(tmp_path: Path) -> None:
    with moving("caddy-in-the-stack", tmp_path / "shop", "example/shop") as move:
        server = move.server
        postgres(server)
        fronts.make_image(server, "caddy", "caddy:2.10-alpine")
        start_shop(move)
        move.wait_for(SHOP, "web-by-hand")
        sql(server, "shop-db-1", "shop", "CREATE TABLE receipts AS SELECT 42 AS total")
        database = life(server, "shop-db-1")
        digests = {
            "web": move.images.push("shop-web", "web-new", port=8080, tag="new"),
            "api": move.images.push("shop-api", "api-new", port=8081, tag="new"),
        }

        with asked(server, SHOP, SHOP_API) as answers:
            moves_one(move, digests)
            caddyfile = move.person.clone / "Caddyfile"
            today = caddyfile.read_text()
            named = today.replace("web:8080", "shop-web-production:8080")
            caddyfile.write_text(named.replace("api:8081", "shop-api-production:8081"))
            before = move.reads_traffic("production")
            move.writes_proxy_file("production", "Caddyfile", "shop/Caddyfile")
            move.wait_for(SHOP, "web-new")
            move.wait_for(SHOP_API, "api-new")
            after = move.reads_traffic("production")
            for name in ("shop-web-production", "shop-api-production"):
                assert before[name] != after[name], "the requests that it gets are seen"
            move.stops_old("production")
            # And back, as the chapter says: start the old ones, undo the change of the proxy, stop the new ones.
            move.starts_old("production")
            caddyfile.write_text(today)
            move.writes_proxy_file("production", "Caddyfile", "shop/Caddyfile")
            move.wait_for(SHOP, "web-by-hand")
            move.wait_for(SHOP_API, "api-by-hand")
            move.stops_new("production")

        expect_no_failure({SHOP: answers[SHOP]}, ["web-by-hand", "web-new"])
        expect_no_failure({SHOP_API: answers[SHOP_API]}, ["api-by-hand", "api-new"])
        assert life(server, "shop-db-1") == database
        assert sql(server, "shop-db-1", "shop", "SELECT total FROM receipts") == "42"


def test_from_traefik_by_labels(tmp_path: Path) -> None:
    with moving("traefik-by-labels", tmp_path / "shop", "example/shop") as move:
        server = move.server
        fronts.make_image(server, "traefik", "traefik:v3.6")
        start_shop(move)
        move.wait_for(SHOP, "web-by-hand")
        digests = {"web": move.images.push("shop-web", "web-new", port=8080, tag="new")}

        with asked(server, SHOP) as answers:
            moves_one(move, digests)
        print(SHOP, answers[SHOP])
        assert len(answers[SHOP]) > 50
        assert not answers[SHOP].failed()  # whichever of two equal rules Traefik chooses
        with asked(server, SHOP) as answers:
            assert "requests that it sends there in this time fail" in move.chapter("production")["Switch"].text
            move.stops_old("production")
            move.wait_for(SHOP, "web-new")
        failed = answers[SHOP].failed()
        print(SHOP, answers[SHOP])
        assert not failed or failed[-1].asked - failed[0].asked < 5


NGINX = """
worker_processes 1;
daemon off;
pid {folder}/host-nginx.pid;
error_log {folder}/host-nginx.log;
events {{}}
http {{
  access_log off;
  include {file};
}}
"""


@contextlib.contextmanager
def nginx_on_the_host(move: Move) -> Iterator[None]:
    """Runs nginx as a program of the server itself, with the site that the repository has."""
    folder = move.server.folder
    configuration = folder / "host-nginx.conf"
    site = move.person.clone / "ops/nginx/shop.conf"
    configuration.write_text(NGINX.format(folder=folder, file=site))
    process = subprocess.Popen(move.server.inside("nginx", "-c", str(configuration)))
    try:
        yield
    finally:
        move.server.run("kill", (folder / "host-nginx.pid").read_text().strip())
        process.wait(10)


def test_from_nginx_on_the_host(tmp_path: Path) -> None:
    """The port of the server belongs to one container only: the chapter says that the service is down for seconds."""
    with moving("nginx-on-the-host", tmp_path / "shop", "example/shop") as move:
        server = move.server
        start_shop(move)
        with nginx_on_the_host(move):
            move.wait_for(SHOP, "web-by-hand")
            assert "the service is down for seconds" in move.chapter("production")["Start"].text
            digests = {"web": move.images.push("shop-web", "web-new", port=8080, tag="new")}
            with asked(server, SHOP) as answers:
                moves_one(move, digests)
                move.wait_for(SHOP, "web-new")
            failed = answers[SHOP].failed()
            print(SHOP, answers[SHOP], answers[SHOP].versions())
            assert answers[SHOP].versions() == ["web-by-hand", "web-new"]
            assert not failed or failed[-1].asked - failed[0].asked < 5

            move.goes_back("production")
            move.wait_for(SHOP, "web-by-hand")
