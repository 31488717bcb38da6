"""Changes → text for people, Markdown for a pull request's summary, plain data for programs."""

import re
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from typing import Any

from kiwari_ci.commands.diff.compare import DiffResult

MAX_MARKDOWN_LENGTH = 60_000  # characters of Markdown: GitHub cuts a comment at 65,536
_MARKDOWN_CHARACTERS = re.compile(r"([\\*_{}\[\]<>()#+!|~@&])")


def format_diff_text(result: DiffResult, spec: str) -> str:
    """For people: by subject, risky first and marked, a count at the end."""
    lines = [f"{result.before} → what {spec} generates", ""]
    for subject, changes in groupby(result.changes, key=lambda change: change.subject):
        lines.append(subject)
        for change in changes:
            location = f"  [{change.where}]" if change.where and change.where != subject else ""
            part = f"{change.part}: " if change.part else ""
            lines.append(f"  {'!' if change.risky else ' '} {part}{change.words}{location}")
        lines.append("")
    lines += [f"not read: {path}: {reason}" for path, reason in result.skipped]
    return "\n".join([*lines, summarize_diff(result)])


def summarize_diff(result: DiffResult) -> str:
    """How many changes, and how many of them ask for care."""
    total, risky = len(result.changes), sum(change.risky for change in result.changes)
    unread = f"; not read: {len(result.skipped)}" if result.skipped else ""
    if not total:
        return "nothing changes in what " + (f"could be read{unread}" if unread else "the pipeline does")
    care = f"{risky} to look at first (!)" if risky else "none of them risky"
    return f"{total} {'change' if total == 1 else 'changes'}, {care}{unread}"


def format_diff_markdown(result: DiffResult, spec: str) -> str:
    """For a pull request: no more than LONGEST characters; what comes from files cannot become markup.

    Nothing at all when nothing changes: most pull requests touch no pipeline.
    """
    if not result.changes and not result.skipped:
        return ""
    head = [
        f"### What changes: {escape_markdown(result.before)} → {escape_markdown(spec)}",
        "",
        f"**{escape_markdown(summarize_diff(result))}**",
        "",
    ]
    lines, length = head, sum(map(len, head))
    body = [
        *_format_subjects(result),
        *(f"- not read: {escape_markdown(path)}: {escape_markdown(reason)}" for path, reason in result.skipped),
    ]
    for index, line in enumerate(body):
        if length + len(line) > MAX_MARKDOWN_LENGTH - 200:
            lines.append(
                f"\n… and {sum(dropped_line.startswith('- ') for dropped_line in body[index:])} more: run `kiwari-ci diff`"
            )
            break
        lines.append(line)
        length += len(line) + 1
    return "\n".join(lines).rstrip()


def _format_subjects(result: DiffResult) -> Iterator[str]:
    for subject, changes in groupby(result.changes, key=lambda change: change.subject):
        yield f"#### {escape_markdown(subject)}\n"
        for change in changes:
            location = f" ({escape_markdown(change.where)})" if change.where and change.where != subject else ""
            part = f"**{escape_markdown(change.part)}**: " if change.part else ""
            yield f"- {'⚠️ ' if change.risky else ''}{part}{escape_markdown(change.words)}{location}"
        yield ""


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is; what stands in backticks becomes code that cannot be left."""
    parts = re.split(r"(`[^`]*`)", text.replace("\n", " "))
    return "".join(part if index % 2 else _escape_special_characters(part) for index, part in enumerate(parts))


def _escape_special_characters(text: str) -> str:
    escaped = _MARKDOWN_CHARACTERS.sub(r"\\\1", text).replace("`", "'")
    return re.sub("([@#])", r"\1&#8203;", escaped)  # neither a mention nor a reference to an issue


def build_diff_json(result: DiffResult) -> dict[str, Any]:
    """For programs."""
    changes = [{key: value for key, value in asdict(change).items() if key != "pairs"} for change in result.changes]
    return {"before": result.before, "changes": changes, "skipped": dict(result.skipped)}
