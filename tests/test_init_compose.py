"""`kiwari-ci init`, and the long tail of compose files and workflows: nothing is lost, no secret is copied."""

import json
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci.commands.init.draft_text import InitResult
from tests.init_drafts import draft_files

DOCKERFILE = "FROM scratch\nCOPY . .\nEXPOSE 8080\n"
WEB = "services: {web: {build: ., "

DEPLOYED = {
    ".github/workflows/deploy.yml": """\
on: {push: {branches: [main]}}
jobs:
  deploy:
    runs-on: ubuntu-latest
    steps:
      - run: ssh deploy@192.0.2.1 'cd /srv/shop && docker compose up -d'
"""
}


def init(folder: Path, files: dict[str, str]) -> tuple[dict[str, Any], InitResult]:
    """The spec that is made of some files, and what is said beside it."""
    return draft_files(folder, {"Dockerfile": DOCKERFILE, **files})


def workflow(job: str, on: str = "push: {branches: [main]}") -> dict[str, str]:
    """A workflow with one job."""
    return {".github/workflows/a.yml": f"on: {{{on}}}\njobs:\n  a: {{runs-on: ubuntu-latest, {job}}}\n"}


@pytest.mark.parametrize(
    "container",
    [
        "image: 'mysql:8', healthcheck: {test: 'mysqladmin ping -p${DB_PASSWORD}'}",
        "image: 'mysql:8', healthcheck: {test: 'mysqladmin ping -phunter2'}",
        "image: 'mysql:8', command: 'run --with ${DB_PASSWORD:-hunter2}'",
        "image: 'mysql:8', labels: {a.b: '${DB_PASSWORD}'}",
        "image: 'redis:7', healthcheck: {test: 'redis-cli -a hunter2 ping'}",
        "image: 'minio/mc:1', command: 'mc alias set m http://minio:9000 admin hunter2'",
        """image: 'alpine:3', command: [curl, "-H", "Authorization: Bearer hunter2", x]""",
        "image: 'mssql:1', environment: {CONNECTION: 'Server=x;User Id=sa;Password=hunter2'}",
    ],
)
def test_no_secret_is_copied(tmp_path: Path, container: str) -> None:
    compose = f"{WEB}environment: {{A: '${{DB_PASSWORD}}'}}}}, other: {{{container}}}}}"
    _, first = init(tmp_path, {"compose.yml": compose, ".env": "DB_PASSWORD=hunter2\n"})
    assert "hunter2" not in first.text + json.dumps([first.seen, first.decisions, first.troubles])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("extends: {file: base.yml, service: x}", "extends (base.yml, x)"),
        ("ports: [{target: 8080, published: 80, host_ip: 127.0.0.1}]", "ports 127.0.0.1:80:8080"),
        ("volumes: [{type: tmpfs, target: /tmp}]", "volume tmpfs:/tmp"),
        ("volumes: ['data:/data']", "driver_opts of the volume data"),
        ("deploy: {resources: {reservations: {memory: 1G}}}", "resources (memory)"),
        ("scale: 40", "replicas 40"),
        ("networks: {default: {aliases: [w]}}", "aliases in the network default"),
        ("healthcheck: {test: [CMD, node, check.js]}", "healthcheck (CMD, node, check.js)"),
        ("healthcheck: {disable: true}", "healthcheck"),
        ("restart: 'no'", "restart: no"),
        ("labels: ['traefik.http.middlewares.a.basicauth.users=x:y']", "label traefik.http.middlewares.a.basicauth"),
        ("labels: {traefik.http.routers.a.rule: 'Host(`a.example.com`) && Path(`/b`)'}", "more of its router's rule"),
        ("labels: {traefik.http.routers.a.rule: 'Host(`a.example.com`) && (PathPrefix(`/b`) || PathPrefix(`/c`))'}",
         "the paths of its router's rule, which `domains` takes: a.example.com/b, a.example.com/c"),
        ("labels: {traefik.http.routers.a.rule: 'Host(`a.${DOMAIN}`)'}", "the domain of its rule, `a.${DOMAIN}`"),
        ("env_file: .env", "env_file .env, of whose keys there is no example"),
    ],
)  # fmt: skip
def test_what_has_no_place_is_told(tmp_path: Path, more: str, message: str) -> None:
    compose = f"{WEB}{more}}}}}\nvolumes: {{data: {{driver_opts: {{type: nfs}}}}}}\n"
    _, first = init(tmp_path, {"compose.yml": compose, ".env": "DOMAIN=localhost\n"})
    assert any(message in line for line in first.seen), first.seen


def test_volumes_with_a_name_of_their_own_are_kept(tmp_path: Path) -> None:
    compose = (
        f"{WEB}volumes: ['up:/srv', 'data:/data', 'tmp:/x']}}}}\n"
        "volumes: {up: {external: true}, data: {name: old_Data}, tmp: {}, unused: {external: true}}\n"
    )
    spec, first = init(tmp_path, {"compose.yml": compose})
    (environment,) = spec["environments"].values()
    assert environment["volumes"] == {"up": "up", "data": "old_Data"}
    assert not any("volume" in line for line in first.seen), first.seen


def test_what_others_wait_for_until_it_has_ended_runs_once(tmp_path: Path) -> None:
    compose = (
        "services:\n"
        "  front: {build: {context: ., dockerfile: front/Dockerfile}, volumes: ['site:/site']}\n"
        "  web: {build: ., ports: ['8080'], depends_on: {front: {condition: service_completed_successfully}}}\n"
        "volumes: {site: {}}\n"
    )
    spec, _ = init(tmp_path, {"compose.yml": compose, "front/Dockerfile": "FROM scratch\nCOPY front /front\n"})
    assert spec["services"]["front"]["once"] is True
    assert "port" not in spec["services"]["front"]
    assert spec["services"]["web"]["depends_on"] == {"front": "completed"}


def test_a_long_list_of_what_is_left_is_told_to_its_end(tmp_path: Path) -> None:
    more = ", ".join(f"labels{number}: {'x' * 60}" for number in range(9))
    _, first = init(tmp_path, {"compose.yml": f"{WEB}{more}}}}}"})
    assert all(f"labels{number}" in first.text for number in range(9))


def test_a_container_has_what_it_extends_in_its_file(tmp_path: Path) -> None:
    compose = """\
services:
  base: {image: 'alpine:3', profiles: [base], environment: {LEVEL: warn, A: a}, labels: [a.b=c], mem_limit: 64m}
  web: {extends: base, build: ., environment: {LEVEL: info}, labels: [d.e=f]}
  loop: {extends: {service: loop}, image: 'alpine:3'}
"""
    spec, first = init(tmp_path, {"compose.yml": compose})
    web = spec["services"]["web"]
    assert (web["env"], web["labels"], web["mem_limit"]) == (
        {"LEVEL": "info", "A": "a"}, {"a.b": "c", "d.e": "f"}, "64m"
    )  # fmt: skip
    assert any("base" in line and "runs only with the profile" in line for line in first.seen)


def test_other_stages_and_arguments_are_services_of_their_own(tmp_path: Path) -> None:
    """Not other processes of one image, which would run the wrong program."""
    compose = """\
services:
  api: {build: {context: ., target: api}, ports: ['8080']}
  worker: {build: {context: ., target: worker, args: {CMD: worker}}}
  beat: {build: {context: ., target: api}, command: beat}
"""
    spec, _ = init(tmp_path, {"compose.prod.yml": compose, "compose.staging.yml": compose})
    assert {name: entry.get("build", entry.get("image_of")) for name, entry in spec["services"].items()} == {
        "api": {"dockerfile": "Dockerfile", "target": "api"},
        "beat": "api",
        "worker": {"dockerfile": "Dockerfile", "args": {"CMD": "worker"}, "target": "worker"},
    }
    assert "port" not in spec["services"]["worker"]


def test_a_matrix_builds_several_images_of_one_dockerfile(tmp_path: Path) -> None:
    step = (
        "{uses: docker/build-push-action@v6, with: {tags: 'ghcr.io/example/shop-${{ matrix.cmd }}', "
        "build-args: 'CMD=${{ matrix.cmd }}', target: '${{ matrix.cmd }}'}}"
    )
    job = f"strategy: {{matrix: {{cmd: [worker, api]}}}}, steps: [{step}]"
    compose = (
        "services: {worker: {image: 'ghcr.io/example/shop-worker:1'}, "
        "api: {image: 'ghcr.io/example/shop-api:1', ports: ['8080']}}"
    )
    spec, first = init(tmp_path, {"compose.yml": compose, **workflow(job)})
    builds = {name: entry["build"] for name, entry in spec["services"].items()}
    assert {name: (entry["target"], entry["args"]) for name, entry in builds.items()} == {
        "api": ("api", {"CMD": "api"}), "worker": ("worker", {"CMD": "worker"})
    }  # fmt: skip
    assert not any("built otherwise" in line for line in first.seen)


def test_options_of_docker_build(tmp_path: Path) -> None:
    run = (
        "docker build -t shop --build-arg A=1 --build-arg B=$GITHUB_SHA --build-arg C=${{ github.sha }} "
        "--target final --platform linux/arm64 --secret id=npm,env=NPM ."
    )
    spec, first = init(tmp_path, workflow(f"steps: [{{run: '{run}'}}]"))
    build = next(iter(spec["services"].values()))["build"]
    assert (build["args"], build["target"], build["platforms"]) == ({"A": "1"}, "final", ["linux/arm64"])
    messages = " ".join(first.seen)
    assert all(message in messages for message in ("build argument B", "build argument C", "build secret id=npm"))


def test_a_script_goes_into_folders(tmp_path: Path) -> None:
    """In a subshell for the line, else to the script's end."""
    script = "(cd a && docker build -t x/a .)\\ncd b\\ndocker build -t x/b ."
    job = workflow(f'steps: [{{run: "{script}"}}]')
    both = {f"{name}/{file}": text for name in "ab" for file, text in (("Dockerfile", DOCKERFILE), ("x", ""))}
    spec, _ = init(tmp_path, {**job, **both})
    assert {name: entry["build"]["context"] for name, entry in spec["services"].items()} == {"a": "a", "b": "b"}


def test_a_folder_that_an_expression_ends_is_no_folder(tmp_path: Path) -> None:
    spec, _ = init(tmp_path, workflow("steps: [{run: \"ssh u@h 'cd /srv/${{ inputs.env }} && up'\"}]"))
    assert "stack" not in spec["environments"]["production"]


def test_what_migrates_and_ends_is_not_the_service(tmp_path: Path) -> None:
    """Also when it comes first, as in the template of FastAPI."""
    compose = """\
services:
  prestart: {image: 'backend:1', build: ., command: bash prestart.sh}
  backend:
    image: 'backend:1'
    build: .
    depends_on: {prestart: {condition: service_completed_successfully}}
  seed: {image: 'backend:1', build: ., command: seed, profiles: [tools]}
"""
    spec, first = init(tmp_path, {"compose.yml": compose})
    (service,) = spec["services"].values()
    assert service["migrate"] == ["bash", "prestart.sh"] and "command" not in service
    assert any("seed" in line and "runs only with the profile tools" in line for line in first.seen)


def test_a_value_of_development_is_no_fact_of_production(tmp_path: Path) -> None:
    compose = (
        f"{WEB.replace('build: .', 'build: {context: ., args: {API: https://api.${DOMAIN}}}')}"
        "labels: {traefik.http.routers.a.rule: 'Host(`www.${DOMAIN}`)'}}}"
    )
    spec, _ = init(tmp_path, {"compose.yml": compose, ".env": "DOMAIN=localhost\n"})
    assert "localhost" not in json.dumps(spec)


@pytest.mark.parametrize(
    ("tags", "condition", "tag"),
    [
        ("['v*', 'v*-rc*']", "contains(github.ref, '-rc')", "v*-rc*"),
        ("['v*', 'v*-rc*']", "!contains(github.ref, '-rc')", "v*"),
        ("['v*-rc.[0-9]+']", "", "v*-rc.*"),
        ("['v*']", "contains(github.ref_name, '-beta.')", "v*-beta*"),
    ],
)
def test_candidates_and_finals(tmp_path: Path, tags: str, condition: str, tag: str) -> None:
    job = f'if: "{condition}", steps: [{{run: ssh a@b up}}]'
    spec, _ = init(
        tmp_path, workflow(job, f"push: {{branches: [main], tags: {tags}}}" if condition else f"push: {{tags: {tags}}}")
    )
    assert [environment["deploy_on"] for environment in spec["environments"].values()] == [{"tag": tag}]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("uses: appleboy/ssh-action@v1, with: {username: deploy, port: 2222, proxy_host: b}",
         "logs in as deploy, by port 2222, through another machine"),
        ("run: ssh -p 2222 -J j@b root@c up", "logs in as root, by port 2222, through another machine"),
        ('run: ssh -o ProxyCommand="cloudflared access ssh --hostname %h" root@c up', "through ProxyCommand: `hosts.*"),
        ("run: tailscale up --auth-key=x && ssh root@c up", "through tailscale up: `hosts.*.proxy_command`"),
    ],
)  # fmt: skip
def test_how_a_deploy_logs_in_is_told(tmp_path: Path, step: str, words: str) -> None:
    _, first = init(tmp_path, workflow(f"steps: [{{{step}}}]"))
    assert any(words in text for _, text in first.decisions)


def test_an_environment_that_a_person_names_is_told(tmp_path: Path) -> None:
    job = "environment: '${{ inputs.environment }}', steps: [{run: ssh a@b up}]"
    _, first = init(tmp_path, workflow(job, "workflow_dispatch: {inputs: {environment: {type: environment}}}"))
    assert any("who starts it names the environment" in text for _, text in first.decisions)


def test_a_server_and_an_image_of_a_database_are_told_with_all_that_is_of_them(tmp_path: Path) -> None:
    compose = """\
services:
  web: {build: ., environment: {DATABASE_URL: 'postgres://a:b@db/c?schema=public'}}
  search: {build: search}
  queue: {build: search, command: artisan}
  db: {image: 'postgres:16', command: -c max_connections=200, volumes: ['./init:/docker-entrypoint-initdb.d']}
  adminer: {image: 'adminer:4', labels: {traefik.http.routers.a.rule: 'Host(`db.example.com`)'}}
"""
    _, first = init(
        tmp_path, {"compose.yml": compose, "search/Dockerfile": "FROM redis:7\nCOPY search /x\n", "search/x": ""}
    )
    messages = "\n".join(first.seen)
    assert "db (compose.yml:5): command" in messages and "volume ./init:" in messages
    assert "the domain db.example.com" in messages and "queue (compose.yml:4), of its image" in messages
    assert "today with ?schema=public" in first.text


def test_a_key_that_the_spec_cannot_have_hides_no_other(tmp_path: Path) -> None:
    search = "search: {image: 'elastic:9', environment: {discovery type: one, B: b}}"
    spec, first = init(tmp_path, {"compose.yml": f"services: {{web: {{build: .}}, {search}}}"})
    assert spec["accessories"]["search"]["environment"] == {"B": "b"}
    assert any("environment discovery type" in line for line in first.seen)


@pytest.mark.parametrize(
    ("reference", "env_example", "namespace"),
    [
        ("${REGISTRY}/shop/api:${TAG}", None, None),
        ("${API_IMAGE:?}", None, None),
        ("${REGISTRY:-ghcr.io/acme}/shop/api:${TAG}", None, "acme"),
        ("${REGISTRY}/shop/api:${TAG}", "REGISTRY=ghcr.io/acme\n", "acme"),
    ],
)
def test_an_image_with_variables_is_the_image_of_the_service_of_its_name(
    tmp_path: Path, reference: str, env_example: str | None, namespace: str | None
) -> None:
    """Nothing here builds it; defaults and env examples say its name, and what they do not say is asked."""
    compose = f"services: {{api: {{image: '{reference}', environment: {{LOG_LEVEL: info}}}}}}"
    files = {"api/Dockerfile": DOCKERFILE, "api/main.js": "", "deploy/compose.prod.yml": compose}
    if env_example:
        files[".env.example"] = env_example
    spec, result = init(tmp_path, files)
    assert spec["services"]["api"]["env"]["LOG_LEVEL"] == "info"
    questions = [question for _, question in result.decisions if "the image of api is today" in question]
    if namespace:
        assert spec["registry"] == {"namespace": namespace}
        assert spec["services"]["api"]["image"] == "shop/api"
        assert not questions
    else:
        assert len(questions) == 1


def test_a_version_that_only_a_variable_has_is_asked(tmp_path: Path) -> None:
    compose = "{cache: {image: 'redis:${REDIS_VERSION}'}, queue: {image: 'rabbitmq:${QUEUE_VERSION:-4}'}}"
    spec, result = init(tmp_path, {"compose.yml": f"services: {compose}"})
    assert spec["accessories"]["cache"]["image"] == "redis:VERSION"
    assert spec["accessories"]["queue"]["image"] == "rabbitmq:4"
    questions = [question for _, question in result.decisions if "the version of" in question]
    assert questions == ["the version of redis:${REDIS_VERSION}: no default and no env example has it"]


def test_an_image_that_only_a_variable_names_is_told(tmp_path: Path) -> None:
    _, result = init(tmp_path, {"compose.yml": "services: {search: {image: '${SEARCH_IMAGE}'}}"})
    assert any(
        line.startswith("search (compose.yml:1): ${SEARCH_IMAGE}, which only a variable") for line in result.seen
    )


def test_a_container_that_has_only_the_name_of_a_service_is_told(tmp_path: Path) -> None:
    files = {"api/Dockerfile": DOCKERFILE, "api/main.js": "", "compose.yml": "services: {api: {image: 'other/api:1'}}"}
    _, result = init(tmp_path, files)
    assert "api (compose.yml:1): other/api:1, not the image that is built for the service api" in result.seen


BASE = """\
services:
  api:
    build: .
    environment: {LOG: info, MODE: a}
    command: [./api, --base]
    mem_limit: 128m
    volumes: ["data:/data"]
    healthcheck: {test: [CMD, curl, -f, "http://localhost:8080/base"], retries: 5}
    stop_grace_period: 20s
  mail: {image: "mailpit:1"}
volumes: {data: {}, more: {}}
"""


@pytest.mark.parametrize("stem", ["compose", "deploy/docker-compose"])
def test_an_override_for_production_counts(tmp_path: Path, stem: str) -> None:
    names = (f"{stem}.yml", f"{stem}.prod.yml")
    override = """\
services:
  api:
    environment: {LOG: warn}
    command: [./api, --prod]
    mem_limit: 512m
    volumes: ["more:/more"]
    healthcheck: {test: [CMD, curl, -f, "http://localhost:8080/prod"]}
    stop_grace_period: !reset null
  mail: !reset null
"""
    base = BASE.replace("build: .", "build: ..") if "/" in stem else BASE
    spec, first = init(tmp_path, dict(zip(names, (base, override), strict=True)))
    api = spec["services"]["api"]
    assert {"LOG": "warn", "MODE": "a"}.items() <= {**api.get("env", {}), **api.get("environment", {})}.items()
    assert (api["command"], api["mem_limit"], api["health"]["path"]) == (["./api", "--prod"], "512m", "/prod")
    assert api["volumes"] == ["data:/data", "more:/more"]
    assert "stop_grace_period" not in api
    assert "accessories" not in spec
    assert f"LOG: warn # {names[1]}:3" in first.text
    assert f"MODE: a # {names[0]}:4" in first.text


def test_what_a_compose_file_includes(tmp_path: Path) -> None:
    compose = "include: [deploy/cache.yaml, {path: [more.yaml, gone.yaml]}]\n"
    compose += "services: {api: {build: ., depends_on: [cache], environment: {REDIS_URL: 'redis://cache:6379'}}}\n"
    cache = "services: {cache: {image: 'redis:7-alpine'}}\n"
    files = {
        "compose.yaml": compose,
        "deploy/cache.yaml": cache,
        "more.yaml": "services: {mq: {image: 'rabbitmq:4'}}\n",
    }
    spec, first = init(tmp_path, files)
    assert set(spec["accessories"]) == {"cache", "mq"}
    assert spec["services"]["api"]["depends_on"] == {"cache": "started"} or spec["services"]["api"]["depends_on"] == [
        "cache"
    ]
    assert "compose.yaml: includes gone.yaml, which is not there" in first.troubles


def test_a_file_of_composes_first_version_is_told(tmp_path: Path) -> None:
    _, first = init(tmp_path, {"docker-compose.yml": "api: {build: ., links: [cache]}\ncache: {image: 'redis:7'}\n"})
    assert "docker-compose.yml: no `services:`, as in version 1 of Compose: not read" in first.troubles


def test_the_path_of_a_router_is_part_of_the_address(tmp_path: Path) -> None:
    rule = "traefik.http.routers.a.rule: 'Host(`example.com`)"
    compose = (
        "services:\n"
        f"  web: {{build: ./web, labels: {{{rule}'}}}}\n"
        f"  api: {{build: ./api, labels: {{{rule} && PathPrefix(`/api/`)'}}}}\n"
    )
    dockerfile = "FROM scratch\nEXPOSE 8080\n"
    spec, first = init(tmp_path, {"compose.yml": compose, "web/Dockerfile": dockerfile, "api/Dockerfile": dockerfile})
    assert spec["environments"]["production"]["domains"] == {"web": "example.com", "api": "example.com/api"}
    assert not [line for line in first.seen if "example.com" in line]


@pytest.mark.parametrize("own", ["[LOG=warn, MORE=1]", "{LOG: warn, MORE: '1'}"])
@pytest.mark.parametrize("base", ["[LOG=info, KEPT=yes]", "{LOG: info, KEPT: 'yes'}"])
def test_variables_of_an_override_file_join_the_first_files(base: str, own: str, tmp_path: Path) -> None:
    files = {
        "compose.yaml": f"services: {{api: {{build: ., environment: {base}}}}}\n",
        "compose.prod.yaml": f"services: {{api: {{environment: {own}}}}}\n",
    }
    spec, _ = init(tmp_path, {**files, "Dockerfile": "FROM scratch\nEXPOSE 8080\n"})
    (service,) = spec["services"].values()
    assert service["env"] == {"LOG": "warn", "KEPT": "yes", "MORE": "1"}


def test_the_base_of_an_image_is_that_of_its_last_stage(tmp_path: Path) -> None:
    """Not that of a stage from which it only copies: nginx listens on port 80."""
    dockerfile = "FROM node:22 AS build\nFROM nginx:1.29 AS base\nFROM base\nCOPY --from=build /dist /dist\n"
    spec, _ = init(tmp_path, {"Dockerfile": dockerfile})
    assert [service["port"] for service in spec["services"].values()] == [80]


@pytest.mark.parametrize("place", ["env_file: .env", "restart: always"])
def test_of_two_equal_keys_of_an_env_file_the_last_one_counts(tmp_path: Path, place: str) -> None:
    files = {
        "compose.yml": f"{WEB}{place}}}}}",
        ".env.example": "# development\nDEBUG=True\n\n# production\nDEBUG=False\n",
    }
    spec, _ = init(tmp_path, files)
    assert spec["services"]["web"]["env"] == {"DEBUG": "False"}


REDIS = "redis: {image: 'redis:7', healthcheck: {test: [CMD, redis-cli, -a, hunter2, ping]}}"
DATABASE = "db: {image: 'postgres:17', healthcheck: {test: [CMD-SHELL, pg_isready]}}"


def test_a_check_that_cannot_be_written_loses_no_other_dependency(tmp_path: Path) -> None:
    depends_on = "depends_on: {db: {condition: service_healthy}, redis: {condition: service_healthy}}"
    compose = f"{WEB}{depends_on}}}, {DATABASE}, {REDIS}}}"
    spec, first = init(tmp_path, {"compose.yml": compose, **DEPLOYED})
    assert spec["services"]["web"]["depends_on"] == {"db": "healthy", "redis": "started"}
    (question,) = [question for _, question in first.decisions if "web waits until redis is started" in question]
    assert "compose.yml:1" in question
    assert "`redis: healthy`" in question
    assert not [line for line in first.seen if "has no `healthcheck`" in line]


@pytest.mark.parametrize(
    ("timing", "health"),
    [
        ("start_period: 4m", {"path": "/up", "start_period": "4m"}),
        ("start_period: 4m, interval: 5s, retries: 60", {"path": "/up", "start_period": "9m"}),
        ("interval: 5s, retries: 15", {"path": "/up", "start_period": "75s"}),
        ("interval: 500ms, retries: 15", {"path": "/up"}),
        ("interval: 10s, retries: 3", {"path": "/up"}),
        ("start_period: 2h", {"path": "/up", "start_period": "60m"}),
    ],
)
def test_how_long_a_container_may_take_to_start(tmp_path: Path, timing: str, health: dict[str, str]) -> None:
    check = f"healthcheck: {{test: 'curl -f http://localhost:8080/up', {timing}}}"
    spec, _ = init(tmp_path, {"compose.yml": f"{WEB}{check}}}}}"})
    assert spec["services"]["web"]["health"] == health


@pytest.mark.parametrize(
    ("command", "entry"),
    [
        ("command: celery -A shop worker", {"entrypoint": ["celery"], "command": ["-A", "shop", "worker"]}),
        ("command: ./run", {"entrypoint": ["./run"]}),
    ],
)
def test_an_empty_entrypoint_leaves_the_command_alone(
    tmp_path: Path, command: str, entry: dict[str, list[str]]
) -> None:
    spec, _ = init(tmp_path, {"compose.yml": f"{WEB}entrypoint: [], {command}}}}}"})
    web = spec["services"]["web"]
    assert {key: web[key] for key in ("entrypoint", "command") if key in web} == entry


def test_an_empty_entrypoint_without_a_command_is_told(tmp_path: Path) -> None:
    _, first = init(tmp_path, {"compose.yml": f"{WEB}entrypoint: []}}}}"})
    assert any("an empty entrypoint" in line for line in first.seen)


def test_options_of_a_log_driver_stay(tmp_path: Path) -> None:
    logging = {"driver": "json-file", "options": {"tag": "{{.Name}}"}}
    spec, _ = init(tmp_path, {"compose.yml": f"{WEB}logging: {json.dumps(logging)}}}}}"})
    assert spec["services"]["web"]["compose"] == {"logging": logging}


@pytest.mark.parametrize(
    ("tag", "name"), [("${WEB_VERSION:-latest}", "WEB_VERSION"), ("latest", "IMAGE_TAG"), ("latest", "GIT_SHA")]
)
def test_a_variable_with_the_version_of_the_image_is_no_constant(tmp_path: Path, tag: str, name: str) -> None:
    container = (
        f"image: 'ghcr.io/example/web:{tag}', environment: {{VERSION: '${{{name}:-latest}}', SIZE: '${{N:-2}}'}}"
    )
    spec, first = init(tmp_path, {"compose.yml": f"{WEB}{container}}}}}"})
    assert spec["services"]["web"]["env"] == {"SIZE": "2"}
    note = f"environment VERSION (compose.yml:1), the version that a deploy sets as {name}"
    assert any(note in line for line in first.seen)


TWO_ROUTERS = """\
services:
  web:
    build: .
    labels:
      - traefik.http.routers.web.rule=Host(`shop.example.com`)
      - traefik.http.routers.web.service=web
      - traefik.http.routers.web.entrypoints=public
      - traefik.http.routers.web.middlewares=login@file,strip
      - traefik.http.middlewares.strip.stripprefix.prefixes=/x
      - traefik.http.services.web.loadbalancer.server.port=8080
      - traefik.http.routers.admin.rule=Host(`admin.example.com`)
      - traefik.http.routers.admin.service=admin
      - traefik.http.routers.admin.entrypoints=internal
      - traefik.http.services.admin.loadbalancer.server.port=9001
      - traefik.http.routers.admin.priority=7
"""


def test_a_second_router_of_a_service_is_told(tmp_path: Path) -> None:
    spec, first = init(tmp_path, {"compose.yml": TWO_ROUTERS})
    assert spec["services"]["web"]["port"] == 8080
    assert spec["environments"]["production"]["domains"] == {"web": "shop.example.com"}
    notes = "\n".join(first.seen)
    for words in (
        "the router admin (admin.example.com), which leads to another port, 9001",
        "the router admin, with other options (internal)",
        "label traefik.http.routers.admin.priority",
        "the middlewares of the router web, login@file",
    ):
        assert words in notes


def test_a_name_of_a_variable_with_dots_and_hyphens(tmp_path: Path) -> None:
    names = "{discovery.type: single-node, spring.jdbc-url: x, api.secret-key: '${KEY}'}"
    compose = f"{WEB}environment: {names}}}, es: {{image: 'elasticsearch:9.0.1', environment: {names}}}}}"
    spec, first = init(tmp_path, {"compose.yml": compose})
    for entry in (spec["services"]["web"], spec["accessories"]["es"]):
        assert entry["environment"] == {"discovery.type": "single-node", "spring.jdbc-url": "x"}
        assert "env" not in entry
    assert len([line for line in first.seen if "api.secret-key" in line]) == 2


def test_a_process_keeps_what_it_has_beside_the_env_file_of_its_service(tmp_path: Path) -> None:
    shared = "build: ., env_file: .env"
    compose = f"services: {{web: {{{shared}}}, worker: {{{shared}, environment: {{QUEUE: high, PASSWORD: '${{P}}'}}}}}}"
    spec, first = init(tmp_path, {"compose.yml": compose, ".env.example": "MODE=fast\n"})
    assert spec["services"]["worker"] == {"image_of": "web", "environment": {"QUEUE": "high"}}
    assert any("PASSWORD" in line for line in first.seen)


def test_an_image_that_only_another_build_uses_is_a_base(tmp_path: Path) -> None:
    workflow_text = """\
on: {push: {branches: [main]}}
env: {NODE_IMAGE: ghcr.io/example/shop-node}
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - uses: docker/build-push-action@v6
        with: {context: ., file: node.Dockerfile, push: true, tags: "${{ env.NODE_IMAGE }}:latest"}
      - uses: docker/build-push-action@v6
        with:
          context: .
          push: true
          tags: ghcr.io/example/shop-web:latest
          build-contexts: node=docker-image://${{ env.NODE_IMAGE }}:latest
"""
    files = {"node.Dockerfile": "FROM node:22\nCOPY . .\n", ".github/workflows/build.yml": workflow_text}
    spec, first = init(tmp_path, {**files, "Dockerfile": f"{DOCKERFILE}COPY --from=node /a /a\n"})
    web, node = spec["services"]["shop-web"], spec["services"]["node"]
    assert web["build"]["base"] == {"NODE": "node"}
    assert not {"port", "health"} & node.keys()
    assert spec["environments"]["production"]["services"] == ["shop-web"]
    assert any("`FROM $NODE AS node`" in question for _, question in first.decisions)


@pytest.mark.parametrize("name", ["GTM_TAG", "FEATURE_TAG"])
def test_a_tag_that_is_no_version_of_an_image_stays(tmp_path: Path, name: str) -> None:
    compose = f"services: {{web: {{build: ., environment: {{{name}: '${{{name}}}'}}}}}}\n"
    spec, _ = init(tmp_path, {"compose.yml": compose})
    assert name in spec["services"]["web"]["env"]


def test_a_dockerfile_that_copies_the_git_history_is_told_what_to_copy(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    _, first = init(tmp_path, {"Dockerfile": f"{DOCKERFILE}COPY .git /git\n"})
    reason = "which no build has: let a step of `steps.before_build` write $GITHUB_SHA into a file"
    assert f"Dockerfile:4: copies .git, {reason}" in first.troubles


def test_the_path_of_a_secret_file_is_kept_and_asked(tmp_path: Path) -> None:
    files = "DB_PASSWORD_FILE: /run/secrets/db_password, TLS_CERT_FILE: /etc/c.pem"
    web = f"{WEB}secrets: [db_password], environment: {{{files}}}}}"
    database = "db: {image: 'postgres:16', secrets: [{source: db_password, target: p}], "
    database += "environment: {POSTGRES_PASSWORD_FILE: /run/secrets/p}}}"
    compose = f"{web}, {database}\nsecrets: {{db_password: {{file: ./p}}}}\n"
    spec, first = init(tmp_path, {"compose.yml": compose} | DEPLOYED)
    env = {"DB_PASSWORD_FILE": "/run/secrets/db_password", "TLS_CERT_FILE": "/etc/c.pem"}
    assert spec["services"]["web"]["env"] == env
    assert spec["accessories"]["db"]["environment"] == {"POSTGRES_PASSWORD_FILE": "/run/secrets/p"}
    questions = [question for _, question in first.decisions]
    assert any("web reads the files of DB_PASSWORD_FILE, which are `secrets`" in question for question in questions)
    assert any("write POSTGRES_PASSWORD as `{secret: true}`" in question for question in questions)
    assert any("secrets (db_password)" in line for line in first.seen)


@pytest.mark.parametrize(("port", "is_asked"), [("${BIND}:8080:8080", True), ("127.0.0.1:8080:8080", False)])
@pytest.mark.parametrize("entry", ["web", "cache"])
def test_the_address_of_a_port_in_a_variable_is_asked(tmp_path: Path, port: str, is_asked: bool, entry: str) -> None:
    ports = {"web": "", "cache": ""} | {entry: f"ports: ['{port}'], "}
    compose = f"{WEB}{ports['web']}expose: ['8080']}}, cache: {{{ports['cache']}image: 'redis:7'}}}}\n"
    spec, first = init(tmp_path, {"compose.yml": compose, ".env.example": "BIND=127.0.0.1\n"} | DEPLOYED)
    kind = "services" if entry == "web" else "accessories"
    assert spec[kind][entry]["ports"] == ["127.0.0.1:8080:8080"]
    asked = [question for _, question in first.decisions if f"the ports of {entry}: compose.yml" in question]
    assert bool(asked) is is_asked


def test_a_value_with_the_name_of_today_is_asked(tmp_path: Path) -> None:
    """The spec calls a service after its image, and not as one of several services of it."""
    images = "image: 'shop-api:1', build: ./api"
    compose = f"services:\n  api-blue: {{{images}}}\n  api-green: {{{images}}}\n"
    compose += "  edge: {build: ./edge, environment: {UPSTREAM: 'api-blue:8080', MODE: api-bluer}}\n"
    files = {"api/Dockerfile": DOCKERFILE, "edge/Dockerfile": DOCKERFILE, "compose.yml": compose}
    spec, first = init(tmp_path, files | DEPLOYED)
    assert "api" in spec["services"]
    asked = [question for _, question in first.decisions if "that service is called api" in question]
    assert len(asked) == 1 and "UPSTREAM of edge names api-blue (compose.yml:4)" in asked[0]


def test_what_a_service_waits_for_and_the_spec_cannot_say_is_listed(tmp_path: Path) -> None:
    waits = "{api: {condition: service_healthy}, tool: {condition: service_completed_successfully}}"
    compose = "services:\n  api: {build: ./api, healthcheck: {test: 'curl -f http://localhost:8080/up'}}\n"
    compose += f"  edge: {{build: ./edge, depends_on: {waits}}}\n  tool: {{image: 'tool:latest', restart: 'no'}}\n"
    files = {"api/Dockerfile": DOCKERFILE, "edge/Dockerfile": DOCKERFILE, "compose.yml": compose}
    _, first = init(tmp_path, files | DEPLOYED)
    notes = "\n".join(first.seen)
    assert "depends_on api (healthy): with this spec, it waits only until api is started" in notes
    assert "depends_on tool (completed), which is not in the spec" in notes


@pytest.mark.parametrize("command", ["valkey-cli ping", "keydb-cli ping", "curl -f http://keycloak:8080/health"])
def test_a_program_whose_name_has_key_in_it_is_no_secret(tmp_path: Path, command: str) -> None:
    compose = f"{WEB}}}, cache: {{image: 'valkey/valkey:9', healthcheck: {{test: '{command}', interval: 5s}}}}}}\n"
    spec, _ = init(tmp_path, {"compose.yml": compose})
    assert command in str(spec["accessories"]["cache"]["healthcheck"]["test"])


@pytest.mark.parametrize(
    ("command", "is_asked"),
    [
        ("wget --spider http://localhost:3000", True),
        ("curl -f http://localhost:3000/", True),
        ("curl -fL http://localhost:3000/login", True),
        ("wget -qO- http://localhost:3000/api/health", False),
        ("test $$(curl -so /dev/null -w '%{http_code}' http://localhost:3000/) = 200", False),
    ],
)
def test_a_check_that_accepts_a_redirect_is_asked_about(tmp_path: Path, command: str, is_asked: bool) -> None:
    """The first page of a site often redirects to a language or to the login; a deploy expects 200."""
    compose = f'services: {{web: {{build: ., healthcheck: {{test: "{command}"}}}}}}'
    files = {"Dockerfile": "FROM node:22\nCOPY . .\nEXPOSE 3000\n", "compose.yml": compose}
    _, result = draft_files(tmp_path, files)
    questions = [question for _, question in result.decisions]
    assert any("today's check accepts a redirect" in question for question in questions) is is_asked


@pytest.mark.parametrize("command", ["php-fpm", "[/usr/local/sbin/php-fpm8.4, -F]"])
def test_php_fpm_beside_another_process_of_its_image_keeps_its_name_for_the_web_server(
    tmp_path: Path, command: str
) -> None:
    """A service without a port has no second name, so `fastcgi_pass app:9000` would find nothing."""
    files = {
        "Dockerfile": "FROM php:8.4-fpm-alpine\nCOPY . .\n",
        "compose.yml": f"""\
services:
  sockets: {{build: ., command: [php, artisan, 'reverb:start', --port=8080], ports: ['6001:8080']}}
  app: {{build: ., command: {command}}}
  worker: {{build: ., command: [php, artisan, 'queue:work']}}
""",
    }
    spec, _ = draft_files(tmp_path, files)
    processes = {name: service for name, service in spec["services"].items() if "image_of" in service}
    assert processes["app"]["port"] == 9000 and processes["app"]["health"] == {"by": "tcp"}
    assert "port" not in processes["worker"]
