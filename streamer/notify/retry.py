"""Whether and when a failed delivery is tried again: webhook, MQTT and Apprise alike.

`DeliveryWorker` makes the attempts and writes the decision to the outbox.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from streamer.core.backoff import Backoff
from streamer.store import Delivery

from .channel import DeliveryFailed

_LONGEST_REQUESTED_S: Final = 3600.0
"""Longest delay that a receiver may request (Retry-After): it must not silence alarms for days."""

DELIVERY_BACKOFF: Final = Backoff(initial_s=2.0, max_delay_s=300.0, jitter=0.5)
"""Jitter of a half: many deliveries that failed together do not come back together."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How failed deliveries are tried again."""

    backoff: Backoff = DELIVERY_BACKOFF
    """Delays between the attempts."""

    give_up_after: timedelta = timedelta(days=7)
    """Sum of the delays after which a delivery becomes a dead letter.

    The sum, not the age: a machine that was switched off, or whose clock was wrong, has tried
    nothing in that time.
    """

    def next_delay(
        self,
        delivery: Delivery,
        failure: DeliveryFailed,
        *,
        rng: Callable[[], float] = random.random,
    ) -> timedelta | None:
        """Return the delay before the next attempt; `None` makes the delivery a dead letter.

        Args:
            delivery: The delivery, whose last attempt is counted already.
            failure: Why that attempt failed.
            rng: Returns a random number from 0 to 1, for the jitter.
        """
        if failure.permanent:
            return None
        delay_s = self.backoff.delay_s(delivery.attempts, rng=rng)
        if failure.retry_after_s is not None:
            delay_s = max(delay_s, min(failure.retry_after_s, _LONGEST_REQUESTED_S))
        delay = timedelta(seconds=delay_s)
        return None if delivery.backoff_total + delay > self.give_up_after else delay
