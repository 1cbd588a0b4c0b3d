"""Denoises dark frames before enhancement: over time where nothing moves, else over space.

First a recursive temporal filter, `average += (new - average) * weight`, whose weight is small
where a pixel is static and 1 where it moves. Motion is detected by sums over 5x5 pixels, in which
noise averages out. Then, where the temporal filter could not help, a guided filter (He et al.,
Guided Image Filtering, 2013): luma guides itself and chroma, whose noise forms large blotches.

The output has fractions of a byte, which a steep tone curve makes visible.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import cv2
import numpy as np

from engines.yuv import to_8_bits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.yuv import Yuv

    Plane = NDArray[np.uint8]
    Fine = NDArray[np.float32]

QUIETEST = 0.5
"""Least assumed noise: rounding to bytes makes 0.29, compression the rest."""
LONGEST = 12
"""Frames that are averaged where nothing moves: noise falls to about a fifth."""
STANDS, MOVES = 2.2, 4.0
"""Change of a 5x5 sum, in standard deviations of its noise, below which a pixel is static and above
which it moves."""
FLAT = 1.1
"""Structure of this many standard deviations, times the gain, is halved by the guided filter: the
stronger the amplification, the stronger the denoising."""
BLOTS_LEFT = 0.4
"""Fraction of the variance of blotches that remains over time: compression repeats them."""
CHROMA_NOISE = 1.5
"""Least noise of chroma: compression leaves a dark frame few chroma levels."""
CHROMA_FLAT = 0.75
"""`FLAT` for chroma."""
CHROMA_LOST = 4.0
"""Colours that differ by this many deviations from the guided prediction are half kept."""
RADIUS = 1
"""Radius of the guided filter's windows, at half size for luma and at quarter size for chroma."""

QUIET = 0.15
"""Fraction of a frame that is assumed to have no texture."""
DOUBTED = 0.3
"""Fraction of the apparent noise of a single frame that is taken as noise."""
DEAD = 0.02
"""Standard deviation of a block below which it is clipped to black."""

SIDE = 5
FRACTION_BITS = 6
UNIT = 32
"""Unit of the weight table's index: a change of one standard deviation."""
WHOLE = 256


class Noise(NamedTuple):
    """Noise of a frame."""

    deviation: float
    """Standard deviation in bytes of luma."""
    blots: float
    """0 for grain to 1 for blotches, which compression makes of grain."""

    def toward(self, other: Noise, share: float) -> Noise:
        """Return the mixture with another one, whose weight is `share`, 0 to 1."""
        return Noise(
            *(mine + (theirs - mine) * share for mine, theirs in zip(self, other, strict=True))
        )


class Terms(NamedTuple):
    """Parameters of the filters for one frame."""

    unit: float
    """`UNIT` over the deviation of a 5x5 sum's noise: scales a sum's change to table indices."""
    newest: float
    """Weight of a new frame where nothing moves."""
    blots_left: float
    """Least fraction of the noise's variance that the temporal filter leaves."""
    flat: float
    """Structure of this many bytes is halved where all of the noise is left."""
    flat_chroma: float
    """The same for chroma."""
    lost: float
    """A colour that differs by this many bytes from the guided prediction is half kept."""

    @classmethod
    def of(cls, noise: Noise, *, gain: float, frames: int) -> Terms:
        """Return the parameters for a frame; `frames` is its number in the scene, from 1."""
        deviation = max(noise.deviation, QUIETEST)
        chroma = max(deviation, CHROMA_NOISE)
        return cls(
            # Noise of a sum of 25 pixels is five times that of one; the average has little.
            unit=UNIT / (SIDE * deviation),
            newest=1 / min(frames, LONGEST),
            blots_left=BLOTS_LEFT * noise.blots,
            flat=FLAT * gain * deviation,
            flat_chroma=CHROMA_FLAT * gain * chroma,
            lost=CHROMA_LOST * chroma,
        )


class Memory(NamedTuple):
    """State of a denoiser, from which another one can continue."""

    average: tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.int16]]
    """y, u and v, in 64ths of a byte."""
    left: Fine
    """(ceil(h/2), ceil(w/2)), fraction of the noise's variance that the temporal filter left."""
    frames: int
    """Frames since the scene started."""


@dataclass(slots=True)
class _History:
    average: NDArray[np.int16]
    """(h, w), in 64ths of a byte."""
    sums: NDArray[np.int16]
    """(h, w), sums of 5x5 pixels of it."""


class Denoiser:
    """Denoises one stream; holds its history."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Drop the history: a new scene starts."""
        self._history: list[_History | None] = [None, None, None]
        self._shapes: list[tuple[int, ...]] | None = None
        self._frames = 0
        self._left: Fine | None = None

    def memory(self) -> Memory | None:
        """Return the state; None before a scene's first frame."""
        y, u, v = self._history
        if y is None or u is None or v is None or self._left is None:
            return None
        return Memory((y.average, u.average, v.average), self._left, self._frames)

    def __call__(self, planes: Yuv, noise: Noise, *, gain: float = 1.0) -> Yuv:
        """Return planes with less noise: float32 in units of an 8-bit step.

        Args:
            planes: The next image, of any depth and subsampling.
            noise: Its noise; chroma has about as much.
            gain: Amplification of differences afterwards.
        """
        shapes = [plane.shape for plane in planes.planes]
        if self._shapes != shapes:
            self.reset()
            self._shapes = shapes
        self._frames += 1
        terms = Terms.of(noise, gain=gain, frames=self._frames)
        shares = _shares(min(self._frames, LONGEST))
        fine, steps = [], []
        for at, plane in enumerate(planes.planes):
            steps.append(self._changes(at, to_8_bits(plane, planes.depth), terms.unit))
            fine.append(self._over_time(at, plane, planes.depth, steps[-1], shares))
        height, width = shapes[0]
        left = self._noise_left(steps[0], shares, ((height + 1) // 2, (width + 1) // 2))
        calm = replace(planes, y=fine[0], chroma=tuple(fine[1:]))
        return _over_space(calm, np.maximum(left, terms.blots_left), terms)

    def _changes(self, at: int, plane: Plane, unit: float) -> Plane | None:
        """Return each pixel's change in units of 1/`UNIT` deviations; None without history."""
        history = self._history[at]
        if history is None:
            return None
        sums = cv2.boxFilter(plane, cv2.CV_16S, (SIDE, SIDE), normalize=False)
        return cast("Plane", cv2.convertScaleAbs(cv2.subtract(sums, history.sums), alpha=unit))

    def _over_time(
        self,
        at: int,
        plane: NDArray[Any],
        depth: int,
        steps: Plane | None,
        shares: NDArray[np.float64],
    ) -> Fine:
        """Return the temporally filtered plane and update the history."""
        up = FRACTION_BITS + 8 - depth
        new: NDArray[np.int16]
        if up >= 0:
            new = np.left_shift(plane, up, dtype=np.int16, casting="same_kind")
        else:
            new = np.right_shift(plane, -up).astype(np.int16)
        history, average = self._history[at], new
        if history is not None and steps is not None:
            share = cv2.LUT(steps, np.rint(WHOLE * shares).astype(np.int16))
            step = cv2.multiply(cv2.subtract(new, history.average), share, scale=1 / WHOLE)
            average = cast("NDArray[np.int16]", cv2.add(history.average, step))
        # Sums of the average, not of the new frame, so that slow changes are detected as well.
        rounded = cv2.convertScaleAbs(average, alpha=1 / (1 << FRACTION_BITS))
        sums = cv2.boxFilter(rounded, cv2.CV_16S, (SIDE, SIDE), normalize=False)
        self._history[at] = _History(average, cast("NDArray[np.int16]", sums))
        fine: Fine = np.multiply(average, np.float32(1 / (1 << FRACTION_BITS)), dtype=np.float32)
        return fine

    def _noise_left(
        self, steps: Plane | None, shares: NDArray[np.float64], shape: tuple[int, ...]
    ) -> Fine:
        """Return the fraction of the noise's variance that is left at each pixel, at half size.

        A history of one frame has all its noise, however small the weight of the next frame: behind
        a moving object, and when a scene starts.
        """
        if steps is None or self._left is None:
            self._left = np.ones(shape, np.float32)
            return self._left
        small = cv2.resize(steps, shape[::-1], interpolation=cv2.INTER_AREA)
        share = cv2.LUT(small, shares.astype(np.float32))
        self._left = cast("Fine", (1 - share) ** 2 * self._left + share * share)
        return self._left


@cache
def _shares(frames: int) -> NDArray[np.float64]:
    """Return the new frame's weight by change in 1/`UNIT` deviations, after so many frames."""
    change = np.arange(256) / UNIT
    moving = np.clip((change - STANDS) / (MOVES - STANDS), 0, 1)
    smooth = moving * moving * (3 - 2 * moving)
    share: NDArray[np.float64] = 1 / frames + (1 - 1 / frames) * smooth
    return share


def _over_space(planes: Yuv, left: Fine, terms: Terms) -> Yuv:
    """Return planes smoothed by a guided filter whose strength follows the noise that is left.

    Args:
        planes: Output of the temporal filter.
        left: Fraction of the noise's variance that it left, (ceil(h/2), ceil(w/2)).
        terms: Parameters of this image.
    """
    y, half = planes.y, left.shape[::-1]
    guide = _resized(y, half)
    # Averaging 2x2 leaves a quarter of the variance.
    level = left * np.float32(terms.flat**2 / 4)
    mean = _mean(guide, RADIUS)
    keep, base = _line(mean, _mean(guide * guide, RADIUS) - mean * mean, mean, None, level, RADIUS)
    size = y.shape[::-1]
    calm = cv2.add(cv2.multiply(_resized(keep, size), y), _resized(base, size))
    if not planes.chroma:
        return replace(planes, y=calm)
    quarter = (max(1, half[0] // 2), max(1, half[1] // 2))
    small = _resized(guide, quarter)
    level = _resized(left, quarter) * np.float32(terms.flat_chroma**2 / 16)
    mean = _mean(small, RADIUS)
    spread = _mean(small * small, RADIUS) - mean * mean
    # Chroma of 4:2:0 has the size of the guide.
    own_size = planes.u.shape[::-1]
    lost = _resized(left, own_size) * np.float32(terms.lost**2)
    own_guide = guide if own_size == half else _resized(y, own_size)
    chroma = []
    for plane in planes.chroma:
        c = _resized(plane, quarter)
        c_mean = _mean(c, RADIUS)
        shared = _mean(small * c, RADIUS) - mean * c_mean
        keep, base = _line(mean, spread, c_mean, shared, level, RADIUS)
        smooth = _resized(keep, own_size) * own_guide + _resized(base, own_size)
        chroma.append(_with_detail(smooth, plane, lost))
    return replace(planes, y=calm, chroma=tuple(chroma))


def _with_detail(calm: Fine, plane: Fine, level: Fine) -> Fine:
    """Add removed detail back where it exceeds noise of variance `level`."""
    taken = plane - calm
    square = taken * taken
    return calm + taken * cast("Fine", square / (square + level))


def _line(  # noqa: PLR0917  the terms of one formula
    mean: Fine, spread: Fine, wanted: Fine, shared: Fine | None, level: Fine, radius: int
) -> tuple[Fine, Fine]:
    """Return slope and offset of the best linear fit in each window, averaged over windows."""
    over: Fine = np.maximum(spread, 0) + level + np.float32(1e-3)
    slope = (spread if shared is None else shared) / over
    return _mean(slope, radius), _mean(wanted - slope * mean, radius)


def _mean(plane: Fine, radius: int) -> Fine:
    side = 2 * radius + 1
    return cast("Fine", cv2.blur(plane, (side, side)))


def _resized(plane: Fine, size: tuple[int, int]) -> Fine:
    """Resize to (width, height): area averages down, bilinear up."""
    if size == plane.shape[::-1]:
        return plane
    smaller = size[0] < plane.shape[1] or size[1] < plane.shape[0]
    way = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cast("Fine", cv2.resize(plane, size, interpolation=way))


def noise_of(luma: Plane, before: Plane | None = None) -> Noise:
    """Return the noise of a frame, estimated from luma.

    The estimate is the absolute mean of the Laplacian (Immerkaer, Fast Noise Variance Estimation,
    1996) in blocks of 24 strips. The quietest blocks count, because texture looks like noise. It is
    repeated at half size, because blotches are smooth from pixel to pixel.

    Args:
        luma: (h, w).
        before: The previous frame, if there is one. Without it texture cannot be separated from
            noise, and only `DOUBTED` of the estimate is used; with it, the temporal change is an
            upper limit.
    """
    height, width = luma.shape
    if height < _STRIP or width < 2 * _BLOCK:
        return Noise(0.0, 0.0)
    fine, coarse, changes = [], [], []
    for top in np.linspace(0, height - _STRIP, 24).astype(int):
        part = luma[top : top + _STRIP]
        half = cv2.resize(part, (width // 2, _STRIP // 2), interpolation=cv2.INTER_AREA)
        fine.append(_grain(part))
        coarse.append(2 * _grain(cast("Plane", half)))
        if before is not None:
            changes.append(_change(part, before[top : top + _STRIP]))
    pixels, blots = (_quietest(np.concatenate(each)) for each in (fine, coarse))
    most = float(np.median(np.concatenate(changes))) if changes else DOUBTED * max(pixels, blots)
    return Noise(min(max(pixels, blots), most), max(0.0, 1 - pixels / blots) if blots > 0 else 0.0)


def _change(strip: Plane, before: Plane) -> NDArray[np.float64]:
    """Return the deviation of noise in each block, by the change between frames."""
    return _in_blocks(cv2.absdiff(strip, before)) * (math.sqrt(math.pi / 2) / math.sqrt(2))


def _grain(strip: Plane) -> NDArray[np.float64]:
    """Return the deviation of noise in each block of a strip."""
    edges = np.abs(cv2.filter2D(strip, cv2.CV_16S, _LAPLACIAN)[1:-1, 1:-1])
    return _in_blocks(edges) * (math.sqrt(math.pi / 2) / 6)


def _in_blocks(strip: NDArray[Any]) -> NDArray[np.float64]:
    """Return means over blocks of `_BLOCK` columns of a strip."""
    blocks = strip.shape[1] // _BLOCK
    each = strip[:, : blocks * _BLOCK].reshape(strip.shape[0], blocks, _BLOCK)
    means: NDArray[np.float64] = each.mean((0, 2), dtype=np.float64)
    return means


def _quietest(blocks: NDArray[np.float64]) -> float:
    # Where a frame is clipped to black there is no noise.
    alive = blocks[blocks > DEAD]
    return float(np.quantile(alive, QUIET)) if len(alive) > len(blocks) * QUIET else 0.0


_LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_STRIP, _BLOCK = 18, 16
