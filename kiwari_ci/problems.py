"""What is wrong with a spec, and how it is told: as text, as GitHub annotations, as JSON."""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from typing import Literal

from kiwari_ci.frozen import dataclass


@dataclass(frozen=True)
class Problem:
    """One fault or advice; line and column count from 1 (0: the whole file), length and column in characters.

    `rule` is its stable short name, `excerpt` the text of the line that it points at.
    """

    rule: str
    message: str
    path: str
    line: int = 0
    column: int = 0
    length: int = 1
    hint: str = ""
    severity: Literal["error", "advice"] = "error"
    excerpt: str = ""


class SpecError(Exception):  # noqa: N818 - it holds many, and is never one
    """Everything that is wrong with a spec, found in one pass."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep the problems in the order in which a reader meets them."""
        self.problems = sort_problems(problems)
        super().__init__(format_problems_text(self.problems))


def sort_problems(problems: Iterable[Problem]) -> list[Problem]:
    """Sort by place, each problem once."""
    return sorted(dict.fromkeys(problems), key=lambda p: (p.path, p.line, p.column, p.rule, p.message))


def format_problems_text(problems: Iterable[Problem]) -> str:
    """For people: place, words, the line with a caret, a hint."""
    return "\n".join(_format_problem(problem) for problem in problems)


def format_problems_github(problems: Iterable[Problem]) -> str:
    """For a workflow's log: one annotation each.

    Escapes: https://github.com/actions/toolkit/blob/main/packages/core/src/command.ts
    """
    return "\n".join(_format_annotation(problem) for problem in problems)


def format_problems_json(problems: Iterable[Problem]) -> str:
    """For programs: a list of objects with the fields of Problem."""
    return escape_json(json.dumps([asdict(problem) for problem in problems], indent=2, ensure_ascii=False))


# Printable by Unicode's classes, and not to be seen: fillers, a blank Braille cell, selectors that change nothing here.
_INVISIBLE_CHARACTER = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\uffa0\U000e0100-\U000e01ef]"
)
_NO_PLAIN_TEXT = re.compile(r"[^\n\t]+")


def escape_control_characters(text: str) -> str:
    """A name or text of somebody else's, on one line: nothing in it moves the cursor, turns the text, or hides."""
    plain = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return _INVISIBLE_CHARACTER.sub("\ufffd", plain)


def escape_text(text: str) -> str:
    """Lines, as a terminal, a log or a summary may see them: line ends and tabs stay, what escapes a name goes."""
    return _NO_PLAIN_TEXT.sub(lambda found: escape_control_characters(found[0]), text)


def escape_json(text: str) -> str:
    r"""JSON whose strings hold no character that a terminal would obey: each stands as `\\uXXXX`, the same to a program."""
    return _NO_PLAIN_TEXT.sub(lambda found: "".join(map(_escape_json_character, found[0])), text)


def _escape_json_character(character: str) -> str:
    if character.isprintable() and not _INVISIBLE_CHARACTER.match(character):
        return character
    return json.dumps(character)[1:-1]


def join_with_limit(items: Iterable[str], most: int = 8) -> str:
    """`a, b, c`, and how many more there are."""
    found = list(items)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more


def _format_problem(problem: Problem) -> str:
    place = ":".join(
        str(part) for part in (escape_control_characters(problem.path), problem.line, problem.column) if part
    )
    word = "advice: " if problem.severity == "advice" else ""
    message = escape_text(problem.message)
    lines = [f"{place}: {word}{message} [{problem.rule}]"]
    if problem.excerpt.strip():
        number = str(problem.line)
        blank = " " * len(number)
        caret = " " * (problem.column - 1) + "^" + "~" * (problem.length - 1)
        lines += [f"{blank} |", f"{number} | {problem.excerpt}", f"{blank} | {caret}"]
    if problem.hint:
        lines.append(f"hint: {escape_text(problem.hint)}")
    return "\n".join(lines)


def _format_annotation(problem: Problem) -> str:
    command = "notice" if problem.severity == "advice" else "error"
    fields = {"file": problem.path, "line": problem.line, "col": problem.column, "title": problem.rule}
    properties = ",".join(f"{key}={_escape_annotation(str(value), ',:')}" for key, value in fields.items() if value)
    words = problem.message + (f"\nhint: {problem.hint}" if problem.hint else "")
    return f"::{command} {properties}::{_escape_annotation(words)}"


def _escape_annotation(text: str, more: str = "") -> str:
    text = "\r".join(map(escape_text, text.split("\r")))
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
