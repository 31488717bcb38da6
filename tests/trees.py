"""A small tree, written and looked at: for the tests of what writes it, and of what breaks while it does."""

import stat
from pathlib import Path
from typing import Any

from kiwari_ci.file_output.generated_files import GeneratedFile, GeneratedFiles, compare_files, format_marker

MARK = f"# {format_marker('shop')}\n"
CI, SCRIPT, NOTES = ".github/workflows/web-ci.yml", "deploy/bin/deploy", "deploy/RUNBOOK.md"
SPEC = "specs/shop.yaml"
TREE: GeneratedFiles = {
    SPEC: GeneratedFile("project: shop\n", marked=False),
    CI: GeneratedFile(f"{MARK}on: push\n"),
    SCRIPT: GeneratedFile(f"#!/bin/sh\n{MARK}exit 0\n", executable=True),
    NOTES: GeneratedFile(f"<!-- {format_marker('shop')} -->\n# Runbook\n"),
}


def put(path: Path, content: str, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    return path


def state(root: Path) -> dict[str, Any]:
    """Everything there is: contents, modes, links, times."""
    states = {}
    for path in sorted(root.rglob("*")):
        facts = path.lstat()
        content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        states[str(path.relative_to(root))] = (stat.filemode(facts.st_mode), facts.st_mtime_ns, facts.st_ino, content)
    return states


def kinds(root: Path, wanted: GeneratedFiles = TREE) -> dict[str, str]:
    return {difference.path: difference.kind for difference in compare_files(root, wanted, "shop")}


def true(root: Path) -> bool:
    """The tree is there, to the byte and the mode, and nothing else."""
    files = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    return not kinds(root) and files.keys() == TREE.keys()
