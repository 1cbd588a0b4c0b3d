"""Curves on planes: what must stay, what must rise, and in which order."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.lowlight.curves import Adjustment
from engines.yuv import Yuv
from tests.engines.lowlight.scenes import IDENTITY, lifting, planes, street

EVERY_BYTE = np.arange(256, dtype=np.uint8).repeat(4).reshape(32, 32)


@pytest.mark.parametrize("full_range", [True, False])
def test_the_identity_changes_nothing(full_range):
    nothing = lifting(0.5, exposure=0)
    before = planes(EVERY_BYTE, chroma=(90, 200), full_range=full_range)
    after = nothing.apply(before)
    for one, other in zip(before.planes, after.planes, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


@given(power=st.floats(0.2, 1), exposure=st.floats(0, 1), full_range=st.booleans())
def test_what_was_brighter_stays_brighter(power, exposure, full_range):
    after = lifting(power, exposure=exposure).apply(planes(EVERY_BYTE, full_range=full_range))
    assert (np.diff(after.y.ravel().astype(int)) >= 0).all()
    assert (after.y >= EVERY_BYTE).all()


def test_foot_and_headroom_of_limited_range_go_on_without_a_step():
    after = lifting(0.3).apply(planes(EVERY_BYTE)).y.ravel()
    before = EVERY_BYTE.ravel()
    outside = (before < 16) | (before > 235)
    np.testing.assert_array_equal(after[outside], before[outside])
    lifted = lifting(0.5)
    lifted.curves[:] = 0.2 + 0.7 * lifted.curves  # black becomes grey, white a little less
    steps = np.diff(lifted.apply(planes(EVERY_BYTE)).y.ravel()[::4].astype(int))
    assert steps[:15].max() <= 1
    assert steps[236:].max() <= 1
    assert after[before == 16].tolist() == [16] * 4
    assert after[before == 235].tolist() == [235] * 4
    assert (after[~outside] >= 16).all()
    assert (after[~outside] <= 235).all()


def test_a_curve_does_to_full_range_what_it_says():
    after = lifting(0.5).apply(planes(EVERY_BYTE, full_range=True)).y.ravel()
    want = np.rint(255 * IDENTITY**0.5)[EVERY_BYTE.ravel()]
    np.testing.assert_array_equal(after, want)


def test_exposure_says_where():
    adjustment = lifting(0.4)
    adjustment.exposure[:, :10] = 0
    before = planes(np.full((120, 200), 60), full_range=True)
    after = adjustment.apply(before).y
    assert (after[:, :90] == 60).all()
    assert (after[:, 110:] > 120).all()
    assert (np.diff(after[60].astype(int)) >= 0).all()


def test_chroma_goes_away_from_grey_and_grey_stays_grey():
    before = Yuv(
        np.full((8, 8), 80, np.uint8),
        (np.full((4, 4), 128, np.uint8), np.full((4, 4), 118, np.uint8)),
        full_range=True,
    )
    after = lifting(0.5).apply(before)
    assert (after.u == 128).all()
    assert (after.v == 108).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (31, 64), (64, 33)])
def test_odd_sizes_keep_their_sizes(size):
    before = planes(np.full(size, 40), full_range=True)
    after = lifting(0.5).apply(before)
    assert [plane.shape for plane in after.planes] == [plane.shape for plane in before.planes]


def test_fractions_of_a_byte_come_out_as_steps_between():
    fine = np.linspace(20, 21, 40, dtype=np.float32).reshape(1, 40).repeat(4, 0)
    grey = np.full((2, 20), 128, np.float32)
    after = lifting(0.33).apply(Yuv(fine, (grey, grey), full_range=True)).y
    assert len(np.unique(after)) > 2


@given(share=st.floats(0, 1))
def test_a_mixture_lies_between(share):
    one, other = lifting(0.9, exposure=0.2), lifting(0.3, exposure=0.8)
    mixed = one.toward(other, share)
    for name in ("curves", "gains", "exposure"):
        low = np.minimum(getattr(one, name), getattr(other, name)) - 1e-6
        high = np.maximum(getattr(one, name), getattr(other, name)) + 1e-6
        assert ((getattr(mixed, name) >= low) & (getattr(mixed, name) <= high)).all()


@given(strength=st.floats(0, 1.5))
def test_strength_never_breaks_a_curve(strength):
    curves = lifting(0.3).at_strength(strength).curves
    assert (np.diff(curves, axis=1) >= 0).all()
    assert curves.min() >= 0
    assert curves.max() <= 1


def test_no_strength_is_nothing():
    np.testing.assert_allclose(lifting(0.3).at_strength(0).curves[1], IDENTITY, atol=1e-6)


def test_brightness_is_foretold():
    luma = street(0.2).astype(np.uint8)
    adjustment = lifting(0.5)
    shares = (np.bincount(luma.ravel(), minlength=256) / luma.size).astype(np.float32)
    after = adjustment.apply(planes(luma, full_range=True)).y
    assert adjustment.brightness_of(shares) == pytest.approx(after.mean() / 255, abs=2e-3)
    held = adjustment.scaled(0.9)
    assert isinstance(held, Adjustment)
    assert held.brightness_of(shares) == pytest.approx(0.9 * after.mean() / 255, abs=2e-3)
    assert held.curves[:, -1].tolist() == [1, 1]
    assert (np.diff(held.curves, axis=1) >= 0).all()


@pytest.mark.parametrize("full_range", [True, False])
@pytest.mark.parametrize("depth", [10, 12])
def test_the_identity_changes_no_deep_sample(depth, full_range):
    every = np.arange(1 << depth, dtype=np.uint16).reshape(32, -1)
    before = Yuv(every, (every, every), depth, full_range=full_range)
    after = lifting(0.5, exposure=0).apply(before)
    for one, other in zip(before.planes, after.planes, strict=True):
        assert other.dtype == np.uint16
        np.testing.assert_array_equal(one, other)


@given(
    power=st.floats(0.2, 1), exposure=st.floats(0, 1), full_range=st.booleans(),
    depth=st.sampled_from([9, 10, 12, 14, 16]),
)  # fmt: skip
def test_deep_samples_come_out_as_those_of_8_bits(power, exposure, full_range, depth):
    unit = 1 << (depth - 8)
    eight = planes(EVERY_BYTE, chroma=(90, 200), full_range=full_range)
    y, *chroma = (plane.astype(np.uint16) * np.uint16(unit) for plane in eight.planes)
    adjustment = lifting(power, exposure=exposure)
    deep = adjustment.apply(replace(eight, y=y, chroma=tuple(chroma), depth=depth))
    for one, other in zip(deep.planes, adjustment.apply(eight).planes, strict=True):
        # Rounding of the table and of the result; deep samples reach 255 and a fraction.
        np.testing.assert_allclose(np.minimum(one / unit, 255), other, atol=1)
