"""Export the fusion network, checked against PyTorch: `python -m engines.interpolation.export`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from engines.common.export import export_checked, export_line, training_facts
from engines.interpolation.dis_interpolation import OUTPUTS
from engines.interpolation.model import SHIPPED, validation_samples
from engines.interpolation.network import DeployedFusionNet, FusionNet

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = "2"
"""Version of the shipped weights; incremented with each release of them."""
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
    samples = validation_samples()
    return export_checked(
        DeployedFusionNet(network),
        path,
        example=samples[-1],  # the smaller sample: tracing runs it in PyTorch once
        outputs=list(OUTPUTS),
        dynamic_axes=DYNAMIC_AXES,
        metadata=metadata,
        samples=samples,
        allowed=allowed,
    )


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    checkpoint = Path("runs/interpolation/fusion/checkpoint.pt")
    parser.add_argument("--checkpoint", type=Path, default=checkpoint)
    parser.add_argument("--output", type=Path, default=SHIPPED, help="default: the shipped file")
    a = parser.parse_args()
    state = torch.load(a.checkpoint, weights_only=True)
    network = FusionNet()
    network.load_state_dict(cast("Any", state["average"]))
    metadata = {"name": "interpolation", "version": VERSION, **training_facts(state)}
    difference = export(network, a.output, metadata=metadata)
    print(export_line(a.output, state["step"], difference))


if __name__ == "__main__":
    main()
