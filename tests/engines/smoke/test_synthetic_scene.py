"""A landscape stands still, its clouds drift, and a fire has a place on the ground."""

import numpy as np
import pytest

from engines.smoke.synthetic_scene import Landscape


@pytest.fixture(scope="module")
def landscape():
    return Landscape(height=180, width=320, seed=3)


def test_only_the_sky_changes_with_time(landscape):
    now, later = landscape.light(0), landscape.light(30)
    ground = landscape.sky_rows
    assert 0.2 < ground / 180 < 0.6
    assert np.array_equal(now[ground:], later[ground:])
    assert np.abs(now[:ground] - later[:ground]).max() > 0.02


def test_the_sky_alone_is_the_sky_of_the_whole(landscape):
    assert np.array_equal(landscape.sky(2), landscape.light(2)[: landscape.sky_rows])


def test_light_is_what_a_camera_can_show(landscape):
    light = landscape.light(0)
    assert light.dtype == np.float32
    assert 0 < light.min() < 0.1
    assert 0.5 < light.max() < 1


def test_far_ground_is_paler_than_near_ground(landscape):
    light = landscape.light(0).mean(axis=2)
    far = light[landscape.sky_rows : landscape.sky_rows + 10]
    near = light[-20:]
    assert far.std() < near.std()


@pytest.mark.parametrize("seed", range(4))
def test_a_fire_is_on_the_ground_and_what_is_nearer_hides_its_foot(seed):
    landscape = Landscape(height=90, width=160, seed=seed)
    site = landscape.site(0.5)
    assert 1000 < site.distance_m < 8000
    assert site.seen.shape == (90, 160)
    row, column = round(site.y), round(site.x)
    assert site.seen[row - 6, column] == 1
    assert site.seen[-1].max() == 0
    assert np.all((site.clear > 0.5) & (site.clear < 1))
