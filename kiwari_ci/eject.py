"""Leaving: the generated files become a person's own, and nothing in them needs this tool any more."""

from dataclasses import dataclass, replace
from pathlib import Path

from kiwari_ci import disk, tree
from kiwari_ci.plan import Plan
from kiwari_ci.render import DRIFT_WORKFLOW, render


@dataclass(frozen=True)
class Ejected:
    """What happened: files that lost their marker, of these the hand-edited ones, files that went.

    `spec` is the spec that nothing reads any more, where a person's own lies among the files; `hosts` has, by the
    variable of each server's address, the command that brings it the files whose checksums have changed.
    """

    freed: list[str]
    edited: list[str]
    removed: list[str]
    spec: str
    hosts: dict[str, str]


def eject(root: Path, spec: Path, plan: Plan, files: tree.Tree) -> Ejected:
    """Take our marker out of every generated file under `root`, and away what only serves the generator.

    A file that was edited by hand stays as it is, but for its marker. Raises Refused, and changes nothing, when the
    files are not there or the disk refuses.
    """
    there = tree.on_disk(root, files, plan.project)
    if not there:
        raise disk.Refused(f"{root}: no generated file of {plan.project} is here, or it is ejected already")
    plain = render(replace(plan, ejected=True))
    edited = [path for path, file in there.items() if file != files[path] and path != DRIFT_WORKFLOW]
    own = {
        path: _freed(plan.project, there[path] if path in edited else plain[path])
        for path in there
        if path != DRIFT_WORKFLOW
    }
    written = tree.write(root, own, plan.project)
    return Ejected(
        freed=written.changed,
        edited=edited,
        removed=written.removed + _spec_copy(root, spec, plan),
        spec=plan.drift.spec_path if (root / plan.drift.spec_path).exists() else "",
        hosts={
            host.variable: f"git archive HEAD {' '.join(host.sources)} | "
            f'ssh "${host.variable}" tar -x --strip-components=1 -C {host.folder}'
            for host in plan.hosts
        },
    )


def _freed(project: str, file: tree.File) -> tree.File:
    return tree.File(tree.without_marker(file.text, project), file.executable, marked=False)


def _spec_copy(root: Path, spec: Path, plan: Plan) -> list[str]:
    """The spec's copy among the files goes; the spec itself is a person's, and stays."""
    path = plan.drift.spec_path
    copy = root / path
    if not copy.is_file() or copy.samefile(spec) or not tree.remove(root, path, plan.spec_text):
        return []
    return [path]
