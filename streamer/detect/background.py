"""The slow background of a fixed view: what the network compares each picture with.

The same view a while ago holds all that is always there: masts, glare, a hazy ridge. It must be
old enough that a growing plume is not in it yet, so pictures wait before they become part of it.
"""

from collections import deque
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from .view import SceneTracker

Rgb = NDArray[np.uint8]

_NS: Final = 1_000_000_000


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
        self._number = 0
        self.view = SceneTracker()
        """What the camera shows; a background is of one view only."""

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

    @property
    def known(self) -> Rgb | None:
        """What `at` gives for the next picture, unless that one changes it."""
        return self._median

    def _forget_if_moved(self, pts_ns: int, image: Rgb) -> None:
        number = self.view.at(pts_ns, image)
        if number != self._number:
            self._number = number
            self._waiting.clear()
            self._kept.clear()
            self._median = None


def _median(pictures: list[Rgb]) -> Rgb:
    if len(pictures) == 1:
        return pictures[0]
    stack = pictures if len(pictures) % 2 else pictures[1:]
    return cast("Rgb", np.median(np.stack(stack), axis=0).astype(np.uint8))
