"""Explains why generated files differ from the spec, and builds the command that fixes it."""

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from kiwari_ci import __version__
from kiwari_ci.commands.check import leftover_files, older_specs, spec_location
from kiwari_ci.file_output.generated_files import (
    MAX_FILE_BYTES,
    PROGRAM_MARKERS,
    FileDifference,
    GeneratedFiles,
    read_marker_project,
)
from kiwari_ci.plan_model import Plan
from kiwari_ci.readers.installed_tool import find_installed_commit
from kiwari_ci.rendering.render import DRIFT_WORKFLOW_PATH
from kiwari_ci.safe_files import read_plain_file
from kiwari_ci.spec_loading import service_defaults, yaml_source

DriftCause = Literal[
    "missing", "orphaned", "foreign", "foreign-project", "line-ends", "mode", "pins", "pins-apart", "pins-old", "spec",
    "version", "edited", "unknown",
]  # fmt: skip
DRIFT_CAUSE_LABELS: dict[DriftCause, str] = {
    "missing": "missing",
    "orphaned": "no longer in the spec",
    "foreign": "not written by kiwari-ci (no marker)",
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
    """A file that differs: the cause, and the key and line of the spec that the file comes from.

    `line` is the first line on disk that differs, from 1; it is 0 when no file is on disk.
    """

    path: str
    why: DriftCause
    line: int
    key: str
    spec_line: int
    diff: str


@dataclass(frozen=True)
class DriftReport:
    """All findings in order, and the command that fixes them. `never` is set when nothing was generated yet."""

    findings: list[DriftFinding]
    cure: str
    never: bool = False


def explain_differences(
    root: Path,
    spec: Path,
    plan: Plan,
    tree: GeneratedFiles,
    differences: list[FileDifference],
    path_arguments: list[str],
    environ: Mapping[str, str],
) -> DriftReport:
    """Find the cause of each difference, and the command that removes them.

    `path_arguments` name the spec and the output folder to a command; git gets `environ`.
    """
    classifier = _DriftClassifier(root, spec, plan, tree, environ)
    findings = [classifier.finding(difference) for difference in differences]
    missing = {finding.path for finding in findings if finding.why == "missing"}
    # The programs may be there already: they are the same in every project that shares the folder.
    never = all(path in missing for path, file in tree.items() if file.marked and path not in PROGRAM_MARKERS)
    foreign_paths = [finding.path for finding in findings if finding.why == "foreign-project"]
    if foreign_paths:
        foreign_projects = {read_marker_project(root / path) for path in foreign_paths}
        neighbours = foreign_projects & leftover_files.find_other_projects(root, tree, plan.project, spec)
        if neighbours:
            return DriftReport(findings, _suggest_separate_folder(plan, path_arguments, sorted(neighbours)))
    return DriftReport(findings, build_fix_command(findings, plan, path_arguments), never)


def build_fix_command(findings: Iterable[DriftFinding], plan: Plan, path_arguments: list[str]) -> str:
    """One command line: pins that a bot moved are read back, and all other differences are generated again."""
    causes = {finding.why for finding in findings}
    if not causes:
        return ""
    generate = shlex.join(["kiwari-ci", "generate", *path_arguments])
    pull = shlex.join(["kiwari-ci", "pins", "pull", *path_arguments])
    if causes & {"foreign", "foreign-project"}:
        generate += " --force # it also overwrites files that kiwari-ci did not write"
    if "pins" not in causes:
        command = generate
    elif causes == {"pins"}:
        command = pull
    else:
        command = f"{pull} && {generate}"
    requirement = _find_tool_requirement(plan)
    return f"{_build_install_command(requirement)} && {command}" if requirement else command


def _build_install_command(requirement: str) -> str:
    """A command that installs the tool by its content: a commit, or a wheel with its hash."""
    if requirement.startswith("git+"):
        return shlex.join(["pip", "install", requirement])
    return f"pip install --require-hashes --no-deps --requirement /dev/stdin <<<{shlex.quote(requirement)}"


def _suggest_separate_folder(plan: Plan, path_arguments: list[str], projects: list[str]) -> str:
    """Two projects in one folder would remove each other's files, so this one gets a folder of its own."""
    spec_arguments = path_arguments
    if "--out" in path_arguments:
        spec_arguments = path_arguments[: path_arguments.index("--out")]
    command = shlex.join(["kiwari-ci", "generate", *spec_arguments, "--out", f"generated-{plan.project}"])
    return f"{command} # a folder of its own, for this one is of another project: {', '.join(projects)}"


def _find_tool_requirement(plan: Plan) -> str:
    """The tool that the spec names, as pip takes it; empty when it is the running one, or when that is unknown."""
    if plan.drift.commit:
        if find_installed_commit() in ("", plan.drift.commit):
            return ""
        return f"git+https://github.com/{plan.drift.repository}@{plan.drift.commit}"
    requirement = plan.drift.requirement
    is_running_version = re.search(rf"(kiwari-ci==|kiwari_ci-){re.escape(__version__)}[ -]", requirement)
    return "" if is_running_version else requirement


class _DriftClassifier:
    """Finds the cause of each difference; git and older specs are read only when a cause depends on them."""

    def __init__(self, root: Path, spec: Path, plan: Plan, tree: GeneratedFiles, environ: Mapping[str, str]) -> None:
        self.root, self.path, self.plan, self.tree, self.environ = root, spec, plan, tree, environ

    def finding(self, difference: FileDifference) -> DriftFinding:
        path = difference.path
        actual, expected = _read_file_text(self.root / path), self._expected_text(path)
        cause = self._find_cause(difference, actual, expected)
        if cause == "edited":
            # The edit may have been made in an older version of the file.
            versions = [expected, *self._older_texts(path)]
            expected = min(versions, key=lambda text: _count_differing_lines(actual, text))
        if not actual or not expected:
            key, spec_line = self._find_spec_line(path, cause, "")
            line_number = 1 if actual else 0
            return DriftFinding(path, cause, line_number, key, spec_line, difference.diff)
        line_number = _find_first_difference(actual, expected)
        key, spec_line = self._find_spec_line(path, cause, expected.split("\n")[line_number - 1])
        line_count = actual.count("\n") + (not actual.endswith("\n"))
        return DriftFinding(path, cause, min(line_number, line_count), key, spec_line, difference.diff)

    def _find_cause(self, difference: FileDifference, actual: str, expected: str) -> DriftCause:
        path = difference.path
        if difference.kind == "missing":
            candidates = self.before.candidates
            is_new_in_spec = candidates and not any(path in candidate.tree for candidate in candidates)
            return "spec" if is_new_in_spec else "missing"
        if difference.kind == "orphaned":
            return "orphaned"
        if difference.kind == "foreign":
            return "foreign-project" if read_marker_project(self.root / path) else "foreign"
        has_other_mode = difference.diff.startswith("old mode")
        if actual == expected:
            return "mode" if has_other_mode else "edited"  # a symbolic link replaces the file
        if has_other_mode:
            return "edited"
        return self._find_text_cause(path, _normalize_text(actual), expected)

    def _find_text_cause(self, path: str, actual: str, expected: str) -> DriftCause:
        """The cause of a difference between two texts; `actual` is normalized."""
        if actual == expected:
            return "line-ends"
        if path == self.plan.drift.spec_path:
            return self._find_cause_of_spec_copy()
        if path in PROGRAM_MARKERS:
            return "version" if self._is_of_another_version else "edited"  # no spec changes them
        older_texts = self._older_texts(path)
        if actual in older_texts:
            return "spec"
        actual_without_pins = _PINNED_ACTION.sub(r"\1", actual)
        for text in [expected, *older_texts]:
            if _PINNED_ACTION.sub(r"\1", text) == actual_without_pins:
                return self._find_cause_of_pins(actual, text)
        if self._is_of_another_version:
            return "version"
        return "edited" if self.before.is_complete else "unknown"

    def _find_cause_of_pins(self, actual: str, expected: str) -> DriftCause:
        """The cause of a difference between two texts that differ only in pins."""
        actual_pins, expected_pins = _parse_pins(actual), _parse_pins(expected)
        moved_actions = {action for action in actual_pins if actual_pins[action] != expected_pins[action]}
        if any(len(self._pins_on_disk[action]) > 1 for action in moved_actions):
            return "pins-apart"
        versions = [(_parse_version(actual_pins[name]), _parse_version(expected_pins[name])) for name in moved_actions]
        if all(actual_version >= expected_version for actual_version, expected_version in versions):
            return "pins"
        return "version" if self._is_of_another_version else "pins-old"

    def _find_cause_of_spec_copy(self) -> DriftCause:
        """The copy is older than the spec, or it was edited when all files that it would change agree with the spec."""
        path = self.plan.drift.spec_path
        text = _normalize_text(_read_file_text(self.root / path))
        copy = next((candidate for candidate in self.before.candidates if candidate.spec.text == text), None)
        if copy is None:
            return "edited"
        changed_paths = [other for other in self.tree if other != path and copy.tree.get(other) != self.tree[other]]
        is_only_difference = changed_paths and all(
            _read_file_text(self.root / changed_path) == self.tree[changed_path].text for changed_path in changed_paths
        )
        return "edited" if is_only_difference else "spec"

    def _find_spec_line(self, path: str, cause: DriftCause, line: str) -> tuple[str, int]:
        """The key of the spec, and its line, that a file or a line of it comes from."""
        if path == self.plan.drift.spec_path:
            actual = _read_file_text(self.root / path)
            line_number = _find_first_difference(actual, self.spec.text) if actual else 1
            return "", max(1, min(line_number, self.spec.text.count("\n")))
        if cause == "foreign-project":
            return "project.name", spec_location.locate_nearest_key(self.spec, ("project", "name"))[1]
        file_key = spec_location.find_spec_key(path, self.plan)
        changed_keys = self._find_changed_keys(path) if cause == "spec" else []
        if changed_keys:
            keys_of_file = [key for key in changed_keys if key[: len(file_key)] == file_key]
            loc, line_number = spec_location.locate_nearest_key(self.spec, (keys_of_file or changed_keys)[0])
        else:
            loc, line_number = spec_location.locate_generated_line(self.spec, file_key, line)
        return spec_location.format_spec_key(loc), line_number

    def _find_changed_keys(self, path: str) -> list[yaml_source.YamlPath]:
        """The keys at which today's spec differs from the one that the file was generated from."""
        actual = _normalize_text(_read_file_text(self.root / path))
        for candidate in self.before.candidates:
            candidate_text = candidate.tree[path].text if path in candidate.tree else ""
            if candidate_text == actual:
                return list(spec_location.find_changed_keys(candidate.spec.data, self.spec.data))
        return []

    def _older_texts(self, path: str) -> list[str]:
        return [candidate.tree[path].text for candidate in self.before.candidates if path in candidate.tree]

    def _expected_text(self, path: str) -> str:
        return self.tree[path].text if path in self.tree else ""

    @cached_property
    def spec(self) -> yaml_source.YamlSource:
        return service_defaults.merge_service_defaults(yaml_source.load_yaml(self.path))[0]

    @cached_property
    def before(self) -> older_specs.CandidateSpecs:
        return older_specs.find_candidate_specs(
            self.root, self.plan.drift.spec_path, self.path, self.plan.spec_text, self.environ
        )

    @cached_property
    def _pins_on_disk(self) -> dict[str, set[tuple[str, str]]]:
        """The commits and versions of each action in all files on disk."""
        pins: dict[str, set[tuple[str, str]]] = {}
        for path, file in self.tree.items():
            if _PINNED_ACTION.search(file.text):
                for action, sha, version in _PINNED_ACTION.findall(_read_file_text(self.root / path)):
                    pins.setdefault(action, set()).add((sha, version))
        return pins

    @cached_property
    def _is_of_another_version(self) -> bool:
        """Whether the drift workflow on disk installs another version than the running one."""
        text = _read_file_text(self.root / DRIFT_WORKFLOW_PATH)
        version = re.search(r"<<< [\"']?(?:kiwari-ci==|\./\S*kiwari_ci-)([0-9]+\.[0-9]+\.[0-9]+)", text)
        if version:
            return version[1] != __version__
        commit = re.search(r"^ +ref: [\"']?([0-9a-f]{40})", text, re.MULTILINE)
        return commit is not None and commit[1] != (find_installed_commit() or self.plan.drift.commit)


def _read_file_text(path: Path) -> str:
    """What is there, byte for byte; empty when it is no file."""
    return read_plain_file(path, MAX_FILE_BYTES).decode(errors="surrogateescape") if path.is_file() else ""


def _normalize_text(text: str) -> str:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _find_first_difference(actual: str, expected: str) -> int:
    """The number of the first line that differs, from 1."""
    pairs = zip(actual.split("\n"), expected.split("\n"), strict=False)
    for line_number, (actual_line, expected_line) in enumerate(pairs, 1):
        if actual_line != expected_line:
            return line_number
    return 1 + min(actual.count("\n"), expected.count("\n"))


def _count_differing_lines(first: str, second: str) -> int:
    """How many lines only one of them has."""
    return len(set(first.split("\n")) ^ set(second.split("\n")))


def _parse_pins(text: str) -> PinsByAction:
    return {action: (sha, version) for action, sha, version in _PINNED_ACTION.findall(text)}


def _parse_version(pin: tuple[str, str]) -> tuple[int, ...]:
    return tuple(int(part) for part in pin[1].split("."))
