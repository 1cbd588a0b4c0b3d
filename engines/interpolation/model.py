"""What lies between two pictures? Planes in, planes of any time between out.

What the program calls; needs neither torch nor the training code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import ModelMismatch
from engines.interpolation import flow
from engines.interpolation.reduced import Layout, layout_of, reduced
from engines.interpolation.synthesis import padded, synthesise

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from engines.engine import Device, Precision

    Plane = NDArray[Any]


class Between:
    """What was found out about two pictures; serves every time between them.

    Safe to use from several threads at once.
    """

    def __init__(self, before: Sequence[Plane], after: Sequence[Plane], layout: Layout) -> None:
        self._before, self._after, self._layout = tuple(before), tuple(after), layout
        first, second = reduced(before, layout), reduced(after, layout)
        self._same = bool(np.array_equal(first, second)) and all(
            np.array_equal(a, b) for a, b in zip(before, after, strict=True)
        )
        self._places = flow.grid(*layout.size)
        if not self._same:
            a, b = first[..., 0].copy(), second[..., 0].copy()
            self._forward, self._backward = flow.flow(a, b), flow.flow(b, a)

    def at(self, t: float) -> list[Plane]:
        """The planes at a time between.

        Args:
            t: 0 is the picture before, 1 the picture after; strictly between them.

        Raises:
            ModelMismatch: t does not lie between.
        """
        if not 0 < t < 1:
            raise ModelMismatch(f"expected a time between 0 and 1, got {t}")
        if self._same:
            return [plane.copy() for plane in self._before]
        first = flow.carried(self._forward, self._places, t)
        second = -flow.carried(self._backward, self._places, 1 - t)
        motion = 0.5 * (first + second)
        to_before, to_after = padded(-t * motion), padded((1 - t) * motion)
        weight = padded(np.full(self._layout.size, 1 - t, np.float32))
        return [
            synthesise(a, b, to_before, to_after, weight, self._layout.factors(i))
            for i, (a, b) in enumerate(zip(self._before, self._after, strict=True))
        ]


class Interpolator:
    """Makes pictures between pictures. Safe to call from many threads at once."""

    def __init__(self) -> None:
        self.name: str = "dis"
        self.digest: str = ""
        self.backend: str = "opencv cpu"

    def between(
        self,
        before: Sequence[Plane],
        after: Sequence[Plane],
        *,
        depth: int = 8,
        rgb: bool = False,
    ) -> Between:
        """Find out what moved between two pictures.

        Args:
            before: Planes of the earlier picture: luma, or luma and two of chroma, or these and
                alpha; of any subsampling. uint8 at 8 bits, else uint16.
            after: Those of the later picture, of the same shapes.
            depth: Bits of a sample.
            rgb: The planes are green, blue, red (and alpha).

        Raises:
            ModelMismatch: A shape, type or depth does not fit.
        """
        layout = layout_of(before, depth=depth, rgb=rgb)
        if [plane.shape for plane in after] != [plane.shape for plane in before] or any(
            a.dtype != b.dtype for a, b in zip(before, after, strict=True)
        ):
            raise ModelMismatch(
                f"expected two pictures of the same shapes and types, got "
                f"{[plane.shape for plane in before]} and {[plane.shape for plane in after]}"
            )
        return Between(before, after, layout)

    def close(self) -> None:
        """Give back what the engine holds."""


def open_interpolator(
    path: Path | None = None,
    *,
    device: Device = "auto",
    precision: Precision | None = None,
    prove: bool = True,
) -> Interpolator:
    """Open the shipped interpolation network, or another with the same inputs and outputs.

    Raises:
        EngineError: The file, the device or the outcome is not what it should be.
    """
    del path, device, precision, prove
    return Interpolator()
