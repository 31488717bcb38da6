"""Environment variables: where a service gets them today, and what each is in the words of the spec."""

import re
from dataclasses import dataclass
from typing import Any

from kiwari_ci.commands.init.compose_files import Container, env_example, may_tell
from kiwari_ci.commands.init.databases import Server
from kiwari_ci.commands.init.services import Found
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.repository import Repository, join, parent
from kiwari_ci.schema.text_formats import EnvKey, PlainText

MOST = 80  # variables of a service
_IS_KEY, _IS_TEXT = vocabulary.fits(EnvKey), vocabulary.fits(PlainText)
_TAKEN = re.compile(r"COMPOSE_.*|DOCKER_.*")
_EXAMPLES = (".env.example", ".env.sample", ".env.template", "env.example", ".env.dist", ".env.production.example")
_PARTS = {
    "host": re.compile(r"(DB|DATABASE|POSTGRES|PG)_?(HOST|HOSTNAME|SERVER)$"),
    "port": re.compile(r"(DB|DATABASE|POSTGRES|PG)_?PORT$"),
    "name": re.compile(r"(DB|DATABASE|POSTGRES|PG)(_?(NAME|DATABASE)|_DB)$"),
    "user": re.compile(r"(DB|DATABASE|POSTGRES|PG)_?(USER|USERNAME)$"),
}
_AWAY = "localhost"  # stands for a value that only development has
_URL = re.compile(r"https?://([\w.-]+)(?::(\d+))?/?")


@dataclass
class Variable:
    """A variable: its value as the spec writes it, and a comment."""

    value: Any
    note: str


def variables(
    repository: Repository, found: Found, services: list[Found], server: Server | None
) -> dict[str, Variable]:
    """The variables of a service: from compose files first, then from examples of its env files."""
    made: dict[str, Variable] = {}
    for key, value, where in _read(repository, found, len(services)):
        if key in made or not _IS_KEY(key) or _TAKEN.fullmatch(key) or len(made) >= MOST:
            continue
        made[key] = _variable(key, value, where, found, services, server)
    return made


def untold(repository: Repository, found: Found, container: Container) -> list[str]:
    """The env files of a container whose keys no example says, neither beside them nor in the service's folder."""
    if found.language.home != "." and any(repository.has(join(found.language.home, name) or "") for name in _EXAMPLES):
        return []
    return [
        path
        for path in (str(fact.value) for fact in container.env_files)
        if not any(map(repository.has, _examples(path)))
    ]


def _examples(path: str) -> list[str]:
    """Where an example of an env file may be."""
    beside = [join(parent(path), name) or "" for name in _EXAMPLES] if path.endswith(".env") else []
    return [*(f"{path}{ending}" for ending in (".example", ".sample", ".template", ".dist")), *beside]


def _read(repository: Repository, found: Found, count: int) -> list[tuple[str, str | None, str]]:
    read: list[tuple[str, str | None, str]] = []
    folders = [found.language.home] if found.language.home != "." or count == 1 else []
    files: list[str] = []
    for stack, container in found.containers:
        read += [
            (key, _AWAY if value and stack.kind == vocabulary.AWAY else value, where)
            for key, value, where in container.env
        ]
        for fact in container.env_files:
            files += _examples(str(fact.value))
    files += [join(folder, name) or "" for folder in folders for name in _EXAMPLES]
    for path in dict.fromkeys(files):
        if repository.has(path):
            read += env_example(repository, path)
    return read


def _variable(
    key: str, value: str | None, where: str, found: Found, services: list[Found], server: Server | None
) -> Variable:
    if server and (part := _of_database(key, value or "", server)):
        query = (value or "").partition("?")[2] if part == "url" else ""
        return Variable({"database": part}, f"{where}, today with ?{query}" if query and not may_tell(query) else where)
    if vocabulary.is_secret(key, value or ""):
        return Variable({"secret": True}, f"{where}, a secret by its name" if vocabulary.is_secret(key) else where)
    if key == "PORT" and found.port:
        return Variable(str(found.port.value), where)
    if value and (url := _URL.fullmatch(value)) and (other := _behind(url[1], url[2], services)):
        own = other is found
        return Variable({"domain": "url"} if own else {"service": other.name}, where)
    if not value:
        return Variable({"secret": True}, f"{where}, which does not say its value")
    if re.search(r"localhost|127\.0\.0\.1", value) or re.fullmatch(
        r"(?i)<.*>|.*(change.?me|your[-_ ]).*|x{3,}|\.\.\.|todo", value
    ):
        return Variable({"secret": True}, f"{where}, whose value is for development")
    if not _IS_TEXT(value):
        return Variable({"secret": True}, f"{where}, whose value no env file can hold")
    return Variable(value, where)


def _of_database(key: str, value: str, server: Server) -> str:
    """Which part of the database a variable is; empty for none."""
    if re.match(r"postgres(ql)?(\+\w+)?://", value) or (key in ("DATABASE_URL", "POSTGRES_URL") and not value):
        return "url" if re.match(r"postgres(ql)?://|$", value) else ""
    if value in server.containers and re.search(r"(HOST|HOSTNAME|SERVER|ADDR|ADDRESS)$", key):
        return "host"
    return next((part for part, known in _PARTS.items() if known.search(key)), "")


def _behind(host: str, port: str, services: list[Found]) -> Found | None:
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
