"""Fills in what is known of a script: its arguments, the variables that have one value, and the branches they choose.

Each line stays on its number, so that a message names the line of the file. What is not known stays as it is written.
"""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kiwari_ci.readers import script_branches
from kiwari_ci.readers.bounded_text import fill_in_values
from kiwari_ci.readers.shell import (
    find_here_documents,
    find_open_quote,
    parse_shell_commands,
    split_command_words,
    split_shell_commands,
)

MAX_FUNCTIONS = 100  # of a script that are looked at
MAX_SOURCED_FILES = 10  # of a script
MAX_ROUNDS = 3  # a variable decides which branch runs, and the branch sets another variable
_PLAIN_VALUE = re.compile(r"[\w./:@%+=,~-]*")
_IS_PLAIN_WORDS = re.compile(r"[\w./:@%+=,~ -]*").fullmatch
_POSITIONAL = re.compile(
    r"(?P<all>\"\$(?:@|\{@\})\")|\$(?:(?P<bare>[1-9@*])"
    r"|\{(?P<name>[1-9]\d?|[@*])(?P<operator>:?[-?])?(?P<word>[^{}]*)\})"
)
_VARIABLE = re.compile(
    r"\$(?:(?P<bare>[A-Za-z_]\w*)|\{(?P<name>[A-Za-z_]\w*)(?:(?P<operator>:?[-?])(?P<word>[^{}]*))?\})"
)
_OWN_PATH = r"\$(?:0|\{0\}|BASH_SOURCE|\{BASH_SOURCE(?:\[0\])?(?::-\$0)?\})"
_OWN_FOLDER = re.compile(
    rf"\$\([ \t]*dirname[ \t]+(?:--[ \t]+)?\"?{_OWN_PATH}\"?[ \t]*\)|\$\{{(?:0|BASH_SOURCE(?:\[0\])?)%/\*\}}"
)
_ABSOLUTE_FOLDER = re.compile(
    r"\$\([ \t]*(?:(?:CDPATH=[ \t]*)?cd[ \t]+(?:--[ \t]+)?\"?([\w./~-]+)\"?"
    r"(?:[ \t]*&?>[ \t]*/dev/null)?(?:[ \t]+2>&1)?[ \t]*&&[ \t]*pwd(?:[ \t]+-P)?"
    r"|(?:realpath|readlink[ \t]+-f)[ \t]+\"?([\w./~-]+)\"?)[ \t]*\)"
)
_FUNCTION_START = re.compile(
    r"^(?P<indent>[ \t]*)(?:function[ \t]+)?(?P<name>[A-Za-z_][\w-]*)[ \t]*\(\)[ \t]*\{?", re.MULTILINE
)
_WRAPPER_BODY = re.compile(r"([^\n;&|]*[^\s;&|])\s+\"?\$@\"?")
_CHANGES_ARGUMENTS = re.compile(r"(?:^|[\s;&|])(?:(?:shift|getopts)\b|set[ \t]+(?:-\w+[ \t]+)*--)")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?=)(.*)", re.DOTALL)
_DECLARATION_WORDS = {"export", "local", "readonly", "declare", "typeset", "then", "else", "do"}
_UNKNOWN_VALUE = "$"  # no plain one, so that it is not filled in
_READ_VARIABLE = re.compile(r"\b(?:read(?:\s+-\w+)*|for|select|getopts\s+\S+|mapfile(?:\s+-\w+)*)\s+([A-Za-z_]\w*)")

Span = tuple[int, int]


@dataclass(frozen=True)
class _Assignment:
    """An assignment of a script; `is_conditional` if only a run knows whether it happens."""

    name: str
    sign: str
    word: str
    is_conditional: bool


@dataclass(frozen=True)
class _VariableValues:
    """The value of each variable: `$` if it is not known. `optional` are those that nothing may have set."""

    values: Mapping[str, str]
    optional: set[str]


@dataclass(frozen=True)
class _Function:
    """A function of a script: its name, and where its text is, with its first line."""

    name: str
    span: Span


def is_plain_value(value: str) -> bool:
    """Whether a value is known, and means to a shell what it is."""
    return _PLAIN_VALUE.fullmatch(value) is not None


def fill_in_script_values(
    script: str,
    path: str,
    arguments: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    read_sourced_file: Callable[[str], str | None] = lambda _: None,
) -> str:
    """A script as it runs by the path, with the arguments and variables of its call.

    `read_sourced_file` gives the text of a file that the script reads with `source`, if it is known.
    """
    script = _expand_wrappers(_fill_in_own_folder(script, path), "")
    script = script_branches.blank_out_other_branches(_fill_in_arguments(script, arguments))
    for _ in range(MAX_ROUNDS):
        sourced = _fill_in_own_folder("\n".join(_list_sourced_texts(script, read_sourced_file)), path)
        filled_in = _expand_wrappers(script, sourced)
        values = _find_variable_values(sourced, variables or {}).values
        filled_in = script_branches.blank_out_other_branches(_fill_in_variables(filled_in, values))
        if filled_in == script:
            break
        script = filled_in
    return script


def _fill_in_own_folder(script: str, path: str) -> str:
    """A script with its own folder in place of the commands that find it."""
    folder = posixpath.dirname(path) or "."
    script = fill_in_values(_OWN_FOLDER, lambda match: folder if is_plain_value(folder) else match[0], script)
    return fill_in_values(_ABSOLUTE_FOLDER, lambda match: match[1] or match[2], script)


def _list_sourced_texts(script: str, read_sourced_file: Callable[[str], str | None]) -> list[str]:
    """The texts of the files that a script reads with `source`."""
    paths = [words[1] for words in parse_shell_commands(script) if words[0] in ("source", ".") and len(words) > 1]
    texts = [read_sourced_file(path) for path in list(dict.fromkeys(paths))[:MAX_SOURCED_FILES]]
    return [text for text in texts if text]


def _expand_wrappers(script: str, sourced: str) -> str:
    """A script in which functions that only begin a command, as `compose() { docker compose "$@"; }`, are that command.

    `sourced` is the text of the files that it reads with `source`.
    """
    beginnings = {**_list_wrappers(sourced), **_list_wrappers(script)}
    if not beginnings:
        return script
    call = re.compile(
        rf"(?P<before>^[ \t]*|(?:[;&|]|\bthen|\bdo|\belse|!)[ \t]+)(?P<name>{'|'.join(beginnings)})(?=[ \t])",
        re.MULTILINE,
    )
    return fill_in_values(call, lambda match: match["before"] + beginnings[match["name"]], script)


def _list_wrappers(script: str) -> dict[str, str]:
    """The functions of a script that only give their arguments to a command, with the beginning of that command."""
    beginnings = {}
    for function in _list_functions(script):
        start, end = function.span
        body = _FUNCTION_START.sub("", script[start:end], count=1).replace("\\\n", " ").strip().removesuffix("}")
        wrapper = _WRAPPER_BODY.fullmatch(body.strip().removesuffix(";").strip())
        if wrapper:
            beginnings[function.name] = wrapper[1]
    return beginnings


def _fill_in_arguments(script: str, arguments: Sequence[str]) -> str:
    """Fill in the arguments of a script, and those of each function that all calls give the same."""
    functions = _list_functions(script)
    bodies = [function.span for function in functions]
    outside = _blank_out(script, bodies)
    calls: dict[str, set[tuple[str, ...]]] = {}
    for words in parse_shell_commands(script):
        calls.setdefault(words[0], set()).add(tuple(words[1:]))
    for function in reversed(functions):  # what is filled in changes only the places behind it
        start, end = function.span
        body = _fill_in_function(script[start:end], calls.get(function.name, set()))
        script = script[:start] + body + script[end:]
    if _CHANGES_ARGUMENTS.search(outside):
        return script
    bodies = [function.span for function in _list_functions(script)]
    return _fill_in_where_read(_POSITIONAL, lambda match: _get_argument(match, arguments), script, bodies)


def _fill_in_function(body: str, calls: set[tuple[str, ...]]) -> str:
    """The text of a function with its arguments, if all calls of it have the same."""
    if len(calls) != 1 or _CHANGES_ARGUMENTS.search(body):
        return body
    arguments = next(iter(calls))
    return _fill_in_where_read(_POSITIONAL, lambda match: _get_argument(match, arguments), body)


def _get_argument(match: re.Match[str], arguments: Sequence[str]) -> str:
    name = match["bare"] or match["name"]
    if match["all"] or name in ("@", "*"):
        return " ".join(arguments) if all(map(is_plain_value, arguments)) else match[0]
    number = int(name)
    value = arguments[number - 1] if number <= len(arguments) else ""
    if not is_plain_value(value):
        return match[0]
    is_default = not value and (match["operator"] or "").endswith("-")
    return match["word"] if is_default else value


def _list_functions(script: str) -> list[_Function]:
    """The functions of a script, each up to the bracket that stands as far in as its name does."""
    functions: list[_Function] = []
    end_of_last = 0
    for match in _FUNCTION_START.finditer(script):
        if match.start() < end_of_last or len(functions) >= MAX_FUNCTIONS:
            continue
        line_end = _find_line_end(script, match.end())
        end = line_end
        if not script[match.end() : line_end].rstrip().endswith("}"):
            closing = re.compile(rf"^{match['indent']}\}}", re.MULTILINE).search(script, line_end)
            end = closing.end() if closing else line_end
        functions.append(_Function(match["name"], (match.start(), end)))
        end_of_last = end
    return functions


def _find_line_end(script: str, start: int) -> int:
    end = script.find("\n", start)
    return len(script) if end < 0 else end


def _fill_in_variables(script: str, variables: Mapping[str, str]) -> str:
    """Fill in the variables that have one value in the whole script, and the defaults of those that it never sets."""
    known = _find_variable_values(script, variables)

    def get_value(match: re.Match[str]) -> str:
        name = match["bare"] or match["name"]
        default = match["word"] if (match["operator"] or "").endswith("-") else None
        value = known.values.get(name, default)
        if name in known.optional and default is not None and value != default:
            return match[0]
        is_assigned = script[match.start() - 1 : match.start()] == "="
        is_known = value is not None and (is_plain_value(value) or (_IS_PLAIN_WORDS(value) and not is_assigned))
        return str(value) if is_known else match[0]

    return _fill_in_where_read(_VARIABLE, get_value, script)


def _find_variable_values(script: str, variables: Mapping[str, str]) -> _VariableValues:
    """The value of each variable that has one in the whole script."""
    values = dict(variables)
    assigned: set[str] = set()
    optional: set[str] = set()
    for name in _READ_VARIABLE.findall(script):
        values[name] = _UNKNOWN_VALUE
        assigned.add(name)
    for assignment in _list_assignments(script):
        name = assignment.name
        value = _evaluate(assignment.word, values)
        if assignment.is_conditional and name not in values:
            optional.add(name)
        has_value = name in values if assignment.is_conditional else name in assigned
        is_other_value = has_value and values.get(name) != value
        values[name] = _UNKNOWN_VALUE if assignment.sign == "+=" or is_other_value else value
        assigned.add(name)
    return _VariableValues(values, optional)


def _evaluate(word: str, values: Mapping[str, str]) -> str:
    """The value of a word, as far as it is known."""
    if len(word) > 1 and word[0] == word[-1] == "'":
        return word[1:-1]

    def get_value(match: re.Match[str]) -> str:
        value = values.get(match["bare"] or match["name"])
        if not value and (match["operator"] or "").endswith("-"):
            return str(match["word"])
        return match[0] if value is None else value

    return fill_in_values(_VARIABLE, get_value, word).replace('"', "").replace("'", "")


def _list_assignments(script: str) -> Iterator[_Assignment]:
    """The assignments of a script that last longer than one command."""
    depth = 0  # of `if` and `case`
    follows_test = False  # as in `[ -f FILE ] && NAME=value`
    for command in split_shell_commands(script):
        words = split_command_words(command)
        first_word = words[0] if words else ""
        depth += first_word in ("if", "case")
        depth -= first_word in ("fi", "esac") and depth > 0
        is_conditional = depth > 0 or follows_test
        follows_test = first_word in ("[", "[[", "test")
        while words and (words[0] in _DECLARATION_WORDS or words[0].endswith(")") or words[0].startswith("-")):
            words = words[1:]
        assignments = [_ASSIGNMENT.fullmatch(word) for word in words]
        for assignment in assignments if all(assignments) else []:
            if assignment:
                yield _Assignment(assignment[1], assignment[2], assignment[3], is_conditional)


def _fill_in_where_read(
    pattern: re.Pattern[str], get_value: Callable[[re.Match[str]], str], script: str, left_out: Sequence[Span] = ()
) -> str:
    """A script with values in place of the references that its shell reads: none in single quotes or a comment."""
    scanned = _blank_out(script, find_here_documents(script))
    end = 0
    quote = ""

    def get_value_where_read(match: re.Match[str]) -> str:
        nonlocal end, quote
        quote = find_open_quote(scanned[end : match.start()], quote)
        end = match.start()
        is_left_out = any(start <= match.start() < stop for start, stop in left_out)
        return match[0] if quote in ("'", "#") or is_left_out else get_value(match)

    return fill_in_values(pattern, get_value_where_read, script)


def _blank_out(script: str, spans: Sequence[Span]) -> str:
    """A script of the same length with line ends in place of some parts."""
    for start, stop in spans:
        script = script[:start] + "\n" * (stop - start) + script[stop:]
    return script
