"""A simulated GPU: PyCUDA's driver module and the driver's own library.

It has the rules that break programs on real GPUs, from PyCUDA 2026.1's source and cuda.h: nothing
works outside a current context; memory is freed only while the context object that
made it is current, else it leaks with a warning; work in a stream is done when somebody waits, not
before; a fault persists and every later call returns it; a thread that ends with a context on its
stack aborts the process.
"""

# ruff: noqa: A001, N802  the names are PyCUDA's and CUDA's

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
}


class Machine:
    """The hardware, with what a test may do to it and count of it."""

    def __init__(self, *, gpus: int = 1, memory: int = 1 << 30, capability=(8, 9)) -> None:
        self.gpus = gpus
        self.memory = memory
        self.capability = capability
        self.sticky = 0
        """What every call fails with once a kernel has faulted."""
        self.waiting: dict[int, int] = {}
        """How threads wait in a GPU's primary context: the flags it was made with, by index."""
        self._flags: dict[int, int] = {}
        self.live: dict[str, int] = dict.fromkeys(("memory", "pinned", "stream"), 0)
        """What is held now; all 0 when nothing leaks."""
        self.blocks: dict[int, bytearray] = {}
        """Device memory by address."""
        self.copied: list[tuple[str, int]] = []
        """Copies between host and device: "up" or "down", and bytes."""
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
        self.machine.copied.append(("up", raw.size))

        def copy() -> None:
            self.machine.at(dest)[: raw.size] = memoryview(raw)

        stream.add(copy)

    def memcpy_dtoh_async(self, dest: np.ndarray, src: int, stream: "_Stream") -> None:
        self.enter("cuMemcpyDtoHAsync")
        assert dest.flags.c_contiguous
        raw = dest.reshape(-1).view(np.uint8)
        self.machine.copied.append(("down", raw.size))

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
        _STREAMS[self.handle] = self

    def add(self, work: Any) -> None:
        self._todo.append(work)

    def run(self) -> None:
        """The device does what was added."""
        todo, self._todo = self._todo, []
        for work in todo:
            if not self._driver.machine.sticky:
                work()

    def synchronize(self) -> None:
        self._driver.enter("cuStreamSynchronize")
        self.run()
        self._driver.enter("cuStreamSynchronize")


_STREAMS: weakref.WeakValueDictionary[int, _Stream] = weakref.WeakValueDictionary()


def stream_at(handle: int) -> _Stream:
    """The stream that a library was given by its handle."""
    return _STREAMS[handle]


class Library:
    """libcuda, as far as it is called without PyCUDA: results are numbers, 0 is success."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def _ready(self) -> int:
        return self._machine.sticky or (0 if self._machine.stack() else 201)

    def cuDevicePrimaryCtxSetFlags_v2(self, device: int, flags: int) -> int:
        self._machine.set_flags(device, flags)
        return 0

    def cuCtxSynchronize(self) -> int:
        return self._ready()
