"""Rules of single containers: images, health checks, what they wait for, and extra keys of Compose."""

from collections.abc import Callable, Iterator

from kiwari_ci.effective_spec import EffectiveContainer, EffectiveEnvironment, EffectiveSpec
from kiwari_ci.problems import Problem
from kiwari_ci.schema import Accessory, Service
from kiwari_ci.schema.services import HTTP_HEALTH_FIELDS, IMAGE_FIELDS, ONE_SHOT_EXCLUDES
from kiwari_ci.spec_loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.spec_loading.yaml_source import YamlPath, YamlSource
from kiwari_ci.spec_rules.images import check_image_version

Problems = Iterator[Problem]


def check_containers(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Find problems of single services and accessories, also as an environment overrides them."""
    yield from _check_shared_images(source, spec)
    yield from _check_accessory_images(source, spec)
    yield from _check_one_shots(source, spec)
    for check in (_check_healthcheck_command, _check_health_kind, _check_dependencies):
        for container in _iter_containers(spec):
            yield from check(source, container)
    for environment in spec.environments.values():
        yield from _check_dependency_cycles(source, environment)


def _iter_containers(spec: EffectiveSpec) -> Iterator[EffectiveContainer]:
    """Each service and accessory as each environment has it."""
    for environment in spec.environments.values():
        yield from environment.containers.values()


def _check_shared_images(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """Another process of an image has nothing of the image's, and is where the image's service is."""
    for name, service in spec.services.items():
        owner = service.image_of
        if owner is None:
            continue
        for key in IMAGE_FIELDS:
            if key in service.model_fields_set:
                message = f"services.{name}.{key}: {name} runs the image of {owner}, so `{key}` belongs to {owner}"
                hint = f"leave out `{key}`, or `image_of` for an image of its own"
                yield report_at_key(source, ("services", name, key), "image-of", message, hint)
        for environment in spec.environments.values():
            yield from _check_shared_image_in(source, environment, name, owner)


def _check_shared_image_in(source: YamlSource, environment: EffectiveEnvironment, name: str, owner: str) -> Problems:
    override = environment.model.overrides.get(name)
    if override and "build" in override.model_fields_set:
        loc: YamlPath = ("environments", environment.name, "overrides", name, "build")
        message = f"{format_yaml_path(loc)}: {name} runs the image of {owner}, so `build` belongs to {owner}"
        yield report_at_key(source, loc, "image-of", message, f"overrides: {{{owner}: {{build: …}}}}")
    if name in environment.services and owner not in environment.services:
        loc = ("environments", environment.name, "services")
        message = f"environments.{environment.name} holds {name}, and not {owner}, whose image it runs"
        hint = f"add {owner} to environments.{environment.name}.services"
        yield report_at_key(source, loc, "image-of", message, hint)


def _check_accessory_images(source: YamlSource, spec: EffectiveSpec) -> Problems:
    for name, accessory in spec.accessories.items():
        yield from check_image_version(source, ("accessories", name, "image"), accessory.image)


def _check_one_shots(source: YamlSource, spec: EffectiveSpec) -> Problems:
    """A container with `once` has no health check, one replica and no scheduled jobs."""
    everyone: dict[str, Service | Accessory] = {**spec.services, **spec.accessories}
    one_shots = [name for name, options in everyone.items() if options.once]
    for container_loc, options in spec.iter_container_options():
        if container_loc[-1] not in one_shots:
            continue
        for key in ONE_SHOT_EXCLUDES:
            if key in options.model_fields_set:
                loc: YamlPath = (*container_loc, key)
                message = f"{format_yaml_path(loc)}: a container with `once` cannot have `{key}`"
                yield report_at_key(source, loc, "once", message, f"leave out `{key}`, or `once`")


def _check_healthcheck_command(source: YamlSource, container: EffectiveContainer) -> Problems:
    if container.options.healthcheck is None:
        return
    form, *words = container.options.healthcheck.test
    loc = container.yaml_path("healthcheck", "test")
    if form not in ("CMD", "CMD-SHELL"):
        message = f"{format_yaml_path(loc)}: expected CMD or CMD-SHELL first, met `{form}`"
        hint = "test: [CMD, redis-cli, ping]; with pipes and variables [CMD-SHELL, 'one command for the shell']"
        yield report_at_value(source, loc, "value", message, hint)
    elif form == "CMD-SHELL" and len(words) > 1:
        message = f"{format_yaml_path(loc)}: CMD-SHELL takes one text, met {len(words)}"
        yield report_at_value(source, loc, "value", message, "put the command in one pair of quotes, or write CMD")


def _check_health_kind(source: YamlSource, container: EffectiveContainer) -> Problems:
    """Only a request over HTTP has a path, a status and a host."""
    if not isinstance(container.options, Service) or container.options.health.by == "http":
        return
    health = container.options.health
    for key in HTTP_HEALTH_FIELDS:
        if key in health.model_fields_set:
            loc = container.yaml_path("health", key)
            message = f"{format_yaml_path(loc)}: with `by: {health.by}` nothing is asked over HTTP"
            yield report_at_key(source, loc, "unused", message, f"leave out `{key}`, or `by`")


def _check_dependencies(source: YamlSource, container: EffectiveContainer) -> Problems:
    """What is waited for is there, and can reach the state that is waited for."""
    environment = container.environment
    for name, condition in container.options.depends_on.items():
        loc = container.yaml_path("depends_on", name)
        is_service = name in environment.spec.services
        if isinstance(container.options, Accessory) and is_service:
            message = f"{format_yaml_path(loc)}: `{name}` is a service, and accessories are there before services"
            hint = "leave it out: the accessory meets a service that is not there yet, and tries again"
            yield report_at_key(source, loc, "depends-on", message, hint)
        elif name not in environment.containers:
            message = f"{format_yaml_path(loc)}: environments.{environment.name} does not hold `{name}`"
            hint = f"add it to environments.{environment.name}.{'services' if is_service else 'accessories'}"
            yield report_at_key(source, loc, "unknown-name", message, hint)
        else:
            conflict = _explain_unmet_condition(environment.containers[name].options, condition)
            if conflict:
                reason, hint = conflict
                message = f"{format_yaml_path(loc)}: `{name}` {reason}"
                yield report_at_key(source, loc, "depends-on", message, hint)


def _explain_unmet_condition(options: Service | Accessory, condition: str) -> tuple[str, str] | None:
    """Explain why a container never reaches the state that is waited for, with a hint."""
    if options.once and condition != "completed":
        return f"runs `once`, and is never {condition}", "wait until it is `completed`"
    if condition == "completed" and not options.once:
        return "does not end", "wait until it is `started` or `healthy`; `once: true` for what ends"
    if condition == "healthy" and not options.healthcheck:
        return "has no `healthcheck`, so Docker never calls it healthy", "healthcheck: {test: [CMD, …]}; or `started`"
    return None


def _check_dependency_cycles(source: YamlSource, environment: EffectiveEnvironment) -> Problems:
    """No container waits, directly or through others, for itself."""
    waits = {name: set(container.options.depends_on) for name, container in environment.containers.items()}
    waits = _drop_repeatedly(waits, lambda name, rest: not rest[name] & rest.keys())
    # What only waits for a circle is not in it.
    waits = _drop_repeatedly(waits, lambda name, rest: all(name not in others for others in rest.values()))
    if waits:
        first_container = environment.containers[next(iter(waits))]
        loc = first_container.yaml_path("depends_on")
        message = f"{format_yaml_path(loc)}: {' and '.join(waits)} wait for each other"
        yield report_at_key(source, loc, "depends-on", message, "leave out one of them")


def _drop_repeatedly(
    waits: dict[str, set[str]], is_dropped: Callable[[str, dict[str, set[str]]], bool]
) -> dict[str, set[str]]:
    """Drop entries until no entry that is left fulfils the condition."""
    while True:
        rest = {name: others for name, others in waits.items() if not is_dropped(name, waits)}
        if len(rest) == len(waits):
            return rest
        waits = rest
