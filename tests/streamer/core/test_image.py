"""Pictures: right colours, no needless copies, nobody writes into them."""

import threading

import av
import cv2
import numpy as np
import pytest

from engines.yuv import LEFT, colors
from streamer.core.image import ColorTags, Image


def planar(height: int, width: int, *, luma: int = 128, pixel_format: str = "yuv420p"):
    frame = av.VideoFrame(width, height, pixel_format)
    for index, plane in enumerate(frame.planes):
        plane.update(bytes([luma if index == 0 else 128]) * plane.buffer_size)
    return frame


@pytest.mark.parametrize("size", [(480, 640), (45, 81), (2, 2), (1, 1)])
def test_rgb_comes_back_from_rgb(size):
    grey = np.full((*size, 3), 90, np.uint8)
    picture = Image.from_rgb(grey)
    assert picture.size == size
    assert np.abs(picture.rgb().astype(int) - 90).max() <= 2


@pytest.mark.parametrize(
    ("luma", "full_range", "grey"),
    [(16, False, 0), (235, False, 255), (0, True, 0), (255, True, 255), (126, False, 128)],
)
def test_both_ranges_become_full_range_rgb(luma, full_range, grey):
    picture = Image(planar(32, 32, luma=luma, pixel_format="yuvj420p" if full_range else "yuv420p"))
    assert picture.color.full_range is full_range
    assert np.abs(picture.rgb().astype(int) - grey).max() <= 1


@pytest.mark.parametrize(("height", "matrix"), [(480, 601), (1080, 709)])
def test_untagged_video_is_read_with_the_matrix_of_its_size(height, matrix):
    frame = planar(height, 64, luma=81)
    frame.planes[1].update(bytes([90]) * frame.planes[1].buffer_size)
    frame.planes[2].update(bytes([240]) * frame.planes[2].buffer_size)
    red, green, blue = Image(frame).rgb()[8, 8]
    wanted = {601: (254, 0, 0), 709: (255, 24, 0)}[matrix]
    assert np.allclose((int(red), int(green), int(blue)), wanted, atol=3)


def test_scaled_copies_are_made_once_and_are_read_only():
    picture = Image(planar(360, 640))
    first = picture.rgb((90, 160))
    assert first.shape == (90, 160, 3)
    assert picture.rgb((90, 160)) is first
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 0


def test_luma_of_planar_video_is_a_view():
    frame = planar(36, 64)
    picture = Image(frame)
    assert picture.luma().shape == (36, 64)
    assert np.shares_memory(picture.luma(), np.frombuffer(frame.planes[0], np.uint8))


@pytest.mark.parametrize("pixel_format", ["yuv422p", "yuv444p", "nv12", "gray", "yuv420p10le"])
def test_other_formats_have_planes_too(pixel_format):
    planes = Image(av.VideoFrame(63, 35, pixel_format)).planes()
    assert planes.y.shape == (35, 63)
    assert planes.u.shape == planes.v.shape == (18, 32)


def test_drawing_on_a_canvas_leaves_the_picture_as_it_was():
    picture = Image(planar(36, 64, luma=50))
    canvas = picture.canvas()
    canvas.planes.y[:] = 200
    assert (picture.luma() == 50).all()
    drawn = canvas.picture()
    assert (drawn.luma() == 200).all()
    assert drawn.color == picture.color


def test_one_picture_serves_many_threads():
    picture = Image(planar(360, 640))
    got = []
    threads = [
        threading.Thread(target=lambda: got.append(picture.rgb((72, 128)))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(image is got[0] for image in got)


@pytest.mark.parametrize("size", [(360, 640), (359, 641)])
def test_a_part_is_what_stands_there(size):
    image = np.random.default_rng(1).integers(0, 256, (18, 32, 3), dtype=np.uint8)
    picture = Image.from_rgb(cv2.resize(image, size[::-1]))
    height, width = size
    box = (160 / width, 90 / height, 480 / width, 270 / height)
    part = picture.rgb_part(box, (180, 320))
    apart = np.abs(part.astype(int) - picture.rgb()[90:270, 160:480])
    # Beside an odd edge swscale places chroma by another rule.
    assert apart.mean() < (0.5 if width % 2 == 0 else 3)
    assert not part.flags.writeable
    assert picture.rgb_part((0, 0, 1, 1), (96, 160)).shape == (96, 160, 3)
    assert picture.rgb_part((0.9999, 0.9999, 1, 1), (32, 32)).shape == (32, 32, 3)


@pytest.mark.parametrize(
    "box", [(0.5, 0, 0.5, 1), (0, 0.6, 1, 0.5), (-0.1, 0, 1, 1), (0, 0, 1.1, 1)]
)
def test_a_part_outside_of_the_picture_is_refused(box):
    with pytest.raises(ValueError, match="within the picture"):
        Image.blank((48, 64)).rgb_part(box, (32, 32))


def test_planes_come_as_they_were_decoded_without_a_copy():
    picture = Image.from_rgb(np.full((48, 64, 3), 90, np.uint8))
    decoded = picture.decoded()
    assert decoded.layout == "planar"
    assert np.shares_memory(decoded.luma, picture.planes().y)
    nv12 = Image(picture.video_frame().reformat(format="nv12"))
    both = nv12.decoded()
    assert both.layout == "nv12"
    assert not both.luma.flags.writeable
    assert not both.chroma[0].flags.writeable
    for got, want in zip(both.planar().chroma, decoded.chroma, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("height", "matrix", "full", "like"),
    [(720, 2, False, 1), (480, 2, True, 6), (480, 9, False, 9), (480, 5, True, 6)],
)
def test_decoded_planes_say_how_to_make_colours_of_them(height, matrix, full, like):
    picture = Image.blank((height, 64), color=ColorTags(matrix, 2, 2, full))
    np.testing.assert_array_equal(picture.decoded().color, colors(like, full_range=full))


def test_chroma_lies_left_in_video_and_in_the_middle_of_what_was_made_here(tmp_path):
    made = Image.from_rgb(np.full((48, 64, 3), 90, np.uint8))
    assert made.decoded().siting == 0
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux([*stream.encode(made.video_frame()), *stream.encode()])
    with av.open(str(path)) as container:
        assert Image(next(container.decode(video=0))).decoded().siting == LEFT
