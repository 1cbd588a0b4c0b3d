"""Writes the network as ONNX and checks it: `python -m engines.interpolation.export`."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch

from engines.engine import open_reference
from engines.errors import InaccurateEngine
from engines.interpolation.model import SHIPPED, proof_samples
from engines.interpolation.network import DeployedMixer, Mixer

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = "1"
"""Of the shipped weights; counts up with each release of them."""
LARGEST_DIFFERENCE = 1e-3
"""Between PyTorch and ONNX Runtime, both fp32."""
OPSET = 17
INPUTS = ("seen", "crowd", "fields", "t")


def export(network: Mixer, path: Path, *, metadata: Mapping[str, str]) -> float:
    """Write a network; the largest difference from PyTorch comes back.

    Raises:
        InaccurateEngine: The written network says something else than PyTorch.
    """
    deployed = DeployedMixer(network).eval()
    part = path.with_suffix(".part")
    example = tuple(torch.from_numpy(proof_samples()[0][name]) for name in INPUTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter: nothing here needs the newer one
        torch.onnx.export(
            deployed,
            example,
            str(part),
            input_names=list(INPUTS),
            output_names=["shares"],
            dynamic_axes={
                "seen": {1: "height", 2: "width"},
                "crowd": {1: "rows", 2: "columns"},
                "fields": {1: "rows", 2: "columns"},
                "shares": {2: "height", 3: "width"},
            },
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(str(part))
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    onnx.save(model, str(part))
    apart = difference(deployed, part)
    if not apart <= LARGEST_DIFFERENCE:
        part.unlink()
        raise InaccurateEngine(f"the exported network differs from PyTorch by {apart:.5f}")
    part.replace(path)
    return apart


def difference(deployed: DeployedMixer, path: Path) -> float:
    """Largest difference between PyTorch and the file, both fp32, on the proof samples."""
    engine = open_reference(path)
    largest = 0.0
    for sample in proof_samples():
        with torch.no_grad():
            want = deployed(*(torch.from_numpy(sample[name]) for name in INPUTS))
        largest = max(largest, float(np.abs(want.numpy() - engine.infer(sample)["shares"]).max()))
    return largest


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/interpolation/checkpoint.pt"))
    parser.add_argument("--output", type=Path, default=SHIPPED)
    a = parser.parse_args()
    state = torch.load(a.checkpoint, weights_only=True)
    network = Mixer()
    network.load_state_dict(state["average"])
    metadata = {
        "name": "interpolation",
        "version": VERSION,
        "steps": str(state["step"]),
        "training_code": state["code"],
        "training_data": state["data"],
    }
    apart = export(network, a.output, metadata=metadata)
    size = a.output.stat().st_size / 1e6
    print(f"{a.output}: {size:.2f} MB, {state['step']} steps, differs from PyTorch by {apart:.1e}")


if __name__ == "__main__":
    main()
