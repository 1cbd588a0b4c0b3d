"""Where smoke counts: polygons in relative coordinates, drawn once for each size of map."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Polygon = Sequence[tuple[float, float]]
"""At least three corners x, y, each 0 to 1; 0, 0 is top left."""


@dataclass(frozen=True, slots=True)
class Zones:
    """Areas that count and areas that never do."""

    include: tuple[Polygon, ...] = ()
    """Only within these; none means the whole picture."""

    exclude: tuple[Polygon, ...] = ()
    """Never within these, whatever `include` says."""

    _masks: dict[tuple[int, int], NDArray[np.uint8]] = field(
        default_factory=dict, repr=False, compare=False
    )

    def mask(self, size: tuple[int, int]) -> NDArray[np.uint8] | None:
        """(height, width), 1 where smoke counts, read-only; `None` when it counts everywhere."""
        if not self.include and not self.exclude:
            return None
        mask = self._masks.get(size)
        if mask is None:
            mask = np.zeros(size, np.uint8) if self.include else np.ones(size, np.uint8)
            for polygon in self.include:
                mask[_within(polygon, size)] = 1
            for polygon in self.exclude:
                mask[_within(polygon, size)] = 0
            mask.flags.writeable = False
            self._masks[size] = mask
        return mask


def _within(polygon: Polygon, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(height, width), whether the centre of each pixel lies in *polygon* (even-odd rule).

    `cv2.fillPoly` takes the pixels of the outline as well: on a small map a polygon would reach a
    pixel, half a percent of the picture, too far.
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
