"""When pictures are shown: from the times of a recording to those of its conversion.

Pure arithmetic with whole nanoseconds and exact fractions. What is decided for one interval
between two pictures depends on that interval alone, so chunks can be converted in any order.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

NS: Final = 1_000_000_000

_FINEST: Final = 500_000_000
"""Ticks a second at most: a tick of less than two nanoseconds could not be told from the next."""

_CLOSE: Final = Fraction(1, 50)
"""Share of an interval within which a picture of a constant rate is one of the two originals
itself: Matroska rounds times by up to 3 % of an interval of 60 Hz, and a picture that is mixed by
that little is only less sharp."""


@dataclass(frozen=True, slots=True)
class OutputFrame:
    """A picture to be shown."""

    pts_ns: int
    """When, by the clock of the recording; `FrameSchedule.ticks` tells it by that of the
    conversion."""

    share: float
    """Where between two pictures: 0 is the left one itself, 1 the right one."""


@dataclass(frozen=True, slots=True)
class FrameSchedule:
    """Which pictures a conversion shows, and when."""

    factor: int = 1
    """Pictures for each of the recording; each of its own times stays."""

    rate: Fraction | None = None
    """Constant rate in pictures a second of the recording's time, in place of a factor."""

    speed: Fraction = Fraction(1)
    """How fast the recording runs: 1/4 is slow motion."""

    origin_ns: int = 0
    """Time of the first picture: where a constant rate begins."""

    def __post_init__(self) -> None:
        """Check what was asked for."""
        if self.factor < 1:
            raise ValueError(f"factor must be at least 1, got {self.factor}")
        if self.rate is not None and self.rate <= 0:
            raise ValueError(f"rate must be above 0, got {self.rate}")
        if self.speed <= 0:
            raise ValueError(f"speed must be above 0, got {self.speed}")

    @property
    def interpolates(self) -> bool:
        """Whether pictures come in between."""
        return self.factor > 1 or self.rate is not None

    def between(self, left_ns: int, right_ns: int) -> Iterator[OutputFrame]:
        """The pictures from one of the recording, itself among them, up to the next one."""
        length = right_ns - left_ns
        if self.rate is None:
            for step in range(self.factor):
                share = Fraction(step, self.factor)
                yield OutputFrame(left_ns + round(share * length), float(share))
            return
        # From the left one on and before the right one, to the nanosecond: what were decided by
        # being close to either would be decided otherwise by a neighbour of another length.
        period = NS / self.rate
        number = math.ceil((left_ns - self.origin_ns) / period)
        while (at := self.origin_ns + number * period) < right_ns:
            yield OutputFrame(round(at), _share((at - left_ns) / length))
            number += 1

    def seconds(self, seconds: Fraction) -> Fraction:
        """A time of the recording as one of the conversion."""
        return seconds / self.speed

    def time_base(self, source: Fraction) -> Fraction:
        """Seconds a tick in which every picture's time is a whole number, if that can be had.

        Args:
            source: Of the recording.
        """
        tick = source / self.factor / self.speed
        denominator = tick.denominator
        if self.rate is not None:
            denominator = math.lcm(denominator, (1 / self.rate / self.speed).denominator)
        return Fraction(1, denominator) if denominator <= _FINEST else Fraction(1, _FINEST // 5)

    def ticks(self, pts_ns: int, time_base: Fraction) -> int:
        """A time of the recording in ticks of the conversion."""
        return round(Fraction(pts_ns, NS) / self.speed / time_base)

    def output_rate(self, source: Fraction) -> Fraction:
        """Nominal pictures a second of the conversion.

        Args:
            source: Of the recording.
        """
        return (self.rate or source * self.factor) * self.speed


def _share(exact: Fraction) -> float:
    if exact <= _CLOSE:
        return 0.0
    return 1.0 if exact >= 1 - _CLOSE else float(exact)
