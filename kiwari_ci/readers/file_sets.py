"""The files to compare: of a folder, or of a commit as git has it; only those that say something, and only so many."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

from kiwari_ci.file_output.generated_files import is_env_file
from kiwari_ci.readers import git, tracked_files
from kiwari_ci.readers.called_scripts import ScriptFile, is_script_path, parse_script_file, read_script_file
from kiwari_ci.readers.compose_file import COMPOSE_FILE_PATH
from kiwari_ci.readers.env_file import ENV_EXAMPLE_PATH
from kiwari_ci.readers.shell import MAX_SCRIPT_LENGTH
from kiwari_ci.safe_files import read_plain_file

MAX_FILE_SIZE = 1_000_000  # bytes of a file
MAX_FILES = 500  # files
MAX_TOTAL_SIZE = 20_000_000  # bytes of all
MAX_FOLDERS = 5_000  # that are looked into
MAX_FOLDER_DEPTH = 6  # folders below the root
_RELEVANT_PATH = re.compile(
    r"\.github/workflows/[^/]+\.ya?ml|(.+/)?action\.ya?ml"
    rf"|{COMPOSE_FILE_PATH}|{ENV_EXAMPLE_PATH}"
    r"|deploy/bin/(?:database|deploy|deploy-over-ssh|rollout|rotate)|deploy/RUNBOOK\.md|deploy/.+/init/[^/]+\.sh|(deploy|\.github/workflows)/\.gitattributes"
    r"|deploy/[^/]+/(?:kubernetes|database|setup)\.yaml|deploy/[^/]+/(hooks|conf)/[^/]+|\.github/dependabot\.yml"
)
Answer = TypeVar("Answer")
_IGNORED_FOLDERS = {"node_modules", "vendor", "venv", "__pycache__", "dist", "build", "target"}


class NothingToCompare(Exception):  # noqa: N818 - a sentence for the user
    """There is nothing to compare with: why, and the cure."""


@dataclass
class FileSet:
    """Path → text, and what was left out, with the reason."""

    name: str
    files: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    find_script: Callable[[str], ScriptFile | None] = lambda _: None
    has_scripts: bool = False

    def read_script(self, path: str) -> ScriptFile | None:
        """A file that a command may run as a script, never behind a link; None if there is no such file."""
        return self.find_script(path) if _is_searched_path(path) else None


def load_file_set(against: str, root: Path, environ: Mapping[str, str]) -> tuple[FileSet, bool]:
    """A folder's files, or those that git has at a ref for `root`; and whether it was a ref. Raises NoSide."""
    folder = Path(against)
    if folder.is_dir():
        return load_folder(folder), False
    if folder.exists():
        raise NothingToCompare(f"{against} is a file: name a folder, or a git ref such as origin/main")
    return load_git_ref(against, root, environ), True


def load_folder(root: Path) -> FileSet:
    """The files under a folder; no link is followed out of it."""
    side, looked = FileSet(root.as_posix(), find_script=partial(read_script_file, root), has_scripts=True), 0
    for parent, folders, names in os.walk(root):
        folder = Path(parent).relative_to(root)
        looked += 1
        deep = len(folder.parts) >= MAX_FOLDER_DEPTH or looked > MAX_FOLDERS
        folders[:] = (
            []
            if deep
            else sorted(
                subfolder
                for subfolder in folders
                if subfolder not in _IGNORED_FOLDERS and _is_searched_folder(folder / subfolder)
            )
        )
        for name in sorted(names):
            path = (folder / name).as_posix()
            if _is_relevant_path(path):
                _read_file(side, root, path)
    if looked > MAX_FOLDERS:
        side.skipped["..."] = f"more than {MAX_FOLDERS:,} folders: the rest was not looked into"
    return side


def _is_relevant_path(path: str) -> bool:
    return _RELEVANT_PATH.fullmatch(path) is not None and not is_env_file(path)


def _is_searched_folder(folder: Path) -> bool:
    return not folder.name.startswith(".") or folder.as_posix() == ".github"


def _read_file(side: FileSet, root: Path, path: str) -> None:
    full = root / path
    try:
        if not full.resolve().is_relative_to(root.resolve()):
            side.skipped[path] = "a link that leads elsewhere"
        elif is_env_file(full.resolve().name):
            side.skipped[path] = "a link to an env file, which may hold secrets"
        elif not full.is_file():
            side.skipped[path] = "no plain file"
        elif full.stat().st_size > MAX_FILE_SIZE:
            side.skipped[path] = f"more than {MAX_FILE_SIZE:,} bytes"
        else:
            _add_file(side, path, read_plain_file(full, MAX_FILE_SIZE))
    except (OSError, RuntimeError) as error:
        side.skipped[path] = getattr(error, "strerror", None) or "a link that leads in circles"


def _add_file(side: FileSet, path: str, content: bytes) -> None:
    if len(side.files) >= MAX_FILES or sum(map(len, side.files.values())) > MAX_TOTAL_SIZE:
        side.skipped["..."] = f"more than {MAX_FILES} files, or {MAX_TOTAL_SIZE:,} bytes: the rest was not read"
        return
    try:
        side.files[path] = content.decode().removeprefix("\ufeff").replace("\r\n", "\n")
    except UnicodeDecodeError:
        side.skipped[path] = "not UTF-8 text"


def load_git_ref(ref: str, root: Path, environ: Mapping[str, str]) -> FileSet:
    """The files that git has at a ref, seen from `root`; raises NoSide."""
    if ref.startswith("-") or not ref.isprintable():
        raise NothingToCompare(f"{ref!r} is neither a folder nor a git ref")
    start = next(folder for folder in (root.resolve(), *root.resolve().parents) if folder.is_dir())
    top = _run_git(environ, start, "rev-parse", "--show-toplevel")
    if top is None:
        if any((folder / ".git").exists() for folder in (start, *start.parents)):
            raise NothingToCompare(f"git refuses to read this checkout, and says why to: git -C {start} status")
        raise NothingToCompare(
            f"{ref} is no folder, and {start} is in no git checkout: name a folder, or run it in the checkout"
        )
    commit = _run_git(environ, start, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    if commit is None:
        raise NothingToCompare(_explain_unknown_ref(ref, start, environ))
    below = root.resolve().relative_to(Path(os.fsdecode(top.rstrip(b"\n"))).resolve()).as_posix()
    return _load_git_tree(
        environ, ref, Path(os.fsdecode(top.rstrip(b"\n"))), commit.decode().strip(), "" if below == "." else below
    )


def _explain_unknown_ref(ref: str, start: Path, environ: Mapping[str, str]) -> str:
    remote, slash, branch = ref.partition("/")
    cure = f"fetch it: git fetch {remote} {branch}" if slash else f"fetch it: git fetch origin {ref}"
    if (_run_git(environ, start, "rev-parse", "--is-shallow-repository") or b"").strip() == b"true":
        cure += " (this clone is shallow: with actions/checkout, fetch-depth: 0 brings everything)"
    return f"{ref} is neither a folder nor a commit that this checkout has; {cure}"


def _load_git_tree(environ: Mapping[str, str], ref: str, top: Path, commit: str, below: str) -> FileSet:
    listed = _run_git(
        environ, top, "ls-tree", "-r", "-z", "--long", "--full-tree", f"{commit}:{below}" if below else commit
    )
    if listed is None:
        raise NothingToCompare(f"{ref} has no folder {below}: nothing was generated there, or --out is another folder")
    tree = _GitTree(top, environ, listed)
    side = FileSet(ref, find_script=tree.find_script, has_scripts=True)
    blobs: dict[str, str] = {}
    unread_size = MAX_TOTAL_SIZE
    for entry in listed.split(b"\0"):
        facts, _, name = entry.partition(b"\t")
        path = name.decode(errors="replace")
        if not _is_relevant_path(path) or not _is_searched_path(path):
            continue
        mode, kind, blob, size = facts.decode().split()
        if kind != "blob" or mode == "120000":
            side.skipped[path] = "a link or a submodule"
        elif int(size) > MAX_FILE_SIZE:
            side.skipped[path] = f"more than {MAX_FILE_SIZE:,} bytes"
        elif len(blobs) > MAX_FILES or unread_size < 0:
            break  # one more than are compared, so that the next step says so
        else:
            blobs[path] = blob
            unread_size -= int(size)
    contents = _ask_git(lambda: git.read_blobs(top, list(blobs.values()), environment=environ)) or {}
    for path, blob in blobs.items():
        if blob in contents:
            _add_file(side, path, contents[blob])
        else:
            side.skipped[path] = "git does not have it here (a partial clone?)"
    return side


class _GitTree:
    """The files of a commit, of which single ones are read when a command names them."""

    def __init__(self, top: Path, environ: Mapping[str, str], listed: bytes) -> None:
        self.top = top
        self.environ = environ
        self.listed = listed

    @cached_property
    def _entries(self) -> dict[str, tuple[str, str, str, str]]:
        """Each path with its mode, kind, blob and size, as git lists them."""
        entries = {}
        for entry in self.listed.split(b"\0"):
            facts, _, name = entry.partition(b"\t")
            if name:
                mode, kind, blob, size = facts.decode().split()
                entries[name.decode(errors="replace")] = (mode, kind, blob, size)
        return entries

    def find_script(self, path: str) -> ScriptFile | None:
        """A plain file that may be a script; None if the commit has no such file."""
        if not is_script_path(path) or path not in self._entries:
            return None
        mode, kind, blob, size = self._entries[path]
        if kind != "blob" or mode == tracked_files.SYMLINK_MODE:
            return ScriptFile("", "is a symbolic link or a submodule")
        if int(size) > MAX_SCRIPT_LENGTH:
            return ScriptFile("", f"has more than {MAX_SCRIPT_LENGTH:,} bytes")
        contents = _ask_git(lambda: git.read_blobs(self.top, [blob], environment=self.environ)) or {}
        if blob not in contents:
            return ScriptFile("", "is not in this clone (a partial clone?)")
        return parse_script_file(contents[blob])


def _is_searched_path(path: str) -> bool:
    return all(map(_is_searched_name, path.split("/")[:-1]))


def _is_searched_name(part: str) -> bool:
    return part not in _IGNORED_FOLDERS and (not part.startswith(".") or part == ".github")


def _run_git(environ: Mapping[str, str], folder: Path, *words: str) -> bytes | None:
    """What git prints; None when it refuses. Raises NothingToCompare when there is no git, or no end."""
    return _ask_git(lambda: git.run_git(folder, *words, environment=environ))


def _ask_git(ask: Callable[[], Answer]) -> Answer | None:
    """What git answers; None when it refuses. Raises NothingToCompare when there is no git, or no end."""
    try:
        return ask()
    except git.GitMissing as error:
        raise NothingToCompare(
            "git is not installed, and only it can read another commit: install it, or name a folder"
        ) from error
    except git.GitTimeout as error:
        raise NothingToCompare(str(error)) from error
    except git.GitError:
        return None
