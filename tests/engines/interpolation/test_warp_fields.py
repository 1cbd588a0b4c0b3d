"""Where pixels are looked up, what lies beyond the edge, and what the background does."""

from contextlib import closing

import cv2
import numpy as np
import pytest

from engines.interpolation import flow, warp_blend
from engines.interpolation.model import open_interpolator
from engines.interpolation.static_overlay import standing
from engines.interpolation.warp_blend import synthesise, warp_all
from engines.interpolation.warp_fields import (
    MARGIN,
    WarpFields,
    exclude_outside,
    inside,
    sample_positions,
    with_margin,
)
from tests.engines.interpolation.scenes import pan, texture

TURN = np.array([[0.01, -0.02, 3.0], [0.02, 0.01, -2.0]])


def reduced_frame(luma):
    return cv2.merge([luma, np.full_like(luma, 128), np.full_like(luma, 128)])


def still_field(height, width):
    return with_margin(np.zeros((height, width, 2), np.float32))


def test_what_comes_into_the_frame_is_taken_from_the_one_that_shows_it():
    before, wanted, after = pan(180, 320, step=(0, 16))
    with closing(open_interpolator(precision="f32", validate=False)) as model:
        made = model.between(before, after).at(0.5)[0].astype(float)
    for edge in (slice(0, 6), slice(-6, None)):
        assert np.abs(made - wanted[0])[20:-20, edge].mean() < 6


def test_beyond_the_edge_a_share_goes_to_the_others():
    weights = np.full((4, 2, 3), 0.25, np.float32)
    visible = np.full((4, 2, 3), 255, np.uint8)
    assert exclude_outside(weights, visible) is weights
    visible[0, 0, 0] = 0
    visible[:, 1, 2] = 0
    left = exclude_outside(weights, visible)
    np.testing.assert_allclose(left.sum(0), 1, atol=1e-6)
    assert left[0, 0, 0] < 0.001
    np.testing.assert_allclose(left[1:, 0, 0], 1 / 3, atol=1e-3)
    np.testing.assert_allclose(left[:, 1, 2], 0.25, atol=1e-6)


def test_what_is_added_at_the_right_and_the_bottom_is_no_frame():
    fields = WarpFields((still_field(16, 32), still_field(16, 32)), None)
    shifted = WarpFields((fields.motion[0] + np.float32(4), fields.motion[1]), None)
    assert inside(sample_positions(fields, (16, 32)), (16, 32), (16, 32)).all()
    visible = inside(sample_positions(shifted, (16, 32)), (16, 32), (12, 30))
    assert visible[0, :8, :26].all()
    assert not visible[0, 8:].any()
    assert not visible[0, :, 26:].any()
    assert visible[2:, :12, :30].all()
    assert not visible[2:, 12:].any(), "or the edge would bleed into the last rows"


def test_the_affine_background_and_its_field_are_one():
    height, width = 48, 80
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    motion = np.dstack([0.02 * x - 0.01 * y + 2, 0.01 * x + 0.03 * y - 1]).astype(np.float32)
    motion[20:30, 20:40] += 9  # a thing of its own
    affine, field = flow.background(motion)
    fit = 0.02 * x - 0.01 * y + 2
    np.testing.assert_allclose(field[..., 0], fit, atol=0.1)
    # A pixel (x, y) of the field is (2x + 1/2, 2y + 1/2) of the frame.
    large = np.stack([2 * x + 0.5, 2 * y + 0.5, np.ones_like(x)], -1) @ affine.T
    np.testing.assert_allclose(large, 2 * field, atol=1e-3)


def test_a_background_that_stands_is_none():
    affine, field = flow.background(np.full((48, 80, 2), 0.05, np.float32))
    assert affine is None
    assert np.abs(field).max() < 0.1


@pytest.mark.parametrize(
    "factors", [(1.0, 1.0), (2.0, 2.0), (4.0, 4.0), (2.0, 1.0), (1.0, 0.5), (0.5, 0.5), (1.0, 0.25)]
)
def test_the_background_lies_where_a_field_of_it_would(factors, monkeypatch):
    """By the affine way and by the same as a field, in one stripe and in many."""
    height, width = 64, 96
    down, across = factors
    plane = texture(int(height * down), int(width * across))
    here = np.dstack(
        [*np.meshgrid(*(np.arange(-MARGIN, side + MARGIN) for side in (width, height)))]
    )
    field = (here @ TURN[:, :2].T + TURN[:, 2]).astype(np.float32)
    fields = WarpFields((field, field), (TURN, TURN))
    made = [each.astype(int) for each in warp_all(plane, plane, fields, factors)]
    inner = slice(8, -8), slice(8, -8)
    assert np.abs(made[0] - made[2])[inner].mean() < 1.0
    weights = np.zeros((4, height + 2 * MARGIN, width + 2 * MARGIN), np.float32)
    weights[2] = weights[3] = 0.5
    monkeypatch.setattr(warp_blend, "STRIPE_PX", 1000)
    striped = synthesise(plane, plane, fields, weights, factors)
    assert np.abs(striped.astype(int) - made[2])[inner].max() <= 2


def test_of_two_motions_the_one_that_fits_is_taken():
    """A thing crosses before a background that stands: behind it both searches disagree."""
    behind, thing = texture(192, 320), texture(60, 60, seed=9)
    frames = []
    for left in (100, 140):
        luma = behind.copy()
        luma[60:120, left : left + 60] = thing
        frames.append(reduced_frame(luma))
    search = flow.MotionSearch(*frames)
    found = search.at(0.5).motion
    forward = search._project(search._forward, 0.5)
    backward = -search._project(search._backward, 0.5)
    mean = 0.5 * (forward + backward)
    taken, means = (search._mismatch(way, search._positions, 0.5).mean() for way in (found, mean))
    assert taken < means


def test_a_dark_thing_before_a_white_sky_leaves_nothing_standing():
    before, after = (np.full((64, 96), 255, np.uint8) for _ in range(2))
    for frame, left in ((before, 30), (after, 36)):
        frame[10:50, left : left + 20] = np.tile(np.arange(0, 160, 8, dtype=np.uint8), (40, 1))
    assert standing(before, after, depth=8) is None


def test_a_letter_stands():
    before, after = texture(64, 96), texture(64, 96, seed=8)
    for frame in (before, after):
        frame[20:40, 30:50] = 16
        frame[24:36, 38:42] = 235
    mask = standing(before, after, depth=8)
    assert mask is not None
    assert mask[26:34, 37:43].all()
