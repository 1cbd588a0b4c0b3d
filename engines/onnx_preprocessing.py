"""Builds ONNX graphs before and after a network, so that a GPU does pre- and postprocessing too.

Before: decoded planes to RGB at the network's size. After: masks to bytes and statistics. They are
part of the network instead of separate kernels: the same graph runs in ONNX Runtime, so that the
computation is tested without a GPU, and TensorRT fuses it with the network.

Scaling is two matrix products, for rows and columns. Their weights are computed in the graph from a
window and the shapes of the arrays: any frame size, any window, four numbers a frame. In f16 only
the products run in f16: the column index of a 4K frame needs more than 11 bits.

Needs the package `onnx`, which only GPUs need.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.errors import ModelFileError
from engines.modelfile import ModelFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from engines.yuv import ChromaOrder

OPSET = 17
"""Opset of the shipped networks; TensorRT supports all operators used here."""
BATCH = "batch"
"""Name of the first side of every array."""

FLOAT, UINT8, INT64 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64


@dataclass(slots=True)
class GraphBuilder:
    """A graph that is built node by node. Tensors and nodes are named `prefix/number`."""

    prefix: str = "planes"
    inputs: list[Any] = field(default_factory=list)
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def input(self, name: str, kind: int, shape: Sequence[int | str]) -> str:
        """Add an input; a side given by name has any length."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; return the output's name."""
        return self.many(operator, *inputs, outputs=1, **attributes)[0]

    def many(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node; return its outputs' names."""
        name = f"{self.prefix}/{len(self.nodes)}_{operator}"
        names = [f"{name}:{number}" for number in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, name=name, **attributes))
        return names

    def constant(self, value: float | Sequence[int] | NDArray[Any]) -> str:
        """Add a constant: f32 for floats, int64 for integers."""
        array = np.asarray(value)
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        name = f"{self.prefix}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def cast(self, name: str, kind: int) -> str:
        """Add a cast to another element type."""
        return self("Cast", name, to=kind)

    def side(self, name: str, axis: int) -> str:
        """Return the length of a tensor's side, an int64 scalar."""
        return self("Gather", self("Shape", name), self.constant(axis), axis=0)

    def rename(self, old: str, new: str) -> str:
        """Rename a tensor."""
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]
        return new


@dataclass(frozen=True, slots=True)
class _Spans:
    """Begin and length of a window, each (n, 1), in pixels of one plane."""

    left: str
    top: str
    width: str
    height: str
    shift: str = ""
    """Horizontal offset of the samples, in pixels of the plane."""


def rgb_from_planes(graph: GraphBuilder, layout: ChromaOrder, *, rows: str, columns: str) -> str:
    """Add the conversion of decoded planes to scaled RGB, with its inputs.

    Inputs: `luma` (n, height, width) uint8; `chroma_u` and `chroma_v` (n, half the height, half the
    width) uint8, or `chroma` with a last side of 2; `window` (n, 4) f32, left, top, width and
    height in pixels of luma, left and top even; `siting` (n,) f32 and `color` (n, 3, 4) f32, see
    `engines.yuv.Yuv`.

    Luma is averaged over the area of each output pixel, and interpolated linearly if the window is
    enlarged. Chroma has half the output width, and each of its columns is used twice: the same
    bytes as swscale on the CPU. Pixels outside the window have no influence.

    Args:
        graph: The graph.
        layout: Memory order of the chroma samples.
        rows: Output height, an int64 scalar.
        columns: Output width, an int64 scalar.

    Returns:
        (n, rows, columns, 3) f32, whole numbers 0 to 255.
    """
    luma = graph.input("luma", UINT8, (BATCH, "decoded_height", "decoded_width"))
    half = (BATCH, "chroma_height", "chroma_width")
    if layout == "nv12":
        both = graph.cast(graph.input("chroma", UINT8, (*half, 2)), FLOAT)
        chroma = [graph("Gather", both, graph.constant(n), axis=3) for n in (0, 1)]
    else:
        chroma = [
            graph.cast(graph.input(name, UINT8, half), FLOAT) for name in ("chroma_u", "chroma_v")
        ]
    window = graph.input("window", FLOAT, (BATCH, 4))
    siting = graph.input("siting", FLOAT, (BATCH,))
    color = graph.input("color", FLOAT, (BATCH, 3, 4))

    of_luma = _Spans(*(graph("Gather", window, graph.constant([n]), axis=1) for n in range(4)))
    of_chroma = _halved(graph, of_luma, graph("Unsqueeze", siting, graph.constant([1])))
    planes = [_scaled(graph, graph.cast(luma, FLOAT), of_luma, rows, columns)]
    weights = _weights(graph, chroma[0], of_chroma, rows, columns, across=2)
    planes += [_product(graph, plane, weights) for plane in chroma]
    return _colored(graph, planes, color)


def _halved(graph: GraphBuilder, whole: _Spans, shift: str) -> _Spans:
    """Return the window in planes of half the size; a last odd pixel has its own chroma."""
    two = graph.constant(2.0)

    def half(name: str) -> str:
        return graph("Div", name, two)

    return _Spans(
        half(whole.left),
        half(whole.top),
        graph("Ceil", half(whole.width)),
        graph("Ceil", half(whole.height)),
        shift,
    )


def _scaled(graph: GraphBuilder, plane: str, window: _Spans, rows: str, columns: str) -> str:
    return _product(graph, plane, _weights(graph, plane, window, rows, columns, across=1))


def _product(graph: GraphBuilder, plane: str, weights: tuple[str, str]) -> str:
    """Scale (n, H, W) to (n, rows, columns); rows first, with fewer products on whole rows."""
    down, across = weights
    return graph("MatMul", graph("MatMul", down, plane), across)


def _weights(
    graph: GraphBuilder, plane: str, window: _Spans, rows: str, columns: str, *, across: int
) -> tuple[str, str]:
    """Return matrices (n, rows, H) and (n, W, columns) that scale a window of a plane (n, H, W).

    Args:
        graph: The graph.
        plane: Is scaled.
        window: Part of the plane.
        rows: Output height.
        columns: Output width.
        across: Number of neighbouring output columns that share a position.
    """
    down = _filters(graph, (window.top, window.height), rows, graph.side(plane, 1))
    span, length = (window.left, window.width), graph.side(plane, 2)
    right = _filters(graph, span, columns, length, repeats=across, shift=window.shift)
    return down, graph("Transpose", right, perm=[0, 2, 1])


def _filters(
    graph: GraphBuilder,
    window: tuple[str, str],
    count: str,
    length: str,
    *,
    repeats: int = 1,
    shift: str = "",
) -> str:
    """Return weights (n, count, length) of *length* pixels in *count* pixels of a window.

    A weight is the overlap of a pixel with a box around the position of an output pixel, as wide as
    the distance between two positions and at least one pixel. For smaller outputs that is area
    averaging. Two boxes of one pixel overlap by 1 - |distance|: for larger outputs it is linear
    interpolation.
    """
    one, two, zero = graph.constant(1.0), graph.constant(2.0), graph.constant(0.0)
    start, span = (graph("Unsqueeze", name, graph.constant([2])) for name in window)
    place = _counted(graph, count)
    places = graph.cast(count, FLOAT)
    if repeats > 1:
        by = graph.constant(float(repeats))
        place = graph("Floor", graph("Div", place, by))
        places = graph("Ceil", graph("Div", places, by))
    place = graph("Unsqueeze", place, graph.constant([0, 2]))
    step = graph("Div", span, places)
    middle = graph("Add", start, graph("Mul", graph("Add", place, graph.constant(0.5)), step))
    if shift:
        middle = graph("Add", middle, graph("Unsqueeze", shift, graph.constant([2])))
    reach = graph("Div", graph("Max", step, one), two)
    # At the edges the outermost pixel counts twice, instead of pixels outside the window.
    middle = graph("Max", middle, graph("Add", start, reach))
    middle = graph("Min", middle, graph("Sub", graph("Add", start, span), reach))
    pixel = graph("Unsqueeze", _counted(graph, length), graph.constant([0, 1]))
    end = graph("Min", graph("Add", pixel, one), graph("Add", middle, reach))
    begin = graph("Max", pixel, graph("Sub", middle, reach))
    overlap = graph("Max", graph("Sub", end, begin), zero)
    return graph("Div", overlap, graph("Mul", reach, two))


def _counted(graph: GraphBuilder, count: str) -> str:
    """Return 0, 1, 2 ... count - 1, (count,) f32."""
    numbers = graph("Range", graph.constant(0), count, graph.constant(1))
    return graph.cast(numbers, FLOAT)


def _colored(graph: GraphBuilder, planes: Sequence[str], color: str) -> str:
    """Convert planes (n, h, w) by coefficients (n, 3, 4) to (n, h, w, 3), integers 0 to 255."""
    columns = [
        graph(
            "Unsqueeze",
            graph("Gather", color, graph.constant(number), axis=2),
            graph.constant([1, 2]),
        )
        for number in range(4)
    ]
    total = columns[3]
    for plane, column in zip(planes, columns, strict=False):
        deep = graph("Unsqueeze", plane, graph.constant([3]))
        total = graph("Add", total, graph("Mul", deep, column))
    return _byte(graph, total)


def _byte(graph: GraphBuilder, numbers: str) -> str:
    """Return the nearest integers from 0 to 255, as f32."""
    rounded = graph("Round", numbers)
    return graph("Min", graph("Max", rounded, graph.constant(0.0)), graph.constant(255.0))


def to_bytes(graph: GraphBuilder, probability: str) -> str:
    """Add the conversion of probabilities, 0 to 1, to bytes: a quarter of the download."""
    return graph.cast(_byte(graph, graph("Mul", probability, graph.constant(255.0))), UINT8)


def threshold(graph: GraphBuilder, probability: str, level: str) -> str:
    """Add the threshold of masks (n, h, w) at levels (n,): 1 or 0 per pixel, f32."""
    levels = graph("Unsqueeze", level, graph.constant([1, 2]))
    return graph.cast(graph("Greater", probability, levels), FLOAT)


def mask_stats(graph: GraphBuilder, probability: str, exceeds: str) -> str:
    """Add statistics of masks (n, h, w) where they exceed a threshold: (n, 7) f32.

    Highest probability of the whole mask; share of the mask above the threshold; mean probability
    there; and its bounding box, left, top, right and bottom as shares of the mask. All but the
    first are 0 if nothing exceeds the threshold.
    """
    sides = [1, 2]
    peak = graph("ReduceMax", probability, axes=sides, keepdims=0)
    area = graph("ReduceMean", exceeds, axes=sides, keepdims=0)
    there = graph("ReduceMean", graph("Mul", probability, exceeds), axes=sides, keepdims=0)
    mean = graph("Div", there, graph("Max", area, graph.constant(1e-9)))
    edges = [
        edge
        for far in (False, True)
        for axis in (2, 1)
        for edge in [_edge(graph, exceeds, axis, far=far)]
    ]
    columns = [graph("Unsqueeze", name, graph.constant([1])) for name in (peak, area, mean, *edges)]
    return graph("Concat", *columns, axis=1)


def _edge(graph: GraphBuilder, exceeds: str, axis: int, *, far: bool) -> str:
    """Return begin or end of the bounding box along an axis, (n,), 0 to 1; 0 if it is empty."""
    along = graph("ReduceMax", exceeds, axes=[3 - axis], keepdims=0)
    side = graph.side(exceeds, axis)
    length = graph.cast(side, FLOAT)
    place = graph("Unsqueeze", _counted(graph, side), graph.constant([0]))
    if far:
        last = graph("Mul", along, graph("Add", place, graph.constant(1.0)))
        return graph("Div", graph("ReduceMax", last, axes=[1], keepdims=0), length)
    # The first pixel is farthest from the end.
    rest = graph("Mul", along, graph("Sub", length, place))
    longest = graph("ReduceMax", rest, axes=[1], keepdims=0)
    some = graph("ReduceMax", along, axes=[1], keepdims=0)
    return graph("Div", graph("Mul", some, graph("Sub", length, longest)), length)


def merge(
    name: str,
    front: GraphBuilder,
    network: ModelFile,
    behind: GraphBuilder,
    *,
    feeds: Mapping[str, str],
    outputs: Mapping[str, tuple[int, Sequence[int | str]]],
) -> ModelFile:
    """Return one network: a graph, a network and another graph.

    The network's batch, which its file fixes at 1, becomes `BATCH`. Equal arguments give equal
    bytes and digests. `onnx.compose` cannot do this: it joins tensors of equal types only, and here
    bytes that the network casts are replaced by f32.

    Args:
        name: Name of the result, which keeps the network's other metadata.
        front: Computes inputs of the network.
        network: The shipped network.
        behind: Uses the network's outputs and tensors of the front.
        feeds: The network's inputs, and the tensors (f32) of the front that replace them; other
            inputs stay inputs.
        outputs: Name, type and shape of each output.

    Raises:
        ModelFileError: The network does not have these inputs, or another opset.
    """
    inner = onnx.load_model_from_string(network.content)
    opsets = {entry.domain: entry.version for entry in inner.opset_import}
    if opsets != {"": OPSET}:
        raise ModelFileError(f"{network.path}: expected operators of opset {OPSET}, got {opsets}")
    kept = [value for value in inner.graph.input if value.name not in feeds]
    if missing := set(feeds) - {value.name for value in inner.graph.input}:
        raise ModelFileError(f"{network.path}: it has no input {', '.join(sorted(missing))}")
    for value in kept:
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    model = helper.make_model(
        helper.make_graph(
            [*front.nodes, *_fed(inner.graph.node, feeds), *behind.nodes],
            name,
            [*front.inputs, *kept, *behind.inputs],
            [helper.make_tensor_value_info(key, *value) for key, value in outputs.items()],
            [*front.constants, *inner.graph.initializer, *behind.constants],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=inner.ir_version,
    )
    metadata = {**network.metadata, "name": name, "made_from": network.digest}
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    content = model.SerializeToString(deterministic=True)
    digest = hashlib.sha256(content).hexdigest()
    return ModelFile(Path(f"{name}.onnx"), content, digest, MappingProxyType(metadata))


def _fed(nodes: Sequence[Any], feeds: Mapping[str, str]) -> list[Any]:
    """Return the nodes of a network whose byte inputs are replaced by f32 tensors.

    Their casts are removed: TensorRT supports bytes for inputs and outputs only.
    """
    renamed = dict(feeds)
    left = []
    for node in nodes:
        if node.op_type == "Cast" and node.input[0] in feeds:
            renamed[node.output[0]] = feeds[node.input[0]]
        else:
            left.append(node)
    for node in left:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    return left
