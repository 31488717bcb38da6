"""One change, told in words; and how two collections become changes."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kiwari_ci.problems import escape_control_characters

_SECRET_PATTERN = re.compile(
    r"(?i)((?:password|passwd|token|secret|api_?key|bearer|authorization:?)[=:\s]+['\"]?)(?![<$])[^\s'\"`]{6,}|(://[^/\s:@]+:)[^@\s<$]+@"
)


@dataclass(frozen=True)
class PipelineChange:
    """What is another way now: of whom, in words, and where it stands; `risky` asks for care or for work by hand.

    `part` is the part of the subject that it is about; `pairs` are the texts that it explains, before and after: what
    differs by no more needs no words of its own.
    """

    subject: str
    words: str
    risky: bool = False
    where: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    part: str = ""


def find_added(before: Iterable[str], after: Iterable[str]) -> list[str]:
    """Those of the second that the first has not, in order."""
    known = set(before)
    return [each for each in dict.fromkeys(after) if each not in known]


def iter_added_removed(before: Iterable[str], after: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """What went and what came: each text, and whether it is new."""
    before, after = list(before), list(after)
    yield from ((each, False) for each in find_added(after, before))
    yield from ((each, True) for each in find_added(before, after))


def redact_secrets(text: str) -> str:
    """A command without what looks like a password or a token."""
    return _SECRET_PATTERN.sub(lambda found: f"{found[1] or found[2]}…" + ("@" if found[2] else ""), text)


def escape_runner_commands(text: str) -> str:
    """A text in which nothing moves a cursor, turns the direction of writing, or starts a runner's command."""
    plain = escape_control_characters(text)
    return f"· {plain}" if plain.lstrip().startswith(("::", "##[")) else plain


def pair_replacements(before: Iterable[str], after: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Texts that stand in each other's place."""
    return tuple(zip(before, after, strict=False))
