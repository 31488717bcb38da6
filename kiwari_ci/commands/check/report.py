"""A red check, told: as text, to GitHub (annotations and the job's summary), to programs.

GitHub's limits: https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

from kiwari_ci.cli.output import as_json
from kiwari_ci.commands.check.causes import NEVER, WORDS, Explained, Finding
from kiwari_ci.problems import Problem, as_github, harmless

ANNOTATIONS = 10  # of a kind in one step
SUMMARY = 1_048_576  # bytes of a step
ROWS = 200  # of the summary's table
WHOLE = ("missing", "orphaned", "foreign", "foreign-project", "mode")  # no line of the file is to be named
NOT_OF_THE_SPEC = ("orphaned", "foreign", "mode", "line-ends")
NAMES = 5  # of files that one line of the spec governs


def told(style: str, out: Path, spec: Path, explained: Explained, environ: Mapping[str, str]) -> str:
    """What `check` prints."""
    if style == "json":
        return as_json(as_data(out, spec, explained))
    if style == "github":
        return for_github(out, spec, explained, environ.get("GITHUB_WORKSPACE", ""))
    return as_text(out, spec, explained)


def summarise(out: Path, spec: Path, explained: Explained, environ: Mapping[str, str]) -> str:
    """Add to the summary of the job, where there is one, what fits into its room; returns why that was refused."""
    path = environ.get("GITHUB_STEP_SUMMARY", "")
    try:
        if path:
            with open(path, "ab") as file:
                file.write(summary(out, spec, explained, SUMMARY - file.tell()).encode())
    except OSError as error:
        return f"{path}: {error.strerror}"
    return ""


def as_text(out: Path, spec: Path, explained: Explained) -> str:
    """All diffs first: the list and the cure are what a reader sees last; before the first time, only the cure."""
    if explained.never:
        return f"{out}: {NEVER}\ncure: {explained.cure}"
    diffs = [harmless_lines(finding.diff) for finding in explained.findings if finding.why != "line-ends"]
    lines = [f"  {WORDS[each.why]}: {_place(each)}{_origin(each, spec)}" for each in explained.findings]
    return "\n".join([*diffs, _headline(out, len(lines), f"{spec}"), *lines, f"cure: {explained.cure}"])


def for_github(out: Path, spec: Path, explained: Explained, workspace: str) -> str:
    """As text, in which nothing is a command to the runner, and annotations: of the files, and of the spec's lines."""
    text = as_text(out, spec, explained)
    stop = sha256(text.encode(errors="replace")).hexdigest()  # nobody can write the hash of a text into it
    if explained.never:
        return as_github([Problem("drift", text, "")])
    notes = [*_errors(out, explained, workspace), *_notices(spec, explained, workspace)]
    return f"::stop-commands::{stop}\n{text}\n::{stop}::\n{as_github(notes)}"


def as_data(out: Path, spec: Path, explained: Explained) -> dict[str, Any]:
    """For programs: no finding and no cure when everything agrees."""
    findings = [asdict(finding) for finding in explained.findings]
    return {"out": out.as_posix(), "spec": spec.as_posix(), "cure": explained.cure, "differences": findings}


def summary(out: Path, spec: Path, explained: Explained, room: int = SUMMARY) -> str:
    """A table and the patch as Markdown, of at most `room` bytes in UTF-8; what is cut off is said."""
    rows = [
        f"| {_code(_place(each))} | {WORDS[each.why]} | {_cell(each, spec)} |" for each in explained.findings[:ROWS]
    ]
    rest = len(explained.findings) - len(rows)
    head = [
        f"### {_headline(_code(out.as_posix()), len(explained.findings), _code(spec.as_posix()))}\n",
        "| File | Why | Comes from |\n| --- | --- | --- |",
        *rows,
        *([f"\n… and {rest} more: they are in the log."] if rest else []),
        f"\nThe cure, then commit:\n\n```sh\n{harmless(explained.cure)}\n```\n\n",
    ]
    texts = ["\n".join(head), f"{head[0]}\nThere is no room for more: all of it is in the log.\n", ""]
    text = next((each for each in texts if len(each.encode()) <= room), "")
    return text + (_patch(explained, room - len(text.encode())) if text == texts[0] else "")


def _patch(explained: Explained, room: int) -> str:
    patch = harmless_lines("".join(each.diff for each in explained.findings if each.why != "line-ends")).encode()
    longest = max((len(run) for run in re.findall(b"`+", patch)), default=0)
    fence = "`" * max(3, longest + 1)
    begin, end = f"<details><summary>The patch</summary>\n\n{fence}diff\n", f"{fence}\n\n</details>\n"
    if patch and len(patch) > room - len(begin + end):
        end += "\nThe patch is cut at GitHub's limit of a summary: all of it is in the log.\n"
        patch = patch[: patch.rfind(b"\n", 0, max(0, room - len(begin + end))) + 1]
    return f"{begin}{patch.decode()}{end}" if patch else ""


def harmless_lines(text: str) -> str:
    """Lines of somebody else's, as a terminal may see them; tabs stay."""
    return "\n".join("\t".join(map(harmless, line.split("\t"))) for line in text.split("\n"))


def _errors(out: Path, explained: Explained, workspace: str) -> Iterator[Problem]:
    many = len(explained.findings) > ANNOTATIONS
    for each in explained.findings[: ANNOTATIONS - many]:
        yield Problem(
            "drift", f"{WORDS[each.why]}; run: {explained.cure}", _from(workspace, out / each.path), each.line
        )
    if many:
        count = len(explained.findings) - ANNOTATIONS + 1
        yield Problem("drift", f"and {count} more: they are in the summary; run: {explained.cure}", "")


def _notices(spec: Path, explained: Explained, workspace: str) -> Iterator[Problem]:
    shown = [each for each in explained.findings if each.why not in NOT_OF_THE_SPEC]
    found = sorted((each.spec_line, each.key, each.path) for each in shown)
    groups = [(place, [path for *_, path in rows]) for place, rows in groupby(found, key=lambda row: row[:2])]
    for (line, key), paths in groups[:ANNOTATIONS]:
        names = ", ".join(paths[:NAMES]) + (f" and {len(paths) - NAMES} more" if len(paths) > NAMES else "")
        words = f"{key or 'this'}: from here comes what differs in {names}"
        yield Problem("drift", words, _from(workspace, spec), line, severity="advice")


def _headline(out: object, count: int, spec: str) -> str:
    files = "1 file does" if count == 1 else f"{count} files do"
    return f"{out}: {files} not agree with {spec}"


def _place(finding: Finding) -> str:
    has_line = finding.line and finding.why not in WHOLE
    return harmless(finding.path) + (f":{finding.line}" if has_line else "")


def _origin(finding: Finding, spec: Path) -> str:
    if finding.why in NOT_OF_THE_SPEC:
        return ""
    return f" ({harmless(str(spec))}:{finding.spec_line}{', ' if finding.key else ''}{finding.key})"


def _cell(finding: Finding, spec: Path) -> str:
    if finding.why in NOT_OF_THE_SPEC:
        return ""
    return f"{_code(f'{spec.as_posix()}:{finding.spec_line}')} {finding.key}".rstrip()


def _from(workspace: str, path: Path) -> str:
    """A path as GitHub knows it: from the root of the checkout."""
    if not workspace:
        return path.as_posix()
    inside = os.path.relpath(path.resolve().parent / path.name, Path(workspace).resolve())
    return path.as_posix() if inside.startswith("..") else Path(inside).as_posix()


def _code(text: str) -> str:
    """A name as code in a cell of a table."""
    fence = "``" if "`" in text else "`"
    return f"{fence}{harmless(text)}{fence}".replace("|", "\\|")
