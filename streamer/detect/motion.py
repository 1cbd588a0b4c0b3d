"""What moved since a second ago: smoke billows, a hazy ridge does not.

The measure is relative: 1 is what the picture as a whole changed by, through noise, wind in the
trees or a shaking mast. A patch of smoke changes by several times that; a bright cloud bank, a roof
or dirt on the glass by less.
"""

from collections import deque
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

_NS: Final = 1_000_000_000
_AGO_NS: Final = _NS
"""Pictures are compared with one this old, so that the rate of the looks does not matter."""

_STALE_NS: Final = 15 * _NS
"""Beyond this the light has changed, and a comparison says nothing."""

_QUIET: Final = 0.3
"""Levels added to what the picture changed by: in a noiseless one everything would be motion."""


class FrameDifference:
    """Compares the looks of one camera."""

    def __init__(self) -> None:
        self._past: deque[tuple[int, NDArray[np.uint8]]] = deque()

    def at(
        self, pts_ns: int, image: NDArray[np.uint8], size: tuple[int, int]
    ) -> NDArray[np.float32] | None:
        """Change since about a second ago, (height, width) of *size*; `None` at the beginning.

        Args:
            pts_ns: Media time; never falls.
            image: (h, w, 3) RGB.
            size: (height, width) wanted.
        """
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, size[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8)
        while len(self._past) > 1 and pts_ns - self._past[1][0] >= _AGO_NS:
            self._past.popleft()
        before_ns, before = self._past[0] if self._past else (pts_ns, small)
        self._past.append((pts_ns, small))
        age_ns = pts_ns - before_ns
        if not _AGO_NS // 2 <= age_ns <= _STALE_NS or before.shape != small.shape:
            return None
        change = cv2.blur(cv2.absdiff(small, before).astype(np.float32), (3, 3))
        usual = float(np.median(change[::4, ::4]))
        return (change / np.float32(usual + _QUIET)).astype(np.float32)
