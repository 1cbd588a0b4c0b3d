"""Times enhancing beside Zero-DCE: `python -m engines.lowlight.speed`.

Zero-DCE's own network, with the weights of the package neuro-low-light, runs through the backend
that this project's networks run through, in turns with all that the program does to a picture.
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

from engines.benchmark import interleaved
from engines.engine import open_engine
from engines.lowlight.baselines import zero_dce_network
from engines.lowlight.enhancer import Enhancer
from engines.lowlight.model import open_lowlight_model
from engines.lowlight.still_image import darkened, to_planes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.lowlight.enhancer import Model
    from engines.yuv import Yuv

SIZE = (360, 640)


def measure() -> dict[str, Any]:
    """Milliseconds a picture at 640x360, every core at work, and the ratio of the two.

    Raises:
        ModuleNotFoundError: The package with the peer's weights is missing.
    """
    random = np.random.default_rng(1)
    day = random.integers(0, 256, (SIZE[0] // 8, SIZE[1] // 8, 3)).repeat(8, 0).repeat(8, 1)
    pictures = [darkened(day.astype(np.uint8), random) for _ in range(4)]
    model = open_lowlight_model(device="cpu", prove=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "zero-dce.onnx"
        example = torch.zeros(1, 3, *SIZE)
        torch.onnx.export(
            zero_dce_network(), (example,), str(path), input_names=["picture"], dynamo=False
        )
        peer = open_engine(path, device="cpu", precision="f32")
        x = np.ascontiguousarray(pictures[0].transpose(2, 0, 1)[None] / np.float32(255))
        taken = interleaved(
            {
                "ours": _Stream(model, [to_planes(picture) for picture in pictures]),
                "zero_dce": lambda: peer.infer({"picture": x}),
            }
        )
        peer.close()
    model.close()
    return {"milliseconds": taken, "times_as_fast": taken["zero_dce"] / taken["ours"]}


class _Stream(threading.local):
    """Pictures of a stream, one after the other; each thread that calls has a stream of its own."""

    def __init__(self, model: Model, pictures: Sequence[Yuv]) -> None:
        self._enhance, self._pictures, self._number = Enhancer(model), pictures, 0

    def __call__(self) -> None:
        """Enhance the next one."""
        picture = self._pictures[self._number % len(self._pictures)]
        self._enhance(picture, self._number / 25)
        self._number += 1


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(json.dumps(measure(), indent=1))


if __name__ == "__main__":
    main()
