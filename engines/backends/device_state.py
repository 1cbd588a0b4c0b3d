"""What one stream remembers on a GPU between two calls; see `engines.stateful`.

Held apart from the lanes: any of them may serve the next call. The state is copied into a lane's
inputs and out of its outputs on the device, so that the lane's recorded graph serves all streams.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from engines.backends.execution import StateBindings
from engines.errors import ModelMismatch, StateLost

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from engines.backends.cuda import DeviceBuffer, Gpu
    from engines.backends.execution import ExecutionStream

    Arrays = Mapping[str, NDArray[Any]]


class _Run(Protocol):
    def __call__(self, inputs: Arrays, kept: StateBindings) -> Arrays: ...


class DeviceState:
    """A stream's memory on a GPU. Belongs to one thread, except `close`.

    Args:
        gpu: Of the engine.
        links: Output to the input that it becomes.
        lane: A lane for one call.
        run: Runs the network on inputs and memory.
        abandoned: Where memory goes that nobody closed, for the engine to free: the collector
            may come at any time, and may not call the device.
    """

    def __init__(
        self,
        gpu: Gpu,
        links: Mapping[str, str],
        *,
        lane: Callable[[], AbstractContextManager[ExecutionStream]],
        run: _Run,
        abandoned: deque[DeviceBuffer],
    ) -> None:
        self._gpu = gpu
        self._links = dict(links)
        self._lane, self._run, self._abandoned = lane, run, abandoned
        self._kept: StateBindings | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None
        self._ready = False

    def start(self, state: Arrays) -> None:
        """Remember these from now on; see `engines.stateful.StatefulSession`.

        Raises:
            ModelMismatch: It is not one array for each input that an output becomes.
            OutOfDeviceMemory: There is no room for it.
            EngineError: The engine is closed.
        """
        if state.keys() != set(self._links.values()):
            raise ModelMismatch(f"state: expected {[*self._links.values()]}, got {[*state]}")
        self._ready = False
        with self._lane() as lane:
            kept = self._kept
            if kept is None or any(not _same(kept.like[n], a) for n, a in state.items()):
                self.close()
                kept = self._allocated(state)
            lane.upload(state, kept)
        self._kept, self._ready = kept, True

    def infer(self, inputs: Arrays) -> Arrays:
        """Run the network once; see `engines.stateful.StatefulSession`."""
        kept, ready, self._ready = self._kept, self._ready, False
        if kept is None or not ready:
            raise StateLost("there is no state to go on from")
        outputs = self._run(inputs, kept)
        self._ready = True
        return outputs

    def close(self) -> None:
        """Give back the memory. Any number of times; nothing of this stream is under way."""
        kept, self._kept = self._kept, None
        if kept is not None:
            if self._finalizer is not None:
                self._finalizer.detach()
            for buffer in kept.buffers.values():
                buffer.free()

    def _allocated(self, state: Arrays) -> StateBindings:
        buffers: list[DeviceBuffer] = []
        try:
            for array in state.values():
                buffers.append(self._gpu.allocate(array.nbytes))  # noqa: PERF401  freed if one fails
        except BaseException:
            for buffer in buffers:
                buffer.free()
            raise
        self._finalizer = weakref.finalize(self, self._abandoned.extend, buffers)
        self._finalizer.atexit = False
        like = {
            name: np.broadcast_to(np.zeros((), array.dtype), array.shape)
            for name, array in state.items()
        }
        return StateBindings(self._links, dict(zip(state, buffers, strict=True)), like)


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype
