"""Warp fields and blend weights of an intermediate time.

They are computed on reduced frames, by `dis_interpolation.py`, and applied at full resolution by
`warp_blend.py`.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Reduced = NDArray[np.uint8]
    Field = NDArray[np.float32]
    Pair = tuple[Field, Field]
    Affine = NDArray[np.float64]

MARGIN = 4
"""Pixels of padding around a reduced field, so that enlarging it needs no border handling."""

IN_PLACE: Affine = np.eye(2, 3)
"""The identity as an affine map of a pixel (x, y, 1)."""
OUTSIDE_WEIGHT = 1e-3
"""Factor on the weight of a guess that was sampled outside the frame."""


@dataclass(frozen=True, slots=True, eq=False)
class WarpFields:
    """Displacements at which the two frames are sampled, (x, y) in pixels of the reduced frame.

    The first of each pair is for the earlier frame, the second for the later one.
    """

    motion: Pair
    """By the optical flow: fields (h, w, 2) with a margin."""
    background: tuple[Affine, Affine] | None
    """By the background's motion: (2, 3), added to a pixel (x, y, 1). None: it does not move."""


def with_margin(field: Field) -> Field:
    """Return a field padded by `MARGIN`, edges replicated."""
    m = MARGIN
    return cast("Field", cv2.copyMakeBorder(field, m, m, m, m, cv2.BORDER_REPLICATE))


def without_margin(field: Field) -> Field:
    """Return a field without its margin."""
    return field[MARGIN:-MARGIN, MARGIN:-MARGIN]


@functools.lru_cache(maxsize=16)
def grid(height: int, width: int) -> Field:
    """Return (h, w, 2): the position (x, y) of every pixel; read-only."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    positions = np.dstack([x, y])
    positions.flags.writeable = False
    return positions


def sample_positions(fields: WarpFields, shape: tuple[int, ...]) -> list[Field | None]:
    """Return the positions (h, w, 2) at which the four guesses are sampled; None: unchanged."""
    here = grid(*shape)
    motion = [cast("Field", cv2.add(here, without_margin(field))) for field in fields.motion]
    if fields.background is None:
        return [*motion, None, None]
    background = [cast("Field", cv2.transform(here, IN_PLACE + map_)) for map_ in fields.background]
    return [*motion, *background]


def inside(
    positions: Sequence[Field | None], shape: tuple[int, ...], size: tuple[float, float]
) -> Reduced:
    """Return (4, h, w), 255 where a guess is sampled inside the frame of (rows, columns)."""
    every = np.full((len(positions), *shape), 255, np.uint8)
    here = grid(*shape)
    rows, columns = size
    for mask, position in zip(every, positions, strict=True):
        at = here if position is None else position
        # No displacement is longer than this: only pixels that near to the edge can leave.
        reach = math.ceil(cv2.norm(at, here, cv2.NORM_INF)) + 1
        low, right = int(rows) - reach, int(columns) - reach
        for strip in (
            np.s_[:reach],
            np.s_[max(low, 0) :],
            np.s_[:, :reach],
            np.s_[:, max(right, 0) :],
        ):
            mask[strip] = cv2.inRange(at[strip], (-0.5, -0.5), (columns - 0.5, rows - 0.5))
    return every


def exclude_outside(weights: Field, visible: Reduced) -> Field:
    """Return blend weights in which guesses sampled outside the frame hardly count.

    Args:
        weights: (4, h, w), as the network predicts them.
        visible: (4, h, w), 255 where a guess was sampled inside the frame.
    """
    # Mostly everything is inside, or everything but a strip.
    outside = [box(cv2.bitwise_not(mask)) for mask in visible]
    if not any(outside):
        return weights
    weights = weights.copy()
    for weight, mask, where in zip(weights, visible, outside, strict=True):
        if where:
            weight[where] *= cv2.LUT(mask[where], _FACTORS)
    with np.errstate(all="ignore"):  # values that are not finite are handled by `usable`
        for where in filter(None, outside):
            weights[:, *where] /= weights[:, *where].sum(0)
    return weights


_FACTORS = np.full(256, OUTSIDE_WEIGHT, np.float32)
_FACTORS[255] = 1


def box(mask: Reduced) -> tuple[slice, slice] | None:
    """Return the bounding rows and columns of a mask (h, w); None if it is empty."""
    left, top, width, height = cv2.boundingRect(mask)
    return (slice(top, top + height), slice(left, left + width)) if width else None


def usable(weights: Field, t: float) -> Field:
    """Return blend weights with a margin; those of the optical flow only if they are not finite.

    Args:
        weights: (4, h, w), as the network predicts them.
        t: The intermediate time.
    """
    if not np.isfinite(weights).all():
        weights = np.zeros_like(weights)
        weights[0], weights[1] = 1 - t, t
    return np.stack([with_margin(weight) for weight in weights])
