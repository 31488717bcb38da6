"""Containers: what Compose gets of a service, and of an accessory."""

import shlex
from typing import Any

from kiwari_ci import schema
from kiwari_ci.effective_spec import EffectiveAccessory, EffectiveContainer, EffectiveEnvironment, EffectiveService
from kiwari_ci.engines.services import describe_service, format_health_endpoint, plan_route
from kiwari_ci.plan_model import (
    AccessoryContainer,
    ComposeAttribute,
    ComposeContainer,
    ComposeLabel,
    KeyValue,
    NetworkAttachment,
    ServiceContainer,
)
from kiwari_ci.plan_model.base import FrozenMapping
from kiwari_ci.proxies.all_proxies import find_proxy
from kiwari_ci.readers.duration import parse_duration
from kiwari_ci.schema.compose_mapping import list_copied_compose_keys

DEFAULT_NETWORK = "default"  # the network that Compose creates for each stack
# As an nginx with `resolver 127.0.0.11 valid=10s` keeps a name, which is the longest that is common.
_CALLER_NAME_CACHE_SECONDS = 11
_COMPOSE_CONDITIONS = {
    "started": "service_started",
    "healthy": "service_healthy",
    "completed": "service_completed_successfully",
}

# The labels that the host program reads, with the comment beside each in a compose file.
_LABEL_NOTES = {
    "deploy.health": "how a deploy checks that a new container is healthy",
    "deploy.host": "the Host header of the health check",
    "deploy.scheme": "the X-Forwarded-Proto header of the health check",
    "deploy.start-period": "the seconds that a new container may take to answer",
    "deploy.name-cache": "the seconds for which the proxy may keep the address of an old container",
    "deploy.from": "only images that served in this container are deployed",
    "deploy.user": "the user name for the registry",
    "deploy.rollout": "the old container stops before the new one starts",
    "deploy.once": "it runs to its end in each deploy",
    "deploy.migrate": "the command that a deploy runs first, with the new image",
    "deploy.backup": "the database that is dumped before the migration",
    "deploy.accessory": "a deploy starts it if it is missing, and does not replace it",
}
_ONE_SHOT_ACCESSORY_NOTE = "it runs to its end before each deploy"


def has_own_network(environment: EffectiveEnvironment) -> bool:
    """Whether a stack has a network of its own: for accessories, and for services that no proxy leads to."""
    if environment.accessories:
        return True
    return not all(map(_is_on_network_of_proxy, environment.services.values()))


def plan_service_containers(service: EffectiveService, has_own_network: bool) -> tuple[ServiceContainer, ...]:
    """Plan a service in one environment: a container for each replica, of which the first has the domains.

    `has_own_network`: its stack has a network of its own, which every container joins.
    """
    return tuple(_plan_replica(service, replica_name, has_own_network) for replica_name in service.replica_names)


def plan_accessory_container(accessory: EffectiveAccessory, has_own_network: bool) -> AccessoryContainer:
    """Plan an accessory in one environment; `has_own_network` is as in `plan_service_containers`."""
    options = accessory.options
    program_labels = {"deploy.accessory": "once" if options.once else "yes"}
    container = _plan_container(accessory, options.image, program_labels, accessory.container_name, has_own_network)
    return AccessoryContainer(**vars(container), name=accessory.name, once=options.once)


def _plan_replica(service: EffectiveService, replica_name: str, has_own_network: bool) -> ServiceContainer:
    options = service.options
    is_first = replica_name == service.container_name
    program_labels = {
        **_plan_health_labels(service),
        "deploy.from": _find_promotion_source(service),
        "deploy.user": service.environment.spec.registry.user or "",
        "deploy.rollout": "recreate" if service.is_stopped_first else "",
        "deploy.once": "yes" if options.once else "",
        "deploy.migrate": shlex.join(options.migrate or ()) if is_first else "",
        "deploy.backup": _find_backup_before_migration(service) if is_first else "",
    }
    image = f"{service.image.repository}:{service.environment.image_tag}"
    container = _plan_container(service, image, program_labels, replica_name, has_own_network)
    return ServiceContainer(**vars(container), **describe_service(service))


def _plan_container(
    container: EffectiveContainer,
    image: str,
    program_labels: dict[str, str],
    replica_name: str,
    has_own_network: bool,
) -> ComposeContainer:
    """Plan what services and accessories have in common; the host program reads `program_labels`."""
    options = container.options
    is_service = isinstance(options, schema.Service)
    is_first = replica_name == container.container_name
    http_health = options.health if isinstance(options, schema.Service) and options.health.by == "http" else None
    routes = tuple(plan_route(container, route) for route in container.routes) if is_first else ()
    # Every replica answers to the first one's name, which is the service's.
    common_name = "" if is_first else container.container_name
    attachments = _plan_network_attachments(container, common_name, has_own_network)
    has_aliases = any(attachment.aliases for attachment in attachments)
    return ComposeContainer(
        container=replica_name,
        image=image,
        routes=routes,
        port=options.port or 0,
        health_path=http_health.path if http_health else "/",
        health_status=http_health.status if http_health else 0,
        websocket="yes" if options.websocket else "no",
        restart=_choose_restart_policy(options),
        init=is_service and "init" not in options.compose,
        is_bounded="logging" not in options.compose,
        keeps_privileges="security_opt" not in options.compose,
        drops_raw_sockets="cap_drop" not in options.compose,
        env_file=container.env_file,
        entrypoint=tuple(double_dollar_signs(word) for word in options.entrypoint or ()),
        command=tuple(double_dollar_signs(word) for word in options.command or ()),
        environment=_plan_environment(container),
        depends_on=_plan_dependencies(container),
        ports=tuple(options.ports or ()),
        volumes=tuple(options.volumes or ()),
        healthcheck=_list_copied_attributes(options.healthcheck),
        limits=_list_copied_attributes(options),
        labels=_plan_labels(container, bool(routes), program_labels),
        more=tuple(ComposeAttribute(key, double_dollar_signs(value)) for key, value in options.compose.items()),
        networks=() if has_aliases else tuple(attachment.name for attachment in attachments),
        aliased=attachments if has_aliases else (),
        docker_networks=tuple(attachment.docker_name for attachment in attachments),
    )


def _list_copied_attributes(model: schema.SpecModel | None) -> tuple[ComposeAttribute, ...]:
    """List those fields of a model that are set, and whose values Compose takes as they are."""
    if model is None:
        return ()
    attributes = []
    for field, key in list_copied_compose_keys(type(model)):
        value = getattr(model, field)
        if value is not None:
            attributes.append(ComposeAttribute(key, double_dollar_signs(value)))
    return tuple(attributes)


def _choose_restart_policy(options: schema.Service | schema.Accessory) -> str:
    if "restart" in options.compose:
        return ""
    return "no" if options.once else "unless-stopped"


def _plan_environment(container: EffectiveContainer) -> tuple[KeyValue, ...]:
    return tuple(
        KeyValue(key, double_dollar_signs(container.resolve_variable(value)))
        for key, value in container.options.environment.items()
    )


def _plan_dependencies(container: EffectiveContainer) -> tuple[KeyValue, ...]:
    peers = container.environment.containers
    return tuple(
        KeyValue(peers[name].container_name, _COMPOSE_CONDITIONS[condition])
        for name, condition in container.options.depends_on.items()
    )


def _plan_labels(
    container: EffectiveContainer, is_public: bool, program_labels: dict[str, str]
) -> tuple[ComposeLabel, ...]:
    """Plan the labels: the host program's, the proxy's, and the spec's own, which win."""
    options = container.options
    proxy = find_proxy(container.environment.hosts_with("compose")[0].proxy.kind)
    proxy_labels = proxy.labels(container, options.port) if is_public and options.port else {}
    used_program_labels = {key: value for key, value in program_labels.items() if value}
    labels = used_program_labels | proxy_labels | options.labels
    return tuple(ComposeLabel(key, double_dollar_signs(value), _find_note(key, value)) for key, value in labels.items())


def _find_note(label: str, value: str) -> str:
    if (label, value) == ("deploy.accessory", "once"):
        return _ONE_SHOT_ACCESSORY_NOTE
    return _LABEL_NOTES.get(label, "")


def _plan_health_labels(service: EffectiveService) -> dict[str, str]:
    """Plan the labels that say how the host asks a new container for its health; a worker may have none."""
    options = service.options
    endpoint = format_health_endpoint(options)
    if not endpoint:
        return {}
    start_period = options.health.start_period
    host = (options.health.host or service.domain) if options.health.by == "http" else ""
    sends_http = bool(host) and service.environment.url_scheme == "http"
    return {
        "deploy.health": endpoint,
        "deploy.host": host,
        "deploy.scheme": "http" if sends_http else "",
        "deploy.start-period": str(parse_duration(start_period)) if start_period else "",
        "deploy.name-cache": str(_name_cache_seconds(service)),
    }


def _name_cache_seconds(service: EffectiveService) -> int:
    """For how many seconds a request may still go to the container that had the service's names before.

    A service without a domain gets its requests from other containers, for example from an nginx of the user's own.
    """
    hosts = service.environment.hosts_with("compose")
    seconds = max(find_proxy(host.proxy.kind).name_cache_seconds for host in hosts)
    is_called_by_containers = not service.domain and not service.options.ports
    return max(seconds, _CALLER_NAME_CACHE_SECONDS) if is_called_by_containers else seconds


def double_dollar_signs(value: Any) -> Any:
    """Double each dollar sign, so that Compose does not look for variables."""
    if isinstance(value, dict):
        return FrozenMapping((double_dollar_signs(key), double_dollar_signs(inner)) for key, inner in value.items())
    if isinstance(value, list):
        return tuple(double_dollar_signs(inner) for inner in value)
    return value.replace("$", "$$") if isinstance(value, str) else value


def _find_backup_before_migration(service: EffectiveService) -> str:
    """Name the server and the database that a deploy dumps before it runs this service's migration, if any."""
    database = service.environment.database
    if not service.options.migrate or database is None or database.server.model.backup is None:
        return ""
    return f"{database.server.name}/{database.name}"


def _find_promotion_source(service: EffectiveService) -> str:
    """Name the stack and container whose state file must know a digest before this environment takes it.

    It is empty where the two environments do not share their hosts.
    """
    environment = service.environment
    if environment.model.promote is None:
        return ""
    source = environment.spec.environments[environment.model.promote]
    names = {host.name for host in environment.hosts_with("compose")}
    if not names <= set(source.host_names):
        return ""
    return f"{source.stack_name}/{source.service(service.name).container_name}"


def _plan_network_attachments(
    container: EffectiveContainer, common_name: str, has_own_network: bool
) -> tuple[NetworkAttachment, ...]:
    """Plan a container's networks: the proxy's, the database's, the stack's own, and those that the spec names.

    What is not public is on the stack's own network alone, where the others reach it. The name that a container has in
    the spec is known there, and nowhere else. A replica has a `common_name` on each network.
    """
    environment, options = container.environment, container.options
    is_service = isinstance(options, schema.Service)
    short_name = container.name if is_reached_by_spec_name(container) else ""
    extra_networks = options.networks or []
    own_names = {DEFAULT_NETWORK}
    own_names |= {str(network.name or network.internal) for network in extra_networks if not network.external}

    names = [] if is_service else [DEFAULT_NETWORK]
    if _is_on_network_of_proxy(container):
        names.append(environment.hosts_with("compose")[0].proxy.network)
    if environment.database and container.uses_database:
        names.append(environment.database.server.network)
    if has_own_network:
        names.append(DEFAULT_NETWORK)
    names += [str(network.external or network.name or network.internal) for network in extra_networks]

    attachments = []
    for name in dict.fromkeys(names):
        aliases = (common_name, short_name if name == DEFAULT_NETWORK else "")
        docker_name = f"{environment.stack_name}_{name}" if name in own_names else name
        attachments.append(NetworkAttachment(name, tuple(filter(None, aliases)), docker_name))
    return tuple(attachments)


def _is_on_network_of_proxy(container: EffectiveContainer) -> bool:
    """Whether the proxy leads to a container over the network that they share, or could lead to it.

    A person may add the domains of a stack that has none to a proxy whose configuration is not generated.
    """
    environment = container.environment
    proxy = find_proxy(environment.hosts_with("compose")[0].proxy.kind)
    if not proxy.is_on_shared_network:
        return False
    if environment.model.domains or not proxy.may_lead_beyond_domains:
        return bool(container.domain)
    return isinstance(container, EffectiveService) and container.options.port is not None


def is_reached_by_spec_name(container: EffectiveContainer) -> bool:
    """Whether the others of its stack reach a container by the name that it has in the spec.

    During a takeover of the stack's own Compose project, an old container answers to the name that Compose gave it
    there. If it also has the name of the new container, a deploy moves both names together, once the new one is
    healthy. Otherwise a new container would get requests while it starts, so it does not have the short name until
    `takeover` is removed from the spec. The same is true where the spec does not say which container serves today.
    """
    options = container.options
    if options.once:
        return False
    if isinstance(options, schema.Accessory):
        return True
    if not options.port or container.name == container.container_name:
        return False
    takeover = container.environment.model.takeover
    if takeover is None or takeover.project != container.environment.stack_name:
        return True
    names_today = takeover.containers.get(container.name, [])
    return bool(names_today) and set(names_today) <= set(container.replica_names)
