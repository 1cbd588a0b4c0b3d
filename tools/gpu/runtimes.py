"""Runtimes that run a network on a device: TensorRT, and for comparison ONNX Runtime and OpenVINO.

Each opens a network of the registry as an `Engine`, and can run a bare loop: the library's own
execute call on arrays that are on the device already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from engines.errors import EngineError
from engines.registry import COMPILED, REGISTRY, find

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from engines.engine import Engine
    from engines.registry import RegistryEntry
    from engines.spec import Edition, Precision
    from gpu.sections import Options

Inputs: TypeAlias = "Mapping[str, NDArray[Any]]"

CUDA_THREADS, CPU_THREADS = 4, 2
"""Threads that call an engine when its throughput is measured."""


class Runner(Protocol):
    """An open network."""

    engine: Engine

    def bare(self, inputs: Inputs) -> Callable[[int], None] | None:
        """Return a function that runs n times and waits; None if that is the engine's own call."""
        ...

    def close(self) -> None:
        """Release its memory."""
        ...


@dataclass(frozen=True, slots=True)
class Runtime:
    """One library on one kind of device."""

    name: str
    """Name in the report."""
    cuda: bool
    precisions: tuple[Precision, ...]
    """Best first."""
    open: Callable[[RegistryEntry, Precision, int], Runner]
    """Opens an entry in a precision on the GPU of an index."""

    def precisions_of(self, entry: RegistryEntry) -> tuple[Precision, ...]:
        """Return the precisions that both the runtime and the network support."""
        return tuple(one for one in self.precisions if one in entry.tolerances)


def _tensorrt(edition: Edition) -> Callable[[RegistryEntry, Precision, int], Runner]:
    def opened(entry: RegistryEntry, precision: Precision, index: int) -> Runner:
        from gpu.tensorrt_runner import TensorRtRunner

        return TensorRtRunner.open(edition, entry, precision, index)

    return opened


def _onnxruntime(provider: str) -> Callable[[RegistryEntry, Precision, int], Runner]:
    def opened(entry: RegistryEntry, precision: Precision, index: int) -> Runner:
        from gpu.onnx_runners import OrtRunner

        return OrtRunner.open(entry, precision, provider, index)

    return opened


def _openvino(entry: RegistryEntry, precision: Precision, index: int) -> Runner:
    from gpu.onnx_runners import OpenVinoRunner

    del index
    return OpenVinoRunner.open(entry, precision)


RUNTIMES: tuple[Runtime, ...] = (
    Runtime("tensorrt", True, ("f16", "f32"), _tensorrt("tensorrt")),
    Runtime("tensorrt-rtx", True, ("f16", "f32"), _tensorrt("rtx")),
    Runtime("onnxruntime-cuda", True, ("f16", "f32"), _onnxruntime("CUDAExecutionProvider")),
    Runtime("openvino-cpu", False, ("f32",), _openvino),
    Runtime("onnxruntime-cpu", False, ("f32",), _onnxruntime("CPUExecutionProvider")),
)
"""The program's own first; the others are for comparison."""


def wanted(options: Options) -> list[Runtime]:
    """Return the requested runtimes of the device.

    Raises:
        EngineError: A name is unknown.
    """
    of_device = [runtime for runtime in RUNTIMES if runtime.cuda == options.on_gpu]
    known = {runtime.name for runtime in of_device}
    if unknown := set(options.runtimes) - known:
        raise EngineError(
            f"no runtime on {options.device} is called {sorted(unknown)}: {sorted(known)}"
        )
    return [one for one in of_device if not options.runtimes or one.name in options.runtimes]


def entries(options: Options) -> list[RegistryEntry]:
    """Return the requested networks; by default those that the program runs on the device.

    Raises:
        EngineError: A name is unknown.
    """
    named = [find(name) for name in options.engines]
    return named or [*(COMPILED if options.on_gpu else REGISTRY)]


def batches(entry: RegistryEntry, *, quick: bool) -> Sequence[int]:
    """Return the batch sizes to measure; one for networks without a batch."""
    if entry.gpu is None:
        return (1,)
    shapes = entry.gpu.profiles[0].shapes.values()
    if {shape[0][0] for shape in shapes} != {1}:
        return (1,)
    largest = min(shape[2][0] for shape in shapes)
    return tuple(step for step in ((1, 2) if quick else (1, 2, 4, 8)) if step <= largest)


def batch_of(entry: RegistryEntry, size: int) -> dict[str, NDArray[Any]]:
    """Return a batch of the network's samples, all of the size of the first."""
    import numpy as np

    samples = list(entry.samples())
    if size == 1:
        return dict(samples[0])
    shapes = {name: array.shape for name, array in samples[0].items()}
    alike = [s for s in samples if {name: array.shape for name, array in s.items()} == shapes]
    rows = [alike[number % len(alike)] for number in range(size)]
    return {name: np.concatenate([row[name] for row in rows]) for name in shapes}
