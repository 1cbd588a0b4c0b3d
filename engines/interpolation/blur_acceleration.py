"""Does the camera gather speed between two pictures, lose it, or turn? Their blur tells.

A picture taken in fast motion is smeared along it; one taken in slow motion is not. If the picture
after is the more smeared, the camera gathers speed, and half-way in time it is less than half-way
along. If it is smeared in another direction, the camera turns, and half-way in time it is beside
the straight line. Both are read from the whole picture: how much steeper the slopes of one picture
are than those of the other, in each direction (the logarithms of their structure tensors).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]
    Field = NDArray[np.float32]

SLOWEST_PX, SURE_PX = 0.7, 2.5
"""Median motion, in reduced pixels, below which blur says nothing, and from which all it says."""
DEAD_ALONG, DEAD_ACROSS = 0.05, 0.03
"""Differences of logarithms that say nothing."""
GAIN_ALONG, GAIN_ACROSS = 0.25, 0.45
"""Shares of the motion for each unit of those. Seen on shaken clips; where nothing shakes, blur
differs by less than the dead zone, and nothing is done."""
MOST = 0.25
"""Share of the motion by which the camera is elsewhere, at most."""


def leaning(before: Picture, after: Picture, motion: Field) -> tuple[float, float]:
    """How far from half-way the picture half-way in time is: (x, y) in reduced pixels.

    Args:
        before: (h, w, 3), reduced.
        after: The same.
        motion: (h/2, w/2, 2), from before to after.
    """
    way = 2 * np.median(motion[::2, ::2].reshape(-1, 2), axis=0)
    speed = float(np.hypot(*way))
    if speed <= SLOWEST_PX:
        return 0.0, 0.0
    along = way / speed
    across = np.array([-along[1], along[0]])
    tensors = [_log_tensor(picture[..., 0]) for picture in (before, after)]
    apart = tensors[0] - tensors[1]
    slower = float(along @ apart @ along - across @ apart @ across)
    turned = float(along @ apart @ across)
    sure = min(1.0, (speed - SLOWEST_PX) / (SURE_PX - SLOWEST_PX))
    ahead = -GAIN_ALONG * _beyond(slower, DEAD_ALONG)
    aside = -GAIN_ACROSS * _beyond(turned, DEAD_ACROSS)
    lean = (np.clip(ahead, -MOST, MOST) * along + np.clip(aside, -MOST, MOST) * across) * speed
    return float(lean[0] * sure), float(lean[1] * sure)


def _beyond(value: float, dead: float) -> float:
    return float(np.sign(value)) * max(0.0, abs(value) - dead)


def _log_tensor(luma: Picture) -> NDArray[np.float64]:
    """(2, 2): logarithm of the mean of slope times slope."""
    plane = np.ascontiguousarray(luma)
    x, y = (cv2.Sobel(plane, cv2.CV_32F, *way).ravel() for way in ((1, 0), (0, 1)))
    mixed = float(x @ y)
    tensor = np.array([[float(x @ x), mixed], [mixed, float(y @ y)]]) / x.size + 1e-3 * np.eye(2)
    values, vectors = np.linalg.eigh(tensor)
    return np.asarray((vectors * np.log(values)) @ vectors.T)
