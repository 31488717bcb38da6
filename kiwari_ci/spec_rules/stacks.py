"""What the services of a stack need of each other, and of their host."""

from collections.abc import Iterator

from kiwari_ci.effective_spec import EffectiveContainer, EffectiveEnvironment, EffectiveSpec
from kiwari_ci.effective_spec.containers import find_env_setting
from kiwari_ci.problems import Problem
from kiwari_ci.schema import Accessory, EnvValue, Service
from kiwari_ci.spec_loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.spec_loading.yaml_source import YamlPath, YamlSource

Problems = Iterator[Problem]


def check_stacks(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Find problems between the services of an environment."""
    environments = list(spec.environments.values())
    for environment in environments:
        yield from _check_shared_env_keys(source, environment)
    for environment in environments:
        yield from _check_existing_volumes(source, environment)
    for container, field, key, value in _iter_variables(spec):
        yield from _check_variable_source(source, container, field, key, value)
    for container, field, key, value in _iter_variables(spec):
        if field == "environment":
            yield from _check_compose_variable(source, container, key, value)
    yield from _check_workers(source, spec)


def _iter_variables(spec: EffectiveSpec) -> Iterator[tuple[EffectiveContainer, str, str, EnvValue]]:
    """Every variable of every environment: who has it there, its field, its key and its value."""
    for environment in spec.environments.values():
        for container in environment.containers.values():
            options = container.options
            for field, values in (("env", options.env), ("environment", options.environment)):
                for key, value in values.items():
                    yield container, field, key, value


def _check_shared_env_keys(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    """Two services that share an env file give a key one value."""
    first_values: dict[tuple[str, str], tuple[str, str]] = {}  # by file and key: the container's name, and the value
    for name, container in environment.containers.items():
        for key, value in container.options.env.items():
            text = container.resolve_variable(value)
            setting = find_env_setting(key, value)
            if environment.renders_env_files and setting:
                text = setting.expression
            file = container.env_file
            first_name, first_text = first_values.setdefault((file, key), (name, text))
            if first_text != text:
                different = f"`{key}` is `{text}` for {name} and `{first_text}` for {first_name}"
                message = f"{different}, which share {file} in {environment.name}"
                hint = "leave out `env_file`: each service gets its own"
                yield report_at_key(source, container.yaml_path("env", key), "clash", message, hint)


def _check_existing_volumes(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    """A volume that exists already is mounted by something here, and by no two names."""
    mounts = [mount for container in environment.containers.values() for mount in container.options.volumes or ()]
    mounted_names = {mount.partition(":")[0] for mount in mounts}
    first_names: dict[str, str] = {}
    for name, existing in environment.model.volumes.items():
        loc: YamlPath = ("environments", environment.name, "volumes", name)
        if name not in mounted_names:
            message = f"{format_yaml_path(loc)}: nothing here mounts a volume `{name}`"
            yield report_at_key(
                source, loc, "unused", message, f"volumes: ['{name}:/PATH'] of a service; or leave it out"
            )
        first_name = first_names.setdefault(existing, name)
        if first_name != name:
            message = f"{format_yaml_path(loc)}: `{existing}` is the volume `{first_name}` already"
            yield report_at_value(source, loc, "clash", message, f"mount `{first_name}` in both places")


def _check_variable_source(
    source: YamlSource, container: EffectiveContainer, field: str, key: str, value: EnvValue
) -> Problems:
    """What a variable is derived from is there in each environment."""
    environment = container.environment
    where = f"environments.{environment.name}"
    loc = container.yaml_path(field, key)
    if value.database and not environment.database:
        message = f"{format_yaml_path(loc)}: {where} has no `database`"
        yield report_at_key(source, loc, "missing-key", message, _suggest_database(environment))
    if value.domain and not container.domain:
        message = f"{format_yaml_path(loc)}: {where} has no domain for {container.name}"
        yield report_at_key(source, loc, "missing-key", message, f"add it to {where}.domains")
    for peer, table in ((value.service, "services"), (value.accessory, "accessories")):
        if peer and peer not in environment.containers:
            message = f"{format_yaml_path(loc)}: {where} does not hold `{peer}`"
            yield report_at_key(source, loc, "unknown-name", message, f"add it to {where}.{table}")


def _suggest_database(environment: EffectiveEnvironment) -> str:
    hint = f"add to environments.{environment.name}: database: {{}}"
    if not environment.spec.databases:
        hint += ", and at the top level: databases: {postgres: {}}"
    return hint


def _check_compose_variable(source: YamlSource, container: EffectiveContainer, key: str, value: EnvValue) -> Problems:
    """A variable in `environment` is no secret, and is not in `env`, too: the Compose file wins over the env file."""
    loc = container.yaml_path("environment", key)
    secret_kind = _describe_secret(value)
    if secret_kind:
        message = f"{format_yaml_path(loc)}: {secret_kind} cannot stand in a compose file"
        (form,) = value.model_fields_set
        text = "true" if value.secret is True else getattr(value, form)
        yield report_at_value(source, loc, "secret-value", message, f"in `env`: {key}: {{{form}: {text}}}")
    elif key in container.options.env:
        message = f"{format_yaml_path(loc)}: `{key}` stands in `env`, too, and the compose file wins"
        yield report_at_key(source, loc, "clash", message, "leave out one of the two")


def _describe_secret(value: EnvValue) -> str:
    """Describe why a value is not for everybody; empty when it is."""
    if value.variable:
        return "what GitHub keeps"
    if value.secret:
        return "a secret"
    if value.database == "url":
        return "the database's password, which a URL has in it,"
    return ""


def _check_workers(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """A service without a port has no health check, no domain, and no URL."""
    everyone: dict[str, Service | Accessory] = {**spec.services, **spec.accessories}
    workers = {name: options for name, options in everyone.items() if options.port is None}
    for name, options in workers.items():
        yield from _check_worker(source, spec, name, options)
    for container, field, key, value in _iter_variables(spec):
        if value.service in workers:
            loc = container.yaml_path(field, key)
            message = f"{format_yaml_path(loc)}: `{value.service}` has no `port`, and so no URL"
            yield report_at_key(source, loc, "worker", message, f"services: {{{value.service}: {{port: its port}}}}")


def _check_worker(source: YamlSource, spec: EffectiveSpec, name: str, options: Service | Accessory) -> Problems:
    is_service = name in spec.services
    table, kind = ("services", "service") if is_service else ("accessories", "accessory")
    for key in sorted(options.model_fields_set & {"health", "websocket"}):
        if key == "health" and isinstance(options, Service) and options.health.by == "healthcheck":
            continue  # Docker asks in the container
        message = f"{table}.{name}.{key}: the {kind} has no `port`"
        yield report_at_key(source, (table, name, key), "worker", message, "port: the one that it listens on")
    for environment in spec.environments.values():
        loc: YamlPath = ("environments", environment.name, "domains", name)
        if name in environment.model.domains:
            message = f"environments.{environment.name} has a domain for {name}, which has no `port`"
            hint = f"{table}: {{{name}: {{port: the one that it listens on}}}}"
            yield report_at_key(source, loc, "worker", message, hint)
        override = environment.model.overrides.get(name)
        is_asked_by_docker = override is not None and override.health.by == "healthcheck"
        if override and "health" in override.model_fields_set and not is_asked_by_docker:
            loc = ("environments", environment.name, "overrides", name, "health")
            message = f"{format_yaml_path(loc)}: the service has no `port`"
            yield report_at_key(source, loc, "worker", message, "port: the one that it listens on, in `services`")
