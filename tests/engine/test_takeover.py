"""From a hand-written pipeline that serves to the first deploy, as the runbook's chapter says, while a client asks.

The repositories are cases of init. What it drafts is taken as it is: each question is answered as it suggests.
"""

from pathlib import Path

import pytest

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
        with asked(server, *STAGING, *PRODUCTION) as answers:
            move.types(chapter["Copy"][0].text)
            move.types(chapter["Disable"][0].text)
            move.prepares("staging")
            assert compose_file.read_text() != by_hand
            move.types(chapter["Prepare"][-1].text)
            assert compose_file.read_text() == by_hand
            move.prepares("staging", is_first=False)
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

        move.prepares("staging", is_first=False)
        move.deploys("staging", "*-ci.yml", digests)
        with asked(server, *PRODUCTION) as answers:
            chapter = move.chapter("production")
            move.types(chapter["Copy"][0].text)
            move.types(chapter["Disable"][0].text)
            move.prepares("production", is_first=False)
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
        said = server.run(*reached, str(plain), server.image("pos-api"), "migrate").stdout
        assert "migrates the PostgreSQL at postgres:5432" in said
        server.run("kill", (server.folder / "front.pid").read_text().strip())
        front.nginx.wait(10)
