"""Pieces of a recording: all of it, once, and each begins where decoding can begin."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.convert.chunks import nanoseconds, plan_chunks
from streamer.core.frame_schedule import NS
from tests.support.media_infos import video

CLOCKS = [Fraction(1, 1000), Fraction(1, 90_000), Fraction(1001, 24_000), Fraction(1, 25)]


def constant_rate(count, *, gop, step=40):
    return video([number * step for number in range(count)], range(0, count, gop), last=step)


@st.composite
def recordings(draw):
    """Any times, and key frames anywhere but the first always among them."""
    count = draw(st.integers(1, 3000))
    step = draw(st.integers(1, 4000))
    uneven = draw(st.lists(st.integers(0, 5000), max_size=30))
    times, at = [], draw(st.integers(-1000, 100_000))
    for number in range(count):
        times.append(at)
        at += step + (uneven[number % len(uneven)] if uneven else 0)
    gop = draw(st.integers(1, 700))
    more = draw(st.sets(st.integers(0, count - 1), max_size=20))
    keys = sorted({*range(0, count, gop), *more})
    return video(times, keys, time_base=draw(st.sampled_from(CLOCKS)), last=step)


@given(recordings())
def test_chunks_hold_all_of_a_recording_once_in_order(info):
    chunks = plan_chunks(info)
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    assert [chunk.first for chunk in chunks] == [
        sum(one.frame_count for one in chunks[:number]) for number in range(len(chunks))
    ]
    assert sum(chunk.frame_count for chunk in chunks) == len(info.times)
    assert all(one.end_ns == other.begin_ns for one, other in pairwise(chunks))
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[0].begin_ns == nanoseconds(int(info.times[0]), info.time_base)
    assert chunks[-1].end_ns == round(info.end * NS)


@given(recordings())
def test_each_chunk_begins_with_a_key_frame(info):
    keys = {nanoseconds(int(one), info.time_base) for one in info.key_times}
    assert all(chunk.begin_ns in keys for chunk in plan_chunks(info)[1:])


@given(recordings())
def test_frames_of_a_chunk_lie_within_it(info):
    for chunk in plan_chunks(info):
        ticks = info.times[chunk.first :][: chunk.frame_count]
        within = [nanoseconds(int(one), info.time_base) for one in ticks]
        assert chunk.begin_ns == within[0]
        assert within[-1] < chunk.end_ns


@given(recordings())
def test_no_chunk_is_short(info):
    chunks = plan_chunks(info)
    for chunk in chunks[:-1]:
        assert chunk.frame_count >= 240
        assert chunk.end_ns - chunk.begin_ns >= 5 * NS - 1
    assert chunks[-1].frame_count >= 120 or len(chunks) == 1


@pytest.mark.parametrize(
    ("count", "gop", "frame_counts"),
    [
        (100, 25, [100]),
        (240, 25, [240]),
        (250, 250, [250]),
        (500, 25, [250, 250]),
        (359, 1, [359]),
        (360, 1, [240, 120]),
        (1000, 250, [250] * 4),
        (1000, 300, [300, 300, 400]),
        (5000, 2500, [2500, 2500]),
    ],
)
def test_where_a_recording_is_split(count, gop, frame_counts):
    assert [
        chunk.frame_count for chunk in plan_chunks(constant_rate(count, gop=gop))
    ] == frame_counts


def test_chunks_have_a_minimum_of_frames_and_of_seconds():
    slow = plan_chunks(constant_rate(1000, gop=10, step=1000))
    assert {chunk.frame_count for chunk in slow[:-1]} == {240}
    fast = plan_chunks(constant_rate(5000, gop=10, step=4))
    assert {chunk.frame_count for chunk in fast[:-1]} == {1250}


@pytest.mark.parametrize("timestamp_quality", ["dts_only", "inferred"])
def test_a_recording_without_presentation_timestamps_is_one_chunk(timestamp_quality):
    info = video(
        [number * 40 for number in range(2000)],
        range(0, 2000, 25),
        timestamp_quality=timestamp_quality,
    )
    (chunk,) = plan_chunks(info)
    assert (chunk.frame_count, chunk.is_last) == (2000, True)


def test_a_recording_with_one_key_frame_is_one_chunk():
    assert len(plan_chunks(constant_rate(100_000, gop=100_000))) == 1


@given(st.integers(-(10**12), 10**12), st.sampled_from(CLOCKS))
def test_nanoseconds_and_ticks_convert_without_loss(ticks, clock):
    assert round(Fraction(nanoseconds(ticks, clock), NS) / clock) == ticks
