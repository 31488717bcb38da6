"""`kiwari-ci init` where something serves already: what is there stays, and what it cannot keep is said."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci import generator
from kiwari_ci.commands.diff import compare
from kiwari_ci.commands.diff.change import PipelineChange
from kiwari_ci.commands.diff.snapshot import build_snapshot
from kiwari_ci.commands.init import format_init_result
from kiwari_ci.commands.init.compose_files import read_compose_files
from kiwari_ci.commands.init.draft_text import InitResult
from kiwari_ci.readers.compose_of_today import find_project_of_examples
from kiwari_ci.readers.file_sets import FileSet, load_folder
from kiwari_ci.readers.repository import LocalRepository
from tests.init_drafts import draft_files

DOCKERFILE = "FROM scratch\nCOPY . .\nEXPOSE 8080\n"
BUILD = "ghcr.io/example/shop-web"
DEPLOY = """\
on: {push: {branches: [main]}}
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - {uses: docker/build-push-action@v6, with: {context: web, push: true, tags: "ghcr.io/example/shop-web:latest"}}
  deploy:
    needs: build
    runs-on: ubuntu-latest
    environment: production
    steps:
      - uses: appleboy/ssh-action@v1
        with:
          host: ${{ secrets.VPS_HOST }}
          username: ${{ secrets.VPS_USER }}
          key: ${{ secrets.VPS_SSH_KEY }}
          script: |
            cd ~/shop
            COMMAND
"""
WEB = "web: {image: 'ghcr.io/example/shop-web:latest', environment: {PORT: '8080'}"
PASS = "proxy_pass http://127.0.0.1:8000;"
POSTGRES = "db: {image: 'postgres:16-alpine', volumes: ['data:/var/lib/postgresql/data'], networks: [proxy]}"


def init(
    folder: Path, files: dict[str, str], command: str = "docker compose up -d"
) -> tuple[dict[str, Any], InitResult]:
    """The draft for a repository that a workflow deploys, and what is said beside it."""
    files = {"web/Dockerfile": DOCKERFILE, ".github/workflows/deploy.yml": DEPLOY.replace("COMMAND", command)} | files
    return draft_files(folder, files)


def say(result: InitResult) -> str:
    """All that is said, in one text."""
    return "\n".join([*result.seen, *(question for _, question in result.decisions)])


def test_a_database_in_a_stack_of_its_own_stays_there(tmp_path: Path) -> None:
    external = "networks: {proxy: {external: true}}\n"
    files = {
        "deploy/shop/docker-compose.yml": f"services:\n  {WEB}, networks: [proxy]}}\n{external}",
        "deploy/postgres/docker-compose.yml": f"services:\n  {POSTGRES}\nvolumes: {{data: {{}}}}\n{external}",
    }
    spec, result = init(tmp_path, files)
    assert not {"databases", "accessories"} & spec.keys()
    assert "which stays as it is, outside of the spec: services reach it on the network proxy" in say(result)


def test_a_database_beside_the_service_is_an_accessory_under_its_present_name(tmp_path: Path) -> None:
    compose = f"services:\n  {WEB}}}\n  {POSTGRES.replace(', networks: [proxy]', '')}\nvolumes: {{data: {{}}}}\n"
    spec, _ = init(tmp_path, {"docker-compose.yml": compose})
    environment = spec["environments"]["production"]
    assert list(spec["accessories"]) == ["db"]
    assert environment["containers"] == {"db": "shop-db-1"}
    assert environment["takeover"]["containers"] == {"web": "shop-web-1", "db": "shop-db-1"}


def test_the_new_key_has_another_name(tmp_path: Path) -> None:
    """The old workflows keep theirs, so that a person can go back to them."""
    spec, _ = init(tmp_path, {})
    assert spec["hosts"]["vps"]["key"] == {"secret": "VPS_DEPLOY_KEY"}


@pytest.mark.parametrize(
    ("more", "files", "proxy"),
    [
        ("}\n  caddy: {image: 'caddy:2', ports: ['80:80']", {}, {"kind": "custom", "network": "shopproxy"}),
        (", ports: ['127.0.0.1:8000:8080']", {}, {"kind": "none"}),
        (
            ", ports: ['127.0.0.1:8000:8080']",
            {"nginx/shop.conf": f"server {{ server_name a.example.com; location / {{ {PASS} }} }}"},
            {"kind": "none"},
        ),
        (
            ", labels: ['traefik.http.routers.w.rule=Host(`a.example.com`)', traefik.http.routers.w.entrypoints=web]}\n"
            "  traefik: {image: 'traefik:v3.6', ports: ['80:80']",
            {},
            {"kind": "traefik", "network": "shopproxy", "entrypoint": "web", "listen": "127.0.0.1:80"},
        ),
        (
            ", labels: ['traefik.http.routers.w.rule=Host(`a.example.com`)', traefik.http.routers.w.tls=true]}\n"
            "  traefik: {image: 'traefik:v3.6', ports: ['443:443']",
            {},
            {"kind": "traefik", "network": "shopproxy"},
        ),
    ],
)
def test_the_proxy_of_today_stays(tmp_path: Path, more: str, files: dict[str, str], proxy: dict[str, str]) -> None:
    spec, _ = init(tmp_path, {"docker-compose.yml": f"services:\n  {WEB}{more}}}\n", **files})
    assert spec["hosts"]["vps"]["proxy"] == proxy
    assert ("ports" in spec["services"]["web"]) == (proxy["kind"] == "none")


def test_a_web_server_of_its_own_keeps_its_network_and_has_no_proxy(tmp_path: Path) -> None:
    web = f"{WEB}, ports: ['80:8080'], networks: [lan]}}"
    compose = f"services:\n  {web}\nnetworks: {{lan: {{external: true}}}}\n"
    spec, _ = init(tmp_path, {"docker-compose.yml": compose})
    assert spec["hosts"]["vps"]["proxy"] == {"kind": "none"}
    assert spec["services"]["web"]["networks"] == [{"external": "lan"}]


CADDY = "}\n  caddy: {image: 'caddy:2', ports: ['80:80']"


@pytest.mark.parametrize(
    ("caddyfile", "environment", "scheme"),
    [
        ("http://shop.example.com {\n reverse_proxy web:8080\n}\n", "", "http"),
        ("shop.example.com:80 {\n reverse_proxy web:8080\n}\n", "", "http"),
        ("shop.example.com {\n reverse_proxy web:8080\n}\n", "", ""),
        # Caddy answers with a redirect over plain HTTP, and with a certificate.
        (
            "http://shop.example.com {\n redir https://shop.example.com{uri}\n}\n"
            "shop.example.com {\n reverse_proxy web:8080\n}\n",
            "",
            "",
        ),
        # TLS ends in front of Caddy: the service has an address with https.
        ("http://shop.example.com {\n reverse_proxy web:8080\n}\n", ", ORIGIN: 'https://shop.example.com'", ""),
        ("http://shop.example.com {\n reverse_proxy web:8080\n}\n", ", ORIGIN: 'http://shop.example.com'", "http"),
    ],
)
def test_a_caddyfile_without_certificates(tmp_path: Path, caddyfile: str, environment: str, scheme: str) -> None:
    web = WEB.replace("PORT: '8080'", f"PORT: '8080'{environment}")
    spec, result = init(tmp_path, {"docker-compose.yml": f"services:\n  {web}{CADDY}}}\n", "Caddyfile": caddyfile})
    assert spec["hosts"]["vps"]["proxy"].get("scheme", "") == scheme
    assert spec["environments"]["production"]["domains"] == {"web": "shop.example.com"}
    assert ("leave out `scheme: http`" in say(result)) == bool(scheme)
    if environment:
        assert spec["services"]["web"]["env"]["ORIGIN"] == {"domain": "url"}


def test_a_caddyfile_with_certificates_for_some_sites(tmp_path: Path) -> None:
    """One field is for all domains of a host, so a person decides."""
    files = {
        "api/Dockerfile": DOCKERFILE,
        "docker-compose.yml": f"services:\n  {WEB}}}\n  api: {{build: api{CADDY}}}\n",
        "Caddyfile": "http://shop.example.com {\n reverse_proxy web:8080\n}\n"
        "api.example.com {\n reverse_proxy api:8080\n}\n",
    }
    spec, result = init(tmp_path, files)
    assert "scheme" not in spec["hosts"]["vps"]["proxy"]
    assert "http://shop.example.com (Caddyfile:1): `scheme: http` is for all domains of a host" in say(result)


def test_a_proxy_that_no_file_shows_is_asked_for(tmp_path: Path) -> None:
    _, result = init(tmp_path, {"docker-compose.yml": f"services:\n  {WEB}}}\n"})
    assert "what stands in front of the services: no file says it" in say(result)


def test_examples_belong_to_the_env_file_that_they_are_named_after(tmp_path: Path) -> None:
    folder = "deploy/production"
    files = {
        f"{folder}/docker-compose.yml": f"services:\n  {WEB}, env_file: web.env}}\n",
        f"{folder}/web.env.example": "ORIGIN=https://shop.example.com\n",
        f"{folder}/.env.example": "OF_OTHERS=1\n",
    }
    spec, _ = init(tmp_path, files)
    assert set(spec["services"]["web"]["env"]) == {"PORT", "ORIGIN"}
    assert spec["services"]["web"]["env"]["ORIGIN"] == {"domain": "url"}
    assert spec["environments"]["production"]["domains"] == {"web": "shop.example.com"}


def test_values_that_differ_between_environments(tmp_path: Path) -> None:
    staging = DEPLOY.replace("environment: production", "environment: staging").replace("~/shop", "~/shop-staging")
    files = {
        ".github/workflows/staging.yml": staging.replace("COMMAND", "docker compose up -d"),
        "deploy/production/docker-compose.yml": f"services:\n  {WEB}, env_file: .env}}\n",
        "deploy/production/.env.example": "LOG_LEVEL=warn\nSIZE=4\n",
        "deploy/staging/docker-compose.yml": f"services:\n  {WEB}, env_file: .env}}\n",
        "deploy/staging/.env.example": "LOG_LEVEL=debug\nSIZE=4\nPORT=9\n",
    }
    spec, _ = init(tmp_path, files)
    assert spec["environments"]["staging"]["overrides"] == {"web": {"env": {"LOG_LEVEL": "debug"}}}
    assert "overrides" not in spec["environments"]["production"]


def test_a_file_that_no_deploy_uses_is_not_mixed_with_the_others(tmp_path: Path) -> None:
    files = {
        "deploy/production/docker-compose.yml": f"services:\n  {WEB}}}\n",
        "docker/docker-compose.yml": "services:\n  web: {build: ../web, environment: {OLD: '1'}}\n"
        "  cache: {image: 'redis:7'}\n",
    }
    spec, result = init(tmp_path, files)
    assert "accessories" not in spec
    assert set(spec["services"]["web"]["env"]) == {"PORT"}
    assert "docker/docker-compose.yml: not used, because its services are in deploy/production/" in say(result)


@pytest.mark.parametrize(
    ("command", "accessories"),
    [
        ("docker compose -f docker-compose.prod.yml up -d", []),
        ("docker compose -f docker-compose.yml -f docker-compose.prod.yml up -d", ["cache"]),
    ],
)
def test_a_complete_file_for_production_stands_alone(tmp_path: Path, command: str, accessories: list[str]) -> None:
    files = {
        "docker-compose.yml": "services:\n  web: {build: web}\n  cache: {image: 'redis:7'}\n",
        "docker-compose.prod.yml": f"services:\n  {WEB}}}\n",
    }
    spec, _ = init(tmp_path, files, command)
    assert list(spec.get("accessories", {})) == accessories


def test_a_demonstration_that_no_deploy_names_is_not_mixed_in(tmp_path: Path) -> None:
    """Two environments are deployed from one file; the other file would give them its data of the demonstration."""
    command = "docker compose -f docker-compose.prod.yml up -d"
    other = DEPLOY.replace("environment: production", "environment: dev").replace("COMMAND", command)
    showcase = (
        "services:\n  web: {build: web, environment: {PROFILE: demonstration}}\n  mailbox: {image: 'mailpit:1'}\n"
    )
    files = {
        ".github/workflows/dev.yml": other,
        "docker-compose.prod.yml": f"services:\n  {WEB}}}\n",
        "docker-compose.showcase.yml": showcase,
    }
    spec, result = init(tmp_path, files, command)
    assert "accessories" not in spec
    assert set(spec["services"]["web"]["env"]) == {"PORT"}
    assert (
        "docker-compose.showcase.yml: not used, because docker-compose.prod.yml is complete without it"
        in say(result)
    )


@pytest.mark.parametrize(
    ("command", "prod"),
    [
        ("docker compose up -d", f"services:\n  {WEB}}}\n"),  # the deploy names no file
        ("docker compose -f docker-compose.prod.yml up -d", "services:\n  web: {environment: {PORT: '8080'}}\n"),
    ],
)
def test_a_file_that_a_deploy_may_read_is_used(tmp_path: Path, command: str, prod: str) -> None:
    other = DEPLOY.replace("environment: production", "environment: dev").replace("COMMAND", command)
    files = {
        ".github/workflows/dev.yml": other,
        "docker-compose.prod.yml": prod,
        "docker-compose.yml": "services:\n  web: {build: web}\n  cache: {image: 'redis:7'}\n",
    }
    spec, _ = init(tmp_path, files, command)
    assert list(spec["accessories"]) == ["cache"]


def test_a_second_file_for_one_environment_is_said(tmp_path: Path) -> None:
    files = {f"compose.{name}.prod.yml": f"services:\n  {WEB}}}\n" for name in ("a", "b")}
    _, result = init(tmp_path, files)
    assert "compose.b.prod.yml: not used, because compose.a.prod.yml is for production, too" in say(result)


@pytest.mark.parametrize(
    ("names", "used"),
    [
        (("docker-compose.plesk.yml", "docker-compose.prod.yml"), "docker-compose.prod.yml"),
        (("docker-compose-dev.yml", "docker-compose.yml"), "docker-compose.yml"),
        (("docker-compose.a.yml", "docker-compose.plesk.yml"), "docker-compose.plesk.yml"),
        (("compose.a.prod.yml", "compose.b.prod.yml"), "compose.b.prod.yml"),
    ],
)
@pytest.mark.parametrize("is_named", [True, False])
def test_init_and_diff_take_the_same_compose_file(
    tmp_path: Path, names: tuple[str, str], used: str, is_named: bool
) -> None:
    """The one that the deploy names, although another one has the same container."""
    files = {
        name: f"services:\n  {WEB}, container_name: shop-web, volumes: ['data-{number}:/data']}}\n"
        for number, name in enumerate(names)
    }
    if not is_named and used not in ("docker-compose.prod.yml", "docker-compose.yml"):
        used = names[0]
    spec, result = init(tmp_path, files, f"docker compose -f {used} up -d" if is_named else "docker compose up -d")
    assert spec["services"]["web"]["volumes"] == [f"data-{names.index(used)}:/data"]
    changes = compare_with_draft(tmp_path, result)
    assert [change.item for change in changes if "delete these Compose files" in change.summary] == [f"`{used}`"]
    summary = "these Compose files stay as they are"
    kept_files = [change.item for change in changes if change.summary.startswith(summary)]
    assert kept_files == [f"`{name}`" for name in names if name != used]


BASE = f"services:\n  {WEB}}}\n  db: {{image: 'postgres:16', volumes: ['data:/var/lib/postgresql/data']}}\n"
BASE += "volumes: {data: }\n"
OVERLAY = (
    "services: {web: {ports: ['8080:8080'], labels: {caddy: '${DOMAINS}', caddy.reverse_proxy: '{{upstreams}}'}}}\n"
)


@pytest.mark.parametrize("overlay", ["docker-compose.edge.yml", "docker-compose.prod.yml"])
@pytest.mark.parametrize(
    "command",
    [
        "docker compose -f docker-compose.yml -f OVERLAY up -d",
        "COMPOSE_FILE=docker-compose.yml:OVERLAY docker compose up -d",
        "export COMPOSE_FILE=./docker-compose.yml:./OVERLAY\n            docker compose up -d",
    ],
)
def test_files_that_a_deploy_names_together_are_one(tmp_path: Path, command: str, overlay: str) -> None:
    files = {
        "docker-compose.yml": BASE,
        overlay: OVERLAY,
        "other/docker-compose.yml": "services: {a: {image: 'a:1'}}\n",
    }
    spec, result = init(tmp_path, files, command.replace("OVERLAY", overlay))
    assert spec["services"]["web"]["ports"] == ["8080:8080"]
    assert list(spec["accessories"]) == ["db"]
    assert "the domain of its caddy, ${DOMAINS}" in say(result)
    assert "the domains of web, which today's labels have as variables" in say(result)
    changes = compare_with_draft(tmp_path, result)
    words = "\n".join(change.words for change in changes)
    assert "new container `" not in words and "is declared" not in words.replace("network `proxy` is declared", "")
    assert f"keep `docker-compose.yml`, `{overlay}`, from which other containers are started (`db`)" in words
    kept_files = list_kept_compose_files(changes)
    assert kept_files == ["`other/docker-compose.yml`"]


def test_a_file_may_complete_several_and_be_read_alone(tmp_path: Path) -> None:
    for name in ("prod", "staging", "common"):
        (tmp_path / f"compose.{name}.yml").write_text(f"services: {{{name}: {{image: 'a:1'}}}}\n")
    groups = [("compose.prod.yml", "compose.common.yml"), ("compose.staging.yml", "compose.common.yml")]

    def list_containers(named_groups: Sequence[tuple[str, ...]]) -> dict[str, list[str]]:
        files = read_compose_files(LocalRepository(tmp_path), named_groups=named_groups)
        return {file.path: sorted(container.name for container in file.containers) for file in files}

    both = {"compose.prod.yml": ["common", "prod"], "compose.staging.yml": ["common", "staging"]}
    assert list_containers(groups) == both
    assert list_containers([*groups, ("compose.common.yml",)]) == both | {"compose.common.yml": ["common"]}


@pytest.mark.parametrize(
    ("port", "kind"),
    [
        ("${HTTP_PORT:-80}:80", "none"),
        ("80:80", "none"),
        ("${BIND:-127.0.0.1}:80:80", "custom"),
        ("[::1]:80:80", "custom"),
        ("[::]:80:80", "none"),
    ],
)
def test_a_web_port_counts_with_the_values_of_its_variables(tmp_path: Path, port: str, kind: str) -> None:
    compose = f"services:\n  {WEB}, ports: ['{port}']{CADDY}}}\n"
    spec, _ = init(tmp_path, {"docker-compose.yml": compose})
    assert spec["hosts"]["vps"]["proxy"]["kind"] == kind


def test_a_file_may_complete_one_and_be_completed_by_another(tmp_path: Path) -> None:
    names = ["docker-compose.yml", "docker-compose.edge.yml", "docker-compose.logs.yml"]
    files = dict(zip(names, (BASE, OVERLAY, "services: {web: {labels: {logs: 'on'}}}\n"), strict=True))
    commands = [f"docker compose -f {base} -f {overlay} up -d" for base, overlay in (names[:2], names[1:])]
    spec, result = init(tmp_path, files, " && ".join(commands))
    assert spec["services"]["web"]["ports"] == ["8080:8080"]
    assert compare_with_draft(tmp_path, result)


@pytest.mark.parametrize("command", ["docker compose up -d", "docker compose -f docker-compose.yml up -d"])
def test_a_file_that_no_deploy_names_completes_none(tmp_path: Path, command: str) -> None:
    files = {"docker-compose.yml": BASE, "docker-compose.edge.yml": OVERLAY}
    _, result = init(tmp_path, files, command)
    changes = compare_with_draft(tmp_path, result)
    kept_files = list_kept_compose_files(changes)
    assert kept_files == ["`docker-compose.edge.yml`"]


def list_kept_compose_files(changes: list[PipelineChange]) -> list[str]:
    """The Compose files of which `diff` says that they stay, and that no deploy reads them."""
    return [change.item for change in changes if change.summary.startswith("these Compose files stay as they are")]


def compare_with_draft(folder: Path, result: InitResult) -> list[PipelineChange]:
    """What `diff` reports for a draft that is written into its repository."""
    path = folder / result.path
    path.parent.mkdir(exist_ok=True)
    path.write_text(result.text)
    plan, generated = generator.generate_files(path)
    side = load_folder(folder)
    after = {name: file.text for name, file in generated.items()}
    return list(compare.compare_pipelines(side, plan, after, side).changes)


TWO_ENVIRONMENTS = """\
on: {push: {branches: [dev, main]}}
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - {uses: docker/build-push-action@v6, with: {context: web, push: true, tags: "ghcr.io/example/shop-web:latest"}}
  staging:
    if: github.ref == 'refs/heads/dev'
    uses: ./.github/workflows/_deploy.yml
    secrets: {HOST: '${{ secrets.STAGING_HOST }}', KEY: '${{ secrets.STAGING_KEY }}'}
  production:
    if: github.ref == 'refs/heads/main'
    uses: ./.github/workflows/_deploy.yml
    secrets: {HOST: '${{ secrets.PROD_HOST }}', KEY: '${{ secrets.PROD_KEY }}'}
"""
CALLED_DEPLOY = """\
on: {workflow_call: {secrets: {HOST: {required: true}, KEY: {required: true}}}}
jobs:
  deploy:
    runs-on: ubuntu-latest
    steps:
      - uses: appleboy/ssh-action@v1
        with: {host: '${{ secrets.HOST }}', username: deploy, key: '${{ secrets.KEY }}', script: docker compose up -d}
"""


def test_one_compose_file_of_two_environments(tmp_path: Path) -> None:
    """The project is that of the env file of each, which counts before the file's `name`."""
    files = {
        ".github/workflows/deploy.yml": TWO_ENVIRONMENTS,
        ".github/workflows/_deploy.yml": CALLED_DEPLOY,
        "docker-compose.yml": f"name: shop\n{BASE}",
        ".env.staging.example": "COMPOSE_PROJECT_NAME=shop-staging\n",
        ".env.prod.example": "COMPOSE_PROJECT_NAME=shop-prod\n",
    }
    spec, result = init(tmp_path, files)
    environments = spec["environments"]
    assert {name: table["stack"] for name, table in environments.items()} == {
        "staging": "shop-staging",
        "production": "shop-prod",
    }
    assert environments["staging"]["takeover"]["project"] == "shop-staging"
    changes = compare_with_draft(tmp_path, result)
    words = [f"{change.subject}: {change.words}" for change in changes]
    for name in ("staging", "production"):
        assert any(line.startswith(f"{name}: keep `docker-compose.yml`, from which") for line in words), words
    assert not any("start empty" in line or "no environment of the spec" in line for line in words), words


@pytest.mark.parametrize(
    ("examples", "project"),
    [
        ({".env.production.example": "COMPOSE_PROJECT_NAME='blue'\n"}, "blue"),
        ({".env.staging.example": "COMPOSE_PROJECT_NAME=blue\n"}, ""),
        ({".env.production.example": "COMPOSE_PROJECT_NAME=$NAME\n"}, ""),
        ({f"{folder}/.env.prod.example": f"COMPOSE_PROJECT_NAME={folder}\n" for folder in ("a", "b")}, ""),
        (
            {
                ".env.production.example": "# Generated by kiwari-ci (shop). Edit the spec, then run: "
                "kiwari-ci generate\nCOMPOSE_PROJECT_NAME=shop\n",
                "deploy/.env.prod.example": "COMPOSE_PROJECT_NAME=blue\n",
            },
            "blue",
        ),
    ],
)
def test_init_and_diff_read_the_project_of_an_example_alike(examples: dict[str, str], project: str) -> None:
    snapshot = build_snapshot(FileSet("before", examples), "example/shop")
    project_today = find_project_of_examples(snapshot.examples.values(), "production")
    assert (project_today.value if project_today else "") == project


def test_several_folders_of_one_environment_are_said(tmp_path: Path) -> None:
    _, result = init(tmp_path, {}, "docker compose up -d\n            cd ~/other && docker compose up -d")
    assert "it has 2 folders today, ~/shop, ~/other: here it is one stack" in say(result)


def test_what_ends_is_no_worker(tmp_path: Path) -> None:
    image = "image: 'ghcr.io/example/shop-web:latest'"
    compose = f"services:\n  {WEB}}}\n  migrations: {{{image}, command: [migrate, up], restart: 'no'}}\n"
    spec, _ = init(tmp_path, {"docker-compose.yml": compose})
    assert list(spec["services"]) == ["web"]
    assert spec["services"]["web"]["migrate"] == ["migrate", "up"]


MIGRATIONS = "migrations: {{image: 'ghcr.io/example/shop-web:latest', restart: 'no', command: {command}}}"


def test_the_script_of_a_migration_is_one_line(tmp_path: Path) -> None:
    """A script of several lines that each continue is the same script on one line."""
    migrations = MIGRATIONS.format(command='"sh -c \\"\\n  ./migrate up &&\\n  echo done\\n\\""')
    spec, _ = init(tmp_path, {"docker-compose.yml": f"services:\n  {WEB}}}\n  {migrations}\n"})
    assert spec["services"]["web"]["migrate"] == ["sh", "-c", "./migrate up && echo done"]


def test_a_migration_into_which_compose_fills_a_variable_is_asked_about(tmp_path: Path) -> None:
    """A shell in the container fills it in, if the image has one; the service has no other field for the command."""
    migrations = MIGRATIONS.format(command="'migrate --to ${VERSION}'")
    compose = f"services:\n  {WEB}}}\n  {migrations}\n"
    spec, result = init(tmp_path, {"docker-compose.yml": compose})
    assert spec["services"]["web"]["migrate"] == ["sh", "-c", 'exec migrate --to "$$VERSION"']
    assert spec["services"]["web"]["env"]["VERSION"] == {"secret": True}
    (question,) = [asked for _, asked in result.decisions if "$VERSION into the command of migrations" in asked]
    condition = "if the image has a shell, and its entrypoint runs the command that it gets"
    assert question.endswith(f"keep the drafted command {condition}")
    assert "# command: " not in result.text


def test_a_second_migration_is_listed(tmp_path: Path) -> None:
    """The same command in the file of another environment is no second one."""
    both = [MIGRATIONS.format(command=f"[migrate, {word}]") for word in ("up", "up", "seed")]
    both[2] = both[2].replace("migrations:", "seeds:")
    files = {
        "compose.prod.yml": f"services:\n  {WEB}}}\n  {both[0]}\n  {both[2]}\n",
        "compose.staging.yml": f"services:\n  {WEB}}}\n  {both[1]}\n",
    }
    spec, result = init(tmp_path, files)
    assert spec["services"]["web"]["migrate"] == ["migrate", "up"]
    notes = [line for line in result.seen if "it ends" in line]
    assert notes == ["seeds (compose.prod.yml:4): it ends, and `migrate` has another command"]


@pytest.mark.parametrize("command", ["\"sh -c 'a\\n b'\"", "''"])
def test_a_migration_that_init_cannot_write_is_asked_about(tmp_path: Path, command: str) -> None:
    compose = f"services:\n  {WEB}}}\n  {MIGRATIONS.format(command=command)}\n"
    spec, result = init(tmp_path, {"docker-compose.yml": compose})
    assert "migrate" not in spec["services"]["web"]
    question = (
        "today migrations (docker-compose.yml:3) runs a command with the image of web, and ends: write the command as "
        "`migrate`, or no deploy runs it"
    )
    assert question in [asked for _, asked in result.decisions]


def test_the_port_of_the_server_comes_from_a_secret(tmp_path: Path) -> None:
    command = "docker compose up -d\n          port: ${{ secrets.VPS_SSH_PORT }}"
    spec, _ = init(tmp_path, {}, command)
    assert spec["hosts"]["vps"]["port"] == {"secret": "VPS_SSH_PORT"}


def test_the_build_of_the_workflow_that_deploys_counts(tmp_path: Path) -> None:
    tags = f'tags: "{BUILD}:latest", build-args: "URL=https://ci.example.com"'
    step = f"{{uses: docker/build-push-action@v6, with: {{context: web, {tags}}}}}"
    job = f"on: {{pull_request: {{}}}}\njobs:\n  b: {{runs-on: ubuntu-latest, steps: [{step}]}}\n"
    spec, _ = init(tmp_path, {".github/workflows/a.yml": job})
    assert "args" not in spec["services"]["web"].get("build", {})


def test_a_condition_with_an_alternative_leaves_the_trigger(tmp_path: Path) -> None:
    condition = "${{ github.event.workflow_run.conclusion == 'success' || github.event_name == 'workflow_dispatch' }}"
    workflow = DEPLOY.replace("on: {push: {branches: [main]}}", "name: ship\non: {push: {branches: [main]}}")
    after = "on:\n  workflow_run: {workflows: [ship], branches: [main]}\n  workflow_dispatch: {}\n"
    deploy = f"{after}jobs:{workflow.partition('jobs:')[2]}".replace("needs: build", f"if: {condition}")
    files = {
        ".github/workflows/deploy.yml": workflow.partition("  deploy:")[0],
        ".github/workflows/after.yml": deploy.replace("COMMAND", "docker compose up -d"),
    }
    spec, _ = init(tmp_path, files)
    assert spec["environments"]["production"]["deploy_on"] == {"push": "main"}


@pytest.mark.parametrize(
    ("location", "address"),
    [
        ("location /api/ { proxy_pass http://127.0.0.1:8000; }", "a.example.com/api"),
        (
            "location /api/ { proxy_pass http://127.0.0.1:8000/; }",
            {"domain": "a.example.com", "path": "/api", "strip_path": True},
        ),
    ],
)
def test_paths_in_the_configuration_of_nginx(tmp_path: Path, location: str, address: Any) -> None:
    files = {
        "docker-compose.yml": f"services:\n  {WEB}, ports: ['127.0.0.1:8000:8080']}}\n",
        "nginx/shop.conf": f"server {{ server_name a.example.com; {location} }}",
    }
    spec, _ = init(tmp_path, files)
    assert spec["environments"]["production"]["domains"] == {"web": address}


def test_the_prefix_that_traefik_strips(tmp_path: Path) -> None:
    labels = [
        "traefik.http.routers.w.rule=Host(`a.example.com`) && PathPrefix(`/api`)",
        "traefik.http.routers.w.middlewares=strip",
        "traefik.http.middlewares.strip.stripprefix.prefixes=/api",
    ]
    spec, result = init(tmp_path, {"docker-compose.yml": f"services:\n  {WEB}, labels: {labels}}}\n"})
    written = spec["environments"]["production"]["domains"]["web"]
    assert written == {"domain": "a.example.com", "path": "/api", "strip_path": True}
    assert "stripprefix" not in say(result)


def test_what_a_build_gets_from_elsewhere_is_said(tmp_path: Path) -> None:
    workflow = DEPLOY.replace("push: true,", "push: true, build-contexts: 'spec=./api',")
    _, result = init(tmp_path, {".github/workflows/deploy.yml": workflow.replace("COMMAND", "docker compose up -d")})
    assert "build context spec (.github/workflows/deploy.yml:6)" in say(result)


def test_a_login_in_a_variable_is_no_plain_one(tmp_path: Path) -> None:
    job = (
        "on: {push: {branches: [main]}}\njobs:\n  deploy:\n    runs-on: ubuntu-latest\n    steps:\n"
        '      - {run: \'ssh -i key "$VPS_USER@$VPS_HOST" "docker compose up -d"\', env: '
        '{VPS_USER: "${{ secrets.VPS_USER }}", VPS_HOST: "${{ secrets.VPS_HOST }}"}}\n'
    )
    _, result = init(tmp_path, {".github/workflows/deploy.yml": job})
    assert "logs in as" not in say(result)


def test_a_deploy_that_does_more_is_not_left_beside_the_new_one(tmp_path: Path) -> None:
    more = "      - {name: Tell, uses: slackapi/slack-github-action@v2}\n"
    workflow = DEPLOY.replace("COMMAND", "docker compose up -d") + more
    _, result = init(tmp_path, {".github/workflows/deploy.yml": workflow})
    summary = format_init_result(result, tmp_path)
    assert "# .github/workflows/deploy.yml: deploy would deploy beside the new ones" in summary


def test_many_commands_of_one_step_are_one_thing(tmp_path: Path) -> None:
    commands = "\n".join(f"          tool-{number} run" for number in range(6))
    more = f"      - name: Tell everybody\n        run: |\n{commands}\n"
    workflow = DEPLOY.replace("COMMAND", "docker compose up -d") + more
    _, result = init(tmp_path, {".github/workflows/deploy.yml": workflow})
    summary = format_init_result(result, tmp_path)
    assert "`Tell everybody`" in summary
    assert "tool-0" not in summary


@pytest.mark.parametrize("context", ["inputs", "github.event.inputs"])
def test_each_environment_that_a_person_can_choose_is_one(tmp_path: Path, context: str) -> None:
    choice = "{target: {type: choice, options: [staging, production]}}"
    workflow = DEPLOY.replace("on: {push: {branches: [main]}}", f"on: {{workflow_dispatch: {{inputs: {choice}}}}}")
    workflow = workflow.replace("environment: production", f"environment: ${{{{ {context}.target }}}}")
    workflow = workflow.replace("~/shop", f"~/shop-${{{{ {context}.target }}}}")
    files = {".github/workflows/deploy.yml": workflow.replace("COMMAND", "docker compose up -d")}
    spec, _ = init(tmp_path, files)
    folders = {name: each["takeover"]["folder"] for name, each in spec["environments"].items()}
    assert folders == {"staging": "~/shop-staging", "production": "~/shop-production"}


def test_a_folder_in_the_home_of_the_login(tmp_path: Path) -> None:
    workflow = DEPLOY.replace("cd ~/shop", "cd shop").replace("COMMAND", "docker compose up -d")
    spec, _ = init(tmp_path, {".github/workflows/deploy.yml": workflow})
    assert spec["environments"]["production"]["takeover"]["folder"] == "~/shop"


def test_a_container_that_copies_files_ends(tmp_path: Path) -> None:
    compose = f"services:\n  {WEB}, command: cp -r /app/. /static/, volumes: ['static:/static/']}}\n"
    spec, _ = init(tmp_path, {"docker-compose.yml": f"{compose}volumes: {{static: {{}}}}\n"})
    assert spec["services"]["web"]["once"] is True
    assert spec["services"]["web"]["volumes"] == ["static:/static"]


def test_commands_in_a_container_after_the_deploy_are_said(tmp_path: Path) -> None:
    command = "docker compose up -d && docker compose exec web python manage.py collectstatic"
    _, result = init(tmp_path, {}, command)
    assert "collectstatic" in format_init_result(result, tmp_path)


def test_several_paths_of_one_service(tmp_path: Path) -> None:
    rule = "Host(`a.example.com`) && PathPrefix"
    rules = [f"traefik.http.routers.{name}.rule={rule}(`/{name}`)" for name in ("api", "bot")]
    spec, _ = init(tmp_path, {"docker-compose.yml": f"services:\n  {WEB}, labels: {rules}}}\n"})
    assert spec["environments"]["production"]["domains"] == {"web": ["a.example.com/api", "a.example.com/bot"]}


def test_another_process_of_the_image_is_taken_over_too(tmp_path: Path) -> None:
    """It would run twice if the chapter did not name it."""
    image = "image: 'ghcr.io/example/shop-web:latest'"
    compose = f"services:\n  {WEB}}}\n  worker: {{{image}, command: [work]}}\n"
    spec, _ = init(tmp_path, {"docker-compose.yml": compose})
    assert spec["environments"]["production"]["takeover"]["containers"]["worker"] == "shop-worker-1"


def test_the_question_about_volumes_says_what_the_project_of_today_costs(tmp_path: Path) -> None:
    compose = f"services:\n  {WEB}}}\n  {POSTGRES.replace(', networks: [proxy]', '')}\nvolumes: {{data: {{}}}}\n"
    spec, result = init(tmp_path, {"docker-compose.yml": compose})
    assert spec["environments"]["production"]["stack"] == "shop"
    (question,) = [question for _, question in result.decisions if "db has volumes" in question]
    assert "so they keep their names" in question
    assert "The disadvantage is that `docker compose down` in today's folder stops the new containers, too" in question


def test_the_question_about_volumes_warns_of_empty_ones_where_nobody_knows_the_project(tmp_path: Path) -> None:
    compose = f"services:\n  {WEB}}}\n  {POSTGRES.replace(', networks: [proxy]', '')}\nvolumes: {{data: {{}}}}\n"
    deploy = DEPLOY.replace("COMMAND", "docker compose up -d").replace("cd ~/shop", "cd $FOLDER")
    spec, result = init(tmp_path, {"docker-compose.yml": compose, ".github/workflows/deploy.yml": deploy})
    assert "stack" not in spec["environments"]["production"]
    (question,) = [question for _, question in result.decisions if "STACK_VOLUME" in question]
    assert "a stack with a new name starts with empty ones" in question


@pytest.mark.parametrize(
    ("check", "decision"),
    [
        ("", "no file shows one, and /health is a guess"),
        (", healthcheck: {test: [CMD, curl, -f, 'http://localhost:8080/well']}", ""),
    ],
)
def test_a_health_path_that_no_file_shows_is_a_question(tmp_path: Path, check: str, decision: str) -> None:
    _, result = init(tmp_path, {"docker-compose.yml": f"services:\n  {WEB}{check}}}\n"})
    questions = [question for _, question in result.decisions if "when the service is healthy" in question]
    assert len(questions) == bool(decision)
    assert decision in "".join(questions)


@pytest.mark.parametrize("name", ["postgres_db", "Shop.Data_1"])
def test_a_container_keeps_its_name(tmp_path: Path, name: str) -> None:
    compose = f"services: {{{WEB}, container_name: web_1}}, db: {{image: 'postgres:17', container_name: {name}}}}}"
    spec, _ = init(tmp_path, {"compose.yml": compose})
    production = spec["environments"]["production"]
    assert production["containers"] == production["takeover"]["containers"] == {"web": "web_1", "db": name}


def test_a_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    name = "n" * 64
    compose = f"services: {{{WEB}, container_name: {name}}}}}"
    spec, result = init(tmp_path, {"compose.yml": compose})
    assert "containers" not in spec["environments"]["production"]
    assert f"the container's name {name}" in say(result)


PERSON_CHOOSES = """\
on:
  push: {branches: [main]}
  workflow_dispatch: {inputs: {environment: {type: choice, options: [production, development]}}}
jobs:
  deploy:
    runs-on: ubuntu-latest
    environment: ${{ inputs.environment || 'production' }}
    steps:
      - {uses: docker/build-push-action@v6, with: {context: web, push: true, tags: "ghcr.io/example/shop-web:latest"}}
      - uses: appleboy/ssh-action@v1
        with: {host: "${{ secrets.HOST }}", username: me, key: "${{ secrets.KEY }}", script: docker compose up -d}
"""


def test_the_file_of_a_deployed_environment_for_development_counts(tmp_path: Path) -> None:
    web = "services: {web: {image: 'ghcr.io/example/shop-web:latest', "
    files = {
        ".github/workflows/deploy.yml": PERSON_CHOOSES,
        "compose.prod.yml": f"{web}environment: {{MODE: production}}, deploy: {{replicas: 3}}}}}}",
        "compose.dev.yml": f"{web}environment: {{MODE: development, TRACE: '1'}}, mem_limit: 1g}}}}",
        "compose.override.yml": "services: {web: {environment: {MODE: laptop}}}",
    }
    spec, result = init(tmp_path, files)
    assert spec["services"]["web"]["env"] == {"MODE": "production"}
    assert spec["environments"]["development"]["overrides"] == {
        "web": {"env": {"MODE": "development", "TRACE": "1"}, "mem_limit": "1g", "replicas": 1}
    }
    assert "overrides" not in spec["environments"]["production"]
    assert spec["environments"]["production"]["tag"] == "latest"
    assert "tag" not in spec["environments"]["development"]
    assert "whether the server of development runs compose.dev.yml: keep `overrides`; or leave it out" in say(result)


@pytest.mark.parametrize(
    ("container", "keys"),
    [
        ("environment: {MODE: production}", {"MODE"}),
        ("environment: {MODE: production}, env_file: .env", {"MODE", "LOG_LEVEL", "CLIENT_SECRET"}),
        ("restart: always", {"LOG_LEVEL", "CLIENT_SECRET"}),
    ],
)
def test_the_example_of_developers_is_not_what_production_needs(tmp_path: Path, container: str, keys: set[str]) -> None:
    files = {
        "compose.prod.yml": f"services: {{web: {{image: 'ghcr.io/example/shop-web:latest', {container}}}}}",
        "web/package.json": "{}",
        "web/.env.example": "LOG_LEVEL=debug\nCLIENT_SECRET=dev\n",
    }
    spec, result = init(tmp_path, files)
    assert spec["services"]["web"]["env"].keys() == keys
    is_told = "not in its environment (compose.prod.yml:1): LOG_LEVEL (web/.env.example:1)" in say(result)
    assert is_told == ("LOG_LEVEL" not in keys)


def test_replicas_of_today_are_taken_over_one_by_one(tmp_path: Path) -> None:
    worker = "worker: {image: 'ghcr.io/example/shop-web:latest', command: [work], deploy: {replicas: 3}}"
    spec, _ = init(tmp_path, {"compose.yml": f"services: {{{WEB}}}, {worker}}}"})
    assert spec["environments"]["production"]["takeover"]["containers"] == {
        "web": "shop-web-1",
        "worker": ["shop-worker-1", "shop-worker-2", "shop-worker-3"],
    }


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ("server.servlet.context-path=/shop\n", "/shop/actuator/health"),
        ("management.endpoints.web.base-path=/manage\n", "/manage/health"),
        ("server:\n  servlet:\n    context-path: ${BASE:/shop}\n", "/shop/actuator/health"),
        ("server.port=8080\n", "/actuator/health"),
    ],
)
def test_the_paths_of_spring_boot_are_part_of_the_guess(tmp_path: Path, settings: str, path: str) -> None:
    files = {
        "web/pom.xml": "<artifactId>spring-boot-starter-actuator</artifactId>",
        "web/src/main/resources/application.yml": settings,
    }
    spec, _ = init(tmp_path, files)
    assert spec["services"]["web"]["health"] == {"path": path}


@pytest.mark.parametrize(("port", "path"), [(8080, "/api/health"), (9999, "/status")])
def test_the_path_that_a_deploy_asks_is_better_than_a_guess(tmp_path: Path, port: int, path: str) -> None:
    command = f"docker compose up -d && curl -f http://localhost:{port}/api/health"
    spec, _ = init(tmp_path, {"web/main.go": 'Handle("/status")'}, command)
    assert spec["services"]["web"]["health"] == {"path": path}


@pytest.mark.parametrize(
    ("check", "is_asked"),
    [
        ("curl -fsL http://localhost:8080/admin/", True),
        ("wget -q --spider http://localhost:8080/admin/", True),
        ("curl -fs http://localhost:8080/admin/", True),
        ("wget -q --spider http://localhost:8080/health", False),
    ],
)
def test_a_check_that_accepts_redirects_is_asked(tmp_path: Path, check: str, is_asked: bool) -> None:
    _, result = init(tmp_path, {"compose.yml": f"services: {{{WEB}, healthcheck: {{test: '{check}'}}}}}}"})
    assert ("for a redirect, write its status, as in `health: {path: /admin/, status: 302}`" in say(result)) == is_asked


def test_the_port_of_a_cache_is_not_that_of_the_service(tmp_path: Path) -> None:
    source = '<?php return ["port" => env("MEMCACHED_PORT", 11211), "other_port" => env("APP_PORT", 8123 + 1)];'
    files = {"web/Dockerfile": "FROM a\nCOPY . .\n", "web/config/cache.php": source, "web/composer.json": "{}"}
    _, result = init(tmp_path, files)
    assert "11211" not in result.text


def test_the_summary_names_only_what_the_draft_has(tmp_path: Path) -> None:
    image = "image: 'ghcr.io/example/shop-web:latest'"
    migrate = f"migrations: {{{image}, command: '${{COMMAND}}', restart: 'no'}}"
    _, result = init(tmp_path, {"compose.yml": f"services: {{{WEB}}}, worker: {{{image}, command: work}}, {migrate}}}"})
    assert result.services == {"web": "web/Dockerfile, port 8080, worker"}
    assert "migrations (compose.yml:1)" in say(result)


TWO_SERVERS = """\
on: {push: {branches: [dev], tags: ['v*']}}
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - {uses: docker/build-push-action@v6, with: {context: web, push: true, tags: "ghcr.io/example/shop-web:latest"}}
  staging:
    if: github.ref == 'refs/heads/dev'
    needs: build
    runs-on: ubuntu-latest
    environment: staging
    steps: [{uses: appleboy/ssh-action@v1, with: {host: "${{ secrets.A_HOST }}", script: "COMMAND"}}]
  production:
    if: startsWith(github.ref, 'refs/tags/v')
    needs: build
    runs-on: ubuntu-latest
    environment: production
    steps: [{uses: appleboy/ssh-action@v1, with: {host: "${{ secrets.B_HOST }}", script: "COMMAND"}}]
"""


@pytest.mark.parametrize(
    ("override", "second_host", "production"),
    [
        ("web: {environment: {LEVEL: info}}", "B_HOST", {"web": "shop_web", "cache": "shop_cache"}),
        ("web: {container_name: shop_other}", "B_HOST", {"web": "shop_other", "cache": "shop_cache"}),
        # One server cannot have two containers of one name, so GitHub keeps two addresses under one name.
        ("web: {environment: {LEVEL: info}}", "A_HOST", {"web": "shop_web", "cache": "shop_cache"}),
        # A complete file stands alone.
        ("web: {image: 'ghcr.io/example/shop-web:latest', container_name: own}", "B_HOST", {"web": "own"}),
    ],
)
def test_the_base_of_an_override_file_names_the_containers_of_each_server(
    tmp_path: Path, override: str, second_host: str, production: dict[str, str]
) -> None:
    base = """\
services:
  web: {image: 'ghcr.io/example/shop-web:latest', container_name: shop_web, expose: [8080]}
  cache: {image: 'redis:7', container_name: shop_cache}
"""
    command = "docker compose -f compose.yml -f compose.prod.yml up -d"
    workflow = TWO_SERVERS.replace("COMMAND", command).replace("B_HOST", second_host)
    compose_files = {"compose.yml": base, "compose.prod.yml": f"services:\n  {override}\n"}
    data, _ = init(tmp_path, {**compose_files, ".github/workflows/deploy.yml": workflow})
    assert data["environments"]["production"]["takeover"]["containers"] == production


@pytest.mark.parametrize("more", ["", "location / { fastcgi_pass app:9000; }"])
def test_a_web_server_that_the_repository_builds_keeps_its_ports(tmp_path: Path, more: str) -> None:
    """It is a service, which a deploy replaces, and no proxy that stays."""
    deploy = DEPLOY.replace("COMMAND", "docker compose up -d").replace(
        "ghcr.io/example/shop-web:latest", "ghcr.io/example/shop-nginx:latest"
    )
    compose = "services: {nginx: {image: 'ghcr.io/example/shop-nginx:latest', ports: ['80:80', '443:443']}}\n"
    files = {"docker-compose.yml": compose, ".github/workflows/deploy.yml": deploy, "web/site.conf": more}
    data, result = init(tmp_path, files)
    assert data["hosts"]["vps"]["proxy"] == {"kind": "none"}
    (service,) = data["services"].values()
    assert service["ports"] == ["80:80", "443:443"]
    assert "is the proxy today" not in say(result)
    assert "in front of the services" not in say(result)


@pytest.mark.parametrize("is_shared", [True, False])
def test_each_server_has_the_volumes_of_a_file_for_all_environments(is_shared: bool, tmp_path: Path) -> None:
    """On a server that environments share, only one of them can have a volume, and the other one is asked about."""
    deploy = """on: {push: {%s}}
jobs:
  deploy:
    environment: %s
    steps:
      - uses: appleboy/ssh-action@v1
        with: {host: '${{ secrets.%s_HOST }}', script: cd %s && docker compose up -d}
"""
    other_host = "ONE" if is_shared else "TWO"
    files = {
        "web/Dockerfile": "FROM scratch\nEXPOSE 80\n",
        "docker-compose.yml": "services:\n  web: {build: web, volumes: ['data:/data']}\n"
        "volumes: {data: {name: shop_data, external: true}}\n",
        ".github/workflows/net.yml": deploy % ("branches: [main]", "shop-net", "ONE", "/srv/net"),
        ".github/workflows/org.yml": deploy % ("tags: ['v*']", "shop-org", other_host, "/srv/org"),
    }
    spec, result = draft_files(tmp_path, files)
    assert spec["environments"]["shop-org"]["volumes"] == {"data": "shop_data"}
    assert spec["environments"]["shop-net"].get("volumes") == (None if is_shared else {"data": "shop_data"})
    questions = [question for _, question in result.decisions if "volumes: {data: shop_data}" in question]
    assert len(questions) == is_shared


def test_an_address_of_another_combination_of_the_matrix_is_not_one_of_the_environment(tmp_path: Path) -> None:
    step = "{if: matrix.env == '%s', run: 'echo URL=https://%s >> $GITHUB_ENV'}"
    files = {
        "web/Dockerfile": "FROM scratch\nEXPOSE 80\n",
        ".github/workflows/deploy.yml": f"""on: {{push: {{branches: [main], tags: ['v*']}}}}
jobs:
  deploy:
    environment: ${{{{ matrix.env }}}}
    strategy: {{matrix: {{env: ["${{{{ startsWith(github.ref, 'refs/tags/v') && 'shop-org' || 'shop-net' }}}}"]}}}}
    steps:
      - {step % ("shop-net", "shop.example.net")}
      - {step % ("shop-net", "login.example.net")}
      - {step % ("shop-org", "shop.example.org")}
      - {{uses: appleboy/ssh-action@v1, with: {{host: 192.0.2.1, script: cd shop && docker compose up -d}}}}
""",
    }
    spec, _ = draft_files(tmp_path, files)
    domains = {name: environment["domains"] for name, environment in spec["environments"].items()}
    assert domains == {"shop-net": {"web": "shop.example.net"}, "shop-org": {"web": "shop.example.org"}}


@pytest.mark.parametrize(
    ("condition", "is_told"),
    [
        ("true", True),
        ("github.event_name == 'push' || github.event.pull_request.user.login != 'dependabot[bot]'", True),
        ("github.event_name == 'push'", False),
        ("github.event_name != 'pull_request'", False),
    ],
)
def test_pull_requests_that_are_deployed_today_are_asked_about(tmp_path: Path, condition: str, is_told: bool) -> None:
    job = DEPLOY.replace("on: {push: {branches: [main]}}", "on: {push: {branches: [main]}, pull_request: {}}")
    assert job != DEPLOY
    job = job.replace("needs: build", f'needs: build\n    if: "{condition}"').replace("COMMAND", "docker compose up -d")
    _, result = init(tmp_path, {".github/workflows/deploy.yml": job})
    assert ("deploys pull requests, too, today, and here nothing does" in say(result)) is is_told


@pytest.mark.parametrize(
    ("mount", "folder", "volumes"),
    [
        ("./uploads:/uploads", "/srv/shop", ["/srv/shop/uploads:/uploads"]),
        ("../data:/data", "/srv/shop", ["/srv/data:/data"]),
        ("./app.ini:/etc/app.ini:ro", "/srv/shop", []),  # a setting: `files`
        ("./init:/docker-entrypoint-initdb.d", "/srv/shop", []),  # the repository has it
        ("./uploads:/uploads", "~/shop", []),  # nobody knows where the home directory is
    ],
)
def test_data_beside_the_compose_file_of_today_is_named_in_full(
    tmp_path: Path, mount: str, folder: str, volumes: list[str]
) -> None:
    """The new Compose file is in another folder, where `./uploads` would be empty."""
    compose = f"services: {{{WEB}, volumes: ['{mount}']}}, db: {{image: 'postgres:17', volumes: ['{mount}']}}}}\n"
    workflow = DEPLOY.replace("cd ~/shop", f"cd {folder}").replace("COMMAND", "docker compose up -d")
    files = {"compose.yml": compose, "init/a.sql": "", ".github/workflows/deploy.yml": workflow}
    spec, _ = init(tmp_path, files)
    assert spec["services"]["web"].get("volumes", []) == volumes
    assert spec["accessories"]["db"].get("volumes", []) == volumes


@pytest.mark.parametrize(
    ("commands", "folder"),
    [
        ("cd /srv/shop && docker compose -f docker/compose.yml up -d", "/srv/shop/docker"),
        ("cd /srv/shop && export COMPOSE_FILE=docker/compose.yml && docker compose up -d", "/srv/shop/docker"),
        ("cd /srv/shop && docker compose -f /srv/other/compose.yml up -d", "/srv/other"),
        ("cd ~/shop && docker compose -f docker/compose.yml up -d", "~/shop/docker"),
        ("cd /srv/shop && docker compose -f ./compose.yml up -d", "/srv/shop"),
        ("docker compose -f docker/compose.yml build && cd /srv/shop && docker compose up -d", "/srv/shop"),
        ("cd /srv/shop && docker compose --project-directory /srv/shop -f docker/compose.yml up -d", "/srv/shop"),
    ],
)
def test_the_folder_of_today_is_that_of_the_compose_file(tmp_path: Path, commands: str, folder: str) -> None:
    """Compose takes `./uploads` from there, and the name of the project."""
    compose = f"services: {{{WEB}, volumes: ['./uploads:/uploads']}}}}\n"
    workflow = DEPLOY.replace("            cd ~/shop\n", "").replace("COMMAND", commands)
    spec, _ = init(tmp_path, {"docker/compose.yml": compose, ".github/workflows/deploy.yml": workflow})
    takeover = spec["environments"]["production"]["takeover"]
    assert takeover["folder"] == folder
    assert takeover["project"] == folder.rpartition("/")[2]
    data_folder = [] if folder.startswith("~") else [f"{folder}/uploads:/uploads"]
    assert spec["services"]["web"].get("volumes", []) == data_folder
