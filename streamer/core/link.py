"""Bounded queue between two threads.

A link is the only place where a frame waits, so the links alone bound the latency and the memory of
a pipeline. `LatestValue` is a slot for viewers that need only the newest item.
"""

import enum
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from .clock import Clock, SystemClock
from .errors import Cancelled, ConsumerClosed
from .latency import NO_LATENCIES, LatencyCounts, LatencyHistogram, LatencyQuantiles


class HasArrivalTime(Protocol):
    """An item whose age can be measured."""

    @property
    def arrived_ns(self) -> int:
        """Monotonic time of arrival, by `Clock.arrival_of`."""
        ...


T = TypeVar("T")
TimedT = TypeVar("TimedT", bound=HasArrivalTime)


class Gate(Protocol[TimedT]):
    """Decides when the oldest item of a link is delivered, e.g. once an engine is free for it.

    A gate outlives its links. Its methods are called with `lock` held; it calls the function that
    `attach` gave it with `lock` held too.
    """

    @property
    def lock(self) -> threading.Lock:
        """Guards the gate and the links behind it. Several gates may share one."""
        ...

    def attach(self, wake: Callable[[], None]) -> None:
        """Begin with a new link. *wake* lets its receiver call `admit` again."""
        ...

    def arrived(self, item: TimedT) -> None:
        """Note an item that was put into the link."""
        ...

    def admit(self, item: TimedT, *, newer: bool, closing: bool) -> TimedT | None:
        """Return what to deliver instead of *item*, usually itself; `None` lets it wait.

        Args:
            item: The oldest of the link.
            newer: Whether others wait behind it. Then it must not wait.
            closing: Whether no further items will come.
        """
        ...

    def patience_s(self) -> float | None:
        """Return after how long `admit` must decide again about an item that waits."""
        ...

    def dropped(self, item: TimedT) -> None:
        """Note an item that a newer one pushed out of the full link."""
        ...

    def discarded(self, item: TimedT) -> None:
        """Note an item that still waited at the end."""
        ...

    def closed(self) -> None:
        """Note that the link delivers no more items. May be repeated."""
        ...


class Overflow(enum.Enum):
    """What happens to the next item when a link is full."""

    BLOCK = "block"
    """The sender waits. For files: nothing is lost, and the slowest part sets the speed."""

    DROP_OLDEST = "drop-oldest"
    """The oldest item is dropped. For live frames: the newest is worth the most."""


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    """Counts since the link was made: received = delivered + dropped + discarded + depth."""

    name: str
    depth: int
    received: int
    delivered: int
    dropped_full: int
    """Dropped because the link was full."""

    dropped_late: int
    """Dropped because they were older than the age limit when their turn came."""

    discarded: int
    """Still waiting when the receiver left or the pipeline stopped."""

    age: LatencyQuantiles
    """Age of the delivered items at their delivery."""

    ages: LatencyCounts = NO_LATENCIES
    """The same ages by bucket."""


class Link(Generic[TimedT]):
    """A bounded queue between one sending and one receiving thread.

    The receiver iterates over the link. The iteration ends after `close`, once the link is empty.

    Args:
        name: For thread names, logs and statistics, e.g. `"north/detect"`.
        capacity: Maximum number of waiting items, at least 1.
        overflow: What happens to the next item when the link is full.
        max_age_ns: Items older than this when their turn comes are dropped.
        expendable: Whether a full link drops an item before others. `None` treats all alike.
        ageless: Whether the age limit does not apply to an item, e.g. because it carries a result
            that was paid for. `None` applies it to all.
        gate: Delays the delivery of items; see `Gate`. `None` delivers each as soon as possible.
        clock: Measures ages.
    """

    def __init__(
        self,
        name: str,
        *,
        capacity: int,
        overflow: Overflow,
        max_age_ns: int | None = None,
        expendable: Callable[[TimedT], bool] | None = None,
        ageless: Callable[[TimedT], bool] | None = None,
        gate: Gate[TimedT] | None = None,
        clock: Clock | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"link {name!r}: capacity must be at least 1, got {capacity}")
        if max_age_ns is not None and max_age_ns <= 0:
            raise ValueError(f"link {name!r}: max_age_ns must be positive, got {max_age_ns}")
        self.name = name
        self._capacity = capacity
        self._overflow = overflow
        self._max_age_ns = max_age_ns
        self._expendable = expendable
        self._ageless = ageless
        self._gate = gate
        self._clock = clock or SystemClock()
        self._lock = threading.Lock() if gate is None else gate.lock
        self._arrived = threading.Condition(self._lock)  # The receiver waits on this one,
        self._drained = threading.Condition(self._lock)  # the sender on this one.
        # All below are guarded by _lock.
        self._items: deque[TimedT] = deque()
        self._closed = False
        self._aborted = False
        self._left = False
        self._received = self._delivered = 0
        self._dropped_full = self._dropped_late = self._discarded = 0
        self._ages = LatencyHistogram()
        if gate is not None:
            with self._lock:
                gate.attach(self._arrived.notify)

    def put(self, item: TimedT) -> None:
        """Append *item*; waits only if the link is full and its overflow policy is `BLOCK`.

        Raises:
            ConsumerClosed: The receiver takes no more items.
            Cancelled: The pipeline is stopping.
        """
        with self._lock:
            if self._overflow is Overflow.BLOCK and not self._has_room():
                self._drained.wait_for(self._has_room)
            if self._aborted:
                raise Cancelled
            if self._left:
                raise ConsumerClosed
            if self._closed:
                raise RuntimeError(f"link {self.name!r}: put after close")
            self._received += 1
            self._items.append(item)
            if self._gate is not None:
                self._gate.arrived(item)
            if len(self._items) > self._capacity:
                self._drop_one()
            self._arrived.notify()

    def _drop_one(self) -> None:
        """Drop the oldest expendable item, the new one included, or else the oldest of all."""
        index = 0
        if self._expendable is not None:
            index = next((n for n, item in enumerate(self._items) if self._expendable(item)), 0)
        if self._gate is not None:
            self._gate.dropped(self._items[index])
        del self._items[index]
        self._dropped_full += 1

    def _has_room(self) -> bool:
        return self._aborted or self._left or len(self._items) < self._capacity

    def __iter__(self) -> Iterator[TimedT]:
        """Receive until the sender closes the link.

        Raises:
            Cancelled: The pipeline is stopping.
        """
        while (item := self._get()) is not None:
            yield item

    def _get(self) -> TimedT | None:
        with self._lock:
            while True:
                if not self._can_return():
                    self._arrived.wait_for(self._can_return)
                if self._aborted:
                    raise Cancelled
                if not self._items:
                    return None
                item = self._items[0]
                if self._gate is not None:
                    newer = len(self._items) > 1
                    admitted = self._gate.admit(item, newer=newer, closing=self._closed)
                    if admitted is None:
                        self._arrived.wait(self._gate.patience_s())
                        continue
                    item = admitted
                self._items.popleft()
                # A waiting sender wakes when the link is half empty: each wake-up switches threads,
                # and one for several items costs less than one for each.
                if len(self._items) <= self._capacity // 2:
                    self._drained.notify()
                age_ns = self._clock.monotonic_ns() - item.arrived_ns
                if self._is_too_old(item, age_ns):
                    self._dropped_late += 1
                    continue
                self._delivered += 1
                self._ages.add(age_ns)
                return item

    def _is_too_old(self, item: TimedT, age_ns: int) -> bool:
        if self._max_age_ns is None or age_ns <= self._max_age_ns:
            return False
        return self._ageless is None or not self._ageless(item)

    def _can_return(self) -> bool:
        return self._aborted or self._closed or bool(self._items)

    def close(self) -> None:
        """End the link from the sender's side. Waiting items are still delivered."""
        with self._lock:
            self._closed = True
            self._wake_both()

    def leave(self) -> None:
        """End the link from the receiver's side. Waiting items are discarded."""
        with self._lock:
            self._left = True
            self._discard()

    def abort(self) -> None:
        """Discard all items and raise `Cancelled` at both ends. May be repeated."""
        with self._lock:
            self._aborted = True
            self._discard()

    def _discard(self) -> None:
        self._discarded += len(self._items)
        # The gate may belong to the next link by the time of a second call.
        gate, self._gate = self._gate, None
        if gate is not None:
            for item in self._items:
                gate.discarded(item)
            gate.closed()
        self._items.clear()
        self._wake_both()

    def _wake_both(self) -> None:
        self._arrived.notify_all()
        self._drained.notify_all()

    def statistics(self) -> LinkStatistics:
        """Return a consistent snapshot; from any thread."""
        with self._lock:
            return LinkStatistics(
                name=self.name,
                depth=len(self._items),
                received=self._received,
                delivered=self._delivered,
                dropped_full=self._dropped_full,
                dropped_late=self._dropped_late,
                discarded=self._discarded,
                age=self._ages.quantiles(),
                ages=self._ages.counts(),
            )


class LatestValue(Generic[T]):
    """A slot with the newest item for any number of viewers. Setting it never waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        # All below are guarded by _changed.
        self._item: T | None = None
        self._version = 0
        self._closed = False

    def set(self, item: T) -> None:
        """Replace the item."""
        with self._changed:
            self._item = item
            self._version += 1
            self._changed.notify_all()

    def close(self) -> None:
        """End the slot and wake all waiting viewers."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        with self._changed:
            return self._closed

    def wait(self, newer_than: int, timeout_s: float) -> tuple[int, T] | None:
        """Wait for an item newer than version *newer_than*; return it with its version.

        Returns `None` after *timeout_s*, or when the slot was closed. Versions start at 1, so
        `newer_than=0` accepts any item.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._version > newer_than, timeout_s)
            if self._version <= newer_than or self._item is None:
                return None
            return self._version, self._item
