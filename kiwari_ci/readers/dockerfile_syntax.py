"""A Dockerfile's text → its instructions, and the words in them.

Source: Docker's "Dockerfile reference"; where that is silent, parser and shell of BuildKit's frontend/dockerfile.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kiwari_ci.readers.bounded_text import fill_in_values

INSTRUCTION_NAMES = frozenset(
    {"ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER"}
    | {"ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}
)
HEREDOC_START = re.compile(r"\d*<<(-?)\s*([^<]+)")

_PARSER_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")
_NESTED_TEXT = r"(?:[^{}$]|\$\{[^{}]*\}|\$)*"
_VARIABLE_REFERENCE = (
    rf"\$\{{(?P<braced>\w+)(?:(?P<colon>:?)(?P<how>[-+?])(?P<other>{_NESTED_TEXT}))?\}}"
    r"|\$\{(?P<odd>\w*)[^{}]*\}|\$(?P<name>\w+)"
)


@dataclass(frozen=True)
class Instruction:
    """One instruction; lines count from 1, flags are without `--`, `rest` is what follows them."""

    name: str
    line: int
    last: int
    flags: tuple[str, ...]
    rest: str


@dataclass(frozen=True)
class ParsedDockerfile:
    """A file's instructions, its directives (`# escape=` and the like), and the texts that never end, by line."""

    instructions: tuple[Instruction, ...]
    directives: dict[str, str]
    faults: tuple[tuple[int, str], ...]


def parse_instructions(text: str) -> ParsedDockerfile:
    """Read a Dockerfile's text; never raises."""
    lines = [line.rstrip("\r") for line in text.removeprefix("\ufeff").split("\n")]
    directives = _parse_directives(lines)
    reader = _InstructionReader(lines, build_shell_lexer(directives))
    return ParsedDockerfile(tuple(reader.iter_instructions()), directives, tuple(reader.faults))


def build_shell_lexer(directives: dict[str, str]) -> "ShellLexer":
    """The words of a file with these directives."""
    return ShellLexer("`" if directives.get("escape") == "`" else "\\")


class ShellLexer:
    """How a file's lines are cut into words, given the character that makes the next one plain."""

    def __init__(self, escape: str) -> None:
        sign = re.escape(escape)
        quoted = rf"{sign}.|'[^']*'|\"(?:{sign}.|[^\"{sign}])*\""
        self.continued = re.compile(rf"(?<!{sign}){sign}[ \t]*$")
        self.word = re.compile(rf"(?:<<\s*|{quoted}|\S)+", re.DOTALL)
        self.part = re.compile(rf"{sign}(?P<escaped>.?)|'(?P<single>[^']*)'|\"|{_VARIABLE_REFERENCE}", re.DOTALL)

    def split(self, rest: str) -> list[str]:
        """The words of a line, as they are written."""
        words: list[str] = self.word.findall(rest)
        return words

    def split_flags(self, rest: str) -> tuple[tuple[str, ...], str]:
        """The flags at the beginning of a line, without `--`, and what follows them."""
        flags = []
        while rest.startswith("--") and (match := self.word.match(rest)):
            rest = rest[match.end() :].lstrip()
            if match[0] == "--":
                break
            flags.append(match[0][2:])
        return tuple(flags), rest

    def parse_pairs(self, rest: str) -> list[tuple[str, str | None]]:
        """`KEY=value …`, `KEY …`, and the old `KEY some text`."""
        words = [word.partition("=") for word in self.split(rest)]
        if len(words) > 1 and not any(equals for _, equals, _ in words):
            words = [(words[0][0], "=", rest.partition(" ")[2].strip())]
        return [(key, value if equals else None) for key, equals, value in words]

    def expand(self, word: str, values: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
        """A word without its quotes, its variables filled in; and the names of those that have no value."""
        unknown: list[str] = []

        def fill(match: re.Match[str]) -> str:
            name, how = match["braced"] or match["name"], match["how"]
            if match["odd"] is not None:
                unknown.append(match["odd"])
                return ""
            if name is None:
                return match["escaped"] or match["single"] or ""
            value = values.get(name)
            if how in ("-", "+"):
                is_set = bool(value) if match["colon"] else value is not None
                if is_set == (how == "-"):
                    return value or ""
                text, names = self.expand(match["other"], values) if is_set or how == "-" else ("", ())
                unknown.extend(names)
                return text
            if value is None:
                unknown.append(name)
            return value or ""

        return fill_in_values(self.part, fill, word), tuple(dict.fromkeys(unknown))


def parse_word_list(rest: str) -> list[str]:
    """What stands between blanks, or in the JSON form; Docker reads JSON with a fault in it as plain words."""
    if rest.startswith("["):
        try:
            words = json.loads(rest)
        except (ValueError, RecursionError):
            return rest.split()
        if all(isinstance(word, str) for word in words):
            return list(words)
    return rest.split()


def _parse_directives(lines: list[str]) -> dict[str, str]:
    """Only the lines before anything else have them."""
    directives: dict[str, str] = {}
    for line in lines:
        if not (match := _PARSER_DIRECTIVE.fullmatch(line)):
            break
        directives.setdefault(match[1].lower(), match[2])
    return directives


class _InstructionReader:
    def __init__(self, lines: list[str], words: ShellLexer) -> None:
        self.lines = lines
        self.words = words
        self.index = 0  # the next line
        self.faults: list[tuple[int, str]] = []

    def iter_instructions(self) -> Iterator[Instruction]:
        while self.index < len(self.lines):
            first = self.index + 1
            text = self.read_logical_line().strip()
            if not text:
                continue
            name, rest = (text.split(maxsplit=1) + [""])[:2]
            flags, rest = self.words.split_flags(rest)
            name = name.upper()
            if "<<" in rest and (rest.split()[0].upper() if name == "ONBUILD" else name) in ("ADD", "COPY", "RUN"):
                self.skip_heredocs(first, rest)
            yield Instruction(name, first, self.index, flags, rest)

    def read_logical_line(self) -> str:
        """A line with those that continue it, without the comments and empty lines between them."""
        start, text, more = self.index, "", True
        while more and self.index < len(self.lines):
            line = self.lines[self.index]
            self.index += 1
            plain = line.lstrip()
            if plain.startswith("#") or not plain:
                more = self.index > start + 1  # within an instruction they end nothing
                continue
            joined = self.words.continued.sub("", line)
            text, more = text + joined, joined != line
        return text

    def skip_heredocs(self, first: int, rest: str) -> None:
        """Skip the texts that an instruction's `<<EOF` announce."""
        for word in self.words.split(rest):
            if match := HEREDOC_START.fullmatch(word):
                end = re.sub(r"[\"'\\]", "", match[2].strip())
                rows = (line.lstrip("\t") if match[1] else line for line in self.lines[self.index :])
                length = next((count for count, row in enumerate(rows, 1) if row == end), 0)
                if not length:
                    self.faults.append(
                        (first, f"the text of `{word[:40]}` never ends: no line after it is `{end[:40]}`")
                    )
                self.index += length or len(self.lines)
        self.index = min(self.index, len(self.lines))
