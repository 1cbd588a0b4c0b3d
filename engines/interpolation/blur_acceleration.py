"""Estimates a camera's acceleration between two frames from their motion blur.

A frame taken in fast motion is blurred along the motion. If the later frame is blurred more, the
camera accelerates, and at half time it is less than half-way along. If it is blurred in another
direction, the camera turns, and at half time it is beside the straight line. Both follow from the
whole frame: from the difference of the logarithms of the two structure tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Reduced = NDArray[np.uint8]
    Field = NDArray[np.float32]

SLOWEST_PX, SURE_PX = 0.7, 2.5
"""Median motion, in reduced pixels, below which blur is ignored and above which it fully counts."""
DEAD_ALONG, DEAD_ACROSS = 0.05, 0.03
"""Differences of logarithms that are ignored."""
GAIN_ALONG, GAIN_ACROSS = 0.25, 0.45
"""Offset as a fraction of the motion per unit of those differences, set on shaken clips. Without
shaking, blur differs by less than the dead zone, and there is no offset."""
MAX_OFFSET = 0.25
"""Largest offset as a fraction of the motion."""


def acceleration_offset(before: Reduced, after: Reduced, motion: Field) -> tuple[float, float]:
    """Return the camera's offset from half-way at half time: (x, y) in reduced pixels.

    Args:
        before: (h, w, 3), reduced.
        after: The same.
        motion: (h/2, w/2, 2), from before to after.
    """
    displacement = 2 * np.median(motion[::2, ::2].reshape(-1, 2), axis=0)
    speed = float(np.hypot(*displacement))
    if speed <= SLOWEST_PX:
        return 0.0, 0.0
    along = displacement / speed
    across = np.array([-along[1], along[0]])
    tensors = [_log_tensor(frame[..., 0]) for frame in (before, after)]
    apart = tensors[0] - tensors[1]
    slower = float(along @ apart @ along - across @ apart @ across)
    turned = float(along @ apart @ across)
    sure = min(1.0, (speed - SLOWEST_PX) / (SURE_PX - SLOWEST_PX))
    ahead = -GAIN_ALONG * _beyond(slower, DEAD_ALONG)
    aside = -GAIN_ACROSS * _beyond(turned, DEAD_ACROSS)
    ahead, aside = (float(np.clip(value, -MAX_OFFSET, MAX_OFFSET)) for value in (ahead, aside))
    offset = (ahead * along + aside * across) * speed
    return float(offset[0] * sure), float(offset[1] * sure)


def _beyond(value: float, dead: float) -> float:
    return float(np.sign(value)) * max(0.0, abs(value) - dead)


def _log_tensor(luma: Reduced) -> NDArray[np.float64]:
    """Return the matrix logarithm (2, 2) of the structure tensor."""
    plane = np.ascontiguousarray(luma)
    x, y = (cv2.Sobel(plane, cv2.CV_32F, *order).ravel() for order in ((1, 0), (0, 1)))
    mixed = float(x @ y)
    tensor = np.array([[float(x @ x), mixed], [mixed, float(y @ y)]]) / x.size + 1e-3 * np.eye(2)
    values, vectors = np.linalg.eigh(tensor)
    return np.asarray((vectors * np.log(values)) @ vectors.T)
