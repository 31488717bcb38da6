"""What one model cannot see alone: promises between services, environments and hosts."""

import re
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any

from kiwari_ci import derive, fronts, globs, names
from kiwari_ci.problems import Problem
from kiwari_ci.source import Loc, Source
from kiwari_ci.spec import Spec
from kiwari_ci.validation import at_key, at_value, dotted

SECRET_VALUE = re.compile(
    r"gh[pousr]_\w{20,}|github_pat_\w{20,}|-----BEGIN|AKIA[0-9A-Z]{16}|xox[abprs]-\w|sk_live_\w"
    r"|eyJ\w{10,}\.eyJ|://[^/\s:@]*:[^/\s@]+@"
)
_SECRET_KEY = re.compile(r"(?<!PUBLIC)_?(PASSWORD|PASSWD|SECRET|TOKEN|PRIVATE_KEY|API_KEY)$", re.IGNORECASE)

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]*")
_USE = {"services": "that builds images holds", "hosts": "is on", "databases": "keeps its database on"}

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


def of_spec(source: Source, given: Spec) -> list[Problem]:
    """Faults of a spec whose types are right."""
    unknown = list(names.unknown(source, given))
    if unknown:
        return unknown
    checks: tuple[Callable[[Source, Spec], Found], ...] = (
        _deploys, _tags, _unused, _shared_keys, _needs, _servers, _plain_secrets, _filters, _workers, _published,
        fronts.of_spec,
    )  # fmt: skip
    return names.of_spec(source, given) + [problem for check in checks for problem in check(source, given)]


def _strings(data: Any, loc: Loc = ()) -> Iterator[tuple[Loc, str]]:
    if isinstance(data, str):
        yield loc, data
    for key, value in data.items() if isinstance(data, dict) else enumerate(data if isinstance(data, list) else ()):
        yield from _strings(value, (*loc, key))


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


def _tags(source: Source, given: Spec) -> Found:
    """A tag starts the promotions whose pattern it matches: either the same for several, or for one alone."""
    prefixes = {
        name: str(place.deploy_on.tag).removesuffix("*")
        for name, place in given.environments.items()
        if place.deploy_on.tag
    }
    for name, prefix in prefixes.items():
        for other, longer in prefixes.items():
            if longer != prefix and longer.startswith(prefix):
                loc: Loc = ("environments", other, "deploy_on", "tag")
                message = (
                    f"tags like `{longer}1.2.0` start environments.{other} and, by `{prefix}*`, environments.{name}"
                )
                yield at_value(source, loc, "clash", message, "give each a prefix that is not the other's beginning")


def _unused(source: Source, given: Spec) -> Found:
    """What nothing uses would be set up, or built, for nothing."""
    built = [name for name in given.environments if not derive.is_promoted(given, name)]
    used = {
        "services": {service for name in built for service in derive.services_of(given, name)},
        "hosts": {derive.host_of(given, name) for name in given.environments},
        "databases": {
            derive.server_of(given, place.database) for place in given.environments.values() if place.database
        },
    }
    for table, written in (("services", given.services), ("hosts", given.hosts), ("databases", given.databases)):
        for name in written:
            if name not in used[table]:
                message = f"{table}.{name}: no environment {_USE[table]} it"
                yield at_key(source, (table, name), "unused", message, "leave it out, or name it in an environment")


def _promotion(source: Source, given: Spec, name: str, origin: str) -> Found:
    here: Loc = ("environments", name, "promote")
    if given.environments[name].deploy_on.push:
        words = f"environments.{name} promotes, and so must be reached by a tag"
        yield at_value(source, (*here[:2], "deploy_on"), "promotion", words, 'deploy_on: {tag: "v*"}')
    if origin == name or derive.is_promoted(given, origin):
        yield at_value(
            source,
            here,
            "promotion",
            f"{dotted(here)}: `{origin}` builds nothing",
            "promote an environment that a push reaches",
        )
    for service in derive.services_of(given, name):
        if service not in derive.services_of(given, origin):
            message = f"{dotted(here)}: `{origin}` does not hold `{service}`"
            hint = f"environments.{name}.services: those that {origin} holds"
            yield at_value(source, here, "promotion", message, hint)


def _shared_keys(source: Source, given: Spec) -> Found:
    """Two services that share an env file give a key one value."""
    for name in given.environments:
        seen: dict[tuple[str, str], tuple[str, str]] = {}
        for service in derive.services_of(given, name):
            for key, value in given.services[service].env.items():
                line = derive.env_value(given, name, service, value)
                file = derive.env_file(given, name, service)
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
        if place.database:
            server = derive.server_of(given, place.database)
            if derive.server_host(given, server) != derive.host_of(given, name):
                here, there = derive.host_of(given, name), derive.server_host(given, server)
                message = f"environments.{name} is on {here}, its database server `{server}` on {there}"
                hint = "a database is reached over a Docker network: put both on one host"
                yield at_key(source, ("environments", name, "database"), "host", message, hint)
        for service in derive.services_of(given, name):
            for key, value in given.services[service].env.items():
                loc: Loc = ("services", service, "env", key)
                if value.database and not place.database:
                    message = f"{dotted(loc)}: environments.{name} has no `database`"
                    yield at_key(source, loc, "missing-key", message, _database_of(given, name))
                if value.domain and service not in place.domains:
                    message = f"{dotted(loc)}: environments.{name} has no domain for {service}"
                    yield at_key(source, loc, "missing-key", message, f"add it to environments.{name}.domains")
                if value.service and value.service not in derive.services_of(given, name):
                    message = f"{dotted(loc)}: environments.{name} does not hold `{value.service}`"
                    yield at_key(source, loc, "unknown-name", message, f"add it to environments.{name}.services")


def _database_of(given: Spec, environment: str) -> str:
    server = "" if given.databases else ", and at the top level: databases: {postgres: {}}"
    return f"add to environments.{environment}: database: {{}}{server}"


def _workers(source: Source, given: Spec) -> Found:
    """What has no port is asked nothing, by nobody."""
    workers = [name for name, service in given.services.items() if service.port is None]
    for name in workers:
        for key in sorted(given.services[name].model_fields_set & {"health", "websocket"}):
            message = f"services.{name}.{key}: the service has no `port`"
            yield at_key(source, ("services", name, key), "worker", message, "port: the one that it listens on")
    for name, place in given.environments.items():
        for service in filter(place.domains.__contains__, workers):
            message = f"environments.{name} has a domain for {service}, which has no `port`"
            hint = f"services: {{{service}: {{port: the one that it listens on}}}}"
            yield at_key(source, ("environments", name, "domains", service), "worker", message, hint)
    for name, model in given.services.items():
        for key, value in model.env.items():
            if value.service in workers:
                loc: Loc = ("services", name, "env", key)
                message = f"{dotted(loc)}: `{value.service}` has no `port`, and so no URL"
                yield at_key(source, loc, "worker", message, f"services: {{{value.service}: {{port: its port}}}}")


def _published(source: Source, given: Spec) -> Found:
    """A port of a host is one container's."""
    taken: dict[tuple[str, str], str] = {}
    for environment in given.environments:
        for service in derive.services_of(given, environment):
            for index, port in enumerate(given.services[service].ports or ()):
                number = port.rsplit(":", 2)[-2] + ("/udp" if port.endswith("/udp") else "")
                host, user = derive.host_of(given, environment), f"{service} in {environment}"
                other = taken.setdefault((host, number), user)
                if other != user:
                    loc: Loc = ("services", service, "ports", index)
                    message = f"{dotted(loc)}: {user} and {other} would both publish {number} on {host}"
                    yield at_value(source, loc, "clash", message, "give each a port of its own, or a domain")


def _servers(source: Source, given: Spec) -> Found:
    """The major version decides where the data is kept; the init script needs a command that came with 15: getenv."""
    for name, server in given.databases.items():
        loc: Loc = ("databases", name, "image")
        major = derive.postgres_major(server.image)
        if not major:
            message = f"{dotted(loc)}: the tag of `{server.image}` does not begin with a version of PostgreSQL"
            yield at_value(source, loc, "server-version", message, "image: postgres:17-alpine")
        elif major < 15:
            message = f"{dotted(loc)}: PostgreSQL {major} is too old for the init script"
            yield at_value(source, loc, "server-version", message, "15 or newer: postgres:17-alpine")


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
        paths = derive.paths_of(given, service)
        faults = globs.faults(paths)
        for index, reason in faults or _swallowed(paths):
            words, _, cure = reason.rpartition(": ")
            yield at_value(source, (*loc, index), "filter", f"{dotted((*loc, index))}: {words}", cure)
        filters = list(derive.filters_of(given, service))
        for path in filters if not faults else ():
            if path not in paths and not globs.included(filters, path):
                message = f"{dotted(loc)}: `{path}` is excluded, and shapes the image"
                yield at_value(source, loc, "filter", message, "narrow the exclusion")


def _swallowed(paths: list[str]) -> list[tuple[int, str]]:
    """Exclusions that leave nothing of an inclusion."""
    return [
        (index, f"`{exclusion}` excludes all that `{path}` includes: leave out one of the two")
        for index, exclusion in enumerate(paths)
        for path in paths
        if exclusion.startswith("!")
        and exclusion.endswith("**")
        and not path.startswith("!")
        and path.startswith(exclusion[1:].removesuffix("**"))
    ]
