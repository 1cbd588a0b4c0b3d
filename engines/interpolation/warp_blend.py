"""The full-size part: planes moved along what was found, and mixed, in stripes.

What was found out in the reduced picture is enlarged a stripe at a time, so that no full-size
field of numbers exists.
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
"""Pixels of a plane worked on at once. A fourth as many take a fourth longer at 1280x720, twice as
many gain nothing."""
UNSEEN = 1 / 64
"""Shares of the background below which, everywhere, it is not looked up."""


def synthesise(
    before: Plane, after: Plane, ways: WarpFields, shares: Field, factors: tuple[float, float]
) -> Plane:
    """One plane of the picture between.

    Args:
        before: (rows, columns) of the picture before.
        after: The same of the picture after.
        ways: Where its pixels come from.
        shares: (4, h, w) with a margin: of the guesses, in the order of `moved`.
        factors: How many times as large as the reduced picture the plane is (down, across).
    """
    rows, columns = before.shape
    down = factors[0]
    if down < 1:
        return _stripe(before, after, ways, shares, slice(None), factors, rows)
    out = np.empty_like(before)
    step = max(1, int(STRIPE_PX / columns / down))
    for low in range(0, -(-rows // int(down)), step):
        top, bottom = low * int(down), min(rows, (low + step) * int(down))
        piece = slice(low, low + step + 2 * MARGIN)
        out[top:bottom] = _stripe(before, after, ways, shares, piece, factors, bottom - top)
    return out


def moved(
    before: Plane, after: Plane, ways: WarpFields, factors: tuple[float, float]
) -> tuple[Plane, Plane, Plane, Plane]:
    """The four guesses at a whole plane: both by the motion, both by the background's."""
    rows = slice(0, before.shape[0])
    first = _along_motion(before, after, ways.motion, slice(None), factors, rows)
    return (*first, *_as_background(before, after, ways.background, factors, rows))


def _stripe(  # noqa: PLR0917  one caller
    before: Plane,
    after: Plane,
    ways: WarpFields,
    shares: Field,
    piece: slice,
    factors: tuple[float, float],
    rows: int,
) -> Plane:
    """Rows of the plane between that a piece of the reduced rows becomes."""
    top = int((piece.start or 0) * max(1.0, factors[0]))
    there = slice(top, top + rows)
    size = (rows, before.shape[1])
    given = [_enlarged(share[piece], factors, size) for share in shares[:2]]
    first = _mixed(*_along_motion(before, after, ways.motion, piece, factors, there), *given)
    behind = shares[2:, piece]
    if float(behind.max()) < UNSEEN:
        return first
    rest = [_enlarged(share, factors, size) for share in behind]
    second = _mixed(*_as_background(before, after, ways.background, factors, there), *rest)
    return _mixed(first, second, given[0] + given[1], rest[0] + rest[1])


def _as_background(
    before: Plane,
    after: Plane,
    pair: tuple[Affine, Affine] | None,
    factors: tuple[float, float],
    there: slice,
) -> tuple[Plane, Plane]:
    """Rows *there* of both pictures, moved as the background moves; None: as they are."""
    if pair is None:
        return before[there], after[there]
    down, across = factors
    size = (there.stop - there.start, before.shape[1])
    scale = np.array([across, down])
    # Where the stripe's first pixel lies in the reduced picture.
    start = (np.array([0, there.start]) + 0.5) / scale - 0.5
    flags, edge = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, cv2.BORDER_REPLICATE
    made = []
    for plane, way in zip((before, after), pair, strict=True):
        off = (way[:, :2] @ start + way[:, 2]) * scale + [0, there.start]
        large = np.column_stack([way[:, :2] * scale[:, None] / scale, off])
        matrix = IN_PLACE + large
        made.append(cv2.warpAffine(plane, matrix, size[::-1], flags=flags, borderMode=edge))
    return made[0], made[1]


def _along_motion(  # noqa: PLR0917  as it is asked for above
    before: Plane,
    after: Plane,
    pair: Pair,
    piece: slice,
    factors: tuple[float, float],
    there: slice,
) -> tuple[Plane, Plane]:
    """Rows *there* of both pictures, looked up along the motion."""
    down, across = factors
    places = _places(*pair[0].shape[:2], factors)[piece]
    size = (there.stop - there.start, before.shape[1])
    made = []
    for plane, way in zip((before, after), pair, strict=True):
        if down == across:
            looked = cast("Field", cv2.scaleAdd(way[piece], across, places))
        else:
            looked = places + way[piece] * np.array([across, down], np.float32)
        at = _enlarged(looked, factors, size)
        edge = cv2.BORDER_REPLICATE
        made.append(cv2.remap(plane, at, None, cv2.INTER_LINEAR, borderMode=edge))  # type: ignore[call-overload]
    return made[0], made[1]


@functools.lru_cache(maxsize=16)
def _places(height: int, width: int, factors: tuple[float, float]) -> Field:
    """(height, width, 2): where each pixel of a field with margin lies in the plane. Read only."""
    down, across = factors
    x = (np.arange(width) - (MARGIN - 0.5)) * across - 0.5
    y = (np.arange(height) - (MARGIN - 0.5)) * down - 0.5
    places = np.dstack(np.meshgrid(x, y)).astype(np.float32)
    places.flags.writeable = False
    return places


def _enlarged(field: Field, factors: tuple[float, float], size: tuple[int, int]) -> Field:
    """A field with margin enlarged, without its margin."""
    down, across = factors
    if (down, across) != (1.0, 1.0):
        field = cast(
            "Field", cv2.resize(field, None, fx=across, fy=down, interpolation=cv2.INTER_LINEAR)
        )
    top, left = int(MARGIN * down), int(MARGIN * across)
    return field[top : top + size[0], left : left + size[1]]


def _mixed(first: Plane, second: Plane, one: Field, other: Field) -> Plane:
    """Both by their weights, which need not add up to 1."""
    if first.dtype == np.uint8:
        return cast("Plane", cv2.blendLinear(first, second, one, other))
    share = one / (one + other + np.float32(1e-5))
    mixed = second.astype(np.float32)
    mixed += (first - mixed) * share
    return np.rint(mixed).astype(first.dtype)
