"""Ends calls of FFmpeg that block: at a deadline, or as soon as another thread sets a token.

While FFmpeg waits for the network it asks PyAV about ten times a second whether to give up. PyAV
then compares its own timeout with `time.monotonic()`, read through its module `av.container.core`.
It offers no other way to end a call, and its timeout starts again in each of the steps of one call.
So that module gets a clock of ours: in a thread whose call is over, it runs far ahead of the
timeout; in all other threads, it is `time.monotonic`.

FFmpeg resolves host names and reads devices and files without asking, so these cannot be ended.
"""

import threading
import time
from types import SimpleNamespace, TracebackType
from typing import Final, Self

import av.container.core

from streamer.core.clock import CancelToken

_FAR_S: Final = 1e6
"""Longer than any timeout given to PyAV."""

_thread = threading.local()
"""`watch`: the `CallWatch` around the call that the thread is in, if any."""


class CallWatch:
    """A context around calls of FFmpeg, all in one thread; may be entered again and again.

    Args:
        cancel: Ends the calls when it is set.
        timeout_s: Ends the calls this long after the context was entered; above 0.
    """

    def __init__(self, cancel: CancelToken, timeout_s: float) -> None:
        self._cancel = cancel
        self._timeout_s = timeout_s
        self._deadline_s = 0.0
        self._ahead_s = 0.0
        self.timed_out = False
        """Whether the last calls took as long as the timeout."""

    def __enter__(self) -> Self:
        self._deadline_s = time.monotonic() + self._timeout_s
        self._ahead_s = 0.0
        _thread.watch = self
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _thread.watch = None
        self.timed_out = time.monotonic() >= self._deadline_s

    @property
    def cancelled(self) -> bool:
        """Whether the token is set."""
        return self._cancel.is_set()

    def clock_s(self) -> float:
        """Return the time that PyAV sees: the true one, or later and later once the call is over.

        PyAV may read the start of its timeout after the end of the call, so each reading is further
        ahead than the one before by more than the timeout.
        """
        now_s = time.monotonic()
        if now_s < self._deadline_s and not self._cancel.is_set():
            return now_s
        self._ahead_s += _FAR_S
        return now_s + self._ahead_s


def _clock_s() -> float:
    watch: CallWatch | None = getattr(_thread, "watch", None)
    return time.monotonic() if watch is None else watch.clock_s()


av.container.core.time = SimpleNamespace(monotonic=_clock_s)  # type: ignore[attr-defined]
