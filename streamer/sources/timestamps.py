"""A stream's time stamps as one continuous media time. Pure: no clock, no packets, no pictures.

Cameras restart their stamps, set their clocks, wrap their counters and leave stamps out. A
recording, an alarm and a viewer want one time that only grows. So every packet is placed here,
in the order in which it came; ordinary stamps keep their distances exactly, in integers, and
only what cannot be true is repaired and counted.
"""

from bisect import insort
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

_NS: Final = 1_000_000_000

_WRAPS: Final = (1 << 33, 1 << 32)
"""Ticks after which MPEG-TS and RTP stamps begin again."""

_SHIFTS: Final = (*_WRAPS, *(-wrap for wrap in _WRAPS))

_REORDER_NS: Final = _NS
"""A stamp this much lower than the highest may be a reordered picture or jitter, not a jump."""

_REORDER_PACKETS: Final = 16
"""The deepest reordering that H.264 and H.265 allow; a step back that lasts longer is a jump."""

_LIVE_SLACK_NS: Final = 5 * _NS
"""A live stamp may run ahead of the time that passed here by this much: bursts after a hold-up."""


@dataclass(frozen=True, slots=True)
class NormalizedTimestamps:
    """Where a packet lies on the media time."""

    pts_ns: int
    """When it is shown. 0 for the first packet of all."""

    dts_ns: int
    """When it is decoded: rises with every packet; negative at the start of reordered streams."""

    duration_ns: int
    """0 when unknown."""


@dataclass(frozen=True, slots=True)
class TimestampRepairs:
    """How often a stamp could not be taken as it came."""

    missing: int = 0
    """Neither a presentation nor a decoding time was given."""

    jumps: int = 0
    """The stamps went on somewhere else."""

    wraps: int = 0
    """The counter overflowed and began again."""

    held: int = 0
    """A stamp was not later than the one before, and was moved behind it."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.missing + self.jumps + self.wraps + self.held


class TimestampNormalizer:
    """Places packets, then decoded pictures, on one rising time. Belongs to one thread.

    Args:
        live: Whether packets come in real time. Then a gap in the stamps is as long as the time
            that passed here; in a file it is one frame.
    """

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._time_base = Fraction(1, _NS)
        self._max_gap_ns = 0
        self._frame_ns = 0
        self._depth = 0  # Of reordering, in pictures.
        self._waiting: list[int] = []  # The lowest presentation times not yet used for decoding.
        self._anchor: tuple[int, int] | None = None  # (ticks, ns) of one known instant.
        self._shift = 0  # Ticks to add to stamps for the wraps so far.
        self._highest = 0  # Ticks, unwrapped.
        self._late = 0  # Packets since the highest stamp.
        self._arrived_ns: int | None = None
        self._last_pts_ns: int | None = None  # Highest so far, across connections.
        self._last_dts_ns: int | None = None
        self._shown_ns: int | None = None
        self._missing = self._jumps = self._wraps = self._held = 0

    @property
    def repairs(self) -> TimestampRepairs:
        """Counted since the stream began; from any thread."""
        return TimestampRepairs(self._missing, self._jumps, self._wraps, self._held)

    def begin(
        self, *, time_base: Fraction, frame_ns: int, max_gap_ns: int, reorder_depth: int = 0
    ) -> None:
        """Begin a connection, or a file anew: stamps have nothing to do with those before.

        Args:
            time_base: Seconds per tick, above 0.
            frame_ns: Usual distance of two pictures, for gaps that must be guessed.
            max_gap_ns: Longest distance of two stamps of a file that is believed.
            reorder_depth: Pictures that may be decoded before an earlier one; grows by itself.
        """
        self._time_base = time_base
        self._frame_ns = max(frame_ns, 1)
        self._max_gap_ns = max_gap_ns
        self._depth = reorder_depth
        self._waiting.clear()
        self._anchor = None
        self._shift = self._late = 0

    def normalize(
        self, *, pts: int | None, dts: int | None, duration: int | None, arrived_ns: int
    ) -> NormalizedTimestamps:
        """Place the next packet.

        Args:
            pts: Presentation time in ticks, if any.
            dts: Decoding time in ticks, if any.
            duration: In ticks; None or 0 when unknown.
            arrived_ns: When it came, by a clock that never falls.
        """
        elapsed_ns = 0 if self._arrived_ns is None else max(0, arrived_ns - self._arrived_ns)
        self._arrived_ns = arrived_ns
        duration_ns = self._ns(duration) if duration and duration > 0 else 0
        step_ns = duration_ns or self._frame_ns
        key = dts if dts is not None else pts
        if key is None:
            self._missing += 1
            pts_ns = self._next_ns(elapsed_ns if self._live else step_ns)
            # What comes next with a stamp tells where the stamps stand.
            self._anchor = None
            return self._placed(pts_ns, pts_ns, duration_ns)
        presented = key if pts is None else pts
        if self._anchor is None:
            self._anchor_at(presented, key, max(elapsed_ns, step_ns) if self._live else step_ns)
            correction = 0
        else:
            found = self._unwrapped(key, elapsed_ns)
            if found is None:
                self._jumps += 1
                bridge_ns = max(elapsed_ns, step_ns) if self._live else step_ns
                self._anchor_at(presented, key, bridge_ns)
            correction = found or 0
        ticks = key + self._shift + correction
        pts_ns = self._at(ticks + _nearest(presented - key))
        dts_ns = self._at(ticks) if dts is not None else self._decoding_ns(pts_ns, step_ns)
        return self._placed(pts_ns, dts_ns, duration_ns)

    def next_display_pts(self, pts_ns: int | None) -> int:
        """The media time of the next decoded picture: later than that of the one before.

        Args:
            pts_ns: As placed, or None if the decoder lost it.
        """
        last_ns = self._shown_ns
        if pts_ns is None:
            pts_ns = 0 if last_ns is None else last_ns + max(self._frame_ns, 1)
        elif last_ns is not None and pts_ns <= last_ns:
            self._held += 1
            pts_ns = last_ns + 1
        self._shown_ns = max(pts_ns, 0)
        return self._shown_ns

    def _placed(self, pts_ns: int, dts_ns: int, duration_ns: int) -> NormalizedTimestamps:
        if self._last_dts_ns is not None and dts_ns <= self._last_dts_ns:
            dts_ns = self._last_dts_ns + 1
        self._last_dts_ns = dts_ns
        self._last_pts_ns = pts_ns if self._last_pts_ns is None else max(self._last_pts_ns, pts_ns)
        return NormalizedTimestamps(pts_ns, dts_ns, duration_ns)

    def _next_ns(self, bridge_ns: int) -> int:
        return 0 if self._last_pts_ns is None else self._last_pts_ns + max(bridge_ns, 1)

    def _anchor_at(self, presented: int, key: int, bridge_ns: int) -> None:
        """Let this packet be shown *bridge_ns* after the last one."""
        self._shift = self._late = 0
        self._anchor = (key + _nearest(presented - key), self._next_ns(bridge_ns))
        self._highest = key
        self._waiting.clear()

    def _unwrapped(self, key: int, elapsed_ns: int) -> int | None:
        """Ticks to add to this stamp beside the shift, or None if it does not follow."""
        limit_ns = elapsed_ns + _LIVE_SLACK_NS if self._live else self._max_gap_ns
        ahead, back = self._ticks(limit_ns), self._ticks(_REORDER_NS)
        delta, wrap = key + self._shift - self._highest, 0
        if not -back <= delta <= ahead:
            wrap = min(_SHIFTS, key=lambda ticks: abs(delta + ticks))
            delta += wrap
            if not -back <= delta <= ahead:
                return None
        if delta > 0:
            self._highest += delta
            self._late = 0
        else:
            self._late += 1
            if self._late > _REORDER_PACKETS:
                return None
        if wrap <= 0:  # A late stamp from before the wrap does not take it back.
            return wrap
        self._shift += wrap
        self._wraps += 1
        return 0

    def _decoding_ns(self, pts_ns: int, step_ns: int) -> int:
        """A decoding time where the demuxer gave none: the lowest time still to be shown.

        The list holds one time more than the pictures that may overtake each other, so its
        lowest rises with every packet and never passes what is shown.
        """
        if self._late:  # More reordering than was announced.
            self._depth = min(max(self._depth, self._late), _REORDER_PACKETS)
        if not self._waiting:
            self._waiting = [pts_ns - step_ns * (back + 1) for back in reversed(range(self._depth))]
        insort(self._waiting, pts_ns)
        lowest_ns = self._waiting[0]
        while len(self._waiting) > self._depth:
            self._waiting.pop(0)
        return lowest_ns

    def _at(self, ticks: int) -> int:
        assert self._anchor is not None
        anchor_ticks, anchor_ns = self._anchor
        return anchor_ns + self._ns(ticks - anchor_ticks)

    def _ns(self, ticks: int) -> int:
        return ticks * self._time_base.numerator * _NS // self._time_base.denominator

    def _ticks(self, nanoseconds: int) -> int:
        return nanoseconds * self._time_base.denominator // (self._time_base.numerator * _NS)


def _nearest(offset: int) -> int:
    """Presentation minus decoding time when only one of the two has wrapped so far."""
    for wrap in _WRAPS:
        if abs(offset) > wrap // 2 and abs(abs(offset) - wrap) < wrap // 4:
            return offset - wrap if offset > 0 else offset + wrap
    return offset
