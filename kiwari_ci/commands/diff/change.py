"""A change between two pipelines, in words, and helpers that compare collections and format names."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from kiwari_ci.problems import escape_control_characters, join_with_limit
from kiwari_ci.readers.yaml_document import as_inline_code

_SECRET_PATTERN = re.compile(
    r"(?i)((?:password|passwd|token|secret|api_?key|bearer|authorization:?)[=:\s]+['\"]?)(?![<$])[^\s'\"`]{6,}|(://[^/\s:@]+:)[^@\s<$]+@"
)


# When a person has to do something for a change, or `change` for what happens by itself.
Stage = Literal["before", "after", "change"]

HANDWRITTEN_FILES = "written by hand"  # the subject of files that kiwari-ci did not generate

# Summaries under which the first comparison lists what many changes have in common.
EVERY_ADOPTION = "as in every pipeline that kiwari-ci generates"
COPY_FOLDERS = "copy these folders of `deploy/` to the server (runbook, step 1)"


@dataclass(frozen=True)
class PipelineChange:
    """A change: its subject, its words, and where it stands; a `risky` one asks for care or for work by hand.

    `part` is the part of the subject that changes. `pairs` are the texts that the change explains, before and after:
    a difference between two files that is one of them is not reported again.

    The rest is for the first comparison, of a hand-written pipeline: the `stage` at which a person acts, and whether
    the change can lose data or requests (`is_dangerous`). Changes with one `summary` become one line, which lists the
    `item` of each.
    """

    subject: str
    words: str
    risky: bool = False
    where: str = ""
    pairs: tuple[tuple[str, str], ...] = ()
    part: str = ""
    stage: Stage = "change"
    is_dangerous: bool = False
    summary: str = ""
    item: str = ""


def find_added(before: Iterable[str], after: Iterable[str]) -> list[str]:
    """The texts that only the second collection has, in order."""
    known = set(before)
    return [text for text in dict.fromkeys(after) if text not in known]


def iter_added_removed(before: Iterable[str], after: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """The texts that only one collection has, removed ones first, each with whether it is new."""
    before, after = list(before), list(after)
    yield from ((text, False) for text in find_added(after, before))
    yield from ((text, True) for text in find_added(before, after))


def format_names(names: Iterable[str], limit: int = 8) -> str:
    """Format names as inline code, and say how many more there are."""
    return join_with_limit(map(as_inline_code, names), limit)


def redact_secrets(text: str) -> str:
    """Replace what looks like a password or a token in a command."""
    return _SECRET_PATTERN.sub(lambda match: f"{match[2]}…@" if match[2] else f"{match[1]}…", text)


def escape_runner_commands(text: str) -> str:
    """Escape control characters, and what would be a command for GitHub's runner at the start of a line."""
    plain = escape_control_characters(text)
    return f"· {plain}" if plain.lstrip().startswith(("::", "##[")) else plain


def pair_replacements(before: Iterable[str], after: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Pair the texts that replace each other, by position."""
    return tuple(zip(before, after, strict=False))
