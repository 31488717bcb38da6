"""Formats the result of `affected` as text, as Markdown for a summary, or as JSON."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from kiwari_ci.commands.affected.analysis import AffectedContainer, AffectedResult, AffectedWorkflow
from kiwari_ci.commands.diff.report import escape_markdown
from kiwari_ci.problems import escape_control_characters, escape_text

MAX_MARKDOWN_LENGTH = 60_000  # characters of Markdown: GitHub cuts a comment at 65,536


def format_affected_text(answer: AffectedResult) -> str:
    """Format the workflows that run, with what they build and deploy; then those that do not, and why."""
    lines = [answer.about, *(f"note: {note}" for note in answer.notes), ""]
    for event in dict.fromkeys(workflow.on for workflow in answer.touched):
        lines.append(event)
        for workflow in answer.touched:
            if workflow.on == event:
                lines += _format_workflow(workflow)
        lines.append("")
    unaffected = [f"{spared.name}: {spared.why}" for spared in answer.spared]
    for title, rows in (("by hand", answer.by_hand), ("not touched", unaffected)):
        if rows:
            lines += [title, *(f"  {row}" for row in rows), ""]
    return "\n".join(map(escape_control_characters, lines)).rstrip("\n")


def format_affected_markdown(answer: AffectedResult) -> str:
    """Format a table for a pull request's summary; what comes from files is escaped."""
    head = [f"### {escape_markdown(answer.about)}", "", *(f"> {escape_markdown(note)}\n" for note in answer.notes)]
    lines = head
    if answer.touched:
        lines += ["| On | Workflow | Jobs | Images | Containers |", "| --- | --- | --- | --- | --- |"]
        lines += [*map(_format_table_row, answer.touched), ""]
    else:
        lines += ["Nothing runs.", ""]
    lines += [f"- **by hand**: {escape_markdown(step)}" for step in answer.by_hand]
    lines += [
        f"- not touched: **{escape_markdown(spared.name)}**: {escape_markdown(spared.why)}" for spared in answer.spared
    ]
    text = "\n".join(map(escape_text, lines)).rstrip("\n")
    if len(text) <= MAX_MARKDOWN_LENGTH:
        return text
    return text[:MAX_MARKDOWN_LENGTH].rpartition("\n")[0] + "\n\n… and more"


def build_affected_json(answer: AffectedResult) -> dict[str, Any]:
    """Convert the result for JSON."""
    return asdict(answer)


def format_container(container: AffectedContainer) -> str:
    """Format a container with its host and its public address."""
    address = f", {container.url}" if container.url else ""
    return f"{container.container} on {container.host}{address}"


def _format_workflow(workflow: AffectedWorkflow) -> Iterator[str]:
    yield f"  {workflow.workflow}: {workflow.why}"
    yield from _format_rows("jobs", [" → ".join(workflow.jobs)])
    yield from _format_rows("images", workflow.images)
    for environment in dict.fromkeys(container.environment for container in workflow.places):
        containers = [container for container in workflow.places if container.environment == environment]
        yield from _format_rows(environment, map(format_container, containers))


def _format_rows(title: str, rows: Iterable[str]) -> Iterator[str]:
    for index, row in enumerate(rows):
        yield f"    {title if index == 0 else '':11} {row}"


def _format_table_row(workflow: AffectedWorkflow) -> str:
    cells = [
        [workflow.on],
        [f"{workflow.workflow}: {workflow.why}"],
        [" → ".join(workflow.jobs)],
        workflow.images,
        map(format_container, workflow.places),
    ]
    return "| " + " | ".join("<br>".join(escape_markdown(line) for line in cell) for cell in cells) + " |"
