"""Decides which branch of a script runs, where a `case` or an `if` compares known texts: the others become blank lines.

Only what is written over several lines in the usual way is read; anything else stays as it is.
"""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from kiwari_ci.readers.shell import find_open_quote

MAX_DECISIONS = 100  # of a script
MAX_LINES_OF_BLOCK = 500  # of a `case` or an `if` that is decided
_TEXT = r"(?:\"([\w./:@%+=,~-]*)\"|'([\w./:@%+=,~-]*)'|([\w./:@%+=,~-]+))"
_CASE_START = re.compile(rf"\s*case\s+{_TEXT}\s+in\s*(?:#.*)?")
_ANY_CASE_START = re.compile(r"\s*case\s.*\sin\s*(?:#.*)?")
_CASE_END = re.compile(r"\s*esac\b.*")
_CASE_PATTERN = re.compile(r"\s*+\(?([^()#;]+)\)(.*)")
_BRANCH_END = re.compile(r";;\s*(?:#.*)?$")
_COMPARISON = re.compile(rf"\[\[?\s+{_TEXT}\s+(==?|!=)\s+{_TEXT}\s+\]\]?")
_LENGTH_TEST = re.compile(rf"\[\[?\s+(-[zn])\s+{_TEXT}\s+\]\]?")
_ANY_IF_START = re.compile(r"\s*if\s")
_ELIF = re.compile(r"(\s*)elif\s+(.+)")
_ELSE = re.compile(r"\s*else\s*(?:#.*)?")
_IF_END = re.compile(r"(?:.*[;\s])?fi\b\s*(?:[;&|#)].*)?")
_CONDITIONAL_COMMAND = re.compile(r"(\s*)(\[.+?\])\s*+(&&|\|\|)\s*+([^&|;]+)")
_GOES_ON_AFTER_LINE = re.compile(r"[\\({]\s*$|<<")


def blank_out_other_branches(script: str) -> str:
    """A script of as many lines without the branches that do not run."""
    lines = script.split("\n")
    decisions = 0
    number = 0
    while number < len(lines) and decisions < MAX_DECISIONS:
        is_block = _CASE_START.fullmatch(lines[number]) is not None or bool(_get_condition(lines[number]))
        decisions += is_block
        if is_block and (_decide_case(lines, number) or _decide_if(lines, number)):
            continue  # what is left of it may begin with another one
        _decide_conditional_command(lines, number)
        number += 1
    return "\n".join(lines)


def _decide_case(lines: list[str], start: int) -> bool:
    """Leave of a `case` that starts on a line only the branch that runs; false if there is none that can be decided."""
    head = _CASE_START.fullmatch(lines[start])
    end = _find_case_end(lines, start) if head else 0
    if not head or not end:
        return False
    subject = _get_text(head, 1)
    branches = list(_list_branches(lines, start + 1, end))
    if not branches:
        return False
    chosen = next((branch for branch in branches if _matches(subject, branch[2])), None)
    lines_of_branch = range(chosen[0], chosen[1]) if chosen else range(0)
    for number in range(start, end + 1):
        lines[number] = _strip_branch_signs(lines[number], number, lines_of_branch) if number in lines_of_branch else ""
    return True


def _strip_branch_signs(line: str, number: int, lines_of_branch: range) -> str:
    if number == lines_of_branch.start:
        pattern = _CASE_PATTERN.fullmatch(line)
        line = pattern[2] if pattern else line
    return _BRANCH_END.sub("", line) if number == lines_of_branch.stop - 1 else line


def _find_case_end(lines: list[str], start: int) -> int:
    """The line of the `esac`; 0 for none."""
    depth = 0
    for number in range(start, min(len(lines), start + MAX_LINES_OF_BLOCK)):
        if _ANY_CASE_START.fullmatch(lines[number]):
            depth += 1
        elif _CASE_END.fullmatch(lines[number]):
            depth -= 1
            if not depth:
                return number
    return 0


def _list_branches(lines: list[str], start: int, end: int) -> Iterator[tuple[int, int, str]]:
    """The branches of a `case`: their first line, the line behind them, and their patterns."""
    first = 0
    patterns = ""
    depth = 0
    for number in range(start, end):
        line = lines[number]
        if not first:
            pattern = _CASE_PATTERN.fullmatch(line)
            if not pattern:
                continue
            first, patterns = number, pattern[1]
        depth += _ANY_CASE_START.fullmatch(line) is not None
        depth -= _CASE_END.fullmatch(line) is not None
        is_last = number == end - 1
        if not depth and (_BRANCH_END.search(line) or is_last):
            yield first, number + 1, patterns
            first = 0


def _matches(subject: str, patterns: str) -> bool:
    """Whether one of the patterns of a branch is that of a text."""
    return any(fnmatchcase(subject, pattern.strip().strip("\"'")) for pattern in patterns.split("|"))


def _decide_if(lines: list[str], start: int) -> bool:
    """Leave of an `if` that starts on a line only the branch that runs; false if it cannot be decided."""
    holds = _evaluate(_get_condition(lines[start]))
    parts = _list_parts_of_if(lines, start) if holds is not None else []
    if len(parts) < 2:
        return False
    end = parts[-1]
    if holds:
        _blank_out(lines, start, start + 1)
        _blank_out_then(lines, start + 1)
        _blank_out(lines, parts[1], end + 1)
        return True
    following = parts[1]
    _blank_out(lines, start, following)
    other_condition = _ELIF.fullmatch(lines[following])
    if other_condition:
        lines[following] = f"{other_condition[1]}if {other_condition[2]}"
        return True
    _blank_out(lines, following, following + 1)
    _blank_out(lines, end, end + 1)
    return True


def _get_condition(line: str) -> str:
    """The condition of an `if` that has a line for itself, with or without its `then`; empty for another line."""
    if not _ANY_IF_START.match(line):
        return ""
    condition = line.strip().removeprefix("if").strip()
    before_then = condition.removesuffix("then").rstrip()
    return before_then.removesuffix(";").rstrip() if before_then.endswith(";") else condition


def _list_parts_of_if(lines: list[str], start: int) -> list[int]:
    """The lines of the `if`, of each `elif` and `else` of it, and of its `fi`; none without a `fi`."""
    parts = [start]
    depth = 0
    for number in range(start, min(len(lines), start + MAX_LINES_OF_BLOCK)):
        line = lines[number]
        if _ANY_IF_START.match(line):
            depth += 1
        if depth == 1 and number > start and (_ELIF.fullmatch(line) or _ELSE.fullmatch(line)):
            parts.append(number)
        if _IF_END.fullmatch(line):
            depth -= 1
            if not depth:
                return [*parts, number]
    return []


def _blank_out_then(lines: list[str], number: int) -> None:
    if lines[number].strip() == "then":
        lines[number] = ""


def _blank_out(lines: list[str], start: int, end: int) -> None:
    lines[start:end] = [""] * (end - start)


def _decide_conditional_command(lines: list[str], number: int) -> None:
    """Leave of `[ A = B ] && command` the command, or nothing, if the comparison can be decided."""
    command = _CONDITIONAL_COMMAND.fullmatch(lines[number])
    holds = _evaluate(command[2]) if command and _ends_on_its_line(command[4]) else None
    if command and holds is not None:
        runs = holds if command[3] == "&&" else not holds
        lines[number] = command[1] + command[4] if runs else ""


def _ends_on_its_line(command: str) -> bool:
    """Whether the line has the whole command: no open quote, bracket, here-document, or backslash at its end."""
    return not _GOES_ON_AFTER_LINE.search(command) and find_open_quote(command) not in ("'", '"')


def _evaluate(condition: str) -> bool | None:
    """Whether a comparison of two texts holds; None for any other condition."""
    comparison = _COMPARISON.fullmatch(condition)
    if comparison:
        is_equal = _get_text(comparison, 1) == _get_text(comparison, 5)
        return is_equal if comparison[4] != "!=" else not is_equal
    length_test = _LENGTH_TEST.fullmatch(condition)
    if length_test:
        is_empty = not _get_text(length_test, 2)
        return is_empty if length_test[1] == "-z" else not is_empty
    return None


def _get_text(match: re.Match[str], group: int) -> str:
    """The text that stands in one of three groups, by its quotes."""
    return match[group] or match[group + 1] or match[group + 2] or ""
