"""A lock file that one process at a time holds: a data folder, deliveries, a conversion.

A kernel lock (`flock`), not a lease with an expiry: it ends in the same instant as its process,
however that ends, so a restarted program goes on at once, and no change of the wall clock gives the
lock to two processes. The `filelock` package was considered: by default it counts per thread and
falls back to marker files that survive a kill; without both it adds nothing to `flock`.
"""

import contextlib
import fcntl
import os
from pathlib import Path

from .errors import StorageError


class ProcessLock:
    """A lock on *path*, excluding other processes and other locks of this process.

    Args:
        path: The lock file; made when needed and never deleted here.
        holder: Text about this process that others may read while it holds the lock.
    """

    def __init__(self, path: Path, *, holder: str = "") -> None:
        self._path = path
        self._holder = holder
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Acquire the lock if nobody holds it; never wait. Return whether it is held now.

        Raises:
            StorageError: The lock file cannot be made or locked.
        """
        if self._descriptor is not None:
            return True
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise self._failure(error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return False
            raise self._failure(error) from error
        self._descriptor = descriptor
        if self._holder:
            # A full disk keeps the text away from others, not the lock.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, self._holder.encode(), 0)
        return True

    def holder(self) -> str:
        """Return the text of the process that holds the lock; empty if there is none."""
        try:
            return self._path.read_text(errors="replace").strip()
        except OSError:
            return ""

    def release(self) -> None:
        """Release the lock, if it is held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _failure(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self._path}: cannot be locked ({error.strerror}): allow this user to write there"
        )
