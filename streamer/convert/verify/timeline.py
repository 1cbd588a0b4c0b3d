"""When frames are to be shown, when they are, and so which are missing or too many.

All times are whole numbers of a unit fine enough for both recordings, so nothing is rounded
but the comparison itself: half a tick of the coarser clock is what a muxer may move a frame by.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.convert.inventory import VideoFacts

from .report import Expectation

_RATES: Final = tuple(
    Fraction(rate) * factor
    for rate in (10, 12, 15, 24, 25, 30, 48, 50, 60, 72, 90, 100, 120, 144, 240)
    for factor in (Fraction(1), Fraction(1000, 1001))
)
"""Constant rates that are guessed when nobody says which was asked for, frames a second."""

_REPAIRED: Final = Fraction(1, 1000)
"""Clock of an input, in seconds, up to which its rounding may be mended: 42 milliseconds of
Matroska may have been 1001/24000 s. The ticks of AVI are whole frames, and are meant."""

_CLOSE: Final = Fraction(1, 50)
"""Share of an interval by which a frame of a constant rate may miss an original and still be it."""

_LARGEST_FACTOR: Final = 16
_KEPT: Final = 0.75
"""Share of the frames that must be as a factor says for it to be believed."""

Array = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Two rows of times, matched."""

    unit: Fraction
    """Seconds; all times and distances here are whole numbers of it."""

    originals: Array
    """When each frame of the input is to be shown."""

    actual: Array
    """When each frame of the output is shown, rising."""

    at: Array
    """For each original its place in `actual`, -1 if it is not there or was not to be kept."""

    kept: NDArray[np.bool_]
    """Whether each original was to be kept."""

    missing: Array
    """Times of frames between originals, or of a constant rate, that are not there."""

    extra: Array
    """Places in `actual` of frames that nobody asked for."""

    @property
    def lost(self) -> Array:
        """Places of the originals that should be there and are not."""
        return np.flatnonzero(self.kept & (self.at < 0))

    @property
    def faults(self) -> int:
        """Frames too few and too many."""
        return len(self.lost) + len(self.missing) + len(self.extra)

    def seconds(self, time: int) -> Fraction:
        """*time* in seconds."""
        return int(time) * self.unit


def timeline(
    before: VideoFacts, after: VideoFacts, expected: Expectation, *, shift: Fraction
) -> Timeline:
    """Match the frames of *after* with what *expected* makes of those of *before*.

    Args:
        before: Of the input.
        after: Of the output.
        expected: A factor of 1 if it names neither factor nor rate.
        shift: Seconds by which all of the output is later.
    """
    factor = expected.factor if expected.factor is not None else Fraction(1)
    step = Fraction(1) if expected.rate is None else 1 / expected.rate
    bases = (before.time_base / expected.speed, after.time_base, shift, step)
    fine = math.lcm(*(base.denominator for base in bases)) * 2 * factor.numerator
    unit = Fraction(1, fine)
    originals = before.times * int(before.time_base / expected.speed / unit) + int(shift / unit)
    last = before.last_duration * int(before.time_base / expected.speed / unit)
    actual = after.times * int(after.time_base / unit)
    tolerance = tolerance_between(before, after, shift=shift) // unit
    if expected.rate is None:
        wanted, is_original, optional = _multiplied(originals, last, factor)
    else:
        wanted, is_original, optional = _even(originals, last, int(step / unit))
    # A clock may be so coarse (MP4 counts thirtieths where that suffices) that half a tick of it
    # reaches the next frame.
    tolerance = min(tolerance, (_closest(wanted, last) - 1) // 2)
    found = _nearest(wanted, actual, tolerance)
    # Of a constant rate some frames may well be originals, though none was to be kept.
    at = np.full(len(originals), -1, np.int64)
    if expected.rate is not None:
        gap = int(np.median(np.diff(originals))) if len(originals) > 1 else last
        at = _nearest(originals, actual, max(tolerance, int(gap * _CLOSE)))
    at[is_original[is_original >= 0]] = found[is_original >= 0]
    kept = np.zeros(len(originals), bool)
    kept[is_original[is_original >= 0]] = True
    unused = np.setdiff1d(np.arange(len(actual)), found[found >= 0])
    # After the last original as many may follow as it would have been multiplied to.
    after_last = unused[actual[unused] > originals[-1]]
    allowed = after_last[: len(optional)]
    allowed = allowed[actual[allowed] < originals[-1] + last]
    return Timeline(
        unit=unit,
        originals=originals,
        actual=actual,
        at=at,
        kept=kept,
        missing=wanted[(found < 0) & (is_original < 0)],
        extra=np.setdiff1d(unused, allowed),
    )


def _closest(times: Array, last: int) -> int:
    return int(np.diff(times).min()) if len(times) > 1 else last


def tolerance_between(before: VideoFacts, after: VideoFacts, *, shift: Fraction) -> Fraction:
    """Seconds by which a frame may be off: what rounding to the coarser clock explains."""
    tick = max(min(before.time_base, _REPAIRED), after.time_base)
    return tick if shift else tick / 2


def _multiplied(originals: Array, last: int, factor: Fraction) -> tuple[Array, Array, Array]:
    """Times wanted, the original that each is (or -1), and times that may follow."""
    over, under = factor.numerator, factor.denominator
    count = len(originals)
    places = np.arange(((count - 1) * over) // under + 1, dtype=np.int64) * under
    left, rest = places // over, places % over
    gaps = np.append(np.diff(originals), last)
    wanted = originals[left] + rest * gaps[left] // over
    follow = np.arange(len(places), -((-count * over) // under), dtype=np.int64)
    optional = originals[-1] + (follow * under - (count - 1) * over) * last // over
    return wanted, np.where(rest == 0, left, -1), optional


def _even(originals: Array, last: int, step: int) -> tuple[Array, Array, Array]:
    """As `_multiplied`, for a constant rate: no original is sure to be kept."""
    first, end = int(originals[0]), int(originals[-1]) + last
    grid = np.arange(first, max(end, first + 1), step, dtype=np.int64)
    # The last one may fall within a rounding error of the end.
    sure = grid[: max(1, len(grid) - 1)]
    return sure, np.full(len(sure), -1, np.int64), np.arange(2, dtype=np.int64)


def _nearest(wanted: Array, actual: Array, tolerance: int) -> Array:
    """For each time wanted the place in *actual* of the nearest, -1 if none is near enough.

    No place is given twice.
    """
    right = np.searchsorted(actual, wanted)
    left = np.clip(right - 1, 0, len(actual) - 1)
    right = np.clip(right, 0, len(actual) - 1)
    nearer = np.where(wanted - actual[left] <= actual[right] - wanted, left, right)
    nearer = np.where(actual[left] > wanted, right, nearer)
    found = np.where(np.abs(actual[nearer] - wanted) <= tolerance, nearer, -1)
    again = np.zeros(len(found), bool)
    again[1:] = (found[1:] >= 0) & (found[1:] == found[:-1])
    return np.where(again, -1, found)


def deduced(before: VideoFacts, after: VideoFacts) -> Expectation:
    """What was asked for, judging by the result: the guess that leaves the least unexplained."""
    best, least = Expectation(factor=Fraction(1)), math.inf
    for guess in _factors(before, after):
        matched = timeline(before, after, guess, shift=shift_between(before, after, guess))
        if matched.faults < least:
            best, least = guess, matched.faults
        if not matched.faults:
            return best
    # A constant rate explains nearly anything, and would excuse a frame that is missing.
    if least < (1 - _KEPT) * len(after.times):
        return best
    for guess in _rates(before, after):
        if not timeline(before, after, guess, shift=Fraction(0)).faults:
            return guess
    return best


def _factors(before: VideoFacts, after: VideoFacts) -> Iterator[Expectation]:
    ratio = Fraction(len(after.times), len(before.times))
    factors = {max(1, min(_LARGEST_FACTOR, value)) for value in (round(ratio), math.ceil(ratio))}
    plain = [Expectation(factor=Fraction(factor)) for factor in sorted(factors)]
    yield from plain
    speed = _speed(before, after)
    if speed != 1:
        yield from (replace(guess, speed=speed) for guess in plain)


def _rates(before: VideoFacts, after: VideoFacts) -> Iterator[Expectation]:
    for speed in {Fraction(1), _speed(before, after)}:
        yield from (Expectation(rate=rate, speed=speed) for rate in _near_rates(after))


def _speed(before: VideoFacts, after: VideoFacts) -> Fraction:
    """How fast it runs if it runs at a simple fraction of what it did; else 1."""
    spans = [
        (int(one.times[-1]) - int(one.times[0]) + one.last_duration) * one.time_base
        for one in (before, after)
    ]
    speed = (spans[0] / spans[1]).limit_denominator(_LARGEST_FACTOR)
    if not speed or abs(spans[0] / spans[1] / speed - 1) > Fraction(1, 100):
        return Fraction(1)
    return speed


def _near_rates(video: VideoFacts) -> list[Fraction]:
    """Constant rates that *video* may have."""
    if len(video.times) < 2:  # noqa: PLR2004  one frame has no rate
        return []
    span = (int(video.times[-1]) - int(video.times[0])) * video.time_base
    rate = (len(video.times) - 1) / span
    near = [one for one in _RATES if abs(one / rate - 1) < Fraction(1, 200)]
    return sorted(near, key=lambda one: abs(one - rate))


def shift_between(before: VideoFacts, after: VideoFacts, expected: Expectation) -> Fraction:
    """Seconds by which all of *after* is later; 0 if its frames are where they should be.

    That the first frame is later is no shift as long as the others are at their times.
    """
    begins = after.begin - before.begin / expected.speed
    if abs(begins) <= tolerance_between(before, after, shift=Fraction(0)):
        return Fraction(0)
    still = timeline(before, after, expected, shift=Fraction(0))
    moved = timeline(before, after, expected, shift=begins)
    return begins if moved.faults < still.faults else Fraction(0)
