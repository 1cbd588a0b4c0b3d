"""Single pictures in RGB through what works on planes, and day made night: for measuring."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.lowlight.enhancer import Enhancer
from engines.lowlight.full_resolution import OnCpu
from engines.yuv import Yuv

if TYPE_CHECKING:
    from numpy.random import Generator

    from engines.lowlight.enhancer import Model

Rgb = NDArray[np.uint8]
"""(h, w, 3), full range."""

NIGHT = 0.03
"""Light at night, of a day picture's: the darkest in which there is still something to see."""
READ_NOISE = 2.5
"""Deviation of a sensor's noise in bytes, with its gain up."""


def enhance_picture(model: Model, picture: Rgb, *, denoise: bool = True) -> Rgb:
    """One picture as the program would show it if it were a camera's first."""
    enhancer = Enhancer(model, always=True, full_size=OnCpu(denoise=denoise))
    return to_rgb(enhancer(to_planes(picture), 0.0))


def to_planes(picture: Rgb) -> Yuv:
    """Limited-range planes; an odd row or column is left out."""
    height, width = (side // 2 * 2 for side in picture.shape[:2])
    flat = cv2.cvtColor(np.ascontiguousarray(picture[:height, :width]), cv2.COLOR_RGB2YUV_I420)
    planes = cast("Rgb", flat)
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    return Yuv(planes[:height], (chroma[0], chroma[1]))


def to_rgb(planes: Yuv) -> Rgb:
    """The way back, from 8-bit planes."""
    height, width = planes.y.shape
    chroma = np.concatenate([planes.u.ravel(), planes.v.ravel()]).reshape(height // 2, width)
    return cast("Rgb", cv2.cvtColor(np.vstack([planes.y, chroma]), cv2.COLOR_YUV2RGB_I420))


def darkened(
    picture: Rgb, random: Generator, *, light: float = NIGHT, noise: float = READ_NOISE
) -> Rgb:
    """A day picture as a sensor sees it with so much less light: linear light, then noise."""
    dark = ((picture / np.float32(255)) ** 2.2 * light) ** (1 / 2.2) * 255
    dark = dark + random.normal(0, noise, dark.shape)
    return cast("Rgb", np.clip(np.rint(dark), 0, 255).astype(np.uint8))
