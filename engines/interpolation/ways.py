"""What is found out about a time between: where its pixels are looked up, and how much of what.

Found in reduced pictures, by one network or another (`searched.py`, `whole/model.py`), and used at
full size by `synthesis.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]
    Field = NDArray[np.float32]
    Pair = tuple[Field, Field]

MARGIN = 2
"""Pixels added around a reduced field before it is enlarged: its edge is then its inside."""


@dataclass(frozen=True, slots=True, eq=False)
class Ways:
    """How far off each pixel of a time between is looked up: (x, y) in reduced pixels.

    A pair is the field of the picture before and that of the one after, (h + 4, w + 4, 2) each,
    with a margin.
    """

    motion: Pair
    """Along the motion."""
    background: Pair | None
    """As the background moves; None: it stays."""


class Finding(Protocol):
    """What was found out about two reduced pictures. Serves every time, from several threads."""

    def at(self, t: float) -> tuple[Ways, Field]:
        """Ways, and (4, h + 4, w + 4) shares of the four guesses, with a margin."""
        ...


def with_margin(field: Field) -> Field:
    """A field with its edge repeated `MARGIN` times."""
    m = MARGIN
    return cast("Field", cv2.copyMakeBorder(field, m, m, m, m, cv2.BORDER_REPLICATE))


def without_margin(field: Field) -> Field:
    """A field's inside."""
    return field[MARGIN:-MARGIN, MARGIN:-MARGIN]


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
