"""Packets of chunks that know nothing of each other, put into one order of decoding."""

from fractions import Fraction
from itertools import pairwise

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.convert.journal import CodedPicture
from streamer.convert.mux import decoding_times

ORDERS = {
    "no reordering": [0, 1, 2, 3, 4],
    "one B picture": [0, 2, 1, 4, 3],
    "three B pictures, one leans on": [0, 4, 2, 1, 3, 8, 6, 5, 7],
    "two chunks": [0, 2, 1, 3, 5, 4],
}


def coded(places, times=None, *, step=100):
    """Pictures in coding order, by their places in the order of showing."""
    times = times or [place * step for place in range(len(places))]
    return [CodedPicture(times[place], 1, place == 0) for place in places]


@st.composite
def reordered(draw):
    """Pictures at any times, each up to sixteen places from where it is shown."""
    steps = draw(st.lists(st.integers(1, 10_000), min_size=1, max_size=80))
    times = [draw(st.integers(-10_000, 10_000))]
    for step in steps:
        times.append(times[-1] + step)
    depth = draw(st.integers(0, 16))
    late = draw(st.lists(st.integers(0, depth), min_size=len(times), max_size=len(times)))
    order = sorted(range(len(times)), key=lambda place: (place - late[place], place))
    return coded(order, times)


@given(reordered())
def test_decoding_times_rise_and_are_never_after_presentation(pictures):
    times = decoding_times(pictures)
    assert len(times) == len(pictures)
    assert all(before < after for before, after in pairwise(times))
    assert all(at <= one.pts for at, one in zip(times, pictures, strict=True))


@given(reordered())
def test_they_are_times_of_pictures_as_late_as_the_deepest_reordering_allows(pictures):
    times = decoding_times(pictures)
    shown = sorted(one.pts for one in pictures)
    assert set(times) & set(shown) == {at for at in times if at >= shown[0]}
    slack = [one.pts - at for at, one in zip(times, pictures, strict=True)]
    assert min(slack) == 0, "nothing is decoded earlier than it has to be"


@pytest.mark.parametrize(
    ("name", "times"),
    [
        ("no reordering", [0, 100, 200, 300, 400]),
        ("one B picture", [-100, 0, 100, 200, 300]),
        ("three B pictures, one leans on", [-200, -100, 0, 100, 200, 300, 400, 500, 600]),
        ("two chunks", [-100, 0, 100, 200, 300, 400]),
    ],
)
def test_the_delay_is_that_of_the_deepest_reordering(name, times):
    assert decoding_times(coded(ORDERS[name])) == times


def test_one_picture_is_decoded_when_it_is_shown():
    assert decoding_times([CodedPicture(700, 1, keyframe=True)]) == [700]


def test_nothing_has_no_times():
    assert decoding_times([]) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("name", ORDERS)
def test_containers_keep_these_times(tmp_path, suffix, name):
    """FFmpeg's muxers refuse decoding times that do not rise or come too late."""
    path = tmp_path / f"out{suffix}"
    pictures = coded(ORDERS[name], step=512)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        stream.time_base = Fraction(1, 12_800)
        packets = []
        for number in range(len(pictures)):
            frame = av.VideoFrame(32, 32, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for packet, picture, dts in zip(packets, pictures, decoding_times(pictures), strict=True):
            packet.pts, packet.dts, packet.time_base = picture.pts, dts, Fraction(1, 12_800)
            output.mux(packet)
    with av.open(str(path)) as read:
        found = [packet.pts * packet.time_base for packet in read.demux(video=0) if packet.size]
    assert found == [Fraction(picture.pts, 12_800) for picture in pictures]
