"""Environment variables: where a service gets them today, and what each is in the words of the spec."""

import re
from dataclasses import dataclass
from typing import Any

from kiwari_ci.commands.init.compose_files import DetectedContainer, may_contain_secret
from kiwari_ci.commands.init.databases import DetectedDatabaseServer
from kiwari_ci.commands.init.services import DetectedService
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.env_file import ENV_EXAMPLE_NAMES, parse_env_assignments
from kiwari_ci.readers.repository import LocalRepository, get_parent_folder, join_path
from kiwari_ci.schema.text_formats import EnvKey, PlainText

MAX_VARIABLES = 80  # variables of a service
_IS_ENV_KEY, _IS_PLAIN_TEXT = vocabulary.build_validator(EnvKey), vocabulary.build_validator(PlainText)
_RESERVED_KEYS = re.compile(r"COMPOSE_.*|DOCKER_.*")
_DATABASE_KEYS = {
    "host": re.compile(r"(DB|DATABASE|POSTGRES|PG)_?(HOST|HOSTNAME|SERVER)$"),
    "port": re.compile(r"(DB|DATABASE|POSTGRES|PG)_?PORT$"),
    "name": re.compile(r"(DB|DATABASE|POSTGRES|PG)(_?(NAME|DATABASE)|_DB)$"),
    "user": re.compile(r"(DB|DATABASE|POSTGRES|PG)_?(USER|USERNAME)$"),
}
_DEVELOPMENT_ONLY = "localhost"  # stands for a value that only development has
_SERVICE_URL = re.compile(r"https?://([\w.-]+)(?::(\d+))?/?")


@dataclass
class EnvVariable:
    """A variable: its value as the spec writes it, and a comment."""

    value: Any
    note: str


def detect_variables(
    repository: LocalRepository,
    found: DetectedService,
    services: list[DetectedService],
    server: DetectedDatabaseServer | None,
) -> dict[str, EnvVariable]:
    """The variables of a service: from compose files first, then from examples of its env files."""
    made: dict[str, EnvVariable] = {}
    for key, value, where in _collect_variables(repository, found, len(services)):
        if key in made or not _IS_ENV_KEY(key) or _RESERVED_KEYS.fullmatch(key) or len(made) >= MAX_VARIABLES:
            continue
        made[key] = _classify_variable(key, value, where, found, services, server)
    return made


def find_unlisted_env_files(
    repository: LocalRepository, found: DetectedService, container: DetectedContainer
) -> list[str]:
    """The env files of a container whose keys no example says, neither beside them nor in the service's folder."""
    if found.language.home != "." and any(
        repository.has(join_path(found.language.home, name) or "") for name in ENV_EXAMPLE_NAMES
    ):
        return []
    return [
        path
        for path in (str(fact.value) for fact in container.env_files)
        if not any(map(repository.has, _list_example_paths(path)))
    ]


def _list_example_paths(path: str) -> list[str]:
    """Where an example of an env file may be."""
    beside = (
        [join_path(get_parent_folder(path), name) or "" for name in ENV_EXAMPLE_NAMES] if path.endswith(".env") else []
    )
    return [*(f"{path}{ending}" for ending in (".example", ".sample", ".template", ".dist")), *beside]


def _collect_variables(
    repository: LocalRepository, found: DetectedService, count: int
) -> list[tuple[str, str | None, str]]:
    read: list[tuple[str, str | None, str]] = []
    folders = [found.language.home] if found.language.home != "." or count == 1 else []
    files: list[str] = []
    for stack, container in found.containers:
        read += [
            (key, _DEVELOPMENT_ONLY if value and stack.kind == vocabulary.DEVELOPMENT else value, where)
            for key, value, where in container.env
        ]
        for fact in container.env_files:
            files += _list_example_paths(str(fact.value))
    files += [join_path(folder, name) or "" for folder in folders for name in ENV_EXAMPLE_NAMES]
    for path in dict.fromkeys(files):
        if repository.has(path):
            for assignment in parse_env_assignments(repository.read(path)):
                read.append((assignment.key, assignment.value, f"{path}:{assignment.line}"))
    return read


def _classify_variable(
    key: str,
    value: str | None,
    where: str,
    found: DetectedService,
    services: list[DetectedService],
    server: DetectedDatabaseServer | None,
) -> EnvVariable:
    if server and (part := _match_database_part(key, value or "", server)):
        query = (value or "").partition("?")[2] if part == "url" else ""
        return EnvVariable(
            {"database": part}, f"{where}, today with ?{query}" if query and not may_contain_secret(query) else where
        )
    if vocabulary.is_secret(key, value or ""):
        why = "a secret by its name" if vocabulary.is_secret_name(key, value or "") else "whose value may be a secret"
        return EnvVariable({"secret": True}, f"{where}, {why}")
    if key == "PORT" and found.port:
        return EnvVariable(str(found.port.value), where)
    if (
        value
        and (url := _SERVICE_URL.fullmatch(value))
        and (other := _find_service_by_address(url[1], url[2], services))
    ):
        own = other is found
        return EnvVariable({"domain": "url"} if own else {"service": other.name}, where)
    if not value:
        return EnvVariable({"secret": True}, f"{where}, which does not say its value")
    if re.search(r"localhost|127\.0\.0\.1", value) or re.fullmatch(
        r"(?i)<.*>|.*(change.?me|your[-_ ]).*|x{3,}|\.\.\.|todo", value
    ):
        return EnvVariable({"secret": True}, f"{where}, whose value is for development")
    if not _IS_PLAIN_TEXT(value):
        return EnvVariable({"secret": True}, f"{where}, whose value no env file can hold")
    return EnvVariable(value, where)


def _match_database_part(key: str, value: str, server: DetectedDatabaseServer) -> str:
    """Which part of the database a variable is; empty for none."""
    if re.match(r"postgres(ql)?(\+\w+)?://", value) or (key in ("DATABASE_URL", "POSTGRES_URL") and not value):
        return "url" if re.match(r"postgres(ql)?://|$", value) else ""
    if value in server.containers and re.search(r"(HOST|HOSTNAME|SERVER|ADDR|ADDRESS)$", key):
        return "host"
    return next((part for part, known in _DATABASE_KEYS.items() if known.search(key)), "")


def _find_service_by_address(host: str, port: str, services: list[DetectedService]) -> DetectedService | None:
    """The service that a URL leads to: by its container's name, or on one's own machine by its port."""
    for other in services:
        if host == other.name or any(
            host == container.name or (container.container_name and host == container.container_name.value)
            for _, container in other.containers
        ):
            return other
    local = re.fullmatch(r"localhost|127\.0\.0\.1|0\.0\.0\.0", host) and port
    by_port = [
        other for other in services if local and any(str(fact.value) == port for fact in other.ports if not fact.guess)
    ]
    return by_port[0] if len(by_port) == 1 else None
