"""`kiwari-ci init` reads the scripts and Makefiles of the repository that a deploy runs."""

from pathlib import Path
from typing import Any

import pytest

from kiwari_ci.commands.diff.snapshot import build_snapshot
from kiwari_ci.commands.init.draft_text import InitResult
from kiwari_ci.readers.file_sets import load_folder
from tests.init_drafts import draft_files
from tests.test_diff_of_drafts import describe_changes

COMPOSE = """\
services:
  web:
    image: ghcr.io/example/shop:latest
    build: .
    container_name: shop-web{suffix}
    environment: {{LEVEL: {level}}}
    restart: always
"""
WORKFLOW = """\
on: {{push: {{branches: [main]}}}}
jobs:
  deploy:
    runs-on: ubuntu-latest
    environment: production
    steps:
      - uses: actions/checkout@v4
      - run: {run}
        env:
          HOST: ${{{{ secrets.SSH_HOST }}}}
"""
FILES = {
    "Dockerfile": "FROM node:22\nCOPY . .\nEXPOSE 3000\n",
    "compose.yml": COMPOSE.format(suffix="-dev", level="debug"),
    "docker-compose.live.yml": COMPOSE.format(suffix="", level="live"),
}
SCRIPT = """\
#!/usr/bin/env bash
set -euo pipefail
ENVIRONMENT="${1:-staging}"
COMPOSE="docker-compose.$ENVIRONMENT.yml"
docker compose -p shop-live -f "$COMPOSE" run --rm web npm run migrate
docker compose -p shop-live --env-file .env.live -f "$COMPOSE" up -d
docker run -d --name cron --restart always --memory 64m ghcr.io/example/cron:1
docker image prune -af
"""
MAKEFILE = """\
COMPOSE := docker compose -p shop-live
FILES = -f docker-compose.$(STAGE).yml
STAGE ?= live
.PHONY: deploy up

deploy: pull
	$(MAKE) up STAGE=live

pull:
	@$(COMPOSE) $(FILES) pull

up: ; $(COMPOSE) $(FILES) up -d \\
	--remove-orphans
"""


def draft(folder: Path, run: str, files: dict[str, str]) -> tuple[dict[str, Any], InitResult]:
    """The draft for a repository whose workflow has one step."""
    return draft_files(folder, {**FILES, ".github/workflows/deploy.yml": WORKFLOW.format(run=run), **files})


@pytest.mark.parametrize(
    ("run", "files"),
    [
        ("ssh deploy@192.0.2.1 'cd /srv/shop && ./deploy.sh live'", {"deploy.sh": SCRIPT}),
        ("ssh deploy@192.0.2.1 'cd /srv/shop && make deploy'", {"Makefile": MAKEFILE}),
        (
            "bash scripts/deploy.sh live",
            {
                "scripts/deploy.sh": 'ssh "deploy@$HOST" "cd /srv/shop && ./scripts/on-server.sh $1"\n',
                "scripts/on-server.sh": SCRIPT,
            },
        ),
        (
            "make ship",
            {"Makefile": "ship:\n\tssh deploy@192.0.2.1 'cd /srv/shop && ./deploy.sh live'\n", "deploy.sh": SCRIPT},
        ),
    ],
)
def test_the_compose_file_and_project_of_a_script_are_those_of_the_deploy(
    tmp_path: Path, run: str, files: dict[str, str]
) -> None:
    spec, result = draft(tmp_path, run, files)
    production = spec["environments"]["production"]
    assert production["containers"] == {"web": "shop-web"}
    assert production["takeover"]["project"] == "shop-live"
    assert production["takeover"]["folder"] == "/srv/shop"
    assert "LEVEL: live" in result.text
    assert "debug" not in result.text
    assert result.troubles == []


def test_a_script_gets_the_variables_of_its_step(tmp_path: Path) -> None:
    workflow = WORKFLOW.replace("HOST:", "STAGE: live\n          HOST:").format(run="./deploy.sh")
    compose = "docker compose -p shop-$STAGE -f docker-compose.$STAGE.yml up -d"
    command = f'ssh deploy@192.0.2.1 "cd /srv/shop && {compose}"\n'
    spec, result = draft(tmp_path, "", {".github/workflows/deploy.yml": workflow, "deploy.sh": command})
    assert spec["environments"]["production"]["takeover"]["project"] == "shop-live"
    assert "LEVEL: live" in result.text


def test_what_a_script_does_besides_is_listed_with_its_line(tmp_path: Path) -> None:
    _, result = draft(tmp_path, "ssh deploy@192.0.2.1 'cd /srv/shop && ./deploy.sh live'", {"deploy.sh": SCRIPT})
    assert "run --rm web npm run mig…` (deploy.sh:5)" in result.text
    assert "deploy.sh:7: `docker run` of cron: --restart always, --memory 64m" in result.text


@pytest.mark.parametrize(
    ("run", "files"),
    [
        ("make deploy", {"Makefile": "include .env\nexport\ndeploy:\n\tssh web '{command} $(PASSWORD) image'\n"}),
        ("./deploy.sh", {"deploy.sh": ". ./.env\nssh web '{command} '$PASSWORD' image'\n"}),
    ],
)
def test_no_value_of_an_env_file_is_in_the_draft(tmp_path: Path, run: str, files: dict[str, str]) -> None:
    command = "docker run -d --name cron --memory"
    texts = {path: text.replace("{command}", command) for path, text in files.items()}
    _, result = draft(tmp_path, run, {".env": "PASSWORD=hunter2\n", **texts})
    assert "`docker run` of cron" in result.text
    assert "hunter2" not in "\n".join([result.text, *result.troubles])


def test_a_build_in_a_script_is_a_build(tmp_path: Path) -> None:
    command = "docker build -t ghcr.io/example/shop-front:$1 -f docker/Dockerfile --target live ."
    build = f'#!/bin/sh\ncd "$(dirname "$0")/.."\n{command}\n'
    files = {
        "scripts/build.sh": build,
        "docker/Dockerfile": "FROM node:22 AS live\nCOPY . .\nEXPOSE 3000\nFROM live AS test\n",
    }
    spec, _ = draft(tmp_path, "./scripts/build.sh latest", files)
    builds = [service["build"] for service in spec["services"].values() if "build" in service]
    assert {"dockerfile": "docker/Dockerfile", "target": "live"}.items() <= next(
        build for build in builds if build.get("dockerfile") == "docker/Dockerfile"
    ).items()


def test_a_script_that_is_on_the_server_only_is_listed(tmp_path: Path) -> None:
    _, result = draft(tmp_path, "ssh deploy@192.0.2.1 'cd /srv/shop && ./deploy.sh'", {})
    place = ".github/workflows/deploy.yml:8"
    message = f"{place}: the script `./deploy.sh` on the server, which is not in the repository: not read"
    assert result.troubles == [message]


def test_a_script_that_a_script_runs_is_listed_with_the_line_there(tmp_path: Path) -> None:
    script = "#!/bin/sh\n\n/usr/local/bin/back-up now\n"
    _, result = draft(tmp_path, "ssh deploy@192.0.2.1 'cd /srv/shop && ./deploy.sh'", {"deploy.sh": script})
    message = "deploy.sh:3: the script `/usr/local/bin/back-up` on the server, which is not in the repository: not read"
    assert result.troubles == [message]


def test_a_compose_file_is_read_by_any_name_that_a_deploy_gives(tmp_path: Path) -> None:
    script = "#!/bin/sh\ndocker compose -p shop-live -f stacks/live.yml up -d\n"
    run = "ssh deploy@192.0.2.1 'cd /srv/shop && ./deploy.sh'"
    live = COMPOSE.format(suffix="", level="live").replace("build: .", "build: ..")
    _, result = draft(tmp_path, run, {"deploy.sh": script, "docker-compose.live.yml": "", "stacks/live.yml": live})
    assert "LEVEL: live # stacks/live.yml:6" in result.text
    snapshot = build_snapshot(load_folder(tmp_path), "example/shop")
    assert snapshot.stacks["stacks/live.yml"].services.keys() == {"web"}


def test_diff_compares_with_the_file_of_the_script(tmp_path: Path) -> None:
    workflow = WORKFLOW.format(run="ssh deploy@192.0.2.1 'cd /srv/shop && ./deploy.sh live'")
    files = {**FILES, "deploy.sh": SCRIPT, ".github/workflows/deploy.yml": workflow}
    changes = describe_changes(tmp_path, files)
    assert not [change for change in changes if "debug" in change]


@pytest.mark.parametrize("port", ["${BIND}:8080:80", "${BIND}:${PORT}:80"])
def test_a_port_of_which_a_variable_is_unknown_is_asked(tmp_path: Path, port: str) -> None:
    files = {"compose.yml": COMPOSE.format(suffix="", level="live") + f"    ports: ['{port}']\n"}
    spec, result = draft(tmp_path, "ssh deploy@192.0.2.1 'cd /srv/shop && docker compose -f compose.yml up -d'", files)
    assert "ports" not in spec["services"]["web"]
    questions = [question for _, question in result.decisions if f"publishes {port}" in question]
    assert len(questions) == 1
    assert "no file has the value of BIND" in questions[0]
