"""Names: unknown ones, those that two things share, those that are taken, and those that grow too long."""

import re
from collections.abc import Iterator

from kiwari_ci.effective import built_images, derived, triggers
from kiwari_ci.loading.suggestions import suggest_closest
from kiwari_ci.loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.loading.yaml_source import YamlPath, YamlSource
from kiwari_ci.problems import Problem
from kiwari_ci.schema import ContainerOptions, Override, Spec

_STEP_VARIABLES = {"SEQUENCE"}  # of a deploy step, beside its settings and digests
_SHAREABLE_SETTINGS = {
    "token",
    "user",
    "jump_address",
    "jump_user",
    "jump_known_hosts",
}  # one login and one bastion for many
RUNNER_VARIABLE_PATTERN = (  # bash's, or the runner's
    r"PATH|HOME|CI|IFS|(E?U|PP)ID|SECONDS|S?RANDOM|GROUPS|SHELLOPTS|LINENO|DIRSTACK|PIPESTATUS|REPLY|OPT(IND|ARG|ERR)"
    r"|PS[0-4]|PWD|OLDPWD|HOSTNAME|BASH.*|(GITHUB|RUNNER|ACTIONS|LD|DOCKER|COMPOSE)_.*"
)
_RESERVED_NETWORKS = r"host|none|bridge|default"
_RESERVED_CONTAINERS = r".*-next(-migrate)?|localhost"

Problems = Iterator[Problem]


def check_names(source: YamlSource, given: Spec) -> list[Problem]:
    """Faults in the names of a spec whose types are right."""
    found = [
        check(source, given)
        for check in (
            _check_unique_names,
            _check_duplicates,
            _check_reserved_names,
            _check_name_lengths,
            _check_step_settings,
        )
    ]
    return [problem for problems in found for problem in problems]


def check_references(source: YamlSource, given: Spec) -> Problems:
    """Names that nothing has; with one of them, nothing else can be looked at."""
    tables = {"hosts": list(given.hosts), "databases": list(given.databases)}
    services, environments = list(given.services), list(given.environments)
    for name, server in given.databases.items():
        yield from _check_reference(source, ("databases", name, "host"), server.host, "hosts", tables["hosts"])
    for name, place in given.environments.items():
        here: YamlPath = ("environments", name)
        for index, host in enumerate(place.host or [None]):
            loc = (*here, "host", index) if (*here, "host", index) in source.values else (*here, "host")
            yield from _check_reference(source, loc, host, "hosts", tables["hosts"])
        if place.promote:
            yield from _check_reference(source, (*here, "promote"), place.promote, "environments", environments)
        if place.database:
            yield from _check_reference(
                source, (*here, "database", "server"), place.database.server, "databases", tables["databases"]
            )
        for index, service in enumerate(place.services or ()):
            yield from _check_reference(source, (*here, "services", index), service, "services", services)
        for index, accessory in enumerate(place.accessories or ()):
            yield from _check_reference(
                source, (*here, "accessories", index), accessory, "accessories", list(given.accessories)
            )
        for field in ("containers", "domains", "overrides"):
            for each in getattr(place, field):
                held, table = (
                    derived.list_services_and_accessories(given, name),
                    "services and accessories" if given.accessories else "services",
                )
                yield from _check_reference(source, (*here, field, each), each, f"{table} of {name}", held)
    yield from _check_peer_references(source, given)
    yield from _check_base_references(source, given)


def iter_container_options(given: Spec) -> Iterator[tuple[YamlPath, ContainerOptions]]:
    """Everything that says how a container runs, and where it stands."""
    for name, service in given.services.items():
        yield ("services", name), service
    for name, accessory in given.accessories.items():
        yield ("accessories", name), accessory
    for environment, place in given.environments.items():
        for name, override in place.overrides.items():
            yield ("environments", environment, "overrides", name), override


def _check_peer_references(source: YamlSource, given: Spec) -> Problems:
    """Services and accessories that others name."""
    services, accessories = list(given.services), list(given.accessories)
    for name, service in given.services.items():
        if service.image_of:
            loc: YamlPath = ("services", name, "image_of")
            built = [each for each in built_images.list_built_services(given) if each != name]
            if built:
                yield from _check_reference(source, loc, service.image_of, "services with an image of their own", built)
            else:
                message = f"{format_yaml_path(loc)}: no service has an image of its own"
                yield report_at_value(
                    source, loc, "unknown-name", message, f"leave out `{loc[-1]}` where the image is built"
                )
    for name in filter(given.services.__contains__, accessories):
        message = f"services.{name} and accessories.{name} share the name `{name}`"
        yield report_at_key(source, ("accessories", name), "clash", message, "give each a name of its own")
    for here, model in iter_container_options(given):
        for field, values in (("env", model.env), ("environment", model.environment)):
            for key, value in values.items():
                for kind, table, known in (
                    ("service", "services", services),
                    ("accessory", "accessories", accessories),
                ):
                    if other := getattr(value, kind):
                        yield from _check_reference(source, (*here, field, key, kind), other, table, known)
        for other in model.depends_on:
            known = [each for each in (*services, *accessories) if each != here[-1]]
            yield from _check_reference(source, (*here, "depends_on", other), other, "services and accessories", known)
        if isinstance(model, Override) and here[-1] in accessories:
            for key in sorted(model.model_fields_set - set(type(given.accessories[str(here[-1])]).model_fields)):
                message = f"{format_yaml_path((*here, key))}: is for services, and {here[-1]} is an accessory"
                yield report_at_key(source, (*here, key), "unknown-key", message, f"leave out `{key}`")


def _check_base_references(source: YamlSource, given: Spec) -> Problems:
    """Images that others are built from: known ones, and none from itself."""
    for name, model in given.services.items():
        for key, base in model.build.base.items():
            loc: YamlPath = ("services", name, "build", "base", key)
            yield from _check_reference(
                source, loc, base, "services with an image of their own", built_images.list_built_services(given)
            )
            if name in _collect_base_services(given, base, ()):
                message = f"{format_yaml_path(loc)}: {name} would be built from itself"
                yield report_at_value(source, loc, "base", message, "leave out one of them")


def _collect_base_services(given: Spec, service: str, above: tuple[str, ...]) -> set[str]:
    """A service, what it is built from, and what that is built from."""
    bases = given.services[service].build.base.values() if service in given.services else ()
    left = [base for base in bases if base not in above]
    return {service, *bases}.union(*(_collect_base_services(given, base, (*above, service)) for base in left))


def _check_reference(source: YamlSource, loc: YamlPath, name: str | None, table: str, known: list[str]) -> Problems:
    """A name must be known; one that is left out must be the only one there is."""
    if name is None:
        if len(known) != 1:
            cure = f"{loc[-1]}: {' or '.join(known)}" if known else f"{table}: {{NAME: {{}}}}"
            words = f"{format_yaml_path(loc[:-1])} must name `{loc[-1]}`: `{table}` has {len(known)}"
            yield report_at_key(source, loc, "missing-key", words, cure)
    elif name not in known:
        place = report_at_key if loc in source.keys and loc[-1] == name else report_at_value
        yield place(
            source,
            loc,
            "unknown-name",
            f"{format_yaml_path(loc)}: no `{name}` in {table}",
            suggest_closest(name, known),
        )


def _check_unique_names(source: YamlSource, given: Spec) -> Problems:
    """Names that may stand for one thing only; container names on one host, databases on one server."""
    taken: dict[tuple[str, ...], str] = {}

    def claim(loc: YamlPath, owner: str, kind: str, *scope_and_name: str) -> Problems:
        other = taken.setdefault((kind, *scope_and_name), owner)
        if other != owner:
            message = f"{owner} and {other} share the {kind} `{scope_and_name[-1]}`"
            yield report_at_key(source, loc, "clash", message, "give each a name of its own")

    for name in given.databases:
        loc: YamlPath = ("databases", name)
        yield from claim(loc, f"databases.{name}", "stack", name)
        yield from claim(loc, f"databases.{name}", "container", derived.find_server_host(given, name), name)
        if derived.owns_network(given, name):
            network = derived.find_server_network(given, name)
            yield from claim(
                (*loc, "network"), f"databases.{name}", "network", derived.find_server_host(given, name), network
            )
    for name in filter(lambda host: derived.derive_proxy_stack_name(given, host), given.hosts):
        loc, front = ("hosts", name, "proxy", "stack"), derived.derive_proxy_stack_name(given, name)
        yield from claim(loc, f"hosts.{name}.proxy", "stack", front)
        yield from claim(loc, f"hosts.{name}.proxy", "container", name, front)
    for service in built_images.list_built_services(given):
        here: YamlPath = ("services", service)
        for image in built_images.list_service_images(given, service):
            yield from claim(
                (*here, "image"), f"services.{service}", "image", built_images.derive_image_name(given, image)
            )
            yield from claim(here, f"services.{service}", "workflow", built_images.derive_image_workflow(image))
    for name, place in given.environments.items():
        here = ("environments", name)
        owner = f"environments.{name}"
        if triggers.has_own_workflow(given, name):
            yield from claim(here, owner, "workflow", triggers.derive_environment_workflow(given, name))
        yield from claim((*here, "stack"), owner, "stack", derived.derive_stack_name(given, name))
        yield from claim((*here, "tag"), owner, "image tag", derived.derive_image_tag(given, name))
        for each in derived.list_services_and_accessories(given, name):
            for container in derived.list_container_names(given, name, each):
                for host in derived.list_hosts(given, name):
                    yield from claim((*here, "containers", each), f"{owner}.{each}", "container", host, container)
            if each in place.domains:
                yield from claim((*here, "domains", each), f"{owner}.{each}", "domain", place.domains[each])
        if place.database:
            server = derived.find_database_server(given, place.database)
            database = derived.derive_database_name(given, name, place.database)
            role = derived.derive_database_user(given, name, place.database)
            variable = derived.derive_password_key(given, name, place.database)
            yield from claim((*here, "database", "name"), owner, "database", server, database)
            yield from claim((*here, "database", "user"), owner, "role", server, role)
            yield from claim((*here, "database", "password"), owner, "password key", server, variable)


def _check_duplicates(source: YamlSource, given: Spec) -> Problems:
    """An environment holds a service once, is on a host once, and has a file once."""
    for name, place in given.environments.items():
        lists = {"services": place.services, "accessories": place.accessories, "files": place.files}
        for table, held in {**lists, "host": derived.list_hosts(given, name)}.items():
            for index, each in enumerate(held or ()):
                if each in (held or ())[:index]:
                    loc: YamlPath = ("environments", name, table, index)
                    message = f"{format_yaml_path(loc)}: `{each}` stands in this list twice"
                    yield report_at_value(source, loc, "duplicate", message, "leave out one of the two")


def _check_reserved_names(source: YamlSource, given: Spec) -> Problems:
    """Names that the pipeline, or what it runs on, uses itself."""
    for loc, word, pattern in _iter_reserved_names(given):
        if re.fullmatch(pattern, word):
            message = f"{format_yaml_path(loc)}: `{word}` is taken: by the pipeline, the runner, Docker or PostgreSQL"
            place = report_at_key if loc[-1] == word else report_at_value
            yield place(source, loc, "reserved", message, "choose another name")


def _iter_reserved_names(given: Spec) -> Iterator[tuple[YamlPath, str, str]]:
    """Where a name stands, the name, and the pattern of those that are taken."""
    for name, host in given.hosts.items():
        yield ("hosts", name), derived.format_variable_name(name), RUNNER_VARIABLE_PATTERN
        yield ("hosts", name, "proxy", "network"), host.proxy.network, _RESERVED_NETWORKS
        yield (
            ("hosts", name, "proxy", "stack"),
            derived.derive_proxy_stack_name(given, name),
            rf"bin|deploy|rollback|status|{_RESERVED_CONTAINERS}",
        )
    for name in given.databases:
        yield ("databases", name), name, rf"bin|.|{_RESERVED_CONTAINERS}"
        yield ("databases", name, "network"), derived.find_server_network(given, name), _RESERVED_NETWORKS
    for where, model in iter_container_options(given):
        for key in model.env:
            yield (*where, "env", key), key, r"COMPOSE_.*|DOCKER_.*"
        for index, network in enumerate(model.networks or ()):
            yield (*where, "networks", index), network.name or network.internal or "", _RESERVED_NETWORKS
            yield (*where, "networks", index), network.external or "", r"host|none|bridge"
    for name, service in given.services.items():
        for key, secret in service.build.secrets.items():
            yield ("services", name, "build", "secrets", key), secret, RUNNER_VARIABLE_PATTERN
    for name, place in given.environments.items():
        here: YamlPath = ("environments", name)
        yield (*here, "stack"), derived.derive_stack_name(given, name), r"bin|deploy|rollback|status"
        versions = rf"(.*-)?src-.*|.*[0-9]+\.[0-9]+\.[0-9]+(-.*)?|{derived.CACHE_TAG}"
        yield (*here, "tag"), derived.derive_image_tag(given, name), versions
        for held in derived.list_services_and_accessories(given, name):
            yield (*here, "containers", held), derived.derive_container_name(given, name, held), _RESERVED_CONTAINERS
        for on in derived.list_hosts(given, name):
            for setting in derived.resolve_deploy_settings(given, name, on).values():
                yield ("hosts", on), setting.name, RUNNER_VARIABLE_PATTERN
        if place.database:
            at: YamlPath = (*here, "database")
            yield (*at, "name"), derived.derive_database_name(given, name, place.database), r"postgres|template[01]"
            yield (
                (*at, "user"),
                derived.derive_database_user(given, name, place.database),
                r"postgres|pg_.*|public|none",
            )
            yield (
                (*at, "password"),
                derived.derive_password_key(given, name, place.database),
                rf"POSTGRES_.*|PG.*|{RUNNER_VARIABLE_PATTERN}",
            )


def _check_name_lengths(source: YamlSource, given: Spec) -> Problems:
    """A derived name is no longer than a given one may be: a container is a host name, too."""
    for name, place in given.environments.items():
        here: YamlPath = ("environments", name)
        names: dict[YamlPath, str] = {
            (*here, "containers", each): derived.list_container_names(given, name, each)[-1]
            for each in derived.list_services_and_accessories(given, name)
        }
        if place.database:
            names[*here, "database", "name"] = derived.derive_database_name(given, name, place.database)
        for loc, word in names.items():
            if len(word) > 63:
                message = f"{format_yaml_path(loc)}: the derived name `{word}` has more than 63 characters"
                yield report_at_key(source, loc, "too-long", message, "give a shorter one")


def _check_step_settings(source: YamlSource, given: Spec) -> Problems:
    """A step's env has each name once; what several hosts share is the same thing for each of them."""
    for name, place in given.environments.items():
        taken = {f"DIGEST_{derived.format_variable_name(service)}" for service in given.services} | _STEP_VARIABLES
        seen = dict.fromkeys(taken, ("a deploy", ""))
        kept = {f"env.{key}": setting for setting, key in derived.collect_env_settings(given, name).items()}
        shared = _SHAREABLE_SETTINGS | ({"key"} if place.key else set())
        for number, host in enumerate(derived.list_hosts(given, name)):
            settings = derived.resolve_deploy_settings(given, name, host) | ({} if number else kept)
            for what, setting in settings.items():
                if setting.name in seen and not (what in shared and seen[setting.name] == (what, setting.kind)):
                    loc: YamlPath = ("hosts", host)
                    message = f"{format_yaml_path(loc)}: `{setting.name}` is used twice, here for {what}"
                    yield report_at_key(source, loc, "clash", message, "give each setting a name of its own")
                seen.setdefault(setting.name, (what, setting.kind))
    yield from _check_setting_owners(source, given)


def _check_setting_owners(source: YamlSource, given: Spec) -> Problems:
    """What one environment reads for one host, no other reads for another."""
    owners: dict[str, tuple[str, str]] = {}
    for name in given.environments:
        for host in derived.list_hosts(given, name):
            for what, setting in derived.resolve_deploy_settings(given, name, host).items():
                other, first = owners.setdefault(setting.name, (host, name))
                if other != host and first != name and what not in _SHAREABLE_SETTINGS:
                    message = f"hosts.{host} and hosts.{other} share the {setting.kind} `{setting.name}`"
                    yield report_at_key(source, ("hosts", host), "clash", message, "give each host settings of its own")
