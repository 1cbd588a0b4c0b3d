"""Calls that nothing can interrupt, such as name resolution, in threads that may be left behind.

`getaddrinfo` takes no timeout and cannot be cancelled: a broken resolver holds its caller for tens
of seconds. Here the caller waits for as long as it wants and then goes on without the result. The
thread that is left behind ends when its call returns; until then it counts, and when too many are
left behind no further one is started. These threads are daemons, unlike all others of the program:
none of them may keep the process from ending.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


class TooManyCalls(Exception):  # noqa: N818  states a fact
    """So many earlier calls have not returned that no further one is started."""


class UninterruptibleCalls:
    """Runs calls in threads of their own, at most *limit* at a time. For any thread.

    Args:
        name: First part of the names of the threads.
        limit: Most calls that run at the same time, those that were left behind included.
    """

    def __init__(self, name: str, *, limit: int = 8) -> None:
        self._name = name
        self._limit = limit
        self._lock = threading.Lock()
        self._running = 0  # Guarded by _lock.

    @property
    def running(self) -> int:
        """Calls that have not returned."""
        with self._lock:
            return self._running

    def submit(self, function: Callable[[], Result]) -> "Future[Result]":
        """Start *function* in a thread of its own; the future may be dropped at any time.

        Raises:
            TooManyCalls: Too many calls have not returned.
        """
        with self._lock:
            if self._running >= self._limit:
                raise TooManyCalls(f"{self._running} calls of {self._name} have not returned")
            self._running += 1
        future: Future[Result] = Future()

        def run() -> None:
            try:
                outcome = function()
            except BaseException as error:  # noqa: BLE001  raised in the thread that waits
                failure: BaseException | None = error
            else:
                failure = None
            finally:
                with self._lock:
                    self._running -= 1
            if not future.set_running_or_notify_cancel():
                return  # Nobody waits any more.
            if failure is None:
                future.set_result(outcome)
            else:
                future.set_exception(failure)

        try:
            threading.Thread(target=run, name=f"{self._name}/call", daemon=True).start()
        except BaseException:
            with self._lock:
                self._running -= 1
            raise
        return future

    def call(self, function: Callable[[], Result], *, timeout_s: float) -> Result:
        """Return what *function* returns, or go on without it.

        Raises:
            TimeoutError: It has not returned in time.
            TooManyCalls: Too many calls have not returned.
            Exception: Whatever *function* raised.
        """
        return self.submit(function).result(timeout_s)
