"""Warps and blends planes at full resolution, in stripes.

The warp fields of the reduced frame are enlarged one stripe at a time, so that no field of full
size is ever in memory.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

from engines.interpolation.warp_fields import IN_PLACE, MARGIN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.interpolation.warp_fields import Affine, Field, Pair, WarpFields

    Plane = NDArray[Any]

STRIPE_PX = 1 << 17
"""Pixels of a stripe. A quarter as many take a quarter longer at 1280x720, twice as many gain
nothing."""
NEGLIGIBLE = 1 / 64
"""Blend weight of the background below which, in a whole stripe, it is not sampled."""


def synthesise(
    before: Plane, after: Plane, fields: WarpFields, weights: Field, factors: tuple[float, float]
) -> Plane:
    """Return one plane of the intermediate frame.

    Args:
        before: (rows, columns), plane of the earlier frame.
        after: The same of the later frame.
        fields: Warp fields.
        weights: (4, h, w) with a margin: blend weights of the guesses, in the order of `warp_all`.
        factors: Size of the plane relative to the reduced frame (down, across).
    """
    rows, columns = before.shape
    down = factors[0]
    if down < 1:
        return _stripe(before, after, fields, weights, slice(None), factors, rows)
    out = np.empty_like(before)
    step = max(1, int(STRIPE_PX / columns / down))
    for low in range(0, -(-rows // int(down)), step):
        top, bottom = low * int(down), min(rows, (low + step) * int(down))
        piece = slice(low, low + step + 2 * MARGIN)
        out[top:bottom] = _stripe(before, after, fields, weights, piece, factors, bottom - top)
    return out


def warp_all(
    before: Plane, after: Plane, fields: WarpFields, factors: tuple[float, float]
) -> tuple[Plane, Plane, Plane, Plane]:
    """Return the four guesses at a whole plane: both frames by the flow, both by the background."""
    rows = slice(0, before.shape[0])
    first = _along_motion(before, after, fields.motion, slice(None), factors, rows)
    return (*first, *_as_background(before, after, fields.background, factors, rows))


def _stripe(  # noqa: PLR0917  one caller
    before: Plane,
    after: Plane,
    fields: WarpFields,
    weights: Field,
    piece: slice,
    factors: tuple[float, float],
    rows: int,
) -> Plane:
    """Return the rows of the plane that correspond to a piece of the reduced rows."""
    top = int((piece.start or 0) * max(1.0, factors[0]))
    there = slice(top, top + rows)
    size = (rows, before.shape[1])
    given = [_enlarged(weight[piece], factors, size) for weight in weights[:2]]
    first = _blend(*_along_motion(before, after, fields.motion, piece, factors, there), *given)
    behind = weights[2:, piece]
    if float(behind.max()) < NEGLIGIBLE:
        return first
    rest = [_enlarged(weight, factors, size) for weight in behind]
    second = _blend(*_as_background(before, after, fields.background, factors, there), *rest)
    return _blend(first, second, given[0] + given[1], rest[0] + rest[1])


def _as_background(
    before: Plane,
    after: Plane,
    pair: tuple[Affine, Affine] | None,
    factors: tuple[float, float],
    there: slice,
) -> tuple[Plane, Plane]:
    """Return rows `there` of both frames, warped by the background's motion; None: unchanged."""
    if pair is None:
        return before[there], after[there]
    down, across = factors
    size = (there.stop - there.start, before.shape[1])
    scale = np.array([across, down])
    # Position of the stripe's first pixel in the reduced frame.
    start = (np.array([0, there.start]) + 0.5) / scale - 0.5
    flags, edge = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, cv2.BORDER_REPLICATE
    made = []
    for plane, field in zip((before, after), pair, strict=True):
        off = (field[:, :2] @ start + field[:, 2]) * scale + [0, there.start]
        large = np.column_stack([field[:, :2] * scale[:, None] / scale, off])
        matrix = IN_PLACE + large
        made.append(cv2.warpAffine(plane, matrix, size[::-1], flags=flags, borderMode=edge))
    return made[0], made[1]


def _along_motion(  # noqa: PLR0917  two callers
    before: Plane,
    after: Plane,
    pair: Pair,
    piece: slice,
    factors: tuple[float, float],
    there: slice,
) -> tuple[Plane, Plane]:
    """Return rows `there` of both frames, warped by the optical flow."""
    down, across = factors
    positions = _positions(*pair[0].shape[:2], factors)[piece]
    size = (there.stop - there.start, before.shape[1])
    made = []
    for plane, field in zip((before, after), pair, strict=True):
        if down == across:
            sampled = cast("Field", cv2.scaleAdd(field[piece], across, positions))
        else:
            sampled = positions + field[piece] * np.array([across, down], np.float32)
        at = _enlarged(sampled, factors, size)
        edge = cv2.BORDER_REPLICATE
        made.append(cv2.remap(plane, at, None, cv2.INTER_LINEAR, borderMode=edge))  # type: ignore[call-overload]
    return made[0], made[1]


@functools.lru_cache(maxsize=16)
def _positions(height: int, width: int, factors: tuple[float, float]) -> Field:
    """Return (height, width, 2): position in the plane of each padded pixel; read-only."""
    down, across = factors
    x = (np.arange(width) - (MARGIN - 0.5)) * across - 0.5
    y = (np.arange(height) - (MARGIN - 0.5)) * down - 0.5
    positions = np.dstack(np.meshgrid(x, y)).astype(np.float32)
    positions.flags.writeable = False
    return positions


def _enlarged(field: Field, factors: tuple[float, float], size: tuple[int, int]) -> Field:
    """Return a padded field enlarged, without its margin."""
    down, across = factors
    if (down, across) != (1.0, 1.0):
        field = cast(
            "Field", cv2.resize(field, None, fx=across, fy=down, interpolation=cv2.INTER_LINEAR)
        )
    top, left = int(MARGIN * down), int(MARGIN * across)
    return field[top : top + size[0], left : left + size[1]]


def _blend(first: Plane, second: Plane, one: Field, other: Field) -> Plane:
    """Blend two planes by weights that need not add up to 1."""
    if first.dtype == np.uint8:
        return cast("Plane", cv2.blendLinear(first, second, one, other))
    weight = one / (one + other + np.float32(1e-5))
    blended = second.astype(np.float32)
    blended += (first - blended) * weight
    return np.rint(blended).astype(first.dtype)
