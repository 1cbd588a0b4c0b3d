"""Export a network, checked against PyTorch: `python -m engines.interpolation.export`."""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
import torch

from engines.backends.cpu import open_reference
from engines.errors import InaccurateEngine
from engines.interpolation import dis_interpolation
from engines.interpolation.flow_network import model as flow_network
from engines.interpolation.flow_network.network import DeployedFlowNetwork, FlowNetwork
from engines.interpolation.model import SHIPPED, validation_samples
from engines.interpolation.network import DeployedFusionNet, FusionNet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

VERSION = "2"
"""Version of the shipped weights; incremented with each release of them."""
OPSET = 17


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the two networks and how it is exported."""

    network: Callable[[], torch.nn.Module]
    """Returns an untrained network."""
    deployed: Callable[[Any], torch.nn.Module]
    """Wraps it for the arrays of the program."""
    way: ModuleType
    """Module that feeds it in the program."""
    path: Path
    """The shipped file."""
    name: str
    """Name in the metadata."""
    sides: Mapping[str, dict[int, str]]
    """Dynamic axes of its arrays."""
    allowed: float
    """Largest difference of PyTorch and ONNX Runtime, both fp32: of weights, and of warp fields in
    pixels, which accumulate sums over a thousand pixels."""


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
    flow_network,
    flow_network.SHIPPED,
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
    """Write a network; return the largest difference from PyTorch.

    Raises:
        InaccurateEngine: The difference exceeds the tolerance; no file is left.
    """
    deployed = kind.deployed(network).eval()
    part = path.with_suffix(".part")
    names = list(kind.way.INPUTS)
    # The smaller sample: tracing runs it in PyTorch once.
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
    """Return the largest difference of PyTorch and the file, both fp32, on validation samples."""
    engine = open_reference(path)
    largest = 0.0
    for sample in validation_samples(kind.way):
        with torch.no_grad():
            outputs = deployed(*(torch.from_numpy(sample[name]) for name in kind.way.INPUTS))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        got = engine.infer(sample)
        for name, want in zip(kind.way.OUTPUTS, outputs, strict=True):
            largest = max(largest, float(np.abs(want.numpy() - got[name]).max()))
    return largest


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=list(KINDS), default="fusion")
    parser.add_argument(
        "--checkpoint", type=Path, help="default: that of runs/interpolation/NETWORK"
    )
    parser.add_argument("--output", type=Path, help="default: the shipped file")
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
    print(f"{output}: {size:.2f} MB, {state['step']} steps, difference from PyTorch {apart:.1e}")


if __name__ == "__main__":
    main()
