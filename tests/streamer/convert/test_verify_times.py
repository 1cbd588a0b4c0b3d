"""Which frames are missing or too many: arithmetic on times alone, for all sorts of clocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.config.convert import ConvertOptions
from streamer.convert.media_info import VideoInfo
from streamer.convert.verify.frame_matching import (
    MatchedFrames,
    infer_options,
    match_frames,
    start_shift,
)

ZERO = Fraction(0)
FILM = Fraction(1001, 24000)
MATROSKA = Fraction(1, 1000)
MP4 = Fraction(1, 90000)


@dataclass
class Times:
    """The part of VideoInfo that matching uses."""

    times: Any
    time_base: Fraction
    last_duration: int

    @property
    def begin(self) -> Fraction:
        return int(self.times[0]) * self.time_base


def video(times: Sequence[Fraction], clock: Fraction, *, last: Fraction | None = None) -> VideoInfo:
    """Times in seconds, as a container with *clock* rounds them."""
    length = last or (times[-1] - times[-2] if len(times) > 1 else Fraction(1, 25))
    ticks = [round(time / clock) for time in times]
    made = Times(np.array(ticks, np.int64), clock, max(1, round(length / clock)))
    return cast("VideoInfo", made)


def constant_rate(count: int, step: Fraction, *, start: Fraction = ZERO) -> list[Fraction]:
    return [start + number * step for number in range(count)]


def multiplied(times: list[Fraction], factor: int) -> list[Fraction]:
    """What `factor` makes of them, the last one included."""
    ends = [*times[1:], 2 * times[-1] - times[-2] if len(times) > 1 else times[-1] + 1]
    return [
        time + (end - time) * Fraction(step, factor)
        for time, end in zip(times, ends, strict=True)
        for step in range(factor)
    ]


def matched(before: VideoInfo, after: VideoInfo, **options: Any) -> MatchedFrames:
    return match_frames(before, after, ConvertOptions(**options), shift=ZERO)


@pytest.mark.parametrize("clock_before", [MATROSKA, MP4, FILM])
@pytest.mark.parametrize("clock_after", [MATROSKA, MP4, Fraction(1, 48000)])
@pytest.mark.parametrize("factor", [1, 2, 3, 5])
def test_every_clock_keeps_a_film(
    clock_before: Fraction, clock_after: Fraction, factor: int
) -> None:
    times = constant_rate(1000, FILM)
    found = matched(
        video(times, clock_before),
        video(multiplied(times, factor), clock_after),
        factor=factor,
    )
    assert found.faults == 0
    assert found.at.tolist() == list(range(0, 1000 * factor, factor))


gaps = st.lists(st.integers(2, 400), min_size=1, max_size=60)


@given(gaps, st.integers(1, 6), st.sampled_from([MATROSKA, MP4]), st.integers(0, 5000))
def test_any_times_multiplied_are_found_again(
    milliseconds: list[int], factor: int, clock: Fraction, start: int
) -> None:
    times = [Fraction(start, 1000)]
    for gap in milliseconds:
        times.append(times[-1] + Fraction(gap * factor, 1000))
    after = video(multiplied(times, factor), clock)
    assert matched(video(times, MATROSKA), after, factor=factor).faults == 0


@given(gaps, st.integers(1, 4), st.data())
def test_any_frame_that_is_taken_out_is_missed_and_no_other(
    milliseconds: list[int], factor: int, data: st.DataObject
) -> None:
    times = [ZERO]
    for gap in milliseconds:
        times.append(times[-1] + Fraction(gap * factor, 1000))
    made = multiplied(times, factor)
    last_needed = (len(times) - 1) * factor
    gone = data.draw(st.integers(0, last_needed))
    found = matched(
        video(times, MATROSKA), video(made[:gone] + made[gone + 1 :], MP4), factor=factor
    )
    missing = [time * found.unit for time in found.missing.tolist()]
    lost = [times[int(place)] for place in found.lost]
    assert missing + lost == [made[gone]]
    assert not len(found.extra)


@given(gaps, st.integers(0, 1000))
def test_any_frame_too_many_is_found(milliseconds: list[int], where: int) -> None:
    times = [ZERO]
    for gap in milliseconds:
        times.append(times[-1] + Fraction(gap, 1000))
    place = where % (len(times) - 1)
    more = times[place] + (times[place + 1] - times[place]) / 2
    after = video(sorted([*times, more]), MP4)
    found = matched(video(times, MATROSKA), after, factor=1)
    assert found.extra.tolist() == [place + 1]
    assert not len(found.lost)


TEN = constant_rate(10, Fraction(1, 25))


@pytest.mark.parametrize(
    ("clock_before", "off_us", "lost"),
    [
        (MATROSKA, 500, []),  # Milliseconds may be undone.
        (MATROSKA, 511, [4]),
        (MP4, 0, []),
        (MP4, 11, [4]),
        (Fraction(1, 25), 500, []),
        (Fraction(1, 25), 511, [4]),  # A clock of whole frames excuses no more.
    ],
)
def test_half_a_tick_of_the_coarser_clock_is_no_fault(
    clock_before: Fraction, off_us: int, lost: list[int]
) -> None:
    moved = [time + Fraction(off_us, 1_000_000) * (place == 4) for place, time in enumerate(TEN)]
    found = matched(video(TEN, clock_before), video(moved, MP4), factor=1)
    assert found.lost.tolist() == lost
    assert found.extra.tolist() == lost


def test_an_odd_speed_needs_no_more_than_64_bits() -> None:
    speed = Fraction("0.3141592653589793")
    times = constant_rate(5000, FILM)
    after = video([time / speed for time in times], MP4)
    assert matched(video(times, FILM), after, factor=1, speed=speed).faults == 0


@pytest.mark.parametrize("rate", [Fraction(60), Fraction(60000, 1001), Fraction(50), Fraction(15)])
@pytest.mark.parametrize("clock", [MATROSKA, MP4])
@pytest.mark.parametrize("speed", [Fraction(1), Fraction(1, 2), Fraction(2)])
def test_a_constant_rate_is_found_and_inferred(
    rate: Fraction, clock: Fraction, speed: Fraction
) -> None:
    before = video(constant_rate(100, FILM, start=Fraction(1)), MP4)
    count = int(100 * FILM / speed * rate)
    after = video(constant_rate(count, 1 / rate, start=1 / speed), clock)
    assert matched(before, after, fps=rate, speed=speed).faults == 0
    inferred = infer_options(before, after, complete=True)
    assert inferred.speed == speed
    assert match_frames(before, after, inferred, shift=ZERO).faults == 0
    holed = video(
        [
            *constant_rate(20, 1 / rate, start=1 / speed),
            *constant_rate(count - 21, 1 / rate, start=1 / speed + 21 / rate),
        ],
        clock,
    )
    assert len(matched(before, holed, fps=rate, speed=speed).missing) == 1


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("speed", ["1", "1/4", "1/2", "2", "3/4"])
def test_factor_and_speed_are_inferred(factor: int, speed: str) -> None:
    times = constant_rate(50, Fraction(1, 25))
    after = [time / Fraction(speed) for time in multiplied(times, factor)]
    inferred = infer_options(video(times, MATROSKA), video(after, MP4), complete=True)
    assert inferred == ConvertOptions(factor=factor, speed=Fraction(speed))


def test_what_is_missing_at_the_end_is_not_taken_for_another_rate() -> None:
    times = constant_rate(60, Fraction(1, 25))
    for after in (times[:-2], times[2:], times[:30] + times[31:]):
        inferred = infer_options(video(times, MATROSKA), video(after, MATROSKA), complete=True)
        assert inferred == ConvertOptions(factor=1)


@pytest.mark.parametrize(
    ("after", "shift"),
    [
        (constant_rate(50, Fraction(1, 25)), ZERO),
        (constant_rate(50, Fraction(1, 25), start=Fraction(21, 1000)), Fraction(21, 1000)),
        (
            constant_rate(50, Fraction(1, 25))[1:],
            ZERO,
        ),  # The first frame is missing: nothing has moved.
    ],
)
def test_a_shift_is_distinguished_from_a_missing_frame(
    after: list[Fraction], shift: Fraction
) -> None:
    before = video(constant_rate(50, Fraction(1, 25)), MATROSKA)
    options = ConvertOptions(factor=1)
    assert start_shift(before, video(after, MATROSKA), options) == shift


def test_one_frame_is_a_timeline_too() -> None:
    one = video([ZERO], MP4)
    assert matched(one, one, factor=1).faults == 0
    assert matched(one, video(constant_rate(2, Fraction(1, 50)), MP4), factor=2).faults == 0
    assert infer_options(one, one, complete=True) == ConvertOptions(factor=1)
