"""Files in their places, all of them or none; and what the disk refuses, in words."""

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
    errno.EROFS: "name a folder that can be written: --out",
    errno.EACCES: "mend its owner or its mode, or name another folder: --out",
    errno.EPERM: "mend its owner or its attributes (lsattr), or name another folder: --out",
    errno.ENOTDIR: "name another folder: --out",
    errno.EEXIST: "name another folder: --out",
    errno.ENAMETOOLONG: "name another folder: --out",
}


SCRATCH_PREFIX = ".kiwari-ci-staging-"
_SCRATCH_NAME = re.compile(re.escape(SCRATCH_PREFIX) + r"[a-z0-9_]{8}")
_STAGED_NAME = re.compile(r"[0-9]+(\.old)?")


class OutputError(Exception):  # noqa: N818 - a sentence for the user, not an error of ours
    """The output folder cannot be read or written, and why; nothing was changed."""

    title = "nothing was changed:"


class PartialWriteError(OutputError):
    """A write that the disk refused in its middle, and its undoing, too."""

    title = "some files are new, and others are not:"


@contextmanager
def defer_signals() -> Iterator[None]:
    """Ctrl-C and its like wait for the end of what is only renames."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def apply_changes(staging: Path, changes: list[tuple[Path | None, Path]]) -> None:
    """Put each staged file in its place, and take away what has none; on a refusal all is as it was."""
    undo: list[tuple[Path | None, Path]] = []
    made: list[Path] = []
    try:
        for index, (source, target) in enumerate(changes):
            made += [folder for folder in target.parents if not folder.exists()]
            target.parent.mkdir(parents=True, exist_ok=True)
            kept = _backup_file(target, staging / f"{index}.old") if os.path.lexists(target) else None
            if source:
                source.replace(target)
            else:
                target.unlink()
            undo.append((kept, target))
    except OSError as error:
        with convert_os_errors(target, PartialWriteError):
            for kept, target in reversed(undo):
                kept.replace(target) if kept else target.unlink()
            remove_empty_folders(made)
        raise error


def _backup_file(target: Path, place: Path) -> Path:
    """The file itself under a second name, where the file system has such names; else a copy."""
    try:
        place.hardlink_to(target) if not target.is_symlink() else shutil.copy2(target, place, follow_symlinks=False)
    except OSError:
        shutil.copy2(target, place, follow_symlinks=False)
    return place


def remove_empty_folders(folders: list[Path]) -> None:
    """Take away the folders that hold nothing."""
    for folder in sorted(set(folders), reverse=True):
        with suppress(OSError):
            folder.rmdir()


def stage_file(place: Path, target: Path, text: str, executable: bool) -> Path:
    """Write a file beside its place, with the mode of the one that is there."""
    create_file(place, text.encode())
    is_there = target.is_file() and not target.is_symlink()
    known = (target if is_there else place).stat().st_mode & 0o777
    readers = known & 0o444
    place.chmod(known | readers >> 2 if executable else known & ~0o111)
    return place


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
def convert_os_errors(root: Path, kind: type[OutputError] = OutputError) -> Iterator[None]:
    """What the disk refuses, in words."""
    try:
        yield
    except OSError as error:
        cure = ERRNO_HINTS.get(error.errno or 0, "mend that, and run it again")
        raise kind(f"{error.filename or root}: {error.strerror or error}: {cure}") from error


@contextmanager
def lock_folder(root: Path) -> Iterator[None]:
    """One writer at a time; the kernel lets go of the lock, whatever happens to us."""
    handle = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def find_link(path: Path) -> Path | None:
    """The first link on the way to a file, of those parts that are named from the current folder."""
    named = [path, *path.parents] if not path.is_absolute() else [path]
    return next((part for part in reversed(named) if part.is_symlink()), None)


def replace_file(path: Path, text: str) -> None:
    """Write a file in the place of what is there; a device is written to. Raises OSError."""
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    with create_scratch_folder(path.parent) as scratch:
        stage_file(scratch / "0", path, text, executable=False).replace(path)
