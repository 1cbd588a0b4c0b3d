"""`Timeline`: timestamps in ticks, with wraps, as nanoseconds of media time. Pure."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

_NS: Final = 1_000_000_000

WRAPS: Final = (1 << 33, 1 << 32)
"""Ticks after which the timestamps of MPEG-TS and RTP wrap."""

_SHIFTS: Final = (*WRAPS, *(-wrap for wrap in WRAPS))

REORDER_NS: Final = _NS
"""A timestamp up to this much below the highest is a reordered frame or jitter, not a jump."""

REORDER_PACKETS: Final = 16
"""The deepest reordering that H.264 and H.265 allow; a step back that lasts longer is a jump."""


@dataclass(slots=True)
class Timeline:
    """Timestamps that continue each other. Used by one thread."""

    time_base: Fraction
    """Seconds per tick."""

    anchor_ticks: int
    anchor_ns: int
    """Media time at `anchor_ticks`."""

    highest: int
    """Highest timestamp so far, in ticks without wraps."""

    shift: int = 0
    """Ticks to add to timestamps for the wraps so far."""

    packets_since_highest: int = 0

    def distance(self, key: int) -> int:
        """Return the ticks from the highest timestamp to *key*, across a wrap if that is less."""
        return self._distance(key)[0]

    def place(self, key: int, *, ahead_ns: int) -> tuple[int, bool] | None:
        """Continue with a timestamp; return it without wraps, and whether the counter wrapped.

        `None` if it does not continue this timeline, which then stays as it was.

        Args:
            key: The timestamp of the next packet, in ticks.
            ahead_ns: How far above the highest one it may be.
        """
        back, ahead = -self.ticks(REORDER_NS), self.ticks(ahead_ns)
        delta, wrap = key + self.shift - self.highest, 0
        if not back <= delta <= ahead:
            delta, wrap = self._distance(key)
            if not back <= delta <= ahead:
                return None
        if delta > 0:
            self.highest += delta
            self.packets_since_highest = 0
        elif self.packets_since_highest >= REORDER_PACKETS:
            return None
        else:
            self.packets_since_highest += 1
        if wrap > 0:
            self.shift += wrap
            return key + self.shift, True
        return key + self.shift + wrap, False  # A late one from before a wrap does not undo it.

    def _distance(self, key: int) -> tuple[int, int]:
        """Return the distance, and the ticks of the wrap in it."""
        delta = key + self.shift - self.highest
        wrap = min(_SHIFTS, key=lambda ticks: abs(delta + ticks))
        return (delta + wrap, wrap) if abs(delta + wrap) < abs(delta) else (delta, 0)

    def at(self, ticks: int) -> int:
        """Return the media time of a timestamp without wraps."""
        return self.anchor_ns + self.ns(ticks - self.anchor_ticks)

    def ns(self, ticks: int) -> int:
        """Return a number of ticks in nanoseconds."""
        return ticks * self.time_base.numerator * _NS // self.time_base.denominator

    def ticks(self, nanoseconds: int) -> int:
        """Return nanoseconds in ticks."""
        return nanoseconds * self.time_base.denominator // (self.time_base.numerator * _NS)


def unwrapped_offset(offset: int) -> int:
    """Return presentation minus decoding time, corrected if only one of the two has wrapped."""
    for wrap in WRAPS:
        if abs(offset) > wrap // 2 and abs(abs(offset) - wrap) < wrap // 4:
            return offset - wrap if offset > 0 else offset + wrap
    return offset
