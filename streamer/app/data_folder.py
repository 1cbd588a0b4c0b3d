"""The data folder belongs to one program, which completes what an earlier one left half done."""

import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from streamer.config import Config
from streamer.core.clock_guard import ClockGuard
from streamer.core.errors import StorageError
from streamer.core.process_lock import ProcessLock
from streamer.evidence.recovery import recover_evidence
from streamer.recording.recovery import recover_recordings
from streamer.store.bounded_calls import BoundedCalls, DiskHangs

_log = structlog.get_logger(__name__)

_UNWRITABLE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


_LOCK_S: Final = 10.0
_RECOVER_S: Final = 30.0
"""Longest waits for a disk that hangs: watching without it is better than not. Arbitrary."""


@contextmanager
def own_data_folder(config: Config) -> Iterator[ClockGuard]:
    """Keep other programs out of the data folder within the block, and complete files there.

    Returns:
        What is known of the wall clock, which is kept in the folder.

    Raises:
        StorageError: Another program uses the folder, or it cannot be written.
    """
    lock = ProcessLock(config.lock_file, holder=_this_process())
    calls = BoundedCalls(f"data folder {config.data_dir}", name="data folder", timeout_s=_LOCK_S)
    given_up = threading.Event()
    guard = ClockGuard(None)
    try:
        try:
            calls.call(lambda: _lock(config.data_dir, lock))
            guard = calls.call(lambda: ClockGuard(config.clock_file))
            calls.call(lambda: _recover(config, given_up.is_set), timeout_s=_RECOVER_S)
        except DiskHangs as error:
            # What still waits for the disk must not touch the files that cameras write from now on.
            given_up.set()
            _log.error("data folder not locked or not recovered", error=str(error))
        yield guard
    finally:
        calls.close(lock.release, timeout_s=1.0)


def _lock(folder: Path, lock: ProcessLock) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # It says what cameras see, and when.
        acquired = lock.acquire()
    except (OSError, StorageError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not (isinstance(cause, OSError) and cause.errno in _UNWRITABLE):
            if isinstance(error, StorageError):
                raise
            reason = (error.strerror or str(error)).lower()
            raise StorageError(f"data folder {folder} cannot be made: {reason}") from error
        # Watching on a full disk is better than not watching; alarms are still sent.
        _log.error("data folder not locked", folder=str(folder), reason=str(error))
        return
    if not acquired:
        holder = lock.holder() or "unknown"
        raise StorageError(
            f"data folder {folder} is in use by another program ({holder}): end it, or set another"
            " data_dir"
        )


def _recover(config: Config, stop: Callable[[], bool]) -> None:
    """Complete or remove the parts that a killed program left, also of cameras that are gone."""
    for recover, root in (
        (recover_recordings, config.recordings_folder),
        (recover_evidence, config.evidence_folder),
    ):
        try:
            recover(root, stop=stop)
        except (OSError, StorageError) as error:  # The next start tries again.
            _log.warning("cannot recover files", folder=str(root), reason=str(error))


def _this_process() -> str:
    started = datetime.now().astimezone().isoformat(" ", "seconds")
    return f"pid {os.getpid()} on {socket.gethostname()} since {started}"
