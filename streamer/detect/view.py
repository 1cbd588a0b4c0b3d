"""Recognises a camera's view by where it has edges, whatever the light."""

import math
from typing import Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
Signature = NDArray[np.float32]
"""(24, 40): where a view has edges, as a vector of length one; shorter when they are faint."""

SIGNATURE_SIZE: Final = (24, 40)
"""(height, width) at which views are compared: details and noise are averaged away."""

_NS: Final = 1_000_000_000
_MOVED: Final = 0.8
"""Squared distance of the edges of two views, as vectors of length one, above which the camera has
moved: a correlation of about 0.5. Same view under other light stays above 0.8, another view comes
below 0.4."""

_FAINT: Final = 6.0
"""Strength of edges below which a view has none to be known by: fog, a dark night. Noise of three
levels has 4, a landscape 35 to 95."""

_FOLLOW_S: Final = 50.0
"""Time constant with which the remembered view follows the light, so that noon and dusk are one."""


class SceneTracker:
    """The view of one camera, followed through the light of the day."""

    def __init__(self) -> None:
        self.number = 0
        """Counts up whenever the camera has moved."""

        self.signature: Signature | None = None
        """What the view is known by; `None` before the first picture. Replaced, never written."""

        self._seen_ns = 0

    def at(self, pts_ns: int, image: Rgb) -> int:
        """The number of the view that *image* shows.

        Args:
            pts_ns: Media time; never falls.
            image: (h, w, 3) RGB.
        """
        seen = _edges(image)
        if self.signature is None:
            self.signature = seen
        elif not same(seen, self.signature):
            self.number += 1
            self.signature = seen
        else:
            share = np.float32(1 - math.exp((self._seen_ns - pts_ns) / (_FOLLOW_S * _NS)))
            self.signature = self.signature + share * (seen - self.signature)
        self._seen_ns = pts_ns
        return self.number


def same(one: Signature, other: Signature) -> bool:
    """Whether two signatures are of one view."""
    return float(np.square(one - other).sum()) <= _MOVED


def _edges(image: Rgb) -> Signature:
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(half, cv2.COLOR_RGB2GRAY)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    # The root: one bright edge is not the view.
    strength = cv2.sqrt(cv2.magnitude(across, down))
    tiny = cv2.resize(strength, SIGNATURE_SIZE[::-1], interpolation=cv2.INTER_AREA)
    tiny -= tiny.mean()
    return cast("Signature", tiny / np.float32(np.linalg.norm(tiny) + _FAINT))
