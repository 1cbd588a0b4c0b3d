"""Turns the convolutions of a network into int8, with every rounding written into the graph.

TensorRT computes in int8 where it is told to by pairs of QuantizeLinear and DequantizeLinear
(developer guide, "Explicit Quantization"): symmetric, one scale for each tensor that goes in, one
for each filter. What scales depend on, the largest magnitude that a tensor has on real inputs, is
found by `ranges_of`. ONNX Runtime computes the same graph, so what is lost is known without a GPU:
`tools/int8_loss.py` tells. It is too much for the networks that are shipped, see README.md; one
that was trained for it may stand it.
"""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engines.engine import open_reference
from engines.errors import ModelMismatch
from engines.modelfile import ModelFile
from engines.plans.onnx_passes import constants

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from engines.validation import Inputs

STEPS = 127
"""Largest whole number that is used on either side of zero."""
KEPT_ENDS = 3
"""Convolutions at either end that stay as they are: what enters has few channels and what leaves
is seen by people; they are where the shipped networks lose most."""
_LEAST = 1e-6
"""Of a range; a tensor that is always zero has one too."""


def quantised(
    model: onnx.ModelProto, ranges: Mapping[str, float], *, keep: Sequence[str] = ()
) -> onnx.ModelProto:
    """The same network with its inner convolutions in int8; the rest is as it was.

    Args:
        model: a network of fp32, as `graphs.prepared` makes it.
        ranges: largest magnitude of the tensor that each of them is given; see `ranges_of`.
        keep: names of layers that are left alone, or patterns of them (`fnmatch`).

    Raises:
        ModelMismatch: a range is missing.
    """
    chosen = {node.output[0] for node in _inner(model, keep)}
    values = constants(model)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:]
    done: set[str] = set()
    for node in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if node.output[0] in chosen:
            data, weights = node.input[:2]
            if data not in ranges:
                raise ModelMismatch(f"no range is known of {data!r}, which is to be quantised")
            if data not in done:
                _quantise(made.graph, data, max(ranges[data], _LEAST) / STEPS)
            if weights not in done:
                _store(made.graph, weights, values[weights])
            done |= {data, weights}
            copy.input[0], copy.input[1] = f"{data}.whole", f"{weights}.whole"
        made.graph.node.append(copy)
    used = {name for node in made.graph.node for name in node.input}
    kept = [tensor for tensor in made.graph.initializer if tensor.name in used]
    del made.graph.initializer[:]
    made.graph.initializer.extend(kept)
    onnx.checker.check_model(made)
    return made


def ranges_of(
    model: onnx.ModelProto, samples: Iterable[Inputs], *, keep: Sequence[str] = ()
) -> dict[str, float]:
    """Largest magnitude, over the samples, of each tensor that an inner convolution is given."""
    names = sorted({node.input[0] for node in _inner(model, keep)})
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    there = {value.name for value in model.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in there)
    found = dict.fromkeys(names, 0.0)
    engine = open_reference(ModelFile(Path("shown.onnx"), shown.SerializeToString(), "", {}))
    try:
        for sample in samples:
            said = engine.infer(sample)
            found = {
                name: max(most, float(np.abs(said[name]).max())) for name, most in found.items()
            }
    finally:
        engine.close()
    return found


def _inner(model: onnx.ModelProto, keep: Sequence[str]) -> list[onnx.NodeProto]:
    """The convolutions that are quantised, in the network's order."""
    values = constants(model)
    found = [node for node in model.graph.node if node.op_type == "Conv"]
    return [
        node
        for node in found[KEPT_ENDS : len(found) - KEPT_ENDS]
        if node.input[1] in values
        and not any(fnmatch.fnmatchcase(node.name, pattern) for pattern in keep)
    ]


def _quantise(graph: onnx.GraphProto, name: str, scale: float) -> None:
    """Round a tensor to steps of *scale*."""
    steps = [f"{name}.scale", f"{name}.zero"]
    _constant(graph, steps[0], np.float32(scale))
    _constant(graph, steps[1], np.int8(0))
    graph.node.append(helper.make_node("QuantizeLinear", [name, *steps], [f"{name}.steps"]))
    graph.node.append(
        helper.make_node("DequantizeLinear", [f"{name}.steps", *steps], [f"{name}.whole"])
    )


def _store(graph: onnx.GraphProto, name: str, weights: NDArray[np.float32]) -> None:
    """Keep weights as whole numbers, with a scale for each filter."""
    most = np.abs(weights).reshape(len(weights), -1).max(axis=1)
    scales = (np.maximum(most, _LEAST) / STEPS).astype(np.float32)
    whole = np.rint(weights / scales.reshape(-1, *[1] * (weights.ndim - 1)))
    names = [f"{name}.steps", f"{name}.scale", f"{name}.zero"]
    _constant(graph, names[0], np.clip(whole, -STEPS, STEPS).astype(np.int8))
    _constant(graph, names[1], scales)
    _constant(graph, names[2], np.zeros(len(weights), np.int8))
    graph.node.append(helper.make_node("DequantizeLinear", names, [f"{name}.whole"], axis=0))


def _constant(graph: onnx.GraphProto, name: str, value: Any) -> None:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
