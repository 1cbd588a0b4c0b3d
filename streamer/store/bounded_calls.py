"""Calls that a disk may hold up for ever, in a thread of their own: callers wait a bounded time.

A read or write on a dead network share cannot be interrupted, not even by the end of the program.
So the thread is a daemon: it is the one thing that may be left behind.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

from streamer.core.errors import StorageError

Value = TypeVar("Value")

_log = structlog.get_logger(__name__)


class DiskHangs(StorageError):  # noqa: N818  states a fact
    """A call did not return in time. It may still take effect, any time later."""


class _Call(Generic[Value]):
    def __init__(self, work: Callable[[], Value]) -> None:
        self._work = work
        self._done = threading.Event()
        self._value: Value
        self._error: BaseException | None = None
        self.abandoned = False
        """Whether nobody waits any more; a call that has not begun by then is not made."""

    def __call__(self) -> None:
        if self.abandoned:
            return
        try:
            self._value = self._work()
        except BaseException as error:  # noqa: BLE001  raised in the caller's thread
            self._error = error
        self._done.set()

    def wait(self, timeout_s: float) -> bool:
        return self._done.wait(timeout_s)

    def result(self) -> Value:
        if self._error is not None:
            raise self._error
        return self._value


class BoundedCalls:
    """Makes calls one after another. For callers in any thread.

    Args:
        what: What the calls use, for the message: "event store /data/events.sqlite".
        name: Of the thread.
        timeout_s: Longest wait of a caller.
        idle: Called in the thread about every `idle_s` while there are no calls. Its errors are
            logged.
        idle_s: See `idle`.
    """

    def __init__(
        self,
        what: str,
        *,
        name: str,
        timeout_s: float,
        idle: Callable[[], None] = lambda: None,
        idle_s: float = 1.0,
    ) -> None:
        self._what = what
        self._timeout_s = timeout_s
        self._idle = idle
        self._idle_s = idle_s
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._busy_since: float | None = None  # Written by the thread only.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def hangs_for_s(self) -> float:
        """How long the present call has been overdue; 0 while none is."""
        since = self._busy_since
        return 0.0 if since is None else max(0.0, time.monotonic() - since - self._timeout_s)

    def call(self, work: Callable[[], Value], *, timeout_s: float | None = None) -> Value:
        """Make a call and return what it returned, or raise what it raised.

        While an earlier call is overdue, nothing is waited for.

        Raises:
            DiskHangs: It did not return in time.
        """
        if self.hangs_for_s:
            raise self._overdue()
        call = _Call(work)
        self._calls.put(call)
        if not call.wait(self._timeout_s if timeout_s is None else timeout_s):
            call.abandoned = True
            raise self._overdue()
        return call.result()

    def close(self, last: Callable[[], None], *, timeout_s: float) -> bool:
        """Make the last call and end the thread; return whether both were done in time."""
        self._calls.put(_Call(last))
        self._calls.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _overdue(self) -> DiskHangs:
        # Without a number that runs: the status and channels report every change of the text.
        return DiskHangs(f"{self._what}: its disk does not answer: check it")

    def _run(self) -> None:
        next_idle = time.monotonic() + self._idle_s
        while True:
            call: Callable[[], None] | None = None
            with contextlib.suppress(queue.Empty):
                call = self._calls.get(timeout=max(0.0, next_idle - time.monotonic()))
                if call is None:
                    return
            self._busy_since = time.monotonic()
            if call is None:
                self._be_idle()
                next_idle = time.monotonic() + self._idle_s
            else:
                call()
            self._busy_since = None

    def _be_idle(self) -> None:
        try:
            self._idle()
        except BaseException as error:  # noqa: BLE001  this thread must go on for the next alarm
            _log.error("maintenance of the store failed", error=str(error), exc_info=True)
