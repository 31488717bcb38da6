"""What the commands print of what they did and found, as text."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kiwari_ci import problems
from kiwari_ci.github.action_pins import DEFAULT_PINS, PinSet
from kiwari_ci.output import generated_files
from kiwari_ci.plan.base import FrozenMapping

if TYPE_CHECKING:  # each is one command's alone: the others start without it
    from kiwari_ci.commands.eject import EjectResult
    from kiwari_ci.commands.pins_pull import PullResult


def print_text(text: str, err: bool = False, nl: bool = True) -> None:
    """Print lines; every command prints through this, so that no text of a stranger reaches a terminal unescaped."""
    click.echo(problems.escape_text(text), err=err, nl=nl)


def format_write_result(spec: Path, out: Path, written: generated_files.WriteResult) -> str:
    """What a write did, a line a file but for those that stayed the same."""
    rows = [("new", written.new), ("changed", written.changed), ("removed", written.removed)]
    lines = [f"  {word:9}{problems.escape_control_characters(path)}" for word, paths in rows for path in paths]
    return "\n".join([f"{spec} -> {_describe_output_folder(spec, out)}", *lines, f"  {len(written.same)} unchanged"])


def _describe_output_folder(spec: Path, out: Path) -> str:
    """Where files were written; in full where that is not the folder that the spec's own is in, or one below it."""
    full, home = out.resolve(), spec.resolve().parent.parent
    return str(out) if full.is_relative_to(home) else f"{out}: {problems.escape_control_characters(str(full))}"


def format_eject_result(out: Path, ejected: "EjectResult") -> str:
    """What was done, and what a person must do before the pipeline can go on."""
    rows = [("freed", ejected.freed), ("removed", ejected.removed)]
    edited = {path: " (edited by hand: kept so)" for path in ejected.edited}
    lines = [f"  {word:9}{path}{edited.get(path, '')}" for word, paths in rows for path in paths]
    yours = filter(None, (ejected.spec, ejected.pins))
    steps = [
        "Settings, Branches: no longer require the check `drift`, or every pull request waits for it",
        *(f"git rm {shlex.quote(path)} # yours: nothing reads it any more" for path in yours),
        "commit; then, before you push, for the checksums of the compose files have changed:",
        *(f"  {name}=USER@ADDRESS; {command}" for name, command in ejected.hosts.items()),
    ]
    return "\n".join(
        [f"{out} is yours: nothing in it needs kiwari-ci", *lines, "next:", *(f"  {step}" for step in steps)]
    )


def format_pull_result(out: Path, spec: Path, done: "PullResult") -> str:
    """What a bot had moved, what was taken and what stays, and what was generated then."""
    if not done.written:
        return f"{out}: no pin has moved: nothing to pull"
    lines = [f"{out} -> {done.path}"] if any(not bump.frozen for bump in done.bumps) else []
    for bump in done.bumps:
        way = f"{bump.was.version} -> {bump.now.version}"
        stays = f", and stays {bump.was.version}: frozen because {bump.frozen}" if bump.frozen else ""
        lines.append(f"  {'frozen' if stays else 'taken':9}{bump.now.action} {way}{stays}")
    return "\n".join([*lines, format_write_result(spec, out, done.written)])


def format_pin_list(own: PinSet, path: Path) -> str:
    """A line an action: version, commit, where the pin is from, why it stays."""
    rows = []
    for action, pin in own.pins.items():
        ours = DEFAULT_PINS.get(action)
        note = f"frozen because {pin.frozen}" if pin.frozen else ""
        newer = f"kiwari-ci has {ours.version}" if ours and ours.order > pin.order else ""
        rows.append((action, pin.version, pin.sha, ", ".join(filter(None, [newer, note]))))
    wide, long = max(len(row[0]) for row in rows), max(len(row[1]) for row in rows)
    lines = [f"{action:{wide}}  {version:{long}}  {sha}  {note}".rstrip() for action, version, sha, note in rows]
    return "\n".join([f"{path}:" if own.text else f"kiwari-ci's own (there is no {path}):", *lines])


def convert_tuples_to_lists(value: Any) -> Any:
    """Plain data with lists for its tuples, as YAML has them."""
    if isinstance(value, dict | FrozenMapping):
        return {key: convert_tuples_to_lists(item) for key, item in dict(value).items()}
    return [convert_tuples_to_lists(item) for item in value] if isinstance(value, tuple | list) else value


def format_json(value: Any) -> str:
    """For programs."""
    return problems.escape_json(json.dumps(value, indent=2, ensure_ascii=False))
