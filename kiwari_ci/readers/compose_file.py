"""Reads compose files: their services, with what each attribute says, whichever way it is written.

Variables stay as they are written: `init` fills them in, `diff` compares them.
"""

import posixpath
import re
import shlex
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from kiwari_ci.readers.duration import is_duration, parse_duration
from kiwari_ci.readers.image_reference import parse_image_repository
from kiwari_ci.readers.shell import parse_shell_commands
from kiwari_ci.readers.step_effects import resolve_dockerfile_path
from kiwari_ci.readers.yaml_document import (
    YamlDocument,
    YamlMapping,
    YamlSequence,
    as_dict,
    as_list,
    format_scalar,
)

COMPOSE_FILE_PATH = (
    r"(?:.*/)?(?:[\w.-]+[_.-])?(?:docker-)?compose[\w.-]*\.ya?ml"
    r"|(?:.*/)?docker-stack[\w.-]*\.ya?ml|(?:.*/)?stack\.ya?ml"
)
COMPLETED = "service_completed_successfully"  # the condition of a service that waits for the end of another one
MAX_EXTENDS_DEPTH = 10  # services that extend one another
_IMAGE_OF_ENDING_TOOL = re.compile(  # whose program does what its command says, and ends
    r"(?:docker\.io/|quay\.io/)?(?:minio/mc|certbot/[\w-]+|curlimages/curl|amazon/aws-cli|(?:flyway|redgate)/flyway"
    r"|migrate/migrate|liquibase/liquibase|arigaio/atlas)(?:[:@].*)?"
)
_ENDING_PROGRAMS = {
    "cp", "rsync", "mc", "certbot", "chown", "chmod", "mkdir", "curl", "wget", "aws", "createdb", "psql",
}  # fmt: skip
_NEUTRAL_PROGRAMS = {
    "until", "done", "sleep", "echo", "exit", "set", "true", "test", "[", "fi", "rm", "export", "printf",
}  # fmt: skip
_ENDLESS_COMMAND = re.compile(r"\bwhile\b|\bsleep\s+inf|\btail\s+-f|\bcrond?\b|--watch\b|\bmc\s+watch\b")
_TRAEFIK_HOSTS = re.compile(r"Host(?:SNI)?\(([^)]*)\)")
_VARIABLE_WITH_OPTIONS = re.compile(r"\$\{(\w+)[^{}]*\}")
_COLON_OUTSIDE_VARIABLE = re.compile(r":(?![^{}]*\})")
_HEALTHCHECK_DURATIONS = ("interval", "timeout", "start_period", "start_interval")
_PAIR_ATTRIBUTES = ("environment", "labels", "annotations", "extra_hosts", "sysctls")
_REFERENCE_ATTRIBUTES = ("networks", "depends_on", "configs", "secrets")
_LIST_ATTRIBUTES = ("expose", "cap_add", "cap_drop", "devices", "security_opt", "dns", "tmpfs", "profiles")


@dataclass(frozen=True)
class ComposeBuild:
    """What an image is built from; `options` is the whole of `build`, empty where it is only a context."""

    context: str
    dockerfile: str
    options: YamlMapping


@dataclass(frozen=True)
class ComposePort:
    """A port in Compose's short form; `options` are the keys of the long form that the short one has not."""

    text: str
    is_published: bool
    options: dict[str, Any]
    where: str


@dataclass(frozen=True)
class ComposeMount:
    """What is mounted where: `source` is empty for an anonymous volume; `options` as those of a port."""

    kind: str
    source: str
    target: str
    mode: str
    options: dict[str, Any]


@dataclass(frozen=True)
class ComposeService:
    """One service: `table` is what the file says, `attributes` the same in one shape for each attribute."""

    key: str
    container: str
    image: str
    attributes: dict[str, Any]
    where: str
    table: YamlMapping = field(repr=False)

    @property
    def labels(self) -> dict[str, Any]:
        """Its labels."""
        return as_dict(self.attributes.get("labels"))

    @property
    def is_accessory(self) -> bool:
        """Whether it is an accessory of a generated stack."""
        return "deploy.accessory" in self.labels


@dataclass(frozen=True)
class ComposeProject:
    """A Compose project; its name is its folder's when the file gives none.

    `base_paths` are the files that `docker compose -f` names before this one, and that it completes.
    """

    path: str
    name: str
    folder: str
    generated: bool
    services: dict[str, ComposeService]
    rest: dict[str, Any]
    schedule: dict[str, dict[str, Any]]  # what runs on a schedule, by kind and name: `backup pos_production`
    document: YamlDocument = field(repr=False)
    base_paths: tuple[str, ...] = ()

    @property
    def folder_name(self) -> str:
        """The last part of its folder. Of the generated stacks, each has another, but two hosts may share a `name`."""
        return self.folder.rpartition("/")[2]


def parse_compose_file(document: YamlDocument) -> ComposeProject | None:
    """The services of a compose file; None for a file that has none."""
    services = document.data.get("services")
    if not isinstance(services, YamlMapping):
        return None
    folder = document.path.rpartition("/")[0]
    name = document.data.get("name")
    folder_name = re.sub(r"[^a-z0-9_-]", "", folder.rpartition("/")[2].lower())
    return ComposeProject(
        path=document.path,
        name=str(name) if name else folder_name,
        folder=folder,
        generated=document.generated,
        services={key: _parse_service(services, key) for key in services},
        rest={
            key: value
            for key, value in document.data.items()
            if key not in ("services", "name", "version") and not key.startswith("x-")
        },
        schedule=_parse_schedule(document),
        document=document,
    )


def _parse_schedule(document: YamlDocument) -> dict[str, dict[str, Any]]:
    """The backups and jobs that deploy/bin/database runs."""
    sections = as_dict(document.data.get("x-schedule"))
    return {
        f"{kind} {name}": as_dict(settings)
        for kind, section in (("backup", "backups"), ("job", "jobs"))
        for name, settings in as_dict(sections.get(section)).items()
    }


def _parse_service(services: YamlMapping, key: str) -> ComposeService:
    table = merge_extends(services, services.get_mapping(key))
    attributes = {name: _normalize_attribute(table, name) for name in table}
    if not isinstance(services[key], dict | None):
        attributes[""] = services[key]  # Compose refuses that
    image = str(table.get("image", ""))
    build = parse_build(table)
    if build and not image:
        attributes["build"] = resolve_dockerfile_path(build.context, build.dockerfile)
    return ComposeService(key, str(table.get("container_name", "")), image, attributes, services.where(key), table)


def merge_extends(services: YamlMapping, table: YamlMapping, depth: int = 0) -> YamlMapping:
    """A service with what it extends in the same file; one that extends a service of another file stays as it is."""
    extends = table.get("extends")
    if isinstance(extends, YamlMapping):
        base_name = extends.get_text("service")
        is_in_another_file = bool(extends.get("file"))
    else:
        base_name = format_scalar(extends)
        is_in_another_file = False
    base = services.get(base_name)
    if depth >= MAX_EXTENDS_DEPTH or is_in_another_file or not isinstance(base, YamlMapping):
        return table
    base = merge_extends(services, base, depth + 1)
    merged = YamlMapping(table.path, table.line)
    for mapping in (base, table):
        for key, value in mapping.items():
            merged.put(key, value, mapping.key_lines[key])
    for key in ("environment", "labels"):
        if key in base and key in table:
            merged[key] = _merge_values(base[key], table[key])
    del merged["extends"]
    return merged


def _merge_values(base: Any, own: Any) -> Any:
    """Two mappings or two lists as one; the own value where they are of different kinds."""
    if isinstance(own, YamlMapping) and isinstance(base, YamlMapping):
        mapping = YamlMapping(own.path, own.line)
        mapping.update(base | own)
        mapping.key_lines = base.key_lines | own.key_lines
        return mapping
    if isinstance(own, YamlSequence) and isinstance(base, YamlSequence):
        sequence = YamlSequence()
        sequence += [*base, *own]
        sequence.item_lines = [*base.item_lines, *own.item_lines]
        return sequence
    return own


# Keys that Compose reads as a mapping or as a list; in some of them each item of a list has a value.
_LISTS_OF_PAIRS = {"environment", "labels", "args", "annotations", "sysctls"}
_PAIRS = {*_LISTS_OF_PAIRS, "depends_on", "networks"}
_REPLACED_LISTS = ("command", "entrypoint", "test")  # a file that comes later replaces these, and adds to the others


def merge_documents(base: YamlDocument, overlay: YamlDocument) -> YamlDocument:
    """Two files as Compose reads them with `-f base -f overlay`: each service stands where the first file has it.

    Relative paths are from the base's folder.
    """
    data = _override_mapping(base.data, overlay.data)
    services, base_services = data.get_mapping("services"), base.data.get_mapping("services")
    for key in services.keys() & base_services.keys():
        services.key_lines[key] = base_services.key_lines[key]
        services.key_paths[key] = base_services.path_of(key)
    return YamlDocument(base.path, data, base.generated)


def apply_override_file(base: YamlDocument, override: YamlDocument) -> None:
    """Complete the services of an override file by those of the file that `docker compose -f` names before it.

    They are completed if one of them has neither image nor build of its own, because Compose cannot read such a file
    alone. A service that the override resets is taken out of both files.
    """
    base_services = base.data.get_mapping("services")
    override_services = override.data.get_mapping("services")
    needs_base = any(
        key in base_services and not {"image", "build"} & table.keys()
        for key, table in override_services.iter_mappings()
    )
    for key, table in list(override_services.items()):
        base_table = base_services.get(key)
        if not isinstance(base_table, YamlMapping):
            continue
        if table is None:
            del base_services[key], override_services[key]
        elif isinstance(table, YamlMapping) and needs_base:
            override_services[key] = _override_mapping(merge_extends(base_services, base_table), table)


def _override_mapping(base: YamlMapping, own: YamlMapping) -> YamlMapping:
    """Two mappings of two files as one; a key without a value, as `!reset` leaves it, takes away the base's."""
    merged = YamlMapping(own.path, own.line)
    for mapping in (base, own):
        for key, value in mapping.items():
            merged.put(key, value, mapping.key_lines[key])
            merged.key_paths[key] = mapping.path_of(key)
    for key in base.keys() & own.keys():
        merged[key] = _override_value(key, base, own)
        if merged[key] is None:
            del merged[key]
    return merged


def _override_value(key: str, base: YamlMapping, own: YamlMapping) -> Any:
    base_value, own_value = base[key], own[key]
    if key in own.override_keys:
        return own_value
    if isinstance(base_value, YamlMapping) and isinstance(own_value, YamlMapping):
        return _override_mapping(base_value, own_value)
    collections = YamlMapping | YamlSequence
    is_mixed = type(base_value) is not type(own_value) or key in _LISTS_OF_PAIRS
    if key in _PAIRS and is_mixed and isinstance(base_value, collections) and isinstance(own_value, collections):
        return _merge_pairs(key, base, own)
    is_added = key not in _REPLACED_LISTS
    if is_added and isinstance(base_value, YamlSequence) and isinstance(own_value, YamlSequence):
        sequence = YamlSequence()
        sequence += [*base_value, *own_value]
        sequence.item_lines = [*base_value.item_lines, *own_value.item_lines]
        sequence.item_paths = [base.path_of(key)] * len(base_value) + [own.path_of(key)] * len(own_value)
        return sequence
    return own_value


def _merge_pairs(key: str, base: YamlMapping, own: YamlMapping) -> YamlMapping:
    """The entries of two files, of which one or both are written as a list: `KEY=value`, or a mere name."""
    merged = YamlMapping(own.path_of(key), own.key_lines[key])
    for mapping in (base, own):
        for name, value, place in mapping.iter_key_values(key):
            path, _, line = place.rpartition(":")
            merged.put(name, value, int(line))
            merged.key_paths[name] = path
    return merged


def list_included_paths(document: YamlDocument) -> list[str]:
    """The files that a compose file includes, from the repository's root."""
    folder = document.path.rpartition("/")[0]
    included = []
    for include, _ in document.data.list_items("include"):
        paths = as_list(include.get("path")) if isinstance(include, YamlMapping) else [include]
        included += [posixpath.normpath(posixpath.join(folder, format_scalar(path))) for path in paths]
    return included


def parse_build(table: YamlMapping) -> ComposeBuild | None:
    """What a service's image is built from; None for one that is only pulled."""
    if table.get("build") is None:
        return None
    options = table.get_mapping("build")
    context = options.get_text("context") or table.get_text("build") or "."
    return ComposeBuild(context, options.get_text("dockerfile"), options)


def list_ports(table: YamlMapping) -> list[ComposePort]:
    """The ports of a service, those that are not published included."""
    ports = []
    for port, where in table.list_items("ports"):
        if isinstance(port, YamlMapping):
            parts = [port.get_text(key) for key in ("host_ip", "published", "target")]
            options = {key: value for key, value in port.items() if key not in ("host_ip", "published", "target")}
            ports.append(ComposePort(":".join(filter(None, parts)), bool(parts[1]), options, where))
        else:
            text = str(port)
            ports.append(ComposePort(text, ":" in text, {}, where))
    return ports


def list_mounts(table: YamlMapping) -> list[ComposeMount]:
    """The volumes and folders that a service mounts."""
    mounts = []
    for mount, _ in table.list_items("volumes"):
        if isinstance(mount, YamlMapping):
            options = {key: value for key, value in mount.items() if key not in ("source", "target", "type")}
            kind, source, target = (mount.get_text(key) for key in ("type", "source", "target"))
            target = _strip_slash(target)
            mode = "ro" if mount.get("read_only") is True else ""
            mounts.append(ComposeMount(kind, source, target, mode, options))
            continue
        parts = _COLON_OUTSIDE_VARIABLE.split(str(mount), maxsplit=2)
        if len(parts) == 1:
            mounts.append(ComposeMount("", "", _strip_slash(parts[0]), "", {}))
        else:
            mounts.append(ComposeMount("", parts[0], _strip_slash(parts[1]), "".join(parts[2:]), {}))
    return mounts


def _strip_slash(path: str) -> str:
    """A folder in a container as Docker calls it."""
    return path.rstrip("/") or path


def list_env_files(table: YamlMapping) -> list[tuple[str, str]]:
    """The paths of a service's env files, each with its `path:line`."""
    env_files = []
    for env_file, where in table.list_items("env_file"):
        path = env_file.get_text("path") if isinstance(env_file, YamlMapping) else str(env_file)
        env_files.append((path, where))
    return env_files


def iter_dependencies(table: YamlMapping) -> Iterator[tuple[str, str]]:
    """The services that a service waits for, each with the condition that it waits for."""
    depends_on = table.get("depends_on")
    if isinstance(depends_on, YamlMapping):
        for name, options in depends_on.iter_mappings():
            yield name, options.get_text("condition") or "service_started"
    elif isinstance(depends_on, YamlSequence):
        for name in depends_on:
            yield format_scalar(name), "service_started"


def find_one_shots(services: Iterable[tuple[str, YamlMapping]], serving: Collection[str] = ()) -> set[str]:
    """Find the services that run to their end: another one waits for that, or they serve nothing and do not restart.

    `serving` are names of services that are known to serve something.
    """
    one_shots: set[str] = set()
    for name, table in services:
        one_shots |= {awaited for awaited, condition in iter_dependencies(table) if condition == COMPLETED}
        serves = name in serving or bool({"ports", "expose", "healthcheck"} & table.keys())
        ends = table.get_text("restart") == "no" or _ends_by_itself(table)
        if ends and not serves:
            one_shots.add(name)
    return one_shots


def _ends_by_itself(table: YamlMapping) -> bool:
    """Whether a service only copies files, or without a restart makes a bucket, gets a certificate or the like."""
    words = [*split_command(table.get("entrypoint")), *split_command(table.get("command"))]
    if split_command(table.get("command"))[:1] in (["cp"], ["rsync"]):
        return True
    if table.get_text("restart") in ("always", "unless-stopped") or _ENDLESS_COMMAND.search(" ".join(words)):
        return False
    script = next((words[index + 1] for index, word in enumerate(words[:-1]) if word == "-c"), "")
    programs = {command[0].rpartition("/")[2] for command in parse_shell_commands(script)} if script else set(words[:1])
    has_image_of_tool = _IMAGE_OF_ENDING_TOOL.fullmatch(table.get_text("image")) is not None
    if has_image_of_tool and not script:
        return bool(words)
    return bool(programs & _ENDING_PROGRAMS) and programs <= _ENDING_PROGRAMS | _NEUTRAL_PROGRAMS


def find_rule_hosts(rule: str) -> list[str]:
    """The hosts that a rule of Traefik names, without their quotes."""
    return [host.strip(" `'\"") for hosts in _TRAEFIK_HOSTS.findall(rule) for host in hosts.split(",")]


def find_service_domains(service: ComposeService) -> set[str]:
    """Domains that labels or well-known variables of a proxy lead to a service; one may be a variable: `${DOMAIN}`."""
    environment = as_dict(service.attributes.get("environment"))
    labels = {key: strip_variable_options(str(value)) for key, value in service.labels.items()}
    names = {host for key, value in labels.items() for host in find_rule_hosts(f"{key} {value}")}
    listed = [strip_variable_options(str(environment.get(key) or "")) for key in ("VIRTUAL_HOST", "LETSENCRYPT_HOST")]
    for value in [*listed, labels.get("caddy", "")]:
        names |= set(re.split(r"[\s,]+", value))
    return {name for name in names if "." in name or name.startswith("$")}


def strip_variable_options(text: str) -> str:
    """A text whose variables have only their names: `${DOMAIN:?set it}` is `${DOMAIN}`."""
    return _VARIABLE_WITH_OPTIONS.sub(r"${\1}", text)


def collect_stack_images(stack: ComposeProject) -> set[str]:
    """Repositories of a stack's images."""
    return {parse_image_repository(service.image) for service in stack.services.values() if service.image}


def _normalize_attribute(table: YamlMapping, name: str) -> Any:
    """Write an attribute in one way, whichever of several ways the file has; a list without an order is a mapping."""
    if name in _PAIR_ATTRIBUTES:
        return {key: _normalize_pair_value(entry) for key, entry, _ in table.iter_key_values(name)}
    if name in _REFERENCE_ATTRIBUTES:
        return _normalize_references(name, table[name])
    if name == "ports":
        return {port.text + _format_options(port.options): None for port in list_ports(table)}
    if name == "volumes":
        return dict(_describe_mount(mount) for mount in list_mounts(table))
    if name == "env_file":
        return {path: None for path, _ in list_env_files(table)}
    if name in _LIST_ATTRIBUTES:
        return {str(entry): None for entry in as_list(table[name])}
    return _normalize_value(name, table[name])


def _normalize_value(name: str, value: Any) -> Any:
    if name in ("command", "entrypoint") and isinstance(value, str):
        return split_command(value) or value  # as text if it cannot be split
    if name == "stop_grace_period":
        return _normalize_duration(value)
    if name == "healthcheck" and isinstance(value, dict):
        return {key: _normalize_healthcheck_entry(key, entry) for key, entry in value.items()}
    return value


def _normalize_pair_value(value: Any) -> Any:
    """A number or a truth value as the text that a container gets; a key without a value stays as it is."""
    return format_scalar(value) if isinstance(value, bool | int | float) else value


def _normalize_references(name: str, value: Any) -> dict[str, Any]:
    """Networks, dependencies, configs or secrets, by name, with the options of each."""
    if not isinstance(value, dict):
        return {str(_get_source_name(entry)): None for entry in as_list(value)}
    if name == "networks":
        return {key: _normalize_network(options) for key, options in value.items()}
    if name == "depends_on":
        return {key: _normalize_dependency(options) for key, options in value.items()}
    return value


def split_command(command: Any) -> list[str]:
    """The words of a command, written as a list or as a text that Compose splits; none if it cannot be split."""
    if isinstance(command, list):
        return [format_scalar(word) for word in command]
    try:
        return shlex.split(format_scalar(command))
    except ValueError:
        return []


def _normalize_healthcheck_entry(key: str, value: Any) -> Any:
    """A test as a list; a duration in seconds."""
    if key == "test" and isinstance(value, str):
        return ["CMD-SHELL", value]
    return _normalize_duration(value) if key in _HEALTHCHECK_DURATIONS else value


def _normalize_duration(value: Any) -> Any:
    """`90s` for `1m30s`; what is no duration stays as it is."""
    if not isinstance(value, str) or not is_duration(value):
        return value
    return f"{parse_duration(value)}s"


def _normalize_network(options: Any) -> Any:
    """The aliases of a container on a network, if there are no other options: `{aliases: [web, www]}` is `web, www`."""
    if options == {}:
        return None
    if not isinstance(options, dict) or options.keys() != {"aliases"}:
        return options
    aliases = options["aliases"]
    is_list_of_texts = isinstance(aliases, list) and all(isinstance(alias, str) for alias in aliases)
    return ", ".join(aliases) if is_list_of_texts else options


def _normalize_dependency(options: Any) -> Any:
    """The condition that a service waits for, if there are no other options."""
    if options == {}:
        return None
    if not isinstance(options, dict) or options.keys() != {"condition"}:
        return options
    return options["condition"]


def _get_source_name(value: Any) -> Any:
    return value.get("source", value) if isinstance(value, dict) else value


def _format_options(options: dict[str, Any]) -> str:
    return f" {options}" if options else ""


def _describe_mount(mount: ComposeMount) -> tuple[str, str]:
    """Where something is mounted, and what: with its mode, or with the options of the long form."""
    if mount.options or mount.kind:
        return mount.target, mount.source + _format_options(mount.options)
    return mount.target, f"{mount.source}:{mount.mode}" if mount.mode else mount.source
