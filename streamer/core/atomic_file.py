"""Atomic files: written as `<name>.part`, synced to the disk, then renamed to their name.

A file with its own name is complete; a part was not finished or its writer was killed. `AtomicFile`
is also the file object that PyAV writes to: FFmpeg holds Python's global lock while it opens and
closes a file, so a disk that hangs would stop every camera.
"""

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from .errors import StorageError

PART: Final = ".part"
"""Suffix of a file that is being written, or whose writer was killed."""

_REASONS: Final = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file may not grow any further",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.EIO: "the disk is damaged",
}


def storage_error(path: Path, error: Exception) -> StorageError:
    """Return the error to raise when *path* cannot be written: one line with path and reason."""
    number = error.errno if isinstance(error, OSError) else None
    reason = _REASONS.get(number or 0) or (getattr(error, "strerror", None) or str(error)).lower()
    return StorageError(f"cannot write {path}: {reason}")


def sync_folder(folder: Path) -> None:
    """Sync the directory entries of *folder*, so that renames in it survive a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def part_path(path: Path) -> Path:
    """Return the name of *path* while it is being written."""
    return path.with_name(path.name + PART)


def publish(part: Path, path: Path) -> None:
    """Rename *part*, which is synced, to *path*, replacing an older file; sync the rename.

    Raises:
        OSError: As the system gave it.
    """
    part.replace(path)
    sync_folder(path.parent)


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write *data* to *path*, which then holds either all of it or what it held before.

    Missing folders are made. When it fails, the part is deleted.

    Raises:
        OSError: As the system gave it.
    """
    file = AtomicFile(path)
    try:
        file.write(data)
        file.publish()
    except BaseException:
        file.discard()
        raise


class AtomicFile:
    """A file object that writes `<path>.part` until `publish` renames it. For one thread.

    It has the methods that PyAV and `zipfile` use: `write`, `flush`, `seek`, `tell`.

    Args:
        path: Name of the complete file; missing folders are made.

    Raises:
        OSError: From any method, as the system gave it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = part_path(path)
        self.size = 0
        self._position = 0
        self._abandoned = False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)

    @property
    def name(self) -> str:
        """Path of the part, for FFmpeg's messages."""
        return str(self.part)

    def write(self, data: bytes | memoryview) -> int:
        """Write all of *data* at the position, and return its length in bytes."""
        rest = memoryview(data).cast("B")
        length = len(rest)
        while rest and not self._abandoned:
            written = os.pwrite(self._handle, rest, self._position)  # A nearly full disk: less.
            self._position += written
            rest = rest[written:]
        self.size = max(self.size, self._position)
        return length

    def flush(self) -> None:
        """Do nothing: nothing is buffered."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def sync(self) -> None:
        """Sync the part to the disk and close it."""
        os.fsync(self._handle)
        self._close()

    def publish(self) -> None:
        """Sync the part and rename it to `path`, replacing an older file."""
        self.sync()
        publish(self.part, self.path)

    def discard(self) -> None:
        """Close and delete the part."""
        self.abandon()
        with contextlib.suppress(OSError):
            self.part.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Close the part and leave it as it is; later writes do nothing."""
        self._abandoned = True
        with contextlib.suppress(OSError):
            self._close()

    def _close(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)
