"""Turns a network of fp32 into one of mixed fp16 and fp32, layer by layer, with every cast in it.

TensorRT gives strongly typed networks exactly the types that stand in the graph, so the choice is
made here, where it can be read, tested and run on any CPU. The rules are those of PyTorch's
autocast (https://docs.pytorch.org/docs/stable/amp.html): what multiplies matrices runs in fp16;
what sums, exponentiates or divides by what may be small runs in fp32; everything else takes the
widest type of its inputs. Two rules are added. What follows the last heavy layer stays in fp32,
since it is cheap and its result is what people see; and layers can be named that must not lose
digits (flow, warps, curves, pixel coordinates).

`onnxruntime.transformers.float16` (MIT) casts every operator that is not on its list, so that each
layer kept in fp32 stands between two casts that win nothing; it clips constants that fp16 cannot
hold instead of keeping their layer; and it would bring ONNX Runtime into the process that compiles.
"""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.errors import ModelMismatch
from engines.plans.onnx_passes import constants, element_types

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

FP16_OPS = frozenset(["Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"])
"""Run in fp16: tensor cores sum their products in fp32."""
FP32_OPS = frozenset(
    [
        "Acos",
        "Asin",
        "Cosh",
        "CumSum",
        "DequantizeLinear",
        "Exp",
        "GridSample",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "Log",
        "LogSoftmax",
        "Pow",
        "QuantizeLinear",
        "Range",
        "Reciprocal",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
        "Sinh",
        "Softmax",
        "Softplus",
        "Tan",
    ]
)
"""Run in fp32, as under autocast; and what takes coordinates, as fp16 has 11 bits for a pixel.
Scales of int8 are fp32 by definition, so that a layer between two of them is."""
WIDE_INPUTS = {"Resize": (1, 2)}
"""Inputs that must be fp32 by the operator's definition."""
LARGEST = float(np.finfo(np.float16).max)
"""A constant beyond it keeps its layer in fp32."""

F32, F16 = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)


def half(model: onnx.ModelProto, *, keep_f32: Sequence[str] = ()) -> onnx.ModelProto:
    """The same network, mixed: inputs and outputs keep their names and types.

    Args:
        model: a network of fp32, as `graphs.prepared` makes it.
        keep_f32: names of layers that stay in fp32, or patterns of them (`fnmatch`).

    Raises:
        ModelMismatch: a name in `keep_f32` is that of no layer.
        ModelFileError: the network's types contradict each other.
    """
    _check_names(model, keep_f32)
    return _Casting(model, keep_f32).result()


def tail(model: onnx.ModelProto) -> set[str]:
    """Names of the tensors that come after the last heavy layer on every way to an output."""
    before: set[str] = set()  # tensors that some heavy layer still needs
    late: set[str] = set()
    for node in reversed(model.graph.node):
        if node.op_type in FP16_OPS or before.intersection(node.output):
            before.update(node.input)
        else:
            late.update(node.output)
    return late


def _check_names(model: onnx.ModelProto, patterns: Sequence[str]) -> None:
    names = [node.name for node in model.graph.node]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ModelMismatch(f"no layer is called {pattern!r}, which is to be kept in f32")


class _Casting:
    """One pass over a network, in its order: each layer's type, and the casts in front of it."""

    def __init__(self, model: onnx.ModelProto, keep_f32: Sequence[str]) -> None:
        self._model = model
        self._keep = keep_f32
        self._types = element_types(model)
        self._constants = constants(model)
        self._tail = tail(model)
        self._whole = {
            node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"
        }
        self._home: dict[str, int] = {value.name: F32 for value in model.graph.input}
        self._made: set[str] = set()
        """Names under which a tensor exists in its second type."""
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def result(self) -> onnx.ModelProto:
        for node in self._model.graph.node:
            self._add(node)
        for value in self._model.graph.output:
            if self._is_float(value.name):
                self._as(value.name, F32)
        made = onnx.ModelProto()
        made.CopyFrom(self._model)
        del made.graph.node[:], made.graph.initializer[:], made.graph.value_info[:]
        made.graph.node.extend(self._nodes)
        made.graph.initializer.extend(self._initializers.values())
        onnx.checker.check_model(made)
        return made

    def _add(self, node: onnx.NodeProto) -> None:
        kind = self._type_of(node)
        wide = WIDE_INPUTS.get(node.op_type, ())
        inputs = [self._as(name, F32 if at in wide else kind) for at, name in enumerate(node.input)]
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        del copy.input[:], copy.output[:]
        copy.input.extend(inputs)
        for name in node.output:
            self._home[name] = kind
            lower = kind == F16 and self._is_float(name)
            copy.output.append(f"{name}.f16" if lower else name)
        self._nodes.append(copy)

    def _type_of(self, node: onnx.NodeProto) -> int:
        floats = [name for name in node.input if self._is_float(name)]
        fixed = [self._constants[name] for name in floats if name in self._constants]
        moving = [name for name in floats if name not in self._constants]
        exact = (
            node.op_type in FP32_OPS
            or any(fnmatch.fnmatchcase(node.name, pattern) for pattern in self._keep)
            or any(map(_too_large, fixed))
            or not self._whole.isdisjoint(node.input)
        )
        if exact or not moving:
            return F32
        if node.op_type in FP16_OPS:
            return F16
        if self._tail.intersection(node.output) or any(self._home[n] == F32 for n in moving):
            return F32
        return F16

    def _as(self, name: str, kind: int) -> str:
        """The name of a tensor in a type; it is cast now if that is the first time."""
        if not self._is_float(name):
            if name in self._constants:
                self._initializers.setdefault(
                    name, numpy_helper.from_array(self._constants[name], name)
                )
            return name
        called = f"{name}.f16" if kind == F16 else name
        if name in self._constants:
            values = self._constants[name].astype(np.float16 if kind == F16 else np.float32)
            self._initializers.setdefault(called, numpy_helper.from_array(values, called))
        elif self._home[name] != kind and called not in self._made:
            there = f"{name}.f16" if self._home[name] == F16 else name
            self._made.add(called)
            self._nodes.append(
                helper.make_node("Cast", [there], [called], name=f"{called}.cast", to=kind)
            )
        return called

    def _is_float(self, name: str) -> bool:
        return self._types.get(name) == F32


def _too_large(values: NDArray[Any]) -> bool:
    return bool((np.abs(values) > LARGEST).any())
