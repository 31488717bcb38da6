"""Converts the options of a container in a Compose file to a spec, and lists those that a spec cannot have."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kiwari_ci.commands.init.compose_files import (
    COVERED_COMPOSE_KEYS,
    DetectedContainer,
    has_variable_version,
    iter_dependencies,
    iter_mounts,
    list_known_published_ports,
    list_published_ports,
    list_secret_file_variables,
    may_contain_secret,
    summarize_value,
)
from kiwari_ci.commands.init.container_commands import (
    ConvertedCommand,
    convert_check,
    convert_command,
    list_shell_names,
    locate_command,
)
from kiwari_ci.commands.init.draft_text import CommentedMapping, LineToUncomment, render_flow_style
from kiwari_ci.commands.init.findings import RepositoryFindings, SpecDraft
from kiwari_ci.readers import vocabulary
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
_NAMES_OF_EVERY_IMAGE = {"HOME", "HOSTNAME", "PATH", "PWD", "USER"}
_LOG_LIMITS = {"max-size", "max-file", "compress"}  # the generated stack limits logs by itself


@dataclass
class ConvertedOptions:
    """The options of a container in the words of the spec, and what a person must know of them."""

    table: CommentedMapping
    unsupported: list[str] = field(default_factory=list)  # in words, what the spec cannot have
    questions: dict[str, str] = field(default_factory=dict)  # by the field that they are about
    shell_variables: dict[str, str] = field(default_factory=dict)  # that a command's shell reads, with their places


def build_service_options(container: DetectedContainer, names: Mapping[str, str], network: str) -> ConvertedOptions:
    """Build the options of a service's container.

    `names` are the names in the spec of the containers that it has.
    """
    options = _build_common_options(container, names, network)
    table = options.table
    unsupported = options.unsupported
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
    return options


def add_shell_variables(table: CommentedMapping, options: ConvertedOptions) -> None:
    """Add to an entry the variables that Compose fills into its commands today, and that a shell reads here."""
    env = table.get("env", CommentedMapping())
    environment = table.get("environment", CommentedMapping())
    assert isinstance(env, CommentedMapping)
    assert isinstance(environment, CommentedMapping)
    for name, note in options.shell_variables.items():
        if name not in env and name not in environment:
            env.put(name, {"secret": True}, note)
    if env:
        table["env"] = env


def ask_about_options(
    draft: SpecDraft, entry_path: YamlPath, table: CommentedMapping, options: ConvertedOptions
) -> None:
    """Ask about the options of an entry; a question about one that it does not have is about the entry."""
    for key, question in options.questions.items():
        draft.decide((*entry_path, key) if key in table else entry_path, question)


def add_published_ports(container: DetectedContainer, table: CommentedMapping, is_kept: bool) -> list[str]:
    """Add the ports of the server that lead to a service; those that the spec does not say are returned.

    They are kept where a proxy of the server itself leads to them, and else nobody needs them.
    """
    ports = list_known_published_ports(container)
    kept_ports = [port for port in ports if is_kept and _IS_PUBLISHED_PORT(port)]
    if kept_ports:
        table.put("ports", kept_ports, container.table.where("ports"))
    return [port for port in ports if port not in kept_ports]


def build_accessory_entry(
    container: DetectedContainer, names: Mapping[str, str], network: str, runs_once: bool
) -> ConvertedOptions:
    """Build the entry of an accessory."""
    table = CommentedMapping()
    _add_image(container, table)
    if runs_once:
        table.put("once", True, "it runs to its end")
    unsupported = _add_environment_keys(container, table)
    options = _build_common_options(container, names, network)
    table |= options.table
    table.above += options.table.above
    open_ports = _add_local_ports(container, table)
    compose = container.table
    healthcheck = _convert_healthcheck(container)
    if healthcheck:
        table.put("healthcheck", healthcheck, compose.where("healthcheck"))
        _collect_shell_variables(options, container, convert_check(container))
    elif compose.get("healthcheck"):
        unsupported.append("healthcheck")
    unsupported += [f"the domain {domain.value}" for domain in container.domains]
    if open_ports:
        unsupported.append(f"ports {', '.join(open_ports)}, open to others than this machine")
    _ask_about_env_files(container, options)
    add_shell_variables(table, options)
    return ConvertedOptions(table, [*unsupported, *options.unsupported], options.questions)


def _ask_about_env_files(container: DetectedContainer, options: ConvertedOptions) -> None:
    """Ask for the keys of the env files that no example in the repository shows."""
    files = [str(file.value) for file in container.env_files]
    if files and not container.example_env:
        options.questions["env"] = (
            f"{container.name} reads {', '.join(files)} today ({container.env_files[0].where}), and no example shows "
            "its keys: write each of them under `env`, as KEY: {secret: true}"
        )


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
    for text in list_known_published_ports(container):
        is_local = text.startswith("127.0.0.1:") and _IS_PUBLISHED_PORT(text)
        if is_local:
            local_ports.append(text)
        else:
            open_ports.append(text)
    if local_ports:
        table.put("ports", local_ports, container.table.where("ports"))
    return open_ports


def _build_common_options(container: DetectedContainer, names: Mapping[str, str], network: str) -> ConvertedOptions:
    """What services and accessories have in common."""
    options = ConvertedOptions(CommentedMapping())
    table = options.table
    unsupported = options.unsupported
    compose = container.table
    _add_command(container, options)
    _add_volumes(container, options)
    dependencies = {names[name]: condition for name, condition in iter_dependencies(container) if name in names}
    if dependencies:
        table.put("depends_on", dependencies, compose.where("depends_on"))
    _add_labels(container, options)
    _add_networks(container, table, network)
    unsupported += _add_resource_limits(container, table)
    restart = compose.get_text("restart")
    if restart.startswith(("no", "on-failure:")):
        unsupported.append(f"restart: {restart}")
    unsupported += _add_compose_keys(container, table)
    unsupported += container.unsupported
    return options


def _add_command(container: DetectedContainer, options: ConvertedOptions) -> None:
    """Add the command and the entrypoint, and the variables that a shell then reads from the container."""
    compose = container.table
    command = convert_command(container)
    for number, (key, words) in enumerate(command.fields.items()):
        where = compose.where(key) if key in compose else locate_command(container)
        if key == "entrypoint" and compose.get(key) in ("", []):
            where = f"{where}: empty, so that the command runs itself"
        options.table.put(key, words, where, *([] if number else command.answers))
    if command.question:
        options.questions[next(iter(command.fields))] = command.question
    if compose.get("entrypoint") in ("", []) and not command.fields:
        options.unsupported.append("an empty entrypoint, without a command")
    _collect_shell_variables(options, container, command)


def _collect_shell_variables(
    options: ConvertedOptions, container: DetectedContainer, command: ConvertedCommand
) -> None:
    """Collect the variables of Compose that a script reads now, and those that an env file of today gives it."""
    for name in command.variables:
        options.shell_variables.setdefault(name, f"{container.where}: Compose fills it into a command today")
    known_names = {*_NAMES_OF_EVERY_IMAGE, *(key for key, _, _ in container.example_env)}
    for name in list_shell_names(command.words) if container.env_files else ():
        if _IS_ENV_KEY(name) and name not in known_names:
            options.shell_variables.setdefault(name, f"{container.where}: its command reads it")


def _add_volumes(container: DetectedContainer, options: ConvertedOptions) -> None:
    """Add the volumes; ask for a folder that only a variable names, because its data would stay behind."""
    volumes = list_portable_volumes(container)
    if volumes:
        options.table.put("volumes", volumes, container.table.where("volumes"))
    others = [
        mount for source, mount in iter_mounts(container) if _name_in_full(container, source, mount) not in volumes
    ]
    unknown = [mount for mount in others if vocabulary.list_variables(mount)]
    options.unsupported += [f"volume {mount}" for mount in others if mount not in unknown]
    if unknown:
        mounts = ", ".join(unknown)
        options.questions["volumes"] = (
            f"{container.name} mounts {mounts} today ({container.table.where('volumes')}), and no file shows the "
            "value of the variable: write the folder or volume that is mounted on the server, or the new container "
            "does not have the data"
        )
        folders = [_blank_variables(mount) for mount in unknown]
        options.table.above.append("to keep the volume that a variable names, write its folder on the server:")
        options.table.above.append(LineToUncomment(f"volumes: {render_flow_style([*volumes, *folders])}"))


def _blank_variables(text: str) -> str:
    """A text with `…` in place of each variable."""
    parts = vocabulary.split_at_unknown_variables(text, None)
    return "".join(part if isinstance(part, str) else "…" for part in parts)


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


def ask_about_unknown_ports(draft: SpecDraft, entry_path: tuple[str, str], container: DetectedContainer) -> None:
    """Ask about ports that the server publishes, of which a variable has no known value."""
    ports = list_unknown_ports(container)
    if ports:
        names = dict.fromkeys(name for port in ports for name in vocabulary.list_variables(port))
        question = (
            f"the ports of {entry_path[1]}: {container.table.where('ports')} publishes {', '.join(ports)}, and no file "
            f'has the value of {", ".join(names)}: write those of the server, such as `ports: ["127.0.0.1:8080:80"]`'
        )
        draft.decide(entry_path, question)


def list_unknown_ports(container: DetectedContainer) -> list[str]:
    """The ports that the server publishes, of which a variable has no known value."""
    return [port for port in list_known_published_ports(container) if vocabulary.list_variables(port)]


def list_portable_volumes(container: DetectedContainer) -> list[str]:
    """Volumes and folders of the host; of those beside today's Compose file only data, whose full path is known."""
    mounts = [_name_in_full(container, source, mount) for source, mount in iter_mounts(container)]
    return [
        mount for mount in mounts if _IS_VOLUME(mount) and not mount.startswith(".") and not mount.startswith("tmpfs:")
    ]


def _name_in_full(container: DetectedContainer, source: str, mount: str) -> str:
    """A mount with the full path of a folder beside today's Compose file, because the new file is in another folder."""
    return container.data_folders.get(source, source) + mount[len(source) :]


def add_volume_decision(
    draft: SpecDraft, facts: RepositoryFindings, entry_path: YamlPath, container: DetectedContainer
) -> None:
    """Ask about data that stays behind when the stack gets another name, and say what the same name costs."""
    keeps_projects = bool(facts.environments) and all(each.name in facts.stack_names for each in facts.environments)
    names = {volume.partition(":")[0] for volume in list_portable_volumes(container)}
    if any(not name.startswith("/") and name not in container.existing_volumes for name in names):
        if keeps_projects:
            question = (
                f"{entry_path[1]} has volumes. The draft uses today's project, so they keep their names. The "
                "disadvantage is that `docker compose down` in today's folder stops the new containers, too"
            )
        else:
            question = (
                f"{entry_path[1]} has volumes, which Compose calls STACK_VOLUME: "
                "a stack with a new name starts with empty ones, unless `volumes` of the environment names today's"
            )
        draft.decide((*entry_path, "volumes"), question)


def _add_labels(container: DetectedContainer, options: ConvertedOptions) -> None:
    """Add the labels that the spec can have, and ask for the others; those that a proxy reads are neither."""
    labels: dict[str, str] = {}
    unknown: dict[str, str] = {}
    compose = container.table
    for key, value, place in [*compose.iter_pairs("labels"), *compose.get_mapping("deploy").iter_pairs("labels")]:
        if re.match(r"traefik\.|caddy", key):
            continue
        text = vocabulary.interpolate_variables(value, container.variables)
        if text and _is_plain_label(key, text):
            labels[key] = vocabulary.escape_dollar_signs(text)
        elif value and text is None and _IS_LABEL_KEY(key):
            unknown[key] = place
        else:
            options.unsupported.append(f"label {key}")
    if labels:
        options.table.put("labels", labels, compose.where("labels" if "labels" in compose else "deploy"))
    if unknown:
        names = ", ".join(f"{key} ({place})" for key, place in unknown.items())
        options.questions["labels"] = (
            f"the label {names} of {container.name}: Compose fills in a variable today, which no label here can have; "
            "write its value, in `overrides` if environments differ, or leave it out"
        )
        written = render_flow_style(labels | dict.fromkeys(unknown, "…"))
        options.table.above.append("to keep the labels with variables, write their values:")
        options.table.above.append(LineToUncomment(f"labels: {written}"))


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
    words = convert_check(container).words
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
    """Add plain values to `environment`, and secrets, unknown values and what an env file has today to `env`."""
    env = CommentedMapping()
    environment = CommentedMapping()
    unsupported = []
    for key, written_value, where in container.env:
        value = container.passed_on.get(key, written_value)
        is_plain = value is not None and not vocabulary.is_secret(key, value) and _IS_PLAIN_TEXT(value)
        if not _IS_CONTAINER_ENV_KEY(key) or not (is_plain or _IS_ENV_KEY(key)):
            unsupported.append(f"environment {key} ({where})")
        elif value is None or not is_plain:
            env.put(key, {"secret": True}, _describe_source(container, key, where))
        else:
            environment.put(key, vocabulary.escape_dollar_signs(value), where)
    for key, _, where in container.example_env:
        if _IS_ENV_KEY(key) and key not in env and key not in environment:
            env.put(key, {"secret": True}, f"{where}, today in {container.env_files[0].value}")
    if env:
        table["env"] = env
    if environment:
        table["environment"] = environment
    return unsupported


def _describe_source(container: DetectedContainer, key: str, where: str) -> str:
    """The place of a variable, and the variables of other names that Compose fills in today."""
    for name, value, place in container.table.iter_pairs("environment"):
        others = [other for other in vocabulary.list_variables(value) if other != key]
        if (name, place) == (key, where) and others:
            return f"{where}, today from {', '.join(others)}"
    return where


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
