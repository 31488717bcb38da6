"""Compose file and env example → facts: services with what each attribute says, whichever way it is written."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kiwari_ci.readers.step_effects import dockerfile, repository
from kiwari_ci.readers.yaml_document import Document, listed, mapped

_HOST_RULE = re.compile(r"Host(?:SNI)?\(\s*[`'\"]([^`'\"]+)")


@dataclass(frozen=True)
class Service:
    """One service: its attributes in one shape each, and where it stands."""

    key: str
    container: str
    image: str
    attributes: dict[str, Any]
    where: str


@dataclass(frozen=True)
class Stack:
    """A Compose project; its name is its folder's when the file gives none."""

    path: str
    name: str
    folder: str
    generated: bool
    services: dict[str, Service]
    rest: dict[str, Any]
    document: Document = field(repr=False)


@dataclass(frozen=True)
class EnvExample:
    """The keys of an env example, with their values and whether a comment calls them secret."""

    path: str
    folder: str
    generated: bool
    values: dict[str, str]
    secret: frozenset[str]
    lines: dict[str, int]


def read(document: Document) -> Stack | None:
    """The facts of a compose file; None for what is none."""
    given = document.data.get("services")
    if not isinstance(given, dict):
        return None
    folder = document.path.rpartition("/")[0]
    services = {key: _service(document, key, each) for key, each in given.items()}
    rest = {
        key: value
        for key, value in document.data.items()
        if key not in ("services", "name", "version") and not key.startswith("x-")
    }
    name = document.data.get("name")
    named = str(name) if name else re.sub(r"[^a-z0-9_-]", "", folder.rpartition("/")[2].lower())
    return Stack(document.path, named, folder, document.generated, services, rest, document)


def _service(document: Document, key: str, written: Any) -> Service:
    given = mapped(written) if isinstance(written, dict | None) else {"": written}  # Compose refuses that
    attributes = {name: _shaped(name, value) for name, value in given.items()}
    build = given.get("build")
    image = str(given.get("image", ""))
    if build and not image:
        context = build if isinstance(build, str) else str(mapped(build).get("context", "."))
        attributes["build"] = dockerfile(
            context, "" if isinstance(build, str) else str(mapped(build).get("dockerfile", ""))
        )
    return Service(key, str(given.get("container_name", "")), image, attributes, document.where("services", key))


def _shaped(name: str, value: Any) -> Any:
    """Lists where order says nothing become mappings: two ways to write one thing are one."""
    if name in ("environment", "labels", "annotations", "extra_hosts", "sysctls"):
        return dict(_pairs(value))
    if name in ("networks", "depends_on") and isinstance(value, dict):
        return {key: _only(each) for key, each in value.items()}
    if name in ("networks", "depends_on", "configs", "secrets"):
        return value if isinstance(value, dict) else {str(_keyed(each)): None for each in listed(value)}
    if name in ("ports", "expose", "cap_add", "cap_drop", "devices", "security_opt", "dns", "tmpfs", "profiles"):
        return {_port(each) if name == "ports" else str(each): None for each in listed(value)}
    if name == "volumes":
        return dict(_mount(each) for each in listed(value))
    if name == "env_file":
        return {str(mapped(each).get("path", each)): None for each in listed(value)}
    return value


def _only(value: Any) -> Any:
    """What a mapping of one key says, when that is all: `service_healthy` of {condition: service_healthy}."""
    if not isinstance(value, dict) or len(value) > 1:
        return value
    (inner,) = value.values() or (None,)
    return ", ".join(inner) if isinstance(inner, list) and all(isinstance(each, str) for each in inner) else inner


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    else:
        for each in listed(value):
            key, equals, text = str(each).partition("=")
            yield key, text if equals else None


def _keyed(value: Any) -> Any:
    return value.get("source", value) if isinstance(value, dict) else value


def _port(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    words = [str(value[key]) for key in ("host_ip", "published", "target") if value.get(key)]
    extra = {key: each for key, each in value.items() if key not in ("host_ip", "published", "target")}
    return ":".join(words) + (f" {extra}" if extra else "")


def _mount(value: Any) -> tuple[str, Any]:
    """Where it is mounted → what, with its mode."""
    if isinstance(value, dict):
        rest = {key: each for key, each in value.items() if key not in ("source", "target", "type")}
        return str(value.get("target", "")), f"{value.get('source', '')}" + (f" {rest}" if rest else "")
    source, colon, target = str(value).partition(":")
    path, _, mode = target.partition(":")
    return (path, f"{source}:{mode}" if mode else source) if colon else (source, "")


def domains(service: Service) -> set[str]:
    """Domains that labels or well-known variables of a proxy lead to a service."""
    labels, environment = mapped(service.attributes.get("labels")), mapped(service.attributes.get("environment"))
    found = {name for key, value in labels.items() for name in _HOST_RULE.findall(f"{key} {value}")}
    for key in ("VIRTUAL_HOST", "LETSENCRYPT_HOST"):
        found |= {name.strip() for name in str(environment.get(key) or "").split(",") if name.strip()}
    caddy = str(labels.get("caddy") or "")
    return {name for name in found | set(caddy.split()) if "." in name}


def images(stack: Stack) -> set[str]:
    """Repositories of a stack's images."""
    return {repository(each.image) for each in stack.services.values() if each.image}


def env_example(path: str, text: str, generated: bool) -> EnvExample:
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
