"""Tone curves on planes: what makes a picture brighter, in one pass over each plane.

A picture has a few curves, and a small smooth map, its *exposure*, that says between which two of
them each place lies. Curve and exposure index one table, so that a whole plane is a single look-up
with bilinear interpolation: slicing a bilateral grid (HDRNet, Gharbi et al., arXiv 1707.02880) of
which only luma and the curve's number are left. Chroma is scaled by the curve's slope, as if red,
green and blue had each gone through the curve.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]
Fine = NDArray[np.float32]
Table = NDArray[np.float32]

GAIN_UNIT = 32
"""Chroma gains are held in bytes, in these parts of one."""
GREY = 128.0
"""Chroma without colour."""
_LIMITED_LOW, _LIMITED_SPAN = 16, 219
"""Luma of limited range (ITU-R BT.709)."""
_NEAR_WHITE = 0.1
"""What lies nearer to white than this goes less of the way when all becomes darker."""
_IDENTITY = (np.arange(256) / 255).astype(np.float32)


class Yuv(NamedTuple):
    """8-bit planes, 4:2:0."""

    y: Plane
    """(h, w)."""
    u: Plane
    """(ceil(h/2), ceil(w/2))."""
    v: Plane
    """The same."""


class FineYuv(NamedTuple):
    """The same in bytes with fractions: a curve may make ten steps of one."""

    y: Fine
    u: Fine
    v: Fine


@dataclass(frozen=True, slots=True, eq=False)
class Adjustment:
    """What is to be done to a picture. Of two of the same shapes, any mixture is one as well."""

    curves: Table
    """(levels, 256), what each byte of full-range luma becomes, 0 to 1; none falls."""
    gains: Table
    """(levels, 256), what chroma's distance from grey is multiplied by there."""
    exposure: NDArray[np.float32]
    """(rows, columns) over the whole picture, 0 for the first curve to 1 for the last."""
    balance: tuple[float, float] = (0.0, 0.0)
    """Added to chroma u and v, in bytes."""

    @classmethod
    def nothing(cls, levels: int, shape: tuple[int, ...]) -> Adjustment:
        """One that leaves a picture as it is, with so many curves and a map of this shape."""
        return cls(
            np.tile(_IDENTITY, (levels, 1)),
            np.ones((levels, 256), np.float32),
            np.zeros(shape, np.float32),
        )

    def toward(self, other: Adjustment, share: float) -> Adjustment:
        """This one moved towards another by a share, 0 to 1."""
        part = np.float32(share)
        return Adjustment(
            self.curves + (other.curves - self.curves) * part,
            self.gains + (other.gains - self.gains) * part,
            self.exposure + (other.exposure - self.exposure) * part,
            (
                self.balance[0] + (other.balance[0] - self.balance[0]) * share,
                self.balance[1] + (other.balance[1] - self.balance[1]) * share,
            ),
        )

    def at_strength(self, strength: float) -> Adjustment:
        """So much of it: 0 is nothing, 1 all, more than 1 more."""
        nothing = Adjustment.nothing(len(self.curves), self.exposure.shape)
        more = replace(nothing, exposure=self.exposure).toward(self, strength)
        # Beyond all of it, what was steep may fall.
        curves = np.maximum.accumulate(np.clip(more.curves, 0, 1), axis=1)
        return Adjustment(curves, np.clip(more.gains, 0, 8), more.exposure, more.balance)

    def scaled(self, factor: float) -> Adjustment:
        """Brighter by a factor, or darker; white stays white."""
        by = 1 + (factor - 1) * np.clip((1 - self.curves) / _NEAR_WHITE, 0, 1).astype(np.float32)
        return replace(self, curves=np.minimum(self.curves * by, 1), gains=self.gains * by)

    def brightness_of(self, histogram: NDArray[np.float32]) -> float:
        """Mean, 0 to 1, that a picture will have, by the shares of its full-range luma, (256,)."""
        return float(self._middle(self.curves) @ histogram)

    def gain_of(self, histogram: NDArray[np.float32]) -> float:
        """Mean of what differences are multiplied by in a picture of such luma."""
        return float(self._middle(self.gains) @ histogram)

    def _middle(self, table: Table) -> Table:
        """The row at the mean exposure."""
        at = float(self.exposure.mean()) * (len(table) - 1)
        below = min(int(at), len(table) - 2)
        return cast(
            "Table", table[below] + (table[below + 1] - table[below]) * np.float32(at - below)
        )

    def apply(self, planes: Yuv | FineYuv, *, full_range: bool) -> Yuv:
        """New 8-bit planes of the same sizes; those given stay as they are."""
        luma, gain = tables_of(self, full_range=full_range)
        # Exposure as rows of the tables.
        rows = self.exposure * np.float32(len(self.curves) - 1)
        y = _look_up(luma, planes.y, rows)
        half = planes.u.shape
        small = cv2.resize(planes.y, half[::-1], interpolation=cv2.INTER_AREA)
        gains = _look_up(gain, cast("Plane | Fine", small), rows)
        u, v = (
            _scaled(plane, gains, offset)
            for plane, offset in zip((planes.u, planes.v), self.balance, strict=True)
        )
        return Yuv(y, u, v)


def tables_of(adjustment: Adjustment, *, full_range: bool) -> tuple[Plane, Plane]:
    """Luma to luma, and luma to the gain of chroma in parts of one, both (levels, 256)."""
    curves, gains = adjustment.curves * 255, adjustment.gains
    if not full_range:
        levels = np.arange(256)
        shown = (levels - _LIMITED_LOW) * (255 / _LIMITED_SPAN)
        at = np.clip(shown, 0, 255)
        curves, gains = (
            np.stack([np.interp(at, levels, row) for row in table]) for table in (curves, gains)
        )
        curves = _LIMITED_LOW + curves * (_LIMITED_SPAN / 255)
        # Foot- and headroom go on from there: a step would make specks of noise around black.
        curves += (shown - at) * (_LIMITED_SPAN / 255)
    return (
        np.rint(np.clip(curves, 0, 255)).astype(np.uint8),
        np.rint(np.clip(gains * GAIN_UNIT, 0, 255)).astype(np.uint8),
    )


def _look_up(table: Plane, plane: Plane | Fine, rows: NDArray[np.float32]) -> Plane:
    # At the table's very edge a look-up would take three times as long.
    table = cast("Plane", cv2.copyMakeBorder(table, 0, 2, 0, 2, cv2.BORDER_REPLICATE))
    at = cv2.resize(rows, plane.shape[::-1], interpolation=cv2.INTER_LINEAR)
    levels = plane.astype(np.float32, copy=False)
    looked = cv2.remap(table, levels, at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cast("Plane", looked)


def _scaled(plane: Plane | Fine, gains: Plane, offset: float) -> Plane:
    """Distances from grey times gain, plus an offset."""
    centred = cv2.subtract(plane, np.array([GREY]), dtype=cv2.CV_32F)
    scaled = cv2.multiply(centred, gains, scale=1 / GAIN_UNIT, dtype=cv2.CV_32F)
    return cast("Plane", cv2.add(scaled, np.array([GREY + offset]), dtype=cv2.CV_8U))
