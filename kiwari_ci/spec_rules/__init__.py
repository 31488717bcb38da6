"""What one model cannot see alone: promises between services, environments and hosts."""

import re
from collections.abc import Callable, Collection, Iterator
from pathlib import PurePath
from typing import Any

from kiwari_ci.effective_spec import EffectiveSpec
from kiwari_ci.effective_spec.values import parse_postgres_major
from kiwari_ci.engines.all_engines import list_engines
from kiwari_ci.problems import Problem
from kiwari_ci.proxies import rules as proxy_rules
from kiwari_ci.schema.text_formats import (
    CREDENTIAL_PATTERN,
    FORBIDDEN_CHARACTERS,
    MAX_NAME_LENGTH,
    SECRET_NAME_PATTERN,
)
from kiwari_ci.spec_loading.validation import DEFAULTS_KEY, format_yaml_path, report_at_key, report_at_value
from kiwari_ci.spec_loading.yaml_source import YamlPath, YamlSource
from kiwari_ci.spec_rules import container_registry, containers, deploys, images, names, stacks, steps, variables

OLDEST_POSTGRES = 15  # the init script needs `\getenv`, which psql has since then

_PASSWORD_FROM_VARIABLE = re.compile(r"://[^/\s:@]*:\$+(\{[^}]*\}|\w+)@")  # names a variable, and tells no secret
_FILE_NAME_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]*")
_USAGE_PHRASES = {
    "services": "that builds images holds",
    "accessories": "holds",
    "hosts": "is on",
    "databases": "keeps its database on",
}

Problems = Iterator[Problem]


def check_text(source: YamlSource) -> list[Problem]:
    """Find problems that show whatever the types are: the file's name, expressions, values of secrets."""
    problems: list[Problem] = []
    if not _FILE_NAME_PATTERN.fullmatch(PurePath(source.path).name):
        message = "the file's name has other characters than letters, digits, blanks and . _ -"
        problems.append(Problem("file-name", message, source.path, hint="rename it: specs/shop.yaml"))
    for loc, text in _iter_strings(source.data):
        if "${{" in text:
            message = f"{format_yaml_path(loc)}: an expression `${{{{` cannot stand in a spec"
            hint = "name the secret or the variable instead"
            problems.append(report_at_value(source, loc, "expression", message, hint))
        if CREDENTIAL_PATTERN.search(_PASSWORD_FROM_VARIABLE.sub("://@", text)):
            message = f"{format_yaml_path(loc)}: this looks like a secret's value"
            hint = "a spec names secrets: `{secret: NAME}`; revoke this one"
            problems.append(report_at_value(source, loc, "secret-value", message, hint))
    return [*problems, *_check_copied_text(source)]


def _check_copied_text(source: YamlSource) -> Problems:
    """What stands below `compose:` has no field whose format could refuse it."""
    hint = "leave it out: some programs read it as the end of a line, or it reverses or hides text"
    for loc in source.values:
        if "compose" not in loc[:-1] or not isinstance(loc[-1], str):
            continue
        if name := _find_forbidden_character(loc[-1]):
            message = f"{format_yaml_path(loc[:-1])}: a key contains {name}, which has no place in a spec"
            yield report_at_key(source, loc, "control-character", message, hint)
        if len(loc[-1]) > MAX_NAME_LENGTH:
            message = f"{format_yaml_path(loc[:-1])}: a key has more than {MAX_NAME_LENGTH:,} characters"
            yield report_at_key(source, loc, "too-long", message, "shorten it: not every program can read such a key")
    for loc, text in _iter_strings(source.data):
        if "compose" in loc[:-1] and (name := _find_forbidden_character(text)):
            message = f"{format_yaml_path(loc)}: the text contains {name}, which has no place in a spec"
            yield report_at_value(source, loc, "control-character", message, hint)


def _find_forbidden_character(text: str) -> str:
    forbidden_character = re.search(f"[{FORBIDDEN_CHARACTERS}]", text)
    return f"U+{ord(forbidden_character[0]):04X}" if forbidden_character else ""


def check_spec(source: YamlSource, spec: EffectiveSpec, pinned_actions: Collection[str]) -> list[Problem]:
    """Find problems of a spec whose types are right; `pinned_actions` are those whose commits are known."""
    unknown_names = list(names.check_references(source, spec))
    if unknown_names:
        return unknown_names
    # Compose's rules are about every spec: they also check what a deploy to a cluster renders and sends.
    engine_kinds = {"compose", *(host.engine for host in spec.hosts.values())}
    checks: tuple[Callable[[YamlSource, EffectiveSpec], Problems], ...] = (
        names.check_names,
        deploys.check_deploys,
        _check_unused_entries,
        _check_unused_defaults,
        stacks.check_stacks,
        containers.check_containers,
        variables.check_variable_references,
        _check_server_versions,
        _check_plain_secrets,
        images.check_images,
        container_registry.check_registry,
        steps.check_steps,
        proxy_rules.check_proxies,
        *(engine.check for engine in list_engines(engine_kinds)),
    )
    problems = [problem for check in checks for problem in check(source, spec)]
    problems += steps.check_step_pins(source, spec, pinned_actions)
    return problems


def _iter_strings(node: Any, loc: YamlPath = ()) -> Iterator[tuple[YamlPath, str]]:
    if isinstance(node, str):
        yield loc, node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _iter_strings(value, (*loc, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _iter_strings(value, (*loc, index))


def _check_unused_entries(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """What nothing uses would be set up, or built, for nothing."""
    environments = list(spec.environments.values())
    used_services = {
        name for environment in environments if not environment.is_promoted for name in environment.services
    }
    used_services |= {base for service in spec.services.values() for base in service.build.base.values()}
    used_hosts = {name for environment in environments for name in environment.host_names}
    used_hosts |= {environment.database.server.host.name for environment in environments if environment.database}
    tables = {
        "services": (list(spec.services), used_services),
        "accessories": (
            list(spec.accessories),
            {name for environment in environments for name in environment.accessories},
        ),
        "hosts": (list(spec.hosts), used_hosts),
        "databases": (
            list(spec.databases),
            {environment.database.server.name for environment in environments if environment.database},
        ),
    }
    for table, (entries, used_entries) in tables.items():
        for name in entries:
            if name not in used_entries:
                message = f"{table}.{name}: no environment {_USAGE_PHRASES[table]} it"
                hint = "leave it out, or name it in an environment"
                yield report_at_key(source, (table, name), "unused", message, hint)


def _check_unused_defaults(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """What no service inherits has no effect."""
    inherited_fields = {origin[1] for origin in source.origins.values()}
    for field in sorted(spec.written.service_defaults.model_fields_set - inherited_fields):
        loc: YamlPath = (DEFAULTS_KEY, field)
        message = f"{format_yaml_path(loc)}: no service takes it"
        hint = "leave it out: each service writes its own, or is of a kind that has none"
        yield report_at_key(source, loc, "unused", message, hint)


def _check_server_versions(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """The major version decides where the data is kept, and whether the init script works."""
    for name, server in spec.databases.items():
        loc: YamlPath = ("databases", name, "image")
        image = server.model.image
        major = parse_postgres_major(image)
        if not major:
            message = f"{format_yaml_path(loc)}: the tag of `{image}` does not begin with a version of PostgreSQL"
            yield report_at_value(source, loc, "server-version", message, "image: postgres:17-alpine")
        elif major < OLDEST_POSTGRES:
            message = f"{format_yaml_path(loc)}: PostgreSQL {major} is too old for the init script"
            yield report_at_value(source, loc, "server-version", message, "15 or newer: postgres:17-alpine")


def _check_plain_secrets(source: YamlSource, spec: EffectiveSpec) -> Problems:
    for container_loc, options in spec.iter_container_options():
        for field, values in (("env", options.env), ("environment", options.environment)):
            for key, value in values.items():
                if value.value and SECRET_NAME_PATTERN.fullmatch(key):
                    loc: YamlPath = (*container_loc, field, key)
                    message = f"{format_yaml_path(loc)}: a value for what is named like a secret"
                    hint = f"{key}: {{secret: true}}" + (", in `env`" if field == "environment" else "")
                    yield report_at_value(source, loc, "secret-value", message, hint)
