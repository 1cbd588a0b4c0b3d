"""The pictures of chunks: together exactly those of the recording, each once, at its time."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import pytest

from streamer.convert.chunk_source import ChunkSource, DecodeOptions
from streamer.convert.chunks import nanoseconds, plan_chunks
from streamer.convert.media_info import take
from streamer.core.clock import CancelToken
from streamer.core.errors import SourceFault, SourceRejected
from streamer.core.frame_schedule import NS
from tests.support.clips import damaged, joined, video_clip
from tests.support.corpus import MILLISECOND, RECORDINGS, named
from tests.support.corpus_pictures import number_in

MANY = [
    "film.mp4", "film.mkv", "vfr.mp4", "vfr.mkv", "b-frames.mp4", "open-gop.mkv", "open-gop.mp4",
    "late.mkv", "late.mp4", "early.mp4", "data.ts", "wrap.ts", "hdr10.mp4", "phone.mp4",
    "everything.mkv", "everything.mp4", "vp9.webm", "prores.mov", "gray.mp4", "rgb.mp4",
    "odd.webm", "repeats.mp4", "cuts.mp4", "one.mp4", "old.avi", "raw.h264", "no-suffix",
]  # fmt: skip
"""Open groups, B frames, uneven and late times, transport streams, streams without times."""

UNSURE = {"raw.h264"}
"""Nothing says when its pictures are shown, so it is one chunk."""


@pytest.fixture
def short_chunks(monkeypatch):
    """Chunks of eight pictures, so that small recordings have several."""
    monkeypatch.setattr("streamer.convert.chunks._PICTURES", 8)
    monkeypatch.setattr("streamer.convert.chunks._SECONDS", 0)


def source(path, number, **more):
    inventory = take(path)
    chunk = plan_chunks(inventory.video)[number]
    return ChunkSource(inventory, chunk, DecodeOptions(inventory.video.pixel_format), **more)


def chunks_of(path, **more):
    inventory = take(path)
    options = DecodeOptions(inventory.video.pixel_format)
    return [
        ChunkSource(inventory, chunk, options, **more) for chunk in plan_chunks(inventory.video)
    ]


def shown(frame):
    return number_in(frame.image.video_frame())


@pytest.mark.usefixtures("short_chunks")
@pytest.mark.parametrize("one", named(RECORDINGS[name] for name in MANY))
def test_chunks_together_are_the_recording(one, recordings):
    parts = chunks_of(recordings[one.file])
    assert len(parts) > 1 or one.file in UNSURE or len(one.times) < 16 or one.film.gop > 24
    # The last one first: they know nothing of each other.
    found = [list(part(CancelToken())) for part in reversed(parts)][::-1]
    frames = [frame for part in found for frame in part]
    assert [shown(frame) for frame in frames] == list(one.numbers)
    assert [frame.number for frame in frames] == list(range(len(frames)))
    assert [part.pictures for part in parts] == [len(part) for part in found]
    video = take(recordings[one.file]).video
    wanted = [nanoseconds(int(time), video.time_base) for time in video.times]
    assert [frame.pts_ns for frame in frames] == wanted


@pytest.mark.usefixtures("short_chunks")
@pytest.mark.parametrize("name", ["open-gop.mkv", "open-gop.mp4", "vfr.mp4", "film.mkv", "data.ts"])
def test_stages_get_the_pictures_around_a_chunk(recordings, name):
    path = recordings[name]
    video = take(path).video
    times = [nanoseconds(int(time), video.time_base) for time in video.times]
    chunks = plan_chunks(video)
    for number, chunk in enumerate(chunks):
        part = source(path, number, lead_ns=NS // 5, follow=1)
        found = [frame.pts_ns for frame in part(CancelToken())]
        lead = [one for one in times if chunk.begin_ns - NS // 5 <= one < chunk.begin_ns]
        inside = [one for one in times if chunk.begin_ns <= one < chunk.end_ns]
        after = [one for one in times if one >= chunk.end_ns][:1]
        assert found == [*lead, *inside, *after]
        assert part.pictures == chunk.pictures == len(inside)


@pytest.mark.usefixtures("short_chunks")
@pytest.mark.parametrize(
    ("container", "mux"),
    [("mpegts", {}), ("mp4", {}), ("matroska", {}), ("matroska", {"cues_to_front": "0"})],
)
@pytest.mark.parametrize("b_frames", [0, 3])
def test_chunks_are_found_in_a_longer_recording(tmp_path, container, mux, b_frames):
    """20 s, a key frame a second; MPEG-TS has no index, and is sought by its bytes."""
    clip = video_clip(
        tmp_path / "clip", frames=500, b_frames=b_frames, container_format=container, mux=mux
    )
    parts = chunks_of(clip)
    assert len(parts) == 20
    with av.open(str(clip)) as whole:
        wanted = [bytes(frame.planes[0]) for frame in whole.decode(video=0)]
    for number in (19, 7, 1, 0):
        got = [bytes(frame.image.video_frame().planes[0]) for frame in parts[number](CancelToken())]
        assert got == wanted[25 * number : 25 * (number + 1)]


def test_a_stop_ends_it(recordings):
    cancel = CancelToken()
    frames = source(recordings["film.mp4"], 0)(cancel)
    next(frames)
    cancel.set()
    assert list(frames) == []


def test_pictures_come_in_the_format_asked_for(recordings):
    inventory = take(recordings["hdr10.mp4"])
    (chunk,) = plan_chunks(inventory.video)
    eight = ChunkSource(inventory, chunk, DecodeOptions("yuv420p"))
    names = Counter(frame.image.video_frame().format.name for frame in eight(CancelToken()))
    assert names == {"yuv420p": 48}


def planes(frame):
    return bytes(frame.image.video_frame().planes[0])


def test_what_is_damaged_is_stood_in_for_by_the_picture_before(tmp_path):
    clip = damaged(
        video_clip(tmp_path / "clip.mkv", frames=250, options={"crf": "10"}), every=9_000,
        first=9_000,
    )  # fmt: skip
    (part,) = chunks_of(clip)
    frames = list(part(CancelToken()))
    times = take(clip).video.times.tolist()
    assert [frame.pts_ns for frame in frames] == [nanoseconds(one, MILLISECOND) for one in times]
    invented = [frame for frame in frames if frame.synthetic]
    assert 0 < len(invented) < 50
    assert part.pictures == len(frames) - len(invented)
    for before, frame in pairwise(frames):
        if frame.synthetic:
            assert planes(frame) == planes(before)


@pytest.mark.usefixtures("short_chunks")
@pytest.mark.parametrize("number", [0, 3, 9])
def test_a_second_of_which_nothing_can_be_decoded_is_stood_in_for(tmp_path, number):
    """Of ten, every packet of one is spoilt: it shows what is before it, or else behind."""
    clip = video_clip(tmp_path / "clip.mp4", frames=250)
    whole = [planes(frame) for part in chunks_of(clip) for frame in part(CancelToken())]
    data = bytearray(clip.read_bytes())
    with av.open(str(clip)) as container:
        spoilt = [packet for packet in container.demux(video=0) if packet.size]
        for packet in spoilt[25 * number : 25 * (number + 1)]:
            data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    clip.write_bytes(data)
    parts = chunks_of(clip)
    # The last one first: they know nothing of each other.
    frames = [frame for part in parts[::-1] for frame in reversed(list(part(CancelToken())))][::-1]
    assert sum(part.pictures for part in parts) == 225
    assert [frame.number for frame in frames] == list(range(250))
    begin, end = 25 * number, 25 * (number + 1)
    filled = whole[begin - 1] if number else whole[25]
    assert [planes(frame) for frame in frames] == [*whole[:begin], *[filled] * 25, *whole[end:]]
    assert [frame.number for frame in frames if frame.synthetic] == list(range(begin, end))


def test_pictures_that_change_their_size_are_refused(tmp_path):
    small = video_clip(tmp_path / "a", frames=50, width=160, height=96, container_format="mpegts")
    large = video_clip(
        tmp_path / "b", frames=50, container_format="mpegts", mux={"output_ts_offset": "2"}
    )
    parts = chunks_of(joined(tmp_path / "both.ts", [small, large]))
    with pytest.raises(SourceRejected) as refused:
        [frame for part in parts for frame in part(CancelToken())]
    assert str(refused.value) == (
        f"{tmp_path / 'both.ts'}: its pictures change from 160x96 to 320x180 at 2.000 s"
    )


def test_nothing_to_be_decoded_is_a_line(recordings, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(recordings["film.mp4"].read_bytes())
    inventory = take(path)
    (chunk,) = plan_chunks(inventory.video)
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat") + 4
    end = data.index(b"moov")
    data[begin : end - 4] = bytes(end - 4 - begin)
    path.write_bytes(data)
    part = ChunkSource(inventory, chunk, DecodeOptions("yuv420p"))
    with pytest.raises(SourceRejected, match=r"nothing can be decoded from 0\.000 s on") as error:
        list(part(CancelToken()))
    assert error.value.fault is SourceFault.DAMAGED


def test_two_fields_become_one_whole_picture(recordings):
    inventory = take(recordings["interlaced.mp4"])
    (chunk,) = plan_chunks(inventory.video)
    woven = ChunkSource(inventory, chunk, DecodeOptions("yuv420p"))
    whole = ChunkSource(inventory, chunk, DecodeOptions("yuv420p", deinterlace=True))
    before, after = list(woven(CancelToken())), list(whole(CancelToken()))
    assert [frame.pts_ns for frame in after] == [frame.pts_ns for frame in before]
    assert after[0].image.size == before[0].image.size

    def combing(frame):
        luma = frame.image.luma()[:100].astype(int)
        return abs(2 * luma[1:-1] - luma[:-2] - luma[2:]).mean()

    assert combing(after[10]) < 0.7 * combing(before[10])


def test_a_chunk_that_begins_where_nothing_is_stored_is_found_by_decoding_from_before(tmp_path):
    """Times are not what an index says, as in files that were cut without encoding anew."""
    clip = video_clip(tmp_path / "clip.mp4", frames=300, gop=300)
    inventory = take(clip)
    (whole,) = plan_chunks(inventory.video)
    late = replace(whole, number=1, first=200, begin_ns=8 * NS, pictures=100)
    part = ChunkSource(inventory, late, DecodeOptions("yuv420p"))
    assert [frame.pts_ns for frame in part(CancelToken())] == [
        round(Fraction(number, 25) * NS) for number in range(200, 300)
    ]
