"""An engine that runs a compiled plan on an NVIDIA GPU."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from engines.backends.device_state import DeviceState
from engines.backends.execution import ExecutionStream
from engines.backends.tensorrt import LoadedPlan
from engines.engine import EngineState
from engines.errors import EngineError, ModelMismatch
from engines.spec import BATCH_SIZES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from engines.backends.cuda import DeviceBuffer, Gpu
    from engines.backends.tensorrt import Library
    from engines.spec import EngineSpec, Precision, Shape

    Arrays = Mapping[str, NDArray[Any]]
    Shapes = Mapping[str, Shape]


class TensorRtEngine:
    """A plan on a GPU. Safe to call from any number of threads; one is served at a time.

    Args:
        plan: Compiled by `engines.plans.builder`.
        library: The library that compiled it.
        gpu: Where it runs.
        spec: Of the network that was compiled.
        precision: It was compiled in.
        kernels: See `LoadedPlan`.

    Raises:
        PlanUnfit: It is damaged, or was made for another GPU, library or network.
        OutOfDeviceMemory: It does not fit into the free memory.
        DeviceLost: The GPU stopped answering.
    """

    def __init__(
        self,
        plan: bytes,
        *,
        library: Library,
        gpu: Gpu,
        spec: EngineSpec,
        precision: Precision,
        kernels: Path | None = None,
    ) -> None:
        self.backend = f"{library.name} {gpu.name} {gpu.capability} {precision}"
        self.state = EngineState(f"cuda:{gpu.index}")
        self.concurrency = 1
        self.gpu = gpu
        self.abandoned: deque[DeviceBuffer] = deque()
        self._lock = threading.Lock()
        """Held while the stream is used; guards the fields below."""
        self._preparing = False
        self._closed = False
        self._states: weakref.WeakSet[DeviceState] = weakref.WeakSet()
        with gpu.current(f"loading the plan of {spec.name}"):
            self._plan = plan_ = LoadedPlan(plan, library, gpu, spec, kernels)
            self.spec = plan_.spec
            """The network's, with every side of any length that the plan leaves open."""
            try:
                self._stream = ExecutionStream(plan_)
            except BaseException:
                plan_.close()
                raise

    def infer(self, inputs: Arrays) -> Arrays:
        """Run the network once; see `engines.engine.Engine`.

        Shapes that were not prepared are prepared first, which may take seconds.

        Raises:
            ModelMismatch: The inputs do not fit, or their shapes are outside the plan's profiles.
            DeviceLost: The GPU stopped answering.
            EngineError: The engine is closed, or the GPU refused.
        """
        return self.infer_stateful(inputs, {}, {})

    def is_ready(self, shapes: Shapes) -> bool:
        """Return whether inputs of these shapes run at once: prepared, and nothing else is."""
        try:
            padded = self._padded(shapes)[1]
        except ModelMismatch:
            return True  # `infer` says why
        return not self._preparing and self._stream.is_prepared(padded)

    def prepare(self, shapes: Shapes) -> None:
        """Prepare inputs of these shapes: contexts, kernels and CUDA graphs.

        Raises:
            ModelMismatch: The shapes are outside the plan's profiles.
            OutOfDeviceMemory: There is no room for them.
            EngineError: The engine is closed, or the GPU refused.
        """
        profile, padded = self._padded(shapes)
        self._preparing = True
        try:
            with self._running() as stream:
                stream.prepare(profile, padded)
                self._plan.save_kernels()
        finally:
            self._preparing = False

    def stateful_session(self, links: Mapping[str, str]) -> DeviceState:
        """Return the state of one more stream, kept on the device; see `engines.stateful`."""
        state = DeviceState(self, links)
        with self._lock:
            self._states.add(state)
        return state

    def close(self) -> None:
        """Free everything, after the call in progress. May be called repeatedly."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            states = list(self._states)
        for state in states:
            state.close()
        self._free_abandoned()
        self._stream.close()
        self._plan.close()

    def upload_state(self, arrays: Arrays, buffers: Mapping[str, DeviceBuffer]) -> None:
        """Write arrays to the buffers of a state."""
        with self._running() as stream:
            stream.upload_state(arrays, buffers)

    def infer_stateful(
        self,
        inputs: Arrays,
        state: Mapping[str, tuple[DeviceBuffer, NDArray[Any]]],
        links: Mapping[str, str],
    ) -> Arrays:
        """Run the network once on inputs and a state.

        Args:
            inputs: All inputs that are not in the state.
            state: Buffer, and an array of its shape and type, of each input on the device.
            links: Output to the input that it becomes.
        """
        given = {**inputs, **{name: like for name, (_, like) in state.items()}}
        self.spec.check(given)
        shapes = {name: array.shape for name, array in given.items()}
        profile, padded = self._padded(shapes)
        rows = None if padded == shapes else next(iter(shapes.values()))[0]
        with self._running() as stream:
            if not stream.is_prepared(padded):
                stream.prepare(profile, padded)
            buffers = {name: buffer for name, (buffer, _) in state.items()}
            return stream.run(padded, inputs, rows=rows, state=buffers, links=links)

    def execute(self, shapes: Shapes, times: int) -> None:
        """Run the network on the last uploaded inputs without copies; for benchmarks."""
        with self._running() as stream:
            stream.execute(self._padded(shapes)[1], times)

    @contextlib.contextmanager
    def _running(self) -> Iterator[ExecutionStream]:
        with self._lock:
            if self._closed:
                raise EngineError(f"{self.spec.name}: the engine is closed")
            with self.gpu.current(f"running {self.spec.name}"):
                self._free_abandoned()
                yield self._stream

    def _free_abandoned(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self.abandoned.popleft().free()

    def _padded(self, shapes: Shapes) -> tuple[int, dict[str, Shape]]:
        """Return the profile, and the shapes with the batch padded to one of `BATCH_SIZES`."""
        rows = {shape[0] if shape else 0 for shape in shapes.values()}
        candidates = [dict(shapes)]
        if len(rows) == 1 and all(t.shape[:1] == (None,) for t in self.spec.inputs):
            candidates = [
                {name: (size, *shape[1:]) for name, shape in shapes.items()}
                for size in (*(size for size in BATCH_SIZES if size >= min(rows)), min(rows))
            ]
        for padded in candidates:
            for index, profile in enumerate(self._plan.profiles):
                if profile.accepts(padded):
                    return index, padded
        accepted = " or ".join(
            ", ".join(f"{name} {small} to {large}" for name, (small, _, large) in p.shapes.items())
            for p in self._plan.profiles
        )
        raise ModelMismatch(f"{self.spec.name}: compiled for {accepted}; got {dict(shapes)}")
