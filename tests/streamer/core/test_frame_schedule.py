"""Frame schedule: exact for hours, and each interval independent of the others."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from streamer.core.frame_schedule import NS, FrameSchedule

CLOCKS = [
    Fraction(1, 1000),  # Matroska
    Fraction(1, 90_000),  # MPEG-TS
    Fraction(1, 15_360),  # MP4 as FFmpeg writes it
    Fraction(1, 25),
    Fraction(1001, 24_000),  # AVI
    Fraction(1001, 60_000),
    Fraction(1, 1_000_000),
    Fraction(1, 48_000),
]
RATES = [Fraction(rate) for rate in (1, 10, 24, 25, 30, 50, 60, 120, 144)]
RATES += [Fraction(rate, 1001) for rate in (24_000, 30_000, 60_000, 120_000)]
SPEEDS = [Fraction(1), Fraction(1, 2), Fraction(1, 4), Fraction(3, 10), Fraction(2), Fraction(7, 3)]


def ns(ticks, clock):
    return round(ticks * clock * NS)


def output_frames(schedule, times_ns):
    """Return all output frames between frames at *times_ns*."""
    return [one for left, right in pairwise(times_ns) for one in schedule.between(left, right)]


@st.composite
def recordings(draw, *, max_size=40):
    """A clock, and times in its ticks: at least two, rising, even or not."""
    clock = draw(st.sampled_from(CLOCKS))
    longest = max(1, int(Fraction(1, 2) / clock))
    steps = draw(st.lists(st.integers(1, longest), min_size=1, max_size=max_size))
    times = [draw(st.integers(-longest, 3 * longest))]
    for step in steps:
        times.append(times[-1] + step)
    assume(all(ns(b, clock) - ns(a, clock) > 1000 for a, b in pairwise(times)))
    return clock, times


@given(recordings(), st.integers(1, 16), st.sampled_from(SPEEDS))
def test_a_factor_keeps_every_time_and_multiplies_the_frames(recording, factor, speed):
    clock, times = recording
    schedule = FrameSchedule(factor=factor, speed=speed)
    base = schedule.time_base(clock)
    made = output_frames(schedule, [ns(one, clock) for one in times])
    assert len(made) == (len(times) - 1) * factor
    kept = [one for one in made if one.phase == 0]
    ticks = [schedule.ticks(one.pts_ns, base) * base for one in kept]
    assert ticks == [one * clock / speed for one in times[:-1]]


@given(recordings(), st.integers(1, 16), st.sampled_from(SPEEDS))
def test_times_rise_and_are_exact_in_ticks(recording, factor, speed):
    clock, times = recording
    schedule = FrameSchedule(factor=factor, speed=speed)
    base = schedule.time_base(clock)
    made = output_frames(schedule, [ns(one, clock) for one in times])
    exact = [
        (left + Fraction(step, factor) * (right - left)) * clock / speed
        for left, right in pairwise(times)
        for step in range(factor)
    ]
    assert [schedule.ticks(one.pts_ns, base) * base for one in made] == exact


@given(recordings(), st.sampled_from(RATES), st.sampled_from(SPEEDS))
def test_a_rate_is_a_constant_grid_from_the_first_frame_on(recording, rate, speed):
    clock, times = recording
    times_ns = [ns(one, clock) for one in times]
    schedule = FrameSchedule(rate=rate / speed, speed=speed, origin_ns=times_ns[0])
    base = schedule.time_base(clock)
    made = [schedule.ticks(one.pts_ns, base) * base for one in output_frames(schedule, times_ns)]
    first = times[0] * clock / speed
    assert made == [first + number / rate for number in range(len(made))]
    end = times[-1] * clock / speed
    nanosecond = Fraction(1, NS) / speed
    assert made[-1] - nanosecond < end <= first + len(made) / rate + nanosecond


@given(recordings(), st.sampled_from(RATES))
@example((Fraction(1, 1000), [0, 17, 1000, 1033]), Fraction(60))
@example((Fraction(1, 1000), [0, 100, 117, 133]), Fraction(60))
@example((Fraction(1001, 60_000), [1, 2, 3, 28, 53]), Fraction(24_000, 1001))
def test_each_frame_of_a_rate_lies_in_one_interval_however_uneven_they_are(recording, rate):
    clock, times = recording
    times_ns = [ns(one, clock) for one in times]
    schedule = FrameSchedule(rate=rate, origin_ns=times_ns[0])
    for left, right in pairwise(times_ns):
        for one in schedule.between(left, right):
            assert left <= one.pts_ns <= right
            assert 0 <= one.phase <= 1
            where = Fraction(one.pts_ns - left, right - left)
            nanosecond = Fraction(1, right - left)
            assert abs(where - Fraction(one.phase)) <= Fraction(1, 50) + nanosecond


@given(recordings(), st.sampled_from(RATES), st.randoms(use_true_random=False))
def test_intervals_in_any_order_give_what_they_give_in_one_piece(recording, rate, random):
    clock, times = recording
    times_ns = [ns(one, clock) for one in times]
    schedule = FrameSchedule(rate=rate, origin_ns=times_ns[0])
    intervals = list(pairwise(times_ns))
    random.shuffle(intervals)
    apart = [one for left, right in intervals for one in schedule.between(left, right)]
    whole = output_frames(schedule, times_ns)
    assert sorted(apart, key=lambda one: one.pts_ns) == whole
    assert all(a.pts_ns < b.pts_ns for a, b in pairwise(whole))


MILLISECONDS = [
    (Fraction(60_000, 1001), Fraction(60_000, 1001)),
    (Fraction(24_000, 1001), Fraction(120_000, 1001)),
    (Fraction(30), Fraction(60)),
    (Fraction(24_000, 1001), Fraction(24_000, 1001)),
]


@pytest.mark.parametrize(("source", "rate"), MILLISECONDS)
def test_times_that_matroska_rounded_are_not_mixed(source, rate):
    """A frame of a constant rate that is nearly an original is that original."""
    times_ns = [ns(round(number / source * 1000), Fraction(1, 1000)) for number in range(500)]
    schedule = FrameSchedule(rate=rate, origin_ns=0)
    nearly = Fraction(1, 50)
    for left, right in pairwise(times_ns):
        for one in schedule.between(left, right):
            assert one.phase in {0.0, 1.0} or nearly < one.phase < 1 - nearly


TWO_HOURS = [
    # Recording, its clock, factor, rate, speed.
    (Fraction(24_000, 1001), Fraction(1, 24_000), 2, None, Fraction(1)),
    (Fraction(24_000, 1001), Fraction(1, 90_000), 5, None, Fraction(1)),
    (Fraction(30_000, 1001), Fraction(1, 30_000), 4, None, Fraction(1, 4)),
    (Fraction(24_000, 1001), Fraction(1, 24_000), 1, Fraction(60), Fraction(1)),
    (Fraction(25), Fraction(1, 12_800), 1, Fraction(60_000, 1001), Fraction(1)),
    (Fraction(30_000, 1001), Fraction(1, 90_000), 1, Fraction(50), Fraction(1, 2)),
]


@pytest.mark.parametrize(("source", "clock", "factor", "rate", "speed"), TWO_HOURS)
def test_two_hours_do_not_drift(source, clock, factor, rate, speed):
    """The last second of two hours, in ticks of the output."""
    count = int(7200 * source)
    ticks = [round(number / source / clock) for number in range(count - 30, count)]
    times_ns = [ns(one, clock) for one in ticks]
    schedule = FrameSchedule(factor=factor, rate=rate and rate / speed, speed=speed)
    base = schedule.time_base(clock)
    made = [schedule.ticks(one.pts_ns, base) * base for one in output_frames(schedule, times_ns)]
    if rate is None:
        wanted = [
            (left + Fraction(step, factor) * (right - left)) * clock / speed
            for left, right in pairwise(ticks)
            for step in range(factor)
        ]
    else:
        first = -(-ticks[0] * clock / speed * rate // 1)
        wanted = [(first + number) / rate for number in range(len(made))]
    assert made == wanted


@pytest.mark.parametrize(
    ("schedule", "source", "rate"),
    [
        (FrameSchedule(), Fraction(25), Fraction(25)),
        (FrameSchedule(factor=2), Fraction(24_000, 1001), Fraction(48_000, 1001)),
        (FrameSchedule(factor=4, speed=Fraction(1, 4)), Fraction(25), Fraction(25)),
        (FrameSchedule(rate=Fraction(120), speed=Fraction(1, 2)), Fraction(25), Fraction(60)),
        (FrameSchedule(speed=Fraction(2)), Fraction(25), Fraction(50)),
    ],
)
def test_the_nominal_rate_follows(schedule, source, rate):
    assert schedule.output_rate(source) == rate


@given(
    st.sampled_from(CLOCKS), st.integers(1, 64), st.sampled_from([None, *RATES]),
    st.fractions(Fraction(1, 100), Fraction(100), max_denominator=10_000),
)  # fmt: skip
def test_ticks_can_be_stored_and_distinguished(clock, factor, rate, speed):
    base = FrameSchedule(factor=1 if rate else factor, rate=rate, speed=speed).time_base(clock)
    assert base.numerator == 1
    assert base.denominator <= 500_000_000


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"factor": 0}, "factor must be at least 1, got 0"),
        ({"rate": Fraction(0)}, "rate must be above 0, got 0"),
        ({"speed": Fraction(-1, 2)}, "speed must be above 0, got -1/2"),
    ],
)
def test_invalid_values_are_refused(options, why):
    with pytest.raises(ValueError, match=why):
        FrameSchedule(**options)


@pytest.mark.parametrize(
    ("schedule", "interpolates"),
    [
        (FrameSchedule(), False),
        (FrameSchedule(speed=Fraction(1, 2)), False),
        (FrameSchedule(factor=2), True),
        (FrameSchedule(rate=Fraction(25)), True),
    ],
)
def test_a_factor_or_a_rate_interpolates(schedule, interpolates):
    assert schedule.interpolates is interpolates
