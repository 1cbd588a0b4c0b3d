"""An engine in front of engines: on the CPU until a GPU's plan is proven, and whenever that fails.

A plan takes seconds to minutes to build and can fail for many reasons; none of them is a reason not
to watch. Calls go to the CPU, or to an older plan, until the new one is built, loaded and proven by
a thread of this; then the next call goes to the GPU. What fails in mid-run fails no call: it is run
again on the CPU, and `state` says so. What is tried again, and what not:

* too little memory is somebody else's use of the GPU, and passes: tried again after a minute, then
  after ever longer pauses up to an hour; in mid-run for the size that found no room, alone;
* a lost device is lost to the whole process (CUDA gives the same error to every later call), so
  only a restart of the program helps;
* a plan that cannot be built, or is too far from the reference, is as bad the next time.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from engines.errors import (
    DeviceUnavailable,
    EngineError,
    ModelMismatch,
    OutOfDeviceMemory,
    StateLost,
)
from engines.stateful import recurrence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from engines.engine import Engine, EngineState
    from engines.plans.cache import Shape
    from engines.spec import EngineSpec
    from engines.stateful import Links, StatefulSession

    Arrays = Mapping[str, NDArray[Any]]
    _Sizes = tuple[Shape, ...]

_log = logging.getLogger(__name__)

FIRST_PAUSE_S = 60.0
LONGEST_PAUSE_S = 3600.0
_BUILDS = threading.Lock()
"""One network at a time: the compiler times kernels on the GPU, and proofs take every core."""
_WAIT_S = 0.2
"""How soon who waits for its turn sees that it is not wanted any more. Arbitrary."""
MOST_SIZES = 64
"""Sizes of which it is known that they run on the CPU. Arbitrary; cameras have a few."""


class Prepares(Protocol):
    """Where engines on a GPU come from; see `preparing.PlanProvider`."""

    where: str
    """As in "cuda:0 NVIDIA L4"."""

    def ready(self) -> Engine | None:
        """From a plan that is there, and proven."""
        ...

    def older(self) -> Engine | None:
        """From an older plan that is proven."""
        ...

    def build(self, tell: Callable[[float], None], stop: threading.Event) -> Engine:
        """From a plan that is built and proven now."""
        ...


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why inputs of some sizes run on the CPU."""

    reason: str
    again_at: float | None
    """When the GPU is asked again, by the clock; None is never."""
    pause_s: float


class FallbackEngine:
    """An `engines.engine.Engine` that may be called from any number of threads, at any time.

    Args:
        standby: On the CPU; always there, closed with this.
        preparer: Makes the engine on the GPU; None where there never will be one.
        spec: What this takes: batches too, which the standby may know only row by row.
        trouble: Why there is no preparer.
        clock: Seconds that never fall.
    """

    def __init__(
        self,
        standby: Engine,
        preparer: Prepares | None,
        *,
        spec: EngineSpec | None = None,
        trouble: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec or standby.spec
        self._standby, self._preparer, self._clock = standby, preparer, clock
        self._stop = threading.Event()
        self._guard = threading.Lock()
        # All below are guarded by _guard.
        self._fast: Engine | None = None
        self._building: float | None = None
        self._trouble = ""
        self._refused: dict[_Sizes, _Refusal] = {}
        self._thread: threading.Thread | None = None
        if preparer is None:
            self._degrade(trouble)
        elif not self._ready(preparer):
            self._building = 0.0
            name = f"changeover {standby.spec.name}"
            self._thread = threading.Thread(target=self._prepare, args=(preparer,), name=name)
            self._thread.start()

    @property
    def backend(self) -> str:
        """Of the engine that the next call goes to."""
        with self._guard:
            return (self._fast or self._standby).backend

    @property
    def state(self) -> EngineState:
        """Where calls go now, and why."""
        with self._guard:
            running = (self._fast or self._standby).state
            reasons = [self._trouble] if self._trouble else []
            reasons += [each.reason for each in self._refused.values()][-1:]
            if self._building is not None and self._preparer is not None:
                reasons.insert(0, f"a plan for {self._preparer.where} is being built")
                return replace(running, reason="; ".join(reasons), building=self._building)
            return replace(running, degraded=bool(reasons), reason="; ".join(reasons))

    def infer(self, inputs: Arrays) -> Arrays:
        """Run the network once; see `engines.engine.Engine`. A GPU's failure is not the caller's.

        Raises:
            ModelMismatch: The inputs do not fit the network.
            EngineError: This is closed, or the CPU failed too.
        """
        self.spec.check(inputs)
        sizes = tuple(inputs[tensor.name].shape for tensor in self.spec.inputs)
        while (fast := self._choose(sizes)) is not None:
            try:
                outputs = fast.infer(inputs)
            except EngineError as error:
                self._fell(fast, sizes, error)
            else:
                self._worked(sizes)
                return outputs
        return _row_by_row(self._standby, inputs)

    def recurrence(self, links: Links) -> StatefulSession:
        """The memory of one more stream on the GPU; see `engines.stateful`.

        It goes when calls go elsewhere: its stream begins anew, on the GPU or on its own on the
        CPU, where this would have to carry the memory to and fro.
        """
        return _Following(self, links, self._choose, self._fell, self._worked)

    def close(self) -> None:
        """End the build, if there is one, and give everything back. Any number of times."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        with self._guard:
            fast, self._fast = self._fast, None
        if fast is not None:
            fast.close()
        self._standby.close()

    def _choose(self, sizes: _Sizes) -> Engine | None:
        """The engine on the GPU, if it takes these sizes; None is the CPU."""
        with self._guard:
            refusal = self._refused.get(sizes)
            waits = refusal is not None and (
                refusal.again_at is None or self._clock() < refusal.again_at
            )
            return None if waits else self._fast

    def _fell(self, fast: Engine, sizes: _Sizes, error: EngineError) -> None:
        """Take note of a failure of the engine on the GPU, so that it is not chosen again."""
        with self._guard:
            if fast is not self._fast:
                return  # closed because a newer one took its place, or another call was first
            if isinstance(error, (ModelMismatch, OutOfDeviceMemory)):
                self._refuse(sizes, error)
                return
            self._fast = None
        self._degrade(f"{error}; on the CPU until the program is started again")
        fast.close()  # waits for calls under way, which fail soon or are done soon

    def _worked(self, sizes: _Sizes) -> None:
        """Take note that the GPU takes these sizes (again)."""
        if self._refused:
            with self._guard:
                self._refused.pop(sizes, None)

    def _refuse(self, sizes: _Sizes, error: EngineError) -> None:
        """Send these sizes to the CPU, for good or for a while; within the guard."""
        before = self._refused.pop(sizes, None)
        if isinstance(error, OutOfDeviceMemory):
            pause = min(2 * before.pause_s, LONGEST_PAUSE_S) if before else FIRST_PAUSE_S
            refusal = _Refusal(f"{error}; on the CPU for now", self._clock() + pause, pause)
        else:
            refusal = _Refusal(f"{error}; on the CPU", None, 0.0)
        while len(self._refused) >= MOST_SIZES:
            del self._refused[next(iter(self._refused))]
        self._refused[sizes] = refusal
        if before is None:
            _log.warning("%s", refusal.reason)

    def _ready(self, preparer: Prepares) -> bool:
        """Begin with the plan that is there; whether there is nothing left to prepare."""
        try:
            found = preparer.ready()
        except OutOfDeviceMemory:
            return False  # tried again, with pauses
        except EngineError as error:
            self._degrade(str(error))
            return True
        if found is not None:
            self._change_to(found)
        return found is not None

    def _prepare(self, preparer: Prepares) -> None:
        """The thread: prepare until it works, cannot work, or is not wanted any more."""
        pause_s = FIRST_PAUSE_S
        try:
            older = preparer.older()
            if older is not None:
                self._change_to(older, building=True)
        except EngineError as error:
            _log.info("the older plan is not used: %s", error)
        while not self._stop.is_set():
            try:
                engine = self._build(preparer)
            except OutOfDeviceMemory as error:
                self._degrade(f"{error}; tried again every {pause_s:.0f} s")
            except Exception as error:  # noqa: BLE001  a thread that dies says nothing to anybody
                if not self._stop.is_set():
                    self._degrade(str(error) or type(error).__name__)
                return
            else:
                self._change_to(engine)
                return
            self._stop.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _build(self, preparer: Prepares) -> Engine:
        while not _BUILDS.acquire(timeout=_WAIT_S):
            if self._stop.is_set():
                raise EngineError(f"{self.spec.name}: closed before its turn to be built")
        try:
            return preparer.build(self._tell, self._stop)
        finally:
            _BUILDS.release()

    def _tell(self, share: float) -> None:
        with self._guard:
            self._building = share

    def _change_to(self, engine: Engine, *, building: bool = False) -> None:
        """From the next call on; calls under way are finished where they are."""
        with self._guard:
            before, self._fast = self._fast, engine
            self._building = self._building if building else None
            self._trouble = ""
            self._refused.clear()
        _log.info("%s runs on %s", self.spec.name, engine.backend)
        if before is not None:
            before.close()

    def _degrade(self, reason: str) -> None:
        with self._guard:
            self._trouble, self._building = reason, None
        _log.warning("%s: %s", self.spec.name, reason)


class _Following:
    """A stream's memory on the engine that calls went to when it was started."""

    def __init__(
        self,
        engine: FallbackEngine,
        links: Links,
        choose: Callable[[_Sizes], Engine | None],
        fell: Callable[[Engine, _Sizes, EngineError], None],
        worked: Callable[[_Sizes], None],
    ) -> None:
        self._spec, self._links = engine.spec, links
        self._choose, self._fell, self._worked = choose, fell, worked
        self._fast: Engine | None = None
        self._memory: StatefulSession | None = None
        self._shapes: dict[str, Shape] = {}

    def start(self, state: Arrays) -> None:
        """See `engines.stateful.StatefulSession`."""
        self._shapes = {name: array.shape for name, array in state.items()}
        sizes = self._sizes({})
        if (fast := self._choose(sizes)) is None:
            raise DeviceUnavailable(f"{self._spec.name} runs on the CPU")
        if self._memory is None or fast is not self._fast:
            self.close()
            self._fast, self._memory = fast, recurrence(fast, self._links)
        try:
            self._memory.start(state)
        except EngineError as error:
            raise self._told(fast, sizes, error) from error
        self._worked(sizes)

    def infer(self, inputs: Arrays) -> Arrays:
        """See `engines.stateful.StatefulSession`."""
        sizes = self._sizes(inputs)
        fast, memory = self._fast, self._memory
        if fast is None or memory is None or self._choose(sizes) is not fast:
            raise StateLost(f"{self._spec.name}: calls go elsewhere now")
        try:
            outputs = memory.infer(inputs)
        except EngineError as error:
            raise self._told(fast, sizes, error) from error
        self._worked(sizes)
        return outputs

    def close(self) -> None:
        """See `engines.stateful.StatefulSession`."""
        memory, self._memory, self._fast = self._memory, None, None
        if memory is not None:
            memory.close()

    def _sizes(self, inputs: Arrays) -> _Sizes:
        shapes = self._shapes | {name: array.shape for name, array in inputs.items()}
        return tuple(shapes.get(tensor.name, ()) for tensor in self._spec.inputs)

    def _told(self, fast: Engine, sizes: _Sizes, error: EngineError) -> EngineError:
        """What the stream is told of a failure, which is taken note of unless it is none."""
        if isinstance(error, StateLost):
            return error
        if self._choose(()) is not fast:  # closed because another took its place
            return StateLost(f"{self._spec.name}: calls go elsewhere now")
        self._fell(fast, sizes, error)
        return error


def _row_by_row(engine: Engine, inputs: Arrays) -> Arrays:
    """Run an engine on a batch, though it may take but one row at a time."""
    if all(tensor.fits(inputs[tensor.name]) for tensor in engine.spec.inputs):
        return engine.infer(inputs)
    rows = range(len(next(iter(inputs.values()))))
    said = [engine.infer({name: each[at : at + 1] for name, each in inputs.items()}) for at in rows]
    return {name: np.concatenate([row[name] for row in said]) for name in said[0]}
