"""TensorRT and TensorRT for RTX: the installed library, and a plan that it loaded.

Both editions have one interface; the edition is chosen when the library is first used. Running a
loaded plan is `execution.py`, compiling one is `engines/plans/builder.py`.
"""

from __future__ import annotations

import functools
import logging
import re
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.cache_files import write_atomically
from engines.errors import DeviceUnavailable, EngineError, OutOfDeviceMemory, PlanUnfit
from engines.spec import Profile

if TYPE_CHECKING:
    from pathlib import Path

    from engines.backends.cuda import Gpu
    from engines.spec import Edition, EngineSpec, Shape, TensorSpec

_log = logging.getLogger(__name__)

_PACKAGES: dict[Edition, str] = {
    "tensorrt": "TensorRT (extra `tensorrt`)",
    "rtx": "TensorRT for RTX (extra `rtx`)",
}


@dataclass(frozen=True, slots=True)
class Library:
    """An installed edition of TensorRT."""

    edition: Edition
    """Which of the two."""
    version: str
    """Version, such as "10.14.1"; plans run on this version only."""
    module: Any
    """The Python module: Builder, OnnxParser, Runtime and so on."""
    errors: ErrorLog
    """The library's error messages; pass `errors.logger` to Builder, OnnxParser and Runtime."""

    @property
    def name(self) -> str:
        """Edition and version, such as "tensorrt-rtx 1.7.1.116"."""
        return f"tensorrt{'-rtx' if self.edition == 'rtx' else ''} {self.version}"


class ErrorLog:
    """Collects TensorRT's error messages: its calls return only whether they succeeded.

    Args:
        module: Either edition's Python module.
    """

    def __init__(self, module: Any) -> None:
        self._thread = threading.local()
        severities = module.ILogger.Severity
        errors = {severities.INTERNAL_ERROR, severities.ERROR}

        class Logger(module.ILogger):  # type: ignore[misc]
            """Receives messages in the thread that made the call."""

            def log(logger, severity: Any, message: str) -> None:  # noqa: N805
                if severity in errors:  # raised as an exception by the caller
                    self._messages().append(message)
                _log.debug("%s: %s", severity, message)

        self.logger = Logger()

    def take(self) -> str:
        """Return this thread's errors since the last call on one line; empty without errors."""
        messages, self._thread.messages = self._messages(), []
        return "; ".join(" ".join(message.split()) for message in messages)

    def _messages(self) -> list[str]:
        if not hasattr(self._thread, "messages"):
            self._thread.messages = []
        messages: list[str] = self._thread.messages
        return messages


def library(edition: Edition | None = None) -> Library:
    """Return the installed library; TensorRT before TensorRT for RTX if both are installed.

    Raises:
        DeviceUnavailable: It is not installed, or cannot be loaded.
    """
    reasons = []
    for wanted in (edition,) if edition else ("tensorrt", "rtx"):
        found = _load(wanted)
        if isinstance(found, Library):
            return found
        reasons.append(f"{_PACKAGES[wanted]}: {found}")
    raise DeviceUnavailable("; ".join(reasons))


@functools.cache
def _load(edition: Edition) -> Library | str:
    """Return the library, or why it cannot be used; cached for the process, as an import is."""
    try:
        if edition == "rtx":
            import tensorrt_rtx_bindings as module
        else:
            import tensorrt as module
        # PyPI's `tensorrt` may be an empty package whose libraries are missing.
        return Library(edition, module.__version__, module, ErrorLog(module))
    except ModuleNotFoundError:
        return "not installed"
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return f"installed, but cannot be loaded: {' '.join(str(error).split())}"


class LoadedPlan:
    """A deserialised plan. Use it within `Gpu.current`.

    Args:
        plan: Compiled by `engines.plans.builder`.
        library: The library that compiled it.
        gpu: Where it runs.
        spec: Of the network that was compiled; the plan is checked against it.
        kernels: File of the kernels that TensorRT for RTX compiles while it prepares shapes; read
            if it exists, written by `save_kernels`.

    Raises:
        PlanUnfit: It is damaged, or was made for another GPU, library or network.
    """

    def __init__(
        self, plan: bytes, library: Library, gpu: Gpu, spec: EngineSpec, kernels: Path | None = None
    ) -> None:
        library.errors.take()
        self.library, self.gpu = library, gpu
        self._kernels = kernels
        self._runtime = library.module.Runtime(library.errors.logger)
        self._config: Any = None
        self.engine = self._runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise self.refusal(f"cannot load the plan of {spec.name}", PlanUnfit)
        try:
            self.spec = self._compared(spec)
            self.profiles = tuple(
                Profile({tensor.name: self._shapes(tensor.name, at) for tensor in spec.inputs})
                for at in range(self.engine.num_optimization_profiles)
            )
            if library.edition == "rtx":
                self._config = self._runtime_config()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Free the weights, after the last context. May be called repeatedly.

        Not left to the garbage collector: the library frees them on the current device.
        """
        self.gpu.release(self._drop)

    def _drop(self) -> None:
        self._config = None
        self.engine = None
        self._runtime = None

    def refusal(self, what: str, kind: type[EngineError] = EngineError) -> EngineError:
        """Return the error for a failed call, from the error log and the state of the device.

        Raises:
            DeviceLost: The device is gone.
        """
        messages = self.library.errors.take() or "it gave no reason"
        self.gpu.check()
        if re.search(r"out of memory|OutOfMemory", messages, re.IGNORECASE):
            kind = OutOfDeviceMemory
        return kind(f"{self.library.name} on {self.gpu}: {what}: {messages}")

    def context(self) -> Any:
        """Create an execution context; its activation memory is set by the caller."""
        strategy = self.library.module.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self.engine.create_execution_context(self._config or strategy)
        if context is None:
            raise self.refusal(f"no execution context for {self.spec.name}")
        return context

    def save_kernels(self) -> None:
        """Write the compiled kernels for the next start; if that fails, it compiles them again."""
        if self._config is None or self._kernels is None:
            return
        try:
            write_atomically(self._kernels, bytes(self._config.get_runtime_cache().serialize()))
        except OSError as error:
            _log.info("%s: kernels are not cached: %s", self.spec.name, error)

    def _runtime_config(self) -> Any:
        """Return settings of TensorRT for RTX: own activation memory, CUDA graphs, kernel cache."""
        module, config = self.library.module, self.engine.create_runtime_config()
        strategy = module.ExecutionContextAllocationStrategy.USER_MANAGED
        config.set_execution_context_allocation_strategy(strategy)
        # Kernels for a shape are compiled while it is prepared, not later in the background.
        strategies = module.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        config.cuda_graph_strategy = module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        cache = config.create_runtime_cache()
        if self._kernels is not None and self._kernels.is_file():
            cache.deserialize(self._kernels.read_bytes())  # refuses those of another environment
        config.set_runtime_cache(cache)
        return config

    def _compared(self, spec: EngineSpec) -> EngineSpec:
        """Return the plan's inputs and outputs after comparing them with the network's."""
        mode = self.library.module.TensorIOMode
        names = [self.engine.get_tensor_name(at) for at in range(self.engine.num_io_tensors)]
        found = {}
        for kind, wanted in ((mode.INPUT, spec.inputs), (mode.OUTPUT, spec.outputs)):
            have = {name for name in names if self.engine.get_tensor_mode(name) == kind}
            if have != {tensor.name for tensor in wanted}:
                raise PlanUnfit(f"the plan of {spec.name} is another network's: {sorted(have)}")
            found[kind] = tuple(self._compared_tensor(spec.name, tensor) for tensor in wanted)
        return replace(spec, inputs=found[mode.INPUT], outputs=found[mode.OUTPUT])

    def _compared_tensor(self, name: str, tensor: TensorSpec) -> TensorSpec:
        dtype = self.engine.get_tensor_dtype(tensor.name)
        shape = tuple(self.engine.get_tensor_shape(tensor.name))
        try:
            same = np.dtype(self.library.module.nptype(dtype)) == tensor.dtype
        except TypeError:  # a type that numpy does not have
            same = False
        if not same or len(shape) != len(tensor.shape):
            raise PlanUnfit(f"the plan of {name} has {tensor.name} {shape} {dtype}, not {tensor}")
        return replace(tensor, shape=tuple(side if side >= 0 else None for side in shape))

    def _shapes(self, name: str, profile: int) -> tuple[Shape, Shape, Shape]:
        smallest, tuned, largest = map(tuple, self.engine.get_tensor_profile_shape(name, profile))
        return smallest, tuned, largest
