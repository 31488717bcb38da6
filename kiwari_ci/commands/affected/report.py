"""Answers as text for people, as Markdown for a summary, and as data."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain
from typing import Any

from kiwari_ci.commands.affected.analysis import AffectedContainer, AffectedResult, AffectedWorkflow
from kiwari_ci.commands.diff.report import escape_markdown
from kiwari_ci.problems import escape_control_characters, escape_text

MAX_MARKDOWN_LENGTH = 60_000  # characters of Markdown: GitHub cuts a comment at 65,536


def format_affected_text(answer: AffectedResult) -> str:
    """What runs, with all that it reaches; then what does not, and why."""
    lines = [answer.about, *(f"note: {note}" for note in answer.notes), ""]
    for event in dict.fromkeys(each.on for each in answer.touched):
        lines.append(event)
        lines += chain.from_iterable(_format_workflow(each) for each in answer.touched if each.on == event)
        lines.append("")
    sections = [
        ("by hand", answer.by_hand),
        ("not touched", [f"{each.name}: {each.why}" for each in answer.spared]),
    ]
    for title, rows in sections:
        lines += [title, *(f"  {row}" for row in rows), ""] if rows else []
    return "\n".join(map(escape_control_characters, lines)).rstrip("\n")


def format_affected_markdown(answer: AffectedResult) -> str:
    """For a pull request's summary: a row for each workflow; what comes from files cannot become markup."""
    head = [f"### {escape_markdown(answer.about)}", "", *(f"> {escape_markdown(note)}\n" for note in answer.notes)]
    rows = [_format_table_row(each) for each in answer.touched]
    table = ["| On | Workflow | Jobs | Images | Containers |", "| --- | --- | --- | --- | --- |", *rows, ""]
    lines = [*head, *(table if rows else ["Nothing runs.", ""])]
    lines += [f"- **by hand**: {escape_markdown(each)}" for each in answer.by_hand]
    lines += [f"- not touched: **{escape_markdown(each.name)}**: {escape_markdown(each.why)}" for each in answer.spared]
    text = "\n".join(map(escape_text, lines)).rstrip("\n")
    return (
        text if len(text) <= MAX_MARKDOWN_LENGTH else text[:MAX_MARKDOWN_LENGTH].rpartition("\n")[0] + "\n\n… and more"
    )


def build_affected_json(answer: AffectedResult) -> dict[str, Any]:
    """For programs."""
    return asdict(answer)


def format_container(each: AffectedContainer) -> str:
    """A container, where it runs, and where it answers."""
    return f"{each.container} on {each.host}" + (f", https://{each.domain}" if each.domain else "")


def _format_workflow(each: AffectedWorkflow) -> Iterator[str]:
    yield f"  {each.workflow}: {each.why}"
    yield from _format_rows("jobs", [" → ".join(each.jobs)])
    yield from _format_rows("images", each.images)
    for environment in dict.fromkeys(found.environment for found in each.places):
        yield from _format_rows(
            environment, [format_container(found) for found in each.places if found.environment == environment]
        )


def _format_rows(title: str, rows: Iterable[str]) -> Iterator[str]:
    for index, row in enumerate(rows):
        yield f"    {title if index == 0 else '':11} {row}"


def _format_table_row(each: AffectedWorkflow) -> str:
    cells = [
        [each.on],
        [f"{each.workflow}: {each.why}"],
        [" → ".join(each.jobs)],
        each.images,
        map(format_container, each.places),
    ]
    return "| " + " | ".join("<br>".join(escape_markdown(line) for line in cell) for cell in cells) + " |"
