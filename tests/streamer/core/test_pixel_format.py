"""Pictures as planes: every format there and back, bit for bit, odd sizes too."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.format import VideoFormat
from av.video.reformatter import ColorRange, VideoReformatter
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.pixel_format import (
    Converter,
    frame_from_planes,
    layout,
    planar_equivalent,
    plane_views,
)

SIZES = [(12, 16), (13, 17), (2, 2), (1, 1), (3, 2)]
"""(height, width)."""

LAYOUTS = [
    # Name, depth, rgb, alpha, chroma halved (down, right), shapes of a picture of 13x17.
    ("yuv420p", 8, False, False, (1, 1), [(13, 17), (7, 9), (7, 9)]),
    ("yuvj420p", 8, False, False, (1, 1), [(13, 17), (7, 9), (7, 9)]),
    ("yuv422p", 8, False, False, (0, 1), [(13, 17), (13, 9), (13, 9)]),
    ("yuv440p", 8, False, False, (1, 0), [(13, 17), (7, 17), (7, 17)]),
    ("yuv411p", 8, False, False, (0, 2), [(13, 17), (13, 5), (13, 5)]),
    ("yuv410p", 8, False, False, (2, 2), [(13, 17), (4, 5), (4, 5)]),
    ("yuv444p", 8, False, False, (0, 0), [(13, 17), (13, 17), (13, 17)]),
    ("yuv420p10le", 10, False, False, (1, 1), [(13, 17), (7, 9), (7, 9)]),
    ("yuv422p12le", 12, False, False, (0, 1), [(13, 17), (13, 9), (13, 9)]),
    ("yuv444p16le", 16, False, False, (0, 0), [(13, 17), (13, 17), (13, 17)]),
    ("yuva420p", 8, False, True, (1, 1), [(13, 17), (7, 9), (7, 9), (13, 17)]),
    ("yuva444p10le", 10, False, True, (0, 0), [(13, 17)] * 4),
    ("gbrp", 8, True, False, (0, 0), [(13, 17)] * 3),
    ("gbrp10le", 10, True, False, (0, 0), [(13, 17)] * 3),
    ("gbrap", 8, True, True, (0, 0), [(13, 17)] * 4),
    ("gbrap16le", 16, True, True, (0, 0), [(13, 17)] * 4),
    ("gray", 8, False, False, (0, 0), [(13, 17)]),
    ("gray12le", 12, False, False, (0, 0), [(13, 17)]),
]

FORMS = [
    ("nv12", "yuv420p"), ("nv21", "yuv420p"), ("nv16", "yuv422p"), ("nv24", "yuv444p"),
    ("p010le", "yuv420p10le"), ("p210le", "yuv422p10le"), ("p410le", "yuv444p10le"),
    ("yuyv422", "yuv422p"), ("uyvy422", "yuv422p"), ("yvyu422", "yuv422p"),
    ("y210le", "yuv422p10le"),
    ("rgb24", "gbrp"), ("bgr24", "gbrp"), ("rgba", "gbrap"), ("bgra", "gbrap"),
    ("argb", "gbrap"), ("abgr", "gbrap"),
    ("rgb48le", "gbrp16le"), ("bgr48le", "gbrp16le"), ("rgb48be", "gbrp16le"),
    ("rgba64le", "gbrap16le"), ("rgba64be", "gbrap16le"), ("ya8", "gbrap"),
    ("monob", "gray"), ("monow", "gray"),
    ("yuv420p10be", "yuv420p10le"), ("yuv444p16be", "yuv444p16le"), ("gray16be", "gray16le"),
    ("gbrp12be", "gbrp12le"), ("yuva422p10be", "yuva422p10le"),
]  # fmt: skip
"""Formats of decoders, and the planar one that holds the same."""

PADDED = [("0rgb", "gbrp"), ("0bgr", "gbrp"), ("rgb0", "gbrp"), ("bgr0", "gbrp")]
"""As above, with bytes that mean nothing."""

NO_WAY_BACK = {"p010le", "yuyv422", "uyvy422", "monob", "monow"}
"""Of odd sizes swscale makes other bytes at the right edge on its way back."""


def noise(pixel_format, size, *, seed=0):
    """A valid picture of noise."""
    height, width = size
    source = av.VideoFrame(width, height, "gbrap16le")
    random = np.random.default_rng(seed)
    for plane in source.planes:
        plane.update(random.integers(0, 256, plane.buffer_size, np.uint8).tobytes())
    return back(source, pixel_format)


def back(frame, pixel_format):
    made = VideoReformatter().reformat(
        frame, format=pixel_format, src_color_range=ColorRange.MPEG, dst_color_range=ColorRange.MPEG
    )
    made.pts, made.time_base = 7, Fraction(1, 25)
    return made


def samples(frame):
    """The bytes of a picture, without those that fill lines up."""
    form = VideoFormat(frame.format.name, frame.width, frame.height)
    kept = []
    for number, plane in enumerate(frame.planes):
        parts = [one for one in form.components if one.plane == number]
        if len(frame.planes) == 1:
            length = (frame.width * form.padded_bits_per_pixel + 7) // 8
        else:
            length = sum(one.width for one in parts) * ((parts[0].bits + 7) // 8)
        rows = np.frombuffer(plane, np.uint8)[: parts[0].height * plane.line_size]
        kept.append(rows.reshape(-1, plane.line_size)[:, :length].tobytes())
    return kept


@pytest.mark.parametrize("row", LAYOUTS, ids=lambda row: row[0])
def test_a_format_is_laid_out_as_ffmpeg_says(row):
    form, shapes = layout(row[0]), row[-1]
    assert (form.name, form.depth, form.rgb, form.alpha, form.shift) == row[:-1]
    assert form.chroma is (len(shapes) >= 3)
    assert form.shapes(13, 17) == shapes
    assert form.sample is (np.uint8 if form.depth == 8 else np.uint16)


@given(
    st.sampled_from([name for name, *_ in LAYOUTS]), st.integers(1, 5000), st.integers(1, 5000)
)  # fmt: skip
def test_planes_are_as_large_as_ffmpegs(name, height, width):
    form = VideoFormat(name, width, height)
    wanted = [(part.height, part.width) for part in form.components]
    assert sorted(layout(name).shapes(height, width)) == sorted(wanted)


@pytest.mark.parametrize(
    "name", ["nv12", "rgb24", "yuyv422", "pal8", "yuv420p10be", "gbrpf32le", "grayf32le", "xyz12le"]
)
def test_what_is_not_planar_or_not_whole_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is no planar format of whole numbers"):
        layout(name)


@pytest.mark.parametrize(("packed", "planar"), [*FORMS, *PADDED])
def test_the_planar_form_is_known(packed, planar):
    assert planar_equivalent(packed) == planar
    assert layout(planar).name == planar


@pytest.mark.parametrize("name", [name for name, *_ in LAYOUTS])
def test_what_is_planar_stays(name):
    assert planar_equivalent(name) == name


@pytest.mark.parametrize(
    ("packed", "planar", "size"),
    [(*form, (12, 16)) for form in FORMS]
    + [(*form, (13, 17)) for form in FORMS if form[0] not in NO_WAY_BACK],
)
def test_packed_pictures_become_planar_and_come_back_bit_for_bit(packed, planar, size):
    frame = noise(packed, size)
    made = Converter(planar)(frame)
    assert made.format.name == planar
    assert samples(back(made, packed)) == samples(frame)
    assert (made.pts, made.time_base) == (7, Fraction(1, 25))


@pytest.mark.parametrize(
    ("packed", "order"), [("yuyv422", (0, 1, 3)), ("uyvy422", (1, 0, 2)), ("yvyu422", (0, 3, 1))]
)
def test_odd_widths_of_packed_chroma_are_kept_too(packed, order):
    frame = noise(packed, (13, 17))
    luma, u, v = plane_views(Converter("yuv422p")(frame), layout("yuv422p"))
    lines = np.frombuffer(frame.planes[0], np.uint8).reshape(13, -1)
    pairs = lines[:, : 9 * 4].reshape(13, 9, 4)
    first, *chroma = order
    np.testing.assert_array_equal(luma, pairs[..., [first, first + 2]].reshape(13, 18)[:, :17])
    np.testing.assert_array_equal(u, pairs[..., chroma[0]])
    np.testing.assert_array_equal(v, pairs[..., chroma[1]])


@pytest.mark.parametrize(("packed", "planar"), PADDED)
def test_bytes_that_mean_nothing_change_nothing(packed, planar):
    frame = noise(packed, (12, 16))
    made = Converter(planar)(frame)
    again = Converter(planar)(back(made, packed))
    assert samples(made) == samples(again)


@pytest.mark.parametrize("name", [name for name, *_ in LAYOUTS])
@pytest.mark.parametrize("size", SIZES)
def test_planes_come_back_as_a_picture_bit_for_bit(name, size):
    form = layout(name)
    frame = noise(name, size)
    frame.color_primaries, frame.color_trc, frame.colorspace = 9, 16, 9
    made = frame_from_planes(plane_views(frame, form), frame, form)
    assert made.format.name == name
    assert samples(made) == samples(frame)
    assert (made.color_primaries, made.color_trc, int(made.colorspace)) == (9, 16, 9)
    assert made.color_range == frame.color_range


def test_planes_are_views_and_a_picture_of_them_is_a_copy():
    form = layout("yuv420p")
    frame = noise("yuv420p", (12, 16))
    views = plane_views(frame, form)
    assert np.shares_memory(views[0], np.frombuffer(frame.planes[0], np.uint8))
    made = frame_from_planes(views, frame, form)
    assert not np.shares_memory(plane_views(made, form)[0], views[0])


def test_what_has_the_form_already_goes_on_as_it_is():
    frame = noise("yuv422p10le", (12, 16))
    assert Converter("yuv422p10le")(frame) is frame


def test_a_picture_that_was_made_here_has_no_time_and_can_be_converted():
    made = Converter("yuvj420p")(av.VideoFrame(16, 12, "yuv420p"))
    assert made.format.name == "yuvj420p"


@pytest.mark.parametrize(
    ("source", "wanted", "full"),
    [("yuvj420p", "yuv420p", True), ("nv12", "yuv420p", True), ("nv12", "yuv420p", False)],
)
def test_numbers_keep_their_range(source, wanted, full):
    """Full range stays full range: the numbers are the same, and so is what is said of them."""
    frame = noise(source, (12, 16))
    frame.color_range = int(ColorRange.JPEG if full else ColorRange.MPEG)
    made = Converter(wanted)(frame)
    np.testing.assert_array_equal(
        plane_views(made, layout(wanted))[0],
        np.frombuffer(frame.planes[0], np.uint8).reshape(12, -1)[:, :16],
    )
    assert made.color_range == (ColorRange.JPEG if full else ColorRange.MPEG)


@pytest.mark.parametrize("full", [True, False])
def test_ten_bits_become_eight_within_their_range(full):
    frame = av.VideoFrame(16, 12, "yuv420p10le")
    black, white = (0, 1023) if full else (64, 940)
    luma, *chroma = plane_views(frame, layout("yuv420p10le"))
    luma[:, :8], luma[:, 8:] = black, white
    for plane in chroma:
        plane[:] = 512
    frame.color_range = int(ColorRange.JPEG if full else ColorRange.MPEG)
    made = Converter("yuv420p")(frame)
    found = plane_views(made, layout("yuv420p"))[0]
    wanted = (0, 255) if full else (16, 235)
    assert abs(int(found[0, 0]) - wanted[0]) <= 1
    assert abs(int(found[0, 15]) - wanted[1]) <= 1
