"""What lies between two pictures? Planes in, planes of any time between out.

What the program calls; needs neither torch nor the training code.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from engines.engine import Device, Engine, Precision, open_engine
from engines.errors import DeviceUnavailable, InaccurateEngine, ModelMismatch
from engines.interpolation import flow
from engines.interpolation.lean import leaning
from engines.interpolation.reduced import Layout, layout_of, reduced
from engines.interpolation.still import put_back, standing
from engines.interpolation.synthesis import Ways, synthesise, with_margin
from engines.proof import Tolerance, prove_once

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Plane = NDArray[Any]
    Field = NDArray[np.float32]

SHIPPED = Path(__file__).with_name("interpolation.onnx")
"""The network this project ships."""
TOLERANCES: Mapping[Precision, Tolerance] = {
    "f32": Tolerance(largest=0.01, mean=0.0005),
    "bf16": Tolerance(largest=0.15, mean=0.01),
}
"""How far from the reference; what comes out are shares, 0 to 1."""
_INPUTS = {"seen": "uint8", "crowd": "uint8", "fields": "float32", "t": "float32"}
_OUTPUTS = {"shares": "float32"}


class Between:
    """What was found out about two pictures; serves every time between them.

    Safe to use from several threads at once.
    """

    def __init__(
        self, engine: Engine, before: Sequence[Plane], after: Sequence[Plane], layout: Layout
    ) -> None:
        self._engine = engine
        self._before, self._after, self._layout = tuple(before), tuple(after), layout
        self._first, self._second = reduced(before, layout), reduced(after, layout)
        self._same = np.array_equal(self._first, self._second) and all(
            np.array_equal(a, b) for a, b in zip(before, after, strict=True)
        )
        if not self._same:
            self._search = flow.Search(self._first, self._second)
            self._stands = standing(before[0], after[0], depth=layout.depth)
            self._lean = leaning(self._first, self._second, self._search.motion)

    def at(self, t: float) -> list[Plane]:
        """The planes at a time between.

        Args:
            t: 0 is the picture before, 1 the picture after; strictly between them.

        Raises:
            ModelMismatch: t does not lie between.
            EngineError: The engine is closed, or the device failed.
        """
        if not 0 < t < 1:
            raise ModelMismatch(f"expected a time between 0 and 1, got {t}")
        if self._same:
            return [plane.copy() for plane in self._before]
        # A camera that gathers speed is before the middle at half time, and at the ends on time.
        x, y = (4 * t * (1 - t) * value for value in self._lean)
        found = self._search.at(t)
        guesses = flow.guesses(self._first, self._second, found, t, (x, y))
        shares = self._shares(guesses, found.fields, t)
        ways = Ways.of(found, t, (x, y))
        planes = []
        for number, (a, b) in enumerate(zip(self._before, self._after, strict=True)):
            made = synthesise(a, b, ways, shares, self._layout.factors(number))
            if self._stands is not None:
                put_back(made, a, b, self._stands)
            planes.append(made)
        return planes

    def _shares(self, guesses: NDArray[np.uint8], fields: Field, t: float) -> Field:
        """(4, h, w) with a margin: how much of each guess."""
        said = self._engine.infer(_given(guesses, fields, t))
        shares = said["shares"][0]
        if not np.isfinite(shares).all():
            # What was searched is worth more than no picture.
            shares = np.zeros_like(shares)
            shares[0], shares[1] = 1 - t, t
        return np.stack([with_margin(share) for share in shares])


def _given(guesses: NDArray[np.uint8], fields: Field, t: float) -> dict[str, NDArray[Any]]:
    """What the network takes."""
    seen, crowd = flow.seen(guesses)
    return {"seen": seen, "crowd": crowd, "fields": fields, "t": np.array([t], np.float32)}


class Interpolator:
    """Makes pictures between pictures. Safe to call from many threads at once."""

    def __init__(self, engine: Engine) -> None:
        engine.spec.require(inputs=_INPUTS, outputs=_OUTPUTS)
        self._engine = engine
        self.name: str = engine.spec.name
        self.digest: str = engine.spec.digest
        self.backend: str = engine.backend

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
        if [(p.shape, p.dtype) for p in after] != [(p.shape, p.dtype) for p in before]:
            raise ModelMismatch(
                f"expected two pictures of the same shapes and types, got "
                f"{[(p.shape, p.dtype.name) for p in before]} and "
                f"{[(p.shape, p.dtype.name) for p in after]}"
            )
        return Between(self._engine, before, after, layout)

    def close(self) -> None:
        """Give back what the engine holds."""
        self._engine.close()


def open_interpolator(
    path: Path | None = None,
    *,
    device: Device = "auto",
    precision: Precision | None = None,
    prove: bool = True,
) -> Interpolator:
    """Open the shipped interpolation network, or another with the same inputs and outputs.

    Args:
        path: An ONNX file.
        device: As in `open_engine`.
        precision: Of the arithmetic; bf16 where the processor has it and the proof holds unless
            one is named. What differs then is below what a picture's bytes can tell.
        prove: Compare with the reference, once for each machine.

    Raises:
        EngineError: The file, the device or the outcome is not what it should be.
    """
    file = path or SHIPPED
    if precision is not None:
        return _open(file, device, precision, prove=prove)
    try:
        return _open(file, device, "bf16", prove=prove)
    except (DeviceUnavailable, InaccurateEngine):
        return _open(file, device, "f32", prove=prove)


def _open(file: Path, device: Device, precision: Precision, *, prove: bool) -> Interpolator:
    engine = open_engine(file, device=device, precision=precision)
    try:
        model = Interpolator(engine)
        if prove:
            prove_once(engine, file, proof_samples(), TOLERANCES[precision])
    except BaseException:
        engine.close()
        raise
    return model


def proof_samples() -> Sequence[Mapping[str, NDArray[Any]]]:
    """Inputs to prove an engine with: a pan at 1920x1080, and one thing crossing another."""
    random = np.random.default_rng(5)
    noise = random.integers(0, 256, (160, 280, 3), dtype=np.uint8)
    scene = cv2.resize(noise, (2240, 1280), interpolation=cv2.INTER_CUBIC)
    pan = [scene[100 : 100 + 1080, at : at + 1920] for at in (100, 148)]
    crossing = [scene[:360, :640].copy() for _ in range(2)]
    for picture, left in zip(crossing, (200, 240), strict=True):
        picture[120:240, left : left + 120] = scene[800:920, 800:920]
    made: list[Mapping[str, NDArray[Any]]] = []
    for pair, t in ((pan, 0.5), (crossing, 0.25)):
        planes = [[np.ascontiguousarray(p[..., i]) for i in range(3)] for p in pair]
        layout = layout_of(planes[0], depth=8, rgb=False)
        before, after = (reduced(p, layout) for p in planes)
        found = flow.Search(before, after).at(t)
        guesses = flow.guesses(before, after, found, t)
        made.append(_given(guesses, found.fields, t))
    return made
