"""Opens a model for the program: validated on the CPU, and on a GPU as soon as its plan is ready.

The `model.py` of each room calls this.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engines.backends import cuda, tensorrt
from engines.backends.cpu import CPU_PRECISIONS, open_engine
from engines.engine import read_device
from engines.errors import DeviceUnavailable
from engines.modelfile import ModelFile, read_model_file
from engines.plans.fallback import FallbackEngine
from engines.validation import validate_cached

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from engines.backends.cuda import Gpu
    from engines.backends.tensorrt import Library
    from engines.engine import Device, Engine
    from engines.plans.settings import PlanSettings
    from engines.spec import EngineSpec, Precision, Profile, TensorSpec
    from engines.validation import Inputs, Tolerance

_GPU_DEVICE_FILES = ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg")
"""Device files of NVIDIA's driver: on servers, on Jetson, in WSL."""


@dataclass(frozen=True, slots=True)
class GpuRuntime:
    """A GPU and the library that runs plans on it."""

    gpu: Gpu
    library: Library


def load_validated_engine(
    model: Path | ModelFile,
    *,
    precision: Precision | None = None,
    samples: Callable[[], Sequence[Inputs]],
    tolerances: Mapping[Precision, Tolerance],
    check: Callable[[EngineSpec], object] = lambda _: None,
    validate: bool = True,
) -> Engine:
    """Compile a model for the CPU and compare it with the reference.

    Args:
        model: An ONNX file, or one that was read.
        precision: Inference precision; None is f32.
        samples: Inputs for the accuracy check.
        tolerances: Allowed difference from the reference for each precision that is supported.
        check: Raises if it is a network for another task.
        validate: Compare it with the reference, once for each machine.

    Raises:
        ModelFileError: The file is missing, damaged or not ONNX.
        DeviceUnavailable: The network or the CPU does not support that precision.
        InaccurateEngine: The engine differs from the reference by more than its tolerance.
        EngineError: What `check` raises.
    """
    file = read_model_file(model) if isinstance(model, Path) else model
    chosen = precision or "f32"
    if chosen not in tolerances:
        raise DeviceUnavailable(f"{file.name} runs in {', '.join(tolerances)}, not {chosen}")
    engine = open_engine(file, precision=chosen)
    try:
        check(engine.spec)
        if validate:
            validate_cached(engine, file, samples(), tolerances[chosen])
    except BaseException:
        engine.close()
        raise
    return engine


def load_on_gpu(
    model: ModelFile,
    runtime: GpuRuntime,
    settings: PlanSettings,
    *,
    precision: Precision | None = None,
) -> FallbackEngine:
    """Open a model on a GPU; the CPU runs it in f32 until its plan is compiled and checked.

    Args:
        model: The network.
        runtime: From `find_gpu`.
        settings: How it is compiled and checked.
        precision: Of the plan; None for the default of the settings.

    Raises:
        EngineError: The network cannot be used, or there is no tolerance for that precision.
    """
    from engines.plans.provider import PlanProvider

    provider = PlanProvider(
        model, settings, library=runtime.library, gpu=runtime.gpu, precision=precision
    )
    cpu = open_engine(model)
    return FallbackEngine(cpu, provider, spec=with_dynamic_batch(cpu.spec, settings.profiles))


def find_gpu(device: Device, precision: Precision | None = None) -> GpuRuntime | None:
    """Return the GPU for a device setting; None if the CPU is to be used.

    Args:
        device: "cuda" and "cuda:N" require a GPU, "auto" uses one that works, "cpu" uses none.
        precision: bf16 is a precision of CPUs: "auto" uses the CPU then.

    Raises:
        DeviceUnavailable: A GPU is required and cannot be used, or does not run that precision.
    """
    kind, index = read_device(device)
    if kind == "cpu" or (kind == "auto" and precision == "bf16"):
        return None
    if precision == "bf16":
        raise DeviceUnavailable(f"device {device} runs f32 and f16, not bf16")
    try:
        return _gpu_runtime(index)
    except DeviceUnavailable:
        if kind == "cuda":
            raise
        return None


def _gpu_runtime(index: int) -> GpuRuntime:
    # The GPU first: loading TensorRT takes long, and most machines have no GPU.
    found = GpuRuntime(cuda.gpu(index), tensorrt.library())
    if importlib.util.find_spec("onnx") is None:
        raise DeviceUnavailable("GPUs need the package onnx (extras `tensorrt` and `rtx`)")
    return found


def gpu_problem(device: Device) -> str:
    """Return why "auto" does not use a GPU that this machine has; empty if nothing is wrong."""
    kind, index = read_device(device)
    if kind == "auto" and any(Path(file).exists() for file in _GPU_DEVICE_FILES):
        try:
            _gpu_runtime(index)
        except DeviceUnavailable as error:
            return str(error)
    return ""


def cpu_precision(precision: Precision | None, device: Device) -> Precision | None:
    """Return the precision of an engine on the CPU; f16 beside a GPU is f32 there."""
    on_gpu_only = precision is not None and precision not in CPU_PRECISIONS
    return None if on_gpu_only and device != "cpu" else precision


def with_dynamic_batch(spec: EngineSpec, profiles: Sequence[Profile]) -> EngineSpec:
    """Return the inputs and outputs of an engine whose plan has these profiles.

    A side that varies in the profiles has any length, and the batch of the outputs is that of the
    inputs.
    """

    def opened(tensor: TensorSpec) -> TensorSpec:
        shapes = [shape for profile in profiles for shape in profile.shapes[tensor.name]]
        varies = [len(set(sides)) > 1 for sides in zip(*shapes, strict=True)]
        shape = (None if more else side for side, more in zip(tensor.shape, varies, strict=True))
        return replace(tensor, shape=tuple(shape))

    inputs = tuple(map(opened, spec.inputs))
    if any(tensor.shape[:1] != (None,) for tensor in inputs):
        return replace(spec, inputs=inputs)
    outputs = (replace(tensor, shape=(None, *tensor.shape[1:])) for tensor in spec.outputs)
    return replace(spec, inputs=inputs, outputs=tuple(outputs))
