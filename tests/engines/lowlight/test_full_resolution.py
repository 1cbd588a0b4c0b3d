"""The full-size part is a piece of its own, and on the CPU it is what it always was."""

import numpy as np
import pytest

from engines.lowlight.denoise import Denoiser, Noise
from engines.lowlight.enhancer import Enhancer
from engines.lowlight.full_resolution import OnCpu
from tests.engines.lowlight.scenes import Model, lifting, planes, street

GRAIN = Noise(2.5, 0.2)


def pictures(count, *, full_range=False):
    return [
        planes(street(0.1, noise=2.5, seed=number), chroma=(120, 131), full_range=full_range)
        for number in range(count)
    ]


def same(one, other):
    return all(np.array_equal(*pair) for pair in zip(one.planes, other.planes, strict=True))


@pytest.mark.parametrize("full_range", [False, True])
def test_the_cpu_denoises_then_adjusts_to_the_byte(full_range):
    piece, denoiser, done = OnCpu(), Denoiser(), lifting(0.5)
    for number, picture in enumerate(pictures(6, full_range=full_range)):
        if number == 4:
            piece.reset()
            denoiser.reset()
        got = piece(picture, done, GRAIN, gain=2.0)
        want = done.apply(denoiser(picture, GRAIN, gain=2.0))
        assert same(got, want)


def test_without_denoising_the_cpu_only_adjusts():
    (picture,), done = pictures(1), lifting(0.5)
    got = OnCpu(denoise=False)(picture, done, GRAIN, gain=2.0)
    assert same(got, done.apply(picture))


class Noted:
    """A piece that notes what it is told."""

    def __init__(self):
        self.told = []

    def reset(self):
        self.told.append("anew")

    def __call__(self, planes, done, noise, *, gain):
        self.told.append((done, noise, gain))
        return planes


def test_the_enhancer_decides_and_the_piece_does():
    piece = Noted()
    enhancer = Enhancer(Model(), full_resolution=piece)
    another = planes(street(0.15)[::-1, ::-1].copy())
    for number, picture in enumerate([*pictures(2), another]):
        enhancer(picture, number / 25)
    assert [told == "anew" for told in piece.told] == [True, False, False, True, False]
    done, noise, gain = piece.told[2]
    assert done.curves.shape == (2, 256)
    assert noise.deviation > 0
    assert gain >= 1
