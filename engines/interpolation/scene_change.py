"""Is the next picture the same, one that moved on, or another scene? From luma alone.

Nothing is interpolated across a cut, and a repeated picture has nothing between.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[Any]
    Luma = NDArray[np.uint8]

SMALL = (96, 54)
"""(width, height) in which scenes are compared."""
TILES = (4, 3)
"""Across and down; each is looked for around its place."""
REACH = (11, 8)
"""Pixels of the small picture that a tile may have moved: a ninth of the width, a seventh of the
height."""
FLAT = 4.0
"""Deviation of a tile's bytes below which it says nothing."""
ALIKE = 0.58
"""Correlation of tiles below which the scene is another. On the development clips neighbours have
0.61 or more, pictures of different clips 0.61 or less in 98 of 100 cases."""
BLOCK_PX = 16
ROWS_APART = 4
"""Every so many rows are compared to find repeats."""
MOST_ON_AVERAGE, MOST_IN_A_BLOCK = 0.9, 8.0
"""Bytes by which a repeat may differ after a lossy codec, in the mean and in the worst block."""
MOST_SHIFT_PX = 0.15
"""How far a repeat may seem to have moved as a whole; a slow pan differs as little, but moves."""


class Relation(enum.Enum):
    """What a picture is to the one before it."""

    SAME = "same"
    """The same picture again, also where a lossy codec changed it a little."""
    MOVING = "moving"
    """The same scene, later."""
    CUT = "cut"
    """Another scene."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two pictures are from each other, pixel by pixel."""

    mean: float
    """Bytes."""
    worst: float
    """Mean of the worst block, in bytes."""
    shift_px: float
    """How far the whole seems to have moved."""


def relation(before: Plane, after: Plane, *, depth: int = 8) -> Relation:
    """What *after* is to *before*: luma planes (h, w) of one shape, uint8 or uint16."""
    if is_repeat(difference(before, after, depth=depth)):
        return Relation.SAME
    first, second = (small(plane, depth=depth) for plane in (before, after))
    # Both ways: a tile of a plain picture fits anywhere, one of a rich picture does not.
    alike = min(likeness(first, second), likeness(second, first))
    return Relation.CUT if alike < ALIKE else Relation.MOVING


def is_repeat(found: Difference) -> bool:
    """Whether pictures so far from each other are one picture."""
    return (
        found.mean <= MOST_ON_AVERAGE
        and found.worst <= MOST_IN_A_BLOCK
        and found.shift_px <= MOST_SHIFT_PX
    )


def difference(before: Plane, after: Plane, *, depth: int = 8) -> Difference:
    """Compare every `ROWS_APART`th row of two luma planes."""
    first, second = (_bytes(plane[::ROWS_APART], depth) for plane in (before, after))
    apart = cv2.absdiff(first, second)
    height, width = apart.shape
    size = (max(1, width // BLOCK_PX), max(1, height * ROWS_APART // BLOCK_PX))
    worst = float(cv2.resize(apart, size, interpolation=cv2.INTER_AREA).max())
    mean = float(cv2.mean(apart)[0])
    if mean > MOST_ON_AVERAGE or worst > MOST_IN_A_BLOCK:
        # What is no repeat anyway need not be looked at longer.
        return Difference(mean, worst, np.inf)
    return Difference(mean, worst, _shift_px(*(_quarter(p, depth) for p in (before, after))))


def _quarter(plane: Plane, depth: int) -> Luma:
    """The plane at about a quarter of its size."""
    rows = _bytes(plane[::2, ::2], depth)
    size = (max(8, rows.shape[1] // 2), max(8, rows.shape[0] // 2))
    return cast("Luma", cv2.resize(rows, size, interpolation=cv2.INTER_AREA))


def _shift_px(first: Luma, second: Luma) -> float:
    """Shift of planes at a quarter of their size, in pixels of the whole size.

    Least squares of the difference against the slopes (Lucas and Kanade, 1981).
    """
    mean = cv2.addWeighted(first, 0.5, second, 0.5, 0)
    apart = cv2.subtract(second, first, dtype=cv2.CV_32F).ravel()
    slopes = [
        cv2.Sobel(mean, cv2.CV_32F, *way, ksize=3, scale=1 / 8).ravel() for way in ((1, 0), (0, 1))
    ]
    normal = np.array([[float(a @ b) for b in slopes] for a in slopes])
    normal += np.eye(2) * apart.size * 0.05
    return 4 * float(np.hypot(*np.linalg.solve(normal, [float(a @ apart) for a in slopes])))


def small(plane: Plane, *, depth: int = 8) -> Luma:
    """The picture in which scenes are compared: (54, 96) uint8."""
    skip = max(1, min(plane.shape[0] // (SMALL[1] * 3), plane.shape[1] // (SMALL[0] * 3)))
    return cast(
        "Luma",
        cv2.resize(_bytes(plane[::skip, ::skip], depth), SMALL, interpolation=cv2.INTER_AREA),
    )


def likeness(before: Luma, after: Luma) -> float:
    """Correlation of each tile of *before* where it fits *after* best, -1 to 1.

    Mean over the tiles, weighted by their contrast; insensitive to brightness and contrast, so
    fades and flashes are no cuts. 1 if nothing in *before* can be told apart.
    """
    total = weight = 0.0
    width, height = SMALL[0] // TILES[0], SMALL[1] // TILES[1]
    for top in range(0, SMALL[1], height):
        for left in range(0, SMALL[0], width):
            tile = before[top : top + height, left : left + width]
            contrast = float(tile.std())
            if contrast < FLAT:
                continue
            x, y = max(0, left - REACH[0]), max(0, top - REACH[1])
            around = after[y : top + height + REACH[1], x : left + width + REACH[0]]
            found = cv2.matchTemplate(around, tile, cv2.TM_CCOEFF_NORMED)
            total += contrast * float(found.max())
            weight += contrast
    return total / weight if weight else 1.0


def _bytes(plane: Plane, depth: int) -> Luma:
    plane = np.ascontiguousarray(plane)
    if depth > 8:  # noqa: PLR2004
        return cast("Luma", cv2.convertScaleAbs(plane, alpha=1 / (1 << (depth - 8))))
    return plane
