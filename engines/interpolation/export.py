"""Export the fusion network, checked against PyTorch: `python -m engines.interpolation.export`."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
import torch

from engines.backends.cpu import open_reference
from engines.errors import InaccurateEngine
from engines.interpolation.dis_interpolation import INPUTS, OUTPUTS
from engines.interpolation.model import SHIPPED, validation_samples
from engines.interpolation.network import DeployedFusionNet, FusionNet

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = "2"
"""Version of the shipped weights; incremented with each release of them."""
OPSET = 17
DYNAMIC_AXES = {
    "differences": {1: "height", 2: "width"},
    "blurred_differences": {1: "rows", 2: "columns"},
    "motion_fields": {1: "rows", 2: "columns"},
    "weights": {2: "height", 3: "width"},
}
ALLOWED = 1e-3
"""Largest difference of the blend weights between PyTorch and ONNX Runtime, both fp32."""


def export(
    network: FusionNet, path: Path, *, metadata: Mapping[str, str], allowed: float = ALLOWED
) -> float:
    """Write a network; return the largest difference from PyTorch.

    Raises:
        InaccurateEngine: The difference exceeds the tolerance; no file is left.
    """
    deployed = DeployedFusionNet(network).eval()
    part = path.with_suffix(".part")
    # The smaller sample: tracing runs it in PyTorch once.
    example = tuple(torch.from_numpy(validation_samples()[-1][name]) for name in INPUTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter: nothing here needs the newer one
        torch.onnx.export(
            deployed,
            example,
            str(part),
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes=DYNAMIC_AXES,
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(str(part))
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    onnx.save(model, str(part))
    largest = _difference(deployed, part)
    if not largest <= allowed:
        part.unlink()
        raise InaccurateEngine(f"the exported network differs from PyTorch by {largest:.5f}")
    part.replace(path)
    return largest


def _difference(deployed: DeployedFusionNet, path: Path) -> float:
    """Return the largest difference of PyTorch and the file, both fp32, on validation samples."""
    engine = open_reference(path)
    largest = 0.0
    for sample in validation_samples():
        with torch.no_grad():
            expected = deployed(*(torch.from_numpy(sample[name]) for name in INPUTS)).numpy()
        actual = engine.infer(sample)["weights"]
        largest = max(largest, float(np.abs(expected - actual).max()))
    return largest


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    checkpoint = Path("runs/interpolation/fusion/checkpoint.pt")
    parser.add_argument(
        "--checkpoint", type=Path, default=checkpoint, help=f"default: {checkpoint}"
    )
    parser.add_argument("--output", type=Path, default=SHIPPED, help="default: the shipped file")
    a = parser.parse_args()
    state = torch.load(a.checkpoint, weights_only=True)
    network = FusionNet()
    network.load_state_dict(cast("Any", state["average"]))
    metadata = {
        "name": "interpolation",
        "version": VERSION,
        "steps": str(state["step"]),
        "training_code": state["code"],
        "training_data": state["data"],
    }
    largest = export(network, a.output, metadata=metadata)
    size = a.output.stat().st_size / 1e6
    print(
        f"{a.output}: {size:.2f} MB, {state['step']} steps, difference from PyTorch {largest:.1e}"
    )


if __name__ == "__main__":
    main()
