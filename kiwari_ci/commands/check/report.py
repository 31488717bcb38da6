"""Formats the result of `check` as text, as GitHub annotations and job summary, and as JSON.

GitHub's limits: https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from kiwari_ci.commands.check.causes import DRIFT_CAUSE_LABELS, NOTHING_GENERATED, DriftFinding, DriftReport
from kiwari_ci.problems import (
    Annotation,
    escape_control_characters,
    escape_text,
    format_annotations,
    format_json,
    join_with_limit,
)

MAX_ANNOTATIONS = 10  # of a kind in one step
MAX_SUMMARY_BYTES = 1_048_576  # bytes of a step
MAX_SUMMARY_ROWS = 200  # of the summary's table
WHOLE_FILE_CAUSES = ("missing", "orphaned", "foreign", "foreign-project", "mode")  # no line of the file is to be named
CAUSES_OUTSIDE_SPEC = ("orphaned", "foreign", "mode", "line-ends")
MAX_FILE_NAMES = 5  # of files that one line of the spec governs


def format_drift_report(style: str, out: Path, spec: Path, report: DriftReport, environ: Mapping[str, str]) -> str:
    """Format a report in the chosen style."""
    if style == "json":
        return format_json(serialize_drift_report(out, spec, report))
    if style == "github":
        return format_drift_github(out, spec, report, environ.get("GITHUB_WORKSPACE", ""))
    return format_drift_text(out, spec, report)


def write_job_summary(out: Path, spec: Path, report: DriftReport, environ: Mapping[str, str]) -> str:
    """Add to the summary of the job, where there is one, what fits into its room; returns why that was refused."""
    path = environ.get("GITHUB_STEP_SUMMARY")
    try:
        if path:
            with open(path, "ab") as file:
                file.write(format_job_summary(out, spec, report, MAX_SUMMARY_BYTES - file.tell()).encode())
    except OSError as error:
        return f"{path}: {error.strerror}"
    return ""


def format_drift_text(out: Path, spec: Path, report: DriftReport) -> str:
    """Format a report for people: all diffs first, so that the list of files and the command to run come last."""
    if report.never:
        return f"{out}: {NOTHING_GENERATED}\ncure: {report.cure}"
    diffs = [escape_text(finding.diff) for finding in report.findings if finding.why != "line-ends"]
    lines = []
    for finding in report.findings:
        label = DRIFT_CAUSE_LABELS[finding.why]
        lines.append(f"  {label}: {_format_file_location(finding)}{_format_spec_location(finding, spec)}")
    return "\n".join([*diffs, _format_headline(out, len(lines), f"{spec}"), *lines, f"cure: {report.cure}"])


def format_drift_github(out: Path, spec: Path, report: DriftReport, workspace: str) -> str:
    """As text, in which nothing is a command to the runner, and annotations: of the files, and of the spec's lines."""
    text = format_drift_text(out, spec, report)
    stop_token = sha256(text.encode(errors="replace")).hexdigest()  # nobody can write the hash of a text into it
    if report.never:
        return format_annotations([Annotation("drift", text)])
    annotations = [
        *_build_error_annotations(out, report, workspace),
        *_build_notice_annotations(spec, report, workspace),
    ]
    return f"::stop-commands::{stop_token}\n{text}\n::{stop_token}::\n{format_annotations(annotations)}"


def serialize_drift_report(out: Path, spec: Path, report: DriftReport) -> dict[str, Any]:
    """For programs: no finding and no cure when everything agrees."""
    findings = [asdict(finding) for finding in report.findings]
    return {"out": out.as_posix(), "spec": spec.as_posix(), "cure": report.cure, "differences": findings}


def format_job_summary(out: Path, spec: Path, report: DriftReport, max_bytes: int = MAX_SUMMARY_BYTES) -> str:
    """Format a table and the patch as Markdown, in at most `room` bytes of UTF-8; where it is cut, it says so."""
    folder, spec_name = _format_inline_code(out.as_posix()), _format_inline_code(spec.as_posix())
    headline = f"### {_format_headline(folder, len(report.findings), spec_name)}\n"
    lines = [headline, "| File | Why | Comes from |\n| --- | --- | --- |"]
    for finding in report.findings[:MAX_SUMMARY_ROWS]:
        location, cause = _format_inline_code(_format_file_location(finding)), DRIFT_CAUSE_LABELS[finding.why]
        lines.append(f"| {location} | {cause} | {_format_spec_cell(finding, spec)} |")
    omitted_count = len(report.findings) - MAX_SUMMARY_ROWS
    if omitted_count > 0:
        lines.append(f"\n… and {omitted_count} more: they are in the log.")
    lines.append(f"\nThe cure, then commit:\n\n```sh\n{escape_control_characters(report.cure)}\n```\n\n")
    table = "\n".join(lines)
    if len(table.encode()) <= max_bytes:
        return table + _format_patch_section(report, max_bytes - len(table.encode()))
    short_text = f"{headline}\nThere is no room for more: all of it is in the log.\n"
    return short_text if len(short_text.encode()) <= max_bytes else ""


def _format_patch_section(report: DriftReport, max_bytes: int) -> str:
    patch = escape_text("".join(finding.diff for finding in report.findings if finding.why != "line-ends")).encode()
    longest = max((len(run) for run in re.findall(b"`+", patch)), default=0)
    fence = "`" * max(3, longest + 1)
    begin, end = f"<details><summary>The patch</summary>\n\n{fence}diff\n", f"{fence}\n\n</details>\n"
    if patch and len(patch) > max_bytes - len(begin + end):
        end += "\nThe patch is cut at GitHub's limit of a summary: all of it is in the log.\n"
        patch = patch[: patch.rfind(b"\n", 0, max(0, max_bytes - len(begin + end))) + 1]
    return f"{begin}{patch.decode()}{end}" if patch else ""


def _build_error_annotations(out: Path, report: DriftReport, workspace: str) -> Iterator[Annotation]:
    has_more = len(report.findings) > MAX_ANNOTATIONS
    for finding in report.findings[: MAX_ANNOTATIONS - has_more]:
        yield Annotation(
            "drift",
            f"{DRIFT_CAUSE_LABELS[finding.why]}; run: {report.cure}",
            _resolve_checkout_path(workspace, out / finding.path),
            finding.line,
        )
    if has_more:
        count = len(report.findings) - MAX_ANNOTATIONS + 1
        yield Annotation("drift", f"and {count} more: they are in the summary; run: {report.cure}")


def _build_notice_annotations(spec: Path, report: DriftReport, workspace: str) -> Iterator[Annotation]:
    """One notice for each line of the spec that files with differences come from."""
    files_by_line: dict[tuple[int, str], list[str]] = {}
    for finding in report.findings:
        if finding.why not in CAUSES_OUTSIDE_SPEC:
            files_by_line.setdefault((finding.spec_line, finding.key), []).append(finding.path)
    for line, key in sorted(files_by_line)[:MAX_ANNOTATIONS]:
        names = join_with_limit(sorted(files_by_line[line, key]), MAX_FILE_NAMES)
        message = f"{key or 'this'}: this line of the spec leads to the difference in {names}"
        yield Annotation("drift", message, _resolve_checkout_path(workspace, spec), line, severity="advice")


def _format_headline(out: object, count: int, spec: str) -> str:
    files = "1 file does" if count == 1 else f"{count} files do"
    return f"{out}: {files} not agree with {spec}"


def _format_file_location(finding: DriftFinding) -> str:
    has_line = finding.line and finding.why not in WHOLE_FILE_CAUSES
    return escape_control_characters(finding.path) + (f":{finding.line}" if has_line else "")


def _format_spec_location(finding: DriftFinding, spec: Path) -> str:
    if finding.why in CAUSES_OUTSIDE_SPEC:
        return ""
    return f" ({escape_control_characters(str(spec))}:{finding.spec_line}{', ' if finding.key else ''}{finding.key})"


def _format_spec_cell(finding: DriftFinding, spec: Path) -> str:
    if finding.why in CAUSES_OUTSIDE_SPEC:
        return ""
    return f"{_format_inline_code(f'{spec.as_posix()}:{finding.spec_line}')} {finding.key}".rstrip()


def _resolve_checkout_path(workspace: str, path: Path) -> str:
    """A path as GitHub knows it: from the root of the checkout."""
    if not workspace:
        return path.as_posix()
    inside = os.path.relpath(path.resolve().parent / path.name, Path(workspace).resolve())
    return path.as_posix() if inside.startswith("..") else Path(inside).as_posix()


def _format_inline_code(text: str) -> str:
    """A name as code in a cell of a table."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{escape_control_characters(text)}{fence}".replace("|", "\\|")
