"""Runs a loaded TensorRT plan in one stream of a GPU.

All shapes share the activation memory and the input and output buffers, which are allocated at the
largest shapes of the plan when it is loaded: running allocates nothing on the device, and addresses
never change. Each prepared shape has an execution context of its own, so that nothing is planned or
compiled again when shapes alternate. Rows that pad a batch hold whatever was uploaded before: rows
do not influence each other.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.errors import ModelMismatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from engines.backends.cuda import DeviceBuffer, PinnedArray
    from engines.backends.tensorrt import LoadedPlan
    from engines.spec import Shape, TensorSpec

    Shapes = Mapping[str, Shape]
    State = Mapping[str, DeviceBuffer]

MAX_SHAPES = 64
"""Prepared shapes; the oldest is dropped for a new one. Arbitrary: cameras have a few sizes."""


class ExecutionStream:
    """A stream with contexts and buffers. One thread at a time, within `Gpu.current`."""

    def __init__(self, plan: LoadedPlan) -> None:
        self._plan = plan
        self._tensors = {t.name: t for t in (*plan.spec.inputs, *plan.spec.outputs)}
        self._contexts: dict[tuple[Shape, ...], Any] = {}
        self._host: dict[str, PinnedArray] = {}
        self._device: dict[str, DeviceBuffer] = {}
        with contextlib.ExitStack() as undo:
            self._activations = plan.gpu.allocate(plan.engine.device_memory_size_v2)
            undo.callback(self._activations.free)
            self._stream = plan.gpu.stream()
            undo.callback(self._stream.close)
            for name, size in self._largest().items():
                self._device[name] = plan.gpu.allocate(size)
                undo.callback(self._device[name].free)
            self._undo = undo.pop_all()

    def is_prepared(self, shapes: Shapes) -> bool:
        """Return whether `run` needs no new context for inputs of these shapes."""
        return self._key(shapes) in self._contexts

    def prepare(self, profile: int, shapes: Shapes) -> None:
        """Create the context for these shapes and run it, so that all its kernels are compiled.

        Args:
            profile: The one that accepts the shapes.
            shapes: Of all inputs.

        Raises:
            EngineError: The library refuses them.
        """
        while len(self._contexts) >= MAX_SHAPES:
            del self._contexts[next(iter(self._contexts))]
        context = self._context(profile, shapes)
        for name, buffer in self._device.items():
            self._require(context.set_tensor_address(name, buffer.address), f"memory for {name}")
            self._view(name, tuple(context.get_tensor_shape(name)))
        for _ in range(2):  # what a context defers until its second run is done now
            self._require(context.execute_async_v3(self._stream.handle), "running it")
            self._stream.synchronize()
        self._contexts[self._key(shapes)] = context

    def run(
        self,
        shapes: Shapes,
        inputs: Mapping[str, NDArray[Any]],
        *,
        rows: int | None,
        state: State,
        links: Mapping[str, str],
    ) -> dict[str, NDArray[Any]]:
        """Upload, compute, download; the returned arrays belong to the caller.

        Args:
            shapes: Of all inputs, prepared; their batch may have more rows than the inputs.
            inputs: All inputs that are not in `state`.
            rows: Rows of the batch that are used; None for networks without a batch.
            state: Buffers of inputs that stay on the device; outputs are written to them.
            links: Output to the input of `state` that it becomes.
        """
        context = self._contexts[self._key(shapes)]
        for name, array in inputs.items():
            host = self._view(name, array.shape)
            np.copyto(host, array)
            self._stream.upload(self._device[name], host)
        for name, buffer in state.items():
            self._stream.copy(self._device[name], buffer, buffer.size)
        self._require(context.execute_async_v3(self._stream.handle), "running it")
        found = {}
        for tensor in self._plan.spec.outputs:
            shape = tuple(context.get_tensor_shape(tensor.name))
            target = links.get(tensor.name)
            if target is not None and target in state:
                self._store(tensor, shape, state[target])
                continue
            shape = shape if rows is None else (rows, *shape[1:])
            found[tensor.name] = self._view(tensor.name, shape)
            self._stream.download(found[tensor.name], self._device[tensor.name])
        self._stream.synchronize()
        return {name: array.copy() for name, array in found.items()}

    def execute(self, shapes: Shapes, times: int) -> None:
        """Compute so many times on whatever the buffers hold, and wait; for benchmarks."""
        context = self._contexts[self._key(shapes)]
        for _ in range(times):
            self._require(context.execute_async_v3(self._stream.handle), "running it")
        self._stream.synchronize()

    def upload_state(self, arrays: Mapping[str, NDArray[Any]], state: State) -> None:
        """Write arrays to the buffers of a state."""
        for name, array in arrays.items():
            host = self._view(name, array.shape)
            np.copyto(host, array)
            self._stream.upload(state[name], host)
        self._stream.synchronize()

    def close(self) -> None:
        """Free everything; no call is in progress."""
        self._plan.gpu.release(self._contexts.clear)
        for pinned in self._host.values():
            pinned.free()
        self._undo.close()

    def _store(self, tensor: TensorSpec, shape: Shape, buffer: DeviceBuffer) -> None:
        if math.prod(shape) * tensor.dtype.itemsize != buffer.size:
            raise ModelMismatch(
                f"{self._plan.spec.name}: the output {tensor.name} {shape} has another size "
                f"than the state that it becomes, {buffer.size} bytes"
            )
        self._stream.copy(buffer, self._device[tensor.name], buffer.size)

    def _largest(self) -> dict[str, int]:
        """Return the bytes of each tensor at the largest shapes of the profiles."""
        sizes = dict.fromkeys(self._tensors, 0)
        for number, profile in enumerate(self._plan.profiles):
            largest = {name: shapes[-1] for name, shapes in profile.shapes.items()}
            context = self._context(number, largest)
            for name, tensor in self._tensors.items():
                elements = math.prod(context.get_tensor_shape(name))
                sizes[name] = max(sizes[name], elements * tensor.dtype.itemsize)
        return sizes

    def _context(self, profile: int, shapes: Shapes) -> Any:
        """Return a context for inputs of these shapes, with the shared activation memory."""
        context = self._plan.context()
        if self._activations.size:
            context.set_device_memory(self._activations.address, self._activations.size)
        selected = context.set_optimization_profile_async(profile, self._stream.handle)
        self._require(selected, "its profile")
        for name, shape in shapes.items():
            self._require(context.set_input_shape(name, shape), f"{name} {shape}")
        if missing := context.infer_shapes():
            raise self._plan.refusal(f"the shapes of {', '.join(missing)} depend on data")
        return context

    def _view(self, name: str, shape: Shape) -> NDArray[Any]:
        """Return the pinned memory of a tensor as an array; it grows with the prepared shapes."""
        dtype = self._tensors[name].dtype
        size = math.prod(shape) * dtype.itemsize
        if name not in self._host or self._host[name].array.nbytes < size:
            if name in self._host:
                self._host.pop(name).free()
            self._host[name] = self._plan.gpu.pinned((size,), np.uint8)
        return self._host[name].array[:size].view(dtype).reshape(shape)

    def _key(self, shapes: Shapes) -> tuple[Shape, ...]:
        return tuple(shapes[tensor.name] for tensor in self._plan.spec.inputs)

    def _require(self, answer: bool, what: str) -> None:  # noqa: FBT001  as TensorRT answers
        if not answer:
            raise self._plan.refusal(f"{self._plan.spec.name} refuses {what}")
