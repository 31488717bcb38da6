"""The findings of the doctor, and their formats: text, GitHub annotations, JSON."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Literal

from kiwari_ci.problems import Problem, escape_control_characters
from kiwari_ci.problems import format_problems_github as annotations

FindingState = Literal["ok", "wrong", "not asked"]
MAX_MESSAGE_LENGTH = 300  # characters of what somebody else has said


@dataclass(frozen=True)
class Finding:
    """What was looked at (`subject`, in a `group`: a host, an environment), what was seen, expected, and the cure."""

    group: str
    subject: str
    state: FindingState
    saw: str
    expected: str = ""
    cure: str = ""


@dataclass(frozen=True)
class FindingGroup:
    """Makes the findings of one environment, host or service outside."""

    name: str

    def ok(self, subject: str, saw: str) -> Finding:
        """As the spec has it."""
        return Finding(self.name, subject, "ok", saw)

    def wrong(self, subject: str, saw: str, expected: str, cure: str) -> Finding:
        """Other than the spec has it."""
        return Finding(self.name, subject, "wrong", saw, expected, cure)

    def not_asked(self, subject: str, why: str) -> Finding:
        """Nobody can say."""
        return Finding(self.name, subject, "not asked", why)


def count_by_state(findings: Iterable[Finding]) -> dict[FindingState, int]:
    """How many there are of each state."""
    states = [finding.state for finding in findings]
    return {"ok": states.count("ok"), "wrong": states.count("wrong"), "not asked": states.count("not asked")}


def format_findings_text(findings: Iterable[Finding]) -> str:
    """For people: by group, a line for each finding, two more for what is wrong, and the count."""
    findings = list(findings)
    parts = [
        "\n".join([escape_control_characters(name), *map(_format_finding, members)])
        for name, members in groupby(findings, key=_get_group_name)
    ]
    summary = ", ".join(f"{count} {state}" for state, count in count_by_state(findings).items())
    return "\n\n".join([*parts, summary])


def format_findings_github(findings: Iterable[Finding]) -> str:
    """For a workflow's log: the text, and an annotation for each that is wrong."""
    findings = list(findings)
    wrong = [each for each in findings if each.state == "wrong"]
    made = [Problem(f"{each.group}: {each.subject}", _format_annotation_text(each), "") for each in wrong]
    return "\n".join(filter(None, [format_findings_text(findings), annotations(made)]))


def format_findings_json(findings: Iterable[Finding]) -> str:
    """For programs: the findings, and how many there are of each state."""
    findings = list(findings)
    found = [asdict(finding) for finding in findings]
    return json.dumps({"findings": found, "count": count_by_state(findings)}, indent=2, ensure_ascii=False)


def _get_group_name(finding: Finding) -> str:
    return finding.group


def _format_finding(finding: Finding) -> str:
    lines = [
        f"  {finding.state:9}  {escape_control_characters(finding.subject)}: {_truncate_message(escape_control_characters(finding.saw))}"
    ]
    lines += [f"{'':13}expected: {escape_control_characters(finding.expected)}"] if finding.expected else []
    lines += [f"{'':13}cure: {escape_control_characters(finding.cure)}"] if finding.cure else []
    return "\n".join(lines)


def _format_annotation_text(finding: Finding) -> str:
    rest = {"expected": finding.expected, "cure": finding.cure}
    lines = [f"{name}: {escape_control_characters(text)}" for name, text in rest.items() if text]
    return "\n".join([_truncate_message(escape_control_characters(finding.saw)), *lines])


def _truncate_message(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE_LENGTH else f"{text[:MAX_MESSAGE_LENGTH]}…"
