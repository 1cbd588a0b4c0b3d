"""Export a smoke network as ONNX, checked against PyTorch: `python -m engines.smoke.export`."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from engines.backends.cpu import open_reference
from engines.errors import InaccurateEngine
from engines.smoke.model import SHIPPED, validation_samples
from engines.smoke.network import DeployedNetwork
from engines.smoke.train import read_network

VERSION = "3"
"""Version of the shipped weights; incremented with each release of them."""
MAX_DIFFERENCE = 1e-3
"""Between PyTorch and ONNX Runtime, both fp32, in probability."""
MAX_ROUNDING = 0.02
"""The same, with the weights stored in 16 bits."""
MIN_HALVED = 256
"""Layers with fewer weights keep 32 bits: they hardly count in the size of the file."""
OPSET = 17
OUTPUTS = ("mask", "image_score", "cam")


def export(network: nn.Module, path: Path, *, metadata: dict[str, str]) -> float:
    """Write a network; return the largest difference from PyTorch.

    Raises:
        InaccurateEngine: The difference exceeds the tolerance; no file is left.
    """
    deployed = DeployedNetwork(network).eval()
    image = torch.zeros((1, 384, 640, 3), dtype=torch.uint8)
    any_size = {1: "height", 2: "width"}
    part = path.with_suffix(".part")
    with warnings.catch_warnings():
        # The newer exporter needs every dynamic size declared in strides, and a network without
        # control flow gains nothing from it.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            deployed,
            (image, image, torch.ones(1)),
            str(part),
            input_names=["image", "background", "has_background"],
            output_names=list(OUTPUTS),
            dynamic_axes={
                "image": any_size,
                "background": any_size,
                "mask": {1: "mask_height", 2: "mask_width"},
                "cam": {1: "cam_height", 2: "cam_width"},
            },
            opset_version=OPSET,
            dynamo=False,
        )
    apart = _agrees(deployed, part, MAX_DIFFERENCE)
    model = _halved(onnx.load(str(part)))
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, str(part))
    apart = max(apart, _agrees(deployed, part, MAX_ROUNDING))
    part.replace(path)
    return apart


def _agrees(deployed: DeployedNetwork, part: Path, most: float) -> float:
    apart = difference(deployed, part)
    if not apart <= most:
        part.unlink()
        raise InaccurateEngine(f"the exported network differs from PyTorch by {apart:.5f}")
    return apart


def _halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store the weights in 16 bits, cast to f32 when the file is loaded: half the file size."""
    casts = []
    for weights in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype != np.float32 or values.size < MIN_HALVED:
            continue
        name = weights.name
        halved = onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.f16")
        weights.CopyFrom(halved)
        casts.append(
            onnx.helper.make_node("Cast", [halved.name], [name], to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def difference(deployed: DeployedNetwork, path: Path) -> float:
    """Return the largest difference of PyTorch and the file, both fp32, on validation samples."""
    engine = open_reference(path)
    largest = 0.0
    for sample in validation_samples():
        arrays: list[Any] = [sample[name] for name in ("image", "background", "has_background")]
        with torch.no_grad():
            want = deployed(*map(torch.from_numpy, arrays))
        got = engine.infer(sample)
        for name, values in zip(OUTPUTS, want, strict=True):
            largest = max(largest, float(np.abs(values.numpy() - got[name]).max()))
    return largest


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/smoke/best.pt"))
    parser.add_argument("--output", type=Path, help="default: the shipped file")
    parser.add_argument(
        "--threshold", type=float, required=True, help="chosen on development views"
    )
    parser.add_argument("--low-threshold", type=float, required=True, help="likewise")
    parser.add_argument(
        "--threshold-dark", type=float, required=True, help="by tools/evaluate_dark.py, likewise"
    )
    a = parser.parse_args()
    state = torch.load(a.checkpoint, weights_only=True)
    network = read_network(a.checkpoint)
    metadata = {
        "name": state["name"],
        "version": VERSION,
        "threshold": f"{a.threshold:.3f}",
        "low_threshold": f"{a.low_threshold:.3f}",
        "threshold_dark": f"{a.threshold_dark:.3f}",
        "steps": str(state["step"]),
        "training_code": state["code"],
        "training_data": state["data"],
    }
    output = a.output or SHIPPED[state["name"]]
    apart = export(network, output, metadata=metadata)
    size = output.stat().st_size / 1e6
    print(f"{output}: {size:.1f} MB, {state['step']} steps, difference from PyTorch {apart:.1e}")


if __name__ == "__main__":
    main()
