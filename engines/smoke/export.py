"""Writes the network as ONNX and checks it against PyTorch: `python -m engines.smoke.export`."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from engines.engine import open_reference
from engines.errors import InaccurateEngine
from engines.smoke.model import SHIPPED, validation_samples
from engines.smoke.network import DeployedNetwork
from engines.smoke.train import read_network

VERSION = "3"
"""Of the shipped weights; counts up with each release of them."""
LARGEST_DIFFERENCE = 1e-3
"""Between PyTorch and ONNX Runtime, both fp32, in probability."""
LARGEST_ROUNDING = 0.02
"""The same, once the weights are stored in 16 bits."""
FEWEST_HALVED = 256
"""Weights of a layer from which on their file size matters."""
OPSET = 17
OUTPUTS = ("mask", "image_score", "cam")


def export(network: nn.Module, path: Path, *, metadata: dict[str, str]) -> float:
    """Write a network; the largest difference from PyTorch comes back.

    Raises:
        InaccurateEngine: the written network says something else than PyTorch.
    """
    deployed = DeployedNetwork(network).eval()
    picture = torch.zeros((1, 384, 640, 3), dtype=torch.uint8)
    any_size = {1: "height", 2: "width"}
    part = path.with_suffix(".part")
    with warnings.catch_warnings():
        # The newer exporter wants every open size declared in strides; a network without control
        # flow gains nothing from it.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            deployed,
            (picture, picture, torch.ones(1)),
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
    apart = _agrees(deployed, part, LARGEST_DIFFERENCE)
    model = _halved(onnx.load(str(part)))
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, str(part))
    apart = max(apart, _agrees(deployed, part, LARGEST_ROUNDING))
    part.replace(path)
    return apart


def _agrees(deployed: DeployedNetwork, part: Path, most: float) -> float:
    apart = difference(deployed, part)
    if not apart <= most:
        part.unlink()
        raise InaccurateEngine(f"the exported network differs from PyTorch by {apart:.5f}")
    return apart


def _halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with its weights stored in 16 bits: half the file, f32 again when opened."""
    casts = []
    for weights in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype != np.float32 or values.size < FEWEST_HALVED:
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
    """Largest difference between PyTorch and the file, both fp32, on the proof samples."""
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
    parser.add_argument("--output", type=Path, help="where it is shipped, if left out")
    parser.add_argument("--threshold", type=float, required=True, help="fixed on development views")
    parser.add_argument("--low-threshold", type=float, required=True, help="likewise")
    parser.add_argument("--threshold-dark", type=float, required=True, help="by `night`, likewise")
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
    print(f"{output}: {size:.1f} MB, {state['step']} steps, differs from PyTorch by {apart:.1e}")


if __name__ == "__main__":
    main()
