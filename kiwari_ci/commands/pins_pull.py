"""A bot's bumps, read back from the generated workflows into the file of pins."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kiwari_ci import generator
from kiwari_ci.github import action_pins
from kiwari_ci.github.action_pins import ActionPin, PinOccurrence
from kiwari_ci.loading import yaml_source
from kiwari_ci.loading.validation import report_at_value
from kiwari_ci.loading.yaml_source import YamlSource
from kiwari_ci.output import atomic_write, generated_files
from kiwari_ci.problems import Problem, SpecError
from kiwari_ci.safe_files import read_plain_file

PINS_FILE_HEADER = """\
# The actions of the generated workflows. `kiwari-ci pins pull` keeps it, and bots may bump it: that is why it has the
# form of an action, which nothing runs. Without this file, kiwari-ci's own pins are used.
# A pin that must stay: above its `uses`, `name: frozen at v1.2.3 because REASON`.
name: pins
description: The actions of the generated workflows.
runs:
  using: composite
  steps:
"""


@dataclass(frozen=True)
class PinUpdate:
    """An action that moves from one pin to another; `frozen`: why it stays where it was."""

    was: ActionPin
    now: ActionPin
    frozen: str = ""


@dataclass(frozen=True)
class PullResult:
    """What a pull found, the file of pins, and what was then generated; nothing is written without a bump."""

    path: Path
    bumps: list[PinUpdate]
    written: generated_files.WriteResult | None = None


@dataclass(frozen=True)
class WorkflowPin:
    """A pin as a generated file has it."""

    file: YamlSource
    seen: PinOccurrence

    @property
    def pin(self) -> ActionPin:
        """The pin alone."""
        return self.seen.pin

    def fault(self, rule: str, words: str, hint: str) -> Problem:
        """A problem at its place."""
        return report_at_value(self.file, self.seen.loc, rule, words, hint)


def pull_pin_updates(spec: Path, out: Path) -> PullResult:
    """Take the pins of the generated workflows into the spec's file of pins, and generate; raises Faults, Refused."""
    own, (plan, files) = action_pins.load_pins(spec), generator.generate_files(spec)
    found = _collect_workflow_pins(out, files, plan.project, own.pins)
    bumps = _find_pin_updates(found, own.pins, spec)
    moved = {bump.now.action: bump.now for bump in bumps if not bump.frozen}
    path = action_pins.derive_pins_path(spec)
    if not bumps:
        return PullResult(path, [])
    if not moved:
        return PullResult(path, bumps, generated_files.write_files(out, files, plan.project))
    was = read_plain_file(path, yaml_source.MAX_SPEC_SIZE).decode() if own.text else None
    text = update_pins_text(path, own.text, {action: moved.get(action, own.pins[action]) for action in found})
    made = generated_files.restore_line_endings(text, was or "")
    generated_files.write_user_file(spec.parent, action_pins.PINS_RELATIVE_PATH, made, was)
    try:
        plan, files = generator.generate_files(spec)
        return PullResult(path, bumps, generated_files.write_files(out, files, plan.project))
    except BaseException:
        _restore_pins_file(spec.parent, made, was)
        raise


def serialize_pull_result(done: PullResult) -> dict[str, Any]:
    """For programs."""
    return {
        "path": done.path.as_posix(),
        "bumps": [asdict(bump) for bump in done.bumps],
        "written": vars(done.written or generated_files.WriteResult()),
    }


def update_pins_text(path: Path, text: str, wanted: Mapping[str, ActionPin]) -> str:
    """A file's text with these pins, all else as it was; a new file where there is none; raises Refused."""
    if not text:
        return PINS_FILE_HEADER + "".join(
            f"{line}\n" for pin in wanted.values() for line in _format_pin_step(pin, "    ")
        )
    read = yaml_source.parse_yaml(path.as_posix(), text)
    seen, _ = action_pins.find_pins(read, {**action_pins.DEFAULT_PINS, **wanted})
    lines = list(read.lines)
    for each in seen:
        pin, row = wanted.get(each.pin.action, each.pin), each.place.line - 1
        if pin.sha != each.pin.sha:
            before, behind = lines[row][: each.place.column - 1], action_pins.find_trailing_text(read, each.place)
            lines[row] = f"{before}{pin.action}@{pin.sha}" + behind.replace(each.pin.version, pin.version, 1)
    _append_pin_steps(
        read, lines, [pin for action, pin in wanted.items() if action not in {each.pin.action for each in seen}]
    )
    made = "\n".join(lines)
    if not _has_expected_pins(path, made, wanted):
        rows = "\n".join(f"  - uses: {pin.line}" for pin in wanted.values())
        raise atomic_write.OutputError(
            f"{path}: cannot be edited as it is written; below `steps`, write a line each:\n{rows}"
        )
    return made


def _append_pin_steps(read: YamlSource, lines: list[str], new: list[ActionPin]) -> None:
    """Behind the last step, in the column of the first."""
    last = max(place.line for loc, place in read.values.items() if loc[:2] == ("runs", "steps") and len(loc) > 2)
    first = read.lines[read.values["runs", "steps", 0].line - 1]
    indent = first[: len(first) - len(first.lstrip())]
    lines[last:last] = [line for pin in new for line in _format_pin_step(pin, indent)]


def _format_pin_step(pin: ActionPin, indent: str) -> list[str]:
    """Nothing runs it; but who audits actions wants no checkout without its input."""
    inputs = [f"{indent}  with: {{persist-credentials: false}}"] if pin.action == "actions/checkout" else []
    return [f"{indent}- uses: {pin.line}", *inputs]


def _has_expected_pins(path: Path, text: str, wanted: Mapping[str, ActionPin]) -> bool:
    """Our own output, read again."""
    try:
        made = action_pins.parse_pins_file(yaml_source.parse_yaml(path.as_posix(), text), wanted).pins
    except SpecError:
        return False
    return all(replace(made[action], frozen="") == replace(pin, frozen="") for action, pin in wanted.items())


def _restore_pins_file(folder: Path, made: str, was: str | None) -> None:
    if was is None:
        generated_files.remove_unmarked_file(folder, action_pins.PINS_RELATIVE_PATH, made)
    else:
        generated_files.write_user_file(folder, action_pins.PINS_RELATIVE_PATH, was, made)


def _collect_workflow_pins(
    out: Path, files: generated_files.GeneratedFiles, project: str, known: Mapping[str, ActionPin]
) -> dict[str, list[WorkflowPin]]:
    """By action, each pin of the workflows that are there; raises Faults, Refused."""
    found, faults, count = defaultdict[str, list[WorkflowPin]](list), list[Problem](), 0
    for path in files:
        full = out / path
        if not (path.startswith(".github/workflows/") and path.endswith(".yml") and full.is_file()):
            continue
        with atomic_write.convert_os_errors(out):
            is_ours = generated_files.read_marker_project(full) == project
        if is_ours:
            count += 1
            file = yaml_source.load_yaml(full)
            seen, wrong = action_pins.find_pins(file, known)
            faults += wrong
            for each in seen:
                found[each.pin.action].append(WorkflowPin(file, each))
    if not count:
        raise atomic_write.OutputError(f"{out}: no generated workflow of {project} is here: name the folder with --out")
    if faults:
        raise SpecError(faults)
    return found


def _find_pin_updates(
    found: Mapping[str, list[WorkflowPin]], current: Mapping[str, ActionPin], spec: Path
) -> list[PinUpdate]:
    """Find the pins that have moved; raises SpecError where files disagree, or a pin would go back."""
    updates: list[PinUpdate] = []
    problems: list[Problem] = []
    for action, current_pin in current.items():
        if action not in found:
            continue
        newest = max(found[action], key=lambda workflow_pin: workflow_pin.pin.order)
        if current_pin.frozen and newest.pin != replace(current_pin, frozen=""):
            updates.append(PinUpdate(current_pin, newest.pin, current_pin.frozen))
            continue
        action_problems = [
            *_find_disagreements(found[action], newest),
            *_find_suspicious_updates(newest, current_pin, spec),
        ]
        problems += action_problems
        if not action_problems and newest.pin != current_pin:
            updates.append(PinUpdate(current_pin, newest.pin))
    if problems:
        raise SpecError(problems)
    return updates


def _find_disagreements(workflow_pins: list[WorkflowPin], newest: WorkflowPin) -> Iterator[Problem]:
    location = f"{newest.file.path}:{newest.seen.place.line}"
    for workflow_pin in workflow_pins:
        if workflow_pin.pin != newest.pin:
            words = f"{newest.pin.action} is {_format_short_pin(workflow_pin.pin)} here, "
            words += f"and {_format_short_pin(newest.pin)} in {location}"
            hint = f"write it here, too, and pull again: {newest.pin.line}"
            yield workflow_pin.fault("pin-disagrees", words, hint)


def _find_suspicious_updates(newest: WorkflowPin, current: ActionPin, spec: Path) -> Iterator[Problem]:
    pin = newest.pin
    conflict = action_pins.explain_pin_conflict(pin, current)
    if conflict:
        yield newest.fault("pin-tag", conflict, action_pins.suggest_tag_lookup(pin.action, pin.version))
    elif pin.order < current.order:
        words = f"{pin.action} is {_format_short_pin(pin)} here, "
        words += f"and {current.version} is in use: a pull does not go back"
        hint = f"kiwari-ci generate writes {current.version}; "
        hint += f"if it must be the older one, freeze it in {action_pins.derive_pins_path(spec)}"
        yield newest.fault("pin-older", words, hint)


def _format_short_pin(pin: ActionPin) -> str:
    return f"{pin.version} ({pin.sha[:7]})"
