"""YAML that others wrote → plain data that knows its lines. Tolerant where a spec's reader is strict.

Scalars as of YAML 1.2 (`on` and `22:22` are text); anchors, aliases, merge keys and tags are read, for compose files
and workflows have them; the last of two equal keys wins, as it does for Docker and GitHub.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

_YAML_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_NESTING_DEPTH = 60  # levels
MAX_YAML_NODES = 100_000  # values
_INTEGER_SCALAR = re.compile(r"[-+]?[0-9]{1,18}")
_SCALAR_KEYWORDS: dict[str, Any] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_SCALAR_KEYWORDS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class YamlMapping(dict[str, Any]):
    """A mapping, the line of each of its keys, and its own path."""

    def __init__(self, path: str, line: int) -> None:
        """Empty; the reader fills it."""
        super().__init__()
        self.path, self.line = path, line
        self.places: dict[str, int] = {}

    def where(self, key: str = "") -> str:
        """`path:line` of a key, or of the mapping itself."""
        return f"{self.path}:{self.places.get(key, self.line)}"

    def table(self, key: str) -> "YamlMapping":
        """The mapping under a key; an empty one when there is none."""
        value = self.get(key)
        return value if isinstance(value, YamlMapping) else YamlMapping(self.path, self.places.get(key, self.line))

    def tables(self) -> Iterator[tuple[str, "YamlMapping"]]:
        """Those of the entries that are mappings."""
        yield from ((key, value) for key, value in self.items() if isinstance(value, YamlMapping))

    def text(self, key: str) -> str:
        """The value of a key as text; empty for none, and for what is no scalar."""
        return format_scalar(self.get(key))

    def items_of(self, key: str) -> list[tuple[Any, str]]:
        """A list's items with their places; a single value is a list of one."""
        value = self.get(key)
        if isinstance(value, YamlSequence):
            return [(item, f"{self.path}:{line}") for item, line in zip(value, value.places, strict=True)]
        return [] if value is None else [(value, self.where(key))]

    def pairs(self, key: str) -> Iterator[tuple[str, str, str]]:
        """Key, value and place of a mapping or of a list of `KEY=value`, as Compose has them."""
        table = self.get(key)
        if isinstance(table, YamlMapping):
            yield from ((name, format_scalar(value), table.where(name)) for name, value in table.items())
        elif isinstance(table, YamlSequence):
            for item, place in self.items_of(key):
                name, _, value = format_scalar(item).partition("=")
                yield name.strip(), value, place


class YamlSequence(list[Any]):
    """A list, and the line of each of its items."""

    def __init__(self) -> None:
        """Empty; the reader fills it."""
        super().__init__()
        self.places: list[int] = []


class YamlFileError(Exception):  # noqa: N818 - a sentence about somebody's file
    """A file that is no YAML mapping: where, and why."""


def format_scalar(value: Any) -> str:
    """A scalar as it would be printed; empty for anything else."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int) else ""


def collect_strings(value: Any, place: str = "") -> list[tuple[str, str]]:
    """Every text under a value, with its place; what an alias repeats is there once."""
    found: list[tuple[str, str]] = []
    seen: set[int] = set()

    def walk(value: Any, place: str) -> None:
        if isinstance(value, str):
            found.append((value, place))
        elif isinstance(value, YamlMapping | YamlSequence) and id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, YamlMapping):
                for key, item in value.items():
                    walk(item, value.where(key))
            else:
                for item in value:
                    walk(item, item.where() if isinstance(item, YamlMapping) else place)

    walk(value, place)
    return found


def parse_yaml_mapping(path: str, text: str) -> YamlMapping:
    """The first document of a YAML file; raises Unreadable."""
    try:
        made = _YamlBuilder(path, text).document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else path
        raise YamlFileError(f"{place}: not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(made, YamlMapping):
        raise YamlFileError(f"{path}: no mapping")
    return made


class _YamlBuilder:
    """Builds data from the parser's events, so that neither depth nor aliases can grow without end."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.events: Iterator[Any] = yaml.parse(text, Loader=_YAML_LOADER)
        self.anchors: dict[str, Any] = {}
        self.count = 0

    def document(self) -> Any:
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                return self.value(next(self.events), 0)
        return None

    def value(self, event: Any, depth: int) -> Any:
        self.count += 1
        if depth > MAX_NESTING_DEPTH or self.count > MAX_YAML_NODES:
            raise YamlFileError(f"{self.path}:{event.start_mark.line + 1}: too deep or too large")
        if isinstance(event, yaml.AliasEvent):
            return self.anchors.get(str(event.anchor))
        made = self.made(event, depth)
        if event.anchor:
            self.anchors[event.anchor] = made
        return made

    def made(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.MappingStartEvent):
            return self.mapping(event, depth)
        if isinstance(event, yaml.SequenceStartEvent):
            return self.sequence(depth)
        return _convert_scalar(event)

    def mapping(self, start: Any, depth: int) -> YamlMapping:
        made, merged = YamlMapping(self.path, start.start_mark.line + 1), []
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            key = format_scalar(self.value(event, depth + 1))
            value = self.value(next(self.events), depth + 1)
            if key == "<<":
                merged += value if isinstance(value, YamlSequence) else [value]
            else:
                made[key], made.places[key] = value, line
        for other in merged:
            for key, value in other.items() if isinstance(other, YamlMapping) else ():
                if key not in made:
                    made[key], made.places[key] = value, other.places[key]
        return made

    def sequence(self, depth: int) -> YamlSequence:
        made = YamlSequence()
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            made.append(self.value(event, depth + 1))
            made.places.append(event.start_mark.line + 1)
        return made


def _convert_scalar(event: Any) -> Any:
    text: str = event.value
    if not event.implicit[0]:
        return text
    if text in _SCALAR_KEYWORDS:
        return _SCALAR_KEYWORDS[text]
    return int(text) if _INTEGER_SCALAR.fullmatch(text) else text
