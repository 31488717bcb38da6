"""Environment variables: where a service gets them today, and what each is in the words of the spec."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from kiwari_ci.commands.init.compose_files import (
    DetectedContainer,
    list_example_paths,
    list_examples_in,
    may_contain_secret,
)
from kiwari_ci.commands.init.databases import DetectedDatabaseServer
from kiwari_ci.commands.init.services import DetectedService
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.env_file import list_effective_assignments
from kiwari_ci.readers.repository import LocalRepository
from kiwari_ci.schema.text_formats import ContainerEnvKey, EnvFileKey, PlainText

MAX_VARIABLES = 80  # variables of a service
_IS_ENV_KEY = vocabulary.build_validator(EnvFileKey)
_IS_CONTAINER_ENV_KEY = vocabulary.build_validator(ContainerEnvKey)
_IS_PLAIN_TEXT = vocabulary.build_validator(PlainText)
_RESERVED_KEYS = re.compile(r"COMPOSE_.*|DOCKER_.*")
_DATABASE_KEYS = {
    "host": re.compile(r"(DB|DATABASE|POSTGRES|PG)_?(HOST|HOSTNAME|SERVER)$"),
    "port": re.compile(r"(DB|DATABASE|POSTGRES|PG)_?PORT$"),
    "name": re.compile(r"(DB|DATABASE|POSTGRES|PG)(_?(NAME|DATABASE)|_DB)$"),
    "user": re.compile(r"(DB|DATABASE|POSTGRES|PG)_?(USER|USERNAME)$"),
}
_DEVELOPMENT_ONLY = "localhost"  # stands for a value that only development has
_LOCAL_ADDRESS = re.compile(r"localhost|127\.0\.0\.1")
_PLACEHOLDER = re.compile(r"(?i)<.*>|.*(change.?me|your[-_ ]).*|x{3,}|\.\.\.|todo")
_SERVICE_URL = re.compile(r"https?://([\w.-]+)(?::(\d+))?/?")


@dataclass
class EnvVariable:
    """A variable: its value as the spec writes it, and a comment."""

    value: Any
    note: str

    @property
    def is_secret(self) -> bool:
        """Whether nothing here may say its value."""
        return isinstance(self.value, dict) and "secret" in self.value


def find_field(key: str, variable: EnvVariable) -> str:
    """The field of the spec that takes a variable; empty for none: an env file takes only names that a shell has."""
    if _IS_ENV_KEY(key):
        return "env"
    return "" if variable.is_secret else "environment"


def detect_variables(
    repository: LocalRepository,
    service: DetectedService,
    services: list[DetectedService],
    server: DetectedDatabaseServer | None,
    deployed_kinds: set[str],
) -> dict[str, EnvVariable]:
    """The variables of a service: from compose files first, then from examples of its env files.

    The kinds are those of the compose files that a deploy uses.
    """
    variables: dict[str, EnvVariable] = {}
    collected = _collect_variables(service)
    if not find_deployed_environment(service, deployed_kinds):
        collected += _collect_example_variables(repository, service, len(services))
    for key, value, where in collected:
        if _is_allowed_key(key) and key not in variables and len(variables) < MAX_VARIABLES:
            variables[key] = _classify_variable(key, value or "", where, service, services, server)
    return variables


def detect_differing_variables(
    service: DetectedService,
    kind: str,
    kinds: set[str],
    variables: dict[str, EnvVariable],
    services: list[DetectedService],
) -> dict[str, EnvVariable]:
    """The variables that containers of one kind of environment, of several, have alone or with another value."""
    own: dict[str, EnvVariable] = {}
    for compose_file, container in service.containers:
        if compose_file.kind == kind:
            for key, value, where in [*container.env, *container.example_env]:
                if key not in own and _is_allowed_key(key):
                    own[key] = _classify_variable(key, value or "", where, service, services, None)
    own_keys = find_own_keys(service, kinds).get(kind, set())
    return {key: variable for key, variable in own.items() if key in own_keys or _differs(variables.get(key), variable)}


def _is_allowed_key(key: str) -> bool:
    return _IS_CONTAINER_ENV_KEY(key) and not _RESERVED_KEYS.fullmatch(key)


def _differs(usual: EnvVariable | None, own: EnvVariable) -> bool:
    return usual is not None and isinstance(usual.value, str) and own.value != usual.value


def find_unlisted_env_files(
    repository: LocalRepository, service: DetectedService, container: DetectedContainer
) -> list[str]:
    """The env files of a container whose keys no example says, neither beside them nor in the service's folder."""
    home = service.language.home
    if home != "." and any(repository.has(path) for path in list_examples_in(home)):
        return []
    paths = [str(env_file.value) for env_file in container.env_files]
    return [path for path in paths if not list_example_paths(repository, path)]


def find_deployed_environment(service: DetectedService, deployed_kinds: set[str]) -> str:
    """Where a compose file that is deployed says the whole environment of a service; empty if none does.

    What else the example of a developer's env file has is not there today.
    """
    containers = [container for file, container in service.containers if file.kind in deployed_kinds]
    if any(container.env_files for container in containers):
        return ""
    return next((container.env[0][2] for container in containers if container.env), "")


def list_unused_examples(
    repository: LocalRepository, service: DetectedService, service_count: int, keys: Collection[str]
) -> list[str]:
    """The variables of a service's env examples beside some keys, each with its place."""
    examples = _collect_example_variables(repository, service, service_count)
    return [f"{key} ({where})" for key, _, where in examples if key not in keys]


def find_own_keys(service: DetectedService, kinds: set[str]) -> dict[str, set[str]]:
    """The keys that the compose files of only some kinds of environments have, by these kinds.

    None where one of the environments has no compose file of its own: it has what the others have.
    """
    keys_by_kind: dict[str, set[str]] = {}
    for file, container in service.containers:
        keys = keys_by_kind.setdefault(file.kind, set())
        keys |= {key for key, _, _ in [*container.env, *container.example_env]}
    if not kinds <= keys_by_kind.keys() or "" in keys_by_kind:
        return {}
    shared_keys = set.intersection(*(keys_by_kind[kind] for kind in kinds))
    return {kind: keys_by_kind[kind] - shared_keys for kind in kinds}


def _collect_variables(service: DetectedService) -> list[tuple[str, str | None, str]]:
    """Key, value (None where it is not known) and place of each variable; the most certain ones come first."""
    variables: list[tuple[str, str | None, str]] = []
    for compose_file, container in service.containers:
        for key, value, where in container.env:
            is_for_development = bool(value) and compose_file.kind == vocabulary.DEVELOPMENT
            variables.append((key, _DEVELOPMENT_ONLY if is_for_development else value, where))
    for _, container in service.containers:
        variables += container.example_env
    return variables


def _collect_example_variables(
    repository: LocalRepository, service: DetectedService, service_count: int
) -> list[tuple[str, str | None, str]]:
    """The same of the examples in the folder of a service, which no container names."""
    variables: list[tuple[str, str | None, str]] = []
    home = service.language.home
    example_paths = list_examples_in(home) if home != "." or service_count == 1 else []
    for path in example_paths:
        if repository.has(path):
            for assignment in list_effective_assignments(repository.read(path)):
                variables.append((assignment.key, assignment.value, f"{path}:{assignment.line}"))
    return variables


def _classify_variable(
    key: str,
    value: str,
    where: str,
    service: DetectedService,
    services: list[DetectedService],
    server: DetectedDatabaseServer | None,
) -> EnvVariable:
    """A variable in the words of the spec; one without a value that production can have is a secret."""
    database_part = _match_database_part(key, value, server) if server else ""
    if database_part:
        return EnvVariable({"database": database_part}, _describe_database_variable(database_part, value, where))
    if vocabulary.is_secret_name(key, value):
        return EnvVariable({"secret": True}, f"{where}, a secret by its name")
    if vocabulary.is_secret(key, value):
        return EnvVariable({"secret": True}, f"{where}, whose value may be a secret")
    if key == "PORT" and service.port:
        return EnvVariable(str(service.port.value), where)
    other_service = _find_service_by_url(value, services)
    if other_service is service:
        return EnvVariable({"domain": "url"}, where)
    if other_service:
        return EnvVariable({"service": other_service.name}, where)
    if not value:
        return EnvVariable({"secret": True}, f"{where}, which does not say its value")
    if _LOCAL_ADDRESS.search(value) or _PLACEHOLDER.fullmatch(value):
        return EnvVariable({"secret": True}, f"{where}, whose value is for development")
    if not _IS_PLAIN_TEXT(value):
        return EnvVariable({"secret": True}, f"{where}, whose value no env file can hold")
    return EnvVariable(vocabulary.escape_dollar_signs(value), where)


def _describe_database_variable(part: str, value: str, where: str) -> str:
    """The place of a variable, and the query of its URL, which the spec does not write."""
    query = value.partition("?")[2]
    if part != "url" or not query or may_contain_secret(query):
        return where
    return f"{where}, today with ?{query}"


def _match_database_part(key: str, value: str, server: DetectedDatabaseServer) -> str:
    """Which part of the database a variable is; empty for none."""
    is_url_key = key in ("DATABASE_URL", "POSTGRES_URL")
    if re.match(r"postgres(ql)?://", value) or (is_url_key and not value):
        return "url"
    if re.match(r"postgres(ql)?\+\w+://", value):
        return ""  # a URL with a driver, which the spec does not write
    if value in server.containers and re.search(r"(HOST|HOSTNAME|SERVER|ADDR|ADDRESS)$", key):
        return "host"
    for part, pattern in _DATABASE_KEYS.items():
        if pattern.search(key):
            return part
    return ""


def _find_service_by_url(value: str, services: list[DetectedService]) -> DetectedService | None:
    url = _SERVICE_URL.fullmatch(value)
    return _find_service_by_address(url[1], url[2] or "", services) if url else None


def _find_service_by_address(host: str, port: str, services: list[DetectedService]) -> DetectedService | None:
    """The service at an address: by its container's name, or by its port on the developer's own machine."""
    for service in services:
        if host in _list_host_names(service):
            return service
    if not port or not re.fullmatch(r"localhost|127\.0\.0\.1|0\.0\.0\.0", host):
        return None
    by_port = [service for service in services if port in _list_certain_ports(service)]
    return by_port[0] if len(by_port) == 1 else None


def _list_host_names(service: DetectedService) -> list[str]:
    names = [service.name]
    for _, container in service.containers:
        names.append(container.name)
        if container.container_name:
            names.append(str(container.container_name.value))
    return names


def _list_certain_ports(service: DetectedService) -> list[str]:
    return [str(port.value) for port in service.ports if not port.guess]
