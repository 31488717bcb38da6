"""What a script calls, read from its text: the commands with their words, variables put in where the script sets them.

Best effort, never run: loops give each of their values, a here-document is the last word of its command.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import product

from kiwari_ci.readers.bounded_text import fill_in_values

MAX_COMMANDS = 2_000  # commands of a script
MAX_SCRIPT_LENGTH = 100_000  # characters of a script
MAX_VARIABLE_LENGTH = 1_000  # characters of a variable: one made of others grows no further
_VARIABLE_REFERENCE = re.compile(r"\$(?:\{(\w+)(?::?[-?][^}]*)?\}|(\w+))")
_ASSIGNMENT = re.compile(r"(?:export\s+|local\s+|readonly\s+)?([A-Za-z_]\w*)=(.*)", re.DOTALL)
_COMMAND_SUBSTITUTION = re.compile(r"(?:export\s+|local\s+|readonly\s+)?\w+=\"?\$\(")
_QUOTE_IN_QUOTES = "'\\''"  # how a text in single quotes has a single quote
_HEREDOC = re.compile(r"(?<!<)<<-?\s*(['\"]?)(\w+)\1")
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


def parse_shell_commands(script: str, variables: ShellVariables | None = None) -> list[list[str]]:
    """The commands of a script, in order, each as its words; one with a variable of several values, once for each."""
    known: dict[str, tuple[str, ...]] = dict(variables or {})
    commands: list[list[str]] = []
    for text in split_shell_commands(script):
        if _COMMAND_SUBSTITUTION.match(text):
            continue
        words = _SHELL_WORD.findall(text)
        while words and words[0] in _COMMAND_PREFIXES:
            words = words[1:]
        if words[:1] == ["for"] and words[2:3] == ["in"]:
            known.pop(words[1], None)
            if not _has_command_substitution(words[3:]):
                known[words[1]] = tuple(plain for word in words[3:] for plain in _expand_word(word, known))[:20]
            continue
        while words and (set_here := _ASSIGNMENT.fullmatch(words[0])):
            known[set_here[1]] = tuple(
                value[:MAX_VARIABLE_LENGTH] for value in _expand_word(set_here[2][:MAX_VARIABLE_LENGTH], known)
            )
            words = words[1:]
        if words:
            used = {name for word in words for name in _find_variable_names(word)} & known.keys()
            commands += ([_unquote_word(word, values) for word in words] for values in _combine_variables(used, known))
        if len(commands) > MAX_COMMANDS:
            break
    return commands[:MAX_COMMANDS]


def split_shell_commands(script: str) -> tuple[str, ...]:
    """The commands of a script as they are written, without comments; one with a here-document has it as a word."""
    return _split_commands(script[:MAX_SCRIPT_LENGTH])


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
    return re.sub(r"\\\n", " ", filled).replace('"', "").replace("'", "") if "\n" not in word else filled.strip("'\"")


@lru_cache(maxsize=256)
def _split_commands(script: str) -> tuple[str, ...]:
    """The script cut at line ends, `;`, `&` and `|` that no quote or bracket holds.

    Many jobs have the same script, and so have the two pipelines that `diff` compares: each is cut once.
    """
    return tuple(_iter_commands(script))


def _iter_commands(script: str) -> Iterator[str]:
    lines = iter(script.replace("\r\n", "\n").replace("\\\n", " ").split("\n"))
    pending = ""
    for line in lines:
        text = f"{pending}\n{line}" if pending else line
        if _has_open_quote(text) and len(text) < 20_000 and text.count("\n") < 300:
            pending = text
            continue
        pending = ""
        body = _read_heredoc_body(lines, started[2]) if (started := _HEREDOC.search(text)) else ""
        cut = list(_split_logical_line(text))
        if started and cut:
            index = next((number for number, piece in enumerate(cut) if "<<" in piece), 0)
            cut[index] = _HEREDOC.sub("", cut[index]) + " '" + body.replace("'", _QUOTE_IN_QUOTES) + "'"
        yield from cut
    if pending:
        yield from _split_logical_line(pending)


def _read_heredoc_body(lines: Iterator[str], end: str) -> str:
    body = []
    for line in lines:
        if line.strip() == end:
            break
        body.append(line)
    return "\n".join(body)


def _has_open_quote(text: str) -> bool:
    """Whether a quote is open at the end."""
    return _scan_quotes(text)[0]


def _split_logical_line(text: str) -> Iterator[str]:
    last = 0
    for at in [*_scan_quotes(text)[1], len(text)]:
        piece = text[last:at].strip(" \t;&|()\n")
        if piece and not piece.startswith("#"):
            yield piece
        last = at


def _scan_quotes(text: str) -> tuple[bool, list[int]]:
    """Whether a quote stays open, and where commands end."""
    quote, cuts, skip, comment, depth = "", [], False, False, 0
    for at, character in enumerate(text):
        if character == "(" and text[at - 1 : at] == "$" and quote != "'":
            depth += 1
        elif depth and character in "()":
            depth += 1 if character == "(" else -1
        elif depth:
            pass
        elif skip or (comment and character != "\n"):
            skip = False
        elif comment:
            comment = False
            cuts.append(at)
        elif character == "\\" and quote != "'":
            skip = True
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "#" and (at == 0 or text[at - 1] in " \t\n;"):
            comment = True
            cuts.append(at)
        elif character in ";|\n" or (character == "&" and text[at - 1 : at] not in (">", "<")):
            cuts.append(at)
    return bool(quote), cuts


def find_open_quote(text: str, quote: str = "") -> str:
    """What is open at the end of a part of a script, when `quote` was open before it.

    A quote, `#` in a comment, or empty for neither.
    """
    before = "\n"
    characters = iter(text)
    for character in characters:
        if character == "\\" and quote not in ("'", "#"):
            next(characters, None)
        elif quote:
            quote = "" if character == _CLOSING_CHARACTERS[quote] else quote
        elif character in "'\"" or (character == "#" and before in " \t\n;"):
            quote = character
        before = character
    return quote


def find_here_documents(script: str) -> list[tuple[int, int]]:
    """Where the text of each here-document of a script starts and ends; one without its last line is none."""
    ranges = []
    line_start = 0
    starts: list[tuple[int, str]] = []  # of the one that is open: where, and the word that ends it
    for line in script.splitlines(keepends=True):
        line_end = line_start + len(line)
        if not starts:
            starts += [(line_end, match[2]) for match in _HEREDOC.finditer(line)][:1]
        elif line.strip() == starts[0][1]:
            ranges.append((starts.pop()[0], line_start))
        line_start = line_end
    return ranges
