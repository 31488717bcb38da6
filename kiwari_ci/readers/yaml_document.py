"""Reads YAML that other people wrote: compose files and workflows, as plain data that knows its lines.

Scalars follow YAML 1.2, so `on` and `22:22` are text. Unlike a spec, these files may have anchors, aliases, merge keys
and tags. A file that Compose and GitHub refuse is refused here, too: one with a repeated key or a second document.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from kiwari_ci.file_output import generated_files
from kiwari_ci.problems import escape_control_characters
from kiwari_ci.spec_loading import yaml_source
from kiwari_ci.spec_loading.yaml_source import YamlPath

MAX_YAML_DEPTH = 60  # levels
MAX_YAML_VALUES = 30_000  # values, an alias counted with all that it stands for


class UnreadableYaml(Exception):  # noqa: N818 - a sentence for the user
    """Why a file cannot be read: in words that do not name the file, or with its path and line."""

    def __init__(self, problem: str, line: int = 0, detail: str = "") -> None:
        """`line` is 0 when the problem is none of a single line."""
        self.line = line
        self.reason = f"{problem}: {detail}" if detail else problem
        place = f" on line {line}" if line else ""
        super().__init__(f"{problem}{place}" + (f": {detail}" if detail else ""))

    def describe(self, path: str) -> str:
        """`path:line` and the reason."""
        return f"{path}:{self.line}: {self.reason}" if self.line else f"{path}: {self.reason}"


class YamlFloat(float):
    """A number with a fraction; as text it is what the file has: `3.10`, not `3.1`."""

    written: str

    def __new__(cls, value: float, written: str) -> "YamlFloat":
        """Keep the number as it is written."""
        number = super().__new__(cls, value)
        number.written = written
        return number

    def __getnewargs__(self) -> tuple[float, str]:  # type: ignore[override]  # a copy needs the text, too
        """Let the number be copied."""
        return float(self), self.written

    def __str__(self) -> str:
        """What the file has."""
        return self.written


class YamlMapping(dict[str, Any]):
    """A mapping, with the line of each of its keys."""

    def __init__(self, path: str, line: int) -> None:
        """Start empty; the reader adds the keys."""
        super().__init__()
        self.path = path
        self.line = line
        self.key_lines: dict[str, int] = {}
        self.key_paths: dict[str, str] = {}  # of keys that came from another file
        self.override_keys: set[str] = set()  # whose value Compose takes in place of an earlier file's: `!override`

    def put(self, key: str, value: Any, line: int) -> None:
        """Set a key that stands on a line."""
        self[key] = value
        self.key_lines[key] = line

    def where(self, key: str = "") -> str:
        """`path:line` of a key, or of the mapping itself."""
        return f"{self.path_of(key)}:{self.key_lines.get(key, self.line)}"

    def path_of(self, key: str) -> str:
        """The path of the file that has a key."""
        return self.key_paths.get(key, self.path)

    def get_mapping(self, key: str) -> "YamlMapping":
        """The mapping under a key; an empty one when there is none."""
        value = self.get(key)
        if isinstance(value, YamlMapping):
            return value
        return YamlMapping(self.path, self.key_lines.get(key, self.line))

    def iter_mappings(self) -> Iterator[tuple[str, "YamlMapping"]]:
        """The entries that are mappings themselves."""
        for key, value in self.items():
            if isinstance(value, YamlMapping):
                yield key, value

    def get_text(self, key: str) -> str:
        """The value of a key as text; empty when there is none, or when it is a list or a mapping."""
        return format_scalar(self.get(key))

    def list_items(self, key: str) -> list[tuple[Any, str]]:
        """The items of a list, each with its `path:line`; a single value is a list of one."""
        value = self.get(key)
        if isinstance(value, YamlSequence):
            paths = value.item_paths or [self.path_of(key)] * len(value)
            places = zip(value, paths, value.item_lines, strict=True)
            return [(item, f"{path}:{line}") for item, path, line in places]
        return [] if value is None else [(value, self.where(key))]

    def iter_key_values(self, key: str) -> Iterator[tuple[str, Any, str]]:
        """Key, value and `path:line` of a mapping or of a list of `KEY=value`; None for the value of a mere `KEY`."""
        value = self.get(key)
        if isinstance(value, YamlMapping):
            yield from value.iter_entries()
            return
        for item, place in self.list_items(key):
            if isinstance(item, YamlMapping):  # `- KEY: value`, which Compose refuses
                yield from item.iter_entries()
            else:
                name, equals, text = format_scalar(item).partition("=")
                yield name.strip(), text if equals else None, place

    def iter_entries(self) -> Iterator[tuple[str, Any, str]]:
        """Key, value and `path:line` of each entry."""
        for key, value in self.items():
            yield key, value, self.where(key)

    def iter_pairs(self, key: str) -> Iterator[tuple[str, str, str]]:
        """As iter_key_values, the values as text."""
        for name, value, place in self.iter_key_values(key):
            yield name, format_scalar(value), place


class YamlSequence(list[Any]):
    """A list, with the line of each of its items."""

    def __init__(self) -> None:
        """Start empty; the reader adds the items."""
        super().__init__()
        self.item_lines: list[int] = []
        self.item_paths: list[str] = []  # where items came from several files


@dataclass(frozen=True)
class YamlDocument:
    """A file whose top level is a mapping; `generated` says whether our marker is in its head."""

    path: str
    data: YamlMapping
    generated: bool

    def where(self, *loc: str | int) -> str:
        """`path:line` of a value, or of the nearest value around it."""
        line = 0
        value: Any = self.data
        for key in loc:
            if isinstance(value, YamlMapping) and key in value.key_lines:
                line = value.key_lines[str(key)]
                value = value[str(key)]
            elif isinstance(value, YamlSequence) and isinstance(key, int) and key < len(value):
                line = value.item_lines[key]
                value = value[key]
            else:
                break
        return f"{self.path}:{line}" if line else self.path


def parse_yaml_document(path: str, text: str) -> YamlDocument:
    """Read one document that is a mapping; raises UnreadableYaml."""
    try:
        data = _DocumentBuilder(path, text).read_document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        detail = getattr(error, "problem", None) or "a character that YAML has not"
        raise UnreadableYaml("not YAML", mark.line + 1 if mark else 0, detail) from error
    if not isinstance(data, YamlMapping):
        raise UnreadableYaml("no mapping of keys to values")
    return YamlDocument(path, data, generated_files.is_generated_file(path, text))


class _DocumentBuilder:
    """Builds data from the parser's events.

    Each value comes with its size, an alias with the size of all that it stands for: so a few lines of aliases that
    stand for billions of values are refused before anything walks over them.
    """

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.events = yaml_source.iter_yaml_events(text)
        self.anchors: dict[str, tuple[Any, int]] = {}

    def read_document(self) -> Any:
        next(self.events)
        if not isinstance(next(self.events), yaml.DocumentStartEvent):
            raise UnreadableYaml("nothing is in it")
        data, _ = self.read_value(next(self.events), 0)
        next(self.events)
        if not isinstance(next(self.events), yaml.StreamEndEvent):
            raise UnreadableYaml("more than one document is in it")
        return data

    def read_value(self, event: Any, depth: int) -> tuple[Any, int]:
        if depth > MAX_YAML_DEPTH:
            raise UnreadableYaml(f"more than {MAX_YAML_DEPTH} levels deep")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise UnreadableYaml("an alias that no anchor above it has", _get_line(event))
            return self.anchors[event.anchor]
        data: Any
        if isinstance(event, yaml.MappingStartEvent):
            data, size = self.read_mapping(event, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            data, size = self.read_sequence(depth)
        else:
            data, size = _convert_scalar(event), 1
        if getattr(event, "tag", None) == "!reset":  # Compose: as if no file said anything
            data = None
        if event.anchor:
            self.anchors[event.anchor] = data, size
        return data, size

    def read_sequence(self, depth: int) -> tuple[YamlSequence, int]:
        sequence = YamlSequence()
        total = 1
        while True:
            event = next(self.events)
            if isinstance(event, yaml.SequenceEndEvent):
                return sequence, total
            value, size = self.read_value(event, depth + 1)
            total = _add_size(total, size)
            sequence.append(value)
            sequence.item_lines.append(_get_line(event))

    def read_mapping(self, start: Any, depth: int) -> tuple[YamlMapping, int]:
        mapping = YamlMapping(self.path, _get_line(start))
        bases: list[Any] = []
        total = 1
        while True:
            event = next(self.events)
            if isinstance(event, yaml.MappingEndEvent):
                return _merge_bases(bases, mapping), total
            line = _get_line(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise UnreadableYaml("a key that is no text", line)
            key = event.value
            if key in mapping:
                raise UnreadableYaml(f"{as_inline_code(key)} stands there a second time", line)
            value_event = next(self.events)
            value, size = self.read_value(value_event, depth + 1)
            total = _add_size(total, size)
            if getattr(value_event, "tag", None) == "!override":
                mapping.override_keys.add(key)
            if key == "<<" and event.implicit[0]:
                bases += value if isinstance(value, YamlSequence) else [value]
            else:
                mapping.put(key, value, line)


def _add_size(total: int, size: int) -> int:
    if total + size > MAX_YAML_VALUES:
        raise UnreadableYaml(f"more than {MAX_YAML_VALUES:,} values")
    return total + size


def _merge_bases(bases: list[Any], own: YamlMapping) -> YamlMapping:
    """A mapping with what its merge keys bring: its own keys win over a base, and an earlier base over a later one."""
    if not bases:
        return own
    merged = YamlMapping(own.path, own.line)
    for mapping in [*reversed(bases), own]:
        if isinstance(mapping, YamlMapping):
            for key, value in mapping.items():
                merged.put(key, value, mapping.key_lines[key])
    return merged


def _get_line(event: Any) -> int:
    line: int = event.start_mark.line + 1
    return line


def _convert_scalar(event: Any) -> Any:
    text: str = event.value
    if not event.implicit[0]:
        return text
    value = yaml_source.resolve_scalar(text)
    return YamlFloat(value, text) if isinstance(value, float) else value


def format_scalar(value: Any) -> str:
    """A scalar as the file has it; empty for anything else."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else ""


def as_inline_code(text: object, longest: int = 80) -> str:
    """Text from a file as a line may hold it: one line, nothing that moves a terminal's cursor, not too long."""
    flat = " ".join(str(text).replace("`", "'").split())
    plain = escape_control_characters(flat[: longest + 1])
    return f"`{plain[: longest - 1]}…`" if len(plain) > longest else f"`{plain}`"


def iter_strings(node: Any, loc: YamlPath = ()) -> Iterator[tuple[YamlPath, str]]:
    """Every text in some data, keys left out, with its path."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from iter_strings(value, (*loc, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from iter_strings(value, (*loc, index))
    elif isinstance(node, str):
        yield loc, node


def collect_strings(value: Any) -> list[tuple[str, str]]:
    """Every text under a value, keys left out, with its `path:line`; what an alias repeats is there once."""
    strings: list[tuple[str, str]] = []
    visited: set[int] = set()

    def visit(value: Any, place: str) -> None:
        if isinstance(value, str):
            strings.append((value, place))
        elif isinstance(value, YamlMapping | YamlSequence) and id(value) not in visited:
            visited.add(id(value))
            if isinstance(value, YamlMapping):
                for key, entry in value.items():
                    visit(entry, value.where(key))
            else:
                for item in value:
                    visit(item, item.where() if isinstance(item, YamlMapping) else place)

    visit(value, "")
    return strings


def as_list(node: Any) -> list[Any]:
    """A list as it is, nothing as no item, anything else as one."""
    if node is None:
        return []
    return node if isinstance(node, list) else [node]


def as_dict(node: Any) -> dict[str, Any]:
    """A mapping as it is, anything else as an empty one."""
    return node if isinstance(node, dict) else {}
