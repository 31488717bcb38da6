"""PostgreSQL in the compose files: servers, and the database and role of each environment."""

import re
from dataclasses import dataclass, field

from kiwari_ci.commands.init.compose_files import SAID, Container, Stack, is_postgres, mounts
from kiwari_ci.commands.init.environments import Place
from kiwari_ci.effective.derived import postgres_major
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.repository import Repository, parent, within
from kiwari_ci.readers.vocabulary import Fact
from kiwari_ci.rules.names import RUNNER_VARIABLE
from kiwari_ci.schema.text_formats import ImageReference, PgName

_IS_IMAGE, _IS_PG = vocabulary.fits(ImageReference), vocabulary.fits(PgName)
_CREATED = re.compile(r"CREATE\s+DATABASE\s+\"?(\w+)\"?(?:\s+(?:WITH\s+)?OWNER\s*=?\s*\"?(\w+)\"?)?", re.IGNORECASE)
_ROLE = re.compile(r"CREATE\s+(?:USER|ROLE)\s+\"?(\w+)\"?[^;]{0,200}?PASSWORD\s+'\$\{?(\w+)\}?'", re.IGNORECASE)
_TAKEN = re.compile(r"postgres|template[01]|public|none|pg_.*")


@dataclass
class Database:
    """The database of one environment: name, role and the key of its password, where they are known."""

    name: Fact | None = None
    user: Fact | None = None
    password: Fact | None = None


@dataclass
class Server:
    """A PostgreSQL server that can stand in the spec."""

    name: str
    image: str
    where: str
    containers: set[str]
    network: Fact | None = None
    migrations: tuple[str, str, str] | None = None  # folder, image, place
    databases: dict[str, Database] = field(default_factory=dict)


def server(
    repository: Repository, stacks: list[Stack], found: list[Place], network: str
) -> tuple[Server | None, list[str]]:
    """The one server of the compose files, and what was left out and why."""
    known = [(stack, each) for stack in stacks for each in stack.containers if is_postgres(each.image)]
    fitting = [(stack, each) for stack, each in known if stack.kind != vocabulary.AWAY and _fits(each.image)]
    left = [f"{each.name}: {each.image} ({each.where})" for stack, each in known if (stack, each) not in fitting]
    if not fitting:
        return None, left
    _, first = fitting[0]
    left += [
        f"{each.name}: {each.image} ({each.where}), a server of its own"
        for _, each in fitting
        if _name(each) != _name(first)
    ]
    left += [
        f"{first.name} ({first.where}): {key}"
        for key in first.table
        if key not in SAID | {"environment", "volumes", "networks", "healthcheck", "depends_on"}
    ]
    left += [f"{first.name} ({first.where}): volume {each}" for name, each in mounts(first) if name[:1] in (".", "/")]
    made = Server(_name(first), first.image, first.where, {each.name for _, each in fitting} | {"postgres", "db"})
    made.network = next((fact for fact in first.networks if fact.value == network), None)
    made.migrations = _migrations(repository)
    created = _created(repository, [parent(stack.path) for stack, _ in fitting])
    for place in found:
        made.databases[place.name] = _database(
            place, found, [pair for pair in fitting if _name(pair[1]) == made.name], created
        )
    _apart(list(made.databases.values()))
    return made, left


def _fits(image: str) -> bool:
    return (
        _IS_IMAGE(image)
        and postgres_major(image) >= 15
        and re.match(r"(docker\.io/)?(library/)?postgres:", image) is not None
    )


def _name(container: Container) -> str:
    name = vocabulary.word(vocabulary.bare_name(container.name))
    return name if len(name) > 1 and name not in ("bin", "localhost") else "postgres"


def _migrations(repository: Repository) -> tuple[str, str, str] | None:
    """Golang-migrate's folder, known by the names of its files; its image, where a file names one."""
    files = repository.matching(r"(.*/)?\d+_[\w-]+\.up\.sql")
    folders = {parent(path) for path in files}
    if len(folders) != 1:
        return None
    for path in repository.matching(r".*\.(ya?ml|sh|md)|(.*/)?Makefile"):
        if each := re.search(r"\bmigrate/migrate:v?\d[\w.-]*", repository.read(path)):
            return folders.pop(), each[0], path
    return folders.pop(), "migrate/migrate:v4.18.3", ""


def _created(repository: Repository, around: list[str]) -> list[tuple[Fact, str, str]]:
    """What init scripts near the server's compose file create: database, role, key of its password."""
    found = []
    for path in repository.matching(r".*\.(sh|sql)"):
        if any(within(path, folder) for folder in around) and "init" in path.lower():
            text = repository.read(path)
            keys = {role: key for role, key in _ROLE.findall(text)}
            for place, line in repository.lines(path):
                if each := _CREATED.search(line):
                    found.append((Fact(each[1], place), each[2] or "", keys.get(each[2] or "", "")))
    return found


def _database(
    place: Place, found: list[Place], servers: list[tuple[Stack, Container]], created: list[tuple[Fact, str, str]]
) -> Database:
    for name, role, key in created:
        if vocabulary.kind_of(name.value) == place.kind and _may(name.value):
            fine = role and _may(role)
            return Database(
                name, Fact(role, name.where) if fine else None, Fact(key, name.where) if fine and _is_key(key) else None
            )
    stack, container = next((pair for pair in servers if pair[0].kind == place.kind), (None, None))
    if container is None and place is found[-1]:
        stack, container = servers[0]
    made = Database()
    for key, value, where in container.env if container else ():
        if key == "POSTGRES_DB" and value and _may(value):
            made.name = Fact(value, where)
        if key == "POSTGRES_USER" and value and _may(value):
            made.user = Fact(value, where)
    return made


def _may(name: str) -> bool:
    return _IS_PG(name) and not _TAKEN.fullmatch(name)


def _is_key(key: str) -> bool:
    return bool(key) and not re.fullmatch(rf"POSTGRES_.*|PG.*|{RUNNER_VARIABLE}", key)


def _apart(found: list[Database]) -> None:
    """Two environments share neither database nor role nor password."""
    for field_name in ("name", "user", "password"):
        seen: set[str] = set()
        for each in found:
            fact = getattr(each, field_name)
            if fact and fact.value in seen:
                setattr(each, field_name, None)
            elif fact:
                seen.add(fact.value)
