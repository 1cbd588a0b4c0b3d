"""What stays: clocks, logos and subtitles are taken as they are, over a picture that moves.

Motion is known at a reduced size only, and bleeds into thin letters. Where both pictures are equal
over a neighbourhood, and has structure there, nothing has moved, whatever the motion says.
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
"""Bytes by which a lossy codec lets the same letter differ."""
STRUCTURE = 48
"""Bytes between the darkest and the brightest of a neighbourhood's equal pixels."""
AROUND = (5, 5)
"""Pixels of a neighbourhood."""
SHARE_EQUAL = 0.6
"""Of its pixels; at a letter's edge the others are the moving picture."""


def standing(before: Plane, after: Plane, *, depth: int) -> Mask | None:
    """Where the picture between is the picture itself: 0 to 255 of a luma plane; None: nowhere."""
    scale = 1 << (depth - 8)
    equal = cast("Mask", cv2.inRange(cv2.absdiff(before, after), 0, EQUAL_WITHIN * scale))
    crowd = cv2.blur(equal, AROUND, borderType=cv2.BORDER_REPLICATE)
    cv2.min(equal, cv2.inRange(crowd, round(255 * SHARE_EQUAL), 255), crowd)
    where = box(cast("Mask", crowd))
    if where is None:
        return None
    mask = np.zeros_like(equal)
    reach = AROUND[0] // 2
    wider = tuple(slice(max(0, side.start - reach), side.stop + reach) for side in where)
    mask[wider] = cv2.min(crowd[wider], _structured(before[wider], equal[wider], depth))
    return mask if cv2.countNonZero(mask) else None


def _structured(plane: Plane, equal: Mask, depth: int) -> Mask:
    """Where what is equal has structure.

    Both sides of an edge must be: in front of a white sky something dark that moves leaves pixels
    that are white in both pictures.
    """
    scale, top = 1 << (depth - 8), (1 << depth) - 1
    kernel = np.ones(AROUND, np.uint8)
    brightest = cv2.dilate(cv2.copyTo(plane, equal), kernel)
    darkest = cv2.erode(cv2.copyTo(plane, equal, np.full_like(plane, top)), kernel)
    spread = cv2.subtract(brightest, darkest, brightest)
    return cast("Mask", cv2.inRange(spread, STRUCTURE * scale, top))


def put_back(made: Plane, before: Plane, after: Plane, mask: Mask) -> None:
    """Put the mean of both pictures into *made* where the mask says so."""
    if mask.shape != made.shape:
        size = (made.shape[1], made.shape[0])
        mask = cast("Mask", cv2.resize(mask, size, interpolation=cv2.INTER_AREA))
        mask = cast("Mask", cv2.inRange(mask, 255, 255))
    where = box(mask)
    if where:
        mean = cv2.addWeighted(before[where], 0.5, after[where], 0.5, 0)
        cv2.copyTo(mean, mask[where], made[where])
