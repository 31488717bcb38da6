"""Runs the examples in a page: blocks of ```console with `$ command` lines, each followed by its real output.

A line `...` in an output stands for any lines. The commands of a page run in one scratch copy of the repository, in
their order, each in a bash of its own, standard error with standard output. The first starts at the root of the copy;
as in a terminal, `cd` holds for the commands after it. A block in an HTML comment is run and not shown.
"""

import atexit
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

BLOCK = re.compile(r"(?<=^```console\n)(.*?)(?=^```$)", re.MULTILINE | re.DOTALL)
LEFT_OUT = (
    ".git",
    ".venv",
    "node_modules",
    "__pycache__",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".hypothesis",
)


def markdown(root: Path) -> list[Path]:
    """Every Markdown page of the repository, sorted."""
    return sorted(path for path in root.rglob("*.md") if not set(path.relative_to(root).parts) & set(LEFT_OUT))


def rerun(text: str, root: Path) -> str:
    """A page with the outputs that its commands have now; an output that agrees stays as it is written."""
    with _scratch(root) as folder:
        terminal = _Terminal(folder)
        return BLOCK.sub(lambda block: _again(block[0], terminal), text)


def agrees(written: str, real: str) -> bool:
    """Whether an output is the one that is written, `...` standing for any lines."""
    lines = ("(?:.*\n)*" if line == "...\n" else re.escape(line) for line in written.splitlines(keepends=True))
    return re.fullmatch("".join(lines), real) is not None


class _Terminal:
    """Runs commands one after the other, each where the one before it ended."""

    def __init__(self, folder: Path) -> None:
        self.working_directory = folder
        self._environment = _environment(folder)
        self._directory_file = folder.parent / ".working-directory"

    def run(self, command: str) -> str:
        """What a command prints, with a newline at its end."""
        at_exit = f"trap 'pwd >{shlex.quote(str(self._directory_file))}' EXIT"
        done = subprocess.run(
            ["bash", "-c", f"{at_exit}\n{command}"],
            cwd=self.working_directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        self.working_directory = Path(self._directory_file.read_text().rstrip("\n"))
        return done.stdout if done.stdout.endswith("\n") or not done.stdout else done.stdout + "\n"


def _again(block: str, terminal: _Terminal) -> str:
    return "".join(_rerun(command, written, terminal) for command, written in _pairs(block))


def _pairs(block: str) -> Iterator[tuple[str, str]]:
    """Each command line, and the lines up to the next; raises ValueError for a block that starts with an output."""
    first, *parts = re.split(r"^(?=\$ )", block, flags=re.MULTILINE)
    if first or not parts:
        raise ValueError(f"an example starts with `$ command`: {first!r}")
    for part in parts:
        command, _, written = part.partition("\n")
        yield command, written


def _rerun(command: str, written: str, terminal: _Terminal) -> str:
    real = terminal.run(command.removeprefix("$ "))
    return f"{command}\n{written if agrees(written, real) else real}"


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of the caller's but its programs: output must not depend on who asks."""
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # A tool that was installed from a commit knows that commit; the clone that runs the examples was not.
    source = f"git+https://github.com/OWNER/kiwari-ci@{'0123456789' * 4}"
    settings = {"LC_ALL": "C.UTF-8", "COLUMNS": "80", "KIWARI_CI_SOURCE": source}
    return {"PATH": programs, "HOME": str(folder.parent), **settings}


@contextmanager
def _scratch(root: Path) -> Iterator[Path]:
    """A copy of the repository with one commit, and no environment: an example calls `kiwari-ci`, not `make`."""
    with TemporaryDirectory() as scratch:
        subprocess.run(["cp", "-a", _committed_copy(root), scratch], check=True)
        yield Path(scratch, root.name)


@cache
def _committed_copy(root: Path) -> Path:
    """Copy the repository and commit it, once for this process: each page gets a copy of it, without a new commit."""
    scratch = TemporaryDirectory()
    atexit.register(scratch.cleanup)
    folder = shutil.copytree(root, Path(scratch.name, root.name), ignore=shutil.ignore_patterns(*LEFT_OUT))
    git = ["git", "-c", "user.name=example", "-c", "user.email=example@example.com"]
    for command in ("init --quiet", "add --all", "commit --quiet --message start", "gc --quiet"):
        subprocess.run([*git, *command.split()], cwd=folder, env=_environment(folder), check=True)
    return folder
