"""Exports a trained network as ONNX and checks the file against PyTorch."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch

from engines.backends.cpu import open_reference
from engines.errors import InaccurateEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import nn

    Arrays = Mapping[str, NDArray[Any]]

OPSET = 17


def export_checked(
    deployed: nn.Module,
    path: Path,
    *,
    example: Arrays,
    outputs: Sequence[str],
    dynamic_axes: Mapping[str, Mapping[int, str]],
    metadata: Mapping[str, str],
    samples: Sequence[Arrays],
    allowed: float,
    compress: Callable[[onnx.ModelProto], onnx.ModelProto] | None = None,
    allowed_compressed: float = 0.0,
) -> float:
    """Write a network; return the largest difference from PyTorch, both in fp32.

    Args:
        deployed: The network as it is run, whose arguments are the inputs in order.
        path: File to write.
        example: Name and an example of each input, in the order of the arguments.
        outputs: Names of the outputs, in order.
        dynamic_axes: Names of the axes of any size, by input or output.
        metadata: Written into the file.
        samples: Inputs for the comparison, in the order of the arguments.
        allowed: Largest allowed difference of an output.
        compress: Reduces the size of the file after the first comparison.
        allowed_compressed: Largest allowed difference after that.

    Raises:
        InaccurateEngine: The difference exceeds the tolerance; no file is left.
    """
    part = path.with_suffix(".part")
    with warnings.catch_warnings():
        # The newer exporter needs every dynamic size declared in strides, and networks without
        # control flow gain nothing from it.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            deployed.eval(),
            tuple(map(torch.from_numpy, example.values())),
            str(part),
            input_names=list(example),
            output_names=list(outputs),
            dynamic_axes={name: dict(axes) for name, axes in dynamic_axes.items()},
            opset_version=OPSET,
            dynamo=False,
        )
    try:
        largest = _checked_difference(deployed, part, outputs, samples, allowed)
        model = onnx.load(str(part))
        if compress is not None:
            model = compress(model)
        onnx.helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model)
        onnx.save(model, str(part))
        if compress is not None:
            compressed = _checked_difference(deployed, part, outputs, samples, allowed_compressed)
            largest = max(largest, compressed)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return largest


def _checked_difference(
    deployed: nn.Module,
    path: Path,
    outputs: Sequence[str],
    samples: Sequence[Arrays],
    allowed: float,
) -> float:
    """Return the largest difference of an output between PyTorch and the file.

    Raises:
        InaccurateEngine: It exceeds `allowed`.
    """
    engine = open_reference(path)
    largest = 0.0
    for sample in samples:
        with torch.no_grad():
            expected = deployed(*map(torch.from_numpy, sample.values()))
        actual = engine.infer(sample)
        expected = expected if isinstance(expected, tuple) else (expected,)
        for name, values in zip(outputs, expected, strict=True):
            largest = max(largest, float(np.abs(values.numpy() - actual[name]).max()))
    if not largest <= allowed:
        raise InaccurateEngine(f"the exported network differs from PyTorch by {largest:.5f}")
    return largest


def training_facts(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata that a checkpoint gives its exported file: steps and digests."""
    return {
        "steps": str(checkpoint["step"]),
        "training_code": checkpoint["code"],
        "training_data": checkpoint["data"],
    }


def export_line(path: Path, steps: int, difference: float) -> str:
    """Return the line that the export commands print."""
    size = path.stat().st_size / 1e6
    return f"{path}: {size:.2f} MB, {steps} steps, difference from PyTorch {difference:.1e}"
