"""Events that the disk did not take, with their deliveries: only this process knows them so far.

They are delivered from here, and stored as soon as that is possible. Newly stored ones are
remembered too, until the disk has given their deliveries back: it may begin to hang in between.
Deliveries have negative numbers, so that they are never taken for stored ones.
"""

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from streamer.alarm.event import Event

from .records import Backlog, Delivery, DeliveryState, EvidenceState, RecordedEvent

_MOST_RECENT: Final = 1000
"""Stored events that are remembered until the disk has given their deliveries back. Arbitrary."""

_OPEN: Final = (DeliveryState.WAITING, DeliveryState.SENDING)


@dataclass(slots=True)
class _Delivery:
    number: int
    channel: str
    due: datetime
    changed: datetime
    state: DeliveryState = DeliveryState.WAITING
    attempts: int = 0
    backoff_total: timedelta = timedelta(0)
    error: str | None = None


@dataclass(slots=True, eq=False)
class UnstoredEvent:
    """One event. Guarded by the lock of its `EventMemory`."""

    event: Event
    evidence: Path | None
    image: Path | None
    evidence_state: EvidenceState
    added: datetime
    deliveries: dict[str, _Delivery]
    evidence_reason: str = ""

    deliverable: bool = False
    """Whether it is delivered from here: it could not be stored in time."""

    stored: bool = False

    refused: bool = False
    """Whether the store refuses it for good, for what is in it: it stays in memory."""

    def recorded(self) -> RecordedEvent:
        """Return it as the store would, but not `stored`."""
        return RecordedEvent(
            number=0,
            event=self.event,
            evidence=self.evidence,
            image=self.image,
            added=self.added,
            evidence_state=self.evidence_state,
            evidence_reason=self.evidence_reason,
            stored=False,
        )


@dataclass(slots=True)
class EventMemory:
    """All of them. For any thread.

    Args:
        now: Returns the wall time, aware UTC.
    """

    now: Callable[[], datetime]
    _guard: threading.RLock = field(default_factory=threading.RLock)
    # All below are guarded by _guard.
    _entries: dict[str, UnstoredEvent] = field(default_factory=dict)
    # Stored, but their deliveries have not come back from the disk: it may begin to hang meanwhile.
    _recent: dict[str, UnstoredEvent] = field(default_factory=dict)
    _by_number: dict[int, tuple[UnstoredEvent, _Delivery]] = field(default_factory=dict)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def add(
        self,
        event: Event,
        *,
        evidence: Path | None,
        image: Path | None,
        evidence_state: EvidenceState,
        channels: Sequence[str],
        image_wait: timedelta,
    ) -> UnstoredEvent:
        """Add an event that is to be stored."""
        now = self.now()
        with self._guard:
            deliveries = {
                name: _Delivery(-next(self._numbers), name, due=now + image_wait, changed=now)
                for name in channels
            }
            entry = UnstoredEvent(event, evidence, image, evidence_state, now, deliveries)
            self._entries[event.id] = entry
            self._by_number |= {one.number: (entry, one) for one in deliveries.values()}
            return entry

    def unstored(self) -> list[UnstoredEvent]:
        """Return what is not stored, oldest first."""
        with self._guard:
            return list(self._entries.values())

    def find(self, event_id: str) -> UnstoredEvent | None:
        """Return an event that is not stored."""
        with self._guard:
            return self._entries.get(event_id)

    def states(self, entry: UnstoredEvent) -> dict[str, DeliveryState]:
        """Return the present state of each delivery."""
        with self._guard:
            return {name: one.state for name, one in entry.deliveries.items()}

    def mark_stored(
        self, entry: UnstoredEvent, as_stored: Mapping[str, DeliveryState]
    ) -> list[str]:
        """Note that the event is on disk with these states of its deliveries.

        Returns:
            The channels that have confirmed it in the meantime.
        """
        with self._guard:
            entry.stored = True
            self._entries.pop(entry.event.id, None)
            confirmed = []
            for name, one in entry.deliveries.items():
                if one.state not in _OPEN:
                    self._by_number.pop(one.number, None)
                if one.state is DeliveryState.CONFIRMED and as_stored[name] is not one.state:
                    confirmed.append(name)
            if any(one.state is DeliveryState.WAITING for one in entry.deliveries.values()):
                self._recent[entry.event.id] = entry
                if len(self._recent) > _MOST_RECENT:
                    oldest = next(iter(self._recent))
                    for name in tuple(self._recent[oldest].deliveries):
                        self._drop(self._recent[oldest], name)
            return confirmed

    def set_evidence(
        self, event_id: str, state: EvidenceState, *, reason: str, image: Path | None
    ) -> bool:
        """Note what came of the evidence; return whether the event is in memory."""
        with self._guard:
            entry = self._entries.get(event_id)
            if entry is None:
                return False
            entry.evidence_state, entry.evidence_reason = state, reason
            entry.image = image or entry.image
            now = self.now()
            for one in entry.deliveries.values():
                if not one.attempts:
                    one.due = min(one.due, now)
            return True

    # Deliveries.

    def claim(
        self,
        channel: str,
        *,
        untried_only: bool,
        in_alarm: Callable[[str], bool],
        recent: bool = False,
    ) -> Delivery | None:
        """Begin an attempt at the oldest delivery that is due, as `Outbox.claim` does.

        Args:
            channel: Whose deliveries.
            untried_only: Only deliveries that were never tried.
            in_alarm: Whether any alarm of a camera is open.
            recent: Of events that were stored and that the disk does not give back.
        """
        with self._guard:
            now = self.now()
            for entry, one in self._heads(self._recent if recent else self._entries, channel):
                if (one.due <= now or one.changed > now) and not (untried_only and one.attempts):
                    one.state, one.changed = DeliveryState.SENDING, now
                    one.attempts += 1
                    return self._delivery(entry, one, in_alarm=in_alarm(entry.event.camera))
            return None

    def settle(
        self,
        number: int,
        state: DeliveryState,
        *,
        after: timedelta = timedelta(0),
        error: str | None = None,
    ) -> RecordedEvent | None:
        """Record the outcome of an attempt.

        Returns:
            The event if it was stored in the meantime: then the store needs the outcome too.
        """
        with self._guard:
            found = self._by_number.get(number)
            if found is None:
                return None
            entry, one = found
            if entry.stored and one.state is not DeliveryState.SENDING:
                return entry.recorded()  # It is noted here already.
            one.state, one.error, one.changed = state, error, self.now()
            one.due, one.backoff_total = one.changed + after, one.backoff_total + after
            return entry.recorded() if entry.stored else None

    def channel_of(self, number: int) -> str | None:
        """Return the channel of a delivery that is not settled."""
        with self._guard:
            found = self._by_number.get(number)
            return None if found is None else found[1].channel

    def forget(self, number: int) -> None:
        """Forget a delivery whose outcome the store has."""
        with self._guard:
            if number in self._by_number:
                entry, one = self._by_number[number]
                self._drop(entry, one.channel)

    def given_back(self, event_id: str, channel: str) -> None:
        """Forget a delivery of a stored event that the disk has given back."""
        with self._guard:
            if (entry := self._recent.get(event_id)) is not None:
                self._drop(entry, channel)

    def next_due(self, channel: str) -> timedelta | None:
        """Return the time until something may be claimed."""
        with self._guard:
            dues = [one.due for _, one in self._heads(self._entries, channel)]
            return min(dues) - self.now() if dues else None

    def expedite(self, channel: str) -> None:
        """Make everything that waits on *channel* due now."""
        with self._guard:
            now = self.now()
            for entry in self._entries.values():
                if (one := entry.deliveries.get(channel)) is not None and entry.deliverable:
                    one.due = min(one.due, now)

    def backlog(self) -> dict[str, Backlog]:
        """Return what is not confirmed, by channel."""
        with self._guard:
            found: dict[str, Backlog] = {}
            for entry in self._entries.values():
                for name, one in entry.deliveries.items():
                    if one.state is DeliveryState.CONFIRMED:
                        continue
                    dead = one.state is DeliveryState.DEAD
                    oldest = None if dead else entry.added
                    more = Backlog(waiting=int(not dead), dead=int(dead), oldest=oldest)
                    found[name] = add_backlogs(found.get(name), more)
            return found

    def _drop(self, entry: UnstoredEvent, channel: str) -> None:
        one = entry.deliveries.pop(channel, None)
        if one is not None:
            self._by_number.pop(one.number, None)
        if not entry.deliveries:
            self._recent.pop(entry.event.id, None)

    def _heads(
        self, entries: Mapping[str, UnstoredEvent], channel: str
    ) -> Iterator[tuple[UnstoredEvent, _Delivery]]:
        """Yield the first open delivery of each alarm if it waits: an alarm's events keep order."""
        begun = set()
        for entry in entries.values():
            one = entry.deliveries.get(channel)
            if one is None or not (entry.deliverable or entry.stored) or one.state not in _OPEN:
                continue
            if one.state is DeliveryState.WAITING and entry.event.alarm_id not in begun:
                yield entry, one
            begun.add(entry.event.alarm_id)

    def _delivery(self, entry: UnstoredEvent, one: _Delivery, *, in_alarm: bool) -> Delivery:
        later = itertools.dropwhile(lambda other: other is not entry, self._entries.values())
        superseded = any(
            other.event.camera == entry.event.camera
            and one.channel in other.deliveries
            and other.deliveries[one.channel].state is DeliveryState.CONFIRMED
            for other in later
        )
        return Delivery(
            number=one.number,
            channel=one.channel,
            recorded=replace(entry.recorded(), stored=entry.stored),
            state=one.state,
            attempts=one.attempts,
            backoff_total=one.backoff_total,
            due=one.due,
            changed=one.changed,
            error=one.error,
            superseded=superseded,
            camera_in_alarm=in_alarm,
        )


def add_backlogs(one: Backlog | None, other: Backlog) -> Backlog:
    """Return the sum of two backlogs of a channel."""
    if one is None:
        return other
    times = [each for each in (one.oldest, other.oldest) if each is not None]
    return Backlog(
        waiting=one.waiting + other.waiting,
        dead=one.dead + other.dead,
        oldest=min(times, default=None),
    )
