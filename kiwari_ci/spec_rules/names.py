"""Names: unknown ones, those that two things share, those that are taken, and those that grow too long."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from kiwari_ci.effective_spec import EffectiveEnvironment, EffectiveSpec
from kiwari_ci.effective_spec.images import CACHE_TAG
from kiwari_ci.effective_spec.values import format_variable_name
from kiwari_ci.plan_model import GitHubSetting
from kiwari_ci.problems import Problem
from kiwari_ci.proxies.all_proxies import find_proxy
from kiwari_ci.schema import ContainerOptions, Override
from kiwari_ci.spec_loading.suggestions import suggest_closest
from kiwari_ci.spec_loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.spec_loading.yaml_source import YamlPath, YamlSource

MAX_NAME_LENGTH = 63  # of a container, which is a host name too, and of what PostgreSQL names
_STEP_VARIABLES = {"SEQUENCE"}  # of a deploy step, beside its settings and digests
# One login, one port and one machine or program in between may serve several hosts.
_SHAREABLE_SETTINGS = {"token", "user", "port", "jump_address", "jump_user", "jump_port", "jump_known_hosts"}
# What the jump host and the server behind it may have in common; an address is that of one machine.
_SETTINGS_OF_BOTH_HOPS = {
    "jump_user": "user",
    "jump_port": "port",
    "jump_key": "key",
    "jump_known_hosts": "known_hosts",
}
RUNNER_VARIABLE_PATTERN = (  # variables of Bash, or of the runner
    r"PATH|HOME|CI|IFS|(E?U|PP)ID|SECONDS|S?RANDOM|GROUPS|SHELLOPTS|LINENO|DIRSTACK|PIPESTATUS|REPLY|OPT(IND|ARG|ERR)"
    r"|PS[0-4]|PWD|OLDPWD|HOSTNAME|BASH.*|(GITHUB|RUNNER|ACTIONS|LD|COMPOSE)_.*"
    # Docker reads these; DOCKER_PASSWORD and DOCKER_TOKEN are usual names of a registry's token.
    r"|DOCKER_(API_VERSION|AUTH_CONFIG|BUILDKIT|CERT_PATH|CLI_.*|CONFIG|CONTENT_TRUST.*|CONTEXT|CUSTOM_HEADERS"
    r"|DEFAULT_PLATFORM|HIDE_LEGACY_COMMANDS|HOST|TLS|TLS_VERIFY)"
)
_RESERVED_NETWORKS = r"host|none|bridge|default"
# bin/ itself, and requests of bin/deploy
_RESERVED_STACKS = r"bin|deploy|rollback|check|cancel|status"
_RESERVED_CONTAINERS = r".*-next(-migrate)?|localhost"

Problems = Iterator[Problem]
NameRule = tuple[YamlPath, str, str]  # where a name is, the name, and the pattern of names that are taken


def check_names(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Find problems in the names of a spec that refers to nothing unknown."""
    yield from _UniqueNames(source).check(spec)
    yield from _check_duplicates(source, spec)
    yield from _check_reserved_names(source, spec)
    yield from _check_name_lengths(source, spec)
    yield from _check_step_settings(source, spec)


def check_references(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Find names that nothing has; with one of them, no other rule can be checked."""
    hosts = list(spec.hosts)
    for name, server in spec.written.databases.items():
        yield from _check_reference(source, ("databases", name, "host"), server.host, "hosts", hosts)
    for environment in spec.environments.values():
        yield from _check_environment_references(source, environment)
    yield from _check_peer_references(source, spec)
    yield from _check_base_references(source, spec)


def _check_environment_references(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    spec, model = environment.spec, environment.model
    environment_loc: YamlPath = ("environments", environment.name)
    yield from _check_host_references(source, environment)
    if model.promote:
        loc: YamlPath = (*environment_loc, "promote")
        yield from _check_reference(source, loc, model.promote, "environments", list(spec.environments))
    if model.database:
        loc = (*environment_loc, "database", "server")
        yield from _check_reference(source, loc, model.database.server, "databases", list(spec.written.databases))
    for index, service in enumerate(model.services or ()):
        loc = (*environment_loc, "services", index)
        yield from _check_reference(source, loc, service, "services", list(spec.services))
    for index, accessory in enumerate(model.accessories or ()):
        loc = (*environment_loc, "accessories", index)
        yield from _check_reference(source, loc, accessory, "accessories", list(spec.accessories))
    yield from _check_container_references(source, environment)


def _check_host_references(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    environment_loc: YamlPath = ("environments", environment.name)
    for index, host in enumerate(environment.model.host or [None]):
        loc: YamlPath = (*environment_loc, "host", index)
        if loc not in source.values:  # one host may be written without brackets
            loc = (*environment_loc, "host")
        yield from _check_reference(source, loc, host, "hosts", list(environment.spec.hosts))


def _check_container_references(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    """Check the keys of an environment's tables that name services and accessories of it."""
    model = environment.model
    tables = "services and accessories" if environment.spec.accessories else "services"
    taken_over = model.takeover.containers if model.takeover else {}
    tables_by_name: dict[YamlPath, Iterable[str]] = {
        ("containers",): model.containers,
        ("domains",): model.domains,
        ("overrides",): model.overrides,
        ("takeover", "containers"): taken_over,
    }
    known_names = list(environment.containers)
    for fields, names in tables_by_name.items():
        for name in names:
            loc: YamlPath = ("environments", environment.name, *fields, name)
            yield from _check_reference(source, loc, name, f"{tables} of {environment.name}", known_names)


def _check_peer_references(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Check the services and accessories that others name."""
    yield from _check_image_references(source, spec)
    for name in spec.accessories:
        if name in spec.services:
            message = f"services.{name} and accessories.{name} share the name `{name}`"
            yield report_at_key(source, ("accessories", name), "clash", message, "give each a name of its own")
    for loc, options in spec.iter_container_options():
        yield from _check_option_references(source, spec, loc, options)


def _check_image_references(source: YamlSource, spec: EffectiveSpec) -> Problems:
    for name, service in spec.services.items():
        if not service.image_of:
            continue
        loc: YamlPath = ("services", name, "image_of")
        owners = [owner for owner in spec.built_services if owner != name]
        if owners:
            yield from _check_reference(source, loc, service.image_of, "services with an image of their own", owners)
        else:
            message = f"{format_yaml_path(loc)}: no service has an image of its own"
            hint = "leave out `image_of` where the image is built"
            yield report_at_value(source, loc, "unknown-name", message, hint)


def _check_option_references(
    source: YamlSource, spec: EffectiveSpec, container_loc: YamlPath, options: ContainerOptions
) -> Problems:
    name = str(container_loc[-1])
    services, accessories = list(spec.services), list(spec.accessories)
    for field, values in (("env", options.env), ("environment", options.environment)):
        for key, value in values.items():
            loc: YamlPath = (*container_loc, field, key)
            if value.service:
                yield from _check_reference(source, (*loc, "service"), value.service, "services", services)
            if value.accessory:
                yield from _check_reference(source, (*loc, "accessory"), value.accessory, "accessories", accessories)
    for dependency in options.depends_on:
        peers = [peer for peer in (*services, *accessories) if peer != name]
        loc = (*container_loc, "depends_on", dependency)
        yield from _check_reference(source, loc, dependency, "services and accessories", peers)
    if isinstance(options, Override) and name in spec.accessories:
        accessory_fields = type(spec.accessories[name]).model_fields
        for key in sorted(options.model_fields_set - accessory_fields.keys()):
            loc = (*container_loc, key)
            message = f"{format_yaml_path(loc)}: is for services, and {name} is an accessory"
            yield report_at_key(source, loc, "unknown-key", message, f"leave out `{key}`")


def _check_base_references(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Images that others are built from are known, and none is built from itself."""
    for name, service in spec.services.items():
        for argument, base in service.build.base.items():
            loc: YamlPath = ("services", name, "build", "base", argument)
            table = "services with an image of their own"
            yield from _check_reference(source, loc, base, table, spec.built_services)
            if name in _collect_bases(spec, base):
                message = f"{format_yaml_path(loc)}: {name} would be built from itself"
                yield report_at_value(source, loc, "base", message, "leave out one of them")


def _collect_bases(spec: EffectiveSpec, service: str) -> set[str]:
    """Collect a service, what it is built from, and what that is built from."""
    collected: set[str] = set()
    pending = [service]
    while pending:
        name = pending.pop()
        if name not in collected:
            collected.add(name)
            if name in spec.services:
                pending += spec.services[name].build.base.values()
    return collected


def _check_reference(source: YamlSource, loc: YamlPath, name: str | None, table: str, known: list[str]) -> Problems:
    """A name must be known; one that is left out must be the only one there is."""
    if name is None:
        if len(known) != 1:
            hint = f"{loc[-1]}: {' or '.join(known)}" if known else f"{table}: {{NAME: {{}}}}"
            message = f"{format_yaml_path(loc[:-1])} must name `{loc[-1]}`: `{table}` has {len(known)}"
            yield report_at_key(source, loc, "missing-key", message, hint)
    elif name not in known:
        message = f"{format_yaml_path(loc)}: no `{name}` in {table}"
        is_key = loc in source.keys and loc[-1] == name
        report = report_at_key if is_key else report_at_value
        yield report(source, loc, "unknown-name", message, suggest_closest(name, known))


class _UniqueNames:
    """Names that only one thing may have: container names on one host, databases on one server, and so on."""

    def __init__(self, source: YamlSource) -> None:
        self._source = source
        self._owners: dict[tuple[str, ...], str] = {}

    def check(self, spec: EffectiveSpec) -> Problems:
        yield from self._check_databases(spec)
        yield from self._check_proxies(spec)
        yield from self._check_images(spec)
        for environment in spec.environments.values():
            yield from self._check_environment(environment)

    def _claim(self, loc: YamlPath, owner: str, kind: str, *scope_and_name: str) -> Problems:
        other = self._owners.setdefault((kind, *scope_and_name), owner)
        if other != owner:
            message = f"{owner} and {other} share the {kind} `{scope_and_name[-1]}`"
            yield report_at_key(self._source, loc, "clash", message, "give each a name of its own")

    def _claim_stack(self, loc: YamlPath, owner: str, hosts: list[str], name: str, source_folder: str) -> Problems:
        """A stack's name is its own on each of its hosts, and the folder of its files in the repository."""
        problems = [problem for host in hosts for problem in self._claim(loc, owner, "stack", host, name)]
        yield from problems[:1] or self._claim(loc, owner, "folder of deploy/", source_folder)

    def _check_databases(self, spec: EffectiveSpec) -> Problems:
        for name, server in spec.databases.items():
            loc: YamlPath = ("databases", name)
            owner = f"databases.{name}"
            yield from self._claim_stack(loc, owner, [server.host.name], name, name)
            yield from self._claim(loc, owner, "container", server.host.name, name)
            if server.owns_network:
                yield from self._claim((*loc, "network"), owner, "network", server.host.name, server.network)

    def _check_proxies(self, spec: EffectiveSpec) -> Problems:
        for name, host in spec.hosts.items():
            stack_name = find_proxy(host.proxy.kind).stack_name(host.proxy)
            if stack_name:
                loc: YamlPath = ("hosts", name, "proxy", "stack")
                owner = f"hosts.{name}.proxy"
                yield from self._claim_stack(loc, owner, [name], stack_name, stack_name)
                yield from self._claim(loc, owner, "container", name, stack_name)

    def _check_images(self, spec: EffectiveSpec) -> Problems:
        for group in spec.image_groups:
            service = group.root.service
            yield from self._claim(("services", service), f"services.{service}", "workflow", group.workflow)
        for image in spec.images:
            loc: YamlPath = ("services", image.service)
            owner = f"services.{image.service}"
            yield from self._claim((*loc, "image"), owner, "image", image.registry_name)

    def _check_environment(self, environment: EffectiveEnvironment) -> Problems:
        loc: YamlPath = ("environments", environment.name)
        owner = f"environments.{environment.name}"
        if environment.has_own_workflow:
            yield from self._claim(loc, owner, "workflow", environment.workflow)
        hosts, stack_name = environment.host_names, environment.stack_name
        yield from self._claim_stack((*loc, "stack"), owner, hosts, stack_name, environment.source_folder)
        images = dict.fromkeys(service.image.registry_name for service in environment.services.values())
        clashes = [
            problem
            for image in images
            for problem in self._claim((*loc, "tag"), owner, "image tag", image, environment.image_tag)
        ]
        yield from clashes[:1]
        for name, container in environment.containers.items():
            container_owner = f"{owner}.{name}"
            for replica_name in container.replica_names:
                for host in environment.host_names:
                    container_loc = (*loc, "containers", name)
                    yield from self._claim(container_loc, container_owner, "container", host, replica_name)
            for index, route in enumerate(container.routes):
                route_loc = (*loc, "domains", name, index)
                yield from self._claim(route_loc, container_owner, "address", route.address)
        database = environment.database
        if database:
            server = database.server.name
            yield from self._claim((*loc, "database", "name"), owner, "database", server, database.name)
            yield from self._claim((*loc, "database", "user"), owner, "role", server, database.user)
            password_loc = (*loc, "database", "password")
            yield from self._claim(password_loc, owner, "password key", server, database.password_key)


def _check_duplicates(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """An environment holds a service once, is on a host once, and has a file once."""
    for environment in spec.environments.values():
        lists = {
            "services": environment.model.services or [],
            "accessories": environment.model.accessories or [],
            "files": environment.model.files or [],
            "host": environment.host_names,
        }
        for field, names in lists.items():
            for index, name in enumerate(names):
                if name in names[:index]:
                    loc: YamlPath = ("environments", environment.name, field, index)
                    message = f"{format_yaml_path(loc)}: `{name}` stands in this list twice"
                    yield report_at_value(source, loc, "duplicate", message, "leave out one of the two")


def _check_reserved_names(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Find names that the pipeline, or what it runs on, uses itself."""
    for loc, name, pattern in dict.fromkeys(_iter_name_rules(spec)):
        if re.fullmatch(pattern, name):
            message = f"{format_yaml_path(loc)}: `{name}` is taken: by the pipeline, the runner, Docker or PostgreSQL"
            report = report_at_key if loc[-1] == name else report_at_value
            yield report(source, loc, "reserved", message, "choose another name")


def _iter_name_rules(spec: EffectiveSpec) -> Iterator[NameRule]:
    yield from _iter_host_name_rules(spec)
    yield from _iter_registry_name_rules(spec)
    yield from _iter_database_name_rules(spec)
    yield from _iter_container_name_rules(spec)
    yield from _iter_build_secret_name_rules(spec)
    for environment in spec.environments.values():
        yield from _iter_environment_name_rules(environment)


def _iter_host_name_rules(spec: EffectiveSpec) -> Iterator[NameRule]:
    for name, host in spec.hosts.items():
        yield ("hosts", name), host.variable, RUNNER_VARIABLE_PATTERN
        yield ("hosts", name, "proxy", "network"), host.proxy.network, _RESERVED_NETWORKS
        reserved_stacks = rf"{_RESERVED_STACKS}|{_RESERVED_CONTAINERS}"
        proxy_stack_name = find_proxy(host.proxy.kind).stack_name(host.proxy)
        yield ("hosts", name, "proxy", "stack"), proxy_stack_name, reserved_stacks


def _iter_registry_name_rules(spec: EffectiveSpec) -> Iterator[NameRule]:
    registry = spec.registry
    for field, token in (("push_token", registry.push_token), ("pull_token", registry.pull_token)):
        if token and token.secret:
            yield ("registry", field, "secret"), token.secret, RUNNER_VARIABLE_PATTERN


def _iter_database_name_rules(spec: EffectiveSpec) -> Iterator[NameRule]:
    for name, server in spec.databases.items():
        yield ("databases", name), name, rf".|{_RESERVED_STACKS}|{_RESERVED_CONTAINERS}"
        yield ("databases", name, "network"), server.network, _RESERVED_NETWORKS


def _iter_container_name_rules(spec: EffectiveSpec) -> Iterator[NameRule]:
    for loc, options in spec.iter_container_options():
        for key in options.env:
            yield (*loc, "env", key), key, r"COMPOSE_.*|DOCKER_.*"
        for index, network in enumerate(options.networks or ()):
            yield (*loc, "networks", index), network.name or network.internal or "", _RESERVED_NETWORKS
            yield (*loc, "networks", index), network.external or "", r"host|none|bridge"


def _iter_build_secret_name_rules(spec: EffectiveSpec) -> Iterator[NameRule]:
    for name, service in spec.services.items():
        for mount_id, secret in service.build.secrets.items():
            yield ("services", name, "build", "secrets", mount_id), secret, RUNNER_VARIABLE_PATTERN


def _iter_environment_name_rules(environment: EffectiveEnvironment) -> Iterator[NameRule]:
    loc: YamlPath = ("environments", environment.name)
    yield (*loc, "stack"), environment.stack_name, _RESERVED_STACKS
    yield (*loc, "tag"), environment.image_tag, rf"(.*-)?src-.*|.*[0-9]+\.[0-9]+\.[0-9]+(-.*)?|{CACHE_TAG}"
    for name, container in environment.containers.items():
        yield (*loc, "containers", name), container.container_name, _RESERVED_CONTAINERS
    for host in environment.hosts:
        for setting in host.deploy_settings(environment.model.key).values():
            yield ("hosts", host.name), setting.name, RUNNER_VARIABLE_PATTERN
    database = environment.database
    if database:
        yield (*loc, "database", "name"), database.name, r"postgres|template[01]"
        yield (*loc, "database", "user"), database.user, r"postgres|pg_.*|public|none"
        yield (*loc, "database", "password"), database.password_key, rf"POSTGRES_.*|PG.*|{RUNNER_VARIABLE_PATTERN}"


def _check_name_lengths(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """A derived name is no longer than a written one may be."""
    for environment in spec.environments.values():
        names: dict[YamlPath, str] = {}
        for name, container in environment.containers.items():
            names["environments", environment.name, "containers", name] = container.replica_names[-1]
        if environment.database:
            names["environments", environment.name, "database", "name"] = environment.database.name
        for loc, derived_name in names.items():
            if len(derived_name) > MAX_NAME_LENGTH:
                too_long = f"the derived name `{derived_name}` has more than {MAX_NAME_LENGTH} characters"
                message = f"{format_yaml_path(loc)}: {too_long}"
                yield report_at_key(source, loc, "too-long", message, "give a shorter one")


def _check_step_settings(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """The environment of a deploy step has each name once; what several hosts share is the same for each of them."""
    digest_variables = {f"DIGEST_{format_variable_name(service)}" for service in spec.services}
    for environment in spec.environments.values():
        # By name: what the variable is for, and the kind of setting.
        known: dict[str, tuple[str, str]] = dict.fromkeys(digest_variables | _STEP_VARIABLES, ("a deploy", ""))
        shareable = _SHAREABLE_SETTINGS | ({"key"} if environment.model.key else set())
        # A jump host takes the first line that a key has there, and this line leads to one server.
        earlier_jump_keys: set[str] = set()
        for number, host in enumerate(environment.hosts):
            settings = environment.deploy_settings(host)
            if number == 0:
                settings |= {f"env.{key}": setting for setting, key in environment.env_settings.items()}
            for purpose, setting in settings.items():
                use = (purpose, setting.kind)
                is_shared_by_hosts = _is_shareable(purpose, shareable) and known.get(setting.name) == use
                is_shared_by_hops = (
                    _SETTINGS_OF_BOTH_HOPS.get(purpose) in _list_purposes(settings, setting)
                    and setting.name not in earlier_jump_keys
                )
                if setting.name in known and not is_shared_by_hosts and not is_shared_by_hops:
                    loc: YamlPath = ("hosts", host.name)
                    message = f"{format_yaml_path(loc)}: `{setting.name}` is used twice, here for {purpose}"
                    yield report_at_key(source, loc, "clash", message, "give each setting a name of its own")
                known.setdefault(setting.name, use)
            if "jump_key" in settings:
                earlier_jump_keys.add(settings["jump_key"].name)


def _list_purposes(settings: Mapping[str, GitHubSetting], setting: GitHubSetting) -> list[str]:
    """List what a host reads a setting for."""
    return [purpose for purpose, other in settings.items() if other == setting]


def _is_shareable(purpose: str, shareable: Collection[str]) -> bool:
    """Whether several hosts may read one setting for a purpose."""
    return purpose in shareable or purpose.startswith("proxy_command.")
