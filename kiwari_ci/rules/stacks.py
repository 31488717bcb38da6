"""What the services of a stack need of each other, and of their host."""

from collections.abc import Iterator

from kiwari_ci.effective import derived
from kiwari_ci.loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.loading.yaml_source import YamlPath, YamlSource
from kiwari_ci.problems import Problem
from kiwari_ci.schema import Accessory, EnvValue, Service, Spec

Problems = Iterator[Problem]


def check_stacks(source: YamlSource, given: Spec) -> Problems:
    """Faults between the services of an environment."""
    for check in (
        _check_shared_env_keys,
        _check_database_hosts,
        _check_variable_sources,
        _check_compose_environment,
        _check_workers,
        _check_published_ports,
        _check_network_names,
        _check_short_names,
    ):
        yield from check(source, given)


def _check_shared_env_keys(source: YamlSource, given: Spec) -> Problems:
    """Two services that share an env file give a key one value."""
    for name in given.environments:
        seen: dict[tuple[str, str], tuple[str, str]] = {}
        for each in derived.list_services_and_accessories(given, name):
            for key, value in derived.resolve_container_options(given, name, each).env.items():
                line = derived.resolve_env_variable(given, name, each, value)
                if given.environments[name].env_from and (setting := derived.find_env_setting(key, value)):
                    line = setting.expression
                file = derived.derive_env_file_name(given, name, each)
                other, known = seen.setdefault((file, key), (each, line))
                if known != line:
                    message = f"`{key}` is `{line}` for {each} and `{known}` for {other}, which share {file} in {name}"
                    hint = "leave out `env_file`: each service gets its own"
                    yield report_at_key(
                        source, derived.find_spec_path(given, name, each, "env", key), "clash", message, hint
                    )


def _check_database_hosts(source: YamlSource, given: Spec) -> Problems:
    """A database is on the host of its environment."""
    for name, place in given.environments.items():
        if place.database:
            server = derived.find_database_server(given, place.database)
            here, there = derived.find_first_host(given, name), derived.find_server_host(given, server)
            if here != there:
                message = f"environments.{name} is on {here}, its database server `{server}` on {there}"
                hint = "a database is reached over a Docker network: put both on one host"
                yield report_at_key(source, ("environments", name, "database"), "host", message, hint)


def _iter_variables(given: Spec) -> Iterator[tuple[str, str, str, str, EnvValue]]:
    """Every variable of every environment: who has it there, its field, its key and its value."""
    for name in given.environments:
        for each in derived.list_services_and_accessories(given, name):
            model = derived.resolve_container_options(given, name, each)
            for field, values in (("env", model.env), ("environment", model.environment)):
                yield from ((name, each, field, key, value) for key, value in values.items())


def _check_variable_sources(source: YamlSource, given: Spec) -> Problems:
    """What a variable asks of each environment must be there."""
    for name, each, field, key, value in _iter_variables(given):
        place = given.environments[name]
        loc = derived.find_spec_path(given, name, each, field, key)
        if value.database and not place.database:
            message = f"{format_yaml_path(loc)}: environments.{name} has no `database`"
            yield report_at_key(source, loc, "missing-key", message, _suggest_database(given, name))
        if value.domain and each not in place.domains:
            message = f"{format_yaml_path(loc)}: environments.{name} has no domain for {each}"
            yield report_at_key(source, loc, "missing-key", message, f"add it to environments.{name}.domains")
        for other, table in ((value.service, "services"), (value.accessory, "accessories")):
            if other and other not in derived.list_services_and_accessories(given, name):
                message = f"{format_yaml_path(loc)}: environments.{name} does not hold `{other}`"
                yield report_at_key(source, loc, "unknown-name", message, f"add it to environments.{name}.{table}")


def _suggest_database(given: Spec, environment: str) -> str:
    server = "" if given.databases else ", and at the top level: databases: {postgres: {}}"
    return f"add to environments.{environment}: database: {{}}{server}"


def _check_compose_environment(source: YamlSource, given: Spec) -> Problems:
    """The compose file is in the repository: no secret stands there, and what does wins over the env file."""
    for name, each, field, key, value in _iter_variables(given):
        if field == "env":
            continue
        loc = derived.find_spec_path(given, name, each, field, key)
        if value.secret or value.variable or value.database == "url":
            secret, url = "a secret", "the database's password, which a URL has in it,"
            what = "what GitHub keeps" if value.variable else secret if value.secret else url
            message = f"{format_yaml_path(loc)}: {what} cannot stand in a compose file"
            (form,) = value.model_fields_set
            written = f"{{{form}: {'true' if value.secret is True else getattr(value, form)}}}"
            yield report_at_value(source, loc, "secret-value", message, f"in `env`: {key}: {written}")
        elif key in derived.resolve_container_options(given, name, each).env:
            message = f"{format_yaml_path(loc)}: `{key}` stands in `env`, too, and the compose file wins"
            yield report_at_key(source, loc, "clash", message, "leave out one of the two")


def _check_workers(source: YamlSource, given: Spec) -> Problems:
    """What has no port is asked nothing, by nobody."""
    everyone: dict[str, Service | Accessory] = {**given.services, **given.accessories}
    workers = [name for name, each in everyone.items() if each.port is None]
    for name in workers:
        table = "services" if name in given.services else "accessories"
        for key in sorted(everyone[name].model_fields_set & {"health", "websocket"}):
            kind = "service" if name in given.services else "accessory"
            message = f"{table}.{name}.{key}: the {kind} has no `port`"
            yield report_at_key(source, (table, name, key), "worker", message, "port: the one that it listens on")
        for environment, place in given.environments.items():
            if name in place.domains:
                message = f"environments.{environment} has a domain for {name}, which has no `port`"
                hint = f"{table}: {{{name}: {{port: the one that it listens on}}}}"
                yield report_at_key(source, ("environments", environment, "domains", name), "worker", message, hint)
            if name in place.overrides and "health" in place.overrides[name].model_fields_set:
                here: YamlPath = ("environments", environment, "overrides", name, "health")
                message = f"{format_yaml_path(here)}: the service has no `port`"
                yield report_at_key(source, here, "worker", message, "port: the one that it listens on, in `services`")
    for environment, each, field, key, value in _iter_variables(given):
        if value.service in workers:
            loc = derived.find_spec_path(given, environment, each, field, key)
            message = f"{format_yaml_path(loc)}: `{value.service}` has no `port`, and so no URL"
            yield report_at_key(source, loc, "worker", message, f"services: {{{value.service}: {{port: its port}}}}")


def _check_published_ports(source: YamlSource, given: Spec) -> Problems:
    """A port of a host is one container's."""
    taken: dict[tuple[str, str], str] = {}
    for environment in given.environments:
        for each in derived.list_services_and_accessories(given, environment):
            ports = derived.resolve_container_options(given, environment, each).ports or ()
            loc = derived.find_spec_path(given, environment, each, "ports")
            if ports and len(derived.list_container_names(given, environment, each)) > 1:
                message = f"{format_yaml_path(loc)}: {each} has replicas in {environment}, and a port of a host is one container's"
                hint = "leave out `ports`, for the proxy leads to all of them; or `replicas`"
                yield report_at_key(source, loc, "clash", message, hint)
            for index, port in enumerate(ports):
                number = port.rsplit(":", 2)[-2] + ("/udp" if port.endswith("/udp") else "")
                user, hint = f"{each} in {environment}", "give each a port of its own, or a domain"
                for host in derived.list_hosts(given, environment):
                    if (other := taken.setdefault((host, number), user)) != user:
                        message = f"{format_yaml_path((*loc, index))}: {user} and {other} would both publish {number} on {host}"
                        yield report_at_value(source, (*loc, index), "clash", message, hint)


def _check_network_names(source: YamlSource, given: Spec) -> Problems:
    """A network's name means one network in a stack."""
    for environment, place in given.environments.items():
        known = {given.hosts[derived.find_first_host(given, environment)].proxy.network: "external"}
        if place.database:
            known[derived.find_server_network(given, derived.find_database_server(given, place.database))] = "external"
        for each in derived.list_services_and_accessories(given, environment):
            for index, network in enumerate(derived.resolve_container_options(given, environment, each).networks or ()):
                (kind,) = network.model_fields_set
                name = str(getattr(network, kind))
                if (other := known.setdefault(name, kind)) != kind:
                    loc = (*derived.find_spec_path(given, environment, each, "networks"), index)
                    kinds = {"name": "one of its own", "internal": "an internal one", "external": "not its own"}
                    message = f"{format_yaml_path(loc)}: `{name}` is {kinds[kind]} here, and {kinds[other]} elsewhere"
                    yield report_at_value(source, loc, "clash", message, "give each network a name of its own")


def _check_short_names(source: YamlSource, given: Spec) -> Problems:
    """On the stack's own network an accessory is known by its short name: nothing that it meets there is called so."""
    for environment in given.environments:
        names: dict[str, YamlPath] = {name: ("databases", name) for name in given.databases}
        host = derived.find_first_host(given, environment)
        for other, place in given.environments.items():
            for each in (
                derived.list_services_and_accessories(given, other)
                if derived.find_first_host(given, other) == host
                else ()
            ):
                is_near = each in given.services or each in place.domains or other == environment
                loc: YamlPath = ("environments", other, "containers", each)
                names |= {container: loc for container in derived.list_container_names(given, other, each) if is_near}
        for name in derived.list_accessories(given, environment):
            if name in names and names[name] != ("environments", environment, "containers", name):
                message = f"{format_yaml_path(names[name])}: `{name}` is what {environment} calls its accessory"
                yield report_at_key(source, names[name], "clash", message, "give one of them another name")
