"""A repository as init sees it: which files there are, what they say, where it lives. Nothing is run but git."""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath

from kiwari_ci.problems import escape_control_characters
from kiwari_ci.readers import git, tracked_files
from kiwari_ci.readers.called_scripts import ScriptFile, read_script_file
from kiwari_ci.safe_files import read_file_head

MAX_READ_BYTES = 500_000  # bytes of a file that is read
MAX_FILE_COUNT = 50_000  # files that are looked at
IGNORED_FOLDERS = {".git", "node_modules", "vendor"}
NON_SOURCE_FOLDERS = IGNORED_FOLDERS | {
    "__pycache__",
    ".venv",
    "venv",
    ".next",
    ".svelte-kit",
    "dist",
    "build",
    "target",
    "coverage",
}
_GITHUB_REMOTE = re.compile(
    r"(?:^|[/@])github\.com[:/]+(?:\d+/)?([A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9_][A-Za-z0-9._-]*?)(?:\.git)?/?$"
)


def join_path(folder: str, path: str) -> str | None:
    """A path seen from a folder, from the root (`.` is the root itself); None when it leads out."""
    parts: list[str] = []
    for part in f"{folder}/{path}".split("/"):
        if part == ".." and not parts:
            return None
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts) or "."


def get_parent_folder(path: str) -> str:
    """The folder of a file; `.` for the root."""
    return path.rpartition("/")[0] or "."


def is_within_folder(path: str, folder: str) -> bool:
    """Whether a path is a folder, or something in it."""
    return folder == "." or path == folder or path.startswith(f"{folder}/")


class LocalRepository:
    """The files under a folder; `troubles` gathers what could not be read, in words."""

    def __init__(self, root: Path) -> None:
        """Nothing is read before it is asked for."""
        self.root = root.resolve()
        self.troubles: list[str] = []
        self.written_variables: dict[str, str] = {}  # that workflows write into env files, as plain text
        self._texts: dict[str, str | None] = {}
        self._matching: dict[str, list[str]] = {}

    @cached_property
    def files(self) -> list[str]:
        """Paths from the root, sorted: what git tracks or would, else what is there; never behind a link."""
        listed = self._git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
        never = IGNORED_FOLDERS if listed else NON_SOURCE_FOLDERS
        names = listed.split("\0") if listed else tracked_files.read_checkout(self.root).names
        paths = sorted({path for path in names if path and not never & set(path.split("/")[:-1])})
        if len(paths) > MAX_FILE_COUNT:
            self.troubles.append(f"more than {MAX_FILE_COUNT:,} files: only the first of them were looked at")
        odd = [path for path in paths[:MAX_FILE_COUNT] if not path.isprintable()]
        if odd:
            advice = "their names have characters that cannot be printed: rename them, and run init again"
            self.troubles.append(f"{len(odd)} not looked at, {escape_control_characters(odd[0])} first: {advice}")
        return [path for path in paths[:MAX_FILE_COUNT] if path.isprintable()]

    @cached_property
    def folders(self) -> set[str]:
        """Every folder that holds a file; `.` is the root."""
        return {"."} | {parent.as_posix() for path in self.files for parent in PurePosixPath(path).parents}

    @cached_property
    def _known(self) -> set[str]:
        return set(self.files)

    def has(self, path: str | None) -> bool:
        """Whether there is such a file."""
        return path in self._known

    def named(self, *names: str, under: str = ".") -> list[str]:
        """The files of these names under a folder, nearest to it first."""
        files = [path for path in self.files if path.rpartition("/")[2] in names and is_within_folder(path, under)]
        return sorted(files, key=lambda path: (path.count("/"), names.index(path.rpartition("/")[2]), path))

    def matching(self, pattern: str) -> list[str]:
        """The files whose whole path matches a regular expression, sorted."""
        if pattern not in self._matching:
            expression = re.compile(pattern)
            self._matching[pattern] = [path for path in self.files if expression.fullmatch(path)]
        return self._matching[pattern]

    def read(self, path: str) -> str:
        """A file's text with LF at its lines' ends; empty, and a trouble, for what is no text that can be read."""
        if path not in self._texts:
            self._texts[path] = self._read(path)
        return self._texts[path] or ""

    def read_script(self, path: str) -> ScriptFile | None:
        """A file that a command may run as a script, never behind a link; None if there is no such file."""
        return read_script_file(self.root, path) if self.has(path) else None

    def lines(self, path: str) -> Iterator[tuple[str, str]]:
        """Each line, with its place as `path:12`."""
        for number, line in enumerate(self.read(path).split("\n"), 1):
            yield f"{path}:{number}", line

    @cached_property
    def top(self) -> Path | None:
        """The root of the checkout that the folder is in, be it the folder itself."""
        top = tracked_files.find_checkout_root(self.root).resolve()
        return top if (top / ".git").exists() else None

    @cached_property
    def slug(self) -> tuple[str, str] | None:
        """OWNER/NAME on GitHub, and which remote says it."""
        names = (self._git("remote") or "").split()
        for name in sorted(names, key=lambda name: (name != "origin", name != "upstream", name)):
            address = (self._git("remote", "get-url", "--", name) or "").strip()
            if match := _GITHUB_REMOTE.search(address):
                return match[1], f"git remote {name}"
        return None

    @cached_property
    def branch(self) -> tuple[str, str] | None:
        """The default branch, and what says it."""
        head = (self._git("symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD") or "").strip()
        if head:
            return head.removeprefix("origin/"), "git: origin/HEAD"
        branches = set(
            (self._git("for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/remotes/origin") or "").split()
        )
        for name in ("main", "master", "trunk"):
            if branches & {name, f"origin/{name}"}:
                return name, f"git: branch {name}"
        return None

    def _git(self, *arguments: str) -> str | None:
        """What git says; None when it says nothing. The checkout is named: a GIT_DIR around us means nothing."""
        try:
            return git.run_git(self.root, *arguments).decode(errors="replace")
        except git.GitTimeout as error:
            if str(error) not in self.troubles:
                self.troubles.append(str(error))
            return None
        except git.GitError:
            return None

    def _read(self, path: str) -> str | None:
        place = self.root / path
        try:
            if not place.resolve().is_relative_to(self.root) or not place.is_file():
                self.troubles.append(f"{path}: a link that leads out, or no file: not read")
                return None
            content = read_file_head(place, MAX_READ_BYTES + 1)
        except (OSError, ValueError, RuntimeError) as error:
            self.troubles.append(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")
            return None
        return self._text(path, content)

    def _text(self, path: str, content: bytes) -> str | None:
        if len(content) > MAX_READ_BYTES or b"\0" in content:
            why = "a binary file" if b"\0" in content else f"more than {MAX_READ_BYTES:,} bytes"
            self.troubles.append(f"{path}: {why}: not read")
            return None
        text = content.decode(errors="replace").removeprefix("\ufeff")
        return text.replace("\r\n", "\n").replace("\r", "\n")
