"""The low-light model: a thumbnail in, an `Adjustment` out.

This is what the program calls; it needs neither torch nor the training code.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import ModelMismatch
from engines.loading import find_gpu, load_on_gpu, load_validated_engine
from engines.lowlight import full_resolution_gpu as gpu
from engines.lowlight.curves import Adjustment
from engines.lowlight.enhancer import Enhancer
from engines.lowlight.full_resolution import OnCpu
from engines.modelfile import read_model_file
from engines.validation import Tolerance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from engines.engine import Device, Engine, EngineState
    from engines.lowlight.full_resolution import FullResolution
    from engines.spec import EngineSpec, Precision

_log = logging.getLogger(__name__)

SHIPPED = Path(__file__).with_name("lowlight.onnx")
"""The shipped network."""
STRIDE = 8
"""Height and width of a thumbnail must be multiples of this."""
TOLERANCES: Mapping[Precision, Tolerance] = {"f32": Tolerance(largest=0.02, mean=0.001)}
"""Allowed difference from the reference; the largest outputs are gains, up to 8."""
_INPUTS = {"thumbnail": "uint8", "noise": "float32"}
_OUTPUTS = dict.fromkeys(("curves", "gains", "exposure", "balance"), "float32")


class LowLightModel:
    """The low-light network on one device. Thread-safe.

    Args:
        engine: Runs the network.
        full_resolution: Runs `full_resolution_gpu.SHIPPED`, if frames are processed on a GPU.
    """

    thumbnail_size: tuple[int, int] = (96, 160)
    """Default (height, width); other multiples of `STRIDE` work."""

    def __init__(self, engine: Engine, *, full_resolution: Engine | None = None) -> None:
        _require(engine.spec)
        self._engine = engine
        self._full_resolution = full_resolution
        self.name: str = engine.spec.name
        self.digest: str = engine.spec.digest

    def __call__(self, thumbnail: NDArray[np.uint8], noise: float) -> Adjustment:
        """Return the adjustment of a frame; the identity if the network's output is not finite.

        Args:
            thumbnail: (h, w, 3) RGB of the whole frame.
            noise: Standard deviation of the full frame's noise in bytes, see `denoise.noise_of`.

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
        output = self._engine.infer(
            {"thumbnail": thumbnail[None], "noise": np.array([noise], np.float32)}
        )
        if not all(np.isfinite(output[name]).all() for name in _OUTPUTS):
            # An unchanged frame can be watched; a black one cannot.
            return Adjustment.identity(output["curves"].shape[1], output["exposure"].shape[1:])
        u, v = output["balance"][0].tolist()
        return Adjustment(output["curves"][0], output["gains"][0], output["exposure"][0], (u, v))

    @property
    def backend(self) -> str:
        """What runs most of the work at this moment: the full-resolution part on a GPU, if any."""
        return (self._full_resolution or self._engine).backend

    @property
    def state(self) -> EngineState:
        """What most of the work runs on at this moment: the full-resolution part, if on a GPU."""
        return (self._full_resolution or self._engine).state

    def enhancer(
        self, *, strength: float = 1.0, denoise: bool = True, always: bool = False
    ) -> Enhancer:
        """Return an enhancer for one more stream, at full resolution on the GPU if there is one.

        Without denoising a frame is one table lookup per plane, which the CPU does.

        Args:
            strength: See `Enhancer`.
            denoise: Whether to denoise first.
            always: See `Enhancer`.
        """
        if denoise and self._full_resolution is not None:
            applied: FullResolution = gpu.OnDevice(self._full_resolution, failed=_failed)
        else:
            applied = OnCpu(denoise=denoise)
        return Enhancer(self, strength=strength, always=always, full_resolution=applied)

    def close(self) -> None:
        """Release the engines."""
        self._engine.close()
        if self._full_resolution is not None:
            self._full_resolution.close()


def open_lowlight_model(
    path: Path | None = None, *, device: Device = "auto", validate: bool = True
) -> LowLightModel:
    """Open the shipped low-light network, or another with the same inputs and outputs.

    The network sees a thumbnail and runs on the CPU, in f32. Full-resolution frames are processed
    on the GPU that `device` selects, and by OpenCV without one and until its plan is ready.

    Raises:
        EngineError: The file or the device cannot be used, or the network is inaccurate here.
    """
    runtime = find_gpu(device)
    engine = load_validated_engine(
        path or SHIPPED,
        samples=validation_samples,
        tolerances=TOLERANCES,
        check=_require,
        validate=validate,
    )
    if runtime is None:
        return LowLightModel(engine)
    try:
        full_resolution = load_on_gpu(read_model_file(gpu.SHIPPED), runtime, gpu.SETTINGS)
    except BaseException:
        engine.close()
        raise
    return LowLightModel(engine, full_resolution=full_resolution)


def _require(spec: EngineSpec) -> None:
    spec.require(inputs=_INPUTS, outputs=_OUTPUTS)


def _failed(why: str) -> None:
    _log.warning("low-light frames are processed on the CPU: %s", why)


def validation_samples() -> Sequence[Mapping[str, NDArray[Any]]]:
    """Return thumbnails to validate an engine with: black, a dim street with a lamp, daylight."""
    rng = np.random.default_rng(21)
    height, width = LowLightModel.thumbnail_size
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    lamp = 200 * np.exp(-((columns - 40) ** 2 + (rows - 30) ** 2) / 60)
    dim = 12 + 10 * (rows > height / 2) + lamp
    day = 200 - 90 * rows / height + 20 * np.sin(columns / 9)
    samples = []
    for scene, noise in ((np.zeros_like(rows), 0.0), (dim, 3.0), (day, 0.5)):
        grain = rng.normal(0, noise, (height, width, 3))
        image = np.clip(scene[..., None] * [1.0, 0.95, 0.85] + grain, 0, 255).astype(np.uint8)
        samples.append({"thumbnail": image[None], "noise": np.array([noise], np.float32)})
    return samples
