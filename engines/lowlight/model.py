"""How is a dark picture made visible? A thumbnail in, an `Adjustment` out.

What the program calls; needs neither torch nor the training code.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import ModelMismatch
from engines.loading import load_validated_engine
from engines.lowlight import full_resolution_gpu as gpu
from engines.lowlight.curves import Adjustment
from engines.lowlight.enhancer import Enhancer
from engines.lowlight.full_resolution import OnCpu
from engines.validation import Tolerance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from engines.engine import Device, Engine, EngineState, Precision
    from engines.lowlight.full_resolution import FullSize
    from engines.spec import EngineSpec

_log = logging.getLogger(__name__)

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
    """

    thumbnail_size: tuple[int, int] = (96, 160)
    """(height, width) it is made for; other multiples of `STRIDE` work."""

    def __init__(self, engine: Engine, *, full_size: Engine | None = None) -> None:
        _require(engine.spec)
        self._engine = engine
        self._full_size = full_size
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
        return next(worse, states[0])

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
            full_size: FullSize = gpu.OnDevice(self._full_size, failed=_failed)
        else:
            full_size = OnCpu(denoise=denoise)
        return Enhancer(self, strength=strength, always=always, full_size=full_size)

    def close(self) -> None:
        """Give back what the engines hold."""
        self._engine.close()
        if self._full_size is not None:
            self._full_size.close()


def open_lowlight_model(
    path: Path | None = None, *, device: Device = "auto", prove: bool = True
) -> LowLightModel:
    """Open the shipped low-light network, or another with the same inputs and outputs.

    In f32 on the CPU, and in what the catalogue says on a GPU. Where it runs on a GPU, or will when
    its plan is built, the full-size part does as well.

    Raises:
        EngineError: The file, the device or the outcome is not what it should be.
    """
    engine = load_validated_engine(
        path or SHIPPED,
        device=device,
        precision=None,
        samples=validation_samples,
        tolerances=TOLERANCES,
        check=_require,
        prove=prove,
    )
    on_cpu = engine.state.device == "cpu" and engine.state.building is None
    if on_cpu:
        return LowLightModel(engine)
    try:
        # What stands in for the GPU is OpenCV, never the graph on the CPU: no proof of that.
        full_size = load_validated_engine(
            gpu.SHIPPED,
            device=device,
            precision=None,
            samples=gpu.validation_samples,
            tolerances=gpu.TOLERANCES,
            prove=False,
        )
    except BaseException:
        engine.close()
        raise
    return LowLightModel(engine, full_size=full_size)


def _require(spec: EngineSpec) -> None:
    spec.require(inputs=_INPUTS, outputs=_OUTPUTS)


def _failed(why: str) -> None:
    _log.warning("a dark picture is made visible by the CPU: %s", why)


def validation_samples() -> Sequence[Mapping[str, NDArray[Any]]]:
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
