"""A spec in the making: its values, each with the comment that says where it comes from, and its text."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kiwari_ci import generator
from kiwari_ci.commands.init.workflow_outcomes import WorkflowOutcome
from kiwari_ci.problems import Problem, SpecError
from kiwari_ci.rendering import quoting
from kiwari_ci.spec_loading.yaml_source import YamlPath, YamlSource, parse_yaml

MAX_COMMENT_LENGTH = 160  # characters of a line of a comment
MAX_TEXT_LENGTH = 20_000  # characters of a whole comment: only a text that is made to be long has more
MAX_FLOW_WIDTH = 80  # characters of a list on one line


def to_single_line(text: str) -> str:
    """Text from a repository as one line: nothing in it can end the line."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(printable.split())
    return line if len(line) <= MAX_TEXT_LENGTH else line[: MAX_TEXT_LENGTH - 1] + "…"


def wrap_in_lines(text: str) -> list[str]:
    """Text from a repository in lines that a person can read; no word of it is left out."""
    line = to_single_line(text)
    return textwrap.wrap(line, MAX_COMMENT_LENGTH, break_long_words=False, break_on_hyphens=False) or [""]


def indent_further_lines(first_indent: str, text: str) -> list[str]:
    """Text in lines, of which those behind the first one are indented below its text."""
    first_line, *further_lines = wrap_in_lines(text)
    further_indent = " " * len(first_indent)
    return [f"{first_indent}{first_line}", *(f"{further_indent}{line}" for line in further_lines)]


def format_comment_item(text: str) -> str:
    """The lines of a comment that are one item of a list."""
    return "".join(f"# {line}\n" for line in indent_further_lines("- ", text))


def join_in_lines(head: str, items: list[str]) -> list[str]:
    """Items behind a head, as many in a line as fit; each further line has the head again, so that none is cut off."""
    lines: list[str] = []
    for item in items:
        fits = bool(lines) and len(f"{lines[-1]}; {item}") <= MAX_COMMENT_LENGTH
        if fits:
            lines[-1] += f"; {item}"
        else:
            lines.append(f"{head}{item}")
    return lines


@dataclass
class InitResult:
    """The spec's text and its path from the root, and what to tell a person."""

    path: str
    text: str
    was: str | None  # the file's text before; None when there was none
    services: dict[str, str]  # those that the text has now and had not, each in a line
    read: dict[str, int]
    decisions: list[tuple[int, str]] = field(default_factory=list)  # line, question
    seen: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    workflows: list[WorkflowOutcome] = field(default_factory=list)  # what becomes of those that are there

    @property
    def new(self) -> bool:
        """Whether there was no spec."""
        return self.was is None


@dataclass(frozen=True)
class LineToUncomment:
    """A line of the spec that a person may choose: it stands in a comment, on one line however long it is."""

    text: str


Comment = str | LineToUncomment


@dataclass
class CommentedValue:
    """A value on a line of its own: a scalar, or a small list or mapping in brackets; `note` stands behind it."""

    value: Any
    note: str = ""
    above: list[Comment] = field(default_factory=list)


class CommentedMapping(dict[str, "CommentedValue | CommentedMapping"]):
    """A mapping over several lines, with the comments above its key."""

    def __init__(self, *above: Comment, note: str = "") -> None:
        """Create an empty mapping with its comments."""
        super().__init__()
        self.above: list[Comment] = list(above)
        self.note = note

    def put(self, key: str, value: Any, note: str = "", *above: Comment) -> None:
        """Set a key to a value, with its comments."""
        self[key] = CommentedValue(value, note, list(above))


def render_mapping(table: CommentedMapping, indent: int = 0) -> str:
    """The YAML of a mapping; an empty line follows each of the outermost keys."""
    lines: list[str] = []
    for key, entry in table.items():
        comments = list(entry.above)
        is_note_above = len(to_single_line(entry.note)) > MAX_COMMENT_LENGTH
        if is_note_above:
            comments.append(entry.note)
        lines += [f"{'  ' * indent}# {line}" for line in _list_comment_lines(comments)]
        lines += _render_entry(key, entry, indent, "" if is_note_above else entry.note)
        if indent == 0:
            lines.append("")
    return "\n".join(lines)


def _list_comment_lines(comments: Sequence[Comment]) -> list[str]:
    """The lines of comments; a line that a person may uncomment is not wrapped."""
    lines: list[str] = []
    for comment in comments:
        if isinstance(comment, LineToUncomment):
            lines.append(to_single_line(comment.text))
        else:
            lines += wrap_in_lines(comment)
    return lines


def _render_entry(key: str, entry: CommentedValue | CommentedMapping, indent: int, note_text: str) -> list[str]:
    """The lines of a key with its value, and the note behind it."""
    spaces = "  " * indent
    note = f" # {to_single_line(note_text)}" if note_text else ""
    head = f"{spaces}{quoting.yaml(key)}:"
    if isinstance(entry, CommentedMapping):
        if not entry:
            return [f"{head} {{}}{note}"]
        return [f"{head}{note}", render_mapping(entry, indent + 1)]
    value = entry.value
    if isinstance(value, list) and any(isinstance(item, CommentedMapping) for item in value):
        return [f"{head}{note}", *_render_items(value, indent + 1)]
    if isinstance(value, list) and len(render_flow_style(value)) > MAX_FLOW_WIDTH:
        return [f"{head}{note}", *(f"{spaces}  - {render_flow_style(item)}" for item in value)]
    first_line, *other_lines = _render_value(value, 2 * indent + 2).split("\n")
    return [f"{head} {first_line}{note}", *other_lines]


def _render_items(items: list[CommentedMapping], indent: int) -> list[str]:
    """The lines of mappings that are the items of a list."""
    lines: list[str] = []
    for item in items:
        first_line, *other_lines = render_mapping(item, indent + 1).split("\n")
        lines += [f"{'  ' * indent}- {first_line.strip()}", *other_lines]
    return lines


def render_flow_style(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, CommentedValue):
        return render_flow_style(value.value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoting.yaml(key)}: {render_flow_style(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(render_flow_style(item) for item in value) + "]"
    return quoting.yaml(value)


def _render_value(value: Any, indent: int) -> str:
    """A value behind its key; text of several lines as a block, where YAML has one for it."""
    if isinstance(value, str) and "\n" in value:
        try:
            return quoting.block(value, indent)
        except ValueError:
            return quoting.yaml(value)
    return render_flow_style(value)


_NEEDED_TABLES = ("project", "hosts", "services", "environments")


def drop_until_valid(
    table: CommentedMapping, path: str, render_spec: Callable[[CommentedMapping, list[str]], str]
) -> tuple[str, list[str]]:
    """The text of a spec that is sound, and notes on what was left out for that.

    Raises SpecError when nothing sound is left, with the problem for which a table that every spec needs would go.
    `render_spec` makes the text from the table and the notes so far.
    """
    dropped: list[str] = []
    while True:
        text = render_spec(table, dropped)
        source = parse_yaml(path, text)
        try:
            generator.validate_and_plan(source)
            return text, dropped
        except SpecError as error:
            newly_dropped = _drop_invalid_entries(table, source, error.problems)
            if not newly_dropped or not all(table.get(name) for name in _NEEDED_TABLES):
                raise
            dropped += newly_dropped


def locate_decisions(source: YamlSource, decisions: list[tuple[YamlPath, str]]) -> list[tuple[int, str]]:
    """What to decide, with the line of the spec; a place that was left out is no question any more."""
    located = [(source.keys[path].line, question) for path, question in decisions if path in source.keys]
    return sorted(dict.fromkeys(located))


def _drop_invalid_entries(table: CommentedMapping, source: YamlSource, problems: list[Problem]) -> list[str]:
    """Take out what validation refuses, and note each entry that went."""
    notes = []
    for problem in problems:
        path = _find_problem_path(source, problem)
        if problem.rule == "clash" and path[2:3] == ("env",) and _drop_shared_env_files(table):
            notes.append(f"left out: env_file, so that each service gets its own: {problem.message}")
        elif path and _drop_entry(table, path):
            hint = f" ({problem.hint})" if problem.hint else ""
            notes.append(f"left out: {problem.message}{hint}")
    return notes


def _find_problem_path(source: YamlSource, problem: Problem) -> YamlPath:
    """The deepest place of the spec that a problem points at; empty for none."""
    paths = [
        path
        for path, position in [*source.keys.items(), *source.values.items()]
        if (position.line, position.column) == (problem.line, problem.column)
    ]
    return max(paths, key=len, default=())


def _drop_shared_env_files(table: CommentedMapping) -> bool:
    """Take out the env files that environments share among services; whether there was one."""
    environments = table.get("environments")
    if not isinstance(environments, CommentedMapping):
        return False
    was_dropped = False
    for environment in environments.values():
        if isinstance(environment, CommentedMapping) and environment.pop("env_file", None) is not None:
            was_dropped = True
    return was_dropped


def _drop_entry(table: CommentedMapping, path: YamlPath) -> bool:
    """Take out the value at a path, or the smallest thing around it that can go."""
    mapping: Any = table
    for index, part in enumerate(path):
        if not isinstance(mapping, CommentedMapping) or part not in mapping:
            return False
        entry = mapping[str(part)]
        is_last = index == len(path) - 1
        if isinstance(entry, CommentedValue):
            if isinstance(entry.value, list) and not is_last and len(entry.value) > 1:
                return _drop_list_item(entry, path[index + 1])
            del mapping[str(part)]
            return True
        if is_last:
            is_host = index == 1 and path[0] == "hosts"
            if is_host and entry:
                entry.clear()  # environments need their host: its settings get the names that are derived
            else:
                del mapping[str(part)]
            return True
        mapping = entry
    return False


def _drop_list_item(entry: CommentedValue, index: str | int) -> bool:
    if not isinstance(index, int) or index >= len(entry.value):
        return False
    entry.value = [item for number, item in enumerate(entry.value) if number != index]
    return True
