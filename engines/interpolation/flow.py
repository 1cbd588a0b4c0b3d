"""Dense motion between two reduced pictures, and where it puts the pixels of a time between."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]
    Field = NDArray[np.float32]

FINEST_SCALE = 1
"""Of the search's pyramid: half the reduced picture, the rest is interpolated."""
REFINEMENTS = 2
"""Variational iterations at each scale."""
LOOK_BACKS = 2
"""How often a pixel of the time between asks where it came from."""
_local = threading.local()
"""`search` of each thread: a search keeps its buffers."""


def _searcher() -> cv2.DISOpticalFlow:
    if not hasattr(_local, "search"):
        search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        search.setFinestScale(FINEST_SCALE)
        search.setVariationalRefinementIterations(REFINEMENTS)
        _local.search = search
    return _local.search


def flow(before: Picture, after: Picture) -> Field:
    """Motion of every pixel of *before*: (h, w) luma twice in, (h, w, 2) pixels (x, y) out.

    Dense inverse search (Kroeger et al., ECCV 2016, arXiv 1603.03590), in OpenCV.
    """
    return np.asarray(_searcher().calc(before, after, None), np.float32)


def grid(height: int, width: int) -> Field:
    """(h, w, 2): the place (x, y) of every pixel."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.dstack([x, y])


def carried(motion: Field, places: Field, share: float) -> Field:
    """A frame's motion as the pixels of a time between see it.

    A pixel there was reached by the motion m of the place it came from: m(x - share * m). Solved
    by asking again `LOOK_BACKS` times.

    Args:
        motion: (h, w, 2) of the frame.
        places: `grid` of that size.
        share: How much of the motion lies between the frame and the time.
    """
    found = motion
    for _ in range(LOOK_BACKS):
        at = cv2.scaleAdd(found, -share, places)
        found = cv2.remap(motion, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found


def warped(picture: NDArray[np.uint8], moved: Field, share: float, places: Field) -> Picture:
    """A picture looked up at each place plus share times the motion."""
    at = cv2.scaleAdd(moved, share, places)
    return cv2.remap(  # type: ignore[no-any-return]
        picture, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
