"""Keys of a Compose service: which of them a spec may add below `compose:`, and with what values."""

import re
from collections.abc import Callable
from typing import Any

from kiwari_ci.frozen import dataclass
from kiwari_ci.schema.compose_mapping import list_written_compose_keys
from kiwari_ci.schema.services import Accessory, Service

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
COMPOSE_KEY_ALTERNATIVES = {
    "build": "`build` of the service: an image comes from the registry",
    "configs": "`volumes: [./FILE:/PATH:ro]`, a file beside the compose file",
    "container_name": "`containers` of the environment",
    "deploy": "`mem_limit`, `cpus` and `replicas`; for a reservation, `compose: {mem_reservation: 256m}`",
    "env_file": "`env`: an env file has the keys that it names",
    "extends": "what services have in common, in `service_defaults`",
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
EXTRA_COMPOSE_KEYS = COMPOSE_SERVICE_KEYS - _WRITTEN_BY_FIELDS - COMPOSE_KEY_ALTERNATIVES.keys()


@dataclass(frozen=True)
class ComposeValueForm:
    """What Compose takes as the value of a key, in words, with an example in YAML."""

    accepts: Callable[[Any], bool]
    expected: str
    example: str


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text_or_number(value: Any) -> bool:
    return _is_text(value) or _is_number(value)


def _is_size(value: Any) -> bool:
    """Whether it is a number of bytes, or an amount with a unit as Compose reads it."""
    if _is_number(value):
        return True
    return isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)? ?([bkmg]b?)?", value, re.IGNORECASE) is not None


def _is_swap_size(value: Any) -> bool:
    """Whether it is a size, or -1 for as much as there is."""
    return _is_size(value) or value == "-1"


def _is_truth_value(value: Any) -> bool:
    return isinstance(value, bool)


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(_is_text(entry) for entry in value)


def _is_text_or_list(value: Any) -> bool:
    return _is_text(value) or _is_list_of_texts(value)


def _is_list_or_mapping(value: Any) -> bool:
    return _is_list_of_texts(value) or isinstance(value, dict)


def _are_limits(value: Any) -> bool:
    """Whether each limit is a number, or has `soft` and `hard`."""
    if not isinstance(value, dict):
        return False
    return all(
        _is_number(limit) or (isinstance(limit, dict) and limit.keys() == {"soft", "hard"}) for limit in value.values()
    )


def _is_logging(value: Any) -> bool:
    """Whether it has a driver, and options that are text or numbers."""
    if not isinstance(value, dict) or not value.keys() <= {"driver", "options"}:
        return False
    options = value.get("options", {})
    return isinstance(options, dict) and all(_is_text_or_number(option) for option in options.values())


_VALUE_FORMS = {
    "cap_add": ComposeValueForm(_is_list_of_texts, "a list of capabilities", "[NET_ADMIN]"),
    "cap_drop": ComposeValueForm(_is_list_of_texts, "a list of capabilities", "[ALL]"),
    "devices": ComposeValueForm(_is_list_of_texts, "a list of texts", "['/dev/ttyUSB0:/dev/ttyUSB0']"),
    "dns": ComposeValueForm(_is_text_or_list, "an address or a list of them", "[1.1.1.1]"),
    "extra_hosts": ComposeValueForm(
        _is_list_or_mapping, "a list of texts, or a mapping", "['host.docker.internal:host-gateway']"
    ),
    "group_add": ComposeValueForm(
        lambda value: isinstance(value, list) and all(map(_is_text_or_number, value)), "a list of groups", "['1000']"
    ),
    "hostname": ComposeValueForm(_is_text, "a text", "web"),
    "init": ComposeValueForm(_is_truth_value, "true or false", "true"),
    "logging": ComposeValueForm(
        _is_logging,
        "a mapping with `driver` and `options`",
        "{driver: json-file, options: {max-size: 20m, max-file: 5}}",
    ),
    "mem_reservation": ComposeValueForm(_is_size, "an amount of memory", "128m"),
    "memswap_limit": ComposeValueForm(_is_swap_size, "an amount of memory", "1g"),
    "pids_limit": ComposeValueForm(_is_number, "a number", "200"),
    "platform": ComposeValueForm(_is_text, "a text", "linux/amd64"),
    "privileged": ComposeValueForm(_is_truth_value, "true or false", "true"),
    "read_only": ComposeValueForm(_is_truth_value, "true or false", "true"),
    "restart": ComposeValueForm(
        lambda value: value in ("no", "always", "unless-stopped") or str(value).startswith("on-failure"),
        "'no', always, on-failure or unless-stopped",
        "always",
    ),
    "security_opt": ComposeValueForm(_is_list_of_texts, "a list of texts", "['no-new-privileges:true']"),
    "shm_size": ComposeValueForm(_is_size, "an amount of memory", "256m"),
    "stop_signal": ComposeValueForm(_is_text, "a text", "SIGQUIT"),
    "sysctls": ComposeValueForm(_is_list_or_mapping, "a list of texts, or a mapping", "{net.core.somaxconn: 1024}"),
    "tmpfs": ComposeValueForm(_is_text_or_list, "a path or a list of them", "[/tmp]"),
    "ulimits": ComposeValueForm(
        _are_limits, "a mapping of numbers, or of `soft` and `hard`", "{nofile: {soft: 65536, hard: 65536}}"
    ),
    "user": ComposeValueForm(_is_text, "a text", "'1000:1000'"),
    "working_dir": ComposeValueForm(_is_text, "a text", "/srv"),
}


def find_compose_value_form(key: str, value: Any) -> ComposeValueForm | None:
    """Find what Compose takes for a key if it does not take this value; other keys Compose itself checks."""
    form = _VALUE_FORMS.get(key)
    return None if form is None or form.accepts(value) else form


def suggest_compose_key(key: str) -> str:
    """Suggest how to write a key of Compose that is no field of a container; empty for what is no such key."""
    if key in COMPOSE_KEY_ALTERNATIVES:
        return COMPOSE_KEY_ALTERNATIVES[key]
    if key not in EXTRA_COMPOSE_KEYS:
        return ""
    form = _VALUE_FORMS.get(key)
    return f"compose: {{{key}: {form.example if form else '…'}}}"
