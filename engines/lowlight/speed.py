"""Time enhancement beside Zero-DCE: `python -m engines.lowlight.speed`.

Zero-DCE's own network, with the weights of the package neuro-low-light, runs through the same
backend as this project's networks, interleaved with everything the program does per frame.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from engines.backends.cpu import open_engine
from engines.benchmark import interleaved
from engines.common.i420 import rgb_to_i420
from engines.lowlight.baselines import zero_dce_network
from engines.lowlight.enhancer import Enhancer
from engines.lowlight.model import open_lowlight_model
from engines.lowlight.still_image import darken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.lowlight.enhancer import Model
    from engines.yuv import Yuv

SIZE = (360, 640)


def measure() -> dict[str, Any]:
    """Return ms per frame at 640x360, all cores busy, and the ratio.

    Raises:
        ModuleNotFoundError: The package with Zero-DCE's weights is missing.
    """
    rng = np.random.default_rng(1)
    day = rng.integers(0, 256, (SIZE[0] // 8, SIZE[1] // 8, 3)).repeat(8, 0).repeat(8, 1)
    frames = [darken(day.astype(np.uint8), rng) for _ in range(4)]
    model = open_lowlight_model(device="cpu", validate=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "zero-dce.onnx"
        example = torch.zeros(1, 3, *SIZE)
        torch.onnx.export(
            zero_dce_network(), (example,), str(path), input_names=["image"], dynamo=False
        )
        baseline = open_engine(path, precision="f32")
        x = np.ascontiguousarray(frames[0].transpose(2, 0, 1)[None] / np.float32(255))
        taken = interleaved(
            {
                "ours": _Stream(model, [rgb_to_i420(frame) for frame in frames]),
                "zero_dce": lambda: baseline.infer({"image": x}),
            }
        )
        baseline.close()
    model.close()
    return {"milliseconds": taken, "times_as_fast": taken["zero_dce"] / taken["ours"]}


class _Stream(threading.local):
    """The frames of a stream, one per call; each calling thread has its own stream."""

    def __init__(self, model: Model, frames: Sequence[Yuv]) -> None:
        self._enhance, self._frames, self._number = Enhancer(model), frames, 0

    def __call__(self) -> None:
        """Enhance the next frame."""
        frame = self._frames[self._number % len(self._frames)]
        self._enhance(frame, self._number / 25)
        self._number += 1


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(json.dumps(measure(), indent=1))


if __name__ == "__main__":
    main()
