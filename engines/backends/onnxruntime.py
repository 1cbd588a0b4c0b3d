"""Runs networks in fp32 through ONNX Runtime on the CPU: the reference the others are held to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from engines.engine import EngineState
from engines.errors import EngineError, ModelFileError
from engines.spec import EngineSpec, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engines.modelfile import ModelFile

TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int64)": "int64"}
"""ONNX Runtime's words for the types our networks use."""


class OnnxRuntimeEngine:
    """A network in ONNX Runtime. Its sessions may be run from any number of threads."""

    def __init__(self, model: ModelFile) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # fatal only: errors come as exceptions
        try:
            session = onnxruntime.InferenceSession(
                model.content, options, providers=["CPUExecutionProvider"]
            )
        # Its exceptions share no base class below Exception.
        except Exception as error:
            raise ModelFileError(f"onnxruntime cannot read {model.path}: {error}") from error
        self._session: Any = session
        self.spec = EngineSpec(
            name=model.name,
            inputs=tuple(map(_tensor, session.get_inputs())),
            outputs=tuple(map(_tensor, session.get_outputs())),
            digest=model.digest,
            metadata=model.metadata,
        )
        self.backend = f"onnxruntime {onnxruntime.__version__} cpu f32"
        self.state = EngineState("cpu")
        self.concurrency = 1
        """A run uses every core."""

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run the network once; see `engines.engine.Engine`."""
        self.spec.check(inputs)
        session = self._session
        if session is None:
            raise EngineError(f"{self.spec.name}: the engine is closed")
        names = [tensor.name for tensor in self.spec.outputs]
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    def close(self) -> None:
        """Give back the memory."""
        self._session = None


def _tensor(value: Any) -> TensorSpec:
    shape = tuple(side if isinstance(side, int) else None for side in value.shape)
    return TensorSpec(value.name, shape, np.dtype(TYPES[value.type]))
