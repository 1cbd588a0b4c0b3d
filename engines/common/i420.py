"""RGB images as limited-range BT.601 4:2:0 planes and back, by OpenCV. For evaluation only."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from engines.yuv import Yuv

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.uint8]


def rgb_to_i420(image: NDArray[np.uint8]) -> Yuv:
    """Convert (h, w, 3) RGB to 8-bit 4:2:0; an odd row or column is dropped."""
    height, width = (side // 2 * 2 for side in image.shape[:2])
    even = np.ascontiguousarray(image[:height, :width])
    planes = cast("Plane", cv2.cvtColor(even, cv2.COLOR_RGB2YUV_I420))
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    return Yuv(planes[:height], (chroma[0], chroma[1]))


def i420_to_rgb(image: Yuv) -> NDArray[np.uint8]:
    """Convert 8-bit 4:2:0 planes to (h, w, 3) RGB."""
    height, width = image.y.shape
    flat = np.concatenate([plane.ravel() for plane in image.planes])
    flat = flat.reshape(height * 3 // 2, width)
    return cast("Plane", cv2.cvtColor(flat, cv2.COLOR_YUV2RGB_I420))
