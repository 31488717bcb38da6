"""YAML text of anybody → plain data, and the line of each value; bounded, whatever the text is.

Unlike `source`, anchors, aliases and merge keys are read, for people write them; their expansion is counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from kiwari_ci.loading import yaml_source
from kiwari_ci.output import generated_files
from kiwari_ci.problems import escape_control_characters

YamlPath = tuple[str | int, ...]

MAX_YAML_SIZE = 1_000_000  # bytes of a file
MAX_YAML_DEPTH = 60  # levels
MAX_YAML_VALUES = 30_000  # values, an alias counted with all that it stands for

_YAML_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class UnreadableYaml(Exception):  # noqa: N818 - a sentence for the user
    """Why a file says nothing to us."""


@dataclass(frozen=True)
class YamlDocument:
    """A file that was read: `lines` has the line of each value by its path; `generated`: our marker is in its head."""

    path: str
    data: Any
    lines: dict[YamlPath, int]
    generated: bool

    def where(self, *loc: str | int) -> str:
        """`path:line` of a value, or of what it stands in."""
        while loc and loc not in self.lines:
            loc = loc[:-1]
        return f"{self.path}:{self.lines[loc]}" if loc else self.path


def parse_yaml_document(path: str, text: str) -> YamlDocument:
    """Read one document that is a mapping; raises Unreadable."""
    reader = _DocumentBuilder(text)
    try:
        data = reader.document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f" on line {mark.line + 1}" if mark else ""
        raise UnreadableYaml(
            f"not YAML{at}: {getattr(error, 'problem', None) or 'a character that YAML has not'}"
        ) from error
    if not isinstance(data, dict):
        raise UnreadableYaml("no mapping of keys to values")
    return YamlDocument(path, data, reader.lines, generated_files.is_generated_file(path, text))


class _DocumentBuilder:
    """Builds data from the parser's events; each value comes with its size, so that a bomb is weighed, not run."""

    def __init__(self, text: str) -> None:
        self.events: Iterator[Any] = yaml.parse(text, Loader=_YAML_LOADER)
        self.lines: dict[YamlPath, int] = {}
        self.anchors: dict[str, tuple[Any, int]] = {}

    def next(self) -> Any:
        return next(self.events)

    def document(self) -> Any:
        self.next()
        if not isinstance(self.next(), yaml.DocumentStartEvent):
            raise UnreadableYaml("nothing is in it")
        data, _ = self.value(self.next(), ())
        self.next()
        if not isinstance(self.next(), yaml.StreamEndEvent):
            raise UnreadableYaml("more than one document is in it")
        return data

    def value(self, event: Any, loc: YamlPath) -> tuple[Any, int]:
        line = self.lines[loc] = event.start_mark.line + 1
        if len(loc) > MAX_YAML_DEPTH:
            raise UnreadableYaml(f"more than {MAX_YAML_DEPTH} levels deep")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise UnreadableYaml(f"line {line}: an alias of nothing that stands above it")
            return self.anchors[event.anchor]
        data: Any
        if isinstance(event, yaml.MappingStartEvent):
            data, size = self.mapping(loc)
        elif isinstance(event, yaml.SequenceStartEvent):
            data, size = self.sequence(loc)
        else:
            data, size = (yaml_source.resolve_scalar(event.value) if event.implicit[0] else event.value), 1
        if size > MAX_YAML_VALUES:
            raise UnreadableYaml(f"more than {MAX_YAML_VALUES:,} values")
        if event.anchor:
            self.anchors[event.anchor] = data, size
        return data, size

    def sequence(self, loc: YamlPath) -> tuple[list[Any], int]:
        data: list[Any] = []
        total = 1
        while not isinstance(event := self.next(), yaml.SequenceEndEvent):
            value, size = self.value(event, (*loc, len(data)))
            data.append(value)
            if (total := total + size) > MAX_YAML_VALUES:
                break
        return data, total

    def mapping(self, loc: YamlPath) -> tuple[dict[str, Any], int]:
        data: dict[str, Any] = {}
        merged: list[Any] = []
        total = 1
        while total <= MAX_YAML_VALUES and not isinstance(event := self.next(), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                raise UnreadableYaml(f"line {line}: a key that is no text")
            key = event.value
            if key in data:
                raise UnreadableYaml(f"line {line}: {as_inline_code(key)} stands there twice")
            value, size = self.value(self.next(), (*loc, key))
            total += size
            if key == "<<" and event.implicit[0]:
                merged += value if isinstance(value, list) else [value]
            else:
                data[key] = value
                self.lines[(*loc, key)] = line
        for below in merged:
            data = {**below, **data} if isinstance(below, dict) else data
        return data, total


def as_inline_code(text: object, longest: int = 80) -> str:
    """Text from a file as a line may hold it: one line, nothing that moves a terminal's cursor, not too long."""
    flat = " ".join(str(text).replace("`", "'").split())
    plain = escape_control_characters(flat[: longest + 1])
    return f"`{plain[: longest - 1]}…`" if len(plain) > longest else f"`{plain}`"


def iter_strings(data: Any, loc: YamlPath = ()) -> Iterator[tuple[YamlPath, str]]:
    """Every text in some data, keys left out, with its path."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from iter_strings(value, (*loc, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from iter_strings(value, (*loc, index))
    elif isinstance(data, str):
        yield loc, data


def as_list(data: Any) -> list[Any]:
    """A list as it is, nothing as no item, anything else as one."""
    if data is None:
        return []
    return data if isinstance(data, list) else [data]


def as_dict(data: Any) -> dict[str, Any]:
    """A mapping as it is, anything else as an empty one."""
    return data if isinstance(data, dict) else {}
