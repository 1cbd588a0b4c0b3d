"""Simulated fires in photographs, compositing and distractors."""

import numpy as np
import pytest

from engines.smoke.compositing import composite, from_linear, random_airlight, to_linear
from engines.smoke.distractors import distract
from engines.smoke.fire_sequence import simulate
from tests.engines.smoke.test_data import scene


@pytest.fixture(scope="module")
def image():
    return scene(1).image


def test_a_fire_grows_from_nothing_and_its_opacity_is_exact(image):
    frames = list(simulate(image, seed=4, seconds=20, before=2, thickness=(1.0, 1.0)))
    assert [frame.seconds for frame in frames] == list(range(-2, 20))
    assert not frames[0].alpha.any()
    covers = [float((frame.alpha > 0.1).mean()) for frame in frames]
    assert covers[5] < covers[12] < covers[-1]
    assert 0.0005 < covers[-1] < 0.2
    assert frames[-1].alpha.max() <= 1
    solid = frames[-1].alpha > 0.5
    before, after = (frames[at].image[solid].astype(float).mean(0) for at in (0, -1))
    assert np.abs(after - before).max() > 5, "what is there can be seen"
    elsewhere = frames[-1].alpha == 0
    changed = np.abs(frames[-1].image[elsewhere].astype(float) - frames[0].image[elsewhere])
    assert changed.mean() < 8, "and nothing else changes but noise"


def test_the_same_seed_makes_the_same_fire_and_another_another(image):
    one, same, other = (list(simulate(image, seed=seed, seconds=6)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one[-1].image, same[-1].image)
    assert np.abs(one[-1].image.astype(int) - other[-1].image).max() > 0


def test_half_opaque_smoke_is_half_the_light(image):
    alpha = np.full(image.shape[:2], 0.5, np.float32)
    air = np.full(3, 0.4, np.float32)
    flat = np.full_like(image, 90)

    class Even(np.random.Generator):
        """No shading: a flat plume has no slope, so only its depth is random."""

        def uniform(self, low=0.0, high=1.0, size=None):
            return low

    drawn = composite(flat, alpha, airlight=air, rng=Even(np.random.PCG64(1)))
    wanted = from_linear(0.5 * to_linear(flat) + 0.5 * air)
    assert np.abs(drawn.astype(int) - wanted).max() <= 4  # a plain power stands for sRGB's curve


def test_airlight_follows_the_scenes_own_light(image):
    rng = np.random.default_rng(1)
    bright, dark = (
        np.mean([random_airlight(shown, rng) for _ in range(20)]) for shown in (image, image // 4)
    )
    assert bright > 3 * dark


def test_distractors_change_images_and_keep_their_shape(image):
    rng = np.random.default_rng(2)
    changed = 0
    for number in range(60):
        background = image if number % 2 else None
        after, behind = distract(image, background, rng)
        assert after.shape == image.shape
        assert after.dtype == np.uint8
        assert (behind is None) == (background is None)
        changed += bool((after != image).any())
    assert 25 <= changed <= 55
