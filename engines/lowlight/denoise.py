"""Holds down the noise of a dark picture before light is added: over time where nothing moves.

A recursive filter over time first, `kept += (new - kept) * share`, whose share falls where a place
stands still and is all where it moves. What moves is told by sums over 5x5 pixels, in which noise
averages out. Then, where time could not help, a guided filter (He et al., Guided Image Filtering,
2013) over space: luma guides itself and chroma, whose noise comes in large blots.

What comes out has fractions of a byte: a curve that makes ten steps of one would show each.
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
"""No picture has less: rounding to bytes makes 0.29, compression the rest."""
LONGEST = 12
"""Where nothing moves, a new picture counts for one of so many: noise falls to about a fifth."""
STANDS, MOVES = 2.2, 4.0
"""Change of a 5x5 sum, in what noise alone changes it by, up to which a place stands still, and
from which it moves."""
FLAT = 1.1
"""Structure of so many deviations, times the gain, is half kept by the filter over space: what is
lifted more must be calmer before."""
BLOTS_LEFT = 0.4
"""Share of the variance of blots that time does not take away: compression repeats them."""
CHROMA_NOISE = 1.5
"""Deviation that chroma has at least: compression leaves a dark picture few steps of it."""
CHROMA_FLAT = 0.75
"""The same as `FLAT` for chroma."""
CHROMA_LOST = 4.0
"""Colours that differ by so many deviations from what luma makes likely are half kept."""
RADIUS = 1
"""Of its windows, at half size for luma and at quarter size for chroma."""

QUIET = 0.15
"""Share of a picture that surely has no texture."""
DOUBTED = 0.3
"""Share that is believed of what looks like noise in a single picture."""
DEAD = 0.02
"""Deviation of a block below which nothing was recorded there."""

SIDE = 5
FRACTION_BITS = 6
UNIT = 32
"""A change of one deviation, in the bytes by which shares are looked up."""
WHOLE = 256


class Noise(NamedTuple):
    """What kind of noise a picture has."""

    deviation: float
    """Standard deviation in bytes of luma."""
    blots: float
    """0 for grain to 1 for blots, which compression makes of grain."""

    def toward(self, other: Noise, share: float) -> Noise:
        """This one moved towards another by a share, 0 to 1."""
        return Noise(
            *(mine + (theirs - mine) * share for mine, theirs in zip(self, other, strict=True))
        )


class Terms(NamedTuple):
    """What the filters are told of one picture."""

    unit: float
    """`UNIT` over the deviation of a 5x5 sum's noise: a sum's change in what shares go by."""
    newest: float
    """Share of a new picture where nothing moves."""
    blots_left: float
    """Share of the noise's variance that time leaves at least."""
    flat: float
    """Structure of so many bytes is half kept where all of the noise is left."""
    flat_chroma: float
    """The same for chroma."""
    lost: float
    """A colour that differs by so many bytes from what luma makes likely is half kept."""

    @classmethod
    def of(cls, noise: Noise, *, gain: float, pictures: int) -> Terms:
        """For the so-manieth picture of a scene."""
        deviation = max(noise.deviation, QUIETEST)
        chroma = max(deviation, CHROMA_NOISE)
        return cls(
            # Noise of a sum of 25 is five times that of one pixel; what was kept has little.
            unit=UNIT / (SIDE * deviation),
            newest=1 / min(pictures, LONGEST),
            blots_left=BLOTS_LEFT * noise.blots,
            flat=FLAT * gain * deviation,
            flat_chroma=CHROMA_FLAT * gain * chroma,
            lost=CHROMA_LOST * chroma,
        )


class Memory(NamedTuple):
    """What a denoiser remembers of a scene, for another one to go on with."""

    kept: tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.int16]]
    """y, u and v, in 64ths of a byte."""
    left: Fine
    """(ceil(h/2), ceil(w/2)), share of the noise's variance that time has left."""
    pictures: int
    """How many have been."""


@dataclass(slots=True)
class _Past:
    kept: NDArray[np.int16]
    """(h, w), in 64ths of a byte."""
    sums: NDArray[np.int16]
    """(h, w), of 5x5 pixels of it."""


class Denoiser:
    """The memory of one stream."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the past: another scene begins."""
        self._past: list[_Past | None] = [None, None, None]
        self._shapes: list[tuple[int, ...]] | None = None
        self._pictures = 0
        self._left: Fine | None = None

    def memory(self) -> Memory | None:
        """What is remembered; None before a scene's first picture."""
        y, u, v = self._past
        if y is None or u is None or v is None or self._left is None:
            return None
        return Memory((y.kept, u.kept, v.kept), self._left, self._pictures)

    def __call__(self, planes: Yuv, noise: Noise, *, gain: float = 1.0) -> Yuv:
        """Return planes with less noise: float32 in units of an 8-bit step.

        Args:
            planes: The next image, of any depth and subsampling.
            noise: Its noise; chroma has about as much.
            gain: What differences are multiplied by afterwards.
        """
        shapes = [plane.shape for plane in planes.planes]
        if self._shapes != shapes:
            self.reset()
            self._shapes = shapes
        self._pictures += 1
        terms = Terms.of(noise, gain=gain, pictures=self._pictures)
        shares = _shares(min(self._pictures, LONGEST))
        fine, steps = [], []
        for at, plane in enumerate(planes.planes):
            steps.append(self._changes(at, to_8_bits(plane, planes.depth), terms.unit))
            fine.append(self._over_time(at, plane, planes.depth, steps[-1], shares))
        height, width = shapes[0]
        left = self._noise_left(steps[0], shares, ((height + 1) // 2, (width + 1) // 2))
        calm = replace(planes, y=fine[0], chroma=tuple(fine[1:]))
        return _over_space(calm, np.maximum(left, terms.blots_left), terms)

    def _changes(self, at: int, plane: Plane, unit: float) -> Plane | None:
        """How far each place is from its past, in `UNIT`ths of a deviation; None without one."""
        past = self._past[at]
        if past is None:
            return None
        sums = cv2.boxFilter(plane, cv2.CV_16S, (SIDE, SIDE), normalize=False)
        return cast("Plane", cv2.convertScaleAbs(cv2.subtract(sums, past.sums), alpha=unit))

    def _over_time(
        self,
        at: int,
        plane: NDArray[Any],
        depth: int,
        steps: Plane | None,
        shares: NDArray[np.float64],
    ) -> Fine:
        """Return the plane averaged with its past."""
        up = FRACTION_BITS + 8 - depth
        new: NDArray[np.int16]
        if up >= 0:
            new = np.left_shift(plane, up, dtype=np.int16, casting="same_kind")
        else:
            new = np.right_shift(plane, -up).astype(np.int16)
        past, kept = self._past[at], new
        if past is not None and steps is not None:
            share = cv2.LUT(steps, np.rint(WHOLE * shares).astype(np.int16))
            step = cv2.multiply(cv2.subtract(new, past.kept), share, scale=1 / WHOLE)
            kept = cast("NDArray[np.int16]", cv2.add(past.kept, step))
        # Sums of what was kept, not of what came: a slow change must be noticed as well.
        rounded = cv2.convertScaleAbs(kept, alpha=1 / (1 << FRACTION_BITS))
        sums = cv2.boxFilter(rounded, cv2.CV_16S, (SIDE, SIDE), normalize=False)
        self._past[at] = _Past(kept, cast("NDArray[np.int16]", sums))
        fine: Fine = np.multiply(kept, np.float32(1 / (1 << FRACTION_BITS)), dtype=np.float32)
        return fine

    def _noise_left(
        self, steps: Plane | None, shares: NDArray[np.float64], shape: tuple[int, ...]
    ) -> Fine:
        """Share of the noise's variance that time has left at each place, at half size.

        A past of one picture has all its noise, however little of the next one is added: behind
        what moved by, and when a scene begins.
        """
        if steps is None or self._left is None:
            self._left = np.ones(shape, np.float32)
            return self._left
        small = cv2.resize(steps, shape[::-1], interpolation=cv2.INTER_AREA)
        share = cv2.LUT(small, shares.astype(np.float32))
        self._left = cast("Fine", (1 - share) ** 2 * self._left + share * share)
        return self._left


@cache
def _shares(pictures: int) -> NDArray[np.float64]:
    """Share of the new picture by change in `UNIT`ths of a deviation, where so many are known."""
    change = np.arange(256) / UNIT
    moving = np.clip((change - STANDS) / (MOVES - STANDS), 0, 1)
    smooth = moving * moving * (3 - 2 * moving)
    share: NDArray[np.float64] = 1 / pictures + (1 - 1 / pictures) * smooth
    return share


def _over_space(planes: Yuv, left: Fine, terms: Terms) -> Yuv:
    """Return planes smoothed by a guided filter whose strength follows the noise that is left.

    Args:
        planes: After the filter over time.
        left: Share of the noise's variance that it left, (ceil(h/2), ceil(w/2)).
        terms: Of this image.
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
    """What the filter took away, put back where noise of variance *level* cannot have made it."""
    taken = plane - calm
    square = taken * taken
    return calm + taken * cast("Fine", square / (square + level))


def _line(  # noqa: PLR0917  the terms of one formula
    mean: Fine, spread: Fine, wanted: Fine, shared: Fine | None, level: Fine, radius: int
) -> tuple[Fine, Fine]:
    """The line from guide to picture that fits each window best, averaged over windows."""
    over: Fine = np.maximum(spread, 0) + level + np.float32(1e-3)
    slope = (spread if shared is None else shared) / over
    return _mean(slope, radius), _mean(wanted - slope * mean, radius)


def _mean(plane: Fine, radius: int) -> Fine:
    side = 2 * radius + 1
    return cast("Fine", cv2.blur(plane, (side, side)))


def _resized(plane: Fine, size: tuple[int, int]) -> Fine:
    """Smaller by area, larger by lines; (width, height)."""
    if size == plane.shape[::-1]:
        return plane
    smaller = size[0] < plane.shape[1] or size[1] < plane.shape[0]
    way = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cast("Fine", cv2.resize(plane, size, interpolation=way))


def noise_of(luma: Plane, before: Plane | None = None) -> Noise:
    """The noise of a picture, from luma alone.

    Args:
        luma: (h, w).
        before: The picture before it, if known. Without it texture that is everywhere cannot be
            told from noise, and little of what looks like it is believed; with it, what changes
            where nothing moves is noise, and no more.

    The Laplacian's absolute mean (Immerkaer, Fast Noise Variance Estimation, 1996) in blocks of 24
    strips: the quietest count, because texture looks like noise and noise is everywhere. At half
    size too: blots look smooth from pixel to pixel.
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
    """Deviation of noise in each block, by what became different."""
    return _in_blocks(cv2.absdiff(strip, before)) * (math.sqrt(math.pi / 2) / math.sqrt(2))


def _grain(strip: Plane) -> NDArray[np.float64]:
    """Deviation of noise in each block of a strip."""
    edges = np.abs(cv2.filter2D(strip, cv2.CV_16S, _LAPLACIAN)[1:-1, 1:-1])
    return _in_blocks(edges) * (math.sqrt(math.pi / 2) / 6)


def _in_blocks(strip: NDArray[Any]) -> NDArray[np.float64]:
    """Means over the columns of a strip, `_BLOCK` at a time."""
    blocks = strip.shape[1] // _BLOCK
    each = strip[:, : blocks * _BLOCK].reshape(strip.shape[0], blocks, _BLOCK)
    means: NDArray[np.float64] = each.mean((0, 2), dtype=np.float64)
    return means


def _quietest(blocks: NDArray[np.float64]) -> float:
    # Where a picture is clipped to black there is no noise to see.
    alive = blocks[blocks > DEAD]
    return float(np.quantile(alive, QUIET)) if len(alive) > len(blocks) * QUIET else 0.0


_LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_STRIP, _BLOCK = 18, 16
