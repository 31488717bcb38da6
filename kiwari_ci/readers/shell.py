"""What a script calls, read from its text: the commands with their words, variables put in where the script sets them.

Best effort, never run: loops give each of their values, a here-document is the last word of its command.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, islice, product

from kiwari_ci.readers.bounded_text import fill_in_values

MAX_COMMANDS = 2_000  # commands of a script
MAX_SCRIPT_LENGTH = 100_000  # characters of a script
MAX_VARIABLE_LENGTH = 1_000  # characters of a variable: one made of others grows no further
_VARIABLE_REFERENCE = re.compile(r"\$(?:\{(\w+)(?::?[-?][^}]{0,200})?\}|(\w+))")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_COMMAND_START = re.compile(r"[^()]+\)|[\w-]+\(\)")  # a pattern of `case`, or the name of a function
_COMMAND_SUBSTITUTION = re.compile(r"(?:export\s+|local\s+|readonly\s+)?\w+=\"?\$\(")
_MAX_LOGICAL_LINE_LENGTH = 20_000  # characters of lines that a quote makes one
_MAX_LINES_OF_LOGICAL_LINE = 300
_MAX_HERE_DOCUMENTS_OF_LINE = 20  # that are tried: most of `<<` in a long line are calculations
_SEPARATORS = " \t;&|()\n"  # between commands
_LEADING_SEPARATORS = re.compile(r"(?:[ \t;&|()\n]|\\\n)*+")
_SINGLE_QUOTE = "'"
_QUOTE_IN_QUOTES = "'\\''"  # how a text in single quotes has a single quote
_HEREDOC = re.compile(r"(?<!<)<<-?\s*(['\"]?)(\w+)\1")
_DOUBLE_QUOTED_WORD = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ESCAPED_IN_DOUBLE_QUOTES = re.compile(r'\\(["$`\\])')
_DECLARATION_WORDS = {"export", "local", "readonly", "declare", "typeset"}
_CLOSING_CHARACTERS = {"'": "'", '"': '"', "#": "\n"}
_COMMAND_PREFIXES = {
    "if",
    "then",
    "else",
    "elif",
    "do",
    "while",
    "until",
    "!",
    "{",
    "(",
    "sudo",
    "time",
    "exec",
    "eval",
    "nohup",
}
_SHELL_WORD = re.compile(r"""(?:[^\s'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*"|['"\\])+""", re.DOTALL)

ShellVariables = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class ShellCommand:
    """A command of a script as its words, the line of the script on which it starts, and the variables that it gets.

    The variables are those that the script exports and those before the command, each that has one value.
    """

    words: list[str]
    line: int
    variables: dict[str, str] = field(default_factory=dict)


def parse_shell_commands(script: str, variables: ShellVariables | None = None) -> list[list[str]]:
    """The commands of a script, in order, each as its words; one with a variable of several values, once for each."""
    return [command.words for command in locate_shell_commands(script, variables)]


def locate_shell_commands(script: str, variables: ShellVariables | None = None) -> list[ShellCommand]:
    """The commands of a script as `parse_shell_commands` gives them, with their lines."""
    known: dict[str, tuple[str, ...]] = dict(variables or {})
    exported: set[str] = set()
    commands: list[ShellCommand] = []
    for text, line in _split_commands(script[:MAX_SCRIPT_LENGTH]):
        if _COMMAND_SUBSTITUTION.match(text):
            continue
        words = _SHELL_WORD.findall(text)
        while words and (words[0] in _COMMAND_PREFIXES or _COMMAND_START.fullmatch(words[0])):
            words = words[1:]
        if words[:1] == ["for"] and words[2:3] == ["in"]:
            known.pop(words[1], None)
            if not _has_command_substitution(words[3:]):
                known[words[1]] = tuple(plain for word in words[3:] for plain in _expand_word(word, known))[:20]
            continue
        is_export = words[:1] == ["export"]
        if words[:1] and words[0] in _DECLARATION_WORDS and _ASSIGNMENT.fullmatch(" ".join(words[1:2])):
            words = words[1:]
        set_before: set[str] = set()
        position = 0
        while position < len(words) and (assignment := _ASSIGNMENT.fullmatch(words[position])):
            known[assignment[1]] = tuple(
                value[:MAX_VARIABLE_LENGTH] for value in _expand_word(assignment[2][:MAX_VARIABLE_LENGTH], known)
            )
            set_before.add(assignment[1])
            position += 1
        words = words[position:]
        if is_export:
            exported |= set_before | set(words[1:])
        if words:
            used = {name for word in words for name in _find_variable_names(word)} & known.keys()
            single_values = {name: known[name][0] for name in exported | set_before if len(known.get(name, ())) == 1}
            for values in _combine_variables(used, known):
                commands.append(ShellCommand([_unquote_word(word, values) for word in words], line, single_values))
        if len(commands) > MAX_COMMANDS:
            break
    return commands[:MAX_COMMANDS]


def split_shell_commands(script: str) -> tuple[str, ...]:
    """The commands of a script as they are written, without comments; one with a here-document has it as a word."""
    return tuple(text for text, _ in _split_commands(script[:MAX_SCRIPT_LENGTH]))


def split_command_words(command: str) -> list[str]:
    """The words of a command as they are written, with their quotes."""
    return _SHELL_WORD.findall(command)


def _has_command_substitution(words: list[str]) -> bool:
    """Whether only a run tells some of the words: they are what a command prints."""
    return any("$(" in word or "`" in word for word in words)


def _expand_word(word: str, known: ShellVariables) -> Iterator[str]:
    used = set(_find_variable_names(word)) & known.keys()
    for values in _combine_variables(used, known):
        yield _unquote_word(word, values)


def _find_variable_names(word: str) -> list[str]:
    return [braced or bare for braced, bare in _VARIABLE_REFERENCE.findall(word)]


def _combine_variables(used: set[str], known: ShellVariables) -> list[dict[str, str]]:
    names = sorted(used)
    total = 1
    for name in names:
        total *= max(1, len(known[name]))
    if total > 50:
        return [{}]
    return [dict(zip(names, values, strict=True)) for values in product(*(known[name] for name in names))]


def _unquote_word(word: str, values: Mapping[str, str]) -> str:
    """A word without its quotes, its variables replaced; one that nobody set stays as it is written."""
    if len(word) > 1 and word[0] == word[-1] == "'":
        return word[1:-1].replace(_QUOTE_IN_QUOTES, "'")
    filled = fill_in_values(_VARIABLE_REFERENCE, lambda match: values.get(match[1] or match[2], match[0]), word)
    if _DOUBLE_QUOTED_WORD.fullmatch(word):
        return _ESCAPED_IN_DOUBLE_QUOTES.sub(r"\1", filled[1:-1])
    return re.sub(r"\\\n", " ", filled).replace('"', "").replace("'", "") if "\n" not in word else filled.strip("'\"")


@lru_cache(maxsize=256)
def _split_commands(script: str) -> tuple[tuple[str, int], ...]:
    """The script cut at line ends, `;`, `&` and `|` that no quote or bracket holds, each part with its line.

    Many jobs have the same script, and so have the two pipelines that `diff` compares: each is cut once.
    """
    return tuple(_iter_commands(script.replace("\r\n", "\n")))


def _iter_commands(script: str) -> Iterator[tuple[str, int]]:
    lines = script.split("\n")
    for logical_line in _iter_logical_lines(lines):
        text = "\n".join(lines[logical_line.start : logical_line.end])
        document = logical_line.here_document
        for start, end in _find_commands(text):
            command = text[start:end]
            if document and start <= document.operator.start() < end:
                operator_start, operator_end = (offset - start for offset in document.operator.span())
                body = "\n".join(lines[document.start : document.end])
                without_operator = command[:operator_start] + command[operator_end:]
                command = f"{without_operator} '{body.replace(_SINGLE_QUOTE, _QUOTE_IN_QUOTES)}'"
            line = logical_line.start + 1 + text.count("\n", 0, start)
            yield command.replace("\\\n", " "), line


@dataclass(frozen=True)
class _HereDocument:
    """A here-document: where its operator is in the logical line, and the numbers of its lines, from 0 on."""

    operator: re.Match[str]
    start: int
    end: int  # of the line that ends it


@dataclass(frozen=True)
class _LogicalLine:
    """The lines of a script that are one line to the shell, by their numbers from 0 on.

    A quote that stays open, or a backslash at its end, continues a line. The here-document follows behind it.
    """

    start: int
    end: int
    here_document: _HereDocument | None


def _iter_logical_lines(lines: list[str]) -> Iterator[_LogicalLine]:
    """The logical lines of a script, in order."""
    places: dict[str, list[int]] = {}
    for number, line in enumerate(lines):
        places.setdefault(line.strip(), []).append(number)
    start = 0
    while start < len(lines):
        end = _find_end_of_logical_line(lines, start)
        document = _find_here_document("\n".join(lines[start:end]), end, places)
        yield _LogicalLine(start, end, document)
        start = document.end + 1 if document else end


def _find_end_of_logical_line(lines: list[str], start: int) -> int:
    """The number of the line behind a logical line; a quote that nothing closes ends after so many lines."""
    end = start + 1
    quote = find_open_quote(lines[start])
    length = len(lines[start])
    while end < len(lines) and (quote in ("'", '"') or _continues_line(lines[end - 1], quote)):
        length += len(lines[end])
        if length > _MAX_LOGICAL_LINE_LENGTH or end - start > _MAX_LINES_OF_LOGICAL_LINE:
            break
        quote = find_open_quote(f"\n{lines[end]}", quote)
        end += 1
    return end


def _continues_line(line: str, quote: str) -> bool:
    """Whether a backslash at the end of a line continues it, which none in a comment does."""
    backslashes = len(line) - len(line.rstrip("\\"))
    return quote != "#" and backslashes % 2 == 1


def _find_here_document(text: str, end: int, places: Mapping[str, list[int]]) -> _HereDocument | None:
    """The first here-document of a logical line that has a last line; `places` are the numbers of each line.

    `<<` without such a line may be a calculation.
    """
    quote = ""
    scanned = 0
    for operator in islice(_HEREDOC.finditer(text), _MAX_HERE_DOCUMENTS_OF_LINE):
        quote = find_open_quote(text[scanned : operator.start()], quote)
        scanned = operator.start()
        last_lines = places.get(operator[2], [])
        index = bisect_left(last_lines, end)
        if not quote and index < len(last_lines):
            return _HereDocument(operator, end, last_lines[index])
    return None


def _find_commands(text: str) -> Iterator[tuple[int, int]]:
    """Where each command of a logical line starts and ends, without what separates it from others."""
    last = 0
    for at in [*_find_command_ends(text), len(text)]:
        end = last + len(text[last:at].rstrip(_SEPARATORS))
        separators = _LEADING_SEPARATORS.match(text, last, end)
        start = separators.end() if separators else last
        if start < end and text[start] != "#":
            yield start, end
        last = at


def _find_command_ends(text: str) -> list[int]:
    """Where commands end: before `;`, `|`, `&`, a line end, and before and after a comment."""
    ends = []
    depth = 0  # of command substitutions
    quote_before = ""
    for at, character, quote in _iter_quotes(text):
        is_literal = quote in ("'", "#")
        if character == "(" and not is_literal and (depth or text[at - 1 : at] == "$"):
            depth += 1
        elif character == ")" and depth and not is_literal:
            depth -= 1
        elif not depth:
            starts_comment = quote == "#" and quote_before != "#"
            is_operator = character in ";|\n" or (character == "&" and text[at - 1 : at] not in (">", "<"))
            if starts_comment or (is_operator and not quote):
                ends.append(at)
        quote_before = quote
    return ends


def find_open_quote(text: str, quote: str = "") -> str:
    """What is open at the end of a part of a script, when `quote` was open before it.

    A quote, `#` in a comment, or empty for neither.
    """
    for _, _, quote_after in _iter_quotes(text, quote):
        quote = quote_after
    return quote


def _iter_quotes(text: str, quote: str = "") -> Iterator[tuple[int, str, str]]:
    """The characters of a part of a script that no backslash escapes: where each is, and what is open after it.

    What is open is a quote, `#` in a comment, or empty for neither; `quote` was open before the part.
    """
    before = "\n"
    is_escaped = False
    for at, character in enumerate(text):
        if is_escaped:
            is_escaped = False
            continue
        if character == "\\" and quote not in ("'", "#"):
            is_escaped = True
        elif quote:
            quote = "" if character == _CLOSING_CHARACTERS[quote] else quote
        elif character in "'\"" or (character == "#" and before in " \t\n;"):
            quote = character
        before = character
        yield at, character, quote


def find_here_documents(script: str) -> list[tuple[int, int]]:
    """Where the text of each here-document of a script starts and ends; one without its last line is none."""
    lines = script.split("\n")
    line_starts = [0, *accumulate(len(line) + 1 for line in lines)]
    return [
        (line_starts[line.here_document.start], line_starts[line.here_document.end])
        for line in _iter_logical_lines(lines)
        if line.here_document
    ]
