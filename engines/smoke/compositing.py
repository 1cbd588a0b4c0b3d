"""Smoke, fog and dust over a picture: opacity and the colour of lit air, in linear light."""

# ruff: noqa: PLR2004  chances and ranges of chance stand where they act
from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from numpy.random import Generator

Rgb = NDArray[np.uint8]
"""(h, w, 3)."""
Plane = NDArray[np.float32]
"""(h, w)."""

TO_LINEAR = ((np.arange(256, dtype=np.float32) / 255) ** 2.2).astype(np.float32)
"""Bytes to linear light; a plain power, as unknown cameras have unknown curves."""


def lay(image: Rgb, alpha: Plane, *, air: Plane, random: Generator) -> Rgb:
    """Lay something of opacity `alpha` and colour `air`, both linear, over a picture."""
    where = cv2.boundingRect((alpha > 0.004).astype(np.uint8))
    x, y, w, h = where
    if w == 0:
        return image
    part, a = image[y : y + h, x : x + w], alpha[y : y + h, x : x + w]
    # Thick smoke shades itself: lit from one side, darker within.
    angle, depth = random.uniform(0, 2 * np.pi), random.uniform(0, 0.35)
    soft = cv2.GaussianBlur(a, (0, 0), max(1.0, min(w, h) / 12))
    slope = np.cos(angle) * cv2.Sobel(soft, cv2.CV_32F, 1, 0) + np.sin(angle) * cv2.Sobel(
        soft, cv2.CV_32F, 0, 1
    )
    light = 1 + depth * (slope / (np.abs(slope).max() + 1e-6) - 0.5 * (a - soft))
    mixed = TO_LINEAR[part] * (1 - a[..., None]) + air * (a * light)[..., None]
    result = image.copy()
    result[y : y + h, x : x + w] = np.clip(mixed, 0, 1) ** (1 / 2.2) * 255 + 0.5
    return result


def air_of(image: Rgb, random: Generator) -> Plane:
    """The colour of smoke here, linear: the bright part of the scene, greyed, lit anew."""
    tiny = TO_LINEAR[cv2.resize(image, (24, 16), interpolation=cv2.INTER_AREA)].reshape(-1, 3)
    bright = tiny[np.argsort(tiny.sum(1))[-120:]].mean(0)
    grey = np.full(3, bright.mean(), np.float32)
    colour = bright + (grey - bright) * random.uniform(0.4, 1.0)
    level = random.uniform(0.05, 0.4) if random.random() < 0.12 else random.uniform(0.6, 1.5)
    tint = 1 + random.normal(0, 0.04, 3)
    return cast("Plane", np.clip(colour * level * tint, 0.01, 1).astype(np.float32))


def clouds(shape: tuple[int, ...], random: Generator, *, cells: int) -> Plane:
    """Soft fractal patches, 0 to 1, wider than tall."""
    height, width = shape[:2]
    total = np.zeros((height, width), np.float32)
    for octave in range(4):
        grid = random.random((cells * 2**octave, cells * 2**octave)).astype(np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.5**octave
    low, high = np.quantile(total[::8, ::8], [random.uniform(0.2, 0.6), 0.98])
    return cast("Plane", np.clip((total - low) / (high - low + 1e-6), 0, 1).astype(np.float32))
