"""Writes the network as ONNX and checks it against PyTorch: `python -m engines.smoke.export`."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from engines.engine import open_reference
from engines.errors import InaccurateEngine
from engines.smoke.model import SHIPPED, proof_samples
from engines.smoke.network import DeployedNetwork, SmokeNetwork

VERSION = "1"
"""Of the shipped weights; counts up with each release of them."""
LARGEST_DIFFERENCE = 1e-3
"""Between PyTorch and ONNX Runtime, both fp32, in probability."""
OPSET = 17


def export(network: SmokeNetwork, path: Path, *, metadata: dict[str, str]) -> float:
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
            output_names=["mask", "picture"],
            dynamic_axes={
                "image": any_size,
                "background": any_size,
                "mask": {1: "mask_height", 2: "mask_width"},
            },
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(str(part))
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, str(part))
    apart = difference(deployed, part)
    if not apart <= LARGEST_DIFFERENCE:
        part.unlink()
        raise InaccurateEngine(f"the exported network differs from PyTorch by {apart:.5f}")
    part.replace(path)
    return apart


def difference(deployed: DeployedNetwork, path: Path) -> float:
    """Largest difference between PyTorch and the file, both fp32, on the proof samples."""
    engine = open_reference(path)
    largest = 0.0
    for sample in proof_samples():
        arrays: list[Any] = [sample[name] for name in ("image", "background", "has_background")]
        with torch.no_grad():
            want = deployed(*map(torch.from_numpy, arrays))
        got = engine.infer(sample)
        for name, values in zip(("mask", "picture"), want, strict=True):
            largest = max(largest, float(np.abs(values.numpy() - got[name]).max()))
    return largest


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/smoke/checkpoint.pt"))
    parser.add_argument("--output", type=Path, default=SHIPPED)
    parser.add_argument("--threshold", type=float, required=True, help="fixed on development views")
    a = parser.parse_args()
    state = torch.load(a.checkpoint, weights_only=True)
    network = SmokeNetwork()
    network.load_state_dict(state["average"])
    metadata = {
        "name": "smoke",
        "version": VERSION,
        "threshold": f"{a.threshold:.3f}",
        "steps": str(state["step"]),
        "training_code": state["code"],
        "training_data": state["data"],
    }
    apart = export(network, a.output, metadata=metadata)
    size = a.output.stat().st_size / 1e6
    print(f"{a.output}: {size:.1f} MB, {state['step']} steps, differs from PyTorch by {apart:.1e}")


if __name__ == "__main__":
    main()
