"""Smoke behaves like smoke, and light adds up in linear light."""

import json

import av
import numpy as np
import pytest

from engines.smoke.clip import make_clip
from engines.smoke.plume import PlumeSimulator, composite, from_linear, place, to_linear

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
    picture, alpha = composite(black, half, opacity=1, air_light=WHITE, relief=0)
    assert np.allclose(alpha, 0.5)
    assert np.abs(picture.astype(int) - 188).max() <= 1


def test_no_smoke_changes_no_byte():
    scene = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    picture, alpha = composite(scene, np.zeros((16, 16), np.float32), opacity=1, air_light=WHITE)
    assert np.array_equal(picture, scene)
    assert alpha.max() == 0


def test_a_placed_plume_stands_on_its_anchor():
    placed = place(grown(1, 3), into=(200, 300), anchor=(150.0, 80.0), height_px=60)
    rows, columns = np.nonzero(placed > 0.05)
    assert 140 <= rows.max() <= 152
    assert abs(columns[rows > 140].mean() - 80) < 8


def test_the_truth_beside_a_clip_is_what_is_in_it(tmp_path):
    path = tmp_path / "fire.mp4"
    truth = make_clip(path, seconds=4, size=(180, 320), fps=10, seed=7, onset_s=1.0)
    pictures = [frame.to_ndarray(format="gray") for frame in av.open(str(path)).decode(video=0)]
    assert len(pictures) == truth.frames == 40
    alpha = np.load(path.with_suffix(".alpha.npz"))["alpha"]
    assert alpha.shape == (4, 45, 80)
    assert not alpha[0].any()
    assert alpha[3].any()
    changed = np.abs(pictures[30].astype(int) - pictures[5]).reshape(45, 4, 80, 4).mean((1, 3))
    assert changed[alpha[3] > 60].mean() > 4 * changed[alpha[3] == 0].mean()
    assert json.loads(path.with_suffix(".json").read_text())["onset_s"] == 1.0


def test_a_clear_clip_has_no_smoke(tmp_path):
    truth = make_clip(tmp_path / "clear.mp4", seconds=2, size=(90, 160), fps=5, smoke=False)
    assert truth.onset_s is None
    assert set(truth.area) == {0.0}
    assert set(truth.box) == {None}
