"""Runs a loaded TensorRT plan in one stream of a GPU, with pinned memory of its own.

A lane keeps one execution context for each size that comes, and records copies and computation as
one graph: a recorded graph is only valid while its context is left alone (TensorRT's developer
guide, "CUDA Graphs"), so contexts are not shared between sizes. What is large, the memory for
activations, is: one block a lane, taken when the plan is loaded and not in mid-run.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import EngineError, ModelMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engines.backends.cuda import DeviceBuffer, Event, Graph, PinnedArray, Stream
    from engines.backends.tensorrt import LoadedPlan
    from engines.plans.cache import Shape
    from engines.spec import TensorSpec

_log = logging.getLogger(__name__)

MOST_SIZES = 16
"""Contexts kept by a lane: four sizes of pictures in batches of 1, 2, 4 and 8."""


@dataclass(frozen=True, slots=True, eq=False)
class StateBindings:
    """What stays on the device between the calls of one stream."""

    links: Mapping[str, str]
    """Output to the input that it is for the next call."""
    buffers: Mapping[str, DeviceBuffer]
    """By input."""
    like: Mapping[str, NDArray[Any]]
    """By input: an array of its shape and type, with nothing in it."""


class ExecutionStream:
    """A stream with what runs on it. One thread at a time, within `Gpu.current`."""

    def __init__(self, plan: LoadedPlan) -> None:
        self._plan = plan
        self._sizes: OrderedDict[tuple[object, ...], _ShapeContext] = OrderedDict()
        with contextlib.ExitStack() as held:
            self._memory = plan.gpu.allocate(plan.engine.device_memory_size_v2)
            held.callback(self._memory.free)
            self._stream = plan.gpu.stream()
            held.callback(self._stream.close)
            self._done = plan.gpu.event()
            held.callback(self._done.close)
            self._held = held.pop_all()

    def run(
        self,
        profile: int,
        shapes: Mapping[str, Shape],
        inputs: Mapping[str, NDArray[Any]],
        kept: StateBindings | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Copy in, compute, copy out; the arrays that come back are the caller's.

        Args:
            profile: That accepts the shapes.
            shapes: Of all inputs.
            inputs: All, but for those that are kept on the device.
            kept: A stream's memory: inputs that are there, and become what outputs say.
        """
        links = {} if kept is None else kept.links
        key = (*(shapes[tensor.name] for tensor in self._plan.spec.inputs), *links.items())
        size = self._sizes.get(key)
        if size is None:
            while len(self._sizes) >= MOST_SIZES:
                self._sizes.popitem(last=False)[1].close()
            size = _ShapeContext(
                self._plan, profile, shapes, self._memory, self._stream, links=links
            )
            self._sizes[key] = size
        self._sizes.move_to_end(key)
        return size.run(inputs, self._stream, self._done, {} if kept is None else kept.buffers)

    def upload(self, arrays: Mapping[str, NDArray[Any]], kept: StateBindings) -> None:
        """Let a stream remember these from now on, instead of what it did."""
        with contextlib.ExitStack() as held:
            for name, array in arrays.items():
                pinned = self._plan.gpu.pinned(array.shape, array.dtype)
                held.callback(pinned.free)
                np.copyto(pinned.array, array)
                self._stream.upload(kept.buffers[name], pinned)
            self._stream.record(self._done)
            self._done.wait()

    def close(self) -> None:
        """Give everything back; nothing runs any more."""
        for size in self._sizes.values():
            size.close()
        self._sizes.clear()
        self._held.close()


class _ShapeContext:
    """A plan prepared for inputs of one size: context, buffers, and the graph of all its work."""

    def __init__(
        self,
        plan: LoadedPlan,
        profile: int,
        shapes: Mapping[str, Shape],
        memory: DeviceBuffer,
        stream: Stream,
        *,
        links: Mapping[str, str],
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
            stays = {*links, *links.values()}
            buffers: dict[str, DeviceBuffer] = {}
            for tensors, moved in (
                (plan.spec.inputs, self._inputs),
                (plan.spec.outputs, self._outputs),
            ):
                for tensor in tensors:
                    buffers[tensor.name] = self._buffer(tensor, held)
                    if tensor.name not in stays:
                        moved[tensor.name] = (self._pinned(tensor, held), buffers[tensor.name])
            self._kept = {into: (buffers[into], buffers[out]) for out, into in links.items()}
            if any(buffer.size != out.size for buffer, out in self._kept.values()):
                raise ModelMismatch(
                    f"{plan.spec.name}: an output has another size than the input that it becomes: "
                    f"{', '.join(f'{out} to {into}' for out, into in links.items())}"
                )
            self._held = held.pop_all()

    def run(
        self,
        inputs: Mapping[str, NDArray[Any]],
        stream: Stream,
        done: Event,
        kept: Mapping[str, DeviceBuffer],
    ) -> dict[str, NDArray[Any]]:
        """Run once, from and to arrays in ordinary memory, and what is kept on the device."""
        for name, (pinned, _) in self._inputs.items():
            np.copyto(pinned.array, inputs[name])
        # Not in the graph: it serves the memories of all streams.
        for name, (buffer, _) in self._kept.items():
            stream.copy(buffer, kept[name])
        if self._graph is not None:
            stream.launch(self._graph)
        else:
            self._enqueue(stream)
        for name, (_, buffer) in self._kept.items():
            stream.copy(kept[name], buffer)
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

    def _pinned(self, tensor: TensorSpec, held: contextlib.ExitStack) -> PinnedArray:
        """Memory for an input or output here."""
        shape = tuple(self._context.get_tensor_shape(tensor.name))
        pinned = self._plan.gpu.pinned(shape, tensor.dtype)
        held.callback(pinned.free)
        return pinned

    def _buffer(self, tensor: TensorSpec, held: contextlib.ExitStack) -> DeviceBuffer:
        """Memory for an input or output on the device."""
        shape = tuple(self._context.get_tensor_shape(tensor.name))
        buffer = self._plan.gpu.allocate(math.prod(shape) * tensor.dtype.itemsize)
        held.callback(buffer.free)
        address = self._context.set_tensor_address(tensor.name, buffer.address)
        self._require(address, f"memory for {tensor.name}")
        return buffer

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
