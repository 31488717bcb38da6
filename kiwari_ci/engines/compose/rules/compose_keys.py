"""Keys of a Compose service that a spec may add below `compose:`."""

from collections.abc import Iterator

from kiwari_ci.effective import EffectiveContainer, EffectiveSpec
from kiwari_ci.loading.suggestions import suggest_closest
from kiwari_ci.loading.validation import format_yaml_path, report_at_key
from kiwari_ci.loading.yaml_source import YamlSource
from kiwari_ci.problems import Problem

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


def check_compose_keys(source: YamlSource, spec: EffectiveSpec) -> Iterator[Problem]:
    """Find keys of Compose that the pipeline writes itself, or that nobody knows."""
    for environment in spec.environments.values():
        for container in environment.containers.values():
            yield from _check_container(source, container)


def _check_container(source: YamlSource, container: EffectiveContainer) -> Iterator[Problem]:
    fields = type(container.options).model_fields
    for key in container.options.compose:
        loc = container.yaml_path("compose", key)
        if key in _COMPOSE_ALTERNATIVES or key in fields:
            message = f"{format_yaml_path(loc)}: the pipeline writes `{key}` itself"
            hint = _COMPOSE_ALTERNATIVES.get(key, f"`{key}` of the spec")
            yield report_at_key(source, loc, "compose", message, hint)
        elif key not in EXTRA_COMPOSE_KEYS:
            message = f"{format_yaml_path(loc)}: no `{key}` in what may be added to a Compose service"
            yield report_at_key(source, loc, "compose", message, suggest_closest(key, sorted(EXTRA_COMPOSE_KEYS)))
