"""The data folder belongs to one program, which completes what an earlier one left half done."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

import structlog

from streamer.config import Config
from streamer.core.errors import StorageError
from streamer.core.process_lock import ProcessLock
from streamer.evidence.recovery import recover_evidence
from streamer.recording.recovery import recover_recordings

_log = structlog.get_logger(__name__)

_UNWRITABLE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@contextmanager
def own_data_folder(config: Config) -> Iterator[None]:
    """Keep other programs out of the data folder within the block, and complete files there.

    Raises:
        StorageError: Another program uses the folder, or it cannot be written.
    """
    folder = config.data_dir
    lock = ProcessLock(config.lock_file, holder=_this_process())
    try:
        folder.mkdir(parents=True, exist_ok=True)
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
        acquired = True
    if not acquired:
        holder = lock.holder() or "unknown"
        raise StorageError(
            f"data folder {folder} is in use by another program ({holder}): end it, or set another"
            " data_dir"
        )
    try:
        _recover(config)
        yield
    finally:
        lock.release()


def _recover(config: Config) -> None:
    """Complete or remove the parts that a killed program left, also of cameras that are gone."""
    for recover, root in (
        (recover_recordings, config.recordings_folder),
        (recover_evidence, config.evidence_folder),
    ):
        try:
            recover(root)
        except (OSError, StorageError) as error:  # The next start tries again.
            _log.warning("cannot recover files", folder=str(root), reason=str(error))


def _this_process() -> str:
    started = datetime.now().astimezone().isoformat(" ", "seconds")
    return f"pid {os.getpid()} on {socket.gethostname()} since {started}"
