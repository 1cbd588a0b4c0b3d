"""What stays: clocks, logos and subtitles are taken as they are, over a picture that moves.

Motion is known at a reduced size only, and bleeds into thin letters. Where both pictures are equal
over a neighbourhood, and that has structure, nothing has moved, whatever the motion says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[Any]
    Mask = NDArray[np.uint8]

EQUAL_WITHIN = 3
"""Bytes by which a lossy codec lets the same letter differ."""
STRUCTURE = 48
"""Bytes between the darkest and the brightest pixel of a neighbourhood."""
AROUND = (5, 5)
"""Pixels of a neighbourhood."""
SHARE_EQUAL = 0.6
"""Of its pixels; at a letter's edge the others are the moving picture."""


def standing(before: Plane, after: Plane, *, depth: int) -> Mask | None:
    """Where the picture between is the picture itself: 0 to 255 of a luma plane; None: nowhere."""
    scale = 1 << (depth - 8)
    top = (256 << (depth - 8)) - 1
    equal = cv2.inRange(cv2.absdiff(before, after), 0, EQUAL_WITHIN * scale)
    crowd = cv2.blur(equal, AROUND, borderType=cv2.BORDER_REPLICATE)
    spread = cv2.morphologyEx(before, cv2.MORPH_GRADIENT, np.ones(AROUND, np.uint8))
    mask = cv2.bitwise_and(equal, cv2.inRange(crowd, round(255 * SHARE_EQUAL), 255))
    mask = cv2.bitwise_and(mask, cv2.inRange(spread, STRUCTURE * scale, top))
    return cast("Mask", mask) if cv2.countNonZero(mask) else None


def put_back(made: Plane, before: Plane, after: Plane, mask: Mask) -> None:
    """Put the mean of both pictures into *made* where the mask says so."""
    if mask.shape != made.shape:
        size = (made.shape[1], made.shape[0])
        mask = cast("Mask", cv2.resize(mask, size, interpolation=cv2.INTER_AREA))
        mask = cast("Mask", cv2.inRange(mask, 255, 255))
    cv2.copyTo(cv2.addWeighted(before, 0.5, after, 0.5, 0), mask, made)
