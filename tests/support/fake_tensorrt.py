"""A simulated TensorRT runtime, which runs plans with ONNX Runtime.

Its interface is TensorRT's, which a test compares with the real module; as there, an error is a
return value of `False`, `None` or -1 and a line in the log, never an exception. Its plans are ONNX
files with a header, made by `plan`; it computes when the stream's work is done, from and to the
fake GPU's memory, at the addresses it was given.
"""

# ruff: noqa: N801  the names are TensorRT's

import enum
import json
from typing import Any

import numpy as np
import onnxruntime

from tests.support.fake_cuda import Machine, stream_at

MAGIC = b"fake plan\n"
VERSION = "10.14.1"


def plan(
    onnx: bytes,
    profiles: list[dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]],
    *,
    capability: str = "sm89",
    version: str = VERSION,
    activations: int = 1000,
    off_by: float = 0.0,
) -> bytes:
    """A plan.

    Args:
        onnx: The network.
        profiles: Smallest, tuned-for and largest shape of each input, for each profile.
        capability: Of the GPU it is for.
        version: Of the TensorRT that made it.
        activations: Bytes of device memory that a context needs.
        off_by: How far its results are from the network's.
    """
    head = {
        "profiles": profiles, "capability": capability, "version": version,
        "activations": activations, "off_by": off_by,
    }  # fmt: skip
    return MAGIC + json.dumps(head).encode() + b"\n" + onnx


class FakeTensorRt:
    """The module. Which GPU it runs on is the machine's."""

    __version__ = VERSION

    class ILogger:
        class Severity(enum.Enum):
            INTERNAL_ERROR = 0
            ERROR = 1
            WARNING = 2
            INFO = 3
            VERBOSE = 4

        def log(self, severity: Any, msg: str) -> None:
            raise NotImplementedError

    class TensorIOMode(enum.Enum):
        NONE = 0
        INPUT = 1
        OUTPUT = 2

    class ExecutionContextAllocationStrategy(enum.Enum):
        STATIC = 0
        ON_PROFILE_CHANGE = 1
        USER_MANAGED = 2

    class DynamicShapesKernelSpecializationStrategy(enum.Enum):
        LAZY = 0
        EAGER = 1
        NONE = 2

    class CudaGraphStrategy(enum.Enum):
        DISABLED = 0
        WHOLE_GRAPH_CAPTURE = 1

    class DataType(enum.Enum):
        FLOAT = np.dtype("float32")
        HALF = np.dtype("float16")
        UINT8 = np.dtype("uint8")
        INT64 = np.dtype("int64")
        BF16 = None

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.contexts = 0
        """Execution contexts that live."""
        self.engines = 0
        """Deserialised plans that live."""
        self.strayed = 0
        """Deserialised plans that were destroyed while no device was current."""
        self.compiled = 0
        """Shapes whose kernels were compiled, because no runtime cache had them."""
        self.before_run: Any = None
        """Called on the device before each network, with the inputs by name."""
        own = self

        class Runtime_(Runtime):
            module = own

        self.Runtime = Runtime_

    def nptype(self, dtype: Any) -> type:
        if dtype.value is None:
            raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
        return dtype.value.type


class Runtime:
    module: FakeTensorRt

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> "ICudaEngine | None":
        machine = self.module.machine
        if machine.sticky or not machine.stack():
            return self._refuse("Error Code 1: Cuda Runtime (invalid device context)")
        if not serialized_engine.startswith(MAGIC):
            return self._refuse(
                "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization "
                "assertion header.magicTag == kEXPECTED_MAGIC_TAG failed.)"
            )
        head, _, onnx = serialized_engine[len(MAGIC) :].partition(b"\n")
        facts = json.loads(head)
        if facts["version"] != VERSION:
            return self._refuse(
                "IRuntime::deserializeCudaEngine: Error Code 1: Serialization (Serialization "
                "assertion stdVersionRead == kSERIALIZATION_VERSION failed.Version tag does not "
                "match.)"
            )
        here = "sm{}{}".format(*machine.capability)
        if facts["capability"] != here:
            return self._refuse(
                "IRuntime::deserializeCudaEngine: Error Code 6: API Usage Error (The engine plan "
                f"file is generated on an incompatible device, expecting compute {here} got "
                f"compute {facts['capability']}, please rebuild.)"
            )
        return ICudaEngine(self, facts, onnx)

    def _refuse(self, message: str) -> None:
        self.logger.log(FakeTensorRt.ILogger.Severity.ERROR, message)


class ICudaEngine:
    def __init__(self, runtime: Runtime, facts: dict[str, Any], onnx: bytes) -> None:
        self._runtime, self._facts = runtime, facts
        self.module, self.logger = runtime.module, runtime.logger
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(onnx, options)
        types = {"tensor(float)": "FLOAT", "tensor(uint8)": "UINT8", "tensor(int64)": "INT64"}
        modes = FakeTensorRt.TensorIOMode
        self._tensors = {
            value.name: (mode, FakeTensorRt.DataType[types[value.type]], value.shape)
            for mode, values in (
                (modes.INPUT, self.session.get_inputs()),
                (modes.OUTPUT, self.session.get_outputs()),
            )
            for value in values
        }
        self.module.engines += 1
        self.device_memory_size_v2 = facts["activations"]
        self.num_io_tensors = len(self._tensors)
        self.num_optimization_profiles = len(facts["profiles"])

    def __del__(self) -> None:
        self.module.engines -= 1
        self.module.strayed += not self.module.machine.stack()

    def get_tensor_name(self, index: int) -> str:
        return [*self._tensors][index]

    def get_tensor_mode(self, name: str) -> Any:
        return self._tensors[name][0] if name in self._tensors else FakeTensorRt.TensorIOMode.NONE

    def get_tensor_dtype(self, name: str) -> Any:
        return self._tensors[name][1] if name in self._tensors else FakeTensorRt.DataType.FLOAT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape = self._tensors[name][2] if name in self._tensors else ()
        return tuple(side if isinstance(side, int) else -1 for side in shape)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self._facts["profiles"][profile_index][name]]

    def create_runtime_config(self) -> "IRuntimeConfig":
        return IRuntimeConfig()

    def create_execution_context(self, given: Any) -> "IExecutionContext | None":
        strategies = FakeTensorRt.ExecutionContextAllocationStrategy
        cache = given.get_runtime_cache() if isinstance(given, IRuntimeConfig) else None
        if isinstance(given, IRuntimeConfig):
            given = given.get_execution_context_allocation_strategy()
        assert isinstance(given, strategies)
        if self.module.machine.sticky:
            return self._runtime._refuse("Error Code 1: Cuda Runtime (an illegal memory access)")
        user_managed = given is strategies.USER_MANAGED
        return IExecutionContext(self, self._facts, user_managed=user_managed, cache=cache)


class IRuntimeConfig:
    def __init__(self) -> None:
        self.dynamic_shapes_kernel_specialization_strategy = (
            FakeTensorRt.DynamicShapesKernelSpecializationStrategy.LAZY
        )
        self.cuda_graph_strategy = FakeTensorRt.CudaGraphStrategy.DISABLED
        self._allocation = FakeTensorRt.ExecutionContextAllocationStrategy.STATIC
        self._cache: IRuntimeCache | None = None

    def create_runtime_cache(self) -> "IRuntimeCache":
        return IRuntimeCache()

    def set_runtime_cache(self, cache: "IRuntimeCache") -> bool:
        self._cache = cache
        return True

    def get_runtime_cache(self) -> "IRuntimeCache | None":
        return self._cache

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self._allocation = strategy

    def get_execution_context_allocation_strategy(self) -> Any:
        return self._allocation


class IRuntimeCache:
    def __init__(self) -> None:
        self._kernels: set[str] = set()

    def serialize(self) -> bytes:
        return json.dumps(sorted(self._kernels)).encode()

    def deserialize(self, blob: bytes) -> bool:
        self._kernels = set(json.loads(blob))
        return True


class IExecutionContext:
    def __init__(
        self,
        engine: ICudaEngine,
        facts: dict[str, Any],
        *,
        user_managed: bool,
        cache: IRuntimeCache | None,
    ) -> None:
        self._cache = cache
        self.engine, self._facts = engine, facts
        self._module, self._logger = engine.module, engine.logger
        self._profile = 0
        self._memory = None if user_managed else 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._module.contexts += 1

    def __del__(self) -> None:
        self._module.contexts -= 1

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % 256 == 0
        self._memory = memory if size >= self._facts["activations"] else None

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if profile_index >= len(self._facts["profiles"]):
            return self._refuse(f"IExecutionContext::setOptimizationProfile: no {profile_index}")
        self._profile, self._shapes = profile_index, {}
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if self.engine.get_tensor_mode(name) != FakeTensorRt.TensorIOMode.INPUT:
            return self._refuse(
                "IExecutionContext::setInputShape: Error Code 3: API Usage Error (Given invalid "
                f"tensor name: {name}.)"
            )
        least, _, most = self._facts["profiles"][self._profile][name]
        if len(shape) != len(least) or not all(
            a <= b <= c for a, b, c in zip(least, shape, most, strict=True)
        ):
            return self._refuse(
                "IExecutionContext::setInputShape: Error Code 3: API Usage Error (Parameter check "
                f"failed, condition: engineDims.d[i] == dims.d[i]. Static dimension mismatch for "
                f"{name})"
            )
        self._shapes[name] = tuple(shape)
        return True

    def infer_shapes(self) -> list[str]:
        return [
            each.name for each in self.engine.session.get_inputs() if each.name not in self._shapes
        ]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._shapes:
            return self._shapes[name]
        zeros = {
            each.name: np.zeros(self._shapes[each.name], self._dtype(each.name))
            for each in self.engine.session.get_inputs()
        }
        return self.engine.session.run([name], zeros)[0].shape

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if self.engine.get_tensor_mode(name) == FakeTensorRt.TensorIOMode.NONE:
            return self._refuse(
                "IExecutionContext::setTensorAddress: Error Code 3: API Usage Error (Given invalid "
                f"tensor name: {name}.)"
            )
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        machine = self._module.machine
        if machine.sticky:
            return self._refuse("Error Code 1: Cuda Runtime (an illegal memory access)")
        if self._memory is None:
            return self._refuse("Error Code 3: API Usage Error (device memory was not set)")
        missing = [
            self.engine.get_tensor_name(at)
            for at in range(self.engine.num_io_tensors)
            if self.engine.get_tensor_name(at) not in self._addresses
        ]
        if missing or self.infer_shapes():
            return self._refuse(
                "IExecutionContext::enqueueV3: Error Code 3: API Usage Error (Parameter check "
                f"failed: no address for {missing})"
            )
        addresses, shapes = dict(self._addresses), dict(self._shapes)
        if self._cache is not None and str(shapes) not in self._cache._kernels:
            self._cache._kernels.add(str(shapes))
            self._module.compiled += 1
        stream_at(stream_handle).add(lambda: self._compute(addresses, shapes))
        return True

    def _compute(self, addresses: dict[str, int], shapes: dict[str, tuple[int, ...]]) -> None:
        """What the kernels do, once the stream gets to them."""
        machine = self._module.machine
        given = {}
        for name, shape in shapes.items():
            dtype = self._dtype(name)
            size = int(np.prod(shape)) * dtype.itemsize
            given[name] = np.frombuffer(machine.at(addresses[name])[:size], dtype).reshape(shape)
        if self._module.before_run is not None:
            self._module.before_run(given)
        names = [value.name for value in self.engine.session.get_outputs()]
        for name, value in zip(names, self.engine.session.run(names, given), strict=True):
            raw = (value + np.asarray(self._facts["off_by"], value.dtype)).tobytes()
            machine.at(addresses[name])[: len(raw)] = raw

    def _dtype(self, name: str) -> np.dtype[Any]:
        return self.engine.get_tensor_dtype(name).value

    def _refuse(self, message: str) -> bool:
        self._logger.log(FakeTensorRt.ILogger.Severity.ERROR, message)
        return False
