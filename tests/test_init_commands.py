"""`kiwari-ci init`, and commands into which Compose fills variables: none starts without its password."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kiwari_ci.commands.init.compose_files import DetectedContainer
from kiwari_ci.commands.init.container_commands import convert_command, list_shell_names
from kiwari_ci.commands.init.draft_text import InitResult
from kiwari_ci.readers.yaml_document import parse_yaml_document
from kiwari_ci.spec_loading.yaml_source import parse_yaml
from tests.init_drafts import draft_files

VALUES = {"REDIS_PASSWORD": "a $b*'c", "EXTRA_ARGS": "--save 60", "MAX": "64mb", "REDIS_PASS": "p"}


def run_init(folder: Path, compose: str, files: dict[str, str]) -> tuple[dict[str, Any], InitResult]:
    """The spec that is drafted for an application with other containers, and what is said beside it."""
    texts = {"Dockerfile": "FROM scratch\nCOPY . .\nEXPOSE 8080\n", "compose.yml": compose, **files}
    return draft_files(folder, texts)


def draft_accessory(folder: Path, options: str, **files: str) -> tuple[dict[str, Any], InitResult]:
    """The entry of one accessory with some options."""
    spec, result = run_init(folder, f"services:\n  web: {{build: .}}\n  cache: {{{options}}}\n", files)
    entry: dict[str, Any] = spec["accessories"]["cache"]
    return entry, result


def run_command(folder: Path, words: list[str], env: dict[str, Any]) -> list[str]:
    """What a container starts: the program and its arguments, with the variables of its entry."""
    programs = folder / "programs"
    programs.mkdir()
    for name in ("redis-server", "redis-cli", "docker-entrypoint.sh", "search"):
        program = programs / name
        program.write_text('#!/bin/sh\nprintf "%s\\0" "${0##*/}" "$@"\n')
        program.chmod(0o755)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", **{name: VALUES[name] for name in env}}
    arguments = [word.replace("$$", "$") for word in words]
    if arguments[0] == "CMD-SHELL":
        arguments = ["sh", "-c", *arguments[1:]]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


@pytest.mark.parametrize(
    ("options", "started"),
    [
        ("image: 'redis:7', command: 'redis-server --requirepass ${REDIS_PASSWORD} --appendonly yes'",
         ["docker-entrypoint.sh", "redis-server", "--requirepass", "a $b*'c", "--appendonly", "yes"]),
        ("image: 'redis:7', command: [redis-server, --requirepass, $REDIS_PASSWORD, --user, 'a\\\"b $$5']",
         ["docker-entrypoint.sh", "redis-server", "--requirepass", "a $b*'c", "--user", 'a\\"b $5']),
        ("image: 'redis:7', command: '--requirepass ${REDIS_PASSWORD:?must be set} ${EXTRA_ARGS}'",
         ["docker-entrypoint.sh", "--requirepass", "a $b*'c", "--save", "60"]),
        ("image: 'redis:7', command: 'redis-server --maxmemory ${MAX:-} --requirepass ${REDIS_PASS:-hunter2}'",
         ["docker-entrypoint.sh", "redis-server", "--maxmemory", "64mb", "--requirepass", "p"]),
        ("image: 'other/search:1', command: 'search --key=${REDIS_PASSWORD}x'", ["search", "--key=a $b*'cx"]),
        ("image: 'other/search:1', entrypoint: search, command: [--key, '${REDIS_PASSWORD}']",
         ["search", "--key", "a $b*'c"]),
        ("image: 'other/search:1', entrypoint: [], command: [search, --key, '${REDIS_PASSWORD}']",
         ["search", "--key", "a $b*'c"]),
        ("image: 'redis:7', command: \"sh -c 'exec redis-server --requirepass ${REDIS_PASSWORD}'\"",
         ["redis-server", "--requirepass", "a $b*'c"]),
        ("""image: 'redis:7', command: [sh, -c, "exec redis-server --requirepass '${REDIS_PASSWORD}'"]""",
         ["redis-server", "--requirepass", "a $b*'c"]),
        ("image: 'redis:7', entrypoint: [/bin/sh, -ec], command: ['exec redis-server --pass ${REDIS_PASSWORD}']",
         ["redis-server", "--pass", "a $b*'c"]),
        ("image: 'redis:7', environment: [REDIS_PASSWORD],"
         " command: [sh, -c, 'exec redis-server --requirepass \"$$REDIS_PASSWORD\"']",
         ["redis-server", "--requirepass", "a $b*'c"]),
        ("image: 'redis:7', env_file: .env, command: [sh, -c, 'exec redis-server --requirepass \"$$REDIS_PASSWORD\"']",
         ["redis-server", "--requirepass", "a $b*'c"]),
    ],
)  # fmt: skip
def test_a_command_with_variables_starts_as_today(tmp_path: Path, options: str, started: list[str]) -> None:
    entry, result = draft_accessory(tmp_path, options)
    words = [*entry.get("entrypoint", []), *entry["command"]]
    assert run_command(tmp_path, words, entry["env"]) == started
    assert "hunter2" not in result.text


@pytest.mark.parametrize(
    "test",
    [
        "[CMD, redis-cli, -a, '${REDIS_PASSWORD}', ping]",
        "'redis-cli -a \"$REDIS_PASSWORD\" ping'",
        "\"redis-cli -a '${REDIS_PASSWORD}' ping\"",
    ],
)
def test_a_health_check_with_variables_asks_as_today(tmp_path: Path, test: str) -> None:
    entry, _ = draft_accessory(tmp_path, f"image: 'redis:7', healthcheck: {{test: {test}}}")
    assert run_command(tmp_path, entry["healthcheck"]["test"], entry["env"]) == ["redis-cli", "-a", "a $b*'c", "ping"]


@pytest.mark.parametrize("image", ["other/search:1", "minio/minio:1"])
def test_an_unknown_entrypoint_is_asked_with_the_other_answer(tmp_path: Path, image: str) -> None:
    """The image may run the command that it gets, or have a program of its own as entrypoint."""
    entry, result = draft_accessory(tmp_path, f"image: '{image}', command: 'serve --master-key ${{KEY}}'")
    assert entry["command"] == ["sh", "-c", 'exec serve --master-key "$$KEY"']
    (question,) = [question for _, question in result.decisions if "$KEY" in question]
    assert "compose.yml:3" in question
    lines = re.findall(r"^ +# ((?:entrypoint|command): .*)$", result.text, re.MULTILINE)
    spec = parse_yaml("answer.yaml", "\n".join(lines)).data
    assert spec == {"entrypoint": ["sh", "-c"], "command": ['exec ENTRYPOINT serve --master-key "$$KEY"']}


def test_options_of_an_unknown_entrypoint_start_nothing_before_an_answer(tmp_path: Path) -> None:
    entry, result = draft_accessory(tmp_path, "image: 'other/search:1', command: '--region ${REGION}'")
    assert entry["entrypoint"] == ["sh", "-c"]
    assert entry["command"] == ['exec ENTRYPOINT --region "$$REGION"']
    assert any("docker image inspect" in question for _, question in result.decisions)
    assert '# command: ["--region", "…"]' in result.text


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("df | awk '{print $$NF}'", []),
        ("df | awk '{print $$NF}' | grep \"$$DISK\"", ["DISK"]),
        ("echo \"it's $$DISK\"", ["DISK"]),
    ],
)
def test_a_shell_reads_no_variable_between_single_quotes(script: str, names: list[str]) -> None:
    assert list_shell_names(["sh", "-c", script]) == names


def test_the_name_of_an_image_is_quoted_in_a_command_to_try() -> None:
    table = parse_yaml_document("compose.yml", "command: '--region ${REGION}'").data
    container = DetectedContainer("compose.yml", "search", "compose.yml:1", "", image="search;touch x", table=table)
    assert "{{.Config.Entrypoint}}' 'search;touch x'`" in convert_command(container).question


@pytest.mark.parametrize(
    "options",
    [
        "command: 'redis-server --requirepass hunter2'",
        "command: [redis-server, '${REDIS_PASSWORD:+--requirepass}', '${REDIS_PASSWORD}']",
        "command: 'redis-server --port ${PORT}', environment: {PORT: '6380'}",
        "command: [sh, -c, \"redis-server\\n--requirepass $REDIS_PASSWORD\"]",
        "entrypoint: [run, --token, hunter2]",
    ],
)
def test_a_command_that_the_spec_cannot_have_starts_nothing(tmp_path: Path, options: str) -> None:
    """Without its command a server might start without a password, and its check would pass."""
    entry, result = draft_accessory(tmp_path, f"image: 'redis:7', {options}")
    assert entry["entrypoint"] == ["ENTRYPOINT"]
    assert any("the command of cache" in question for _, question in result.decisions)
    assert "# entrypoint: [sh, -c]" in result.text
    assert "hunter2" not in result.text + json.dumps(result.seen + [question for _, question in result.decisions])


def test_the_name_of_a_plugin_of_mysql_is_no_secret(tmp_path: Path) -> None:
    option = "--default-authentication-plugin=mysql_native_password"
    entry, _ = draft_accessory(tmp_path, f"image: 'mysql:8', command: {option}")
    assert entry["command"] == [option]


def test_an_env_file_of_an_accessory_becomes_its_variables(tmp_path: Path) -> None:
    entry, _ = draft_accessory(
        tmp_path, "image: 'rabbitmq:4', env_file: mq.env", **{"mq.env.example": "MQ_PASS=x\nMQ_USER=shop\n"}
    )
    assert entry["env"] == {"MQ_PASS": {"secret": True}, "MQ_USER": {"secret": True}}


def test_an_env_file_without_an_example_is_asked(tmp_path: Path) -> None:
    _, result = draft_accessory(tmp_path, "image: 'rabbitmq:4', env_file: mq.env")
    assert any("reads mq.env today (compose.yml:3)" in question for _, question in result.decisions)


@pytest.mark.parametrize("owner", ["web: {build: ., ", "cache: {image: 'redis:7', "])
def test_a_label_and_a_folder_with_variables_are_asked(tmp_path: Path, owner: str) -> None:
    container = f"{owner}labels: {{team: '${{TEAM}}', a: b}}, volumes: ['${{FOLDER:?}}/x:/data', 'v:/v']}}"
    other = "" if owner.startswith("web") else "\n  web: {build: .}"
    spec, result = run_init(tmp_path, f"services:\n  {container}{other}\n", {})
    entry = (spec["services"] | spec.get("accessories", {}))[owner.partition(":")[0]]
    assert (entry["labels"], entry["volumes"]) == ({"a": "b"}, ["v:/v"])
    questions = " ".join(question for _, question in result.decisions)
    assert "the label team (compose.yml:2)" in questions
    assert "mounts ${FOLDER:?}/x:/data today (compose.yml:2)" in questions
    assert '# labels: {a: b, team: "…"}' in result.text
    assert '# volumes: [v:/v, "…/x:/data"]' in result.text


def test_the_command_of_a_service_keeps_its_variables(tmp_path: Path) -> None:
    compose = "services:\n  web: {build: ., environment: {A: b}, command: [serve, '${REGION}', '${A_TOKEN}']}\n"
    spec, _ = run_init(tmp_path, compose, {})
    entry = spec["services"]["web"]
    assert entry["command"] == ["sh", "-c", 'exec serve "$$REGION" "$$A_TOKEN"']
    assert entry["env"] == {"A": "b", "REGION": {"secret": True}, "A_TOKEN": {"secret": True}}


@pytest.mark.parametrize("command", ["[--token, '${A_TOKEN}']", "[serve, x]"])
def test_a_migration_is_never_run_by_the_entrypoint_of_another_command(tmp_path: Path, command: str) -> None:
    """Behind `sh -c` of the service, the words of a migration would be arguments that no shell reads."""
    migrate = "migrate: {build: ., image: shop, command: [up], restart: 'no'}"
    compose = f"services:\n  web: {{build: ., image: shop, ports: ['8080'], command: {command}}}\n  {migrate}\n"
    spec, result = run_init(tmp_path, compose, {})
    entry = spec["services"]["web"]
    is_asked = any("write it as `migrate: […]`" in question for _, question in result.decisions)
    assert is_asked is ("entrypoint" in entry)
    assert ("migrate" in entry) is not is_asked
