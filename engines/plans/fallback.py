"""An engine that runs on the CPU until a GPU's plan is ready, and whenever the GPU fails.

A plan takes seconds to minutes to compile and can fail for many reasons; the CPU works meanwhile.
A thread of this engine compiles, checks and warms up the plan; then the next call goes to the GPU.
Shapes that the GPU has not prepared run on the CPU while the same thread prepares them: no
compilation, context or CUDA graph is made in a caller's thread. A failed call runs again on the
CPU, and `state` says why. What is tried again:

* too little memory and refusals may pass: tried again after a minute, then after growing pauses of
  up to an hour, for the shapes that failed;
* shapes outside the plan's profiles stay on the CPU;
* a lost device is lost to the whole process: only a restart of the program helps;
* a plan that cannot be compiled, or is inaccurate, is not tried again before the next start.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from engines.errors import (
    DeviceLost,
    DeviceUnavailable,
    EngineError,
    ModelMismatch,
    OutOfDeviceMemory,
    StateLost,
)
from engines.stateful import stateful_session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from engines.engine import Engine, EngineState
    from engines.spec import EngineSpec, Shape
    from engines.stateful import Links, StatefulSession

    Arrays = Mapping[str, NDArray[Any]]
    Shapes = Mapping[str, Shape]
    _Key = tuple[Shape, ...]

_log = logging.getLogger(__name__)

FIRST_PAUSE_S = 60.0
LONGEST_PAUSE_S = 3600.0
_BUILDS = threading.Lock()
"""One plan is built at a time: the compiler times kernels, and accuracy checks take every core."""
_POLL_S = 0.2
"""Interval at which a waiting thread checks whether the engine is closed. Arbitrary."""
MAX_REFUSED = 64
"""Shapes that are remembered to run on the CPU. Arbitrary; cameras have a few sizes."""


class GpuEngine(Protocol):
    """An engine on a GPU; see `engines.backends.tensorrt_engine.TensorRtEngine`."""

    @property
    def backend(self) -> str:
        """See `engines.engine.Engine`."""
        ...

    @property
    def state(self) -> EngineState:
        """See `engines.engine.Engine`."""
        ...

    spec: EngineSpec

    @property
    def concurrency(self) -> int:
        """See `engines.engine.Engine`."""
        ...

    def infer(self, inputs: Arrays) -> Arrays:
        """See `engines.engine.Engine`."""
        ...

    def is_ready(self, shapes: Shapes) -> bool:
        """Return whether inputs of these shapes run at once."""
        ...

    def prepare(self, shapes: Shapes) -> None:
        """Prepare inputs of these shapes."""
        ...

    def close(self) -> None:
        """See `engines.engine.Engine`."""
        ...


class Provider(Protocol):
    """Source of engines on a GPU; see `engines.plans.provider.PlanProvider`."""

    where: str
    """Name, such as "cuda:0 NVIDIA L4"."""

    def ready(self) -> GpuEngine | None:
        """Return an engine from a stored plan that passed its check."""
        ...

    def build(self, progress: Callable[[float], None], stop: threading.Event) -> GpuEngine:
        """Return an engine from a plan that is compiled and checked now."""
        ...


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why inputs of some shapes run on the CPU."""

    reason: str
    retry_at: float | None
    """When the GPU is tried again, by the clock; None is never."""
    pause_s: float


class FallbackEngine:
    """An `engines.engine.Engine` that may be called from any number of threads, at any time.

    Args:
        cpu: The engine on the CPU; closed with this.
        provider: Provides the engine on the GPU.
        spec: Inputs and outputs of this engine: batches too, which the CPU may run row by row.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        cpu: Engine,
        provider: Provider,
        *,
        spec: EngineSpec | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec or cpu.spec
        self._cpu, self._provider, self._clock = cpu, provider, clock
        self._stop = threading.Event()
        self._work = threading.Condition()
        # The fields below are guarded by _work.
        self._gpu: GpuEngine | None = None
        self._building: float | None = 0.0
        self._problem = ""
        self._refused: dict[_Key, _Refusal] = {}
        self._unprepared: list[Shapes] = []
        self._thread = threading.Thread(target=self._run, name=f"fallback {cpu.spec.name}")
        self._thread.start()

    @property
    def backend(self) -> str:
        """Backend of the engine that the next call runs on."""
        with self._work:
            return (self._gpu or self._cpu).backend

    @property
    def concurrency(self) -> int:
        """Of the engine that the next call runs on."""
        with self._work:
            return (self._gpu or self._cpu).concurrency

    @property
    def state(self) -> EngineState:
        """What calls run on now, and why."""
        with self._work:
            running = (self._gpu or self._cpu).state
            reasons = [self._problem] if self._problem else []
            reasons += [each.reason for each in self._refused.values()][-1:]
            if self._building is not None:
                reasons.insert(0, f"the plan for {self._provider.where} is being prepared")
                return replace(running, reason="; ".join(reasons), building=self._building)
            return replace(running, degraded=bool(reasons), reason="; ".join(reasons))

    def infer(self, inputs: Arrays) -> Arrays:
        """Run the network once; see `engines.engine.Engine`. Callers do not see a GPU's failure.

        Raises:
            ModelMismatch: The inputs do not fit the network.
            EngineError: This is closed, or the CPU failed too.
        """
        self.spec.check(inputs)
        shapes = {tensor.name: inputs[tensor.name].shape for tensor in self.spec.inputs}
        while (gpu := self.chosen(shapes)) is not None:
            try:
                outputs = gpu.infer(inputs)
            except EngineError as error:
                self.failed(gpu, shapes, error)
            else:
                self.succeeded(shapes)
                return outputs
        return _row_by_row(self._cpu, inputs)

    def stateful_session(self, links: Links) -> StatefulSession:
        """Return the state of one more stream on the GPU; see `engines.stateful`.

        It is lost when calls go elsewhere: the stream starts again, on the GPU or in the caller's
        own implementation on the CPU.
        """
        return _GpuSession(self, links)

    def is_ready(self, shapes: Shapes) -> bool:
        """Return whether the GPU runs these shapes at once; it prepares them otherwise."""
        return self.chosen(shapes) is not None

    def close(self) -> None:
        """End the thread and free everything. May be called repeatedly."""
        self._stop.set()
        with self._work:
            self._work.notify_all()
        self._thread.join()
        with self._work:
            gpu, self._gpu = self._gpu, None
        if gpu is not None:
            gpu.close()
        self._cpu.close()

    @property
    def gpu(self) -> GpuEngine | None:
        """The engine on the GPU; None while there is none."""
        with self._work:
            return self._gpu

    def chosen(self, shapes: Shapes) -> GpuEngine | None:
        """Return the engine on the GPU if it runs these shapes now; None is the CPU."""
        with self._work:
            refusal = self._refused.get(_key(shapes))
            gpu = self._gpu
            if gpu is None or (
                refusal and (refusal.retry_at is None or self._clock() < refusal.retry_at)
            ):
                return None
            if gpu.is_ready(shapes):
                return gpu
            if shapes not in self._unprepared:
                self._unprepared.append(shapes)
                self._work.notify_all()
            return None

    def failed(self, gpu: GpuEngine, shapes: Shapes, error: EngineError) -> None:
        """Record a failure of the GPU, so that it is not chosen for these shapes again soon."""
        with self._work:
            if gpu is not self._gpu:
                return  # another call saw first that the device is lost
            if not isinstance(error, DeviceLost):
                self._refuse(_key(shapes), error)
                return
            self._gpu, self._building = None, None
            self._problem = f"{error}; on the CPU until the program is restarted"
        _log.warning("%s: %s", self.spec.name, self._problem)
        gpu.close()  # waits for the calls in progress, which fail soon

    def succeeded(self, shapes: Shapes) -> None:
        """Record that the GPU runs these shapes (again)."""
        if self._refused:
            with self._work:
                self._refused.pop(_key(shapes), None)

    def _refuse(self, key: _Key, error: EngineError) -> None:
        """Send these shapes to the CPU, for ever or for a while; with the lock held."""
        before = self._refused.pop(key, None)
        if isinstance(error, ModelMismatch):
            refusal = _Refusal(f"{error}; on the CPU", None, 0.0)
        else:
            pause = min(2 * before.pause_s, LONGEST_PAUSE_S) if before else FIRST_PAUSE_S
            refusal = _Refusal(f"{error}; on the CPU for now", self._clock() + pause, pause)
        while len(self._refused) >= MAX_REFUSED:
            del self._refused[next(iter(self._refused))]
        self._refused[key] = refusal
        if before is None:
            _log.warning("%s: %s", self.spec.name, refusal.reason)

    def _run(self) -> None:
        """Run the thread: get the engine on the GPU, then prepare shapes until this is closed."""
        gpu = self._built()
        while gpu is not None:
            with self._work:
                self._work.wait_for(lambda: self._unprepared or self._stop.is_set())
                if self._stop.is_set() or self._gpu is not gpu:
                    return
                shapes = self._unprepared[0]
            try:
                gpu.prepare(shapes)
            except EngineError as error:
                self.failed(gpu, shapes, error)
            finally:
                with self._work:
                    self._unprepared.remove(shapes)

    def _built(self) -> GpuEngine | None:
        """Return the engine on the GPU, in use; None if there will be none."""
        pause_s = FIRST_PAUSE_S
        while not self._stop.is_set():
            try:
                gpu = self._provider.ready() or self._build()
            except OutOfDeviceMemory as error:
                self._degrade(f"{error}; tried again every {pause_s:.0f} s")
            except Exception as error:  # noqa: BLE001  the thread's end would not be seen
                if not self._stop.is_set():
                    self._degrade(str(error) or type(error).__name__)
                return None
            else:
                with self._work:
                    self._gpu, self._building, self._problem = gpu, None, ""
                    self._work.notify_all()
                _log.info("%s runs on %s", self.spec.name, gpu.backend)
                return gpu
            self._stop.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return None

    def _build(self) -> GpuEngine:
        while not _BUILDS.acquire(timeout=_POLL_S):
            if self._stop.is_set():
                raise EngineError(f"{self.spec.name}: closed before its plan was built")
        try:
            return self._provider.build(self._report, self._stop)
        finally:
            _BUILDS.release()

    def _report(self, progress: float) -> None:
        with self._work:
            self._building = progress

    def _degrade(self, reason: str) -> None:
        with self._work:
            self._problem, self._building = reason, None
            self._work.notify_all()
        _log.warning("%s: %s", self.spec.name, reason)


class _GpuSession:
    """A stream's state on the engine on the GPU that there was when it was started."""

    def __init__(self, engine: FallbackEngine, links: Links) -> None:
        self._engine, self._links = engine, links
        self._gpu: GpuEngine | None = None
        self._session: StatefulSession | None = None
        self._state: dict[str, Shape] = {}

    def start(self, state: Arrays) -> None:
        """See `engines.stateful.StatefulSession`."""
        gpu = self._engine.gpu
        if gpu is None:
            raise DeviceUnavailable(f"{self._engine.spec.name} runs on the CPU")
        if self._session is None or gpu is not self._gpu:
            self.close()
            self._gpu, self._session = gpu, stateful_session(gpu, self._links)
        self._state = {name: array.shape for name, array in state.items()}
        try:
            self._session.start(state)
        except EngineError as error:
            self._engine.failed(gpu, self._state, error)
            raise

    def infer(self, inputs: Arrays) -> Arrays:
        """See `engines.stateful.StatefulSession`."""
        shapes = {name: array.shape for name, array in inputs.items()} | self._state
        gpu, session = self._gpu, self._session
        if gpu is None or session is None or self._engine.chosen(shapes) is not gpu:
            raise StateLost(f"{self._engine.spec.name}: the state is gone, or the GPU is not ready")
        try:
            outputs = session.infer(inputs)
        except StateLost:
            raise
        except EngineError as error:
            self._engine.failed(gpu, shapes, error)
            raise
        self._engine.succeeded(shapes)
        return outputs

    def close(self) -> None:
        """See `engines.stateful.StatefulSession`."""
        session, self._session, self._gpu = self._session, None, None
        if session is not None:
            session.close()


def _key(shapes: Shapes) -> _Key:
    return tuple(shapes[name] for name in sorted(shapes))


def _row_by_row(engine: Engine, inputs: Arrays) -> Arrays:
    """Run an engine on a batch, row by row if its file has a fixed batch of one."""
    if all(tensor.fits(inputs[tensor.name]) for tensor in engine.spec.inputs):
        return engine.infer(inputs)
    rows = range(len(next(iter(inputs.values()))))
    found = [
        engine.infer({name: each[at : at + 1] for name, each in inputs.items()}) for at in rows
    ]
    return {name: np.concatenate([row[name] for row in found]) for name in found[0]}
