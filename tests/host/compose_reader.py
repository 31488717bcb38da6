"""How Compose reads compose files and env files, as far as the host program relies on it."""

import copy
import functools
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import yaml

Model = dict[str, Any]
ENVIRONMENT = {"HOME": "/root"}  # what Compose puts in place of $HOME


class Unreadable(Exception):
    """Compose ends with an error."""


@functools.cache
def parsed(text: str) -> Model:
    """A compose file's YAML; it must be copied before it is changed."""
    if text.startswith("{"):
        return dict(json.loads(text))  # which is YAML, too, and read ten times as fast
    try:
        model = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise Unreadable(f"yaml: {error}") from error
    return model if isinstance(model, dict) else {}


KEPT: dict[tuple[object, ...], tuple[Model, dict[Path, bytes]]] = {}


def read_model(texts: list[str], folder: Path, project: str) -> Model:
    """The project that some compose files describe together; nobody changes it, for it is kept."""
    key = (*texts, folder, project)
    model, read = KEPT.get(key, ({}, {}))
    if not model or any(not path.exists() or path.read_bytes() != content for path, content in read.items()):
        model = resolved(texts, folder, project)
        parts = [service or {} for text in texts for service in (parsed(text).get("services") or {}).values()]
        names = [name for part in parts for name in listed(part.get("env_file") or [])]
        KEPT[key] = (model, {folder / name: (folder / name).read_bytes() for name in names})
    return model


def resolved(texts: list[str], folder: Path, project: str) -> Model:
    """The project, with every short form written out."""
    merged: Model = {}
    for text in texts:
        merged = merge(merged, copy.deepcopy(parsed(text)))
    if not merged:
        raise Unreadable("empty compose file")
    model: Model = interpolated(merged)
    model["name"] = project or model.get("name") or folder.name
    for key in ("networks", "volumes"):
        entries = model.get(key) or {}
        model[key] = {name: named(model["name"], name, settings or {}) for name, settings in entries.items()}
    model.setdefault("services", {})
    for name, service in model["services"].items():
        model["services"][name] = written_out(service, folder)
        if model["services"][name]["networks"] == {"default": None}:
            model["networks"].setdefault("default", named(model["name"], "default", {}))
    leave_out_what_nobody_uses(model)
    return model


def leave_out_what_nobody_uses(model: Model) -> None:
    """Networks and volumes that no service names are not part of the project."""
    services = model["services"].values()
    networks = {name for service in services for name in service["networks"]}
    volumes = {volume.get("source") for service in services for volume in service["volumes"]}
    model["networks"] = {name: settings for name, settings in model["networks"].items() if name in networks}
    model["volumes"] = {name: settings for name, settings in model["volumes"].items() if name in volumes}


def merge(base: Model, other: Model) -> Model:
    """A compose file with another on top of it."""
    result = dict(base)
    for key, value in other.items():
        mine = result.get(key)
        result[key] = merge(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return result


def named(project: str, key: str, settings: Model) -> Model:
    """A network or volume with its name in Docker."""
    name = settings.get("name") or (key if settings.get("external") else f"{project}_{key}")
    return {**settings, "name": name}


def interpolated(value: Any) -> Any:
    """A value with its variables replaced, and each `$$` made a `$`."""
    if isinstance(value, str):
        return interpolated_text(value)
    if isinstance(value, list):
        return [interpolated(element) for element in value]
    if isinstance(value, dict):
        return {key: interpolated(element) for key, element in value.items()}
    return value


def interpolated_text(text: str) -> str:
    def replaced(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name, rest = match["name"] or match["braced"], match["rest"] or ""
        value = ENVIRONMENT.get(name, "")
        if not value and rest.startswith((":?", "?")):
            raise Unreadable(f"required variable {name} is missing a value: {rest[2:]}")
        return value or (rest[2:] if rest.startswith(":-") else "")

    return re.sub(r"\$(?:\$|(?P<name>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)(?P<rest>[^}]*)\})", replaced, text)


def written_out(service: Model, folder: Path) -> Model:
    """A service with every short form in its long form, and its env files read."""
    service = dict(service)
    service["labels"] = {key: text_of(value) for key, value in pairs(service.get("labels")).items()}
    environment: dict[str, str] = {}
    for path in listed(service.pop("env_file", [])):
        environment.update(read_env_file(folder / path))
    environment.update({key: text_of(value) for key, value in pairs(service.get("environment")).items()})
    service["environment"] = environment
    networks = service.get("networks") or {"default": None}
    service["networks"] = dict.fromkeys(networks) if isinstance(networks, list) else networks
    depends_on = service.get("depends_on") or {}
    if isinstance(depends_on, list):
        depends_on = {name: {"condition": "service_started", "required": True} for name in depends_on}
    if depends_on:
        service["depends_on"] = depends_on
    if "mem_limit" in service:
        service["mem_limit"] = bytes_of(str(service["mem_limit"]))
    service["volumes"] = [volume_of(volume, folder) for volume in service.get("volumes") or []]
    service["ports"] = [port_of(port) for port in service.get("ports") or []]
    return service


def listed(value: str | list[str]) -> list[str]:
    """A list, of which a single entry may stand alone."""
    return [value] if isinstance(value, str) else value


def pairs(value: Any) -> Model:
    """A mapping, which may be written as a list of KEY=VALUE."""
    if isinstance(value, list):
        return dict(str(entry).split("=", 1) for entry in value)
    return value or {}


def text_of(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def bytes_of(size: str) -> str:
    """A size such as 64m, in bytes."""
    match = re.fullmatch(r"([0-9]+)([bkmg]?)b?", size.lower())
    assert match, size
    return str(int(match[1]) << {"": 0, "b": 0, "k": 10, "m": 20, "g": 30}[match[2]])


def volume_of(volume: Any, folder: Path) -> Model:
    if isinstance(volume, dict):
        return volume
    if ":" not in volume:
        return {"type": "volume", "target": volume}
    source, target, *options = volume.split(":")
    kind = "bind" if source[0] in "./~" else "volume"
    source = str((folder / source).resolve()) if kind == "bind" else source
    return {
        "type": kind,
        "source": source,
        "target": target,
        **({"read_only": True} if "ro" in options else {}),
    }


def port_of(port: Any) -> Model:
    if isinstance(port, dict):
        return port
    address, _, inner = str(port).rpartition(":")
    target, _, protocol = inner.partition("/")
    host_ip, _, published = address.rpartition(":")
    return {
        "mode": "ingress",
        **({"host_ip": host_ip} if host_ip else {}),
        "target": int(target),
        "published": published,
        "protocol": protocol or "tcp",
    }


INHERITED_LINE = re.compile(r"[A-Za-z_][\w.-]*[ \t]*(?:\n|$)")  # a key alone: the value of Compose's environment
ENV_LINE = re.compile(r"(?:export\s+)?(?P<key>[A-Za-z_][\w.-]*)\s*[=:][ \t]*")


def read_env_file(path: Path) -> dict[str, str]:
    """An env file as Compose reads it: quotes are taken off, variables replaced, comments cut off."""
    if not path.is_file():
        raise Unreadable(f"env file {path} not found: stat {path}: no such file or directory")
    rest = path.read_bytes().decode("utf-8-sig", errors="replace").replace("\r\n", "\n")
    values: dict[str, str] = {}
    while rest := rest.lstrip():
        if rest.startswith("#"):
            rest = rest.partition("\n")[2]
            continue
        if inherited := INHERITED_LINE.match(rest):
            rest = rest[inherited.end() :]
            continue
        match = ENV_LINE.match(rest)
        if not match:
            raise Unreadable(f"failed to read {path}: unexpected character in variable name: {rest[:20]}")
        value, rest = env_value(rest[match.end() :], path)
        values[match["key"]] = value
    return values


def env_value(rest: str, path: Path) -> tuple[str, str]:
    """The value at the beginning of a text, and what comes after it."""
    quote = rest[:1]
    if quote in ("'", '"'):
        end = 1
        while end < len(rest) and (rest[end] != quote or rest[end - 1] == "\\"):
            end += 1
        if end >= len(rest):
            raise Unreadable(f"failed to read {path}: unterminated quoted value {rest[:20]}")
        value = rest[1:end]
        if quote == '"':
            value = interpolated_text(value.replace("\\n", "\n").replace('\\"', '"').replace("\\$", "$$"))
        return value, rest[end + 1 :]  # another variable may follow on the same line
    line, _, rest = rest.partition("\n")
    return interpolated_text(re.split(r"\s+#", line)[0].strip()), rest


def printed(model: Model) -> str:
    """As `docker compose config --format json` prints it: each `$` doubled."""
    return json.dumps(model, sort_keys=True).replace("$", "$$")


def hash_of(service: Model, has_dependencies: bool) -> str:
    """Compose's checksum of a service's settings."""
    ignored = {"build", "pull_policy", "scale", "profiles"} | (set() if has_dependencies else {"depends_on"})
    settings = {key: value for key, value in service.items() if key not in ignored}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
