"""Where smoke counts: polygons in relative coordinates, drawn once for each size of map."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

Polygon = Sequence[tuple[float, float]]
"""At least three corners x, y, each 0 to 1; 0, 0 is top left."""

_SUBPIXEL: Final = 16
"""Corners are placed to a sixteenth of a pixel (4 bits): small maps must not move an edge."""


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
                _fill(mask, polygon, 1)
            for polygon in self.exclude:
                _fill(mask, polygon, 0)
            mask.flags.writeable = False
            self._masks[size] = mask
        return mask


def _fill(mask: NDArray[np.uint8], polygon: Polygon, value: int) -> None:
    height, width = mask.shape
    # Pixel centres lie at half a pixel, polygons on the edges between them.
    corners = np.array(polygon, np.float64) * (width, height) - 0.5
    points = np.rint(corners * _SUBPIXEL).astype(np.int32)
    cv2.fillPoly(mask, [points], value, shift=_SUBPIXEL.bit_length() - 1)
