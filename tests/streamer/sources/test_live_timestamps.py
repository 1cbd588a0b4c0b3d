"""Timestamps of live streams against the arrival of the packets: faults, and that they end."""

from fractions import Fraction
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.sources.timestamps import TimestampNormalizer

S = 1_000_000_000
HZ = 90_000
FRAME_NS = S // 25
FRAME = HZ // 25
HOUR = 3600 * HZ


def started(**options):
    normalizer = TimestampNormalizer(live=True)
    normalizer.begin(time_base=Fraction(1, HZ), frame_ns=FRAME_NS, max_gap_ns=10 * S, **options)
    return normalizer


def media(normalizer, stream, *, dts=True):
    """Media times of (timestamp, arrival) pairs."""
    return [
        normalizer.normalize(
            pts=ticks, dts=ticks if dts else None, duration=FRAME, arrived_ns=arrived_ns
        ).pts_ns
        for ticks, arrived_ns in stream
    ]


def paced(count, ticks=lambda number: number * FRAME, *, first=0):
    return [(ticks(number), number * FRAME_NS) for number in range(first, first + count)]


def test_one_presentation_time_hours_ahead_moves_no_other():
    normalizer = started()
    found = []
    for number in range(100):
        pts = number * FRAME + (6 * HOUR if number == 50 else 0)
        found.append(
            normalizer.normalize(
                pts=pts, dts=number * FRAME, duration=FRAME, arrived_ns=number * FRAME_NS
            )
        )
    assert [each.pts_ns for each in found] == [number * FRAME_NS for number in range(100)]
    assert [number for number, each in enumerate(found) if not each.has_pts] == [50]
    assert normalizer.repairs.outliers == normalizer.repairs.total == 1


@pytest.mark.parametrize("odd", [6 * HOUR, -6 * HOUR, 1 << 31])
def test_one_timestamp_hours_away_moves_no_other(odd):
    normalizer = started()
    stream = paced(100, lambda number: number * FRAME + (odd if number == 50 else 0))
    assert media(normalizer, stream, dts=False) == [number * FRAME_NS for number in range(100)]
    assert normalizer.repairs.outliers == normalizer.repairs.total == 1


def test_a_foreign_source_on_the_channel_moves_no_frame():
    rng = Random(1)
    normalizer = started()
    stream = [
        (rng.getrandbits(32) if foreign else number * FRAME, number * FRAME_NS)
        for number in range(500)
        for foreign in (False, True)
    ]
    found = media(normalizer, stream, dts=False)
    assert found[::2] == [number * FRAME_NS for number in range(500)]
    assert found[-1] <= 500 * FRAME_NS


@pytest.mark.parametrize("rate", [0, 0.5, 0.8, 1.3, 2])
def test_timestamps_at_a_wrong_rate_are_replaced_by_the_arrival_within_seconds(rate):
    normalizer = started()
    found = media(normalizer, paced(1500, lambda number: round(number * FRAME * rate)))
    assert normalizer.repairs.deviations == 1
    assert normalizer.by_arrival
    last_s = [time_ns / S for time_ns in found[-1250:]]  # After the first 10 s.
    assert last_s[-1] - last_s[0] == pytest.approx(1249 / 25, abs=0.5)
    assert normalizer.lag_ns is None


def test_timestamps_that_stand_still_are_replaced_within_a_second():
    normalizer = started()
    found = media(normalizer, paced(50, lambda _: 0), dts=False)
    steps = [later - earlier for earlier, later in pairwise(found[25:])]
    assert steps == [FRAME_NS] * 24


def test_timestamps_that_are_right_again_are_used_again():
    normalizer = started()
    media(normalizer, paced(100, lambda _: 0), dts=False)
    assert normalizer.by_arrival
    media(normalizer, paced(300, first=100), dts=False)
    assert not normalizer.by_arrival
    found = media(normalizer, paced(100, first=400), dts=False)
    assert {later - earlier for earlier, later in pairwise(found)} == {FRAME_NS}


def test_a_pause_of_the_timestamps_without_a_pause_of_the_packets_is_made_up_for():
    normalizer = started()
    found = media(normalizer, paced(200, lambda number: (number - 50 * (number > 99)) * FRAME))
    found += media(normalizer, paced(200, lambda number: (number - 50) * FRAME, first=200))
    assert normalizer.repairs.deviations == 0
    assert found[-1] / S == pytest.approx(399 / 25, abs=0.1)


@pytest.mark.parametrize("pause_s", [0.5, 3, 8])
def test_a_delay_of_the_network_changes_no_media_time(pause_s):
    """Nothing comes for a while, then everything at once: ten times as fast as it was made."""
    normalizer = started()
    late_ns = round(pause_s * S)
    arrivals = [
        max(number * FRAME_NS, 4 * S + late_ns + (number - 100) * FRAME_NS // 10)
        if number >= 100
        else number * FRAME_NS
        for number in range(600)
    ]
    stream = [(number * FRAME, arrivals[number]) for number in range(600)]
    lags = []
    for each in stream:
        media(normalizer, [each])
        lags.append(normalizer.lag_ns)
    assert normalizer.repairs.total == 0
    assert lags[99] == 0
    assert lags[100] == pytest.approx(late_ns, abs=FRAME_NS)
    assert lags[-1] < FRAME_NS


def test_what_a_server_had_buffered_at_the_start_is_no_lag():
    normalizer = started()
    stream = [(number * FRAME, max(0, number - 100) * FRAME_NS) for number in range(600)]
    found = media(normalizer, stream)
    assert found == [number * FRAME_NS for number in range(600)]
    assert normalizer.repairs.total == 0
    assert normalizer.lag_ns < FRAME_NS


@pytest.mark.parametrize("ppm", [-150, 150])
def test_a_camera_clock_that_differs_a_little_is_no_lag(ppm):
    normalizer = started()
    drift = 1 + ppm / 1e6
    lags = []
    for number in range(0, 10 * 86_400, 10):  # Ten seconds apart: a day.
        stream = [(round(number * HZ * drift), number * S)]
        media(normalizer, stream)
        lags.append(normalizer.lag_ns)
    assert max(lags) < S // 100
    assert normalizer.repairs.total == 0


def test_a_stream_in_segments_has_no_lag():
    normalizer = started(segmented=True)
    stream = [(number * FRAME, number // 150 * 6 * S) for number in range(1500)]
    assert media(normalizer, stream) == [number * FRAME_NS for number in range(1500)]
    assert normalizer.lag_ns == 0


DISTURBANCES = {
    "standing": lambda ticks, began, rng: began,
    "half": lambda ticks, began, rng: began + (ticks - began) // 2,
    "double": lambda ticks, began, rng: began + (ticks - began) * 2,
    "outliers": lambda ticks, began, rng: ticks + (rng.random() < 0.1) * 6 * HOUR,
    "noise": lambda ticks, began, rng: rng.getrandbits(32),
    "back": lambda ticks, began, rng: ticks - ticks // HZ * HOUR,
}


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(sorted(DISTURBANCES)),
    seconds=st.integers(1, 30),
    moved=st.sampled_from([0, HOUR, -HOUR, 3 * HZ, -HZ // 2]),
    reordered=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_after_a_disturbance_media_time_advances_as_the_packets_arrive(
    kind, seconds, moved, reordered, seed
):
    rng = Random(seed)
    jitter_ns = rng.choice([0, S // 50, S // 5])
    normalizer = started(reorder_depth=1)
    first, last = 250, 250 + 25 * seconds
    shown, decoding, arrivals = [], [], []
    order = (0, 2, 1) if reordered else (0, 1, 2)
    for number in range(last + 900):
        arrived_ns = number * FRAME_NS + rng.randint(0, jitter_ns)
        presented = number // 3 * 3 + order[number % 3]
        ticks = presented * FRAME
        if first <= number < last:
            ticks = DISTURBANCES[kind](ticks, first * FRAME, rng)
        elif number >= last:
            ticks += moved
        packet = normalizer.normalize(
            pts=ticks, dts=None, duration=FRAME, arrived_ns=max(arrived_ns, *arrivals[-1:], 0)
        )
        arrivals.append(max(arrived_ns, *arrivals[-1:], 0))
        shown.append(packet.pts_ns)
        decoding.append(packet.dts_ns)
    assert all(earlier < later for earlier, later in pairwise(decoding))
    late = last + 25 * 16
    offsets = [arrivals[n] - shown[n] for n in range(late, len(shown))]
    assert max(offsets) - min(offsets) < 2 * S
    assert max(abs(later - earlier) for earlier, later in pairwise(shown[late:])) < 2 * S
