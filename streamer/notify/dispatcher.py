"""The dispatcher: one thread per channel, so that a dead receiver delays no other channel.

Deliveries added by this process are sent at once, those of other processes within seconds.
"""

import threading
import time
from collections.abc import Sequence
from typing import Final

import structlog

from streamer.core.clock import CancelToken
from streamer.core.errors import StorageError
from streamer.store import DeliveryLock, Outbox

from .channel import Channel
from .delivery_worker import ChannelStatus, DeliveryWorker, OnConfirmed, Outcome
from .retry import RetryPolicy

_log = structlog.get_logger(__name__)

_POLL_S: Final = 2.0
"""Interval at which the outbox is read for rows of other processes, and the lock is tried."""

_FINAL_ATTEMPTS_S: Final = 5.0
"""After the stop, untried deliveries are attempted once for this long: an alarm that is raised
while the program ends still reaches its receiver. The first failure ends it. Arbitrary."""


class Dispatcher:
    """Delivers what the outbox holds for *channels*, until it is stopped.

    Args:
        outbox: Holds the deliveries.
        channels: The channels; names are unique. Entered and left by `run`.
        retry: Decides whether and when a failed delivery is tried again.
        on_confirmed: Called with the event, the name of the channel and the wall time of each
            confirmation, in the thread of the channel, after it is on disk.
    """

    def __init__(
        self,
        outbox: Outbox,
        channels: Sequence[Channel],
        *,
        retry: RetryPolicy | None = None,
        on_confirmed: OnConfirmed = lambda *_: None,
    ) -> None:
        names = [channel.name for channel in channels]
        if len(set(names)) < len(names):
            raise ValueError(f"channel names must be unique, got {names}")
        self._outbox = outbox
        self._workers = [
            DeliveryWorker(channel, outbox, retry=retry or RetryPolicy(), on_confirmed=on_confirmed)
            for channel in channels
        ]
        self._wakeup = _Wakeup()

    def run(self, cancel: CancelToken) -> None:
        """Deliver until *cancel* is set. May be called again after it returned.

        Returns when the attempts under way have ended, each within the timeout of its channel.

        Raises:
            ExceptionGroup: The bugs that ended it. Errors of receivers and of the store do not end
                it: they are logged, shown by `status` and retried.
        """
        ended = CancelToken()
        ended.on_cancel(self._wakeup.notify)
        cancel.on_cancel(ended.set)
        self._warn_of_unknown_channels()
        errors: list[Exception] = []  # Appending is atomic.
        threads = [
            threading.Thread(
                target=self._serve,
                args=(worker, ended, errors),
                name=f"notify/{worker.channel.name}",
            )
            for worker in self._workers
        ]
        self._outbox.subscribe(self._wakeup.notify)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._outbox.unsubscribe(self._wakeup.notify)
        if errors:
            raise ExceptionGroup("delivery failed", errors)

    def status(self) -> tuple[ChannelStatus, ...]:
        """Return the state of each channel. From any thread."""
        return tuple(worker.status for worker in self._workers)

    def _warn_of_unknown_channels(self) -> None:
        configured = {worker.channel.name for worker in self._workers}
        try:
            backlogs = self._outbox.backlog()
        except StorageError as error:  # Deliveries from memory go on without it.
            _log.error("the outbox cannot be read", error=str(error))
            return
        for name, backlog in backlogs.items():
            if name not in configured and backlog.waiting:
                _log.warning(
                    "deliveries wait for a channel that is not configured here",
                    channel=name,
                    waiting=backlog.waiting,
                )

    def _serve(self, worker: DeliveryWorker, cancel: CancelToken, errors: list[Exception]) -> None:
        lock = self._outbox.lock(worker.channel.name)
        try:
            if self._acquire(lock, worker, cancel):
                with worker.channel:
                    self._deliver(worker, cancel)
        except Exception as error:  # noqa: BLE001  comes out of `run`
            error.add_note(f"in thread notify/{worker.channel.name}")
            errors.append(error)
            cancel.set()
        finally:
            lock.release()

    def _acquire(self, lock: DeliveryLock, worker: DeliveryWorker, cancel: CancelToken) -> bool:
        """Wait for the lock of the channel; return whether it was acquired before the stop."""
        while True:
            seen = self._wakeup.count
            try:
                if lock.acquire():
                    self._outbox.recover(worker.channel.name)
                    worker.block(None)
                    return True
                _block(worker, "another process delivers for this channel")
            except StorageError as error:
                _block(worker, str(error))
            if cancel.is_set():
                return False
            self._wakeup.wait(seen, timeout_s=_POLL_S)

    def _deliver(self, worker: DeliveryWorker, cancel: CancelToken) -> None:
        while not cancel.is_set():
            seen = self._wakeup.count
            try:
                outcome = worker.step()
                worker.block(None)
                if outcome is not Outcome.IDLE:
                    continue
                due = self._outbox.next_due(worker.channel.name)
                pause_s = _POLL_S if due is None else min(_POLL_S, due.total_seconds())
            except StorageError as error:
                _block(worker, str(error))
                pause_s = _POLL_S
            self._wakeup.wait(seen, timeout_s=pause_s)
        self._finish(worker)

    def _finish(self, worker: DeliveryWorker) -> None:
        """Attempt untried deliveries once, until the first failure."""
        end = time.monotonic() + _FINAL_ATTEMPTS_S
        try:
            while time.monotonic() < end and worker.step(untried_only=True) is Outcome.CONFIRMED:
                pass
        except StorageError as error:
            _block(worker, str(error))


def _block(worker: DeliveryWorker, message: str) -> None:
    """Show why nothing is attempted, and log it once."""
    if worker.status.blocked != message:
        _log.error("nothing is delivered", channel=worker.channel.name, error=message)
        worker.block(message)


class _Wakeup:
    """Wakes all waiting threads. Its count shows a waiter a call that came before it waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0  # Guarded by _changed.

    @property
    def count(self) -> int:
        with self._changed:
            return self._count

    def notify(self) -> None:
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def wait(self, seen: int, *, timeout_s: float) -> None:
        """Wait until the count exceeds *seen*, or until the timeout."""
        with self._changed:
            self._changed.wait_for(lambda: self._count > seen, timeout_s)
