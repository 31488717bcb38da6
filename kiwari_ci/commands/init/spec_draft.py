"""Makes a first spec of all that was found, and the questions that a person must answer."""

import re
from typing import Any

from kiwari_ci import schema
from kiwari_ci.commands.init import container_entry, proxy_choice, service_entry
from kiwari_ci.commands.init.compose_files import (
    DetectedContainer,
    choose_router_options,
    detect_proxy,
    find_one_shot_services,
    has_variable_version,
)
from kiwari_ci.commands.init.databases import DetectedDatabase, DetectedDatabaseServer
from kiwari_ci.commands.init.draft_text import CommentedMapping, CommentedValue
from kiwari_ci.commands.init.environments import DetectedEnvironment, DetectedHost
from kiwari_ci.commands.init.findings import RepositoryFindings, SpecDraft
from kiwari_ci.commands.init.registry_logins import UnnamedPush
from kiwari_ci.commands.init.rendered_env import is_on_github
from kiwari_ci.commands.init.service_entry import format_source_note
from kiwari_ci.commands.init.services import DetectedService
from kiwari_ci.commands.init.takeover_entry import (
    ask_about_env_files,
    ask_about_folders,
    build_takeover_entry,
    find_project,
    list_container_names,
)
from kiwari_ci.commands.init.written_env_files import STACK_ENV_FILE
from kiwari_ci.proxies.all_proxies import find_proxy
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.readers.repository import get_parent_folder, join_path
from kiwari_ci.readers.vocabulary import SourcedValue
from kiwari_ci.readers.yaml_document import collect_strings
from kiwari_ci.schema.text_formats import (
    ContainerName,
    ExistingName,
    ImageName,
    NetworkName,
    RegistryUser,
    RepositoryFile,
    SecretName,
    Slug,
    TraefikName,
)
from kiwari_ci.spec_loading.yaml_source import YamlPath

_IS_FILE = vocabulary.build_validator(RepositoryFile)
_IS_REGISTRY_USER = vocabulary.build_validator(RegistryUser)
_IS_SECRET_NAME = vocabulary.build_validator(SecretName)
_IS_IMAGE_NAME = vocabulary.build_validator(ImageName)
_IS_CONTAINER_NAME = vocabulary.build_validator(ContainerName)
_IS_EXISTING_NAME = vocabulary.build_validator(ExistingName)
_IS_SLUG = vocabulary.build_validator(Slug)
_IS_NETWORK_NAME = vocabulary.build_validator(NetworkName)
_IS_TRAEFIK_NAME = vocabulary.build_validator(TraefikName)
_GITHUB_REGISTRY = "ghcr.io/"


def derive_project_names(services: list[DetectedService], slug: str) -> tuple[str, str, dict[str, str]]:
    """The project's name, the registry's namespace, and each service's image, as far as image names say them."""
    references = {service.name: str(service.reference.value) for service in services if service.reference}
    on_github = {
        name: reference.removeprefix(_GITHUB_REGISTRY)
        for name, reference in references.items()
        if reference.startswith(_GITHUB_REGISTRY)
    }
    namespaces = {image.partition("/")[0] for image in on_github.values() if "/" in image}
    namespace = namespaces.pop() if len(namespaces) == 1 else slug.partition("/")[0].lower()
    images = {name: reference.rpartition("/")[2] for name, reference in references.items()}
    for name, image in on_github.items():
        images[name] = image.removeprefix(f"{namespace}/")
    project_name = _derive_project_name(images, slug)
    own_images = {
        name: image for name, image in images.items() if image != f"{project_name}-{name}" and _IS_IMAGE_NAME(image)
    }
    return project_name, namespace, own_images


def _derive_project_name(images: dict[str, str], slug: str) -> str:
    """What the images of several services have before the services' names; else the repository's name.

    A folder of the registry in which the images are is no part of it.
    """
    names = {name: image.rpartition("/")[2] for name, image in images.items()}
    prefixes = {image.removesuffix(f"-{name}") for name, image in names.items() if image.endswith(f"-{name}")}
    repository_name = re.sub(r"[-_.](mono-?repo|mono)$", "", slug.rpartition("/")[2], flags=re.IGNORECASE)
    common_prefix = prefixes.pop() if len(prefixes) == 1 and len(images) > 1 else ""
    return vocabulary.slugify(common_prefix) or vocabulary.slugify(repository_name) or "project"


def build_spec_draft(facts: RepositoryFindings) -> SpecDraft:
    """The whole first spec."""
    draft = SpecDraft()
    _, namespace, images = derive_project_names(facts.services, str(facts.slug.value))
    project = draft.table["project"] = CommentedMapping()
    project.put("name", facts.name)
    project.put("repository", facts.slug.value, facts.slug.where)
    project.put("default_branch", facts.branch.value, facts.branch.where)
    if facts.branch.guess:
        guess = "the default branch is a guess, because this clone has no `origin/HEAD`"
        draft.decide(("project", "default_branch"), guess)
    if facts.pull_requests:
        project.put("pull_requests", True, facts.pull_requests)
    if facts.runner:
        project.put("runner", facts.runner, "as every job of today")
    _add_registry(draft, facts, namespace)
    _add_hosts(draft, facts)
    if facts.database_server:
        _add_database_server(draft, facts.database_server)
    services = draft.table["services"] = CommentedMapping()
    for service in facts.services:
        image = images.get(service.name, "")
        services[service.name] = service_entry.build_service_entry(draft, facts, service, image)
        taken_names = {*services, *facts.accessories}
        services.update(service_entry.build_process_entries(draft, facts, service, taken_names))
    _add_accessories(draft, facts)
    environments = draft.table["environments"] = CommentedMapping()
    for environment in facts.environments:
        environments[environment.name] = _build_environment_entry(draft, facts, environment)
    _unname_settings_without_source(services, environments)
    ask_about_folders(draft, facts)
    ask_about_env_files(draft, facts)
    _note_rendered_env(draft, facts)
    return draft


def _unname_settings_without_source(services: CommentedMapping, environments: CommentedMapping) -> None:
    """Write no names of secrets and variables on GitHub if an environment takes its env files from the host."""
    if all(isinstance(entry, CommentedMapping) and "env_from" in entry for entry in environments.values()):
        return
    for service in services.values():
        env = service.get("env") if isinstance(service, CommentedMapping) else None
        for entry in env.values() if isinstance(env, CommentedMapping) else ():
            if not isinstance(entry, CommentedValue) or not isinstance(entry.value, dict):
                continue
            if {"secret", "variable"} & entry.value.keys():
                entry.value = {"secret": True}


def _note_rendered_env(draft: SpecDraft, facts: RepositoryFindings) -> None:
    """Note what deploys of today write into env files, and what no service of the spec gets."""
    service_keys = {key for service in facts.services for key in service_entry.detect_service_variables(facts, service)}
    left: dict[str, dict[str, None]] = {}
    for environment in facts.environments:
        for file in environment.whole_env_files:
            draft.seen.append(
                f"{file.where}: {file.setting} is a whole env file, whose keys no file shows: write them under `env`, "
                "or keep the file on the host"
            )
        for line in environment.unread_env_lines:
            draft.seen.append(
                f"{line.where}: writes into {line.path} what init cannot read: write its keys under `env`"
            )
        for variable in environment.rendered_env:
            if variable.key not in service_keys and not _is_filled_in(facts, variable.key):
                left.setdefault(variable.where.rpartition(":")[0], {})[variable.key] = None
    for path, keys in left.items():
        draft.leave(f"{path} writes into an env file what no `env` here has", list(keys))


def _is_filled_in(facts: RepositoryFindings, key: str) -> bool:
    """Whether Compose fills a variable into a container, such as its image: the spec has or asks for the value."""
    texts = (text for container in facts.containers for text, _ in collect_strings(container.table))
    return any(key in vocabulary.list_variables(text) for text in texts)


def _add_env_source(
    draft: SpecDraft, facts: RepositoryFindings, environment: DetectedEnvironment, table: CommentedMapping
) -> None:
    """Let deploys write the env files from GitHub's secrets and variables, where they do so today."""
    variables = [service_entry.detect_service_variables(facts, service) for service in facts.services]
    values_by_key = {key: variable.value for by_key in variables for key, variable in by_key.items()}
    values_by_key |= _collect_secrets_of_accessories(draft)
    written = {
        variable.key for variable in environment.rendered_env if is_on_github(variable, values_by_key.get(variable.key))
    }
    places = [variable.where for variable in environment.rendered_env if variable.key in values_by_key]
    if not places:
        return
    others = [key for key, value in values_by_key.items() if isinstance(value, dict) and "secret" in value]
    others = [key for key in others if key not in written]
    if others or environment.whole_env_files or environment.unread_env_lines:
        not_written = f", but not {', '.join(others)}" if others else ""
        question = (
            f"today a deploy writes into the env files ({places[0]}){not_written}: keep them on the host, or write "
            "`env_from: github` when GitHub has all secrets"
        )
        draft.decide(("environments", environment.name), question)
        return
    table.put("env_from", "github", places[0])
    question = (
        f"each deploy writes the env files from GitHub, as today ({places[0]}); without `env_from`, you keep them on "
        "the host"
    )
    draft.decide(("environments", environment.name, "env_from"), question)


def _collect_secrets_of_accessories(draft: SpecDraft) -> dict[str, Any]:
    """The variables of accessories that env files have."""
    accessories = draft.table.get("accessories", CommentedMapping())
    assert isinstance(accessories, CommentedMapping)
    entries = [entry for entry in accessories.values() if isinstance(entry, CommentedMapping)]
    envs = [entry.get("env", CommentedMapping()) for entry in entries]
    return {
        key: variable.value
        for env in envs
        if isinstance(env, CommentedMapping)
        for key, variable in env.items()
        if isinstance(variable, CommentedValue)
    }


def _add_registry(draft: SpecDraft, facts: RepositoryFindings, namespace: str) -> None:
    """Add the registry, unless the images are where the spec expects them: in ghcr.io, under the owner's name."""
    owner = str(facts.slug.value).partition("/")[0].lower()
    other_registry = _find_other_registry(facts)
    if other_registry:
        draft.table["registry"] = _build_registry_entry(other_registry, owner)
        host = str(other_registry.value).partition("/")[0]
        draft.decide(("registry",), f"the login of {host}, and the secrets that hold its tokens")
        return
    is_unnamed = bool(facts.unnamed_pushes) and not _pushes_to_github(facts)
    if is_unnamed and _add_unnamed_registry(draft, facts.unnamed_pushes[0], owner):
        return
    table = CommentedMapping()
    references = [service.reference for service in facts.services if service.reference]
    if namespace != owner and _IS_IMAGE_NAME(namespace):
        table.put("namespace", namespace, references[0].where if references else "")
    for host_settings in facts.hosts.values():
        kind, token = host_settings.settings.get("token", ("", ""))
        if token:
            if kind == "secret":
                table.put("pull_token", {"secret": token}, f"{host_settings.where}; a token with read:packages")
            break
    if table:
        draft.table["registry"] = table


def _pushes_to_github(facts: RepositoryFindings) -> bool:
    """Whether an image of ours is in ghcr.io, or a job that names its images by a variable logs in only there."""
    references = [str(service.reference.value) for service in facts.services if service.reference]
    is_there = any(reference.startswith(_GITHUB_REGISTRY) for reference in references)
    return is_there or facts.unnamed_pushes[0].host == "ghcr.io"


def _add_unnamed_registry(draft: SpecDraft, push: UnnamedPush, owner: str) -> bool:
    """Add the registry of images that only a variable names in full; without a login that tells, ask about it."""
    if not push.host or not push.login:
        where = f"{push.where}: only a variable says the registry or the owner of the image"
        draft.decide(("project", "name"), f"{where}; without `registry` it is ghcr.io, under the repository's owner")
        return False
    login = push.login
    table = CommentedMapping("could not tell the namespace, which a variable says today; write: namespace: …")
    table.put("host", push.host, login.where)
    user = login.user if _IS_REGISTRY_USER(login.user) else ""
    table.put("user", user or owner, login.where if user else "could not tell: the login that the tokens are of")
    secret = login.secret if _IS_SECRET_NAME(login.secret) else ""
    table.put("push_token", {"secret": secret or "REGISTRY_PUSH_TOKEN"}, login.where if secret else "could not tell")
    table.put("pull_token", {"secret": "REGISTRY_PULL_TOKEN"}, "could not tell; one that may pull is enough")
    draft.table["registry"] = table
    draft.decide(("registry",), f"the namespace and the login of {push.host}, and the secrets that hold its tokens")
    return True


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
    references = [service.reference for service in facts.services if service.reference]
    if any(str(reference.value).startswith(_GITHUB_REGISTRY) for reference in references):
        return None
    for reference in references:
        image = str(reference.value)
        is_on_docker_hub = re.fullmatch(r"[a-z0-9-]+/[\w.-]+", image) is not None
        if is_on_docker_hub and reference.where.startswith(".github/"):
            return SourcedValue(f"docker.io/{image}", reference.where)
        if re.match(r"[\w-]+(\.[\w.-]+(:\d+)?|:\d+)/", image):
            return reference
    return None


def _add_hosts(draft: SpecDraft, facts: RepositoryFindings) -> None:
    """Add the hosts, each with the secrets that reach it and the proxy in front of its services."""
    hosts = draft.table["hosts"] = CommentedMapping()
    proxy_entry, proxy_note = _build_proxy_entry(facts)
    if facts.plain_http:
        proxy_entry = {**proxy_entry, "scheme": "http"}
        proxy_note = "; ".join(filter(None, [proxy_note, f"plain HTTP: {facts.plain_http}"]))
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
            question = "choose a name for the server, and the names of the secrets with its address and login"
            if any(facts.hosts[environment.name] is host and environment.runner for environment in facts.environments):
                question += "; today its own runner deploys it, and here that runner logs in by SSH"
            addresses = [
                address
                for environment in facts.environments
                if facts.hosts[environment.name] is host
                for address in environment.addresses
            ]
            if addresses:
                question += f"; today it is {addresses[0]}"
            draft.decide(("hosts", host.name), question)
    first_host = next(iter(hosts))
    if facts.plain_http:
        question = (
            f"clients use plain HTTP ({facts.plain_http}); if a load balancer or Cloudflare in front adds TLS, "
            "leave out `scheme: http`"
        )
        draft.decide(("hosts", first_host, "proxy"), question)
    if facts.proxies and "kind" in proxy_entry:
        draft.decide(("hosts", first_host, "proxy"), _describe_proxy_change(facts.proxies[0], proxy_entry))
    elif not (facts.proxies or facts.host_proxy or proxy_choice.has_web_port(facts)) and facts.is_taken_over:
        place: YamlPath = ("hosts", first_host, "proxy") if proxy_entry else ("hosts", first_host)
        kind = proxy_choice.choose_proxy_kind(facts)
        question = f"what stands in front of the services: no file says it, and `proxy: {{kind: {kind}}}` is a guess"
        draft.decide(place, question)


def _add_login_settings(table: CommentedMapping, host: DetectedHost) -> None:
    """Add the secrets and variables by which the workflows reach a host today."""
    for role in ("address", "user", "port", "known_hosts"):
        kind, name = host.settings.get(role, ("", ""))
        if name:
            table.put(role, {kind: name}, host.where)
    _, key_of_today = host.settings.get("key", ("", ""))
    if key_of_today:
        note = f"a new key, which can only deploy; today's workflows keep {key_of_today} ({host.where})"
        table.put("key", {"secret": _choose_key_name(host.name, key_of_today)}, note)
    jump = {
        role: {kind: name}
        for role in ("address", "user", "port")
        for kind, name in [host.settings.get(f"jump {role}", ("", ""))]
        if name
    }
    if "address" in jump:
        table.put("jump", jump, f"{host.where}; its key is a new one, too")


def _choose_key_name(host_name: str, key_of_today: str) -> str:
    """The secret of the new deploy key: another one than today's, so that one can go back to the old workflows."""
    prefix = host_name.upper().replace("-", "_")
    name = f"{prefix}_DEPLOY_KEY"
    return name if name != key_of_today else f"{prefix}_KIWARI_CI_KEY"


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
    if facts.network and _IS_NETWORK_NAME(facts.network.value):
        entry["network"] = facts.network.value
    elif facts.proxy_containers and facts.is_taken_over:
        entry |= _choose_new_network(facts)
    kind = proxy_choice.choose_proxy_kind(facts)
    if not find_proxy(kind).is_on_shared_network:
        entry = {}
    if not facts.proxies or kind == schema.Proxy().kind:
        if kind != schema.Proxy().kind:
            entry = {"kind": kind, **entry}
        return entry, facts.network.where if facts.network else ""
    proxy = facts.proxies[0]
    entry = {"kind": kind, **entry}
    supported_keys = find_proxy(kind).supported_keys
    if not proxy_choice.reads_labels(kind):
        return entry, proxy.where
    is_container = any(container_proxy is proxy for container_proxy in facts.proxy_containers)
    if is_container and not facts.is_taken_over:
        return entry | {"stack": kind}, proxy.where
    for option, fact in _find_router_options(facts).items():
        if option in supported_keys:
            entry[option] = fact.value
    plain_port = _find_plain_port(facts) if is_container else 0
    if plain_port:
        entry["listen"] = f"127.0.0.1:{plain_port}"
    return entry, proxy.where


def _choose_new_network(facts: RepositoryFindings) -> dict[str, str]:
    """The network to which the proxy of today is connected: none for the usual one.

    Docker leads the published ports of a container through the network whose name sorts first. If the new network were
    that one, the ports would be closed for a moment while the proxy is connected.
    """
    default = schema.Proxy().network
    for environment in facts.environments:
        project = find_project(facts, environment)
        if project and default < f"{project.value}_default":
            name = f"{re.sub(r'[^a-z0-9]', '', str(project.value))}proxy"
            return {"network": name} if _IS_SLUG(name) and name > f"{project.value}_default" else {}
    return {}


def _find_plain_port(facts: RepositoryFindings) -> int:
    """The port of the server on which Traefik takes plain HTTP, where its routers have no certificates; else 0."""
    routers = [router for container in facts.containers for router in container.routers.values()]
    entrypoints = [str(router["entrypoint"].value) for router in routers if "entrypoint" in router]
    has_certificates = any({"tls", "certresolver"} & router.keys() for router in routers)
    if not entrypoints or has_certificates or any(re.search("secure|https|tls", name) for name in entrypoints):
        return 0
    for container in facts.containers:
        texts = " ".join(text for text, _ in collect_strings(container.table.get("command")))
        is_traefik = detect_proxy(container.image) == "traefik"
        if is_traefik and container.published and not re.search(r"tls|acme|redirections", texts):
            return container.published[0]
    return 0


def _describe_proxy_change(proxy: SourcedValue, entry: dict[str, Any]) -> str:
    """What the generated pipeline does in place of the proxy of today."""
    today = f"{proxy.value} is the proxy today ({proxy.where})"
    if entry["kind"] == "custom":
        generated = "with `kind: caddy` or `kind: nginx`, a new one is generated"
        return f"{today}, and stays: make it send requests to the new containers; {generated}"
    if not find_proxy(entry["kind"]).is_on_shared_network:
        return f"{today}: `kind: none` keeps it, and it must lead to published `ports`"
    if proxy_choice.reads_labels(entry["kind"]) and "stack" not in entry:
        return f"{today}, and stays: it must be Traefik 3.6 or newer, with `--serversTransport.maxIdleConnsPerHost=-1`"
    return f"{today}: a generated one would replace it; write `kind: none` to keep yours"


def _find_router_options(facts: RepositoryFindings) -> dict[str, SourcedValue]:
    """The options that today's labels give the router that counts, of those of all containers."""
    routers = {
        f"{container.name} {router}": options
        for container in facts.containers
        for router, options in container.routers.items()
    }
    return {option: fact for option, fact in choose_router_options(routers).items() if _IS_TRAEFIK_NAME(fact.value)}


def _add_accessories(draft: SpecDraft, facts: RepositoryFindings) -> None:
    """Add other people's images, with how their containers run; those that others wait for to end run once."""
    table = CommentedMapping()
    accessory_names = service_entry.map_accessory_names(facts)
    network = proxy_choice.find_shared_network(facts)
    one_shot = find_one_shot_services(facts.containers)
    for name, container in facts.accessories.items():
        runs_once = container.name in one_shot
        options = container_entry.build_accessory_entry(container, accessory_names, network, runs_once)
        table[name] = options.table
        draft.leave(f"{name} ({container.where})", options.unsupported)
        container_entry.ask_about_options(draft, ("accessories", name), options.table, options)
        if has_variable_version(container.image):
            question = f"the version of {container.image}: no default and no env example has it"
            draft.decide(("accessories", name, "image"), question)
        container_entry.add_volume_decision(draft, facts, ("accessories", name), container)
        container_entry.ask_about_secret_files(draft, ("accessories", name), container)
        container_entry.ask_about_port_variables(
            draft, ("accessories", name), container, options.table, facts.repository.written_variables
        )
        container_entry.ask_about_unknown_ports(draft, ("accessories", name), container)
    if table:
        draft.table["accessories"] = table


def _add_database_server(draft: SpecDraft, server: DetectedDatabaseServer) -> None:
    table = CommentedMapping(
        "a server in a stack of its own, beside the one that it is in today: move the data, or take this out"
    )
    table.put("image", server.image, server.where)
    if server.network:
        table.put("network", server.network.value, server.network.where)
    if server.migrations:
        folder, image, where = server.migrations
        if _IS_FILE(folder):
            note = where or "golang-migrate, by the files' names; its version is a guess"
            table.put("migrations", {"directory": folder, "image": image}, note)
    databases = draft.table["databases"] = CommentedMapping()
    databases[server.name] = table
    draft.decide(
        ("databases", server.name),
        f"PostgreSQL of {server.where} gets a stack of its own: move its data, or leave `databases` out",
    )


def _build_environment_entry(
    draft: SpecDraft, facts: RepositoryFindings, environment: DetectedEnvironment
) -> CommentedMapping:
    table = CommentedMapping(*environment.notes)
    _add_trigger(draft, table, environment)
    if len({host.name for host in facts.hosts.values()}) > 1:
        table.put("host", facts.hosts[environment.name].name)
    if environment.runner and facts.runner != environment.runner.value:
        table.put("runner", environment.runner.value, environment.runner.where)
    stack = facts.stack_names.get(environment.name)
    if stack:
        table.put("stack", stack.value, stack.where)
    tag = _find_moving_tag(facts, environment)
    if tag:
        table.put("tag", tag.value, tag.where)
    shared_env_file = _find_shared_env_file(facts, environment)
    if shared_env_file:
        table.put("env_file", ".env", f"{shared_env_file}, for the whole stack")
    running_services = _list_running_services(draft, facts)
    if running_services:
        table.put("services", running_services, "the others are only built from")
    _add_env_source(draft, facts, environment, table)
    accessories = [name for name in facts.accessories if _has_accessory(facts, environment, name)]
    if len(accessories) < len(facts.accessories):
        table.put("accessories", accessories, "by the compose files")
    _add_container_names(draft, facts, environment, table)
    _add_domains(draft, facts, environment, table)
    _add_existing_volumes(draft, facts, environment, table)
    if facts.database_server:
        _add_database(table, facts.database_server.databases[environment.name])
    overrides = service_entry.build_environment_overrides(draft, facts, environment.kind) if environment.kind else None
    if overrides:
        table["overrides"] = overrides
        _add_development_decision(draft, facts, environment)
    if environment.workflows:
        table["takeover"] = build_takeover_entry(facts, environment)
    return table


def _list_running_services(draft: SpecDraft, facts: RepositoryFindings) -> list[str]:
    """The services of an environment, where others are only images that they are built from; else none."""
    services = draft.table["services"]
    assert isinstance(services, CommentedMapping)
    bases = {service.name for service in facts.services if service.is_base}
    return [name for name in services if name not in bases] if bases else []


def _add_development_decision(draft: SpecDraft, facts: RepositoryFindings, environment: DetectedEnvironment) -> None:
    """Ask whether the compose file with the name of a deployed environment for development is what runs there."""
    if environment.kind != vocabulary.DEPLOYED_DEVELOPMENT:
        return
    files = {file.path for service in facts.services for file, _ in service.containers if file.kind == environment.kind}
    question = (
        f"whether the server of {environment.name} runs {', '.join(sorted(files))}: keep `overrides`; or leave it out, "
        "if only developers do"
    )
    draft.decide(("environments", environment.name, "overrides"), question)


def _add_existing_volumes(
    draft: SpecDraft, facts: RepositoryFindings, environment: DetectedEnvironment, table: CommentedMapping
) -> None:
    """Add the volumes that exist under a name of their own, and that the environment's containers mount.

    The names in a Compose file for all environments are those of each server. Of several environments on one server,
    production has these volumes, and the others are asked about.
    """
    own_volumes = _list_existing_volumes(draft, facts, table, environment.kind)
    common_volumes = _list_existing_volumes(draft, facts, table, "")
    if environment.kind == vocabulary.PRODUCTION or _has_own_server(facts, environment):
        own_volumes = {**common_volumes, **own_volumes}
    elif environment.workflows and common_volumes.keys() - own_volumes.keys():
        names = ", ".join(f"{name}: {existing}" for name, existing in common_volumes.items() if name not in own_volumes)
        question = (
            f"{environment.name} starts with empty volumes: if those of today are its own, and not of another "
            f"environment on this server, write volumes: {{{names}}} into it"
        )
        draft.decide(("environments", environment.name), question)
    if own_volumes:
        table.put("volumes", own_volumes, "volumes that exist already")


def _has_own_server(facts: RepositoryFindings, environment: DetectedEnvironment) -> bool:
    """Whether no other environment is on its server."""
    host = facts.hosts[environment.name].name
    return [other.name for other in facts.hosts.values()].count(host) == 1


def _list_existing_volumes(
    draft: SpecDraft, facts: RepositoryFindings, table: CommentedMapping, kind: str
) -> dict[str, str]:
    """The volumes of the draft that exist already, in the Compose files of a kind of environment, each once."""
    volumes: dict[str, str] = {}
    service_containers = [container for service in facts.services for _, container in service.containers]
    for container in [*service_containers, *facts.accessories.values()]:
        if container.kind != kind:
            continue
        mounted_names = {mount.partition(":")[0] for mount in container_entry.list_portable_volumes(container)}
        for name, existing in container.existing_volumes.items():
            if name in mounted_names and _IS_EXISTING_NAME(existing) and existing not in volumes.values():
                volumes.setdefault(name, existing)
    return {name: existing for name, existing in volumes.items() if _mounts_volume(draft, table, name)}


def _mounts_volume(draft: SpecDraft, table: CommentedMapping, name: str) -> bool:
    """Whether the draft has a service, or an accessory of this environment, that mounts a volume."""
    accessories = draft.table.get("accessories", CommentedMapping())
    services = draft.table["services"]
    assert isinstance(services, CommentedMapping)
    assert isinstance(accessories, CommentedMapping)
    chosen = table.get("accessories")
    entries = list(services.values())
    for accessory, entry in accessories.items():
        if not isinstance(chosen, CommentedValue) or accessory in chosen.value:
            entries.append(entry)
    for entry in entries:
        volumes = entry.get("volumes") if isinstance(entry, CommentedMapping) else None
        if isinstance(volumes, CommentedValue) and any(mount.startswith(f"{name}:") for mount in volumes.value):
            return True
    return False


def _add_trigger(draft: SpecDraft, table: CommentedMapping, environment: DetectedEnvironment) -> None:
    """Add what deploys an environment, and ask when that is a guess or differs from today."""
    triggers: dict[str, Any] = {}
    if environment.push:
        triggers["push"] = environment.push
    if environment.tag:
        triggers["tag"] = environment.tag
    if environment.by_hand and not environment.push:
        triggers["dispatch"] = True
    source = environment.trigger_where or environment.where or "could not tell: nothing here deploys"
    if environment.guess and environment.where:
        source += ", which does not say when"
    table.put("deploy_on", triggers, source)
    if environment.promote:
        table.put("promote", environment.promote, "re-tagged, never rebuilt")
    if environment.guess or environment.notes:
        question = "; ".join([f"choose what deploys {environment.name}", *environment.notes])
        draft.decide(("environments", environment.name, "deploy_on"), question)


def _add_database(table: CommentedMapping, database: DetectedDatabase) -> None:
    entry: dict[str, Any] = {}
    if database.name:
        entry["name"] = database.name.value
    if database.user:
        entry["user"] = database.user.value
    if database.password:
        entry["password"] = {"env": database.password.value}
    source = database.name or database.user
    table.put("database", entry, source.where if source else "")


def _has_accessory(facts: RepositoryFindings, environment: DetectedEnvironment, accessory: str) -> bool:
    """Whether a compose file of an environment has an accessory; one without files of its own has all."""
    if all(container.kind != environment.kind for container in facts.containers):
        return True
    names = service_entry.map_accessory_names(facts)
    kinds = {container.kind for container in facts.containers if names.get(container.name) == accessory}
    return bool(kinds & {"", environment.kind})


def _find_moving_tag(facts: RepositoryFindings, environment: DetectedEnvironment) -> SourcedValue | None:
    """The one tag that an environment's own compose file pulls, when it is a name that no other one has."""
    tag = _find_pulled_tag(facts, environment)
    if not tag or tag.value == environment.name:
        return None
    for other in facts.environments:
        other_tag = _find_pulled_tag(facts, other)
        is_also_of_production = other.kind == vocabulary.PRODUCTION and other_tag and other_tag.value == tag.value
        if other is not environment and (other.name == tag.value or is_also_of_production):
            return None
    return tag


def _find_pulled_tag(facts: RepositoryFindings, environment: DetectedEnvironment) -> SourcedValue | None:
    """The tag that all services of an environment's own compose file pull, when it is a name and no version."""
    tags: list[SourcedValue] = []
    for service in facts.services:
        for compose_file, container in service.containers:
            image = parse_image_reference(container.image)
            is_name = re.fullmatch(r"[A-Za-z][\w-]{0,40}", image.tag) is not None
            if compose_file.kind == environment.kind and not image.digest and is_name:
                tags.append(SourcedValue(image.tag, container.where))
    return tags[0] if len({tag.value for tag in tags}) == 1 else None


def _find_shared_env_file(facts: RepositoryFindings, environment: DetectedEnvironment) -> str:
    """Where a compose file that is this environment's gives all its services one `.env`; empty when none does."""
    files_of_services: list[list[SourcedValue]] = []
    for service in facts.services:
        for compose_file, container in service.containers:
            if compose_file.kind == environment.kind:
                files_of_services.append(_list_stack_env_files(container, environment))
    if not files_of_services or len(files_of_services) != len(facts.services) or not all(files_of_services):
        return ""
    paths = {str(file.value) for files in files_of_services for file in files}
    return files_of_services[0][0].where if len(paths) == 1 else ""


def _list_stack_env_files(container: DetectedContainer, environment: DetectedEnvironment) -> list[SourcedValue]:
    """The env files of a container that are `.env` beside its Compose file, by a path in the repository or the host."""
    folders = {get_parent_folder(container.file)}
    folders |= {str(folder.value).lstrip("/") for folder in environment.folders}
    paths = {join_path(folder, STACK_ENV_FILE) for folder in folders}
    return [file for file in container.env_files if file.value in paths]


def _add_container_names(
    draft: SpecDraft, facts: RepositoryFindings, environment: DetectedEnvironment, table: CommentedMapping
) -> None:
    """Keep the names of the containers of today."""
    containers = CommentedMapping()
    for name, container_name in list_container_names(facts, environment).items():
        if _IS_CONTAINER_NAME(container_name.value):
            containers.put(name, container_name.value, container_name.where)
        else:
            draft.leave(f"{name} ({container_name.where})", [f"the container's name {container_name.value}"])
    if containers:
        table["containers"] = containers


def _add_domains(
    draft: SpecDraft, facts: RepositoryFindings, environment: DetectedEnvironment, table: CommentedMapping
) -> None:
    """Add the domains of an environment, and ask for those of services that today's proxy finds by their labels."""
    domains = CommentedMapping()
    for service in facts.services:
        domain = facts.domains.get((environment.name, service.name))
        if domain:
            further = facts.further_addresses.get((environment.name, service.name), [])
            addresses = [
                _format_address(str(address.value), str(address.value) in facts.stripped_addresses)
                for address in (domain, *further)
            ]
            domains.put(service.name, addresses if further else addresses[0], format_source_note(domain))
    if domains:
        table["domains"] = domains
    else:
        table.above.append(f"could not tell the domains; write: domains: {{{facts.services[0].name}: …}}")
    routed_services = [service.name for service in facts.services if _is_routed_by_labels(service)]
    unknown = [name for name in routed_services if name not in domains]
    if unknown and environment.workflows:
        question = f"the domains of {', '.join(unknown)}, which today's labels have as variables: without `domains` "
        draft.decide(("environments", environment.name), question + "the proxy sends these services no requests")


def _is_routed_by_labels(service: DetectedService) -> bool:
    """Whether labels of a service make today's proxy send requests to it, and no file shows the domain."""
    containers = [container for _, container in service.containers]
    return any(container.proxy or container.routers for container in containers) and not any(
        container.domains for container in containers
    )


def _format_address(address: str, strips_path: bool) -> str | dict[str, Any]:
    """An address as `domains` takes it."""
    domain, _, path = address.partition("/")
    return {"domain": domain, "path": f"/{path}", "strip_path": True} if strips_path else address


def summarize_services(facts: RepositoryFindings, table: CommentedMapping) -> dict[str, str]:
    """Each service in a line: what it is built from, where it listens, and the other processes that the draft has."""
    entries = table.get("services", CommentedMapping())
    assert isinstance(entries, CommentedMapping)
    summaries = {}
    for service in facts.services:
        parts = [service.image.dockerfile, _describe_port(service)]
        process_names = dict.fromkeys(name for name, _ in service_entry.list_processes(service))
        parts += [name for name in process_names if name in entries]
        entry = entries.get(service.name)
        if isinstance(entry, CommentedMapping) and "migrate" in entry:
            parts.append("migrate")
        summaries[service.name] = ", ".join(parts)
    return summaries


def _describe_port(service: DetectedService) -> str:
    if service.is_base:
        return "an image that others are built from"
    if service.is_worker:
        return "a worker"
    return f"port {service.port.value if service.port else 'not told'}"
