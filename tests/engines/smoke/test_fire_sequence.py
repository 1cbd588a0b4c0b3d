"""Fires that start in a photograph, and what is laid over pictures without being smoke."""

import numpy as np
import pytest

from engines.smoke.compositing import air_of, lay
from engines.smoke.distractors import distract
from engines.smoke.fire_sequence import growing
from engines.smoke.plume import from_linear, to_linear
from tests.engines.smoke.test_data import scene


@pytest.fixture(scope="module")
def picture():
    return scene(1).image


def test_a_fire_grows_from_nothing_and_its_opacity_is_exact(picture):
    moments = list(growing(picture, seed=4, seconds=20, before=2, thickness=(1.0, 1.0)))
    assert [moment.seconds for moment in moments] == list(range(-2, 20))
    assert not moments[0].alpha.any()
    covers = [float((moment.alpha > 0.1).mean()) for moment in moments]
    assert covers[5] < covers[12] < covers[-1]
    assert 0.0005 < covers[-1] < 0.2
    assert moments[-1].alpha.max() <= 1
    solid = moments[-1].alpha > 0.5
    before, after = (moments[at].image[solid].astype(float).mean(0) for at in (0, -1))
    assert np.abs(after - before).max() > 5, "what is there can be seen"
    elsewhere = moments[-1].alpha == 0
    changed = np.abs(moments[-1].image[elsewhere].astype(float) - moments[0].image[elsewhere])
    assert changed.mean() < 8, "and nothing else changes but noise"


def test_the_same_seed_makes_the_same_fire_and_another_another(picture):
    one, same, other = (list(growing(picture, seed=seed, seconds=6)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one[-1].image, same[-1].image)
    assert np.abs(one[-1].image.astype(int) - other[-1].image).max() > 0


def test_half_opaque_smoke_is_half_the_light(picture):
    alpha = np.full(picture.shape[:2], 0.5, np.float32)
    air = np.full(3, 0.4, np.float32)
    flat = np.full_like(picture, 90)

    class Even(np.random.Generator):
        """No shading: a flat plume has no slope, so only its depth is left to chance."""

        def uniform(self, low=0.0, high=1.0, size=None):
            return low

    laid = lay(flat, alpha, air=air, random=Even(np.random.PCG64(1)))
    wanted = from_linear(0.5 * to_linear(flat) + 0.5 * air)
    assert np.abs(laid.astype(int) - wanted).max() <= 4  # a plain power stands for sRGB's curve


def test_air_is_of_the_scenes_own_light(picture):
    random = np.random.default_rng(1)
    bright, dark = (
        np.mean([air_of(image, random) for _ in range(20)]) for image in (picture, picture // 4)
    )
    assert bright > 3 * dark


def test_distractors_change_pictures_and_keep_their_form(picture):
    random = np.random.default_rng(2)
    changed = 0
    for number in range(60):
        background = picture if number % 2 else None
        image, normal = distract(picture, background, random)
        assert image.shape == picture.shape
        assert image.dtype == np.uint8
        assert (normal is None) == (background is None)
        changed += bool((image != picture).any())
    assert 25 <= changed <= 55
