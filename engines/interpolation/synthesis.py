"""The full-size warp: planes looked up along a motion and blended, in stripes.

What was found out in the reduced picture is enlarged a stripe at a time, so that no full-size
field of numbers exists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[Any]
    Field = NDArray[np.float32]

MARGIN = 2
"""Pixels added around a reduced field before it is enlarged: its edge is then its inside."""
STRIPE_PX = 1 << 19
"""Pixels of a plane worked on at once."""


def padded(field: Field) -> Field:
    """A field with its edge repeated `MARGIN` times."""
    m = MARGIN
    return cast("Field", cv2.copyMakeBorder(field, m, m, m, m, cv2.BORDER_REPLICATE))


def synthesise(
    before: Plane,
    after: Plane,
    to_before: Field,
    to_after: Field,
    weight: Field,
    factors: tuple[float, float],
) -> Plane:
    """One plane of the picture between.

    Args:
        before: (rows, columns) of the picture before.
        after: The same of the picture after.
        to_before: `padded` (h, w, 2): where each reduced pixel looks in the picture before,
            as a way from its own place.
        to_after: The same for the picture after.
        weight: `padded` (h, w): of the picture before, 0 to 1.
        factors: How many times as large as the reduced picture the plane is (down, across).
    """
    rows, columns = before.shape
    down, across = factors
    out = np.empty_like(before)
    step = max(1, int(STRIPE_PX / columns / max(1.0, down)))
    places = _places(weight.shape, factors)
    for low in range(0, -(-rows // max(1, int(down))), step):
        high = low + step
        piece = slice(low, high + 2 * MARGIN)
        if down < 1:
            piece, high = slice(None), rows
        top = int(low * max(1, down))
        bottom = min(rows, int(high * max(1, down))) if down >= 1 else rows
        size = (bottom - top, columns)
        scale = np.array([across, down], np.float32)
        at_before = _enlarged(places[piece] + to_before[piece] * scale, factors, size)
        at_after = _enlarged(places[piece] + to_after[piece] * scale, factors, size)
        share = _enlarged(weight[piece], factors, size)
        first = cv2.remap(before, at_before, None, cv2.INTER_LINEAR, borderMode=_EDGE)
        second = cv2.remap(after, at_after, None, cv2.INTER_LINEAR, borderMode=_EDGE)
        out[top:bottom] = _blend(first, second, share)
        if down < 1:
            break
    return out


_EDGE = cv2.BORDER_REPLICATE


def _places(shape: tuple[int, ...], factors: tuple[float, float]) -> Field:
    """(h, w, 2): where each pixel of a padded field lies in the plane."""
    (height, width), (down, across) = shape, factors
    x = (np.arange(width, dtype=np.float32) - MARGIN + 0.5) * across - 0.5
    y = (np.arange(height, dtype=np.float32) - MARGIN + 0.5) * down - 0.5
    return np.dstack(np.meshgrid(x, y)).astype(np.float32)


def _enlarged(field: Field, factors: tuple[float, float], size: tuple[int, int]) -> Field:
    """A padded field enlarged, without its margin."""
    down, across = factors
    if (down, across) != (1.0, 1.0):
        field = cv2.resize(field, None, fx=across, fy=down, interpolation=cv2.INTER_LINEAR)
    top, left = int(MARGIN * down), int(MARGIN * across)
    return np.ascontiguousarray(field[top : top + size[0], left : left + size[1]])


def _blend(first: Plane, second: Plane, share: Field) -> Plane:
    if first.dtype == np.uint8:
        return cast("Plane", cv2.blendLinear(first, second, share, 1 - share))
    a, b = first.astype(np.float32), second.astype(np.float32)
    b += (a - b) * share
    return np.rint(b).astype(first.dtype)
