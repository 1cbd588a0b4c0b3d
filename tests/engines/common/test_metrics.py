"""Image metrics have known answers and the right order; confidence intervals contain the mean."""

import numpy as np
import pytest

from engines.common.metrics import bootstrap_ci, gmsd, psnr, ssim


def noisy(deviation):
    rows, columns = np.mgrid[0:144, 0:256]
    scene = 120 + 50 * np.sin(columns / 9) * np.cos(rows / 13)
    scene = scene + np.random.default_rng(1).normal(0, deviation, scene.shape)
    return np.clip(np.rint(scene), 0, 255).astype(np.uint8)[..., None].repeat(3, 2)


def test_an_image_equals_itself():
    image = noisy(0)
    assert ssim(image, image) == pytest.approx(1)
    assert psnr(image, image) > 100
    assert gmsd(image, image) == 0


def test_psnr_of_known_differences():
    black = np.zeros((64, 64, 3), np.uint8)
    assert psnr(black + 255, black) == pytest.approx(0, abs=1e-6)
    assert psnr(black + 16, black) == pytest.approx(24.05, abs=0.01)


def test_more_noise_scores_worse():
    images = [noisy(deviation) for deviation in (2, 8, 25)]
    for metric in (psnr, ssim):
        values = [metric(image, noisy(0)) for image in images]
        assert values == sorted(values, reverse=True)
    values = [gmsd(image, noisy(0)) for image in images]
    assert values == sorted(values)


def test_the_confidence_interval_narrows_with_more_groups_and_holds_the_mean():
    rng = np.random.default_rng(2)

    def width(count):
        values = rng.normal(1, 0.5, count).tolist()
        (low, high) = bootstrap_ci(
            values, lambda drawn: {"mean": float(np.mean(drawn)), "none": None}, draws=500
        )["mean"]
        assert low < np.mean(values) < high
        return high - low

    assert width(400) < width(20)


def test_one_group_has_no_interval():
    assert bootstrap_ci([1.0], lambda drawn: {"mean": drawn[0]}, draws=10) == {}
