"""Converts a network from fp32 to mixed fp16 and fp32, with explicit casts.

TensorRT runs strongly typed networks in exactly the types of the graph, so that the precision of
each layer is chosen here, where it can be read, tested and run on any CPU. The rules are those of
PyTorch's autocast (https://docs.pytorch.org/docs/stable/amp.html): matrix products run in fp16;
sums, exponentials and divisions run in fp32; every other layer runs in the widest type of its
inputs. One rule is added: layers after the last matrix product stay in fp32, because they are cheap
and produce the result.

`onnxruntime.transformers.float16` (MIT) casts every operator that is not on its list, so that each
layer kept in fp32 is surrounded by useless casts; it clips constants that fp16 cannot represent
instead of keeping their layer in fp32; and it needs ONNX Runtime in the process that compiles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.plans.onnx_passes import constants, element_types

if TYPE_CHECKING:
    from numpy.typing import NDArray

FP16_OPS = frozenset(["Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"])
"""Run in fp16: tensor cores accumulate in fp32."""
FP32_OPS = frozenset(
    [
        "Acos",
        "Asin",
        "Cosh",
        "CumSum",
        "Exp",
        "GridSample",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "Log",
        "LogSoftmax",
        "Pow",
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
"""Run in fp32, as under autocast; and operators on coordinates, because fp16 has only 11 bits."""
WIDE_INPUTS = {"Resize": (1, 2)}
"""Inputs that are fp32 by the operator's definition."""
LARGEST = float(np.finfo(np.float16).max)
"""A larger constant keeps its layer in fp32."""

F32, F16 = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)


def to_mixed_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the network in mixed precision; inputs and outputs keep their names and types.

    Args:
        model: A network in fp32, from `onnx_passes.prepared`.

    Raises:
        ModelFileError: The types of the network contradict each other.
    """
    return _Casting(model).result()


def tail(model: onnx.ModelProto) -> set[str]:
    """Return the names of the tensors after the last matrix product on every path to an output."""
    before: set[str] = set()  # tensors that a matrix product still needs
    late: set[str] = set()
    for node in reversed(model.graph.node):
        if node.op_type in FP16_OPS or before.intersection(node.output):
            before.update(node.input)
        else:
            late.update(node.output)
    return late


class _Casting:
    """One pass over a network, in its order: the type of each layer, and the casts before it."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._types = element_types(model)
        self._constants = constants(model)
        self._tail = tail(model)
        self._home: dict[str, int] = {value.name: F32 for value in model.graph.input}
        self._made: set[str] = set()
        """Names of tensors that were cast to their second type."""
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
        if node.op_type in FP32_OPS or any(map(_too_large, fixed)) or not moving:
            return F32
        if node.op_type in FP16_OPS:
            return F16
        if self._tail.intersection(node.output) or any(self._home[n] == F32 for n in moving):
            return F32
        return F16

    def _as(self, name: str, kind: int) -> str:
        """Return the name of a tensor in a type; add the cast at its first use."""
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
