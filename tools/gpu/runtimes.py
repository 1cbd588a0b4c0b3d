"""The ways to run a network on a device: TensorRT, and what stands in where there is none.

Each opens a network of the catalogue as an `Engine`, with its batch open, and can run the bare
loop: the library's own execute call on arrays that are on the device already, nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from engines.errors import DeviceUnavailable, EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from engines.engine import Engine, Precision
    from engines.registry import RegistryEntry
    from engines.spec import EngineSpec
    from gpu.sections import Options, ResultLog

Inputs: TypeAlias = "Mapping[str, NDArray[Any]]"

CUDA_THREADS, CPU_THREADS = 4, 2
"""That ask an engine for throughput: enough for two lanes with one copying for the next each."""


class Runner(Protocol):
    """A network that is open."""

    engine: Engine

    def bare(self, inputs: Inputs) -> Callable[[int], None] | None:
        """Runs so many times and waits; None where the library's call is the engine's own."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


@dataclass(frozen=True, slots=True)
class Runtime:
    """One library on one kind of device."""

    name: str
    """As the report names it."""
    cuda: bool
    precisions: tuple[Precision, ...]
    """Best first."""
    open: Callable[[RegistryEntry, Precision, int], Runner]
    """Of the catalogue's entry, in a precision, on the GPU of that index."""

    def precisions_of(self, entry: RegistryEntry) -> tuple[Precision, ...]:
        """Those that it runs and the network has a tolerance for."""
        return tuple(one for one in self.precisions if one in entry.tolerances)


def _tensorrt(entry: RegistryEntry, precision: Precision, index: int) -> Runner:
    from gpu.tensorrt_runner import TensorRtRunner

    return TensorRtRunner.open("tensorrt", entry, precision, index)


def _rtx(entry: RegistryEntry, precision: Precision, index: int) -> Runner:
    from gpu.tensorrt_runner import TensorRtRunner

    return TensorRtRunner.open("rtx", entry, precision, index)


def _torch_cuda(entry: RegistryEntry, precision: Precision, index: int) -> Runner:
    from gpu.torch_runner import TorchRunner

    return TorchRunner.open(entry, precision, f"cuda:{index}")


def _torch_cpu(entry: RegistryEntry, precision: Precision, index: int) -> Runner:
    from gpu.torch_runner import TorchRunner

    del index
    return TorchRunner.open(entry, precision, "cpu")


def _ort_cuda(entry: RegistryEntry, precision: Precision, index: int) -> Runner:
    from gpu.onnx_runners import OrtRunner

    return OrtRunner.open(entry, precision, "CUDAExecutionProvider", index)


def _ort_cpu(entry: RegistryEntry, precision: Precision, index: int) -> Runner:
    from gpu.onnx_runners import OrtRunner

    return OrtRunner.open(entry, precision, "CPUExecutionProvider", index)


def _openvino(entry: RegistryEntry, precision: Precision, index: int) -> Runner:
    from gpu.onnx_runners import OpenVinoRunner

    del index
    return OpenVinoRunner.open(entry, precision)


RUNTIMES: tuple[Runtime, ...] = (
    Runtime("tensorrt", True, ("f16", "f32"), _tensorrt),
    Runtime("tensorrt-rtx", True, ("f16", "f32"), _rtx),
    Runtime("torch-cuda", True, ("f16", "f32"), _torch_cuda),
    Runtime("onnxruntime-cuda", True, ("f16", "f32"), _ort_cuda),
    Runtime("openvino-cpu", False, ("f32",), _openvino),
    Runtime("onnxruntime-cpu", False, ("f32",), _ort_cpu),
    Runtime("torch-cpu", False, ("f32",), _torch_cpu),
)
"""The program's own first; TensorRT runs it, the others say what can be had without."""


def wanted(options: Options) -> list[Runtime]:
    """The ways of the device that is asked for.

    Raises:
        EngineError: A name is none.
    """
    of_device = [way for way in RUNTIMES if way.cuda == options.on_gpu]
    known = {way.name for way in of_device}
    if strange := set(options.ways) - known:
        raise EngineError(
            f"no way on {options.device} is called {sorted(strange)}: {sorted(known)}"
        )
    return [way for way in of_device if not options.ways or way.name in options.ways]


def entries(options: Options) -> list[RegistryEntry]:
    """The networks that are asked for.

    Raises:
        EngineError: A name is none.
    """
    from engines.registry import FOR_GPUS, REGISTRY, find

    named = [find(name) for name in options.engines]
    return named or [*REGISTRY, *(FOR_GPUS if options.on_gpu else ())]


def best(options: Options, entry: RegistryEntry, notebook: ResultLog) -> tuple[Runtime, Runner]:
    """The first way that a network opens in; why others do not is kept.

    Raises:
        DeviceUnavailable: None.
    """
    for way in wanted(options):
        for precision in way.precisions_of(entry)[:1]:
            try:
                return way, way.open(entry, precision, options.index)
            except Exception as error:  # noqa: BLE001  of any library: the next may do
                notebook.problem(f"{entry.name} by {way.name}", error)
    raise DeviceUnavailable(f"no way runs {entry.name} on {options.device}")


def batches(entry: RegistryEntry, *, quick: bool) -> Sequence[int]:
    """Batch sizes to measure: those of the network's first profile, one where it has no batch."""
    shapes = entry.profiles[0].shapes.values()
    most = {shape[2][0] for shape in shapes}
    if len(most) != 1 or {shape[0][0] for shape in shapes} != {1}:
        return (1,)
    steps = (1, 2) if quick else (1, 4, 8, 16, 32, 64)
    return tuple(step for step in steps if step <= max(most))


def batch_of(entry: RegistryEntry, size: int) -> dict[str, NDArray[Any]]:
    """A sample of the network's usual size, so many pictures of it; decoded ones are 1080p."""
    import numpy as np

    samples = list(entry.samples())
    if "luma" in samples[0]:
        samples = [_at_1080p(samples[0])]
    if size == 1:
        return dict(samples[0])
    rows = [samples[number % len(samples)] for number in range(size)]
    return {name: np.concatenate([row[name] for row in rows]) for name in samples[0]}


def _at_1080p(sample: Inputs) -> Inputs:
    """A sample of decoded planes brought to 1080p, and looked at as a whole."""
    import numpy as np

    made = dict(sample)
    for name, array in sample.items():
        if name == "luma" or name.startswith("chroma"):
            part = 1 if name == "luma" else 2
            rows, columns = (
                np.arange(want // part) * have // (want // part)
                for want, have in zip((1080, 1920), array.shape[1:3], strict=True)
            )
            made[name] = array[:, rows][:, :, columns]
    made["window"] = np.array([[0, 0, 1920, 1080]], sample["window"].dtype)
    return made


def with_open_batch(spec: EngineSpec, entry: RegistryEntry) -> EngineSpec:
    """What a network takes and gives once its batch is open."""
    if batches(entry, quick=False) == (1,):
        return spec
    inputs, outputs = (
        tuple(replace(tensor, shape=(None, *tensor.shape[1:])) for tensor in tensors)
        for tensors in (spec.inputs, spec.outputs)
    )
    return replace(spec, inputs=inputs, outputs=outputs)
