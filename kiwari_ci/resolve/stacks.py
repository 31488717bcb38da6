"""Stacks: the containers of an environment, and their env files."""

from kiwari_ci import derive, spec
from kiwari_ci.plan import EnvFile, EnvGroup, EnvLine, Instance, Pair, Stack
from kiwari_ci.resolve import fronts

_TASK = f"replace each {derive.CHANGE_ME}: with one left, nothing is deployed"


def stack(given: spec.Spec, environment: str) -> Stack:
    """The Compose project of an environment."""
    instances = tuple(_instance(given, environment, service) for service in derive.services_of(given, environment))
    groups: dict[str, list[EnvGroup]] = {}
    for instance in instances:
        group = EnvGroup(instance.container, _env_lines(given, environment, instance.service))
        if instance.env_file:
            groups.setdefault(instance.env_file, []).append(group)
    return Stack(
        name=derive.stack_name(given, environment),
        environment=environment,
        instances=instances,
        networks=tuple(dict.fromkeys(network for instance in instances for network in instance.networks)),
        env_files=tuple(EnvFile(name, _TASK, _without_repeats(found)) for name, found in groups.items()),
        volumes=_named_volumes(instances),
    )


def _instance(given: spec.Spec, environment: str, service: str) -> Instance:
    model, place = given.services[service], given.environments[environment]
    return Instance(
        service=service,
        container=derive.container_name(given, environment, service),
        repository=repository(given, service),
        tag=derive.image_tag(given, environment),
        port=model.port or 0,
        health=_health(model),
        health_path=model.health.path,
        health_status=model.health.status,
        domain=place.domains.get(service, ""),
        websocket="yes" if model.websocket else "no",
        networks=_networks(given, environment, service),
        env_file=derive.env_file(given, environment, service),
        variable=derive.variable(service),
        command=tuple(_literal(word) for word in model.command or ()),
        volumes=tuple(model.volumes or ()),
        ports=tuple(model.ports or ()),
        labels=_labels(given, environment, service),
        limits=_limits(model),
    )


def _labels(given: spec.Spec, environment: str, service: str) -> tuple[Pair, ...]:
    """What the host script reads, then what Traefik does, then the spec's own, which win."""
    model, host = given.services[service], derive.host_of(given, environment)
    domain = given.environments[environment].domains.get(service, "")
    own = {
        "deploy.health": _health(model),
        "deploy.from": _promoted_from(given, environment, service),
        "deploy.rollout": "recreate" if model.rollout == "recreate" else "",
    }
    container = derive.container_name(given, environment, service)
    read = {key: value for key, value in own.items() if value}
    found = read | fronts.labels(given, host, domain, container, model.port) | model.labels
    return tuple(Pair(key, _literal(value)) for key, value in found.items())


def _health(model: spec.Service) -> str:
    """Where and with which status a service answers; a worker does not."""
    status = "" if model.health.status == 200 else f" {model.health.status}"
    return f":{model.port}{model.health.path}{status}" if model.port else ""


def _literal(text: str) -> str:
    """As Compose takes it without looking for variables in it."""
    return text.replace("$", "$$")


def _limits(model: spec.Service) -> tuple[Pair, ...]:
    limits = {"mem_limit": model.mem_limit, "stop_grace_period": model.stop_grace_period}
    return tuple(Pair(key, value) for key, value in limits.items() if value)


def _named_volumes(instances: tuple[Instance, ...]) -> tuple[str, ...]:
    """Those that Compose makes for the stack; a path is the host's."""
    sources = [volume.partition(":")[0] for instance in instances for volume in instance.volumes]
    return tuple(dict.fromkeys(name for name in sources if name[0] not in "./"))


def _promoted_from(given: spec.Spec, environment: str, service: str) -> str:
    """Stack and container whose state file must know a digest before this environment takes it; they share the host."""
    source = given.environments[environment].promote
    if source is None or derive.host_of(given, source) != derive.host_of(given, environment):
        return ""
    return f"{derive.stack_name(given, source)}/{derive.container_name(given, source, service)}"


def _networks(given: spec.Spec, environment: str, service: str) -> tuple[str, ...]:
    place = given.environments[environment]
    found = [given.hosts[derive.host_of(given, environment)].proxy.network]
    if place.database and any(value.database for value in given.services[service].env.values()):
        found.append(derive.server_network(given, derive.server_of(given, place.database)))
    return tuple(dict.fromkeys(found))


def _env_lines(given: spec.Spec, environment: str, service: str) -> tuple[EnvLine, ...]:
    return tuple(
        _env_line(given, environment, service, key, value) for key, value in given.services[service].env.items()
    )


def _env_line(given: spec.Spec, environment: str, service: str, key: str, value: spec.EnvValue) -> EnvLine:
    note = "secret" if value.secret else ""
    database = given.environments[environment].database
    if value.database == "url" and database:
        password = derive.password_variable(given, environment, database)
        place = f"{password} in {derive.server_of(given, database)}/.env"
        note = f"secret: the password is {place}; percent-encode what is not a letter or digit"
    return EnvLine(key, derive.env_value(given, environment, service, value), note)


def _without_repeats(groups: list[EnvGroup]) -> tuple[EnvGroup, ...]:
    """A key that two services of one env file share stands there once."""
    seen: set[str] = set()
    kept = []
    for group in groups:
        lines = tuple(line for line in group.lines if line.key not in seen)
        seen |= {line.key for line in lines}
        kept += [EnvGroup(group.title, lines)] if lines else []
    return tuple(kept)


def repository(given: spec.Spec, service: str) -> str:
    """Where the images of a service are kept."""
    namespace = given.registry.namespace or given.project.repository.split("/")[0].lower()
    return f"{given.registry.host}/{namespace}/{derive.image_name(given, service)}"
