"""What the services of a stack need of each other, and of their host."""

from collections.abc import Iterator

from kiwari_ci.effective import derived
from kiwari_ci.loading.validation import at_key, at_value, dotted
from kiwari_ci.loading.yaml_source import Loc, Source
from kiwari_ci.problems import Problem
from kiwari_ci.schema import Accessory, EnvValue, Service, Spec

Found = Iterator[Problem]


def of_spec(source: Source, given: Spec) -> Found:
    """Faults between the services of an environment."""
    for check in (_shared_keys, _databases, _needs, _in_compose, _workers, _published, _networks, _short_names):
        yield from check(source, given)


def _shared_keys(source: Source, given: Spec) -> Found:
    """Two services that share an env file give a key one value."""
    for name in given.environments:
        seen: dict[tuple[str, str], tuple[str, str]] = {}
        for each in derived.held_by(given, name):
            for key, value in derived.running_of(given, name, each).env.items():
                line = derived.env_value(given, name, each, value)
                if given.environments[name].env_from and (setting := derived.env_setting(key, value)):
                    line = setting.expression
                file = derived.env_file(given, name, each)
                other, known = seen.setdefault((file, key), (each, line))
                if known != line:
                    message = f"`{key}` is `{line}` for {each} and `{known}` for {other}, which share {file} in {name}"
                    hint = "leave out `env_file`: each service gets its own"
                    yield at_key(source, derived.loc_of(given, name, each, "env", key), "clash", message, hint)


def _databases(source: Source, given: Spec) -> Found:
    """A database is on the host of its environment."""
    for name, place in given.environments.items():
        if place.database:
            server = derived.server_of(given, place.database)
            here, there = derived.host_of(given, name), derived.server_host(given, server)
            if here != there:
                message = f"environments.{name} is on {here}, its database server `{server}` on {there}"
                hint = "a database is reached over a Docker network: put both on one host"
                yield at_key(source, ("environments", name, "database"), "host", message, hint)


def _variables(given: Spec) -> Iterator[tuple[str, str, str, str, EnvValue]]:
    """Every variable of every environment: who has it there, its field, its key and its value."""
    for name in given.environments:
        for each in derived.held_by(given, name):
            model = derived.running_of(given, name, each)
            for field, values in (("env", model.env), ("environment", model.environment)):
                yield from ((name, each, field, key, value) for key, value in values.items())


def _needs(source: Source, given: Spec) -> Found:
    """What a variable asks of each environment must be there."""
    for name, each, field, key, value in _variables(given):
        place = given.environments[name]
        loc = derived.loc_of(given, name, each, field, key)
        if value.database and not place.database:
            message = f"{dotted(loc)}: environments.{name} has no `database`"
            yield at_key(source, loc, "missing-key", message, _database_of(given, name))
        if value.domain and each not in place.domains:
            message = f"{dotted(loc)}: environments.{name} has no domain for {each}"
            yield at_key(source, loc, "missing-key", message, f"add it to environments.{name}.domains")
        for other, table in ((value.service, "services"), (value.accessory, "accessories")):
            if other and other not in derived.held_by(given, name):
                message = f"{dotted(loc)}: environments.{name} does not hold `{other}`"
                yield at_key(source, loc, "unknown-name", message, f"add it to environments.{name}.{table}")


def _database_of(given: Spec, environment: str) -> str:
    server = "" if given.databases else ", and at the top level: databases: {postgres: {}}"
    return f"add to environments.{environment}: database: {{}}{server}"


def _in_compose(source: Source, given: Spec) -> Found:
    """The compose file is in the repository: no secret stands there, and what does wins over the env file."""
    for name, each, field, key, value in _variables(given):
        if field == "env":
            continue
        loc = derived.loc_of(given, name, each, field, key)
        if value.secret or value.variable or value.database == "url":
            secret, url = "a secret", "the database's password, which a URL has in it,"
            what = "what GitHub keeps" if value.variable else secret if value.secret else url
            message = f"{dotted(loc)}: {what} cannot stand in a compose file"
            (form,) = value.model_fields_set
            written = f"{{{form}: {'true' if value.secret is True else getattr(value, form)}}}"
            yield at_value(source, loc, "secret-value", message, f"in `env`: {key}: {written}")
        elif key in derived.running_of(given, name, each).env:
            message = f"{dotted(loc)}: `{key}` stands in `env`, too, and the compose file wins"
            yield at_key(source, loc, "clash", message, "leave out one of the two")


def _workers(source: Source, given: Spec) -> Found:
    """What has no port is asked nothing, by nobody."""
    everyone: dict[str, Service | Accessory] = {**given.services, **given.accessories}
    workers = [name for name, each in everyone.items() if each.port is None]
    for name in workers:
        table = "services" if name in given.services else "accessories"
        for key in sorted(everyone[name].model_fields_set & {"health", "websocket"}):
            kind = "service" if name in given.services else "accessory"
            message = f"{table}.{name}.{key}: the {kind} has no `port`"
            yield at_key(source, (table, name, key), "worker", message, "port: the one that it listens on")
        for environment, place in given.environments.items():
            if name in place.domains:
                message = f"environments.{environment} has a domain for {name}, which has no `port`"
                hint = f"{table}: {{{name}: {{port: the one that it listens on}}}}"
                yield at_key(source, ("environments", environment, "domains", name), "worker", message, hint)
            if name in place.overrides and "health" in place.overrides[name].model_fields_set:
                here: Loc = ("environments", environment, "overrides", name, "health")
                message = f"{dotted(here)}: the service has no `port`"
                yield at_key(source, here, "worker", message, "port: the one that it listens on, in `services`")
    for environment, each, field, key, value in _variables(given):
        if value.service in workers:
            loc = derived.loc_of(given, environment, each, field, key)
            message = f"{dotted(loc)}: `{value.service}` has no `port`, and so no URL"
            yield at_key(source, loc, "worker", message, f"services: {{{value.service}: {{port: its port}}}}")


def _published(source: Source, given: Spec) -> Found:
    """A port of a host is one container's."""
    taken: dict[tuple[str, str], str] = {}
    for environment in given.environments:
        for each in derived.held_by(given, environment):
            ports = derived.running_of(given, environment, each).ports or ()
            loc = derived.loc_of(given, environment, each, "ports")
            if ports and len(derived.container_names(given, environment, each)) > 1:
                message = (
                    f"{dotted(loc)}: {each} has replicas in {environment}, and a port of a host is one container's"
                )
                hint = "leave out `ports`, for the proxy leads to all of them; or `replicas`"
                yield at_key(source, loc, "clash", message, hint)
            for index, port in enumerate(ports):
                number = port.rsplit(":", 2)[-2] + ("/udp" if port.endswith("/udp") else "")
                user, hint = f"{each} in {environment}", "give each a port of its own, or a domain"
                for host in derived.hosts_of(given, environment):
                    if (other := taken.setdefault((host, number), user)) != user:
                        message = f"{dotted((*loc, index))}: {user} and {other} would both publish {number} on {host}"
                        yield at_value(source, (*loc, index), "clash", message, hint)


def _networks(source: Source, given: Spec) -> Found:
    """A network's name means one network in a stack."""
    for environment, place in given.environments.items():
        known = {given.hosts[derived.host_of(given, environment)].proxy.network: "external"}
        if place.database:
            known[derived.server_network(given, derived.server_of(given, place.database))] = "external"
        for each in derived.held_by(given, environment):
            for index, network in enumerate(derived.running_of(given, environment, each).networks or ()):
                (kind,) = network.model_fields_set
                name = str(getattr(network, kind))
                if (other := known.setdefault(name, kind)) != kind:
                    loc = (*derived.loc_of(given, environment, each, "networks"), index)
                    kinds = {"name": "one of its own", "internal": "an internal one", "external": "not its own"}
                    message = f"{dotted(loc)}: `{name}` is {kinds[kind]} here, and {kinds[other]} elsewhere"
                    yield at_value(source, loc, "clash", message, "give each network a name of its own")


def _short_names(source: Source, given: Spec) -> Found:
    """On the stack's own network an accessory is known by its short name: nothing that it meets there is called so."""
    for environment in given.environments:
        names: dict[str, Loc] = {name: ("databases", name) for name in given.databases}
        host = derived.host_of(given, environment)
        for other, place in given.environments.items():
            for each in derived.held_by(given, other) if derived.host_of(given, other) == host else ():
                is_near = each in given.services or each in place.domains or other == environment
                loc: Loc = ("environments", other, "containers", each)
                names |= {container: loc for container in derived.container_names(given, other, each) if is_near}
        for name in derived.accessories_of(given, environment):
            if name in names and names[name] != ("environments", environment, "containers", name):
                message = f"{dotted(names[name])}: `{name}` is what {environment} calls its accessory"
                yield at_key(source, names[name], "clash", message, "give one of them another name")
