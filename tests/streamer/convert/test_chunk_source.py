"""The frames of chunks: together exactly those of the recording, each once, at its time."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import av
import pytest

from streamer.convert.chunk_source import ChunkSource, DecodeOptions
from streamer.convert.chunks import nanoseconds, plan_chunks
from streamer.convert.inspection import inspect
from streamer.core.clock import CancelToken
from streamer.core.errors import SourceFault, SourceRejected
from streamer.core.frame_schedule import NS
from tests.support.clips import damaged, joined, video_clip
from tests.support.corpus import MILLISECOND, RECORDINGS, named
from tests.support.corpus_frames import number_in

MANY = [
    "film.mp4", "film.mkv", "vfr.mp4", "vfr.mkv", "b-frames.mp4", "open-gop.mkv", "open-gop.mp4",
    "late.mkv", "late.mp4", "early.mp4", "data.ts", "wrap.ts", "hdr10.mp4", "phone.mp4",
    "everything.mkv", "everything.mp4", "vp9.webm", "prores.mov", "gray.mp4", "rgb.mp4",
    "odd.webm", "repeats.mp4", "cuts.mp4", "one.mp4", "old.avi", "raw.h264", "no-suffix",
]  # fmt: skip
"""Open groups, B frames, uneven and late times, transport streams, streams without times."""

NO_TIMESTAMPS = {"raw.h264"}
"""Nothing says when its frames are shown, so it is one chunk."""


@pytest.fixture
def short_chunks(monkeypatch):
    """Chunks of eight frames, so that small recordings have several."""
    monkeypatch.setattr("streamer.convert.chunks._MIN_FRAMES", 8)
    monkeypatch.setattr("streamer.convert.chunks._MIN_SECONDS", 0)


def source(path, number, **more):
    media = inspect(path)
    chunk = plan_chunks(media.video)[number]
    return ChunkSource(media, chunk, DecodeOptions(media.video.pixel_format), **more)


def chunks_of(path, **more):
    media = inspect(path)
    options = DecodeOptions(media.video.pixel_format)
    return [ChunkSource(media, chunk, options, **more) for chunk in plan_chunks(media.video)]


def shown(frame):
    return number_in(frame.image.video_frame())


@pytest.mark.usefixtures("short_chunks")
@pytest.mark.parametrize("one", named(RECORDINGS[name] for name in MANY))
def test_chunks_together_are_the_recording(one, recordings):
    parts = chunks_of(recordings[one.file])
    assert len(parts) > 1 or one.file in NO_TIMESTAMPS or len(one.times) < 16 or one.video.gop > 24
    # The last one first: they know nothing of each other.
    found = [list(part(CancelToken())) for part in reversed(parts)][::-1]
    frames = [frame for part in found for frame in part]
    assert [shown(frame) for frame in frames] == list(one.numbers)
    assert [frame.number for frame in frames] == list(range(len(frames)))
    assert [part.decoded_frames for part in parts] == [len(part) for part in found]
    video = inspect(recordings[one.file]).video
    wanted = [nanoseconds(int(time), video.time_base) for time in video.times]
    assert [frame.pts_ns for frame in frames] == wanted


@pytest.mark.usefixtures("short_chunks")
@pytest.mark.parametrize("name", ["open-gop.mkv", "open-gop.mp4", "vfr.mp4", "film.mkv", "data.ts"])
def test_stages_get_the_frames_around_a_chunk(recordings, name):
    path = recordings[name]
    video = inspect(path).video
    times = [nanoseconds(int(time), video.time_base) for time in video.times]
    chunks = plan_chunks(video)
    for number, chunk in enumerate(chunks):
        part = source(path, number, lead_ns=NS // 5, follow=1)
        found = [frame.pts_ns for frame in part(CancelToken())]
        lead = [one for one in times if chunk.begin_ns - NS // 5 <= one < chunk.begin_ns]
        inside = [one for one in times if chunk.begin_ns <= one < chunk.end_ns]
        after = [one for one in times if one >= chunk.end_ns][:1]
        assert found == [*lead, *inside, *after]
        assert part.decoded_frames == chunk.frame_count == len(inside)


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


def test_cancelling_ends_the_source(recordings):
    cancel = CancelToken()
    frames = source(recordings["film.mp4"], 0)(cancel)
    next(frames)
    cancel.set()
    assert list(frames) == []


def test_frames_have_the_requested_pixel_format(recordings):
    media = inspect(recordings["hdr10.mp4"])
    (chunk,) = plan_chunks(media.video)
    eight = ChunkSource(media, chunk, DecodeOptions("yuv420p"))
    names = Counter(frame.image.video_frame().format.name for frame in eight(CancelToken()))
    assert names == {"yuv420p": 48}


def planes(frame):
    return bytes(frame.image.video_frame().planes[0])


def test_a_damaged_frame_is_replaced_by_the_one_before(tmp_path):
    clip = damaged(
        video_clip(tmp_path / "clip.mkv", frames=250, options={"crf": "10"}), every=9_000,
        first=9_000,
    )  # fmt: skip
    (part,) = chunks_of(clip)
    frames = list(part(CancelToken()))
    times = inspect(clip).video.times.tolist()
    assert [frame.pts_ns for frame in frames] == [nanoseconds(one, MILLISECOND) for one in times]
    invented = [frame for frame in frames if frame.synthetic]
    assert 0 < len(invented) < 50
    assert part.decoded_frames == len(frames) - len(invented)
    for before, frame in pairwise(frames):
        if frame.synthetic:
            assert planes(frame) == planes(before)


@pytest.mark.usefixtures("short_chunks")
@pytest.mark.parametrize("number", [0, 3, 9])
def test_a_second_without_decodable_frames_is_replaced(tmp_path, number):
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
    assert sum(part.decoded_frames for part in parts) == 225
    assert [frame.number for frame in frames] == list(range(250))
    begin, end = 25 * number, 25 * (number + 1)
    filled = whole[begin - 1] if number else whole[25]
    assert [planes(frame) for frame in frames] == [*whole[:begin], *[filled] * 25, *whole[end:]]
    assert [frame.number for frame in frames if frame.synthetic] == list(range(begin, end))


def test_a_change_of_frame_size_is_refused(tmp_path):
    small = video_clip(tmp_path / "a", frames=50, width=160, height=96, container_format="mpegts")
    large = video_clip(
        tmp_path / "b", frames=50, container_format="mpegts", mux={"output_ts_offset": "2"}
    )
    parts = chunks_of(joined(tmp_path / "both.ts", [small, large]))
    with pytest.raises(SourceRejected) as refused:
        [frame for part in parts for frame in part(CancelToken())]
    assert str(refused.value) == (
        f"{tmp_path / 'both.ts'}: its frame size changes from 160x96 to 320x180 at 2.000 s"
    )


def test_a_chunk_without_decodable_frames_is_an_error(recordings, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(recordings["film.mp4"].read_bytes())
    media = inspect(path)
    (chunk,) = plan_chunks(media.video)
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat") + 4
    end = data.index(b"moov")
    data[begin : end - 4] = bytes(end - 4 - begin)
    path.write_bytes(data)
    part = ChunkSource(media, chunk, DecodeOptions("yuv420p"))
    with pytest.raises(SourceRejected, match=r"no frame can be decoded from 0\.000 s on") as error:
        list(part(CancelToken()))
    assert error.value.fault is SourceFault.DAMAGED


def test_interlaced_frames_are_deinterlaced(recordings):
    media = inspect(recordings["interlaced.mp4"])
    (chunk,) = plan_chunks(media.video)
    woven = ChunkSource(media, chunk, DecodeOptions("yuv420p"))
    whole = ChunkSource(media, chunk, DecodeOptions("yuv420p", deinterlace=True))
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
    media = inspect(clip)
    (whole,) = plan_chunks(media.video)
    late = replace(whole, number=1, first=200, begin_ns=8 * NS, frame_count=100)
    part = ChunkSource(media, late, DecodeOptions("yuv420p"))
    assert [frame.pts_ns for frame in part(CancelToken())] == [
        round(Fraction(number, 25) * NS) for number in range(200, 300)
    ]
