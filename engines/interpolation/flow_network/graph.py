"""The GPU way as one graph: planes of two pictures as decoded in, planes of a time between out.

What `reduced.py`, `model.py`, `synthesis.py` and `still.py` do around the network by OpenCV, in
operations that TensorRT compiles and ONNX Runtime runs, so that it is proven without a GPU. One
graph serves every size and subsampling: how far a picture is reduced follows from the shapes.

Needs `onnx`; nothing on the way to the CPU imports this. All of it but the network stays f32: what
computes places must tell 4096 columns apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engines import onnx_preprocessing
from engines.interpolation.downscale import LARGEST_PX, MAX_SIDE_PX, SMALLEST, WHOLE_PX
from engines.interpolation.flow_network.model import STRIDE
from engines.interpolation.static_overlay import AROUND, EQUAL_WITHIN, SHARE_EQUAL, STRUCTURE
from engines.onnx_preprocessing import FLOAT, UINT8, GraphBuilder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.modelfile import ModelFile

NAME = "interpolation-whole-planes"
_FAR = 1e6
"""Pixels; an edge pixel goes on so far."""
_LIT = 1 / 32
"""Sums of fewer than nine bytes end in 16ths; so much more, and a half is rounded up."""
_WHOLE_MASK = 254.5 / 255
"""Share of a chroma pixel that must stand, as `still.put_back` rounds it."""

_FULL, _CHROMA = ("height", "width"), ("chroma_height", "chroma_width")


class _Axis(NamedTuple):
    """One axis of a plane: how it lies to the reduced picture. Scalars."""

    length: str
    """Pixels of the plane; int64."""
    enlarged: str
    """Pixels that the reduced picture has when it is enlarged to the plane's; int64."""
    factor: str
    """How many times as large as the reduced picture the plane is; f32."""


@dataclass(frozen=True, slots=True)
class _Lie:
    """How planes lie to the reduced picture, for luma and for chroma: (down, across) each."""

    size: tuple[str, str]
    """Of the reduced picture; int64 scalars."""
    luma: tuple[_Axis, _Axis]
    chroma: tuple[_Axis, _Axis]


@dataclass(frozen=True, slots=True)
class _Planes:
    """One picture in f32."""

    luma: str
    """(height, width)."""
    chroma: tuple[str, str]
    """(chroma_height, chroma_width) each."""


def by_planes(network: ModelFile) -> ModelFile:
    """The network with all that is done at full size around it.

    Inputs: `before_y`, `after_y` (height, width), `before_u`, `before_v`, `after_u`, `after_v`
    (chroma_height, chroma_width) uint8; `t` (1,) f32. Chroma has all, or half (rounded up), of
    luma's rows, and of its columns. Outputs: `made_y`, `made_u`, `made_v`, likewise; `sound` (1,)
    f32, which is no number if the network said none, and what was made is worth nothing.

    Raises:
        ModelFileError: The network cannot be fed like this.
    """
    front, behind = GraphBuilder(), GraphBuilder("behind")
    before, after = (_picture(front, name) for name in ("before", "after"))
    lie = _lie(front, before)
    t = front.input("t", FLOAT, (1,))
    feeds = {"before": _reduced(front, before, lie), "after": _reduced(front, after, lie), "t": t}
    _synthesis(behind, before, after, lie)
    return onnx_preprocessing.compose(
        NAME,
        front,
        network,
        behind,
        feeds=feeds,
        outputs={
            "made_y": (UINT8, _FULL),
            "made_u": (UINT8, _CHROMA),
            "made_v": (UINT8, _CHROMA),
            "sound": (FLOAT, (1,)),
        },
    )


def _picture(graph: GraphBuilder, name: str) -> _Planes:
    luma = graph.cast(graph.input(f"{name}_y", UINT8, _FULL), FLOAT)
    u, v = (graph.cast(graph.input(f"{name}_{c}", UINT8, _CHROMA), FLOAT) for c in "uv")
    return _Planes(luma, (u, v))


def _lie(graph: GraphBuilder, picture: _Planes) -> _Lie:
    """`reduced.layout_of` and `Layout.factors`, from the shapes."""
    lengths = [graph.side(picture.luma, axis) for axis in (0, 1)]
    step = _step(graph, graph("Max", *lengths))
    size, luma, chroma = [], [], []
    for axis, length in enumerate(lengths):
        least = graph("Div", _ceiled(graph, length, step), graph.constant(STRIDE))
        side = graph("Mul", least, graph.constant(STRIDE))
        side = graph("Max", side, graph.constant(SMALLEST))
        size.append(side)
        whole = graph("Mul", side, step)
        luma.append(_Axis(length, whole, graph.cast(step, FLOAT)))
        fewer = graph.side(picture.chroma[0], axis)
        # Luma's rows for one of chroma, to the nearest whole number.
        twice = graph("Add", graph("Add", length, length), fewer)
        ratio = graph("Max", graph("Div", twice, graph("Add", fewer, fewer)), graph.constant(1))
        factor = graph("Div", graph.cast(step, FLOAT), graph.cast(ratio, FLOAT))
        chroma.append(_Axis(fewer, graph("Div", whole, ratio), factor))
    return _Lie((size[0], size[1]), (luma[0], luma[1]), (chroma[0], chroma[1]))


def _ceiled(graph: GraphBuilder, length: str, step: str) -> str:
    """Pixels of the reduced picture, and one less than the stride, so that dividing rounds up."""
    more = graph("Sub", graph("Add", length, step), graph.constant(1))
    return graph("Add", graph("Div", more, step), graph.constant(STRIDE - 1))


def _step(graph: GraphBuilder, long: str) -> str:
    """`reduced._step` of the longer side: 1, and 2, 4, 8 beyond so many pixels."""
    step, at = graph.constant(1), 1
    beyond = WHOLE_PX
    while beyond < MAX_SIDE_PX:
        over = graph("Max", graph("Sub", long, graph.constant(beyond)), graph.constant(0))
        over = graph("Min", over, graph.constant(1))
        step = graph("Add", step, graph("Mul", over, graph.constant(at)))
        at *= 2
        beyond = LARGEST_PX * at
    return step


def _reduced(graph: GraphBuilder, picture: _Planes, lie: _Lie) -> str:
    """`reduced.reduced`: (1, h, w, 3), whole numbers 0 to 255, f32."""
    last = graph.constant([0, 3])
    parts = [_scaled(graph, picture.luma, lie.size, lie.luma)]
    parts += [_scaled(graph, plane, lie.size, lie.chroma) for plane in picture.chroma]
    return graph("Concat", *(graph("Unsqueeze", part, last) for part in parts), axis=3)


def _scaled(
    graph: GraphBuilder, plane: str, size: tuple[str, str], axes: tuple[_Axis, _Axis]
) -> str:
    """Scale a plane (rows, columns) to the reduced size by two matrix products.

    See `onnx_preprocessing.py`.

    Weights are powers of two, and each sum is exact: the same byte as OpenCV's. Where chroma is
    enlarged, OpenCV truncates on the way, and some bytes are one less.
    """
    down, across = (_filters(graph, *each) for each in zip(size, axes, strict=True))
    small = graph("MatMul", graph("MatMul", down, plane), graph("Transpose", across, perm=[1, 0]))
    # OpenCV rounds halves up where four bytes become one; else to the even number.
    factors = [axis.factor for axis in axes]
    few = _clipped(graph, graph("Sub", graph.constant(3.0), graph("Max", *factors)))
    apart = graph("Abs", graph("Sub", *factors))
    alike = _clipped(graph, graph("Sub", graph.constant(1.0), apart))
    more = graph("Mul", graph("Mul", few, alike), graph.constant(_LIT))
    return graph("Round", graph("Add", small, more))


def _clipped(graph: GraphBuilder, number: str) -> str:
    """A number kept within 0 and 1."""
    return graph("Min", graph("Max", number, graph.constant(0.0)), graph.constant(1.0))


def _filters(graph: GraphBuilder, count: str, axis: _Axis) -> str:
    """Weights (count, length) of the pixels of one axis in those of the reduced image.

    A weight is the overlap of a pixel with a box around each output place, as in
    `onnx_preprocessing._filters`. Edge pixels extend without end, and so do padded places.
    """
    one, zero, half = graph.constant(1.0), graph.constant(0.0), graph.constant(0.5)
    length = graph.cast(axis.length, FLOAT)
    there = graph("Ceil", graph("Div", length, axis.factor))
    place = graph("Min", _counted(graph, count), graph("Sub", there, one))
    middle = graph("Mul", graph("Add", place, half), axis.factor)
    middle = graph("Unsqueeze", middle, graph.constant([1]))
    wide = graph("Max", axis.factor, one)
    reach = graph("Mul", wide, half)
    pixel = _counted(graph, axis.length)
    far = graph.constant(_FAR)
    first = graph("Max", graph("Sub", one, pixel), zero)
    begin = graph("Sub", pixel, graph("Mul", first, far))
    end = graph("Add", pixel, one)
    last = graph("Max", graph("Add", graph("Sub", end, length), one), zero)
    end = graph("Add", end, graph("Mul", last, far))
    begin = graph(
        "Max", graph("Unsqueeze", begin, graph.constant([0])), graph("Sub", middle, reach)
    )
    end = graph("Min", graph("Unsqueeze", end, graph.constant([0])), graph("Add", middle, reach))
    return graph("Div", graph("Max", graph("Sub", end, begin), zero), wide)


def _counted(graph: GraphBuilder, count: str) -> str:
    """0, 1, 2 ... count - 1, f32."""
    return graph.cast(graph("Range", graph.constant(0), count, graph.constant(1)), FLOAT)


def _synthesis(graph: GraphBuilder, before: _Planes, after: _Planes, lie: _Lie) -> None:
    """From what the network says to bytes: `model.Finding`, `synthesis.py` and `still.py`."""
    fields = _fields(graph)
    stands = _standing(graph, before.luma, after.luma)
    luma = _made(graph, [before.luma], [after.luma], lie.luma, fields, stands)
    size = _sides(graph, 1, *(axis.length for axis in lie.chroma))
    fewer = graph("Resize", stands, "", "", size, mode="linear")
    fewer = graph.cast(graph("Greater", fewer, graph.constant(_WHOLE_MASK)), FLOAT)
    chroma = _made(graph, before.chroma, after.chroma, lie.chroma, fields, fewer)
    made = [luma, *graph.many("Split", chroma, outputs=2, axis=1)]
    for name, plane in zip(("made_y", "made_u", "made_v"), made, strict=True):
        flat = graph("Squeeze", plane, graph.constant([0, 1]))
        graph.rename(graph.cast(flat, UINT8), name)
    graph.rename(_soundness(graph), "sound")


def _fields(graph: GraphBuilder) -> str:
    """Ways and shares at the reduced size, (1, 12, h, w): eight of pixels (x, y), four of shares.

    By the motion in before and after, then as the background moves in both: the order of shares.
    """
    scales = graph.constant(np.array([1.0, 1.0, 2.0, 2.0]))
    ways = graph("Concat", "ways", "background", axis=1)
    larger = graph("Resize", ways, "", scales, mode="linear")
    return graph("Concat", graph("Mul", larger, graph.constant(2.0)), "shares", axis=1)


def _made(  # noqa: PLR0917  as it is asked for above
    graph: GraphBuilder,
    before: Sequence[str],
    after: Sequence[str],
    axes: tuple[_Axis, _Axis],
    fields: str,
    stands: str,
) -> str:
    """Planes of one size at the time between, (1, n, rows, columns), whole numbers 0 to 255.

    Args:
        graph: Grows.
        before: n planes (rows, columns).
        after: The same of the other picture.
        axes: Of these planes.
        fields: See `_fields`.
        stands: (1, 1, rows, columns), 1 where the picture is taken as it is.
    """
    pictures = [_stacked(graph, each) for each in (before, after)]
    size = _sides(graph, 12, *(axis.enlarged for axis in axes))
    ends = _vector(graph, *(axis.length for axis in axes))
    large = graph("Resize", fields, "", "", size, mode="linear")
    large = graph("Slice", large, graph.constant([0, 0]), ends, graph.constant([2, 3]))
    each = graph.many("Split", large, outputs=12, axis=1)
    total = ""
    for number in range(4):
        way = (each[2 * number], each[2 * number + 1])
        looked = _looked_up(graph, pictures[number % 2], way, axes)
        part = graph("Mul", looked, each[8 + number])
        total = graph("Add", total, part) if total else part
    half = graph.constant(0.5)
    mean = graph("Round", graph("Mul", graph("Add", *pictures), half))
    moved = graph("Sub", graph.constant(1.0), stands)
    rounded = graph("Add", graph("Mul", _byte(graph, total), moved), graph("Mul", mean, stands))
    return _byte(graph, rounded)


def _looked_up(
    graph: GraphBuilder, picture: str, way: tuple[str, str], axes: tuple[_Axis, _Axis]
) -> str:
    """Planes (1, n, rows, columns) where a way (x, y) leads, their edges beyond their edges."""
    down, across = axes
    one, rows = graph.constant(1.0), graph.constant([1])
    places = _counted(graph, across.length), graph("Unsqueeze", _counted(graph, down.length), rows)
    sides = []
    for off, place, axis in zip(way, places, (across, down), strict=True):
        at = graph("Add", graph("Mul", off, axis.factor), place)
        last = graph("Sub", graph.cast(axis.length, FLOAT), one)
        unit = graph("Div", graph.constant(2.0), last)
        sides.append(graph("Sub", graph("Mul", at, unit), one))
    grid = graph("Transpose", graph("Concat", *sides, axis=1), perm=[0, 2, 3, 1])
    return graph(
        "GridSample", picture, grid, mode="bilinear", padding_mode="border", align_corners=1
    )


def _standing(graph: GraphBuilder, before: str, after: str) -> str:
    """`still.standing`: (1, 1, height, width), 1 where the picture stands, else 0."""
    first, second = (_stacked(graph, [each]) for each in (before, after))
    apart = graph("Abs", graph("Sub", first, second))
    near = graph("Less", apart, graph.constant(EQUAL_WITHIN + 0.5))
    equal = graph.cast(near, FLOAT)
    reach = AROUND[0] // 2
    pads = graph.constant([0, 0, reach, reach, 0, 0, reach, reach])
    crowd = graph(
        "AveragePool", graph("Pad", equal, pads, mode="edge"), kernel_shape=AROUND, strides=[1, 1]
    )
    # A share of 0.6 is 15 of 25: between 14 and 15 nothing depends on the last bit.
    least = SHARE_EQUAL - 0.5 / (AROUND[0] * AROUND[1])
    crowded = graph.cast(graph("Greater", crowd, graph.constant(least)), FLOAT)
    pool = {"kernel_shape": AROUND, "strides": [1, 1], "pads": [reach] * 4}
    white = graph.constant(255.0)
    brightest = graph("MaxPool", graph("Mul", first, equal), **pool)
    darkness = graph("MaxPool", graph("Mul", graph("Sub", white, first), equal), **pool)
    spread = graph("Sub", graph("Add", brightest, darkness), white)
    structured = graph.cast(graph("Greater", spread, graph.constant(STRUCTURE - 0.5)), FLOAT)
    return graph("Mul", graph("Mul", equal, crowded), structured)


def _soundness(graph: GraphBuilder) -> str:
    """(1,): what is no number anywhere makes this none."""
    said = (graph("ReduceMean", graph("Abs", name), keepdims=0) for name in ("ways", "background"))
    total = graph("Add", *said)
    total = graph("Add", total, graph("ReduceMean", "shares", keepdims=0))
    return graph("Unsqueeze", total, graph.constant([0]))


def _stacked(graph: GraphBuilder, planes_: Sequence[str]) -> str:
    """Planes (rows, columns) as (1, n, rows, columns)."""
    deep = [graph("Unsqueeze", plane, graph.constant([0, 1])) for plane in planes_]
    return deep[0] if len(deep) == 1 else graph("Concat", *deep, axis=1)


def _vector(graph: GraphBuilder, *scalars: str) -> str:
    return graph(
        "Concat", *(graph("Unsqueeze", each, graph.constant([0])) for each in scalars), axis=0
    )


def _sides(graph: GraphBuilder, channels: int, rows: str, columns: str) -> str:
    """Sizes of (1, channels, rows, columns) as `Resize` wants them."""
    return graph("Concat", graph.constant([1, channels]), _vector(graph, rows, columns), axis=0)


def _byte(graph: GraphBuilder, numbers: str) -> str:
    """The nearest whole numbers from 0 to 255, still f32."""
    rounded = graph("Round", numbers)
    return graph("Min", graph("Max", rounded, graph.constant(0.0)), graph.constant(255.0))
