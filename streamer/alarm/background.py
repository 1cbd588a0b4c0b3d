"""The slow background of a fixed view: what the network compares each picture with.

The same view a while ago holds all that is always there: masts, glare, a hazy ridge. It must be
old enough that a growing plume is not in it yet, so pictures wait before they become part of it.
"""

import math
from collections import deque
from typing import Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]

_NS: Final = 1_000_000_000
_TINY: Final = (24, 40)
"""(height, width) at which views are compared: details and noise are averaged away."""

_MOVED: Final = 0.8
"""Squared distance of the edges of two views, as vectors of length one, above which the camera has
moved: a correlation of about 0.5. Same view under other light stays above 0.8, another view comes
below 0.4."""

_FAINT: Final = 6.0
"""Strength of edges below which a view has none to be known by: fog, a dark night. Noise of three
levels has 4, a landscape 35 to 95."""

_FOLLOW_S: Final = 50.0
"""Time constant with which the remembered view follows the light, so that noon and dusk are one."""


class Background:
    """A median of a few pictures, each at least *min_age_s* old when it counts.

    Memory: `slots + waiting` pictures at the network's size, 0.7 MB each at 640x384.

    Args:
        min_age_s: Youngest age of a picture in the background.
        step_s: From one kept picture to the next.
        slots: Pictures in the median; odd.
    """

    def __init__(self, *, min_age_s: float = 90, step_s: float = 45, slots: int = 3) -> None:
        if slots < 1 or slots % 2 == 0:
            raise ValueError(f"slots must be odd, got {slots}")
        self._min_age_ns = round(min_age_s * _NS)
        self._step_ns = round(step_s * _NS)
        self._waiting: deque[tuple[int, Rgb]] = deque()
        self._kept: deque[Rgb] = deque(maxlen=slots)
        self._median: Rgb | None = None
        self._view: NDArray[np.float32] | None = None
        self._viewed_ns = 0
        self.hold = False
        """While set, nothing new becomes background: smoke is suspected in it."""

    def at(self, pts_ns: int, image: Rgb) -> Rgb | None:
        """The background for *image*, (h, w, 3); `None` while there is none. Learns from it.

        Args:
            pts_ns: Media time; never falls.
            image: (h, w, 3) RGB at the network's size.
        """
        self._forget_if_moved(pts_ns, image)
        if self.hold:
            self._waiting.clear()
        elif not self._waiting or pts_ns - self._waiting[-1][0] >= self._step_ns:
            self._waiting.append((pts_ns, image))
        while self._waiting and pts_ns - self._waiting[0][0] >= self._min_age_ns:
            self._kept.append(self._waiting.popleft()[1])
            self._median = _median(list(self._kept))
        return self._median

    def _forget_if_moved(self, pts_ns: int, image: Rgb) -> None:
        view = _edges(image)
        if self._view is None:
            self._view = view
        elif float(np.square(view - self._view).sum()) > _MOVED:
            self._waiting.clear()
            self._kept.clear()
            self._median = None
            self._view = view
        else:
            share = 1 - math.exp((self._viewed_ns - pts_ns) / (_FOLLOW_S * _NS))
            self._view += np.float32(share) * (view - self._view)
        self._viewed_ns = pts_ns


def _median(pictures: list[Rgb]) -> Rgb:
    if len(pictures) == 1:
        return pictures[0]
    stack = pictures if len(pictures) % 2 else pictures[1:]
    return cast("Rgb", np.median(np.stack(stack), axis=0).astype(np.uint8))


def _edges(image: Rgb) -> NDArray[np.float32]:
    """Where the view has edges: a vector of length one, shorter when they are faint."""
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(half, cv2.COLOR_RGB2GRAY)
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    # The root: one bright edge is not the view.
    strength = cv2.sqrt(cv2.magnitude(across, down))
    tiny = cv2.resize(strength, _TINY[::-1], interpolation=cv2.INTER_AREA)
    tiny -= tiny.mean()
    return cast("NDArray[np.float32]", tiny / np.float32(np.linalg.norm(tiny) + _FAINT))
