"""A bot's bumps, read back from the generated workflows into the file of pins."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kiwari_ci import generator
from kiwari_ci.github import action_pins
from kiwari_ci.github.action_pins import Pin, Seen
from kiwari_ci.loading import yaml_source
from kiwari_ci.loading.validation import at_value
from kiwari_ci.loading.yaml_source import Source
from kiwari_ci.output import atomic_write, generated_files
from kiwari_ci.problems import Faults, Problem

HEAD = """\
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
class Bump:
    """An action that moves from one pin to another; `frozen`: why it stays where it was."""

    was: Pin
    now: Pin
    frozen: str = ""


@dataclass(frozen=True)
class Pulled:
    """What a pull found, the file of pins, and what was then generated; nothing is written without a bump."""

    path: Path
    bumps: list[Bump]
    written: generated_files.Written | None = None


@dataclass(frozen=True)
class Found:
    """A pin as a generated file has it."""

    file: Source
    seen: Seen

    @property
    def pin(self) -> Pin:
        """The pin alone."""
        return self.seen.pin

    def fault(self, rule: str, words: str, hint: str) -> Problem:
        """A problem at its place."""
        return at_value(self.file, self.seen.loc, rule, words, hint)


def pull(spec: Path, out: Path) -> Pulled:
    """Take the pins of the generated workflows into the spec's file of pins, and generate; raises Faults, Refused."""
    own, (plan, files) = action_pins.own(spec), generator.build(spec)
    found = _found(out, files, plan.project, own.pins)
    bumps = _bumps(found, own.pins, spec)
    moved = {bump.now.action: bump.now for bump in bumps if not bump.frozen}
    path = action_pins.beside(spec)
    if not bumps:
        return Pulled(path, [])
    if not moved:
        return Pulled(path, bumps, generated_files.write(out, files, plan.project))
    was = path.read_bytes().decode() if own.text else None
    text = edited(path, own.text, {action: moved.get(action, own.pins[action]) for action in found})
    ends = "\r\n" if was and "\r\n" in was else "\n"
    mark = "\ufeff" if was and was.startswith("\ufeff") else ""
    made = mark + text.replace("\n", ends)
    generated_files.put(spec.parent, action_pins.OWN, made, was)
    try:
        plan, files = generator.build(spec)
        return Pulled(path, bumps, generated_files.write(out, files, plan.project))
    except BaseException:
        _put_back(spec.parent, made, was)
        raise


def as_data(done: Pulled) -> dict[str, Any]:
    """For programs."""
    return {
        "path": done.path.as_posix(),
        "bumps": [asdict(bump) for bump in done.bumps],
        "written": vars(done.written or generated_files.Written()),
    }


def edited(path: Path, text: str, wanted: Mapping[str, Pin]) -> str:
    """A file's text with these pins, all else as it was; a new file where there is none; raises Refused."""
    if not text:
        return HEAD + "".join(f"{line}\n" for pin in wanted.values() for line in _step(pin, "    "))
    read = yaml_source.parse(path.as_posix(), text)
    seen, _ = action_pins.read(read, {**action_pins.PINS, **wanted})
    lines = list(read.lines)
    for each in seen:
        pin, row = wanted.get(each.pin.action, each.pin), each.place.line - 1
        if pin.sha != each.pin.sha:
            before, behind = lines[row][: each.place.column - 1], action_pins.behind(read, each.place)
            lines[row] = f"{before}{pin.action}@{pin.sha}" + behind.replace(each.pin.version, pin.version, 1)
    _add(read, lines, [pin for action, pin in wanted.items() if action not in {each.pin.action for each in seen}])
    made = "\n".join(lines)
    if not _says(path, made, wanted):
        rows = "\n".join(f"  - uses: {pin.line}" for pin in wanted.values())
        raise atomic_write.Refused(
            f"{path}: cannot be edited as it is written; below `steps`, write a line each:\n{rows}"
        )
    return made


def _add(read: Source, lines: list[str], new: list[Pin]) -> None:
    """Behind the last step, in the column of the first."""
    last = max(place.line for loc, place in read.values.items() if loc[:2] == ("runs", "steps") and len(loc) > 2)
    first = read.lines[read.values["runs", "steps", 0].line - 1]
    indent = first[: len(first) - len(first.lstrip())]
    lines[last:last] = [line for pin in new for line in _step(pin, indent)]


def _step(pin: Pin, indent: str) -> list[str]:
    """Nothing runs it; but who audits actions wants no checkout without its input."""
    inputs = [f"{indent}  with: {{persist-credentials: false}}"] if pin.action == "actions/checkout" else []
    return [f"{indent}- uses: {pin.line}", *inputs]


def _says(path: Path, text: str, wanted: Mapping[str, Pin]) -> bool:
    """Our own output, read again."""
    try:
        made = action_pins.of(yaml_source.parse(path.as_posix(), text), wanted).pins
    except Faults:
        return False
    return all(replace(made[action], frozen="") == replace(pin, frozen="") for action, pin in wanted.items())


def _put_back(folder: Path, made: str, was: str | None) -> None:
    if was is None:
        generated_files.remove(folder, action_pins.OWN, made)
    else:
        generated_files.put(folder, action_pins.OWN, was, made)


def _found(out: Path, files: generated_files.Tree, project: str, known: Mapping[str, Pin]) -> dict[str, list[Found]]:
    """By action, each pin of the workflows that are there; raises Faults, Refused."""
    found, faults, count = defaultdict[str, list[Found]](list), list[Problem](), 0
    for path in files:
        full = out / path
        if not (path.startswith(".github/workflows/") and path.endswith(".yml") and full.is_file()):
            continue
        with atomic_write.told(out):
            is_ours = generated_files.owner(full) == project
        if is_ours:
            count += 1
            file = yaml_source.read(full)
            seen, wrong = action_pins.read(file, known)
            faults += wrong
            for each in seen:
                found[each.pin.action].append(Found(file, each))
    if not count:
        raise atomic_write.Refused(f"{out}: no generated workflow of {project} is here: name the folder with --out")
    if faults:
        raise Faults(faults)
    return found


def _bumps(found: Mapping[str, list[Found]], current: Mapping[str, Pin], spec: Path) -> list[Bump]:
    """What has moved; raises Faults where files disagree, or a pin would go back."""
    bumps, faults = list[Bump](), list[Problem]()
    for action in [action for action in current if action in found]:
        here, now = found[action], current[action]
        newest = max(here, key=lambda each: each.pin.order)
        if newest.pin != replace(now, frozen="") and now.frozen:
            bumps.append(Bump(now, newest.pin, now.frozen))
        elif wrong := [*_disagreeing(here, newest), *_suspicious(newest, now, spec)]:
            faults += wrong
        elif newest.pin != now:
            bumps.append(Bump(now, newest.pin))
    if faults:
        raise Faults(faults)
    return bumps


def _disagreeing(here: list[Found], newest: Found) -> Iterator[Problem]:
    place = f"{newest.file.path}:{newest.seen.place.line}"
    for each in here:
        if each.pin != newest.pin:
            words = f"{newest.pin.action} is {_short(each.pin)} here, and {_short(newest.pin)} in {place}"
            yield each.fault("pin-disagrees", words, f"write it here, too, and pull again: {newest.pin.line}")


def _suspicious(newest: Found, now: Pin, spec: Path) -> Iterator[Problem]:
    pin = newest.pin
    if wrong := action_pins.contradiction(pin, now):
        yield newest.fault("pin-tag", wrong, action_pins.look_up(pin.action, pin.version))
    elif pin.order < now.order:
        words = f"{pin.action} is {_short(pin)} here, and {now.version} is in use: a pull does not go back"
        hint = f"kiwari-ci generate writes {now.version}; if it must be the older one, freeze it in {action_pins.beside(spec)}"
        yield newest.fault("pin-older", words, hint)


def _short(pin: Pin) -> str:
    return f"{pin.version} ({pin.sha[:7]})"
