"""`kiwari-ci init`: what a repository may hold, and what is put into a spec; tests/cases/init has whole ones."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kiwari_ci import generator
from kiwari_ci.commands.init import build_init_result, format_init_result
from kiwari_ci.commands.init.draft_text import to_single_line, wrap_in_lines
from kiwari_ci.commands.init.errors import InitRule
from kiwari_ci.file_output import atomic_write, generated_files
from kiwari_ci.problems import SpecError
from kiwari_ci.readers import vocabulary, yaml_document
from kiwari_ci.readers.repository import LocalRepository, join_path
from kiwari_ci.spec_loading.yaml_source import parse_yaml
from tests.amounts import sample_or_all
from tests.cli_runner import kiwari_ci

DOCKERFILE = "FROM scratch\nCOPY . .\nEXPOSE 8080\n"
SPEC = """\
# ours
project: {name: shop, repository: 'example/shop'}   # a comment
hosts: {vps: {}}
services:

  web:   # the shop
    port: 8080
    build: { context: web }
    # nothing else

  # admin: later

# where it runs
environments: {live: {deploy_on: {push: "main"}}}
"""


def repository(folder: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(text.encode())
    return folder


def draft_spec(folder: Path, files: dict[str, str]) -> dict[str, Any]:
    """What the spec says that init makes of some files."""
    first = build_init_result(repository(folder, files), "example/shop")
    spec: dict[str, Any] = parse_yaml(first.path, first.text).data
    return spec


def draft_service(folder: Path, files: dict[str, str]) -> dict[str, Any]:
    """The only service of a repository with one Dockerfile."""
    services = draft_spec(folder, {"Dockerfile": DOCKERFILE, **files})["services"]
    assert len(services) == 1
    only_service: dict[str, Any] = next(iter(services.values()))
    return only_service


# What is read where.


@pytest.mark.parametrize(
    ("address", "slug"),
    [
        ("git@github.com:Example/shop.git", "Example/shop"),
        ("https://github.com/Example/shop", "Example/shop"),
        ("https://user:token@github.com/Example/shop.git", "Example/shop"),
        ("ssh://git@github.com:22/Example/shop.js.git", "Example/shop.js"),
        ("git@gitlab.com:example/shop.git", None),
        ("https://github.com.example.com/evil/shop", None),
    ],
)
def test_the_remote_names_the_repository(tmp_path: Path, address: str, slug: str | None) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", address], check=True)
    assert (LocalRepository(tmp_path).slug or (None,))[0] == slug


@pytest.mark.parametrize(
    ("files", "port"),
    [
        ({}, 8080),
        ({"compose.yml": "services: {a: {build: ., ports: ['127.0.0.1:80:9000/tcp']}}"}, 9000),
        ({"compose.yml": "services: {a: {build: ., ports: [{target: 9001, published: 80}]}}"}, 9001),
        ({"compose.yml": "services: {a: {build: ., expose: [9002]}}"}, 9002),
        ({"compose.yml": "services: {a: {build: ., healthcheck: {test: 'wget -q localhost:9003/up'}}}"}, 9003),
        ({"compose.yml": "services: {a: {build: ., environment: [PORT=9004]}}"}, 9004),
        ({"compose.yml": "services: {a: {build: ., ports: ['22:22']}}"}, 22),
        ({"compose.yml": "services: {a: {build: ., ports: ['80:${PORT:-9005}']}}"}, 9005),
        ({"Dockerfile": "FROM a\nHEALTHCHECK CMD curl http://127.0.0.1:9006/h\n"}, 9006),
        ({"Dockerfile": 'FROM a\nCMD ["uvicorn", "a:b", "--port", "9007"]\n'}, 9007),
        ({"Dockerfile": "FROM a\nCMD gunicorn -b 0.0.0.0:9008 a:b\n"}, 9008),
        ({"Dockerfile": "FROM a\nENV PORT 9009\n"}, 9009),
        ({"Dockerfile": "FROM a AS b\nEXPOSE 1\nFROM c\nEXPOSE 9010\n"}, 9010),
        ({"Dockerfile": "FROM nginx:1\n"}, 80),
        ({"Dockerfile": "FROM a\n", "main.go": 'http.ListenAndServe(":9011", nil)'}, 9011),
    ],
)
def test_port(tmp_path: Path, files: dict[str, str], port: int) -> None:
    assert draft_service(tmp_path, files)["port"] == port


@pytest.mark.parametrize(
    ("files", "run"),
    [
        ({"go.mod": "module a", "a_test.go": ""}, "go test ./..."),
        ({"go.mod": "module a"}, None),
        ({"package.json": '{"scripts": {"test": "x"}}', "package-lock.json": "{}"}, "npm ci\nnpm test\n"),
        ({"package.json": '{"scripts": {"test": "echo \\"Error: no test specified\\""}}'}, None),
        ({"package.json": '{"scripts": 7}'}, None),
        ({"package.json": "{"}, None),
        (
            {"package.json": '{"scripts": {"test": "x"}, "packageManager": "yarn@4.1.0"}', "yarn.lock": ""},
            "corepack enable\nyarn install --immutable\nyarn test\n",
        ),
        (
            {"requirements.txt": "pytest\n", "requirements-dev.txt": "", "tests/test_a.py": ""},
            "pip install -r requirements-dev.txt -r requirements.txt\npytest\n",
        ),
        ({"manage.py": "", "requirements.txt": "django", "a/tests/test_a.py": ""}, None),
        ({"pyproject.toml": "=", "test_a.py": ""}, "pip install .\npip install pytest\npytest\n"),
        ({"Cargo.toml": "", "src/a.rs": "#[test]"}, "cargo test"),
        ({"composer.json": '{"scripts": {"test": "x"}}'}, "composer install --no-interaction\ncomposer test\n"),
        ({"A.csproj": "Microsoft.NET.Test.Sdk"}, "dotnet test"),
        ({"build.gradle.kts": "jvmToolchain(21)", "gradlew": "", "src/test/java/A.java": ""},
         'export JAVA_HOME="$JAVA_HOME_21_X64"\n./gradlew test\n'),
    ],
)  # fmt: skip
def test_tests(tmp_path: Path, files: dict[str, str], run: str | None) -> None:
    if "manage.py" in files:
        run = "pip install -r requirements.txt\npython manage.py test\n"
    assert draft_service(tmp_path, files).get("test", {}).get("run") == run


@pytest.mark.parametrize(
    ("key", "value", "written"),
    [
        ("LOG_LEVEL", "info", "info"),
        ("DEBUG", "true", "true"),
        ("API_KEY", "abc", {"secret": True}),
        ("NEXT_PUBLIC_SITE_KEY", "abc", "abc"),
        ("UPSTREAM", "https://user:hunter2@example.org", {"secret": True}),
        ("TOKENS_PER_MINUTE", "5", "5"),
        ("DATABASE_URL", "mysql://root:x@db/a", {"secret": True}),
        ("FROM", "$OTHER", {"secret": True}),
        ("FALLBACK", "${OTHER:-blue}", "blue"),
        ("QUOTED", "it's", {"secret": True}),
        ("CALLBACK", "http://localhost:1234/back", {"secret": True}),
    ],
)
def test_environment_variables(tmp_path: Path, key: str, value: str, written: Any) -> None:
    compose = json.dumps({"services": {"web": {"build": ".", "environment": {key: value}}}})
    assert draft_service(tmp_path, {"compose.yml": compose})["env"] == {key: written}


def test_a_value_that_is_a_secret_is_never_copied(tmp_path: Path) -> None:
    compose = (
        "services: {web: {build: ., command: run --password=hunter2-a, environment: "
        "{JWT_SECRET: hunter2-b, DSN: 'postgres://u:hunter2-c@elsewhere/d', PLAIN: ghp_hunter2hunter2hunter2d}}}"
    )
    first = build_init_result(repository(tmp_path, {"Dockerfile": DOCKERFILE, "compose.yml": compose}), "example/shop")
    assert "hunter2" not in first.text + json.dumps([first.seen, first.decisions, first.troubles])


def test_what_is_of_development_serves_nobody(tmp_path: Path) -> None:
    """A Dockerfile and a value that only a development file has."""
    files = {
        "Dockerfile.dev": DOCKERFILE, "web/Dockerfile": DOCKERFILE, "mock/Dockerfile": DOCKERFILE,
        "compose.dev.yml": "services: {mock: {build: mock}, web: {build: web, environment: {LEVEL: debug}}}",
        "compose.prod.yml": "services: {web: {build: web, environment: {LEVEL: warn}}}",
    }  # fmt: skip
    services = draft_spec(tmp_path, files)["services"]
    assert {name: entry["env"]["LEVEL"] for name, entry in services.items()} == {"web": "warn"}


@pytest.mark.parametrize(
    ("on", "reached"),
    [
        ("push: {branches: [main]}", {"production": {"push": "main"}}),
        ("push: {branches: [trunk, main]}", {"production": {"push": "main"}}),
        ("push: {tags: ['v*.*.*']}", {"production": {"tag": "v*"}}),
        ("push: {tags: ['v*']}, workflow_dispatch: {}", {"production": {"tag": "v*", "dispatch": True}}),
        ("push: {tags: ['api-v[0-9]+']}", {"production": {"tag": "api-v*"}}),
        ("workflow_dispatch: {}", {"production": {"dispatch": True}}),
        ("release: {types: [published]}", {"production": {"tag": "v*"}}),
        ("pull_request: {}", {"production": {"push": "main"}}),
    ],
)
def test_what_deploys(tmp_path: Path, on: str, reached: dict[str, Any]) -> None:
    workflow = f"on: {{{on}}}\njobs: {{deploy: {{steps: [{{run: 'ssh host docker compose up -d'}}]}}}}"
    spec = draft_spec(tmp_path, {"Dockerfile": DOCKERFILE, ".github/workflows/deploy.yml": workflow})
    assert {name: place["deploy_on"] for name, place in spec["environments"].items()} == reached


@pytest.mark.parametrize(
    ("on", "condition", "reached"),
    [
        (
            "push: {branches: [main, develop]}",
            "github.ref == 'refs/heads/develop' && (needs.a.result == 'success' || needs.a.result == 'skipped')",
            {"push": "develop"},
        ),
        (
            "push: {branches: [main, develop]}, pull_request: {}",
            "github.ref == 'refs/heads/develop' && github.event_name != 'pull_request'",
            {"push": "develop"},
        ),
        (
            "push: {branches: [main, develop], tags: ['v*']}",
            "(github.ref == 'refs/heads/develop' && (a || b)) || startsWith(github.ref, 'refs/tags/')",
            {"push": "develop"},
        ),
        ("workflow_dispatch: {}", "github.ref == 'refs/heads/main'", {"dispatch": True}),
    ],
)
def test_each_term_of_a_condition_narrows_what_deploys(
    tmp_path: Path, on: str, condition: str, reached: dict[str, Any]
) -> None:
    job = f"{{if: \"{condition}\", steps: [{{run: 'ssh host docker compose up -d'}}]}}"
    workflow = f"on: {{{on}}}\njobs: {{deploy: {job}}}"
    spec = draft_spec(tmp_path, {"Dockerfile": DOCKERFILE, ".github/workflows/deploy.yml": workflow})
    assert [place["deploy_on"] for place in spec["environments"].values()] == [reached]


TAKEN_OVER = {
    "Dockerfile": DOCKERFILE,
    "compose.prod.yml": "services:\n"
    "  shop: {build: ., container_name: shop-web, ports: ['80:8080']}\n"
    "  cache: {image: 'redis:7.4', container_name: shop-cache}\n",
    ".github/workflows/deploy.yml": "on: {push: {branches: [main]}}\n"
    "jobs: {live: {environment: production, steps: "
    "[{run: \"ssh a 'cd /srv/shop && docker compose -f compose.prod.yml up -d'\"}]}}\n",
}


def draft_takeover(folder: Path, **changes: str) -> dict[str, Any]:
    """What init writes of today, after changes of the workflow and the compose file."""
    files = dict(TAKEN_OVER)
    paths = {"deploy": ".github/workflows/deploy.yml", "compose": "compose.prod.yml"}
    for name, text in changes.items():
        files[paths[name]] = text
    field: dict[str, Any] = draft_spec(folder, files)["environments"]["production"]["takeover"]
    return field


def test_what_serves_today_is_what_the_files_show(tmp_path: Path) -> None:
    assert draft_takeover(tmp_path) == {
        "project": "shop",
        "folder": "/srv/shop",
        "workflows": ["deploy.yml"],
        "ports": "shop-web",
        "containers": {"shop": "shop-web", "cache": "shop-cache"},
    }
    environment = draft_spec(tmp_path, {})["environments"]["production"]
    assert environment["containers"] == {"shop": "shop-web", "cache": "shop-cache"}


@pytest.mark.parametrize(
    ("command", "name", "project"),
    [
        ("docker compose -p blue -f compose.prod.yml up -d", "", "blue"),
        ("docker compose --project-name=blue up -d", "name: green\n", "blue"),
        ("docker compose up -d", "name: green\n", "green"),
        ("docker compose -p $NAME up -d", "name: green\n", "green"),
        ("docker compose up -d", "", "shop"),
    ],
)
def test_the_project_of_today_keeps_its_volumes(command: str, name: str, project: str, tmp_path: Path) -> None:
    old_command = "docker compose -f compose.prod.yml up -d"
    deploy = TAKEN_OVER[".github/workflows/deploy.yml"].replace(old_command, command)
    files = {**TAKEN_OVER, ".github/workflows/deploy.yml": deploy}
    files["compose.prod.yml"] = name + files["compose.prod.yml"]
    environment = draft_spec(tmp_path, files)["environments"]["production"]
    assert (environment["takeover"]["project"], environment["stack"]) == (project, project)


def test_what_no_file_shows_is_left_to_the_doctor(tmp_path: Path) -> None:
    deploy = TAKEN_OVER[".github/workflows/deploy.yml"].replace("/srv/shop", "$FOLDER")
    field = draft_takeover(tmp_path, deploy=deploy, compose="services: {shop: {build: ., ports: ['80:8080']}}\n")
    assert field == {"workflows": ["deploy.yml"]}
    text = build_init_result(tmp_path, "example/shop").text
    comment = (
        "no file shows project, folder, ports, containers of today; `kiwari-ci doctor --env production` prints them"
    )
    assert f"    # {comment}\n    takeover:\n" in text


def test_a_folder_is_no_project_where_the_compose_file_is_only_on_the_server(tmp_path: Path) -> None:
    """It may have a name of its own."""
    files = {path: text for path, text in TAKEN_OVER.items() if path != "compose.prod.yml"}
    assert draft_spec(tmp_path, files)["environments"]["production"]["takeover"] == {
        "folder": "/srv/shop",
        "workflows": ["deploy.yml"],
    }


def test_the_workflow_that_is_switched_off_is_the_one_that_starts(tmp_path: Path) -> None:
    called = TAKEN_OVER[".github/workflows/deploy.yml"].replace("{push: {branches: [main]}}", "workflow_call")
    main = "on: {push: {branches: [main]}}\njobs: {deploy: {uses: ./.github/workflows/deploy.yml}}\n"
    files = {**TAKEN_OVER, ".github/workflows/deploy.yml": called, ".github/workflows/main.yml": main}
    field = draft_spec(tmp_path, files)["environments"]["production"]["takeover"]
    assert field["workflows"] == ["main.yml"]


def test_nothing_is_taken_over_where_nothing_deploys(tmp_path: Path) -> None:
    files = {path: text for path, text in TAKEN_OVER.items() if "workflows" not in path}
    assert "takeover" not in draft_spec(tmp_path, files)["environments"]["production"]


def test_the_runbook_of_the_first_spec_has_the_takeover(tmp_path: Path) -> None:
    first = build_init_result(repository(tmp_path, TAKEN_OVER), "example/shop")
    (tmp_path / "specs").mkdir()
    (tmp_path / first.path).write_text(first.text)
    _, files = generator.generate_files(tmp_path / first.path)
    runbook = files["deploy/RUNBOOK.md"].text
    assert "### Take over production" in runbook and "gh workflow disable deploy.yml" in runbook
    assert "| shop | `shop-web` | the same | " in runbook and "| cache | `shop-cache` | the same | nothing" in runbook
    # The new files would replace those of today.
    assert "'[ -e /srv/shop-before ] || cp -a /srv/shop /srv/shop-before'" in runbook
    (question,) = [question for _, question in first.decisions if "folders of today's stacks" in question]
    assert "/srv/shop" in question


@pytest.mark.parametrize(
    ("events", "job", "expected"),
    [
        ("{pull_request: , push: {branches: [main]}}", "{steps: [{run: npm test}]}", True),
        ("{push: {branches: [main]}}", "{steps: [{run: npm test}]}", None),
        ("{pull_request: }", "{steps: [{run: echo hello}]}", None),
    ],
)
def test_pull_requests_are_tested_as_before(events: str, job: str, expected: bool | None, tmp_path: Path) -> None:
    workflow = f"on: {events}\njobs: {{a: {job}}}\n"
    spec = draft_spec(tmp_path, {**TAKEN_OVER, ".github/workflows/ci.yml": workflow})
    assert spec["project"].get("pull_requests") is expected


def test_the_cache_of_a_test_is_kept_for_pull_requests(tmp_path: Path) -> None:
    """Only lock files that are there, and that the tool which is set up caches for."""
    lock_files = '"package-lock.json\\nmissing/package-lock.json\\ngo.sum"'
    inputs = f"{{node-version: 22, cache: npm, cache-dependency-path: {lock_files}}}"
    steps = f"[{{uses: actions/setup-node@v6, with: {inputs}}}, {{run: npm test}}]"
    workflow = f"on: {{pull_request: , push: {{branches: [main]}}}}\njobs: {{a: {{steps: {steps}}}}}\n"
    files = {"Dockerfile": DOCKERFILE, "package-lock.json": "{}", "go.sum": "", ".github/workflows/ci.yml": workflow}
    spec = draft_spec(tmp_path, files)
    (service,) = spec["services"].values()
    assert service["test"]["cache"] == ["package-lock.json"]
    shutil.rmtree(tmp_path / ".github")
    files[".github/workflows/ci.yml"] = workflow.replace("pull_request: , ", "")
    (service,) = draft_spec(tmp_path, files)["services"].values()
    assert "cache" not in service["test"]


CALLED = "name: tests\non: {on}\njobs: {{unit: {{{job}steps: [{{run: npm test}}]}}}}\n"


def draft_spec_with_tests(tmp_path: Path, on: str, job: str = "") -> tuple[dict[str, Any], str]:
    """The service of a draft whose tests are in a workflow of their own, and what becomes of that workflow."""
    files = {"Dockerfile": DOCKERFILE, ".github/workflows/tests.yml": CALLED.format(on=on, job=job)}
    result = build_init_result(repository(tmp_path, files), "example/shop")
    [service] = parse_yaml(result.path, result.text).data["services"].values()
    [outcome] = result.workflows
    return service | {"text": result.text}, "; ".join(outcome.jobs[0].list_parts())


@pytest.mark.parametrize("on", ["workflow_call", "[push, workflow_call]", "{workflow_call: , push: }"])
def test_tests_of_a_workflow_that_can_be_called_stay_there(tmp_path: Path, on: str) -> None:
    service, outcome = draft_spec_with_tests(tmp_path, on)
    assert service["test"] == {"workflow": "tests.yml"} and outcome == "kept"


def test_a_workflow_that_lacks_a_trigger_is_offered(tmp_path: Path) -> None:
    service, outcome = draft_spec_with_tests(tmp_path, "push")
    assert service["test"]["run"] == "npm test" and outcome == "replaced by services.app.test"
    offered = "# to keep the tests in tests.yml, add `workflow_call:` below its `on:`, and write:"
    assert f"    {offered}\n    # test: {{workflow: tests.yml}}\n    test:" in service["text"]


@pytest.mark.parametrize(
    ("on", "job"),
    [
        ("{workflow_call: {inputs: {a: {type: string, required: true}}}}", ""),
        ("workflow_call", "permissions: {contents: read, checks: write}, "),
        ("workflow_call", "permissions: write-all, "),
        ("workflow_call", "concurrency: tests, "),
        ("workflow_call", "env: {A: '${{ secrets.TOKEN }}'}, "),
        ("workflow_call", "environment: production, container: {credentials: '${{ secrets.B }}'}, "),
    ],
)
def test_a_workflow_that_needs_more_than_a_caller_has_is_not_called(tmp_path: Path, on: str, job: str) -> None:
    service, _ = draft_spec_with_tests(tmp_path, on, job)
    assert service["test"]["run"] == "npm test" and "workflow_call" not in service["text"]


@pytest.mark.parametrize("job", ["permissions: {contents: read}, ", "env: {A: '${{ secrets.GITHUB_TOKEN }}'}, "])
def test_a_workflow_that_reads_is_called(tmp_path: Path, job: str) -> None:
    service, _ = draft_spec_with_tests(tmp_path, "workflow_call", job)
    assert service["test"] == {"workflow": "tests.yml"}


def test_what_is_by_hand_stays_so(tmp_path: Path) -> None:
    files = {
        f".github/workflows/{name}.yml": "on: workflow_dispatch\n"
        f"jobs: {{d: {{environment: {name}, steps: [{{run: ssh a}}]}}}}"
        for name in ("staging", "production")
    }
    places = draft_spec(tmp_path, {"Dockerfile": DOCKERFILE, **files})["environments"]
    assert places == {
        "staging": {"deploy_on": {"dispatch": True}, "takeover": {"workflows": ["staging.yml"]}},
        "production": {"deploy_on": {"dispatch": True}, "takeover": {"workflows": ["production.yml"]}},
    }


def test_domains_lead_to_services(tmp_path: Path) -> None:
    """A proxy's file leads to a container, or to a port of the machine that a compose file publishes."""
    services = (
        "services: {{api: {{build: api, ports: ['127.0.0.1:{0}1:3000']}}, web: {{build: web, ports: ['{0}2:80']}}}}"
    )
    files = {
        "api/Dockerfile": DOCKERFILE, "web/Dockerfile": DOCKERFILE,
        "compose.prod.yml": services.format("300"), "compose.staging.yml": services.format("400"),
        "nginx/a.conf": "server { server_name shop.example.org; location /api/ { proxy_pass http://127.0.0.1:3001; }\n"
        "location / { proxy_pass http://127.0.0.1:3002; } }",
        "nginx/b.conf": "server {\n server_name t.example.org;\n location / { proxy_pass http://localhost:4002;\n } }",
        "Caddyfile": "(log) {\n output file /var/log/access.log {\n }\n}\n"
        "rest.example.org {\n reverse_proxy api:3000\n}\n",
    }  # fmt: skip
    places = draft_spec(tmp_path, files)["environments"]
    assert {name: place.get("domains") for name, place in places.items()} == {
        "staging": {"web": "t.example.org"},
        "production": {"web": "shop.example.org", "api": "rest.example.org"},
    }


def test_steps_of_a_job_become_one_script(tmp_path: Path) -> None:
    """Each begins at the root again; what an action installs, a command does."""
    steps = (
        "[{uses: pnpm/action-setup@v4}, {run: pnpm install}, {run: 'cd web && pnpm lint'}, "
        "{run: pnpm test, working-directory: web}]"
    )
    workflow = f"on: push\njobs: {{test: {{steps: {steps}}}}}"
    files = {"web/Dockerfile": DOCKERFILE, ".github/workflows/a.yml": workflow, "web/package.json": "{}"}
    test = draft_spec(tmp_path, files)["services"]["web"]["test"]
    lint = "(\n  cd web && pnpm lint\n)\n"
    assert test == {"run": f"corepack enable\npnpm install\n{lint}(\n  cd web\n  pnpm test\n)\n"}


def test_an_image_is_known_by_its_last_word(tmp_path: Path) -> None:
    """What a secret stands for in a workflow, a compose file has as a name."""
    step = "{uses: docker/build-push-action@v6, with: {context: api, tags: '${{ secrets.NAME }}/shop_back:latest'}}"
    files = {
        "api/Dockerfile": "FROM a\n",
        ".github/workflows/a.yml": f"on: push\njobs: {{b: {{steps: [{step}]}}}}",
        "compose.prod.yml": "services: {back: {image: 'example/shop_back:latest', expose: [9123]}}",
    }
    assert draft_spec(tmp_path, files)["services"]["api"]["port"] == 9123


def test_other_peoples_yaml() -> None:
    text = "a: &x {on: yes, b: [1, 010]}\nc: {<<: *x, on: no}\nd: *x\ne: !reset null\na2: 22:22\n"
    read = yaml_document.parse_yaml_document("file.yml", text).data
    assert read == {
        "a": {"on": "yes", "b": [1, 10]}, "c": {"b": [1, 10], "on": "no"}, "d": {"on": "yes", "b": [1, 10]},
        "e": None, "a2": "22:22",  # Compose takes `e` away
    }  # fmt: skip
    assert read.where("c") == "file.yml:2" and read.get_mapping("c").where("b") == "file.yml:1"


@pytest.mark.parametrize("text", ["", "- a", "a: [", "a: *b\n: :", "\t", "{" * 5000, "a: " + "[" * 1000])
def test_yaml_that_is_none(text: str) -> None:
    with pytest.raises(yaml_document.UnreadableYaml):
        yaml_document.parse_yaml_document("file.yml", text)


def test_aliases_do_not_grow(tmp_path: Path) -> None:
    lines = ["x0: &x0 [a, b]"] + [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 30)]
    bomb = "\n".join(lines) + "\nservices: {web: {build: ., command: *x29, environment: *x29, volumes: *x29}}\n"
    assert draft_service(tmp_path, {"compose.yml": bomb})["port"] == 8080


def test_paths_stay_inside() -> None:
    assert [join_path("a/b", path) for path in ("../c", "../..", "../../..", "/x", "./")] == [
        "a/c",
        ".",
        None,
        "a/b/x",
        "a/b",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("curl -f http://localhost:8081/health || exit 1", (8081, "/health")),
        ("wget -q --spider 127.0.0.1:80", (80, "/")),
        ("node -e \"require('http').get('http://[::1]:3000/a/b', r => 0)\"", (3000, "/a/b")),
        ("pg_isready -h localhost", (None, "")),
        ("curl https://example.com/health", (None, "")),
    ],
)
def test_probe(text: str, expected: tuple[int | None, str]) -> None:
    assert vocabulary.parse_probe_command(text) == expected


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("compose.uat.yml", "staging"),
        ("deploy/pre-prod/compose.yml", "staging"),
        ("shop_stg", "staging"),
        ("docker-compose.prod2.yml", "production"),
        ("live", "production"),
        ("compose.override.yml", "development"),
        ("e2e", "development"),
        ("products", ""),
        ("deliver", ""),
    ],
)
def test_the_environment_of_a_name(name: str, kind: str) -> None:
    assert vocabulary.classify_environment(name) == kind


# What is nothing to go by.


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        ({}, "no-dockerfile"),
        ({"README.md": "# A book"}, "no-dockerfile"),
        ({"node_modules/a/Dockerfile": DOCKERFILE, "Dockerfile.dev": DOCKERFILE}, "no-dockerfile"),
        ({"db/Dockerfile": "FROM postgres:17-alpine\nEXPOSE 5432\n"}, "no-service"),
        ({"Dockerfile": DOCKERFILE, "specs/shop.yaml": "project: {"}, "yaml-syntax"),
    ],
)
def test_it_says_what_it_needs_and_writes_nothing(tmp_path: Path, files: dict[str, str], rule: str) -> None:
    before = sorted(repository(tmp_path, files).rglob("*"))
    done = kiwari_ci("init", tmp_path, "--repository", "example/shop")
    assert (done.code, done.out) == (2, "") and f"[{rule}]" in done.err and "hint: " in done.err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_page_has_every_message_that_stops_it() -> None:
    page = Path(__file__).parents[1] / "docs/init.md"
    assert set(re.findall(r"^\| `([a-z-]+)` \|", page.read_text(), re.MULTILINE)) == set(get_args(InitRule))


def test_it_needs_to_know_the_repository(tmp_path: Path) -> None:
    repository(tmp_path, {"Dockerfile": DOCKERFILE})
    assert f"hint: kiwari-ci init {tmp_path} --repository OWNER/NAME" in kiwari_ci("init", tmp_path).err
    assert "[no-repository]" in kiwari_ci("init", tmp_path, "--repository", "not one").err
    assert "[no-folder]" in kiwari_ci("init", tmp_path / "none").err


def test_a_part_of_a_checkout_is_refused(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    repository(tmp_path, {"web/Dockerfile": DOCKERFILE})
    done = kiwari_ci("init", tmp_path / "web", "--repository", "example/shop")
    assert done.code == 2 and f"hint: kiwari-ci init {tmp_path}" in done.err


def test_it_works_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert draft_spec(tmp_path, {"Dockerfile": DOCKERFILE})["services"] != {}


def test_links_are_not_followed_out(tmp_path: Path) -> None:
    inside = repository(tmp_path / "in", {"Dockerfile": DOCKERFILE})
    repository(tmp_path / "out", {"compose.yml": "services: {web: {build: ., ports: ['1:9999']}}"})
    (inside / "compose.yml").symlink_to("../out/compose.yml")
    (inside / "away").symlink_to("../out")
    (inside / "loop").symlink_to(".")
    first = build_init_result(inside, "example/shop")
    assert "9999" not in first.text and any("compose.yml" in trouble for trouble in first.troubles)


def test_it_is_not_written_through_a_link(tmp_path: Path) -> None:
    inside = repository(tmp_path / "in", {"Dockerfile": DOCKERFILE})
    (tmp_path / "out").mkdir()
    (inside / "specs").symlink_to("../out")
    done = kiwari_ci("init", inside, "--repository", "example/shop")
    assert done.code == 73 and not list((tmp_path / "out").iterdir())


def test_a_file_in_the_way_stays(tmp_path: Path) -> None:
    repository(tmp_path, {"Dockerfile": DOCKERFILE, "specs/shop.yaml": "openapi: 3.1.0\n"})
    done = kiwari_ci("init", tmp_path, "--repository", "example/shop")
    assert done.code == 73 and (tmp_path / "specs/shop.yaml").read_text() == "openapi: 3.1.0\n"
    assert "specs/shop.yaml: there is something else than what was read: move it away" in done.err


def test_the_next_commands_name_the_spec_when_specs_has_another_file(tmp_path: Path) -> None:
    repository(tmp_path, {"Dockerfile": DOCKERFILE, "specs/openapi.yaml": "openapi: 3.1.0\n"})
    output = kiwari_ci("init", tmp_path, "--repository", "example/shop").out
    assert "  kiwari-ci validate specs/shop.yaml\n" in output
    assert "  kiwari-ci generate specs/shop.yaml\n" in output


def test_what_changed_meanwhile_stays(tmp_path: Path) -> None:
    repository(tmp_path, {"specs/shop.yaml": "new"})
    with pytest.raises(atomic_write.OutputError):
        generated_files.write_user_file(tmp_path, "specs/shop.yaml", "mine", "old")
    assert (tmp_path / "specs/shop.yaml").read_text() == "new" and not list(
        tmp_path.glob(f"{atomic_write.SCRATCH_PREFIX}*")
    )


# A spec that is there.


def test_what_is_new_is_added_and_nothing_else_changes(tmp_path: Path) -> None:
    files = {"specs/shop.yaml": SPEC, "web/Dockerfile": DOCKERFILE, "api/Dockerfile": "FROM a\nEXPOSE 9000\n"}
    done = kiwari_ci("init", repository(tmp_path, files), "--repository", "example/shop")
    after = (tmp_path / "specs/shop.yaml").read_text()
    head, tail = SPEC.split("    # nothing else\n")
    added = after.removeprefix(f"{head}    # nothing else\n").removesuffix(tail)
    assert done.code == 0 and after == f"{head}    # nothing else\n{added}{tail}"
    assert added.startswith("  # ") and "\n  api:\n" in added and "    port: 9000 # api/Dockerfile:2\n" in added
    assert set(generator.load_spec(tmp_path / "specs/shop.yaml").spec.services) == {"web", "api"}


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        ("services: {web: {port: 8080}}\n", "services: {web: {port: 8080}, api: {"),
        ("services: {\n  web: {port: 8080}, # one\n}\n", "  web: {port: 8080}, api: {"),
        ("services:\n    web:\n        port: 8080\n", "        port: 8080\n    # could not tell how to test it"),
        (
            "services:\n  web:\n    port: 8080\n    test:\n      run: |\n        # a\n        true\n\n",
            "        true\n  # could",
        ),
        ("services: # all\n  web: {port: 8080} # one", "  web: {port: 8080} # one\n  # could"),
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_any_style_of_a_spec_is_kept(tmp_path: Path, services: str, expected: str, ends: str, mark: str) -> None:
    head = "project: {name: shop, repository: example/shop}\nhosts: {vps: {}}\n"
    text = head + "environments: {live: {deploy_on: {push: main}, services: [web]}}\n" + services
    before = mark + text.replace("\n", ends)
    repository(tmp_path, {"specs/shop.yml": before, "web/Dockerfile": DOCKERFILE, "api/Dockerfile": DOCKERFILE})
    assert kiwari_ci("init", tmp_path, "--repository", "example/shop").code == 0
    after = (tmp_path / "specs/shop.yml").read_bytes().decode()
    assert after.startswith(mark) and expected.replace("\n", ends) in after and "services: [web, api]" in after
    assert after.count("\n") == after.count(ends)
    rest = iter(after)
    assert all(character in rest for character in before), "something that was there is gone"
    generator.load_spec(tmp_path / "specs/shop.yml")


def test_two_specs_and_a_new_service(tmp_path: Path) -> None:
    other = SPEC.replace("web", "other").replace("shop", "store")
    files = {"specs/a.yaml": SPEC, "specs/b.yaml": other, "api/Dockerfile": DOCKERFILE, "web/Dockerfile": DOCKERFILE}
    done = kiwari_ci("init", repository(tmp_path, files), "--repository", "example/shop")
    assert done.code == 2 and "[several-specs]" in done.err and (tmp_path / "specs/a.yaml").read_text() == SPEC


# Whatever it holds.

NASTY = st.one_of(
    st.text(max_size=30),
    st.sampled_from([
        "", " ", "\n", "'", '"', "a: b", "# x", "${{ secrets.X }}", "$(id)", "`id`", "on", "1.10", "!!python/object:a",
        "\u2028", "\x00", "\x1b[31m", "é", "x" * 300, "api\nservices: {}", "../..", "*", "&a", "{", "]", "-", "|", "%",
        "postgres:16", "postgres", "ghcr.io/A/B:c", "http://localhost:80/x", "Host(`a.example.org`)", "production",
    ]),
)  # fmt: skip


def compose(draw: Any) -> str:
    def nasty() -> str:
        return str(draw(NASTY))

    table = {
        nasty() or "web": {
            "build": draw(st.sampled_from([".", "web", {"context": ".", "dockerfile": "Dockerfile"}, nasty(), 7])),
            "image": nasty(), "container_name": nasty(), "ports": [nasty(), 80], "expose": [draw(st.integers())],
            "environment": draw(st.sampled_from([{nasty(): nasty(), "A": nasty()}, [nasty()], nasty(), 3])),
            "env_file": nasty(), "labels": {"traefik.http.routers.a.rule": nasty(), "caddy": nasty(), nasty(): nasty()},
            "healthcheck": {"test": nasty()}, "networks": [nasty()], nasty(): nasty(),
        },
        "db": {"image": draw(st.sampled_from(["postgres:16", nasty()])), "environment": {"POSTGRES_DB": nasty()}},
    }  # fmt: skip
    return json.dumps({"name": nasty(), "services": table, "networks": {nasty(): {"external": True}}})


def workflow(draw: Any) -> str:
    def nasty() -> str:
        return str(draw(NASTY))

    secret = draw(st.sampled_from(["PATH", "DOCKER_HOST", "A_HOST", "ci_HOST"]))
    steps = [
        {"uses": "docker/build-push-action@v6", "with": {"context": nasty(), "file": nasty(), "tags": nasty()}},
        {"uses": "docker/build-push-action@v6", "with": {"context": ".", "file": "Dockerfile", "tags": nasty()}},
        {"run": f"docker build -t {nasty()} ."}, {"run": f"pytest {nasty()}", "working-directory": nasty()},
        {"uses": "a/ssh-action@v1", "with": {"host": nasty(), "script": f"cd /{nasty()}"}},
        {"run": f"ssh ${{{{ secrets.{secret} }}}} curl {nasty()}"},
    ]  # fmt: skip
    on = {"push": {"branches": [nasty()], "tags": [nasty()]}} if draw(st.booleans()) else nasty()
    job = {
        "environment": nasty(),
        "steps": steps,
        "runs-on": nasty(),
        "if": nasty(),
        "strategy": {"matrix": {"a": [nasty()]}},
    }
    return json.dumps({"name": nasty(), "on": on, "env": {"X": nasty()}, "jobs": {nasty(): job}})


def write_nasty_files(folder: Path, draw: st.DataObject) -> None:
    files = {
        "Dockerfile": f"FROM {draw.draw(NASTY)}\nCOPY {draw.draw(NASTY)} .\nEXPOSE 8080\n",
        "web/Dockerfile": DOCKERFILE,
        "compose.yml": compose(draw.draw),
        "compose.prod.yml": compose(draw.draw),
        ".github/workflows/a.yml": workflow(draw.draw),
        "web/package.json": json.dumps({"scripts": {"test": draw.draw(NASTY)}, "engines": draw.draw(NASTY)}),
        "web/.env.example": f"A={draw.draw(NASTY)}\n{draw.draw(NASTY)}=1\n",
        "Caddyfile": f"{draw.draw(NASTY)} {{\n reverse_proxy {draw.draw(NASTY)}\n}}\n",
    }
    for path, text in files.items():
        (folder / path).write_bytes(text.encode(errors="replace"))


@pytest.mark.parametrize("examples", sample_or_all(12, 80))
def test_whatever_a_repository_holds(tmp_path: Path, examples: int) -> None:
    """What init makes is sound, or it says in words what it needs."""
    for folder in ("web", ".github/workflows"):
        (tmp_path / folder).mkdir(parents=True)
    counts = {"refused": 0, "made": 0}
    too_slow = [HealthCheck.too_slow]

    @settings(max_examples=examples, derandomize=True, deadline=None, database=None, suppress_health_check=too_slow)
    @given(draw=st.data())
    def tried(draw: st.DataObject) -> None:
        write_nasty_files(tmp_path, draw)
        try:
            first = build_init_result(tmp_path, "example/shop")
        except SpecError as faults:
            assert all(problem.hint for problem in faults.problems), faults
            counts["refused"] += 1
        else:
            assert set(generator.validate_and_plan(parse_yaml(first.path, first.text)).spec.services)
            assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]", first.text)
            counts["made"] += 1

    tried()
    assert counts["made"] > examples * 0.75, counts


@given(text=st.text())
@settings(max_examples=100, derandomize=True, deadline=None, database=None)
def test_a_comment_keeps_its_words_in_lines(text: str) -> None:
    lines = wrap_in_lines(text)
    assert all(line.isprintable() for line in lines)
    assert " ".join(lines) == to_single_line(text)


def test_a_decision_is_never_cut(tmp_path: Path) -> None:
    """What a person must decide is told whole, in lines of a usual length; so is each comment of the spec."""
    folders = [f"/srv/a-long-name-of-a-folder-number-{number}" for number in range(12)]
    commands = " && ".join(f"cd {folder}" for folder in folders)
    deploy = f"on: {{push: {{branches: [main]}}}}\njobs:\n  a: {{steps: [{{run: \"ssh a@192.0.2.1 '{commands}'\"}}]}}\n"
    repository(tmp_path, {"Dockerfile": DOCKERFILE, ".github/workflows/deploy.yml": deploy})
    result = build_init_result(tmp_path, "example/shop")
    printed = format_init_result(result, tmp_path)
    for text in (result.text, printed):
        assert all(folder in text for folder in folders)
        assert max(map(len, text.splitlines())) < 200


def test_files_of_every_kind(tmp_path: Path) -> None:
    """Empty, binary, huge, a folder, a device and a name with an escape: said or passed over, never followed."""
    files = dict.fromkeys(["compose.yml", "package.json", ".github/workflows/a.yml", "go.mod", "Caddyfile"], "")
    repository(
        tmp_path, {"Dockerfile": DOCKERFILE, "requirements.txt": "a\0b", "compose.prod.yml": "a" * 600_000, **files}
    )
    (tmp_path / "docker-compose.yml").mkdir()
    os.mkfifo(tmp_path / "pyproject.toml")
    (tmp_path / "\x1b[31m.Dockerfile").write_text(DOCKERFILE)
    first = build_init_result(tmp_path, "example/shop")
    assert "\x1b" not in first.text and any("compose.prod.yml" in trouble for trouble in first.troubles)


# What a first user met


@pytest.mark.parametrize("right", ["compose", "workflow"])
def test_the_build_context_is_the_one_that_holds_what_is_copied(tmp_path: Path, right: str) -> None:
    build = "{context: ., dockerfile: api/Dockerfile}" if right == "compose" else "./api"
    command = "docker build -f api/Dockerfile ." if right == "workflow" else "docker build api"
    files = {
        "api/Dockerfile": "FROM scratch\nCOPY api/go.mod ./\nCOPY shared shared\nEXPOSE 8080\n",
        "api/go.mod": "",
        "shared/x": "",
        "compose.yml": f"services:\n  api:\n    build: {build}\n",
        ".github/workflows/ci.yml": f"on: push\njobs:\n  b:\n    steps:\n    - run: {command}\n",
    }
    assert "build" not in draft_spec(tmp_path, files)["services"]["api"], "the root, and api/Dockerfile"
    wrong, good = "compose.yml:2", ".github/workflows/ci.yml:5"
    wrong, good = (good, wrong) if right == "compose" else (wrong, good)
    words_ = f"builds in api, where 0 of the 2 paths that api/Dockerfile copies are; in . ({good}), 2"
    assert build_init_result(tmp_path, "example/shop").troubles == [f"{wrong}: {words_}"]


def test_a_dockerfile_of_production_comes_before_its_twin(tmp_path: Path) -> None:
    twins = {"api/Dockerfile": DOCKERFILE, "api/Dockerfile.prod": DOCKERFILE.replace("8080", "9090"), "api/x": ""}
    entry = draft_spec(tmp_path / "alone", twins)["services"]["api"]
    assert (entry["build"]["dockerfile"], entry["port"]) == ("api/Dockerfile.prod", 9090)
    compose = "services:\n  shop:\n    build: api\n    environment: {PORT: 7070}\n"
    entry = draft_spec(tmp_path / "dev", {**twins, "compose.yml": compose})["services"]["shop"]
    assert (entry["build"]["dockerfile"], entry["port"]) == ("api/Dockerfile.prod", 7070)
    output = kiwari_ci("init", tmp_path / "dev", "--repository", "example/shop").out
    assert "compose.yml:2: builds api/Dockerfile; api/Dockerfile.prod is for production, by its name: taken" in output
    entry = draft_spec(tmp_path / "prod", {**twins, "compose.prod.yml": compose})["services"]["shop"]
    assert entry["build"] == {"context": "api", "dockerfile": "api/Dockerfile"}
    spec = {**twins, "specs/shop.yaml": SPEC.replace("web", "api")}
    assert build_init_result(repository(tmp_path / "spec", spec), None).services == {}


def test_a_path_that_a_spec_cannot_write_is_told(tmp_path: Path) -> None:
    files = {"my api/Dockerfile": DOCKERFILE, "my api/x": "", "web/Dockerfile": DOCKERFILE, "web/x": ""}
    assert set(draft_spec(tmp_path, files)["services"]) == {"web"}
    lines = [line for line in build_init_result(tmp_path, "example/shop").seen if "my api" in line]
    assert lines == [
        "my api/Dockerfile: a spec cannot write this path "
        "(letters, digits, . _ - and / can be): rename it, and run init again"
    ]
    compose = "services:\n  api:\n    build: {context: 'my api', dockerfile: ../web/Dockerfile}\n"
    repository(tmp_path / "only", {"web/Dockerfile": DOCKERFILE, "my api/x": "", "compose.yml": compose})
    with pytest.raises(SpecError) as refused:
        build_init_result(tmp_path / "only", "example/shop")
    assert "cannot write its build context, my api (compose.yml:2)" in refused.value.problems[0].message


def test_a_name_that_cannot_be_printed_is_told(tmp_path: Path) -> None:
    files = {"web/Dockerfile": DOCKERFILE, "web/x": "", "a\x1bb/Dockerfile": DOCKERFILE}
    troubles = build_init_result(repository(tmp_path, files), "example/shop").troubles
    assert [line for line in troubles if line.startswith("1 not looked at, a\ufffdb/Dockerfile first: ")]


def test_what_is_generated_is_not_what_was_read(tmp_path: Path) -> None:
    repository(tmp_path, {"web/Dockerfile": DOCKERFILE, "web/x": ""})
    kiwari_ci("init", tmp_path, "--repository", "example/shop")
    assert kiwari_ci("generate", tmp_path / "specs/shop.yaml", "--out", tmp_path).code == 0
    assert "read: Dockerfiles 1, compose files 0, workflows 0\n" in kiwari_ci("init", tmp_path).out


def test_init_asks_for_the_generator_that_diff_and_generate_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody knows from where the tool was installed; it asks nothing where the installation says it."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . .\nEXPOSE 8080\n")
    asked = "nobody knows from where it was installed here: write generator: "
    assert not any(asked in text for _, text in build_init_result(tmp_path, "example/shop").decisions)
    monkeypatch.delenv("KIWARI_CI_SOURCE")
    assert any(asked in text for _, text in build_init_result(tmp_path, "example/shop").decisions)


def test_a_link_to_nowhere_in_specs_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(tmp_path, {"web/Dockerfile": DOCKERFILE, "web/x": ""})
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs/old.yaml").symlink_to("nowhere")
    result = kiwari_ci("init", tmp_path, "--repository", "example/shop")
    assert result.code == 0 and result.out.startswith("wrote specs/shop.yaml")
    assert "look at:\n  specs/old.yaml: a link to nowhere\n" in result.out
    assert result.out.endswith("\n  kiwari-ci generate\n"), "the commands see one spec"
    monkeypatch.chdir(tmp_path)
    assert kiwari_ci("validate").code == 0


BUILD_JOB = "  build:\n    runs-on: ubuntu-latest\n    steps:\n    - run: docker build -t shop web\n"
TEST_JOB = "  test:\n    runs-on: ubuntu-latest\n    steps:\n    - {run: npm test, working-directory: web}\n"
SCAN_JOB = "  scan:\n    runs-on: ubuntu-latest\n    needs: build\n    steps: [{uses: aquasecurity/trivy-action@v1}]\n"
DEPLOY_JOB = """\
  deploy:
    runs-on: ubuntu-latest
    environment: production
    steps:
    - run: ssh deploy@host 'cd /srv/shop && docker compose up -d'
"""


def describe_workflows(folder: Path, workflows: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """What becomes of each job of some workflows, and the workflows that may be removed."""
    files = {f".github/workflows/{name}": text for name, text in workflows.items()}
    result = build_init_result(repository(folder, {"web/Dockerfile": DOCKERFILE, "web/x": "", **files}), "example/shop")
    jobs = {outcome.job: "; ".join(outcome.list_parts()) for workflow in result.workflows for outcome in workflow.jobs}
    removable = [workflow.path.rpartition("/")[2] for workflow in result.workflows if workflow.is_removable]
    return jobs, removable


def test_the_next_steps_remove_only_workflows_that_are_replaced(tmp_path: Path) -> None:
    workflows = {
        ".github/workflows/my deploy.yml": f"on: push\njobs:\n{BUILD_JOB}",
        ".github/workflows/ci.yml": f"on: push\njobs:\n{BUILD_JOB}{SCAN_JOB}",
        ".github/workflows/docs.yml": "on: push\njobs: {docs: {runs-on: ubuntu-latest, steps: [{run: make docs}]}}\n",
    }
    repository(tmp_path, {"web/Dockerfile": DOCKERFILE, "web/x": "", **workflows})
    output = kiwari_ci("init", tmp_path, "--repository", "example/shop").out
    assert output.partition("workflows of today:\n")[2].splitlines() == [
        "  .github/workflows/ci.yml",
        "  - build: replaced by services.web",
        "  - scan: kept; its `needs` must no longer name build",
        "  .github/workflows/docs.yml: kept",
        "  .github/workflows/my deploy.yml",
        "  - build: replaced by services.web",
        "next:",
        f"  cd {tmp_path}",
        "  kiwari-ci validate",
        "  kiwari-ci lint",
        "  kiwari-ci diff",
        "  rm '.github/workflows/my deploy.yml' # in the pull request that brings the new ones: every job is replaced",
        "  # in the same pull request, remove from .github/workflows/ci.yml what is replaced: build",
        "  kiwari-ci generate",
    ]
    repository(tmp_path, {"api/Dockerfile": DOCKERFILE, "api/x": ""})
    assert "\n  rm '.github/workflows/my deploy.yml' #" in kiwari_ci("init", tmp_path).out, "still there"


@pytest.mark.parametrize(
    ("workflow", "outcomes"),
    [
        (TEST_JOB, {"test": "replaced by services.web.test"}),
        (DEPLOY_JOB, {"deploy": "replaced by environments.production"}),
        (
            DEPLOY_JOB + "    - uses: slackapi/slack-github-action@v2\n",
            {"deploy": "replaced by environments.production; not replaced: `slackapi/slack-github-action` (WHERE:8)"},
        ),
        (
            DEPLOY_JOB.replace("compose up -d", "compose up -d && docker compose exec web npx prisma migrate deploy"),
            {
                "deploy": "replaced by environments.production; "
                "not replaced: `docker compose exec web npx prisma migrate deploy` (WHERE:7)"
            },
        ),
        (
            BUILD_JOB + "    - run: trivy image shop\n",
            {"build": "replaced by services.web; not replaced: `trivy image shop` (WHERE:7)"},
        ),
        (
            BUILD_JOB + "    - run: docker build -t own-db own-db\n",
            {
                "build": "replaced by services.web; not replaced: the build of own-db/Dockerfile,"
                " of which no service is made"
            },
        ),
        (
            TEST_JOB + "  e2e:\n    runs-on: ubuntu-latest\n    steps: [{run: npm test, working-directory: e2e}]\n",
            {"test": "replaced by services.web.test", "e2e": "not replaced: the tests (WHERE:9)"},
        ),
        (
            "  docs: {runs-on: ubuntu-latest, steps: [{uses: actions/checkout@v4}, {run: make docs}]}\n",
            {"docs": "kept"},
        ),
    ],
)
def test_what_becomes_of_a_job(tmp_path: Path, workflow: str, outcomes: dict[str, str]) -> None:
    repository(tmp_path, {"own-db/Dockerfile": "FROM postgres:17-alpine\n"})
    jobs, removable = describe_workflows(tmp_path, {"ci.yml": f"on: push\njobs:\n{workflow}"})
    assert {job: text.replace(".github/workflows/ci.yml", "WHERE") for job, text in jobs.items()} == outcomes
    is_whole = not any("kept" in text or "not replaced" in text for text in outcomes.values())
    assert removable == (["ci.yml"] if is_whole else [])


def test_a_scheduled_run_is_replaced_by_nothing(tmp_path: Path) -> None:
    on = "on: {push: {branches: [main]}, schedule: [{cron: '0 3 * * *'}]}"
    jobs, removable = describe_workflows(tmp_path, {"ci.yml": f"{on}\njobs:\n{TEST_JOB}"})
    assert jobs == {"test": "replaced by services.web.test; not replaced: the run on the schedule `0 3 * * *`"}
    assert removable == []


@pytest.mark.parametrize(
    ("caller", "removable"),
    [
        ("  all: {uses: ./.github/workflows/build.yml}\n", ["build.yml", "main.yml"]),
        (f"  all: {{uses: ./.github/workflows/build.yml}}\n{SCAN_JOB}", []),
    ],
)
def test_a_workflow_that_another_one_calls_goes_only_with_it(tmp_path: Path, caller: str, removable: list[str]) -> None:
    workflows = {"build.yml": f"on: workflow_call\njobs:\n{BUILD_JOB}", "main.yml": f"on: push\njobs:\n{caller}"}
    jobs, removable_workflows = describe_workflows(tmp_path, workflows)
    assert jobs["all"] == "replaced by services.web"
    assert removable_workflows == removable


def test_the_spec_tells_what_nothing_in_it_replaces(tmp_path: Path) -> None:
    workflow = f"on: push\njobs:\n{BUILD_JOB}    - run: trivy image shop\n"
    files = {"web/Dockerfile": DOCKERFILE, "web/x": "", ".github/workflows/ci.yml": workflow}
    text = build_init_result(repository(tmp_path, files), "example/shop").text
    place = ".github/workflows/ci.yml"
    assert text.endswith(
        f"\n# Seen, and not in this spec:\n# - {place}:3: build: not replaced: `trivy image shop` ({place}:7)\n"
    )


def test_each_environment_has_the_accessories_of_its_files(tmp_path: Path) -> None:
    """`cache` and `cache-staging` are one; what one file alone has is in that environment alone."""
    files = {
        "Dockerfile": DOCKERFILE,
        "compose.prod.yml": "services: {web: {build: ., depends_on: [cache]}, cache: {image: 'redis:8'}, "
        "search: {image: 'elastic:9'}}",
        "compose.staging.yml": "services: {web: {build: ., depends_on: [cache-staging]}, "
        "cache-staging: {image: 'redis:8'}}",
    }
    spec = draft_spec(tmp_path, files)
    assert list(spec["accessories"]) == ["cache", "search"]
    assert spec["services"]["web"]["depends_on"] == ["cache"]
    held = {name: place.get("accessories") for name, place in spec["environments"].items()}
    assert held == {"staging": ["cache"], "production": None}


PREPARED_TESTS = """\
  test:
    runs-on: ubuntu-latest
    container: {image: 'php:8.4'}
    defaults: {run: {working-directory: web}}
    steps:
    - uses: actions/setup-node@v6
      with: {node-version: 22}
    - uses: actions/setup-python@v6
      with: {python-version: '3.13'}
    - {uses: actions/download-artifact@v6, with: {name: assets}}
    - {run: npm ci, working-directory: .}
    - run: cp .env.testing .env
    - {run: sudo apt-get install -y jq, if: always()}
    - run: npm test
"""


def test_what_tests_need_is_kept_or_told(tmp_path: Path) -> None:
    files = {"web/Dockerfile": DOCKERFILE, ".github/workflows/ci.yml": f"on: push\njobs:\n{PREPARED_TESTS}"}
    test = draft_spec(tmp_path, files)["services"]["web"]["test"]
    assert test["setup"] == {"node": "22", "python": "3.13"}
    assert " ".join(test["run"].split()) == "npm ci ( cd web cp .env.testing .env ) ( cd web npm test )"
    jobs, removable = describe_workflows(tmp_path, {"ci.yml": f"on: push\njobs:\n{PREPARED_TESTS}"})
    assert jobs["test"].replace(".github/workflows/ci.yml", "WHERE") == (
        "replaced by services.web.test; not replaced: the container php:8.4 (WHERE:5); "
        "the artifact assets (WHERE:12); `sudo apt-get install -y jq` (WHERE:15)"
    )
    assert removable == []


def test_a_job_that_the_build_waits_for_gates_nothing_when_it_is_only_kept(tmp_path: Path) -> None:
    lint = "  lint:\n    runs-on: ubuntu-latest\n    steps: [{run: make lint}]\n"
    build = BUILD_JOB.replace("  build:\n", "  build:\n    needs: lint\n")
    jobs, _ = describe_workflows(tmp_path, {"ci.yml": f"on: push\njobs:\n{lint}{build}"})
    assert jobs["lint"] == "kept; build, which is replaced, waits for it today"


def test_a_message_after_the_deploy_must_not_be_sent_at_each_push(tmp_path: Path) -> None:
    tell = "  tell:\n    needs: deploy\n    runs-on: ubuntu-latest\n    steps: [{uses: example/tell@v1}]\n"
    jobs, _ = describe_workflows(tmp_path, {"ci.yml": f"on: push\njobs:\n{DEPLOY_JOB}{tell}"})
    assert "its `needs` must no longer name deploy" in jobs["tell"]
    assert "write its steps under `steps.after_deploy`" in jobs["tell"]
