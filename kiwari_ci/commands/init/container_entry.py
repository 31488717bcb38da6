"""Converts the options of a container in a Compose file to a spec, and lists those that a spec cannot have."""

import re
from collections.abc import Mapping
from typing import Any

from kiwari_ci.commands.init.compose_files import (
    COVERED_COMPOSE_KEYS,
    DetectedContainer,
    has_variable_version,
    iter_dependencies,
    iter_mounts,
    list_published_ports,
    list_secret_file_variables,
    may_contain_secret,
    summarize_value,
)
from kiwari_ci.commands.init.draft_text import CommentedMapping
from kiwari_ci.commands.init.findings import RepositoryFindings, SpecDraft
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.compose_file import split_command
from kiwari_ci.readers.duration import is_duration, parse_duration
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.readers.yaml_document import YamlMapping, YamlSequence, format_scalar
from kiwari_ci.schema.compose_keys import EXTRA_COMPOSE_KEYS
from kiwari_ci.schema.compose_mapping import list_written_compose_keys
from kiwari_ci.schema.services import Accessory, Service
from kiwari_ci.schema.text_formats import (
    ContainerEnvKey,
    Duration,
    EnvFileKey,
    LabelKey,
    MemorySize,
    NetworkName,
    PlainText,
    PublishedPort,
    TextLine,
    VolumeMount,
)
from kiwari_ci.spec_loading.yaml_source import YamlPath

UNKNOWN_VERSION = "VERSION"  # no image has this tag, so that nothing starts before a person has answered
_PIPELINE_KEYS = {"restart", "init", "pull_policy", "platform"}  # the pipeline's, or the runner's
# The keys that fields of the spec write; tests/test_init_fields.py tests that each of them is converted or reported.
_CONVERTED_KEYS = {
    *list_written_compose_keys(Service),
    *list_written_compose_keys(Accessory),
    "deploy",  # its limits and replicas
    "scale",
    "profiles",
}
_IS_ENV_KEY = vocabulary.build_validator(EnvFileKey)
_IS_CONTAINER_ENV_KEY = vocabulary.build_validator(ContainerEnvKey)
_IS_PLAIN_TEXT = vocabulary.build_validator(PlainText)
_IS_LABEL_KEY = vocabulary.build_validator(LabelKey)
_IS_ARGUMENT = vocabulary.build_validator(TextLine)
_IS_MEMORY = vocabulary.build_validator(MemorySize)
_IS_DURATION = vocabulary.build_validator(Duration)
_IS_VOLUME = vocabulary.build_validator(VolumeMount)
_IS_PUBLISHED_PORT = vocabulary.build_validator(PublishedPort)
_IS_NETWORK_NAME = vocabulary.build_validator(NetworkName)
_IGNORED_DEPLOY_KEYS = {"resources", "replicas", "restart_policy", "labels", "update_config"}
_DEFAULT_LOG_DRIVERS = ("", "json-file", "local")
_DEFAULT_CHECK_INTERVAL = 30  # seconds, as Docker has it
_DEFAULT_START = 60  # seconds that a deploy waits for a new container
_LONGEST_START = 3600  # seconds that a spec may name
_LOG_LIMITS = {"max-size", "max-file", "compress"}  # the generated stack limits logs by itself


def build_service_options(
    container: DetectedContainer, names: Mapping[str, str], network: str
) -> tuple[CommentedMapping, list[str]]:
    """Build the options of a service's container, and notes on those that the spec cannot have.

    `names` are the names in the spec of the containers that it has.
    """
    table, unsupported = _build_common_options(container, names, network)
    compose = container.table
    replicas = compose.get("scale") or compose.get_mapping("deploy").get("replicas")
    if isinstance(replicas, int) and 1 < replicas <= 20:
        table.put("replicas", replicas, compose.where("deploy" if "deploy" in compose else "scale"))
    elif replicas not in (None, 1):
        unsupported.append(f"replicas {format_scalar(replicas)}")
    healthcheck = compose.get("healthcheck")
    if healthcheck and not container.health:
        summary = summarize_value(healthcheck)
        unsupported.append(f"healthcheck ({summary})" if summary else "healthcheck")
    return table, unsupported


def add_published_ports(container: DetectedContainer, table: CommentedMapping, is_kept: bool) -> list[str]:
    """Add the ports of the server that lead to a service; those that the spec does not say are returned.

    They are kept where a proxy of the server itself leads to them, and else nobody needs them.
    """
    ports = [
        vocabulary.interpolate_variables(port, container.variables) or port
        for port in list_published_ports(container.table)
    ]
    kept_ports = [port for port in ports if is_kept and _IS_PUBLISHED_PORT(port)]
    if kept_ports:
        table.put("ports", kept_ports, container.table.where("ports"))
    return [port for port in ports if port not in kept_ports]


def build_accessory_entry(
    container: DetectedContainer, names: Mapping[str, str], network: str, runs_once: bool
) -> tuple[CommentedMapping, list[str]]:
    """Build the entry of an accessory, and notes on what it cannot have."""
    table = CommentedMapping()
    _add_image(container, table)
    if runs_once:
        table.put("once", True, "it runs to its end")
    unsupported = _add_environment_keys(container, table)
    common_options, unsupported_options = _build_common_options(container, names, network)
    table |= common_options
    open_ports = _add_local_ports(container, table)
    compose = container.table
    healthcheck = _convert_healthcheck(container)
    if healthcheck:
        table.put("healthcheck", healthcheck, compose.where("healthcheck"))
    elif compose.get("healthcheck"):
        unsupported.append("healthcheck")
    unsupported += [f"the domain {domain.value}" for domain in container.domains]
    if open_ports:
        unsupported.append(f"ports {', '.join(open_ports)}, open to others than this machine")
    if container.env_files:
        unsupported.append(f"env_file {', '.join(str(file.value) for file in container.env_files)}")
    return table, [*unsupported, *unsupported_options]


def _add_image(container: DetectedContainer, table: CommentedMapping) -> None:
    """Add the image; where only a variable says its version, a placeholder that a person must replace."""
    where = container.table.where("image")
    if has_variable_version(container.image):
        repository = parse_image_reference(container.image).repository
        note = f"could not tell the version: {where} has {container.image}; write: image: {repository}:…"
        table.put("image", f"{repository}:{UNKNOWN_VERSION}", note)
    else:
        table.put("image", container.image, where)


def _add_local_ports(container: DetectedContainer, table: CommentedMapping) -> list[str]:
    """Add the ports that only the host itself reaches; the others are returned."""
    local_ports = []
    open_ports = []
    for port in list_published_ports(container.table):
        text = vocabulary.interpolate_variables(port, container.variables) or port
        is_local = text.startswith("127.0.0.1:") and _IS_PUBLISHED_PORT(text)
        if is_local:
            local_ports.append(text)
        else:
            open_ports.append(text)
    if local_ports:
        table.put("ports", local_ports, container.table.where("ports"))
    return open_ports


def _build_common_options(
    container: DetectedContainer, names: Mapping[str, str], network: str
) -> tuple[CommentedMapping, list[str]]:
    """What services and accessories have in common, and notes on what the spec cannot say."""
    table = CommentedMapping()
    unsupported: list[str] = []
    compose = container.table
    unsupported += _add_command(container, table)
    volumes = list_portable_volumes(container)
    if volumes:
        table.put("volumes", volumes, compose.where("volumes"))
    unsupported += [f"volume {mount}" for _, mount in iter_mounts(container) if mount not in volumes]
    dependencies = {names[name]: condition for name, condition in iter_dependencies(container) if name in names}
    if dependencies:
        table.put("depends_on", dependencies, compose.where("depends_on"))
    labels, unsupported_labels = _convert_labels(container)
    if labels:
        table.put("labels", labels, compose.where("labels"))
    unsupported += [f"label {key}" for key in unsupported_labels]
    _add_networks(container, table, network)
    unsupported += _add_resource_limits(container, table)
    restart = compose.get_text("restart")
    if restart.startswith(("no", "on-failure:")):
        unsupported.append(f"restart: {restart}")
    unsupported += _add_compose_keys(container, table)
    return table, [*unsupported, *container.unsupported]


def _add_command(container: DetectedContainer, table: CommentedMapping) -> list[str]:
    """Add the command and the entrypoint; notes on those of which a part is not known, or may be a secret."""
    compose = container.table
    if compose.get("entrypoint") in ("", []):
        return _add_command_without_entrypoint(container, table)
    unsupported = []
    for key in ("command", "entrypoint"):
        words = parse_command(container, key)
        if words:
            table.put(key, words, compose.where(key))
        elif compose.get(key):
            unsupported.append(f"{key} ({summarize_value(compose[key])})")
    return unsupported


def _add_command_without_entrypoint(container: DetectedContainer, table: CommentedMapping) -> list[str]:
    """Add the command of a container that takes away the image's entrypoint: its first word is the program."""
    compose = container.table
    words = parse_command(container)
    if not words:
        return [f"an empty entrypoint, with the command ({summarize_value(compose.get('command'))})"]
    program, *arguments = words
    table.put("entrypoint", [program], f"{compose.where('entrypoint')}: empty, so that the command runs itself")
    if arguments:
        table.put("command", arguments, compose.where("command"))
    return []


def _add_networks(container: DetectedContainer, table: CommentedMapping, shared_network: str) -> None:
    """Add the external networks beside the one that the proxy and the services share."""
    names = [network.value for network in container.networks if network.value != shared_network]
    if names:
        networks = [{"external": name} for name in names if _IS_NETWORK_NAME(name)]
        table.put("networks", networks, container.table.where("networks"))


def _add_compose_keys(container: DetectedContainer, table: CommentedMapping) -> list[str]:
    """Add the keys that the spec passes to Compose as they are; notes on those that it cannot have."""
    compose = container.table
    ignored_keys = set(_PIPELINE_KEYS)
    logging = compose.get_mapping("logging")
    if logging.get_text("driver") in _DEFAULT_LOG_DRIVERS and logging.get_mapping("options").keys() <= _LOG_LIMITS:
        ignored_keys.add("logging")
    allowed_keys = EXTRA_COMPOSE_KEYS - ignored_keys - COVERED_COMPOSE_KEYS
    extra = {}
    for key, value in compose.items():
        if key in allowed_keys and summarize_value(value) != "…":
            interpolated = _interpolate_nested(value, container)
            if interpolated is not None:
                extra[key] = interpolated
    if extra:
        table.put("compose", extra, "as they are")
    known_keys = COVERED_COMPOSE_KEYS | _CONVERTED_KEYS | set(extra) | ignored_keys
    other_keys = [key for key in compose if key not in known_keys and not key.startswith("x-")]
    return [f"{key} ({_summarize_key(compose, key)})" for key in other_keys]


def _summarize_key(compose: YamlMapping, key: str) -> str:
    """The value of a key in a few words; of secrets and configs the names."""
    if key not in ("secrets", "configs"):
        return summarize_value(compose[key])
    names = []
    for item, _ in compose.list_items(key):
        names.append(item.get_text("source") if isinstance(item, YamlMapping) else format_scalar(item))
    return ", ".join(names)


def ask_about_secret_files(draft: SpecDraft, entry_path: tuple[str, str], container: DetectedContainer) -> None:
    """Ask about variables with the path of a secret of Compose: the file is not there any more."""
    keys = list_secret_file_variables(container)
    if keys:
        question = (
            f"{entry_path[1]} reads the files of {', '.join(keys)}, which are `secrets` of Compose today, and which no "
            f"deploy puts there: write {', '.join(key.removesuffix('_FILE') for key in keys)} as `{{secret: true}}` "
            "under `env`, if the program takes them; or mount the files under `volumes`"
        )
        draft.decide(entry_path, question)


def ask_about_port_variables(
    draft: SpecDraft,
    entry_path: tuple[str, str],
    container: DetectedContainer,
    table: CommentedMapping,
    known: Mapping[str, str],
) -> None:
    """Ask about ports whose variables have only a default, or a value of an example; `known` are written by deploys."""
    ports = list_published_ports(container.table)
    names = dict.fromkeys(name for port in ports for name in vocabulary.list_variables(port) if name not in known)
    if names and "ports" in table:
        question = (
            f"the ports of {entry_path[1]}: {container.table.where('ports')} has {', '.join(names)}, and these values "
            "are those of a default or an example: write those of the server"
        )
        draft.decide((*entry_path, "ports"), question)


def parse_command(container: DetectedContainer, key: str = "command") -> list[str]:
    """The words of a command, as Compose splits them; none when a variable in it is not known."""
    return _interpolate_arguments(split_command(container.table.get(key)), container)


def _interpolate_arguments(texts: list[str], container: DetectedContainer) -> list[str]:
    """The words of a command with their variables replaced; none when one is not known, or may be a secret."""
    words = []
    for text in texts:
        word = vocabulary.interpolate_variables(_join_continued_lines(text), container.variables)
        if word is None or not _IS_ARGUMENT(word):
            return []
        words.append(vocabulary.escape_dollar_signs(word))
    return [] if may_contain_secret(" ".join(words)) else words


def _join_continued_lines(text: str) -> str:
    """A script whose lines each continue on the next one, written as one line: it means the same to the shell."""
    if "\n" not in text:
        return text
    lines = [line.strip() for line in text.strip().split("\n")]
    is_continued = all(line.endswith(("&&", "||", "|")) for line in lines[:-1])
    return " ".join(lines) if is_continued else text


def list_portable_volumes(container: DetectedContainer) -> list[str]:
    """Volumes and folders of the host; those beside today's compose file are left out."""
    return [
        mount
        for source, mount in iter_mounts(container)
        if _IS_VOLUME(mount) and not source.startswith(".") and source != "tmpfs"
    ]


def add_volume_decision(
    draft: SpecDraft, facts: RepositoryFindings, entry_path: YamlPath, container: DetectedContainer
) -> None:
    """Ask about data that stays behind when the stack gets another name, and say what the same name costs."""
    keeps_projects = bool(facts.environments) and all(each.name in facts.stack_names for each in facts.environments)
    names = {volume.partition(":")[0] for volume in list_portable_volumes(container)}
    if any(not name.startswith("/") and name not in container.existing_volumes for name in names):
        if keeps_projects:
            question = (
                f"{entry_path[1]} has volumes, which keep their names in today's project: the price is that "
                "`docker compose down` in today's folder stops the new containers, too"
            )
        else:
            question = (
                f"{entry_path[1]} has volumes, which Compose calls STACK_VOLUME: "
                "a stack with a new name starts with empty ones, unless `volumes` of the environment names today's"
            )
        draft.decide((*entry_path, "volumes"), question)


def _convert_labels(container: DetectedContainer) -> tuple[dict[str, str], list[str]]:
    """The labels that the spec can have, and the keys of the others; those that a proxy reads are neither."""
    labels: dict[str, str] = {}
    unsupported: list[str] = []
    compose = container.table
    for key, value, _ in [*compose.iter_pairs("labels"), *compose.get_mapping("deploy").iter_pairs("labels")]:
        if re.match(r"traefik\.|caddy", key):
            continue
        text = vocabulary.interpolate_variables(value, container.variables)
        if text and _is_plain_label(key, text):
            labels[key] = vocabulary.escape_dollar_signs(text)
        else:
            unsupported.append(key)
    return labels, unsupported


def _is_plain_label(key: str, text: str) -> bool:
    is_valid = _IS_LABEL_KEY(key) and _IS_ARGUMENT(text)
    return is_valid and not may_contain_secret(text) and not vocabulary.is_secret(key, text)


def _add_resource_limits(container: DetectedContainer, table: CommentedMapping) -> list[str]:
    """Add memory, processors and the time to stop; notes on what of `deploy` is left."""
    unsupported: list[str] = []
    compose = container.table
    deploy = compose.get_mapping("deploy")
    resources = deploy.get_mapping("resources")
    limits = resources.get_mapping("limits")
    memory = (limits.get_text("memory") or compose.get_text("mem_limit")).lower().removesuffix("b")
    if _IS_MEMORY(memory):
        table.put("mem_limit", memory, limits.where("memory") if limits else compose.where("mem_limit"))
    elif memory:
        unsupported.append(f"mem_limit ({memory})")
    cpus = limits.get_text("cpus") or compose.get_text("cpus")
    if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,2})?", cpus) and float(cpus) >= 0.01:
        number = float(cpus)
        table.put("cpus", int(number) if number.is_integer() else number, (limits or compose).where("cpus"))
    grace_period = _convert_to_seconds(compose.get_text("stop_grace_period"))
    if grace_period:
        table.put("stop_grace_period", grace_period, compose.where("stop_grace_period"))
    other_limits = [key for key in limits if key not in ("memory", "cpus")]
    other_limits += resources.get_mapping("reservations")
    if other_limits:
        unsupported.append(f"resources ({', '.join(other_limits)})")
    other_keys = sorted(set(deploy) - _IGNORED_DEPLOY_KEYS)
    if other_keys:
        unsupported.append(f"deploy ({', '.join(other_keys)})")
    return unsupported


def _convert_to_seconds(text: str) -> str:
    """`1m30s` as `90s`, which a spec can have; empty for what is no such duration."""
    if _IS_DURATION(text):
        return text
    duration = f"{parse_duration(text)}s" if is_duration(text) else ""
    return duration if _IS_DURATION(duration) else ""


def has_healthcheck(container: DetectedContainer) -> bool:
    """Whether the entry of an accessory has a health check: its own, as far as the spec can write it."""
    return bool(_convert_healthcheck(container))


def describe_healthcheck_wait(container: DetectedContainer) -> tuple[str, str]:
    """How long a container may take to become healthy today, as `health.start_period`, and how that adds up.

    Empty where that is no longer than a deploy waits by itself, or where the check does not say it.
    """
    check = container.table.get_mapping("healthcheck")
    written_interval = check.get_text("interval")
    interval = _parse_seconds(written_interval) if written_interval else _DEFAULT_CHECK_INTERVAL
    if not interval:
        return "", ""
    start_seconds = _parse_seconds(check.get_text("start_period"))
    written_retries = check.get("retries")
    retries = written_retries if isinstance(written_retries, int) else 0
    seconds = min(start_seconds + retries * interval, _LONGEST_START)
    if seconds <= _DEFAULT_START:
        return "", ""
    parts = [f"start_period {check.get_text('start_period')}"] if start_seconds else []
    parts += [f"{retries} checks every {interval}s"] if retries else []
    period = f"{seconds}s" if seconds % 60 else f"{seconds // 60}m"
    return period, " and ".join(parts)


def _parse_seconds(text: str) -> int:
    """The seconds of a duration of Compose; 0 for what is none."""
    seconds = _convert_to_seconds(text)
    if not seconds:
        return 0
    return int(seconds[:-1]) * (60 if seconds.endswith("m") else 1)


def _convert_healthcheck(container: DetectedContainer) -> dict[str, Any]:
    """Docker's health check as the spec writes it; empty for one that it cannot write."""
    check = container.table.get_mapping("healthcheck")
    test = check.get("test")
    if not test:
        return {}
    if isinstance(test, YamlSequence):
        texts = [format_scalar(item) for item in test]
    else:
        texts = ["CMD-SHELL", format_scalar(test)]
    words = _interpolate_arguments(texts, container)
    if not words:
        return {}
    healthcheck: dict[str, Any] = {"test": words}
    for key in ("interval", "timeout", "start_period"):
        seconds = _convert_to_seconds(check.get_text(key))
        if seconds:
            healthcheck[key] = seconds
    if isinstance(check.get("retries"), int):
        healthcheck["retries"] = check["retries"]
    return healthcheck


def _add_environment_keys(container: DetectedContainer, table: CommentedMapping) -> list[str]:
    """Add plain values to `environment`, and secrets and unknown values to `env`."""
    env = CommentedMapping()
    environment = CommentedMapping()
    unsupported = []
    for key, written_value, where in container.env:
        value = container.passed_on.get(key, written_value)
        is_plain = value is not None and not vocabulary.is_secret(key, value) and _IS_PLAIN_TEXT(value)
        if not _IS_CONTAINER_ENV_KEY(key) or not (is_plain or _IS_ENV_KEY(key)):
            unsupported.append(f"environment {key} ({where})")
        elif value is None or not is_plain:
            env.put(key, {"secret": True}, where)
        else:
            environment.put(key, vocabulary.escape_dollar_signs(value), where)
    if env:
        table["env"] = env
    if environment:
        table["environment"] = environment
    return unsupported


def _interpolate_nested(value: Any, container: DetectedContainer) -> Any:
    """A value of Compose with its variables replaced; None when one is not known."""
    if isinstance(value, YamlMapping):
        mapping = {key: _interpolate_nested(inner, container) for key, inner in value.items()}
        return None if None in mapping.values() else mapping
    if isinstance(value, YamlSequence):
        items = [_interpolate_nested(item, container) for item in value]
        return None if None in items else items
    if not isinstance(value, str):
        return value
    text = vocabulary.interpolate_variables(value, container.variables)
    return None if text is None else vocabulary.escape_dollar_signs(text)
