"""Clocks and the cancellation token, as objects that tests replace.

Three clocks are never mixed. Media time (`pts_ns`) comes from the stream. Monotonic time
(`monotonic_ns`) measures ages. Wall time (aware UTC) is for people and is always derived from a
monotonic instant, so that one frame has one wall time.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from .errors import Cancelled


class Clock(Protocol):
    """Monotonic time, wall time, and how both relate to media time."""

    def monotonic_ns(self) -> int:
        """Return nanoseconds that never decrease."""
        ...

    def utc_at(self, monotonic_ns: int) -> datetime:
        """Return the wall time, aware UTC, of a monotonic instant."""
        ...

    def arrival_of(self, pts_ns: int) -> int:
        """Return the monotonic arrival time of the packet or frame that a source reads now.

        Args:
            pts_ns: Its media time.
        """
        ...

    def advance_to(self, pts_ns: int) -> None:
        """Note that the source yields the frame of this media time next."""
        ...


class SystemClock:
    """The clocks of this machine. What is read now arrives now, whatever its media time."""

    def monotonic_ns(self) -> int:
        """Return nanoseconds since an arbitrary start, unaffected by changes of the wall clock."""
        return time.monotonic_ns()

    def utc_at(self, monotonic_ns: int) -> datetime:
        """Return the wall time of a recent instant, by the present offset of the two clocks."""
        age_ns = time.monotonic_ns() - monotonic_ns
        return datetime.now(UTC) - timedelta(microseconds=age_ns / 1000)

    def arrival_of(self, pts_ns: int) -> int:
        """Return the present monotonic time."""
        del pts_ns
        return time.monotonic_ns()

    def advance_to(self, pts_ns: int) -> None:
        """Do nothing: this clock advances by itself."""


class MediaClock:
    """A clock that stands still between frames: monotonic time is media time.

    A replay uses it, so the same file gives the same times on every run. A frame arrives at its
    own media time.

    Args:
        start: Wall time of media time 0, aware.
    """

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._now_ns = 0

    def monotonic_ns(self) -> int:
        """Return the highest media time given to `advance_to`."""
        return self._now_ns

    def utc_at(self, monotonic_ns: int) -> datetime:
        """Return the start of the recording plus media time."""
        return self._start + timedelta(microseconds=monotonic_ns // 1000)

    def arrival_of(self, pts_ns: int) -> int:
        """Return the media time itself."""
        return pts_ns

    def advance_to(self, pts_ns: int) -> None:
        """Advance to *pts_ns*; only the one source that reads the recording calls this."""
        self._now_ns = max(self._now_ns, pts_ns)


class CancelToken:
    """Requests that all threads of a pipeline stop. A request cannot be withdrawn."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []  # Guarded by _lock.

    def set(self) -> None:
        """Request the stop; from any thread, any number of times."""
        with self._lock:
            self._event.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def is_set(self) -> bool:
        """Whether the stop was requested."""
        return self._event.is_set()

    def sleep(self, seconds: float) -> None:
        """Sleep, and raise `Cancelled` as soon as the stop is requested."""
        if self._event.wait(seconds):
            raise Cancelled

    def on_cancel(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Run *callback* once when `set` is called, or now if it was called. It must not block.

        Returns:
            Forgets *callback*. What ends before the token is set must call it: a token lives as
            long as the program, and keeps all that its callbacks refer to.
        """
        with self._lock:
            waits = not self._event.is_set()
            if waits:
                self._callbacks.append(callback)
        if not waits:
            callback()

        def forget() -> None:
            with self._lock, contextlib.suppress(ValueError):  # It was called or forgotten.
                self._callbacks.remove(callback)

        return forget
