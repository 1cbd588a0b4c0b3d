"""The state of one stream on a GPU between two calls; see `engines.stateful`.

The state has buffers of its own and is copied into the engine's inputs and out of its outputs on
the device, so that one engine serves all streams.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from engines.errors import ModelMismatch, StateLost

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engines.backends.cuda import DeviceBuffer, Gpu
    from engines.spec import EngineSpec

    Arrays = Mapping[str, NDArray[Any]]
    Buffers = Mapping[str, DeviceBuffer]


class Runner(Protocol):
    """The engine that holds the states; see `engines.backends.tensorrt_engine`."""

    spec: EngineSpec
    gpu: Gpu
    abandoned: deque[DeviceBuffer]
    """Buffers of states that nobody closed, for the engine to free: the garbage collector may run
    in any thread, where it must not call the device."""

    def upload_state(self, arrays: Arrays, buffers: Buffers) -> None:
        """Write arrays to the buffers of a state."""
        ...

    def infer_stateful(
        self, inputs: Arrays, state: Mapping[str, tuple[DeviceBuffer, NDArray[Any]]],
        links: Mapping[str, str],
    ) -> Arrays:  # fmt: skip
        """Run the network once on inputs and a state."""
        ...


class DeviceState:
    """A stream's state on a GPU. Belongs to one thread, except `close`.

    Args:
        engine: Runs the network.
        links: Output to the input that it becomes.
    """

    def __init__(self, engine: Runner, links: Mapping[str, str]) -> None:
        self._engine, self._links = engine, dict(links)
        self._buffers: dict[str, DeviceBuffer] = {}
        self._like: dict[str, NDArray[Any]] = {}
        """An empty array of each shape and type."""
        self._ready = False
        self._finalizer: weakref.finalize[..., Any] | None = None

    def start(self, state: Arrays) -> None:
        """Replace the state; see `engines.stateful.StatefulSession`.

        Raises:
            ModelMismatch: It is not one array for each input that an output becomes.
            OutOfDeviceMemory: There is no room for it.
            EngineError: The engine is closed.
        """
        if state.keys() != set(self._links.values()):
            raise ModelMismatch(f"state: expected {[*self._links.values()]}, got {[*state]}")
        for tensor in self._engine.spec.inputs:
            if tensor.name in state and not tensor.fits(state[tensor.name]):
                array = state[tensor.name]
                raise ModelMismatch(f"state: expected {tensor}, got {array.shape} {array.dtype}")
        self._ready = False
        if {n: a.shape for n, a in self._like.items()} != {n: a.shape for n, a in state.items()}:
            self.close()
            self._allocate(state)
        self._engine.upload_state(state, self._buffers)
        self._ready = True

    def infer(self, inputs: Arrays) -> Arrays:
        """Run the network once; see `engines.stateful.StatefulSession`."""
        ready, self._ready = self._ready, False
        if not ready:
            raise StateLost(f"{self._engine.spec.name}: there is no state to continue from")
        state = {name: (buffer, self._like[name]) for name, buffer in self._buffers.items()}
        outputs = self._engine.infer_stateful(inputs, state, self._links)
        self._ready = True
        return outputs

    def close(self) -> None:
        """Free the buffers. May be called repeatedly; no call of this stream is in progress."""
        self._ready = False
        if self._finalizer is not None:
            self._finalizer.detach()
        for buffer in self._buffers.values():
            buffer.free()
        self._buffers, self._like = {}, {}

    def _allocate(self, state: Arrays) -> None:
        try:
            for name, array in state.items():
                self._buffers[name] = self._engine.gpu.allocate(array.nbytes)
                self._like[name] = np.broadcast_to(np.zeros((), array.dtype), array.shape)
        except BaseException:
            self.close()
            raise
        buffers = [*self._buffers.values()]
        self._finalizer = weakref.finalize(self, self._engine.abandoned.extend, buffers)
        self._finalizer.atexit = False
