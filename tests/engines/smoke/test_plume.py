"""The plume behaves like smoke, and compositing works in linear light."""

import numpy as np
import pytest

from engines.smoke.compositing import composite_density, from_linear, to_linear
from engines.smoke.plume import PlumeSimulator, place

WHITE = np.ones(3, np.float32)


def grown(seed: int, seconds: float) -> np.ndarray:
    plume = PlumeSimulator(height=64, width=64, seed=seed)
    plume.step(seconds)
    return plume.density


def test_the_same_seed_gives_the_same_plume():
    assert np.array_equal(grown(3, 4), grown(3, 4))
    assert not np.array_equal(grown(3, 4), grown(4, 4))


def test_a_plume_grows_and_rises_from_its_source():
    young, old = grown(1, 2), grown(1, 8)
    assert young.min() >= 0
    assert (old > 0.05).sum() > 2 * (young > 0.05).sum()
    assert (
        np.nonzero(old.max(axis=1) > 0.05)[0].min() < np.nonzero(young.max(axis=1) > 0.05)[0].min()
    )


@pytest.mark.parametrize("wind", [-6.0, 6.0])
def test_the_wind_carries_a_plume_along(wind):
    plume = PlumeSimulator(height=64, width=64, seed=2, wind=wind)
    plume.step(10)
    density = plume.density[:40]
    columns = np.arange(64) - 31.5
    assert np.sign((density * columns).sum()) == np.sign(wind)


def test_a_plume_fades_before_the_rim_of_its_grid():
    plume = PlumeSimulator(height=48, width=48, seed=1, wind=12.0)
    plume.step(15)
    assert plume.density[:, [0, -1]].max() < 0.02
    assert plume.density[0].max() < 0.02


@pytest.mark.parametrize("size", [(16, 16), (33, 47), (40, 90)])
def test_a_plume_lives_on_a_grid_of_any_shape(size):
    plume = PlumeSimulator(height=size[0], width=size[1], seed=1)
    plume.step(3)
    assert plume.density.shape == size
    assert np.isfinite(plume.density).all()
    assert plume.density.max() > 0.1


def test_a_dead_fire_thins_out():
    plume = PlumeSimulator(height=64, width=64, seed=1)
    plume.step(5)
    before = plume.density.sum()
    plume.step(20, strength=0)
    assert plume.density.sum() < before / 2


@pytest.mark.parametrize("level", [0, 1, 10, 128, 254, 255])
def test_linear_light_comes_back_as_the_same_byte(level):
    grey = np.full((1, 1, 3), level, np.uint8)
    assert abs(int(from_linear(to_linear(grey))[0, 0, 0]) - level) <= 1


def test_half_white_over_black_is_half_the_light_not_half_the_byte():
    black = np.zeros((8, 8, 3), np.uint8)
    half = np.full((8, 8), np.log(2), np.float32)
    image, alpha = composite_density(black, half, opacity=1, airlight=WHITE, relief=0)
    assert np.allclose(alpha, 0.5)
    assert np.abs(image.astype(int) - 188).max() <= 1


@pytest.mark.parametrize("depth", [0.01, 0.5, 3.0])
def test_opacity_of_a_flat_field_follows_beer_and_lambert(depth):
    scene = np.full((8, 8, 3), 90, np.uint8)
    flat = np.full((8, 8), depth, np.float32)
    _, alpha = composite_density(scene, flat, opacity=2, airlight=WHITE)
    assert np.allclose(alpha, 1 - np.exp(-2 * depth), atol=1e-6)


def test_no_smoke_changes_no_byte():
    scene = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    image, alpha = composite_density(
        scene, np.zeros((16, 16), np.float32), opacity=1, airlight=WHITE
    )
    assert np.array_equal(image, scene)
    assert alpha.max() == 0


def test_a_placed_plume_stands_on_its_anchor():
    placed = place(grown(1, 3), into=(200, 300), anchor=(150.0, 80.0), height_px=60)
    rows, columns = np.nonzero(placed > 0.05)
    assert 140 <= rows.max() <= 152
    assert abs(columns[rows > 140].mean() - 80) < 8
