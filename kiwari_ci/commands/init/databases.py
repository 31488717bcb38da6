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
from kiwari_ci.effective_spec.values import parse_postgres_major
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.readers.repository import LocalRepository, get_parent_folder, is_within_folder
from kiwari_ci.readers.vocabulary import SourcedValue
from kiwari_ci.schema.text_formats import ImageReference, PostgresName
from kiwari_ci.spec_rules.names import RUNNER_VARIABLE_PATTERN

_IS_IMAGE_REFERENCE = vocabulary.build_validator(ImageReference)
_IS_POSTGRES_NAME = vocabulary.build_validator(PostgresName)
_CONVERTED_KEYS = COVERED_COMPOSE_KEYS | {"environment", "volumes", "networks", "healthcheck", "depends_on"}
_DEFAULT_MIGRATE_IMAGE = "migrate/migrate:v4.18.3"
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


@dataclass(frozen=True)
class _CreatedDatabase:
    """A database that an init script creates; role and password key are empty where the script does not say them."""

    name: SourcedValue
    role: str
    password_key: str


_ServerContainer = tuple[DetectedComposeFile, DetectedContainer]


def detect_database_server(
    repository: LocalRepository,
    compose_files: list[DetectedComposeFile],
    environments: list[DetectedEnvironment],
    network: str,
) -> tuple[DetectedDatabaseServer | None, list[str]]:
    """The one server of the compose files, and notes on what the spec does not say of it and of other servers."""
    supported: list[_ServerContainer] = []
    notes = []
    for compose_file in compose_files:
        for container in compose_file.containers:
            if not is_postgres_image(container.image):
                continue
            if compose_file.kind != vocabulary.DEVELOPMENT and _is_supported_image(container.image):
                supported.append((compose_file, container))
            else:
                notes.append(f"{container.name}: {container.image} ({container.where})")
    if not supported:
        return None, notes
    first = supported[0][1]
    server = DetectedDatabaseServer(
        _derive_server_name(first),
        first.image,
        first.where,
        {container.name for _, container in supported} | {"postgres", "db"},
    )
    notes += _describe_unsupported(server, [container for _, container in supported])
    for container_network in first.networks:
        if container_network.value == network:
            server.network = container_network
            break
    server.migrations = _find_migrations(repository)
    folders = [get_parent_folder(compose_file.path) for compose_file, _ in supported]
    created = _parse_init_scripts(repository, folders)
    of_server = [pair for pair in supported if _derive_server_name(pair[1]) == server.name]
    for environment in environments:
        is_last = environment is environments[-1]
        server.databases[environment.name] = _detect_database(environment.kind, is_last, of_server, created)
    _remove_shared_settings(list(server.databases.values()))
    return server, notes


def list_separate_servers(compose_files: list[DetectedComposeFile], own_files: set[str]) -> list[DetectedContainer]:
    """The PostgreSQL servers of today in compose files that have no service of ours."""
    return [
        container
        for compose_file in compose_files
        if compose_file.kind != vocabulary.DEVELOPMENT and compose_file.path not in own_files
        for container in compose_file.containers
        if is_postgres_image(container.image) and not container.builds
    ]


def has_own_server(compose_files: list[DetectedComposeFile], own_files: set[str]) -> bool:
    """Whether PostgreSQL runs beside services of ours, so that they need no other server."""
    return any(
        is_postgres_image(container.image) and not container.profiles
        for compose_file in compose_files
        if compose_file.path in own_files
        for container in compose_file.containers
    )


def describe_separate_server(container: DetectedContainer, has_own: bool) -> str:
    """Describe what happens to a server in a stack of its own: it stays if the services need it."""
    if has_own:
        return f"{container.name} ({container.where}): {container.image}; the services have a server of their own"
    networks = ", ".join(str(network.value) for network in container.networks)
    note = f"{container.name} ({container.where}): {container.image}, which stays as it is, outside of the spec"
    return f"{note}: services reach it on the network {networks}" if networks else note


def _describe_unsupported(server: DetectedDatabaseServer, containers: list[DetectedContainer]) -> list[str]:
    """List what the spec cannot have: other servers, and some keys and mounted folders of this one."""
    first = containers[0]
    notes = []
    for container in containers:
        if _derive_server_name(container) != server.name:
            notes.append(f"{container.name}: {container.image} ({container.where}), a server of its own")
    for key in first.table:
        if key not in _CONVERTED_KEYS:
            notes.append(f"{first.name} ({first.where}): {key}")
    for source, mount in iter_mounts(first):
        if source.startswith((".", "/")):
            notes.append(f"{first.name} ({first.where}): volume {mount}")
    return notes


def _is_supported_image(image: str) -> bool:
    """Whether an image is the official one, in a version that the spec can have."""
    is_official = parse_image_reference(image).familiar_name == "postgres"
    return is_official and _IS_IMAGE_REFERENCE(image) and parse_postgres_major(image) >= 15


def _derive_server_name(container: DetectedContainer) -> str:
    name = vocabulary.slugify(vocabulary.strip_environment(container.name))
    return name if len(name) > 1 and name not in ("bin", "localhost") else "postgres"


def _find_migrations(repository: LocalRepository) -> tuple[str, str, str] | None:
    """The folder of golang-migrate, known by the names of its files; its image, where a file names one."""
    files = repository.matching(r"(.*/)?\d+_[\w-]+\.up\.sql")
    folders = {get_parent_folder(path) for path in files}
    if len(folders) != 1:
        return None
    folder = folders.pop()
    for path in repository.matching(r".*\.(ya?ml|sh|md)|(.*/)?Makefile"):
        image = re.search(r"\bmigrate/migrate:v?\d[\w.-]*", repository.read(path))
        if image:
            return folder, image[0], path
    return folder, _DEFAULT_MIGRATE_IMAGE, ""


def _parse_init_scripts(repository: LocalRepository, folders: list[str]) -> list[_CreatedDatabase]:
    """The databases that init scripts near the server's compose file create."""
    created = []
    for path in repository.matching(r".*\.(sh|sql)"):
        is_near = any(is_within_folder(path, folder) for folder in folders)
        if not is_near or "init" not in path.lower():
            continue
        password_keys = dict(_CREATE_ROLE.findall(repository.read(path)))
        for place, line in repository.lines(path):
            statement = _CREATE_DATABASE.search(line)
            if statement:
                role = statement[2] or ""
                created.append(_CreatedDatabase(SourcedValue(statement[1], place), role, password_keys.get(role, "")))
    return created


def _detect_database(
    kind: str, is_last: bool, servers: list[_ServerContainer], created: list[_CreatedDatabase]
) -> DetectedDatabase:
    """The database of an environment of a kind; the last environment takes that of a file which is for all."""
    for candidate in created:
        name = candidate.name
        if vocabulary.classify_environment(name.value) == kind and _is_valid_name(name.value):
            return _convert_created_database(candidate)
    containers = [container for compose_file, container in servers if compose_file.kind == kind]
    if not containers and is_last:
        containers = [servers[0][1]]
    database = DetectedDatabase()
    for key, value, where in containers[0].env if containers else ():
        if not value or not _is_valid_name(value):
            continue
        if key == "POSTGRES_DB":
            database.name = SourcedValue(value, where)
        elif key == "POSTGRES_USER":
            database.user = SourcedValue(value, where)
    return database


def _convert_created_database(created: _CreatedDatabase) -> DetectedDatabase:
    database = DetectedDatabase(created.name)
    if created.role and _is_valid_name(created.role):
        database.user = SourcedValue(created.role, created.name.where)
        if _is_password_key(created.password_key):
            database.password = SourcedValue(created.password_key, created.name.where)
    return database


def _is_valid_name(name: str) -> bool:
    return _IS_POSTGRES_NAME(name) and not _RESERVED_NAMES.fullmatch(name)


def _is_password_key(key: str) -> bool:
    return bool(key) and not re.fullmatch(rf"POSTGRES_.*|PG.*|{RUNNER_VARIABLE_PATTERN}", key)


def _remove_shared_settings(databases: list[DetectedDatabase]) -> None:
    """Two environments share neither a database nor a role nor a password: the first one keeps it."""
    for field_name in ("name", "user", "password"):
        used_values: set[str] = set()
        for database in databases:
            setting = getattr(database, field_name)
            if setting and setting.value in used_values:
                setattr(database, field_name, None)
            elif setting:
                used_values.add(setting.value)
