"""Inspection finds exactly what the maker of a recording put in."""

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from streamer.convert.inspection import inspect, open_recording
from streamer.core.errors import SourceFault, SourceRejected
from streamer.core.image import ColorTags
from tests.support.clips import audio_clip, truncated, video_clip
from tests.support.corpus import RECORDINGS, named

QUALITY = {"raw.h264": "inferred"}
OWN_START = {
    "old.avi": Fraction(1, 25),  # AVI stores when to decode; FFmpeg shows as much later.
    "data.ts": Fraction(902, 90_000),  # The audio begins first, and is what counts as zero.
    "wrap.ts": Fraction(902, 90_000),
}
"""Seconds at which the frames of some recordings begin, by their own clock."""

WITH_VIDEO = [
    one
    for one in RECORDINGS.values()
    if one.video and not one.incomplete and one.file != "large.mp4"
]


def inspected(recordings, file):
    return inspect(recordings[file])


@pytest.mark.parametrize("one", named(WITH_VIDEO))
def test_every_frame_and_its_time_are_known(one, recordings):
    found = inspected(recordings, one.file)
    assert tuple(stream.kind for stream in found.streams) == one.kinds
    assert found.truncation is None
    video = found.video
    assert video.timestamp_quality == QUALITY.get(one.file, "exact")
    assert len(video.times) == one.frames
    assert np.all(np.diff(video.times) > 0)
    if one.file not in QUALITY:
        shift = OWN_START[one.file] - one.times[0] if one.file in OWN_START else 0
        times = [int(ticks) * video.time_base for ticks in video.times]
        assert times == [time + shift for time in one.times]
    assert set(video.key_times.tolist()) <= set(video.times.tolist())
    assert video.key_times[0] == video.times[0]


@pytest.mark.parametrize("one", named(WITH_VIDEO))
def test_digests_are_those_of_the_payloads(one, recordings):
    found = inspected(recordings, one.file)
    digests = {stream.index: hashlib.sha256() for stream in found.streams}
    counts = dict.fromkeys(digests, 0)
    with av.open(str(recordings[one.file])) as container:
        for packet in container.demux():
            if packet.size and not packet.is_discard:
                digests[packet.stream_index].update(bytes(packet))
                counts[packet.stream_index] += 1
    for stream in found.streams:
        assert len(stream.times) == counts[stream.index]
        if len(stream.times) and stream is not found.video.stream:
            assert stream.digest == digests[stream.index].hexdigest()


@pytest.mark.parametrize(
    ("file", "parameters"),
    [
        ("film.mp4", {"width": 160, "height": 120, "pixel_format": "yuv420p",
                      "rate": Fraction(24_000, 1001), "sample_aspect_ratio": 1,
                      "interlaced": False}),
        ("fast.mp4", {"rate": Fraction(60_000, 1001), "color": ColorTags(1, 1, 1)}),
        ("anamorphic.mp4", {"sample_aspect_ratio": Fraction(16, 15)}),
        ("anamorphic.webm", {"sample_aspect_ratio": Fraction(171, 160)}),  # From whole pixels.
        ("hdr10.mp4", {"pixel_format": "yuv420p10le", "color": ColorTags(9, 9, 16)}),
        ("phone.mp4", {"color": ColorTags(5, 5, 6, full_range=True)}),
        ("interlaced.mp4", {"interlaced": True}),
        ("full-chroma.mp4", {"pixel_format": "yuv444p"}),
        ("odd.webm", {"width": 321, "height": 241}),
        ("one.mp4", {"last_duration": 512}),
    ],
)  # fmt: skip
def test_video_parameters_are_read(recordings, file, parameters):
    video = inspected(recordings, file).video
    assert {name: getattr(video, name) for name in parameters} == parameters


def test_hdr10_metadata_are_exact(recordings):
    for file in ("hdr10.mkv", "hdr10.mp4"):
        dynamic_range = inspected(recordings, file).video.hdr
        assert dynamic_range.content_light_level == (1000, 400)
        assert dynamic_range.mastering_display == tuple(
            Fraction(number, 50_000)
            for number in (34_000, 16_000, 13_250, 34_500, 7_500, 3_000, 15_635, 16_450,
                           250, 50_000_000)
        )  # fmt: skip
    plain = inspected(recordings, "plain.mkv").video.hdr
    assert (plain.mastering_display, plain.content_light_level) == (None, None)


def test_a_rotated_video_has_a_display_matrix(recordings):
    turned = inspected(recordings, "phone.mp4").video.display_matrix
    assert turned[:2] in ((0, 65_536), (0, -65_536))
    assert inspected(recordings, "plain.mkv").video.display_matrix is None


def test_chapters_and_tags_are_there(recordings):
    for file in ("chapters.mkv", "chapters.mp4"):
        found = inspected(recordings, file)
        assert [(one.begin, one.end, one.tags["title"]) for one in found.chapters] == [
            (0, Fraction(9, 10), "Départ"),
            (Fraction(9, 10), Fraction(3, 2), "Middle"),
            (Fraction(3, 2), Fraction(12, 5), "End"),
        ]
        tags = {name.lower(): value for name, value in found.tags.items()}
        assert tags["title"] == "Corpus"
        assert tags["artist"] == "Nobody"


def test_tracks_have_language_title_and_disposition(recordings):
    found = inspected(recordings, "tracks.mkv")
    assert [one.tags["language"] for one in found.other_streams()] == ["eng", "deu", "eng"]
    assert [str(one) for one in found.other_streams()] == [
        "audio stream 1 (aac, eng)", "audio stream 2 (ac3, deu)", "audio stream 3 (opus, eng)",
    ]  # fmt: skip
    first, _, late = found.other_streams()
    assert late.begin > first.begin


def test_a_cover_is_no_video(recordings):
    for file in ("cover.mkv", "cover.mp4"):
        found = inspected(recordings, file)
        assert found.video.stream.index == 0
        covers = [one for one in found.streams if one.is_cover]
        assert len(covers) == 1
        assert covers[0].attachment.startswith(b"\xff\xd8")


def test_an_attachment_is_kept_byte_by_byte(recordings):
    found = inspected(recordings, "subtitles.mkv")
    (font,) = (one for one in found.streams if one.kind == "attachment")
    assert font.attachment == bytes(range(256)) * 4


@pytest.mark.parametrize("file", ["subtitles.mkv", "subtitles.mp4"])
def test_texts_of_subtitles_are_decoded(recordings, file):
    found = inspected(recordings, file)
    subtitles = [one for one in found.streams if one.kind == "subtitle"]
    assert subtitles
    for stream in subtitles:
        assert [cue.text for cue in stream.cues] == ["One", "Two", "Three"]
        assert [float(cue.start) for cue in stream.cues] == pytest.approx([0.2, 1.0, 1.6])


def test_encryption_is_recognized(recordings):
    assert inspected(recordings, "encrypted.mp4").encrypted


@pytest.mark.parametrize("file", ["cut.mkv", "cut.ts"])
def test_a_truncated_recording_is_recognized(recordings, file):
    found = inspected(recordings, file)
    assert found.truncation
    assert 20 < len(found.video.times) < 60


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_a_truncated_mp4_with_its_index_in_front_is_recognized(tmp_path, keep):
    path = video_clip(tmp_path / "clip.mp4", frames=100, mux={"movflags": "faststart"})
    whole = inspect(path)
    assert whole.truncation is None
    cut = inspect(truncated(path, keep=keep))
    assert cut.truncation == "reading stopped at a damaged packet"
    assert 0 < len(cut.video.times) < len(whole.video.times)


def test_damage_in_the_middle_does_not_end_a_recording(tmp_path):
    """A receiver marks what it could not read well (transport_error_indicator)."""
    path = video_clip(tmp_path / "clip.ts", frames=250, options={"crf": "10"})
    whole = inspect(path)
    data = bytearray(path.read_bytes())
    packets = [at for at in range(0, len(data), 188) if data[at + 1] & 0x1F == 1]
    data[packets[len(packets) // 2] + 1] |= 0x80
    path.write_bytes(data)
    found = inspect(path)
    assert found.truncation == "1 of its packets are damaged"
    np.testing.assert_array_equal(found.video.times, whole.video.times)


NO_RECORDINGS = [
    ("nothing.mkv", None, "no such file or directory", SourceFault.NOT_FOUND),
    ("empty.mp4", b"", "is empty", SourceFault.DAMAGED),
    (
        "text.mp4", b"This is no recording.\n" * 100,
        "not a recording, or its index is missing because it was cut short", SourceFault.DAMAGED,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "data", "why", "fault"), NO_RECORDINGS)
def test_an_unreadable_file_is_an_error(tmp_path, name, data, why, fault):
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(SourceRejected) as refused:
        inspect(path)
    assert str(refused.value) == f"{path}: {why}"
    assert refused.value.fault is fault


def test_a_folder_is_no_recording(tmp_path):
    with pytest.raises(SourceRejected, match="is a directory"):
        open_recording(tmp_path)


def test_audio_alone_has_no_video(tmp_path):
    found = inspect(audio_clip(tmp_path / "audio.mp4"))
    assert found.video is None
    assert [one.kind for one in found.other_streams()] == ["audio"]


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30_000, 1001), Fraction(10)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_the_end_is_that_of_the_last_frame(tmp_path, rate, suffix):
    path = tmp_path / f"clip{suffix}"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(20):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts, frame.time_base = number, 1 / rate
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    found = inspect(path).video
    tolerance = 0 if suffix == ".mp4" else Fraction(1, 1000)
    assert abs(found.end - 20 / rate) <= tolerance
    assert found.begin == 0


@pytest.mark.parametrize("name", ["12:30:00.mkv", "http:clip.mkv"])
def test_a_colon_in_the_name_of_a_file_is_no_protocol(tmp_path, monkeypatch, name):
    video_clip(tmp_path / "clip.mkv", frames=5).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(inspect(Path(name)).video.times) == 5


def test_a_url_in_place_of_a_file_is_not_requested(tmp_path):
    with pytest.raises(SourceRejected, match="no such file"):
        inspect(Path("http://127.0.0.1:1/clip.mkv"))
