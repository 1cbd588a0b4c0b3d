"""Normalizes the timestamps of a stream to one continuous media time. Pure: only integers.

Cameras restart their timestamps, set their clocks, wrap their counters and omit timestamps, but a
recording, an alarm and a viewer need one time that only grows. Valid timestamps keep their
distances exactly; only impossible ones are repaired, and counted.
"""

from bisect import insort
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

_NS: Final = 1_000_000_000

_WRAPS: Final = (1 << 33, 1 << 32)
"""Ticks after which the timestamps of MPEG-TS and RTP wrap."""

_SHIFTS: Final = (*_WRAPS, *(-wrap for wrap in _WRAPS))

_REORDER_NS: Final = _NS
"""A timestamp up to this much below the highest is a reordered frame or jitter, not a jump."""

_REORDER_PACKETS: Final = 16
"""The deepest reordering that H.264 and H.265 allow; a step back that lasts longer is a jump."""

_LIVE_SLACK_NS: Final = 5 * _NS
"""A live timestamp may be ahead of the time elapsed here by this much: bursts after a delay."""


@dataclass(frozen=True, slots=True)
class NormalizedTimestamps:
    """Times of a packet on the continuous media time."""

    pts_ns: int
    """Presentation time. 0 for the first packet of the stream."""

    dts_ns: int
    """Decoding time. Strictly increases; negative at the start of reordered streams."""

    duration_ns: int
    """0 if unknown."""


@dataclass(frozen=True, slots=True)
class TimestampRepairs:
    """Counts of timestamps that could not be used as received."""

    missing: int = 0
    """The packet had neither a presentation nor a decoding time."""

    jumps: int = 0
    """The timestamps continued at another value."""

    wraps: int = 0
    """The counter of the camera wrapped."""

    non_monotonic: int = 0
    """A frame was not later than the one before, and was moved behind it."""

    @property
    def total(self) -> int:
        """Sum of all repairs."""
        return self.missing + self.jumps + self.wraps + self.non_monotonic


class TimestampNormalizer:
    """Maps packets, then decoded frames, to one increasing media time. Used by one thread.

    Args:
        live: Whether packets arrive in real time. Then a jump of the timestamps lasts as long as
            the time elapsed here; in a file it lasts one frame.
    """

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._time_base = Fraction(1, _NS)
        self._max_gap_ns = 0
        self._frame_ns = 0
        self._depth = 0  # Of reordering, in frames.
        self._pending_pts_ns: list[int] = []  # Sorted; not used as a decoding time yet.
        self._anchor: tuple[int, int] | None = None  # (ticks, ns) of one instant.
        self._shift = 0  # Ticks to add to timestamps for the wraps so far.
        self._highest = 0  # Ticks, unwrapped.
        self._packets_since_highest = 0  # Packets since the highest timestamp.
        self._arrived_ns: int | None = None
        self._last_pts_ns: int | None = None  # Highest so far, across connections.
        self._last_dts_ns: int | None = None
        self._last_display_ns: int | None = None
        self._missing = self._jumps = self._wraps = self._non_monotonic = 0

    @property
    def repairs(self) -> TimestampRepairs:
        """Repairs since the stream began; from any thread."""
        return TimestampRepairs(self._missing, self._jumps, self._wraps, self._non_monotonic)

    def begin(
        self, *, time_base: Fraction, frame_ns: int, max_gap_ns: int, reorder_depth: int = 0
    ) -> None:
        """Start a connection or another pass of a file, with timestamps unrelated to earlier ones.

        Args:
            time_base: Seconds per tick, above 0.
            frame_ns: Distance of two frames, for gaps of unknown length.
            max_gap_ns: Longest plausible distance of two timestamps of a file.
            reorder_depth: Frames that may be decoded before an earlier one; grows when exceeded.
        """
        self._time_base = time_base
        self._frame_ns = max(frame_ns, 1)
        self._max_gap_ns = max_gap_ns
        self._depth = reorder_depth
        self._pending_pts_ns.clear()
        self._anchor = None
        self._shift = self._packets_since_highest = 0

    def normalize(
        self, *, pts: int | None, dts: int | None, duration: int | None, arrived_ns: int
    ) -> NormalizedTimestamps:
        """Return the times of the next packet, in stream order.

        Args:
            pts: Presentation time in ticks; `None` if missing.
            dts: Decoding time in ticks; `None` if missing.
            duration: In ticks; `None` or 0 if unknown.
            arrived_ns: Monotonic arrival time.
        """
        elapsed_ns = 0 if self._arrived_ns is None else max(0, arrived_ns - self._arrived_ns)
        self._arrived_ns = arrived_ns
        duration_ns = self._ns(duration) if duration and duration > 0 else 0
        step_ns = duration_ns or self._frame_ns
        key = dts if dts is not None else pts
        if key is None:
            self._missing += 1
            pts_ns = self._next_ns(elapsed_ns if self._live else step_ns)
            # The next packet with a timestamp anchors the media time again.
            self._anchor = None
            return self._result(pts_ns, pts_ns, duration_ns)
        presentation = key if pts is None else pts
        if self._anchor is None:
            self._anchor_at(presentation, key, max(elapsed_ns, step_ns) if self._live else step_ns)
            correction = 0
        else:
            found = self._wrap_correction(key, elapsed_ns)
            if found is None:
                self._jumps += 1
                bridge_ns = max(elapsed_ns, step_ns) if self._live else step_ns
                self._anchor_at(presentation, key, bridge_ns)
            correction = found or 0
        ticks = key + self._shift + correction
        pts_ns = self._at(ticks + _unwrapped_offset(presentation - key))
        dts_ns = self._at(ticks) if dts is not None else self._decoding_ns(pts_ns, step_ns)
        return self._result(pts_ns, dts_ns, duration_ns)

    def next_display_pts(self, pts_ns: int | None) -> int:
        """Return the media time of the next decoded frame, later than that of the frame before.

        Args:
            pts_ns: Normalized presentation time; `None` if the decoder lost it.
        """
        last_ns = self._last_display_ns
        if pts_ns is None:
            pts_ns = 0 if last_ns is None else last_ns + max(self._frame_ns, 1)
        elif last_ns is not None and pts_ns <= last_ns:
            self._non_monotonic += 1
            pts_ns = last_ns + 1
        self._last_display_ns = max(pts_ns, 0)
        return self._last_display_ns

    def _result(self, pts_ns: int, dts_ns: int, duration_ns: int) -> NormalizedTimestamps:
        if self._last_dts_ns is not None and dts_ns <= self._last_dts_ns:
            dts_ns = self._last_dts_ns + 1
        self._last_dts_ns = dts_ns
        self._last_pts_ns = pts_ns if self._last_pts_ns is None else max(self._last_pts_ns, pts_ns)
        return NormalizedTimestamps(pts_ns, dts_ns, duration_ns)

    def _next_ns(self, bridge_ns: int) -> int:
        return 0 if self._last_pts_ns is None else self._last_pts_ns + max(bridge_ns, 1)

    def _anchor_at(self, presentation: int, key: int, bridge_ns: int) -> None:
        """Map this packet to *bridge_ns* after the last one."""
        self._shift = self._packets_since_highest = 0
        self._anchor = (key + _unwrapped_offset(presentation - key), self._next_ns(bridge_ns))
        self._highest = key
        self._pending_pts_ns.clear()

    def _wrap_correction(self, key: int, elapsed_ns: int) -> int | None:
        """Return ticks to add to this timestamp beside the shift; `None` if it is a jump."""
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
            self._packets_since_highest = 0
        else:
            self._packets_since_highest += 1
            if self._packets_since_highest > _REORDER_PACKETS:
                return None
        if wrap <= 0:  # A late timestamp from before the wrap does not undo it.
            return wrap
        self._shift += wrap
        self._wraps += 1
        return 0

    def _decoding_ns(self, pts_ns: int, step_ns: int) -> int:
        """Return a decoding time where the demuxer gave none: the lowest pending presentation time.

        The list holds one time more than the reorder depth, so its lowest value increases with
        every packet and never exceeds the packet's presentation time.
        """
        if self._packets_since_highest:  # More reordering than announced.
            self._depth = min(max(self._depth, self._packets_since_highest), _REORDER_PACKETS)
        if not self._pending_pts_ns:
            self._pending_pts_ns = [
                pts_ns - step_ns * (back + 1) for back in reversed(range(self._depth))
            ]
        insort(self._pending_pts_ns, pts_ns)
        lowest_ns = self._pending_pts_ns[0]
        while len(self._pending_pts_ns) > self._depth:
            self._pending_pts_ns.pop(0)
        return lowest_ns

    def _at(self, ticks: int) -> int:
        assert self._anchor is not None
        anchor_ticks, anchor_ns = self._anchor
        return anchor_ns + self._ns(ticks - anchor_ticks)

    def _ns(self, ticks: int) -> int:
        return ticks * self._time_base.numerator * _NS // self._time_base.denominator

    def _ticks(self, nanoseconds: int) -> int:
        return nanoseconds * self._time_base.denominator // (self._time_base.numerator * _NS)


def _unwrapped_offset(offset: int) -> int:
    """Return presentation minus decoding time, corrected if only one of the two has wrapped."""
    for wrap in _WRAPS:
        if abs(offset) > wrap // 2 and abs(abs(offset) - wrap) < wrap // 4:
            return offset - wrap if offset > 0 else offset + wrap
    return offset
