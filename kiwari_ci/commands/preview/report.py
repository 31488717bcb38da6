"""What was found out, as a person reads it: titled lines, each known, of no use, or not to be known."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from kiwari_ci.problems import escape_control_characters

LineState = Literal["fact", "stops", "not asked"]
STATE_MARKS: dict[LineState, str] = {"fact": " ", "stops": "!", "not asked": "?"}


@dataclass(frozen=True)
class ReportLine:
    """One fact; one that stops a deploy; or why nobody could say."""

    text: str
    state: LineState = "fact"


@dataclass(frozen=True)
class ReportSection:
    """What belongs together."""

    title: str
    lines: tuple[ReportLine, ...]


def create_blocking_line(text: str) -> ReportLine:
    """What would stop a deploy."""
    return ReportLine(text, "stops")


def create_unknown_line(text: str) -> ReportLine:
    """What nobody could say, and why."""
    return ReportLine(text, "not asked")


def has_blocking_line(sections: list[ReportSection]) -> bool:
    """Whether anything was found that stops a deploy."""
    return any(line.state == "stops" for section in sections for line in section.lines)


def format_sections(about: str, sections: list[ReportSection]) -> str:
    """For people; `!` is what stops, `?` what could not be asked."""
    rows = [escape_control_characters(about)]
    for section in sections:
        rows += ["", escape_control_characters(section.title)]
        rows += [f"  {STATE_MARKS[line.state]} {escape_control_characters(line.text)}" for line in section.lines]
    states = [line.state for section in sections for line in section.lines]
    count = [f"{states.count('stops')} would stop it (!)"] if "stops" in states else []
    count += [f"{states.count('not asked')} not asked (?)"] if "not asked" in states else []
    return "\n".join([*rows, *(["", ", ".join(count)] if count else [])])


def build_sections_json(about: str, sections: list[ReportSection]) -> dict[str, Any]:
    """For programs."""
    return {
        "about": about,
        "sections": [asdict(section) for section in sections],
        "stopped": has_blocking_line(sections),
    }
