"""Plans, and refusals with their one-line reasons."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import get_args

import pytest

from streamer.config.convert import ConvertOptions
from streamer.convert.encoders import ENCODERS
from streamer.convert.inspection import inspect
from streamer.convert.media_info import HdrMetadata
from streamer.convert.plan import plan
from streamer.core.errors import SinkError, SourceFault, SourceRejected
from streamer.core.frame_schedule import FrameSchedule
from streamer.core.image import ColorTags
from tests.support.clips import video_clip
from tests.support.media_infos import media_info, stream, video

HDR10 = HdrMetadata(None, (1000, 400))
COVER = 1 << 10
"""FFmpeg's disposition of a frame that is attached."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return video_clip(tmp_path_factory.mktemp("clips") / "in.mkv", frames=5)


def planned(clip, output="out.mkv", *, others=(), recording=None, options=None, **info):
    """The plan for a recording whose main video is as *info* say."""
    main = None if info.pop("has_frames", True) is None else video(**info)
    found = media_info(main, others, path=clip, **(recording or {}))
    return plan(found, Path(output), ConvertOptions(**(options or {})))


SOURCES = [
    ({"recording": {"encrypted": True}}, "is encrypted; decrypt it first",
     SourceFault.UNKNOWN_CODEC),
    ({"has_frames": None}, "has no video", SourceFault.NO_VIDEO),
    ({"has_frames": None, "others": [stream(0, "audio", codec="aac")]}, "has no video",
     SourceFault.NO_VIDEO),
    ({"has_frames": None, "others": [stream(0, "video", disposition=COVER)]}, "has no video",
     SourceFault.NO_VIDEO),
    ({"has_frames": None, "others": [stream(0, "video", count=0)]},
     "has a video stream without frames", SourceFault.NO_VIDEO),
    ({"pixel_format": ""}, "no frame of its h264 video can be decoded",
     SourceFault.UNKNOWN_CODEC),
    ({"width": 16_386, "height": 64}, "frames of 16386x64 are too large",
     SourceFault.UNKNOWN_CODEC),
    ({"interlaced": True},
     "is interlaced; --deinterlace makes progressive frames of it",
     SourceFault.UNKNOWN_CODEC),
    ({"pixel_format": "xyz12le"},
     "xyz12le is no planar format of whole numbers; --pixel-format yuv420p converts it",
     SourceFault.UNKNOWN_CODEC),
    ({"options": {"pixel_format": "nv12"}}, "nv12 is no planar format of whole numbers",
     SourceFault.UNKNOWN_CODEC),
]  # fmt: skip


@pytest.mark.parametrize(("info", "why", "fault"), SOURCES)
def test_a_recording_that_cannot_be_converted_is_refused(clip, info, why, fault):
    with pytest.raises(SourceRejected) as refused:
        planned(clip, **info)
    assert str(refused.value) == f"{clip}: {why}"
    assert refused.value.fault is fault


OUTPUTS = [
    ("out.avi", {}, {},
     "out.avi: unknown container; the name must end in .mp4, .m4v, .mov, .mkv, .webm"),
    ("out", {}, {},
     "out: unknown container; the name must end in .mp4, .m4v, .mov, .mkv, .webm"),
    ("out.webm", {"encoder": "x264"}, {},
     ".webm cannot store the output of x264; it supports svt-av1, vp9, nvenc-av1"),
    ("out.mp4", {"encoder": "ffv1"}, {},
     (".mp4 cannot store the output of ffv1; it supports x264, x265, svt-av1, vp9, nvenc-h264, "
     "nvenc-hevc, nvenc-av1")),
    ("out.mp4", {"encoder": "svt-av1"}, {"pixel_format": "yuv444p"},
     ("{clip}: its frames are yuv444p, which svt-av1 cannot store in .mp4; choose --encoder "
     "x264, x265, vp9, nvenc-h264, nvenc-hevc, nvenc-av1, or convert with loss by "
     "--pixel-format yuv420p")),
    ("out.mp4", {}, {"pixel_format": "yuva444p12le"},
     ("{clip}: its frames are yuva444p12le, which x264 cannot store in .mp4; choose --encoder "
     "ffv1 and a name in .mkv, or convert with loss by --pixel-format yuv420p")),
    ("out.mp4", {}, {"width": 161},
     ("{clip}: is 161x120, and x264 stores yuv420p in even sizes only; choose --encoder vp9 or "
     "ffv1, or --pixel-format yuv444p")),
    ("out.mkv", {"encoder": "vp9"}, {"sample_aspect_ratio": Fraction(16, 15)},
     ("{clip}: its pixels are not square, which cannot be stored for vp9 in .mkv; choose a name "
     "in .mp4, or --encoder x264 or x265")),
    ("out.mkv", {"encoder": "ffv1"}, {"hdr": HDR10},
     "{clip}: is HDR10, and ffv1 cannot write HDR10 metadata; choose --encoder x265 or svt-av1"),
    ("out.mkv", {"enhance": True}, {"pixel_format": "gbrp10le"},
     ("{clip}: --enhance works on luma, and this is gbrp10le; add "
     "--pixel-format yuv444p to convert with loss")),
    ("out.mkv", {"factor": 2, "fps": 60}, {},
     "give either a factor or a frame rate, not both"),
    ("out.mkv", {"leave_out": (0,)}, {}, "{clip}: has no stream 0 that could be left out"),
    ("out.mkv", {"leave_out": (7, 3)}, {}, "{clip}: has no stream 3 that could be left out"),
    ("out.mkv", {"encoder": "ffv1", "crf": 3.0}, {}, "ffv1 has no --crf"),
]  # fmt: skip


@pytest.mark.parametrize(("output", "options", "info", "why"), OUTPUTS)
def test_an_output_that_cannot_be_written_is_refused(clip, output, options, info, why):
    with pytest.raises(SinkError) as refused:
        planned(clip, output, options=options, **info)
    assert str(refused.value) == why.format(clip=clip)


def test_an_encoder_that_ffmpeg_lacks_is_refused(clip, monkeypatch):
    missing = replace(ENCODERS["x264"], codec="no-such-codec")
    monkeypatch.setattr("streamer.convert.plan.ENCODERS", {"x264": missing})
    with pytest.raises(SinkError) as refused:
        planned(clip, options={"encoder": "x264"})
    assert str(refused.value) == "this FFmpeg was built without x264; choose another --encoder"


CONTAINERS = [
    ("tracks.mkv", "out.webm",
     ("audio stream 1 (aac, eng): .webm does not support it; audio stream 2 (ac3, deu): "
     ".webm does not support it")),
    ("subtitles.mkv", "out.mp4",
     ("subtitle stream 1 (ass, deu): .mp4 does not support it; subtitle stream 2 (subrip, fra): "
     ".mp4 does not support it; attachment stream 3 (corpus.ttf): "
     ".mp4 does not support attachments")),
    ("data.ts", "out.mkv", "data stream 2 (klv): .mkv does not support this kind of data"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "output", "streams"), CONTAINERS)
def test_streams_that_a_container_cannot_hold_are_named(recordings, file, output, streams):
    path = recordings[file]
    with pytest.raises(SinkError) as refused:
        plan(inspect(path), Path(output), ConvertOptions())
    assert str(refused.value) == (
        f"{path}: {streams}. .mkv supports the most kinds of streams; "
        "--leave-out NUMBER converts without one"
    )


def test_the_model_lists_exactly_the_encoders_that_exist():
    field = ConvertOptions.model_fields["encoder"]
    assert get_args(get_args(field.annotation)[0]) == tuple(ENCODERS)


def test_streams_are_left_out_as_requested(recordings):
    done = plan(inspect(recordings["tracks.mkv"]), Path("out.mp4"), ConvertOptions(leave_out=(3,)))
    assert [one.info.index for one in done.copied] == [1, 2]
    assert done.left_out == ((3, "as requested"),)


@pytest.mark.parametrize(
    ("options", "copied", "stretched", "left_out"),
    [
        ({}, [1, 2, 3], (), ()),
        ({"audio": "drop"}, [], (), tuple((number, "as requested") for number in (1, 2, 3))),
        (
            {"speed": Fraction(1, 2)}, [], (),
            tuple(
                (number, "audio at another speed; --audio stretch keeps it")
                for number in (1, 2, 3)
            ),
        ),
        ({"speed": Fraction(1, 2), "audio": "stretch"}, [], (1, 2, 3), ()),
        ({"speed": Fraction(1, 2), "audio": "copy"}, [1, 2, 3], (), ()),
        ({"audio": "stretch"}, [1, 2, 3], (), ()),
    ],
)  # fmt: skip
def test_what_becomes_of_audio(recordings, options, copied, stretched, left_out):
    done = plan(inspect(recordings["tracks.mkv"]), Path("out.mkv"), ConvertOptions(**options))
    assert [one.info.index for one in done.copied] == copied
    assert all(one.scale == 1 for one in done.copied)
    assert (done.stretched, done.left_out) == (stretched, left_out)


def test_subtitles_follow_the_speed_of_the_video(recordings):
    options = ConvertOptions(speed=Fraction(1, 4))
    done = plan(inspect(recordings["subtitles.mkv"]), Path("out.mkv"), options)
    assert {one.info.kind: one.scale for one in done.copied}["subtitle"] == 4


@pytest.mark.parametrize(
    ("options", "schedule"),
    [
        ({}, FrameSchedule()),
        ({"factor": 3}, FrameSchedule(factor=3)),
        ({"speed": Fraction(1, 4)}, FrameSchedule(factor=4, speed=Fraction(1, 4))),
        ({"speed": Fraction(3, 10)}, FrameSchedule(factor=3, speed=Fraction(3, 10))),
        ({"speed": Fraction(2)}, FrameSchedule(speed=Fraction(2))),
        ({"speed": Fraction(1, 4), "factor": 1}, FrameSchedule(speed=Fraction(1, 4))),
        ({"fps": 60}, FrameSchedule(rate=Fraction(60))),
        (
            {"fps": 60, "speed": Fraction(1, 2)},
            FrameSchedule(rate=Fraction(120), speed=Fraction(1, 2)),
        ),
    ],
)
def test_slow_motion_keeps_the_frame_rate_by_default(clip, options, schedule):
    assert planned(clip, options=options).schedule == schedule


def test_a_constant_rate_begins_with_the_first_frame(clip):
    done = planned(clip, options={"fps": Fraction(50)}, times=(1400, 1440, 1480))
    assert done.schedule.origin_ns == 1_400_000_000
    assert done.output_frames == 6


@pytest.mark.parametrize(
    ("output", "pixel_format", "encoder"),
    [
        ("out.mp4", "yuv420p", "x264"),
        ("out.m4v", "yuv420p", "x264"),
        ("out.MKV", "yuv420p10le", "x265"),
        ("out.webm", "yuv420p", "vp9"),
        ("out.mkv", "rgb24", "x265"),
        ("out.mkv", "bgra", "ffv1"),
        ("out.mp4", "nv12", "x264"),
    ],
)
def test_an_encoder_is_chosen_that_keeps_what_is_there(clip, output, pixel_format, encoder):
    assert planned(clip, output, pixel_format=pixel_format).encoding.spec.name == encoder


def test_video_parameters_reach_the_encoder(clip):
    tags = ColorTags(9, 9, 16, full_range=True)
    encoding = planned(
        clip, color=tags, sample_aspect_ratio=Fraction(16, 15), width=720, height=576,
        rate=Fraction(25), options={"factor": 2},
    ).encoding  # fmt: skip
    assert (encoding.color, encoding.sample_aspect_ratio, encoding.width, encoding.height) == (
        tags, Fraction(16, 15), 720, 576,
    )  # fmt: skip
    assert (encoding.rate, encoding.time_base) == (50, Fraction(1, 2000))


@pytest.mark.parametrize(
    ("options", "pixel_format"),
    [
        ({"overlay": True}, "yuv420p10le"),
        ({"overlay": True}, "gbrp"),
        ({"enhance": True}, "yuv444p"),
        ({"enhance": True, "overlay": True}, "yuv422p10le"),
    ],
)
def test_enhancement_and_overlay_keep_the_pixel_format(clip, options, pixel_format):
    done = planned(clip, options=options, pixel_format=pixel_format)
    assert done.decoding.pixel_format == pixel_format


def test_ten_bits_stay_ten_by_default(clip):
    kept = planned(clip, pixel_format="yuv420p10le")
    assert kept.encoding.pixel_format == kept.decoding.pixel_format == "yuv420p10le"
    reduced = planned(clip, pixel_format="yuv420p10le", options={"pixel_format": "yuv420p"})
    assert reduced.encoding.pixel_format == reduced.decoding.pixel_format == "yuv420p"


def test_only_what_is_interlaced_is_deinterlaced(clip):
    options = {"deinterlace": True}
    assert planned(clip, interlaced=True, options=options).decoding.deinterlace
    assert not planned(clip, options=options).decoding.deinterlace


def test_notes_explain_unusual_recordings(clip):
    assert planned(clip, timestamp_quality="inferred").notes == (
        "no timestamps are stored: assuming 25 fps",
    )
    turned = planned(clip, display_matrix=(0,) * 9, options={"overlay": True})
    assert turned.notes == ("players rotate the frame, and the overlay with it",)
    (note,) = planned(clip, recording={"truncation": "it ends 3.0 s before its header says"}).notes
    assert note == (
        "the recording is incomplete (it ends 3.0 s before its header says): all that is there is "
        "converted"
    )


def test_only_enhancement_processes_frames_before_a_chunk(clip):
    assert planned(clip, options={"enhance": True}).lead_ns == 2_000_000_000
    assert planned(clip, options={"factor": 2, "overlay": True}).lead_ns == 0
