"""Writes a network as ONNX and checks it: `python -m engines.interpolation.export`."""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
import torch

from engines.engine import open_reference
from engines.errors import InaccurateEngine
from engines.interpolation import dis_interpolation
from engines.interpolation.flow_network import model as whole
from engines.interpolation.flow_network.network import DeployedFlowNetwork, FlowNetwork
from engines.interpolation.model import SHIPPED, WHOLE, validation_samples
from engines.interpolation.network import DeployedFusionNet, FusionNet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

VERSION = "2"
"""Of the shipped weights; counts up with each release of them."""
OPSET = 17


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the two networks, and how it is written."""

    network: Callable[[], torch.nn.Module]
    """Makes one that has learnt nothing."""
    deployed: Callable[[Any], torch.nn.Module]
    """Gives it the arrays of the program."""
    way: ModuleType
    """What feeds it in the program."""
    path: Path
    """Where the shipped one is."""
    name: str
    """In the file."""
    sides: Mapping[str, dict[int, str]]
    """Sides of its arrays that may have any length."""
    allowed: float
    """Largest difference between PyTorch and ONNX Runtime, both fp32: of shares, and of ways in
    pixels, where sums over a thousand pixels stand before and after one another."""


FUSION = Kind(
    FusionNet,
    DeployedFusionNet,
    dis_interpolation,
    SHIPPED,
    "interpolation",
    {
        "differences": {1: "height", 2: "width"},
        "blurred_differences": {1: "rows", 2: "columns"},
        "motion_fields": {1: "rows", 2: "columns"},
        "weights": {2: "height", 3: "width"},
    },
    1e-3,
)
FLOW = Kind(
    FlowNetwork,
    DeployedFlowNetwork,
    whole,
    WHOLE,
    "interpolation-whole",
    {
        "before": {1: "height", 2: "width"},
        "after": {1: "height", 2: "width"},
        "ways": {2: "rows", 3: "columns"},
        "background": {2: "rows", 3: "columns"},
        "shares": {2: "height", 3: "width"},
    },
    1e-2,
)
KINDS: Mapping[str, Kind] = {"fusion": FUSION, "flow": FLOW}


def export(
    network: torch.nn.Module, path: Path, *, metadata: Mapping[str, str], kind: Kind = FUSION
) -> float:
    """Write a network; the largest difference from PyTorch comes back.

    Raises:
        InaccurateEngine: The written network says something else than PyTorch.
    """
    deployed = kind.deployed(network).eval()
    part = path.with_suffix(".part")
    names = list(kind.way.INPUTS)
    # The smaller sample: what is traced runs in PyTorch once.
    example = tuple(torch.from_numpy(validation_samples(kind.way)[-1][name]) for name in names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter: nothing here needs the newer one
        torch.onnx.export(
            deployed,
            example,
            str(part),
            input_names=names,
            output_names=list(kind.way.OUTPUTS),
            dynamic_axes=dict(kind.sides),
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(str(part))
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    onnx.save(model, str(part))
    apart = difference(deployed, part, kind)
    if not apart <= kind.allowed:
        part.unlink()
        raise InaccurateEngine(f"the exported network differs from PyTorch by {apart:.5f}")
    part.replace(path)
    return apart


def difference(deployed: torch.nn.Module, path: Path, kind: Kind) -> float:
    """Largest difference between PyTorch and the file, both fp32, on the proof samples."""
    engine = open_reference(path)
    largest = 0.0
    for sample in validation_samples(kind.way):
        with torch.no_grad():
            said = deployed(*(torch.from_numpy(sample[name]) for name in kind.way.INPUTS))
        said = said if isinstance(said, tuple) else (said,)
        got = engine.infer(sample)
        for name, want in zip(kind.way.OUTPUTS, said, strict=True):
            largest = max(largest, float(np.abs(want.numpy() - got[name]).max()))
    return largest


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=list(KINDS), default="fusion")
    parser.add_argument("--checkpoint", type=Path, help="runs/interpolation/NETWORK's if left out")
    parser.add_argument("--output", type=Path, help="the shipped file if left out")
    a = parser.parse_args()
    kind = KINDS[a.network]
    checkpoint = a.checkpoint or Path("runs/interpolation") / a.network / "checkpoint.pt"
    state = torch.load(checkpoint, weights_only=True)
    network = kind.network()
    network.load_state_dict(cast("Any", state["average"]))
    metadata = {
        "name": kind.name,
        "version": VERSION,
        "steps": str(state["step"]),
        "training_code": state["code"],
        "training_data": state["data"],
    }
    output = a.output or kind.path
    apart = export(network, output, metadata=metadata, kind=kind)
    size = output.stat().st_size / 1e6
    print(f"{output}: {size:.2f} MB, {state['step']} steps, differs from PyTorch by {apart:.1e}")


if __name__ == "__main__":
    main()
