"""The delivery worker of one channel: each `step` makes one attempt and records its outcome.

It retries by `RetryPolicy`, checks from time to time whether the receiver can be reached, and sends
news of other channels. It has no thread and never waits: the dispatcher does both.
"""

import enum
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Final

import structlog

from streamer.alarm.event import Event
from streamer.core.backoff import Backoff, FailureCounter
from streamer.core.clock import Clock, SystemClock
from streamer.core.errors import StorageError
from streamer.store import Delivery, Outbox

from .channel import Channel, DeliveryFailed, Notification
from .channel_status import ChannelStatus
from .reachability import Change, Reachability
from .retry import RetryPolicy

_log = structlog.get_logger(__name__)

_NS: Final = 1_000_000_000

_REMEMBERED: Final = 1000
"""Acknowledged deliveries that a worker remembers, so that none of them is sent again when its
outcome could not be recorded. Arbitrary."""

_NEWS_BACKOFF: Final = Backoff(initial_s=10.0, max_delay_s=300.0, jitter=0.5)

OnConfirmed = Callable[[Event, str, datetime], None]
"""Called with the event, the name of the channel and the wall time of each confirmation."""

OnChange = Callable[[str, Change], None]
"""Called with the name of a channel that went down or came up."""


class Outcome(enum.Enum):
    """Outcome of a step."""

    IDLE = "idle"
    """Nothing is due."""

    CONFIRMED = "confirmed"
    FAILED = "failed"


class DeliveryWorker:
    """Delivers for one channel. Used by one thread; `status` may be read and `post` called by all.

    Args:
        channel: Sends the notifications.
        outbox: Holds the deliveries.
        retry: Decides whether and when a failed delivery is tried again.
        on_confirmed: Called after each confirmation is on disk.
        on_change: Called when the channel goes down or comes up.
        check_interval_s: Time between two checks of the receiver; `None` never checks.
        clock: Returns when something happened.
        rng: Returns a random number from 0 to 1, for the jitter.
    """

    def __init__(
        self,
        channel: Channel,
        outbox: Outbox,
        *,
        retry: RetryPolicy,
        on_confirmed: OnConfirmed,
        on_change: OnChange = lambda *_: None,
        check_interval_s: float | None = None,
        clock: Clock | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.channel = channel
        self._outbox = outbox
        self._retry = retry
        self._on_confirmed = on_confirmed
        self._on_change = on_change
        self._clock = clock or SystemClock()
        self._rng = rng
        self._unrecorded: list[Callable[[], Outcome]] = []
        self._acknowledged: OrderedDict[str, None] = OrderedDict()
        self._reachability = Reachability(check_interval_s)
        self._outage = False
        # News of other channels by channel, the newest only. Single operations on it are atomic.
        self._news: dict[str, Notification] = {}
        self._news_failures = FailureCounter(_NEWS_BACKOFF)
        self._next_news_ns = 0
        self.status = ChannelStatus(channel.name)
        self.checking = False
        """Whether a check of the receiver is under way."""

    def step(self, *, untried_only: bool = False) -> Outcome:
        """Make one attempt at the most urgent (untried) delivery, if one is due.

        Raises:
            StorageError: The outbox cannot be used. The next call records the outcomes that could
                not be recorded: an acknowledged delivery is not sent again.
        """
        unrecorded: StorageError | None = None
        try:
            settled = self.settle()
        except StorageError as error:  # What is only in memory can be delivered all the same.
            unrecorded, settled = error, None
        if settled is not None:
            return settled
        delivery = self._outbox.claim(self.channel.name, untried_only=untried_only)
        if delivery is None:
            if unrecorded is not None:
                raise unrecorded
            return Outcome.IDLE
        record: Callable[[], Outcome]
        if delivery.key in self._acknowledged:  # Its outcome got lost, or it waited in memory.
            record = partial(self._record_confirmation, delivery)
        else:
            record = self._attempt(delivery)
        self._unrecorded.append(record)
        return self._record(record)

    def settle(self) -> Outcome | None:
        """Record the outcomes that could not be recorded; return the last, or `None` without one.

        Raises:
            StorageError: Some of them still cannot be recorded.
        """
        outcome, failure = None, None
        for record in tuple(self._unrecorded):
            try:
                outcome = self._record(record)
            except StorageError as error:
                failure = error
        if failure is not None:
            raise failure
        return outcome

    def post(self, subject: str, news: Notification) -> None:
        """Send *news* of *subject* with the next `maintain`, instead of older news of it."""
        self._news[subject] = news

    def maintain(self) -> float:
        """Send news and check the receiver, if either is due; return seconds until something is."""
        now_ns = self._clock.monotonic_ns()
        if self._news and now_ns >= self._next_news_ns:
            self._send_news()
        elif self._reachability.check_due(now_ns):
            self._check()
        now_ns = self._clock.monotonic_ns()
        news_s = (self._next_news_ns - now_ns) / _NS if self._news else float("inf")
        return max(0.0, min(news_s, self._reachability.until_check_s(now_ns)))

    def block(self, reason: str | None) -> None:
        """Set why nothing is attempted at present; `None` if deliveries are attempted."""
        self._set(blocked=reason)

    def note_next(self, due: datetime | None) -> None:
        """Note when the next delivery is due; `None` if none waits."""
        if due is None:
            self._reachability.nothing_waits()
        self._set(next_attempt=due)

    def now(self) -> datetime:
        """Return the present wall time, aware UTC."""
        return self._clock.utc_at(self._clock.monotonic_ns())

    def _record(self, record: Callable[[], Outcome]) -> Outcome:
        try:
            outcome = record()
        except StorageError:
            raise  # It is kept, and recorded later.
        except Exception:
            self._unrecorded.remove(record)  # A bug must not hold this channel for ever.
            raise
        self._unrecorded.remove(record)
        return outcome

    def _attempt(self, delivery: Delivery) -> Callable[[], Outcome]:
        """Make one attempt and return a function that records its outcome."""
        self._set(sending=True, attempts=delivery.attempts)
        failure = self._try(lambda: self.channel.deliver(Notification.of(delivery)))
        self._set(sending=False)
        if failure is not None:
            if not failure.permanent:  # A receiver that refuses one message is there.
                self._note_failure(str(failure), delivery=True)
            return partial(self._record_failure, delivery, failure)
        self._acknowledged[delivery.key] = None
        if len(self._acknowledged) > _REMEMBERED:
            self._acknowledged.popitem(last=False)
        self._note_success(delivery=True)
        return partial(self._record_confirmation, delivery)

    def _try(self, call: Callable[[], object]) -> DeliveryFailed | None:
        try:
            call()
        except DeliveryFailed as error:
            return error
        except BaseException as error:  # noqa: BLE001  no fault of a channel may end delivery
            # The text of an unexpected error may hold a secret; its class does not.
            _log.debug("unexpected error", channel=self.channel.name, exc_info=True)
            return DeliveryFailed(f"unexpected {type(error).__name__} in the channel")
        return None

    def _bound_log(self, delivery: Delivery) -> Any:
        event_id, attempts = delivery.recorded.event.id, delivery.attempts
        return _log.bind(channel=self.channel.name, event_id=event_id, attempts=attempts)

    def _record_confirmation(self, delivery: Delivery) -> Outcome:
        when = self._outbox.confirm(delivery.number)
        self._set(last_error=None, confirmed=self.status.confirmed + 1, last_confirmed=when)
        event = delivery.recorded.event
        self._bound_log(delivery).info("delivered")
        try:
            self._on_confirmed(event, self.channel.name, when)
        except Exception:  # noqa: BLE001  it is confirmed, whatever became of the news
            _log.exception("confirmation not passed on", channel=self.channel.name, id=event.id)
        if self._outage:
            self._outage = False
            self._outbox.expedite(self.channel.name)
        return Outcome.CONFIRMED

    def _record_failure(self, delivery: Delivery, failure: DeliveryFailed) -> Outcome:
        message = str(failure)
        delay = self._retry.next_delay(delivery, failure, rng=self._rng)
        log = self._bound_log(delivery)
        if delay is None:
            self._outbox.dead_letter(delivery.number, error=message)
            log.error(
                "delivery given up: `streamer deliveries pending` shows the dead letter",
                error=message,
            )
        else:
            self._outbox.reschedule(delivery.number, after=delay, error=message)
            # A receiver that is gone for days gives one line, not one for each attempt.
            write = log.debug if message == self.status.last_error else log.warning
            write("delivery failed", retry_in_s=round(delay.total_seconds(), 1), error=message)
        # After an outage the first success makes waiting deliveries due at once, unless the
        # receiver requested a delay.
        self._outage = failure.retry_after_s is None and not failure.permanent
        failed = self.status.failed + 1
        self._set(last_error=message, last_error_at=self.now(), failed=failed)
        return Outcome.FAILED

    def _send_news(self) -> None:
        subject, news = next(iter(self._news.items()))
        failure = self._try(lambda: self.channel.deliver(news))
        now_ns = self._clock.monotonic_ns()
        if failure is not None and not failure.permanent:
            self._next_news_ns = now_ns + round(self._news_failures.delay_s() * _NS)
            self._note_failure(str(failure), delivery=False)
            return
        if self._news.get(subject) is news:  # Newer news may have come meanwhile.
            del self._news[subject]
        self._news_failures.note_success(float("inf"))
        self._next_news_ns = now_ns
        if failure is None:
            self._note_success(delivery=True)

    def _check(self) -> None:
        reached = False

        def check() -> None:
            nonlocal reached
            reached = self.channel.check()

        self.checking = True
        failure = self._try(check)
        self.checking = False
        if failure is None:
            self._note_success(delivery=False, reached=reached)
        else:
            self._note_failure(str(failure), delivery=False)

    def _note_success(self, *, delivery: bool, reached: bool = True) -> None:
        now_ns = self._clock.monotonic_ns()
        note = self._reachability.delivered if delivery else self._reachability.checked
        change = note(now_ns)
        if reached:
            self._set(checked=self._clock.utc_at(now_ns))
        self._show(change)

    def _note_failure(self, reason: str, *, delivery: bool) -> None:
        now_ns = self._clock.monotonic_ns()
        self._show(self._reachability.failed(now_ns, reason, delivery=delivery))

    def _show(self, change: Change | None) -> None:
        """Bring the status up to date, and log and pass on a change."""
        found = self._reachability
        since = None
        if found.down and found.since_ns is not None:
            since = self._clock.utc_at(found.since_ns)
        if since is None or self.status.down_since is None:
            self._set(down_since=since)
        self._set(down_reason=found.reason if since is not None else "")
        if change is None:
            return
        if change.down:
            _log.error("channel is down", channel=self.channel.name, error=change.reason)
        else:
            _log.info("channel is up again", channel=self.channel.name)
        self._on_change(self.channel.name, change)

    def _set(self, **changes: Any) -> None:
        status = replace(self.status, **changes)
        if status.state is not self.status.state or status.since is None:
            status = replace(status, since=self.now())
        self.status = status
