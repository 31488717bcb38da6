"""Changes → text for people, Markdown for a pull request's summary, plain data for programs."""

import re
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from typing import Any

from kiwari_ci.commands.diff.compare import DiffResult

MAX_MARKDOWN_LENGTH = 60_000  # characters of Markdown: GitHub cuts a comment at 65,536
_MARKDOWN_CHARACTERS = re.compile(r"([\\*_{}\[\]<>()#+!|~@&])")


def format_diff_text(compared: DiffResult, spec: str) -> str:
    """For people: by subject, risky first and marked, a count at the end."""
    lines = [f"{compared.before} → what {spec} generates", ""]
    for subject, found in groupby(compared.changes, key=lambda change: change.subject):
        lines.append(subject)
        for change in found:
            place = f"  [{change.where}]" if change.where and change.where != subject else ""
            part = f"{change.part}: " if change.part else ""
            lines.append(f"  {'!' if change.risky else ' '} {part}{change.words}{place}")
        lines.append("")
    lines += [f"not read: {path}: {reason}" for path, reason in compared.skipped]
    return "\n".join([*lines, summarize_diff(compared)])


def summarize_diff(compared: DiffResult) -> str:
    """How many changes, and how many of them ask for care."""
    total, risky = len(compared.changes), sum(change.risky for change in compared.changes)
    unread = f"; not read: {len(compared.skipped)}" if compared.skipped else ""
    if not total:
        return "nothing changes in what " + (f"could be read{unread}" if unread else "the pipeline does")
    care = f"{risky} to look at first (!)" if risky else "none of them risky"
    return f"{total} {'change' if total == 1 else 'changes'}, {care}{unread}"


def format_diff_markdown(compared: DiffResult, spec: str) -> str:
    """For a pull request: no more than LONGEST characters; what comes from files cannot become markup.

    Nothing at all when nothing changes: most pull requests touch no pipeline.
    """
    if not compared.changes and not compared.skipped:
        return ""
    head = [
        f"### What changes: {escape_markdown(compared.before)} → {escape_markdown(spec)}",
        "",
        f"**{escape_markdown(summarize_diff(compared))}**",
        "",
    ]
    lines, length = head, sum(map(len, head))
    body = [
        *_format_subjects(compared),
        *(f"- not read: {escape_markdown(path)}: {escape_markdown(reason)}" for path, reason in compared.skipped),
    ]
    for index, line in enumerate(body):
        if length + len(line) > MAX_MARKDOWN_LENGTH - 200:
            lines.append(f"\n… and {sum(each.startswith('- ') for each in body[index:])} more: run `kiwari-ci diff`")
            break
        lines.append(line)
        length += len(line) + 1
    return "\n".join(lines).rstrip()


def _format_subjects(compared: DiffResult) -> Iterator[str]:
    for subject, found in groupby(compared.changes, key=lambda change: change.subject):
        yield f"#### {escape_markdown(subject)}\n"
        for change in found:
            place = f" ({escape_markdown(change.where)})" if change.where and change.where != subject else ""
            part = f"**{escape_markdown(change.part)}**: " if change.part else ""
            yield f"- {'⚠️ ' if change.risky else ''}{part}{escape_markdown(change.words)}{place}"
        yield ""


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is; what stands in backticks becomes code that cannot be left."""
    parts = re.split(r"(`[^`]*`)", text.replace("\n", " "))
    return "".join(part if index % 2 else _escape_special_characters(part) for index, part in enumerate(parts))


def _escape_special_characters(text: str) -> str:
    escaped = _MARKDOWN_CHARACTERS.sub(r"\\\1", text).replace("`", "'")
    return re.sub("([@#])", r"\1&#8203;", escaped)  # neither a mention nor a reference to an issue


def build_diff_json(compared: DiffResult) -> dict[str, Any]:
    """For programs."""
    changes = [{key: value for key, value in asdict(change).items() if key != "pairs"} for change in compared.changes]
    return {"before": compared.before, "changes": changes, "skipped": dict(compared.skipped)}
