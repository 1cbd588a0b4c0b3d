"""Runs the rooms' networks in PyTorch as an engine: on a GPU in streams, with recorded graphs.

Not how the program runs: what it could do on a card that TensorRT does not know, clearly named so.
"""

from __future__ import annotations

import contextlib
import ctypes
import queue
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from engines.engine import EngineState, reference_spec
from engines.errors import DeviceUnavailable, EngineError, OutOfDeviceMemory
from gpu.runtimes import with_open_batch
from gpu.torchnets import network_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from engines.engine import Engine, Precision
    from engines.registry import RegistryEntry
    from engines.spec import EngineSpec

    Arrays = Mapping[str, NDArray[Any]]

LANES = 2
"""Streams: copies of one run beside the arithmetic of the other."""
_recording = threading.Lock()
"""PyTorch records one graph at a time."""


class TorchRunner:
    """See `runtimes.Runner`."""

    def __init__(self, engine: TorchEngine) -> None:
        self.engine: Engine = engine
        self._torch = engine

    @classmethod
    def open(cls, entry: RegistryEntry, precision: Precision, device: str) -> TorchRunner:
        """Open a network.

        Raises:
            DeviceUnavailable: PyTorch sees no GPU.
            EngineError: There is no such network in PyTorch.
        """
        if device != "cpu":
            _share_context(torch.device(device).index or 0)
            if not torch.cuda.is_available():
                raise DeviceUnavailable(f"torch {torch.__version__} sees no GPU")
        spec = with_open_batch(reference_spec(entry.model()), entry)
        return cls(TorchEngine(network_of(entry), spec, device=device, precision=precision))

    def bare(self, inputs: Arrays) -> Callable[[int], None]:
        """The recorded graph again and again; on the CPU the network's own call."""
        return self._torch.bare(inputs)

    def close(self) -> None:
        """Give back what the device holds."""
        self.engine.close()


def _share_context(index: int) -> None:
    """Let the video decoder use the context that PyTorch will make; see `engines.backends.cuda`."""
    with contextlib.suppress(OSError):
        driver = ctypes.CDLL("libcuda.so.1")
        driver.cuInit(0)
        driver.cuDevicePrimaryCtxSetFlags_v2(index, 4)  # CU_CTX_SCHED_BLOCKING_SYNC


class TorchEngine:
    """An `engines.engine.Engine` of PyTorch."""

    def __init__(
        self, network: nn.Module, spec: EngineSpec, *, device: str, precision: Precision
    ) -> None:
        self.spec = spec
        self.state = EngineState(device)
        self._cuda = device != "cpu"
        where = torch.cuda.get_device_name(device) if self._cuda else "cpu"
        self.backend = f"torch {torch.__version__} {where} {precision}"
        self._half = precision == "f16"
        self.device = torch.device(device)
        # f32 is to mean f32: TensorFloat-32 has the digits of f16.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self._network: nn.Module | None = network.eval().to(self.device)
        if self._cuda:
            self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._lanes: queue.SimpleQueue[_Lane] = queue.SimpleQueue()
        for _ in range(LANES if self._cuda else 0):
            self._lanes.put(_Lane(self))

    def infer(self, inputs: Arrays) -> Arrays:
        """Run the network once; see `engines.engine.Engine`."""
        self.spec.check(inputs)
        if self._network is None:
            raise EngineError(f"{self.spec.name}: the engine is closed")
        ordered = [np.ascontiguousarray(inputs[tensor.name]) for tensor in self.spec.inputs]
        if not self._cuda:
            said = self.forward([torch.from_numpy(array) for array in ordered])
            return self._named([each.numpy() for each in said])
        lane = self._lanes.get()
        try:
            return self._named(lane.run(ordered))
        except torch.cuda.OutOfMemoryError as error:
            raise OutOfDeviceMemory(f"{self.spec.name}: {error}") from error
        finally:
            self._lanes.put(lane)

    def bare(self, inputs: Arrays) -> Callable[[int], None]:
        """See `runtimes.Runner.bare`."""
        ordered = [np.ascontiguousarray(inputs[tensor.name]) for tensor in self.spec.inputs]
        if self._cuda:
            return _Lane(self).bare(ordered)
        tensors = [torch.from_numpy(array) for array in ordered]

        def run(times: int) -> None:
            for _ in range(times):
                self.forward(tensors)

        return run

    def close(self) -> None:
        """Give back what the device holds."""
        self._network = None
        while not self._lanes.empty():
            self._lanes.get()

    @torch.inference_mode()
    def forward(self, tensors: list[Tensor]) -> list[Tensor]:
        """The network's outputs, in the order of the file, in f32."""
        assert self._network is not None, "it is open"
        half = (
            torch.autocast(self.device.type, torch.float16)
            if self._half
            else contextlib.nullcontext()
        )
        with half:
            said = self._network(*tensors)
        each = said if isinstance(said, tuple) else (said,)
        return [tensor.float() for tensor in each]

    def _named(self, arrays: list[NDArray[Any]]) -> Arrays:
        return dict(zip([tensor.name for tensor in self.spec.outputs], arrays, strict=True))


class _Lane:
    """A stream with a recorded graph for each size that comes. One thread at a time."""

    def __init__(self, engine: TorchEngine) -> None:
        self._engine = engine
        self._device = engine.device
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._sizes: dict[tuple[tuple[int, ...], ...], _Recorded] = {}

    def run(self, ordered: list[NDArray[Any]]) -> list[NDArray[Any]]:
        """Copy in, compute, copy out."""
        recorded = self._recorded(ordered)
        with torch.cuda.stream(self._stream):
            for pinned, tensor, array in zip(
                recorded.pinned, recorded.inputs, ordered, strict=True
            ):
                pinned.numpy()[...] = array
                tensor.copy_(pinned, non_blocking=True)
            for back, tensor in zip(recorded.back, recorded.compute(), strict=True):
                back.copy_(tensor, non_blocking=True)
        self._stream.synchronize()
        return [back.numpy().copy() for back in recorded.back]

    def bare(self, ordered: list[NDArray[Any]]) -> Callable[[int], None]:
        self.run(ordered)  # so that the graph works on what it is given
        recorded = self._recorded(ordered)

        def run(times: int) -> None:
            with torch.cuda.stream(self._stream):
                for _ in range(times):
                    recorded.compute()
            self._stream.synchronize()

        return run

    def _recorded(self, ordered: list[NDArray[Any]]) -> _Recorded:
        key = tuple(array.shape for array in ordered)
        if key not in self._sizes:
            with _recording:
                self._sizes[key] = _Recorded(self._engine, ordered, self._stream)
        return self._sizes[key]


class _Recorded:
    """The network at one size: its memory, and its graph where it can be recorded."""

    def __init__(
        self, engine: TorchEngine, ordered: list[NDArray[Any]], stream: torch.cuda.Stream
    ) -> None:
        self._engine = engine
        self._graph: torch.cuda.CUDAGraph | None = None
        self.pinned = [torch.from_numpy(array.copy()).pin_memory() for array in ordered]
        with torch.cuda.stream(stream):
            self.inputs = [pinned.to(engine.device) for pinned in self.pinned]
            for _ in range(3):  # cuDNN chooses its kernels, libraries make their workspaces
                self._outputs = self.compute()
            stream.synchronize()
            self.back = [
                torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
                for tensor in self._outputs
            ]
            self._record(stream)
        stream.synchronize()

    def compute(self) -> list[Tensor]:
        """Add the network's work to the current stream; the outputs, once that is done."""
        if self._graph is None:
            return self._engine.forward(self.inputs)
        self._graph.replay()
        return self._outputs

    def _record(self, stream: torch.cuda.Stream) -> None:
        """Networks that make constants on the host cannot be recorded; they run without."""
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads go on copying and allocating meanwhile.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                outputs = self._engine.forward(self.inputs)
        except RuntimeError:  # what CUDA and PyTorch raise here; a lost device fails the next call
            return
        self._graph, self._outputs = graph, outputs
