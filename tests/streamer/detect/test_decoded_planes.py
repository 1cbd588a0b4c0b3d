"""Decoded planes for the GPU: the decoder's own memory, with matrix, range and siting."""

import av
import numpy as np
import pytest

from engines.yuv import LEFT, yuv_to_rgb_matrix
from streamer.core.image import Canvas, ColorTags, Image
from streamer.detect.decoded_planes import decoded_yuv


def test_planes_are_the_decoders_own_memory():
    image = Image.from_rgb(np.full((48, 64, 3), 90, np.uint8))
    decoded = decoded_yuv(image)
    assert decoded.chroma_order == "planar"
    assert np.shares_memory(decoded.y, image.planes()[0])
    nv12 = Image(image.video_frame().reformat(format="nv12"))
    both = decoded_yuv(nv12)
    assert both.chroma_order == "nv12"
    assert not both.y.flags.writeable
    assert not both.chroma[0].flags.writeable
    for got, want in zip(both.planar().chroma, decoded.chroma, strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("height", "matrix", "full", "like"),
    [(720, 2, False, 1), (480, 2, True, 6), (480, 9, False, 9), (480, 5, True, 6)],
)
def test_decoded_planes_carry_matrix_and_range(height, matrix, full, like):
    image = Canvas.blank((height, 64), color=ColorTags(matrix, 2, 2, full)).image()
    np.testing.assert_array_equal(
        decoded_yuv(image).rgb_matrix, yuv_to_rgb_matrix(like, full_range=full)
    )


def test_chroma_lies_left_in_video_and_in_the_middle_of_frames_that_were_not_decoded(tmp_path):
    made = Image.from_rgb(np.full((48, 64, 3), 90, np.uint8))
    assert decoded_yuv(made).siting == 0
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux([*stream.encode(made.video_frame()), *stream.encode()])
    with av.open(str(path)) as container:
        assert decoded_yuv(Image(next(container.decode(video=0)))).siting == LEFT


@pytest.mark.parametrize("pixel_format", ["yuv422p", "yuv420p10le", "gray", "rgb24"])
def test_other_formats_become_8_bit_420(pixel_format):
    assert decoded_yuv(Image(av.VideoFrame(63, 35, pixel_format))).is_420
