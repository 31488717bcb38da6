"""How a container runs: what Compose is told of it, in the words of the spec; and what has no field there."""

import re
import shlex
from collections.abc import Mapping
from typing import Any

from kiwari_ci.commands.init.compose_files import (
    COVERED_COMPOSE_KEYS,
    DetectedContainer,
    has_variable_version,
    iter_dependencies,
    iter_mounts,
    list_published_ports,
    may_contain_secret,
    summarize_value,
)
from kiwari_ci.commands.init.draft_text import CommentedMapping
from kiwari_ci.commands.init.findings import SpecDraft
from kiwari_ci.engines.compose.rules.compose_keys import EXTRA_COMPOSE_KEYS
from kiwari_ci.loading.yaml_source import YamlPath
from kiwari_ci.readers import vocabulary
from kiwari_ci.readers.image_reference import parse_image_reference
from kiwari_ci.readers.yaml_document import YamlMapping, YamlSequence, format_scalar
from kiwari_ci.schema.text_formats import (
    Duration,
    EnvKey,
    LabelKey,
    MemorySize,
    NetworkName,
    PlainText,
    PublishedPort,
    TextLine,
    VolumeMount,
)

UNKNOWN_VERSION = "VERSION"  # no image has this tag, so that nothing starts before a person has answered
_PIPELINE_KEYS = {"restart", "init", "pull_policy", "platform"}  # the pipeline's, or the runner's
_CONVERTED_KEYS = {
    "command", "entrypoint", "volumes", "depends_on", "mem_limit", "cpus", "stop_grace_period", "deploy", "scale",
    "healthcheck", "labels", "networks", "ports", "environment", "env_file", "profiles",
}  # fmt: skip
_IS_ENV_KEY, _IS_PLAIN_TEXT, _IS_LABEL_KEY, _IS_ARGUMENT = map(
    vocabulary.build_validator, (EnvKey, PlainText, LabelKey, TextLine)
)
_IS_MEMORY, _IS_DURATION, _IS_VOLUME, _IS_PUBLISHED_PORT, _IS_NETWORK_NAME = map(
    vocabulary.build_validator, (MemorySize, Duration, VolumeMount, PublishedPort, NetworkName)
)


def build_service_options(
    container: DetectedContainer, named: Mapping[str, str], network: str
) -> tuple[CommentedMapping, list[str]]:
    """What a service's container adds to its entry, and what is left in words; `named`: containers the spec has."""
    table, left = _build_common_options(container, named, network)
    given = container.table
    replicas = given.get("scale") or given.get_mapping("deploy").get("replicas")
    if isinstance(replicas, int) and 1 < replicas <= 20:
        table.put("replicas", replicas, given.where("deploy" if "deploy" in given else "scale"))
    elif replicas not in (None, 1):
        left.append(f"replicas {format_scalar(replicas)}")
    if (check := given.get("healthcheck")) and not container.health:
        left.append(f"healthcheck ({told})" if (told := summarize_value(check)) else "healthcheck")
    ports = list_published_ports(given)
    return table, [*left, *([f"ports {', '.join(ports)}"] if ports else [])]


def build_accessory_entry(
    container: DetectedContainer, named: Mapping[str, str], network: str, once: bool
) -> tuple[CommentedMapping, list[str]]:
    """The entry of somebody else's image, and what is left in words."""
    table = CommentedMapping()
    _add_image(container, table)
    if once:
        table.put("once", True, "others wait until it has ended")
    left = _add_environment_keys(container, table)
    more, others = _build_common_options(container, named, network)
    table |= more
    given = container.table
    ports = [
        vocabulary.interpolate_variables(port, container.variables) or port for port in list_published_ports(given)
    ]
    if local := [port for port in ports if port.startswith("127.0.0.1:") and _IS_PUBLISHED_PORT(port)]:
        table.put("ports", local, given.where("ports"))
    if check := _convert_healthcheck(container):
        table.put("healthcheck", check, given.where("healthcheck"))
    elif given.get("healthcheck"):
        left.append("healthcheck")
    open_ = [port for port in ports if port not in local]
    left += [f"the domain {fact.value}" for fact in container.domains]
    left += [f"ports {', '.join(open_)}, open to others than this machine"] if open_ else []
    left += [f"env_file {', '.join(str(file.value) for file in container.env_files)}"] if container.env_files else []
    return table, [*left, *others]


def _add_image(container: DetectedContainer, table: CommentedMapping) -> None:
    """Add the image; where only a variable says its version, a placeholder that a person must replace."""
    where = container.table.where("image")
    if has_variable_version(container.image):
        repository = parse_image_reference(container.image).repository
        note = f"could not tell the version: {where} has {container.image}; write: image: {repository}:…"
        table.put("image", f"{repository}:{UNKNOWN_VERSION}", note)
    else:
        table.put("image", container.image, where)


def _build_common_options(
    container: DetectedContainer, named: Mapping[str, str], network: str
) -> tuple[CommentedMapping, list[str]]:
    table, left, given = CommentedMapping(), list[str](), container.table
    for key in ("command", "entrypoint"):
        if line := parse_command(container, key):
            table.put(key, line, given.where(key))
        elif given.get(key):
            left.append(f"{key} ({summarize_value(given[key])})")
    if kept := list_portable_volumes(container):
        table.put("volumes", kept, given.where("volumes"))
    left += [f"volume {each}" for _, each in iter_mounts(container) if each not in kept]
    if waits := {named[name]: how for name, how in iter_dependencies(container) if name in named}:
        table.put("depends_on", waits, given.where("depends_on"))
    labels, untold = _convert_labels(container)
    if labels:
        table.put("labels", labels, given.where("labels"))
    left += [f"label {key}" for key in untold]
    if others := [{"external": each.value} for each in container.networks if each.value != network]:
        table.put("networks", [each for each in others if _IS_NETWORK_NAME(each["external"])], given.where("networks"))
    left += _add_resource_limits(container, table)
    left += (
        [f"restart: {given.get_text('restart')}"] if given.get_text("restart").startswith(("no", "on-failure:")) else []
    )
    ours = _PIPELINE_KEYS | (
        {"logging"} if given.get_mapping("logging").get_text("driver") in ("", "json-file", "local") else set()
    )
    more = [
        (key, value)
        for key, value in given.items()
        if key in EXTRA_COMPOSE_KEYS - ours - COVERED_COMPOSE_KEYS and summarize_value(value) != "…"
    ]
    hatch = {key: _interpolate_nested(value, container) for key, value in more}
    if known := {key: value for key, value in hatch.items() if value is not None}:
        table.put("compose", known, "as they are")
    rest = [
        key
        for key in given
        if key not in COVERED_COMPOSE_KEYS | _CONVERTED_KEYS | set(known) | ours and not key.startswith("x-")
    ]
    return table, [*left, *(f"{key} ({summarize_value(given[key])})" for key in rest), *container.unsupported]


def parse_command(container: DetectedContainer, key: str = "command") -> list[str]:
    """The words of a command, as Compose splits them; none when a variable in it is not known."""
    value = container.table.get(key)
    try:
        texts = (
            [format_scalar(each) for each in value]
            if isinstance(value, YamlSequence)
            else shlex.split(format_scalar(value))
        )
    except ValueError:
        return []
    made = [vocabulary.interpolate_variables(each, container.variables) for each in texts]
    said = " ".join(filter(None, made))
    return [str(each) for each in made] if all(map(_IS_ARGUMENT, made)) and not may_contain_secret(said) else []


def list_portable_volumes(container: DetectedContainer) -> list[str]:
    """Those that are the stack's or the host's; those beside the compose file of today are left."""
    return [each for name, each in iter_mounts(container) if _IS_VOLUME(each) and name[:1] != "." and name != "tmpfs"]


def add_volume_decision(made: SpecDraft, here: YamlPath, container: DetectedContainer) -> None:
    """Data that stays behind when the stack is called otherwise."""
    if any(not each.startswith("/") for each in list_portable_volumes(container)):
        said = (
            f"the data of {here[1]}: Compose calls its volumes STACK_VOLUME; under another stack's name they are empty"
        )
        made.decide((*here, "volumes"), said)


def _convert_labels(container: DetectedContainer) -> tuple[dict[str, str], list[str]]:
    """Those that the spec can have, and the keys of the others; those that a proxy reads are not among them."""
    known, untold, given = dict[str, str](), list[str](), container.table
    for key, value, _ in [*given.iter_pairs("labels"), *given.get_mapping("deploy").iter_pairs("labels")]:
        text = vocabulary.interpolate_variables(value, container.variables)
        if re.match(r"traefik\.|caddy", key):
            continue
        if (
            text
            and _IS_LABEL_KEY(key)
            and _IS_ARGUMENT(text)
            and not (may_contain_secret(text) or vocabulary.is_secret(key, text))
        ):
            known[key] = text
        else:
            untold.append(key)
    return known, untold


def _add_resource_limits(container: DetectedContainer, table: CommentedMapping) -> list[str]:
    """Memory, processors and the time to stop; in words what of `deploy` is left."""
    given, left = container.table, list[str]()
    deploy = given.get_mapping("deploy")
    limits = deploy.get_mapping("resources").get_mapping("limits")
    memory = (limits.get_text("memory") or given.get_text("mem_limit")).lower().removesuffix("b")
    if _IS_MEMORY(memory):
        table.put("mem_limit", memory, limits.where("memory") if limits else given.where("mem_limit"))
    elif memory:
        left.append(f"mem_limit ({memory})")
    cpus = limits.get_text("cpus") or given.get_text("cpus")
    if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,2})?", cpus) and float(cpus) >= 0.01:
        number = float(cpus)
        table.put("cpus", int(number) if number == int(number) else number, (limits or given).where("cpus"))
    if grace := _convert_to_seconds(given.get_text("stop_grace_period")):
        table.put("stop_grace_period", grace, given.where("stop_grace_period"))
    more = [key for key in limits if key not in ("memory", "cpus")] + [
        *deploy.get_mapping("resources").get_mapping("reservations")
    ]
    left += [f"resources ({', '.join(more)})"] if more else []
    rest = set(deploy) - {"resources", "replicas", "restart_policy", "labels", "update_config"}
    return [*left, *([f"deploy ({', '.join(sorted(rest))})"] if rest else [])]


def _convert_to_seconds(text: str) -> str:
    """`1m30s` as `90s`; empty for what is no such time."""
    if _IS_DURATION(text):
        return text
    parts = re.fullmatch(r"(?:(\d{1,3})h)?(?:(\d{1,4})m)?(?:(\d{1,5})s)?", text)
    total = sum(int(part or 0) * unit for part, unit in zip(parts.groups(), (3600, 60, 1), strict=True)) if parts else 0
    return f"{total}s" if 0 < total < 100_000 else ""


def _convert_healthcheck(container: DetectedContainer) -> dict[str, Any]:
    check = container.table.get_mapping("healthcheck")
    test = check.get("test")
    texts = list(map(format_scalar, test)) if isinstance(test, YamlSequence) else ["CMD-SHELL", format_scalar(test)]
    made = [vocabulary.interpolate_variables(each, container.variables) for each in texts]
    if not check.get("test") or not all(map(_IS_ARGUMENT, made)) or may_contain_secret(" ".join(map(str, made))):
        return {}
    times = {key: _convert_to_seconds(check.get_text(key)) for key in ("interval", "timeout", "start_period")}
    retries = check.get("retries")
    found = {"test": made} | {key: value for key, value in times.items() if value}
    return found | ({"retries": retries} if isinstance(retries, int) else {})


def _add_environment_keys(container: DetectedContainer, table: CommentedMapping) -> list[str]:
    """Plain values stand in the compose file; secrets, and what nobody knows, in an env file."""
    env, environment, left = CommentedMapping(), CommentedMapping(), list[str]()
    for key, value, where in container.env:
        if not _IS_ENV_KEY(key):
            left.append(f"environment {key}")
        elif value is None or vocabulary.is_secret(key, value) or not _IS_PLAIN_TEXT(value):
            env.put(key, {"secret": True}, where)
        else:
            environment.put(key, value, where)
    for name, part in (("env", env), ("environment", environment)):
        if part:
            table[name] = part
    return left


def _interpolate_nested(value: Any, container: DetectedContainer) -> Any:
    """A value of Compose as it is, its variables filled in; None for one that is not known."""
    if isinstance(value, YamlMapping):
        made = {key: _interpolate_nested(each, container) for key, each in value.items()}
        return None if None in made.values() else made
    if isinstance(value, YamlSequence):
        items = [_interpolate_nested(each, container) for each in value]
        return None if None in items else items
    return vocabulary.interpolate_variables(value, container.variables) if isinstance(value, str) else value
