"""A reserve of disk space for events: a preallocated file that gives its space back piece by piece.

When the disk is full, recordings and evidence stop, but an alarm must still be stored and its
delivery noted. Before each write the store asks for a few free megabytes; if there are none, the
file is made shorter. It is made whole again once there is plenty of room.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

_MIB: Final = 1 << 20
_SIZE: Final = 16 * _MIB
"""Room for thousands of events: one takes about 4 KB for good, and with its deliveries 80 KB of the
write-ahead log, which is used again after 1 MB."""

_PIECE: Final = 1 * _MIB
"""Given back at once. Small, because whatever filled the disk takes free space as well."""

_NEEDED: Final = _MIB // 4
"""Free space below which a write might fail: a transaction takes a fifth of it."""

_LARGEST_SHARE: Final = 8
"""The reserve takes at most this part of the disk."""

_PLENTY: Final = 4
"""The reserve is made whole when this many times its size is free."""


class DiskReserve:
    """The file of one store. Not thread-safe. No method raises: a reserve is a help, not a need.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def refill(self) -> None:
        """Make the file, or make it whole again, if there is plenty of room."""
        with contextlib.suppress(OSError):
            disk = os.statvfs(self.path.parent)
            size = _full_size(disk)
            if self.size >= size or _free(disk) < _PLENTY * size:
                return
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(handle, 0, size)
            finally:
                os.close(handle)

    def make_room(self) -> None:
        """Give back pieces until a transaction fits on the disk, or nothing is left to give."""
        with contextlib.suppress(OSError):
            while _free(os.statvfs(self.path.parent)) < _NEEDED and self.give_back():
                pass

    def give_back(self) -> bool:
        """Give back one piece; return whether there was one."""
        with contextlib.suppress(OSError):
            if size := self.size:
                os.truncate(self.path, max(0, size - _PIECE))
                return True
        return False

    def shortage(self) -> str:
        """Return what is wrong with the reserve, in words; empty if it is whole."""
        with contextlib.suppress(OSError):
            size = _full_size(os.statvfs(self.path.parent))
            if self.size < size:
                left, whole = self.size / _MIB, size / _MIB
                return (
                    f"the disk is full: {left:.0f} of {whole:.0f} MiB are left in reserve"
                    " for events: free some space"
                )
        return ""

    @property
    def size(self) -> int:
        """Bytes that are left in reserve."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0


def _full_size(disk: os.statvfs_result) -> int:
    return min(_SIZE, disk.f_blocks * disk.f_frsize // _LARGEST_SHARE) // _PIECE * _PIECE


def _free(disk: os.statvfs_result) -> int:
    return disk.f_bavail * disk.f_frsize
