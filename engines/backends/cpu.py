"""Opens a model on the CPU: compiled by OpenVINO, or in the reference, ONNX Runtime in f32.

The libraries are imported when they are first used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engines.errors import DeviceUnavailable
from engines.modelfile import ModelFile, read_model_file

if TYPE_CHECKING:
    from engines.engine import Engine
    from engines.spec import EngineSpec, Precision

CPU_PRECISIONS: tuple[Precision, ...] = ("f32", "bf16")


def open_engine(model: Path | ModelFile, *, precision: Precision = "f32") -> Engine:
    """Compile a model for the CPU.

    Args:
        model: An ONNX file, or one that was read.
        precision: Inference precision. Only f32 gives the same results on every CPU.

    Raises:
        ModelFileError: The file is missing, damaged or not ONNX.
        DeviceUnavailable: The CPU does not have that precision.
    """
    if precision not in CPU_PRECISIONS:
        raise DeviceUnavailable(f"the CPU runs {' and '.join(CPU_PRECISIONS)}, not {precision}")
    from engines.backends.openvino import OpenVinoEngine

    return OpenVinoEngine(_read(model), precision=precision)


def open_reference(model: Path | ModelFile) -> Engine:
    """Open a model in the reference: ONNX Runtime, f32, on the CPU.

    Raises:
        ModelFileError: The file is missing, damaged or not ONNX.
    """
    from engines.backends.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(_read(model))


def reference_spec(model: Path | ModelFile) -> EngineSpec:
    """Return a model's inputs and outputs, as the reference reads them.

    Raises:
        ModelFileError: The file is missing, damaged or not ONNX.
    """
    engine = open_reference(model)
    engine.close()
    return engine.spec


def _read(model: Path | ModelFile) -> ModelFile:
    return read_model_file(model) if isinstance(model, Path) else model
