"""Runs a loaded TensorRT plan in one stream of a GPU, with pinned memory of its own.

A lane keeps one execution context for each size that comes, and records copies and computation as
one graph: a recorded graph is only valid while its context is left alone (TensorRT's developer
guide, "CUDA Graphs"), so contexts are not shared between sizes. What is large, the memory for
activations, is: one block a lane, taken when the plan is loaded and not in mid-run.
"""

from __future__ import annotations

import contextlib
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engines.backends.cuda import DeviceBuffer, Event, Graph, PinnedArray, Stream
    from engines.backends.tensorrt import LoadedPlan
    from engines.plans import Shape
    from engines.spec import TensorSpec

_log = logging.getLogger(__name__)

MOST_SIZES = 16
"""Contexts kept by a lane: four sizes of pictures in batches of 1, 2, 4 and 8."""


class Lane:
    """A stream with what runs on it. One thread at a time, within `Gpu.current`."""

    def __init__(self, plan: LoadedPlan) -> None:
        self._plan = plan
        self._sizes: OrderedDict[tuple[Shape, ...], _Size] = OrderedDict()
        with contextlib.ExitStack() as held:
            self._memory = plan.gpu.allocate(plan.engine.device_memory_size_v2)
            held.callback(self._memory.free)
            self._stream = plan.gpu.stream()
            held.callback(self._stream.close)
            self._done = plan.gpu.event()
            held.callback(self._done.close)
            self._held = held.pop_all()

    def run(
        self, profile: int, shapes: Mapping[str, Shape], inputs: Mapping[str, NDArray[Any]]
    ) -> dict[str, NDArray[Any]]:
        """Copy in, compute, copy out; the arrays that come back are the caller's."""
        key = tuple(shapes[tensor.name] for tensor in self._plan.spec.inputs)
        size = self._sizes.get(key)
        if size is None:
            while len(self._sizes) >= MOST_SIZES:
                self._sizes.popitem(last=False)[1].close()
            size = self._sizes[key] = _Size(self._plan, profile, shapes, self._memory, self._stream)
        self._sizes.move_to_end(key)
        return size.run(inputs, self._stream, self._done)

    def close(self) -> None:
        """Give everything back; nothing runs any more."""
        for size in self._sizes.values():
            size.close()
        self._sizes.clear()
        self._held.close()


class _Size:
    """A plan prepared for inputs of one size: context, buffers, and the graph of all its work."""

    def __init__(
        self,
        plan: LoadedPlan,
        profile: int,
        shapes: Mapping[str, Shape],
        memory: DeviceBuffer,
        stream: Stream,
    ) -> None:
        self._plan = plan
        self._graph: Graph | None = None
        self._first = True
        self._inputs: dict[str, tuple[PinnedArray, DeviceBuffer]] = {}
        self._outputs: dict[str, tuple[PinnedArray, DeviceBuffer]] = {}
        with contextlib.ExitStack() as held:
            self._context = plan.context()
            held.callback(setattr, self, "_context", None)
            if memory.size:
                self._context.set_device_memory(memory.address, memory.size)
            self._require(
                self._context.set_optimization_profile_async(profile, stream.handle), "its profile"
            )
            for name, shape in shapes.items():
                self._require(self._context.set_input_shape(name, shape), f"{name} {shape}")
            if missing := self._context.infer_shapes():
                raise plan.refusal(f"sizes of {', '.join(missing)} are not known beforehand")
            for tensors, kept in (
                (plan.spec.inputs, self._inputs),
                (plan.spec.outputs, self._outputs),
            ):
                for tensor in tensors:
                    kept[tensor.name] = self._bind(tensor, held)
            self._held = held.pop_all()

    def run(
        self, inputs: Mapping[str, NDArray[Any]], stream: Stream, done: Event
    ) -> dict[str, NDArray[Any]]:
        """Run once, from and to arrays in ordinary memory."""
        for name, (pinned, _) in self._inputs.items():
            np.copyto(pinned.array, inputs[name])
        if self._graph is not None:
            stream.launch(self._graph)
        else:
            self._enqueue(stream)
        stream.record(done)
        done.wait()
        outputs = {name: pinned.array.copy() for name, (pinned, _) in self._outputs.items()}
        if self._first:  # what a context puts off until it first runs cannot be recorded
            self._first = False
            self._record(stream)
        return outputs

    def close(self) -> None:
        """Give everything back."""
        if self._graph is not None:
            self._graph.close()
        self._plan.gpu.release(self._held.close)

    def _bind(
        self, tensor: TensorSpec, held: contextlib.ExitStack
    ) -> tuple[PinnedArray, DeviceBuffer]:
        """Memory for an input or output, here and there."""
        shape = tuple(self._context.get_tensor_shape(tensor.name))
        pinned = self._plan.gpu.pinned(shape, tensor.dtype)
        held.callback(pinned.free)
        buffer = self._plan.gpu.allocate(pinned.array.nbytes)
        held.callback(buffer.free)
        address = self._context.set_tensor_address(tensor.name, buffer.address)
        self._require(address, f"memory for {tensor.name}")
        return pinned, buffer

    def _enqueue(self, stream: Stream) -> None:
        for pinned, buffer in self._inputs.values():
            stream.upload(buffer, pinned)
        self._require(self._context.execute_async_v3(stream.handle), "running it")
        for pinned, buffer in self._outputs.values():
            stream.download(pinned, buffer)

    def _record(self, stream: Stream) -> None:
        """Make the graph. Networks that cannot be recorded run without one, a little slower."""
        name = self._plan.spec.name
        # Only TensorRT for RTX can be asked.
        asked = getattr(self._context, "is_stream_capturable", None)
        if asked is not None and not asked(stream.handle):
            _log.info("%s runs without a CUDA graph: the library cannot record it", name)
            return
        try:
            with self._plan.gpu.current("recording a graph"), stream.capture() as graph:
                self._enqueue(stream)
        except EngineError as error:
            self._plan.gpu.check()
            _log.info("%s runs without a CUDA graph: %s", name, error)
        else:
            self._graph = graph

    def _require(self, answer: bool, what: str) -> None:  # noqa: FBT001  TensorRT answers so
        if not answer:
            raise self._plan.refusal(f"{self._plan.spec.name} refuses {what}")
