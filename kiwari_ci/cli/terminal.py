"""Formats the results of commands as text.

Every command prints through `print_text` or `print_coloured_text`, so that no text of a stranger reaches a terminal
unescaped. Colours are escape codes; click takes them out where the output is no terminal, or nobody wants any.
"""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kiwari_ci import problems

if TYPE_CHECKING:  # each is needed by some commands: the others start without it
    from kiwari_ci.commands.eject import EjectResult
    from kiwari_ci.commands.pins_pull import PullResult
    from kiwari_ci.file_output.generated_files import WriteResult
    from kiwari_ci.github_facts.action_pins import PinSet

WRITE_COLOURS = {"new": "green", "changed": "yellow", "removed": "red"}
DIFF_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def print_text(text: str, err: bool = False, nl: bool = True) -> None:
    """Print lines, with control characters escaped."""
    click.echo(problems.escape_text(text), err=err, nl=nl)


def print_coloured_text(text: str, err: bool = False) -> None:
    """Print lines that have colours; what stands between the colours is escaped already."""
    click.echo(text, err=err)


def format_write_result(spec: Path, out: Path, written: "WriteResult") -> str:
    """What a write did, a line for each file that did not stay the same."""
    lines = [problems.escape_text(f"{spec} -> {_describe_output_folder(spec, out)}")]
    for word, paths in (("new", written.new), ("changed", written.changed), ("removed", written.removed)):
        for path in paths:
            lines.append(
                f"  {click.style(word.ljust(9), WRITE_COLOURS[word])}{problems.escape_control_characters(path)}"
            )
    return "\n".join([*lines, f"  {len(written.same)} unchanged"])


def format_coloured_problems(problem_list: Iterable[problems.Problem]) -> str:
    """Problems as text, each with its first line in a colour."""
    texts = []
    for problem in problem_list:
        text = problems.escape_text(problems.format_problems_text([problem]))
        headline, line_break, rest = text.partition("\n")
        colour = "yellow" if problem.severity == "advice" else "red"
        texts.append(click.style(headline, colour) + line_break + rest)
    return "\n".join(texts)


def colour_diff_lines(text: str) -> str:
    """An escaped text in which the lines of a unified diff have the colours that git gives them."""
    lines = []
    for line in problems.escape_text(text).split("\n"):
        colour = DIFF_COLOURS.get(line[:1])
        lines.append(click.style(line, colour) if colour else line)
    return "\n".join(lines)


def _describe_output_folder(spec: Path, out: Path) -> str:
    """Where files were written; in full where that is not the folder that the spec's own is in, or one below it."""
    full_path, spec_root = out.resolve(), spec.resolve().parent.parent
    if full_path.is_relative_to(spec_root):
        return str(out)
    return f"{out}: {problems.escape_control_characters(str(full_path))}"


def format_eject_result(out: Path, ejected: "EjectResult") -> str:
    """What was done, and what a person must do before the pipeline can go on."""
    lines = [f"{out} is yours: nothing in it needs kiwari-ci"]
    for word, paths in (("freed", ejected.freed), ("removed", ejected.removed)):
        for path in paths:
            note = " (edited by hand: kept so)" if path in ejected.edited else ""
            lines.append(f"  {word:9}{path}{note}")
    lines += ["next:", "  Settings, Branches: no longer require the check `drift`, or every pull request waits for it"]
    for path in (ejected.spec, ejected.pins):
        if path:
            lines.append(f"  git rm {shlex.quote(path)} # yours: nothing reads it any more")
    lines.append("  commit; then, before you push, for the checksums of the compose files have changed:")
    for name, command in ejected.hosts.items():
        lines.append(f"    {name}=USER@ADDRESS; {command}")
    return "\n".join(lines)


def format_pull_result(out: Path, spec: Path, result: "PullResult") -> str:
    """What a bot had moved, what was taken and what stays, and what was generated then."""
    if not result.written:
        return f"{out}: no pin has moved: nothing to pull"
    lines = []
    if any(not update.frozen for update in result.bumps):
        lines.append(f"{out} -> {result.path}")
    for update in result.bumps:
        versions = f"{update.was.version} -> {update.now.version}"
        if update.frozen:
            reason = f", and stays {update.was.version}: frozen because {update.frozen}"
            lines.append(f"  {'frozen':9}{update.now.action} {versions}{reason}")
        else:
            lines.append(f"  {'taken':9}{update.now.action} {versions}")
    return "\n".join([*lines, format_write_result(spec, out, result.written)])


def format_pin_list(pin_set: "PinSet", path: Path) -> str:
    """A line for each action: version, commit, where the pin is from, why it stays."""
    from kiwari_ci.github_facts.action_pins import DEFAULT_PINS

    action_width = max(len(action) for action in pin_set.pins)
    version_width = max(len(pin.version) for pin in pin_set.pins.values())
    lines = [f"{path}:" if pin_set.text else f"kiwari-ci's own (there is no {path}):"]
    for action, pin in pin_set.pins.items():
        notes = []
        default_pin = DEFAULT_PINS.get(action)
        if default_pin and default_pin.order > pin.order:
            notes.append(f"kiwari-ci has {default_pin.version}")
        if pin.frozen:
            notes.append(f"frozen because {pin.frozen}")
        line = f"{action:{action_width}}  {pin.version:{version_width}}  {pin.sha}  {', '.join(notes)}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def convert_tuples_to_lists(value: Any) -> Any:
    """Plain data with lists for its tuples, as YAML has them."""
    from kiwari_ci.plan_model.base import FrozenMapping

    if isinstance(value, dict | FrozenMapping):
        return {key: convert_tuples_to_lists(item) for key, item in dict(value).items()}
    if isinstance(value, tuple | list):
        return [convert_tuples_to_lists(item) for item in value]
    return value
