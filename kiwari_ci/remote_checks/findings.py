"""The findings of the doctor, and their formats: text, GitHub annotations, JSON."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Literal

from kiwari_ci.problems import Annotation, escape_control_characters, format_annotations

FindingState = Literal["ok", "wrong", "not asked"]
MAX_MESSAGE_LENGTH = 300  # characters of a message from outside


@dataclass(frozen=True)
class Finding:
    """The result of one check: of a `subject`, in a `group` such as a host or an environment.

    What was wrong has what was seen and expected, and the cure.
    """

    group: str
    subject: str
    state: FindingState
    saw: str
    expected: str = ""
    cure: str = ""


@dataclass(frozen=True)
class FindingGroup:
    """Creates the findings of one environment, one host or one outside service."""

    name: str

    def ok(self, subject: str, saw: str) -> Finding:
        """The subject is as the spec has it."""
        return Finding(self.name, subject, "ok", saw)

    def wrong(self, subject: str, saw: str, expected: str, cure: str) -> Finding:
        """The subject is not as the spec has it."""
        return Finding(self.name, subject, "wrong", saw, expected, cure)

    def not_asked(self, subject: str, why: str) -> Finding:
        """The subject could not be checked."""
        return Finding(self.name, subject, "not asked", why)


def count_by_state(findings: Iterable[Finding]) -> dict[FindingState, int]:
    """Count the findings of each state."""
    states = [finding.state for finding in findings]
    return {"ok": states.count("ok"), "wrong": states.count("wrong"), "not asked": states.count("not asked")}


def format_findings_text(findings: Iterable[Finding]) -> str:
    """Format findings for people: by group, with what was expected and the cure where something is wrong."""
    findings = list(findings)
    parts = [
        "\n".join([escape_control_characters(name), *map(_format_finding, members)])
        for name, members in groupby(findings, key=_get_group_name)
    ]
    summary = ", ".join(f"{count} {state}" for state, count in count_by_state(findings).items())
    return "\n\n".join([*parts, summary])


def format_findings_github(findings: Iterable[Finding]) -> str:
    """Format findings for a workflow's log: the text, and an annotation for each that is wrong."""
    findings = list(findings)
    annotations = [
        Annotation(f"{finding.group}: {finding.subject}", _format_annotation_text(finding))
        for finding in findings
        if finding.state == "wrong"
    ]
    return "\n".join(filter(None, [format_findings_text(findings), format_annotations(annotations)]))


def format_findings_json(findings: Iterable[Finding]) -> str:
    """Format findings as JSON, with the count of each state."""
    findings = list(findings)
    document = {"findings": [asdict(finding) for finding in findings], "count": count_by_state(findings)}
    return json.dumps(document, indent=2, ensure_ascii=False)


def _get_group_name(finding: Finding) -> str:
    return finding.group


def _format_finding(finding: Finding) -> str:
    saw = _truncate_message(escape_control_characters(finding.saw))
    lines = [f"  {finding.state:9}  {escape_control_characters(finding.subject)}: {saw}"]
    return "\n".join([*lines, *(f"{'':13}{line}" for line in _format_expectation(finding))])


def _format_annotation_text(finding: Finding) -> str:
    return "\n".join([_truncate_message(escape_control_characters(finding.saw)), *_format_expectation(finding)])


def _format_expectation(finding: Finding) -> list[str]:
    texts = {"expected": finding.expected, "cure": finding.cure}
    return [f"{name}: {escape_control_characters(text)}" for name, text in texts.items() if text]


def _truncate_message(text: str) -> str:
    if len(text) <= MAX_MESSAGE_LENGTH:
        return text
    return f"{text[:MAX_MESSAGE_LENGTH]}…"
