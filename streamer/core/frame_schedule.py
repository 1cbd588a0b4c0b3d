"""Presentation times of a conversion: from the times of a recording to those of its output.

Pure arithmetic with whole nanoseconds and exact fractions. What is decided for the interval between
two frames depends on that interval alone, so that chunks can be converted in any order.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

NS: Final = 1_000_000_000

_MAX_TICKS_PER_S: Final = 500_000_000
"""Times are in nanoseconds, and cannot tell ticks shorter than two of them apart."""

_ORIGINAL_WITHIN: Final = Fraction(1, 50)
"""Phase within which a frame of a constant rate is one of the two originals itself: Matroska rounds
times by up to 3 % of an interval of 60 Hz, and a frame interpolated by that little is only blurred.
"""


@dataclass(frozen=True, slots=True)
class OutputFrame:
    """One frame of the output, as its time and its place between two frames of the recording."""

    pts_ns: int
    """Time by the clock of the recording; `FrameSchedule.ticks` converts it to the output's."""

    phase: float
    """Place between two frames of the recording: 0 is the left one itself, 1 the right one."""


@dataclass(frozen=True, slots=True)
class FrameSchedule:
    """Which frames the output of a conversion has, and when they are shown."""

    factor: int = 1
    """Output frames per frame of the recording, at whose times the originals stay."""

    rate: Fraction | None = None
    """Constant rate, in frames per second of the recording's time; replaces the factor."""

    speed: Fraction = Fraction(1)
    """Playback speed: 1/4 is slow motion."""

    origin_ns: int = 0
    """Time of the first frame, at which a constant rate begins."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.factor < 1:
            raise ValueError(f"factor must be at least 1, got {self.factor}")
        if self.rate is not None and self.rate <= 0:
            raise ValueError(f"rate must be above 0, got {self.rate}")
        if self.speed <= 0:
            raise ValueError(f"speed must be above 0, got {self.speed}")

    @property
    def interpolates(self) -> bool:
        """Whether the output has frames between those of the recording."""
        return self.factor > 1 or self.rate is not None

    def between(self, left_ns: int, right_ns: int) -> Iterator[OutputFrame]:
        """Yield the output frames in [left_ns, right_ns), the times of two consecutive frames."""
        length = right_ns - left_ns
        if self.rate is None:
            for step in range(self.factor):
                phase = Fraction(step, self.factor)
                yield OutputFrame(left_ns + round(phase * length), float(phase))
            return
        # Half-open interval, to the nanosecond: a tolerance at its ends would be another one in the
        # neighboring interval, which has another length.
        period = NS / self.rate
        number = math.ceil((left_ns - self.origin_ns) / period)
        while (at := self.origin_ns + number * period) < right_ns:
            yield OutputFrame(round(at), _snapped((at - left_ns) / length))
            number += 1

    def time_base(self, source: Fraction) -> Fraction:
        """Return the time base (seconds per tick) of the output, from that of the recording.

        Every frame's time is a whole number of ticks unless that needs more than 500 million ticks
        per second.
        """
        tick = source / self.factor / self.speed
        denominator = tick.denominator
        if self.rate is not None:
            denominator = math.lcm(denominator, (1 / self.rate / self.speed).denominator)
        if denominator <= _MAX_TICKS_PER_S:
            return Fraction(1, denominator)
        return Fraction(1, _MAX_TICKS_PER_S // 5)

    def ticks(self, pts_ns: int, time_base: Fraction) -> int:
        """Return a time of the recording in ticks of the output."""
        return round(Fraction(pts_ns, NS) / self.speed / time_base)

    def output_rate(self, source: Fraction) -> Fraction:
        """Return the nominal frame rate of the output, from that of the recording."""
        return (self.rate or source * self.factor) * self.speed


def _snapped(phase: Fraction) -> float:
    if phase <= _ORIGINAL_WITHIN:
        return 0.0
    return 1.0 if phase >= 1 - _ORIGINAL_WITHIN else float(phase)
