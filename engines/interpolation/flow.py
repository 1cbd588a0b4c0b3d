"""Dense motion between two pictures, and where it puts the pixels of a time between.

All of it on reduced pictures; motion is kept at half their size, wherever it was searched.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

from engines.interpolation.warp_fields import WarpFields, box, grid, inside, places_of, with_margin

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.interpolation.warp_fields import Affine, Field, Picture

REFINEMENTS = 0
"""Variational iterations at each scale: none is as good here, and a third faster than one."""
EVERY_PX, FINE_EVERY_PX = 4, 5
"""Pixels from patch to patch. A fine search with 4 is 0.004 dB better in 1.4 times the time."""
LOOK_BACKS = 2
"""How often a pixel of the time between asks where it came from."""
PAIRS = ((0, 1), (2, 3), (0, 2), (1, 3), (0, 3), (1, 2))
"""Guesses that are compared for the network; agreement is what it goes by."""
FELT = 68.0
"""Bytes of a difference that is felt as 1; the largest is 253."""
ALIKE, BETTER_BY = (7, 7), 2
"""Pixels around one over which pictures are compared; bytes by which another motion is better."""
AGREE_PX = 0.5
"""Forward and backward motion that are no farther apart agree."""
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
        search.setVariationalRefinementIterations(REFINEMENTS)
        _local.search = search
    return cast("cv2.DISOpticalFlow", _local.search)


def flow(before: Picture, after: Picture, every: int = EVERY_PX) -> Field:
    """Motion of every pixel of *before*: (h, w) luma twice in, (h, w, 2) pixels (x, y) out.

    Dense inverse search (Kroeger et al., ECCV 2016, arXiv 1603.03590), in OpenCV.
    """
    search = _searcher()
    search.setPatchStride(every)
    return cast("Field", search.calc(before, after, None))  # type: ignore[call-overload]


def halved(array: NDArray[Any]) -> NDArray[Any]:
    """An array (h, w, ...) at half the size."""
    size = (array.shape[1] // 2, array.shape[0] // 2)
    return cast("NDArray[Any]", cv2.resize(array, size, interpolation=cv2.INTER_AREA))


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
    """What is known of a time between; fields are of half the size of the reduced pictures."""

    motion: Field
    """(h, w, 2): from before to after, as the pixels of the time between see it."""
    background: Affine | None
    """The same of the background, for the reduced pictures, in their pixels; None: it stays."""
    fields: Field
    """(2, h, w, 2): motion less the background's, forward less backward motion."""

    def ways(self, t: float, lean: tuple[float, float] = (0.0, 0.0)) -> WarpFields:
        """Where the pixels of the time are looked up.

        Args:
            t: The time.
            lean: How far the camera is from where even motion would have brought it, in pixels of
                the reduced pictures, see `lean.py`.
        """
        motion, behind = with_margin(doubled(self.motion)), self.background
        ways = motion * np.float32(-t), motion * np.float32(1 - t)
        if any(lean):
            ways = ways[0] - np.array(lean, np.float32), ways[1] - np.array(lean, np.float32)
        if behind is None:
            return WarpFields(ways, None)
        leaning = np.array([[0, 0, lean[0]], [0, 0, lean[1]]])
        return WarpFields(ways, (behind * -t - leaning, behind * (1 - t) - leaning))


class Search:
    """The motion between two reduced pictures, searched both ways. Serves every time between.

    Args:
        before: (h, w, 3).
        after: The same.
        fine: Search in pictures of that size, not of half: three times the work.
    """

    def __init__(self, before: Picture, after: Picture, *, fine: bool = False) -> None:
        lumas = [cast("Picture", cv2.extractChannel(each, 0)) for each in (before, after)]
        self._pair = [cast("Picture", halved(luma)) for luma in lumas]
        one, other = lumas if fine else self._pair
        every = FINE_EVERY_PX if fine else EVERY_PX
        ways = flow(one, other, every), flow(other, one, every)
        if fine:
            ways = halved(ways[0]) * np.float32(0.5), halved(ways[1]) * np.float32(0.5)
        self._forward, self._backward = ways
        self._places = grid(*self._pair[0].shape)
        self.motion: Field = 0.5 * (self._forward - self._backward)
        """(h/2, w/2, 2): the mean of both, each as its own picture sees it."""
        self._background, self._background_field = background(self.motion)

    def at(self, t: float) -> Found:
        """What is known of a time between."""
        forward = self._carried(self._forward, t)
        backward = -self._carried(self._backward, 1 - t)
        motion = self._best(0.5 * (forward + backward), forward, backward, t)
        against = motion if self._background is None else motion - self._background_field
        return Found(motion, self._background, np.stack([against, forward - backward]))

    def _best(self, mean: Field, forward: Field, backward: Field, t: float) -> Field:
        """The mean of both motions, or in the box around where they disagree the one that fits.

        Behind a thing that moves, forward and backward motion are those of different things, and
        their mean is nobody's. The one is taken along which both pictures are more alike.
        """
        near = cv2.inRange(cv2.absdiff(forward, backward), (0, 0), (AGREE_PX, AGREE_PX))
        far = box(cast("Picture", cv2.bitwise_not(near)))
        if far is None:
            return mean
        best, at = mean[far], self._places[far]
        least = self._apart(best, at, t)
        least -= np.minimum(least, BETTER_BY)
        for motion in (forward[far], backward[far]):
            off = self._apart(motion, at, t)
            best = cast(
                "Field", cv2.copyTo(motion, cv2.compare(off, least, cv2.CMP_LT), best.copy())
            )
            least = np.minimum(least, off)
        mean[far] = cv2.medianBlur(best, 3)
        return mean

    def _apart(self, motion: Field, places: Field, t: float) -> Picture:
        """How far the pictures are from each other along a motion, around each pixel."""
        sides = ((self._pair[0], -t), (self._pair[1], 1 - t))
        first, second = (
            looked_up(luma, cast("Field", cv2.scaleAdd(motion, share, places)))
            for luma, share in sides
        )
        return cast("Picture", cv2.blur(cv2.absdiff(first, second), ALIKE))

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


def background(motion: Field) -> tuple[Affine | None, Field]:
    """The motion of what lies behind: the affine one that most of the picture follows.

    Fitted with weights that fall with the distance from the last fit, so that things that move
    otherwise count less and less.

    Returns:
        (2, 3), for a pixel (x, y, 1) of a picture twice as large, in its pixels; None: it stays.
        And the same as a field, in pixels of *motion*.
    """
    height, width = motion.shape[:2]
    samples = motion[FIT_EVERY // 2 :: FIT_EVERY, FIT_EVERY // 2 :: FIT_EVERY]
    moved = samples.reshape(-1, 2).astype(np.float64)
    points, products = _points(height, width)
    middle = len(moved) // 2
    fit = np.zeros((3, 2))
    fit[0] = np.partition(moved, middle, axis=0)[middle]
    for turn in range(FITS):
        off = moved - points @ fit
        off = np.einsum("ij,ij->i", off, off)
        scale = max(float(np.partition(off, middle)[middle]), 0.04)
        scale *= 4.0 if turn < FITS - 1 else 1.0
        weight = (scale / (scale + off)) ** 2
        known = (weight @ products).reshape(3, 3) + 1e-3 * np.eye(3)
        # NumPy's solve and median take longer to enter than to compute with so few numbers.
        fit = cv2.solve(known, points.T @ (weight[:, None] * moved), flags=cv2.DECOMP_CHOLESKY)[1]
    # From -1 to 1 across the picture to its pixels.
    steps = fit[1:] / [[(width - 1) / 2], [(height - 1) / 2]]
    start = fit[0] - fit[1] - fit[2]
    field = cast("Field", cv2.transform(grid(height, width), np.column_stack([steps.T, start])))
    if np.abs(fit).sum(0).max() < STAYS_PX:
        return None, field
    return np.column_stack([steps.T, 2 * start - 0.5 * steps.sum(0)]), field


@functools.lru_cache(maxsize=16)
def _points(height: int, width: int) -> tuple[Affine, Affine]:
    """Samples of a field: (n, 3), 1, x and y, from -1 to 1; (n, 9), each times each. Read only."""
    lines = (np.linspace(-1, 1, side)[FIT_EVERY // 2 :: FIT_EVERY] for side in (width, height))
    x, y = np.meshgrid(*lines)
    points = np.stack([np.ones(x.size), x.ravel(), y.ravel()], 1)
    products = (points[:, :, None] * points[:, None]).reshape(-1, 9)
    for array in (points, products):
        array.flags.writeable = False
    return points, products


def guesses(
    before: Picture, after: Picture, ways: WarpFields, size: tuple[float, float]
) -> tuple[Picture, Picture]:
    """Both reduced pictures along the motion, then as the background moves.

    Args:
        before: (h, w, 3), the reduced picture.
        after: The same.
        ways: Where to look up.
        size: (rows, columns) of it that are picture; beyond, its edge goes on.

    Returns:
        (4, h, w, 3), the guesses; (4, h, w), 255 where each was looked up within the picture.
    """
    places = places_of(ways, before.shape[:2])
    pictures = (before, after) * 2
    made = [
        picture if at is None else looked_up(picture, at)
        for picture, at in zip(pictures, places, strict=True)
    ]
    return np.stack(made), inside(places, before.shape[:2], size)


def seen(guesses: Picture) -> tuple[Picture, Picture]:
    """What the network is shown of four guesses: (9, h, w) and (6, h/2, w/2).

    How far those of each of `PAIRS` are apart, as it is felt; how much brighter the first is than
    the second, and the third than the fourth, twice, 128 being as bright; the luma of the first.
    And how far the pairs are apart once more, blurred first, at half the size: one pixel alone
    agrees by chance.
    """
    planes = [cv2.split(guess) for guess in guesses]
    height, width = guesses.shape[1:3]
    felt = np.empty((len(PAIRS) + 3, height, width), np.uint8)
    around = np.empty((len(PAIRS), height // 2, width // 2), np.uint8)
    for number, (i, j) in enumerate(PAIRS):
        luma, u, v = (cv2.absdiff(a, b) for a, b in zip(planes[i], planes[j], strict=True))
        apart = cv2.add(cv2.add(luma, u), v)
        half = cv2.resize(apart, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        cv2.LUT(apart, _FEELING, felt[number])
        cv2.LUT(cv2.blur(half, (3, 3)), _FEELING, around[number])
    lumas = [each[0] for each in planes]
    cv2.addWeighted(lumas[0], 2, lumas[1], -2, 128, felt[-3])
    cv2.addWeighted(lumas[2], 2, lumas[3], -2, 128, felt[-2])
    felt[-1] = lumas[0]
    return felt, around


_FEELING = np.rint(FELT * np.log(1 + 20 / 128 * np.arange(256))).astype(np.uint8)
"""Differences as they are felt: twice as far is one step more, noise is nothing."""
