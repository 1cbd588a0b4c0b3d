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

from streamer.convert.media_info import VideoInfo

from .report import Expectation

_RATES: Final = tuple(
    Fraction(rate) * factor
    for rate in (10, 12, 15, 24, 25, 30, 48, 50, 60, 72, 90, 100, 120, 144, 240)
    for factor in (Fraction(1), Fraction(1000, 1001))
)
"""Constant rates that are guessed when nobody says which was asked for, frames a second."""

_FINEST: Final = 10**13
"""Units a second that a day of times can be counted in with 63 bits."""

_NANOSECONDS: Final = 10**9
"""Units a second where an odd speed would need finer ones: far below any tick."""

_SPEEDS: Final = tuple(
    Fraction(speed)
    for speed in (
        "1", "1/10", "1/8", "1/6", "1/5", "1/4", "1/3", "1/2", "2/3", "3/4", "4/5", "9/10",
        "11/10", "5/4", "4/3", "3/2", "2", "3", "4", "5", "8", "10", "24/25", "25/24",
    )
)  # fmt: skip
"""Speeds that are guessed."""

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
    before: VideoInfo, after: VideoInfo, expected: Expectation, *, shift: Fraction
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
    unit = Fraction(1, fine if fine <= _FINEST else _NANOSECONDS)
    originals = _counted(before.times, bases[0] / unit) + int(shift / unit)
    last = int(before.last_duration * bases[0] / unit)
    actual = _counted(after.times, after.time_base / unit)
    strict = int(tolerance_between(before, after, shift=shift) / unit)
    # Between originals that were rounded may lie frames that were counted from unrounded ones.
    loose = strict + int(min(before.time_base, _REPAIRED) / 2 / unit)
    if expected.rate is None:
        plan = _multiplied(originals, last, factor)
    else:
        plan = _even(originals, last, step / unit, slack=loose)
    known = plan.original >= 0
    found = _nearest(plan.wanted, actual, np.where(known, strict, loose))
    kept = np.zeros(len(originals), bool)
    kept[plan.original[known]] = True
    # Of a constant rate some frames may well be originals, though none was to be kept.
    at = np.full(len(originals), -1, np.int64)
    if expected.rate is not None:
        gap = int(np.median(np.diff(originals))) if len(originals) > 1 else last
        at = _nearest(originals, actual, np.full(len(originals), max(strict, int(gap * _CLOSE))))
    at[plan.original[known]] = found[known]
    unused = np.setdiff1d(np.arange(len(actual)), found[found >= 0])
    # After the last original as many may follow as it would have been multiplied to.
    follow = (actual[unused] > originals[-1]) & (actual[unused] < originals[-1] + last)
    allowed = unused[follow][: plan.spare]
    return Timeline(
        unit=unit,
        originals=originals,
        actual=actual,
        at=at,
        kept=kept,
        missing=plan.wanted[(found < 0) & ~known & plan.needed],
        extra=np.setdiff1d(unused, allowed),
    )


def _closest(times: Array, last: int) -> int:
    return int(np.diff(times).min()) if len(times) > 1 else last


def _counted(ticks: Array, units: Fraction) -> Array:
    """*ticks* of so many *units* in units."""
    if units.denominator == 1:
        return ticks * units.numerator
    return np.array([round(tick * units) for tick in ticks.tolist()], np.int64)


def tolerance_between(before: VideoInfo, after: VideoInfo, *, shift: Fraction) -> Fraction:
    """Seconds by which a frame may be off: what rounding to the coarser clock explains."""
    tick = max(min(before.time_base, _REPAIRED), after.time_base)
    return tick if shift else tick / 2


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """The frames that an expectation makes of the originals."""

    wanted: Array
    """When."""

    original: Array
    """Which original each is; -1 if none."""

    needed: NDArray[np.bool_]
    """Whether each must be there."""

    spare: int
    """How many more there may be after the last original."""


def _multiplied(originals: Array, last: int, factor: Fraction) -> _Plan:
    over, under = factor.numerator, factor.denominator
    count = len(originals)
    places = np.arange(((count - 1) * over) // under + 1, dtype=np.int64) * under
    left, rest = places // over, places % over
    gaps = np.append(np.diff(originals), last)
    return _Plan(
        wanted=originals[left] + rest * gaps[left] // over,
        original=np.where(rest == 0, left, -1),
        needed=np.ones(len(places), bool),
        spare=math.ceil(count * factor) - len(places),
    )


def _even(originals: Array, last: int, step: Fraction, *, slack: int) -> _Plan:
    """A constant rate from the first original on: of no original it is sure that it is kept.

    While the last one is shown there may be as many as fit, or none.
    """
    first, end = int(originals[0]), int(originals[-1]) + last
    count = max(1, math.ceil((end - first) / step))
    grid = first + _counted(np.arange(count, dtype=np.int64), step)
    unknown = np.full(len(grid), -1, np.int64)
    return _Plan(grid, unknown, needed=(grid < originals[-1] - slack) | (grid == first), spare=1)


def _nearest(wanted: Array, actual: Array, tolerance: Array) -> Array:
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


def deduced(before: VideoInfo, after: VideoInfo, *, whole: bool) -> Expectation:
    """What was asked for, judging by the result: the guess that leaves the least unexplained.

    Args:
        before: Of the input.
        after: Of the output.
        whole: Whether the output seems to be all there; else how long it is says nothing.
    """
    best, least = Expectation(factor=Fraction(1)), math.inf
    for guess in _factors(before, after, whole=whole):
        matched = timeline(before, after, guess, shift=shift_between(before, after, guess))
        if matched.faults < least:
            best, least = guess, matched.faults
        if not matched.faults:
            return best
    # A constant rate explains nearly anything, and would excuse a frame that is missing.
    if not whole or least < (1 - _KEPT) * len(after.times):
        return best
    for guess in _rates(before, after):
        shift = shift_between(before, after, guess)
        if not timeline(before, after, guess, shift=shift).faults:
            return guess
    return best


def _factors(before: VideoInfo, after: VideoInfo, *, whole: bool) -> Iterator[Expectation]:
    ratio = Fraction(len(after.times), len(before.times))
    factors = {max(1, min(_LARGEST_FACTOR, value)) for value in (round(ratio), math.ceil(ratio))}
    plain = [Expectation(factor=Fraction(factor)) for factor in sorted(factors)]
    yield from plain
    speed = _speed(before, after)
    if whole and speed != 1:
        yield from (replace(guess, speed=speed) for guess in plain)


def _rates(before: VideoInfo, after: VideoInfo) -> Iterator[Expectation]:
    for speed in {Fraction(1), _speed(before, after)}:
        yield from (Expectation(rate=rate, speed=speed) for rate in _near_rates(after))


def _speed(before: VideoInfo, after: VideoInfo) -> Fraction:
    """How fast it runs if that is a usual speed to within a frame; else 1."""
    spans = [
        (int(one.times[-1]) - int(one.times[0]) + one.last_duration) * one.time_base
        for one in (before, after)
    ]
    frame = spans[0] / len(before.times)
    near = [one for one in _SPEEDS if abs(spans[1] * one - spans[0]) <= frame]
    return min(near, key=lambda one: abs(spans[1] * one - spans[0]), default=Fraction(1))


def _near_rates(video: VideoInfo) -> list[Fraction]:
    """Constant rates that *video* may have."""
    if len(video.times) < 2:  # noqa: PLR2004  one frame has no rate
        return []
    span = (int(video.times[-1]) - int(video.times[0])) * video.time_base
    rate = (len(video.times) - 1) / span
    near = [one for one in _RATES if abs(one / rate - 1) < Fraction(1, 200)]
    return sorted(near, key=lambda one: abs(one - rate))


def shift_between(before: VideoInfo, after: VideoInfo, expected: Expectation) -> Fraction:
    """Seconds by which all of *after* is later; 0 if its frames are where they should be.

    That the first frame is later is no shift as long as the others are at their times.
    """
    begins = after.begin - before.begin / expected.speed
    if abs(begins) <= tolerance_between(before, after, shift=Fraction(0)):
        return Fraction(0)
    still = timeline(before, after, expected, shift=Fraction(0))
    moved = timeline(before, after, expected, shift=begins)
    return begins if moved.faults < still.faults else Fraction(0)
