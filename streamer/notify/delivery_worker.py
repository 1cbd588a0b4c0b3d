"""A courier works off the deliveries of one channel: each `step` is one attempt.

No threads and no waiting here: the dispatcher does both.
"""

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import structlog

from streamer.alarm.event import Event
from streamer.store import Delivery, Outbox

from .channel import Channel, DeliveryFailed, Notification
from .retry import RetryPolicy

_log = structlog.get_logger(__name__)

OnConfirmed = Callable[[Event, str, datetime], None]
"""Told of the event, the channel's name and the wall time of each confirmation."""


class Outcome(enum.Enum):
    """What came of a step."""

    IDLE = "idle"
    """Nothing is due."""

    CONFIRMED = "confirmed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """How a channel does, for people."""

    name: str

    trouble: str | None = None
    """Why the last attempt failed; `None` if it did not."""

    blocked: str | None = None
    """Why nothing is tried: trouble with the store, or another process delivers."""

    confirmed: int = 0
    """Deliveries confirmed since the start."""

    failed: int = 0
    """Attempts that failed since the start."""

    last_confirmed: datetime | None = None


class DeliveryWorker:
    """Delivers for one channel. Used by one thread; `status` may be read by all.

    Args:
        channel: The way to the receiver.
        outbox: Where the deliveries wait.
        retry: When to try again.
        on_confirmed: Told of each confirmation, after it is on disk.
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
        """Make one attempt at the most urgent delivery, if one is due.

        Raises:
            StorageError: The outbox cannot be used. An outcome that could not be recorded is kept,
                and recorded by the next call: what was acknowledged is not sent again.
        """
        if self._unrecorded is None:
            delivery = self._outbox.claim(self.channel.name, untried_only=untried_only)
            if delivery is None:
                return Outcome.IDLE
            self._unrecorded = self._attempt(delivery)
        return self._unrecorded()

    def block(self, reason: str | None) -> None:
        """Show why nothing is tried at present; `None` when it is again."""
        self.status = replace(self.status, blocked=reason)

    def _attempt(self, delivery: Delivery) -> Callable[[], Outcome]:
        """Try once; returns how to record what came of it."""
        try:
            self.channel.deliver(Notification.of(delivery))
        except DeliveryFailed as error:
            failure = error
        except Exception as error:  # noqa: BLE001  a fault in one channel must not end delivery
            # The text of an unforeseen error may hold a secret; its class does not.
            failure = DeliveryFailed(f"unforeseen {type(error).__name__} in the channel")
        else:
            return partial(self._record_confirmation, delivery)
        return partial(self._record_failure, delivery, failure)

    def _record_confirmation(self, delivery: Delivery) -> Outcome:
        when = self._outbox.confirm(delivery.number)
        self._unrecorded = None
        self.status = replace(
            self.status, trouble=None, confirmed=self.status.confirmed + 1, last_confirmed=when
        )
        event = delivery.recorded.event
        _log.info(
            "delivered",
            channel=self.channel.name,
            event_id=event.id,
            attempts=delivery.attempts,
        )
        self._on_confirmed(event, self.channel.name, when)
        if self._outage:
            self._outage = False
            self._outbox.expedite(self.channel.name)
        return Outcome.CONFIRMED

    def _record_failure(self, delivery: Delivery, failure: DeliveryFailed) -> Outcome:
        message = str(failure)
        delay = self._retry.next_delay(delivery, failure, rng=self._rng)
        event_id = delivery.recorded.event.id
        if delay is None:
            self._outbox.dead_letter(delivery.number, error=message)
            _log.error(
                "delivery set aside: `streamer deliveries pending` shows it",
                channel=self.channel.name,
                event_id=event_id,
                attempts=delivery.attempts,
                error=message,
            )
        else:
            self._outbox.reschedule(delivery.number, after=delay, error=message)
            _log.warning(
                "delivery failed",
                channel=self.channel.name,
                event_id=event_id,
                attempts=delivery.attempts,
                retry_in_s=round(delay.total_seconds(), 1),
                error=message,
            )
        self._unrecorded = None
        # A receiver that is back gets what waits at once; one that asked for a pause gets it.
        self._outage = failure.retry_after_s is None and not failure.permanent
        self.status = replace(self.status, trouble=message, failed=self.status.failed + 1)
        return Outcome.FAILED
