"""Export the low-light network, checked against PyTorch: `python -m engines.lowlight.export`."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from engines.common.export import export_checked, export_line, training_facts
from engines.lowlight.model import SHIPPED, validation_samples
from engines.lowlight.network import DeployedNetwork, LowLightNetwork

VERSION = "1"
"""Version of the shipped weights; incremented with each release of them."""
MAX_DIFFERENCE = 1e-3
"""Largest difference between PyTorch and ONNX Runtime, both fp32."""
OUTPUTS = ("curves", "gains", "exposure", "balance")


def export(network: LowLightNetwork, path: Path, *, metadata: dict[str, str]) -> float:
    """Write a network; return the largest difference from PyTorch.

    Raises:
        InaccurateEngine: The difference exceeds the tolerance; no file is left.
    """
    samples = validation_samples()
    return export_checked(
        DeployedNetwork(network),
        path,
        example=samples[0],
        outputs=OUTPUTS,
        dynamic_axes={
            "thumbnail": {1: "height", 2: "width"},
            "exposure": {1: "rows", 2: "columns"},
        },
        metadata=metadata,
        samples=samples,
        allowed=MAX_DIFFERENCE,
    )


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=Path("runs/lowlight/checkpoint.pt"))
    parser.add_argument("--output", type=Path, default=SHIPPED)
    a = parser.parse_args()
    state = torch.load(a.checkpoint, weights_only=True)
    network = LowLightNetwork()
    network.load_state_dict(state["average"])
    metadata = {"name": "lowlight", "version": VERSION, **training_facts(state)}
    difference = export(network, a.output, metadata=metadata)
    print(export_line(a.output, state["step"], difference))


if __name__ == "__main__":
    main()
