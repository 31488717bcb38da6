"""The files of a repository: those that git tracks, or, without git, those that lie there."""

import os
import shutil
import subprocess
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

MAX_FILE_BYTES = 1_000_000  # bytes of a file that is read
SKIPPED_FOLDERS = frozenset({".git", "node_modules", ".venv", "__pycache__"})  # of a walk: nobody tracks these
SYMLINK_MODE, SUBMODULE_MODE = "120000", "160000"  # git's modes

# Read-only, and no program that the repository's own settings name is started.
READ_ONLY_GIT_OPTIONS = ["-c", "core.fsmonitor=false", "-c", "core.untrackedCache=false", "--no-optional-locks"]


def build_git_environment(given: Mapping[str, str]) -> dict[str, str]:
    """An environment for git: what names another repository (a hook's GIT_DIR) is left out, and no server is asked."""
    kept = {key: value for key, value in given.items() if not key.startswith("GIT_")}
    return kept | {"LC_ALL": "C", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"}


@dataclass(frozen=True)
class Checkout:
    """A repository's folder, its files as path → mode in git's words, and why git was not asked (empty: it was)."""

    root: Path
    files: dict[str, str]
    no_git: str

    @cached_property
    def names(self) -> list[str]:
        """The paths of all files, sorted."""
        return sorted(self.files)

    @cached_property
    def folders(self) -> frozenset[str]:
        """The paths of all folders that hold a file; `.` is the root."""
        found = {"."}
        for name in self.files:
            while (name := name.rpartition("/")[0]) and name not in found:
                found.add(name)
        return frozenset(found | {name for name, mode in self.files.items() if mode == SUBMODULE_MODE})

    def under(self, folder: str) -> list[str]:
        """The files in a folder and below; all of them for `.`."""
        return self.names if folder in ("", ".") else select_by_prefix(self.names, folder + "/")

    def text(self, name: str) -> str | None:
        """What stands in a file on disk; None when it is no file, too large, or leads out of the repository."""
        path = self.root / name
        try:
            if not path.is_file() or not path.resolve().is_relative_to(self.root.resolve()):
                return None
            with path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except (OSError, ValueError, RuntimeError):
            return None
        return content.decode(errors="replace") if len(content) <= MAX_FILE_BYTES else None

    def is_large(self, name: str) -> bool:
        """Whether the root's .gitattributes gives a file to Git LFS."""
        return any(fnmatchcase(name, pattern) for pattern in self._large)

    @cached_property
    def _large(self) -> list[str]:
        rows = (line.split() for line in (self.text(".gitattributes") or "").splitlines())
        found = [row[0] for row in rows if "filter=lfs" in row[1:]]
        return [each.lstrip("/") for each in found] + [f"*/{each}" for each in found if "/" not in each]

    def target(self, name: str) -> str | None:
        """Where a symbolic link leads, as it is written; None for what is none."""
        try:
            return os.readlink(self.root / name) if self.files.get(name) == SYMLINK_MODE else None
        except OSError:
            return None


def select_by_prefix(names: list[str], start: str) -> list[str]:
    """Of sorted names, those that begin with a text."""
    first = bisect_left(names, start)
    return names[first : bisect_left(names, start[:-1] + chr(ord(start[-1]) + 1), first)] if start else names


def find_checkout_root(folder: Path) -> Path:
    """The root of the checkout that a folder is in; the folder itself when it is in none."""
    found = _find_git_root(folder)
    return folder if found is None or found == folder.resolve() else Path(os.path.relpath(str(found)))


def read_checkout(folder: Path) -> Checkout:
    """List a repository's files: with one call of git in a checkout, else by walking through it."""
    root = _find_git_root(folder)
    if root is None:
        return Checkout(folder, _walk_folder(folder), "no git checkout")
    program = shutil.which("git")
    if not program:
        return Checkout(folder, _walk_folder(folder), "git is not installed")
    # Named, so that a GIT_DIR around us means nothing.
    places = [f"--git-dir={root / '.git'}", f"--work-tree={root}"]
    done = subprocess.run(
        [program, *READ_ONLY_GIT_OPTIONS, *places, "ls-files", "-z", "--stage"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        return Checkout(folder, _walk_folder(folder), f"git said: {said[:200]}")
    return Checkout(folder, _parse_git_listing(done.stdout), "")


def _find_git_root(folder: Path) -> Path | None:
    try:
        here = folder.resolve()
    except OSError:
        return None  # the folder that we are in is gone
    return next((each for each in [here, *here.parents] if (each / ".git").exists()), None)


def _parse_git_listing(output: bytes) -> dict[str, str]:
    """`MODE HASH STAGE<tab>PATH` for each file, ended by a zero byte."""
    rows = (row.partition("\t") for row in os.fsdecode(output).split("\0") if row)
    return {name: head[:6] for head, _, name in rows}


def _walk_folder(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for place, folders, names in os.walk(folder):
        inside = Path(place).relative_to(folder).as_posix()
        prefix = "" if inside == "." else inside + "/"
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
        for name in names + [name for name in folders if os.path.islink(os.path.join(place, name))]:
            found[prefix + name] = SYMLINK_MODE if os.path.islink(os.path.join(place, name)) else "100644"
    return found
