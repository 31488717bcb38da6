"""Reads the pins that a bot updated in the generated workflows back into the pins file."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kiwari_ci import generator
from kiwari_ci.file_output import atomic_write, generated_files
from kiwari_ci.github_facts import action_pins
from kiwari_ci.github_facts.action_pins import ActionPin, PinOccurrence
from kiwari_ci.problems import Problem, RuleName, SpecError
from kiwari_ci.safe_files import read_plain_file
from kiwari_ci.spec_loading import yaml_source
from kiwari_ci.spec_loading.validation import report_at_value
from kiwari_ci.spec_loading.yaml_source import YamlSource

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
    """The pins file, the updates, and what was generated; nothing is written without an update."""

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

    def fault(self, rule: RuleName, message: str, hint: str) -> Problem:
        """A problem at the line of the pin."""
        return report_at_value(self.file, self.seen.loc, rule, message, hint)


def pull_pin_updates(spec: Path, out: Path) -> PullResult:
    """Take the pins of the generated workflows into the spec's pins file, and generate again.

    Raises SpecError and OutputError.
    """
    own_pins = action_pins.load_pins(spec)
    plan, files = generator.generate_files(spec)
    workflow_pins = _collect_workflow_pins(out, files, plan.project, own_pins.pins)
    updates = _find_pin_updates(workflow_pins, own_pins.pins, spec)
    path = action_pins.derive_pins_path(spec)
    if not updates:
        return PullResult(path, [])
    new_pins = {update.now.action: update.now for update in updates if not update.frozen}
    if not new_pins:
        return PullResult(path, updates, generated_files.write_files(out, files, plan.project))
    old_text = read_plain_file(path, yaml_source.MAX_SPEC_SIZE).decode() if own_pins.text else None
    expected_pins = {action: new_pins.get(action, own_pins.pins[action]) for action in workflow_pins}
    updated_text = update_pins_text(path, own_pins.text, expected_pins)
    new_text = generated_files.restore_line_endings(updated_text, old_text or "")
    generated_files.write_user_file(spec.parent, action_pins.PINS_RELATIVE_PATH, new_text, old_text)
    try:
        plan, files = generator.generate_files(spec)
        return PullResult(path, updates, generated_files.write_files(out, files, plan.project))
    except BaseException:
        _restore_pins_file(spec.parent, new_text, old_text)
        raise


def serialize_pull_result(result: PullResult) -> dict[str, Any]:
    """For programs."""
    return {
        "path": result.path.as_posix(),
        "bumps": [asdict(bump) for bump in result.bumps],
        "written": vars(result.written or generated_files.WriteResult()),
    }


def update_pins_text(path: Path, text: str, expected: Mapping[str, ActionPin]) -> str:
    """Set these pins in the text of a pins file, and keep everything else; an empty text becomes a new file.

    Raises OutputError when the file cannot be edited as it is written.
    """
    if not text:
        lines = [line for pin in expected.values() for line in _format_pin_step(pin, "    ")]
        return PINS_FILE_HEADER + "".join(f"{line}\n" for line in lines)
    source = yaml_source.parse_yaml(path.as_posix(), text)
    occurrences, _ = action_pins.find_pins(source, {**action_pins.DEFAULT_PINS, **expected})
    lines = list(source.lines)
    for occurrence in occurrences:
        old_pin = occurrence.pin
        new_pin = expected.get(old_pin.action, old_pin)
        if new_pin.sha != old_pin.sha:
            index = occurrence.place.line - 1
            start = lines[index][: occurrence.place.column - 1]
            trailing_text = action_pins.find_trailing_text(source, occurrence.place)
            trailing_text = trailing_text.replace(old_pin.version, new_pin.version, 1)
            lines[index] = f"{start}{new_pin.action}@{new_pin.sha}{trailing_text}"
    known_actions = {occurrence.pin.action for occurrence in occurrences}
    _append_pin_steps(source, lines, [pin for action, pin in expected.items() if action not in known_actions])
    new_text = "\n".join(lines)
    if not _has_expected_pins(path, new_text, expected):
        rows = "\n".join(f"  - uses: {pin.line}" for pin in expected.values())
        message = f"{path}: cannot be edited as it is written; below `steps`, write a line each:\n{rows}"
        raise atomic_write.OutputError(message)
    return new_text


def _append_pin_steps(source: YamlSource, lines: list[str], new_pins: list[ActionPin]) -> None:
    """Behind the last step, in the column of the first."""
    last_line = max(span.line for loc, span in source.values.items() if loc[:2] == ("runs", "steps") and len(loc) > 2)
    first_step = source.lines[source.values["runs", "steps", 0].line - 1]
    indent = first_step[: len(first_step) - len(first_step.lstrip())]
    lines[last_line:last_line] = [line for pin in new_pins for line in _format_pin_step(pin, indent)]


def _format_pin_step(pin: ActionPin, indent: str) -> list[str]:
    """Nothing runs it; but who audits actions wants no checkout without its input."""
    inputs = [f"{indent}  with: {{persist-credentials: false}}"] if pin.action == "actions/checkout" else []
    return [f"{indent}- uses: {pin.line}", *inputs]


def _has_expected_pins(path: Path, text: str, expected: Mapping[str, ActionPin]) -> bool:
    """Our own output, read again."""
    try:
        pins = action_pins.parse_pins_file(yaml_source.parse_yaml(path.as_posix(), text), expected).pins
    except SpecError:
        return False
    return all(replace(pins[action], frozen="") == replace(pin, frozen="") for action, pin in expected.items())


def _restore_pins_file(folder: Path, new_text: str, old_text: str | None) -> None:
    if old_text is None:
        generated_files.remove_unmarked_file(folder, action_pins.PINS_RELATIVE_PATH, new_text)
    else:
        generated_files.write_user_file(folder, action_pins.PINS_RELATIVE_PATH, old_text, new_text)


def _collect_workflow_pins(
    out: Path, files: generated_files.GeneratedFiles, project: str, known_pins: Mapping[str, ActionPin]
) -> dict[str, list[WorkflowPin]]:
    """Each pin of the workflows on disk, by action; raises SpecError and OutputError."""
    workflow_pins: dict[str, list[WorkflowPin]] = defaultdict(list)
    problems: list[Problem] = []
    workflows = [out / path for path in files if path.startswith(".github/workflows/") and path.endswith(".yml")]
    own_workflows = [path for path in workflows if path.is_file() and _is_own_workflow(out, path, project)]
    for path in own_workflows:
        source = yaml_source.load_yaml(path)
        occurrences, workflow_problems = action_pins.find_pins(source, known_pins)
        problems += workflow_problems
        for occurrence in occurrences:
            workflow_pins[occurrence.pin.action].append(WorkflowPin(source, occurrence))
    if not own_workflows:
        raise atomic_write.OutputError(f"{out}: no generated workflow of {project} is here: name the folder with --out")
    if problems:
        raise SpecError(problems)
    return workflow_pins


def _is_own_workflow(out: Path, path: Path, project: str) -> bool:
    with atomic_write.convert_os_errors(out):
        return generated_files.read_marker_project(path) == project


def _find_pin_updates(
    workflow_pins: Mapping[str, list[WorkflowPin]], current: Mapping[str, ActionPin], spec: Path
) -> list[PinUpdate]:
    """Find the pins that have moved; raises SpecError where files disagree, or a pin would go back."""
    updates: list[PinUpdate] = []
    problems: list[Problem] = []
    for action, current_pin in current.items():
        if action not in workflow_pins:
            continue
        newest = max(workflow_pins[action], key=lambda workflow_pin: workflow_pin.pin.order)
        if current_pin.frozen and newest.pin != replace(current_pin, frozen=""):
            updates.append(PinUpdate(current_pin, newest.pin, current_pin.frozen))
            continue
        action_problems = [
            *_find_disagreements(workflow_pins[action], newest),
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
            message = f"{newest.pin.action} is {_format_short_pin(workflow_pin.pin)} here, "
            message += f"and {_format_short_pin(newest.pin)} in {location}"
            hint = f"write it here, too, and pull again: {newest.pin.line}"
            yield workflow_pin.fault("pin-disagrees", message, hint)


def _find_suspicious_updates(newest: WorkflowPin, current: ActionPin, spec: Path) -> Iterator[Problem]:
    pin = newest.pin
    conflict = action_pins.explain_pin_conflict(pin, current)
    if conflict:
        yield newest.fault("pin-tag", conflict, action_pins.suggest_tag_lookup(pin.action, pin.version))
    elif pin.order < current.order:
        message = f"{pin.action} is {_format_short_pin(pin)} here, "
        message += f"and {current.version} is in use: a pull does not go back"
        hint = f"kiwari-ci generate writes {current.version}; "
        hint += f"if it must be the older one, freeze it in {action_pins.derive_pins_path(spec)}"
        yield newest.fault("pin-older", message, hint)


def _format_short_pin(pin: ActionPin) -> str:
    return f"{pin.version} ({pin.sha[:7]})"
