"""Bounded hand-over between two threads.

A link is the only place where a frame waits, so the latency and the memory of
a pipeline are bounded by its links alone. `LatestValue` is the slot for viewers who want the
newest item and nothing else.
"""

import enum
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from .clock import Clock, SystemClock
from .errors import Cancelled, ConsumerClosed
from .latency import LatencyHistogram, LatencyQuantiles


class HasArrivalTime(Protocol):
    """Anything that knows when it came."""

    @property
    def arrived_ns(self) -> int:
        """By `Clock.monotonic_ns`."""
        ...


T = TypeVar("T")
TimedT = TypeVar("TimedT", bound=HasArrivalTime)


class Overflow(enum.Enum):
    """What a full link does with the next item."""

    BLOCK = "block"
    """The sender waits. For files: nothing is lost, the source is slowed down."""

    DROP_OLDEST = "drop-oldest"
    """The oldest item goes. For live pictures: the newest is worth the most."""


@dataclass(frozen=True, slots=True)
class LinkStatistics:
    """Counts since the link was made: received = delivered + dropped + discarded + depth."""

    name: str
    capacity: int
    depth: int
    received: int
    delivered: int
    dropped_full: int
    """Pushed out by newer items."""

    dropped_late: int
    """Older than the age limit when their turn came."""

    discarded: int
    """Still waiting when the receiver left or the pipeline stopped."""

    age: LatencyQuantiles
    """Age of what was delivered, at the moment of delivery."""


class Link(Generic[TimedT]):
    """A bounded queue with one sending and one receiving thread.

    Iterating receives; the iteration ends after `close`, once the link is empty.

    Args:
        name: For thread names, logs and statistics, e.g. `"north/segment"`.
        capacity: Most items that wait at once, at least 1.
        overflow: What happens to the next item when the link is full.
        max_age_ns: Items older than this when their turn comes are dropped.
        clock: Tells the age.
    """

    def __init__(
        self,
        name: str,
        *,
        capacity: int,
        overflow: Overflow,
        max_age_ns: int | None = None,
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
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
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

    def put(self, item: TimedT) -> None:
        """Hand *item* over; waits only when the link is full and `BLOCK`s.

        Raises:
            ConsumerClosed: The receiver has had enough.
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
            if len(self._items) == self._capacity:
                self._items.popleft()
                self._dropped_full += 1
            self._items.append(item)
            self._arrived.notify()

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
                if not self._has_news():
                    self._arrived.wait_for(self._has_news)
                if self._aborted:
                    raise Cancelled
                if not self._items:
                    return None
                item = self._items.popleft()
                # A sender that was full wakes when half is gone: each wake-up is a switch of
                # threads, and one for several items costs less than one for each.
                if len(self._items) <= self._capacity // 2:
                    self._drained.notify()
                age_ns = self._clock.monotonic_ns() - item.arrived_ns
                if self._max_age_ns is not None and age_ns > self._max_age_ns:
                    self._dropped_late += 1
                    continue
                self._delivered += 1
                self._ages.add(age_ns)
                return item

    def _has_news(self) -> bool:
        return self._aborted or self._closed or bool(self._items)

    def close(self) -> None:
        """Say, as the sender, that nothing more comes. What waits is still delivered."""
        with self._lock:
            self._closed = True
            self._wake_both()

    def leave(self) -> None:
        """Say, as the receiver, that nothing more is wanted."""
        with self._lock:
            self._left = True
            self._discard()

    def abort(self) -> None:
        """Drop everything and wake both ends with `Cancelled`. May be repeated."""
        with self._lock:
            self._aborted = True
            self._discard()

    def _discard(self) -> None:
        self._discarded += len(self._items)
        self._items.clear()
        self._wake_both()

    def _wake_both(self) -> None:
        self._arrived.notify_all()
        self._drained.notify_all()

    def statistics(self) -> LinkStatistics:
        """A consistent snapshot, from any thread."""
        with self._lock:
            return LinkStatistics(
                name=self.name,
                capacity=self._capacity,
                depth=len(self._items),
                received=self._received,
                delivered=self._delivered,
                dropped_full=self._dropped_full,
                dropped_late=self._dropped_late,
                discarded=self._discarded,
                age=self._ages.quantiles(),
            )


class LatestValue(Generic[T]):
    """A slot that holds the newest item for any number of viewers; nobody ever waits to set it."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        # All below are guarded by _changed.
        self._item: T | None = None
        self._version = 0
        self._closed = False

    def set(self, item: T) -> None:
        """Replace what is in the slot."""
        with self._changed:
            self._item = item
            self._version += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Say that nothing more comes, and wake all who wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        with self._changed:
            return self._closed

    def wait(self, newer_than: int, timeout_s: float) -> tuple[int, T] | None:
        """The item and its version once that is above *newer_than*.

        Returns `None` after *timeout_s*, or when the slot was closed. Versions start at 1, so
        `newer_than=0` takes whatever is there.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._version > newer_than, timeout_s)
            if self._version <= newer_than or self._item is None:
                return None
            return self._version, self._item
