"""Packets of chunks that know nothing of each other, put into one order of decoding."""

from fractions import Fraction
from itertools import pairwise

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.convert.journal import PacketEntry
from streamer.convert.mux import decoding_times

ORDERS = {
    "no reordering": [0, 1, 2, 3, 4],
    "one B-frame": [0, 2, 1, 4, 3],
    "B-frame pyramid": [0, 4, 2, 1, 3, 8, 6, 5, 7],
    "two chunks": [0, 2, 1, 3, 5, 4],
}


def reordered_packets(places, times=None, *, step=100):
    """Return packets in decoding order, given as indexes in presentation order."""
    times = times or [place * step for place in range(len(places))]
    return [PacketEntry(times[place], 1, place == 0) for place in places]


@st.composite
def reordered(draw):
    """Packets at any times, each reordered by up to sixteen places."""
    steps = draw(st.lists(st.integers(1, 10_000), min_size=1, max_size=80))
    times = [draw(st.integers(-10_000, 10_000))]
    for step in steps:
        times.append(times[-1] + step)
    depth = draw(st.integers(0, 16))
    late = draw(st.lists(st.integers(0, depth), min_size=len(times), max_size=len(times)))
    order = sorted(range(len(times)), key=lambda place: (place - late[place], place))
    return reordered_packets(order, times)


@given(reordered())
def test_decoding_times_rise_and_are_never_after_presentation(packets):
    times = decoding_times(packets)
    assert len(times) == len(packets)
    assert all(before < after for before, after in pairwise(times))
    assert all(at <= one.pts for at, one in zip(times, packets, strict=True))


@given(reordered())
def test_decoding_times_are_as_late_as_the_deepest_reordering_allows(packets):
    times = decoding_times(packets)
    shown = sorted(one.pts for one in packets)
    assert set(times) & set(shown) == {at for at in times if at >= shown[0]}
    slack = [one.pts - at for at, one in zip(times, packets, strict=True)]
    assert min(slack) == 0, "nothing is decoded earlier than it has to be"


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("no reordering", [0, 100, 200, 300, 400]),
        ("one B-frame", [-100, 0, 100, 200, 300]),
        ("B-frame pyramid", [-200, -100, 0, 100, 200, 300, 400, 500, 600]),
        ("two chunks", [-100, 0, 100, 200, 300, 400]),
    ],
)
def test_the_delay_is_that_of_the_deepest_reordering(name, times):
    assert decoding_times(reordered_packets(ORDERS[name])) == times


def test_a_single_frame_is_decoded_when_it_is_presented():
    assert decoding_times([PacketEntry(700, 1, keyframe=True)]) == [700]


def test_no_packets_have_no_decoding_times():
    assert decoding_times([]) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("name", ORDERS)
def test_muxers_accept_these_decoding_times(tmp_path, suffix, name):
    """FFmpeg's muxers refuse decoding times that do not rise or come too late."""
    path = tmp_path / f"out{suffix}"
    entries = reordered_packets(ORDERS[name], step=512)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.time_base = Fraction(1, 12_800)
        packets = []
        for number in range(len(entries)):
            frame = av.VideoFrame(32, 32, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for packet, entry, dts in zip(packets, entries, decoding_times(entries), strict=True):
            packet.pts, packet.dts, packet.time_base = entry.pts, dts, Fraction(1, 12_800)
            output.mux(packet)
    with av.open(str(path)) as read:
        found = [packet.pts * packet.time_base for packet in read.demux(video=0) if packet.size]
    assert found == [Fraction(entry.pts, 12_800) for entry in entries]
