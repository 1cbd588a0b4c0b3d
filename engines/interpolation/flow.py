"""Optical flow between two reduced frames, and its projection to intermediate times.

Flow is stored at half the size of the reduced frames, whatever the size it was searched at.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

from engines.interpolation.warp_fields import (
    WarpFields,
    box,
    grid,
    inside,
    sample_positions,
    with_margin,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.interpolation.warp_fields import Affine, Field, Reduced

REFINEMENTS = 0
"""Variational iterations per scale: none is as accurate here as one, and a third faster."""
EVERY_PX, FINE_EVERY_PX = 4, 5
"""Distance of patches. A fine search with 4 pixels is 0.004 dB better in 1.4 times the time."""
PROJECTION_ITERATIONS = 2
"""Fixed-point iterations that project flow to an intermediate time."""
PAIRS = ((0, 1), (2, 3), (0, 2), (1, 3), (0, 3), (1, 2))
"""Pairs of guesses whose differences the network gets: it relies on their agreement."""
LOG_UNIT = 68.0
"""Scale of the logarithmic differences; the largest is 253."""
MATCH_WINDOW, MIN_GAIN = (7, 7), 2
"""Window over which frames are compared; bytes by which another motion must match better."""
AGREE_PX = 0.5
"""Largest distance of forward and backward flow that agree."""
FIT_EVERY = 6
"""Step of the flow samples to which the background's motion is fitted."""
FITS = 4
STATIC_PX = 0.12
"""A background whose largest motion is below this is static."""
_local = threading.local()
"""`search` of each thread: DISOpticalFlow keeps buffers."""


def _searcher() -> cv2.DISOpticalFlow:
    if not hasattr(_local, "search"):
        search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        search.setFinestScale(0)
        search.setVariationalRefinementIterations(REFINEMENTS)
        _local.search = search
    return cast("cv2.DISOpticalFlow", _local.search)


def flow(before: Reduced, after: Reduced, every: int = EVERY_PX) -> Field:
    """Return the flow (h, w, 2), (x, y) in pixels, of every pixel of `before`, (h, w) luma.

    Dense inverse search (Kroeger et al., ECCV 2016, arXiv 1603.03590), in OpenCV.
    """
    search = _searcher()
    search.setPatchStride(every)
    return cast("Field", search.calc(before, after, None))  # type: ignore[call-overload]


def halved(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array (h, w, ...) at half the size."""
    size = (array.shape[1] // 2, array.shape[0] // 2)
    return cast("NDArray[Any]", cv2.resize(array, size, interpolation=cv2.INTER_AREA))


def doubled(motion: Field) -> Field:
    """Return a flow field (h, w, 2) at twice the size, in pixels of that size."""
    size = (motion.shape[1] * 2, motion.shape[0] * 2)
    return cast("Field", 2 * cv2.resize(motion, size, interpolation=cv2.INTER_LINEAR))


def sample(source: Reduced, at: Field) -> Reduced:
    """Sample a frame bilinearly at positions (h, w, 2); its edges are replicated."""
    return cast(
        "Reduced",
        cv2.remap(source, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),  # type: ignore[call-overload]
    )


@dataclass(frozen=True, slots=True, eq=False)
class IntermediateMotion:
    """Motion at an intermediate time; fields have half the size of the reduced frames."""

    motion: Field
    """(h, w, 2): flow from the earlier to the later frame, for pixels of the intermediate time."""
    background: Affine | None
    """The background's motion for the reduced frames, in their pixels; None: static."""
    fields: Field
    """(2, h, w, 2): flow minus background motion, forward minus backward flow."""

    def warp_fields(self, t: float, offset: tuple[float, float] = (0.0, 0.0)) -> WarpFields:
        """Return the warp fields of a time.

        Args:
            t: The intermediate time.
            offset: The camera's offset from uniform motion at that time, in pixels of the reduced
                frames; see `blur_acceleration.py`.
        """
        motion, behind = with_margin(doubled(self.motion)), self.background
        fields = motion * np.float32(-t), motion * np.float32(1 - t)
        if any(offset):
            shift = np.array(offset, np.float32)
            fields = fields[0] - shift, fields[1] - shift
        if behind is None:
            return WarpFields(fields, None)
        shift_map = np.array([[0, 0, offset[0]], [0, 0, offset[1]]])
        return WarpFields(fields, (behind * -t - shift_map, behind * (1 - t) - shift_map))


class MotionSearch:
    """Forward and backward flow between two reduced frames; serves every intermediate time.

    Args:
        before: (h, w, 3), the earlier frame.
        after: The later frame.
        fine: Search at full instead of half size, at three times the cost.
    """

    def __init__(self, before: Reduced, after: Reduced, *, fine: bool = False) -> None:
        lumas = [cast("Reduced", cv2.extractChannel(each, 0)) for each in (before, after)]
        self._pair = [cast("Reduced", halved(luma)) for luma in lumas]
        one, other = lumas if fine else self._pair
        every = FINE_EVERY_PX if fine else EVERY_PX
        flows = flow(one, other, every), flow(other, one, every)
        if fine:
            flows = halved(flows[0]) * np.float32(0.5), halved(flows[1]) * np.float32(0.5)
        self._forward, self._backward = flows
        self._positions = grid(*self._pair[0].shape)
        self.motion: Field = 0.5 * (self._forward - self._backward)
        """(h/2, w/2, 2): mean of forward and negated backward flow, not projected."""
        self._background, self._background_field = background(self.motion)

    def at(self, t: float) -> IntermediateMotion:
        """Return the motion at an intermediate time."""
        forward = self._project(self._forward, t)
        backward = -self._project(self._backward, 1 - t)
        motion = self._best(0.5 * (forward + backward), forward, backward, t)
        against = motion if self._background is None else motion - self._background_field
        return IntermediateMotion(motion, self._background, np.stack([against, forward - backward]))

    def _best(self, mean: Field, forward: Field, backward: Field, t: float) -> Field:
        """Return the mean flow; where both flows disagree, the one that matches the frames better.

        Behind a moving object, forward and backward flow belong to different objects, and their
        mean to neither.
        """
        near = cv2.inRange(cv2.absdiff(forward, backward), (0, 0), (AGREE_PX, AGREE_PX))
        far = box(cast("Reduced", cv2.bitwise_not(near)))
        if far is None:
            return mean
        best, at = mean[far], self._positions[far]
        least = self._mismatch(best, at, t)
        least -= np.minimum(least, MIN_GAIN)
        for motion in (forward[far], backward[far]):
            off = self._mismatch(motion, at, t)
            best = cast(
                "Field", cv2.copyTo(motion, cv2.compare(off, least, cv2.CMP_LT), best.copy())
            )
            least = np.minimum(least, off)
        mean[far] = cv2.medianBlur(best, 3)
        return mean

    def _mismatch(self, motion: Field, positions: Field, t: float) -> Reduced:
        """Return the mean difference of both frames along a flow, around each pixel."""
        sides = ((self._pair[0], -t), (self._pair[1], 1 - t))
        first, second = (
            sample(luma, cast("Field", cv2.scaleAdd(motion, weight, positions)))
            for luma, weight in sides
        )
        return cast("Reduced", cv2.blur(cv2.absdiff(first, second), MATCH_WINDOW))

    def _project(self, motion: Field, share: float) -> Field:
        """Return a frame's flow for the pixels of an intermediate time.

        The flow m of a pixel x there satisfies m = motion(x - share * m), which is solved by
        fixed-point iteration.
        """
        projected = motion
        for _ in range(PROJECTION_ITERATIONS):
            at = cv2.scaleAdd(projected, -share, self._positions)
            projected = cv2.remap(  # type: ignore[call-overload]
                motion, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
        return projected


def background(motion: Field) -> tuple[Affine | None, Field]:
    """Fit the background's motion: the affine motion that most of the frame follows.

    The fit is iteratively reweighted, so that independently moving objects count less and less.

    Returns:
        (2, 3) for a pixel (x, y, 1) of a frame twice as large, in its pixels; None if static. And
        the same as a field, in pixels of `motion`.
    """
    height, width = motion.shape[:2]
    samples = motion[FIT_EVERY // 2 :: FIT_EVERY, FIT_EVERY // 2 :: FIT_EVERY]
    flows = samples.reshape(-1, 2).astype(np.float64)
    points, products = _points(height, width)
    middle = len(flows) // 2
    fit = np.zeros((3, 2))
    fit[0] = np.partition(flows, middle, axis=0)[middle]
    for turn in range(FITS):
        off = flows - points @ fit
        off = np.einsum("ij,ij->i", off, off)
        scale = max(float(np.partition(off, middle)[middle]), 0.04)
        scale *= 4.0 if turn < FITS - 1 else 1.0
        weight = (scale / (scale + off)) ** 2
        normal = (weight @ products).reshape(3, 3) + 1e-3 * np.eye(3)
        # For so few numbers the call overhead of NumPy's solve and median exceeds the work.
        fit = cv2.solve(normal, points.T @ (weight[:, None] * flows), flags=cv2.DECOMP_CHOLESKY)[1]
    # From coordinates of -1 to 1 to pixels.
    steps = fit[1:] / [[(width - 1) / 2], [(height - 1) / 2]]
    start = fit[0] - fit[1] - fit[2]
    field = cast("Field", cv2.transform(grid(height, width), np.column_stack([steps.T, start])))
    if np.abs(fit).sum(0).max() < STATIC_PX:
        return None, field
    return np.column_stack([steps.T, 2 * start - 0.5 * steps.sum(0)]), field


@functools.lru_cache(maxsize=16)
def _points(height: int, width: int) -> tuple[Affine, Affine]:
    """Return samples (1, x, y), x and y of -1 to 1, and their products (n, 9); read-only."""
    lines = (np.linspace(-1, 1, side)[FIT_EVERY // 2 :: FIT_EVERY] for side in (width, height))
    x, y = np.meshgrid(*lines)
    points = np.stack([np.ones(x.size), x.ravel(), y.ravel()], 1)
    products = (points[:, :, None] * points[:, None]).reshape(-1, 9)
    for array in (points, products):
        array.flags.writeable = False
    return points, products


def warp_guesses(
    before: Reduced, after: Reduced, fields: WarpFields, size: tuple[float, float]
) -> tuple[Reduced, Reduced]:
    """Warp both reduced frames by the flow and by the background's motion.

    Args:
        before: (h, w, 3), the earlier reduced frame.
        after: The later one.
        fields: Warp fields.
        size: (rows, columns) of it that are image; the rest is padding.

    Returns:
        (4, h, w, 3), the guesses; (4, h, w), 255 where each was sampled inside the frame.
    """
    positions = sample_positions(fields, before.shape[:2])
    warped = [
        frame if at is None else sample(frame, at)
        for frame, at in zip((before, after) * 2, positions, strict=True)
    ]
    return np.stack(warped), inside(positions, before.shape[:2], size)


def difference_maps(guesses: Reduced) -> tuple[Reduced, Reduced]:
    """Return the difference maps of four guesses that the network gets.

    Returns:
        (9, h, w): logarithmic differences of `PAIRS`; signed luma differences of the first and of
        the last two guesses, doubled, around 128; luma of the first. And (6, h/2, w/2): the
        differences of `PAIRS` after blurring, because single pixels agree by accident.
    """
    planes = [cv2.split(guess) for guess in guesses]
    height, width = guesses.shape[1:3]
    maps = np.empty((len(PAIRS) + 3, height, width), np.uint8)
    blurred = np.empty((len(PAIRS), height // 2, width // 2), np.uint8)
    for number, (i, j) in enumerate(PAIRS):
        luma, u, v = (cv2.absdiff(a, b) for a, b in zip(planes[i], planes[j], strict=True))
        difference = cv2.add(cv2.add(luma, u), v)
        half = cv2.resize(difference, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        cv2.LUT(difference, _LOG, maps[number])
        cv2.LUT(cv2.blur(half, (3, 3)), _LOG, blurred[number])
    lumas = [each[0] for each in planes]
    cv2.addWeighted(lumas[0], 2, lumas[1], -2, 128, maps[-3])
    cv2.addWeighted(lumas[2], 2, lumas[3], -2, 128, maps[-2])
    maps[-1] = lumas[0]
    return maps, blurred


_LOG = np.rint(LOG_UNIT * np.log(1 + 20 / 128 * np.arange(256))).astype(np.uint8)
"""Logarithmic scale of differences; noise maps to almost 0."""
