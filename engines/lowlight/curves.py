"""Applies local tone curves to planes, in one pass over each plane.

A frame has a few curves and a small smooth map, its *exposure*, that blends between them. Luma and
exposure index one table, so that each plane takes one table lookup with bilinear interpolation:
slicing a bilateral grid (HDRNet, Gharbi et al., arXiv 1707.02880) whose axes are luma and curve.
Chroma is scaled by the curve's slope, as if red, green and blue had each gone through the curve.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from engines.yuv import Yuv

Plane = NDArray[np.uint8]
Deep = NDArray[Any]
"""uint8, or uint16 beyond 8 bits."""
Fine = NDArray[np.float32]
Table = NDArray[np.float32]

GAIN_UNIT = 32
"""Chroma gains are stored in bytes, in units of 1/32."""
GREY = 128.0
"""Neutral chroma."""
_LIMITED_LOW, _LIMITED_SPAN = 16, 219
"""Luma of limited range (ITU-R BT.709)."""
_NEAR_WHITE = 0.1
"""Values closer to white than this are scaled less, so that white stays white."""
_BYTE = 8
_LARGEST = (1 << 16) - 1
_IDENTITY = (np.arange(256) / 255).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Adjustment:
    """Tone curves of one frame. Any mixture of two of the same shapes is valid."""

    curves: Table
    """(levels, 256), output by byte of full-range luma, 0 to 1; monotonic."""
    gains: Table
    """(levels, 256), factor on chroma's distance from grey, by luma."""
    exposure: NDArray[np.float32]
    """(rows, columns) over the whole frame, 0 for the first curve to 1 for the last."""
    balance: tuple[float, float] = (0.0, 0.0)
    """Added to chroma u and v, in bytes."""

    @classmethod
    def identity(cls, levels: int, shape: tuple[int, ...]) -> Adjustment:
        """Return the adjustment that changes nothing."""
        return cls(
            np.tile(_IDENTITY, (levels, 1)),
            np.ones((levels, 256), np.float32),
            np.zeros(shape, np.float32),
        )

    def toward(self, other: Adjustment, share: float) -> Adjustment:
        """Return the mixture with another adjustment, whose weight is `share`, 0 to 1."""
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
        """Return it at a strength: 0 is the identity, 1 this adjustment, more extrapolates."""
        identity = Adjustment.identity(len(self.curves), self.exposure.shape)
        more = replace(identity, exposure=self.exposure).toward(self, strength)
        # Extrapolated curves may fall somewhere: they are made monotonic again.
        curves = np.maximum.accumulate(np.clip(more.curves, 0, 1), axis=1)
        return Adjustment(curves, np.clip(more.gains, 0, 8), more.exposure, more.balance)

    def scaled(self, factor: float) -> Adjustment:
        """Return it brighter or darker by a factor; white stays white."""
        by = 1 + (factor - 1) * np.clip((1 - self.curves) / _NEAR_WHITE, 0, 1).astype(np.float32)
        return replace(self, curves=np.minimum(self.curves * by, 1), gains=self.gains * by)

    def brightness_of(self, histogram: NDArray[np.float32]) -> float:
        """Return the mean luma of the result, 0 to 1, by a histogram (256,) of full-range luma."""
        return float(self._middle(self.curves) @ histogram)

    def gain_of(self, histogram: NDArray[np.float32]) -> float:
        """Return the mean gain of differences for a frame with this luma histogram."""
        return float(self._middle(self.gains) @ histogram)

    def _middle(self, table: Table) -> Table:
        """Return the row of a table at the mean exposure."""
        at = float(self.exposure.mean()) * (len(table) - 1)
        below = min(int(at), len(table) - 2)
        return cast(
            "Table", table[below] + (table[below + 1] - table[below]) * np.float32(at - below)
        )

    def apply(self, planes: Yuv) -> Yuv:
        """Return new planes of the same depth and sizes.

        Args:
            planes: Whole numbers, or float32 in units of an 8-bit step, as `Denoiser` returns.
        """
        depth = planes.depth
        luma, gain = tables_of(self, full_range=planes.full_range, depth=depth)
        # Exposure as rows of the tables.
        rows = self.exposure * np.float32(len(self.curves) - 1)
        fine = _in_bytes(planes.y, depth)
        y = _look_up(luma, fine, rows)
        if depth != _BYTE:
            y = np.minimum(y, (1 << depth) - 1)
        if not planes.chroma:
            return replace(planes, y=y)
        small = cv2.resize(fine, planes.u.shape[::-1], interpolation=cv2.INTER_AREA)
        gains = _look_up(gain, cast("Plane | Fine", small), rows)
        chroma = tuple(
            _scaled(_in_bytes(plane, depth), gains, offset, depth)
            for plane, offset in zip(planes.chroma, self.balance, strict=True)
        )
        return replace(planes, y=y, chroma=chroma)


def tables_of(adjustment: Adjustment, *, full_range: bool, depth: int = 8) -> tuple[Deep, Plane]:
    """Return the tables from 8-bit luma to luma and to the gain of chroma.

    Args:
        adjustment: Curves of full-range luma.
        full_range: Whether luma uses 0 to 255 rather than 16 to 235.
        depth: Bits of the luma that comes out.

    Returns:
        Both (levels, 256): luma of *depth* bits, and gains in `GAIN_UNIT` parts of one. Beyond 8
        bits both have a column more, for the fractions above 255.
    """
    curves, gains = adjustment.curves * 255, adjustment.gains
    if not full_range:
        levels = np.arange(256)
        shown = (levels - _LIMITED_LOW) * (255 / _LIMITED_SPAN)
        at = np.clip(shown, 0, 255)
        curves, gains = (
            np.stack([np.interp(at, levels, row) for row in table]) for table in (curves, gains)
        )
        curves = _LIMITED_LOW + curves * (_LIMITED_SPAN / 255)
        # Foot- and headroom continue with slope 1: a step would make noise specks around black.
        curves += (shown - at) * (_LIMITED_SPAN / 255)
    parts = np.rint(np.clip(gains * GAIN_UNIT, 0, 255)).astype(np.uint8)
    if depth == _BYTE:
        return np.rint(np.clip(curves, 0, 255)).astype(np.uint8), parts
    beyond = 2 * curves[:, -1:] - curves[:, -2:-1]
    deep = np.hstack([curves, beyond]) * (1 << (depth - _BYTE))
    return (
        np.rint(np.clip(deep, 0, _LARGEST)).astype(np.uint16),
        np.hstack([parts, parts[:, -1:]]),
    )


def _in_bytes(plane: Plane | Deep | Fine, depth: int) -> Plane | Fine:
    """Return samples in units of an 8-bit step, with fractions if they have more bits."""
    if plane.dtype != np.uint16:
        return cast("Plane | Fine", plane)
    return np.multiply(plane, np.float32(1 / (1 << (depth - _BYTE))), dtype=np.float32)


def _look_up(table: Deep, plane: Plane | Fine, rows: NDArray[np.float32]) -> Plane:
    # Without padding, lookups at the table's edge would take three times as long.
    table = cast("Deep", cv2.copyMakeBorder(table, 0, 2, 0, 2, cv2.BORDER_REPLICATE))
    at = cv2.resize(rows, plane.shape[::-1], interpolation=cv2.INTER_LINEAR)
    levels = plane.astype(np.float32, copy=False)
    found = cv2.remap(table, levels, at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cast("Plane", found)


def _scaled(plane: Plane | Fine, gains: Plane, offset: float, depth: int) -> Deep:
    """Return chroma of *depth* bits: its distance from gray times gain, plus an offset."""
    centred = cv2.subtract(plane, np.array([GREY]), dtype=cv2.CV_32F)
    scaled = cv2.multiply(centred, gains, scale=1 / GAIN_UNIT, dtype=cv2.CV_32F)
    if depth == _BYTE:
        return cast("Plane", cv2.add(scaled, np.array([GREY + offset]), dtype=cv2.CV_8U))
    deep = (scaled + np.float32(GREY + offset)) * np.float32(1 << (depth - _BYTE))
    return cast("Deep", np.clip(np.rint(deep), 0, (1 << depth) - 1).astype(np.uint16))
