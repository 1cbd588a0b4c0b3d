"""What is found out about a time between: where its pixels are looked up, and how much of what.

Found in reduced pictures, by one network or another (`searched.py`, `whole/model.py`), and used at
full size by `synthesis.py`.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]
    Field = NDArray[np.float32]
    Pair = tuple[Field, Field]
    Affine = NDArray[np.float64]

MARGIN = 4
"""Pixels added around a reduced field before it is enlarged: its edge is then its inside."""

IN_PLACE: Affine = np.eye(2, 3)
"""The affine map of a pixel (x, y, 1) to itself."""
BEYOND = 1e-3
"""What a share is worth where its guess was looked up beyond the picture's edge."""


@dataclass(frozen=True, slots=True, eq=False)
class WarpFields:
    """How far off each pixel of a time between is looked up: (x, y) in reduced pixels.

    Of each pair, the first is for the picture before, the second for the one after.
    """

    motion: Pair
    """Along the motion: fields (h, w, 2) with a margin."""
    background: tuple[Affine, Affine] | None
    """As the background moves, (2, 3): what is added to a pixel (x, y, 1); None: it stays."""


class Finding(Protocol):
    """What was found out about two reduced pictures. Serves every time, from several threads."""

    def at(self, t: float) -> tuple[WarpFields, Field]:
        """Ways, and shares (4, h, w) of the four guesses with a margin."""
        ...


def with_margin(field: Field) -> Field:
    """A field with its edge repeated `MARGIN` times."""
    m = MARGIN
    return cast("Field", cv2.copyMakeBorder(field, m, m, m, m, cv2.BORDER_REPLICATE))


def without_margin(field: Field) -> Field:
    """A field's inside."""
    return field[MARGIN:-MARGIN, MARGIN:-MARGIN]


@functools.lru_cache(maxsize=16)
def grid(height: int, width: int) -> Field:
    """(h, w, 2): the place (x, y) of every pixel. Read only."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    places = np.dstack([x, y])
    places.flags.writeable = False
    return places


def places_of(ways: WarpFields, shape: tuple[int, ...]) -> list[Field | None]:
    """Where the four guesses are looked up in reduced pictures (h, w): (h, w, 2); None: there."""
    here = grid(*shape)
    along = [cast("Field", cv2.add(here, without_margin(way))) for way in ways.motion]
    if ways.background is None:
        return [*along, None, None]
    behind = [cast("Field", cv2.transform(here, IN_PLACE + way)) for way in ways.background]
    return [*along, *behind]


def inside(
    places: Sequence[Field | None], shape: tuple[int, ...], size: tuple[float, float]
) -> Picture:
    """(4, h, w), 255 where a guess is looked up within the (rows, columns) that are picture."""
    every = np.full((len(places), *shape), 255, np.uint8)
    here = grid(*shape)
    rows, columns = size
    for mask, place in zip(every, places, strict=True):
        at = here if place is None else place
        # What goes nowhere farther than this can leave the picture within so much of its edge.
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


def believed(shares: Field, seen: Picture) -> Field:
    """Shares (4, h, w), those of guesses from beyond the picture's edge given to the others.

    Args:
        shares: As the network says.
        seen: (4, h, w), 255 where a guess was looked up within the picture.
    """
    # Mostly all is within it, or all but a strip.
    beyond = [box(cv2.bitwise_not(mask)) for mask in seen]
    if not any(beyond):
        return shares
    shares = shares.copy()
    for share, mask, where in zip(shares, seen, beyond, strict=True):
        if where:
            share[where] *= cv2.LUT(mask[where], _WORTH)
    with np.errstate(all="ignore"):  # what is no number is found by `usable`
        for where in filter(None, beyond):
            shares[:, *where] /= shares[:, *where].sum(0)
    return shares


_WORTH = np.full(256, BEYOND, np.float32)
_WORTH[255] = 1


def box(mask: Picture) -> tuple[slice, slice] | None:
    """The rows and columns that hold all that is not 0 of a mask (h, w); None: nothing is."""
    left, top, width, height = cv2.boundingRect(mask)
    return (slice(top, top + height), slice(left, left + width)) if width else None


def usable(shares: Field, t: float) -> Field:
    """Shares with a margin; the searched motion alone where the network says no numbers.

    Args:
        shares: (4, h, w) as the network says.
        t: The time.
    """
    if not np.isfinite(shares).all():
        # What was searched is worth more than no picture.
        shares = np.zeros_like(shares)
        shares[0], shares[1] = 1 - t, t
    return np.stack([with_margin(share) for share in shares])
