"""`kiwari-ci init`, and the env files that a deploy writes: each belongs to the containers that read it."""

from pathlib import Path

import pytest

from tests.test_init_takeover import init

API = {"Dockerfile": "FROM scratch\nCOPY . .\nEXPOSE 8080\n"}
FRONTEND = {"frontend/Dockerfile": "FROM scratch\nCOPY . .\nEXPOSE 80\n", "frontend/index.html": ""}


@pytest.mark.parametrize(
    ("step", "is_of_stack"),
    [
        ("run: 'echo KEY=${{ secrets.KEY }} > frontend/.env'", False),
        ("run: 'echo KEY=${{ secrets.KEY }} > .env', working-directory: frontend", False),
        ("run: 'cd frontend && echo KEY=${{ secrets.KEY }} > .env'", False),
        ("run: 'ssh d@192.0.2.1 \"cd /srv/shop && echo KEY=${{ secrets.KEY }} > frontend/.env\"'", False),
        ("run: 'ssh d@192.0.2.1 \"echo KEY=${{ secrets.KEY }} > /srv/shop/frontend/.env\"'", False),
        ("run: 'ssh d@192.0.2.1 \"cd /srv/shop && echo KEY=${{ secrets.KEY }} > .env\"'", True),
        ("run: 'echo KEY=${{ secrets.KEY }} > ./.env'", True),
        ("run: 'mkdir -p out && echo KEY=${{ secrets.KEY }} > out/.env'", True),
        ("run: '(cd frontend && ls); echo KEY=${{ secrets.KEY }} > /srv/shop/.env'", True),
    ],
)
def test_the_env_file_of_another_folder_is_not_that_of_the_stack(tmp_path: Path, step: str, is_of_stack: bool) -> None:
    """A deploy may write several files called `.env`: that of the build of a frontend is none of the stack."""
    deploy = "{run: \"ssh d@192.0.2.1 'cd /srv/shop && docker compose up -d'\"}"
    steps = f"on: {{push: {{branches: [main]}}}}\njobs:\n  deploy: {{steps: [{{{step}}}, {deploy}]}}\n"
    compose = "services:\n  api: {build: ., env_file: .env}\n  frontend: {build: frontend}\n"
    spec, result = init(tmp_path, {**API, **FRONTEND, "compose.yml": compose, ".github/workflows/deploy.yml": steps})
    assert ("env" in spec["services"]["api"]) is is_of_stack
    assert (spec["environments"]["production"].get("env_from") == "github") is is_of_stack
    assert any("frontend/.env, which is the env file of no container" in line for line in result.seen) is (
        not is_of_stack and "working-directory" not in step
    )


def test_each_service_gets_the_env_file_of_its_own_folder(tmp_path: Path) -> None:
    steps = """\
on: {push: {branches: [main]}}
jobs:
  deploy:
    steps:
      - run: echo LEVEL=one > .env && echo LEVEL=two > frontend/.env
      - run: ssh d@192.0.2.1 'cd /srv/shop && docker compose up -d'
"""
    compose = "services:\n  api: {build: ., env_file: .env}\n  frontend: {build: frontend, env_file: frontend/.env}\n"
    spec, _ = init(tmp_path, {**API, **FRONTEND, "compose.yml": compose, ".github/workflows/deploy.yml": steps})
    assert spec["services"]["api"]["env"] == {"LEVEL": "one"}
    assert spec["services"]["frontend"]["env"] == {"LEVEL": "two"}


@pytest.mark.parametrize(("env_file", "is_shared"), [(".env", True), ("/srv/shop/.env", True), ("config/.env", False)])
def test_only_the_env_file_beside_the_compose_file_is_that_of_the_stack(
    tmp_path: Path, env_file: str, is_shared: bool
) -> None:
    command = "ssh d@192.0.2.1 'cd /srv/shop && docker compose -f compose.prod.yml up -d'"
    steps = f'on: {{push: {{branches: [main]}}}}\njobs:\n  production:\n    steps: [{{run: "{command}"}}]\n'
    compose = f"services:\n  web: {{build: web, env_file: {env_file}}}\n"
    spec, _ = init(tmp_path, {"compose.prod.yml": compose, ".github/workflows/deploy.yml": steps})
    assert ("env_file" in spec["environments"]["production"]) is is_shared


def test_env_files_come_from_github_only_if_those_of_accessories_do(tmp_path: Path) -> None:
    """The deploy of today writes a variable that Compose fills in under another name: GitHub has no secret of it."""
    steps = """\
on: {push: {branches: [main]}}
jobs:
  deploy:
    steps:
      - run: |
          echo KEY=${{ secrets.KEY }} > .env
          echo QUEUE=${{ secrets.QUEUE }} >> .env
      - run: ssh d@192.0.2.1 'cd /srv/shop && docker compose up -d'
"""
    queue = "queue: {image: 'rabbitmq:4', environment: {RABBITMQ_DEFAULT_PASS: '${QUEUE}'}}"
    compose = f"services:\n  web: {{build: web, env_file: .env}}\n  {queue}\n"
    spec, result = init(tmp_path, {"compose.yml": compose, ".github/workflows/deploy.yml": steps})
    assert "env_from" not in spec["environments"]["production"]
    assert any("but not RABBITMQ_DEFAULT_PASS: keep them" in question for _, question in result.decisions)
    assert not [line for line in result.seen if "QUEUE" in line]
    assert "today from QUEUE" in result.text


@pytest.mark.parametrize(
    ("written", "named", "is_of_stack"),
    [
        ("config/live.env", "config/live.env", True),
        ("config/live.env", "./config/live.env", True),
        ("config/live.env", "/srv/shop/config/live.env", True),
        ("config/.env", "config/.env", True),
        ("frontend/.env", "./.env", False),
        ("config/live.env", "config/other.env", False),
    ],
)
def test_an_env_file_that_a_command_names_is_one_of_the_stack(
    tmp_path: Path, written: str, named: str, is_of_stack: bool
) -> None:
    """Compose fills it into the file that it starts, from whichever folder of the repository."""
    steps = f"""\
on: {{push: {{branches: [main]}}}}
jobs:
  deploy:
    steps:
      - run: echo KEY=${{{{ secrets.KEY }}}} > {written}
      - run: ssh d@192.0.2.1 'cd /srv/shop && docker compose --env-file {named} up -d'
"""
    compose = "services:\n  api: {build: ., environment: {KEY: '${KEY}'}}\n  frontend: {build: frontend}\n"
    files = {**API, **FRONTEND, "config/readme": "", "compose.yml": compose, ".github/workflows/deploy.yml": steps}
    spec, result = init(tmp_path, files)
    assert (spec["environments"]["production"].get("env_from") == "github") is is_of_stack
    assert any(f"{written}, which is the env file of no container" in line for line in result.seen) is not is_of_stack
