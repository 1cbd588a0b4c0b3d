"""Where is smoke in this picture? An image in, a map of probabilities out.

What the program calls; needs neither torch nor the training code. Pre-processing is inside the
network, so a call costs the network and two copies of its output.
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

    from engines.engine import Device, Engine, EngineState, Precision
    from engines.spec import EngineSpec

SHIPPED: Mapping[str, Path] = {
    name: Path(__file__).with_name(f"{name}.onnx") for name in ("smoke", "smoke-fast")
}
"""The networks this project ships: the better one, and one for many cameras on few cores."""
STRIDE = 32
"""Height and width must be multiples of this."""
MASK_STRIDE = 2
"""The map is this many times smaller than the picture on either side."""
TOLERANCES: Mapping[Precision, Tolerance] = {
    # f32 differs only by the order of sums. bf16 keeps 8 bits of every product's factors.
    "f32": Tolerance(largest=0.01, mean=0.0005),
    "bf16": Tolerance(largest=0.15, mean=0.01),
    # On GPUs: 11 bits, and what follows the last convolution in fp32.
    "f16": Tolerance(largest=0.03, mean=0.005),
}
"""How far from the reference each precision may be, in probability."""
_INPUTS = {"image": "uint8", "background": "uint8", "has_background": "float32"}
_OUTPUTS = {"mask": "float32", "picture": "float32", "evidence": "float32"}


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What a network says of one picture."""

    mask: NDArray[np.float32]
    """(h/2, w/2), the chance of smoke at each place, 0 to 1."""
    picture: float
    """The chance that the picture shows smoke at all, 0 to 1."""
    evidence: NDArray[np.float32]
    """(h/s, w/s), 0 to 1: where the chance above comes from, its class activation map (Zhou et al.,
    arXiv 1512.04150); s is 16, of the fast network 32."""


class OperatingPoint(NamedTuple):
    """From which probabilities on a network's word counts."""

    threshold: float
    """Probability that smoke reaches somewhere, as fixed on development views."""
    outline: float
    """Probability to which it is drawn from there."""
    threshold_dark: float
    """The same where a dark picture's tones were lifted; see `night.py`."""


def operating_point(spec: EngineSpec) -> OperatingPoint:
    """What a network's file says of it.

    Raises:
        ModelMismatch: it says nothing.
    """
    try:
        threshold = float(spec.metadata["threshold"])
        outline = float(spec.metadata["outline"])
        dark = float(spec.metadata.get("threshold_dark", threshold))
    except (KeyError, ValueError):
        raise ModelMismatch(
            f"{spec.name}: expected the operating point in the file's metadata as 'threshold' "
            "and 'outline'"
        ) from None
    return OperatingPoint(threshold, outline, dark)


class SmokeModel:
    """A smoke network on one device. Safe to call from many threads at once."""

    input_size: tuple[int, int] = (384, 640)
    """(height, width) it is made for; other multiples of `STRIDE` work, and cost in proportion."""

    def __init__(self, engine: Engine) -> None:
        _check_network(engine.spec)
        self._engine = engine
        self.name: str = engine.spec.name
        """Of the network."""
        self.digest: str = engine.spec.digest
        """SHA-256 of the model file."""
        self.threshold, self.outline, self.threshold_dark = operating_point(engine.spec)

    @property
    def backend(self) -> str:
        """What runs it now, with version, device and precision."""
        return self._engine.backend

    @property
    def state(self) -> EngineState:
        """What it runs on now, and why."""
        return self._engine.state

    def prepare(self, size: tuple[int, int]) -> None:
        """Compile for pictures of (height, width) now, not when the first one comes."""
        self(np.zeros((*size, 3), np.uint8))

    @staticmethod
    def mask_size(size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the map for a picture of this (height, width)."""
        return size[0] // MASK_STRIDE, size[1] // MASK_STRIDE

    def __call__(
        self,
        image: NDArray[np.uint8],
        background: NDArray[np.uint8] | None = None,
        *,
        dark: bool = False,
    ) -> NDArray[np.float32]:
        """The mask of `look`."""
        return self.look(image, background, dark=dark).mask

    def look(
        self,
        image: NDArray[np.uint8],
        background: NDArray[np.uint8] | None = None,
        *,
        dark: bool = False,
    ) -> Look:
        """Look at one picture.

        Args:
            image: (h, w, 3) RGB, at `input_size` or another multiple of `STRIDE`.
            background: the same view without what is new in it, of the same shape, if known.
            dark: it was dark and its tones were lifted, so that the network is less sure: the mask
                is stretched to have `threshold` where it has `threshold_dark`.

        Raises:
            ModelMismatch: a shape or type does not fit.
        """
        _check("image", image, image.shape)
        if background is not None:
            _check("background", background, image.shape)
        normal = image if background is None else background
        flag = np.array([background is not None], np.float32)
        outputs = self._engine.infer(
            {"image": image[None], "background": normal[None], "has_background": flag}
        )
        mask = outputs["mask"][0]
        if dark and self.threshold_dark != self.threshold:
            known = (0, self.threshold_dark, 1), (0, self.threshold, 1)
            mask = np.interp(mask, *known).astype(np.float32)
        return Look(mask, float(outputs["picture"][0]), outputs["evidence"][0])

    def close(self) -> None:
        """Give back what the engine holds."""
        self._engine.close()


def open_smoke_model(
    model: str | Path = "smoke",
    *,
    device: Device = "auto",
    precision: Precision | None = None,
    prove: bool = True,
) -> SmokeModel:
    """Open a shipped smoke network, or another with the same inputs and outputs.

    Args:
        model: a name in `SHIPPED`, or the path of an ONNX file.
        device: see `engines.engine.Device`.
        precision: None for f32 on the CPU, which means the same on every one, and f16 on a GPU;
            bf16 is about twice as fast on CPUs that have it.
        prove: compare it with the reference first, once for each machine; see `engines.validation`.

    Raises:
        ModelFileError: the file is missing, damaged or no ONNX.
        ModelMismatch: it is a network for something else.
        DeviceUnavailable: no such device or precision here.
        InaccurateEngine: it differs from the reference by more than `TOLERANCES`.
    """
    engine = load_validated_engine(
        model_path(model),
        device=device,
        precision=precision,
        samples=proof_samples,
        tolerances=TOLERANCES,
        check=_check_network,
        prove=prove,
    )
    return SmokeModel(engine)


def _check_network(spec: EngineSpec) -> None:
    spec.require(inputs=_INPUTS, outputs=_OUTPUTS)
    operating_point(spec)


def model_path(model: str | Path) -> Path:
    """The file of a shipped network, or of another one.

    Raises:
        ModelFileError: no shipped network is called that.
    """
    if isinstance(model, str) and "/" not in model and not model.endswith(".onnx"):
        if model not in SHIPPED:
            raise ModelFileError(
                f"no smoke network is called {model!r}: there are {', '.join(SHIPPED)}, "
                "or give the path of an ONNX file"
            )
        return SHIPPED[model]
    return Path(model)


def proof_samples() -> Sequence[Mapping[str, NDArray[Any]]]:
    """Scenes to prove an engine with: sky, ground, grain, a pale plume; one with a background."""
    random = np.random.default_rng(20)
    height, width = SmokeModel.input_size
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    samples = []
    for number, (across, down, spread, opacity) in enumerate(
        [(0.3, 0.45, 9, 0.7), (0.7, 0.55, 28, 0.5), (0.5, 0.6, 90, 0.8)]
    ):
        sky = 190 - 60 * rows / height
        ground = 70 + 25 * np.sin(columns / 17) * np.cos(rows / 11)
        scene = np.where(rows < height * 0.5, sky, ground)[..., None] * [0.9, 1.0, 1.1]
        scene += random.normal(0, 4, scene.shape)
        away = ((columns - across * width) / spread) ** 2 + ((rows - down * height) / spread) ** 2
        plume = (opacity * np.exp(-away))[..., None]
        image = np.clip(scene * (1 - plume) + 205 * plume, 0, 255).astype(np.uint8)
        background = np.clip(scene + random.normal(0, 3, scene.shape), 0, 255).astype(np.uint8)
        samples.append(
            {
                "image": image[None],
                "background": background[None],
                "has_background": np.array([number % 2], np.float32),
            }
        )
    return samples


def _check(name: str, array: NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    """Say what is wrong with a picture in the words of pictures."""
    if array.dtype != np.uint8 or array.shape[2:] != (3,):
        raise ModelMismatch(
            f"{name}: expected (height, width, 3) uint8, got {array.shape} {array.dtype}"
        )
    if array.shape != shape:
        raise ModelMismatch(f"{name}: expected the picture's shape {shape}, got {array.shape}")
    height, width = array.shape[:2]
    if height % STRIDE or width % STRIDE or not array.size:
        raise ModelMismatch(
            f"{name}: height and width must be multiples of {STRIDE}, got {height}x{width}"
        )
