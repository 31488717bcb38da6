"""What containers say of themselves: images, health checks, what they wait for, and extra keys of Compose."""

from collections.abc import Iterator

from kiwari_ci.effective import derived
from kiwari_ci.loading.suggestions import suggest_closest
from kiwari_ci.loading.validation import format_yaml_path, report_at_key, report_at_value
from kiwari_ci.loading.yaml_source import YamlPath, YamlSource
from kiwari_ci.problems import Problem
from kiwari_ci.rules.images import check_image_version
from kiwari_ci.schema import Accessory, Service, Spec

Problems = Iterator[Problem]

IMAGE_FIELDS = ("image", "paths", "build", "test", "tests", "steps")
# Keys of a Compose service that a spec may add; `restart`, `init` and `logging` take the place of ours.
EXTRA_COMPOSE_KEYS = {
    "annotations", "attach", "blkio_config", "cap_add", "cap_drop", "cgroup", "cgroup_parent", "cpu_count",
    "cpu_percent", "cpu_period", "cpu_quota", "cpu_rt_period", "cpu_rt_runtime", "cpu_shares", "cpuset",
    "device_cgroup_rules", "devices", "dns", "dns_opt", "dns_search", "domainname", "expose", "extra_hosts", "gpus",
    "group_add", "hostname", "init", "ipc", "isolation", "links", "logging", "mac_address", "mem_reservation",
    "mem_swappiness", "memswap_limit", "oom_kill_disable", "oom_score_adj", "pid", "pids_limit", "platform",
    "post_start", "pre_stop", "privileged", "pull_policy", "read_only", "restart", "runtime", "security_opt",
    "shm_size", "stdin_open", "stop_signal", "storage_opt", "sysctls", "tmpfs", "tty", "ulimits", "user",
    "userns_mode", "uts", "working_dir",
}  # fmt: skip
# The others, and what says the same.
_COMPOSE_ALTERNATIVES = {
    "build": "`build` of the service: an image comes from the registry",
    "configs": "`volumes: [./FILE:/PATH:ro]`, a file beside the compose file",
    "container_name": "`containers` of the environment",
    "deploy": "`mem_limit`, `cpus` and `replicas`",
    "env_file": "`env`: an env file has the keys that it names",
    "extends": "the keys themselves",
    "image": "`image` of the spec",
    "network_mode": "`networks`: the proxy, and who asks for health, reach it over one",
    "profiles": "`services` and `accessories` of the environment",
    "scale": "`replicas`",
    "secrets": "`env: {KEY: {secret: true}}`",
    "volumes_from": "`volumes`",
}


def check_containers(source: YamlSource, given: Spec) -> Problems:
    """Faults of single services and accessories, also as an environment overrides them."""
    for check in (
        _check_shared_images,
        _check_accessory_images,
        _check_one_off_accessories,
        _check_healthcheck_commands,
        _check_dependencies,
        _check_dependency_cycles,
        _check_compose_keys,
    ):
        yield from check(source, given)


def _check_shared_images(source: YamlSource, given: Spec) -> Problems:
    """Another process of an image has nothing of the image's, and is where the image's service is."""
    for name, model in given.services.items():
        if model.image_of is None:
            continue
        for key in IMAGE_FIELDS:
            if key in model.model_fields_set:
                message = f"services.{name}.{key}: it runs the image of {model.image_of}, which says that"
                hint = f"leave out `{key}`, or `image_of` for an image of its own"
                yield report_at_key(source, ("services", name, key), "image-of", message, hint)
        for environment, place in given.environments.items():
            override = place.overrides.get(name)
            if override and "build" in override.model_fields_set:
                loc: YamlPath = ("environments", environment, "overrides", name, "build")
                message = f"{format_yaml_path(loc)}: it runs the image of {model.image_of}, which says that"
                yield report_at_key(source, loc, "image-of", message, f"overrides: {{{model.image_of}: {{build: …}}}}")
            held = derived.list_services(given, environment)
            if name in held and model.image_of not in held:
                message = f"environments.{environment} holds {name}, and not {model.image_of}, whose image it runs"
                hint = f"add {model.image_of} to environments.{environment}.services"
                yield report_at_key(source, ("environments", environment, "services"), "image-of", message, hint)


def _check_accessory_images(source: YamlSource, given: Spec) -> Problems:
    for name, model in given.accessories.items():
        yield from check_image_version(source, ("accessories", name, "image"), model.image)


def _check_one_off_accessories(source: YamlSource, given: Spec) -> Problems:
    """What runs to its end is asked nothing."""
    for name, model in given.accessories.items():
        for key in ("port", "healthcheck", "websocket") if model.once else ():
            if key in model.model_fields_set:
                message = f"accessories.{name}.{key}: it runs `once`, to its end"
                yield report_at_key(
                    source, ("accessories", name, key), "once", message, f"leave out `{key}`, or `once`"
                )


def _iter_containers(given: Spec) -> Iterator[tuple[str, str, Service | Accessory]]:
    """Each service and accessory as each environment has it."""
    for environment in given.environments:
        for name in derived.list_services_and_accessories(given, environment):
            yield environment, name, derived.resolve_container_options(given, environment, name)


def _check_healthcheck_commands(source: YamlSource, given: Spec) -> Problems:
    for environment, name, model in _iter_containers(given):
        test = model.healthcheck.test if model.healthcheck else ["CMD", ""]
        loc = derived.find_spec_path(given, environment, name, "healthcheck", "test")
        if test[0] not in ("CMD", "CMD-SHELL"):
            message = f"{format_yaml_path(loc)}: expected CMD or CMD-SHELL first, met `{test[0]}`"
            hint = "test: [CMD, redis-cli, ping]; with pipes and variables [CMD-SHELL, 'one command for the shell']"
            yield report_at_value(source, loc, "value", message, hint)
        elif test[0] == "CMD-SHELL" and len(test) > 2:
            message = f"{format_yaml_path(loc)}: CMD-SHELL takes one text, met {len(test) - 1}"
            yield report_at_value(source, loc, "value", message, "put the command in one pair of quotes, or write CMD")


def _check_dependencies(source: YamlSource, given: Spec) -> Problems:
    """What is waited for is there, and can become what is waited for."""
    for environment, name, model in _iter_containers(given):
        for other, condition in model.depends_on.items():
            loc = derived.find_spec_path(given, environment, name, "depends_on", other)
            if isinstance(model, Accessory) and other in given.services:
                message, kind = f"`{other}` is a service, and accessories are there before services", "depends-on"
                hint = "leave it out: the accessory meets a service that is not there yet, and tries again"
            elif other not in derived.list_services_and_accessories(given, environment):
                message, kind = f"environments.{environment} does not hold `{other}`", "unknown-name"
                table = "services" if other in given.services else "accessories"
                hint = f"add it to environments.{environment}.{table}"
            elif fault := _explain_unmet_condition(
                derived.resolve_container_options(given, environment, other), condition
            ):
                message, kind, hint = f"`{other}` {fault[0]}", "depends-on", fault[1]
            else:
                continue
            yield report_at_key(source, loc, kind, f"{format_yaml_path(loc)}: {message}", hint)


def _explain_unmet_condition(other: Service | Accessory, condition: str) -> tuple[str, str] | None:
    """Why something never becomes what is waited for, and the cure."""
    once = isinstance(other, Accessory) and other.once
    if once and condition != "completed":
        return f"runs `once`, and is never {condition}", "wait until it is `completed`"
    if condition == "completed" and not once:
        return "does not end", "wait until it is `started` or `healthy`; `once: true` for an accessory that ends"
    if condition == "healthy" and not other.healthcheck:
        return "has no `healthcheck`, so Docker never calls it healthy", "healthcheck: {test: [CMD, …]}; or `started`"
    return None


def _check_dependency_cycles(source: YamlSource, given: Spec) -> Problems:
    """Who waits for whom ends somewhere."""
    for environment in given.environments:
        waits = {
            name: list(derived.resolve_container_options(given, environment, name).depends_on)
            for name in derived.list_services_and_accessories(given, environment)
        }
        while free := [name for name, others in waits.items() if not set(others) & waits.keys()]:
            waits = {name: others for name, others in waits.items() if name not in free}
        while idle := waits.keys() - {other for others in waits.values() for other in others}:
            waits = {name: others for name, others in waits.items() if name not in idle}
        for name in waits:
            loc = derived.find_spec_path(given, environment, name, "depends_on")
            message = f"{format_yaml_path(loc)}: {' and '.join(waits)} wait for each other"
            yield report_at_key(source, loc, "depends-on", message, "leave out one of them")
            break


def _check_compose_keys(source: YamlSource, given: Spec) -> Problems:
    """Keys of Compose that we write ourselves, or that nobody knows."""
    for environment, name, model in _iter_containers(given):
        fields = set(type(model).model_fields)
        for key in model.compose:
            loc = derived.find_spec_path(given, environment, name, "compose", key)
            if key in _COMPOSE_ALTERNATIVES or key in fields:
                hint = _COMPOSE_ALTERNATIVES.get(key, f"`{key}` of the spec")
                yield report_at_key(
                    source, loc, "compose", f"{format_yaml_path(loc)}: the pipeline writes `{key}` itself", hint
                )
            elif key not in EXTRA_COMPOSE_KEYS:
                message = f"{format_yaml_path(loc)}: no `{key}` in what may be added to a Compose service"
                yield report_at_key(source, loc, "compose", message, suggest_closest(key, sorted(EXTRA_COMPOSE_KEYS)))
