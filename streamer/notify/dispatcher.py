"""The dispatcher: one thread per channel, so that a dead receiver delays nobody else.

Deliveries added by this process are taken up at once, those of other processes within seconds.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import structlog

from streamer.alarm.event import Event
from streamer.core.clock import CancelToken
from streamer.core.errors import StorageError
from streamer.store import DeliveryLock, Outbox

from .channel import Channel
from .delivery_worker import ChannelStatus, DeliveryWorker, OnConfirmed, Outcome
from .retry import RetryPolicy

_log = structlog.get_logger(__name__)

_LOOK_S: Final = 2.0
"""How often the outbox is looked at for rows of other processes, and the lock tried."""

_PARTING_S: Final = 5.0
"""After the stop, what was never tried is tried once for so long: an alarm that is raised while
the program ends is still told. The first failure ends it. Arbitrary."""


def _nobody(_event: Event, _channel: str, _when: datetime) -> None:
    """Nobody wants to know of confirmations."""


class Dispatcher:
    """Delivers what the store's outbox holds for *channels*, until it is stopped.

    Args:
        outbox: Where the deliveries wait.
        channels: Whom to tell; names are unique. Entered and left by `run`.
        retry: When to try again.
        on_confirmed: Told of the event, the channel's name and the wall time of each confirmation,
            in the channel's thread, after it is on disk.
        rng: Returns a random number from 0 to 1, for the jitter.
    """

    def __init__(
        self,
        outbox: Outbox,
        channels: Sequence[Channel],
        *,
        retry: RetryPolicy | None = None,
        on_confirmed: OnConfirmed = _nobody,
        rng: Callable[[], float] = random.random,
    ) -> None:
        names = [channel.name for channel in channels]
        if len(set(names)) < len(names):
            raise ValueError(f"channel names must be unique, got {names}")
        self._outbox = outbox
        self._couriers = [
            DeliveryWorker(
                channel,
                self._outbox,
                retry=retry or RetryPolicy(),
                on_confirmed=on_confirmed,
                rng=rng,
            )
            for channel in channels
        ]
        self._bell = _Bell()

    def run(self, cancel: CancelToken) -> None:
        """Deliver until *cancel* is set, then end soon. May be called again after it returned.

        "Soon" is when the attempts under way have ended, each within its channel's time limit.

        Raises:
            ExceptionGroup: With the faults of the program that ended it. Trouble with receivers
                or with the store is none: it is logged, shown by `status` and tried again.
        """
        ended = CancelToken()
        ended.on_cancel(self._bell.ring)
        cancel.on_cancel(ended.set)
        self._warn_of_strangers()
        errors: list[Exception] = []  # Appending is atomic.
        threads = [
            threading.Thread(
                target=self._serve,
                args=(courier, ended, errors),
                name=f"notify/{courier.channel.name}",
            )
            for courier in self._couriers
        ]
        self._outbox.subscribe(self._bell.ring)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self._outbox.unsubscribe(self._bell.ring)
        if errors:
            raise ExceptionGroup("delivery failed", errors)

    def status(self) -> tuple[ChannelStatus, ...]:
        """How each channel does; from any thread."""
        return tuple(courier.status for courier in self._couriers)

    def _warn_of_strangers(self) -> None:
        known = {courier.channel.name for courier in self._couriers}
        for name, backlog in self._outbox.backlog().items():
            if name not in known and backlog.waiting:
                _log.warning(
                    "deliveries wait for a channel that is not configured here",
                    channel=name,
                    waiting=backlog.waiting,
                )

    def _serve(self, courier: DeliveryWorker, cancel: CancelToken, errors: list[Exception]) -> None:
        lock = self._outbox.lock(courier.channel.name)
        try:
            if self._take(lock, courier, cancel):
                with courier.channel:
                    self._carry(courier, cancel)
        except Exception as error:  # noqa: BLE001  comes out of `run`
            error.add_note(f"in thread notify/{courier.channel.name}")
            errors.append(error)
            cancel.set()
        finally:
            lock.release()

    def _take(self, lock: DeliveryLock, courier: DeliveryWorker, cancel: CancelToken) -> bool:
        """Wait for the right to deliver; returns whether it came before the stop."""
        while True:
            seen = self._bell.rung
            try:
                if lock.acquire():
                    self._outbox.recover(courier.channel.name)
                    courier.block(None)
                    return True
                _show(courier, "another process delivers for this channel")
            except StorageError as error:
                _show(courier, str(error))
            if cancel.is_set():
                return False
            self._bell.wait(seen, timeout_s=_LOOK_S)

    def _carry(self, courier: DeliveryWorker, cancel: CancelToken) -> None:
        while not cancel.is_set():
            seen = self._bell.rung
            try:
                step = courier.step()
                courier.block(None)
                if step is not Outcome.IDLE:
                    continue
                due = self._outbox.next_due(courier.channel.name)
                pause_s = _LOOK_S if due is None else min(_LOOK_S, due.total_seconds())
            except StorageError as error:
                _show(courier, str(error))
                pause_s = _LOOK_S
            self._bell.wait(seen, timeout_s=pause_s)
        self._part(courier)

    def _part(self, courier: DeliveryWorker) -> None:
        """Try once what was never tried, until the first failure."""
        end = time.monotonic() + _PARTING_S
        try:
            while time.monotonic() < end and courier.step(untried_only=True) is Outcome.CONFIRMED:
                pass
        except StorageError as error:
            _show(courier, str(error))


def _show(courier: DeliveryWorker, message: str) -> None:
    """Show why nothing is tried; log it once."""
    if courier.status.blocked != message:
        _log.error("nothing is delivered", channel=courier.channel.name, error=message)
        courier.block(message)


class _Bell:
    """Wakes all who wait, and counts, so that nobody misses a ring between looking and waiting."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._rung = 0  # Guarded by _changed.

    @property
    def rung(self) -> int:
        with self._changed:
            return self._rung

    def ring(self) -> None:
        with self._changed:
            self._rung += 1
            self._changed.notify_all()

    def wait(self, seen: int, *, timeout_s: float) -> None:
        """Wait for a ring after the *seen* ones, or until the timeout."""
        with self._changed:
            self._changed.wait_for(lambda: self._rung > seen, timeout_s)
