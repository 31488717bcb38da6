"""Formats changes as text, as Markdown for a pull request's summary, and as plain data for programs."""

import re
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from typing import Any

from kiwari_ci.commands.diff.change import PipelineChange
from kiwari_ci.commands.diff.compare import DiffResult

MAX_MARKDOWN_LENGTH = 60_000  # characters of Markdown: GitHub cuts a comment at 65,536
_MARKDOWN_CHARACTERS = re.compile(r"([\\*_{}\[\]<>()#+!|~@&])")


def format_diff_text(result: DiffResult, spec: str) -> str:
    """Format changes for people: by subject, risky ones first and marked, with a summary at the end."""
    lines = [f"{result.before} → what {spec} generates", ""]
    for subject, changes in groupby(result.changes, key=_get_subject):
        lines.append(subject)
        for change in changes:
            mark = "!" if change.risky else " "
            part = f"{change.part}: " if change.part else ""
            location = f"  [{change.where}]" if change.where and change.where != subject else ""
            lines.append(f"  {mark} {part}{change.words}{location}")
        lines.append("")
    lines += [f"not read: {path}: {reason}" for path, reason in result.skipped]
    return "\n".join([*lines, summarize_diff(result)])


def _get_subject(change: PipelineChange) -> str:
    return change.subject


def summarize_diff(result: DiffResult) -> str:
    """Count the changes, the risky ones among them, and the files that were not read."""
    total, risky_count = len(result.changes), sum(change.risky for change in result.changes)
    unread = f"; not read: {len(result.skipped)}" if result.skipped else ""
    if not total:
        return "nothing changes in what " + (f"could be read{unread}" if unread else "the pipeline does")
    care = f"{risky_count} to look at first (!)" if risky_count else "none of them risky"
    return f"{total} {'change' if total == 1 else 'changes'}, {care}{unread}"


def format_diff_markdown(result: DiffResult, spec: str) -> str:
    """Format changes for a pull request, in at most MAX_MARKDOWN_LENGTH characters; texts from files cannot be markup.

    The result is empty when nothing changes, for most pull requests do not touch the pipeline.
    """
    if not result.changes and not result.skipped:
        return ""
    lines = [
        f"### What changes: {escape_markdown(result.before)} → {escape_markdown(spec)}",
        "",
        f"**{escape_markdown(summarize_diff(result))}**",
        "",
    ]
    length = sum(map(len, lines))
    body = list(_format_subjects(result))
    body += [f"- not read: {escape_markdown(path)}: {escape_markdown(reason)}" for path, reason in result.skipped]
    for index, line in enumerate(body):
        if length + len(line) > MAX_MARKDOWN_LENGTH - 200:
            omitted_count = sum(omitted_line.startswith("- ") for omitted_line in body[index:])
            lines.append(f"\n… and {omitted_count} more: run `kiwari-ci diff`")
            break
        lines.append(line)
        length += len(line) + 1
    return "\n".join(lines).rstrip()


def _format_subjects(result: DiffResult) -> Iterator[str]:
    for subject, changes in groupby(result.changes, key=_get_subject):
        yield f"#### {escape_markdown(subject)}\n"
        for change in changes:
            mark = "⚠️ " if change.risky else ""
            part = f"**{escape_markdown(change.part)}**: " if change.part else ""
            location = f" ({escape_markdown(change.where)})" if change.where and change.where != subject else ""
            yield f"- {mark}{part}{escape_markdown(change.words)}{location}"
        yield ""


def escape_markdown(text: str) -> str:
    """Escape text so that Markdown shows it as it is; text in backticks becomes code, which it cannot leave."""
    parts = re.split(r"(`[^`]*`)", text.replace("\n", " "))
    return "".join(part if index % 2 else _escape_special_characters(part) for index, part in enumerate(parts))


def _escape_special_characters(text: str) -> str:
    escaped = _MARKDOWN_CHARACTERS.sub(r"\\\1", text).replace("`", "'")
    return re.sub("([@#])", r"\1&#8203;", escaped)  # neither a mention nor a reference to an issue


def build_diff_json(result: DiffResult) -> dict[str, Any]:
    """The changes as plain data for JSON; the pairs are internal."""
    changes = []
    for change in result.changes:
        fields = asdict(change)
        del fields["pairs"]
        changes.append(fields)
    return {"before": result.before, "changes": changes, "skipped": dict(result.skipped)}
