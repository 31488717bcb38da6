"""What one model cannot see alone: promises between services, environments and hosts."""

import re
from collections.abc import Callable, Collection, Iterator
from pathlib import PurePath
from typing import Any

from kiwari_ci.effective import derived, triggers
from kiwari_ci.loading.validation import at_key, at_value, dotted
from kiwari_ci.loading.yaml_source import Loc, Source
from kiwari_ci.problems import Problem
from kiwari_ci.proxies import rules
from kiwari_ci.rules import containers, deploys, images, names, registry, stack_files, stacks, steps
from kiwari_ci.schema import Spec
from kiwari_ci.schema.text_formats import SECRET_KEY

SECRET_VALUE = re.compile(
    r"gh[pousr]_\w{20,}|github_pat_\w{20,}|-----BEGIN|AKIA[0-9A-Z]{16}|xox[abprs]-\w|sk_live_\w"
    r"|eyJ\w{10,}\.eyJ|://[^/\s:@]*:[^/\s@]+@(?!localhost|127\.0\.0\.1)"
)

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]*")
_USE = {
    "services": "that builds images holds",
    "accessories": "holds",
    "hosts": "is on",
    "databases": "keeps its database on",
}

Found = Iterator[Problem]


def of_text(source: Source) -> list[Problem]:
    """Faults that are seen whatever the types are: the file's name, expressions, values of secrets."""
    found: list[Problem] = []
    if not _FILE_NAME.fullmatch(PurePath(source.path).name):
        message = "the file's name has other characters than letters, digits, blanks and . _ -"
        found.append(Problem("file-name", message, source.path, hint="rename it: specs/shop.yaml"))
    for loc, value in _strings(source.data):
        if "${{" in value:
            message = f"{dotted(loc)}: an expression `${{{{` cannot stand in a spec"
            found.append(at_value(source, loc, "expression", message, "name the secret or the variable instead"))
        if SECRET_VALUE.search(value):
            message = f"{dotted(loc)}: this looks like a secret's value"
            found.append(
                at_value(
                    source, loc, "secret-value", message, "a spec names secrets: `{secret: NAME}`; revoke this one"
                )
            )
    return found


def of_spec(source: Source, given: Spec, pinned: Collection[str]) -> list[Problem]:
    """Faults of a spec whose types are right; `pinned` are the actions whose commits are known."""
    unknown = list(names.unknown(source, given))
    if unknown:
        return unknown
    checks: tuple[Callable[[Source, Spec], Found], ...] = (
        deploys.of_spec, _unused, stacks.of_spec, containers.of_spec, _servers, _plain_secrets, images.of_spec,
        registry.of_spec, steps.of_spec, rules.of_spec, stack_files.of_spec,
    )  # fmt: skip
    found = [problem for check in checks for problem in check(source, given)]
    return [*names.of_spec(source, given), *found, *steps.of_pins(source, given, pinned)]


def _strings(data: Any, loc: Loc = ()) -> Iterator[tuple[Loc, str]]:
    if isinstance(data, str):
        yield loc, data
    for key, value in data.items() if isinstance(data, dict) else enumerate(data if isinstance(data, list) else ()):
        yield from _strings(value, (*loc, key))


def _unused(source: Source, given: Spec) -> Found:
    """What nothing uses would be set up, or built, for nothing."""
    built = [name for name in given.environments if not triggers.is_promoted(given, name)]
    used = {
        "services": {service for name in built for service in derived.services_of(given, name)}
        | {base for model in given.services.values() for base in model.build.base.values()},
        "accessories": {each for name in given.environments for each in derived.accessories_of(given, name)},
        "hosts": {host for name in given.environments for host in derived.hosts_of(given, name)},
        "databases": {
            derived.server_of(given, place.database) for place in given.environments.values() if place.database
        },
    }
    for table in used:
        for name in getattr(given, table):
            if name not in used[table]:
                message = f"{table}.{name}: no environment {_USE[table]} it"
                yield at_key(source, (table, name), "unused", message, "leave it out, or name it in an environment")


def _servers(source: Source, given: Spec) -> Found:
    """The major version decides where the data is kept; the init script needs a command that came with 15: getenv."""
    for name, server in given.databases.items():
        loc: Loc = ("databases", name, "image")
        major = derived.postgres_major(server.image)
        if not major:
            message = f"{dotted(loc)}: the tag of `{server.image}` does not begin with a version of PostgreSQL"
            yield at_value(source, loc, "server-version", message, "image: postgres:17-alpine")
        elif major < 15:
            message = f"{dotted(loc)}: PostgreSQL {major} is too old for the init script"
            yield at_value(source, loc, "server-version", message, "15 or newer: postgres:17-alpine")


def _plain_secrets(source: Source, given: Spec) -> Found:
    for here, model in names.running(given):
        for field, values in (("env", model.env), ("environment", model.environment)):
            for key, value in values.items():
                if value.value and SECRET_KEY.fullmatch(key):
                    loc: Loc = (*here, field, key)
                    message = f"{dotted(loc)}: a value for what is named like a secret"
                    hint = f"{key}: {{secret: true}}" + (", in `env`" if field == "environment" else "")
                    yield at_value(source, loc, "secret-value", message, hint)
