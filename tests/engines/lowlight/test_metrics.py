"""Figures of enhanced pictures and streams: known answers and the right order."""

import numpy as np
import pytest

from engines.lowlight.baselines import WELL_LIT, all_peers, auto_gamma, raw
from engines.lowlight.metrics import (
    brightness_flicker,
    gradient_deviation,
    noise_gain,
    psnr,
    ssim,
    warping_error,
)
from tests.engines.lowlight.scenes import street


def rgb(luma):
    return np.clip(np.rint(luma), 0, 255).astype(np.uint8)[..., None].repeat(3, 2)


def grey(luma):
    return np.clip(np.rint(luma), 0, 255).astype(np.uint8)


def test_a_picture_is_like_itself():
    picture = rgb(street())
    assert ssim(picture, picture) == pytest.approx(1)
    assert psnr(picture, picture) > 100
    assert gradient_deviation(picture, picture) == 0


def test_known_distance():
    black = np.zeros((64, 64, 3), np.uint8)
    assert psnr(black + 255, black) == pytest.approx(0, abs=1e-6)
    assert psnr(black + 16, black) == pytest.approx(24.05, abs=0.01)


def test_more_noise_is_less_alike():
    reference = rgb(street())
    noisy = [rgb(street(noise=noise)) for noise in (2, 8, 25)]
    for measure in (psnr, ssim):
        values = [measure(picture, reference) for picture in noisy]
        assert values == sorted(values, reverse=True)
    values = [gradient_deviation(picture, reference) for picture in noisy]
    assert values == sorted(values)


def test_a_slow_change_is_no_flicker():
    dawn = [grey(np.full((8, 8), 40 + 2 * number)) for number in range(50)]
    lamp = [grey(np.full((8, 8), 60 + 4 * (number % 2))) for number in range(50)]
    assert brightness_flicker(dawn) == pytest.approx(0)
    assert brightness_flicker(lamp) > 2
    assert brightness_flicker(lamp[:2]) == 0


def test_what_only_moves_has_little_warping_error():
    moving = [grey(street(shift=2 * number)) for number in range(4)]
    pumping = [grey(street(shift=2 * n) * (1 + 0.2 * (n % 2))) for n in range(4)]
    assert warping_error(moving, moving) < 0.02
    assert warping_error(pumping, moving) > 3 * warping_error(moving, moving)
    assert warping_error(moving[:1], moving[:1]) == 0


@pytest.mark.parametrize("factor", [0.5, 1, 3])
def test_noise_grows_as_it_was_amplified(factor):
    noise = np.random.default_rng(1).normal(0, 4, (144, 256))
    before, after = grey(100 + noise), grey(100 + factor * noise)
    assert noise_gain([after] * 3, [before] * 3) == pytest.approx(factor, rel=0.1)


def test_peers_do_what_they_are_known_for():
    dark = rgb(street(0.15))
    assert raw(dark) is dark
    assert auto_gamma(dark).mean() / 255 == pytest.approx(WELL_LIT, abs=0.05)
    for name, method in all_peers().items():
        after = method(dark)
        assert after.shape == dark.shape
        assert after.dtype == np.uint8
        assert name == "raw" or after.mean() > dark.mean()


def test_a_black_picture_harms_no_peer():
    black = np.zeros((64, 64, 3), np.uint8)
    for method in all_peers().values():
        assert np.isfinite(method(black)).all()
