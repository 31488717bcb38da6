"""What one model cannot see alone: promises between services, environments and hosts."""

import re
from collections.abc import Callable, Collection, Iterator
from pathlib import PurePath
from typing import Any

from kiwari_ci.effective import derived, triggers
from kiwari_ci.loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.loading.yaml_source import YamlPath, YamlSource
from kiwari_ci.problems import Problem
from kiwari_ci.proxies import rules
from kiwari_ci.rules import containers, deploys, images, names, registry, schedules, stack_files, stacks, steps
from kiwari_ci.schema import Spec
from kiwari_ci.schema.text_formats import SECRET_NAME_PATTERN

CREDENTIAL_PATTERN = re.compile(
    r"gh[pousr]_\w{20,}|github_pat_\w{20,}|-----BEGIN|AKIA[0-9A-Z]{16}|xox[abprs]-\w|sk_live_\w"
    r"|eyJ\w{10,}\.eyJ|://[^/\s:@]*:[^/\s@]+@(?!localhost|127\.0\.0\.1)"
)

_FILE_NAME_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]*")
_USAGE_PHRASES = {
    "services": "that builds images holds",
    "accessories": "holds",
    "hosts": "is on",
    "databases": "keeps its database on",
}

Problems = Iterator[Problem]


def check_text(source: YamlSource) -> list[Problem]:
    """Faults that are seen whatever the types are: the file's name, expressions, values of secrets."""
    found: list[Problem] = []
    if not _FILE_NAME_PATTERN.fullmatch(PurePath(source.path).name):
        message = "the file's name has other characters than letters, digits, blanks and . _ -"
        found.append(Problem("file-name", message, source.path, hint="rename it: specs/shop.yaml"))
    for loc, value in _iter_strings(source.data):
        if "${{" in value:
            message = f"{format_yaml_path(loc)}: an expression `${{{{` cannot stand in a spec"
            found.append(report_at_value(source, loc, "expression", message, "name the secret or the variable instead"))
        if CREDENTIAL_PATTERN.search(value):
            message = f"{format_yaml_path(loc)}: this looks like a secret's value"
            found.append(
                report_at_value(
                    source, loc, "secret-value", message, "a spec names secrets: `{secret: NAME}`; revoke this one"
                )
            )
    return found


def check_spec(source: YamlSource, given: Spec, pinned: Collection[str]) -> list[Problem]:
    """Faults of a spec whose types are right; `pinned` are the actions whose commits are known."""
    unknown = list(names.check_references(source, given))
    if unknown:
        return unknown
    checks: tuple[Callable[[YamlSource, Spec], Problems], ...] = (
        deploys.check_deploys, _check_unused_entries, stacks.check_stacks, containers.check_containers, _check_server_versions, _check_plain_secrets, images.check_images,
        registry.check_registry, steps.check_steps, rules.check_proxies, stack_files.check_stack_files,
        schedules.check_schedules,
    )  # fmt: skip
    found = [problem for check in checks for problem in check(source, given)]
    return [*names.check_names(source, given), *found, *steps.check_step_pins(source, given, pinned)]


def _iter_strings(data: Any, loc: YamlPath = ()) -> Iterator[tuple[YamlPath, str]]:
    if isinstance(data, str):
        yield loc, data
    for key, value in data.items() if isinstance(data, dict) else enumerate(data if isinstance(data, list) else ()):
        yield from _iter_strings(value, (*loc, key))


def _check_unused_entries(source: YamlSource, given: Spec) -> Problems:
    """What nothing uses would be set up, or built, for nothing."""
    built = [name for name in given.environments if not triggers.is_promoted(given, name)]
    used = {
        "services": {service for name in built for service in derived.list_services(given, name)}
        | {base for model in given.services.values() for base in model.build.base.values()},
        "accessories": {each for name in given.environments for each in derived.list_accessories(given, name)},
        "hosts": {host for name in given.environments for host in derived.list_hosts(given, name)},
        "databases": {
            derived.find_database_server(given, place.database)
            for place in given.environments.values()
            if place.database
        },
    }
    for table in used:
        for name in getattr(given, table):
            if name not in used[table]:
                message = f"{table}.{name}: no environment {_USAGE_PHRASES[table]} it"
                yield report_at_key(
                    source, (table, name), "unused", message, "leave it out, or name it in an environment"
                )


def _check_server_versions(source: YamlSource, given: Spec) -> Problems:
    """The major version decides where the data is kept; the init script needs a command that came with 15: getenv."""
    for name, server in given.databases.items():
        loc: YamlPath = ("databases", name, "image")
        major = derived.parse_postgres_major(server.image)
        if not major:
            message = (
                f"{format_yaml_path(loc)}: the tag of `{server.image}` does not begin with a version of PostgreSQL"
            )
            yield report_at_value(source, loc, "server-version", message, "image: postgres:17-alpine")
        elif major < 15:
            message = f"{format_yaml_path(loc)}: PostgreSQL {major} is too old for the init script"
            yield report_at_value(source, loc, "server-version", message, "15 or newer: postgres:17-alpine")


def _check_plain_secrets(source: YamlSource, given: Spec) -> Problems:
    for here, model in names.iter_container_options(given):
        for field, values in (("env", model.env), ("environment", model.environment)):
            for key, value in values.items():
                if value.value and SECRET_NAME_PATTERN.fullmatch(key):
                    loc: YamlPath = (*here, field, key)
                    message = f"{format_yaml_path(loc)}: a value for what is named like a secret"
                    hint = f"{key}: {{secret: true}}" + (", in `env`" if field == "environment" else "")
                    yield report_at_value(source, loc, "secret-value", message, hint)
