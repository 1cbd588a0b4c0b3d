"""Write the ONNX graph of the full-resolution part; run this module with `python -m`.

The graph computes what `denoise.py` and `curves.py` compute with OpenCV, in operators that TensorRT
compiles and that ONNX Runtime can check without a GPU. Only building it needs `onnx`; the file is
shipped.

All tensors are f32. State and sums are integers above 2048, which f16 cannot represent: a temporal
filter with a step of 1/12 would stop before it converges. Table lookups interpolate fractions of a
byte, because a curve can map one input step to ten output steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.lowlight.curves import GAIN_UNIT, GREY
from engines.lowlight.denoise import FRACTION_BITS, MOVES, RADIUS, SIDE, STANDS, UNIT, WHOLE
from engines.lowlight.full_resolution_gpu import SHIPPED, VERSION, Numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

OPSET = 17
IR_VERSION = 8
"""The oldest version that has the opset: runtimes refuse files newer than themselves."""

_BYTE = 255.0
_FRACTION = float(1 << FRACTION_BITS)
_HALVES = 5e-4
"""Subtracted before rounding, so that shares ending in a half are rounded down, as in the table of
`denoise.py`; otherwise the last bit of f32 decides, which depends on the compiler. No other share
is within 2e-3 of a half."""
_FULL, _HALF = ("height", "width"), ("half_height", "half_width")
_TABLE = ("levels", 256)
_INPUTS: dict[str, tuple[int, Sequence[str | int]]] = {
    "y": (TensorProto.UINT8, _FULL),
    "u": (TensorProto.UINT8, _HALF),
    "v": (TensorProto.UINT8, _HALF),
    "luma_table": (TensorProto.UINT8, _TABLE),
    "gain_table": (TensorProto.UINT8, _TABLE),
    "exposure": (TensorProto.FLOAT, ("rows", "columns")),
    "numbers": (TensorProto.FLOAT, (len(Numbers._fields),)),
    "past_y": (TensorProto.FLOAT, _FULL),
    "past_uv": (TensorProto.FLOAT, (2, *_HALF)),
    "past_left": (TensorProto.FLOAT, _HALF),
}
_OUTPUTS: dict[str, tuple[int, Sequence[str | int]]] = {
    "lit_y": (TensorProto.UINT8, _FULL),
    "lit_u": (TensorProto.UINT8, _HALF),
    "lit_v": (TensorProto.UINT8, _HALF),
    "next_y": (TensorProto.FLOAT, _FULL),
    "next_uv": (TensorProto.FLOAT, (2, *_HALF)),
    "next_left": (TensorProto.FLOAT, _HALF),
}


class _Value:
    """Output of a node; arithmetic on it adds nodes."""

    def __init__(self, graph: _Graph, name: str) -> None:
        self._graph = graph
        self.name = name

    def __add__(self, other: _Value | float) -> _Value:
        return self._graph("Add", self, other)

    def __sub__(self, other: _Value | float) -> _Value:
        return self._graph("Sub", self, other)

    def __rsub__(self, other: float) -> _Value:
        return self._graph("Sub", other, self)

    def __mul__(self, other: _Value | float) -> _Value:
        return self._graph("Mul", self, other)

    def __truediv__(self, other: _Value) -> _Value:
        return self._graph("Div", self, other)


class _Graph:
    """Collects nodes; a call adds one. `part` is the prefix of node names."""

    def __init__(self) -> None:
        self.part = ""
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def __call__(self, operator: str, *inputs: _Value | float, **attributes: Any) -> _Value:
        name = f"{self.part}/{operator}_{len(self.nodes)}"
        given = [(each if isinstance(each, _Value) else self.floats(each)).name for each in inputs]
        self.nodes.append(helper.make_node(operator, given, [name], name=name, **attributes))
        return _Value(self, name)

    def floats(self, *values: float) -> _Value:
        """Return a constant float, or a vector of floats."""
        return self._constant(np.array(values if len(values) > 1 else values[0], np.float32))

    def whole(self, *values: int) -> _Value:
        """Return a constant vector of integers, for axes and sizes."""
        return self._constant(np.array(values, np.int64))

    def _constant(self, array: np.ndarray[Any, Any]) -> _Value:
        kind = "f" if array.dtype == np.float32 else "i"
        name = f"{kind}{list(array.shape)}:{','.join(map(repr, array.ravel().tolist()))}"
        self.constants.setdefault(name, numpy_helper.from_array(array, name))
        return _Value(self, name)

    def take(self, name: str) -> _Value:
        """Return an input of the graph."""
        return _Value(self, name)

    def planes(self, name: str, *, axes: Sequence[int]) -> _Value:
        """Return an input as f32 with additional axes: (1, channels, h, w)."""
        value = self.take(name)
        if _INPUTS[name][0] == TensorProto.UINT8:
            value = self("Cast", value, to=TensorProto.FLOAT)
        return self("Unsqueeze", value, self.whole(*axes))

    def give(self, value: _Value, name: str, *, axes: Sequence[int]) -> None:
        """Add an output of the graph, without the given axes of size 1."""
        if _OUTPUTS[name][0] == TensorProto.UINT8:
            # Casting values outside 0..255 is undefined. TensorRT has uint8 only as in- and output.
            value = self("Squeeze", self.byte(value), self.whole(*axes))
            last = helper.make_node("Cast", [value.name], [name], to=TensorProto.UINT8)
        else:
            last = helper.make_node("Squeeze", [value.name, self.whole(*axes).name], [name])
        last.name = f"{self.part}/{name}"
        self.nodes.append(last)

    def byte(self, value: _Value) -> _Value:
        """Round to the nearest integer, halves to even, and clip to 0..255."""
        return self("Clip", self("Round", value), 0.0, _BYTE)

    def channel(self, value: _Value, number: int) -> _Value:
        """Return one channel (1, 1, h, w) of (1, channels, h, w)."""
        return self("Slice", value, self.whole(number), self.whole(number + 1), self.whole(1))

    def mean(self, value: _Value, radius: int) -> _Value:
        """Return the box mean; borders as OpenCV's BORDER_REFLECT_101."""
        side = 2 * radius + 1
        padded = self(
            "Pad", value, self.whole(0, 0, *[radius] * 2, 0, 0, *[radius] * 2), mode="reflect"
        )
        return self("AveragePool", padded, kernel_shape=[side, side])

    def halved(self, value: _Value) -> _Value:
        """Return the mean of 2x2 blocks; an odd last row or column is averaged alone."""
        return self("AveragePool", value, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)

    def doubled(self, value: _Value, like: _Value) -> _Value:
        """Return the value enlarged twice (bilinear), cropped to the size of *like*."""
        larger = self(
            "Resize", value, _Value(self, ""), self.floats(1, 1, 2, 2), mode="linear",
        )  # fmt: skip
        size = self("Shape", like, start=2)
        return self("Slice", larger, self.whole(0, 0), size, self.whole(2, 3))

    def stretched(self, value: _Value, like: _Value) -> _Value:
        """Return the value resized (bilinear) to the size of *like*."""
        size = self("Concat", self.whole(1, 1), self("Shape", like, start=2), axis=0)
        empty = _Value(self, "")
        return self("Resize", value, empty, empty, size, mode="linear")


def make() -> onnx.ModelProto:
    """Return the graph: frame, parameters and state in; enhanced frame and next state out.

    `full_resolution_gpu.py` describes its inputs and the smallest size of the planes.
    """
    graph = _Graph()
    graph.part = "given"
    numbers = _split(graph)
    y = graph.planes("y", axes=(0, 1))
    uv = graph("Concat", *(graph.planes(name, axes=(0, 1)) for name in "uv"), axis=1)
    graph.part = "over_time_y"
    next_y, steps = _over_time(graph, y, graph.planes("past_y", axes=(0, 1)), numbers)
    graph.give(next_y, "next_y", axes=(0, 1))
    graph.part = "over_time_uv"
    next_uv, _ = _over_time(graph, uv, graph.planes("past_uv", axes=(0,)), numbers)
    graph.give(next_uv, "next_uv", axes=(0,))
    graph.part = "noise_left"
    left = _noise_left(graph, steps, graph.planes("past_left", axes=(0, 1)), numbers)
    graph.give(left, "next_left", axes=(0, 1))
    left = graph("Max", left, numbers.blots_left)
    graph.part = "over_space"
    y, uv = _over_space(graph, next_y * (1 / _FRACTION), next_uv * (1 / _FRACTION), left, numbers)
    _adjust(graph, y, uv, numbers)
    return _model(graph)


def _split(graph: _Graph) -> Numbers[_Value]:
    """Return the elements of the input `numbers`."""
    row = graph.take("numbers")
    each = (graph("Gather", row, graph.whole(at), axis=0) for at in range(len(Numbers._fields)))
    return Numbers(*each)


def _over_time(
    graph: _Graph, new: _Value, past: _Value, numbers: Numbers[_Value]
) -> tuple[_Value, _Value]:
    """Return the filtered plane in 64ths of a byte, and the steps.

    Corresponds to `Denoiser._changes` and `_over_time`. The window sums of the new and the filtered
    plane are computed as one sum of their difference, which is exact for integers.
    """
    change = graph.mean(new - graph.byte(past * (1 / _FRACTION)), SIDE // 2) * float(SIDE**2)
    steps = graph.byte(graph("Abs", graph("Round", change)) * numbers.unit)
    share = graph("Round", _share(graph, steps, numbers) * float(WHOLE) - _HALVES)
    step = graph("Round", (new * _FRACTION - past) * share * (1 / WHOLE))
    return past + step, steps


def _share(graph: _Graph, steps: _Value, numbers: Numbers[_Value]) -> _Value:
    """Return `denoise._shares` of the steps; the formula costs less than a lookup."""
    beyond = (steps * (1 / UNIT) - STANDS) * (1 / (MOVES - STANDS))
    moving = graph("Clip", beyond, 0.0, 1.0)
    smooth = moving * moving * (3.0 - moving * 2.0)
    return smooth * (1.0 - numbers.newest) + numbers.newest


def _noise_left(graph: _Graph, steps: _Value, past: _Value, numbers: Numbers[_Value]) -> _Value:
    """Return `Denoiser._noise_left`. In the first frame of a scene all shares are 1."""
    # OpenCV rounds halves up here.
    small = graph("Floor", graph.halved(steps) + 0.5)
    share = _share(graph, small, numbers)
    kept = 1.0 - share
    return kept * kept * past + share * share


def _over_space(
    graph: _Graph, y: _Value, uv: _Value, left: _Value, numbers: Numbers[_Value]
) -> tuple[_Value, _Value]:
    """Return `denoise._over_space`: guided filters with luma as guide, at half and quarter size."""
    guide = graph.halved(y)
    mean, spread = _moments(graph, guide)
    # Averaging 2x2 leaves a quarter of the variance.
    slope = spread / (graph("Max", spread, 0.0) + left * (numbers.flat * 0.25) + _LEAST)
    keep, base = _line(graph, slope, mean, mean, like=y)
    lit = keep * y + base
    small, coarse = graph.halved(guide), graph.halved(uv)
    mean, spread = _moments(graph, small)
    shared = graph.mean(small * coarse, RADIUS)
    coarse = graph.mean(coarse, RADIUS)
    level = graph.halved(left) * (numbers.flat_chroma * (1 / 16))
    slope = (shared - mean * coarse) / (graph("Max", spread, 0.0) + level + _LEAST)
    keep, base = _line(graph, slope, mean, coarse, like=uv)
    calm = keep * guide + base
    # Restore what the filter removed where it exceeds the noise.
    taken = uv - calm
    square = taken * taken
    return lit, calm + taken * (square / (square + left * numbers.lost))


_LEAST = 1e-3
"""Variance below which a window counts as flat, as in `denoise._line`."""


def _moments(graph: _Graph, guide: _Value) -> tuple[_Value, _Value]:
    """Return mean and variance of each window."""
    mean = graph.mean(guide, RADIUS)
    return mean, graph.mean(guide * guide, RADIUS) - mean * mean


def _line(
    graph: _Graph, slope: _Value, mean: _Value, wanted: _Value, *, like: _Value
) -> tuple[_Value, _Value]:
    """Return gain and offset of the guided filter, averaged over windows and enlarged twice."""
    averaged = (graph.mean(each, RADIUS) for each in (slope, wanted - slope * mean))
    keep, base = (graph.doubled(each, like) for each in averaged)
    return keep, base


def _adjust(graph: _Graph, y: _Value, uv: _Value, numbers: Numbers[_Value]) -> None:
    """Add `Adjustment.apply`: one table lookup per luma pixel and one gain per chroma pixel."""
    exposure = graph.planes("exposure", axes=(0, 1))
    graph.part = "lit_y"
    graph.give(_lookup(graph, "luma_table", y, exposure), "lit_y", axes=(0, 1))
    graph.part = "lit_uv"
    gain = _lookup(graph, "gain_table", graph.halved(y), exposure)
    scaled = (uv - GREY) * (graph.byte(gain) * (1 / GAIN_UNIT))
    for at, (name, grey) in enumerate((("lit_u", numbers.grey_u), ("lit_v", numbers.grey_v))):
        graph.part = name
        graph.give(graph.channel(scaled, at) + grey, name, axes=(0, 1))


def _lookup(graph: _Graph, table: str, plane: _Value, exposure: _Value) -> _Value:
    """Return a table (levels, 256), interpolated at column *plane* and row *exposure*."""
    across = plane * (2 / _BYTE) - 1.0
    down = graph.stretched(exposure, plane) * 2.0 - 1.0
    axes = graph.whole(-1)
    grid = graph("Concat", *(graph("Unsqueeze", each, axes) for each in (across, down)), axis=-1)
    grid = graph("Squeeze", grid, graph.whole(1))
    return graph(
        "GridSample",
        graph.planes(table, axes=(0, 1)),
        grid,
        mode="bilinear",
        padding_mode="border",
        align_corners=1,
    )


def _model(graph: _Graph) -> onnx.ModelProto:
    inputs, outputs = (
        [helper.make_tensor_value_info(name, *info) for name, info in tensors.items()]
        for tensors in (_INPUTS, _OUTPUTS)
    )
    made = helper.make_model(
        helper.make_graph(
            graph.nodes, "lowlight_full_resolution", inputs, outputs, list(graph.constants.values())
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(made, {"name": "lowlight-full-resolution", "version": VERSION})
    onnx.checker.check_model(made, full_check=True)
    return made


def main() -> None:
    """Write the shipped file."""
    content = make().SerializeToString(deterministic=True)
    SHIPPED.write_bytes(content)
    print(f"{SHIPPED}: {len(content) / 1e3:.1f} kB")  # noqa: T201  a command


if __name__ == "__main__":
    main()
