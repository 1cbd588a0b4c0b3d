"""One network, compiled for one device: named arrays in, named arrays out.

Knows nothing of pictures, cameras or time. A backend is one file in `backends/` with a function
`load`; it appears in `BACKENDS` and is imported when it is first asked for, library and all.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast

from engines.errors import DeviceLost, DeviceUnavailable, OutOfDeviceMemory, PlanUnfit
from engines.modelfile import ModelFile, read_model_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from engines.spec import EngineSpec

Device: TypeAlias = str
"""`auto`, `cpu`, `cuda` (the first GPU) or `cuda:N` (one of several); see `read_device`."""
DeviceKind = Literal["auto", "cuda", "cpu"]
Precision = Literal["f32", "f16", "bf16", "int8"]


@dataclass(frozen=True, slots=True)
class EngineState:
    """What an engine runs on at this moment, for people to see."""

    device: str
    """"cpu", or a GPU as in "cuda:0"."""
    degraded: bool = False
    """Whether a GPU that should be used is not, or not for all; nothing under way changes that."""
    reason: str = ""
    """Why it runs where it runs, in words; empty when all is as it was asked for."""
    building: float | None = None
    """Share of a plan that is being compiled, 0 to 1; None while none is."""


class Engine(Protocol):
    """A compiled network. Safe to call from many threads at once: one serves all cameras."""

    spec: EngineSpec
    """What it takes and gives."""

    @property
    def backend(self) -> str:
        """Library, version, device and precision, as in "openvino 2026.4.1 cpu f32"."""
        ...

    @property
    def state(self) -> EngineState:
        """What it runs on at this moment."""
        ...

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run the network once. The arrays that come back are the caller's.

        Raises:
            ModelMismatch: the inputs do not fit.
            EngineError: the engine is closed, or the device failed.
        """
        ...

    def close(self) -> None:
        """Give back what the device holds. Any number of times; calls under way are finished."""
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """A library that runs networks, and where its code is."""

    name: str
    """As in `Engine.backend`."""
    device: Literal["cuda", "cpu"]
    """What it runs on."""
    module: str
    """Has `load(model: ModelFile, *, precision: Precision) -> Engine`; GPUs also take `index`."""
    precisions: tuple[Precision, ...]
    """What it can be asked for; whether this machine can is said by `load`."""


REFERENCE = Backend("onnxruntime", "cpu", "engines.backends.onnxruntime", ("f32",))
"""What every compiled engine is compared with."""
BACKENDS: tuple[Backend, ...] = (
    Backend("openvino", "cpu", "engines.backends.openvino", ("f32", "bf16")),
    Backend("tensorrt", "cuda", "engines.backends.tensorrt", ("f32", "f16", "int8")),
)
"""Best first for each device. A new device is one more line and one more file."""


def read_device(device: Device) -> tuple[DeviceKind, int]:
    """The kind of device, and the index of the GPU.

    Raises:
        DeviceUnavailable: no device is called that.
    """
    found = re.fullmatch(r"(auto|cpu|cuda)|cuda:(\d{1,3})", device)
    if found is None:
        raise DeviceUnavailable(f"unknown device {device!r}: choose auto, cpu, cuda or cuda:N")
    kind, index = found.groups()
    return (cast("DeviceKind", kind), 0) if kind else ("cuda", int(index))


def open_engine(
    model: Path | ModelFile, *, device: Device = "auto", precision: Precision = "f32"
) -> Engine:
    """Compile a model for a device, now. With `changeover.py` a GPU's plan is built meanwhile.

    Args:
        model: an ONNX file, or one that was read.
        device: "auto" takes a GPU that works and has a plan, else the CPU; "cuda" a GPU or nothing.
        precision: of the arithmetic. Only f32 means the same on every CPU.

    Raises:
        ModelFileError: the file is missing, damaged or no ONNX.
        DeviceUnavailable: no such device here, or it cannot do that precision.
    """
    kind, index = read_device(device)
    read = model if isinstance(model, ModelFile) else read_model_file(model)
    wanted = ("cuda", "cpu") if kind == "auto" else (kind,)
    reasons: list[str] = []
    for backend in sorted(BACKENDS, key=lambda entry: entry.device != wanted[0]):
        if backend.device not in wanted:
            continue
        if precision not in backend.precisions:
            reasons.append(f"{backend.name} does not run {precision}")
            continue
        where = {"index": index} if backend.device == "cuda" else {}
        try:
            module = importlib.import_module(backend.module)
            return cast("Engine", module.load(read, precision=precision, **where))
        except (DeviceUnavailable, PlanUnfit, OutOfDeviceMemory, DeviceLost) as error:
            reasons.append(str(error))
    if kind == "cuda" and not reasons:
        reasons.append("this version has no engine for NVIDIA GPUs; set the device to auto or cpu")
    raise DeviceUnavailable(
        f"no engine for device {device}, precision {precision}: {'; '.join(reasons)}"
    )


def open_reference(model: Path | ModelFile) -> Engine:
    """Open a model in the reference: ONNX Runtime, fp32, on the CPU.

    Raises:
        ModelFileError: the file is missing, damaged or no ONNX.
    """
    return _reference(model if isinstance(model, ModelFile) else read_model_file(model))


def reference_spec(model: ModelFile) -> EngineSpec:
    """What a model takes and gives, as the reference reads it.

    Raises:
        ModelFileError: it is damaged.
    """
    engine = _reference(model)
    engine.close()
    return engine.spec


def _reference(model: ModelFile) -> Engine:
    return cast("Engine", importlib.import_module(REFERENCE.module).load(model, precision="f32"))
