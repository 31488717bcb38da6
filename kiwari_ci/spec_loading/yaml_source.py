"""Reads YAML text as plain data, with the place of every key and value.

YAML as of 1.2's core schema: `on`, `yes`, `22:22` and dates are text, `012` is twelve, `0o17` and `0x1F` are whole
numbers, `1.10` is the float 1.1: a field that wants text complains, and `Source.at` has what was written. What would
make a spec harder to read than its text is refused: anchors, aliases, merge keys, tags, directives, a second document.
"""

import errno
import re
from collections.abc import Callable, Iterator
from dataclasses import field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import yaml

from kiwari_ci.frozen import dataclass
from kiwari_ci.problems import Problem, RuleName, SpecError, escape_control_characters, escape_text
from kiwari_ci.safe_files import read_plain_file

YamlPath = tuple[str | int, ...]

MAX_SPEC_SIZE = 1_000_000  # bytes
MAX_DEPTH = 50  # levels
MAX_PROBLEMS = 100  # faults in one go
MAX_EXCERPT_LENGTH = 300  # characters of a line that is shown
MAX_NUMBER_LENGTH = 100  # characters

_YAML_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Outside YAML's character set, or a line break for some readers and not for others.
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_SCALAR_TYPES: list[tuple[re.Pattern[str], Callable[[str], Any]]] = [
    (re.compile(r"~|null|Null|NULL|"), lambda text: None),
    (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text in ("true", "True", "TRUE")),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0o[0-7]+"), lambda text: int(text[2:], 8)),
    (re.compile(r"0x[0-9a-fA-F]+"), lambda text: int(text[2:], 16)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), lambda text: float(text.replace(".", ""))),
]
_PLAIN_KEY = re.compile(r"\s*[\w-]+")
_NON_TEXT_STARTS = frozenset("~nNtTfF+-.0123456789")
_SYNTAX_HINTS = {  # the first part that the parser's words have
    "mapping values are not allowed": "text with `: ` in it needs quotes",
    "cannot start any token": "text that starts with this character needs quotes",
    "unexpected end of stream": "a quote is opened here or above, and never closed",
    "parsing a quoted scalar": "`\\` starts an escape in double quotes: single quotes have none",
    "expected ':'": "a key ends with `:` and a blank",
}
_SHARING_HINT = "write out what it stands for; what services have in common goes into `service_defaults`"
GENERAL_SYNTAX_HINT = "look at the indentation, the quotes and the brackets from here upwards"


@dataclass(frozen=True)
class SourceSpan:
    """Where a key or value starts and how long it is on that line; lines and columns (in characters) from 1."""

    line: int
    column: int
    length: int


@dataclass(frozen=True)
class YamlSource:
    """A spec as it was read: its text (its lines end in LF), its data, and the place of each key and value.

    `keys` and `values` go by the path to a value, shaped as pydantic's `loc`; the whole document is `values[()]`.
    `origins` has the path in `service_defaults` of each value that a service inherits from there; `keys` and `values`
    have its place there, too.
    """

    path: str
    text: str
    data: Any
    keys: dict[YamlPath, SourceSpan]
    values: dict[YamlPath, SourceSpan]
    origins: dict[YamlPath, YamlPath] = field(default_factory=dict)

    @cached_property
    def lines(self) -> list[str]:
        """The text's lines, without their ends."""
        return self.text.split("\n")

    def at(self, span: SourceSpan) -> str:
        """What is written at a place, on its first line."""
        return self.lines[span.line - 1][span.column - 1 : span.column - 1 + span.length]

    def excerpt(self, line: int) -> str:
        """A line to show under a message, harmless to a terminal; empty when it is too long to help."""
        text = self.lines[line - 1]
        return escape_text(text) if len(text) <= MAX_EXCERPT_LENGTH else ""


def load_yaml(path: Path) -> YamlSource:
    """Read a spec; raises SpecError with all that can be found in one pass."""
    return parse_yaml(path.as_posix(), _read_text(path))


def parse_yaml(path: str, text: str) -> YamlSource:
    """Read a spec's text, its lines ending in LF; `path` is what messages call it; raises SpecError."""
    return _YamlReader(YamlSource(path, text, None, {}, {})).read()


def iter_yaml_events(text: str) -> Iterator[Any]:
    """The events of PyYAML's parser; iterating raises yaml.YAMLError."""
    return iter(yaml.parse(text, Loader=_YAML_LOADER))


def resolve_scalar(text: str) -> Any:
    """What YAML 1.2 makes of plain text: nothing, true, false, a number that is not too long, or the same text."""
    make = _find_converter(text)
    return make(text) if make and len(text) <= MAX_NUMBER_LENGTH else text


def _find_converter(text: str) -> Callable[[str], Any] | None:
    if text and text[0] not in _NON_TEXT_STARTS:
        return None
    return next((make for pattern, make in _SCALAR_TYPES if pattern.fullmatch(text)), None)


def _read_text(path: Path) -> str:
    content = _read_bytes(path)
    try:
        text = content.decode()
        offset = content.find(0)
    except UnicodeDecodeError as error:
        text = ""
        offset = error.start
    if offset < 0:
        return _normalize_newlines(text)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        _raise_problem(path, "not-text", "UTF-16, not UTF-8", 1, 1, "save it as UTF-8")
    lines_before = _normalize_newlines(content[:offset].decode(errors="replace")).split("\n")
    message = f"not UTF-8 text: byte {content[offset]:#04x} at offset {offset}"
    hint = "save it as text in UTF-8"
    _raise_problem(path, "not-text", message, len(lines_before), len(lines_before[-1]) + 1, hint)


def _normalize_newlines(text: str) -> str:
    # Editors on Windows put a byte order mark first: there is no harm in it.
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _read_bytes(path: Path) -> bytes:
    try:
        return read_plain_file(path, MAX_SPEC_SIZE)
    except FileNotFoundError:
        _raise_problem(path, "no-file", "no such file", hint="name the spec, or go to the folder that it is in")
    except IsADirectoryError:
        _raise_problem(path, "no-file", "a folder, not a file", hint="name the spec that is in it")
    except PermissionError:
        _raise_problem(path, "no-file", "this file may not be read", hint=f"look at it with: ls -l {path.as_posix()}")
    except (OSError, ValueError) as error:
        if getattr(error, "errno", 0) == errno.EFBIG:
            message = f"more than {MAX_SPEC_SIZE:,} bytes"
            _raise_problem(path, "too-large", message, hint="this is probably not the spec: name the right file")
        message = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        _raise_problem(path, "no-file", message, hint="name the spec, or go to the folder that it is in")


def _raise_problem(
    path: Path, rule: RuleName, message: str, line: int = 0, column: int = 0, hint: str = ""
) -> NoReturn:
    raise SpecError([Problem(rule, message, path.as_posix(), line, column, hint=hint)])


class _YamlReader:
    """Builds the data of a spec from the events of the YAML parser, and notes the place of each key and value.

    Each level of the document is a level of calls, so the number of levels has a limit.
    """

    def __init__(self, source: YamlSource) -> None:
        self.source = source
        self.faults: list[Problem] = []
        self.widths = [len(line.rstrip()) for line in source.lines]
        self.events = iter_yaml_events(source.text)

    def read(self) -> YamlSource:
        self.check_characters()
        data = None
        try:
            data = self.read_document()
        except yaml.YAMLError as error:
            self.report_syntax_error(error)
        self.stop_if_faults(0)
        return replace(self.source, data=data)

    def check_characters(self) -> None:
        hint = "leave it out"
        for number, line in enumerate(self.source.lines, 1):
            for match in _CONTROL_CHARACTER.finditer(line):
                code = f"U+{ord(match[0]):04X}"
                self.report_fault(
                    "control-character",
                    f"{code} has no place in a spec",
                    SourceSpan(number, match.start() + 1, 1),
                    hint,
                )
        self.stop_if_faults(0)

    def read_document(self) -> Any:
        next(self.events)
        start = next(self.events)
        top = next(self.events, None)
        if top is None or _is_empty_scalar(top):
            self.report_fault("empty", "nothing is in this file", None, "a spec starts with `project:`")
            return None
        if start.version or start.tags:
            self.report_fault(
                "directive", "a line that starts with `%` is not read", self.locate_event(start), "leave it out"
            )
        document = self.read_node(top, ())
        if not isinstance(top, yaml.MappingStartEvent):
            message = "a spec is a mapping of keys to values"
            hint = "begin with `project:`, without a `-` or a quote"
            self.report_fault("not-a-mapping", message, self.source.values[()], hint)
        next(self.events)
        following = next(self.events)
        if isinstance(following, yaml.DocumentStartEvent):
            message = "a second document starts here, and a spec is one"
            self.report_fault(
                "second-document", message, self.locate_event(following), "leave out the `---`, or make it another file"
            )
        return document

    def read_node(self, event: Any, loc: YamlPath) -> Any:
        span = self.source.values[loc] = self.locate_event(event)
        self.refuse_anchor_and_tag(event, span)
        self.check_depth(len(loc), span)
        if isinstance(event, yaml.SequenceStartEvent):
            return self.read_sequence(event, loc)
        if isinstance(event, yaml.MappingStartEvent):
            return self.read_mapping(event, loc)
        return self.read_scalar(event, span) if isinstance(event, yaml.ScalarEvent) else None

    def read_sequence(self, start: Any, loc: YamlPath) -> list[Any]:
        entries: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            entries.append(self.read_node(event, (*loc, len(entries))))
        self.source.values[loc] = self.locate_event(start, event)
        return entries

    def read_mapping(self, start: Any, loc: YamlPath) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            span, key = self.locate_event(event), self.read_key(event)
            key_loc = (*loc, key)
            if key in entries:
                message = f"{_quote_shortened(key)} stands here twice, first on line {self.source.keys[key_loc].line}"
                self.report_fault("duplicate-key", message, span, "keep one of the two")
            self.source.keys.setdefault(key_loc, span)
            value = next(self.events)
            entries[key] = self.read_node(value, key_loc)
            if _is_empty_scalar(value):
                self.source.values[key_loc] = span  # the key is what a reader can see
        self.source.values[loc] = self.locate_event(start, event)
        return entries

    def read_key(self, event: Any) -> str:
        span = self.locate_event(event)
        self.refuse_anchor_and_tag(event, span)
        if not isinstance(event, yaml.ScalarEvent):
            self.report_fault(
                "key-not-text", "a key is text, not a list, a mapping or an alias", span, "write a name before the `:`"
            )
            self.skip_node(event)
            return f"{span.line}:{span.column}"
        if event.value == "<<" and event.implicit[0]:
            self.report_fault("merge-key", "merge keys are not read", span, _SHARING_HINT)
        elif not isinstance(value := self.read_scalar(event, span), str):
            hint = "put quotes around it" if event.value else "write a name before the `:`"
            self.report_fault("key-not-text", f"a key is text, and this is {_describe_type(value)}", span, hint)
        return str(event.value)

    def skip_node(self, event: Any) -> None:
        depth = 0
        while True:
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            self.check_depth(depth, self.locate_event(event))
            if depth == 0:
                return
            event = next(self.events)

    def check_depth(self, levels: int, span: SourceSpan) -> None:
        if levels > MAX_DEPTH:
            self.report_fault(
                "too-deep", f"more than {MAX_DEPTH} levels", span, "look for a bracket too many: no spec is that deep"
            )
            self.stop_if_faults(0)

    def read_scalar(self, event: Any, span: SourceSpan) -> Any:
        text: str = event.value
        value = resolve_scalar(text) if event.implicit[0] else text
        if value is text and event.implicit[0] and len(text) > MAX_NUMBER_LENGTH and _find_converter(text):
            self.report_fault("long-number", f"a number of {len(text):,} characters", span, "put quotes around it")
        return value

    def refuse_anchor_and_tag(self, event: Any, span: SourceSpan) -> None:
        """Refuse an anchor, an alias or a tag before a value, because they change what the value means."""
        if event.anchor:
            is_alias = isinstance(event, yaml.AliasEvent)
            rule: RuleName = "alias" if is_alias else "anchor"
            hint = _SHARING_HINT if is_alias else "leave it out"
            self.report_fault(rule, f"the {rule} {_quote_shortened(event.anchor)} is not read", span, hint)
        tag = getattr(event, "tag", None)
        if tag:
            message = f"the tag {_quote_shortened(tag.replace('tag:yaml.org,2002:', '!!'))} is not read"
            self.report_fault("tag", message, span, "leave it out; text that looks odd needs quotes")

    def locate_event(self, event: Any, end: Any = None) -> SourceSpan:
        """Locate an event: from its start to its end, or to the end of its first line."""
        start, stop = event.start_mark, (end or event).end_mark
        return self.build_span(start.line, start.column, stop.column if stop.line == start.line else None)

    def build_span(self, line: int, column: int, stop: int | None = None) -> SourceSpan:
        # The parser's marks may stand behind the last character: a place never does.
        line = min(line, len(self.widths) - 1)
        width = self.widths[line]
        column = max(0, min(column, width - 1))
        return SourceSpan(line + 1, column + 1, max(1, min(width if stop is None else stop, width) - column))

    def report_syntax_error(self, error: yaml.YAMLError) -> None:
        """Report a syntax error at the place where a person corrects it."""
        mark, start_mark = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
        message = str(getattr(error, "problem", None) or error)
        context = getattr(error, "context", None) or ""
        is_at_end = mark is not None and not self.source.text[mark.index :].strip()
        if context.startswith("while scanning") or is_at_end:
            mark = start_mark or mark  # the end of the file does not show what was left open
        span = self.build_span(mark.line, mark.column, mark.column + 1) if mark else None
        hint = self._suggest_syntax(f"{message} {context}", message, span)
        if span and self.source.at(span) == "\t":
            message, hint = "a tab where YAML wants blanks", "indent with blanks"
        elif context:
            message += f", {context}"
            if start_mark and start_mark is not mark:
                message += f" from line {start_mark.line + 1}"
        self.report_fault("yaml-syntax", f"not YAML: {message}", span, hint)

    def _suggest_syntax(self, text: str, message: str, span: SourceSpan | None) -> str:
        if span and "mapping values" in message:
            text_before = self.source.lines[span.line - 1][: span.column - 1]
            if _PLAIN_KEY.fullmatch(text_before):
                return "begin this line in the column of the keys that it belongs to"
        for part, hint in _SYNTAX_HINTS.items():
            if part in text:
                return hint
        return GENERAL_SYNTAX_HINT

    def report_fault(self, rule: RuleName, message: str, span: SourceSpan | None, hint: str = "") -> None:
        shown_span = span or SourceSpan(0, 0, 1)
        excerpt = self.source.excerpt(span.line) if span else ""
        path = self.source.path
        self.faults.append(
            Problem(rule, message, path, shown_span.line, shown_span.column, shown_span.length, hint, excerpt=excerpt)
        )
        self.stop_if_faults(MAX_PROBLEMS)

    def stop_if_faults(self, count: int) -> None:
        """Raise the faults that were found, if there are at least so many."""
        if self.faults and len(self.faults) >= count:
            raise SpecError(self.faults)


def _is_empty_scalar(event: Any) -> bool:
    return event.start_mark.index == event.end_mark.index and isinstance(event, yaml.ScalarEvent)


def _quote_shortened(text: str) -> str:
    """Text from the file as a message may hold it."""
    plain = escape_control_characters(text[:60])
    return f"`{plain}…`" if len(text) > 60 else f"`{plain}`"


def _describe_type(value: object) -> str:
    if value is None:
        return "empty"
    return "true or false" if isinstance(value, bool) else "a number"
