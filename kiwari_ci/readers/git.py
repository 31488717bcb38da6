"""The one place that runs git. A checkout may be a stranger's, so nothing that it names is ever started.

A repository's own configuration names programs (hooks, a file system monitor, ssh commands, signature checks, remote
helpers, filters). This module overrides what git lets it override, runs only commands that read, and names the git
directory itself, so that git finds no bare repository that somebody has committed into a folder.
"""

import os
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path

from kiwari_ci.safe_files import read_file_head

GIT_TIMEOUT = 60  # seconds for one answer
MAX_GIT_OUTPUT = 64_000_000  # bytes of one answer

# Each setting names a program or a file that git would wait for, or changes an answer. It would otherwise come from the
# checkout.
_SAFE_SETTINGS = {
    "column.ui": "never",
    "color.ui": "false",
    "core.abbrev": "auto",
    "core.commitGraph": "false",  # a file beside the history, which nothing compares with it
    "core.fsmonitor": "false",
    "core.untrackedCache": "false",
    "core.splitIndex": "false",
    "core.hooksPath": os.devnull,
    "core.attributesFile": os.devnull,
    "core.pager": "cat",
    "core.editor": "false",
    "core.askPass": "false",
    "core.sshCommand": "false",
    "core.gitProxy": "false",
    "core.alternateRefsCommand": "false",
    "core.quotePath": "true",
    "credential.helper": "",
    "diff.external": "",
    "diff.orderFile": os.devnull,
    "diff.relative": "false",
    "gpg.program": "false",
    "gpg.openpgp.program": "false",
    "gpg.ssh.program": "false",
    "gpg.ssh.defaultKeyCommand": "false",
    "gpg.x509.program": "false",
    "i18n.logOutputEncoding": "UTF-8",
    "interactive.diffFilter": "",
    "log.follow": "false",
    "log.mailmap": "false",
    "log.showSignature": "false",
    "protocol.allow": "never",
    "safe.bareRepository": "explicit",
    "sequence.editor": "false",
    "submodule.recurse": "false",
    "tag.sort": "refname",
}
_SAFE_ENVIRONMENT = {
    "LC_ALL": "C",
    "GIT_ALLOW_PROTOCOL": "",  # no protocol at all; unlike protocol.allow, no setting of one protocol outdoes it
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_GRAFT_FILE": os.devnull,  # other parents for commits, which nobody else sees
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_PAGER": "cat",
    "GIT_TERMINAL_PROMPT": "0",
}
# Where git opens each file before, or while, it answers: folders of the git directory, and files of the checkout.
_READ_FOLDERS = (".", "info", "objects/info", "objects/pack")
_READ_FILES = (".gitattributes", ".gitignore", ".gitmodules", ".mailmap")
MAX_REFS = 100_000  # entries of `refs` that are looked at

# Checkouts in which git gave no answer once, and why: it is not asked again, so that a command waits only once.
_silent_checkouts: dict[Path, str] = {}


class GitError(Exception):  # noqa: N818 - it is an answer, too
    """Why git cannot say, with the cure."""


class GitMissing(GitError):
    """Git is not installed."""


class GitTimeout(GitError):
    """Git gave no answer in time, or would give none."""


class NotACheckout(GitError):
    """The folder is in no git checkout."""


def find_git_root(folder: Path) -> Path | None:
    """The root of the checkout that a folder is in; None when it is in none."""
    try:
        resolved = folder.resolve()
        return next((parent for parent in (resolved, *resolved.parents) if os.path.lexists(parent / ".git")), None)
    except (OSError, RuntimeError):
        return None  # the folder is gone, or a link that leads in circles


def build_git_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for git: what speaks to git (a hook's GIT_DIR, GIT_SSH_COMMAND) and to its helpers is left out."""
    names = ("GIT_", "SSH_ASKPASS", "PAGER", "EDITOR", "VISUAL", "LESSOPEN", "LESSCLOSE")
    variables = {name: value for name, value in environment.items() if not name.startswith(names)}
    return variables | _SAFE_ENVIRONMENT


def run_git(
    folder: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    index: Path | None = None,
    timeout: float | None = None,
) -> bytes:
    """What git prints for a command that only reads, run in a folder of a checkout; raises GitError."""
    current = os.environ if environment is None else environment
    program = _find_git_program(current)
    root = find_git_root(folder)
    if root is None:
        raise NotACheckout(f"{folder} is in no git checkout: go to one, or name it")
    if root in _silent_checkouts:
        raise GitTimeout(_silent_checkouts[root])
    if endless := find_endless_file(root):
        raise GitTimeout(f"{endless} is a pipe or a device, for which git would wait: remove it")
    variables = build_git_environment(current)
    if index:
        variables["GIT_INDEX_FILE"] = str(index)
    settings = [option for name, value in _SAFE_SETTINGS.items() for option in ("-c", f"{name}={value}")]
    places = [f"--git-dir={root / '.git'}", f"--work-tree={root}"]
    command = [program, "--no-pager", "--no-optional-locks", *settings, *places, *arguments]
    name = next(argument for argument in arguments if not argument.startswith("-"))
    try:
        return _run_bounded(command, folder, variables, stdin, timeout or GIT_TIMEOUT, name)
    except GitTimeout as error:
        _silent_checkouts[root] = str(error)
        raise


def read_blobs(
    folder: Path, names: Sequence[str], *, environment: Mapping[str, str] | None = None, timeout: float | None = None
) -> dict[str, bytes]:
    """The contents of blobs by their names, without those that git does not have, read in one go; raises GitError."""
    stdin = "".join(f"{name}\n" for name in names).encode()
    output = run_git(folder, "cat-file", "--batch", environment=environment, stdin=stdin, timeout=timeout)
    return _parse_blobs(output)


def _parse_blobs(output: bytes) -> dict[str, bytes]:
    """Parse records of `NAME blob SIZE`, a line break, the content and a line break; `NAME missing` has no content."""
    contents: dict[str, bytes] = {}
    position = 0
    while (header_end := output.find(b"\n", position)) >= 0:
        name, *facts = output[position:header_end].decode().split(" ")
        position = header_end + 1
        if facts == ["missing"]:
            continue
        size = int(facts[1])
        contents[name] = output[position : position + size]
        position += size + 1
    return contents


def forget_checkouts() -> None:
    """Look at each checkout anew, as a new process does."""
    _silent_checkouts.clear()
    find_endless_file.cache_clear()


@cache
def find_endless_file(root: Path) -> str:
    """The path of a pipe or a device in place of a file that git opens; empty when there is none."""
    places = [root / name for name in _READ_FILES]
    for folder in _find_git_directories(root):
        for read_folder in _READ_FOLDERS:
            places += _list_entries(folder / read_folder)
        places += _list_refs(folder / "refs")
    endless = next(filter(_is_endless, places), None)
    return os.path.relpath(endless, root) if endless else ""


def _find_git_directories(root: Path) -> list[Path]:
    """The git directory; for a worktree or a submodule also where `.git` and `commondir` lead."""
    folders = [root / ".git"]
    for name, prefix in ((".git", "gitdir: "), ("commondir", "")):
        base = folders[-1] if folders[-1].is_dir() else root
        place = root / name if name == ".git" else base / name
        try:
            written = os.fsdecode(read_file_head(place)).rstrip("\n").removeprefix(prefix)
        except OSError:
            continue
        folders.append(base / written)
    return folders


def _list_entries(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if not entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _list_refs(folder: Path) -> list[Path]:
    places = (Path(above, name) for above, _, names in os.walk(folder) for name in names)
    return list(islice(places, MAX_REFS))


def _is_endless(path: Path) -> bool:
    """Whether reading a file may never end; a socket cannot be opened, so git does not wait for it."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def _find_git_program(environment: Mapping[str, str]) -> str:
    """Git's full path. A relative folder of PATH may be the stranger's checkout, so none is searched."""
    folders = environment.get("PATH", os.defpath).split(os.pathsep)
    program = shutil.which("git", path=os.pathsep.join(folder for folder in folders if os.path.isabs(folder)))
    if not program:
        raise GitMissing("git is not installed: install it")
    return program


def _run_bounded(
    command: list[str], folder: Path, variables: dict[str, str], stdin: bytes, timeout: float, name: str
) -> bytes:
    """Run a command for so long, and keep so much of what it prints and no more."""
    timed_out = threading.Event()
    with tempfile.TemporaryFile() as question, tempfile.TemporaryFile() as errors:
        question.write(stdin)
        question.seek(0)
        try:
            process = subprocess.Popen(
                command, cwd=folder, env=variables, stdin=question, stdout=subprocess.PIPE, stderr=errors
            )
        except OSError as error:
            raise GitError(f"git {name} cannot be run in {folder}: {error.strerror or error}") from error

        def stop() -> None:
            timed_out.set()
            process.kill()

        timer = threading.Timer(timeout, stop)
        timer.start()
        try:
            assert process.stdout  # noqa: S101 - it is a pipe
            output = process.stdout.read(MAX_GIT_OUTPUT + 1)
            if len(output) > MAX_GIT_OUTPUT:
                process.kill()
            process.stdout.close()
            code = process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                process.kill()
                process.wait()
        if timed_out.is_set():
            raise GitTimeout(f"git {name} gave no answer in {timeout:g} s")
        if len(output) > MAX_GIT_OUTPUT:
            raise GitError(f"git {name} printed more than {MAX_GIT_OUTPUT:,} bytes: that is too much to read")
        if code:
            errors.seek(0)
            message = errors.read(100_000).decode(errors="replace").strip().rpartition("\n")[2]
            raise GitError(f"git {name} refused: {message[:200] or code}")
        return output
