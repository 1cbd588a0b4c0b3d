"""Normalizes the timestamps of a stream to one continuous media time. Pure: only integers.

Cameras restart their timestamps, set their clocks, wrap their counters and omit timestamps, but a
recording, an alarm and a viewer need one time that only grows. Valid timestamps keep their
distances exactly; only impossible ones are repaired, and counted. Those of a live stream that leave
the arrival of its packets for good are not used until they follow it again.
"""

from bisect import insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from .arrival import ArrivalMonitor, Deviation, RateCheck
from .timeline import REORDER_NS, REORDER_PACKETS, Timeline, unwrapped_offset

_NS: Final = 1_000_000_000

READ_AHEAD: Final = 8
"""Packets of a file that decide whether one with an odd timestamp is alone."""

_LIVE_SLACK_NS: Final = 5 * _NS
"""A live timestamp may be ahead of the time elapsed here by this much: bursts after a delay. A
timestamp is compared with those from before a jump for as long."""

_ODD_STEP_NS: Final = 10 * _NS
"""A step of a file above this is compared with the packets that follow."""

_LIVE_OFFSET_NS: Final = 2 * _NS
"""Change of the distance from decoding to presentation time that needs no reason."""

_ERRATIC: Final = 4
_ERRATIC_NS: Final = 10 * _NS
"""So many jumps within this time, and the timestamps mean nothing."""


@dataclass(frozen=True, slots=True)
class NormalizedTimestamps:
    """Times of a packet on the continuous media time."""

    pts_ns: int
    """Presentation time. 0 for the first packet of the stream."""

    dts_ns: int
    """Decoding time. Strictly increases; negative at the start of reordered streams."""

    duration_ns: int
    """0 if unknown."""

    has_pts: bool = True
    """Whether `pts_ns` is that of the stream; if not, its frame takes the next decoding time."""


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

    outliers: int = 0
    """A timestamp did not fit the packets around it, and was replaced."""

    deviations: int = 0
    """The timestamps stood still, ran at a wrong rate or jumped all the time, so that the arrival
    of the packets replaced them for a while."""

    @property
    def total(self) -> int:
        """Sum of all repairs."""
        return (
            self.missing + self.jumps + self.wraps + self.non_monotonic
            + self.outliers + self.deviations
        )  # fmt: skip


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
        self._segmented = False
        self._depth = 0  # Of reordering, in frames.
        self._pending_pts_ns: list[int] = []  # Sorted; not used as a decoding time yet.
        self._timeline: Timeline | None = None
        self._previous: Timeline | None = None  # Before the last jump of a live stream.
        self._previous_arrived_ns = 0
        self._jumped_ns: deque[int] = deque(maxlen=_ERRATIC)  # Arrivals of the last jumps.
        self._offsets: deque[int] = deque(maxlen=REORDER_PACKETS)  # Ticks from dts to pts.
        self._odd_offsets = 0  # In a row.
        self._longest_step_ns = 0
        self._monitor = ArrivalMonitor()
        self._check: RateCheck | None = None  # While the arrival replaces the timestamps.
        self._arrived_ns: int | None = None
        self._last_pts_ns: int | None = None  # Highest so far, across connections.
        self._last_dts_ns: int | None = None
        self._last_display_ns: int | None = None
        self._missing = self._jumps = self._wraps = self._non_monotonic = 0
        self._outliers = self._deviations = 0

    @property
    def repairs(self) -> TimestampRepairs:
        """Repairs since the stream began; from any thread."""
        return TimestampRepairs(
            self._missing,
            self._jumps,
            self._wraps,
            self._non_monotonic,
            self._outliers,
            self._deviations,
        )

    @property
    def disturbances(self) -> int:
        """Number of repairs that no camera in order needs."""
        return self._jumps + self._outliers + self._deviations

    @property
    def lag_ns(self) -> int | None:
        """Delay of the last packet of a live stream; `None` if its timestamps do not tell.

        0 for a stream in segments, because they are delayed anyway. For any thread.
        """
        if self._check is not None or self._timeline is None:
            return None
        return 0 if self._segmented else self._monitor.lag_ns

    @property
    def by_arrival(self) -> bool:
        """Whether the arrival replaces the timestamps at present; from any thread."""
        return self._check is not None

    def begin(
        self,
        *,
        time_base: Fraction,
        frame_ns: int,
        max_gap_ns: int,
        reorder_depth: int = 0,
        segmented: bool = False,
    ) -> None:
        """Start a connection or another pass of a file, with timestamps unrelated to earlier ones.

        Args:
            time_base: Seconds per tick, above 0.
            frame_ns: Distance of two frames, for gaps of unknown length.
            max_gap_ns: Longest plausible distance of two timestamps of a file.
            reorder_depth: Frames that may be decoded before an earlier one; grows when exceeded.
            segmented: Whether a live stream comes in pieces of many seconds, as HLS does: then its
                arrival says nothing about its timestamps.
        """
        self._time_base = time_base
        self._frame_ns = max(frame_ns, 1)
        self._max_gap_ns = max_gap_ns
        self._segmented = segmented
        self._depth = reorder_depth
        self._pending_pts_ns.clear()
        self._timeline = self._previous = self._check = None
        self._jumped_ns.clear()
        self._offsets.clear()
        self._odd_offsets = self._longest_step_ns = 0
        self._monitor.begin()

    def normalize(
        self,
        *,
        pts: int | None,
        dts: int | None,
        duration: int | None,
        arrived_ns: int,
        following: Sequence[int] = (),
    ) -> NormalizedTimestamps:
        """Return the times of the next packet, in stream order.

        Args:
            pts: Presentation time in ticks; `None` if missing.
            dts: Decoding time in ticks; `None` if missing.
            duration: In ticks; `None` or 0 if unknown.
            arrived_ns: Monotonic arrival time.
            following: Timestamps of the next packets of a file: each its decoding time, or its
                presentation time if that is missing.
        """
        elapsed_ns = 0 if self._arrived_ns is None else max(0, arrived_ns - self._arrived_ns)
        self._arrived_ns = arrived_ns
        duration_ns = self._ns(duration) if duration and duration > 0 else 0
        step_ns = duration_ns or self._frame_ns
        bridge_ns = max(elapsed_ns, step_ns) if self._live else step_ns
        key = dts if dts is not None else pts
        if key is None:
            self._missing += 1
            pts_ns = self._next_ns(elapsed_ns if self._live else step_ns)
            # The next packet with a timestamp anchors the media time again.
            self._timeline = None
            return self._result(pts_ns, pts_ns, duration_ns, has_pts=False)
        if self._check is not None and not self._follow(self._check, key, arrived_ns):
            pts_ns = self._next_ns(elapsed_ns)
            return self._result(pts_ns, pts_ns, duration_ns, has_pts=False)
        offset, has_pts = self._offset(pts, dts, step_ns, following)
        ticks = self._place(key, offset, bridge_ns, elapsed_ns, following)
        if ticks is None:
            return self._replacement(step_ns, duration_ns)
        if has_pts and dts is not None:  # Not before: the one of an outlier is as wrong.
            self._offsets.append(offset)
        assert self._timeline is not None
        pts_ns = self._timeline.at(ticks + offset)
        dts_ns = self._timeline.at(ticks)
        if dts is None:
            dts_ns = self._decoding_ns(pts_ns, step_ns)
        if self._live and not self._segmented:
            self._compare(dts_ns, arrived_ns)
        return self._result(pts_ns, dts_ns, duration_ns, has_pts=has_pts)

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

    def _result(
        self, pts_ns: int, dts_ns: int, duration_ns: int, *, has_pts: bool
    ) -> NormalizedTimestamps:
        if self._last_dts_ns is not None and dts_ns <= self._last_dts_ns:
            dts_ns = self._last_dts_ns + 1
        self._last_dts_ns = dts_ns
        self._last_pts_ns = pts_ns if self._last_pts_ns is None else max(self._last_pts_ns, pts_ns)
        return NormalizedTimestamps(pts_ns, dts_ns, duration_ns, has_pts)

    def _next_ns(self, bridge_ns: int) -> int:
        return 0 if self._last_pts_ns is None else self._last_pts_ns + max(bridge_ns, 1)

    def _replacement(self, step_ns: int, duration_ns: int) -> NormalizedTimestamps:
        """Return times for an outlier of a file: one step after the packet before it."""
        self._outliers += 1
        assert self._last_dts_ns is not None
        dts_ns = self._last_dts_ns + step_ns
        pts_ns = dts_ns + self._ns(max(self._offsets, default=0))
        return self._result(pts_ns, dts_ns, duration_ns, has_pts=False)

    def _offset(
        self, pts: int | None, dts: int | None, step_ns: int, following: Sequence[int]
    ) -> tuple[int, bool]:
        """Return the ticks from decoding to presentation, and whether they are the packet's own.

        A presentation time far from its decoding time is replaced: by the largest recent distance,
        that of key frames. If it stays, the stream has changed.
        """
        if pts is None:
            return 0, False
        if dts is None:
            return 0, True
        offset = unwrapped_offset(pts - dts)
        if not self._is_plausible(offset, dts, step_ns, following):
            self._outliers += 1
            self._odd_offsets += 1
            if self._odd_offsets <= REORDER_PACKETS:
                return max(self._offsets, default=0), False
            self._offsets.clear()
            self._jumps += 1
            self._timeline = None
        self._odd_offsets = 0
        return offset, True

    def _is_plausible(self, offset: int, dts: int, step_ns: int, following: Sequence[int]) -> bool:
        # The first packet anchors the media time: if its own were wrong, all others would be.
        lowest, largest = min(self._offsets, default=0), max(self._offsets, default=0)
        change_ns = self._ns(max(offset - largest, lowest - offset, 0))
        limit_ns = REORDER_PACKETS * max(step_ns, self._longest_step_ns)
        if change_ns <= max(limit_ns, _LIVE_OFFSET_NS if self._live else _ODD_STEP_NS):
            return True
        if not self._live and len(following) < READ_AHEAD and change_ns <= self._max_gap_ns:
            return True  # At the end of a file nothing can tell.
        # In a file with a long pause, the packets that follow come near this time.
        shown = dts + offset
        return any(self._ns(abs(shown - key)) <= _ODD_STEP_NS for key in following)

    def _place(
        self, key: int, offset: int, bridge_ns: int, elapsed_ns: int, following: Sequence[int]
    ) -> int | None:
        """Return a timestamp without wraps, on the timeline or a new one; `None` for an outlier."""
        timeline = self._timeline
        if timeline is None:
            self._anchor_at(key, offset, bridge_ns)
            return key
        if not self._live and self._is_alone(timeline, key, following):
            return None
        limit_ns = elapsed_ns + _LIVE_SLACK_NS if self._live else self._max_gap_ns
        highest = timeline.highest
        placed = timeline.place(key, ahead_ns=limit_ns) or self._return(key)
        if placed is None:
            self._jump(timeline, key, offset, bridge_ns)
            return key
        ticks, wrapped = placed
        self._wraps += wrapped
        if timeline is self._timeline:
            step_ns = self._ns(timeline.highest - highest)
            self._longest_step_ns = max(step_ns, self._longest_step_ns * 15 // 16)
        return ticks

    def _is_alone(self, timeline: Timeline, key: int, following: Sequence[int]) -> bool:
        """Whether most of the packets that follow do not share the step of a timestamp."""
        limit = timeline.ticks(_ODD_STEP_NS)
        if not following or -timeline.ticks(REORDER_NS) <= timeline.distance(key) <= limit:
            return False
        near = sum(0 < timeline.distance(each) <= limit for each in following)
        return 2 * near > len(following)

    def _return(self, key: int) -> tuple[int, bool] | None:
        """Continue as before the last jump: what seemed to be a jump was an outlier."""
        previous, now_ns = self._previous, self._arrived_ns or 0
        away_ns = now_ns - self._previous_arrived_ns
        if previous is None or away_ns > _LIVE_SLACK_NS:
            return None
        placed = previous.place(key, ahead_ns=away_ns + _LIVE_SLACK_NS)
        if placed is not None:
            self._timeline, self._previous = previous, None
            self._jumped_ns.pop()
            self._jumps -= 1
            self._outliers += 1
            self._monitor.begin()
        return placed

    def _jump(self, timeline: Timeline, key: int, offset: int, bridge_ns: int) -> None:
        """Continue at another value; with the arrival if this happens all the time."""
        self._jumps += 1
        now_ns = self._arrived_ns or 0
        if self._live and not self._segmented:
            self._previous, self._previous_arrived_ns = timeline, now_ns
            self._jumped_ns.append(now_ns)
            erratic = len(self._jumped_ns) == _ERRATIC and now_ns - self._jumped_ns[0] < _ERRATIC_NS
            if erratic or key + timeline.shift == timeline.highest:  # The same again and again.
                self._distrust()
        self._anchor_at(key, offset, bridge_ns)

    def _anchor_at(self, key: int, offset: int, bridge_ns: int) -> None:
        """Map the presentation of this packet to *bridge_ns* after the last one."""
        self._timeline = Timeline(self._time_base, key + offset, self._next_ns(bridge_ns), key)
        self._pending_pts_ns.clear()
        self._monitor.begin()

    def _compare(self, dts_ns: int, arrived_ns: int) -> None:
        """Notice that the timestamps left the arrival; from the next packet on."""
        match self._monitor.observe(dts_ns, arrived_ns):
            case Deviation.RATE:
                self._distrust()
            case Deviation.LATE:
                assert self._timeline is not None
                self._jumps += 1
                self._timeline.anchor_ns += self._monitor.lag_ns
                self._monitor.begin()
            case None:
                pass

    def _distrust(self) -> None:
        self._deviations += 1
        self._check = RateCheck()

    def _follow(self, check: RateCheck, key: int, arrived_ns: int) -> bool:
        """Whether the timestamps follow the arrival again; then they are used from here on."""
        if not check.observe(self._ns(key), arrived_ns):
            return False
        self._check = self._timeline = self._previous = None
        self._jumped_ns.clear()
        return True

    def _decoding_ns(self, pts_ns: int, step_ns: int) -> int:
        """Return a decoding time where the demuxer gave none: the lowest pending presentation time.

        The list holds one time more than the reorder depth, so its lowest value increases with
        every packet and never exceeds the packet's presentation time.
        """
        assert self._timeline is not None
        reordered = self._timeline.packets_since_highest
        if reordered:  # More reordering than announced.
            self._depth = min(max(self._depth, reordered), REORDER_PACKETS)
        if not self._pending_pts_ns:
            self._pending_pts_ns = [
                pts_ns - step_ns * (back + 1) for back in reversed(range(self._depth))
            ]
        insort(self._pending_pts_ns, pts_ns)
        lowest_ns = self._pending_pts_ns[0]
        while len(self._pending_pts_ns) > self._depth:
            self._pending_pts_ns.pop(0)
        return lowest_ns

    def _ns(self, ticks: int) -> int:
        return ticks * self._time_base.numerator * _NS // self._time_base.denominator
