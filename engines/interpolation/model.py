"""Interpolates frames between two frames: planes in, planes of any time between out.

The program calls this module; it needs neither torch nor the training code. Interpolation always
runs on the CPU: the motion is found by dense inverse search (`dis_interpolation.py`), a small
network weighs the candidates, OpenCV warps and blends at full resolution.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from engines.errors import DeviceUnavailable, InaccurateEngine, ModelMismatch
from engines.interpolation import dis_interpolation
from engines.interpolation.dis_interpolation import INPUTS, OUTPUTS, PairMotion
from engines.interpolation.downscale import DownscaleGeometry, downscale_geometry, reduced
from engines.interpolation.static_overlay import put_back, standing
from engines.interpolation.warp_blend import synthesise
from engines.loading import load_validated_engine
from engines.validation import Tolerance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from engines.engine import Engine, EngineState
    from engines.spec import EngineSpec, Precision

    Plane = NDArray[Any]
    Arrays = Mapping[str, NDArray[Any]]

SHIPPED = Path(__file__).with_name("interpolation.onnx")
"""The fusion network that the program uses."""
TOLERANCES: Mapping[Precision, Tolerance] = {
    "f32": Tolerance(largest=0.01, mean=0.0005),
    "bf16": Tolerance(largest=0.15, mean=0.01),
}
"""Allowed difference from the reference, in units of the blending weights, 0 to 1."""


class PairInterpolation:
    """The motion between two frames; serves every time between them.

    Safe to use from several threads at once.
    """

    def __init__(
        self,
        engine: Engine,
        before: Sequence[Plane],
        after: Sequence[Plane],
        geometry: DownscaleGeometry,
    ) -> None:
        self._before, self._after, self._geometry = tuple(before), tuple(after), geometry
        self._same = all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
        if not self._same:
            first, second = reduced(before, geometry), reduced(after, geometry)
            self._motion = PairMotion(engine, first, second, geometry)
            self._stands = standing(before[0], after[0], depth=geometry.depth)

    def at(self, t: float) -> list[Plane]:
        """Return the planes at a time between.

        Args:
            t: 0 is the frame before, 1 the frame after; strictly between them.

        Raises:
            ModelMismatch: t is not between 0 and 1.
            EngineError: The engine is closed, or failed.
        """
        if not 0 < t < 1:
            raise ModelMismatch(f"expected a time between 0 and 1, got {t}")
        if self._same:
            return [plane.copy() for plane in self._before]
        fields, weights = self._motion.at(t)
        planes = []
        for number, (a, b) in enumerate(zip(self._before, self._after, strict=True)):
            made = synthesise(a, b, fields, weights, self._geometry.factors(number))
            if self._stands is not None:
                put_back(made, a, b, self._stands)
            planes.append(made)
        return planes


class Interpolator:
    """Interpolates between frames. Safe to call from many threads at once.

    Args:
        engine: Runs the fusion network; closed with this.
    """

    def __init__(self, engine: Engine) -> None:
        engine.spec.require(inputs=INPUTS, outputs=OUTPUTS)
        self._engine = engine
        self.name: str = engine.spec.name
        self.digest: str = engine.spec.digest

    @property
    def backend(self) -> str:
        """What runs the network, with version, device and precision."""
        return self._engine.backend

    @property
    def state(self) -> EngineState:
        """What the network runs on."""
        return self._engine.state

    def between(
        self,
        before: Sequence[Plane],
        after: Sequence[Plane],
        *,
        depth: int = 8,
        rgb: bool = False,
    ) -> PairInterpolation:
        """Find the motion between two frames.

        Args:
            before: Planes of the earlier frame: luma, or luma and two of chroma, or these and
                alpha; of any subsampling. uint8 at 8 bits, else uint16.
            after: Those of the later frame, of the same shapes.
            depth: Bits of a sample.
            rgb: The planes are green, blue, red (and alpha).

        Raises:
            ModelMismatch: A shape, type or depth does not fit.
        """
        geometry = downscale_geometry(before, depth=depth, rgb=rgb)
        if [(p.shape, p.dtype) for p in after] != [(p.shape, p.dtype) for p in before]:
            raise ModelMismatch(
                f"expected two frames of the same shapes and types, got "
                f"{[(p.shape, p.dtype.name) for p in before]} and "
                f"{[(p.shape, p.dtype.name) for p in after]}"
            )
        return PairInterpolation(self._engine, before, after, geometry)

    def close(self) -> None:
        """Release the engine's memory."""
        self._engine.close()


def open_interpolator(
    path: Path | None = None, *, precision: Precision | None = None, validate: bool = True
) -> Interpolator:
    """Open the shipped fusion network, or another with the same inputs and outputs, on the CPU.

    Args:
        path: An ONNX file; None opens the shipped network.
        precision: Inference precision; None is bf16 where the CPU has it and the accuracy check
            passes, else f32.
        validate: Compare the engine with the reference first, once for each machine.

    Raises:
        EngineError: The file cannot be used, or the engine differs from the reference.
    """

    def opened(chosen: Precision) -> Interpolator:
        return Interpolator(
            load_validated_engine(
                path or SHIPPED,
                precision=chosen,
                samples=validation_samples,
                tolerances=TOLERANCES,
                check=_check_network,
                validate=validate,
            )
        )

    if precision is not None:
        return opened(precision)
    try:
        return opened("bf16")
    except (DeviceUnavailable, InaccurateEngine):
        return opened("f32")


def _check_network(spec: EngineSpec) -> None:
    spec.require(inputs=INPUTS, outputs=OUTPUTS)


def validation_samples() -> Sequence[Arrays]:
    """Return inputs for the accuracy check: a pan at 1920x1080, and one object crossing another."""
    rng = np.random.default_rng(5)
    noise = rng.integers(0, 256, (160, 280, 3), dtype=np.uint8)
    scene = cv2.resize(noise, (2240, 1280), interpolation=cv2.INTER_CUBIC)
    pan = [scene[100 : 100 + 1080, at : at + 1920] for at in (100, 148)]
    crossing = [scene[:360, :640].copy() for _ in range(2)]
    for frame, left in zip(crossing, (200, 240), strict=True):
        frame[120:240, left : left + 120] = scene[800:920, 800:920]
    pairs = []
    for pair, t in ((pan, 0.5), (crossing, 0.25)):
        planes = [[np.ascontiguousarray(p[..., i]) for i in range(3)] for p in pair]
        geometry = downscale_geometry(planes[0], depth=8, rgb=False)
        before, after = (reduced(p, geometry) for p in planes)
        pairs.append((before, after, t))
    return dis_interpolation.validation_samples(pairs)
