"""The dispatcher: one thread per channel, so that a dead receiver delays no other channel.

Deliveries added by this process are sent at once, those of other processes within seconds. No
failure of one channel, a bug included, ends or delays another one: each thread starts again by
itself.
"""

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import structlog

from streamer.core.backoff import Backoff, FailureCounter
from streamer.core.clock import CancelToken, Clock, SystemClock
from streamer.core.errors import Cancelled, StorageError
from streamer.store import DeliveryLock, Outbox

from .channel import Channel, Notification
from .channel_status import ChannelState, ChannelStatus
from .delivery_worker import DeliveryWorker, OnConfirmed, Outcome
from .reachability import Change
from .retry import RetryPolicy

_log = structlog.get_logger(__name__)

_POLL_S: Final = 2.0
"""Interval at which the outbox is read for rows of other processes, and the lock is tried."""

_STOP_S: Final = 0.8
"""After the stop, untried deliveries are attempted once for this long: an alarm that is raised
while the program ends still reaches its receiver. The first failure ends it. An attempt that takes
longer is left behind; the next start repeats it. Service managers kill a program that takes longer
than some seconds to end."""

_CHECK_STOP_S: Final = 0.1
"""Longest wait for a check of a receiver after the stop."""

_STUCK: Final = timedelta(minutes=3)
"""An attempt that takes longer than any configurable timeout (2 minutes) hangs: that is shown."""

_RESTART: Final = Backoff(initial_s=1.0, max_delay_s=60.0, reset_after_s=60.0)
"""Delays before a worker starts again that ended with an unexpected error."""


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """How the dispatcher treats one channel."""

    check_interval_s: float | None = None
    """Time between two checks of the receiver; `None` never checks."""

    channel_alerts: bool = False
    """Whether this channel is notified when another one goes down or comes up."""


class Dispatcher:
    """Delivers what the outbox holds for *channels*, until it is stopped.

    Args:
        outbox: Holds the deliveries.
        channels: The channels; names are unique. Entered and left by `run`.
        options: By name of the channel; the defaults of `ChannelOptions` where one is missing.
        retry: Decides whether and when a failed delivery is tried again.
        on_confirmed: Called with the event, the name of the channel and the wall time of each
            confirmation, in the thread of the channel, after it is on disk.
        clock: Returns when something happened.
    """

    def __init__(
        self,
        outbox: Outbox,
        channels: Sequence[Channel],
        *,
        options: Mapping[str, ChannelOptions] | None = None,
        retry: RetryPolicy | None = None,
        on_confirmed: OnConfirmed = lambda *_: None,
        clock: Clock | None = None,
    ) -> None:
        names = [channel.name for channel in channels]
        if len(set(names)) < len(names):
            raise ValueError(f"channel names must be unique, got {names}")
        self._outbox = outbox
        self._clock = clock or SystemClock()
        chosen = {name: (options or {}).get(name, ChannelOptions()) for name in names}
        self._workers = [
            DeliveryWorker(
                channel,
                outbox,
                retry=retry or RetryPolicy(),
                on_confirmed=on_confirmed,
                on_change=self._report_change,
                check_interval_s=chosen[channel.name].check_interval_s,
                clock=self._clock,
            )
            for channel in channels
        ]
        self._take_news = [one for one in self._workers if chosen[one.channel.name].channel_alerts]
        self._wakeup = _Wakeup()

    def run(self, cancel: CancelToken) -> None:
        """Deliver until *cancel* is set. May be called again after it returned.

        Returns 0.8 s after the stop at the latest. An attempt that is still under way is left
        behind then; its delivery stays in the outbox.
        """
        stopped = threading.Event()
        forget = [cancel.on_cancel(stopped.set), cancel.on_cancel(self._wakeup.notify)]
        self._warn_of_unknown_channels()
        threads = [
            # Daemons, because an attempt that is left behind must not keep the process from ending.
            threading.Thread(
                target=self._serve,
                args=(worker, cancel),
                name=f"notify/{worker.channel.name}",
                daemon=True,
            )
            for worker in self._workers
        ]
        self._outbox.subscribe(self._wakeup.notify)
        for thread in threads:
            thread.start()
        stopped.wait()
        end = time.monotonic() + _STOP_S
        for worker, thread in zip(self._workers, threads, strict=True):
            _join(thread, worker, end)
        self._outbox.unsubscribe(self._wakeup.notify)
        for each in forget:
            each()

    def status(self) -> tuple[ChannelStatus, ...]:
        """Return the state of each channel. From any thread."""
        return tuple(map(_status, self._workers))

    def _report_change(self, name: str, change: Change) -> None:
        """Notify the other channels that one went down or came up. In the thread of that one."""
        now_ns = self._clock.monotonic_ns()
        for worker in self._take_news:
            if worker.channel.name == name:
                continue
            news = Notification.of_channel(
                name,
                receiver=worker.channel.name,
                down=change.down,
                since=self._clock.utc_at(change.since_ns),
                now=self._clock.utc_at(now_ns),
                reason=change.reason,
            )
            worker.post(name, news)
        self._wakeup.notify()

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

    def _serve(self, worker: DeliveryWorker, cancel: CancelToken) -> None:
        """Deliver until the stop, and start again after an unexpected error."""
        failures = FailureCounter(_RESTART)
        while True:
            began = time.monotonic()
            lock = self._outbox.lock(worker.channel.name)
            try:
                if self._acquire(lock, worker, cancel):
                    with worker.channel:
                        self._deliver(worker, cancel)
            except BaseException as error:  # noqa: BLE001  nothing ends this thread unnoticed
                failures.note_success(time.monotonic() - began)
                delay_s = failures.delay_s()
                name = worker.channel.name
                worker.block(f"unexpected {type(error).__name__} in the delivery")
                _log.exception("delivery failed unexpectedly", channel=name, restart_in_s=delay_s)
            else:
                return
            finally:
                lock.release()
            try:
                cancel.sleep(delay_s)
            except Cancelled:
                return

    def _acquire(self, lock: DeliveryLock, worker: DeliveryWorker, cancel: CancelToken) -> bool:
        """Wait for the lock of the channel; return whether it was acquired before the stop."""
        while True:
            seen = self._wakeup.count
            try:
                if lock.acquire():
                    with contextlib.suppress(StorageError):  # It is tried again with each step.
                        worker.settle()  # Before `recover`: what has arrived is not due again.
                    self._outbox.recover(worker.channel.name)
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
                worker.note_next(None if due is None else worker.now() + due)
                pause_s = _POLL_S if due is None else min(_POLL_S, due.total_seconds())
            except StorageError as error:
                _block(worker, str(error))
                pause_s = _POLL_S
            pause_s = min(pause_s, worker.maintain())
            self._wakeup.wait(seen, timeout_s=pause_s)
        self._finish(worker)

    def _finish(self, worker: DeliveryWorker) -> None:
        """Attempt untried deliveries once, until the first failure."""
        end = time.monotonic() + _STOP_S
        try:
            while time.monotonic() < end and worker.step(untried_only=True) is Outcome.CONFIRMED:
                pass
        except StorageError as error:
            _block(worker, str(error))


def _join(thread: threading.Thread, worker: DeliveryWorker, end: float) -> None:
    """Wait for the end of a worker until *end*, but for a check only shortly: it sends nothing."""
    end_of_check = time.monotonic() + _CHECK_STOP_S
    while thread.is_alive():
        now = time.monotonic()
        if now >= (end_of_check if worker.checking else end):
            _log.info("left behind, what waits stays in the outbox", thread=thread.name)
            return
        thread.join(min(_CHECK_STOP_S, max(0.0, end - now)))


def _status(worker: DeliveryWorker) -> ChannelStatus:
    status = worker.status
    sending = status.state is ChannelState.SENDING
    if sending and status.since is not None and worker.now() - status.since > _STUCK:
        return replace(status, blocked="the attempt under way does not end")
    return status


def _block(worker: DeliveryWorker, message: str) -> None:
    """Show why nothing is attempted, and log it once."""
    if worker.status.blocked != message:
        _log.error("stored deliveries wait", channel=worker.channel.name, error=message)
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
