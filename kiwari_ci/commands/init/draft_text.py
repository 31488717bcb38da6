"""A spec in the making: its values, each with the comment that says where it comes from, and its text."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kiwari_ci import generator
from kiwari_ci.commands.init.workflow_outcomes import WorkflowOutcome
from kiwari_ci.loading.yaml_source import YamlPath, YamlSource, parse_yaml
from kiwari_ci.problems import Problem, SpecError
from kiwari_ci.rendering import quoting

MAX_COMMENT_LENGTH = 160  # characters of a comment
MAX_FLOW_WIDTH = 80  # characters of a list on one line


def to_single_line(text: str) -> str:
    """Text from a repository as one line of a comment: nothing in it can end the line."""
    line = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return line if len(line) <= MAX_COMMENT_LENGTH else line[: MAX_COMMENT_LENGTH - 1] + "…"


@dataclass
class InitResult:
    """What init made of a repository: a spec's text and its path from the root, and what to tell a person."""

    path: str
    text: str
    was: str | None  # the file before: None when there is none
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


@dataclass
class CommentedValue:
    """A value on a line of its own: a scalar, or a small list or mapping in brackets; `note` stands behind it."""

    value: Any
    note: str = ""
    above: list[str] = field(default_factory=list)


class CommentedMapping(dict[str, "CommentedValue | CommentedMapping"]):
    """A mapping over several lines, with the comments above its key."""

    def __init__(self, *above: str, note: str = "") -> None:
        """Empty."""
        super().__init__()
        self.above, self.note = list(above), note

    def put(self, key: str, value: Any, note: str = "", *above: str) -> None:
        """Set a key to a value, with its comments."""
        self[key] = CommentedValue(value, note, list(above))


def render_mapping(table: CommentedMapping, indent: int = 0) -> str:
    """The YAML of a table."""
    lines: list[str] = []
    blank = "  " * indent
    for key, item in table.items():
        lines += [f"{blank}# {to_single_line(each)}" for each in item.above]
        note = f" # {to_single_line(item.note)}" if item.note else ""
        if (
            isinstance(item, CommentedValue)
            and isinstance(item.value, list)
            and len(render_flow_style(item.value)) > MAX_FLOW_WIDTH
        ):
            lines.append(f"{blank}{quoting.yaml(key)}:{note}")
            lines += [f"{blank}  - {render_flow_style(each)}" for each in item.value]
        elif isinstance(item, CommentedValue):
            head, *rest = _render_value(item.value, 2 * indent + 2).split("\n")
            lines += [f"{blank}{quoting.yaml(key)}: {head}{note}", *rest]
        elif item:
            lines += [f"{blank}{quoting.yaml(key)}:{note}", render_mapping(item, indent + 1)]
        else:
            lines.append(f"{blank}{quoting.yaml(key)}: {{}}{note}")
        if indent == 0:
            lines.append("")
    return "\n".join(lines)


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
    if isinstance(value, str) and "\n" in value:
        try:
            return quoting.block(value, indent)
        except ValueError:
            return quoting.yaml(value)
    return render_flow_style(value)


def drop_until_valid(
    table: CommentedMapping, path: str, whole: Callable[[CommentedMapping, list[str]], str]
) -> tuple[str, list[str]]:
    """The text of a spec that is sound, and what was left out for that; raises Faults when nothing sound is left.

    `whole` makes a spec of the table, and of what was left out so far.
    """
    left: list[str] = []
    while True:
        made = whole(table, left)
        read = parse_yaml(path, made)
        try:
            generator.validate_and_plan(read)
            return made, left
        except SpecError as faults:
            if not (dropped := _drop_invalid_entries(table, read, faults.problems)):
                raise
            left += dropped


def locate_decisions(read: YamlSource, decisions: list[tuple[YamlPath, str]]) -> list[tuple[int, str]]:
    """What to decide, with the line of the spec; a place that was left out is no question any more."""
    known = [(read.keys[loc].line, words) for loc, words in decisions if loc in read.keys]
    return sorted(dict.fromkeys(known))


def _drop_invalid_entries(table: CommentedMapping, read: YamlSource, problems: list[Problem]) -> list[str]:
    """Take out what is refused; a line for each that went."""
    gone = []
    for problem in problems:
        places = [*read.keys.items(), *read.values.items()]
        found = [loc for loc, place in places if (place.line, place.column) == (problem.line, problem.column)]
        loc = max(found, key=len, default=())
        if problem.rule == "clash" and loc[2:3] == ("env",) and _drop_shared_env_files(table):
            gone.append(f"left out: env_file, so that each service gets its own: {problem.message}")
        elif loc and _drop_entry(table, loc):
            gone.append(f"left out: {problem.message}" + (f" ({problem.hint})" if problem.hint else ""))
    return gone


def _drop_shared_env_files(table: CommentedMapping) -> bool:
    """Take the shared env files out; whether there was one."""
    places = table.get("environments")
    tables = (
        [each for each in places.values() if isinstance(each, CommentedMapping)]
        if isinstance(places, CommentedMapping)
        else []
    )
    return any([each.pop("env_file", None) is not None for each in tables])


def _drop_entry(table: CommentedMapping, loc: YamlPath) -> bool:
    """Take out the value at a place, or the smallest thing around it that can go."""
    here: Any = table
    for index, part in enumerate(loc):
        if not isinstance(here, CommentedMapping) or part not in here:
            return False
        item = here[str(part)]
        last = index == len(loc) - 1
        if isinstance(item, CommentedValue) and isinstance(item.value, list) and not last and len(item.value) > 1:
            return _drop_list_entry(item, loc[index + 1])
        if isinstance(item, CommentedMapping) and last and index == 1 and loc[0] == "hosts" and item:
            item.clear()  # environments need their host: its settings get the names that are derived
            return True
        if isinstance(item, CommentedValue) or last:
            del here[str(part)]
            return True
        here = item
    return False


def _drop_list_entry(leaf: CommentedValue, index: str | int) -> bool:
    if not isinstance(index, int) or index >= len(leaf.value):
        return False
    leaf.value = [each for number, each in enumerate(leaf.value) if number != index]
    return True
