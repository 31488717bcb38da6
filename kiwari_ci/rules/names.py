"""Names: unknown ones, those that two things share, those that are taken, and those that grow too long."""

import re
from collections.abc import Iterator

from kiwari_ci.effective import built_images, derived, triggers
from kiwari_ci.loading.suggestions import closest
from kiwari_ci.loading.validation import at_key, at_value, dotted
from kiwari_ci.loading.yaml_source import Loc, Source
from kiwari_ci.problems import Problem
from kiwari_ci.schema import Override, Running, Spec

_STEP_VARIABLES = {"SEQUENCE"}  # of a deploy step, beside its settings and digests
_SHARED = {"token", "user", "jump_address", "jump_user", "jump_known_hosts"}  # one login and one bastion for many
RUNNER_VARIABLE = (  # bash's, or the runner's
    r"PATH|HOME|CI|IFS|(E?U|PP)ID|SECONDS|S?RANDOM|GROUPS|SHELLOPTS|LINENO|DIRSTACK|PIPESTATUS|REPLY|OPT(IND|ARG|ERR)"
    r"|PS[0-4]|PWD|OLDPWD|HOSTNAME|BASH.*|(GITHUB|RUNNER|ACTIONS|LD|DOCKER|COMPOSE)_.*"
)
_NETWORK = r"host|none|bridge|default"
_CONTAINER = r".*-next(-migrate)?|localhost"

Found = Iterator[Problem]


def of_spec(source: Source, given: Spec) -> list[Problem]:
    """Faults in the names of a spec whose types are right."""
    found = [check(source, given) for check in (_clashes, _twice, _reserved, _lengths, _settings)]
    return [problem for problems in found for problem in problems]


def unknown(source: Source, given: Spec) -> Found:
    """Names that nothing has; with one of them, nothing else can be looked at."""
    tables = {"hosts": list(given.hosts), "databases": list(given.databases)}
    services, environments = list(given.services), list(given.environments)
    for name, server in given.databases.items():
        yield from _one_of(source, ("databases", name, "host"), server.host, "hosts", tables["hosts"])
    for name, place in given.environments.items():
        here: Loc = ("environments", name)
        for index, host in enumerate(place.host or [None]):
            loc = (*here, "host", index) if (*here, "host", index) in source.values else (*here, "host")
            yield from _one_of(source, loc, host, "hosts", tables["hosts"])
        if place.promote:
            yield from _one_of(source, (*here, "promote"), place.promote, "environments", environments)
        if place.database:
            yield from _one_of(
                source, (*here, "database", "server"), place.database.server, "databases", tables["databases"]
            )
        for index, service in enumerate(place.services or ()):
            yield from _one_of(source, (*here, "services", index), service, "services", services)
        for index, accessory in enumerate(place.accessories or ()):
            yield from _one_of(source, (*here, "accessories", index), accessory, "accessories", list(given.accessories))
        for field in ("containers", "domains", "overrides"):
            for each in getattr(place, field):
                held, table = (
                    derived.held_by(given, name),
                    "services and accessories" if given.accessories else "services",
                )
                yield from _one_of(source, (*here, field, each), each, f"{table} of {name}", held)
    yield from _unknown_peers(source, given)
    yield from _bases(source, given)


def running(given: Spec) -> Iterator[tuple[Loc, Running]]:
    """Everything that says how a container runs, and where it stands."""
    for name, service in given.services.items():
        yield ("services", name), service
    for name, accessory in given.accessories.items():
        yield ("accessories", name), accessory
    for environment, place in given.environments.items():
        for name, override in place.overrides.items():
            yield ("environments", environment, "overrides", name), override


def _unknown_peers(source: Source, given: Spec) -> Found:
    """Services and accessories that others name."""
    services, accessories = list(given.services), list(given.accessories)
    for name, service in given.services.items():
        if service.image_of:
            loc: Loc = ("services", name, "image_of")
            built = [each for each in built_images.built_services(given) if each != name]
            if built:
                yield from _one_of(source, loc, service.image_of, "services with an image of their own", built)
            else:
                message = f"{dotted(loc)}: no service has an image of its own"
                yield at_value(source, loc, "unknown-name", message, f"leave out `{loc[-1]}` where the image is built")
    for name in filter(given.services.__contains__, accessories):
        message = f"services.{name} and accessories.{name} share the name `{name}`"
        yield at_key(source, ("accessories", name), "clash", message, "give each a name of its own")
    for here, model in running(given):
        for field, values in (("env", model.env), ("environment", model.environment)):
            for key, value in values.items():
                for kind, table, known in (
                    ("service", "services", services),
                    ("accessory", "accessories", accessories),
                ):
                    if other := getattr(value, kind):
                        yield from _one_of(source, (*here, field, key, kind), other, table, known)
        for other in model.depends_on:
            known = [each for each in (*services, *accessories) if each != here[-1]]
            yield from _one_of(source, (*here, "depends_on", other), other, "services and accessories", known)
        if isinstance(model, Override) and here[-1] in accessories:
            for key in sorted(model.model_fields_set - set(type(given.accessories[str(here[-1])]).model_fields)):
                message = f"{dotted((*here, key))}: is for services, and {here[-1]} is an accessory"
                yield at_key(source, (*here, key), "unknown-key", message, f"leave out `{key}`")


def _bases(source: Source, given: Spec) -> Found:
    """Images that others are built from: known ones, and none from itself."""
    for name, model in given.services.items():
        for key, base in model.build.base.items():
            loc: Loc = ("services", name, "build", "base", key)
            yield from _one_of(
                source, loc, base, "services with an image of their own", built_images.built_services(given)
            )
            if name in _below(given, base, ()):
                message = f"{dotted(loc)}: {name} would be built from itself"
                yield at_value(source, loc, "base", message, "leave out one of them")


def _below(given: Spec, service: str, above: tuple[str, ...]) -> set[str]:
    """A service, what it is built from, and what that is built from."""
    bases = given.services[service].build.base.values() if service in given.services else ()
    left = [base for base in bases if base not in above]
    return {service, *bases}.union(*(_below(given, base, (*above, service)) for base in left))


def _one_of(source: Source, loc: Loc, name: str | None, table: str, known: list[str]) -> Found:
    """A name must be known; one that is left out must be the only one there is."""
    if name is None:
        if len(known) != 1:
            cure = f"{loc[-1]}: {' or '.join(known)}" if known else f"{table}: {{NAME: {{}}}}"
            words = f"{dotted(loc[:-1])} must name `{loc[-1]}`: `{table}` has {len(known)}"
            yield at_key(source, loc, "missing-key", words, cure)
    elif name not in known:
        place = at_key if loc in source.keys and loc[-1] == name else at_value
        yield place(source, loc, "unknown-name", f"{dotted(loc)}: no `{name}` in {table}", closest(name, known))


def _clashes(source: Source, given: Spec) -> Found:
    """Names that may stand for one thing only; container names on one host, databases on one server."""
    taken: dict[tuple[str, ...], str] = {}

    def claim(loc: Loc, owner: str, kind: str, *scope_and_name: str) -> Found:
        other = taken.setdefault((kind, *scope_and_name), owner)
        if other != owner:
            message = f"{owner} and {other} share the {kind} `{scope_and_name[-1]}`"
            yield at_key(source, loc, "clash", message, "give each a name of its own")

    for name in given.databases:
        loc: Loc = ("databases", name)
        yield from claim(loc, f"databases.{name}", "stack", name)
        yield from claim(loc, f"databases.{name}", "container", derived.server_host(given, name), name)
        if derived.owns_network(given, name):
            network = derived.server_network(given, name)
            yield from claim(
                (*loc, "network"), f"databases.{name}", "network", derived.server_host(given, name), network
            )
    for name in filter(lambda host: derived.front_of(given, host), given.hosts):
        loc, front = ("hosts", name, "proxy", "stack"), derived.front_of(given, name)
        yield from claim(loc, f"hosts.{name}.proxy", "stack", front)
        yield from claim(loc, f"hosts.{name}.proxy", "container", name, front)
    for service in built_images.built_services(given):
        here: Loc = ("services", service)
        for image in built_images.images_of(given, service):
            yield from claim((*here, "image"), f"services.{service}", "image", built_images.image_name(given, image))
            yield from claim(here, f"services.{service}", "workflow", built_images.workflow_name(image))
    for name, place in given.environments.items():
        here = ("environments", name)
        owner = f"environments.{name}"
        if triggers.has_workflow(given, name):
            yield from claim(here, owner, "workflow", triggers.workflow_name(given, name))
        yield from claim((*here, "stack"), owner, "stack", derived.stack_name(given, name))
        yield from claim((*here, "tag"), owner, "image tag", derived.image_tag(given, name))
        for each in derived.held_by(given, name):
            for container in derived.container_names(given, name, each):
                for host in derived.hosts_of(given, name):
                    yield from claim((*here, "containers", each), f"{owner}.{each}", "container", host, container)
            if each in place.domains:
                yield from claim((*here, "domains", each), f"{owner}.{each}", "domain", place.domains[each])
        if place.database:
            server = derived.server_of(given, place.database)
            database = derived.database_name(given, name, place.database)
            role = derived.database_user(given, name, place.database)
            variable = derived.password_variable(given, name, place.database)
            yield from claim((*here, "database", "name"), owner, "database", server, database)
            yield from claim((*here, "database", "user"), owner, "role", server, role)
            yield from claim((*here, "database", "password"), owner, "password key", server, variable)


def _twice(source: Source, given: Spec) -> Found:
    """An environment holds a service once, is on a host once, and has a file once."""
    for name, place in given.environments.items():
        lists = {"services": place.services, "accessories": place.accessories, "files": place.files}
        for table, held in {**lists, "host": derived.hosts_of(given, name)}.items():
            for index, each in enumerate(held or ()):
                if each in (held or ())[:index]:
                    loc: Loc = ("environments", name, table, index)
                    message = f"{dotted(loc)}: `{each}` stands in this list twice"
                    yield at_value(source, loc, "duplicate", message, "leave out one of the two")


def _reserved(source: Source, given: Spec) -> Found:
    """Names that the pipeline, or what it runs on, uses itself."""
    for loc, word, pattern in _taken(given):
        if re.fullmatch(pattern, word):
            message = f"{dotted(loc)}: `{word}` is taken: by the pipeline, the runner, Docker or PostgreSQL"
            place = at_key if loc[-1] == word else at_value
            yield place(source, loc, "reserved", message, "choose another name")


def _taken(given: Spec) -> Iterator[tuple[Loc, str, str]]:
    """Where a name stands, the name, and the pattern of those that are taken."""
    for name, host in given.hosts.items():
        yield ("hosts", name), derived.variable(name), RUNNER_VARIABLE
        yield ("hosts", name, "proxy", "network"), host.proxy.network, _NETWORK
        yield (
            ("hosts", name, "proxy", "stack"),
            derived.front_of(given, name),
            rf"bin|deploy|rollback|status|{_CONTAINER}",
        )
    for name in given.databases:
        yield ("databases", name), name, rf"bin|.|{_CONTAINER}"
        yield ("databases", name, "network"), derived.server_network(given, name), _NETWORK
    for where, model in running(given):
        for key in model.env:
            yield (*where, "env", key), key, r"COMPOSE_.*|DOCKER_.*"
        for index, network in enumerate(model.networks or ()):
            yield (*where, "networks", index), network.name or network.internal or "", _NETWORK
            yield (*where, "networks", index), network.external or "", r"host|none|bridge"
    for name, service in given.services.items():
        for key, secret in service.build.secrets.items():
            yield ("services", name, "build", "secrets", key), secret, RUNNER_VARIABLE
    for name, place in given.environments.items():
        here: Loc = ("environments", name)
        yield (*here, "stack"), derived.stack_name(given, name), r"bin|deploy|rollback|status"
        versions = rf"(.*-)?src-.*|.*[0-9]+\.[0-9]+\.[0-9]+(-.*)?|{derived.CACHE_TAG}"
        yield (*here, "tag"), derived.image_tag(given, name), versions
        for held in derived.held_by(given, name):
            yield (*here, "containers", held), derived.container_name(given, name, held), _CONTAINER
        for on in derived.hosts_of(given, name):
            for setting in derived.settings_of(given, name, on).values():
                yield ("hosts", on), setting.name, RUNNER_VARIABLE
        if place.database:
            at: Loc = (*here, "database")
            yield (*at, "name"), derived.database_name(given, name, place.database), r"postgres|template[01]"
            yield (*at, "user"), derived.database_user(given, name, place.database), r"postgres|pg_.*|public|none"
            yield (
                (*at, "password"),
                derived.password_variable(given, name, place.database),
                rf"POSTGRES_.*|PG.*|{RUNNER_VARIABLE}",
            )


def _lengths(source: Source, given: Spec) -> Found:
    """A derived name is no longer than a given one may be: a container is a host name, too."""
    for name, place in given.environments.items():
        here: Loc = ("environments", name)
        names: dict[Loc, str] = {
            (*here, "containers", each): derived.container_names(given, name, each)[-1]
            for each in derived.held_by(given, name)
        }
        if place.database:
            names[*here, "database", "name"] = derived.database_name(given, name, place.database)
        for loc, word in names.items():
            if len(word) > 63:
                message = f"{dotted(loc)}: the derived name `{word}` has more than 63 characters"
                yield at_key(source, loc, "too-long", message, "give a shorter one")


def _settings(source: Source, given: Spec) -> Found:
    """A step's env has each name once; what several hosts share is the same thing for each of them."""
    for name, place in given.environments.items():
        taken = {f"DIGEST_{derived.variable(service)}" for service in given.services} | _STEP_VARIABLES
        seen = dict.fromkeys(taken, ("a deploy", ""))
        kept = {f"env.{key}": setting for setting, key in derived.env_settings(given, name).items()}
        shared = _SHARED | ({"key"} if place.key else set())
        for number, host in enumerate(derived.hosts_of(given, name)):
            settings = derived.settings_of(given, name, host) | ({} if number else kept)
            for what, setting in settings.items():
                if setting.name in seen and not (what in shared and seen[setting.name] == (what, setting.kind)):
                    loc: Loc = ("hosts", host)
                    message = f"{dotted(loc)}: `{setting.name}` is used twice, here for {what}"
                    yield at_key(source, loc, "clash", message, "give each setting a name of its own")
                seen.setdefault(setting.name, (what, setting.kind))
    yield from _owners(source, given)


def _owners(source: Source, given: Spec) -> Found:
    """What one environment reads for one host, no other reads for another."""
    owners: dict[str, tuple[str, str]] = {}
    for name in given.environments:
        for host in derived.hosts_of(given, name):
            for what, setting in derived.settings_of(given, name, host).items():
                other, first = owners.setdefault(setting.name, (host, name))
                if other != host and first != name and what not in _SHARED:
                    message = f"hosts.{host} and hosts.{other} share the {setting.kind} `{setting.name}`"
                    yield at_key(source, ("hosts", host), "clash", message, "give each host settings of its own")
