"""Runs networks in ONNX Runtime, on GPU or CPU, and in OpenVINO, for comparison with TensorRT."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.backends.cpu import open_engine, reference_spec
from engines.engine import EngineState
from engines.errors import DeviceUnavailable, EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from engines.engine import Engine
    from engines.modelfile import ModelFile
    from engines.registry import RegistryEntry
    from engines.spec import Precision

    Arrays = Mapping[str, NDArray[Any]]


def compiler_input(entry: RegistryEntry, precision: Precision = "f32") -> ModelFile:
    """Return the network that TensorRT is given: with a dynamic batch, in f16 if requested."""
    model = entry.model()
    if entry.gpu is None:
        return model
    from engines.plans.mixed_precision import to_mixed_fp16
    from engines.plans.onnx_passes import prepared

    graph = prepared(model.content, entry.gpu.profiles)
    graph = to_mixed_fp16(graph) if precision == "f16" else graph
    return replace(model, content=graph.SerializeToString(deterministic=True))


class OrtRunner:
    """See `runtimes.Runner`; an `engines.engine.Engine` itself."""

    def __init__(self, model: ModelFile, provider: str, index: int, precision: str) -> None:
        import onnxruntime

        device = f"cuda:{index}" if provider.startswith("CUDA") else "cpu"
        if provider not in onnxruntime.get_available_providers():
            there = ", ".join(onnxruntime.get_available_providers())
            raise DeviceUnavailable(
                f"onnxruntime {onnxruntime.__version__} has no {provider}: {there}"
            )
        if device != "cpu" and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # cuDNN and cuBLAS from other packages
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        chosen = (provider, {"device_id": index} if device != "cpu" else {})
        session = onnxruntime.InferenceSession(model.content, options, providers=[chosen])
        if session.get_providers()[0] != provider:  # it falls back to the CPU silently
            raise DeviceUnavailable(f"onnxruntime cannot use {provider} here: see its log")
        self.engine: Engine = self
        self.spec = reference_spec(model)
        self.state = EngineState(device)
        self.backend = f"onnxruntime {onnxruntime.__version__} {device} {precision}"
        self._library, self._session, self._device = onnxruntime, session, device

    @classmethod
    def open(
        cls, entry: RegistryEntry, precision: Precision, provider: str, index: int
    ) -> OrtRunner:
        """Open a network.

        Raises:
            DeviceUnavailable: ONNX Runtime here does not have the provider, or it does not work.
        """
        return cls(compiler_input(entry, precision), provider, index, precision)

    def infer(self, inputs: Arrays) -> Arrays:
        """Run the network once; see `engines.engine.Engine`."""
        self.spec.check(inputs)
        if self._session is None:
            raise EngineError(f"{self.spec.name}: the engine is closed")
        names = [tensor.name for tensor in self.spec.outputs]
        return dict(zip(names, self._session.run(names, dict(inputs)), strict=True))

    def bare(self, inputs: Arrays) -> Callable[[int], None]:
        """Return a loop over the session on arrays that are on its device."""
        session = self._session
        kind, _, number = self._device.partition(":")
        index = int(number or 0)
        binding = session.io_binding()
        for name, array in inputs.items():
            there = np.ascontiguousarray(array)
            value = self._library.OrtValue.ortvalue_from_numpy(there, kind, index)
            binding.bind_ortvalue_input(name, value)
        for tensor in self.spec.outputs:
            binding.bind_output(tensor.name, kind, index)

        def run(times: int) -> None:
            for _ in range(times):
                session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return run

    def close(self) -> None:
        """Release the device's memory."""
        self._session = None


class OpenVinoRunner:
    """See `runtimes.Runner`: the program's engine on the CPU."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def open(cls, entry: RegistryEntry, precision: Precision) -> OpenVinoRunner:
        """Open a network."""
        return cls(open_engine(compiler_input(entry), precision=precision))

    def bare(self, inputs: Arrays) -> None:
        """Return None: the engine's call is the library's, with one copy of the outputs."""
        del inputs

    def close(self) -> None:
        """Release its memory."""
        self.engine.close()
