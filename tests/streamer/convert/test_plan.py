"""What will be done, or why not: every refusal in one literal line."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from streamer.convert.encoders import ENCODERS
from streamer.convert.media_info import HighDynamicRange, take
from streamer.convert.plan import ConvertOptions, plan
from streamer.core.errors import SinkError, SourceFault, SourceRejected
from streamer.core.frame_schedule import FrameSchedule
from streamer.core.image import ColorTags
from tests.support.clips import video_clip
from tests.support.facts import inventory, stream, video

HDR10 = HighDynamicRange(None, (1000, 400))
COVER = 1 << 10
"""FFmpeg's disposition of a picture that is attached."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return video_clip(tmp_path_factory.mktemp("clips") / "in.mkv", frames=5)


def planned(clip, output="out.mkv", *, others=(), recording=None, asked=None, **facts):
    """The plan for a recording whose main video is as *facts* say."""
    main = None if facts.pop("pictures", True) is None else video(**facts)
    found = inventory(main, others, path=clip, **(recording or {}))
    return plan(found, Path(output), ConvertOptions(**(asked or {})))


SOURCES = [
    ({"recording": {"encrypted": True}}, "is encrypted; it must be decrypted first",
     SourceFault.UNKNOWN_CODEC),
    ({"pictures": None}, "has no video", SourceFault.NO_VIDEO),
    ({"pictures": None, "others": [stream(0, "audio", codec="aac")]}, "has no video",
     SourceFault.NO_VIDEO),
    ({"pictures": None, "others": [stream(0, "video", disposition=COVER)]}, "has no video",
     SourceFault.NO_VIDEO),
    ({"pictures": None, "others": [stream(0, "video", packets=0)]},
     "has a video stream without a single picture", SourceFault.NO_VIDEO),
    ({"pixel_format": ""}, "no picture of its h264 video can be decoded",
     SourceFault.UNKNOWN_CODEC),
    ({"width": 16_386, "height": 64}, "pictures of 16386x64 are too large",
     SourceFault.UNKNOWN_CODEC),
    ({"interlaced": True},
     "is interlaced, each picture holds two moments; --deinterlace makes one of them",
     SourceFault.UNKNOWN_CODEC),
    ({"pixel_format": "xyz12le"},
     "xyz12le is no planar format of whole numbers; --pixel-format yuv420p converts it",
     SourceFault.UNKNOWN_CODEC),
    ({"asked": {"pixel_format": "nv12"}}, "nv12 is no planar format of whole numbers",
     SourceFault.UNKNOWN_CODEC),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "why", "fault"), SOURCES)
def test_a_recording_that_cannot_be_converted_is_refused(clip, facts, why, fault):
    with pytest.raises(SourceRejected) as refused:
        planned(clip, **facts)
    assert str(refused.value) == f"{clip}: {why}"
    assert refused.value.fault is fault


OUTPUTS = [
    ("out.avi", {}, {},
     "out.avi: what is written is told by the name; it may end in .mp4, .m4v, .mov, .mkv, .webm"),
    ("out", {}, {},
     "out: what is written is told by the name; it may end in .mp4, .m4v, .mov, .mkv, .webm"),
    ("out.mkv", {"encoder": "h264"}, {},
     ("no encoder is called 'h264'; there are: x264, x265, svt-av1, vp9, ffv1, prores, nvenc-h264, "
     "nvenc-hevc, nvenc-av1")),
    ("out.webm", {"encoder": "x264"}, {},
     ".webm does not hold what x264 writes; it holds svt-av1, vp9, nvenc-av1"),
    ("out.mp4", {"encoder": "ffv1"}, {},
     (".mp4 does not hold what ffv1 writes; it holds x264, x265, svt-av1, vp9, nvenc-h264, "
     "nvenc-hevc, nvenc-av1")),
    ("out.mp4", {"encoder": "svt-av1"}, {"pixel_format": "yuv444p"},
     ("{clip}: its pictures are yuv444p, which svt-av1 cannot store in .mp4; choose --encoder "
     "x264, x265, vp9, nvenc-h264, nvenc-hevc, nvenc-av1, or lose something with "
     "--pixel-format yuv420p")),
    ("out.mp4", {}, {"pixel_format": "yuva444p12le"},
     ("{clip}: its pictures are yuva444p12le, which x264 cannot store in .mp4; choose --encoder "
     "ffv1 and a name in .mkv, or lose something with --pixel-format yuv420p")),
    ("out.mp4", {}, {"width": 161},
     ("{clip}: is 161x120, and x264 stores yuv420p in even sizes only; choose --encoder vp9 or "
     "ffv1, or --pixel-format yuv444p")),
    ("out.mkv", {"encoder": "vp9"}, {"aspect": Fraction(16, 15)},
     ("{clip}: its pixels are not square, which vp9 in .mkv cannot say here; choose a name in "
     ".mp4, or --encoder x264 or x265")),
    ("out.mkv", {"encoder": "ffv1"}, {"dynamic_range": HDR10},
     "{clip}: is HDR10, and ffv1 cannot say so; choose --encoder x265 or svt-av1"),
    ("out.mkv", {"overlay": True}, {"pixel_format": "yuv420p10le"},
     ("{clip}: --overlay works on 8-bit 4:2:0 and this is yuv420p10le; add --pixel-format yuv420p "
     "to lose the rest")),
    ("out.mkv", {"enhance": True}, {"pixel_format": "yuv444p"},
     ("{clip}: --enhance works on 8-bit 4:2:0 and this is yuv444p; add --pixel-format yuv420p to "
     "lose the rest")),
    ("out.mkv", {"factor": 2, "rate": Fraction(60)}, {},
     "give either a factor or a rate, not both"),
    ("out.mkv", {"factor": 0}, {}, "factor must be at least 1, got 0"),
    ("out.mkv", {"leave_out": (0,)}, {}, "{clip}: has no stream 0 that could be left out"),
    ("out.mkv", {"leave_out": (7, 3)}, {}, "{clip}: has no stream 3 that could be left out"),
    ("out.mkv", {"encoder": "ffv1", "level": 3.0}, {}, "ffv1 has no --crf"),
]  # fmt: skip


@pytest.mark.parametrize(("output", "asked", "facts", "why"), OUTPUTS)
def test_what_cannot_be_written_is_refused(clip, output, asked, facts, why):
    with pytest.raises(SinkError) as refused:
        planned(clip, output, asked=asked, **facts)
    assert str(refused.value) == why.format(clip=clip)


def test_an_encoder_that_ffmpeg_lacks_is_refused(clip, monkeypatch):
    missing = replace(ENCODERS["x264"], name="old", codec="no-such-codec")
    monkeypatch.setattr("streamer.convert.plan.ENCODERS", {"old": missing})
    with pytest.raises(SinkError) as refused:
        planned(clip, asked={"encoder": "old"})
    assert str(refused.value) == "old is not part of this FFmpeg; choose another --encoder"


CONTAINERS = [
    ("tracks.mkv", "out.webm",
     ("audio stream 1 (aac, eng): .webm cannot hold it; audio stream 2 (ac3, deu): "
     ".webm cannot hold it")),
    ("subtitles.mkv", "out.mp4",
     ("subtitle stream 1 (ass, deu): .mp4 cannot hold it; subtitle stream 2 (subrip, fra): "
     ".mp4 cannot hold it; attachment stream 3 (corpus.ttf): .mp4 has no attachments")),
    ("data.ts", "out.mkv", "data stream 2 (klv): .mkv has no place for this kind of data"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "output", "streams"), CONTAINERS)
def test_streams_that_a_container_cannot_hold_are_named(recordings, file, output, streams):
    path = recordings[file]
    with pytest.raises(SinkError) as refused:
        plan(take(path), Path(output), ConvertOptions())
    assert str(refused.value) == (
        f"{path}: {streams}. A name in .mkv holds the most; --leave-out NUMBER does without"
    )


def test_streams_are_left_out_as_asked(recordings):
    done = plan(take(recordings["tracks.mkv"]), Path("out.mp4"), ConvertOptions(leave_out=(3,)))
    assert [one.facts.index for one in done.copied] == [1, 2]
    assert done.left_out == ((3, "as asked"),)


@pytest.mark.parametrize(
    ("asked", "copied", "stretched", "left_out"),
    [
        ({}, [1, 2, 3], (), ()),
        ({"audio": "drop"}, [], (), tuple((number, "as asked") for number in (1, 2, 3))),
        (
            {"speed": Fraction(1, 2)}, [], (),
            tuple(
                (number, "sound at another speed; --audio stretch keeps it")
                for number in (1, 2, 3)
            ),
        ),
        ({"speed": Fraction(1, 2), "audio": "stretch"}, [], (1, 2, 3), ()),
        ({"speed": Fraction(1, 2), "audio": "copy"}, [1, 2, 3], (), ()),
        ({"audio": "stretch"}, [1, 2, 3], (), ()),
    ],
)  # fmt: skip
def test_what_becomes_of_sound(recordings, asked, copied, stretched, left_out):
    done = plan(take(recordings["tracks.mkv"]), Path("out.mkv"), ConvertOptions(**asked))
    assert [one.facts.index for one in done.copied] == copied
    assert all(one.scale == 1 for one in done.copied)
    assert (done.stretched, done.left_out) == (stretched, left_out)


def test_subtitles_go_at_the_speed_of_the_picture(recordings):
    asked = ConvertOptions(speed=Fraction(1, 4))
    done = plan(take(recordings["subtitles.mkv"]), Path("out.mkv"), asked)
    assert {one.facts.kind: one.scale for one in done.copied}["subtitle"] == 4


@pytest.mark.parametrize(
    ("asked", "retiming"),
    [
        ({}, FrameSchedule()),
        ({"factor": 3}, FrameSchedule(factor=3)),
        ({"speed": Fraction(1, 4)}, FrameSchedule(factor=4, speed=Fraction(1, 4))),
        ({"speed": Fraction(3, 10)}, FrameSchedule(factor=3, speed=Fraction(3, 10))),
        ({"speed": Fraction(2)}, FrameSchedule(speed=Fraction(2))),
        ({"speed": Fraction(1, 4), "factor": 1}, FrameSchedule(speed=Fraction(1, 4))),
        ({"rate": Fraction(60)}, FrameSchedule(rate=Fraction(60))),
        (
            {"rate": Fraction(60), "speed": Fraction(1, 2)},
            FrameSchedule(rate=Fraction(120), speed=Fraction(1, 2)),
        ),
    ],
)
def test_slow_motion_keeps_the_rate_unless_told(clip, asked, retiming):
    assert planned(clip, asked=asked).retiming == retiming


def test_a_constant_rate_begins_with_the_first_picture(clip):
    done = planned(clip, asked={"rate": Fraction(50)}, times=(1400, 1440, 1480))
    assert done.retiming.origin_ns == 1_400_000_000
    assert done.pictures == 6


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
    assert planned(clip, output, pixel_format=pixel_format).coding.spec.name == encoder


def test_what_pictures_mean_goes_to_the_encoder(clip):
    tags = ColorTags(9, 9, 16, full_range=True)
    coding = planned(
        clip, color=tags, aspect=Fraction(16, 15), width=720, height=576, rate=Fraction(25),
        asked={"factor": 2},
    ).coding  # fmt: skip
    assert (coding.color, coding.aspect, coding.width, coding.height) == (
        tags, Fraction(16, 15), 720, 576,
    )  # fmt: skip
    assert (coding.rate, coding.time_base) == (50, Fraction(1, 2000))


def test_ten_bits_stay_ten_unless_told(clip):
    kept = planned(clip, pixel_format="yuv420p10le")
    assert kept.coding.pixel_format == kept.decoding.pixel_format == "yuv420p10le"
    told = planned(clip, pixel_format="yuv420p10le", asked={"pixel_format": "yuv420p"})
    assert told.coding.pixel_format == told.decoding.pixel_format == "yuv420p"


def test_only_what_is_interlaced_is_deinterlaced(clip):
    asked = {"deinterlace": True}
    assert planned(clip, interlaced=True, asked=asked).decoding.deinterlace
    assert not planned(clip, asked=asked).decoding.deinterlace


def test_a_person_is_told_what_is_odd(clip):
    assert planned(clip, timestamp_quality="guessed").notes == (
        "no times are stored: taken as 25 pictures a second",
    )
    turned = planned(clip, display_matrix=(0,) * 9, asked={"overlay": True})
    assert turned.notes == ("players turn the picture, and with it what is drawn on it",)
    (note,) = planned(clip, recording={"broken": "it ends 3.0 s before its header says"}).notes
    assert note == (
        "the recording is not whole (it ends 3.0 s before its header says): all that is there is "
        "converted"
    )


def test_enhancement_looks_back_and_nothing_else_does(clip):
    assert planned(clip, asked={"enhance": True}).lead_ns == 2_000_000_000
    assert planned(clip, asked={"factor": 2, "overlay": True}).lead_ns == 0
