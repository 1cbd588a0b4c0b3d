"""The smoke segmentation model: an image in, a probability map out.

This is what the program calls; it needs neither torch nor the training code. Preprocessing is part
of the ONNX graph, so a call costs the network and two copies of its output.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engines.errors import ModelFileError, ModelMismatch
from engines.loading import load_validated_engine
from engines.validation import Tolerance

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from engines.engine import Engine, EngineState
    from engines.spec import EngineSpec, Precision

SHIPPED: Mapping[str, Path] = {
    name: Path(__file__).with_name(f"{name}.onnx") for name in ("smoke", "smoke-fast")
}
"""The shipped networks by name: the accurate one, and a fast one for many cameras on few cores."""
STRIDE = 32
"""Height and width must be multiples of this."""
TOLERANCES: Mapping[Precision, Tolerance] = {
    # f32 differs only by the order of summation. bf16 keeps 8 bits of every factor.
    "f32": Tolerance(largest=0.01, mean=0.0005),
    "bf16": Tolerance(largest=0.15, mean=0.01),
}
"""Largest and mean allowed difference from the reference, in probability, per precision."""
_INPUTS = {"image": "uint8", "background": "uint8", "has_background": "float32"}
_OUTPUTS = {"mask": "float32", "image_score": "float32", "cam": "float32"}


@dataclass(frozen=True, slots=True, eq=False)
class SmokeOutput:
    """Output of a smoke network for one image."""

    mask: NDArray[np.float32]
    """(h/2, w/2), smoke probability per pixel, 0 to 1."""
    image_score: float
    """Probability that the image shows smoke at all, 0 to 1."""
    cam: NDArray[np.float32]
    """(h/s, w/s), 0 to 1: class activation map of `image_score` (Zhou et al., arXiv 1512.04150);
    s is 16 for `smoke` and 32 for `smoke-fast`."""


class OperatingPoint(NamedTuple):
    """Thresholds of a network, fixed on the development views."""

    threshold: float
    """A region counts if its probability exceeds this somewhere."""
    low_threshold: float
    """Probability down to which such a region is grown (hysteresis)."""
    threshold_dark: float
    """`threshold` for dark images that were enhanced first; see `tools/evaluate_dark.py`."""


def operating_point(spec: EngineSpec) -> OperatingPoint:
    """Return the operating point from the metadata of a model file.

    Raises:
        ModelMismatch: The metadata has none.
    """
    try:
        threshold = float(spec.metadata["threshold"])
        low_threshold = float(spec.metadata["low_threshold"])
        dark = float(spec.metadata.get("threshold_dark", threshold))
    except (KeyError, ValueError):
        raise ModelMismatch(
            f"{spec.name}: expected the operating point in the file's metadata as 'threshold' "
            "and 'low_threshold'"
        ) from None
    return OperatingPoint(threshold, low_threshold, dark)


class SmokeModel:
    """A smoke network on one device. Thread-safe."""

    input_size: tuple[int, int] = (384, 640)
    """Default (height, width); other multiples of `STRIDE` work and cost in proportion."""

    def __init__(self, engine: Engine) -> None:
        _check_network(engine.spec)
        self._engine = engine
        self.name: str = engine.spec.name
        """Name of the network."""
        self.digest: str = engine.spec.digest
        """SHA-256 of the model file."""
        self.threshold, self.low_threshold, self.threshold_dark = operating_point(engine.spec)

    @property
    def backend(self) -> str:
        """Runtime that executes the network now, with version, device and precision."""
        return self._engine.backend

    @property
    def state(self) -> EngineState:
        """Device that the network runs on now, and why."""
        return self._engine.state

    @property
    def concurrency(self) -> int:
        """How many calls make progress at the same time."""
        return self._engine.concurrency

    def prepare(self, size: tuple[int, int]) -> None:
        """Compile for images of (height, width) now instead of at the first call."""
        self(np.zeros((*size, 3), np.uint8))

    def __call__(
        self,
        image: NDArray[np.uint8],
        background: NDArray[np.uint8] | None = None,
        *,
        dark: bool = False,
    ) -> NDArray[np.float32]:
        """Return the mask of `predict`."""
        return self.predict(image, background, dark=dark).mask

    def predict(
        self,
        image: NDArray[np.uint8],
        background: NDArray[np.uint8] | None = None,
        *,
        dark: bool = False,
    ) -> SmokeOutput:
        """Run the network on one image.

        Args:
            image: (h, w, 3) RGB, at `input_size` or another multiple of `STRIDE`.
            background: Background model of the same view, of the same shape, if there is one.
            dark: The image was dark and has been enhanced, which lowers the probabilities: the mask
                is rescaled so that `threshold_dark` becomes `threshold`.

        Raises:
            ModelMismatch: A shape or type does not fit.
        """
        _check("image", image, image.shape)
        if background is not None:
            _check("background", background, image.shape)
        behind = image if background is None else background
        flag = np.array([background is not None], np.float32)
        outputs = self._engine.infer(
            {"image": image[None], "background": behind[None], "has_background": flag}
        )
        mask = outputs["mask"][0]
        if dark and self.threshold_dark != self.threshold:
            points = (0, self.threshold_dark, 1), (0, self.threshold, 1)
            mask = np.interp(mask, *points).astype(np.float32)
        return SmokeOutput(mask, float(outputs["image_score"][0]), outputs["cam"][0])

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()


def open_smoke_model(
    model: str | Path = "smoke",
    *,
    precision: Precision | None = None,
    validate: bool = True,
) -> SmokeModel:
    """Open a shipped smoke network, or another with the same inputs and outputs, on the CPU.

    On a GPU the program runs `engines.smoke.yuv_model` beside it.

    Args:
        model: A name in `SHIPPED`, or the path of an ONNX file.
        precision: None for f32, which gives the same results on every CPU; bf16 is about twice as
            fast on CPUs that have it.
        validate: Compare it with the reference first, once per machine; see `engines.validation`.

    Raises:
        ModelFileError: The file is missing, damaged or not ONNX.
        ModelMismatch: It is a network for another task.
        DeviceUnavailable: The network or the CPU does not support that precision.
        InaccurateEngine: It differs from the reference by more than `TOLERANCES`.
    """
    engine = load_validated_engine(
        model_path(model),
        precision=precision,
        samples=validation_samples,
        tolerances=TOLERANCES,
        check=_check_network,
        validate=validate,
    )
    return SmokeModel(engine)


def _check_network(spec: EngineSpec) -> None:
    spec.require(inputs=_INPUTS, outputs=_OUTPUTS)
    operating_point(spec)


def model_path(model: str | Path) -> Path:
    """Return the path of a model given by name or by path.

    Raises:
        ModelFileError: No shipped network has that name.
    """
    if isinstance(model, str) and "/" not in model and not model.endswith(".onnx"):
        if model not in SHIPPED:
            raise ModelFileError(
                f"no smoke network is called {model!r}: there are {', '.join(SHIPPED)}, "
                "or give the path of an ONNX file"
            )
        return SHIPPED[model]
    return Path(model)


def validation_samples() -> Sequence[Mapping[str, NDArray[Any]]]:
    """Return three synthetic scenes (sky, ground, noise, a pale plume), one with a background."""
    rng = np.random.default_rng(20)
    height, width = SmokeModel.input_size
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    samples = []
    for number, (across, down, spread, opacity) in enumerate(
        [(0.3, 0.45, 9, 0.7), (0.7, 0.55, 28, 0.5), (0.5, 0.6, 90, 0.8)]
    ):
        sky = 190 - 60 * rows / height
        ground = 70 + 25 * np.sin(columns / 17) * np.cos(rows / 11)
        scene = np.where(rows < height * 0.5, sky, ground)[..., None] * [0.9, 1.0, 1.1]
        scene += rng.normal(0, 4, scene.shape)
        away = ((columns - across * width) / spread) ** 2 + ((rows - down * height) / spread) ** 2
        plume = (opacity * np.exp(-away))[..., None]
        image = np.clip(scene * (1 - plume) + 205 * plume, 0, 255).astype(np.uint8)
        background = np.clip(scene + rng.normal(0, 3, scene.shape), 0, 255).astype(np.uint8)
        samples.append(
            {
                "image": image[None],
                "background": background[None],
                "has_background": np.array([number % 2], np.float32),
            }
        )
    return samples


def _check(name: str, array: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    """Check type and shape of an image; errors name the argument."""
    if array.dtype != np.uint8 or array.shape[2:] != (3,):
        raise ModelMismatch(
            f"{name}: expected (height, width, 3) uint8, got {array.shape} {array.dtype}"
        )
    if array.shape != shape:
        raise ModelMismatch(f"{name}: expected the image's shape {shape}, got {array.shape}")
    height, width = array.shape[:2]
    if height % STRIDE or width % STRIDE or not array.size:
        raise ModelMismatch(
            f"{name}: height and width must be multiples of {STRIDE}, got {height}x{width}"
        )
