"""What the program needs of a store. All methods may be called from any thread.

    waiting -> sending -> confirmed
       ^          |
       |          +--> waiting    failed, tried again later
       |          +--> dead       failed for good: a dead letter, kept for a person
       +------------- dead        a person brings it back
    waiting, dead -> given up     a person gives up on it

`sending` is on disk before the attempt begins. Only the process that holds the channel's lock makes
such rows. So whatever it finds as `sending` when it acquires the lock was interrupted by the end of
an earlier process, and is tried again.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from streamer.alarm.event import Event, EventKind
from streamer.core.errors import StorageError

from .records import Backlog, Delivery, DeliveryState, EvidenceState, RecordedEvent
from .retention import EventRetention


class EventRefused(StorageError):  # noqa: N818  states a fact
    """This event can never be stored, for what is in it; others can."""


class DeliveryLock(Protocol):
    """The right to deliver for one channel, held by one process at a time."""

    def acquire(self) -> bool:
        """Acquire the lock if nobody holds it; never wait. Return whether it is held now.

        Raises:
            StorageError: The lock cannot be made.
        """
        ...

    def release(self) -> None:
        """Release the lock, if it is held. The end of the process releases it too."""
        ...


class Outbox(Protocol):
    """The deliveries: which event is still to be sent to which channel.

    Raises:
        StorageError: From any method. Nothing was changed.
    """

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call *listener* whenever this process adds or brings back a delivery."""
        ...

    def unsubscribe(self, listener: Callable[[], None]) -> None:
        """Stop calling *listener*."""
        ...

    # For the delivering process.

    def lock(self, channel: str) -> DeliveryLock:
        """Return the lock of *channel*; hold it around `claim` and what follows."""
        ...

    def recover(self, channel: str) -> int:
        """Make due what an earlier process left as `sending`; return how many. Needs the lock."""
        ...

    def claim(self, channel: str, *, untried_only: bool = False) -> Delivery | None:
        """Begin an attempt at the most urgent delivery that is due. Needs the lock.

        The events of an alarm keep their order; among alarms, untried deliveries come first.

        Args:
            channel: Whose deliveries.
            untried_only: Only deliveries that were never tried.
        """
        ...

    # The three outcomes below may be recorded late: after `recover`, or after a person decided.
    # A confirmation then holds all the same, because the receiver has the event; the two others
    # change only a delivery that is being sent or waits.

    def confirm(self, number: int) -> datetime:
        """Record that the receiver acknowledged the delivery; return when, aware UTC."""
        ...

    def reschedule(self, number: int, *, after: timedelta, error: str) -> None:
        """Record that the attempt failed, and that the next is due *after* a delay."""
        ...

    def dead_letter(self, number: int, *, error: str) -> None:
        """Make the delivery a dead letter: kept, and not tried until a person brings it back."""
        ...

    def expedite(self, channel: str) -> None:
        """Make everything that waits on *channel* due now: its receiver is back."""
        ...

    def next_due(self, channel: str) -> timedelta | None:
        """Return the time until something can be claimed; zero or less is now, `None` never."""
        ...

    # For people.

    def pending(self, *, channel: str | None = None) -> list[Delivery]:
        """Return all that is neither confirmed nor given up, oldest first, dead letters too."""
        ...

    def of_event(self, event_id: str) -> list[Delivery]:
        """Return all deliveries of an event, whatever their state."""
        ...

    def backlog(self) -> dict[str, Backlog]:
        """Return the backlog of each channel that has one."""
        ...

    def retry(self, numbers: Collection[int] | None = None) -> int:
        """Bring dead letters back, as if new, and make waiting deliveries due now.

        Args:
            numbers: Which deliveries; `None` for all dead letters.

        Returns:
            How many are due now.
        """
        ...

    def give_up(self, numbers: Collection[int]) -> int:
        """End deliveries for good, but none that is being sent; return how many were ended."""
        ...


class EventStore(Protocol):
    """All events, and one delivery per event and channel.

    Raises:
        StorageError: From any method; the message says in one line what to do.
    """

    @property
    def outbox(self) -> Outbox:
        """The deliveries of the stored events."""
        ...

    @property
    def retention(self) -> EventRetention:
        """What may be deleted, legal holds, and the deletion itself."""
        ...

    def add(
        self,
        event: Event,
        *,
        evidence: Path | None = None,
        image: Path | None = None,
        evidence_state: EvidenceState = EvidenceState.NONE,
        channels: Sequence[str] = (),
        image_wait: timedelta = timedelta(0),
        states: Mapping[str, DeliveryState] | None = None,
    ) -> bool:
        """Store *event* and one delivery per channel; both are on disk when this returns.

        Args:
            event: The event.
            evidence: Folder of the alarm's evidence.
            image: File that is sent by channels that send images.
            evidence_state: Whether evidence will follow; then `set_evidence` says what came of it.
            channels: Names of the channels that are to be notified.
            image_wait: Delay of the first attempt, unless the image is set before.
            states: State of deliveries that were attempted before the event could be stored.

        Returns:
            False if this event was stored before; then nothing is changed.

        Raises:
            EventRefused: Another event has the same id, or a value cannot be stored.
            StorageError: It is not on disk.
        """
        ...

    def events(
        self,
        *,
        camera: str | None = None,
        kind: EventKind | None = None,
        since: datetime | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[RecordedEvent]:
        """Yield events in the order of recording.

        Args:
            camera: Only events of this camera.
            kind: Only events of this kind.
            since: Only events of this wall time or later, aware.
            limit: At most this many.
            newest_first: Reverse the order.
        """
        ...

    def event(self, event_id: str) -> RecordedEvent | None:
        """Return the event with this id, or `None`."""
        ...

    def set_evidence(
        self, event_id: str, state: EvidenceState, *, reason: str = "", image: Path | None = None
    ) -> None:
        """Record what came of the evidence of an event.

        Args:
            event_id: The event.
            state: Of all its evidence, the clip included.
            reason: What is missing and why.
            image: File that notifications carry; deliveries that waited for it become due.
        """
        ...

    def pending_evidence(self, *, camera: str) -> list[RecordedEvent]:
        """Return the events whose evidence is still `PENDING`, oldest first.

        After a restart it was lost with the program that was to write it.
        """
        ...

    def open_alarms(self) -> list[RecordedEvent]:
        """Return the newest event of each alarm that was never cleared.

        After a restart these are the alarms that a killed program left behind.
        """
        ...
