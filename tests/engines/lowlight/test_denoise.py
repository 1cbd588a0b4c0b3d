"""Noise goes, edges and what moves stay, and nothing is done where there is none."""

import numpy as np
import pytest

from engines.lowlight.denoise import Denoiser, Noise, noise_of
from engines.yuv import Yuv
from tests.engines.lowlight.scenes import planes, street

GRAIN = Noise(4.0, 0.0)


def noisy(clean, number, *, deviation=4.0):
    rng = np.random.default_rng(number)
    half = (clean.shape[0] // 2, clean.shape[1] // 2)
    grey = [np.clip(128 + rng.normal(0, deviation, half), 0, 255) for _ in range(2)]
    luma = clean + rng.normal(0, deviation, clean.shape)
    y, *chroma = (np.clip(np.rint(plane), 0, 255).astype(np.uint8) for plane in (luma, *grey))
    return Yuv(y, tuple(chroma))


@pytest.mark.parametrize("deviation", [0.7, 1.5, 3, 6])
def test_grain_is_measured(deviation):
    before, luma = (
        noisy(np.full((360, 640), 90.0), number, deviation=deviation).y for number in (1, 2)
    )
    measured = noise_of(luma, before)
    assert measured.deviation == pytest.approx(deviation, rel=0.12)
    assert measured.blots < 0.2
    assert noise_of(luma).deviation == pytest.approx(0.3 * deviation, rel=0.12)


def test_texture_is_not_taken_for_noise():
    texture = 90.0 + 30 * ((np.arange(640) // 2) % 2) * np.ones((360, 1))
    before, luma = (noisy(texture, number, deviation=1).y for number in (1, 2))
    assert noise_of(luma, before).deviation == pytest.approx(1, rel=0.15)


def test_motion_is_not_taken_for_noise():
    before, luma = (street(0.8, shift=9 * number, noise=1, seed=number) for number in (0, 1))
    measured = noise_of(*(np.rint(each).astype(np.uint8) for each in (luma, before)))
    assert measured.deviation < 2.5


def test_blots_are_separated_from_grain():
    rng = np.random.default_rng(1)
    blots = rng.normal(0, 2, (90, 160)).repeat(4, 0).repeat(4, 1)
    measured = noise_of(np.rint(90 + blots).astype(np.uint8))
    assert measured.deviation > 0.15
    assert measured.blots > 0.3


@pytest.mark.parametrize("size", [(2, 2), (17, 640), (40, 20)])
def test_a_frame_too_small_to_judge_has_no_noise(size):
    assert noise_of(np.zeros(size, np.uint8)) == Noise(0, 0)


def test_where_nothing_moves_noise_falls_to_a_quarter():
    clean = street(0.3)
    denoiser = Denoiser()
    for number in range(30):
        after = denoiser(noisy(clean, number), GRAIN)
    assert float(np.std(after.y - clean)) < 4 / 3.8
    assert float(np.std(after.u - 128)) < 4 / 3.8


def test_what_moves_leaves_no_ghost():
    ground = np.full((96, 160), 60.0)
    denoiser = Denoiser()
    for number in range(20):
        scene = ground.copy()
        scene[30:60, 4 * number : 4 * number + 30] = 160
        after = denoiser(noisy(scene, number), GRAIN)
    inside = after.y[34:56, 4 * 19 + 4 : 4 * 19 + 26]
    behind = after.y[34:56, 20 : 4 * 19 - 6]
    assert inside.mean() == pytest.approx(160, abs=3)
    assert behind.mean() == pytest.approx(60, abs=3)


def test_an_edge_stays_an_edge():
    step = np.full((96, 160), 40.0)
    step[:, 80:] = 140
    after = Denoiser()(noisy(step, 1), GRAIN).y
    assert after[:, :78].mean() == pytest.approx(40, abs=2)
    assert after[:, 82:].mean() == pytest.approx(140, abs=2)
    assert (after[:, 81] - after[:, 78]).mean() > 80


def test_a_colour_smaller_than_a_window_stays():
    denoiser = Denoiser()
    for number in range(15):
        frame = noisy(np.full((96, 160), 60.0), number, deviation=2)
        frame.v[20:24, 40:44] = 190
        after = denoiser(frame, Noise(2, 0))
    assert after.v[20:24, 40:44].mean() > 170


def test_a_quiet_frame_hardly_changes():
    before = planes(street(0.3))
    after = Denoiser()(before, Noise(0.1, 0))
    assert np.abs(after.y - before.y).mean() < 0.2


def test_what_is_lifted_more_is_made_calmer():
    spread = []
    for gain in (1, 2, 4):
        after = Denoiser()(noisy(np.full((96, 160), 60.0), 1), GRAIN, gain=gain)
        spread.append(float(after.y.std()))
    assert spread == sorted(spread, reverse=True)
    assert spread[-1] < spread[0] / 2


@pytest.mark.parametrize("size", [(2, 2), (3, 5), (31, 64)])
def test_any_size_and_another_size_in_between(size):
    denoiser = Denoiser()
    denoiser(planes(street(0.3)), GRAIN)
    after = denoiser(planes(np.full(size, 50)), GRAIN)
    assert after.y.shape == size
    assert np.isfinite(after.y).all()


def test_a_new_scene_has_no_past():
    denoiser = Denoiser()
    for _ in range(5):
        denoiser(planes(np.full((96, 160), 40)), GRAIN)
    denoiser.reset()
    after = denoiser(planes(np.full((96, 160), 43)), GRAIN)
    np.testing.assert_allclose(after.y, 43, atol=0.01)


def test_noise_does_not_come_back_where_something_passed():
    ground = np.full((96, 160), 60.0)
    denoiser, left = Denoiser(), []
    for number in range(40):
        scene = ground.copy()
        if 25 <= number < 30:
            scene[30:60, 60:100] = 160
        after = denoiser(noisy(scene, number), GRAIN, gain=3)
        left.append(float(after.y[36:54, 66:94].std()))
    begun = left[0]  # by the filter over space alone
    assert max(left[31:]) < 1.3 * begun


def test_a_scene_that_begins_has_no_more_noise_in_its_second_frame():
    denoiser, left = Denoiser(), []
    for number in range(6):
        after = denoiser(noisy(np.full((96, 160), 60.0), number), GRAIN, gain=3)
        left.append(float(after.y.std()))
    assert max(left[1:]) <= 1.1 * left[0]


@pytest.mark.parametrize("depth", [10, 12, 16])
@pytest.mark.parametrize("chroma", [(48, 80), (96, 80), (96, 160), None], ids=str)
def test_any_depth_and_subsampling_loses_as_much_noise(depth, chroma):
    eight, deep = Denoiser(), Denoiser()
    unit = 1 << (depth - 8)
    for number in range(12):
        rng = np.random.default_rng(number)
        shapes = [(96, 160), *([chroma] * 2 if chroma else [])]
        y, *rest = (np.rint(rng.normal(90, 3, shape)).astype(np.uint8) for shape in shapes)
        want = eight(Yuv(y, tuple(rest)), GRAIN)
        y, *rest = (plane.astype(np.uint16) * np.uint16(unit) for plane in (y, *rest))
        after = deep(Yuv(y, tuple(rest), depth), GRAIN)
    assert after.depth == depth
    for one, other in zip(after.planes, want.planes, strict=True):
        np.testing.assert_allclose(one, other, atol=0.02)
        assert one.std() < 3 / 3.5
