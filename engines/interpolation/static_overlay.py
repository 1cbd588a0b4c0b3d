"""Keeps static overlays: clocks, logos and subtitles over a moving scene.

Motion is known at a reduced size only and bleeds into thin letters. Where both frames are equal
over a neighbourhood that has structure, nothing has moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

from engines.interpolation.warp_fields import box

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[Any]
    Mask = NDArray[np.uint8]

EQUAL_WITHIN = 3
"""Largest difference in bytes that a lossy codec makes of a static letter."""
STRUCTURE = 48
"""Least range in bytes of a neighbourhood's equal pixels."""
AROUND = (5, 5)
"""Size of a neighbourhood in pixels."""
SHARE_EQUAL = 0.6
"""Least fraction of equal pixels; at a letter's edge the others belong to the moving scene."""


def standing(before: Plane, after: Plane, *, depth: int) -> Mask | None:
    """Return the mask of static overlays, 0 to 255 per luma pixel; None if there are none."""
    scale = 1 << (depth - 8)
    equal = cast("Mask", cv2.inRange(cv2.absdiff(before, after), 0, EQUAL_WITHIN * scale))
    fraction = cv2.blur(equal, AROUND, borderType=cv2.BORDER_REPLICATE)
    cv2.min(equal, cv2.inRange(fraction, round(255 * SHARE_EQUAL), 255), fraction)
    where = box(cast("Mask", fraction))
    if where is None:
        return None
    mask = np.zeros_like(equal)
    reach = AROUND[0] // 2
    wider = tuple(slice(max(0, side.start - reach), side.stop + reach) for side in where)
    mask[wider] = cv2.min(fraction[wider], _structured(before[wider], equal[wider], depth))
    return mask if cv2.countNonZero(mask) else None


def _structured(plane: Plane, equal: Mask, depth: int) -> Mask:
    """Return where equal pixels have structure.

    Both sides of an edge must be equal: in front of a white sky, a dark moving object leaves pixels
    that are white in both frames.
    """
    scale, top = 1 << (depth - 8), (1 << depth) - 1
    kernel = np.ones(AROUND, np.uint8)
    brightest = cv2.dilate(cv2.copyTo(plane, equal), kernel)
    darkest = cv2.erode(cv2.copyTo(plane, equal, np.full_like(plane, top)), kernel)
    spread = cv2.subtract(brightest, darkest, brightest)
    return cast("Mask", cv2.inRange(spread, STRUCTURE * scale, top))


def put_back(made: Plane, before: Plane, after: Plane, mask: Mask) -> None:
    """Write the mean of both frames into `made` where the mask is set."""
    if mask.shape != made.shape:
        size = (made.shape[1], made.shape[0])
        mask = cast("Mask", cv2.resize(mask, size, interpolation=cv2.INTER_AREA))
        mask = cast("Mask", cv2.inRange(mask, 255, 255))
    where = box(mask)
    if where:
        mean = cv2.addWeighted(before[where], 0.5, after[where], 0.5, 0)
        cv2.copyTo(mean, mask[where], made[where])
