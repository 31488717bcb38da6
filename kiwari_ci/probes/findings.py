"""What was found, how it is printed, and where the runbook has the words of a cure."""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Literal

from kiwari_ci.problems import Problem, harmless
from kiwari_ci.problems import as_github as annotations

State = Literal["ok", "wrong", "not asked"]
LONGEST = 300  # characters of what somebody else has said
STEP = re.compile(r"^### (?P<number>\d+)\. (?P<title>.+)$", re.MULTILINE)
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Finding:
    """What was looked at (`subject`, in a `group`: a host, an environment), what was seen, expected, and the cure."""

    group: str
    subject: str
    state: State
    saw: str
    expected: str = ""
    cure: str = ""


@dataclass(frozen=True)
class Group:
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


class Runbook:
    """The generated runbook: each step and command that cures something stands there, and nowhere else."""

    def __init__(self, text: str, destinations: Mapping[str, str], here: str = "") -> None:
        """`destinations`: where ssh reaches a host, by the runbook's variable; commands `here` are for no other."""
        self._steps = {match["title"]: int(match["number"]) for match in STEP.finditer(text)}
        lines: list[str] = [line for block in BLOCK.findall(text) for line in block.splitlines()]
        for variable, destination in destinations.items():
            if here and variable != here:
                lines = [line for line in lines if f'"${variable}"' not in line]
            lines = [_filled_in(line, variable, destination) for line in lines]
        self._lines = lines

    def step(self, title: str) -> str:
        """The place of a step; a title may be left unfinished."""
        found = next(number for name, number in self._steps.items() if name.startswith(title))
        return f"runbook, step {found} ({title})"

    def command(self, *parts: str) -> str:
        """The first line of a command that has all of these parts."""
        return next(line for line in self._lines if all(part in line for part in parts))


def _filled_in(line: str, variable: str, destination: str) -> str:
    """A command that can be typed as it is; an alias of ssh's has no login and address that a secret could hold."""
    line = line.replace(f'"${variable}"', shlex.quote(destination))
    if f"${{{variable}" not in line:
        return line
    return f"{variable}={shlex.quote(destination if '@' in destination else 'USER@ADDRESS')}; {line}"


def counted(findings: Iterable[Finding]) -> dict[State, int]:
    """How many there are of each state."""
    states = [finding.state for finding in findings]
    return {"ok": states.count("ok"), "wrong": states.count("wrong"), "not asked": states.count("not asked")}


def as_text(findings: Iterable[Finding]) -> str:
    """For people: by group, a line for each finding, two more for what is wrong, and the count."""
    findings = list(findings)
    parts = ["\n".join([harmless(name), *map(_text, members)]) for name, members in groupby(findings, key=_group)]
    summary = ", ".join(f"{count} {state}" for state, count in counted(findings).items())
    return "\n\n".join([*parts, summary])


def as_github(findings: Iterable[Finding]) -> str:
    """For a workflow's log: the text, and an annotation for each that is wrong."""
    findings = list(findings)
    wrong = [each for each in findings if each.state == "wrong"]
    made = [Problem(f"{each.group}: {each.subject}", _words(each), "") for each in wrong]
    return "\n".join(filter(None, [as_text(findings), annotations(made)]))


def as_json(findings: Iterable[Finding]) -> str:
    """For programs: the findings, and how many there are of each state."""
    findings = list(findings)
    found = [asdict(finding) for finding in findings]
    return json.dumps({"findings": found, "count": counted(findings)}, indent=2, ensure_ascii=False)


def _group(finding: Finding) -> str:
    return finding.group


def _text(finding: Finding) -> str:
    lines = [f"  {finding.state:9}  {harmless(finding.subject)}: {_cut(harmless(finding.saw))}"]
    lines += [f"{'':13}expected: {harmless(finding.expected)}"] if finding.expected else []
    lines += [f"{'':13}cure: {harmless(finding.cure)}"] if finding.cure else []
    return "\n".join(lines)


def _words(finding: Finding) -> str:
    rest = {"expected": finding.expected, "cure": finding.cure}
    lines = [f"{name}: {harmless(text)}" for name, text in rest.items() if text]
    return "\n".join([_cut(harmless(finding.saw)), *lines])


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
