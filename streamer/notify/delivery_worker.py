"""The delivery worker of one channel: each `step` makes one attempt and records its outcome.

It retries by `RetryPolicy`. It has no thread and never waits: the dispatcher does both.
"""

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

import structlog

from streamer.alarm.event import Event
from streamer.store import Delivery, Outbox

from .channel import Channel, DeliveryFailed, Notification
from .retry import RetryPolicy

_log = structlog.get_logger(__name__)

OnConfirmed = Callable[[Event, str, datetime], None]
"""Called with the event, the name of the channel and the wall time of each confirmation."""


class Outcome(enum.Enum):
    """Outcome of a step."""

    IDLE = "idle"
    """Nothing is due."""

    CONFIRMED = "confirmed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """State of a channel."""

    name: str

    last_error: str | None = None
    """Why the last attempt failed; `None` if it did not."""

    blocked: str | None = None
    """Why nothing is attempted: an error of the store, or another process delivers."""

    confirmed: int = 0
    """Deliveries confirmed since the start."""

    failed: int = 0
    """Attempts that failed since the start."""

    last_confirmed: datetime | None = None


class DeliveryWorker:
    """Delivers for one channel. Used by one thread; `status` may be read by all.

    Args:
        channel: Sends the notifications.
        outbox: Holds the deliveries.
        retry: Decides whether and when a failed delivery is tried again.
        on_confirmed: Called after each confirmation is on disk.
        rng: Returns a random number from 0 to 1, for the jitter.
    """

    def __init__(
        self,
        channel: Channel,
        outbox: Outbox,
        *,
        retry: RetryPolicy,
        on_confirmed: OnConfirmed,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.channel = channel
        self._outbox = outbox
        self._retry = retry
        self._on_confirmed = on_confirmed
        self._rng = rng
        self._unrecorded: Callable[[], Outcome] | None = None
        self._outage = False
        self.status = ChannelStatus(channel.name)

    def step(self, *, untried_only: bool = False) -> Outcome:
        """Make one attempt at the most urgent (untried) delivery, if one is due.

        Raises:
            StorageError: The outbox cannot be used. The next call records an outcome that could not
                be recorded: an acknowledged delivery is not sent again.
        """
        if self._unrecorded is None:
            delivery = self._outbox.claim(self.channel.name, untried_only=untried_only)
            if delivery is None:
                return Outcome.IDLE
            self._unrecorded = self._attempt(delivery)
        return self._unrecorded()

    def block(self, reason: str | None) -> None:
        """Set why nothing is attempted at present; `None` if deliveries are attempted."""
        self.status = replace(self.status, blocked=reason)

    def _attempt(self, delivery: Delivery) -> Callable[[], Outcome]:
        """Make one attempt and return a function that records its outcome."""
        try:
            self.channel.deliver(Notification.of(delivery))
        except DeliveryFailed as error:
            failure = error
        except Exception as error:  # noqa: BLE001  a bug in one channel must not end delivery
            # The text of an unexpected error may hold a secret; its class does not.
            failure = DeliveryFailed(f"unexpected {type(error).__name__} in the channel")
        else:
            return partial(self._record_confirmation, delivery)
        return partial(self._record_failure, delivery, failure)

    def _log(self, delivery: Delivery) -> Any:
        event_id, attempts = delivery.recorded.event.id, delivery.attempts
        return _log.bind(channel=self.channel.name, event_id=event_id, attempts=attempts)

    def _record_confirmation(self, delivery: Delivery) -> Outcome:
        when = self._outbox.confirm(delivery.number)
        self._unrecorded = None
        self.status = replace(
            self.status, last_error=None, confirmed=self.status.confirmed + 1, last_confirmed=when
        )
        event = delivery.recorded.event
        self._log(delivery).info("delivered")
        self._on_confirmed(event, self.channel.name, when)
        if self._outage:
            self._outage = False
            self._outbox.expedite(self.channel.name)
        return Outcome.CONFIRMED

    def _record_failure(self, delivery: Delivery, failure: DeliveryFailed) -> Outcome:
        message = str(failure)
        delay = self._retry.next_delay(delivery, failure, rng=self._rng)
        log = self._log(delivery)
        if delay is None:
            self._outbox.dead_letter(delivery.number, error=message)
            log.error(
                "delivery given up: `streamer deliveries pending` shows the dead letter",
                error=message,
            )
        else:
            self._outbox.reschedule(delivery.number, after=delay, error=message)
            retry_in_s = round(delay.total_seconds(), 1)
            log.warning("delivery failed", retry_in_s=retry_in_s, error=message)
        self._unrecorded = None
        # After an outage the first success makes waiting deliveries due at once, unless the
        # receiver requested a delay.
        self._outage = failure.retry_after_s is None and not failure.permanent
        self.status = replace(self.status, last_error=message, failed=self.status.failed + 1)
        return Outcome.FAILED
