"""Pieces of ONNX graphs that go in front of networks and behind them, so that a GPU does it all.

In front: decoded planes to RGB at the network's size. Behind: masks to bytes, bits and measures.
They are parts of the network rather than kernels beside it: the same graph runs in ONNX Runtime, so
that what a GPU computes is proven without one, and TensorRT fuses it with what follows.

Scaling is two matrix products, rows and columns. Their weights are made in the graph from a window
and the shapes of the arrays: any size of picture, any window in it, four numbers a picture. Where
a network runs in f16 only the products do: a row of 4K has more pixels than 11 bits can count.

Needs `onnx`; nothing on the way to the CPU imports this.
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
"""Of the shipped networks; every operator here is in it, and in TensorRT."""
BATCH = "batch"
"""Name of every array's first side."""

FLOAT, UINT8, INT64 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64


@dataclass(slots=True)
class GraphBuilder:
    """A graph that grows node by node. Every tensor and node is called `prefix/number`."""

    prefix: str = "planes"
    inputs: list[Any] = field(default_factory=list)
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def input(self, name: str, kind: int, shape: Sequence[int | str]) -> str:
        """Declare an input; a side given by name may have any length."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def __call__(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output; gives the output's name."""
        return self.many(operator, *inputs, outputs=1, **attributes)[0]

    def many(self, operator: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node; gives its outputs' names."""
        name = f"{self.prefix}/{len(self.nodes)}_{operator}"
        names = [f"{name}:{number}" for number in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, name=name, **attributes))
        return names

    def constant(self, value: float | Sequence[int] | NDArray[Any]) -> str:
        """A constant: f32 for a float, int64 for whole numbers."""
        array = np.asarray(value)
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        name = f"{self.prefix}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def cast(self, name: str, kind: int) -> str:
        """The same numbers as another type."""
        return self("Cast", name, to=kind)

    def side(self, name: str, axis: int) -> str:
        """Length of a tensor's side, an int64 scalar."""
        return self("Gather", self("Shape", name), self.constant(axis), axis=0)

    def rename(self, old: str, new: str) -> str:
        """Give a tensor another name: an output is called as people call it."""
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]
        return new


@dataclass(frozen=True, slots=True)
class _Spans:
    """Where a window begins and how long it is, each (n, 1), in pixels of one plane."""

    left: str
    top: str
    width: str
    height: str
    shift: str = ""
    """How far to the right of where they would be the samples are looked for."""


def rgb_from_planes(graph: GraphBuilder, layout: ChromaOrder, *, rows: str, columns: str) -> str:
    """Make RGB of decoded planes, scaled; declares the inputs.

    Inputs: `luma` (n, height, width) uint8; `chroma_u` and `chroma_v` (n, half the height, half the
    width) uint8, or `chroma` with a last side of 2; `window` (n, 4) f32, left, top, width and
    height in pixels of luma, left and top even; `siting` (n,) f32 and `color` (n, 3, 4) f32, see
    `engines.yuv.Yuv`.

    Luma is averaged over the area of each pixel wanted, and interpolated linearly where the window
    is enlarged. Chroma is at half the width wanted, and each of its columns counts twice: what
    swscale does on the CPU, to the level.

    Args:
        graph: grows.
        layout: how chroma lies.
        rows: height wanted, an int64 scalar.
        columns: width wanted, likewise.

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
    """The same window in planes of half the size; a last odd pixel has chroma of its own."""
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
    """(n, H, W) to (n, rows, columns). Rows first: fewer products, and whole rows of memory."""
    down, across = weights
    return graph("MatMul", graph("MatMul", down, plane), across)


def _weights(
    graph: GraphBuilder, plane: str, window: _Spans, rows: str, columns: str, *, across: int
) -> tuple[str, str]:
    """Matrices (n, rows, H) and (n, W, columns) that scale a window of a plane (n, H, W).

    Args:
        graph: grows.
        plane: what is scaled.
        window: the part of it.
        rows: wanted.
        columns: wanted.
        across: so many columns wanted lie side by side at one place.
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
    """Weights (n, count, length) of *length* pixels in *count* wanted ones over a window of them.

    The overlap of a pixel with a box around each place wanted, as wide as the distance between two
    of them and at least one pixel: area averaging where a picture shrinks. Two boxes of one pixel
    overlap by 1 - |distance|: where it grows, the same formula is linear interpolation.
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
    # At the edges the outermost pixel counts twice, rather than what lies beyond the window.
    middle = graph("Max", middle, graph("Add", start, reach))
    middle = graph("Min", middle, graph("Sub", graph("Add", start, span), reach))
    pixel = graph("Unsqueeze", _counted(graph, length), graph.constant([0, 1]))
    end = graph("Min", graph("Add", pixel, one), graph("Add", middle, reach))
    begin = graph("Max", pixel, graph("Sub", middle, reach))
    overlap = graph("Max", graph("Sub", end, begin), zero)
    return graph("Div", overlap, graph("Mul", reach, two))


def _counted(graph: GraphBuilder, count: str) -> str:
    """0, 1, 2 ... count - 1, (count,) f32."""
    numbers = graph("Range", graph.constant(0), count, graph.constant(1))
    return graph.cast(numbers, FLOAT)


def _colored(graph: GraphBuilder, planes: Sequence[str], color: str) -> str:
    """Planes (n, h, w) and coefficients (n, 3, 4) to (n, h, w, 3), whole numbers 0 to 255."""
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
    """The nearest whole numbers from 0 to 255, still f32."""
    rounded = graph("Round", numbers)
    return graph("Min", graph("Max", rounded, graph.constant(0.0)), graph.constant(255.0))


def to_bytes(graph: GraphBuilder, probability: str) -> str:
    """Probabilities, 0 to 1, as bytes, 0 to 255: a quarter of the way back to the host."""
    return graph.cast(_byte(graph, graph("Mul", probability, graph.constant(255.0))), UINT8)


def over(graph: GraphBuilder, probability: str, level: str) -> str:
    """Where a map (n, h, w) exceeds its level (n,): the same shape, 1 or 0, f32."""
    levels = graph("Unsqueeze", level, graph.constant([1, 2]))
    return graph.cast(graph("Greater", probability, levels), FLOAT)


def packed_bits(graph: GraphBuilder, exceeds: str) -> str:
    """Ones and zeros (n, h, w) as (n, h * w / 8) bytes, the first in the highest bit.

    As `numpy.packbits` of each flattened map; w must be a multiple of 8.
    """
    shape = graph.constant([0, -1, 8])  # 0: as it was
    eights = graph("Reshape", graph("Flatten", exceeds, axis=1), shape)
    values = graph.constant(2.0 ** np.arange(7, -1, -1)[:, None])
    return graph.cast(graph("Squeeze", graph("MatMul", eights, values), graph.constant([2])), UINT8)


def measures(graph: GraphBuilder, probability: str, exceeds: str) -> str:
    """What there is of a map (n, h, w) where it exceeds a level: (n, 7) f32.

    Highest probability of all; share of the picture that exceeds; mean probability there; and the
    box around it, left, top, right and bottom as shares of the picture. All but the first are 0
    where nothing exceeds.
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
    """Where what exceeds begins or ends along an axis, (n,), a share; 0 where nothing does."""
    along = graph("ReduceMax", exceeds, axes=[3 - axis], keepdims=0)
    side = graph.side(exceeds, axis)
    length = graph.cast(side, FLOAT)
    place = graph("Unsqueeze", _counted(graph, side), graph.constant([0]))
    if far:
        last = graph("Mul", along, graph("Add", place, graph.constant(1.0)))
        return graph("Div", graph("ReduceMax", last, axes=[1], keepdims=0), length)
    # The first has the longest way to the end.
    rest = graph("Mul", along, graph("Sub", length, place))
    way = graph("ReduceMax", rest, axes=[1], keepdims=0)
    some = graph("ReduceMax", along, axes=[1], keepdims=0)
    return graph("Div", graph("Mul", some, graph("Sub", length, way)), length)


def compose(
    name: str,
    front: GraphBuilder,
    network: ModelFile,
    behind: GraphBuilder,
    *,
    feeds: Mapping[str, str],
    outputs: Mapping[str, tuple[int, Sequence[int | str]]],
) -> ModelFile:
    """One network of a graph in front of another, that, and a graph behind it.

    The network's first sides, which its file fixes at 1, become `BATCH`. Equal arguments give
    equal bytes, so that the digest stands for them.

    Args:
        name: of what comes out; it keeps the network's metadata otherwise.
        front: makes what is fed.
        network: as shipped.
        behind: takes the network's outputs, and tensors of the front.
        feeds: the network's inputs, and the front's tensors (f32) that take their places. Others
            stay inputs.
        outputs: name, type and shape of what is given.

    Raises:
        ModelFileError: the network is not one that this can be done to.
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
    """Nodes of a network whose inputs come from elsewhere, as f32 where they were bytes.

    The casts that made f32 of them go: TensorRT knows bytes as inputs and outputs only.
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
