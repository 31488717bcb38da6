"""`service_defaults`: what a service takes of them, and where errors in them are reported."""

from pathlib import Path

import pytest

from kiwari_ci import generator
from kiwari_ci.commands.check import spec_location
from kiwari_ci.generator import LoadedSpec
from kiwari_ci.problems import Problem, SpecError
from kiwari_ci.schema import Service
from kiwari_ci.spec_loading.yaml_source import parse_yaml
from tests.cli_runner import kiwari_ci

SPEC = """\
project: {{name: shop, repository: example/shop}}
hosts: {{vps: {{}}}}
service_defaults: {shared}
services:
  api: {{port: 8080}}
  other: {own}
accessories: {{cache: {{image: "valkey/valkey:8"}}}}
environments: {{staging: {{deploy_on: {{push: main}}}}}}
"""


def load(shared: str, own: str) -> LoadedSpec:
    return generator.validate_and_plan(parse_yaml("shop.yaml", SPEC.format(shared=shared, own=own)))


def other(shared: str, own: str) -> Service:
    """The second service, with what it takes; `api` takes everything."""
    return load(shared, own).spec.services["other"]


def problems(shared: str, own: str) -> list[Problem]:
    with pytest.raises(SpecError) as raised:
        load(shared, own)
    return raised.value.problems


@pytest.mark.parametrize(
    ("shared", "own"),
    [
        ("{mem_limit: 1g}", "{mem_limit: 2g}"),
        ("{command: [a, b]}", "{command: [c]}"),
        ("{volumes: ['a:/a']}", "{volumes: ['b:/b']}"),
        ("{depends_on: [cache]}", "{depends_on: {api: started}}"),
        ("{env: {A: {secret: true}}}", "{env: {A: {service: api}}}"),
        ("{compose: {logging: {driver: local, options: {max-size: 1m}}}}", "{compose: {logging: {driver: journald}}}"),
        ("{build: {args: {A: a}}}", "{build: {args: {A: {variable: B}}}}"),
    ],
)
def test_a_value_of_its_own_replaces_the_shared_one(shared: str, own: str) -> None:
    assert other(shared, own) == other("{}", own)


@pytest.mark.parametrize(
    ("shared", "own", "merged"),
    [
        ("{env: {A: a, B: b}}", "{env: {B: c, D: d}}", "{env: {A: a, B: c, D: d}}"),
        ("{labels: {a: b}}", "{}", "{labels: {a: b}}"),
        (
            "{health: {path: /up, status: 204}}",
            "{port: 80, health: {path: /x}}",
            "{port: 80, health: {path: /x, status: 204}}",
        ),
        (
            "{healthcheck: {test: [CMD, a], retries: 5}}",
            "{healthcheck: {retries: 2}}",
            "{healthcheck: {test: [CMD, a], retries: 2}}",
        ),
        (
            "{build: {cache: true, args: {A: a}}}",
            "{build: {args: {B: b}}}",
            "{build: {cache: true, args: {A: a, B: b}}}",
        ),
        ("{compose: {init: false}}", "{compose: {shm_size: 1m}}", "{compose: {init: false, shm_size: 1m}}"),
    ],
)
def test_mappings_are_merged_key_by_key(shared: str, own: str, merged: str) -> None:
    assert other(shared, own) == other("{}", merged)


@pytest.mark.parametrize(
    ("shared", "own", "taken"),
    [
        # a worker
        ("{health: {path: /up}, websocket: true}", "{}", "{}"),
        (
            "{health: {path: /up, start_period: 90s}}",
            "{health: {by: healthcheck}}",
            "{health: {by: healthcheck, start_period: 90s}}",
        ),
        ("{health: {by: healthcheck}}", "{}", "{health: {by: healthcheck}}"),
        # a service that is not checked over HTTP
        (
            "{health: {status: 204, start_period: 90s}}",
            "{port: 1, health: {by: tcp}}",
            "{port: 1, health: {by: tcp, start_period: 90s}}",
        ),
        ("{health: {by: http, host: a.example.com}}", "{port: 1, health: {by: tcp}}", "{port: 1, health: {by: tcp}}"),
        # a service that runs to its end
        (
            "{healthcheck: {test: [CMD, a]}, rollout: recreate, replicas: 2, mem_limit: 1g}",
            "{once: true}",
            "{once: true, mem_limit: 1g}",
        ),
        # another process of an image
        ("{build: {cache: true}, env: {A: a}, mem_limit: 1g}", "{image_of: api}", "{image_of: api, mem_limit: 1g}"),
        ("{env: {A: a}}", "{image_of: api, env: {B: b}}", "{image_of: api, env: {A: a, B: b}}"),
    ],
)
def test_a_service_does_not_take_what_its_kind_excludes(shared: str, own: str, taken: str) -> None:
    assert other(shared, own) == other("{}", taken)


@pytest.mark.parametrize(
    ("shared", "own"), [("[other, cache]", "{}"), ("{other: completed, cache: started}", "{once: true}")]
)
def test_no_service_waits_for_itself(shared: str, own: str) -> None:
    services = load(f"{{depends_on: {shared}}}", own).spec.services
    assert list(services["other"].depends_on) == ["cache"]
    assert list(services["api"].depends_on) == ["other", "cache"]


def test_another_process_reads_the_shared_variables_in_the_env_file_of_its_image() -> None:
    environment = load("{env: {A: a}}", "{image_of: api}").effective.environments["staging"]
    assert environment.service("other").env_file == environment.service("api").env_file
    assert "A" in environment.service("other").variable_names


@pytest.mark.parametrize(
    ("shared", "column", "message"),
    [
        ("{mem_limit: 1 g}", 31, "service_defaults.mem_limit: expected an amount of memory"),
        ("{env: {PASSWORD: hunter2}}", 36, "service_defaults.env.PASSWORD: a value for what is named like a secret"),
        ("{volumes: ['a:/a', b]}", 38, "service_defaults.volumes[1]: expected"),
        ("{depends_on: [chace]}", 32, "service_defaults.depends_on.chace: no `chace`"),
        ("{healthcheck: {retries: 5}}", 20, "service_defaults.healthcheck lacks `test`"),
        ("{health: {path: /up, status: 42}}", 48, "service_defaults.health.status: expected 200 or more"),
        ("{port: 80}", 20, "no `port` in service_defaults"),
        ("{build: {context: api}}", 28, "no `context` in service_defaults.build"),
        ("{expose: [80]}", 20, "unknown key `expose` in service_defaults"),
    ],
)
def test_an_error_is_reported_once_and_at_its_line(shared: str, column: int, message: str) -> None:
    [problem] = problems(shared, "{port: 80}")
    assert (problem.line, problem.column) == (3, column)
    assert problem.message.startswith(message)
    assert problem.hint


def test_an_error_of_the_service_itself_points_at_the_service() -> None:
    [problem] = problems("{env: {A: a}}", "{env: {B: 3}}")
    assert (problem.line, problem.message.partition(":")[0]) == (6, "services.other.env.B")


@pytest.mark.parametrize("own", ["3", "[a]", ""])
def test_a_service_that_is_no_mapping_is_an_error_of_its_own(own: str) -> None:
    [problem] = problems("{mem_limit: 1g}", own)
    assert problem.message.startswith("services.other: expected a mapping")


def test_what_no_service_takes_is_an_error() -> None:
    text = SPEC.format(shared="{mem_limit: 1g, websocket: true}", own="{}").replace("port: 8080", "mem_limit: 2g")
    with pytest.raises(SpecError) as raised:
        generator.validate_and_plan(parse_yaml("shop.yaml", text))
    assert [problem.message for problem in raised.value.problems] == ["service_defaults.websocket: no service takes it"]


def test_a_generated_line_comes_from_the_line_of_the_defaults() -> None:
    loaded = load("{build: {args: {MODE: complete}}}", "{}")
    key = spec_location.find_spec_key(".github/workflows/api-ci.yml", loaded.plan)
    place = spec_location.locate_generated_line(loaded.source, key, "            MODE=complete")
    assert place == (("service_defaults", "build", "args", "MODE"), 3)


def test_set_edits_the_spec_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "shop.yaml"
    path.write_text(SPEC.format(shared="{mem_limit: 1g}", own="{}"))
    assert kiwari_ci("set", "services.api.mem_limit", "2g", "shop.yaml").code == 0
    assert kiwari_ci("set", "service_defaults.mem_limit", "3g", "shop.yaml").code == 0
    written = SPEC.format(shared="{mem_limit: 3g}", own="{}").replace("{port: 8080}", "{port: 8080, mem_limit: 2g}")
    assert path.read_text() == written
