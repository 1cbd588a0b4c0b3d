"""Small ONNX networks out of nodes, and networks opened in the reference."""

from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engines.backends.cpu import open_reference
from engines.modelfile import ModelFile


def graph_of(nodes, *, inputs, outputs, constants=MappingProxyType({})):
    """A network; inputs and outputs are (element type, shape) by name."""
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "small",
            [helper.make_tensor_value_info(n, *value) for n, value in inputs.items()],
            [helper.make_tensor_value_info(n, *value) for n, value in outputs.items()],
            [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    model.ir_version = 8
    return model


def file_of(model, name="small"):
    """The network as a model file that lies nowhere."""
    content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    return ModelFile(Path(f"{name}.onnx"), content, "0" * 64, MappingProxyType({"name": name}))


def opened(model):
    """The network in ONNX Runtime."""
    return open_reference(file_of(model))
