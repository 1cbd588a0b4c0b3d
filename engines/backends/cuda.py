"""An NVIDIA GPU as the engines use it: memory, pinned memory, streams, events, recorded graphs.

The only place where PyCUDA is imported. Everybody shares the device's primary context, which is
also the one that TensorRT, PyTorch and the video decoder use; it is retained once a process and
given back at its end. PyCUDA frees memory only while the very context object that made it is
current, in whatever thread; hence everything here happens inside `Gpu.current`, and freeing is a
call, never left to the garbage collector. PyCUDA knows no graphs: those few calls go to the driver.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import DeviceLost, DeviceUnavailable, EngineError, OutOfDeviceMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import DTypeLike, NDArray

_LOST = {
    4: "the driver is being shut down",
    46: "the device is in use or unavailable",
    101: "the device is gone",
    214: "its memory has an error that cannot be corrected",
    220: "its link has an error that cannot be corrected",
    226: "it contained a fault of its memory",
    700: "a kernel touched memory that is not there",
    702: "a kernel took too long and was ended",
    709: "its context was destroyed",
    710: "a kernel's assertion failed",
    714: "a kernel overran its stack",
    715: "a kernel had an illegal instruction",
    716: "a kernel touched a misaligned address",
    717: "a kernel touched a wrong kind of memory",
    718: "a kernel jumped out of its program",
    719: "a kernel failed",
    721: "a kernel left tensor memory behind",
    810: "the process that shares the device was ended",
    911: "an external device failed",
    999: "unknown fault",
}
"""Results of the driver, from cuda.h, after which a process can use a device no more."""
_CAPTURE_THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on allocating meanwhile."""
_STREAM_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: beside the legacy stream too, where the decoder copies."""
_NO_MEMORY = 2
"""CUDA_ERROR_OUT_OF_MEMORY."""
_SCHEDULE_BLOCKING_SYNC = 4
"""CU_CTX_SCHED_BLOCKING_SYNC."""
_DRIVER_FILE = Path("/proc/driver/nvidia/version")


class Gpu:
    """One GPU of this machine. Safe for any number of threads. Get it from `gpu`."""

    def __init__(self, index: int, pycuda: Any, driver: Any) -> None:
        device = pycuda.Device(index)
        major, minor = device.compute_capability()
        self.index = index
        self.name: str = device.name()
        self.capability = f"sm{major}{minor}"
        """As in "sm89"."""
        version = pycuda.get_driver_version()
        self.cuda = f"{version // 1000}.{version % 1000 // 10}"
        """The newest CUDA that its driver speaks, as in "13.0"."""
        self.driver = _driver_version() or self.cuda
        """As in "580.65.06"; where the driver does not say, what `cuda` says."""
        self._pycuda = pycuda
        self._driver = driver
        self._lost = ""  # why, once it is; set once, by whoever sees it first
        # The video decoder shares this context only if waiting in it sleeps: FFmpeg refuses it
        # else (libavutil/hwcontext_cuda.c). PyCUDA cannot set that.
        driver.cuDevicePrimaryCtxSetFlags_v2(index, _SCHEDULE_BLOCKING_SYNC)
        self._context = device.retain_primary_context()

    def __str__(self) -> str:
        return f"cuda:{self.index} {self.name}"

    @property
    def driver_major(self) -> int:
        """580 of 580.65.06: what a plan depends on."""
        return int(self.driver.split(".")[0])

    @contextlib.contextmanager
    def current(self, doing: str) -> Iterator[None]:
        """Make this the calling thread's device; what fails within comes out in words.

        Args:
            doing: For the error, as in "copying the inputs".

        Raises:
            OutOfDeviceMemory: There was too little of it.
            DeviceLost: The device cannot be used by this process any more.
            EngineError: Something else failed; the device is there.
        """
        if self._lost:
            raise DeviceLost(f"{self}: {self._lost}")
        try:
            self._context.push()
        except self._pycuda.Error as error:
            raise self._translated(error, doing) from error
        try:
            yield
        except self._pycuda.Error as error:
            raise self._translated(error, doing) from error
        finally:
            # A context that is left on a thread's stack aborts the process when the thread ends.
            self._pycuda.Context.pop()

    def release(self, give_back: Callable[[], object]) -> None:
        """Give something back within `current`; what a lost device held is gone with it."""
        with contextlib.suppress(DeviceLost), self.current("giving things back"):
            give_back()

    def memory(self) -> tuple[int, int]:
        """(free, total) bytes, of all processes together."""
        with self.current("asking for its memory"):
            free, total = self._pycuda.mem_get_info()
        return int(free), int(total)

    def check(self) -> None:
        """Ask the device whether it still works: for errors that only say that something failed.

        Raises:
            DeviceLost: It does not. Such results stay: every later call gives them again.
        """
        if self._lost:
            raise DeviceLost(f"{self}: {self._lost}")
        self._context.push()
        try:
            result = self._driver.cuCtxSynchronize()
        finally:
            self._pycuda.Context.pop()
        self._see(result)

    def allocate(self, size: int) -> DeviceBuffer:
        """Memory on the device.

        Raises:
            OutOfDeviceMemory: There is not that much.
        """
        with self.current(f"allocating {size / 1e6:.1f} MB"):
            return DeviceBuffer(self, self._pycuda.mem_alloc(max(1, size)), size)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> PinnedArray:
        """An array in host memory that the device reads and writes by itself, beside other work."""
        with self.current("pinning host memory"):
            return PinnedArray(self, self._pycuda.pagelocked_empty(shape, dtype))

    def stream(self) -> Stream:
        """A row of work; those of different streams run side by side."""
        with self.current("making a stream"):
            # While one of the other kind is recorded, whoever uses the legacy stream fails, in
            # whatever thread, and so does the recording (CUDA_ERROR_STREAM_CAPTURE_IMPLICIT).
            return Stream(self, self._pycuda.Stream(_STREAM_NON_BLOCKING))

    def event(self, *, timing: bool = False) -> Event:
        """A mark in a stream. Waiting for it sleeps: the processor is for decoding meanwhile."""
        flags = self._pycuda.event_flags
        chosen = flags.BLOCKING_SYNC | (flags.DEFAULT if timing else flags.DISABLE_TIMING)
        with self.current("making an event"):
            return Event(self, self._pycuda.Event(chosen))

    def close(self) -> None:
        """Give the primary context back; at the end of the process, when nobody uses it."""
        with contextlib.suppress(self._pycuda.Error):
            self._context.push()  # PyCUDA releases it in another thread only while it is current
            self._context.detach()

    def call(self, name: str, *arguments: Any) -> None:
        """Call the driver where PyCUDA does not; within `current`.

        Raises:
            OutOfDeviceMemory: There was too little of it.
            DeviceLost: The device cannot be used any more.
            EngineError: The driver refused.
        """
        if result := getattr(self._driver, name)(*arguments):
            self._see(result)
            text = ctypes.c_char_p()
            self._driver.cuGetErrorName(result, ctypes.byref(text))
            said = (text.value or str(result).encode()).decode()
            kind = OutOfDeviceMemory if result == _NO_MEMORY else EngineError
            raise kind(f"{self}: {name} failed: {said}")

    def _see(self, result: int) -> None:
        if result in _LOST:
            self._lost = self._lost or _LOST[result]
            raise DeviceLost(f"{self}: {self._lost}")

    def _translated(self, error: Exception, doing: str) -> EngineError:
        """What PyCUDA raised, in our words. Its text holds no number: the device is asked."""
        if isinstance(error, self._pycuda.MemoryError):
            return OutOfDeviceMemory(f"{self}: out of memory while {doing}")
        try:
            self._see(self._driver.cuCtxSynchronize())
        except DeviceLost as lost:
            return DeviceLost(f"{lost}, seen while {doing}")
        return EngineError(f"{self}: {doing}: {error}")


class DeviceBuffer:
    """Memory on a GPU, until it is freed."""

    def __init__(self, gpu: Gpu, allocation: Any, size: int) -> None:
        self._gpu = gpu
        self._allocation = allocation
        self.size = size
        """In bytes."""
        self.address = int(allocation)
        """On the device."""

    def free(self) -> None:
        """Give it back. Any number of times."""
        allocation, self._allocation = self._allocation, None
        if allocation is not None:
            self._gpu.release(allocation.free)


class PinnedArray:
    """An array in pinned host memory, until it is freed."""

    def __init__(self, gpu: Gpu, array: NDArray[Any]) -> None:
        self._gpu = gpu
        self._array: NDArray[Any] | None = array

    @property
    def array(self) -> NDArray[np.generic]:
        """To be read and written. Nobody keeps it: freed memory is somebody else's."""
        assert self._array is not None, "the memory was freed"
        return self._array

    def free(self) -> None:
        """Give it back. Any number of times."""
        array, self._array = self._array, None
        if array is not None:
            self._gpu.release(array.base.free)  # type: ignore[union-attr]


class Stream:
    """A row of work on a GPU. One thread at a time adds to it, within `Gpu.current`."""

    def __init__(self, gpu: Gpu, stream: Any) -> None:
        self._gpu = gpu
        self._stream = stream
        self.handle: int = stream.handle
        """CUstream, for TensorRT."""

    def upload(self, buffer: DeviceBuffer, array: PinnedArray) -> None:
        """Copy all of a pinned array to the device, after what was added before."""
        self._gpu._pycuda.memcpy_htod_async(buffer.address, array.array, self._stream)  # noqa: SLF001

    def download(self, array: PinnedArray, buffer: DeviceBuffer) -> None:
        """Copy from the device until the pinned array is full."""
        self._gpu._pycuda.memcpy_dtoh_async(array.array, buffer.address, self._stream)  # noqa: SLF001

    def copy(self, into: DeviceBuffer, buffer: DeviceBuffer) -> None:
        """Copy all of a buffer into another on the same device."""
        self._gpu._pycuda.memcpy_dtod_async(into.address, buffer.address, buffer.size, self._stream)  # noqa: SLF001

    def record(self, event: Event) -> None:
        """Mark what was added until now."""
        event._event.record(self._stream)  # noqa: SLF001

    @contextlib.contextmanager
    def capture(self) -> Iterator[Graph]:
        """Record what is added within, instead of running it, to be launched at one stroke.

        Raises:
            EngineError: Something within cannot be recorded; the stream can be used as before.
        """
        graph = Graph(self._gpu)
        self._gpu.call("cuStreamBeginCapture_v2", self._pointer, _CAPTURE_THREAD_LOCAL)
        recorded = ctypes.c_void_p()
        try:
            yield graph
        except BaseException:
            # A stream in capture would swallow all later work. It says again that it failed.
            with contextlib.suppress(EngineError):
                self._gpu.call("cuStreamEndCapture", self._pointer, ctypes.byref(recorded))
                self._gpu.call("cuGraphDestroy", recorded)
            raise
        self._gpu.call("cuStreamEndCapture", self._pointer, ctypes.byref(recorded))
        try:
            self._gpu.call(
                "cuGraphInstantiateWithFlags", ctypes.byref(graph._executable), recorded,  # noqa: SLF001
                ctypes.c_ulonglong(0),
            )  # fmt: skip
        finally:
            self._gpu.call("cuGraphDestroy", recorded)

    def launch(self, graph: Graph) -> None:
        """Add recorded work."""
        self._gpu.call("cuGraphLaunch", graph._executable, self._pointer)  # noqa: SLF001

    def synchronize(self) -> None:
        """Wait for all that was added."""
        self._stream.synchronize()

    def close(self) -> None:
        """Give it back. Any number of times."""
        self._gpu.release(partial(setattr, self, "_stream", None))  # PyCUDA destroys it now

    @property
    def _pointer(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self.handle)


class Event:
    """A mark in a stream."""

    def __init__(self, gpu: Gpu, event: Any) -> None:
        self._gpu = gpu
        self._event = event

    def wait(self) -> None:
        """Sleep until the device has passed it; within `Gpu.current`."""
        self._event.synchronize()

    def seconds_since(self, earlier: Event) -> float:
        """Between two events that were both passed and made for timing."""
        return float(self._event.time_since(earlier._event)) / 1e3

    def close(self) -> None:
        """Give it back. Any number of times."""
        self._gpu.release(partial(setattr, self, "_event", None))


class Graph:
    """Recorded work; see `Stream.capture`."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._executable = ctypes.c_void_p()

    def close(self) -> None:
        """Give it back. Any number of times."""
        executable, self._executable = self._executable, ctypes.c_void_p()
        if executable:
            self._gpu.release(partial(self._gpu.call, "cuGraphExecDestroy", executable))


_gpus: dict[int, Gpu] = {}
_gpus_lock = threading.Lock()


def gpu(index: int = 0) -> Gpu:
    """A GPU by its index, as CUDA counts them; always the same object.

    Raises:
        DeviceUnavailable: There is none of that index, no driver, or no PyCUDA.
    """
    with _gpus_lock:
        if index not in _gpus:
            pycuda, count = _begin()
            if index >= count:
                there = "one GPU" if count == 1 else f"{count} GPUs"
                raise DeviceUnavailable(f"there is no GPU {index}: this machine has {there}")
            try:
                _gpus[index] = Gpu(index, pycuda, _open_driver())
                atexit.register(_gpus[index].close)
            except (pycuda.Error, OSError) as error:
                raise DeviceUnavailable(f"GPU {index} cannot be used: {error}") from error
        return _gpus[index]


def count() -> int:
    """How many GPUs CUDA sees; 0 without a driver or PyCUDA."""
    try:
        return _begin()[1]
    except DeviceUnavailable:
        return 0


def _begin() -> tuple[Any, int]:
    """PyCUDA, ready for use, and the number of GPUs.

    Raises:
        DeviceUnavailable: It is not installed, or there is no driver, or no GPU.
    """
    try:
        import pycuda.driver
    except ModuleNotFoundError as error:
        raise DeviceUnavailable(f"PyCUDA is not installed ({error})") from error
    except ImportError as error:
        raise DeviceUnavailable(f"no NVIDIA driver: PyCUDA cannot be loaded ({error})") from error
    try:
        pycuda.driver.init()
        found = int(pycuda.driver.Device.count())
    except pycuda.driver.Error as error:
        raise DeviceUnavailable(f"no GPU: {error}") from error
    if not found:
        raise DeviceUnavailable("the NVIDIA driver sees no GPU")
    return pycuda.driver, found


def _open_driver() -> Any:
    """The driver's own library, for the calls that PyCUDA does not make."""
    return ctypes.CDLL("libcuda.so.1")


def _driver_version() -> str:
    """The kernel module's version, as in "580.65.06"; empty where it is not told (WSL, Jetson)."""
    try:
        text = _DRIVER_FILE.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    words = text.partition("Kernel Module")[2].split()
    return next((word for word in words if word[0].isdigit() and "." in word), "")
