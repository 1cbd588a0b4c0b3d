"""Zones: where smoke counts. Polygons in relative coordinates, rasterised once per map size."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Polygon = Sequence[tuple[float, float]]
"""At least three corners (x, y), each 0 to 1; (0, 0) is top left."""


@dataclass(frozen=True, slots=True)
class Zones:
    """Areas where smoke counts and areas where it does not."""

    include: tuple[Polygon, ...] = ()
    """Smoke counts only within these; empty means the whole frame."""

    exclude: tuple[Polygon, ...] = ()
    """Smoke never counts within these, even where `include` covers them."""

    _masks: dict[tuple[int, int], NDArray[np.uint8]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def mask(self, size: tuple[int, int]) -> NDArray[np.uint8] | None:
        """Return (height, width), 1 where smoke counts, read-only; `None` without any zone."""
        if not self.include and not self.exclude:
            return None
        mask = self._masks.get(size)
        if mask is None:
            mask = np.zeros(size, np.uint8) if self.include else np.ones(size, np.uint8)
            for polygon in self.include:
                mask[_inside(polygon, size)] = 1
            for polygon in self.exclude:
                mask[_inside(polygon, size)] = 0
            mask.flags.writeable = False
            self._masks[size] = mask
        return mask


def _inside(polygon: Polygon, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return (height, width): whether each pixel's centre is inside (even-odd rule).

    `cv2.fillPoly` also sets the pixels of the outline: on a small map, a polygon would extend by
    one pixel, half a percent of the frame.
    """
    height, width = size
    y = ((np.arange(height) + 0.5) / height)[:, None]
    x = ((np.arange(width) + 0.5) / width)[None, :]
    inside = np.zeros(size, np.bool_)
    for (x0, y0), (x1, y1) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
        if y0 != y1:
            crosses = (y0 <= y) != (y1 <= y)
            inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside
