"""The end-to-end flow network: motion, background motion and visibility from one network.

Experimental: 1.1 dB behind the method that the program uses. It can be trained, exported and
evaluated on the CPU; no part of the program opens it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

from engines.backends.cpu import open_engine
from engines.interpolation.model import Interpolator
from engines.interpolation.warp_fields import WarpFields, usable, with_margin
from engines.validation import Tolerance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engines.engine import Engine
    from engines.interpolation.downscale import DownscaleGeometry
    from engines.interpolation.warp_fields import Affine, Field, Reduced
    from engines.spec import Precision

SHIPPED = Path(__file__).with_name("flow_network.onnx")
"""The network this project ships."""
STRIDE = 32
"""Height and width of the reduced pictures must be multiples of this."""
INPUTS = {"before": "uint8", "after": "uint8", "t": "float32"}
OUTPUTS = {"ways": "float32", "background": "float32", "shares": "float32"}
TOLERANCES: Mapping[Precision, Tolerance] = {"f32": Tolerance(largest=0.02, mean=0.0005)}
"""Allowed difference from the reference; motion is in pixels, blending weights are 0 to 1."""


class Finding:
    """What the network says of two reduced pictures (h, w, 3).

    It has learnt by itself what lies beyond an edge, and need not be told where that is.
    """

    def __init__(
        self, engine: Engine, before: Reduced, after: Reduced, _geometry: DownscaleGeometry
    ) -> None:
        self._engine = engine
        self._before, self._after = before, after

    def at(self, t: float) -> tuple[WarpFields, Field]:
        """See `ways.Finding`."""
        said = self._engine.infer(given(self._before, self._after, t))
        fields = [said[name][0] for name in ("ways", "background")]
        if not all(np.isfinite(field).all() for field in fields):
            fields = [np.zeros_like(field) for field in fields]
        motion, behind = fields
        found = WarpFields(
            (_field(motion[:2]), _field(motion[2:])), (_affine(behind[:2]), _affine(behind[2:]))
        )
        return found, usable(said["shares"][0], t)


def _field(way: Field) -> Field:
    """(2, h/2, w/2), in pixels of that size, as a field (h, w, 2) with a margin, in its pixels."""
    rows, columns = way.shape[1:]
    large = cv2.resize(
        np.ascontiguousarray(way.transpose(1, 2, 0)),
        (2 * columns, 2 * rows),
        interpolation=cv2.INTER_LINEAR,
    )
    return with_margin(cast("Field", 2 * large))


def _affine(way: Field) -> Affine:
    """Affine matrix of a field (2, h/2, w/2) in pixels of h and w; see `WarpFields.background`."""
    rows, columns = way.shape[1:]
    start = way[:, 0, 0].astype(np.float64)
    across = (way[:, 0, -1] - start) / (columns - 1)
    down = (way[:, -1, 0] - start) / (rows - 1)
    return np.column_stack([across, down, 2 * start - 0.5 * (across + down)])


def given(before: Reduced, after: Reduced, t: float) -> dict[str, NDArray[Any]]:
    """What the network takes."""
    return {"before": before[None], "after": after[None], "t": np.array([t], np.float32)}


def validation_samples(
    pairs: list[tuple[Reduced, Reduced, float]],
) -> list[dict[str, NDArray[Any]]]:
    """What the network takes of pairs of reduced pictures and a time between."""
    return [given(*pair) for pair in pairs]


def open_flow_network(path: Path | None = None) -> Interpolator:
    """Open the flow network for training and evaluation: on the CPU, in f32, not validated.

    Raises:
        EngineError: The file is missing, damaged, or another network.
    """
    return Interpolator(open_engine(path or SHIPPED), sys.modules[__name__])
