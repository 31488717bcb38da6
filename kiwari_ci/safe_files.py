"""Files that may be a stranger's: read within bounds, and created without following a link."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MAX_HEAD_BYTES = 1_000  # of a file whose head alone is looked at


def read_plain_file(path: Path, limit: int) -> bytes:
    """A file's content; raises OSError for a pipe, a device, and for more than `limit` bytes, before it reads them."""
    with _open_plain_file(path) as handle:
        is_too_large = os.fstat(handle).st_size > limit
        content = b"" if is_too_large else _read_at_most(handle, limit + 1)
    if is_too_large or len(content) > limit:
        raise OSError(errno.EFBIG, f"more than {limit:,} bytes", str(path))
    return content


def read_file_head(path: Path, size: int = MAX_HEAD_BYTES) -> bytes:
    """The first bytes of a file; raises OSError for a pipe or a device."""
    with _open_plain_file(path) as handle:
        return _read_at_most(handle, size)


def create_file(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write a new file; raises FileExistsError for anything that is there, a link too. The content is on the disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o666), "wb") as stream:
        if mode is not None:
            os.fchmod(stream.fileno(), mode)
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


@contextmanager
def _open_plain_file(path: Path) -> Iterator[int]:
    """An open file that is neither a folder nor a pipe nor a device; a pipe without a writer is not waited for."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "a pipe or a device, not a file", str(path))
        yield handle
    finally:
        os.close(handle)


def _read_at_most(handle: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size > 0 and (part := os.read(handle, min(size, 1 << 20))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
