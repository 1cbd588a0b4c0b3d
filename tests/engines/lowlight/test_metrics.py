"""Temporal metrics and baselines of low-light enhancement."""

import numpy as np
import pytest

from engines.lowlight.baselines import WELL_LIT, all_baselines, auto_gamma, raw
from engines.lowlight.metrics import (
    brightness_flicker,
    noise_gain,
    warping_error,
)
from tests.engines.lowlight.scenes import street


def rgb(luma):
    return np.clip(np.rint(luma), 0, 255).astype(np.uint8)[..., None].repeat(3, 2)


def grey(luma):
    return np.clip(np.rint(luma), 0, 255).astype(np.uint8)


def test_a_slow_change_is_not_flicker():
    dawn = [grey(np.full((8, 8), 40 + 2 * number)) for number in range(50)]
    lamp = [grey(np.full((8, 8), 60 + 4 * (number % 2))) for number in range(50)]
    assert brightness_flicker(dawn) == pytest.approx(0)
    assert brightness_flicker(lamp) > 2
    assert brightness_flicker(lamp[:2]) == 0


def test_pure_motion_has_little_warping_error():
    moving = [grey(street(shift=2 * number)) for number in range(4)]
    pumping = [grey(street(shift=2 * n) * (1 + 0.2 * (n % 2))) for n in range(4)]
    assert warping_error(moving, moving) < 0.02
    assert warping_error(pumping, moving) > 3 * warping_error(moving, moving)
    assert warping_error(moving[:1], moving[:1]) == 0


@pytest.mark.parametrize("factor", [0.5, 1, 3])
def test_the_noise_gain_is_the_amplification(factor):
    noise = np.random.default_rng(1).normal(0, 4, (144, 256))
    before, after = grey(100 + noise), grey(100 + factor * noise)
    assert noise_gain([after] * 3, [before] * 3) == pytest.approx(factor, rel=0.1)


def test_baselines_make_a_dark_image_brighter():
    dark = rgb(street(0.15))
    assert raw(dark) is dark
    assert auto_gamma(dark).mean() / 255 == pytest.approx(WELL_LIT, abs=0.05)
    for name, method in all_baselines().items():
        after = method(dark)
        assert after.shape == dark.shape
        assert after.dtype == np.uint8
        assert name == "raw" or after.mean() > dark.mean()


def test_baselines_are_finite_on_a_black_image():
    black = np.zeros((64, 64, 3), np.uint8)
    for method in all_baselines().values():
        assert np.isfinite(method(black)).all()
