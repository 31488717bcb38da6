"""The files of a repository: those that git tracks, or, without git, those that lie there."""

import os
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kiwari_ci.readers import git
from kiwari_ci.safe_files import read_plain_file

MAX_FILE_BYTES = 1_000_000  # bytes of a file that is read
SKIPPED_FOLDERS = frozenset({".git", "node_modules", ".venv", "__pycache__"})  # of a walk: nobody tracks these
SYMLINK_MODE, SUBMODULE_MODE = "120000", "160000"  # git's modes


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
        paths = {"."}
        for name in self.files:
            while (name := name.rpartition("/")[0]) and name not in paths:
                paths.add(name)
        return frozenset(paths | {name for name, mode in self.files.items() if mode == SUBMODULE_MODE})

    def under(self, folder: str) -> list[str]:
        """The files in a folder and below; all of them for `.`."""
        return self.names if folder in ("", ".") else select_by_prefix(self.names, folder + "/")

    def text(self, name: str) -> str | None:
        """Read a file on disk; None if it is no file, too large, or a link to a place outside of the repository."""
        path = self.root / name
        try:
            if not path.is_file() or not path.resolve().is_relative_to(self.root.resolve()):
                return None
            content = read_plain_file(path, MAX_FILE_BYTES)
        except (OSError, ValueError, RuntimeError):
            return None
        return content.decode(errors="replace")

    def is_large(self, name: str) -> bool:
        """Whether git gives a file to Git LFS, by all .gitattributes of the checkout; without git, nobody can tell."""
        return name in self._large

    @cached_property
    def _large(self) -> frozenset[str]:
        if self.no_git:
            return frozenset()
        names = "\0".join(self.files)
        try:
            answer = git.run_git(self.root, "check-attr", "-z", "--stdin", "filter", stdin=os.fsencode(names))
        except git.GitError:
            return frozenset()
        words = os.fsdecode(answer).split("\0")  # a path, the attribute and its value, again and again
        return frozenset(path for path, value in zip(words[::3], words[2::3], strict=False) if value == "lfs")

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
    root = git.find_git_root(folder)
    return folder if root is None or root == folder.resolve() else Path(os.path.relpath(str(root)))


def read_checkout(folder: Path) -> Checkout:
    """List a repository's files: with one call of git in a checkout, else by walking through it."""
    try:
        listing = git.run_git(folder, "ls-files", "-z", "--stage")
    except git.NotACheckout:
        return Checkout(folder, _walk_folder(folder), "no git checkout")
    except git.GitMissing:
        return Checkout(folder, _walk_folder(folder), "git is not installed")
    except git.GitError as error:
        return Checkout(folder, _walk_folder(folder), str(error))
    return Checkout(folder, _parse_git_listing(listing), "")


def _parse_git_listing(output: bytes) -> dict[str, str]:
    """`MODE HASH STAGE<tab>PATH` for each file, ended by a zero byte."""
    rows = (row.partition("\t") for row in os.fsdecode(output).split("\0") if row)
    return {name: head[:6] for head, _, name in rows}


def _walk_folder(folder: Path) -> dict[str, str]:
    modes: dict[str, str] = {}
    for place, folders, names in os.walk(folder):
        inside = Path(place).relative_to(folder).as_posix()
        prefix = "" if inside == "." else inside + "/"
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
        for name in names + [name for name in folders if os.path.islink(os.path.join(place, name))]:
            modes[prefix + name] = SYMLINK_MODE if os.path.islink(os.path.join(place, name)) else "100644"
    return modes
