"""Other people's compose files and env files, read once for init and diff."""

import pytest

from kiwari_ci.readers import compose_file
from kiwari_ci.readers.compose_file import ComposeService
from kiwari_ci.readers.duration import is_duration, parse_duration
from kiwari_ci.readers.env_file import parse_env_assignments
from kiwari_ci.readers.yaml_document import parse_yaml_document


def read_service(text: str, key: str = "web") -> ComposeService:
    project = compose_file.parse_compose_file(parse_yaml_document("shop/compose.yml", text))
    assert project is not None
    return project.services[key]


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("environment: [A=1, B]", "environment: {A: '1', B: }"),
        ("ports: ['127.0.0.1:80:8080']", "ports: [{host_ip: 127.0.0.1, published: 80, target: 8080}]"),
        ("volumes: ['data:/data']", "volumes: [{type: volume, source: data, target: /data}]"),
        ("env_file: .env", "env_file: [{path: .env}]"),
        ("depends_on: {db: {condition: service_started}}", "depends_on: {db: service_started}"),
        ("build: ./web", "build: {context: web}"),
        ("labels: [a=b]", "labels: [{a: b}]"),
    ],
)
def test_two_ways_to_write_one_thing_are_one(short: str, long: str) -> None:
    first = read_service(f"services: {{web: {{{short}}}}}")
    second = read_service(f"services: {{web: {{{long}}}}}")
    assert first.attributes == second.attributes != {}


def test_only_the_aliases_of_a_network_are_shown_without_their_key() -> None:
    service = read_service("services: {web: {networks: {front: {aliases: [web, www]}, back: {priority: 1000}}}}")
    assert service.attributes["networks"] == {"front": "web, www", "back": {"priority": 1000}}


@pytest.mark.parametrize(
    ("service", "ends"),
    [
        ("image: certbot/certbot, command: certonly --webroot -d example.com", True),
        ("image: 'minio/mc:latest', entrypoint: [sh, -c, 'until mc ls s3; do sleep 1; done; mc mb s3/files']", True),
        ("image: 'minio/mc:latest', entrypoint: [sh, -c, 'mc mb s3/files; /start-server']", False),
        ("image: certbot/certbot, entrypoint: [sh, -c, 'while :; do certbot renew; sleep 12h; done']", False),
        ("image: certbot/certbot, command: renew, restart: always", False),
        ("image: 'alpine:3', command: chown -R 1000 /files", True),
        ("image: 'redis:7'", False),
        ("image: 'redis:7', command: redis-server --save 60 1", False),
        ("image: 'minio/mc:latest'", False),
    ],
)
def test_a_tool_that_does_one_thing_runs_to_its_end(service: str, ends: bool) -> None:
    table = read_service(f"services: {{web: {{{service}}}}}").table
    assert (compose_file.find_one_shots([("task", table)]) == {"task"}) is ends


def test_services_that_run_to_their_end() -> None:
    text = "services: {web: {depends_on: {seed: {condition: service_completed_successfully}}}, seed: {image: a}, "
    text += "files: {command: cp -r /dist /out}, task: {restart: 'no'}, shop: {restart: 'no', ports: ['80']}}\n"
    project = compose_file.parse_compose_file(parse_yaml_document("compose.yml", text))
    assert project
    services = [(key, service.table) for key, service in project.services.items()]
    assert compose_file.find_one_shots(services) == {"seed", "files", "task"}
    assert compose_file.find_one_shots(services, serving={"task"}) == {"seed", "files"}


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("3m", 180), ("1h1m1s", 3661), ("30s1m", 90)])
def test_durations(text: str, seconds: int) -> None:
    assert is_duration(text)
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "1.5h", "10ms", "9" * 5000 + "s"])
def test_other_texts_are_no_durations(text: str) -> None:
    assert not is_duration(text)


def test_a_colon_in_a_variable_cuts_no_mount() -> None:
    service = read_service("services: {web: {volumes: ['${DATA:-./data}:/data:ro']}}")
    (mount,) = compose_file.list_mounts(service.table)
    assert (mount.source, mount.target, mount.mode) == ("${DATA:-./data}", "/data", "ro")


def test_a_service_has_what_it_extends_in_the_same_file() -> None:
    text = """
services:
  base: {image: 'a:1', environment: {A: 1, B: 1}}
  web: {extends: {service: base}, environment: {B: 2}}
  far: {extends: {service: base, file: other.yml}}
  loop: {extends: loop}
"""
    web = read_service(text)
    assert (web.image, web.attributes["environment"]) == ("a:1", {"A": "1", "B": "2"})
    assert "extends" not in web.attributes
    assert list(read_service(text, "far").attributes) == ["extends"]
    assert read_service(text, "loop").image == ""


def test_the_hosts_of_a_rule() -> None:
    rule = "Host(`a.example.com`, `b.example.com`) || (Host(`c.example.com`) && PathPrefix(`/api`))"
    assert compose_file.find_rule_hosts(rule) == ["a.example.com", "b.example.com", "c.example.com"]


def test_a_file_without_services_is_none() -> None:
    assert compose_file.parse_compose_file(parse_yaml_document("compose.yml", "networks: {}")) is None


def test_the_lines_of_an_env_file() -> None:
    text = "# a secret\nA='x # y' # z\n\nexport B = 1 # one\r\nnot a variable\nC=\nD=\"open\nA=2\n"
    assignments = parse_env_assignments(text)
    assert [(assignment.key, assignment.value, assignment.line) for assignment in assignments] == [
        ("A", "x # y", 2), ("B", "1", 4), ("C", "", 6), ("D", '"open', 7), ("A", "2", 8),
    ]  # fmt: skip
    assert [assignment.comment for assignment in assignments] == ["# a secret", "", "", "", ""]


def test_lists_of_an_override_file_add_to_the_first_files_or_take_their_place() -> None:
    base = parse_yaml_document("a.yml", "services: {web: {build: ., ports: ['1:1'], dns: [a], command: [a, b]}}\n")
    text = "services: {web: {ports: ['2:2'], dns: !override [b], command: [c], tty: true}}\n"
    override = parse_yaml_document("b.yml", text)
    compose_file.apply_override_file(base, override)
    table = override.data.get_mapping("services").get_mapping("web")
    assert dict(table) == {"build": ".", "ports": ["1:1", "2:2"], "dns": ["b"], "command": ["c"], "tty": True}
    assert table.list_items("ports") == [("1:1", "a.yml:1"), ("2:2", "b.yml:1")]


@pytest.mark.parametrize(("other", "is_completed"), [("job: {tty: true}", True), ("job: {image: b}", False)])
def test_a_service_with_an_image_is_completed_where_its_file_needs_the_first_one(
    other: str, is_completed: bool
) -> None:
    """Compose cannot read the file alone if one of its services has no image, so it reads it behind the first one."""
    text = "services: {web: {environment: {A: a}, container_name: shop}, job: {image: a}}\n"
    base = parse_yaml_document("a.yml", text)
    override = parse_yaml_document("b.yml", f"services: {{web: {{image: c, environment: {{B: b}}}}, {other}}}\n")
    compose_file.apply_override_file(base, override)
    table = override.data.get_mapping("services").get_mapping("web")
    completed = {"environment": {"A": "a", "B": "b"}, "container_name": "shop", "image": "c"}
    assert dict(table) == (completed if is_completed else {"image": "c", "environment": {"B": "b"}})
