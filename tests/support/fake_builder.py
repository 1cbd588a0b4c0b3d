"""The half of TensorRT that compiles, as far as `compiling.py` asks: what it says is scripted.

Names, arguments and return values are those of TensorRT 10's Python interface; what it would say
is in `Says`. TensorRT for RTX is tested in the flesh, so this stands for the other edition, which
compiles on its GPU only.
"""

import enum
from dataclasses import dataclass, field

import numpy as np

from engines.backends.tensorrt import ErrorLog, Library


@dataclass
class Says:
    """Messages that the compiler is to report, and recorded calls."""

    plan: bytes | None = b"plan"
    error: str = ""
    """Logged where the plan is None."""
    parses: bool = True
    profile: int = 0
    """Returned by add_optimization_profile."""
    fits: tuple[bytes, ...] = (b"", b"known times")
    """Timing caches that belong to this version."""
    output: type = np.float32
    recorded: dict = field(default_factory=dict)


class ILogger:
    class Severity(enum.IntEnum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class IProgressMonitor:
    pass


class DataType(enum.Enum):
    FLOAT, HALF, INT8, INT64 = range(4)


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH, STRONGLY_TYPED = range(2)


class BuilderFlag(enum.IntEnum):
    TF32, SPARSE_WEIGHTS = range(2)


class Tensor:
    def __init__(self, name, shape, dtype):
        self.name, self.shape, self.dtype = name, shape, dtype


class Network:
    """One input, one layer, one output."""

    num_inputs = num_outputs = num_layers = 1

    def __init__(self, says):
        self.says = says
        kind = DataType.FLOAT if says.output is np.float32 else DataType.INT64
        self._ends = Tensor("x", (-1,), DataType.FLOAT), Tensor("y", (-1,), kind)

    def get_input(self, index):
        return self._ends[0]

    def get_output(self, index):
        return self._ends[1]

    def get_layer(self, index):
        return self


class Cache:
    def __init__(self, content):
        self._content = content

    def belongs_to(self, versions):
        return self._content in versions

    def serialize(self):
        return self._content + b", and new ones"


class Profile:
    def set_shape(self, name, least, best, most):
        self.shapes = [least, best, most]

    def get_shape(self, name):
        return self.shapes


class Config:
    def __init__(self, says):
        self._says = says
        self.flags = {BuilderFlag.TF32}

    def clear_flag(self, flag):
        self.flags.discard(flag)

    def set_flag(self, flag):
        self.flags.add(flag)

    def add_optimization_profile(self, profile):
        return self._says.profile

    def create_timing_cache(self, content):
        return None if content == b"damaged" else Cache(content)

    def set_timing_cache(self, cache, ignore_mismatch):
        if not isinstance(cache, Cache):
            raise TypeError("set_timing_cache(): incompatible function arguments")
        if not ignore_mismatch and not cache.belongs_to(self._says.fits):
            return False
        self._cache = cache
        return True

    def get_timing_cache(self):
        return self._cache


class Builder:
    says: Says

    def __init__(self, logger):
        self._logger = logger

    def create_network(self, flags):
        self.says.recorded["flags"] = flags
        return Network(self.says)

    def create_builder_config(self):
        return self.says.recorded.setdefault("config", Config(self.says))

    def create_optimization_profile(self):
        return Profile()

    def build_serialized_network(self, network, config):
        if self.says.plan is None and self.says.error:
            self._logger.log(ILogger.Severity.ERROR, self.says.error)
        return self.says.plan


class OnnxParser:
    num_errors = 0

    def __init__(self, network, logger):
        self._parses, self._logger = network.says.parses, logger

    def parse(self, content):
        if not self._parses:
            self._logger.log(ILogger.Severity.ERROR, "Failed to parse ONNX model")
        return self._parses


class Module:
    """What `import tensorrt` would give."""

    ILogger, IProgressMonitor, DataType = ILogger, IProgressMonitor, DataType
    NetworkDefinitionCreationFlag, BuilderFlag = NetworkDefinitionCreationFlag, BuilderFlag
    OnnxParser = OnnxParser

    def __init__(self, says):
        self.Builder = type("Builder", (Builder,), {"says": says})

    def nptype(self, kind):
        return {DataType.FLOAT: np.float32, DataType.INT64: np.int64}[kind]


def fake(says):
    """TensorRT 10 that says so."""
    return Library("tensorrt", "10.13.2", module := Module(says), ErrorLog(module))
