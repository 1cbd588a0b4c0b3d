"""Runs networks on the CPU through OpenVINO: the default.

A network with dynamic sizes is compiled once for each size: compiled for dynamic sizes it takes 1.4
(f32) to 1.8 times (bf16) as long. There is one request per stream, and further threads wait; on two
cores two streams give 8 % more inferences per second than one request on both.
"""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino

from engines.engine import EngineState
from engines.errors import DeviceUnavailable, EngineError, ModelFileError
from engines.spec import EngineSpec, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engines.modelfile import ModelFile
    from engines.spec import Precision

MOST_SIZES = 8
"""Compiled sizes kept (about 20 MB each); cameras of one site share one or two."""

Sizes = tuple[tuple[int, ...], ...]
Requests = queue.LifoQueue[Any]


class OpenVinoEngine:
    """A network compiled by OpenVINO, once for each size of its inputs."""

    def __init__(self, model: ModelFile, *, precision: Precision) -> None:
        self._core = openvino.Core()
        if precision == "bf16" and "BF16" not in self._core.get_property(
            "CPU", "OPTIMIZATION_CAPABILITIES"
        ):
            raise DeviceUnavailable(
                "openvino: this CPU has no bf16 arithmetic; set the precision to f32"
            )
        try:
            self._model = self._core.read_model(model.content)
        except RuntimeError as error:
            raise ModelFileError(f"openvino cannot read {model.path}: {_plain(error)}") from error
        self._properties = {
            # OpenVINO chooses bf16 by itself where the CPU has it; the requested precision is set.
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "THROUGHPUT",
            # Decoders need the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        self.spec = EngineSpec(
            name=model.name,
            inputs=tuple(map(_tensor, self._model.inputs)),
            outputs=tuple(map(_tensor, self._model.outputs)),
            digest=model.digest,
            metadata=model.metadata,
        )
        self.backend = f"openvino {openvino.__version__.split('-')[0]} cpu {precision}"
        self.state = EngineState("cpu")
        self._lock = threading.Lock()
        self.concurrency = 1
        """One request for each stream; one until the first size is compiled."""
        self._compiled: OrderedDict[Sizes, Requests] = OrderedDict()  # guarded by _lock
        self._closed = False  # guarded by _lock

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run the network once; see `engines.engine.Engine`."""
        self.spec.check(inputs)
        requests = self._requests(tuple(inputs[tensor.name].shape for tensor in self.spec.inputs))
        request = requests.get()  # callers beyond `concurrency` wait here
        try:
            arrays = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
            request.infer(arrays, share_inputs=True)
            return {
                tensor.name: request.get_output_tensor(index).data.copy()
                for index, tensor in enumerate(self.spec.outputs)
            }
        except RuntimeError as error:
            raise EngineError(f"{self.spec.name}: openvino failed: {_plain(error)}") from error
        finally:
            requests.put(request)

    def close(self) -> None:
        """Give back the memory; requests under way hold theirs until they are done."""
        with self._lock:
            self._closed = True
            self._compiled.clear()

    def _requests(self, sizes: Sizes) -> Requests:
        """Return the free requests for inputs of these sizes; compile new sizes first.

        Compiling holds the lock: 0.2 s once, and two cameras of a new size compile it once.
        """
        with self._lock:
            if self._closed:
                raise EngineError(f"{self.spec.name}: the engine is closed")
            if sizes not in self._compiled:
                self._compiled[sizes] = self._compile(sizes)
                while len(self._compiled) > MOST_SIZES:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(sizes)
            return self._compiled[sizes]

    def _compile(self, sizes: Sizes) -> Requests:
        model = self._model.clone()
        names = (tensor.name for tensor in self.spec.inputs)
        try:
            model.reshape(dict(zip(names, map(list, sizes), strict=True)))
            compiled = self._core.compile_model(model, "CPU", self._properties)
        except RuntimeError as error:
            raise EngineError(
                f"{self.spec.name}: openvino cannot compile it for {sizes}: {_plain(error)}"
            ) from error
        requests: Requests = queue.LifoQueue()
        self.concurrency = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        for _ in range(self.concurrency):
            requests.put(compiled.create_infer_request())
        return requests


def _tensor(port: Any) -> TensorSpec:
    shape = tuple(None if side.is_dynamic else side.get_length() for side in port.partial_shape)
    return TensorSpec(port.any_name, shape, np.dtype(port.element_type.to_dtype()))


def _plain(error: BaseException) -> str:
    """Return the last line of an OpenVINO error; earlier ones name its source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
