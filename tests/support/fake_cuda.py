"""A small GPU that exists only here: PyCUDA's driver module and the driver's own library.

It keeps the rules that break programs on real ones, read from PyCUDA 2026.1's source and from
cuda.h: nothing works outside a current context; memory is freed only while the context object that
made it is current, else it leaks with a warning; work in a stream is done when somebody waits, not
before; work in a stream that is captured is not done at all; a fault stays and every later call
tells it again; a thread that ends with a context on its stack takes the process with it.
"""

# ruff: noqa: A001, N801, N802  the names are PyCUDA's and CUDA's

import ctypes
import itertools
import threading
import weakref
from typing import Any

import numpy as np

ILLEGAL_ADDRESS = 700
_TEXTS = {
    2: "out of memory",
    100: "no CUDA-capable device is detected",
    101: "invalid device ordinal",
    201: "invalid device context",
    400: "invalid resource handle",
    700: "an illegal memory access was encountered",
    901: "operation failed due to a previous error during capture",
}
_NAMES = {
    2: b"CUDA_ERROR_OUT_OF_MEMORY",
    400: b"CUDA_ERROR_INVALID_HANDLE",
    901: b"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
}


class Machine:
    """The hardware, with what a test may do to it and count of it."""

    def __init__(self, *, gpus: int = 1, memory: int = 1 << 30, capability=(8, 9)) -> None:
        self.gpus = gpus
        self.memory = memory
        self.capability = capability
        self.sticky = 0
        """What every call fails with once a kernel has faulted."""
        self.capture_refused = False
        self.full_at_launch = False
        """Whether there is no memory left for a recorded graph to run in."""
        self.waiting: dict[int, int] = {}
        """How threads wait in a GPU's primary context: the flags it was made with, by index."""
        self._flags: dict[int, int] = {}
        self.live: dict[str, int] = dict.fromkeys(
            ("memory", "pinned", "stream", "event", "graph"), 0
        )
        """What is held now; all 0 when nothing leaks."""
        self.blocks: dict[int, bytearray] = {}
        """Device memory by address."""
        self.launches = 0
        """Of recorded graphs."""
        self._addresses = itertools.count(1)
        self.stacks = threading.local()

    def set_flags(self, index: int, flags: int) -> None:
        """Of a primary context; they hold from when it is next made."""
        self._flags[index] = flags

    def retained(self, index: int) -> None:
        self.waiting.setdefault(index, self._flags.get(index, 0))

    def lose(self) -> None:
        """A kernel faults: the context is dead from now on."""
        self.sticky = ILLEGAL_ADDRESS

    def used(self) -> int:
        return sum(map(len, self.blocks.values()))

    def address(self) -> int:
        return next(self._addresses) << 32

    def stack(self) -> list[Any]:
        if not hasattr(self.stacks, "contexts"):
            self.stacks.contexts = []
        return self.stacks.contexts

    def at(self, address: int) -> memoryview:
        """Memory from an address on, as a kernel sees it; 0 bytes past a block is a fault."""
        block = self.blocks[address >> 32 << 32]
        return memoryview(block)[address & 0xFFFFFFFF :]

    def install(self, monkeypatch: Any) -> "Machine":
        """Make `engines.backends.cuda` see this GPU and none that was opened before."""
        import sys
        import types

        from engines.backends import cuda

        package = types.ModuleType("pycuda")
        package.driver = driver = Driver(self)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "pycuda", package)
        monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
        monkeypatch.setattr(cuda, "_gpus", {})
        monkeypatch.setattr(cuda, "_open_driver", lambda: Library(self))
        monkeypatch.setattr(cuda.atexit, "register", lambda *_: None)
        return self


class Driver:
    """`pycuda.driver`, as far as the engines use it."""

    class Error(Exception):
        pass

    class MemoryError(Error):
        pass

    class LogicError(Error):
        pass

    class LaunchError(Error):
        pass

    class RuntimeError(Error):
        pass

    class event_flags:
        DEFAULT = 0
        BLOCKING_SYNC = 1
        DISABLE_TIMING = 2

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        own = self

        class Device(_Device):
            _driver = own

            @staticmethod
            def count() -> int:
                return machine.gpus

        class Context(_Context):
            _driver = own

            @staticmethod
            def pop() -> None:
                if not machine.stack():
                    own.fail("context::pop", 201)
                machine.stack().pop()

        self.Device = Device
        self.Context = Context
        self.Stream = lambda flags=0: _Stream(own, flags)
        self.Event = lambda flags: _Event(own, flags)

    def fail(self, call: str, code: int) -> None:
        """Raise what PyCUDA raises: a class by kind, a text without a number."""
        kind = {2: self.MemoryError, 719: self.LaunchError, 100: self.RuntimeError}.get(
            code, self.LogicError
        )
        raise kind(f"{call} failed: {_TEXTS[code]}")

    def enter(self, call: str) -> Any:
        """Begin a call: needs a current context, and a device that is there."""
        if self.machine.sticky:
            self.fail(call, self.machine.sticky)
        if not self.machine.stack():
            self.fail(call, 201)
        return self.machine.stack()[-1]

    def init(self) -> None:
        if not self.machine.gpus:
            self.fail("cuInit", 100)

    def get_driver_version(self) -> int:
        return 13000

    def mem_get_info(self) -> tuple[int, int]:
        self.enter("cuMemGetInfo")
        return self.machine.memory - self.machine.used(), self.machine.memory

    def mem_alloc(self, size: int) -> "_Allocation":
        context = self.enter("cuMemAlloc")
        if self.machine.used() + size > self.machine.memory:
            self.fail("cuMemAlloc", 2)
        return _Allocation(self, context, size)

    def pagelocked_empty(self, shape: Any, dtype: Any) -> np.ndarray:
        context = self.enter("cuMemHostAlloc")
        return np.asarray(_Pinned(self, context, shape, np.dtype(dtype)))

    def memcpy_htod_async(self, dest: int, src: np.ndarray, stream: "_Stream") -> None:
        self.enter("cuMemcpyHtoDAsync")
        assert src.flags.c_contiguous
        raw = src.reshape(-1).view(np.uint8)

        def copy() -> None:
            self.machine.at(dest)[: raw.size] = memoryview(raw)

        stream.add(copy)

    def memcpy_dtoh_async(self, dest: np.ndarray, src: int, stream: "_Stream") -> None:
        self.enter("cuMemcpyDtoHAsync")
        assert dest.flags.c_contiguous
        raw = dest.reshape(-1).view(np.uint8)

        def copy() -> None:
            raw[:] = np.frombuffer(self.machine.at(src)[: raw.size], np.uint8)

        stream.add(copy)

    def memcpy_dtod_async(self, dest: int, src: int, size: int, stream: "_Stream") -> None:
        self.enter("cuMemcpyDtoDAsync")

        def copy() -> None:
            self.machine.at(dest)[:size] = self.machine.at(src)[:size]

        stream.add(copy)


class _Device:
    _driver: Driver

    def __init__(self, index: int) -> None:
        if index >= self._driver.machine.gpus:
            self._driver.fail("cuDeviceGet", 101)
        self._index = index

    def name(self) -> str:
        return "Fake GPU"

    def compute_capability(self) -> tuple[int, int]:
        return self._driver.machine.capability

    def retain_primary_context(self) -> "_Context":
        self._driver.machine.retained(self._index)
        return self._driver.Context()


class _Context:
    _driver: Driver

    def push(self) -> None:
        self._driver.machine.stack().append(self)

    def detach(self) -> None:
        self._driver.machine.stack().remove(self)


class _Owned:
    """Something that PyCUDA frees only where its own context is current."""

    kind = ""

    def __init__(self, driver: Driver, context: Any) -> None:
        self._driver, self._context = driver, context
        driver.machine.live[self.kind] += 1

    def _may_free(self) -> bool:
        stack = self._driver.machine.stack()
        return bool(stack) and stack[-1] is self._context and not self._driver.machine.sticky

    def free(self) -> None:
        if self._context is None:
            self._driver.fail("free", 400)
        if self._may_free():
            self._driver.machine.live[self.kind] -= 1
        self._context = None

    def __del__(self) -> None:
        if self._context is not None:
            self.free()


class _Allocation(_Owned):
    kind = "memory"

    def __init__(self, driver: Driver, context: Any, size: int) -> None:
        super().__init__(driver, context)
        self._at = driver.machine.address()
        # Fresh device memory holds anything: zeros would hide what was never written.
        driver.machine.blocks[self._at] = bytearray(b"\xa5" * size)

    def __int__(self) -> int:
        return self._at

    def free(self) -> None:
        may = self._context is not None and self._may_free()
        super().free()
        if may:
            del self._driver.machine.blocks[self._at]


class _Pinned(_Owned):
    kind = "pinned"

    def __init__(self, driver: Driver, context: Any, shape: Any, dtype: Any) -> None:
        super().__init__(driver, context)
        size = max(1, int(np.prod(shape)) * dtype.itemsize)
        self._memory = np.full(size, 0x5A, np.uint8)
        # As with PyCUDA the array's base is the allocation, by which it can be freed.
        self.__array_interface__ = {
            "version": 3,
            "shape": tuple(shape),
            "typestr": dtype.str,
            "data": (self._memory.ctypes.data, False),
        }


class _Stream(_Owned):
    kind = "stream"

    def __init__(self, driver: Driver, flags: int) -> None:
        super().__init__(driver, driver.enter("cuStreamCreate"))
        self.flags = flags
        self.handle = driver.machine.address()
        self._todo: list[Any] = []
        self.recording: list[Any] | None = None
        _STREAMS[self.handle] = self

    def add(self, work: Any) -> None:
        (self._todo if self.recording is None else self.recording).append(work)

    def run(self) -> None:
        """The device does what was added."""
        todo, self._todo = self._todo, []
        for work in todo:
            if not self._driver.machine.sticky:
                work()

    def synchronize(self) -> None:
        self._driver.enter("cuStreamSynchronize")
        if self.recording is not None:
            self._driver.fail("cuStreamSynchronize", 901)
        self.run()
        self._driver.enter("cuStreamSynchronize")


_STREAMS: weakref.WeakValueDictionary[int, _Stream] = weakref.WeakValueDictionary()


def stream_at(handle: int) -> _Stream:
    """The stream that a library was given by its handle."""
    return _STREAMS[handle]


class _Event(_Owned):
    kind = "event"

    def __init__(self, driver: Driver, flags: int) -> None:
        super().__init__(driver, driver.enter("cuEventCreate"))
        self._stream: _Stream | None = None

    def record(self, stream: _Stream) -> "_Event":
        self._driver.enter("cuEventRecord")
        self._stream = stream
        return self

    def synchronize(self) -> "_Event":
        self._driver.enter("cuEventSynchronize")
        if self._stream is not None:
            self._stream.run()
        self._driver.enter("cuEventSynchronize")
        return self

    def time_since(self, earlier: "_Event") -> float:
        return 2.5


class Library:
    """libcuda, as far as it is called without PyCUDA: results are numbers, 0 is success."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._graphs: dict[int, list[Any]] = {}

    def _ready(self) -> int:
        return self._machine.sticky or (0 if self._machine.stack() else 201)

    def cuDevicePrimaryCtxSetFlags_v2(self, device: int, flags: int) -> int:
        self._machine.set_flags(device, flags)
        return 0

    def cuCtxSynchronize(self) -> int:
        return self._ready()

    def cuGetErrorName(self, code: int, text: Any) -> int:
        text._obj.value = _NAMES.get(code, b"CUDA_ERROR_UNKNOWN")
        return 0

    def cuStreamBeginCapture_v2(self, stream: ctypes.c_void_p, mode: int) -> int:
        if not self._ready():
            assert mode == 1, "other threads could not allocate meanwhile"
            taken = stream_at(stream.value)
            assert taken.flags == 1, "others could not use the legacy stream meanwhile"
            taken.recording = []
        return self._ready()

    def cuStreamEndCapture(self, stream: ctypes.c_void_p, graph: Any) -> int:
        taken = stream_at(stream.value)
        recorded, taken.recording = taken.recording, None
        if self._ready():
            return self._ready()
        if self._machine.capture_refused:
            graph._obj.value = None
            return 901
        graph._obj.value = self._machine.address()
        self._graphs[graph._obj.value] = recorded
        self._machine.live["graph"] += 1
        return 0

    def cuGraphInstantiateWithFlags(self, executable: Any, graph: Any, flags: Any) -> int:
        assert flags.value == 0
        executable._obj.value = self._machine.address()
        self._graphs[executable._obj.value] = self._graphs[graph.value]
        self._machine.live["graph"] += 1
        return self._ready()

    def cuGraphLaunch(self, executable: ctypes.c_void_p, stream: ctypes.c_void_p) -> int:
        if self._ready():
            return self._ready()
        if executable.value not in self._graphs:
            return 400
        if self._machine.full_at_launch:
            return 2
        self._machine.launches += 1
        for work in self._graphs[executable.value]:
            stream_at(stream.value).add(work)
        return 0

    def cuGraphExecDestroy(self, executable: ctypes.c_void_p) -> int:
        return self._destroy(executable)

    def cuGraphDestroy(self, graph: ctypes.c_void_p) -> int:
        return self._destroy(graph)

    def _destroy(self, graph: ctypes.c_void_p) -> int:
        if self._ready():
            return self._ready()
        if self._graphs.pop(graph.value or 0, None) is None:
            return 400
        self._machine.live["graph"] -= 1
        return 0
