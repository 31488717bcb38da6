"""Answers as text for people, as Markdown for a summary, and as data."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain
from typing import Any

from kiwari_ci.commands.affected.analysis import Answer, Place, Touched
from kiwari_ci.commands.diff.report import plain
from kiwari_ci.problems import harmless

LONGEST = 60_000  # characters of Markdown: GitHub cuts a comment at 65,536


def as_text(answer: Answer) -> str:
    """What runs, with all that it reaches; then what does not, and why."""
    lines = [answer.about, *(f"note: {note}" for note in answer.notes), ""]
    for event in dict.fromkeys(each.on for each in answer.touched):
        lines.append(event)
        lines += chain.from_iterable(_touched(each) for each in answer.touched if each.on == event)
        lines.append("")
    sections = [
        ("by hand", answer.by_hand),
        ("not touched", [f"{each.name}: {each.why}" for each in answer.spared]),
    ]
    for title, rows in sections:
        lines += [title, *(f"  {row}" for row in rows), ""] if rows else []
    return "\n".join(map(harmless, lines)).rstrip("\n")


def as_markdown(answer: Answer) -> str:
    """For a pull request's summary: a row for each workflow; what comes from files cannot become markup."""
    head = [f"### {plain(answer.about)}", "", *(f"> {plain(note)}\n" for note in answer.notes)]
    rows = [_row(each) for each in answer.touched]
    table = ["| On | Workflow | Jobs | Images | Containers |", "| --- | --- | --- | --- | --- |", *rows, ""]
    lines = [*head, *(table if rows else ["Nothing runs.", ""])]
    lines += [f"- **by hand**: {plain(each)}" for each in answer.by_hand]
    lines += [f"- not touched: **{plain(each.name)}**: {plain(each.why)}" for each in answer.spared]
    text = "\n".join(map(_seen, lines)).rstrip("\n")
    return text if len(text) <= LONGEST else text[:LONGEST].rpartition("\n")[0] + "\n\n… and more"


def as_data(answer: Answer) -> dict[str, Any]:
    """For programs."""
    return asdict(answer)


def place(each: Place) -> str:
    """A container, where it runs, and where it answers."""
    return f"{each.container} on {each.host}" + (f", https://{each.domain}" if each.domain else "")


def _seen(lines: str) -> str:
    return "\n".join(map(harmless, lines.split("\n")))


def _touched(each: Touched) -> Iterator[str]:
    yield f"  {each.workflow}: {each.why}"
    yield from _named("jobs", [" → ".join(each.jobs)])
    yield from _named("images", each.images)
    for environment in dict.fromkeys(found.environment for found in each.places):
        yield from _named(environment, [place(found) for found in each.places if found.environment == environment])


def _named(title: str, rows: Iterable[str]) -> Iterator[str]:
    for index, row in enumerate(rows):
        yield f"    {title if index == 0 else '':11} {row}"


def _row(each: Touched) -> str:
    cells = [[each.on], [f"{each.workflow}: {each.why}"], [" → ".join(each.jobs)], each.images, map(place, each.places)]
    return "| " + " | ".join("<br>".join(plain(line) for line in cell) for cell in cells) + " |"
