"""Why a generated file is not what the spec makes of it, and the command that cures it."""

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from kiwari_ci import __version__
from kiwari_ci.commands.check import older_specs, spec_location, stale_files
from kiwari_ci.loading import yaml_source
from kiwari_ci.output.generated_files import (
    MAX_FILE_BYTES,
    PROGRAM_MARKERS,
    FileDifference,
    GeneratedFiles,
    read_marker_project,
)
from kiwari_ci.plan import Plan
from kiwari_ci.readers.installed_tool import find_installed_commit
from kiwari_ci.rendering.render import DRIFT_WORKFLOW_PATH
from kiwari_ci.safe_files import read_plain_file

DriftCause = Literal[
    "missing", "orphaned", "foreign", "foreign-project", "line-ends", "mode", "pins", "pins-apart", "pins-old", "spec",
    "version", "edited", "unknown",
]  # fmt: skip
DRIFT_CAUSE_LABELS: dict[DriftCause, str] = {
    "missing": "missing",
    "orphaned": "no longer in the spec",
    "foreign": "not ours (no marker)",
    "foreign-project": "foreign (another project's marker)",
    "line-ends": "line endings only",
    "mode": "executable bit only",
    "pins": "pins moved",
    "pins-apart": "pins moved, not everywhere alike",
    "pins-old": "older pins, not regenerated",
    "spec": "spec changed, not regenerated",
    "version": "made by another version of kiwari-ci",
    "edited": "edited by hand",
    "unknown": "edited by hand, or spec changed and not regenerated",
}
NOTHING_GENERATED = "nothing was generated yet"
_PINNED_ACTION = re.compile(
    r"(?<=uses: )([\w.-]+/[\w./-]+)@([0-9a-f]{40}) # v(\d+\.\d+\.\d+)(?=\r?$)", re.ASCII | re.MULTILINE
)
PinsByAction = dict[str, tuple[str, str]]


@dataclass(frozen=True)
class DriftFinding:
    """A file that is not what it should be: why, and the key and line of the spec that it comes from.

    `line` is the first that differs, from 1, as the file is there; 0 when nothing is.
    """

    path: str
    why: DriftCause
    line: int
    key: str
    spec_line: int
    diff: str


@dataclass(frozen=True)
class DriftReport:
    """All findings, in order, and the command that cures them; `never`: nothing was generated yet."""

    findings: list[DriftFinding]
    cure: str
    never: bool = False


def explain_differences(
    root: Path,
    spec: Path,
    plan: Plan,
    tree: GeneratedFiles,
    differences: list[FileDifference],
    called: list[str],
    environ: Mapping[str, str],
) -> DriftReport:
    """Class every difference; `called` are the words that name spec and output to a command; git gets `environ`."""
    case = _DriftClassifier(root, spec, plan, tree, environ)
    findings = [case.finding(difference) for difference in differences]
    missing = {finding.path for finding in findings if finding.why == "missing"}
    # The programs may be there already, by another project that shares the folder.
    never = all(path in missing for path, file in tree.items() if file.marked and path not in PROGRAM_MARKERS)
    others = {read_marker_project(root / each.path) for each in findings if each.why == "foreign-project"}
    if others and (here := sorted(others & stale_files.find_other_projects(root, tree, plan.project, spec))):
        return DriftReport(findings, _suggest_separate_folder(plan, called, here))
    return DriftReport(findings, build_fix_command(findings, plan, called), never)


def build_fix_command(findings: Iterable[DriftFinding], plan: Plan, called: list[str]) -> str:
    """One command line; a bump of pins is read back, what else differs is written again."""
    whys = {finding.why for finding in findings}
    if not whys:
        return ""
    generate, pull = (shlex.join(["kiwari-ci", *words, *called]) for words in (["generate"], ["pins", "pull"]))
    if whys & {"foreign", "foreign-project"}:
        generate += " --force # it overwrites what is not ours, too"
    line = generate if "pins" not in whys else pull if whys == {"pins"} else f"{pull} && {generate}"
    wanted = _find_tool_requirement(plan)
    return f"{_build_install_command(wanted)} && {line}" if wanted else line


def _build_install_command(requirement: str) -> str:
    """A command that installs the tool by its content: a commit, or a wheel with its hash."""
    if requirement.startswith("git+"):
        return shlex.join(["pip", "install", requirement])
    return f"pip install --require-hashes --no-deps --requirement /dev/stdin <<<{shlex.quote(requirement)}"


def _suggest_separate_folder(plan: Plan, called: list[str], others: list[str]) -> str:
    """Two projects of one folder would take each other's files away: a folder of its own."""
    spec = called[: called.index("--out")] if "--out" in called else called
    line = shlex.join(["kiwari-ci", "generate", *spec, "--out", f"generated-{plan.project}"])
    return f"{line} # a folder of its own, for this one is of another project: {', '.join(others)}"


def _find_tool_requirement(plan: Plan) -> str:
    """The tool that the spec names, as pip takes it; empty when it is the one that runs, or when nobody knows."""
    if plan.drift.commit:
        url = f"git+https://github.com/{plan.drift.repository}@{plan.drift.commit}"
        return "" if find_installed_commit() in ("", plan.drift.commit) else url
    wanted = plan.drift.requirement
    return "" if re.search(rf"kiwari(-ci==|_ci-){re.escape(__version__)}[ -]", wanted) else wanted


class _DriftClassifier:
    """A red check: what is there, what should be, and what is asked only when a class depends on it."""

    def __init__(self, root: Path, spec: Path, plan: Plan, tree: GeneratedFiles, environ: Mapping[str, str]) -> None:
        self.root, self.path, self.plan, self.tree, self.environ = root, spec, plan, tree, environ

    def finding(self, difference: FileDifference) -> DriftFinding:
        there, want = _read_file_text(self.root / difference.path), self._want(difference.path)
        why = self._why(difference, there, want)
        if why == "edited":
            want = min([want, *self._older(difference.path)], key=lambda text: _count_differing_lines(there, text))
        number = _find_first_difference(there, want) if there and want else 1
        line = want.split("\n")[number - 1] if there and want else ""
        key, spec_line = self._governing(difference.path, why, line)
        last = there.count("\n") + (not there.endswith("\n"))
        return DriftFinding(difference.path, why, min(number, last) if there else 0, key, spec_line, difference.diff)

    def _why(self, difference: FileDifference, there: str, want: str) -> DriftCause:
        path, kind = difference.path, difference.kind
        if kind == "missing":
            old = self.before.made
            return "spec" if old and not any(path in made.tree for made in old) else "missing"
        if kind == "orphaned":
            return "orphaned"
        if kind == "foreign":
            return "foreign-project" if read_marker_project(self.root / path) else "foreign"
        if there == want:
            return "mode" if difference.diff.startswith("old mode") else "edited"  # a link stands for the file
        if difference.diff.startswith("old mode"):
            return "edited"
        plain = _normalize_text(there)
        if plain == want:
            return "line-ends"
        if path == self.plan.drift.spec_path:
            return self._why_of_copy()
        if path in PROGRAM_MARKERS:
            return "version" if self._is_of_another_version else "edited"  # no spec changes them
        older = self._older(path)
        if plain in older:
            return "spec"
        alike = next(
            (text for text in [want, *older] if _PINNED_ACTION.sub(r"\1", text) == _PINNED_ACTION.sub(r"\1", plain)),
            None,
        )
        return self._why_of_text() if alike is None else self._why_of_pins(plain, alike)

    def _why_of_text(self) -> DriftCause:
        if self._is_of_another_version:
            return "version"
        return "edited" if self.before.is_told else "unknown"

    def _why_of_pins(self, there: str, want: str) -> DriftCause:
        """Two texts that differ in pins alone."""
        now, ours = _parse_pins(there), _parse_pins(want)
        moved = {action for action in now if now[action] != ours[action]}
        if any(len(self._pins_there[action]) > 1 for action in moved):
            return "pins-apart"
        if all(_parse_version(now[action]) >= _parse_version(ours[action]) for action in moved):
            return "pins"
        return "version" if self._is_of_another_version else "pins-old"

    def _why_of_copy(self) -> DriftCause:
        """The copy is behind; or edited, when all that it would make otherwise is as the spec in use has it."""
        path = self.plan.drift.spec_path
        copy = next(
            (made for made in self.before.made if made.spec.text == _normalize_text(_read_file_text(self.root / path))),
            None,
        )
        if copy is None:
            return "edited"
        others = [each for each in self.tree if each != path and copy.tree.get(each) != self.tree[each]]
        is_alone = others and all(_read_file_text(self.root / each) == self.tree[each].text for each in others)
        return "edited" if is_alone else "spec"

    def _governing(self, path: str, why: DriftCause, line: str) -> tuple[str, int]:
        if path == self.plan.drift.spec_path:
            there = _read_file_text(self.root / path)
            number = _find_first_difference(there, self.spec.text) if there else 1
            return "", max(1, min(number, self.spec.text.count("\n")))
        if why == "foreign-project":
            return "project.name", spec_location.locate_nearest_key(self.spec, ("project", "name"))[1]
        base = spec_location.find_spec_key(path, self.plan)
        if why == "spec" and (changed := self._changed(path)):
            below = (each for each in changed if each[: len(base)] == base)
            loc, number = spec_location.locate_nearest_key(self.spec, next(below, changed[0]))
        else:
            loc, number = spec_location.locate_generated_line(self.spec, base, line)
        return spec_location.format_spec_key(loc), number

    def _changed(self, path: str) -> list[yaml_source.YamlPath]:
        """Where the spec that made the file says something else than today's."""
        there = _normalize_text(_read_file_text(self.root / path))
        texts = [(made, made.tree[path].text if path in made.tree else "") for made in self.before.made]
        made = next((made for made, text in texts if text == there), None)
        return list(spec_location.find_changed_keys(made.spec.data, self.spec.data)) if made else []

    def _older(self, path: str) -> list[str]:
        return [made.tree[path].text for made in self.before.made if path in made.tree]

    def _want(self, path: str) -> str:
        return self.tree[path].text if path in self.tree else ""

    @cached_property
    def spec(self) -> yaml_source.YamlSource:
        return yaml_source.load_yaml(self.path)

    @cached_property
    def before(self) -> older_specs.CandidateSpecs:
        return older_specs.find_candidate_specs(
            self.root, self.plan.drift.spec_path, self.path, self.plan.spec_text, self.environ
        )

    @cached_property
    def _pins_there(self) -> dict[str, set[tuple[str, str]]]:
        found: dict[str, set[tuple[str, str]]] = {}
        for path, file in self.tree.items():
            if _PINNED_ACTION.search(file.text):
                for action, sha, version in _PINNED_ACTION.findall(_read_file_text(self.root / path)):
                    found.setdefault(action, set()).add((sha, version))
        return found

    @cached_property
    def _is_of_another_version(self) -> bool:
        """Whether the drift workflow that is there installs something else than what runs here."""
        text = _read_file_text(self.root / DRIFT_WORKFLOW_PATH)
        if found := re.search(r"<<< [\"']?(?:kiwari-ci==|\./\S*kiwari_ci-)([0-9]+\.[0-9]+\.[0-9]+)", text):
            return found[1] != __version__
        commit = re.search(r"^ +ref: [\"']?([0-9a-f]{40})", text, re.MULTILINE)
        return commit is not None and commit[1] != (find_installed_commit() or self.plan.drift.commit)


def _read_file_text(path: Path) -> str:
    """What is there, byte for byte; empty when it is no file."""
    return read_plain_file(path, MAX_FILE_BYTES).decode(errors="surrogateescape") if path.is_file() else ""


def _normalize_text(text: str) -> str:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _find_first_difference(there: str, want: str) -> int:
    """The first line that is not alike, from 1."""
    pairs = zip(there.split("\n"), want.split("\n"), strict=False)
    same = next((number for number, (one, other) in enumerate(pairs) if one != other), None)
    return 1 + (min(there.count("\n"), want.count("\n")) if same is None else same)


def _count_differing_lines(there: str, text: str) -> int:
    """How many lines only one of them has."""
    return len(set(there.split("\n")) ^ set(text.split("\n")))


def _parse_pins(text: str) -> PinsByAction:
    return {action: (sha, version) for action, sha, version in _PINNED_ACTION.findall(text)}


def _parse_version(pin: tuple[str, str]) -> tuple[int, ...]:
    return tuple(int(part) for part in pin[1].split("."))
