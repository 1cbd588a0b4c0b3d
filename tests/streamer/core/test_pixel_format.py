"""Frames as planes: every format there and back, bit for bit, odd sizes too."""

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
    pixel_layout,
    planar_equivalent,
    planar_layout,
    plane_views,
)

SIZES = [(12, 16), (13, 17), (2, 2), (1, 1), (3, 2)]
"""(height, width)."""

LAYOUTS = [
    # Name, depth, rgb, alpha, chroma halved (down, right), shapes of an image of 13x17.
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

PACKED = [
    ("nv12", "yuv420p"), ("nv21", "yuv420p"), ("nv16", "yuv422p"), ("nv24", "yuv444p"),
    ("p010le", "yuv420p10le"), ("p210le", "yuv422p10le"), ("p410le", "yuv444p10le"),
    ("p012le", "yuv420p12le"), ("p212le", "yuv422p12le"), ("p412le", "yuv444p12le"),
    ("yuyv422", "yuv422p"), ("uyvy422", "yuv422p"), ("yvyu422", "yuv422p"),
    ("y210le", "yuv422p10le"), ("y212le", "yuv422p12le"),
    ("rgb24", "gbrp"), ("bgr24", "gbrp"), ("rgba", "gbrap"), ("bgra", "gbrap"),
    ("argb", "gbrap"), ("abgr", "gbrap"),
    ("rgb48le", "gbrp16le"), ("bgr48le", "gbrp16le"), ("rgb48be", "gbrp16le"),
    ("rgba64le", "gbrap16le"), ("rgba64be", "gbrap16le"), ("ya8", "gbrap"),
    ("monob", "gray"), ("monow", "gray"),
    ("yuv420p10be", "yuv420p10le"), ("yuv444p16be", "yuv444p16le"), ("gray16be", "gray16le"),
    ("gbrp12be", "gbrp12le"), ("yuva422p10be", "yuva422p10le"),
]  # fmt: skip
"""Formats of decoders, and the planar one that holds the same samples."""

HIGH_BITS = {
    "p010le": 6, "p210le": 6, "p410le": 6, "p012le": 4, "p212le": 4, "p412le": 4,
    "y210le": 6, "y212le": 4,
}  # fmt: skip
"""Formats of 16-bit words, and their unused low bits."""

ANY = [
    # Name, depth, log2 of chroma (down, across), alpha, colored, rgb.
    ("yuv420p", 8, (1, 1), False, True, False),
    ("yuv422p10le", 10, (0, 1), False, True, False),
    ("yuva444p12le", 12, (0, 0), True, True, False),
    ("gray", 8, (0, 0), False, False, False),
    ("gbrp10le", 10, (0, 0), False, True, True),
    ("argb", 8, (0, 0), True, True, True),
    ("nv12", 8, (1, 1), False, True, False),
    ("p010le", 10, (1, 1), False, True, False),
    ("yuv410p", 8, (2, 2), False, True, False),
    ("gbrpf32le", 32, (0, 0), False, True, True),
]

PADDED = [("0rgb", "gbrp"), ("0bgr", "gbrp"), ("rgb0", "gbrp"), ("bgr0", "gbrp")]
"""As above, with unused bytes."""

NOT_REVERSIBLE = {"p010le", "yuyv422", "uyvy422", "monob", "monow"}
"""swscale packs other bytes at the right edge of odd sizes."""


def noise(pixel_format, size, *, seed=0):
    """Return a valid frame of noise."""
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
    """Return the bytes of a frame without the padding of its lines."""
    layout = VideoFormat(frame.format.name, frame.width, frame.height)
    kept = []
    for number, plane in enumerate(frame.planes):
        parts = [one for one in layout.components if one.plane == number]
        if len(frame.planes) == 1:
            length = (frame.width * layout.padded_bits_per_pixel + 7) // 8
        else:
            length = sum(one.width for one in parts) * ((parts[0].bits + 7) // 8)
        rows = np.frombuffer(plane, np.uint8)[: parts[0].height * plane.line_size]
        kept.append(rows.reshape(-1, plane.line_size)[:, :length].tobytes())
    return kept


@pytest.mark.parametrize("row", LAYOUTS, ids=lambda row: row[0])
def test_a_planar_layout_is_that_of_ffmpeg(row):
    layout, shapes = planar_layout(row[0]), row[-1]
    assert (layout.name, layout.depth, layout.rgb, layout.alpha, layout.log2_chroma) == row[:-1]
    assert layout.colored is (len(shapes) >= 3)
    assert layout.shapes(13, 17) == shapes
    assert layout.dtype is (np.uint8 if layout.depth == 8 else np.uint16)


@pytest.mark.parametrize("row", ANY, ids=lambda row: row[0])
def test_any_format_is_described(row):
    found = pixel_layout(row[0])
    described = (found.depth, found.log2_chroma, found.alpha, found.colored, found.rgb)
    assert (found.name, *described) == row


@given(
    st.sampled_from([name for name, *_ in LAYOUTS]), st.integers(1, 5000), st.integers(1, 5000)
)  # fmt: skip
def test_planes_are_as_large_as_ffmpegs(name, height, width):
    layout = VideoFormat(name, width, height)
    wanted = [(part.height, part.width) for part in layout.components]
    assert sorted(planar_layout(name).shapes(height, width)) == sorted(wanted)


@pytest.mark.parametrize(
    "name", ["nv12", "rgb24", "yuyv422", "pal8", "yuv420p10be", "gbrpf32le", "grayf32le", "xyz12le"]
)
def test_a_packed_or_float_format_is_refused_as_planar(name):
    with pytest.raises(ValueError, match=f"{name} is no planar format of whole numbers"):
        planar_layout(name)


@pytest.mark.parametrize(("packed", "planar"), [*PACKED, *PADDED])
def test_a_packed_format_has_a_planar_equivalent(packed, planar):
    assert planar_equivalent(packed) == planar
    assert planar_layout(planar).name == planar


@pytest.mark.parametrize("name", [name for name, *_ in LAYOUTS])
def test_a_planar_format_is_its_own_equivalent(name):
    assert planar_equivalent(name) == name


@pytest.mark.parametrize(
    ("packed", "planar", "size"),
    [(*form, (12, 16)) for form in PACKED]
    + [(*form, (13, 17)) for form in PACKED if form[0] not in NOT_REVERSIBLE],
)
def test_packed_frames_become_planar_and_come_back_bit_for_bit(packed, planar, size):
    frame = noise(packed, size)
    made = Converter(planar)(frame)
    assert made.format.name == planar
    assert samples(back(made, packed)) == samples(frame)
    assert (made.pts, made.time_base) == (7, Fraction(1, 25))


@pytest.mark.parametrize(("packed", "low_bits"), HIGH_BITS.items())
def test_no_sample_of_deep_formats_is_lost(packed, low_bits):
    """swscale sets eight neighboring samples to 512 in some frames: up to 12 of these 128."""
    layout = planar_layout(planar_equivalent(packed))
    for seed in range(128):
        height, width = [(12, 16), (13, 17)][seed % 2]
        frame = noise(packed, (height, width), seed=seed)
        luma, u, v = plane_views(Converter(layout.name)(frame), layout)
        words = [
            np.frombuffer(plane, "<u2").reshape(-1, plane.line_size // 2) >> low_bits
            for plane in frame.planes
        ]
        rows, columns = u.shape
        if len(words) == 1:
            np.testing.assert_array_equal(luma, words[0][:height, : 2 * width : 2])
            np.testing.assert_array_equal(u, words[0][:height, 1 : 4 * columns : 4])
            np.testing.assert_array_equal(v, words[0][:height, 3 : 4 * columns : 4])
        else:
            np.testing.assert_array_equal(luma, words[0][:height, :width])
            np.testing.assert_array_equal(u, words[1][:rows, : 2 * columns : 2])
            np.testing.assert_array_equal(v, words[1][:rows, 1 : 2 * columns : 2])


@pytest.mark.parametrize(
    ("packed", "order"), [("yuyv422", (0, 1, 3)), ("uyvy422", (1, 0, 2)), ("yvyu422", (0, 3, 1))]
)
def test_odd_widths_of_packed_chroma_are_kept(packed, order):
    frame = noise(packed, (13, 17))
    luma, u, v = plane_views(Converter("yuv422p")(frame), planar_layout("yuv422p"))
    lines = np.frombuffer(frame.planes[0], np.uint8).reshape(13, -1)
    pairs = lines[:, : 9 * 4].reshape(13, 9, 4)
    first, *chroma = order
    np.testing.assert_array_equal(luma, pairs[..., [first, first + 2]].reshape(13, 18)[:, :17])
    np.testing.assert_array_equal(u, pairs[..., chroma[0]])
    np.testing.assert_array_equal(v, pairs[..., chroma[1]])


@pytest.mark.parametrize(("packed", "planar"), PADDED)
def test_unused_bytes_change_nothing(packed, planar):
    frame = noise(packed, (12, 16))
    made = Converter(planar)(frame)
    again = Converter(planar)(back(made, packed))
    assert samples(made) == samples(again)


@pytest.mark.parametrize("name", [name for name, *_ in LAYOUTS])
@pytest.mark.parametrize("size", SIZES)
def test_planes_become_a_frame_bit_for_bit(name, size):
    layout = planar_layout(name)
    frame = noise(name, size)
    frame.color_primaries, frame.color_trc, frame.colorspace = 9, 16, 9
    made = frame_from_planes(plane_views(frame, layout), frame, layout)
    assert made.format.name == name
    assert samples(made) == samples(frame)
    assert (made.color_primaries, made.color_trc, int(made.colorspace)) == (9, 16, 9)
    assert made.color_range == frame.color_range


def test_planes_are_views_and_a_frame_of_them_is_a_copy():
    layout = planar_layout("yuv420p")
    frame = noise("yuv420p", (12, 16))
    views = plane_views(frame, layout)
    assert np.shares_memory(views[0], np.frombuffer(frame.planes[0], np.uint8))
    made = frame_from_planes(views, frame, layout)
    assert not np.shares_memory(plane_views(made, layout)[0], views[0])


def test_a_frame_of_that_format_is_returned_as_it_is():
    frame = noise("yuv422p10le", (12, 16))
    assert Converter("yuv422p10le")(frame) is frame


def test_a_frame_without_a_time_can_be_converted():
    made = Converter("yuvj420p")(av.VideoFrame(16, 12, "yuv420p"))
    assert made.format.name == "yuvj420p"


@pytest.mark.parametrize(
    ("source", "wanted", "full"),
    [("yuvj420p", "yuv420p", True), ("nv12", "yuv420p", True), ("nv12", "yuv420p", False)],
)
def test_samples_keep_their_range(source, wanted, full):
    """Full range stays full range: neither samples nor tag change."""
    frame = noise(source, (12, 16))
    frame.color_range = int(ColorRange.JPEG if full else ColorRange.MPEG)
    made = Converter(wanted)(frame)
    np.testing.assert_array_equal(
        plane_views(made, planar_layout(wanted))[0],
        np.frombuffer(frame.planes[0], np.uint8).reshape(12, -1)[:, :16],
    )
    assert made.color_range == (ColorRange.JPEG if full else ColorRange.MPEG)


@pytest.mark.parametrize("full", [True, False])
def test_ten_bits_become_eight_within_their_range(full):
    frame = av.VideoFrame(16, 12, "yuv420p10le")
    black, white = (0, 1023) if full else (64, 940)
    luma, *chroma = plane_views(frame, planar_layout("yuv420p10le"))
    luma[:, :8], luma[:, 8:] = black, white
    for plane in chroma:
        plane[:] = 512
    frame.color_range = int(ColorRange.JPEG if full else ColorRange.MPEG)
    made = Converter("yuv420p")(frame)
    found = plane_views(made, planar_layout("yuv420p"))[0]
    wanted = (0, 255) if full else (16, 235)
    assert abs(int(found[0, 0]) - wanted[0]) <= 1
    assert abs(int(found[0, 15]) - wanted[1]) <= 1
