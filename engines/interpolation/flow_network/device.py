"""The GPU way at full size: two pictures go up as planes, and the one between comes back as planes.

By the graph that `graph.py` puts around the network. What cannot go that way, deeper pictures,
alpha, red, green and blue, luma alone, odd subsamplings and sizes it was not compiled for, is
looked at by the network alone, and done by `synthesis.py` on the CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from engines.errors import DeviceUnavailable, EngineError
from engines.interpolation.flow_network.model import SHIPPED
from engines.modelfile import read_model_file
from engines.plans.cache import Profile
from engines.validation import Tolerance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from engines.engine import Engine, Precision
    from engines.interpolation.downscale import Layout
    from engines.modelfile import ModelFile
    from engines.plans.cache import Shape
    from engines.validation import Inputs

    Plane = NDArray[Any]

TOLERANCES: Mapping[Precision, Tolerance] = {
    # Bytes. A motion that is off by a hundredth of a pixel moves an edge of 255 bytes by two and a
    # half; where the network hardly prefers one guess to another, by as much as these differ.
    "f32": Tolerance(largest=16.0, mean=0.02),
    "f16": Tolerance(largest=64.0, mean=0.5),
}
"""How far from the reference each precision may be."""
KEPT = ("planes/*", "behind/*")
"""Layers in front of the network and behind it: they stay f32, to tell 4096 columns apart."""
SMALLEST, USUAL, LARGEST = (16, 16), (1080, 1920), (2160, 4096)
"""(height, width) of the pictures that it is compiled for; chroma has half of each. Where it has
all of them, 2048x1080 is the largest."""
MADE = ("made_y", "made_u", "made_v")
"""Outputs: the picture between."""


def graph(network: Path = SHIPPED) -> ModelFile:
    """The network by planes; see `graph.by_planes`.

    Raises:
        ModelFileError: The file is missing or damaged, or the network cannot be fed like this.
        DeviceUnavailable: The package onnx, which it is made with, is not installed.
    """
    try:
        from engines.interpolation.flow_network.graph import by_planes
    except ModuleNotFoundError as error:
        raise DeviceUnavailable(f"networks by planes need the package {error.name}") from error
    return by_planes(read_model_file(network))


def profile() -> Profile:
    """Sizes that plans are compiled for."""
    halves = (tuple((side + 1) // 2 for side in size) for size in (SMALLEST, USUAL, LARGEST))
    few, usual, many = (
        _inputs((luma, chroma, chroma))
        for luma, chroma in zip((SMALLEST, USUAL, LARGEST), halves, strict=True)
    )
    return Profile({name: (few[name], usual[name], many[name]) for name in few})


def _inputs(shapes: Sequence[Shape]) -> dict[str, Shape]:
    """Shape of each input, for planes of these shapes."""
    planes = {
        f"{moment}_{channel}": shape
        for moment in ("before", "after")
        for channel, shape in zip("yuv", shapes, strict=True)
    }
    return {**planes, "t": (1,)}


def given(before: Sequence[Plane], after: Sequence[Plane], t: float) -> dict[str, NDArray[Any]]:
    """What the graph takes of two pictures of three planes each."""
    named = {
        f"{moment}_{channel}": np.ascontiguousarray(plane)
        for moment, planes in (("before", before), ("after", after))
        for channel, plane in zip("yuv", planes, strict=True)
    }
    return {**named, "t": np.array([t], np.float32)}


class OnDevice:
    """Pictures between by an engine of `graph`. Safe to call from several threads at once.

    Args:
        engine: Of `graph`, on a GPU.
        failed: Told in words when the device first failed a picture.
    """

    def __init__(self, engine: Engine, *, failed: Callable[[str], None]) -> None:
        self._engine = engine
        self._failed = failed
        self._told = False

    def takes(self, layout: Layout) -> bool:
        """Whether pictures like these go that way; none do where the device does not."""
        if layout.depth != 8 or layout.rgb or len(layout.shapes) != 3:  # noqa: PLR2004
            return False
        luma, u, v = layout.shapes
        usual = u == v and all(
            fewer in {side, (side + 1) // 2} for side, fewer in zip(luma, u, strict=True)
        )
        return usual and profile().accepts(_inputs(layout.shapes)) and self._works()

    def _works(self) -> bool:
        """Whether the device does all it should. OpenCV is faster than this graph on the CPU."""
        state = self._engine.state
        return state.device != "cpu" and not state.degraded

    def at(self, before: Sequence[Plane], after: Sequence[Plane], t: float) -> list[Plane] | None:
        """The planes at a time between; None where they must be made without this.

        Args:
            before: Luma and chroma of a picture of which `takes` said yes.
            after: Of the later one.
            t: Strictly between 0 and 1.
        """
        if not self._works():
            return None
        try:
            said = self._engine.infer(given(before, after, t))
        except EngineError as error:
            if not self._told:
                self._failed(str(error))
            self._told = True
            return None
        # If the device fell in that call, it was not the device that said this.
        sound = self._works() and bool(np.isfinite(said["sound"]).all())
        return [said[name] for name in MADE] if sound else None


def validation_samples() -> Sequence[Inputs]:
    """Pictures to prove an engine with: things that cross, letters that stay, as a camera pans.

    As large as it is mostly used, small, of odd sizes, and with chroma of every column.
    """
    samples = []
    for (height, width), across, t in (
        (USUAL, 2, 0.5),
        (SMALLEST, 2, 0.5),
        ((97, 131), 2, 0.25),
        ((180, 320), 1, 0.5),
    ):
        pair: list[list[Plane]] = []
        for moment in (0, 1):
            luma = _scene(height, width, moment)
            half = (-(-width // across), -(-height // 2))
            chroma = cv2.resize(luma, half, interpolation=cv2.INTER_AREA)
            pair.append([luma, chroma // 2 + 64, 192 - chroma // 2])
        samples.append(given(pair[0], pair[1], t))
    return samples


def _scene(height: int, width: int, moment: int) -> Plane:
    rng = np.random.default_rng(11)
    small = rng.integers(0, 256, (height // 8 + 6, width // 8 + 6), dtype=np.uint8)
    room = cv2.resize(small, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    luma = room[8 + 2 * moment :, 8 + 6 * moment :][:height, :width].copy()
    left = width // 4 + moment * width // 16
    luma[height // 3 : height // 2, left : left + width // 5] = rng.integers(
        0, 256, (height // 2 - height // 3, width // 5), dtype=np.uint8
    )
    cv2.putText(luma, "12:34", (4, height - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 235, 2)
    return luma
