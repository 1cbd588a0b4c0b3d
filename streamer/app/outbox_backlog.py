"""What waits in the outbox, read in the background: a status must never wait for a disk."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from streamer.core.clock import CancelToken
from streamer.core.errors import StorageError
from streamer.store import Backlog, Outbox

_EVERY_S: Final = 0.5
"""Pause between two readings."""


@dataclass(frozen=True, slots=True)
class BacklogReading:
    """The newest reading."""

    backlog: Mapping[str, Backlog] | None
    """By channel; `None` if it could not be read."""

    error: str
    """Why not; empty if it could."""


class OutboxBacklog:
    """Reads the backlog again and again while `run` runs; before that, when it is wanted."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._lock = threading.Lock()
        self._newest: BacklogReading | None = None  # Guarded by _lock; `None` while nothing runs.

    def run(self, cancel: CancelToken) -> None:
        """Read until *cancel* is set; a background service."""
        try:
            while True:
                reading = self._read()
                with self._lock:
                    self._newest = reading
                cancel.sleep(_EVERY_S)
        finally:
            with self._lock:
                self._newest = None

    def newest(self) -> BacklogReading:
        """Return the newest reading; waits for the disk only before the first."""
        with self._lock:
            newest = self._newest
        return newest or self._read()

    def _read(self) -> BacklogReading:
        try:
            return BacklogReading(self._outbox.backlog(), "")
        except StorageError as error:
            return BacklogReading(None, str(error))
