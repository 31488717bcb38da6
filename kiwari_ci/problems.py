"""Problems of a spec, and their output as text, as GitHub annotations and as JSON."""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Literal

from kiwari_ci.frozen import dataclass

Severity = Literal["error", "advice"]

# Every name that a problem can have: users see it in brackets, and programs may rely on it.
RuleName = Literal[
    "alias",
    "anchor",
    "artifact-name",
    "baked-address",
    "base",
    "branches",
    "build-argument",
    "cache",
    "clash",
    "compose",
    "control-character",
    "declined",
    "depends-on",
    "directive",
    "docker-socket",
    "dockerfile",
    "duplicate",
    "duplicate-key",
    "empty",
    "excluded",
    "expression",
    "file-name",
    "filter",
    "fixed-upstream",
    "found-by-proxy",
    "generator",
    "healthcheck-tool",
    "host",
    "host-path",
    "ignored",
    "image-of",
    "kept-runner",
    "key-not-text",
    "large-files",
    "long-number",
    "merge-key",
    "missing-key",
    "moving-image",
    "moving-runner",
    "no-dockerfile",
    "no-file",
    "no-files",
    "no-folder",
    "no-match",
    "no-repository",
    "no-service",
    "no-source",
    "no-such-path",
    "not-a-mapping",
    "not-editable",
    "not-in-spec",
    "not-on-a-cluster",
    "not-text",
    "not-the-root",
    "not-there",
    "once",
    "open-port",
    "pin",
    "pin-action",
    "pin-disagrees",
    "pin-frozen",
    "pin-older",
    "pin-tag",
    "pin-twice",
    "port",
    "privileged",
    "promotion",
    "proxy",
    "pushed-files",
    "registry",
    "rendered",
    "reserved",
    "same-disk",
    "schedule",
    "second-document",
    "secret-value",
    "server-version",
    "several-specs",
    "shared-env-file",
    "shared-key",
    "shared-network",
    "shared-volume",
    "step",
    "step-pin",
    "submodule",
    "tag",
    "takeover-name",
    "too-deep",
    "too-large",
    "too-long",
    "type",
    "uncovered",
    "unknown-key",
    "unknown-name",
    "unsent-file",
    "unused",
    "value",
    "variable",
    "whole-repository",
    "worker",
    "yaml-syntax",
]


@dataclass(frozen=True)
class Problem:
    """An error or a piece of advice, and the place in a file that it is about.

    `rule` is its stable short name. Line and column count from 1, and 0 stands for the whole file; length and column
    are in characters. `excerpt` is the text of the line.
    """

    rule: RuleName
    message: str
    path: str
    line: int = 0
    column: int = 0
    length: int = 1
    hint: str = ""
    severity: Severity = "error"
    excerpt: str = ""


@dataclass(frozen=True)
class Annotation:
    """A message that GitHub shows beside a line of a file, or for the whole run when it has no path."""

    title: str
    message: str
    path: str = ""
    line: int = 0
    column: int = 0
    severity: Severity = "error"


class SpecError(Exception):  # noqa: N818 - it holds many, and is never one
    """All problems of a spec, collected in one pass."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Sort the problems by their place in the file."""
        self.problems = sort_problems(problems)
        super().__init__(format_problems_text(self.problems))


def sort_problems(problems: Iterable[Problem]) -> list[Problem]:
    """Sort problems by place, and drop those that say the same of the same place, whatever they suggest."""
    by_place = {_get_sort_key(problem): problem for problem in reversed(list(problems))}
    return [by_place[key] for key in sorted(by_place)]


def format_problems_text(problems: Iterable[Problem]) -> str:
    """Format problems for people: place, message, the line with a caret, and a hint."""
    return "\n".join(_format_problem(problem) for problem in problems)


def format_problems_github(problems: Iterable[Problem]) -> str:
    """Format problems for a workflow's log: one annotation for each."""
    return format_annotations(_build_annotation(problem) for problem in problems)


def format_annotations(annotations: Iterable[Annotation]) -> str:
    """Format annotations as commands to GitHub's runner.

    Escapes: https://github.com/actions/toolkit/blob/main/packages/core/src/command.ts
    """
    return "\n".join(_format_annotation(annotation) for annotation in annotations)


def format_problems_json(problems: Iterable[Problem]) -> str:
    """Format problems for programs: a list of objects with the fields of Problem."""
    return format_json([asdict(problem) for problem in problems])


def format_json(value: Any) -> str:
    """Format plain data as JSON that is safe to print on a terminal."""
    return escape_json(json.dumps(value, indent=2, ensure_ascii=False))


# Unicode calls these printable, but nobody sees them: fillers, a blank Braille cell, variation selectors.
_INVISIBLE_CHARACTER = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\U000e0100-\U000e01ef]"
)
_LINE_PART = re.compile(r"[^\n\t]+")


def escape_control_characters(text: str) -> str:
    """Escape text from outside that is shown on one line.

    Nothing in the result moves the cursor, changes the direction of the text, or is invisible.
    """
    if _is_plain(text):
        return text
    printable = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return _INVISIBLE_CHARACTER.sub("\ufffd", printable)


def escape_text(text: str) -> str:
    """Escape lines of text for a terminal, a log or a summary; line breaks and tabs stay."""
    return _LINE_PART.sub(lambda match: escape_control_characters(match[0]), text)


def escape_json(text: str) -> str:
    r"""Write each character of JSON strings that a terminal would obey as `\uXXXX`, which programs read as the same."""
    return _LINE_PART.sub(lambda match: _escape_json_line(match[0]), text)


def _escape_json_line(line: str) -> str:
    if _is_plain(line):
        return line
    return "".join(character if _is_plain(character) else json.dumps(character)[1:-1] for character in line)


def _is_plain(text: str) -> bool:
    """Whether a terminal shows each character of a text, and obeys none."""
    return text.isprintable() and not _INVISIBLE_CHARACTER.search(text)


def join_with_limit(texts: Iterable[str], limit: int = 8) -> str:
    """Join texts as `a, b, c`, and say how many more there are."""
    all_texts = list(texts)
    joined = ", ".join(all_texts[:limit])
    if len(all_texts) > limit:
        return f"{joined} and {len(all_texts) - limit} more"
    return joined


def _get_sort_key(problem: Problem) -> tuple[str, int, int, str, str]:
    return problem.path, problem.line, problem.column, problem.rule, problem.message


def _format_problem(problem: Problem) -> str:
    location = escape_control_characters(problem.path)
    for number in (problem.line, problem.column):
        if number:
            location += f":{number}" if location else f"{number}"
    severity = "advice: " if problem.severity == "advice" else ""
    lines = [f"{location}: {severity}{escape_text(problem.message)} [{problem.rule}]"]
    if problem.excerpt.strip():
        lines += _format_excerpt(problem)
    if problem.hint:
        lines.append(f"hint: {escape_text(problem.hint)}")
    return "\n".join(lines)


def _format_excerpt(problem: Problem) -> list[str]:
    """Format the line of the file with a caret below the column."""
    line_number = str(problem.line)
    margin = " " * len(line_number)
    caret = " " * (problem.column - 1) + "^" + "~" * (problem.length - 1)
    return [f"{margin} |", f"{line_number} | {problem.excerpt}", f"{margin} | {caret}"]


def _build_annotation(problem: Problem) -> Annotation:
    message = problem.message
    if problem.hint:
        message += f"\nhint: {problem.hint}"
    return Annotation(problem.rule, message, problem.path, problem.line, problem.column, problem.severity)


def _format_annotation(annotation: Annotation) -> str:
    command = "notice" if annotation.severity == "advice" else "error"
    fields = {"file": annotation.path, "line": annotation.line, "col": annotation.column, "title": annotation.title}
    properties = ",".join(f"{key}={_escape_annotation(str(value), ',:')}" for key, value in fields.items() if value)
    return f"::{command} {properties}::{_escape_annotation(annotation.message)}"


def _escape_annotation(text: str, separators: str = "") -> str:
    escaped = "\r".join(map(escape_text, text.split("\r")))  # escape_text would replace the carriage returns
    for character in "%\r\n" + separators:
        escaped = escaped.replace(character, f"%{ord(character):02X}")
    return escaped
