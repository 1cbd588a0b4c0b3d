"""When a stream is enhanced, how it comes and goes, and that it does not breathe."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.lowlight.enhancer import CONFIRM_S, DARK, FADE_S, LIGHT, Enhancer, thumbnail_of
from engines.lowlight.full_resolution import OnCpu
from engines.yuv import Yuv
from tests.engines.lowlight.scenes import Model, lifting, planes, street

RATE = 25


def shown(enhancer, frames, *, start=0.0, rate=RATE):
    """Mean luma of each frame as it comes out."""
    return [
        float(enhancer(frame, start + number / rate).y.mean())
        for number, frame in enumerate(frames)
    ]


def flat(luma):
    """A frame whose median luma is so much of full range."""
    return planes(np.full((144, 256), 16 + luma * 219 / 255))


@given(light=st.floats(0.55, 1), seconds=st.lists(st.floats(0, 100), min_size=1, max_size=5))
def test_a_day_frame_is_the_very_same(light, seconds):
    enhancer = Enhancer(Model())
    for second in sorted(seconds):
        day = planes(street(light))
        assert enhancer(day, second) is day
    assert not enhancer.active


def test_a_dark_stream_is_bright_from_its_first_frame():
    model = Model()
    dark = planes(street(0.1))
    after = Enhancer(model)(dark, 0.0)
    assert after.y.mean() > 2 * dark.y.mean()
    assert model.calls == 1


def test_light_around_the_threshold_does_not_switch():
    enhancer = Enhancer(Model())
    middle = (DARK + LIGHT) / 2
    for number in range(200):
        enhancer(flat(middle + (-4 if number % 2 else 4)), number / RATE)
        assert not enhancer.active


def test_a_short_shadow_does_not_switch():
    enhancer = Enhancer(Model())
    few = int(0.8 * CONFIRM_S * RATE)
    frames = [flat(LIGHT + 20)] * 10 + [flat(DARK - 3)] * few + [flat(LIGHT + 20)] * 30
    for number, frame in enumerate(frames):
        assert enhancer(frame, number / RATE) is frame


def test_dusk_fades_in_and_dawn_fades_out():
    enhancer = Enhancer(Model())
    span = round((CONFIRM_S + FADE_S + 0.5) * RATE)
    dusk = shown(enhancer, [flat(LIGHT)] * 5 + [flat(DARK - 3)] * span)
    assert enhancer.active
    assert max(np.diff(dusk[6:])) < 0.15 * (dusk[-1] - dusk[6])
    dawn = shown(enhancer, [flat(LIGHT + 3)] * (span + 5), start=100)
    assert not enhancer.active
    assert dawn[-1] == pytest.approx(float(flat(LIGHT + 3).y.mean()), abs=0.01)


def test_noise_counts_as_darkness():
    light = DARK + 8
    rng = np.random.default_rng(1)
    for noise in (0, 6):
        enhancer = Enhancer(Model())
        for number in range(2 * RATE):
            shown = flat(light)
            grain = np.rint(shown.y + rng.normal(0, noise, shown.y.shape))
            shown = replace(shown, y=np.clip(grain, 16, 235).astype(np.uint8))
            enhancer(shown, number / RATE)
        assert enhancer.active == (noise > 0)


def test_a_cut_begins_anew_at_once():
    model = Model(power=0.8)
    enhancer = Enhancer(model)
    shown(enhancer, [planes(street(0.1))] * 10)
    model.power = 0.3
    another = planes(street(0.15)[:, ::-1].copy()[::-1])
    after = enhancer(another, 10 / RATE)
    want = lifting(0.3).apply(another)
    assert after.y.mean() == pytest.approx(float(want.y.mean()), rel=0.02)


def test_without_a_cut_curves_follow_slowly():
    model = Model(power=0.8)
    enhancer = Enhancer(model, full_resolution=OnCpu(denoise=False))
    dark = planes(street(0.1))
    before = shown(enhancer, [dark] * 10)
    model.power = 0.3
    after = shown(enhancer, [dark] * 200, start=10 / RATE)
    assert after[0] == pytest.approx(before[-1], rel=0.05)
    assert max(abs(np.diff(after))) < 0.1 * (after[-1] - before[-1])
    want = float(lifting(0.3).apply(dark).y.mean())
    assert after[-1] == pytest.approx(want, rel=0.03)


def test_an_infrared_filter_begins_anew():
    model = Model()
    enhancer = Enhancer(model)
    scene = street(0.15)
    shown(enhancer, [planes(scene, chroma=(118, 140))] * 3)
    calls = model.calls
    enhancer(planes(scene), 3 / RATE)
    assert model.calls == calls + 1


def test_the_flicker_of_a_lamp_is_not_lifted():
    lamp = [planes(street(0.1 * (1 + 0.03 * (-1) ** number))) for number in range(100)]
    steady = shown(Enhancer(Model(), full_resolution=OnCpu(denoise=False)), lamp)
    adjustment = lifting(0.5)
    plain = [float(adjustment.apply(frame).y.mean()) for frame in lamp]
    assert np.std(steady[30:]) < 0.2 * np.std(plain[30:])


def test_noise_is_not_lifted_with_the_light():
    frames = [planes(street(0.12, noise=2.5, seed=number)) for number in range(25)]
    noise = {}
    for denoise in (False, True):
        enhancer = Enhancer(Model(0.45), full_resolution=OnCpu(denoise=denoise))
        for number, frame in enumerate(frames):
            last = enhancer(frame, number / RATE)
        noise[denoise] = float(np.std(last.y[100:140, 20:100] - last.y[100:140, 20:100].mean()))
    assert noise[True] < 0.4 * noise[False]


def test_no_strength_is_the_very_same():
    dark = planes(street(0.1))
    assert Enhancer(Model(), strength=0)(dark, 0.0) is dark


def test_strength_says_how_much():
    dark = planes(street(0.1))
    light = [
        float(Enhancer(Model(), strength=strength)(dark, 0.0).y.mean())
        for strength in (0.3, 0.6, 1.0, 1.3)
    ]
    assert light == sorted(light)


@pytest.mark.parametrize("strength", [-0.1, 1.6, float("nan")])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(ValueError, match="strength must be 0 to"):
        Enhancer(Model(), strength=strength)


def test_the_network_runs_a_few_times_a_second():
    model = Model()
    shown(Enhancer(model), [planes(street(0.1))] * 100)
    assert 15 <= model.calls <= 21


@pytest.mark.parametrize("size", [(2, 2), (3, 5), (17, 9), (90, 160)])
def test_any_size(size):
    enhancer = Enhancer(Model())
    for number in range(3):
        after = enhancer(planes(np.full(size, 22), full_range=True), number / RATE)
        assert after.y.shape == size


def test_a_size_that_changes_is_a_cut():
    model = Model()
    enhancer = Enhancer(model)
    enhancer(planes(street(0.1)), 0.0)
    enhancer(planes(street(0.1, size=(90, 160))), 0.04)
    assert model.calls == 2


def test_time_that_stands_still_or_jumps_does_no_harm():
    enhancer = Enhancer(Model())
    for second in (0.0, 0.0, 0.0, 500.0, 500.0, 500.04):
        after = enhancer(planes(street(0.1)), second)
        assert after.y.mean() > 40


def test_a_thumbnail_has_the_colours_of_the_frame():
    u, v = (np.full((45, 80), value, np.uint8) for value in (90, 240))
    red = Yuv(np.full((90, 160), 81, np.uint8), (u, v))
    thumbnail = thumbnail_of(red, (96, 160))
    np.testing.assert_allclose(thumbnail.reshape(-1, 3).mean(0), [254, 0, 0], atol=3)


class Seeing:
    """Brings every frame to the same brightness, as a network would."""

    thumbnail_size = (96, 160)

    def __call__(self, thumbnail, noise):
        mean = max(float(thumbnail.mean()) / 255, 0.01)
        return lifting(float(np.clip(np.log(0.45) / np.log(mean), 0.2, 1)))


def test_lightning_leaves_no_trace():
    night = street(0.08)
    enhancer = Enhancer(Seeing(), full_resolution=OnCpu(denoise=False))
    before = shown(enhancer, [planes(night)] * 40)
    shown(enhancer, [planes(street(0.9))] * 2, start=40 / RATE)
    after = shown(enhancer, [planes(night)] * 40, start=42 / RATE)
    assert min(after) > 0.9 * before[-1]


def test_dawn_ends_without_a_jump():
    light = np.concatenate([np.full(50, 0.12), np.linspace(0.12, 0.75, 200), np.full(60, 0.75)])
    enhancer = Enhancer(Seeing(), full_resolution=OnCpu(denoise=False))
    means = shown(enhancer, [planes(street(float(each))) for each in light])
    assert not enhancer.active
    assert np.abs(np.diff(means[10:])).max() < 4


def test_at_one_inference_per_second_it_still_fades():
    dusk = [flat(LIGHT)] * 3 + [flat(DARK - 3)] * 12
    means = shown(Enhancer(Model(0.4)), dusk, rate=1)
    whole = means[-1] - means[2]
    assert np.diff(means).max() < 0.3 * whole


def test_infrared_stays_grey():
    class Tinted(Model):
        def __call__(self, thumbnail, noise):
            return replace(super().__call__(thumbnail, noise), balance=(-6.0, 4.0))

    grey, coloured = (planes(street(0.15), chroma=chroma) for chroma in ((128, 128), (118, 138)))
    after = Enhancer(Tinted())(grey, 0.0)
    assert (after.u == 128).all()
    assert (after.v == 128).all()
    tinted = Enhancer(Tinted())(coloured, 0.0)
    plain = Enhancer(Model())(coloured, 0.0)
    assert tinted.u.mean() == pytest.approx(plain.u.mean() - 6, abs=1)


def test_a_blue_lamp_that_flashes_is_no_filter_that_switches():
    model = Model()
    enhancer = Enhancer(model)
    scene = street(0.15)
    for number in range(100):
        chroma = (138, 124) if number // 6 % 2 else (128, 128)
        enhancer(planes(scene, chroma=chroma), number / RATE)
    assert model.calls <= 24


def test_texture_that_moves_by_day_is_day():
    enhancer = Enhancer(Model())
    rng = np.random.default_rng(1)
    texture = np.clip(68 + rng.normal(0, 6, (144, 600)), 16, 235)
    for number in range(3 * RATE):
        moved = planes(texture[:, 4 * number : 4 * number + 256], full_range=True)
        assert enhancer(moved, number / RATE) is moved
