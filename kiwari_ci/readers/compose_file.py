"""Compose file and env example → facts: services with what each attribute says, whichever way it is written."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kiwari_ci.readers.image_reference import parse_image_repository
from kiwari_ci.readers.step_effects import resolve_dockerfile_path
from kiwari_ci.readers.yaml_document import YamlDocument, as_dict, as_list

_TRAEFIK_HOST_RULE = re.compile(r"Host(?:SNI)?\(\s*[`'\"]([^`'\"]+)")


@dataclass(frozen=True)
class ComposeService:
    """One service: its attributes in one shape each, and where it stands."""

    key: str
    container: str
    image: str
    attributes: dict[str, Any]
    where: str


@dataclass(frozen=True)
class ComposeProject:
    """A Compose project; its name is its folder's when the file gives none."""

    path: str
    name: str
    folder: str
    generated: bool
    services: dict[str, ComposeService]
    rest: dict[str, Any]
    document: YamlDocument = field(repr=False)


@dataclass(frozen=True)
class EnvExample:
    """The keys of an env example, with their values and whether a comment calls them secret."""

    path: str
    folder: str
    generated: bool
    values: dict[str, str]
    secret: frozenset[str]
    lines: dict[str, int]


def parse_compose_file(document: YamlDocument) -> ComposeProject | None:
    """The facts of a compose file; None for what is none."""
    given = document.data.get("services")
    if not isinstance(given, dict):
        return None
    folder = document.path.rpartition("/")[0]
    services = {key: _parse_service(document, key, each) for key, each in given.items()}
    rest = {
        key: value
        for key, value in document.data.items()
        if key not in ("services", "name", "version") and not key.startswith("x-")
    }
    name = document.data.get("name")
    named = str(name) if name else re.sub(r"[^a-z0-9_-]", "", folder.rpartition("/")[2].lower())
    return ComposeProject(document.path, named, folder, document.generated, services, rest, document)


def _parse_service(document: YamlDocument, key: str, written: Any) -> ComposeService:
    given = as_dict(written) if isinstance(written, dict | None) else {"": written}  # Compose refuses that
    attributes = {name: _normalize_attribute(name, value) for name, value in given.items()}
    build = given.get("build")
    image = str(given.get("image", ""))
    if build and not image:
        context = build if isinstance(build, str) else str(as_dict(build).get("context", "."))
        attributes["build"] = resolve_dockerfile_path(
            context, "" if isinstance(build, str) else str(as_dict(build).get("dockerfile", ""))
        )
    return ComposeService(key, str(given.get("container_name", "")), image, attributes, document.where("services", key))


def _normalize_attribute(name: str, value: Any) -> Any:
    """Lists where order says nothing become mappings: two ways to write one thing are one."""
    if name in ("environment", "labels", "annotations", "extra_hosts", "sysctls"):
        return dict(_iter_key_pairs(value))
    if name in ("networks", "depends_on") and isinstance(value, dict):
        return {key: _unwrap_single_key(each) for key, each in value.items()}
    if name in ("networks", "depends_on", "configs", "secrets"):
        return value if isinstance(value, dict) else {str(_parse_source_name(each)): None for each in as_list(value)}
    if name in ("ports", "expose", "cap_add", "cap_drop", "devices", "security_opt", "dns", "tmpfs", "profiles"):
        return {_format_port(each) if name == "ports" else str(each): None for each in as_list(value)}
    if name == "volumes":
        return dict(_parse_mount(each) for each in as_list(value))
    if name == "env_file":
        return {str(as_dict(each).get("path", each)): None for each in as_list(value)}
    return value


def _unwrap_single_key(value: Any) -> Any:
    """What a mapping of one key says, when that is all: `service_healthy` of {condition: service_healthy}."""
    if not isinstance(value, dict) or len(value) > 1:
        return value
    (inner,) = value.values() or (None,)
    return ", ".join(inner) if isinstance(inner, list) and all(isinstance(each, str) for each in inner) else inner


def _iter_key_pairs(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    else:
        for each in as_list(value):
            key, equals, text = str(each).partition("=")
            yield key, text if equals else None


def _parse_source_name(value: Any) -> Any:
    return value.get("source", value) if isinstance(value, dict) else value


def _format_port(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    words = [str(value[key]) for key in ("host_ip", "published", "target") if value.get(key)]
    extra = {key: each for key, each in value.items() if key not in ("host_ip", "published", "target")}
    return ":".join(words) + (f" {extra}" if extra else "")


def _parse_mount(value: Any) -> tuple[str, Any]:
    """Where it is mounted → what, with its mode."""
    if isinstance(value, dict):
        rest = {key: each for key, each in value.items() if key not in ("source", "target", "type")}
        return str(value.get("target", "")), f"{value.get('source', '')}" + (f" {rest}" if rest else "")
    source, colon, target = str(value).partition(":")
    path, _, mode = target.partition(":")
    return (path, f"{source}:{mode}" if mode else source) if colon else (source, "")


def find_service_domains(service: ComposeService) -> set[str]:
    """Domains that labels or well-known variables of a proxy lead to a service."""
    labels, environment = as_dict(service.attributes.get("labels")), as_dict(service.attributes.get("environment"))
    found = {name for key, value in labels.items() for name in _TRAEFIK_HOST_RULE.findall(f"{key} {value}")}
    for key in ("VIRTUAL_HOST", "LETSENCRYPT_HOST"):
        found |= {name.strip() for name in str(environment.get(key) or "").split(",") if name.strip()}
    caddy = str(labels.get("caddy") or "")
    return {name for name in found | set(caddy.split()) if "." in name}


def collect_stack_images(stack: ComposeProject) -> set[str]:
    """Repositories of a stack's images."""
    return {parse_image_repository(each.image) for each in stack.services.values() if each.image}


def parse_env_example(path: str, text: str, generated: bool) -> EnvExample:
    """The facts of an env example."""
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    secret: set[str] = set()
    comment = ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            comment = line
        elif found := re.match(r"\s*(?:export\s+)?([A-Za-z_]\w*)=(.*)", line):
            values[found[1]], lines[found[1]] = found[2].strip("'\""), number
            if "secret" in comment:
                secret.add(found[1])
            comment = ""
    return EnvExample(path, path.rpartition("/")[0], generated, values, frozenset(secret), lines)
