"""What the services of a stack need of each other, and of their host."""

from collections.abc import Iterator

from kiwari_ci import derive
from kiwari_ci.problems import Problem
from kiwari_ci.source import Loc, Source
from kiwari_ci.spec import Spec
from kiwari_ci.validation import at_key, at_value, dotted

Found = Iterator[Problem]


def of_spec(source: Source, given: Spec) -> Found:
    """Faults between the services of an environment."""
    for check in (_shared_keys, _needs, _workers, _published):
        yield from check(source, given)


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
