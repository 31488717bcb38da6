"""What was found, how it is printed, and where the runbook has the words of a cure."""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Literal

from kiwari_ci.problems import Problem, escape_control_characters
from kiwari_ci.problems import format_problems_github as annotations

FindingState = Literal["ok", "wrong", "not asked"]
MAX_MESSAGE_LENGTH = 300  # characters of what somebody else has said
RUNBOOK_STEP = re.compile(r"^### (?P<number>\d+)\. (?P<title>.+)$", re.MULTILINE)
BASH_BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


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


class RunbookIndex:
    """The generated runbook: each step and command that cures something stands there, and nowhere else."""

    def __init__(self, text: str, destinations: Mapping[str, str], here: str = "") -> None:
        """`destinations`: where ssh reaches a host, by the runbook's variable; commands `here` are for no other."""
        self._steps = {match["title"]: int(match["number"]) for match in RUNBOOK_STEP.finditer(text)}
        lines: list[str] = [line for block in BASH_BLOCK.findall(text) for line in block.splitlines()]
        for variable, destination in destinations.items():
            if here and variable != here:
                lines = [line for line in lines if f'"${variable}"' not in line]
            lines = [_fill_in_destination(line, variable, destination) for line in lines]
        self._lines = lines

    def step(self, title: str) -> str:
        """The place of a step; a title may be left unfinished."""
        found = next(number for name, number in self._steps.items() if name.startswith(title))
        return f"runbook, step {found} ({title})"

    def command(self, *parts: str) -> str:
        """The first line of a command that has all of these parts."""
        return next(line for line in self._lines if all(part in line for part in parts))


def _fill_in_destination(line: str, variable: str, destination: str) -> str:
    """A command that can be typed as it is; an alias of ssh's has no login and address that a secret could hold."""
    line = line.replace(f'"${variable}"', shlex.quote(destination))
    if f"${{{variable}" not in line:
        return line
    return f"{variable}={shlex.quote(destination if '@' in destination else 'USER@ADDRESS')}; {line}"


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
