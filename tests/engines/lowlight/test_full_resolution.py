"""The full-resolution part is separate from the network, and unchanged on the CPU."""

import numpy as np
import pytest

from engines.lowlight.denoise import Denoiser, Noise
from engines.lowlight.enhancer import Enhancer
from engines.lowlight.full_resolution import OnCpu
from tests.engines.lowlight.scenes import Model, lifting, planes, street

GRAIN = Noise(2.5, 0.2)


def frames(count, *, full_range=False):
    return [
        planes(street(0.1, noise=2.5, seed=number), chroma=(120, 131), full_range=full_range)
        for number in range(count)
    ]


def same(one, other):
    return all(np.array_equal(*pair) for pair in zip(one.planes, other.planes, strict=True))


@pytest.mark.parametrize("full_range", [False, True])
def test_the_cpu_denoises_then_adjusts_to_the_byte(full_range):
    piece, denoiser, done = OnCpu(), Denoiser(), lifting(0.5)
    for number, frame in enumerate(frames(6, full_range=full_range)):
        if number == 4:
            piece.reset()
            denoiser.reset()
        got = piece(frame, done, GRAIN, gain=2.0)
        want = done.apply(denoiser(frame, GRAIN, gain=2.0))
        assert same(got, want)


def test_without_denoising_the_cpu_only_adjusts():
    (frame,), done = frames(1), lifting(0.5)
    got = OnCpu(denoise=False)(frame, done, GRAIN, gain=2.0)
    assert same(got, done.apply(frame))


class Noted:
    """A piece that records its calls."""

    def __init__(self):
        self.calls = []

    def reset(self):
        self.calls.append("anew")

    def __call__(self, planes, done, noise, *, gain):
        self.calls.append((done, noise, gain))
        return planes


def test_the_enhancer_decides_and_the_piece_does():
    piece = Noted()
    enhancer = Enhancer(Model(), full_resolution=piece)
    another = planes(street(0.15)[::-1, ::-1].copy())
    for number, frame in enumerate([*frames(2), another]):
        enhancer(frame, number / 25)
    assert [call == "anew" for call in piece.calls] == [True, False, False, True, False]
    done, noise, gain = piece.calls[2]
    assert done.curves.shape == (2, 256)
    assert noise.deviation > 0
    assert gain >= 1
