"""What expires: a pure decision about a list of things, oldest first.

The same rules hold for recordings, output files, evidence and events. The order is that of a
sequence number; wall times only give ages, and only where they can be believed.
"""

import enum
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

_TOLERANCE: Final = timedelta(minutes=5)
"""Clocks are corrected by less without anything being wrong."""

_OLDEST: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""Earlier times come from clocks that were not set: no version of this program is that old."""


class Reason(enum.Enum):
    """Why something was deleted."""

    AGE = "older than the age limit"
    SIZE = "exceeded the size limit"
    FREE_SPACE = "the disk was almost full"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of one kind is kept; `None` is no limit."""

    max_age: timedelta | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if self.max_age is not None and self.max_age <= timedelta(0):
            raise ValueError(f"max_age must be positive, got {self.max_age}")
        if self.max_bytes is not None and self.max_bytes <= 0:
            raise ValueError(f"max_bytes must be positive, got {self.max_bytes}")


@dataclass(frozen=True, slots=True)
class Item:
    """Something that may expire."""

    key: str
    """Path, or id of an alarm."""

    group: str
    """Camera: its own limits apply besides those of the whole."""

    bytes: int
    time: datetime | None
    """When it began, aware UTC; `None` where that is not known."""

    protected: bool = False
    """Whether it must stay: it is being written, open, held or undelivered."""


def true_times(claims: Sequence[datetime | None], *, now: datetime) -> list[datetime | None]:
    """Return a time for each of *claims*, in the order of recording, that makes nothing too old.

    A claim is believed if it is neither in the future nor before an earlier one that is believed.
    All others get the time of the next one that is believed, before which they were recorded;
    `None` where there is none.
    """
    believed: list[datetime | None] = []
    newest = _OLDEST
    for claim in claims:
        good = claim is not None and newest - _TOLERANCE <= claim <= now + _TOLERANCE
        believed.append(claim if good else None)
        if good and claim is not None:
            newest = max(newest, claim)
    later: datetime | None = None
    for index in range(len(believed) - 1, -1, -1):
        later = believed[index] = believed[index] or later
    return believed


def expired(
    items: Sequence[Item],
    *,
    total: Limits,
    limits_of: Callable[[str], Limits] = lambda _: Limits(),
    now: datetime | None,
) -> Iterator[tuple[Item, Reason]]:
    """Yield what must be deleted, each once: first by age, then by size, oldest first.

    Args:
        items: Oldest first.
        total: Limits of all together.
        limits_of: Returns the limits of a group.
        now: Wall time; `None` while the clock is not believed: then nothing is too old.
    """
    gone: set[int] = set()
    for index, item in enumerate(items):
        if not item.protected and _too_old(item, (total, limits_of(item.group)), now):
            gone.add(index)
            yield item, Reason.AGE
    sizes: Counter[str] = Counter()
    for index, item in enumerate(items):
        if index not in gone:
            sizes[item.group] += item.bytes
    left = sizes.total()
    for index, item in enumerate(items):
        if index in gone or item.protected:
            continue
        if _exceeds(sizes[item.group], limits_of(item.group)) or _exceeds(left, total):
            sizes[item.group] -= item.bytes
            left -= item.bytes
            yield item, Reason.SIZE


def _too_old(item: Item, limits: tuple[Limits, ...], now: datetime | None) -> bool:
    if now is None or item.time is None:
        return False
    age = now - item.time
    return any(one.max_age is not None and age > one.max_age for one in limits)


def _exceeds(size: int, limits: Limits) -> bool:
    return limits.max_bytes is not None and size > limits.max_bytes
