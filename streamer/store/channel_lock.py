"""Who delivers for a channel: one process at a time, decided by the operating system.

A lock of the kernel, not a lease with an expiry in the database: it ends in the same instant as
its process, however that ends, so a restarted program goes on at once, and no change of the wall
clock gives one delivery to two processes. SQLite itself relies on the same kind of lock, so
wherever the store works, this works.
"""

import fcntl
import os
import threading
from pathlib import Path
from urllib.parse import quote

from streamer.core.errors import StorageError

_guard = threading.Lock()
_held_here: set[Path] = set()
"""Guarded by _guard. Within one process such a lock excludes nobody, so it is noted here too; and
closing any descriptor of the file would end the lock, so the file is not even opened twice."""


class ChannelLock:
    """The right to deliver for one channel of one store. It may be taken and let go repeatedly."""

    def __init__(self, store: Path, channel: str) -> None:
        name = f"{store.name}.{quote(channel, safe='')}.lock"
        self._path = store.resolve().with_name(name)
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def take(self) -> bool:
        """Take the lock if nobody has it; never waits.

        Returns:
            Whether it is held now.

        Raises:
            StorageError: The lock's file cannot be made.
        """
        with _guard:
            if self.held:
                return True
            if self._path in _held_here:
                return False
            descriptor = self._open()
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):  # POSIX allows either for "taken".
                os.close(descriptor)
                return False
            except OSError as error:
                os.close(descriptor)
                raise self._failure(error) from error
            self._descriptor = descriptor
            _held_here.add(self._path)
            return True

    def release(self) -> None:
        """Give the lock back, if it is held."""
        with _guard:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
                _held_here.remove(self._path)

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self._path}: cannot be locked ({error.strerror}): allow this user to write there"
        )
