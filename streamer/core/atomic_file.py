"""A file that bears its name only when it is whole, and says in one line why it cannot be written.

Python writes the bytes, not FFmpeg: FFmpeg holds the interpreter's lock while it opens and
ends a file, so a disk that hangs would stop every camera.
"""

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from .errors import StorageError

PART: Final = ".part"
"""Ends the name of a file that is being written, or whose writer was killed."""

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
    """What *error* means for a person who wants *path* to be written."""
    number = error.errno if isinstance(error, OSError) else None
    reason = _REASONS.get(number or 0) or getattr(error, "strerror", None) or str(error)
    return StorageError(f"cannot write {path}: {reason}")


def sync_folder(folder: Path) -> None:
    """Make the names in *folder* outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class AtomicFile:
    """Bytes on their way into *path*, by the name of `<path>.part` until `publish`.

    It is what PyAV asks of a file: `write`, `seek`, `tell`. For one thread.

    Raises:
        OSError: From any method, as the system gave it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(path.name + PART)
        self.size = 0
        self._position = 0
        self._given_up = False
        path.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self.part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)

    @property
    def name(self) -> str:
        """For FFmpeg's messages."""
        return str(self.part)

    def write(self, data: bytes) -> int:
        """Write all of *data* at the position; a nearly full disk takes less at a time."""
        rest = memoryview(data)
        while rest and not self._given_up:
            written = os.pwrite(self._handle, rest, self._position)
            self._position += written
            rest = rest[written:]
        self.size = max(self.size, self._position)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def sync(self) -> None:
        """Bring everything to the disk; nothing more is written."""
        os.fsync(self._handle)
        self._close()

    def publish(self) -> None:
        """Bring everything to the disk, then give the file its name, replacing an older one."""
        self.sync()
        self.part.replace(self.path)
        sync_folder(self.path.parent)

    def give_up(self) -> None:
        """Leave the part as it is: nothing that comes later may spoil what is written."""
        self._given_up = True
        with contextlib.suppress(OSError):
            self._close()

    def _close(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)
