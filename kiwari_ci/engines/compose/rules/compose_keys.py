"""Keys of a Compose service that a spec may add below `compose:`."""

from collections.abc import Iterator

from kiwari_ci.effective import EffectiveContainer, EffectiveSpec
from kiwari_ci.loading.suggestions import suggest_closest
from kiwari_ci.loading.validation import format_yaml_path, report_at_key
from kiwari_ci.loading.yaml_source import YamlSource
from kiwari_ci.problems import Problem
from kiwari_ci.schema import Accessory, Service
from kiwari_ci.schema.compose_mapping import list_written_compose_keys

# All keys of a service in the Compose specification that a spec could mean.
COMPOSE_SERVICE_KEYS = frozenset(
    {
        "annotations", "attach", "blkio_config", "build", "cap_add", "cap_drop", "cgroup", "cgroup_parent", "command",
        "configs", "container_name", "cpu_count", "cpu_percent", "cpu_period", "cpu_quota", "cpu_rt_period",
        "cpu_rt_runtime", "cpu_shares", "cpus", "cpuset", "depends_on", "deploy", "device_cgroup_rules", "devices",
        "dns", "dns_opt", "dns_search", "domainname", "entrypoint", "env_file", "environment", "expose", "extends",
        "extra_hosts", "gpus", "group_add", "healthcheck", "hostname", "image", "init", "ipc", "isolation", "labels",
        "links", "logging", "mac_address", "mem_limit", "mem_reservation", "mem_swappiness", "memswap_limit",
        "network_mode", "networks", "oom_kill_disable", "oom_score_adj", "pid", "pids_limit", "platform", "ports",
        "post_start", "pre_stop", "privileged", "profiles", "pull_policy", "read_only", "restart", "runtime", "scale",
        "secrets", "security_opt", "shm_size", "stdin_open", "stop_grace_period", "stop_signal", "storage_opt",
        "sysctls", "tmpfs", "tty", "ulimits", "user", "userns_mode", "uts", "volumes", "volumes_from", "working_dir",
    }
)  # fmt: skip
# Keys that no field writes under their own name, or that a field of another name writes: what to write instead.
_ALTERNATIVES = {
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
# Each field declares the key that it writes. `restart`, `init`, `logging`, `security_opt` and `cap_drop` may be added:
# they replace the default.
_WRITTEN_BY_FIELDS = frozenset({*list_written_compose_keys(Service), *list_written_compose_keys(Accessory)})
EXTRA_COMPOSE_KEYS = COMPOSE_SERVICE_KEYS - _WRITTEN_BY_FIELDS - _ALTERNATIVES.keys()


def check_compose_keys(source: YamlSource, spec: EffectiveSpec) -> Iterator[Problem]:
    """Find keys of Compose that the pipeline writes itself, or that nobody knows."""
    for environment in spec.environments_on("compose"):
        for container in environment.containers.values():
            yield from _check_container(source, container)


def _check_container(source: YamlSource, container: EffectiveContainer) -> Iterator[Problem]:
    for key in container.options.compose:
        loc = container.yaml_path("compose", key)
        alternative = _find_alternative(type(container.options), key)
        if alternative:
            message = f"{format_yaml_path(loc)}: the pipeline writes `{key}` itself"
            yield report_at_key(source, loc, "compose", message, alternative)
        elif key not in EXTRA_COMPOSE_KEYS:
            message = f"{format_yaml_path(loc)}: no `{key}` in what may be added to a Compose service"
            yield report_at_key(source, loc, "compose", message, suggest_closest(key, sorted(EXTRA_COMPOSE_KEYS)))


def _find_alternative(model: type[Service] | type[Accessory], key: str) -> str:
    """Find what to write instead of a key of Compose; empty when it may be added."""
    if key in _ALTERNATIVES:
        return _ALTERNATIVES[key]
    if key in model.model_fields:
        return f"`{key}` of the spec"
    field = list_written_compose_keys(model).get(key)
    return f"`{field}` of the spec" if field else ""
