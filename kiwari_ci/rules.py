"""What one model cannot see alone: unknown names, clashes, promises between services and environments."""

import re
from collections.abc import Callable, Iterator
from typing import Any

from kiwari_ci import globs, resolve
from kiwari_ci.problems import Problem
from kiwari_ci.source import Loc, Source
from kiwari_ci.spec import Spec
from kiwari_ci.validation import at_key, at_value, closest, dotted

_SECRET_VALUE = re.compile(
    r"gh[pousr]_\w{20,}|github_pat_\w{20,}|-----BEGIN|AKIA[0-9A-Z]{16}|xox[abprs]-\w|sk_live_\w"
    r"|eyJ\w{10,}\.eyJ|://[^/\s:@]*:[^/\s@]+@"
)
_SECRET_KEY = re.compile(r"(?<!PUBLIC)_?(PASSWORD|PASSWD|SECRET|TOKEN|PRIVATE_KEY|API_KEY)$", re.IGNORECASE)

_USE = {"services": "that builds images holds", "hosts": "is on", "databases": "keeps its database on"}

Found = Iterator[Problem]


def of_text(source: Source) -> list[Problem]:
    """Faults that are seen in the plain data, whatever its types: expressions, values of secrets."""
    found: list[Problem] = []
    for loc, value in _strings(source.data):
        if "${{" in value:
            message = f"{dotted(loc)}: an expression `${{{{` cannot stand in a spec"
            found.append(at_value(source, loc, "expression", message, "name the secret or the variable instead"))
        if _SECRET_VALUE.search(value):
            message = f"{dotted(loc)}: this looks like a secret's value"
            found.append(
                at_value(
                    source, loc, "secret-value", message, "a spec names secrets: `{secret: NAME}`; revoke this one"
                )
            )
    return found


def of_spec(source: Source, given: Spec) -> list[Problem]:
    """Faults of a spec whose types are right."""
    unknown = list(_unknown_names(source, given))
    if unknown:
        return unknown
    checks: tuple[Callable[[Source, Spec], Found], ...] = (
        _deploys, _unused, _clashes, _reserved, _settings, _shared_keys, _needs, _old_servers, _plain_secrets, _filters,
    )  # fmt: skip
    return [problem for check in checks for problem in check(source, given)]


def _strings(data: Any, loc: Loc = ()) -> Iterator[tuple[Loc, str]]:
    if isinstance(data, str):
        yield loc, data
    for key, value in data.items() if isinstance(data, dict) else enumerate(data if isinstance(data, list) else ()):
        yield from _strings(value, (*loc, key))


def _unknown_names(source: Source, given: Spec) -> Found:
    tables = {"hosts": list(given.hosts), "databases": list(given.databases)}
    services, environments = list(given.services), list(given.environments)
    for name, server in given.databases.items():
        yield from _one_of(source, ("databases", name, "host"), server.host, "hosts", tables["hosts"])
    for name, place in given.environments.items():
        here: Loc = ("environments", name)
        yield from _one_of(source, (*here, "host"), place.host, "hosts", tables["hosts"])
        if place.promote:
            yield from _one_of(source, (*here, "promote"), place.promote, "environments", environments)
        if place.database:
            yield from _one_of(
                source, (*here, "database", "server"), place.database.server, "databases", tables["databases"]
            )
        for index, service in enumerate(place.services or ()):
            yield from _one_of(source, (*here, "services", index), service, "services", services)
        for field, mapping in (("containers", place.containers), ("domains", place.domains)):
            for service in mapping:
                held = resolve.services_of(given, name)
                yield from _one_of(source, (*here, field, service), service, f"services of {name}", held)
    for name, model in given.services.items():
        for key, value in model.env.items():
            if value.service:
                yield from _one_of(
                    source, ("services", name, "env", key, "service"), value.service, "services", services
                )


def _one_of(source: Source, loc: Loc, name: str | None, table: str, known: list[str]) -> Found:
    """A name must be known; one that is left out must be the only one there is."""
    if name is None:
        if len(known) != 1:
            words = f"{dotted(loc[:-1])} must name `{loc[-1]}`: `{table}` has {len(known)}"
            yield at_key(source, loc, "missing-key", words)
    elif name not in known:
        place = at_key if loc in source.keys and loc[-1] == name else at_value
        yield place(source, loc, "unknown-name", f"{dotted(loc)}: no `{name}` in {table}", closest(name, known))


def _deploys(source: Source, given: Spec) -> Found:
    branches: dict[str, str] = {}
    for name, place in given.environments.items():
        here: Loc = ("environments", name)
        if place.promote:
            yield from _promotion(source, given, name, place.promote)
        elif place.deploy_on.tag:
            words = f"{dotted(here)} is reached by a tag and must say what it promotes"
            yield at_value(
                source, (*here, "deploy_on"), "promotion", words, "promote: the environment that builds the images"
            )
        else:
            branches.setdefault(str(place.deploy_on.push), name)
    if len(branches) > 1:
        words = " and ".join(f"`{branch}` ({name})" for branch, name in branches.items())
        loc: Loc = ("environments", list(branches.values())[1], "deploy_on")
        yield at_value(
            source, loc, "branches", f"images are built on one branch, met {words}", "promote one from the other"
        )


def _unused(source: Source, given: Spec) -> Found:
    """What nothing uses would be set up, or built, for nothing."""
    built = [name for name in given.environments if not resolve.is_promoted(given, name)]
    used = {
        "services": {service for name in built for service in resolve.services_of(given, name)},
        "hosts": {resolve.host_of(given, name) for name in given.environments},
        "databases": {
            resolve.server_of(given, place.database) for place in given.environments.values() if place.database
        },
    }
    for table, names in (("services", given.services), ("hosts", given.hosts), ("databases", given.databases)):
        for name in names:
            if name not in used[table]:
                yield at_key(source, (table, name), "unused", f"{table}.{name}: no environment {_USE[table]} it")


def _promotion(source: Source, given: Spec, name: str, origin: str) -> Found:
    here: Loc = ("environments", name, "promote")
    if given.environments[name].deploy_on.push:
        words = f"environments.{name} promotes, and so must be reached by a tag"
        yield at_value(source, (*here[:2], "deploy_on"), "promotion", words, 'deploy_on: {tag: "v*"}')
    if origin == name or resolve.is_promoted(given, origin):
        yield at_value(
            source,
            here,
            "promotion",
            f"{dotted(here)}: `{origin}` builds nothing",
            "promote an environment that a push reaches",
        )
    for service in resolve.services_of(given, name):
        if service not in resolve.services_of(given, origin):
            yield at_value(source, here, "promotion", f"{dotted(here)}: `{origin}` does not hold `{service}`")


def _clashes(source: Source, given: Spec) -> Found:
    """Names that may stand for one thing only; container names on one host, databases on one server."""
    taken: dict[tuple[str, ...], str] = {}

    def claim(loc: Loc, owner: str, kind: str, *scope_and_name: str) -> Found:
        other = taken.setdefault((kind, *scope_and_name), owner)
        if other != owner:
            yield at_key(
                source,
                loc,
                "clash",
                f"{owner} and {other} share the {kind} `{scope_and_name[-1]}`",
            )

    for name in given.databases:
        loc: Loc = ("databases", name)
        yield from claim(loc, f"databases.{name}", "stack", name)
        yield from claim(loc, f"databases.{name}", "container", resolve.server_host(given, name), name)
    for service in given.services:
        yield from claim(
            ("services", service, "image"), f"services.{service}", "image", resolve.image_name(given, service)
        )
    for name, place in given.environments.items():
        here: Loc = ("environments", name)
        owner, host = f"environments.{name}", resolve.host_of(given, name)
        yield from claim((*here, "stack"), owner, "stack", resolve.stack_name(given, name))
        yield from claim((*here, "tag"), owner, "image tag", resolve.image_tag(given, name))
        for service in resolve.services_of(given, name):
            container = resolve.container_name(given, name, service)
            yield from claim((*here, "containers", service), f"{owner}.{service}", "container", host, container)
            if service in place.domains:
                yield from claim((*here, "domains", service), f"{owner}.{service}", "domain", place.domains[service])
        if place.database:
            server = resolve.server_of(given, place.database)
            database = resolve.database_name(given, name, place.database)
            role = resolve.database_user(given, name, place.database)
            variable = resolve.password_variable(given, name, place.database)
            yield from claim((*here, "database", "name"), owner, "database", server, database)
            yield from claim((*here, "database", "user"), owner, "role", server, role)
            yield from claim((*here, "database", "password"), owner, "password key", server, variable)


def _reserved(source: Source, given: Spec) -> Found:
    """Names that the pipeline, or PostgreSQL, uses itself."""
    for name, place in given.environments.items():
        here: Loc = ("environments", name)
        used: list[tuple[Loc, str, str]] = [((*here, "stack"), resolve.stack_name(given, name), r"bin")]
        used.append(((*here, "tag"), resolve.image_tag(given, name), r"src-.*|.*[0-9]+\.[0-9]+\.[0-9]+"))
        for service in resolve.services_of(given, name):
            used.append(((*here, "containers", service), resolve.container_name(given, name, service), r".*-next"))
        if place.database:
            database = resolve.database_name(given, name, place.database)
            role = resolve.database_user(given, name, place.database)
            used.append(((*here, "database", "name"), database, r"postgres|template[01]"))
            used.append(((*here, "database", "user"), role, r"postgres|pg_.*|public|none"))
            variable = resolve.password_variable(given, name, place.database)
            used.append(((*here, "database", "password"), variable, r"POSTGRES_.*|PG.*|PATH"))
        for loc, word, pattern in used:
            if re.fullmatch(pattern, word):
                message = f"{dotted(loc)}: the pipeline keeps names like `{word}` for itself"
                yield at_value(source, loc, "reserved", message, "choose another name")


def _settings(source: Source, given: Spec) -> Found:
    """A step's env has each name once."""
    for name in given.environments:
        seen = {f"DIGEST_{resolve.variable(service)}" for service in given.services} | {"SEQUENCE", "COMPOSE"}
        for what, setting in resolve.settings_of(given, name).items():
            if setting.name in seen:
                loc: Loc = ("hosts", resolve.host_of(given, name))
                message = f"{dotted(loc)}: `{setting.name}` is used twice, here for {what}"
                yield at_key(source, loc, "clash", message, "give each setting a name of its own")
            seen.add(setting.name)


def _shared_keys(source: Source, given: Spec) -> Found:
    """Two services that share an env file give a key one value."""
    for name in given.environments:
        seen: dict[tuple[str, str], tuple[str, str]] = {}
        for service in resolve.services_of(given, name):
            for key, value in given.services[service].env.items():
                line = resolve.env_value(given, name, service, value)
                file = resolve.env_file(given, name, service)
                other, known = seen.setdefault((file, key), (service, line))
                if known != line:
                    message = (
                        f"`{key}` is `{line}` for {service} and `{known}` for {other}, which share {file} in {name}"
                    )
                    yield at_key(
                        source,
                        ("services", service, "env", key),
                        "clash",
                        message,
                        "leave out `env_file`: each service gets its own",
                    )


def _needs(source: Source, given: Spec) -> Found:
    """What a service asks of each environment that holds it must be there."""
    for name, place in given.environments.items():
        host = given.hosts[resolve.host_of(given, name)]
        if place.domains and host.proxy.kind == "none":
            message = f"environments.{name} has domains, and its host has no proxy"
            yield at_key(source, ("environments", name, "domains"), "proxy", message)
        if place.database:
            server = resolve.server_of(given, place.database)
            if resolve.server_host(given, server) != resolve.host_of(given, name):
                here, there = resolve.host_of(given, name), resolve.server_host(given, server)
                message = f"environments.{name} is on {here}, its database server `{server}` on {there}"
                yield at_key(source, ("environments", name, "database"), "host", message)
        for service in resolve.services_of(given, name):
            for key, value in given.services[service].env.items():
                loc: Loc = ("services", service, "env", key)
                if value.database and not place.database:
                    yield at_key(source, loc, "missing-key", f"{dotted(loc)}: environments.{name} has no `database`")
                if value.domain and service not in place.domains:
                    yield at_key(
                        source, loc, "missing-key", f"{dotted(loc)}: environments.{name} has no domain for {service}"
                    )
                if value.service and value.service not in resolve.services_of(given, name):
                    yield at_key(
                        source,
                        loc,
                        "unknown-name",
                        f"{dotted(loc)}: environments.{name} does not hold `{value.service}`",
                    )


def _old_servers(source: Source, given: Spec) -> Found:
    """The init script needs a command of psql that came with PostgreSQL 15: getenv."""
    for name, server in given.databases.items():
        major = re.search(r":(\d+)", server.image)
        if major and int(major[1]) < 15:
            message = f"databases.{name}.image: PostgreSQL {major[1]} is too old for the init script"
            yield at_value(
                source, ("databases", name, "image"), "old-server", message, "15 or newer: postgres:17-alpine"
            )


def _plain_secrets(source: Source, given: Spec) -> Found:
    for service, model in given.services.items():
        for key, value in model.env.items():
            if value.value and _SECRET_KEY.search(key):
                loc: Loc = ("services", service, "env", key)
                yield at_value(
                    source,
                    loc,
                    "secret-value",
                    f"{dotted(loc)}: a value for what is named like a secret",
                    f"{key}: {{secret: true}}",
                )


def _filters(source: Source, given: Spec) -> Found:
    """A filter must match something, and GitHub and git must read it alike: it also names what an image is made of."""
    for service in given.services:
        loc: Loc = ("services", service, "paths")
        for index, reason in globs.faults(resolve.paths_of(given, service)):
            yield at_value(source, (*loc, index), "filter", f"{dotted((*loc, index))}: {reason}")
