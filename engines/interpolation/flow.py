"""Dense motion between two pictures, and where it puts the pixels of a time between.

All of it on reduced pictures; the motion is searched at half their size.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from engines.interpolation.ways import Ways, with_margin, without_margin

if TYPE_CHECKING:
    from engines.interpolation.ways import Field, Pair, Picture

DESCENTS = 8
"""Gradient descents of a patch. The preset has 16, which is no better and 10 % slower."""
REFINEMENTS = 0
"""Variational iterations at each scale: none is as good here, and a third faster than one."""
LOOK_BACKS = 2
"""How often a pixel of the time between asks where it came from."""
PAIRS = ((0, 1), (2, 3), (0, 2), (1, 3), (0, 3), (1, 2))
"""Guesses that are compared for the network; agreement is what it goes by."""
FELT = 68.0
"""Bytes of a difference that is felt as 1; the largest is 253."""
FIT_EVERY = 6
"""Every so many pixels of the motion the background's is fitted to."""
FITS = 4
STAYS_PX = 0.12
"""A background that moves less than this nowhere stays where it is."""
_local = threading.local()
"""`search` of each thread: a search keeps its buffers."""


def _searcher() -> cv2.DISOpticalFlow:
    if not hasattr(_local, "search"):
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        search.setFinestScale(0)
        search.setGradientDescentIterations(DESCENTS)
        search.setVariationalRefinementIterations(REFINEMENTS)
        _local.search = search
    return cast("cv2.DISOpticalFlow", _local.search)


def flow(before: Picture, after: Picture) -> Field:
    """Motion of every pixel of *before*: (h, w) luma twice in, (h, w, 2) pixels (x, y) out.

    Dense inverse search (Kroeger et al., ECCV 2016, arXiv 1603.03590), in OpenCV.
    """
    return cast("Field", _searcher().calc(before, after, None))  # type: ignore[call-overload]


@functools.lru_cache(maxsize=16)
def grid(height: int, width: int) -> Field:
    """(h, w, 2): the place (x, y) of every pixel. Read only."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    places = np.dstack([x, y])
    places.flags.writeable = False
    return places


def halved(picture: Picture) -> Picture:
    """(h, w, 3) at half the size."""
    height, width = picture.shape[:2]
    size = (width // 2, height // 2)
    return cast("Picture", cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def doubled(motion: Field) -> Field:
    """A field (h, w, 2) of pixels at twice the size, in pixels of that size."""
    size = (motion.shape[1] * 2, motion.shape[0] * 2)
    return cast("Field", 2 * cv2.resize(motion, size, interpolation=cv2.INTER_LINEAR))


def looked_up(source: Picture, at: Field) -> Picture:
    """A picture at places between its pixels; beyond its edge the edge goes on."""
    return cast(
        "Picture",
        cv2.remap(source, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),  # type: ignore[call-overload]
    )


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What is known of a time between, at half the size of the reduced pictures."""

    motion: Field
    """(h, w, 2): from before to after, as the pixels of the time between see it."""
    background: Field | None
    """The same of the background; None: it stays."""
    fields: Field
    """(2, h, w, 2): motion less the background's, forward less backward motion."""

    def ways(self, t: float, lean: tuple[float, float] = (0.0, 0.0)) -> Ways:
        """Where the pixels of the time are looked up.

        Args:
            t: The time.
            lean: How far the camera is from where even motion would have brought it, in pixels of
                the reduced pictures, see `lean.py`.
        """
        if self.background is None:
            return Ways(_pair(self.motion, t, lean), None)
        return Ways(_pair(self.motion, t, lean), _pair(self.background, t, lean))


def _pair(motion: Field, t: float, lean: tuple[float, float]) -> Pair:
    large = with_margin(doubled(motion))
    pair = large * np.float32(-t), large * np.float32(1 - t)
    if any(lean):
        pair = pair[0] - np.array(lean, np.float32), pair[1] - np.array(lean, np.float32)
    return pair


class Search:
    """The motion between two reduced pictures, searched both ways. Serves every time between."""

    def __init__(self, before: Picture, after: Picture) -> None:
        """Search, between (h, w, 3) pictures."""
        first, second = (np.ascontiguousarray(halved(p)[..., 0]) for p in (before, after))
        self._forward, self._backward = flow(first, second), flow(second, first)
        self._places = grid(*first.shape)
        self.motion: Field = 0.5 * (self._forward - self._backward)
        """(h, w, 2): the mean of both, each as its own picture sees it."""
        self._background = background(self.motion)

    def at(self, t: float) -> Found:
        """What is known of a time between."""
        forward = self._carried(self._forward, t)
        backward = -self._carried(self._backward, 1 - t)
        motion = 0.5 * (forward + backward)
        behind = self._background
        against = motion if behind is None else motion - behind
        return Found(motion, behind, np.stack([against, forward - backward]))

    def _carried(self, motion: Field, share: float) -> Field:
        """A frame's motion as the pixels of a time between see it.

        A pixel there was reached by the motion m of the place it came from: m(x - share * m).
        Solved by asking again.
        """
        found = motion
        for _ in range(LOOK_BACKS):
            at = cv2.scaleAdd(found, -share, self._places)
            found = cv2.remap(  # type: ignore[call-overload]
                motion, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
        return found


def background(motion: Field) -> Field | None:
    """The motion of what lies behind: the affine one that most of the picture follows.

    Fitted with weights that fall with the distance from the last fit, so that things that move
    otherwise count less and less. None: it stays where it is.
    """
    height, width = motion.shape[:2]
    samples = motion[FIT_EVERY // 2 :: FIT_EVERY, FIT_EVERY // 2 :: FIT_EVERY]
    rows, columns = samples.shape[:2]
    x, y = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows))
    points = np.stack([np.ones(x.size), x.ravel(), y.ravel()], 1)
    moved = samples.reshape(-1, 2).astype(np.float64)
    fit = np.zeros((3, 2))
    fit[0] = np.median(moved, 0)
    for turn in range(FITS):
        off = ((moved - points @ fit) ** 2).sum(1)
        scale = max(float(np.median(off)), 0.04) * (4.0 if turn < FITS - 1 else 1.0)
        weight = (scale / (scale + off)) ** 2
        weighted = points * weight[:, None]
        fit = np.linalg.solve(weighted.T @ points + 1e-3 * np.eye(3), weighted.T @ moved)
    if np.abs(fit).sum(0).max() < STAYS_PX:
        return None
    across = np.linspace(-1, 1, width, dtype=np.float32)
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    made = [fit[0, i] + fit[1, i] * across + fit[2, i] * down for i in range(2)]
    return np.dstack(made).astype(np.float32)


def guesses(before: Picture, after: Picture, ways: Ways) -> Picture:
    """(4, h, w, 3): both reduced pictures along the motion, then as the background moves."""
    places = grid(*before.shape[:2])
    made = []
    for pair in (ways.motion, ways.background):
        if pair is None:
            made += [before, after]
        else:
            made += [
                looked_up(picture, cast("Field", cv2.add(places, without_margin(way))))
                for picture, way in zip((before, after), pair, strict=True)
            ]
    return np.stack(made)


def seen(guesses: Picture) -> tuple[Picture, Picture]:
    """What the network is shown of four guesses: (10, h, w) and (6, h/2, w/2).

    How far those of each of `PAIRS` are apart, as it is felt, and the luma of each guess; and the
    former once more, blurred first, at half the size: one pixel alone agrees by chance.
    """
    planes = [cv2.split(guess) for guess in guesses]
    height, width = guesses.shape[1:3]
    felt = np.empty((len(PAIRS) + len(guesses), height, width), np.uint8)
    around = np.empty((len(PAIRS), height // 2, width // 2), np.uint8)
    for number, (i, j) in enumerate(PAIRS):
        luma, u, v = (cv2.absdiff(a, b) for a, b in zip(planes[i], planes[j], strict=True))
        apart = cv2.add(cv2.add(luma, u), v)
        half = cv2.resize(apart, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        cv2.LUT(apart, _FEELING, felt[number])
        cv2.LUT(cv2.blur(half, (3, 3)), _FEELING, around[number])
    felt[len(PAIRS) :] = [each[0] for each in planes]
    return felt, around


_FEELING = np.rint(FELT * np.log(1 + 20 / 128 * np.arange(256))).astype(np.uint8)
"""Differences as they are felt: twice as far is one step more, noise is nothing."""
