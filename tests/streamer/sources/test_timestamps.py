from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.sources.timestamps import READ_AHEAD, TimestampNormalizer

S = 1_000_000_000
FRAME = 3600  # 40 ms at 90 kHz.
DAY_NS = 86_400 * S

time_bases = st.sampled_from(
    [Fraction(1, 90_000), Fraction(1, 1000), Fraction(1, 12_800), Fraction(1001, 30_000)]
)
ticks = st.one_of(st.none(), st.integers(-(1 << 40), 1 << 40))


def started(*, live=False, time_base=Fraction(1, 90_000), max_gap_ns=DAY_NS, reorder_depth=0):
    normalizer = TimestampNormalizer(live=live)
    normalizer.begin(
        time_base=time_base, frame_ns=S // 25, max_gap_ns=max_gap_ns, reorder_depth=reorder_depth
    )
    return normalizer


def normalized(normalizer, stream, *, arrivals=None):
    """Timestamps: pts, or (pts, dts). Returns the media times of presentation."""
    found = []
    for index, timestamp in enumerate(stream):
        pts, dts = timestamp if isinstance(timestamp, tuple) else (timestamp, timestamp)
        arrived_ns = arrivals[index] if arrivals else index * S // 25
        found.append(normalizer.normalize(pts=pts, dts=dts, duration=FRAME, arrived_ns=arrived_ns))
    return found


def normalized_file(normalizer, stream):
    """As `normalized`, with the packets that follow, as a file is read."""
    pairs = [each if isinstance(each, tuple) else (each, each) for each in stream]
    keys = [pts if dts is None else dts for pts, dts in pairs]
    return [
        normalizer.normalize(
            pts=pts,
            dts=dts,
            duration=FRAME,
            arrived_ns=0,
            following=keys[index + 1 : index + 1 + READ_AHEAD],
        )
        for index, (pts, dts) in enumerate(pairs)
    ]


def times(packets):
    return [packet.pts_ns for packet in packets]


@given(
    time_base=time_bases,
    first=st.integers(-(1 << 40), 1 << 40),
    steps=st.lists(st.integers(1, 20_000), max_size=40),
)
def test_valid_timestamps_keep_their_distances_exactly(time_base, first, steps):
    stream = [first]
    for step in steps:
        stream.append(stream[-1] + step)
    normalizer = started(time_base=time_base)
    assert times(normalized(normalizer, stream)) == [
        (timestamp - first) * time_base.numerator * S // time_base.denominator
        for timestamp in stream
    ]
    assert normalizer.repairs.total == 0


def test_hours_of_a_rate_that_is_no_decimal_drift_by_nothing():
    normalizer = started(time_base=Fraction(1001, 30_000))
    last = normalized(normalizer, [0, *range(100, 400_000, 100)])[-1]
    assert last.pts_ns == 399_900 * 1001 * S // 30_000


@given(
    live=st.booleans(),
    packets=st.lists(st.tuples(ticks, ticks, ticks, st.integers(0, 100 * S)), max_size=60),
    breaks=st.sets(st.integers(0, 59)),
    time_base=time_bases,
    depth=st.integers(0, 4),
)
def test_whatever_comes_decoding_times_rise_and_shown_times_rise(
    live, packets, breaks, time_base, depth
):
    normalizer = started(live=live, time_base=time_base, reorder_depth=depth)
    arrived_ns = 0
    decoding, shown = [], []
    for index, (pts, dts, duration, elapsed_ns) in enumerate(packets):
        arrived_ns += elapsed_ns
        if index in breaks:
            normalizer.begin(time_base=time_base, frame_ns=S // 25, max_gap_ns=DAY_NS)
        packet = normalizer.normalize(pts=pts, dts=dts, duration=duration, arrived_ns=arrived_ns)
        decoding.append(packet.dts_ns)
        shown.append(normalizer.next_display_pts(packet.pts_ns if index % 5 else None))
    assert all(earlier < later for earlier, later in pairwise(decoding))
    assert all(earlier < later for earlier, later in pairwise(shown))
    assert all(time_ns >= 0 for time_ns in shown)


@pytest.mark.parametrize("bits", [32, 33])
@given(first=st.integers(0, 1 << 33), count=st.integers(2, 60))
def test_a_counter_that_wraps_is_not_noticed(bits, first, count):
    start = (1 << bits) - first % (count * FRAME)
    stream = [start + number * FRAME for number in range(count)]
    normalizer = started()
    wrapped = times(normalized(normalizer, [timestamp % (1 << bits) for timestamp in stream]))
    assert wrapped == times(normalized(started(), stream))
    assert normalizer.repairs.jumps == 0


def test_a_wrap_in_the_middle_of_reordered_frames_is_not_noticed():
    reordered = [(0, -2), (1, -1), (4, 0), (2, 1), (3, 2), (5, 3), (8, 4), (6, 5), (7, 6)]
    stream = [
        ((pts * FRAME - 2 * FRAME) % (1 << 33), (dts * FRAME - 2 * FRAME) % (1 << 33))
        for pts, dts in reordered
    ]
    normalizer = started()
    assert times(normalized(normalizer, stream)) == [pts * S // 25 for pts, _ in reordered]
    assert normalizer.repairs.jumps == 0


@given(jump=st.one_of(st.integers(-(1 << 31), -2 * 90_000), st.integers(90_000 * 20, 1 << 31)))
def test_a_jump_in_a_file_costs_one_frame(jump):
    normalizer = started(max_gap_ns=10 * S)
    stream = [number * FRAME + (jump if number >= 5 else 0) for number in range(10)]
    assert times(normalized(normalizer, stream)) == [number * S // 25 for number in range(10)]
    assert normalizer.repairs.jumps == 1


@given(jump=st.one_of(st.integers(-(1 << 31), -4 * 90_000), st.integers(90_000 * 60, 1 << 31)))
def test_a_jump_of_a_camera_takes_the_time_that_passed_here(jump):
    normalizer = started(live=True)
    arrivals = [0, S, 2 * S, 9 * S, 10 * S]
    stream = [0, 90_000, 180_000, 270_000 + jump, 360_000 + jump]
    assert times(normalized(normalizer, stream, arrivals=arrivals)) == arrivals
    assert normalizer.repairs.jumps == 1


def test_a_gap_of_a_file_that_its_container_allows_is_kept():
    assert times(normalized(started(), [0, 90_000 * 3600])) == [0, 3600 * S]


def test_a_hold_up_of_the_network_does_not_change_media_time():
    normalizer = started(live=True)
    arrivals = [0, 8 * S, 8 * S + 1, 8 * S + 2]
    assert times(normalized(normalizer, [0, FRAME, 2 * FRAME, 3 * FRAME], arrivals=arrivals)) == [
        0, S // 25, 2 * S // 25, 3 * S // 25
    ]  # fmt: skip
    assert normalizer.repairs.total == 0


def test_one_late_timestamp_does_not_move_those_after_it():
    normalizer = started()
    stream = [0, FRAME, 2 * FRAME, FRAME, 4 * FRAME]
    shown = [
        normalizer.next_display_pts(time_ns) for time_ns in times(normalized(normalizer, stream))
    ]
    assert shown == [0, S // 25, 2 * S // 25, 2 * S // 25 + 1, 4 * S // 25]
    assert normalizer.repairs.non_monotonic == 1


def test_a_small_step_back_that_lasts_is_taken_as_a_jump():
    normalizer = started()
    stream = [*range(0, 10 * FRAME, FRAME), *range(0, 90_000, 300)]
    found = times(normalized(normalizer, stream))
    assert normalizer.repairs.jumps == 1
    assert found[-1] > found[9]


def test_a_negative_first_timestamp_is_the_beginning():
    assert times(normalized(started(), [-7200, -3600, 0])) == [0, S // 25, 2 * S // 25]


def test_the_first_shown_frame_is_the_beginning_even_if_decoding_began_before():
    found = normalized(started(), [(7200, 0), (18_000, 3600), (10_800, 7200), (14_400, 10_800)])
    assert [(packet.pts_ns, packet.dts_ns) for packet in found[:2]] == [
        (0, -2 * S // 25), (3 * S // 25, -S // 25)
    ]  # fmt: skip


def test_missing_timestamps_of_a_file_are_one_frame_apart():
    normalizer = started()
    assert times(normalized(normalizer, [None] * 4)) == [number * S // 25 for number in range(4)]
    assert normalizer.repairs.missing == 4


def test_missing_timestamps_of_a_camera_are_as_far_apart_as_they_came():
    normalizer = started(live=True)
    arrivals = [5 * S, 6 * S, 8 * S]
    assert times(normalized(normalizer, [None] * 3, arrivals=arrivals)) == [0, S, 3 * S]


def test_a_first_packet_without_timestamp_comes_before_the_next():
    normalizer = started(live=True)
    found = times(normalized(normalizer, [None, FRAME, 2 * FRAME], arrivals=[0, 0, 0]))
    assert found == [0, S // 25, 2 * S // 25]


def test_a_new_connection_goes_on_after_the_time_that_passed_here():
    normalizer = started(live=True)
    normalized(normalizer, [1000 * FRAME, 1001 * FRAME], arrivals=[0, S // 25])
    normalizer.begin(time_base=Fraction(1, 90_000), frame_ns=S // 25, max_gap_ns=DAY_NS)
    again = normalized(normalizer, [5 * FRAME, 6 * FRAME], arrivals=[7 * S, 7 * S])
    assert times(again) == [7 * S, 7 * S + S // 25]
    assert normalizer.repairs.total == 0


def test_a_file_that_begins_again_goes_on_after_one_frame():
    normalizer = started()
    normalized(normalizer, [0, FRAME])
    normalizer.begin(time_base=Fraction(1, 90_000), frame_ns=S // 25, max_gap_ns=DAY_NS)
    assert times(normalized(normalizer, [0, FRAME])) == [2 * S // 25, 3 * S // 25]


@given(
    groups=st.integers(1, 12),
    announced=st.booleans(),
)
def test_reordered_frames_without_decoding_times_get_some(groups, announced):
    order = [0]
    for group in range(groups):
        order += [3 * group + 3, 3 * group + 1, 3 * group + 2]  # P, B, B
    normalizer = started(live=True, reorder_depth=1 if announced else 0)
    found = normalized(normalizer, [(number * FRAME, None) for number in order])
    assert times(found) == [number * S // 25 for number in order]
    assert all(a.dts_ns < b.dts_ns for a, b in pairwise(found))
    if announced:
        assert all(packet.dts_ns <= packet.pts_ns for packet in found)
    assert normalizer.repairs.total == 0


@pytest.mark.parametrize("hours", [6, -6, 1, 29])
@pytest.mark.parametrize("max_gap_ns", [10 * S, 30 * 3600 * S])
@pytest.mark.parametrize("at", [1, 20, 47])
def test_one_timestamp_of_a_file_hours_away_moves_no_other(hours, max_gap_ns, at):
    normalizer = started(max_gap_ns=max_gap_ns)
    stream = [number * FRAME for number in range(50)]
    stream[at] += hours * 3600 * 90_000
    found = normalized_file(normalizer, stream)
    assert times(found) == [number * S // 25 for number in range(50)]
    assert [index for index, packet in enumerate(found) if not packet.has_pts] == [at]
    assert normalizer.repairs.outliers == normalizer.repairs.total == 1


@pytest.mark.parametrize("hours", [6, -6])
def test_one_presentation_time_of_reordered_frames_hours_away_moves_no_other(hours):
    shown = [0]
    for group in range(10):
        shown += [3 * group + 3, 3 * group + 1, 3 * group + 2]  # P, B, B
    stream = [((n + 1) * FRAME, index * FRAME) for index, n in enumerate(shown)]
    good = normalized_file(started(max_gap_ns=10 * S), stream)
    odd = list(stream)
    odd[16] = (odd[16][0] + hours * 3600 * 90_000, odd[16][1])
    normalizer = started(max_gap_ns=10 * S)
    found = normalized_file(normalizer, odd)
    assert [packet for index, packet in enumerate(found) if index != 16] == [
        packet for index, packet in enumerate(good) if index != 16
    ]
    assert abs(found[16].pts_ns - good[16].pts_ns) <= 3 * S // 25
    assert not found[16].has_pts
    assert normalizer.repairs.outliers == normalizer.repairs.total == 1


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("hours", [6, -6])
def test_a_first_presentation_time_hours_away_moves_no_other(hours, live):
    stream = [(n * FRAME, n * FRAME) for n in range(60)]
    stream[0] = (hours * 3600 * 90_000, 0)
    normalizer = started(live=live, max_gap_ns=10 * S)
    found = normalized(normalizer, stream) if live else normalized_file(normalizer, stream)
    assert times(found) == [n * S // 25 for n in range(60)]
    assert not found[0].has_pts
    assert normalizer.repairs.outliers == normalizer.repairs.total == 1


@pytest.mark.parametrize("hours", [6, 1 / 100, -1 / 100, -6])
def test_one_decoding_time_that_is_away_moves_no_presentation_time(hours):
    stream = [((n + 2) * FRAME, n * FRAME) for n in range(60)]
    stream[25] = (stream[25][0], stream[25][1] + int(hours * 3600 * 90_000))
    normalizer = started(max_gap_ns=10 * S)
    assert times(normalized_file(normalizer, stream)) == [n * S // 25 for n in range(60)]
    assert normalizer.repairs.outliers == normalizer.repairs.total >= 1


@given(
    steps=st.lists(st.integers(1, 90_000 * 7200), min_size=1, max_size=20),
    data=st.data(),
)
def test_pauses_of_hours_in_a_file_are_kept_with_reordered_frames_too(steps, data):
    shown = [0]
    for step in steps:
        shown.append(shown[-1] + step)
    order = list(range(len(shown)))
    for index in range(1, len(order) - 1):
        if data.draw(st.booleans()):
            order[index], order[index + 1] = order[index + 1], order[index]
    depth = max(place - index for place, index in enumerate(order))
    decoding = [shown[max(0, place - depth)] for place in range(len(order))]
    stream = [(shown[index], decoding[place]) for place, index in enumerate(order)]
    normalizer = started(max_gap_ns=30 * 3600 * S)
    found = normalized_file(normalizer, stream)
    expected = [(pts - stream[0][0]) * S // 90_000 for pts, _ in stream]
    assert times(found) == expected
    assert all(packet.has_pts for packet in found)


@given(jump=st.one_of(st.integers(-(1 << 31), -2 * 90_000), st.integers(90_000 * 20, 1 << 31)))
def test_a_jump_that_the_packets_after_it_share_is_a_jump(jump):
    normalizer = started(max_gap_ns=10 * S)
    stream = [number * FRAME + (jump if number >= 20 else 0) for number in range(40)]
    assert times(normalized_file(normalizer, stream)) == [n * S // 25 for n in range(40)]
    assert normalizer.repairs.jumps == normalizer.repairs.total == 1
