"""Export the low-light network, checked against PyTorch: `python -m engines.lowlight.export`."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch

from engines.backends.cpu import open_reference
from engines.errors import InaccurateEngine
from engines.lowlight.model import SHIPPED, LowLightModel, validation_samples
from engines.lowlight.network import DeployedNetwork, LowLightNetwork

VERSION = "1"
"""Version of the shipped weights; incremented with each release of them."""
MAX_DIFFERENCE = 1e-3
"""Between PyTorch and ONNX Runtime, both fp32."""
OPSET = 17
OUTPUTS = ("curves", "gains", "exposure", "balance")


def export(network: LowLightNetwork, path: Path, *, metadata: dict[str, str]) -> float:
    """Write a network; return the largest difference from PyTorch.

    Raises:
        InaccurateEngine: The difference exceeds the tolerance; no file is left.
    """
    deployed = DeployedNetwork(network).eval()
    thumbnail = torch.zeros((1, *LowLightModel.thumbnail_size, 3), dtype=torch.uint8)
    part = path.with_suffix(".part")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter: nothing here needs the newer one
        torch.onnx.export(
            deployed,
            (thumbnail, torch.ones(1)),
            str(part),
            input_names=["thumbnail", "noise"],
            output_names=list(OUTPUTS),
            dynamic_axes={
                "thumbnail": {1: "height", 2: "width"},
                "exposure": {1: "rows", 2: "columns"},
            },
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(str(part))
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, str(part))
    apart = difference(deployed, part)
    if not apart <= MAX_DIFFERENCE:
        part.unlink()
        raise InaccurateEngine(f"the exported network differs from PyTorch by {apart:.5f}")
    part.replace(path)
    return apart


def difference(deployed: DeployedNetwork, path: Path) -> float:
    """Return the largest difference of PyTorch and the file, both fp32, on validation samples."""
    engine = open_reference(path)
    largest = 0.0
    for sample in validation_samples():
        with torch.no_grad():
            want = deployed(*(torch.from_numpy(sample[name]) for name in ("thumbnail", "noise")))
        got = engine.infer(sample)
        for name, values in zip(OUTPUTS, want, strict=True):
            largest = max(largest, float(np.abs(values.numpy() - got[name]).max()))
    return largest


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/lowlight/checkpoint.pt"))
    parser.add_argument("--output", type=Path, default=SHIPPED)
    a = parser.parse_args()
    state = torch.load(a.checkpoint, weights_only=True)
    network = LowLightNetwork()
    network.load_state_dict(state["average"])
    metadata = {
        "name": "lowlight",
        "version": VERSION,
        "steps": str(state["step"]),
        "training_code": state["code"],
        "training_data": state["data"],
    }
    apart = export(network, a.output, metadata=metadata)
    size = a.output.stat().st_size / 1e6
    print(f"{a.output}: {size:.2f} MB, {state['step']} steps, difference from PyTorch {apart:.1e}")


if __name__ == "__main__":
    main()
