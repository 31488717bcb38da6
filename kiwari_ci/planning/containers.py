"""Containers: what Compose is told of a service, and of an accessory."""

import shlex
from collections.abc import Iterable
from typing import Any

from kiwari_ci import schema
from kiwari_ci.effective import built_images, derived
from kiwari_ci.plan import Accessory, Container, Instance, Joined, Key, Pair
from kiwari_ci.proxies import proxy_stacks
from kiwari_ci.rendering.quoting import Items

DEFAULT = "default"  # the network that Compose makes for each stack
_CONDITIONS = {"started": "started", "healthy": "healthy", "completed": "completed_successfully"}


def instances(given: schema.Spec, environment: str, service: str) -> tuple[Instance, ...]:
    """A service in one environment: a container for each replica, of which the first has the domain."""
    names = derived.container_names(given, environment, service)
    return tuple(_instance(given, environment, service, name) for name in names)


def accessory(given: schema.Spec, environment: str, name: str) -> Accessory:
    """An accessory in one environment."""
    model = derived.accessory_of(given, environment, name)
    kind = {"deploy.accessory": "once" if model.once else "yes"}
    found = _container(given, environment, name, model, model.image, kind)
    return Accessory(**vars(found), name=name, once=model.once)


def _instance(given: schema.Spec, environment: str, service: str, container: str) -> Instance:
    model = derived.service_of(given, environment, service)
    tag, image = derived.image_tag(given, environment), built_images.image_of(given, environment, service)
    kept, health = repository(given, image), _health(model)
    first = derived.container_name(given, environment, service)
    read = {
        **_questions(given, environment, service, model),
        "deploy.from": _promoted_from(given, environment, service),
        "deploy.user": given.registry.user or "",
        "deploy.rollout": "recreate" if model.rollout == "recreate" else "",
        "deploy.migrate": shlex.join(model.migrate or ()) if container == first else "",
    }
    found = _container(given, environment, service, model, f"{kept}:{tag}", read, container)
    return Instance(
        **vars(found),
        service=service,
        source=image.name,
        repository=kept,
        tag=tag,
        health=health,
        variable=derived.variable(service),
        digest=f"DIGEST_{derived.variable(service)}",
    )


def _container(
    given: schema.Spec,
    environment: str,
    name: str,
    model: schema.Service | schema.Accessory,
    image: str,
    read: dict[str, str],
    replica: str = "",
) -> Container:
    """What both have; `read` are the labels that the host program reads."""
    first = derived.container_name(given, environment, name)
    domain = given.environments[environment].domains.get(name, "") if replica in ("", first) else ""
    joined = _joined(given, environment, name, model, first if replica not in ("", first) else "")
    has_aliases = any(each.alias for each in joined)
    is_service = isinstance(model, schema.Service)
    return Container(
        container=replica or first,
        image=image,
        domain=domain,
        port=model.port or 0,
        health_path=model.health.path if isinstance(model, schema.Service) else "/",
        health_status=model.health.status if isinstance(model, schema.Service) else 0,
        websocket="yes" if model.websocket else "no",
        restart=_restart(model),
        init=is_service and "init" not in model.compose,
        is_bounded="logging" not in model.compose,
        env_file=derived.env_file(given, environment, name),
        entrypoint=tuple(map(_literal, model.entrypoint or ())),
        command=tuple(map(_literal, model.command or ())),
        environment=_environment(given, environment, name, model),
        depends_on=_depends_on(given, environment, model),
        ports=tuple(model.ports or ()),
        volumes=tuple(model.volumes or ()),
        healthcheck=_keys(model.healthcheck, ("test", "interval", "timeout", "retries", "start_period")),
        limits=_keys(model, ("mem_limit", "cpus", "stop_grace_period")),
        labels=_labels(given, environment, name, model, domain, read),
        more=tuple(Key(key, _literal(value)) for key, value in model.compose.items()),
        networks=() if has_aliases else tuple(each.name for each in joined),
        aliased=joined if has_aliases else (),
        docker_networks=tuple(each.docker_name for each in joined),
    )


def _keys(model: schema.Model | None, names: Iterable[str]) -> tuple[Key, ...]:
    """Those fields of a model that say something, as keys of Compose."""
    found = {name: getattr(model, name, None) for name in names}
    return tuple(Key(name, _literal(value)) for name, value in found.items() if value is not None)


def _restart(model: schema.Service | schema.Accessory) -> str:
    if "restart" in model.compose:
        return ""
    return "no" if isinstance(model, schema.Accessory) and model.once else "unless-stopped"


def _environment(
    given: schema.Spec, environment: str, name: str, model: schema.Service | schema.Accessory
) -> tuple[Pair, ...]:
    values = {key: derived.env_value(given, environment, name, value) for key, value in model.environment.items()}
    return tuple(Pair(key, _literal(value)) for key, value in values.items())


def _depends_on(given: schema.Spec, environment: str, model: schema.Running) -> tuple[Pair, ...]:
    return tuple(
        Pair(derived.container_name(given, environment, name), f"service_{_CONDITIONS[condition]}")
        for name, condition in model.depends_on.items()
    )


def _labels(
    given: schema.Spec,
    environment: str,
    name: str,
    model: schema.Service | schema.Accessory,
    domain: str,
    read: dict[str, str],
) -> tuple[Pair, ...]:
    """What the host program reads, then what Traefik does, then the spec's own, which win."""
    container = derived.container_name(given, environment, name)
    routed = proxy_stacks.labels(given, derived.host_of(given, environment), domain, container, model.port)
    found = {key: value for key, value in read.items() if value} | routed | model.labels
    return tuple(Pair(key, _literal(value)) for key, value in found.items())


def _health(model: schema.Service) -> str:
    """Where and with which status a service answers; a worker does not."""
    status = "" if model.health.status == 200 else f" {model.health.status}"
    return f":{model.port}{model.health.path}{status}" if model.port else ""


def _questions(given: schema.Spec, environment: str, service: str, model: schema.Service) -> dict[str, str]:
    """The labels that say how the server asks a new container; nobody asks a worker."""
    if not model.port:
        return {}
    proxies = [given.hosts[name].proxy for name in derived.hosts_of(given, environment)]
    host = model.health.host or given.environments[environment].domains.get(service, "")
    start = model.health.start_period
    return {
        "deploy.health": _health(model),
        "deploy.host": host,
        "deploy.start-period": str(derived.seconds(start)) if start else "",
        "deploy.name-cache": str(max(map(proxy_stacks.name_cache, proxies))),
    }


def _literal(value: Any) -> Any:
    """As Compose takes it without looking for variables in it."""
    if isinstance(value, dict):
        return Items((_literal(key), _literal(each)) for key, each in value.items())
    if isinstance(value, list):
        return tuple(_literal(each) for each in value)
    return value.replace("$", "$$") if isinstance(value, str) else value


def _promoted_from(given: schema.Spec, environment: str, service: str) -> str:
    """Stack and container whose state file must know a digest before this environment takes it; they share the host."""
    source = given.environments[environment].promote
    if source is None or not {*derived.hosts_of(given, environment)} <= {*derived.hosts_of(given, source)}:
        return ""
    return f"{derived.stack_name(given, source)}/{derived.container_name(given, source, service)}"


def _joined(
    given: schema.Spec, environment: str, name: str, model: schema.Service | schema.Accessory, alias: str
) -> tuple[Joined, ...]:
    """The proxy's network, the database's, the stack's own where it has accessories, and those that the spec names.

    An accessory that has no domain is not on the proxy's, and by its short name it is known on the stack's own alone.
    """
    place, stack = given.environments[environment], derived.stack_name(given, environment)
    is_service = isinstance(model, schema.Service)
    is_known = isinstance(model, schema.Accessory) and not model.once
    found = [DEFAULT] if not is_service else []
    if is_service or name in place.domains:
        found.append(given.hosts[derived.host_of(given, environment)].proxy.network)
    env = derived.running_of(given, environment, derived.env_holder(given, environment, name)).env
    if place.database and any(value.database for value in (*env.values(), *model.environment.values())):
        found.append(derived.server_network(given, derived.server_of(given, place.database)))
    if derived.accessories_of(given, environment):
        found.append(DEFAULT)
    own = {DEFAULT, *(str(each.name or each.internal) for each in model.networks or () if not each.external)}
    found += [str(each.external or each.name or each.internal) for each in model.networks or ()]
    return tuple(
        Joined(
            name=each,
            alias=alias or (name if each == DEFAULT and is_known else ""),
            docker_name=f"{stack}_{each}" if each in own else each,
        )
        for each in dict.fromkeys(found)
    )


def repository(given: schema.Spec, image: built_images.Image) -> str:
    """Where an image is kept."""
    namespace = given.registry.namespace or given.project.repository.split("/")[0].lower()
    host = "" if given.registry.host == "docker.io" else f"{given.registry.host}/"  # as Docker writes its own
    return f"{host}{namespace}/{built_images.image_name(given, image)}"
