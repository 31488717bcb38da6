"""Formats changes as text, as Markdown for a pull request's summary, and as plain data for programs."""

import re
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from typing import Any

from kiwari_ci.commands.diff import first_comparison
from kiwari_ci.commands.diff.change import PipelineChange
from kiwari_ci.commands.diff.compare import DiffResult
from kiwari_ci.problems import escape_control_characters

MAX_MARKDOWN_LENGTH = 60_000  # characters of Markdown: GitHub cuts a comment at 65,536
_MARKDOWN_CHARACTERS = re.compile(r"([\\*_{}\[\]<>()#+!|~@&])")


def format_diff_text(result: DiffResult, spec: str) -> str:
    """Format changes for people, with a summary at the end.

    The first comparison is arranged by what a person does and when; later ones by subject, risky changes first.
    """
    lines = [f"Comparing {result.before} with what {spec} generates", ""]
    if result.is_first and result.changes:
        lines += _format_first_comparison(result)
        lines += [f"not read: {path}: {reason}" for path, reason in result.skipped]
        return "\n".join([*lines, summarize_diff(result)])
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


def format_repetition_note(default_branch: str) -> str:
    """Say that the generated files are compared with themselves, and how to compare them with what was there before."""
    command = f"kiwari-ci diff --against origin/{escape_control_characters(default_branch)}"
    return f"the generated files are already there; to see what they changed, compare with a commit before: {command}"


def _format_first_comparison(result: DiffResult) -> Iterator[str]:
    yield first_comparison.DANGER_NOTE
    yield ""
    for stage, lines in first_comparison.arrange_lines(result.changes):
        yield first_comparison.PART_TITLES[stage]
        for line in lines:
            mark = "!" if line.is_dangerous else " "
            subject = f"{line.subject}: " if line.subject and line.subject != line.where else ""
            location = f"  [{line.where}]" if line.where and line.where not in line.words else ""
            yield f"  {mark} {subject}{line.words}{location}"
        yield ""


def _get_subject(change: PipelineChange) -> str:
    return change.subject


def summarize_diff(result: DiffResult) -> str:
    """Count the changes, the risky ones among them, and the files that were not read."""
    if result.is_first and result.changes:
        return _summarize_first_comparison(result)
    total, risky_count = len(result.changes), sum(change.risky for change in result.changes)
    unread = f"; not read: {len(result.skipped)}" if result.skipped else ""
    if not total:
        return "nothing changes in what " + (f"could be read{unread}" if unread else "the pipeline does")
    care = f"{risky_count} to look at first (!)" if risky_count else "none of them risky"
    return f"{total} {'change' if total == 1 else 'changes'}, {care}{unread}"


def _summarize_first_comparison(result: DiffResult) -> str:
    """Count the lines of each part, and the dangerous ones among them."""
    lines_by_stage = dict(first_comparison.arrange_lines(result.changes))
    before_count, after_count = len(lines_by_stage.get("before", [])), len(lines_by_stage.get("after", []))
    dangerous_count = sum(line.is_dangerous for lines in lines_by_stage.values() for line in lines)
    unread = f"; not read: {len(result.skipped)}" if result.skipped else ""
    return (
        f"by hand: {before_count} before the merge, {after_count} after it; "
        f"to look at first (!): {dangerous_count}{unread}"
    )


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
    body = list(_format_first_parts(result) if result.is_first else _format_subjects(result))
    body += [f"- not read: {escape_markdown(path)}: {escape_markdown(reason)}" for path, reason in result.skipped]
    for index, line in enumerate(body):
        if length + len(line) > MAX_MARKDOWN_LENGTH - 200:
            omitted_count = sum(omitted_line.startswith("- ") for omitted_line in body[index:])
            lines.append(f"\n… and {omitted_count} more: run `kiwari-ci diff`")
            break
        lines.append(line)
        length += len(line) + 1
    return "\n".join(lines).rstrip()


def _format_first_parts(result: DiffResult) -> Iterator[str]:
    for stage, lines in first_comparison.arrange_lines(result.changes):
        yield f"#### {first_comparison.PART_TITLES[stage]}\n"
        for line in lines:
            mark = "⚠️ " if line.is_dangerous else ""
            subject = f"**{escape_markdown(line.subject)}**: " if line.subject else ""
            is_place_shown = not line.where or line.where == line.subject or line.where in line.words
            location = "" if is_place_shown else f" ({escape_markdown(line.where)})"
            yield f"- {mark}{subject}{escape_markdown(line.words)}{location}"
        yield ""


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
        for internal in ("pairs", "summary", "item"):
            del fields[internal]
        changes.append(fields)
    return {
        "before": result.before,
        "first": result.is_first,
        "changes": changes,
        "skipped": dict(result.skipped),
    }
