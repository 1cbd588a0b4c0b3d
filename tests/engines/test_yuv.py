"""Planes: matrix by tag, windows within an image, crops that can share a batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import ModelMismatch
from engines.yuv import Yuv, even_window, yuv_to_rgb_matrix


def planes(height, width, *, layout="planar"):
    luma = (np.arange(height * width) % 251).astype(np.uint8).reshape(height, width)
    half = -(-height // 2), -(-width // 2)
    u = (np.arange(half[0] * half[1]) % 241).astype(np.uint8).reshape(half)
    chroma = (u, 255 - u) if layout == "planar" else (np.stack([u, 255 - u], -1),)
    return Yuv(luma, chroma)


@pytest.mark.parametrize("matrix", [1, 4, 6, 7, 9])
@pytest.mark.parametrize("full_range", [False, True])
def test_black_white_and_red_come_back_by_every_matrix(matrix, full_range):
    made = yuv_to_rgb_matrix(matrix, full_range=full_range)
    black, white = (0, 255) if full_range else (16, 235)
    np.testing.assert_allclose(made @ [black, 128, 128, 1], 0, atol=1e-3)
    np.testing.assert_allclose(made @ [white, 128, 128, 1], 255, atol=1e-3)
    # The matrix the other way round, as the standards print it, for pure red.
    red, _ = {1: (0.2126, 0), 4: (0.30, 0), 6: (0.299, 0), 7: (0.212, 0), 9: (0.2627, 0)}[matrix]
    luma, chroma = (255, 255) if full_range else (219, 224)
    blue = {1: 0.0722, 4: 0.11, 6: 0.114, 7: 0.087, 9: 0.0593}[matrix]
    encoded = [black + luma * red, 128 - chroma * red / (2 * (1 - blue)), 128 + chroma / 2, 1]
    np.testing.assert_allclose(made @ encoded, [255, 0, 0], atol=1e-2)


def test_an_unknown_matrix_is_bt601():
    np.testing.assert_array_equal(
        yuv_to_rgb_matrix(99, full_range=True), yuv_to_rgb_matrix(6, full_range=True)
    )


@pytest.mark.parametrize("layout", ["planar", "nv12"])
def test_both_chroma_orders_are_one_image(layout):
    given_planes = planes(7, 9, layout=layout)
    assert given_planes.chroma_order == layout
    assert given_planes.size == (7, 9)
    assert given_planes.full_window == (0, 0, 9, 7)
    assert given_planes.planar().chroma_order == "planar"
    assert given_planes.interleaved().chroma_order == "nv12"
    there_and_back = given_planes.interleaved().planar()
    for plane, want in zip(there_and_back.chroma, planes(7, 9).chroma, strict=True):
        np.testing.assert_array_equal(plane, want)


@pytest.mark.parametrize(
    "chroma",
    [
        [(8, 8), (4, 4)],
        [(4, 4)],
        [(4, 4), (4, 4), (4, 4)],
        [(9, 8), (9, 8)],
        [(4, 4, 2), (4, 4, 2)],
    ],
    ids=str,
)
def test_planes_that_do_not_belong_together_are_refused(chroma):
    with pytest.raises(ModelMismatch, match="no larger than luma"):
        Yuv(np.zeros((8, 8), np.uint8), tuple(np.zeros(shape, np.uint8) for shape in chroma))


@pytest.mark.parametrize(
    ("shape", "depth", "is_420"),
    [
        ((4, 5), 8, True),
        ((4, 5), 10, False),
        ((7, 5), 8, False),
        ((7, 9), 8, False),
        (None, 8, False),
    ],
)
def test_any_subsampling_is_accepted_and_420_is_recognized(shape, depth, is_420):
    chroma = () if shape is None else (np.zeros(shape, np.uint8),) * 2
    assert Yuv(np.zeros((7, 9), np.uint8), chroma, depth).is_420 is is_420


sides = st.integers(2, 70)


@given(height=sides, width=sides, data=st.data(), layout=st.sampled_from(["planar", "nv12"]))
def test_a_crop_shows_just_what_the_window_showed(height, width, data, layout):
    whole = planes(height, width, layout=layout)
    shares = st.floats(0, 1, allow_nan=False)
    left, right = sorted(data.draw(st.tuples(shares, shares)))
    top, bottom = sorted(data.draw(st.tuples(shares, shares)))
    window = even_window((left, top, right, bottom), (height, width))
    x, y, wide, tall = window
    assert x % 2 == y % 2 == 0
    assert wide >= min(2, width)
    assert 0 <= x < x + wide <= width
    assert 0 <= y < y + tall <= height
    part, (px, py, pw, ph) = whole.crop(window, (12, 20))
    assert px % 2 == py % 2 == 0
    np.testing.assert_array_equal(
        part.y[py : py + ph, px : px + pw], whole.y[y : y + tall, x : x + wide]
    )
    for mine, theirs in zip(part.chroma, whole.chroma, strict=True):
        half = -(-ph // 2), -(-pw // 2)
        np.testing.assert_array_equal(
            mine[py // 2 : py // 2 + half[0], px // 2 : px // 2 + half[1]],
            theirs[y // 2 : y // 2 + half[0], x // 2 : x // 2 + half[1]],
        )


def test_crops_have_few_sizes():
    whole = planes(400, 600)
    found = set()
    for left in range(0, 500, 7):
        part, _ = whole.crop((left // 2 * 2, 30, 64, 40), (48, 80))
        found.add(part.size)
    assert found == {(48, 80)}
    assert whole.crop((0, 0, 600, 400), (48, 80))[0].size == (400, 600)
