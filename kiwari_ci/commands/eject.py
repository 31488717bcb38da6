"""Ejects a pipeline: the generated files become the user's own, and no longer need this tool."""

from dataclasses import dataclass, replace
from pathlib import Path

from kiwari_ci.file_output import atomic_write, generated_files
from kiwari_ci.github_facts.action_pins import derive_pins_path
from kiwari_ci.plan_model import HostCommands, Plan
from kiwari_ci.rendering.render import DRIFT_WORKFLOW_PATH, render_files


@dataclass(frozen=True)
class EjectResult:
    """What happened: files that lost their marker, of these the hand-edited ones, files that went.

    `spec` and `pins` are what nothing reads any more, where a person's own lie among the files; `hosts` has, by the
    variable of each server's address, the command that brings it the files whose checksums have changed.
    """

    freed: list[str]
    edited: list[str]
    removed: list[str]
    spec: str
    pins: str
    hosts: dict[str, str]


def eject_pipeline(root: Path, spec: Path, plan: Plan, files: generated_files.GeneratedFiles) -> EjectResult:
    """Take our marker out of every generated file under `root`, and away what only serves the generator.

    A file that was edited by hand stays as it is, but for its marker. Raises OutputError, and changes nothing, when the
    files are not there or the disk refuses.
    """
    existing_files = generated_files.read_generated_files(root, files, plan.project)
    if not existing_files:
        raise atomic_write.OutputError(f"{root}: no generated file of {plan.project} is here, or it is ejected already")
    bots = tuple(replace(bot, folders=("/",)) for bot in plan.dependabot)
    plain = render_files(replace(plan, ejected=True, dependabot=bots))
    edited = [path for path, file in existing_files.items() if file != files[path] and path != DRIFT_WORKFLOW_PATH]
    unmarked_files = {
        path: _build_unmarked_file(plan.project, path, existing_files[path] if path in edited else plain[path])
        for path in existing_files
        if path != DRIFT_WORKFLOW_PATH
    }
    write_result = generated_files.write_files(root, unmarked_files, plan.project)
    return EjectResult(
        freed=write_result.changed,
        edited=edited,
        removed=write_result.removed
        + _remove_input_copy(root, plan.drift.spec_path, plan.spec_text, spec)
        + _remove_input_copy(root, plan.pins.path, plan.pins.text, derive_pins_path(spec)),
        spec=plan.drift.spec_path if (root / plan.drift.spec_path).exists() else "",
        pins=plan.pins.path if (root / plan.pins.path).exists() else "",
        hosts={commands.host.variable: _format_copy_commands(commands) for commands in plan.runbook.hosts},
    )


def _format_copy_commands(commands: HostCommands) -> str:
    """The command that copies every folder of a host."""
    host = commands.host
    sources = " ".join(host.sources)
    extract = f"ssh \"${host.variable}\" 'umask 022; tar -x --strip-components=1 -C {host.folder}'"
    copies = [f"git archive HEAD {sources} | {extract}", *(copy.line for copy in commands.renamed_copies)]
    return " && ".join(copies)


def _build_unmarked_file(project: str, path: str, file: generated_files.GeneratedFile) -> generated_files.GeneratedFile:
    return generated_files.GeneratedFile(
        generated_files.remove_marker(path, file.text, project), file.executable, marked=False
    )


def _remove_input_copy(root: Path, path: str, text: str, original: Path) -> list[str]:
    """A copy among the files goes, of the spec or of the pins; the file itself is a person's, and stays."""
    copy = root / path
    if (
        not copy.is_file()
        or (original.exists() and copy.samefile(original))
        or not generated_files.remove_unmarked_file(root, path, text)
    ):
        return []
    return [path]
