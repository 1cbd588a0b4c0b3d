"""The clocks and the wish to stop, as objects that tests replace.

Three clocks are kept apart. Media time (`pts_ns`) comes from the stream. Monotonic time
(`monotonic_ns`) measures ages. Wall time (aware UTC) is for people and is only ever derived
from a monotonic instant, so that one frame has one wall time.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from .errors import Cancelled


class Clock(Protocol):
    """What a part may ask about time."""

    def monotonic_ns(self) -> int:
        """Nanoseconds that only grow."""
        ...

    def utc_at(self, monotonic_ns: int) -> datetime:
        """The wall time, aware UTC, that belongs to a monotonic instant."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since an arbitrary start; unaffected by changes of the wall clock."""
        return time.monotonic_ns()

    def utc_at(self, monotonic_ns: int) -> datetime:
        """Wall time of a recent instant, by the offset between the two clocks as it is now."""
        age_ns = time.monotonic_ns() - monotonic_ns
        return datetime.now(UTC) - timedelta(microseconds=age_ns / 1000)


class MediaClock:
    """A clock that stands still between frames: monotonic time is media time.

    Replaying a file reads this one, so the same file gives the same times on every run.
    """

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._now_ns = 0

    def monotonic_ns(self) -> int:
        """Media time of the newest frame announced by `advance`."""
        return self._now_ns

    def utc_at(self, monotonic_ns: int) -> datetime:
        """Start of the recording plus media time."""
        return self._start + timedelta(microseconds=monotonic_ns // 1000)

    def advance(self, pts_ns: int) -> None:
        """Move forward to *pts_ns*; called by the one source that owns this clock."""
        self._now_ns = max(self._now_ns, pts_ns)


class CancelToken:
    """The wish to stop, seen by every thread of a pipeline. It cannot be taken back."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []  # Guarded by _lock.

    def set(self) -> None:
        """Stop. From any thread, any number of times."""
        with self._lock:
            self._event.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def is_set(self) -> bool:
        """Whether somebody wants to stop."""
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Raise `Cancelled` if somebody wants to stop."""
        if self._event.is_set():
            raise Cancelled

    def sleep(self, seconds: float) -> None:
        """Sleep, but raise `Cancelled` at once when somebody wants to stop."""
        if self._event.wait(seconds):
            raise Cancelled

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Run *callback* once when `set` is called; at once if it was. It must not block."""
        with self._lock:
            if not self._event.is_set():
                self._callbacks.append(callback)
                return
        callback()
