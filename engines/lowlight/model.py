"""How is a dark picture made visible? A thumbnail in, an `Adjustment` out.

What the program calls; needs neither torch nor the training code.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.engine import Device, Engine, EngineState, Precision, open_engine
from engines.errors import EngineError, ModelMismatch
from engines.lowlight import device as gpu
from engines.lowlight.curves import Adjustment
from engines.lowlight.enhancer import Enhancer
from engines.lowlight.fullsize import OnCpu
from engines.proof import Tolerance, prove_once

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from engines.lowlight.fullsize import FullSize

SHIPPED = Path(__file__).with_name("lowlight.onnx")
"""The network this project ships."""
STRIDE = 8
"""Height and width of a thumbnail must be multiples of this."""
TOLERANCES: Mapping[Precision, Tolerance] = {"f32": Tolerance(largest=0.02, mean=0.001)}
"""How far from the reference it may be; the largest numbers are gains, up to 8."""
_INPUTS = {"thumbnail": "uint8", "noise": "float32"}
_OUTPUTS = dict.fromkeys(("curves", "gains", "exposure", "balance"), "float32")


class LowLightModel:
    """The low-light network on one device. Safe to call from many threads at once.

    Args:
        engine: Of the network.
        full_size: Of `device.SHIPPED`, where full-size pictures are to be done on a GPU.
        fault: Why they are not, where they should be.
    """

    thumbnail_size: tuple[int, int] = (96, 160)
    """(height, width) it is made for; other multiples of `STRIDE` work."""

    def __init__(self, engine: Engine, *, full_size: Engine | None = None, fault: str = "") -> None:
        engine.spec.require(inputs=_INPUTS, outputs=_OUTPUTS)
        self._engine = engine
        self._full_size = full_size
        self._fault = fault  # set by any stream's thread, one word at a time; never unset
        self.name: str = engine.spec.name
        self.digest: str = engine.spec.digest
        self.backend: str = engine.backend

    def __call__(self, thumbnail: NDArray[np.uint8], noise: float) -> Adjustment:
        """What is to be done to a picture; nothing, if the network says no numbers.

        Args:
            thumbnail: (h, w, 3) RGB of the whole picture.
            noise: Deviation of the full picture's noise in bytes, see `denoise.noise_of`.

        Raises:
            ModelMismatch: A shape or type does not fit.
        """
        height, width = thumbnail.shape[:2]
        if (
            thumbnail.dtype != np.uint8
            or thumbnail.shape[2:] != (3,)
            or height % STRIDE
            or width % STRIDE
        ):
            raise ModelMismatch(
                f"thumbnail: expected (height, width, 3) uint8 in multiples of {STRIDE}, "
                f"got {thumbnail.shape} {thumbnail.dtype}"
            )
        said = self._engine.infer(
            {"thumbnail": thumbnail[None], "noise": np.array([noise], np.float32)}
        )
        if not all(np.isfinite(said[name]).all() for name in _OUTPUTS):
            # A picture as it is can be watched; a black one cannot.
            return Adjustment.nothing(said["curves"].shape[1], said["exposure"].shape[1:])
        u, v = said["balance"][0].tolist()
        return Adjustment(said["curves"][0], said["gains"][0], said["exposure"][0], (u, v))

    @property
    def state(self) -> EngineState:
        """What the network and the full-size part run on: of the two, what people should know."""
        states = [engine.state for engine in (self._engine, self._full_size) if engine is not None]
        worse = (state for state in states if state.degraded or state.building is not None)
        state = next(worse, states[0])
        if self._fault and not state.degraded:
            return replace(state, degraded=True, reason=self._fault)
        return state

    def enhancer(
        self, *, strength: float = 1.0, denoise: bool = True, always: bool = False
    ) -> Enhancer:
        """What makes one more stream visible: in full size on the GPU, where this runs on one.

        Without denoising a picture is one look-up a plane: it is done on the CPU.

        Args:
            strength: See `Enhancer`.
            denoise: Whether noise is held down first.
            always: See `Enhancer`.
        """
        if denoise and self._full_size is not None:
            full_size: FullSize = gpu.OnDevice(self._full_size, failed=self._failed)
        else:
            full_size = OnCpu(denoise=denoise)
        return Enhancer(self, strength=strength, always=always, full_size=full_size)

    def _failed(self, why: str) -> None:
        self._fault = f"dark pictures are made visible by the CPU: {why}"

    def close(self) -> None:
        """Give back what the engines hold."""
        self._engine.close()
        if self._full_size is not None:
            self._full_size.close()


def open_lowlight_model(
    path: Path | None = None, *, device: Device = "auto", prove: bool = True
) -> LowLightModel:
    """Open the shipped low-light network, or another with the same inputs and outputs.

    It always runs in f32: it is so small that nothing is won by less.

    Raises:
        EngineError: The file, the device or the outcome is not what it should be.
    """
    file = path or SHIPPED
    engine = open_engine(file, device=device, precision="f32")
    try:
        model = LowLightModel(engine)
        if prove:
            prove_once(engine, file, proof_samples(), TOLERANCES["f32"])
    except BaseException:
        engine.close()
        raise
    if engine.state.device == "cpu" and engine.state.building is None:
        return model
    try:
        return LowLightModel(engine, full_size=_open_full_size(device, prove=prove))
    except EngineError as error:
        # Seen, and slower: better than a program that does not start.
        return LowLightModel(engine, fault=f"dark pictures are made visible by the CPU: {error}")


def _open_full_size(device: Device, *, prove: bool) -> Engine:
    """The full-size part on the GPU that the network runs on."""
    engine = open_engine(gpu.SHIPPED, device=device, precision="f32")
    try:
        if prove and engine.state.device != "cpu":
            prove_once(engine, gpu.SHIPPED, gpu.proof_samples(), gpu.TOLERANCES["f32"])
    except BaseException:
        engine.close()
        raise
    return engine


def proof_samples() -> Sequence[Mapping[str, NDArray[Any]]]:
    """Thumbnails to prove an engine with: black, a dim street with a lamp, daylight."""
    random = np.random.default_rng(21)
    height, width = LowLightModel.thumbnail_size
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    lamp = 200 * np.exp(-((columns - 40) ** 2 + (rows - 30) ** 2) / 60)
    dim = 12 + 10 * (rows > height / 2) + lamp
    day = 200 - 90 * rows / height + 20 * np.sin(columns / 9)
    samples = []
    for scene, noise in ((np.zeros_like(rows), 0.0), (dim, 3.0), (day, 0.5)):
        grain = random.normal(0, noise, (height, width, 3))
        image = np.clip(scene[..., None] * [1.0, 0.95, 0.85] + grain, 0, 255).astype(np.uint8)
        samples.append({"thumbnail": image[None], "noise": np.array([noise], np.float32)})
    return samples
