"""Matches the frames of the output with those of the source by their times.

All times are integers of a unit fine enough for both recordings, so the only rounding is the
comparison itself: a muxer may move a frame by half a tick of the coarser time base.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.config.convert import ConvertOptions
from streamer.convert.media_info import VideoInfo

_RATES: Final = tuple(
    Fraction(rate) * factor
    for rate in (10, 12, 15, 24, 25, 30, 48, 50, 60, 72, 90, 100, 120, 144, 240)
    for factor in (Fraction(1), Fraction(1000, 1001))
)
"""Constant frame rates considered by `infer_options`."""

_MAX_UNITS_PER_SECOND: Final = 10**13
"""With more, the times of a day exceed 63 bits."""

_NANOSECONDS: Final = 10**9
"""Units per second where an odd speed would need finer ones: far finer than any tick."""

_SPEEDS: Final = tuple(
    Fraction(speed)
    for speed in (
        "1", "1/10", "1/8", "1/6", "1/5", "1/4", "1/3", "1/2", "2/3", "3/4", "4/5", "9/10",
        "11/10", "5/4", "4/3", "3/2", "2", "3", "4", "5", "8", "10", "24/25", "25/24",
    )
)  # fmt: skip
"""Speeds considered by `infer_options`."""

_ROUNDED_TIME_BASE: Final = Fraction(1, 1000)
"""Coarsest time base of a source, in seconds, whose rounding may be undone: 42 ms in Matroska may
have been 1001/24000 s. AVI's ticks are whole frames and exact."""

_SAME_TIME: Final = Fraction(1, 50)
"""Fraction of an interval by which a frame of a constant rate may miss an original and still count
as that original."""

_MAX_FACTOR: Final = 16
_MIN_EXPLAINED: Final = 0.75
"""Fraction of the frames that a factor must explain to be inferred."""

Array = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class MatchedFrames:
    """The frames of source and output, matched by time."""

    unit: Fraction
    """Seconds per unit; all times here are integers of this unit."""

    originals: Array
    """Expected time in the output of each source frame."""

    actual: Array
    """Time of each output frame, rising."""

    at: Array
    """Index in `actual` of each original; -1 if it is missing or was not required."""

    required: NDArray[np.bool_]
    """Whether each original must be in the output."""

    missing: Array
    """Times of expected frames that are missing and are no originals."""

    extra: Array
    """Indexes in `actual` of unexpected frames."""

    @property
    def lost(self) -> Array:
        """Indexes of the required originals that are missing."""
        return np.flatnonzero(self.required & (self.at < 0))

    @property
    def faults(self) -> int:
        """Number of missing and unexpected frames."""
        return len(self.lost) + len(self.missing) + len(self.extra)

    def seconds(self, time: int) -> Fraction:
        """Convert *time* to seconds."""
        return int(time) * self.unit


def match_frames(
    source: VideoInfo, output: VideoInfo, options: ConvertOptions, *, shift: Fraction
) -> MatchedFrames:
    """Match the frames of *output* with those that *options* make of *source*.

    Args:
        source: Video of the source.
        output: Video of the output.
        options: Options of the conversion; factor, fps and speed matter.
        shift: Seconds by which everything in the output is later.
    """
    factor = options.resolved_factor
    step = Fraction(1) if options.fps is None else 1 / options.fps
    bases = (source.time_base / options.speed, output.time_base, shift, step)
    fine = math.lcm(*(base.denominator for base in bases)) * 2 * factor
    unit = Fraction(1, fine if fine <= _MAX_UNITS_PER_SECOND else _NANOSECONDS)
    originals = _in_units(source.times, bases[0] / unit) + int(shift / unit)
    last = int(source.last_duration * bases[0] / unit)
    actual = _in_units(output.times, output.time_base / unit)
    strict = int(time_tolerance(source, output, shift=shift) / unit)
    # Frames between rounded originals may have been timed from unrounded ones.
    loose = strict + int(min(source.time_base, _ROUNDED_TIME_BASE) / 2 / unit)
    if options.fps is None:
        plan = _multiplied(originals, last, factor)
    else:
        plan = _constant_rate(originals, last, step / unit, slack=loose)
    is_original = plan.original >= 0
    found = _nearest(plan.times, actual, np.where(is_original, strict, loose))
    required = np.zeros(len(originals), bool)
    required[plan.original[is_original]] = True
    # At a constant rate no original is required, but some frames may coincide with one.
    at = np.full(len(originals), -1, np.int64)
    if options.fps is not None:
        gap = int(np.median(np.diff(originals))) if len(originals) > 1 else last
        tolerance = max(strict, int(gap * _SAME_TIME))
        at = _nearest(originals, actual, np.full(len(originals), tolerance))
    at[plan.original[is_original]] = found[is_original]
    unused = np.setdiff1d(np.arange(len(actual)), found[found >= 0])
    # The last original may be followed by as many frames as the factor makes of it.
    follow = (actual[unused] > originals[-1]) & (actual[unused] < originals[-1] + last)
    allowed = unused[follow][: plan.optional]
    return MatchedFrames(
        unit=unit,
        originals=originals,
        actual=actual,
        at=at,
        required=required,
        missing=plan.times[(found < 0) & ~is_original & plan.required],
        extra=np.setdiff1d(unused, allowed),
    )


def _in_units(ticks: Array, units: Fraction) -> Array:
    """Convert *ticks* to units, rounded; *units* is the length of a tick."""
    if units.denominator == 1:
        return ticks * units.numerator
    return np.array([round(tick * units) for tick in ticks.tolist()], np.int64)


def time_tolerance(source: VideoInfo, output: VideoInfo, *, shift: Fraction) -> Fraction:
    """Return the seconds by which a frame may be off: the rounding to the coarser time base."""
    tick = max(min(source.time_base, _ROUNDED_TIME_BASE), output.time_base)
    return tick if shift else tick / 2


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """The frames expected in the output."""

    times: Array
    """Time of each."""

    original: Array
    """Index of the original that each is; -1 if it is none."""

    required: NDArray[np.bool_]
    """Whether each must be in the output."""

    optional: int
    """Number of frames that may follow the last original in addition."""


def _multiplied(originals: Array, last: int, factor: int) -> _Plan:
    """Each interval divided into *factor* equal parts."""
    count = (len(originals) - 1) * factor + 1
    left, part = np.divmod(np.arange(count, dtype=np.int64), factor)
    gaps = np.append(np.diff(originals), last)
    return _Plan(
        times=originals[left] + part * gaps[left] // factor,
        original=np.where(part == 0, left, -1),
        required=np.ones(count, bool),
        optional=factor - 1,
    )


def _constant_rate(originals: Array, last: int, step: Fraction, *, slack: int) -> _Plan:
    """Frames at a constant rate from the first original on; no original is required.

    Frames within the duration of the last original are optional.
    """
    first, end = int(originals[0]), int(originals[-1]) + last
    count = max(1, math.ceil((end - first) / step))
    grid = first + _in_units(np.arange(count, dtype=np.int64), step)
    no_original = np.full(len(grid), -1, np.int64)
    required = (grid < originals[-1] - slack) | (grid == first)
    return _Plan(grid, no_original, required=required, optional=1)


def _nearest(expected: Array, actual: Array, tolerance: Array) -> Array:
    """Return the index in *actual* nearest to each expected time; -1 if none is near enough.

    No index is returned twice.
    """
    right = np.searchsorted(actual, expected)
    left = np.clip(right - 1, 0, len(actual) - 1)
    right = np.clip(right, 0, len(actual) - 1)
    nearer = np.where(expected - actual[left] <= actual[right] - expected, left, right)
    nearer = np.where(actual[left] > expected, right, nearer)
    found = np.where(np.abs(actual[nearer] - expected) <= tolerance, nearer, -1)
    again = np.zeros(len(found), bool)
    again[1:] = (found[1:] >= 0) & (found[1:] == found[:-1])
    return np.where(again, -1, found)


def infer_options(source: VideoInfo, output: VideoInfo, *, complete: bool) -> ConvertOptions:
    """Infer factor, frame rate and speed: the candidate that leaves the fewest faults.

    Args:
        source: Video of the source.
        output: Video of the output.
        complete: Whether the output is complete; otherwise its duration says nothing.
    """
    best, least = ConvertOptions(factor=1), math.inf
    for candidate in _factors(source, output, complete=complete):
        faults = _faults(source, output, candidate)
        if faults < least:
            best, least = candidate, faults
        if not faults:
            return best
    # A constant rate explains nearly any times, and would hide a missing frame.
    if not complete or least < (1 - _MIN_EXPLAINED) * len(output.times):
        return best
    for candidate in _rates(source, output):
        if not _faults(source, output, candidate):
            return candidate
    return best


def _faults(source: VideoInfo, output: VideoInfo, options: ConvertOptions) -> int:
    shift = start_shift(source, output, options)
    return match_frames(source, output, options, shift=shift).faults


def _factors(source: VideoInfo, output: VideoInfo, *, complete: bool) -> Iterator[ConvertOptions]:
    ratio = Fraction(len(output.times), len(source.times))
    factors = sorted(
        {max(1, min(_MAX_FACTOR, value)) for value in (round(ratio), math.ceil(ratio))}
    )
    speed = _speed(source, output)
    for candidate in (Fraction(1), speed) if complete and speed != 1 else (Fraction(1),):
        yield from (ConvertOptions(factor=factor, speed=candidate) for factor in factors)


def _rates(source: VideoInfo, output: VideoInfo) -> Iterator[ConvertOptions]:
    for speed in {Fraction(1), _speed(source, output)}:
        yield from (ConvertOptions(fps=rate, speed=speed) for rate in _near_rates(output))


def _speed(source: VideoInfo, output: VideoInfo) -> Fraction:
    """Return the common speed that explains the durations to within a frame; otherwise 1."""
    spans = [
        (int(one.times[-1]) - int(one.times[0]) + one.last_duration) * one.time_base
        for one in (source, output)
    ]
    frame = spans[0] / len(source.times)
    near = [one for one in _SPEEDS if abs(spans[1] * one - spans[0]) <= frame]
    return min(near, key=lambda one: abs(spans[1] * one - spans[0]), default=Fraction(1))


def _near_rates(video: VideoInfo) -> list[Fraction]:
    """Return common frame rates within 0.5 % of the average rate of *video*, nearest first."""
    if len(video.times) < 2:  # noqa: PLR2004  one frame has no rate
        return []
    span = (int(video.times[-1]) - int(video.times[0])) * video.time_base
    rate = (len(video.times) - 1) / span
    near = [one for one in _RATES if abs(one / rate - 1) < Fraction(1, 200)]
    return sorted(near, key=lambda one: abs(one - rate))


def start_shift(source: VideoInfo, output: VideoInfo, options: ConvertOptions) -> Fraction:
    """Return the seconds by which all of *output* is later; 0 if its frames are at their times.

    A missing first frame is no shift as long as the others are at their times.
    """
    begins = output.begin - source.begin / options.speed
    if abs(begins) <= time_tolerance(source, output, shift=Fraction(0)):
        return Fraction(0)
    unmoved = match_frames(source, output, options, shift=Fraction(0))
    moved = match_frames(source, output, options, shift=begins)
    return begins if moved.faults < unmoved.faults else Fraction(0)
