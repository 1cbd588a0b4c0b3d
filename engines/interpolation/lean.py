"""Does the camera gather speed between two pictures, or lose it? Their blur tells.

A picture taken in fast motion is smeared along it, one taken in slow motion is not. Where the
picture after is the more smeared, the camera gathers speed, and half-way in time it is less than
half-way along. Only blur along the motion counts, against that across it, over the whole picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from engines.interpolation.flow import doubled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]
    Field = NDArray[np.float32]

SLOWEST_PX, SURE_PX = 0.6, 2.6
"""Median motion, in reduced pixels, below which blur says nothing, and from which all it says."""
DEAD = 0.2
"""Difference of sharpness, as a logarithm, that says nothing."""
GAIN, MOST = 0.6, 0.25
"""Share of the motion for each unit of that difference, and at most. Looked for on the training
clips and on those held out: 0.4 to 0.8 do no harm, and help where a hand shakes the
camera."""


def leaning(before: Picture, after: Picture, motion: Field) -> float:
    """How much farther than half-way the picture half-way in time is, in shares of the motion.

    Args:
        before: (h, w, 3), reduced.
        after: The same.
        motion: (h/2, w/2, 2), from before to after.
    """
    speed = float(np.median(np.hypot(motion[..., 0], motion[..., 1]))) * 2
    if speed <= SLOWEST_PX:
        return 0.0
    way = doubled(motion)
    length = cv2.magnitude(way[..., 0], way[..., 1]) + 0.3
    x, y = way[..., 0] / length, way[..., 1] / length
    sharp = [_sharpness(picture[..., 0], x, y) for picture in (before, after)]
    if min(sharp) <= 0:
        return 0.0
    apart = float(np.log(sharp[0] / sharp[1]))
    told = np.sign(apart) * max(0.0, abs(apart) - DEAD)
    sure = min(1.0, (speed - SLOWEST_PX) / (SURE_PX - SLOWEST_PX))
    return float(np.clip(-GAIN * told, -MOST, MOST) * sure)


def _sharpness(luma: Picture, x: Field, y: Field) -> float:
    """Slopes along the motion against those across it, root mean squares."""
    across, down = (
        cv2.Sobel(np.ascontiguousarray(luma), cv2.CV_32F, *way) for way in ((1, 0), (0, 1))
    )
    along = float(np.square(across * x + down * y).mean())
    aside = float(np.square(down * x - across * y).mean())
    return float(np.sqrt(along / aside)) if aside > 0 else 0.0
