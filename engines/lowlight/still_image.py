"""Enhances single RGB images by the code for planes, and darkens day images: for evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from engines.common.i420 import i420_to_rgb, rgb_to_i420
from engines.lowlight.enhancer import Enhancer
from engines.lowlight.full_resolution import OnCpu

if TYPE_CHECKING:
    from numpy.random import Generator

    from engines.lowlight.enhancer import Model

Rgb = NDArray[np.uint8]
"""(h, w, 3), full range."""

NIGHT = 0.03
"""Light at night as a fraction of the day's: the least at which anything is visible."""
READ_NOISE = 2.5
"""Standard deviation of a sensor's noise in bytes, at high gain."""


def enhance_image(model: Model, image: Rgb, *, denoise: bool = True) -> Rgb:
    """Return one image as the program would show it as the first frame of a stream."""
    enhancer = Enhancer(model, always=True, full_resolution=OnCpu(denoise=denoise))
    return i420_to_rgb(enhancer(rgb_to_i420(image), 0.0))


def darken(image: Rgb, rng: Generator, *, light: float = NIGHT, noise: float = READ_NOISE) -> Rgb:
    """Return a day image as a sensor records it with less light: linear light, then noise."""
    dark = ((image / np.float32(255)) ** 2.2 * light) ** (1 / 2.2) * 255
    dark = dark + rng.normal(0, noise, dark.shape)
    return cast("Rgb", np.clip(np.rint(dark), 0, 255).astype(np.uint8))
