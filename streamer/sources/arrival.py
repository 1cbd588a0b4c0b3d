"""Compares the timestamps of a live stream with the arrival of its packets. Pure: only integers.

Packets of a live stream are made in real time, so the difference of arrival and media time stays
the same but for delays, which only ever add to it. Its lower envelope is the stream without delays,
and what is above the envelope is the lag: packets that waited in a buffer, here or on their way.
"""

import enum
from typing import Final

_NS: Final = 1_000_000_000

_DRIFT: Final = 5_000
"""The envelope rises by 1 ns in so many (200 ppm): clocks of cameras differ by up to 100 ppm."""

_TOLERANCE_NS: Final = _NS
"""A lag up to this is not judged."""

_JUDGED_NS: Final = 4 * _NS
"""A lag that does not shrink for this long is none: nothing waits, the timestamps are late."""

_SHRUNK: Final = 0.9
_MIN_PACKETS: Final = 8
_RATE_TOLERANCE: Final = 0.1

_WINDOW_NS: Final = 2 * _NS
_FAST_WINDOWS: Final = 3
"""So many windows in a row with timestamps ahead of the arrival make them too fast. A server that
sends what it has buffered at the start does so within the first window, which does not count."""

_TRUSTED_NS: Final = 10 * _NS
_TRUSTED_RATE: Final = 0.05


class Deviation(enum.Enum):
    """How timestamps left the arrival of their packets for good."""

    LATE = "late"
    """They stopped for a while, and go on at the right rate."""

    RATE = "rate"
    """They advance at another rate than time does, or not at all."""


class ArrivalMonitor:
    """Measures the lag of a stream and notices timestamps that leave the arrival.

    For one thread.
    """

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forget everything: a new connection, or timestamps that continue at another value."""
        self.lag_ns = 0
        """Delay of the last packet: its arrival, compared with its timestamp."""

        self._floor_ns: int | None = None  # Lower envelope of arrival minus media time.
        self._arrived_ns = 0
        self._late: tuple[int, int, int] | None = None  # (arrival, media time, lag) at the start.
        self._late_packets = 0
        self._window = (0, 0)  # (arrival, floor) at its start.
        self._fast_windows = -1

    def observe(self, media_ns: int, arrived_ns: int) -> Deviation | None:
        """Note a packet, in decoding order; return how the timestamps deviate, if they do."""
        offset_ns = arrived_ns - media_ns
        if self._floor_ns is None:
            self._floor_ns, self._arrived_ns = offset_ns, arrived_ns
            self._window = (arrived_ns, offset_ns)
            return None
        risen_ns = self._floor_ns + (arrived_ns - self._arrived_ns) // _DRIFT
        self._floor_ns, self._arrived_ns = min(offset_ns, risen_ns), arrived_ns
        self.lag_ns = offset_ns - self._floor_ns
        if self._too_fast(arrived_ns):
            return Deviation.RATE
        return self._too_slow(media_ns, arrived_ns)

    def _too_fast(self, arrived_ns: int) -> bool:
        assert self._floor_ns is not None
        began_ns, floor_ns = self._window
        window_ns = arrived_ns - began_ns
        if window_ns < _WINDOW_NS:
            return False
        ahead = floor_ns - self._floor_ns > window_ns * _RATE_TOLERANCE
        self._window = (arrived_ns, self._floor_ns)
        if self._fast_windows < 0 or not ahead:
            self._fast_windows = 0
        else:
            self._fast_windows += 1
        return self._fast_windows >= _FAST_WINDOWS

    def _too_slow(self, media_ns: int, arrived_ns: int) -> Deviation | None:
        if self.lag_ns <= _TOLERANCE_NS:
            self._late = None
            return None
        if self._late is None or self.lag_ns < self._late[2] * _SHRUNK:
            self._late, self._late_packets = (arrived_ns, media_ns, self.lag_ns), 0
            return None
        self._late_packets += 1
        began_ns, began_media_ns, _ = self._late
        late_ns = arrived_ns - began_ns
        if late_ns < _JUDGED_NS or self._late_packets < _MIN_PACKETS:
            return None
        rate = (media_ns - began_media_ns) / late_ns
        return Deviation.LATE if abs(rate - 1) <= _RATE_TOLERANCE else Deviation.RATE


class RateCheck:
    """Whether timestamps that deviated advance as time does again. For one thread."""

    def __init__(self) -> None:
        self._began: tuple[int, int] | None = None  # (timestamp, arrival).
        self._last = (0, 0)
        self._packets = 0

    def observe(self, timestamp_ns: int, arrived_ns: int) -> bool:
        """Note a timestamp in nanoseconds, in decoding order; return whether they can be used."""
        last_ns, last_arrived_ns = self._last
        self._last = (timestamp_ns, arrived_ns)
        step_ns, elapsed_ns = timestamp_ns - last_ns, arrived_ns - last_arrived_ns
        if self._began is None or not -_NS <= step_ns <= elapsed_ns + _NS:
            self._begin(timestamp_ns, arrived_ns)
            return False
        self._packets += 1
        began_ns, began_arrived_ns = self._began
        whole_ns = arrived_ns - began_arrived_ns
        if whole_ns < _TRUSTED_NS or self._packets < _MIN_PACKETS:
            return False
        rate = (timestamp_ns - began_ns) / whole_ns
        self._begin(timestamp_ns, arrived_ns)
        return abs(rate - 1) <= _TRUSTED_RATE

    def _begin(self, timestamp_ns: int, arrived_ns: int) -> None:
        self._began, self._packets = (timestamp_ns, arrived_ns), 0
