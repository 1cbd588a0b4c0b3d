"""Draws smoke, fog and dust over an image, in linear light.

`composite_density` follows Beer and Lambert exactly (opacity is 1 - exp(-density)) and is used
where the true alpha is needed. `composite` takes any opacity, shades it at random, and is used for
training samples.
"""

# ruff: noqa: PLR2004  random ranges stand where they act
from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from numpy.random import Generator

Rgb = NDArray[np.uint8]
"""(h, w, 3)."""
Plane = NDArray[np.float32]
"""(h, w)."""

POWER_LINEAR: Final = ((np.arange(256, dtype=np.float32) / 255) ** 2.2).astype(np.float32)
"""Bytes to linear light by a power: the transfer functions of the training images are unknown."""

_LEVELS: Final = np.arange(256, dtype=np.float64) / 255
_TO_LINEAR: Final = np.where(
    _LEVELS <= 0.04045,
    _LEVELS / 12.92,
    ((_LEVELS + 0.055) / 1.055) ** 2.4,
).astype(np.float32)
"""sRGB bytes to linear light (IEC 61966-2-1)."""

_FINE: Final = 4096
_LINEAR: Final = np.arange(_FINE, dtype=np.float64) / (_FINE - 1)
_FROM_LINEAR: Final = np.rint(
    255
    * np.where(
        _LINEAR <= 0.0031308,
        12.92 * _LINEAR,
        1.055 * _LINEAR ** (1 / 2.4) - 0.055,
    )
).astype(np.uint8)

_UNSEEN: Final = 1 / 1024
"""Optical depth below which no byte of an image changes."""


def to_linear(image: Rgb) -> Plane:
    """Convert sRGB bytes of any shape to linear light, 0 to 1."""
    return _TO_LINEAR[image]


def from_linear(light: Plane) -> Rgb:
    """Convert linear light of any shape, clipped to 0 to 1, to sRGB bytes."""
    return cast("Rgb", _FROM_LINEAR[(np.clip(light, 0, 1) * (_FINE - 1) + 0.5).astype(np.int32)])


def composite(image: Rgb, alpha: Plane, *, airlight: Plane, rng: Generator) -> Rgb:
    """Draw smoke over an image, shaded at random.

    Args:
        image: (h, w, 3).
        alpha: (h, w), opacity, 0 to 1.
        airlight: (3,) or (h, w, 3), colour of the smoke in linear light, see `random_airlight`.
        rng: Chooses direction and depth of the shading.
    """
    x, y, w, h = cv2.boundingRect((alpha > 0.004).astype(np.uint8))
    if w == 0:
        return image
    part, a = image[y : y + h, x : x + w], alpha[y : y + h, x : x + w]
    # Thick smoke shades itself: it is lit from one side and darker inside.
    angle, depth = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.35)
    soft = cv2.GaussianBlur(a, (0, 0), max(1.0, min(w, h) / 12))
    slope = np.cos(angle) * cv2.Sobel(soft, cv2.CV_32F, 1, 0) + np.sin(angle) * cv2.Sobel(
        soft, cv2.CV_32F, 0, 1
    )
    light = 1 + depth * (slope / (np.abs(slope).max() + 1e-6) - 0.5 * (a - soft))
    mixed = POWER_LINEAR[part] * (1 - a[..., None]) + airlight * (a * light)[..., None]
    result = image.copy()
    result[y : y + h, x : x + w] = np.clip(mixed, 0, 1) ** (1 / 2.2) * 255 + 0.5
    return result


def random_airlight(image: Rgb, rng: Generator) -> Plane:
    """Return a colour for smoke in this scene, (3,) linear: its bright part, greyed and varied."""
    tiny = POWER_LINEAR[cv2.resize(image, (24, 16), interpolation=cv2.INTER_AREA)].reshape(-1, 3)
    bright = tiny[np.argsort(tiny.sum(1))[-120:]].mean(0)
    grey = np.full(3, bright.mean(), np.float32)
    colour = bright + (grey - bright) * rng.uniform(0.4, 1.0)
    level = rng.uniform(0.05, 0.4) if rng.random() < 0.12 else rng.uniform(0.6, 1.5)
    tint = 1 + rng.normal(0, 0.04, 3)
    return cast("Plane", np.clip(colour * level * tint, 0.01, 1).astype(np.float32))


def clouds(shape: tuple[int, ...], rng: Generator, *, cells: int) -> Plane:
    """Return soft fractal patches (h, w), 0 to 1."""
    height, width = shape[:2]
    total = np.zeros((height, width), np.float32)
    for octave in range(4):
        grid = rng.random((cells * 2**octave, cells * 2**octave)).astype(np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.5**octave
    low, high = np.quantile(total[::8, ::8], [rng.uniform(0.2, 0.6), 0.98])
    return cast("Plane", np.clip((total - low) / (high - low + 1e-6), 0, 1).astype(np.float32))


def sky_light(image: Rgb) -> Plane:
    """Return the light that falls on smoke in this scene, (3,) linear RGB: its bright quarter."""
    tiny = cast("Rgb", cv2.resize(image, (32, 24), interpolation=cv2.INTER_AREA))
    light = to_linear(tiny).reshape(-1, 3)
    brightest = light[np.argsort(light.sum(axis=1))[-len(light) // 4 :]]
    return cast("Plane", brightest.mean(axis=0))


def composite_density(
    image: Rgb, density: Plane, *, opacity: float, airlight: Plane, relief: float = 0.35
) -> tuple[Rgb, Plane]:
    """Draw smoke of a given optical depth over an image.

    Args:
        image: (h, w, 3) sRGB.
        density: (h, w) optical depth.
        opacity: Multiplies the density: alpha = 1 - exp(-opacity * density).
        airlight: (3,) linear RGB of the smoke, see `sky_light`.
        relief: Strength of the smoke's shading of itself, 0 for flat.

    Returns:
        The result, (h, w, 3) sRGB, and its exact alpha, (h, w), 0 to 1.
    """
    alpha = np.zeros_like(density)
    result = image.copy()
    x, y, width, height = cv2.boundingRect((density * opacity > _UNSEEN).astype(np.uint8))
    if width == 0:
        return result, alpha
    part = np.s_[y : y + height, x : x + width]
    alpha[part] = 1 - np.exp(-np.float32(opacity) * density[part])
    light = _shading(density[part], relief)[..., None] * airlight
    cover = alpha[part][..., None]
    result[part] = from_linear(to_linear(image[part]) * (1 - cover) + light * cover)
    return result, alpha


def _shading(density: Plane, relief: float) -> Plane:
    """Return the brightness of smoke, around 1: lit from above left, darker where thick."""
    if relief == 0:
        return np.ones_like(density)
    depth = np.sqrt(cv2.GaussianBlur(density, (0, 0), 1.2))
    slope = cv2.Sobel(depth, cv2.CV_32F, 1, 0) + cv2.Sobel(depth, cv2.CV_32F, 0, 1)
    lit = slope / (np.quantile(np.abs(slope), 0.98) + 1e-6)
    thick = depth / (depth.max() + 1e-6)
    return cast(
        "Plane", (1 + relief * (0.45 * np.clip(lit, -1, 1) - 0.55 * thick)).astype(np.float32)
    )
