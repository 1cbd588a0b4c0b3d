"""The packet ring: bounds, pre-roll, followers, endings."""

import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.clock import CancelToken
from streamer.recording.ring import EndReason, PacketRing
from tests.support.packets import SECOND, STEP, packet

NEVER_S = 0.01
"""For reads that find nothing: the shorter the better."""


def filled(count, *, gop=25, max_s=10, max_bytes=1 << 30, size=100):
    ring = PacketRing(max_ns=max_s * SECOND, max_bytes=max_bytes)
    for number in range(count):
        ring(packet(number, keyframe=number % gop == 0, size=size))
    return ring


def numbers(packets):
    return [one.dts_ns // STEP for one in packets]


@st.composite
def streams(draw):
    """Packets with groups and sizes of all kinds, perhaps joined in mid-group."""
    groups = draw(st.lists(st.integers(1, 12), min_size=1, max_size=12))
    joined_late = draw(st.integers(0, 3))
    made = []
    for _ in range(joined_late):
        made.append(packet(len(made)))
    for group in groups:
        for place in range(group):
            size = draw(st.integers(0, 2000))
            reordered = 2 if place == 0 else draw(st.integers(0, 3))
            made.append(packet(len(made), keyframe=place == 0, size=size, reordered=reordered))
    return made


@given(streams(), st.integers(1, 40), st.integers(300, 20_000))
def test_both_bounds_hold_after_every_packet_and_the_first_kept_is_a_key_frame(
    stream, steps, max_bytes
):
    ring = PacketRing(max_ns=steps * STEP, max_bytes=max_bytes)
    for one in stream:
        ring(one)
        statistics = ring.statistics()
        assert statistics.bytes <= max_bytes
        assert statistics.bytes >= sum(len(p.payload) for g in ring._groups for p in g.packets)
        assert statistics.received == (
            statistics.packets + statistics.evicted + statistics.discarded
        )
        groups = list(ring._groups)
        assert all(group.packets[0].keyframe for group in groups)
        # Without its first group the ring would be too short.
        assert all(one.dts_ns - group.start_ns < ring.max_ns for group in groups[1:])


@given(streams(), st.data())
def test_a_clip_has_its_whole_preroll_or_says_how_much_is_missing(stream, data):
    back = data.draw(st.integers(0, 40))
    ring = PacketRing(max_ns=back * STEP + 1, max_bytes=1 << 30)
    called_after = data.draw(st.integers(1, len(stream)))
    forward = data.draw(st.integers(0, 40))
    for one in stream[:called_after]:
        ring(one)
    now_ns = stream[called_after - 1].dts_ns
    start_ns, end_ns = now_ns - back * STEP, now_ns + forward * STEP
    reader = ring.clip(start_ns, end_ns, timeout_s=NEVER_S)
    for one in stream[called_after:]:
        ring(one)
    ring.close()
    found = list(reader)

    wanted = [one for one in stream if one.dts_ns <= end_ns]
    if not found:
        assert not any(one.keyframe for one in wanted)
        assert reader.pre_roll_shortfall_ns is None
        return
    assert found[0].keyframe
    # Nothing lost, nothing twice, order kept: the clip is a run of the stream up to its end.
    assert found == wanted[wanted.index(found[0]) :]
    keys = [one for one in wanted if one.keyframe]
    early = [one for one in keys if one.pts_ns <= start_ns and one.dts_ns <= now_ns]
    if early:
        assert found[0] is early[-1]
        assert reader.pre_roll_shortfall_ns == 0
    else:
        assert found[0] is keys[0]
        assert reader.pre_roll_shortfall_ns == max(0, keys[0].pts_ns - start_ns)


@given(streams(), st.integers(600, 6000), st.lists(st.booleans(), max_size=60))
def test_a_slow_reader_is_bounded_and_counted_and_what_it_gets_can_be_decoded(
    stream, max_bytes, reads
):
    ring = PacketRing(max_ns=SECOND, max_bytes=max_bytes)
    reader = ring.clip(0, 10**18, timeout_s=NEVER_S)
    got = []
    for one, reading in zip(stream, [*reads, *[False] * len(stream)], strict=False):
        ring(one)
        assert sum(len(p.payload) for p in reader._waiting) <= 2 * max_bytes
        if reading and reader._waiting:
            got.append(next(reader))
    ring.close()
    got += list(reader)

    place = {id(one): index for index, one in enumerate(stream)}
    for before, after in pairwise(got):
        assert place[id(after)] == place[id(before)] + 1 or (
            after.keyframe and place[id(after)] > place[id(before)]
        )
    if got:
        assert got[0].keyframe
        assert reader.lost == len(stream) - place[id(got[0])] - len(got)
        assert bool(reader.lost) == ("lost" in reader.missing_reason())
        assert ring.statistics().lost == reader.lost


def test_a_clip_taken_now_does_not_mind_later_eviction():
    ring = filled(100, max_s=2)
    reader = ring.clip(60 * STEP, 200 * STEP, timeout_s=NEVER_S)
    for number in range(100, 1000):
        ring(packet(number, keyframe=number % 25 == 0))
    assert numbers(reader) == list(range(50, 201))
    assert reader.end_reason is EndReason.REACHED
    assert reader.missing_reason() == ""


def test_frames_of_the_requested_time_that_are_decoded_late_are_in_the_clip():
    ring = PacketRing(max_ns=SECOND, max_bytes=1 << 20)
    for number, reordered in enumerate([2, 3, 0, 0, 3, 0, 0]):  # I P B B P B B
        ring(packet(number, keyframe=number == 0, reordered=reordered))
    reader = ring.clip(2 * STEP, 3 * STEP, timeout_s=NEVER_S)
    assert [one.pts_ns // STEP for one in reader] == [2, 4, 2, 3]


def test_a_stream_that_began_later_than_the_preroll_is_reported():
    ring = PacketRing(max_ns=10 * SECOND, max_bytes=1 << 20)
    for number in range(100, 150):
        ring(packet(number, keyframe=number % 25 == 0))
    reader = ring.clip(0, 120 * STEP, timeout_s=NEVER_S)
    assert numbers(reader) == list(range(100, 121))
    assert reader.pre_roll_shortfall_ns == 4 * SECOND
    assert "4.0 s late" in reader.missing_reason()


def test_silence_ends_a_clip_and_is_reported():
    reader = filled(10).clip(0, SECOND, timeout_s=NEVER_S)
    assert numbers(reader) == list(range(10))
    assert reader.end_reason is EndReason.SILENT
    assert "nothing came for 0.01 s" in reader.missing_reason()


def test_closing_the_ring_ends_a_clip_and_is_reported():
    ring = filled(10)
    reader = ring.clip(0, SECOND, timeout_s=60)
    ring.close()
    assert numbers(reader) == list(range(10))
    assert reader.end_reason is EndReason.CLOSED
    assert "the camera was stopped" in reader.missing_reason()
    assert numbers(ring.clip(0, SECOND, timeout_s=60)) == []


def test_a_clip_that_is_cut_short_keeps_what_has_come_and_says_so():
    ring = filled(10)
    reader = ring.clip(0, SECOND, timeout_s=60)
    reader.finish()
    ring(packet(10))
    assert numbers(reader) == list(range(10))
    assert reader.end_reason is EndReason.CLOSED
    assert "ends early" in reader.missing_reason()
    assert ring.statistics().readers == 0


def test_packets_without_a_key_frame_are_signs_of_life():
    ring = PacketRing(max_ns=SECOND, max_bytes=1 << 20)
    reader = ring.clip(0, 100 * STEP, timeout_s=0.2)
    thread = threading.Thread(target=lambda: got.extend(reader))
    got = []
    thread.start()
    for number in range(50):
        ring(packet(number, keyframe=number == 30))
    ring.close()
    thread.join(5)
    assert numbers(got) == list(range(30, 50))


def test_an_endless_group_never_exceeds_the_bytes_and_clips_go_on_at_the_next_key_frame():
    ring = PacketRing(max_ns=10 * SECOND, max_bytes=10_000)
    for number in range(500):
        ring(packet(number, keyframe=number == 0, size=700))
        assert ring.statistics().bytes <= 10_000
    assert ring.statistics().packets == 0
    reader = ring.clip(490 * STEP, 510 * STEP, timeout_s=NEVER_S)
    for number in range(500, 520):
        ring(packet(number, keyframe=number == 505, size=700))
    assert numbers(reader) == list(range(505, 511))
    assert reader.pre_roll_shortfall_ns == 15 * STEP


def test_a_follower_of_an_endless_group_gets_every_packet():
    ring = PacketRing(max_ns=10 * SECOND, max_bytes=10_000)
    got = []
    with ring.follow(CancelToken()) as reader:
        for number in range(500):
            ring(packet(number, keyframe=number == 0, size=700))
            got.append(next(reader))
    assert numbers(got) == list(range(500))
    assert reader.lost == 0


def test_following_starts_at_the_newest_key_frame_and_ends_with_stop():
    ring, cancel = filled(60), CancelToken()
    reader = ring.follow(cancel)
    assert [next(reader).dts_ns // STEP for _ in range(10)] == list(range(50, 60))
    thread = threading.Thread(target=lambda: got.extend(reader))
    got = []
    thread.start()
    cancel.set()
    thread.join(5)
    assert not thread.is_alive()
    assert got == []
    assert reader.exhausted
    assert ring.statistics().readers == 0


def test_a_stop_that_is_set_already_ends_following_at_once():
    cancel = CancelToken()
    cancel.set()
    assert list(filled(10).follow(cancel)) == []


def test_a_reader_that_leaves_costs_nothing_more():
    ring = filled(10)
    reader = ring.clip(0, 10**18, timeout_s=60)
    with reader:
        next(reader)
    assert ring.statistics().readers == 0
    assert list(reader) == []
    assert "the reader left" in reader.missing_reason()


def test_many_threads_read_the_same_stream_whole():
    ring = PacketRing(max_ns=SECOND, max_bytes=1 << 24)
    readers = [ring.clip(0, 10**18, timeout_s=60) for _ in range(4)]
    got = [[] for _ in readers]
    readers = [
        threading.Thread(target=lambda into, reader: into.extend(reader), args=pair)
        for pair in zip(got, readers, strict=True)
    ]
    for reader in readers:
        reader.start()
    for number in range(2000):
        ring(packet(number, keyframe=number % 25 == 0))
    ring.close()
    for reader in readers:
        reader.join(10)
    assert all(numbers(one) == list(range(2000)) for one in got)


@pytest.mark.parametrize("bounds", [{"max_ns": 0, "max_bytes": 1}, {"max_ns": 1, "max_bytes": 0}])
def test_impossible_bounds_are_refused(bounds):
    with pytest.raises(ValueError, match="at least 1, got 0"):
        PacketRing(**bounds)


def test_a_clip_that_ends_before_it_begins_is_refused():
    with pytest.raises(ValueError, match="cannot end before"):
        filled(1).clip(2, 1, timeout_s=1)


def test_a_clip_reaches_back_over_a_restart_of_the_source():
    ring = filled(50)
    ring.end_readers()
    for number in range(50, 100):
        ring(packet(number, keyframe=number % 25 == 0))
    with ring.clip(30 * STEP, 60 * STEP, timeout_s=NEVER_S) as clip:
        assert numbers(clip) == list(range(25, 61))


def test_the_end_of_a_source_ends_every_reader_after_what_waits():
    ring = filled(30)
    cancel = CancelToken()
    with ring.follow(cancel) as reader:
        ring.end_readers()
        assert numbers(reader) == list(range(25, 30))
        assert reader.end_reason is EndReason.CLOSED
    assert ring.statistics().packets == 30
    assert ring.statistics().readers == 0


def test_a_follower_after_a_restart_begins_at_the_new_key_frame():
    ring = filled(30)
    ring.end_readers()
    for number in range(30, 60):  # The first 20 belong to no key frame of this run.
        ring(packet(number, keyframe=number % 25 == 0))
    with ring.follow(CancelToken()) as reader:
        ring.end_readers()
        assert numbers(reader) == list(range(50, 60))
    statistics = ring.statistics()
    assert statistics.discarded == 20
    assert statistics.received == statistics.packets + statistics.evicted + statistics.discarded


def test_a_clip_that_is_requested_after_the_end_of_the_source_waits_for_nothing():
    ring = filled(50)
    ring.end_readers()
    with ring.clip(30 * STEP, 60 * STEP, timeout_s=3600) as clip:
        assert numbers(clip) == list(range(25, 50))
        assert clip.end_reason is EndReason.CLOSED
        assert clip.missing_reason() == "ends early: the camera was stopped"
