"""Export a smoke network as ONNX, checked against PyTorch: `python -m engines.smoke.export`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from engines.common.export import export_checked, export_line, training_facts
from engines.smoke.model import SHIPPED, validation_samples
from engines.smoke.network import DeployedNetwork
from engines.smoke.train import read_network

VERSION = "3"
"""Version of the shipped weights; incremented with each release of them."""
MAX_DIFFERENCE = 1e-3
"""Largest difference in probability between PyTorch and ONNX Runtime, both fp32."""
MAX_ROUNDING = 0.02
"""The same, with the weights stored in 16 bits."""
MIN_HALVED = 256
"""Layers with fewer weights keep 32 bits: they hardly count in the size of the file."""
OUTPUTS = ("mask", "image_score", "cam")


def export(network: nn.Module, path: Path, *, metadata: dict[str, str]) -> float:
    """Write a network; return the largest difference from PyTorch.

    Raises:
        InaccurateEngine: The difference exceeds the tolerance; no file is left.
    """
    image = np.zeros((1, 384, 640, 3), np.uint8)
    any_size = {1: "height", 2: "width"}
    return export_checked(
        DeployedNetwork(network),
        path,
        example={"image": image, "background": image, "has_background": np.ones(1, np.float32)},
        outputs=OUTPUTS,
        dynamic_axes={
            "image": any_size,
            "background": any_size,
            "mask": {1: "mask_height", 2: "mask_width"},
            "cam": {1: "cam_height", 2: "cam_width"},
        },
        metadata=metadata,
        samples=validation_samples(),
        allowed=MAX_DIFFERENCE,
        compress=_halved,
        allowed_compressed=MAX_ROUNDING,
    )


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


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/smoke/best.pt"))
    parser.add_argument("--output", type=Path, help="default: the shipped file")
    parser.add_argument(
        "--threshold", type=float, required=True, help="chosen on development views"
    )
    parser.add_argument("--low-threshold", type=float, required=True, help="chosen likewise")
    parser.add_argument(
        "--threshold-dark", type=float, required=True, help="chosen by tools/evaluate_dark.py"
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
        **training_facts(state),
    }
    output = a.output or SHIPPED[state["name"]]
    difference = export(network, output, metadata=metadata)
    print(export_line(output, state["step"], difference))


if __name__ == "__main__":
    main()
