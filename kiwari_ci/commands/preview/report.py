"""What was found out, as a person reads it: titled lines, each known, of no use, or not to be known."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from kiwari_ci.problems import harmless

State = Literal["fact", "stops", "not asked"]
MARKS: dict[State, str] = {"fact": " ", "stops": "!", "not asked": "?"}


@dataclass(frozen=True)
class Line:
    """One fact; one that stops a deploy; or why nobody could say."""

    text: str
    state: State = "fact"


@dataclass(frozen=True)
class Section:
    """What belongs together."""

    title: str
    lines: tuple[Line, ...]


def stops(text: str) -> Line:
    """What would stop a deploy."""
    return Line(text, "stops")


def not_asked(text: str) -> Line:
    """What nobody could say, and why."""
    return Line(text, "not asked")


def is_stopped(sections: list[Section]) -> bool:
    """Whether anything was found that stops a deploy."""
    return any(line.state == "stops" for section in sections for line in section.lines)


def as_text(about: str, sections: list[Section]) -> str:
    """For people; `!` is what stops, `?` what could not be asked."""
    rows = [harmless(about)]
    for section in sections:
        rows += ["", harmless(section.title)]
        rows += [f"  {MARKS[line.state]} {harmless(line.text)}" for line in section.lines]
    states = [line.state for section in sections for line in section.lines]
    count = [f"{states.count('stops')} would stop it (!)"] if "stops" in states else []
    count += [f"{states.count('not asked')} not asked (?)"] if "not asked" in states else []
    return "\n".join([*rows, *(["", ", ".join(count)] if count else [])])


def as_data(about: str, sections: list[Section]) -> dict[str, Any]:
    """For programs."""
    return {"about": about, "sections": [asdict(section) for section in sections], "stopped": is_stopped(sections)}
