"""Containers: what Compose is told of a service, and of an accessory."""

import shlex
from collections.abc import Iterable
from typing import Any

from kiwari_ci import schema
from kiwari_ci.effective import built_images, derived
from kiwari_ci.plan import (
    AccessoryContainer,
    ComposeAttribute,
    ComposeContainer,
    KeyValue,
    NetworkAttachment,
    ServiceContainer,
)
from kiwari_ci.plan.base import FrozenMapping
from kiwari_ci.proxies import proxy_stacks

DEFAULT_NETWORK = "default"  # the network that Compose makes for each stack
_COMPOSE_CONDITIONS = {"started": "started", "healthy": "healthy", "completed": "completed_successfully"}


def plan_service_containers(given: schema.Spec, environment: str, service: str) -> tuple[ServiceContainer, ...]:
    """A service in one environment: a container for each replica, of which the first has the domain."""
    names = derived.list_container_names(given, environment, service)
    return tuple(_plan_service_container(given, environment, service, name) for name in names)


def plan_accessory_container(given: schema.Spec, environment: str, name: str) -> AccessoryContainer:
    """An accessory in one environment."""
    model = derived.resolve_accessory(given, environment, name)
    kind = {"deploy.accessory": "once" if model.once else "yes"}
    found = _plan_compose_container(given, environment, name, model, model.image, kind)
    return AccessoryContainer(**vars(found), name=name, once=model.once)


def _plan_service_container(given: schema.Spec, environment: str, service: str, container: str) -> ServiceContainer:
    model = derived.resolve_service(given, environment, service)
    tag, image = (
        derived.derive_image_tag(given, environment),
        built_images.find_built_image(given, environment, service),
    )
    kept, health = derive_image_repository(given, image), _format_health_endpoint(model)
    first = derived.derive_container_name(given, environment, service)
    read = {
        **_build_health_labels(given, environment, service, model),
        "deploy.from": _derive_promotion_source(given, environment, service),
        "deploy.user": given.registry.user or "",
        "deploy.rollout": "recreate" if model.rollout == "recreate" else "",
        "deploy.migrate": shlex.join(model.migrate or ()) if container == first else "",
    }
    found = _plan_compose_container(given, environment, service, model, f"{kept}:{tag}", read, container)
    return ServiceContainer(
        **vars(found),
        service=service,
        source=image.name,
        repository=kept,
        tag=tag,
        health=health,
        variable=derived.format_variable_name(service),
        digest=f"DIGEST_{derived.format_variable_name(service)}",
    )


def _plan_compose_container(
    given: schema.Spec,
    environment: str,
    name: str,
    model: schema.Service | schema.Accessory,
    image: str,
    read: dict[str, str],
    replica: str = "",
) -> ComposeContainer:
    """What both have; `read` are the labels that the host program reads."""
    first = derived.derive_container_name(given, environment, name)
    domain = given.environments[environment].domains.get(name, "") if replica in ("", first) else ""
    joined = _plan_network_attachments(given, environment, name, model, first if replica not in ("", first) else "")
    has_aliases = any(each.alias for each in joined)
    is_service = isinstance(model, schema.Service)
    return ComposeContainer(
        container=replica or first,
        image=image,
        domain=domain,
        port=model.port or 0,
        health_path=model.health.path if isinstance(model, schema.Service) else "/",
        health_status=model.health.status if isinstance(model, schema.Service) else 0,
        websocket="yes" if model.websocket else "no",
        restart=_derive_restart_policy(model),
        init=is_service and "init" not in model.compose,
        is_bounded="logging" not in model.compose,
        env_file=derived.derive_env_file_name(given, environment, name),
        entrypoint=tuple(map(_escape_dollar_signs, model.entrypoint or ())),
        command=tuple(map(_escape_dollar_signs, model.command or ())),
        environment=_plan_environment(given, environment, name, model),
        depends_on=_plan_dependencies(given, environment, model),
        ports=tuple(model.ports or ()),
        volumes=tuple(model.volumes or ()),
        healthcheck=_list_compose_attributes(
            model.healthcheck, ("test", "interval", "timeout", "retries", "start_period")
        ),
        limits=_list_compose_attributes(model, ("mem_limit", "cpus", "stop_grace_period")),
        labels=_plan_container_labels(given, environment, name, model, domain, read),
        more=tuple(ComposeAttribute(key, _escape_dollar_signs(value)) for key, value in model.compose.items()),
        networks=() if has_aliases else tuple(each.name for each in joined),
        aliased=joined if has_aliases else (),
        docker_networks=tuple(each.docker_name for each in joined),
    )


def _list_compose_attributes(model: schema.SpecModel | None, names: Iterable[str]) -> tuple[ComposeAttribute, ...]:
    """Those fields of a model that say something, as keys of Compose."""
    found = {name: getattr(model, name, None) for name in names}
    return tuple(
        ComposeAttribute(name, _escape_dollar_signs(value)) for name, value in found.items() if value is not None
    )


def _derive_restart_policy(model: schema.Service | schema.Accessory) -> str:
    if "restart" in model.compose:
        return ""
    return "no" if isinstance(model, schema.Accessory) and model.once else "unless-stopped"


def _plan_environment(
    given: schema.Spec, environment: str, name: str, model: schema.Service | schema.Accessory
) -> tuple[KeyValue, ...]:
    values = {
        key: derived.resolve_env_variable(given, environment, name, value) for key, value in model.environment.items()
    }
    return tuple(KeyValue(key, _escape_dollar_signs(value)) for key, value in values.items())


def _plan_dependencies(given: schema.Spec, environment: str, model: schema.ContainerOptions) -> tuple[KeyValue, ...]:
    return tuple(
        KeyValue(derived.derive_container_name(given, environment, name), f"service_{_COMPOSE_CONDITIONS[condition]}")
        for name, condition in model.depends_on.items()
    )


def _plan_container_labels(
    given: schema.Spec,
    environment: str,
    name: str,
    model: schema.Service | schema.Accessory,
    domain: str,
    read: dict[str, str],
) -> tuple[KeyValue, ...]:
    """What the host program reads, then what Traefik does, then the spec's own, which win."""
    container = derived.derive_container_name(given, environment, name)
    routed = proxy_stacks.build_traefik_labels(
        given, derived.find_first_host(given, environment), domain, container, model.port
    )
    found = {key: value for key, value in read.items() if value} | routed | model.labels
    return tuple(KeyValue(key, _escape_dollar_signs(value)) for key, value in found.items())


def _format_health_endpoint(model: schema.Service) -> str:
    """Where and with which status a service answers; a worker does not."""
    status = "" if model.health.status == 200 else f" {model.health.status}"
    return f":{model.port}{model.health.path}{status}" if model.port else ""


def _build_health_labels(given: schema.Spec, environment: str, service: str, model: schema.Service) -> dict[str, str]:
    """The labels that say how the server asks a new container; nobody asks a worker."""
    if not model.port:
        return {}
    proxies = [given.hosts[name].proxy for name in derived.list_hosts(given, environment)]
    host = model.health.host or given.environments[environment].domains.get(service, "")
    start = model.health.start_period
    return {
        "deploy.health": _format_health_endpoint(model),
        "deploy.host": host,
        "deploy.start-period": str(derived.parse_duration(start)) if start else "",
        "deploy.name-cache": str(max(map(proxy_stacks.find_name_cache_seconds, proxies))),
    }


def _escape_dollar_signs(value: Any) -> Any:
    """As Compose takes it without looking for variables in it."""
    if isinstance(value, dict):
        return FrozenMapping((_escape_dollar_signs(key), _escape_dollar_signs(each)) for key, each in value.items())
    if isinstance(value, list):
        return tuple(_escape_dollar_signs(each) for each in value)
    return value.replace("$", "$$") if isinstance(value, str) else value


def _derive_promotion_source(given: schema.Spec, environment: str, service: str) -> str:
    """Stack and container whose state file must know a digest before this environment takes it; they share the host."""
    source = given.environments[environment].promote
    if source is None or not {*derived.list_hosts(given, environment)} <= {*derived.list_hosts(given, source)}:
        return ""
    return f"{derived.derive_stack_name(given, source)}/{derived.derive_container_name(given, source, service)}"


def _plan_network_attachments(
    given: schema.Spec, environment: str, name: str, model: schema.Service | schema.Accessory, alias: str
) -> tuple[NetworkAttachment, ...]:
    """The proxy's network, the database's, the stack's own where it has accessories, and those that the spec names.

    An accessory that has no domain is not on the proxy's, and by its short name it is known on the stack's own alone.
    """
    place, stack = given.environments[environment], derived.derive_stack_name(given, environment)
    is_service = isinstance(model, schema.Service)
    is_known = isinstance(model, schema.Accessory) and not model.once
    found = [DEFAULT_NETWORK] if not is_service else []
    if is_service or name in place.domains:
        found.append(given.hosts[derived.find_first_host(given, environment)].proxy.network)
    env = derived.resolve_container_options(given, environment, derived.find_env_owner(given, environment, name)).env
    if place.database and any(value.database for value in (*env.values(), *model.environment.values())):
        found.append(derived.find_server_network(given, derived.find_database_server(given, place.database)))
    if derived.list_accessories(given, environment):
        found.append(DEFAULT_NETWORK)
    own = {DEFAULT_NETWORK, *(str(each.name or each.internal) for each in model.networks or () if not each.external)}
    found += [str(each.external or each.name or each.internal) for each in model.networks or ()]
    return tuple(
        NetworkAttachment(
            name=each,
            alias=alias or (name if each == DEFAULT_NETWORK and is_known else ""),
            docker_name=f"{stack}_{each}" if each in own else each,
        )
        for each in dict.fromkeys(found)
    )


def derive_image_repository(given: schema.Spec, image: built_images.BuiltImage) -> str:
    """Where an image is kept."""
    namespace = given.registry.namespace or given.project.repository.split("/")[0].lower()
    host = "" if given.registry.host == "docker.io" else f"{given.registry.host}/"  # as Docker writes its own
    return f"{host}{namespace}/{built_images.derive_image_name(given, image)}"
