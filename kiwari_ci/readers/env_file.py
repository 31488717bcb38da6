"""Reads env files and their examples: `KEY=value` on each line."""

import re
from dataclasses import dataclass

_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*")
ENV_EXAMPLE_NAMES = (
    ".env.example",
    ".env.sample",
    ".env.template",
    "env.example",
    ".env.dist",
    ".env.production.example",
)
ENV_EXAMPLE_PATH = r"(.+/)?[\w.-]*\.?env[\w.-]*\.(example|sample|template|dist)"
_TRAILING_COMMENT = re.compile(r"(^|\s)#.*")


@dataclass(frozen=True)
class EnvAssignment:
    """One variable: `value` has no quotes, and `comment` is the line with `#` above it."""

    key: str
    value: str
    line: int
    comment: str


@dataclass(frozen=True)
class EnvExample:
    """The keys of an env example, with their values and whether a comment calls them secret."""

    path: str
    folder: str
    generated: bool
    values: dict[str, str]
    secret: frozenset[str]
    lines: dict[str, int]


def parse_env_assignments(text: str) -> list[EnvAssignment]:
    """The variables of an env file, in order; lines that set none are left out."""
    assignments = []
    comment = ""
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("#"):
            comment = line
        elif match := _ASSIGNMENT.fullmatch(line.rstrip("\r")):
            assignments.append(EnvAssignment(match[1], _unquote_value(match[2]), number, comment))
            comment = ""
    return assignments


def list_effective_assignments(text: str) -> list[EnvAssignment]:
    """The variables of an env file, each once: of two equal ones the last counts, as it does for Compose."""
    last_assignments = {assignment.key: assignment for assignment in parse_env_assignments(text)}
    return list(last_assignments.values())


def _unquote_value(value: str) -> str:
    """A value without its quotes; without quotes, a comment behind it is none of it."""
    quote = value[:1]
    if quote in ("'", '"') and quote in value[1:]:
        return value[1 : value.index(quote, 1)]
    return _TRAILING_COMMENT.sub("", value).strip()


def parse_env_example(path: str, text: str, generated: bool) -> EnvExample:
    """The keys of an env example; the last of two equal ones counts, as it does for Compose."""
    assignments = parse_env_assignments(text)
    return EnvExample(
        path=path,
        folder=path.rpartition("/")[0],
        generated=generated,
        values={assignment.key: assignment.value for assignment in assignments},
        secret=frozenset(assignment.key for assignment in assignments if "secret" in assignment.comment),
        lines={assignment.key: assignment.line for assignment in assignments},
    )
