"""Names and values that a spec may leave out: resolve and the rules ask here, and nobody else derives one."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from kiwari_ci import schema
from kiwari_ci.plan import GitHubSetting
from kiwari_ci.readers.image_reference import parse_image_reference

YamlPath = tuple[str | int, ...]

PLACEHOLDER = "change-me"
CACHE_TAG = "buildcache"
PROXY_CONFIG_FILES = {"caddy": ("conf/Caddyfile",), "nginx": ("conf/default.conf",), "traefik": ()}


def list_services(given: schema.Spec, environment: str) -> list[str]:
    """Services that an environment holds, in the spec's order."""
    chosen = given.environments[environment].services
    return [name for name in given.services if chosen is None or name in chosen]


def list_accessories(given: schema.Spec, environment: str) -> list[str]:
    """Accessories that an environment holds, in the spec's order."""
    chosen = given.environments[environment].accessories
    return [name for name in given.accessories if chosen is None or name in chosen]


def list_services_and_accessories(given: schema.Spec, environment: str) -> list[str]:
    """All that an environment holds: services, then accessories."""
    return [*list_services(given, environment), *list_accessories(given, environment)]


def resolve_service(given: schema.Spec, environment: str, name: str) -> schema.Service:
    """A service as it is in one environment, whose overrides win."""
    return _apply_overrides(given, environment, name, given.services[name])


def resolve_accessory(given: schema.Spec, environment: str, name: str) -> schema.Accessory:
    """An accessory as it is in one environment, whose overrides win."""
    return _apply_overrides(given, environment, name, given.accessories[name])


def resolve_container_options(given: schema.Spec, environment: str, name: str) -> schema.Service | schema.Accessory:
    """Either of the two, as it is in one environment."""
    find = resolve_service if name in given.services else resolve_accessory
    return find(given, environment, name)


def find_spec_path(given: schema.Spec, environment: str, name: str, field: str, *rest: str | int) -> YamlPath:
    """Where the spec says something of a service or an accessory that counts in one environment."""
    override = given.environments[environment].overrides.get(name)
    if override and field in override.model_fields_set:
        value = getattr(override, field)
        if not (rest and isinstance(value, dict)) or rest[0] in value:
            return ("environments", environment, "overrides", name, field, *rest)
    return ("services" if name in given.services else "accessories", name, field, *rest)


def list_hosts(given: schema.Spec, environment: str) -> list[str]:
    """The hosts of an environment, in the order of its deploys: named, or the only one."""
    return given.environments[environment].host or list(given.hosts)[:1]


def find_first_host(given: schema.Spec, environment: str) -> str:
    """The first host of an environment; the others are like it."""
    return list_hosts(given, environment)[0]


def find_server_host(given: schema.Spec, server: str) -> str:
    """The host of a database server: named, or the only one."""
    return given.databases[server].host or next(iter(given.hosts))


def find_server_network(given: schema.Spec, server: str) -> str:
    """The Docker network that reaches a database server."""
    return given.databases[server].network or server


def owns_network(given: schema.Spec, server: str) -> bool:
    """Whether the server's stack makes that network; the proxy's is there already."""
    return find_server_network(given, server) != given.hosts[find_server_host(given, server)].proxy.network


def derive_proxy_stack_name(given: schema.Spec, host: str) -> str:
    """The stack of a host's proxy that is generated; none for a proxy that is there already."""
    proxy = given.hosts[host].proxy
    return proxy.stack or (proxy.kind if proxy.kind in ("caddy", "nginx") else "")


def find_published_port(ports: Iterable[str], port: int) -> str:
    """Where the host publishes a container's port; empty when it does not."""
    return next((each.split(":")[-2] for each in ports if each.split(":")[-1] == str(port)), "")


def has_version_or_digest(image: str) -> bool:
    """Whether an image of others has a digest, or a tag that is a version; `latest` is another one some day."""
    reference = parse_image_reference(image)
    return bool(reference.digest) or reference.tag not in ("", "latest")


def parse_postgres_major(image: str) -> int:
    """The major version that an image's tag begins with; 0 when it says none."""
    digits = re.match(r"\d+", parse_image_reference(image).tag)
    return int(digits[0]) if digits else 0


def find_database_server(given: schema.Spec, database: schema.Database) -> str:
    """The server of a database: named, or the only one."""
    return database.server or next(iter(given.databases))


def derive_stack_name(given: schema.Spec, environment: str) -> str:
    """Folder and Compose project of an environment."""
    return given.environments[environment].stack or f"{given.project.name}-{environment}"


def derive_container_name(given: schema.Spec, environment: str, service: str) -> str:
    """Container, Compose service and host name of a service in an environment."""
    return given.environments[environment].containers.get(service) or f"{given.project.name}-{service}-{environment}"


def list_container_names(given: schema.Spec, environment: str, name: str) -> list[str]:
    """The containers of a service or an accessory: NAME, and NAME-2, NAME-3 where it has replicas."""
    first, running = (
        derive_container_name(given, environment, name),
        resolve_container_options(given, environment, name),
    )
    replicas = running.replicas if isinstance(running, schema.Service) else 1
    return [first, *(f"{first}-{number}" for number in range(2, replicas + 1))]


def derive_image_tag(given: schema.Spec, environment: str) -> str:
    """The tag of an environment's images."""
    return given.environments[environment].tag or environment


def derive_database_name(given: schema.Spec, environment: str, database: schema.Database) -> str:
    """The database of an environment."""
    return database.name or f"{given.project.name}_{environment}".replace("-", "_")


def derive_database_user(given: schema.Spec, environment: str, database: schema.Database) -> str:
    """The role that owns an environment's database."""
    return database.user or derive_database_name(given, environment, database)


def derive_password_key(given: schema.Spec, environment: str, database: schema.Database) -> str:
    """The key of the role's password in the server's own env file."""
    return (
        database.password.env
        if database.password
        else f"{derive_database_user(given, environment, database)}_password".upper()
    )


def find_env_owner(given: schema.Spec, environment: str, name: str) -> str:
    """Whose `env` a container reads: its own, or, as another process without one, that of its image's service."""
    source = given.services[name].image_of if name in given.services else None
    return source if source and not resolve_container_options(given, environment, name).env else name


def derive_env_file_name(given: schema.Spec, environment: str, name: str) -> str:
    """The env file of a service: the stack's, its own, or none when nothing would stand in it."""
    holder = find_env_owner(given, environment, name)
    has_env = bool(resolve_container_options(given, environment, holder).env)
    own = f"{derive_container_name(given, environment, holder)}.env" if has_env else ""
    shared = given.environments[environment].env_file if has_env or name in given.services else None
    return shared or own


def resolve_env_variable(given: schema.Spec, environment: str, service: str, value: schema.EnvValue) -> str:
    """A value as the env file's example shows it; empty for what the environment does not have."""
    place = given.environments[environment]
    if value.secret or value.variable:
        return PLACEHOLDER
    if value.service:
        port = resolve_service(given, environment, value.service).port
        return f"http://{derive_container_name(given, environment, value.service)}:{port}"
    if value.accessory:
        return derive_container_name(given, environment, value.accessory)
    if value.domain:
        domain = place.domains.get(service, "")
        return domain if value.domain == "name" else f"https://{domain}"
    if value.database:
        return _resolve_database_field(given, environment, place.database, value.database) if place.database else ""
    return value.value or ""


def detect_runner_platform(given: schema.Spec) -> str:
    """What the runner is, by GitHub's names of its own."""
    is_arm = any(re.search(r"arm(64)?$", label, re.IGNORECASE) for label in given.project.runner)
    return "linux/arm64" if is_arm else "linux/amd64"


def iter_tests(service: str, model: schema.Service) -> Iterator[tuple[tuple[str, ...], schema.Test]]:
    """The tests of a service, each with its place in the spec."""
    if model.test:
        yield ("services", service, "test"), model.test
    for name, test in model.tests.items():
        yield ("services", service, "tests", name), test


def resolve_deploy_settings(given: schema.Spec, environment: str, on: str = "") -> dict[str, GitHubSetting]:
    """What a deploy reads from GitHub, in the order of a step's env: to reach the host, a jump before it, the token."""
    name = on or find_first_host(given, environment)
    host, prefix = given.hosts[name], format_variable_name(name)
    key = given.environments[environment].key or host.key
    token = given.registry.pull_token.secret
    found = {
        "address": _build_reference_setting(host.address) or _build_secret_setting(f"{prefix}_HOST"),
        "user": _build_reference_setting(host.user) or _build_secret_setting(f"{prefix}_USER"),
        "key": _build_secret_setting(key.secret if key else f"{prefix}_SSH_KEY"),
        "known_hosts": _build_reference_setting(host.known_hosts) or _build_variable_setting(f"{prefix}_KNOWN_HOSTS"),
    }
    if host.jump:
        found |= {
            "jump_address": _build_reference_setting(host.jump.address) or _build_secret_setting(f"{prefix}_JUMP_HOST"),
            "jump_user": _build_reference_setting(host.jump.user) or _build_secret_setting(f"{prefix}_JUMP_USER"),
            "jump_key": _build_secret_setting(host.jump.key.secret if host.jump.key else f"{prefix}_JUMP_SSH_KEY"),
            "jump_known_hosts": _build_reference_setting(host.jump.known_hosts)
            or _build_variable_setting(f"{prefix}_JUMP_KNOWN_HOSTS"),
        }
    return found | {
        "token": _build_secret_setting(token) if token else GitHubSetting("REGISTRY_TOKEN", "github.token", ""),
    }


def find_env_setting(key: str, value: schema.EnvValue) -> GitHubSetting | None:
    """Where GitHub keeps the value of a key, for an env file that a deploy renders; a database's URL is a secret."""
    if value.variable:
        return GitHubSetting(f"VARIABLE_{value.variable}", f"vars.{value.variable}", "variable")
    if value.secret or value.database == "url":
        name = value.secret if isinstance(value.secret, str) else key.upper()
        return GitHubSetting(f"SECRET_{name}", f"secrets.{name}", "secret")
    return None


def collect_env_settings(given: schema.Spec, environment: str) -> dict[GitHubSetting, str]:
    """All that the env files of an environment are rendered from, each with the first key that it is for."""
    found: dict[GitHubSetting, str] = {}
    for name in list_services_and_accessories(given, environment) if given.environments[environment].env_from else ():
        for key, value in resolve_container_options(given, environment, name).env.items():
            if setting := find_env_setting(key, value):
                found.setdefault(setting, key)
    return found


def parse_duration(duration: str) -> int:
    """A duration such as `90s` or `3m`, in seconds."""
    return int(duration[:-1]) * (60 if duration.endswith("m") else 1)


def format_variable_name(name: str) -> str:
    """A name as an environment variable is written: in capitals, with _ for -."""
    return name.upper().replace("-", "_")


ContainerModelT = TypeVar("ContainerModelT", schema.Service, schema.Accessory)


def _apply_overrides(given: schema.Spec, environment: str, name: str, model: ContainerModelT) -> ContainerModelT:
    override = given.environments[environment].overrides.get(name)
    if override is None:
        return model
    changes = {key: _merge_override(getattr(model, key), getattr(override, key)) for key in override.model_fields_set}
    return model.model_copy(update=changes)


def _merge_override(usual: Any, here: Any) -> Any:
    """Mappings and models key by key, so that an override says only what is different."""
    if isinstance(usual, dict):
        return usual | here
    if (
        isinstance(usual, schema.SpecModel)
        and isinstance(here, schema.SpecModel)
        and not isinstance(usual, schema.OneOf)
    ):
        changes = {key: _merge_override(getattr(usual, key), getattr(here, key)) for key in here.model_fields_set}
        return usual.model_copy(update=changes)
    return here


def _build_secret_setting(name: str) -> GitHubSetting:
    return GitHubSetting(name, f"secrets.{name}", "secret")


def _build_variable_setting(name: str) -> GitHubSetting:
    return GitHubSetting(name, f"vars.{name}", "variable")


def _build_reference_setting(reference: schema.Reference | None) -> GitHubSetting | None:
    if reference is None:
        return None
    return (
        _build_variable_setting(reference.variable)
        if reference.variable
        else _build_secret_setting(str(reference.secret))
    )


def _resolve_database_field(given: schema.Spec, environment: str, database: schema.Database, kind: str) -> str:
    server, name = find_database_server(given, database), derive_database_name(given, environment, database)
    user = derive_database_user(given, environment, database)
    known = {"host": server, "port": "5432", "name": name, "user": user}
    return known.get(kind) or f"postgres://{user}:{PLACEHOLDER}@{server}:5432/{name}?sslmode=disable"
