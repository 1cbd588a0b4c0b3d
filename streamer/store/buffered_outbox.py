"""The outbox of a buffered store: deliveries from memory and from the disk as one.

What waits in memory is delivered even while the disk hangs, and without the lock of the channel if
that cannot be made.
"""
# ruff: noqa: D102  the methods are described by the protocol

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from streamer.core.errors import StorageError

from .memory import EventMemory, add_backlogs
from .protocols import DeliveryLock, EventStore, Outbox
from .records import Backlog, Delivery, DeliveryState

Value = TypeVar("Value")


class DurableStore(EventStore, Protocol):
    """A store on a disk, as it is wrapped."""

    def check(self) -> str:
        """Write to the disk; return what will prevent that soon, or an empty string.

        Raises:
            StorageError: It cannot be written.
        """
        ...

    def close(self) -> None:
        """Close it."""
        ...


class StoreCalls(Protocol):
    """Uses a store that may hang."""

    def call(self, work: Callable[[DurableStore], Value]) -> Value:
        """Make a call and return its value.

        Raises:
            StorageError: The store cannot be used, or not in time.
        """
        ...

    def is_in_alarm(self, camera: str) -> bool:
        """Whether an alarm of this camera is open. Never waits."""
        ...


class BufferedOutbox:
    """Implements `Outbox`: first the deliveries of events in memory, then the stored ones.

    Args:
        events: Makes the calls to the store on the disk.
        memory: Holds the events that are not stored.
    """

    def __init__(self, events: StoreCalls, memory: EventMemory) -> None:
        self._events = events
        self._memory = memory
        self._listeners: list[Callable[[], None]] = []
        # By channel; each entry is used by the thread of that channel only.
        self._locks: dict[str, _Lock] = {}
        self._interrupted: set[str] = set()

    def subscribe(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def unsubscribe(self, listener: Callable[[], None]) -> None:
        self._listeners.remove(listener)

    def announce(self) -> None:
        """Call the listeners: something may be due."""
        for listener in tuple(self._listeners):
            listener()

    def lock(self, channel: str) -> DeliveryLock:
        self._locks[channel] = lock = _Lock(self._events, channel)
        return lock

    def recover(self, channel: str) -> int:
        if not self._may_claim(channel):
            return 0  # It is done once the lock is held.
        try:
            return self._call(lambda outbox: outbox.recover(channel))
        except StorageError:
            self._interrupted.add(channel)  # Done later: what is in memory is delivered now.
            return 0

    def claim(self, channel: str, *, untried_only: bool = False) -> Delivery | None:
        in_alarm = self._events.is_in_alarm
        interrupted = channel in self._interrupted  # A claim may have taken effect late.
        if interrupted:  # What was stored before the disk failed comes first.
            found = self._memory.claim(
                channel, untried_only=untried_only, in_alarm=in_alarm, recent=True
            )
            if found is not None:
                return found
        found = self._memory.claim(channel, untried_only=untried_only, in_alarm=in_alarm)
        if found is not None:
            return found
        if not self._may_claim(channel):
            return None
        self._interrupted.add(channel)  # Until this claim has returned.
        try:
            if interrupted:
                self._call(lambda outbox: outbox.recover(channel))
            found = self._call(lambda outbox: outbox.claim(channel, untried_only=untried_only))
        except StorageError:
            found = self._memory.claim(
                channel, untried_only=untried_only, in_alarm=in_alarm, recent=True
            )
            if found is None:
                raise
            return found
        self._interrupted.discard(channel)
        if found is None:
            return None
        event = found.recorded.event
        self._memory.given_back(event.id, channel)
        # The store does not know what is only in memory.
        return replace(found, camera_in_alarm=in_alarm(event.camera))

    def confirm(self, number: int) -> datetime:
        if number > 0:
            return self._call(lambda outbox: outbox.confirm(number))
        self._settle(number, DeliveryState.CONFIRMED, lambda outbox, n: outbox.confirm(n))
        return self._memory.now()

    def reschedule(self, number: int, *, after: timedelta, error: str) -> None:
        def settle(outbox: Outbox, stored: int) -> None:
            outbox.reschedule(stored, after=after, error=error)

        if number > 0:
            self._call(lambda outbox: settle(outbox, number))
        else:
            self._settle(number, DeliveryState.WAITING, settle, after=after, error=error)

    def dead_letter(self, number: int, *, error: str) -> None:
        def settle(outbox: Outbox, stored: int) -> None:
            outbox.dead_letter(stored, error=error)

        if number > 0:
            self._call(lambda outbox: settle(outbox, number))
        else:
            self._settle(number, DeliveryState.DEAD, settle, error=error)

    def expedite(self, channel: str) -> None:
        self._memory.expedite(channel)
        self._call(lambda outbox: outbox.expedite(channel))

    def next_due(self, channel: str) -> timedelta | None:
        soon = self._memory.next_due(channel)
        if (soon is not None and soon <= timedelta(0)) or not self._may_claim(channel):
            return soon
        stored = self._call(lambda outbox: outbox.next_due(channel))
        return min((each for each in (soon, stored) if each is not None), default=None)

    def pending(self, *, channel: str | None = None) -> list[Delivery]:
        return self._call(lambda outbox: outbox.pending(channel=channel))

    def of_event(self, event_id: str) -> list[Delivery]:
        return self._call(lambda outbox: outbox.of_event(event_id))

    def backlog(self) -> dict[str, Backlog]:
        found = self._call(lambda outbox: outbox.backlog())
        for name, more in self._memory.backlog().items():
            found[name] = add_backlogs(found.get(name), more)
        return found

    def retry(self, numbers: Collection[int] | None = None) -> int:
        return self._call(lambda outbox: outbox.retry(numbers))

    def give_up(self, numbers: Collection[int]) -> int:
        return self._call(lambda outbox: outbox.give_up(numbers))

    def _settle(
        self,
        number: int,
        state: DeliveryState,
        settle: Callable[[Outbox, int], object],
        *,
        after: timedelta = timedelta(0),
        error: str | None = None,
    ) -> None:
        """Record the outcome of a delivery from memory, in the store if that has it by now."""
        channel = self._memory.channel_of(number)
        recorded = self._memory.settle(number, state, after=after, error=error)
        if recorded is None or channel is None:
            return

        def record(store: DurableStore) -> None:
            stored = stored_number(store, recorded.event.id, channel)
            if stored is not None:
                settle(store.outbox, stored)

        self._events.call(record)
        self._memory.forget(number)

    def _may_claim(self, channel: str) -> bool:
        """Whether stored deliveries are this process's; the lock is tried again if it is not."""
        lock = self._locks.get(channel)
        return lock is None or lock.held or (lock.acquire() and lock.held)

    def _call(self, work: Callable[[Outbox], Value]) -> Value:
        return self._events.call(lambda store: work(store.outbox))


class _Lock:
    """The lock of a channel. Where it cannot be made, deliveries from memory go on without it."""

    def __init__(self, events: StoreCalls, channel: str) -> None:
        self._events = events
        self._channel = channel
        self._lock: DeliveryLock | None = None
        self.held = False

    def acquire(self) -> bool:
        def acquire(store: DurableStore) -> bool:
            self._lock = self._lock or store.outbox.lock(self._channel)
            if not self._lock.acquire():
                return False
            if not self.held:
                store.outbox.recover(self._channel)
            return True

        try:
            self.held = self._events.call(acquire)
        except StorageError:
            return True
        return self.held

    def release(self) -> None:
        self.held = False
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()


def stored_number(store: EventStore, event_id: str, channel: str) -> int | None:
    """Return the number of a stored delivery."""
    found = (one.number for one in store.outbox.of_event(event_id) if one.channel == channel)
    return next(found, None)
