"""PostgreSQL in the compose files: servers, and the database and role of each environment."""

import re
from dataclasses import dataclass, field

from kiwari_ci.commands.init.compose_files import (
    COVERED_COMPOSE_KEYS,
    DetectedComposeFile,
    DetectedContainer,
    is_postgres_image,
    iter_mounts,
)
from kiwari_ci.commands.init.environments import DetectedEnvironment
from kiwari_ci.effective.values import parse_postgres_major
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.readers.repository import LocalRepository, get_parent_folder, is_within_folder
from kiwari_ci.readers.vocabulary import SourcedValue
from kiwari_ci.rules.names import RUNNER_VARIABLE_PATTERN
from kiwari_ci.schema.text_formats import ImageReference, PostgresName

_IS_IMAGE_REFERENCE, _IS_POSTGRES_NAME = (
    vocabulary.build_validator(ImageReference),
    vocabulary.build_validator(PostgresName),
)
_CREATE_DATABASE = re.compile(
    r"CREATE\s+DATABASE\s+\"?(\w+)\"?(?:\s+(?:WITH\s+)?OWNER\s*=?\s*\"?(\w+)\"?)?", re.IGNORECASE
)
_CREATE_ROLE = re.compile(r"CREATE\s+(?:USER|ROLE)\s+\"?(\w+)\"?[^;]{0,200}?PASSWORD\s+'\$\{?(\w+)\}?'", re.IGNORECASE)
_RESERVED_NAMES = re.compile(r"postgres|template[01]|public|none|pg_.*")


@dataclass
class DetectedDatabase:
    """The database of one environment: name, role and the key of its password, where they are known."""

    name: SourcedValue | None = None
    user: SourcedValue | None = None
    password: SourcedValue | None = None


@dataclass
class DetectedDatabaseServer:
    """A PostgreSQL server that can stand in the spec."""

    name: str
    image: str
    where: str
    containers: set[str]
    network: SourcedValue | None = None
    migrations: tuple[str, str, str] | None = None  # folder, image, place
    databases: dict[str, DetectedDatabase] = field(default_factory=dict)


def detect_database_server(
    repository: LocalRepository, stacks: list[DetectedComposeFile], found: list[DetectedEnvironment], network: str
) -> tuple[DetectedDatabaseServer | None, list[str]]:
    """The one server of the compose files, and what was left out and why."""
    known = [(stack, each) for stack in stacks for each in stack.containers if is_postgres_image(each.image)]
    fitting = [
        (stack, each)
        for stack, each in known
        if stack.kind != vocabulary.DEVELOPMENT and _is_supported_image(each.image)
    ]
    left = [f"{each.name}: {each.image} ({each.where})" for stack, each in known if (stack, each) not in fitting]
    if not fitting:
        return None, left
    _, first = fitting[0]
    left += [
        f"{each.name}: {each.image} ({each.where}), a server of its own"
        for _, each in fitting
        if _derive_server_name(each) != _derive_server_name(first)
    ]
    left += [
        f"{first.name} ({first.where}): {key}"
        for key in first.table
        if key not in COVERED_COMPOSE_KEYS | {"environment", "volumes", "networks", "healthcheck", "depends_on"}
    ]
    left += [
        f"{first.name} ({first.where}): volume {each}" for name, each in iter_mounts(first) if name[:1] in (".", "/")
    ]
    made = DetectedDatabaseServer(
        _derive_server_name(first), first.image, first.where, {each.name for _, each in fitting} | {"postgres", "db"}
    )
    made.network = next((fact for fact in first.networks if fact.value == network), None)
    made.migrations = _find_migrations(repository)
    created = _parse_init_scripts(repository, [get_parent_folder(stack.path) for stack, _ in fitting])
    for place in found:
        made.databases[place.name] = _detect_database(
            place, found, [pair for pair in fitting if _derive_server_name(pair[1]) == made.name], created
        )
    _remove_shared_settings(list(made.databases.values()))
    return made, left


def _is_supported_image(image: str) -> bool:
    return (
        _IS_IMAGE_REFERENCE(image)
        and parse_postgres_major(image) >= 15
        and parse_image_reference(image).familiar_name == "postgres"
    )


def _derive_server_name(container: DetectedContainer) -> str:
    name = vocabulary.slugify(vocabulary.strip_environment(container.name))
    return name if len(name) > 1 and name not in ("bin", "localhost") else "postgres"


def _find_migrations(repository: LocalRepository) -> tuple[str, str, str] | None:
    """Golang-migrate's folder, known by the names of its files; its image, where a file names one."""
    files = repository.matching(r"(.*/)?\d+_[\w-]+\.up\.sql")
    folders = {get_parent_folder(path) for path in files}
    if len(folders) != 1:
        return None
    for path in repository.matching(r".*\.(ya?ml|sh|md)|(.*/)?Makefile"):
        if each := re.search(r"\bmigrate/migrate:v?\d[\w.-]*", repository.read(path)):
            return folders.pop(), each[0], path
    return folders.pop(), "migrate/migrate:v4.18.3", ""


def _parse_init_scripts(repository: LocalRepository, around: list[str]) -> list[tuple[SourcedValue, str, str]]:
    """What init scripts near the server's compose file create: database, role, key of its password."""
    found = []
    for path in repository.matching(r".*\.(sh|sql)"):
        if any(is_within_folder(path, folder) for folder in around) and "init" in path.lower():
            text = repository.read(path)
            keys = {role: key for role, key in _CREATE_ROLE.findall(text)}
            for place, line in repository.lines(path):
                if each := _CREATE_DATABASE.search(line):
                    found.append((SourcedValue(each[1], place), each[2] or "", keys.get(each[2] or "", "")))
    return found


def _detect_database(
    place: DetectedEnvironment,
    found: list[DetectedEnvironment],
    servers: list[tuple[DetectedComposeFile, DetectedContainer]],
    created: list[tuple[SourcedValue, str, str]],
) -> DetectedDatabase:
    for name, role, key in created:
        if vocabulary.classify_environment(name.value) == place.kind and _is_valid_name(name.value):
            fine = role and _is_valid_name(role)
            return DetectedDatabase(
                name,
                SourcedValue(role, name.where) if fine else None,
                SourcedValue(key, name.where) if fine and _is_password_key(key) else None,
            )
    stack, container = next((pair for pair in servers if pair[0].kind == place.kind), (None, None))
    if container is None and place is found[-1]:
        stack, container = servers[0]
    made = DetectedDatabase()
    for key, value, where in container.env if container else ():
        if key == "POSTGRES_DB" and value and _is_valid_name(value):
            made.name = SourcedValue(value, where)
        if key == "POSTGRES_USER" and value and _is_valid_name(value):
            made.user = SourcedValue(value, where)
    return made


def _is_valid_name(name: str) -> bool:
    return _IS_POSTGRES_NAME(name) and not _RESERVED_NAMES.fullmatch(name)


def _is_password_key(key: str) -> bool:
    return bool(key) and not re.fullmatch(rf"POSTGRES_.*|PG.*|{RUNNER_VARIABLE_PATTERN}", key)


def _remove_shared_settings(found: list[DetectedDatabase]) -> None:
    """Two environments share neither database nor role nor password."""
    for field_name in ("name", "user", "password"):
        seen: set[str] = set()
        for each in found:
            fact = getattr(each, field_name)
            if fact and fact.value in seen:
                setattr(each, field_name, None)
            elif fact:
                seen.add(fact.value)
