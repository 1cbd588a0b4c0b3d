"""Rewrites an exported ONNX network for TensorRT without changing what it computes.

Exporters and TensorRT differ in three points: weights that are stored in 16 bits and cast back,
bytes that are sliced or reshaped before they are cast to f32 (TensorRT supports uint8 only for an
input that is cast at once), and a batch that is fixed at one. The precision is chosen by
`mixed_precision.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from engines.errors import ModelFileError, ModelMismatch, UnsupportedLayer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engines.spec import Profile

MOVERS = frozenset(
    [
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    ]
)
"""Operators that only move elements: the output has the type of the input."""


def prepared(content: bytes, profiles: Sequence[Profile]) -> onnx.ModelProto:
    """Return the network as TensorRT can read it, for the shapes of these profiles.

    Raises:
        ModelFileError: It is not a valid ONNX network.
        ModelMismatch: A profile does not fit its inputs.
        UnsupportedLayer: It has branches or loops.
    """
    try:
        model = onnx.load_from_string(content)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and the checker share no base class
        raise ModelFileError(f"not a valid ONNX network: {error}") from error
    for node in model.graph.node:
        if any(a.type in {a.GRAPH, a.GRAPHS} for a in node.attribute):
            raise UnsupportedLayer(f"the layer {describe(node)} contains a subgraph")
    _fold(model)
    _cast_first(model)
    _open_sizes(model, profiles)
    del model.graph.value_info[:]
    return model


def describe(node: onnx.NodeProto) -> str:
    """Return a layer's name, else its first output, and its operator."""
    return f"{node.name or node.output[0]!r} ({node.op_type})"


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of each tensor, as `onnx.TensorProto.DataType`.

    Raises:
        ModelFileError: The types contradict each other.
    """
    try:
        graph = onnx.shape_inference.infer_shapes(model, check_type=True).graph
    except onnx.shape_inference.InferenceError as error:
        raise ModelFileError(f"not a valid ONNX network: {error}") from error
    types = {
        value.name: int(value.type.tensor_type.elem_type)
        for value in (*graph.input, *graph.output, *graph.value_info)
    }
    return types | {tensor.name: int(tensor.data_type) for tensor in graph.initializer}


def constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Return the initializers by name."""
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def _fold(model: onnx.ModelProto) -> None:
    """Fold constants; drop casts that change nothing."""
    graph = model.graph
    known = {tensor.name for tensor in graph.initializer}
    early: list[onnx.NodeProto] = []
    late: list[onnx.NodeProto] = []
    for node in graph.node:
        fixed = all(name in known for name in node.input if name)
        (early if fixed else late).append(node)
        if fixed:
            known.update(node.output)
    outputs = {value.name for value in graph.output}
    used = outputs | {name for node in late for name in node.input}
    wanted = sorted({name for node in early for name in node.output} & used)
    if wanted:
        part = helper.make_graph(
            early, "constants", [], [onnx.ValueInfoProto(name=n) for n in wanted], graph.initializer
        )
        values = ReferenceEvaluator(helper.make_model(part, opset_imports=model.opset_import)).run(
            None, {}
        )
        graph.initializer.extend(
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in zip(wanted, values, strict=True)
        )
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    _replace(graph.initializer, kept)
    _replace(graph.node, late)
    _drop_idle_casts(model)


def _drop_idle_casts(model: onnx.ModelProto) -> None:
    types = element_types(model)
    outputs = {value.name for value in model.graph.output}
    alias: dict[str, str] = {}
    nodes = []
    for node in model.graph.node:
        _replace(node.input, [alias.get(name, name) for name in node.input])
        idle = node.op_type == "Cast" and types.get(node.input[0]) == node.attribute[0].i
        if idle and node.output[0] not in outputs:
            alias[node.output[0]] = node.input[0]
        else:
            nodes.append(node)
    _replace(model.graph.node, nodes)


def _cast_first(model: onnx.ModelProto) -> None:
    """Cast bytes to f32 before they are moved, not after."""
    graph = model.graph
    outputs = {value.name for value in graph.output}
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    lifted: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for value in graph.input:
        moved = any(n.op_type in MOVERS for n in consumers.get(value.name, []))
        if value.type.tensor_type.elem_type == TensorProto.UINT8 and moved:
            lifted[value.name] = f"{value.name}.numbers"
            nodes.append(
                helper.make_node(
                    "Cast",
                    [value.name],
                    [lifted[value.name]],
                    name=f"{value.name}.cast",
                    to=TensorProto.FLOAT,
                )
            )
    for node in graph.node:
        data = node.input[0] if node.input else ""
        if node.op_type in MOVERS and data in lifted and not outputs & set(node.output):
            _replace(node.input, [lifted.get(name, name) for name in node.input])
            lifted.update({name: name for name in node.output})
        elif node.op_type == "Cast" and data in lifted:
            node.input[0] = lifted[data]
        nodes.append(node)
    _replace(graph.node, nodes)
    del graph.value_info[:]
    _drop_idle_casts(model)


def _open_sizes(model: onnx.ModelProto, profiles: Sequence[Profile]) -> None:
    """Make dynamic what the profiles vary; the batch of the outputs is that of the inputs."""
    graph = model.graph
    names = {value.name for value in graph.input}
    batch = False
    for profile in profiles:
        if profile.shapes.keys() != names:
            raise ModelMismatch(
                f"the profile names {', '.join(sorted(profile.shapes))}; "
                f"the network takes {', '.join(sorted(names))}"
            )
        for value in graph.input:
            batch |= _open_input(value, profile.shapes[value.name])
    for value in graph.output if batch else ():
        for first in value.type.tensor_type.shape.dim[:1]:
            first.Clear()
            first.dim_param = "batch"


def _open_input(
    value: onnx.ValueInfoProto, shapes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
) -> bool:
    """Make an input's batch dynamic if it varies; return whether it does."""
    dims = value.type.tensor_type.shape.dim
    least, _, most = shapes
    sides = [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
    opens = len(most) == len(sides) and sides[0] == 1 and most[0] > 1
    fits = len(most) == len(sides) and all(
        side is None or (opens and at == 0) or least[at] == side == most[at]
        for at, side in enumerate(sides)
    )
    if not fits:
        shape = ", ".join("any" if side is None else str(side) for side in sides)
        raise ModelMismatch(f"{value.name}: takes ({shape}); the profile has {least} to {most}")
    if opens:
        dims[0].Clear()
        dims[0].dim_param = "batch"
    return opens


def _replace(field: Any, values: Sequence[Any]) -> None:
    """Replace the values of a repeated field of a protobuf message."""
    kept = list(values)
    del field[:]
    field.extend(kept)
