"""`kiwari-ci init` where two environments are deployed from one Compose file."""

from pathlib import Path
from typing import Any

import pytest

from kiwari_ci.commands.init.draft_text import InitResult
from tests.init_drafts import draft_files

COMPOSE = """\
services:
  web:
    build: .
    container_name: shop-web-${STAGE}
    ports: ["127.0.0.1:${HTTP_PORT}:3000"]
    labels: {traefik.http.routers.web.rule: "Host(`${SITE}`)"}
  redis: {image: "redis:7", volumes: [queue:/data]}
volumes: {queue: {}}
"""
JOB = """\
  {name}:
    if: github.ref == 'refs/heads/{branch}'
    runs-on: ubuntu-latest
    environment: {name}
    {env}
    steps:
      - run: ssh deploy@192.0.2.1 '{command}'
"""


def draft(folder: Path, staging: str, production: str, env: str = "") -> tuple[dict[str, Any], InitResult]:
    """The environments that are drafted for two commands that deploy them, and what is said beside it."""
    jobs = JOB.format(name="staging", branch="develop", command=staging, env=env.replace("NAME", "shop-staging"))
    jobs += JOB.format(name="production", branch="main", command=production, env=env.replace("NAME", "shop-prod"))
    files = {
        "Dockerfile": "FROM node:22\nCOPY . .\nEXPOSE 3000\n",
        "compose.yml": COMPOSE,
        ".env.staging.example": "STAGE=stg\nHTTP_PORT=3001\nSITE=staging.example.com\n",
        ".env.prod.example": "STAGE=live\nHTTP_PORT=3000\nSITE=www.example.com\n",
        ".github/workflows/deploy.yml": f"on: {{push: {{branches: [main, develop]}}}}\njobs:\n{jobs}",
    }
    return draft_files(folder, files)


COMMAND = "cd /srv/shop && docker compose -p {} --env-file {} -f compose.yml up -d"


def test_each_environment_has_its_project_and_the_values_of_its_env_file(tmp_path: Path) -> None:
    staging = COMMAND.format("shop-staging", ".env.staging")
    spec, result = draft(tmp_path, staging, COMMAND.format("shop-prod", ".env.prod"))
    environments = spec["environments"]
    assert environments["staging"]["containers"] == {"web": "shop-web-stg", "redis": "shop-staging-redis-1"}
    assert environments["production"]["containers"] == {"web": "shop-web-live", "redis": "shop-prod-redis-1"}
    assert environments["staging"]["domains"] == {"web": "staging.example.com"}
    assert environments["production"]["domains"] == {"web": "www.example.com"}
    assert [each["stack"] for each in environments.values()] == ["shop-staging", "shop-prod"]
    assert [each["takeover"]["project"] for each in environments.values()] == ["shop-staging", "shop-prod"]
    assert {each["takeover"]["folder"] for each in environments.values()} == {"/srv/shop"}
    questions = "\n".join(question for _, question in result.decisions)
    assert "the values of staging are in .env.staging (" in questions
    assert "the values of production are in .env.prod (" in questions
    assert "only one of them can take it over" not in questions


@pytest.mark.parametrize(
    ("command", "env"),
    [
        ("cd /srv/{} && cp {} .env && COMPOSE_PROJECT_NAME={} docker compose up -d", ""),
        ("cd /srv/{} && cp {} .env && export COMPOSE_PROJECT_NAME={} && docker-compose up -d", ""),
        ("docker compose --project-directory /srv/{} --env-file {} -p {} up -d", ""),
        ("docker compose -f /srv/{}/compose.yml --env-file={} --project-name={} up -d", ""),
        ("cd /srv/{} && docker compose --env-file ./{} up -d # {}", "env: {COMPOSE_PROJECT_NAME: NAME}"),
        ("cd /srv/{} && docker compose --env-file {} up -d # {}", ""),
    ],
)
def test_the_ways_to_name_the_project_the_folder_and_the_env_file(tmp_path: Path, command: str, env: str) -> None:
    staging = command.format("shop-staging", ".env.staging", "shop-staging")
    spec, _ = draft(tmp_path, staging, command.format("shop-prod", ".env.prod", "shop-prod"), env)
    environments = spec["environments"]
    takeovers = [environments[name]["takeover"] for name in ("staging", "production")]
    assert [takeover["folder"] for takeover in takeovers] == ["/srv/shop-staging", "/srv/shop-prod"]
    assert [takeover["project"] for takeover in takeovers] == ["shop-staging", "shop-prod"]
    assert [takeover["containers"]["web"] for takeover in takeovers] == ["shop-web-stg", "shop-web-live"]
    assert [takeover["containers"]["redis"] for takeover in takeovers] == [
        "shop-staging-redis-1",
        "shop-prod-redis-1",
    ]


def test_two_environments_in_one_project_are_asked(tmp_path: Path) -> None:
    command = "cd /srv/shop && docker compose up -d"
    _, result = draft(tmp_path, command, command)
    assert any("only one of them can take it over" in question for _, question in result.decisions)


def test_an_accessory_has_the_values_of_each_environment(tmp_path: Path) -> None:
    staging = COMMAND.format("shop-staging", ".env.staging")
    compose = COMPOSE.replace('"redis:7"', '"redis:7", command: "redis-server /etc/${STAGE}.conf --pass $SECRET_PASS"')
    (tmp_path / "compose.prod.yml").write_text(compose.replace("${STAGE}", "live"))
    (tmp_path / "compose.staging.yml").write_text(compose.replace("${STAGE}", "stg"))
    production = COMMAND.format("shop-prod", ".env.prod").replace("compose.yml", "compose.prod.yml")
    spec, _ = draft(tmp_path, staging.replace("compose.yml", "compose.staging.yml"), production)
    script = 'exec docker-entrypoint.sh redis-server /etc/{}.conf --pass "$$SECRET_PASS"'
    assert spec["accessories"]["redis"]["command"] == [script.format("live")]
    assert spec["environments"]["staging"]["overrides"]["redis"]["command"] == [script.format("stg")]
    assert "redis" not in spec["environments"]["production"].get("overrides", {})


@pytest.mark.parametrize("other", ["staging", "dev"])
def test_a_file_that_is_called_after_one_environment_and_named_by_the_deploys_of_two_is_read_for_both(
    tmp_path: Path, other: str
) -> None:
    """Many teams have one `docker-compose.prod.yml`, and deploy every environment from it."""
    database = "db: {image: 'postgres:17', container_name: shop-db}"
    compose = f"services: {{web: {{build: ., container_name: shop-web}}, {database}}}"
    command = "cd /srv/shop && docker compose -f compose.prod.yml up -d"
    jobs = JOB.format(name=other, branch="develop", command=command, env="")
    jobs += JOB.format(name="production", branch="main", command=command, env="")
    files = {
        "Dockerfile": "FROM node:22\nCOPY . .\nEXPOSE 3000\n",
        "compose.prod.yml": compose,
        ".github/workflows/deploy.yml": f"on: {{push: {{branches: [main, develop]}}}}\njobs:\n{jobs}",
    }
    spec, _ = draft_files(tmp_path, files)
    for environment in spec["environments"].values():
        assert environment["takeover"]["containers"] == {"web": "shop-web", "db": "shop-db"}


@pytest.mark.parametrize(
    ("address", "has_environment", "is_split"),
    [("${{ secrets.HOST }}", True, True), ("${{ secrets.HOST }}", False, False), ("192.0.2.1", True, False)],
)
def test_environments_with_containers_of_one_name_have_a_host_each(
    tmp_path: Path, address: str, has_environment: bool, is_split: bool
) -> None:
    """One server has each name once, and GitHub keeps another address in each environment."""
    command = "cd /srv/shop && docker compose -f compose.prod.yml up -d"
    job = """\
  {name}:
    if: github.ref == 'refs/heads/{branch}'
    runs-on: ubuntu-latest{environment}
    steps:
      - {{uses: appleboy/ssh-action@v1, with: {{host: "{address}", username: me, key: "k", script: {command}}}}}
"""
    jobs = ""
    for name, branch in (("staging", "develop"), ("production", "main")):
        environment = f"\n    environment: {name}" if has_environment else ""
        jobs += job.format(name=name, branch=branch, environment=environment, address=address, command=command)
    files = {
        "Dockerfile": "FROM node:22\nCOPY . .\nEXPOSE 3000\n",
        "compose.prod.yml": "services: {web: {build: ., container_name: shop-web}, db: {image: 'postgres:17', "
        "container_name: shop-db}}",
        ".github/workflows/deploy.yml": f"on: {{push: {{branches: [main, develop]}}}}\njobs:\n{jobs}",
    }
    spec, result = draft_files(tmp_path, files)
    assert len(spec["hosts"]) == (2 if is_split else 1)
    questions = " ".join(question for _, question in result.decisions)
    assert ("so each has a server here" in questions) is is_split
    if is_split:
        assert {host["address"]["secret"] for host in spec["hosts"].values()} == {"HOST"}
        for name, environment in spec["environments"].items():
            assert environment["host"] == name
            assert environment["containers"] == {"web": "shop-web", "db": "shop-db"}
            assert environment["stack"] == "shop"


def test_a_file_that_is_called_after_the_environment_that_has_one_of_its_own_is_not_shared(tmp_path: Path) -> None:
    compose = "services: {web: {build: ., container_name: shop-web%s}}"
    command = "cd /srv/shop && docker compose -f compose.%s.yml up -d"
    jobs = JOB.format(name="staging", branch="develop", command=command % "staging", env="")
    jobs += JOB.format(name="production", branch="main", command=command % "prod", env="")
    files = {
        "Dockerfile": "FROM node:22\nCOPY . .\nEXPOSE 3000\n",
        "compose.prod.yml": compose % "",
        "compose.staging.yml": compose % "-stg",
        ".github/workflows/deploy.yml": f"on: {{push: {{branches: [main, develop]}}}}\njobs:\n{jobs}",
    }
    spec, _ = draft_files(tmp_path, files)
    environments = spec["environments"]
    assert environments["production"]["takeover"]["containers"] == {"web": "shop-web"}
    assert environments["staging"]["takeover"]["containers"] == {"web": "shop-web-stg"}
