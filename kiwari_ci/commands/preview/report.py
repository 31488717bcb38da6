"""A report of titled sections; a line is a fact, something that would stop a deploy, or something unknown."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from kiwari_ci.problems import escape_control_characters

LineState = Literal["fact", "stops", "not asked"]
STATE_MARKS: dict[LineState, str] = {"fact": " ", "stops": "!", "not asked": "?"}


@dataclass(frozen=True)
class ReportLine:
    """A fact, a fact that stops a deploy, or the reason why something is unknown."""

    text: str
    state: LineState = "fact"


@dataclass(frozen=True)
class ReportSection:
    """Lines that belong together, below a title."""

    title: str
    lines: tuple[ReportLine, ...]


def create_blocking_line(text: str) -> ReportLine:
    """Create a line for a fact that would stop a deploy."""
    return ReportLine(text, "stops")


def create_unknown_line(text: str) -> ReportLine:
    """Create a line for something unknown, with the reason."""
    return ReportLine(text, "not asked")


def has_blocking_line(sections: list[ReportSection]) -> bool:
    """Whether any line would stop a deploy."""
    return any(line.state == "stops" for section in sections for line in section.lines)


def format_sections(about: str, sections: list[ReportSection]) -> str:
    """For people; `!` is what stops, `?` what could not be asked."""
    rows = [escape_control_characters(about)]
    for section in sections:
        rows += ["", escape_control_characters(section.title)]
        rows += [f"  {STATE_MARKS[line.state]} {escape_control_characters(line.text)}" for line in section.lines]
    states = [line.state for section in sections for line in section.lines]
    counts: list[str] = []
    if "stops" in states:
        counts.append(f"{states.count('stops')} would stop it (!)")
    if "not asked" in states:
        counts.append(f"{states.count('not asked')} not asked (?)")
    if counts:
        rows += ["", ", ".join(counts)]
    return "\n".join(rows)


def build_sections_json(about: str, sections: list[ReportSection]) -> dict[str, Any]:
    """For programs."""
    return {
        "about": about,
        "sections": [asdict(section) for section in sections],
        "stopped": has_blocking_line(sections),
    }
