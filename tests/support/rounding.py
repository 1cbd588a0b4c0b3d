"""A network of mixed fp16 and fp32 as one of fp32 that rounds where the mixed one would.

ONNX Runtime has no fp16 kernels for most layers on a CPU: it computes them in fp32 and takes the
casts between two of them away, so what it says of a mixed network is too good. Here every tensor of
fp16 is rounded to 11 bits by arithmetic that no optimiser undoes (Veltkamp's splitting, Dekker,
Numerische Mathematik 18, 1971), which is what a GPU does that multiplies fp16 and sums in fp32.
Subnormals and overflow are not imitated; the largest value is checked instead.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SPLIT = np.float32(2**13 + 1)
"""24 bits of fp32 become 11."""


def rounding(mixed, *, show=False):
    """The network of fp32; with *show* each rounded tensor is an output."""
    made = onnx.ModelProto()
    made.CopyFrom(mixed)
    graph = made.graph
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.initializer.append(numpy_helper.from_array(SPLIT, "split"))
    for tensor in mixed.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float16:
            values = values.astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(values, tensor.name))
    rounded = []
    for node in mixed.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        if node.op_type == "Cast" and node.attribute[0].i == TensorProto.FLOAT16:
            copy = helper.make_node("Identity", node.input, node.output, name=node.name)
        for at, name in enumerate(node.output):
            if name.endswith(".f16"):
                copy.output[at] = f"{name}.exact"
                rounded.append(name)
        graph.node.append(copy)
        for name in node.output:
            if name.endswith(".f16"):
                x, big, low = f"{name}.exact", f"{name}.big", f"{name}.low"
                graph.node.append(helper.make_node("Mul", [x, "split"], [big]))
                graph.node.append(helper.make_node("Sub", [big, x], [low]))
                graph.node.append(helper.make_node("Sub", [big, low], [name]))
    if show:
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in rounded)
    return made
