"""Writes files all or nothing, and turns errors of the operating system into messages."""

import errno
import fcntl
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kiwari_ci.safe_files import create_file

ERRNO_HINTS = {
    errno.ENOSPC: "free some space, and run it again",
    errno.EDQUOT: "free some space, and run it again",
    errno.EROFS: "choose a folder that can be written, with --out",
    errno.EACCES: "correct its owner or its mode, or choose another folder, with --out",
    errno.EPERM: "correct its owner or its attributes (lsattr), or choose another folder, with --out",
    errno.ENOTDIR: "choose another folder, with --out",
    errno.EEXIST: "choose another folder, with --out",
    errno.ENAMETOOLONG: "choose another folder, with --out",
}


SCRATCH_PREFIX = ".kiwari-ci-staging-"
_SCRATCH_NAME = re.compile(re.escape(SCRATCH_PREFIX) + r"[a-z0-9_]{8}")
_STAGED_NAME = re.compile(r"[0-9]+(\.old)?")


class OutputError(Exception):  # noqa: N818 - a sentence for the user, not an error of ours
    """The output folder cannot be read or written, and why; nothing was changed."""

    title = "nothing was changed:"


class PartialWriteError(OutputError):
    """A write failed half-way and could not be rolled back."""

    title = "some files are new, and others are not:"


@contextmanager
def defer_signals() -> Iterator[None]:
    """Block SIGINT, SIGTERM and SIGHUP while files are being renamed."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def apply_changes(staging: Path, changes: list[tuple[Path | None, Path]]) -> None:
    """Move each staged file to its target, and delete targets without one; when that fails, restore everything."""
    undo: list[tuple[Path | None, Path]] = []
    new_folders: list[Path] = []
    try:
        for index, (staged, target) in enumerate(changes):
            new_folders += [folder for folder in target.parents if not folder.exists()]
            target.parent.mkdir(parents=True, exist_ok=True)
            backup = _backup_file(target, staging / f"{index}.old") if os.path.lexists(target) else None
            if staged:
                staged.replace(target)
            else:
                target.unlink()
            undo.append((backup, target))
    except OSError as error:
        with convert_os_errors(target, PartialWriteError):
            for backup, target in reversed(undo):
                _restore_file(backup, target)
            remove_empty_folders(new_folders)
        raise error


def _restore_file(backup: Path | None, target: Path) -> None:
    if backup:
        backup.replace(target)
    else:
        target.unlink()


def _backup_file(target: Path, backup: Path) -> Path:
    """Keep a file under a second name: as a hard link where the file system has them, else as a copy."""
    if target.is_symlink():
        shutil.copy2(target, backup, follow_symlinks=False)
        return backup
    try:
        backup.hardlink_to(target)
    except OSError:
        shutil.copy2(target, backup, follow_symlinks=False)
    return backup


def remove_empty_folders(folders: list[Path]) -> None:
    """Remove those of the folders that are empty, the deepest first."""
    for folder in sorted(set(folders), reverse=True):
        with suppress(OSError):
            folder.rmdir()


def stage_file(staged: Path, target: Path, text: str, executable: bool) -> Path:
    """Write a file beside its place, with the mode of the one that is there."""
    create_file(staged, text.encode())
    is_there = target.is_file() and not target.is_symlink()
    mode = (target if is_there else staged).stat().st_mode & 0o777
    read_bits = mode & 0o444
    staged.chmod(mode | read_bits >> 2 if executable else mode & ~0o111)
    return staged


@contextmanager
def create_scratch_folder(root: Path) -> Iterator[Path]:
    """A new folder for staged files, on the same disk as `root`; what killed runs have left goes first.

    Its name cannot be foreseen, so a repository cannot hold a link or a file at it.
    """
    for name in sorted(os.listdir(root)):
        if is_scratch_folder(root / name):
            shutil.rmtree(root / name)  # raises OSError where it cannot go
    scratch = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=root))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def is_scratch_folder(path: Path) -> bool:
    """Whether a folder is what a killed run has left: a folder, no link, that holds our staged files and no more."""
    if not _SCRATCH_NAME.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
        return False
    if path.lstat().st_uid != os.geteuid():
        return False
    return all(_STAGED_NAME.fullmatch(name) and not (path / name).is_dir() for name in os.listdir(path))


@contextmanager
def convert_os_errors(root: Path, error_type: type[OutputError] = OutputError) -> Iterator[None]:
    """Turn an OSError into an OutputError with a hint."""
    try:
        yield
    except OSError as error:
        hint = ERRNO_HINTS.get(error.errno or 0, "mend that, and run it again")
        raise error_type(f"{error.filename or root}: {error.strerror or error}: {hint}") from error


@contextmanager
def lock_folder(root: Path) -> Iterator[None]:
    """Hold a lock, so that only one process writes; the kernel releases it when the process ends."""
    handle = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def find_link(path: Path) -> Path | None:
    """The first link on the way to a file, of those parts that are named from the current folder."""
    candidates = [path, *path.parents] if not path.is_absolute() else [path]
    return next((part for part in reversed(candidates) if part.is_symlink()), None)


def replace_file(path: Path, text: str) -> None:
    """Write a file in the place of what is there; a device is written to. Raises OSError."""
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    with create_scratch_folder(path.parent) as scratch:
        stage_file(scratch / "0", path, text, executable=False).replace(path)
