"""Small scenes in planes: a street at night, the same by day."""

import numpy as np

from engines.lowlight.curves import Adjustment
from engines.yuv import Yuv

IDENTITY = (np.arange(256) / 255).astype(np.float32)


def planes(luma, *, chroma=(128, 128), full_range=False):
    """Planes of an array (h, w) of luma, 0 to 255, in one colour."""
    luma = np.clip(np.rint(luma), 0, 255).astype(np.uint8)
    half = ((luma.shape[0] + 1) // 2, (luma.shape[1] + 1) // 2)
    flat = tuple(np.full(half, value, np.uint8) for value in chroma)
    return Yuv(luma, flat, full_range=full_range)


def street(light=1.0, *, size=(144, 256), noise=0.0, seed=1, shift=0):
    """Luma (h, w) of limited range: a sky, a road, houses with windows; so much light."""
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float64)
    columns = columns + shift
    scene = 150 - 90 * rows / size[0] + 40 * (np.sin(columns / 9) > 0.6) * (rows < 60)
    scene[np.hypot(rows - 30, columns - 120) < 6] = 215
    rng = np.random.default_rng(seed)
    return np.clip(16 + scene * light + rng.normal(0, noise, size), 16, 235)


def lifting(power, *, levels=2, exposure=1.0, shape=(12, 20)):
    """An adjustment from the identity to a power of luma."""
    curves = np.stack([IDENTITY ** (1 + (power - 1) * n / (levels - 1)) for n in range(levels)])
    gains = np.stack([np.ones(256), np.full(256, 2.0)] + [np.ones(256)] * (levels - 2))
    return Adjustment(
        curves.astype(np.float32),
        gains.astype(np.float32),
        np.full(shape, exposure, np.float32),
    )


class Model:
    """Returns the same adjustment for every frame and counts its calls."""

    thumbnail_size = (96, 160)

    def __init__(self, power=0.5):
        self.power = power
        self.calls = 0

    def __call__(self, thumbnail, noise):
        assert thumbnail.shape == (96, 160, 3)
        self.calls += 1
        return lifting(self.power)
