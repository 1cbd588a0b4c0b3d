"""Runs the program's own engine for GPUs, and beside it the bare loop it is measured against."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.backends import cuda
from engines.backends.tensorrt import LoadedPlan, TensorRtEngine, library
from engines.engine import reference_spec
from engines.errors import EngineError
from engines.plans.builder import build, key_of
from engines.plans.cache import PlanCache

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from engines.backends.cuda import Gpu
    from engines.backends.tensorrt import Library
    from engines.engine import Engine, Precision
    from engines.plans.cache import Edition
    from engines.registry import RegistryEntry

    Arrays = Mapping[str, NDArray[Any]]


def plan_of(
    edition: Edition, entry: RegistryEntry, precision: Precision, gpu: Gpu
) -> tuple[bytes, Library, float]:
    """The plan for that card, built if the store has none; with the seconds that took, else 0.

    Raises:
        DeviceUnavailable: The library is not installed, or does not compile for that card.
        EngineError: It cannot compile the network.
    """
    found, store, model = library(edition), PlanCache(), entry.model()
    target = entry.target(gpu.capability, precision, driver=gpu.driver_major)
    content = store.get(key_of(model, found, target))
    if content is not None:
        return content, found, 0.0
    timing = store.timing_cache(found.edition, found.version, target.capability)
    plan = build(model, found, target, timing_cache=timing)
    store.put(plan)
    return plan.content, found, float(plan.facts["seconds"])


class TensorRtRunner:
    """See `runtimes.Runner`."""

    def __init__(self, engine: TensorRtEngine, plan: bytes, found: Library, gpu: Gpu) -> None:
        self.engine: Engine = engine
        self._plan, self._library, self._gpu, self._spec = plan, found, gpu, engine.spec
        self._held = contextlib.ExitStack()

    @classmethod
    def open(
        cls, edition: Edition, entry: RegistryEntry, precision: Precision, index: int
    ) -> TensorRtRunner:
        """Open a network, compiling it first if need be.

        Raises:
            EngineError: The library, card, driver, PyCUDA or plan is not there, or does not fit.
        """
        library(edition)  # Before the card: "not installed" is the better answer.
        gpu = cuda.gpu(index)
        plan, found, _ = plan_of(edition, entry, precision, gpu)
        spec = reference_spec(entry.model())
        engine = TensorRtEngine(plan, library=found, gpu=gpu, spec=spec, precision=precision)
        return cls(engine, plan, found, gpu)

    def bare(self, inputs: Arrays) -> Callable[[int], None]:
        """`execute_async_v3` again and again on memory that is on the device."""
        gpu, shapes = self._gpu, {name: array.shape for name, array in inputs.items()}
        with gpu.current("preparing the bare loop"):
            loaded = LoadedPlan(self._plan, self._library, gpu, self._spec)
            fitting = [at for at, one in enumerate(loaded.profiles) if one.accepts(shapes)]
            if not fitting:
                raise EngineError(f"{self._spec.name}: the plan was not made for {shapes}")
            context, stream = loaded.context(), gpu.stream()
            self._held.callback(stream.close)
            memory = gpu.allocate(loaded.engine.device_memory_size_v2)
            self._held.callback(memory.free)
            if memory.size:
                context.set_device_memory(memory.address, memory.size)
            context.set_optimization_profile_async(fitting[0], stream.handle)
            for name, shape in shapes.items():
                context.set_input_shape(name, shape)
            for tensor in (*self._spec.inputs, *self._spec.outputs):
                pinned = gpu.pinned(tuple(context.get_tensor_shape(tensor.name)), tensor.dtype)
                buffer = gpu.allocate(pinned.array.nbytes)
                self._held.callback(buffer.free)
                if tensor.name in inputs:
                    np.copyto(pinned.array, inputs[tensor.name])
                    stream.upload(buffer, pinned)
                    stream.synchronize()
                pinned.free()
                context.set_tensor_address(tensor.name, buffer.address)

        def run(times: int) -> None:
            with gpu.current("running the bare loop"):
                for _ in range(times):
                    if not context.execute_async_v3(stream.handle):
                        raise loaded.refusal("the bare loop")
                stream.synchronize()

        return run

    def close(self) -> None:
        """Give everything back."""
        self._held.close()
        self.engine.close()
