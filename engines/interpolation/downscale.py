"""Reduces planes to the frame in which motion is searched.

Planes of any size, depth and subsampling become one (h, w, 3) uint8 array of luma and chroma; h and
w are multiples of `STRIDE`. A point (x, y) of the reduced frame is the point
(k(x + 1/2) - 1/2, ...) of a plane that is k times as large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

from engines.errors import ModelMismatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Plane = NDArray[Any]
    Reduced = NDArray[np.uint8]

STRIDE = 16
"""Height and width of the reduced frame are multiples of this."""
SMALLEST = 64
"""Least side of a reduced frame: the flow search needs a pyramid."""
LARGEST_PX = 512
"""Longest side of a reduced frame before it is rounded up."""
WHOLE_PX = 320
"""Frames whose longer side is at most this are not reduced."""
MIN_SIDE_PX, MAX_SIDE_PX = 16, 8192
MOST_PLANES = 4


@dataclass(frozen=True, slots=True)
class DownscaleGeometry:
    """Geometry of planes and their reduced frame."""

    shapes: tuple[tuple[int, int], ...]
    """(height, width) of each plane."""
    depth: int
    """Bits of a sample."""
    rgb: bool
    """Whether the planes are green, blue, red instead of luma and chroma."""
    step: int
    """Reduction of the first plane; a power of two."""
    size: tuple[int, int]
    """(height, width) of the reduced frame, with padding at the right and the bottom."""

    @property
    def image_size(self) -> tuple[float, float]:
        """(rows, columns) of the reduced frame without its padding."""
        rows, columns = self.shapes[0]
        return rows / self.step, columns / self.step

    def factors(self, plane: int) -> tuple[float, float]:
        """Return the size of a plane relative to the reduced frame: (down, across)."""
        (height, width), (rows, columns) = self.shapes[0], self.shapes[plane]
        return (
            self.step / _power_of_two(height / rows),
            self.step / _power_of_two(width / columns),
        )


def downscale_geometry(
    planes: Sequence[Plane], *, depth: int, rgb: bool, step: int | None = None
) -> DownscaleGeometry:
    """Check the planes of a frame and return how they are reduced.

    Args:
        planes: Of one frame.
        depth: Bits of a sample.
        rgb: The planes are green, blue, red.
        step: Reduction; chosen by size when left out.

    Raises:
        ModelMismatch: Number, type, depth or size of the planes is not supported.
    """
    _check(planes, depth=depth, rgb=rgb)
    height, width = planes[0].shape
    step = step or _step(max(height, width))
    size = _round_up(-(-height // step)), _round_up(-(-width // step))
    return DownscaleGeometry(
        tuple((p.shape[0], p.shape[1]) for p in planes), depth, rgb, step, size
    )


def _step(long: int) -> int:
    """Return the reduction for a longer side of so many pixels."""
    if long <= WHOLE_PX:
        return 1
    step = 2
    while long / step > LARGEST_PX:
        step *= 2
    return step


def _power_of_two(ratio: float) -> int:
    """Return the nearest power of two: rounded-up sides make ratios like 17 / 5."""
    return int(2 ** round(math.log2(ratio)))


def _check(planes: Sequence[Plane], *, depth: int, rgb: bool) -> None:
    if not 1 <= len(planes) <= MOST_PLANES or (rgb and len(planes) < 3):  # noqa: PLR2004
        raise ModelMismatch(
            f"expected 1 to {MOST_PLANES} planes (3 or 4 of red, green and blue), got {len(planes)}"
        )
    if not 8 <= depth <= 16:  # noqa: PLR2004
        raise ModelMismatch(f"expected a depth of 8 to 16 bits, got {depth}")
    kind = np.uint8 if depth == 8 else np.uint16  # noqa: PLR2004
    for plane in planes:
        if plane.ndim != 2 or plane.dtype != kind:  # noqa: PLR2004
            raise ModelMismatch(
                f"expected planes (height, width) {np.dtype(kind).name} at {depth} bits, "
                f"got {plane.shape} {plane.dtype}"
            )
    height, width = planes[0].shape
    short, long = min(height, width), max(height, width)
    if short < MIN_SIDE_PX or long > MAX_SIDE_PX:
        raise ModelMismatch(
            f"expected a frame of {MIN_SIDE_PX} to {MAX_SIDE_PX} pixels a side, "
            f"got {width}x{height}"
        )
    for rows, columns in (plane.shape for plane in planes[1:]):
        if not (height <= rows * 4 + 3 and width <= columns * 4 + 3):
            raise ModelMismatch(f"a plane of {columns}x{rows} does not fit {width}x{height}")
        if rows > height or columns > width:
            raise ModelMismatch(f"a plane of {columns}x{rows} is larger than {width}x{height}")


def _round_up(side: int) -> int:
    return max(SMALLEST, -(-side // STRIDE) * STRIDE)


def reduced(planes: Sequence[Plane], geometry: DownscaleGeometry) -> Reduced:
    """Return the reduced frame: (h, w, 3) luma and chroma, neutral without chroma planes."""
    parts = [_reduced_plane(planes[i], i, geometry) for i in range(min(3, len(planes)))]
    if geometry.rgb:
        green, blue, red = parts
        return np.ascontiguousarray(cv2.cvtColor(cv2.merge([red, green, blue]), _TO_YUV))
    if len(parts) < 3:  # noqa: PLR2004  luma alone
        grey = np.full_like(parts[0], 128)
        parts = [parts[0], grey, grey]
    return cast("Reduced", cv2.merge(parts))


_TO_YUV = cv2.COLOR_RGB2YUV


def _reduced_plane(plane: Plane, number: int, geometry: DownscaleGeometry) -> Reduced:
    height, width = geometry.size
    down, across = geometry.factors(number)
    if down < 1 or across < 1:
        small = cv2.resize(plane, None, fx=1 / across, fy=1 / down, interpolation=cv2.INTER_LINEAR)
        down = across = 1
    else:
        rows, columns = plane.shape
        over_y, over_x = -rows % int(down), -columns % int(across)
        if over_y or over_x:
            plane = cv2.copyMakeBorder(plane, 0, over_y, 0, over_x, cv2.BORDER_REPLICATE)
        small = plane
        if (down, across) != (1, 1):
            new = (plane.shape[1] // int(across), plane.shape[0] // int(down))
            small = cv2.resize(plane, new, interpolation=cv2.INTER_AREA)
    if geometry.depth > 8:  # noqa: PLR2004
        small = cv2.convertScaleAbs(small, alpha=1 / (1 << (geometry.depth - 8)))
    small = small[:height, :width]
    if small.shape != (height, width):
        below, right = height - small.shape[0], width - small.shape[1]
        small = cv2.copyMakeBorder(small, 0, below, 0, right, cv2.BORDER_REPLICATE)
    return cast("Reduced", small)
