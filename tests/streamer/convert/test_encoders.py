"""Encoders by name: each writes a playable chunk, with exactly the options given."""

from fractions import Fraction

import av
import numpy as np
import pytest

from streamer.convert.chunk_sink import ChunkEncoder, EncodeSettings
from streamer.convert.encoders import (
    ENCODERS,
    default_encoder,
    encoder_options,
    writes_hdr_metadata,
)
from streamer.convert.inspection import inspect
from streamer.convert.journal import ChunkCounts, Journal
from streamer.convert.media_info import HdrMetadata
from streamer.convert.mux import Muxer
from streamer.core.errors import SinkError
from streamer.core.frame import Frame
from streamer.core.frame_schedule import NS, FrameSchedule
from streamer.core.image import ColorTags, Image
from streamer.core.pixel_format import planar_layout, plane_views
from tests.support.clips import video_clip

HERE = [name for name, spec in ENCODERS.items() if spec.available and "nvenc" not in name]
COUNT = 15
BT2020 = ColorTags(9, 9, 16)
MASTERING = tuple(
    Fraction(number, 10_000)
    for number in (6800, 3200, 2650, 6900, 1500, 600, 3127, 3290, 50, 10_000_000)
)
"""Of a display: x and y of red, green, blue and white; darkest and brightest in cd/m2."""

HDR10 = HdrMetadata(MASTERING, (1000, 400))
LIGHT_ONLY = HdrMetadata(None, (600, 200))
DISPLAY_ONLY = HdrMetadata(MASTERING, None)


def frames(pixel_format):
    """Bars that move."""
    form = planar_layout(pixel_format)
    top = (1 << form.depth) - 1
    for number in range(COUNT):
        frame = av.VideoFrame(64, 48, pixel_format)
        for plane in plane_views(frame, form):
            plane[:] = np.linspace(top // 5, top // 2, plane.shape[1]).astype(form.dtype)
            plane[:, 2 * number : 2 * number + 8] = top * 4 // 5
        frame.color_primaries, frame.color_trc, frame.colorspace = 9, 16, 9
        at_ns = number * NS // 25
        yield Frame(Image(frame), at_ns, at_ns, number, synthetic=number % 2 == 1)


def encoding(name, pixel_format, *, quality="draft", color=BT2020, **more):
    spec = ENCODERS[name]
    return EncodeSettings(
        spec=spec,
        options=encoder_options(spec, quality, pixel_format=pixel_format, **more),
        width=64,
        height=48,
        pixel_format=spec.stored(pixel_format),
        sample_aspect_ratio=Fraction(1),
        color=color,
        schedule=FrameSchedule(),
        time_base=Fraction(1, 90_000),
        rate=Fraction(25),
    )


def encoded(tmp_path, settings, shown):
    journal = Journal(tmp_path / "out.mkv", {})
    journal.open()
    writer = journal.writer(0)
    try:
        encoder = ChunkEncoder(settings, writer)
        encoder(iter(shown))
        return encoder, writer.finish(encoder.extradata, ChunkCounts())
    finally:
        writer.close()
        journal.close()


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """What the chunks are made from."""
    path = tmp_path_factory.mktemp("clips") / "clip.mkv"
    return inspect(video_clip(path, frames=COUNT, width=64, height=48))


def decoded(settings, finished, recording, *, suffix=".mkv"):
    """The frames of a chunk, from a file that it was put into."""
    output = finished.payload_file.with_name(f"out{suffix}")
    part = Muxer(recording, settings, ()).write(output, [finished])
    with av.open(str(part)) as file:
        return list(file.decode(video=0))


FORMATS = {
    "x264": ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "gray"),
    "x265": ("yuv420p", "yuv444p", "yuv420p10le", "yuv422p12le", "gbrp10le"),
    "svt-av1": ("yuv420p", "yuv420p10le"),
    "vp9": ("yuv420p", "yuv444p"),
    "ffv1": ("yuv420p", "yuv420p10le", "yuva444p10le", "gbrp", "gbrap", "gray16le", "yuv411p"),
    "prores": ("yuv422p10le", "yuv444p10le", "yuva444p10le"),
}


@pytest.mark.parametrize(
    ("name", "pixel_format"),
    [(name, form) for name in HERE for form in FORMATS[name]],
)
def test_an_encoder_writes_a_chunk_that_can_be_played(tmp_path, recording, name, pixel_format):
    settings = encoding(name, pixel_format)
    encoder, finished = encoded(tmp_path, settings, frames(pixel_format))
    suffix = min(settings.spec.containers)
    played = decoded(settings, finished, recording, suffix=suffix)
    assert (encoder.output_frames, encoder.synthetic) == (COUNT, COUNT // 2)
    assert [frame.pts * frame.time_base for frame in played] == [
        Fraction(number, 25) for number in range(COUNT)
    ]
    assert finished.packets[0].keyframe
    form = planar_layout(pixel_format)
    for frame, before in zip(played, frames(pixel_format), strict=True):
        wanted = plane_views(before.image.video_frame(), form)
        made = plane_views(frame.reformat(format=pixel_format), form)
        apart = [
            np.abs(one.astype(int) - other.astype(int)).mean() / (1 << form.depth)
            for one, other in zip(made, wanted, strict=True)
        ]
        # Chroma that moves in so small a frame is where encoders save.
        assert max(apart) <= (0 if settings.spec.lossless else 0.1)
        assert apart[0] < 0.03


@pytest.mark.parametrize("name", HERE)
def test_color_tags_are_written(tmp_path, recording, name):
    pixel_format = FORMATS[name][0]
    settings = encoding(name, pixel_format)
    _, finished = encoded(tmp_path, settings, frames(pixel_format))
    frame = decoded(settings, finished, recording)[0]
    assert (frame.color_primaries, frame.color_trc, int(frame.colorspace)) == (9, 16, 9)


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("quality", ["draft", "good", "best"])
def test_the_encoder_accepts_every_option(name, quality):
    context = encoding(name, FORMATS[name][0], quality=quality).context()
    context.open()
    assert context.options == {}, "what was not taken is left"


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("quality", ["good", "best"])
def test_every_quality_encodes(tmp_path, name, quality):
    pixel_format = FORMATS[name][0]
    settings = encoding(name, pixel_format, quality=quality)
    encoder, _ = encoded(tmp_path, settings, list(frames(pixel_format))[:3])
    assert encoder.output_frames == 3


def test_better_qualities_lose_less():
    levels = [float(ENCODERS["x264"].qualities[one]["crf"]) for one in ("draft", "good", "best")]
    assert levels == sorted(levels, reverse=True)


@pytest.mark.parametrize(
    ("pixel_format", "quality", "profile"),
    [
        ("yuv422p10le", "draft", "lt"),
        ("yuv422p10le", "good", "standard"),
        ("yuv422p10le", "best", "hq"),
        ("yuv444p10le", "good", "4444"),
        ("yuva444p10le", "draft", "4444"),
        ("yuva444p10le", "best", "4444xq"),
    ],
)
def test_prores_profiles_suit_the_pixel_format(pixel_format, quality, profile):
    assert (
        encoder_options(ENCODERS["prores"], quality, pixel_format=pixel_format)["profile"]
        == profile
    )


G_FIRST = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
FOR_SVT = (
    "G(0.26500,0.69000)B(0.15000,0.06000)R(0.68000,0.32000)WP(0.31270,0.32900)L(1000.00000,0.00500)"
)


@pytest.mark.parametrize(
    ("name", "option", "hdr", "value"),
    [
        ("x265", "x265-params", None, "log-level=error"),
        (
            "x265", "x265-params", HDR10,
            f"log-level=error:hdr10=1:repeat-headers=1:master-display={G_FIRST}:max-cll=1000,400",
        ),
        ("x265", "x265-params", LIGHT_ONLY, "log-level=error:max-cll=600,200"),
        (
            "x265", "x265-params", DISPLAY_ONLY,
            f"log-level=error:hdr10=1:repeat-headers=1:master-display={G_FIRST}",
        ),
        ("x264", "x264-params", HDR10, f"mastering-display={G_FIRST}:cll=1000,400"),
        ("x264", "x264-params", LIGHT_ONLY, "cll=600,200"),
        (
            "svt-av1", "svtav1-params", HDR10,
            f"mastering-display={FOR_SVT}:content-light=1000,400",
        ),
    ],
)  # fmt: skip
def test_hdr10_metadata_are_given_to_the_encoder(name, option, hdr, value):
    assert encoder_options(ENCODERS[name], "good", hdr=hdr)[option] == value


@pytest.mark.parametrize("name", ["x264", "svt-av1"])
def test_without_hdr10_no_metadata_are_given(name):
    given = encoder_options(ENCODERS[name], "good")
    assert not {"x264-params", "svtav1-params"} & set(given)


@pytest.mark.parametrize("name", ["x264", "x265", "svt-av1"])
def test_hdr10_comes_out_of_the_packets_as_it_went_in(tmp_path, recording, name):
    settings = encoding(name, "yuv420p10le", hdr=HDR10)
    _, finished = encoded(tmp_path, settings, frames("yuv420p10le"))
    kinds = {str(data.type) for data in decoded(settings, finished, recording)[0].side_data}
    names = {kind.rpartition(".")[2].rstrip(">").partition(":")[0] for kind in kinds}
    assert {"MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"} <= names


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("x264", {"preset": "slow", "crf": 12.0}, {"preset": "slow", "crf": "12"}),
        ("x264", {"crf": 12.5}, {"crf": "12.5"}),
        ("svt-av1", {"preset": "12"}, {"preset": "12"}),
        ("vp9", {"preset": "8"}, {"cpu-used": "8"}),
        ("nvenc-h264", {"preset": "p1", "crf": 30.0}, {"preset": "p1", "cq": "30"}),
    ],
)
def test_preset_and_crf_have_the_encoders_own_option_names(name, given, expected):
    assert expected.items() <= encoder_options(ENCODERS[name], "good", **given).items()


@pytest.mark.parametrize(
    ("name", "given", "why"),
    [
        ("ffv1", {"crf": 3.0}, "ffv1 has no --crf"),
        ("ffv1", {"preset": "slow"}, "ffv1 has no --preset"),
        ("prores", {"crf": 3.0}, "prores has no --crf"),
    ],
)
def test_an_option_that_the_encoder_lacks_is_an_error(name, given, why):
    with pytest.raises(SinkError, match=why):
        encoder_options(ENCODERS[name], "good", **given)


@pytest.mark.parametrize(
    ("preset", "why"),
    [("nonsense", "x264 rejects its options: "), ("-1", "x264 rejects its options: ")],
)
def test_an_unknown_preset_is_an_error(tmp_path, preset, why):
    settings = encoding("x264", "yuv420p", preset=preset)
    with pytest.raises(SinkError, match=why):
        encoded(tmp_path, settings, frames("yuv420p"))


def test_two_frames_with_one_timestamp_are_an_error(tmp_path):
    shown = list(frames("yuv420p"))
    with pytest.raises(SinkError, match=r"two frames at 0\.040000 s"):
        encoded(tmp_path, encoding("x264", "yuv420p"), [shown[0], shown[1], shown[1]])


@pytest.mark.parametrize(
    ("suffix", "pixel_format", "name"),
    [
        (".mp4", "yuv420p", "x264"),
        (".mkv", "yuv444p", "x264"),
        (".mp4", "yuv420p10le", "x265"),
        (".mkv", "gbrp", "x265"),
        (".webm", "yuv420p", "vp9"),
        (".mov", "yuva444p10le", "prores"),
        (".mkv", "yuva444p10le", "ffv1"),
    ],
)
def test_the_default_encoder_suits_container_and_pixel_format(suffix, pixel_format, name):
    assert default_encoder(suffix, pixel_format) == name


@pytest.mark.parametrize(
    ("name", "pixel_format", "stored"),
    [
        ("x264", "yuv420p", "yuv420p"),
        ("x264", "yuva420p", None),
        ("x265", "yuva420p", None),
        ("vp9", "yuva420p", None),
        ("svt-av1", "yuv444p", None),
        ("ffv1", "yuva420p", "yuva420p"),
        ("ffv1", "gbrp", "bgr0"),
        ("ffv1", "gbrap", "bgra"),
        ("prores", "yuva444p10le", "yuva444p10le"),
    ],
)
def test_no_frame_is_stored_in_a_format_that_loses_information(name, pixel_format, stored):
    assert ENCODERS[name].stored(pixel_format) == stored


def test_encoders_that_write_hdr10_metadata():
    able = {name for name, spec in ENCODERS.items() if writes_hdr_metadata(spec)}
    assert able == {"x264", "x265", "svt-av1"}
