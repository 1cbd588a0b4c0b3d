"""Runs compiled plans on an NVIDIA GPU through TensorRT, or through TensorRT for RTX.

Both libraries have one interface; which one is used is chosen when it is first asked for. An engine
has two lanes (`lanes.py`): while one computes, the other copies. Compiling is
`engines/plans/builder.py`; device memory and streams are `cuda.py`.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import threading
import weakref
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.backends import cuda
from engines.backends.device_state import DeviceState
from engines.backends.execution import ExecutionStream
from engines.engine import EngineState, reference_spec
from engines.errors import (
    DeviceUnavailable,
    EngineError,
    ModelMismatch,
    OutOfDeviceMemory,
    PlanUnfit,
)
from engines.plans.cache import PlanCache, PlanKey, Profile, Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from engines.backends.cuda import DeviceBuffer, Gpu
    from engines.backends.execution import StateBindings
    from engines.engine import Precision
    from engines.modelfile import ModelFile
    from engines.plans.cache import Edition, Shape
    from engines.spec import EngineSpec, TensorSpec

LANES = 2
"""One computes while the other copies; a third would only wait."""

_log = logging.getLogger(__name__)

_PACKAGES: dict[Edition, str] = {
    "tensorrt": "TensorRT (extra `tensorrt`)",
    "rtx": "TensorRT for RTX (extra `rtx`)",
}


@dataclass(frozen=True, slots=True)
class Library:
    """TensorRT, as it is installed here."""

    edition: Edition
    """Which of the two."""
    version: str
    """As in "10.14.1"; plans do not outlive it."""
    module: Any
    """The Python module: Builder, OnnxParser, Runtime and so on."""
    messages: ErrorLog
    """What the library says; give it to Builder, OnnxParser and Runtime as `messages.logger`."""

    @property
    def name(self) -> str:
        """As in "tensorrt-rtx 1.7.1.116"."""
        return f"tensorrt{'-rtx' if self.edition == 'rtx' else ''} {self.version}"


class ErrorLog:
    """What TensorRT says beside its return values, which are only yes or no.

    Args:
        module: Either edition's Python module.
    """

    def __init__(self, module: Any) -> None:
        self._thread = threading.local()
        known = module.ILogger.Severity
        errors = {known.INTERNAL_ERROR, known.ERROR}

        class Logger(module.ILogger):  # type: ignore[misc]
            """Takes what the library says, in the thread in which it says it."""

            def log(logger, severity: Any, message: str) -> None:  # noqa: N805
                if severity in errors:  # comes out again as an exception, in the caller's words
                    self._errors().append(message)
                _log.debug("%s: %s", severity, message)

        self.logger = Logger()

    def take(self) -> str:
        """The errors since the last call, of this thread, on one line; empty if there were none."""
        said, self._thread.errors = self._errors(), []
        return "; ".join(" ".join(message.split()) for message in said)

    def _errors(self) -> list[str]:
        if not hasattr(self._thread, "errors"):
            self._thread.errors = []
        errors: list[str] = self._thread.errors
        return errors


def library(edition: Edition | None = None) -> Library:
    """The library that is installed; TensorRT before TensorRT for RTX where both are.

    Raises:
        DeviceUnavailable: It is not installed, or cannot be loaded here.
    """
    reasons = []
    for wanted in (edition,) if edition else ("tensorrt", "rtx"):
        found = _load(wanted)
        if isinstance(found, Library):
            return found
        reasons.append(f"{_PACKAGES[wanted]}: {found}")
    raise DeviceUnavailable("; ".join(reasons))


@functools.cache
def _load(edition: Edition) -> Library | str:
    """The library, or why it cannot be had: one answer a process, as an import has."""
    try:
        if edition == "rtx":
            import tensorrt_rtx_bindings as module
        else:
            import tensorrt as module
        # PyPI's `tensorrt` may be an empty shell around libraries that are not there.
        return Library(edition, module.__version__, module, ErrorLog(module))
    except ModuleNotFoundError:
        return "not installed"
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        return f"installed, but cannot be loaded: {' '.join(str(error).split())}"


class TensorRtEngine:
    """A plan on a GPU. Safe to call from any number of threads; two are served at a time.

    Args:
        plan: What `engines.plans.builder` made.
        library: What it was made with.
        gpu: Where it is to run.
        spec: Of the network it was made from; the plan is checked against it.
        precision: It was compiled in.

    Raises:
        PlanUnfit: It is damaged, or was made for another GPU, library or network.
        OutOfDeviceMemory: It does not fit beside what is there.
        DeviceLost: The GPU stopped answering.
    """

    def __init__(
        self, plan: bytes, *, library: Library, gpu: Gpu, spec: EngineSpec, precision: Precision
    ) -> None:
        self.backend = f"{library.name} {gpu.name} {gpu.capability} {precision}"
        self.state = EngineState(f"cuda:{gpu.index}")
        self._gpu = gpu
        self._change = threading.Condition()
        self._idle: list[ExecutionStream] = []  # guarded by _change
        self._closed = False  # guarded by _change
        self._streams: weakref.WeakSet[DeviceState] = weakref.WeakSet()  # guarded by _change
        self._abandoned: deque[DeviceBuffer] = deque()
        with gpu.current(f"loading the plan of {spec.name}"):
            self._loaded = loaded = LoadedPlan(plan, library, gpu, spec)
            self.spec = loaded.spec
            """The file's, with every size open that the plan leaves open: a batch, mostly."""
            self._profiles = loaded.profiles
            try:
                for _ in range(LANES):
                    self._idle.append(ExecutionStream(loaded))
            except BaseException:
                for lane in self._idle:
                    lane.close()
                loaded.close()
                raise

    def infer(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run the network once; see `engines.engine.Engine`.

        Raises:
            ModelMismatch: The inputs do not fit, or their sizes are outside the plan's profiles.
            OutOfDeviceMemory: A new size found no room; sizes that came before go on running.
            DeviceLost: The GPU stopped answering.
            EngineError: The engine is closed, or the GPU refused.
        """
        return self._run(inputs)

    def recurrence(self, links: Mapping[str, str]) -> DeviceState:
        """The memory of one more stream, kept on the device; see `engines.stateful`."""
        stream = DeviceState(
            self._gpu, links, lane=self._lane, run=self._run, abandoned=self._abandoned
        )
        with self._change:
            self._streams.add(stream)
        return stream

    def accepts(self, shapes: Mapping[str, Shape]) -> bool:
        """Whether the plan was made for inputs of these sizes."""
        return any(profile.accepts(shapes) for profile in self._profiles)

    def close(self) -> None:
        """Give everything back. Any number of times; calls under way are finished first."""
        with self._change:
            if self._closed:
                return
            self._closed = True
            self._change.notify_all()
            self._change.wait_for(lambda: len(self._idle) == LANES)
            lanes, self._idle = self._idle, []
            streams = list(self._streams)
        for lane in lanes:
            lane.close()
        for stream in streams:
            stream.close()
        self._free_abandoned()
        self._loaded.close()

    def _run(
        self, inputs: Mapping[str, NDArray[Any]], kept: StateBindings | None = None
    ) -> Mapping[str, NDArray[Any]]:
        given = inputs if kept is None else {**inputs, **kept.like}
        self.spec.check(given)
        shapes = {name: array.shape for name, array in given.items()}
        profile = self._profile(shapes)
        with self._lane() as lane:
            return lane.run(profile, shapes, inputs, kept)

    @contextlib.contextmanager
    def _lane(self) -> Iterator[ExecutionStream]:
        """A lane for one call, when one is idle."""
        lane = self._take()
        try:
            with self._gpu.current(f"running {self.spec.name}"):
                self._free_abandoned()
                yield lane
        finally:
            with self._change:
                self._idle.append(lane)
                self._change.notify_all()

    def _free_abandoned(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._abandoned.popleft().free()

    def _profile(self, shapes: Mapping[str, Shape]) -> int:
        for index, profile in enumerate(self._profiles):
            if profile.accepts(shapes):
                return index
        sizes = " or ".join(
            ", ".join(
                f"{name} {least} to {most}" for name, (least, _, most) in known.shapes.items()
            )
            for known in self._profiles
        )
        raise ModelMismatch(f"{self.spec.name}: compiled for {sizes}; was given {dict(shapes)}")

    def _take(self) -> ExecutionStream:
        with self._change:
            self._change.wait_for(lambda: self._idle or self._closed)
            if self._closed:
                raise EngineError(f"{self.spec.name}: the engine is closed")
            return self._idle.pop()


class LoadedPlan:
    """A deserialised plan, and what is known of it."""

    def __init__(self, plan: bytes, library: Library, gpu: Gpu, spec: EngineSpec) -> None:
        library.messages.take()
        self.library, self.gpu = library, gpu
        self._making = threading.Lock()
        self._runtime = library.module.Runtime(library.messages.logger)
        self.engine = self._runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise self.refusal(f"cannot load the plan of {spec.name}", PlanUnfit)
        try:
            self.spec = self._compared(spec)
            self.profiles = tuple(
                Profile({tensor.name: self._sizes(tensor.name, at) for tensor in spec.inputs})
                for at in range(self.engine.num_optimization_profiles)
            )
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the weights back, once no context is left. Any number of times.

        Not left to the collector: the library frees them on the device that is current then.
        """
        self.gpu.release(self._drop)

    def _drop(self) -> None:
        self.engine = None
        self._runtime = None

    def refusal(self, what: str, kind: type[EngineError] = EngineError) -> EngineError:
        """Why the library said no, from what it said beside it and from how the device is.

        Raises:
            DeviceLost: The device is gone.
        """
        said = self.library.messages.take() or "it gave no reason"
        self.gpu.check()
        if re.search(r"out of memory|OutOfMemory", said, re.IGNORECASE):
            kind = OutOfDeviceMemory
        return kind(f"{self.library.name} on {self.gpu}: {what}: {said}")

    def context(self) -> Any:
        """An execution context whose activations lie in memory that it will be given.

        One at a time: contexts are safe beside each other, making them is not said to be.
        """
        with self._making:
            return self._context()

    def _context(self) -> Any:
        module, own = self.library.module, self.library.module.ExecutionContextAllocationStrategy
        if self.library.edition == "rtx":
            config = self.engine.create_runtime_config()
            config.set_execution_context_allocation_strategy(own.USER_MANAGED)
            # Kernels for a size are made when it first comes. Made later, in the background, they
            # would come after the graph, which would go on with the slow ones.
            strategies = module.DynamicShapesKernelSpecializationStrategy
            config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
            context = self.engine.create_execution_context(config)
        else:
            context = self.engine.create_execution_context(own.USER_MANAGED)
        if context is None:
            raise self.refusal(f"no execution context for {self.spec.name}")
        return context

    def _compared(self, spec: EngineSpec) -> EngineSpec:
        """What the plan takes and gives, which must be what the network does."""
        mode = self.library.module.TensorIOMode
        names = [self.engine.get_tensor_name(at) for at in range(self.engine.num_io_tensors)]
        found = {}
        for kind, wanted in ((mode.INPUT, spec.inputs), (mode.OUTPUT, spec.outputs)):
            have = {name for name in names if self.engine.get_tensor_mode(name) == kind}
            if have != {tensor.name for tensor in wanted}:
                raise PlanUnfit(f"the plan of {spec.name} is another network's: {sorted(have)}")
            found[kind] = tuple(self._compared_tensor(spec.name, tensor) for tensor in wanted)
        return replace(spec, inputs=found[mode.INPUT], outputs=found[mode.OUTPUT])

    def _compared_tensor(self, name: str, tensor: TensorSpec) -> TensorSpec:
        dtype = self.engine.get_tensor_dtype(tensor.name)
        shape = tuple(self.engine.get_tensor_shape(tensor.name))
        try:
            same = np.dtype(self.library.module.nptype(dtype)) == tensor.dtype
        except TypeError:  # a type that numpy has not
            same = False
        if not same or len(shape) != len(tensor.shape):
            raise PlanUnfit(f"the plan of {name} has {tensor.name} {shape} {dtype}, not {tensor}")
        return replace(tensor, shape=tuple(side if side >= 0 else None for side in shape))

    def _sizes(self, name: str, profile: int) -> tuple[Shape, Shape, Shape]:
        least, best, most = map(tuple, self.engine.get_tensor_profile_shape(name, profile))
        return least, best, most


def load(model: ModelFile, *, precision: Precision, index: int) -> TensorRtEngine:
    """The newest plan of a model that fits this machine; see `engines.engine.open_engine`.

    Nothing is compiled: see `engines.plans.fallback` for running meanwhile.

    Raises:
        DeviceUnavailable: No library, GPU, driver or PyCUDA, or no plan yet.
        PlanUnfit: There is one, but it cannot be loaded.
        OutOfDeviceMemory: The GPU is full.
    """
    # The GPU first: without one nobody waits for the libraries to load.
    device, found, store = cuda.gpu(index), library(), PlanCache()
    wanted = PlanKey(
        model.digest, found.edition, found.version,
        Target(device.capability, precision, profiles=(), driver=device.driver_major),
    )  # fmt: skip
    fitting = [entry for entry in store.entries() if entry.key and entry.key.fits(wanted)]
    for entry in sorted(fitting, key=lambda each: -float(each.facts.get("made", 0))):
        if entry.key and (plan := store.get(entry.key)) is not None:
            return TensorRtEngine(
                plan, library=found, gpu=device, spec=reference_spec(model), precision=precision
            )
    raise DeviceUnavailable(
        f"no plan of {model.name} in {precision} for {device}: `streamer engines build` makes one"
    )
