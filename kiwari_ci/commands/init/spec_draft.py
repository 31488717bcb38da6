"""All that was found → a first spec in the making, and what a person must decide."""

import re
from typing import Any

from kiwari_ci import schema
from kiwari_ci.commands.init import container_entry, service_entry
from kiwari_ci.commands.init.compose_files import find_one_shot_services, has_variable_version
from kiwari_ci.commands.init.databases import DetectedDatabaseServer
from kiwari_ci.commands.init.draft_text import CommentedMapping
from kiwari_ci.commands.init.environments import DetectedEnvironment, DetectedHost
from kiwari_ci.commands.init.findings import RepositoryFindings, SpecDraft
from kiwari_ci.commands.init.service_entry import format_source_note
from kiwari_ci.commands.init.services import DetectedService
from kiwari_ci.loading.yaml_source import YamlPath
from kiwari_ci.proxies.registry import PROXIES, find_planned_proxy, find_proxy
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.readers.vocabulary import SourcedValue
from kiwari_ci.schema.environments import ProxyKind
from kiwari_ci.schema.text_formats import ContainerName, ImageName, RepositoryFile, Slug, TraefikName

_IS_FILE, _IS_IMAGE_NAME = vocabulary.build_validator(RepositoryFile), vocabulary.build_validator(ImageName)
_IS_CONTAINER_NAME, _IS_SLUG, _IS_TRAEFIK_NAME = (
    vocabulary.build_validator(ContainerName),
    vocabulary.build_validator(Slug),
    vocabulary.build_validator(TraefikName),
)


def derive_project_names(found: list[DetectedService], slug: str) -> tuple[str, str, dict[str, str]]:
    """The project's name, the registry's namespace, and each service's image, as far as image names say them."""
    known = {each.name: str(each.reference.value) for each in found if each.reference}
    ours = {name: image.removeprefix("ghcr.io/") for name, image in known.items() if image.startswith("ghcr.io/")}
    spaces = {image.partition("/")[0] for image in ours.values() if "/" in image}
    namespace = spaces.pop() if len(spaces) == 1 else slug.partition("/")[0].lower()
    inner = {name: image.rpartition("/")[2] for name, image in known.items()}
    inner |= {name: image.removeprefix(f"{namespace}/") for name, image in ours.items()}
    prefixes = {image.removesuffix(f"-{name}") for name, image in inner.items() if image.endswith(f"-{name}")}
    usual = re.sub(r"[-_.](mono-?repo|mono)$", "", slug.rpartition("/")[2], flags=re.IGNORECASE)
    only = next(iter(prefixes)) if len(prefixes) == 1 and len(inner) > 1 else ""
    name = vocabulary.slugify(only) or vocabulary.slugify(usual) or "project"
    given = {each: image for each, image in inner.items() if image != f"{name}-{each}" and _IS_IMAGE_NAME(image)}
    return name, namespace, given


def build_spec_draft(facts: RepositoryFindings) -> SpecDraft:
    """The whole first spec."""
    made = SpecDraft()
    _, namespace, images = derive_project_names(facts.services, str(facts.slug.value))
    project = made.table["project"] = CommentedMapping()
    project.put("name", facts.name)
    project.put("repository", facts.slug.value, facts.slug.where)
    project.put("default_branch", facts.branch.value, facts.branch.where)
    if facts.branch.guess:
        made.decide(("project", "default_branch"), "no checkout says which branch is the default one")
    _add_registry(made, facts, namespace)
    _add_hosts(made, facts)
    if facts.database_server:
        _add_database_server(made, facts.database_server)
    services = made.table["services"] = CommentedMapping()
    for found in facts.services:
        services[found.name] = service_entry.build_service_entry(made, facts, found, images.get(found.name, ""))
        services.update(service_entry.build_process_entries(made, facts, found, {*services, *facts.accessories}))
    _add_accessories(made, facts)
    environments = made.table["environments"] = CommentedMapping()
    for place in facts.environments:
        environments[place.name] = _build_environment_entry(made, facts, place)
    return made


def _add_registry(made: SpecDraft, facts: RepositoryFindings, namespace: str) -> None:
    owner = str(facts.slug.value).partition("/")[0].lower()
    if elsewhere := _find_other_registry(facts):
        made.table["registry"] = _build_registry_entry(elsewhere, owner)
        made.decide(
            ("registry",),
            f"the login of {str(elsewhere.value).partition('/')[0]}, and the secrets that hold its tokens",
        )
        return
    table = CommentedMapping()
    image = next((found.reference for found in facts.services if found.reference), None)
    if namespace != owner and _IS_IMAGE_NAME(namespace):
        table.put("namespace", namespace, image.where if image else "")
    token = next((machine for machine in facts.hosts.values() if "token" in machine.settings), None)
    if token and token.settings["token"][0] == "secret":
        table.put("pull_token", {"secret": token.settings["token"][1]}, f"{token.where}; a token with read:packages")
    if table:
        made.table["registry"] = table


def _build_registry_entry(image: SourcedValue, owner: str) -> CommentedMapping:
    table = CommentedMapping()
    host, _, path = str(image.value).rpartition("/")[0].partition("/")
    table.put("host", host, image.where)
    if path and _IS_IMAGE_NAME(path):
        table.put("namespace", path, image.where)
    table.put("user", owner, "could not tell: the login that the tokens are of")
    table.put("push_token", {"secret": "REGISTRY_PUSH_TOKEN"}, "could not tell; one that may push")
    table.put("pull_token", {"secret": "REGISTRY_PULL_TOKEN"}, "could not tell; one that may pull is enough")
    return table


def _find_other_registry(facts: RepositoryFindings) -> SourcedValue | None:
    """An image of ours in another registry than ghcr.io; on Docker Hub, one that a workflow pushes."""
    known = [found.reference for found in facts.services if found.reference]
    if any(str(each.value).startswith("ghcr.io/") for each in known):
        return None
    hub = re.compile(r"[a-z0-9-]+/[\w.-]+")
    for each in known:
        if hub.fullmatch(str(each.value)) and each.where.startswith(".github/"):
            return SourcedValue(f"docker.io/{each.value}", each.where)
        if re.match(r"[\w-]+(\.[\w.-]+(:\d+)?|:\d+)/", str(each.value)):
            return each
    return None


def _add_hosts(draft: SpecDraft, facts: RepositoryFindings) -> None:
    """Add the hosts, each with the secrets that reach it and the proxy in front of its services."""
    hosts = draft.table["hosts"] = CommentedMapping()
    proxy_entry, proxy_note = _build_proxy_entry(facts)
    host_names = {host.name for host in facts.hosts.values()}
    for host in facts.hosts.values():
        if host.name in hosts:
            continue
        table = hosts[host.name] = CommentedMapping()
        _add_login_settings(table, host)
        if host.directory:
            table.put("directory", host.directory.value, host.directory.where)
        if proxy_entry:
            stack_entry = _build_stack_of_host(proxy_entry, host.name) if len(host_names) > 1 else {}
            table.put("proxy", proxy_entry | stack_entry, proxy_note)
        if not host.settings.get("address"):
            prefix = host.name.upper().replace("-", "_")
            secrets = f"{prefix}_HOST, {prefix}_USER and {prefix}_SSH_KEY"
            table.above = [f"could not tell which server: GitHub's secrets {secrets} say it"]
            draft.decide(("hosts", host.name), "the server: its name here, and the secrets that reach it")
    if facts.proxies and "kind" in proxy_entry:
        first_host = next(iter(hosts))
        draft.decide(("hosts", first_host, "proxy"), _describe_proxy_change(facts.proxies[0], proxy_entry))


def _add_login_settings(table: CommentedMapping, host: DetectedHost) -> None:
    """Add the secrets and variables by which the workflows reach a host today."""
    for role in ("address", "user", "key", "known_hosts"):
        kind, name = host.settings.get(role, ("", ""))
        is_allowed = role != "key" or kind == "secret"
        if name and is_allowed:
            table.put(role, {kind: name}, host.where)


def _build_stack_of_host(proxy_entry: dict[str, Any], host_name: str) -> dict[str, str]:
    """A stack's name of its own for each of several hosts, where the kind of proxy always has a generated stack."""
    options = schema.Proxy.model_validate({"kind": proxy_entry["kind"]} if "kind" in proxy_entry else {})
    if not find_proxy(options.kind).stack_name(options):
        return {}
    return {"stack": f"{options.kind}-{host_name}"}


def _build_proxy_entry(facts: RepositoryFindings) -> tuple[dict[str, Any], str]:
    """The `proxy` of a host, and the place that says what stands in front today.

    A proxy that the spec does not know is somebody else's: `kind: none`. The default kind is not written.
    """
    entry: dict[str, Any] = {}
    if facts.network and _IS_SLUG(facts.network.value):
        entry["network"] = facts.network.value
    if not facts.proxies or facts.proxies[0].value == schema.Proxy().kind:
        return entry, facts.network.where if facts.network else ""
    proxy = facts.proxies[0]
    kind: ProxyKind = proxy.value if proxy.value in PROXIES else "none"
    entry = {"kind": kind, **entry}
    supported_keys = find_proxy(kind).supported_keys
    if not _reads_labels(kind):
        return entry, proxy.where
    if any(container_proxy is proxy for container_proxy in facts.proxy_containers):
        return entry | {"stack": kind}, proxy.where
    for option, fact in _find_router_options(facts).items():
        if option in supported_keys:
            entry[option] = fact.value
    return entry, proxy.where


def _reads_labels(kind: str) -> bool:
    """Whether a kind of proxy finds the services by the labels of their containers."""
    options = schema.Proxy.model_validate({"kind": kind})
    return bool(find_planned_proxy(kind).labels(options, "example.com", "example", 80))


def _describe_proxy_change(proxy: SourcedValue, entry: dict[str, Any]) -> str:
    """What the generated pipeline does in place of the proxy of today."""
    today = f"{proxy.value} stands in front today ({proxy.where})"
    if not find_proxy(entry["kind"]).is_on_shared_network:
        return f"{today}: `kind: none` keeps it, and it must lead to published `ports`"
    if _reads_labels(entry["kind"]) and "stack" not in entry:
        return f"{today}: it reads the labels of the new stacks, too, when it is on the network"
    return f"{today}: one with a generated configuration takes its place; `kind: none` keeps yours"


def _find_router_options(facts: RepositoryFindings) -> dict[str, SourcedValue]:
    """The options that today's labels give a router that has a certificate, or else the first router."""
    routers = [router for container in facts.containers for router in container.routers.values()]
    with_certificate = [router for router in routers if "certresolver" in router]
    for router in [*with_certificate, *routers]:
        return {option: fact for option, fact in router.items() if _IS_TRAEFIK_NAME(fact.value)}
    return {}


def _add_accessories(made: SpecDraft, facts: RepositoryFindings) -> None:
    """Everybody else's images, with what Compose is told of them; those that others wait for run once."""
    table, named = CommentedMapping(), service_entry.map_accessory_names(facts)
    ended = find_one_shot_services(facts.containers)
    for name, container in facts.accessories.items():
        table[name], left = container_entry.build_accessory_entry(
            container, named, facts.shared_network, container.name in ended
        )
        made.leave(f"{name} ({container.where})", left)
        if has_variable_version(container.image):
            made.decide(
                ("accessories", name, "image"),
                f"the version of {container.image}: no default and no env example has it",
            )
        container_entry.add_volume_decision(made, ("accessories", name), container)
    if table:
        made.table["accessories"] = table


def _add_database_server(made: SpecDraft, server: DetectedDatabaseServer) -> None:
    table = CommentedMapping(
        "a server in a stack of its own, beside the one that it is in today: move the data, or take this out"
    )
    table.put("image", server.image, server.where)
    if server.network:
        table.put("network", server.network.value, server.network.where)
    if server.migrations:
        folder, image, where = server.migrations
        if _IS_FILE(folder):
            table.put(
                "migrations",
                {"directory": folder, "image": image},
                where or "golang-migrate, by the files' names; its version is a guess",
            )
    made.table["databases"] = CommentedMapping()
    made.table["databases"][server.name] = table  # type: ignore[index]
    made.decide(
        ("databases", server.name),
        f"PostgreSQL of {server.where} gets a stack of its own: move its data, or leave `databases` out",
    )


def _build_environment_entry(
    made: SpecDraft, facts: RepositoryFindings, place: DetectedEnvironment
) -> CommentedMapping:
    here: YamlPath = ("environments", place.name)
    table = CommentedMapping(*place.notes)
    said = place.where or "could not tell: nothing here deploys"
    said += ", which does not say when" if place.guess and place.where else ""
    ways = {"push": place.push, "tag": place.tag, "dispatch": place.by_hand and not place.push}
    table.put("deploy_on", {way: value for way, value in ways.items() if value}, said)
    if place.promote:
        table.put("promote", place.promote, "re-tagged, never rebuilt")
    if place.guess or place.notes:
        made.decide((*here, "deploy_on"), f"what deploys {place.name}" + "".join(f"; {note}" for note in place.notes))
    if len({machine.name for machine in facts.hosts.values()}) > 1:
        table.put("host", facts.hosts[place.name].name)
    if stack := facts.stack_names.get(place.name):
        table.put("stack", stack.value, stack.where)
    if tag := _find_moving_tag(facts, place):
        table.put("tag", tag.value, tag.where)
    shared = _find_shared_env_file(facts, place)
    if shared:
        table.put("env_file", ".env", f"{shared}, for the whole stack")
    held = [name for name in facts.accessories if _has_accessory(facts, place, name)]
    if len(held) < len(facts.accessories):
        table.put("accessories", held, "by the compose files")
    _add_service_overrides(facts, place, table)
    if facts.database_server:
        database = facts.database_server.databases[place.name]
        given = {"name": database.name, "user": database.user}
        inner = {key: fact.value for key, fact in given.items() if fact}
        inner |= {"password": {"env": database.password.value}} if database.password else {}
        where = database.name or database.user
        table.put("database", inner, where.where if where else "")
    return table


def _has_accessory(facts: RepositoryFindings, place: DetectedEnvironment, accessory: str) -> bool:
    """Whether a compose file of an environment has an accessory; one without files of its own has all."""
    known = service_entry.map_accessory_names(facts)
    kinds = {each.kind for each in facts.containers if known.get(each.name) == accessory}
    return bool(kinds & {"", place.kind}) or all(each.kind != place.kind for each in facts.containers)


def _find_moving_tag(facts: RepositoryFindings, place: DetectedEnvironment) -> SourcedValue | None:
    """The one tag that an environment's own compose file pulls, when it is a name and no version."""
    pulled: list[SourcedValue] = []
    for service in facts.services:
        for stack, container in service.containers:
            image = parse_image_reference(container.image)
            if stack.kind == place.kind and not image.digest and re.fullmatch(r"[A-Za-z][\w-]{0,40}", image.tag):
                pulled.append(SourcedValue(image.tag, container.where))
    same = {str(fact.value) for fact in pulled}
    others = [other.name for other in facts.environments if other is not place]
    return pulled[0] if len(same) == 1 and same != {place.name} and not same & set(others) else None


def _find_shared_env_file(facts: RepositoryFindings, place: DetectedEnvironment) -> str:
    """Where a compose file that is this environment's gives all its services one `.env`."""
    files = [
        [fact for fact in container.env_files if str(fact.value).rpartition("/")[2] == ".env"]
        for found in facts.services
        for stack, container in found.containers
        if stack.kind == place.kind
    ]
    same = {str(fact.value) for each in files for fact in each}
    return files[0][0].where if files and all(files) and len(same) == 1 and len(files) == len(facts.services) else ""


def _add_service_overrides(facts: RepositoryFindings, place: DetectedEnvironment, table: CommentedMapping) -> None:
    containers, domains = CommentedMapping(), CommentedMapping()
    for found in facts.services:
        for stack, container in found.containers:
            name = container.container_name
            mine = stack.kind == place.kind or (not stack.kind and len(facts.environments) == 1)
            if mine and name and _IS_CONTAINER_NAME(name.value):
                containers.put(found.name, name.value, name.where)
        if domain := facts.domains.get((place.name, found.name)):
            domains.put(found.name, domain.value, format_source_note(domain))
    for key, part in (("containers", containers), ("domains", domains)):
        if part:
            table[key] = part
    if not domains:
        table.above.append(f"could not tell the domains; write: domains: {{{facts.services[0].name}: …}}")


def summarize_services(facts: RepositoryFindings) -> dict[str, str]:
    """Each service in a line: what it is built from, and where it listens."""
    return {
        found.name: ", ".join(
            [found.image.dockerfile, _describe_port(found), *(each.name for _, each in found.other_containers)]
        )
        for found in facts.services
    }


def _describe_port(found: DetectedService) -> str:
    return "a worker" if found.is_worker else f"port {found.port.value if found.port else 'not told'}"
