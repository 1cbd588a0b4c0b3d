"""An NVIDIA GPU: its memory, pinned host memory and streams. The only import of PyCUDA.

All users share the device's primary context, which is also the one that TensorRT, PyTorch and the
video decoder use; it is retained once per process and released at its end. PyCUDA frees memory only
while the very context object that allocated it is current in that thread; therefore everything here
happens within `Gpu.current`, and freeing is an explicit call, never left to the garbage collector.
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
    214: "its memory has an uncorrectable error",
    220: "its NVLink has an uncorrectable error",
    226: "it contained a memory fault",
    700: "a kernel accessed an illegal address",
    702: "a kernel timed out",
    709: "its context was destroyed",
    710: "a kernel's assertion failed",
    714: "a kernel overran its stack",
    715: "a kernel had an illegal instruction",
    716: "a kernel accessed a misaligned address",
    717: "a kernel accessed an invalid address space",
    718: "a kernel's program counter was invalid",
    719: "a kernel failed",
    721: "a kernel left tensor memory allocated",
    810: "the process that shares the device was ended",
    911: "an external device failed",
    999: "unknown fault",
}
"""Results of the driver (cuda.h) after which a process cannot use the device again."""
_STREAM_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: not synchronised with the legacy stream, in which the decoder copies."""
_SCHEDULE_BLOCKING_SYNC = 4
"""CU_CTX_SCHED_BLOCKING_SYNC: waiting for the device sleeps instead of spinning."""
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
        """The newest CUDA version that the driver supports, as in "13.0"."""
        self.driver = _driver_version() or self.cuda
        """As in "580.65.06"; `cuda` if the driver does not publish its version."""
        self._pycuda = pycuda
        self._driver = driver
        self._lost = ""  # why the device is lost; set once, by the thread that sees it first
        # FFmpeg shares this context only if it is created with this flag
        # (libavutil/hwcontext_cuda.c). PyCUDA cannot set it.
        driver.cuDevicePrimaryCtxSetFlags_v2(index, _SCHEDULE_BLOCKING_SYNC)
        self._context = device.retain_primary_context()

    def __str__(self) -> str:
        return f"cuda:{self.index} {self.name}"

    @property
    def driver_major(self) -> int:
        """Major version (580 of 580.65.06), on which plans depend."""
        return int(self.driver.split(".")[0])

    @contextlib.contextmanager
    def current(self, action: str) -> Iterator[None]:
        """Make this the calling thread's device and translate PyCUDA's errors.

        Args:
            action: For the error message, as in "copying the inputs".

        Raises:
            OutOfDeviceMemory: The device has too little free memory.
            DeviceLost: The process cannot use the device again.
            EngineError: Another call failed; the device works.
        """
        if self._lost:
            raise DeviceLost(f"{self}: {self._lost}")
        try:
            self._context.push()
        except self._pycuda.Error as error:
            raise self._translated(error, action) from error
        try:
            yield
        except self._pycuda.Error as error:
            raise self._translated(error, action) from error
        finally:
            # A context that is left on a thread's stack aborts the process when the thread ends.
            self._pycuda.Context.pop()

    def release(self, free: Callable[[], object]) -> None:
        """Free something within `current`; ignored on a lost device, whose memory is gone."""
        with contextlib.suppress(DeviceLost), self.current("freeing memory"):
            free()

    def memory(self) -> tuple[int, int]:
        """Return (free, total) bytes, over all processes."""
        with self.current("querying its memory"):
            free, total = self._pycuda.mem_get_info()
        return int(free), int(total)

    def check(self) -> None:
        """Check that the device works, after an error that does not say why something failed.

        Raises:
            DeviceLost: It does not. Such results persist: every later call returns them again.
        """
        if self._lost:
            raise DeviceLost(f"{self}: {self._lost}")
        self._context.push()
        try:
            result = self._driver.cuCtxSynchronize()
        finally:
            self._pycuda.Context.pop()
        self._raise_if_lost(result)

    def allocate(self, size: int) -> DeviceBuffer:
        """Allocate bytes on the device.

        Raises:
            OutOfDeviceMemory: There is not that much.
        """
        with self.current(f"allocating {size / 1e6:.1f} MB"):
            return DeviceBuffer(self, self._pycuda.mem_alloc(max(1, size)), size)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> PinnedArray:
        """Allocate page-locked host memory, which the device copies without the CPU."""
        with self.current("pinning host memory"):
            return PinnedArray(self, self._pycuda.pagelocked_empty(shape, dtype))

    def stream(self) -> Stream:
        """Create a stream: a queue of work that runs beside that of other streams."""
        with self.current("creating a stream"):
            return Stream(self, self._pycuda.Stream(_STREAM_NON_BLOCKING))

    def close(self) -> None:
        """Release the primary context; at the end of the process, when nothing uses it."""
        with contextlib.suppress(self._pycuda.Error):
            self._context.push()  # PyCUDA releases it in another thread only while it is current
            self._context.detach()

    def _raise_if_lost(self, result: int) -> None:
        if result in _LOST:
            self._lost = self._lost or _LOST[result]
            raise DeviceLost(f"{self}: {self._lost}")

    def _translated(self, error: Exception, action: str) -> EngineError:
        """Translate an error of PyCUDA. Its text holds no result code: the device is queried."""
        if isinstance(error, self._pycuda.MemoryError):
            return OutOfDeviceMemory(f"{self}: out of memory while {action}")
        try:
            self._raise_if_lost(self._driver.cuCtxSynchronize())
        except DeviceLost as lost:
            return DeviceLost(f"{lost}, seen while {action}")
        return EngineError(f"{self}: {action}: {error}")


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
        """Free it. May be called repeatedly."""
        allocation, self._allocation = self._allocation, None
        if allocation is not None:
            self._gpu.release(allocation.free)


class PinnedArray:
    """An array in page-locked host memory, until it is freed."""

    def __init__(self, gpu: Gpu, array: NDArray[Any]) -> None:
        self._gpu = gpu
        self._array: NDArray[Any] | None = array

    @property
    def array(self) -> NDArray[np.generic]:
        """Return the array. Do not keep it: the memory is reused once it is freed."""
        assert self._array is not None, "the memory was freed"
        return self._array

    def free(self) -> None:
        """Free it. May be called repeatedly."""
        array, self._array = self._array, None
        if array is not None:
            self._gpu.release(array.base.free)  # type: ignore[union-attr]


class Stream:
    """A queue of work on a GPU. One thread at a time adds to it, within `Gpu.current`."""

    def __init__(self, gpu: Gpu, stream: Any) -> None:
        self._gpu = gpu
        self._stream = stream
        self.handle: int = stream.handle
        """CUstream, for TensorRT."""

    def upload(self, buffer: DeviceBuffer, array: NDArray[Any]) -> None:
        """Copy a contiguous array in pinned memory to the beginning of a buffer."""
        self._gpu._pycuda.memcpy_htod_async(buffer.address, array, self._stream)  # noqa: SLF001

    def download(self, array: NDArray[Any], buffer: DeviceBuffer) -> None:
        """Copy the beginning of a buffer to a contiguous array in pinned memory."""
        self._gpu._pycuda.memcpy_dtoh_async(array, buffer.address, self._stream)  # noqa: SLF001

    def copy(self, target: DeviceBuffer, source: DeviceBuffer, size: int) -> None:
        """Copy bytes from one buffer to another on the same device."""
        self._gpu._pycuda.memcpy_dtod_async(  # noqa: SLF001
            target.address, source.address, size, self._stream
        )

    def synchronize(self) -> None:
        """Wait until all work that was added is done."""
        self._stream.synchronize()

    def close(self) -> None:
        """Destroy it. May be called repeatedly."""
        self._gpu.release(partial(setattr, self, "_stream", None))  # PyCUDA destroys it now


_gpus: dict[int, Gpu] = {}
_gpus_lock = threading.Lock()


def gpu(index: int = 0) -> Gpu:
    """Return the GPU of an index, as CUDA counts them; always the same object.

    Raises:
        DeviceUnavailable: There is no GPU of that index, no driver, or no PyCUDA.
    """
    with _gpus_lock:
        if index not in _gpus:
            pycuda, count = _initialize()
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
    """Return the number of GPUs that CUDA sees; 0 without a driver or PyCUDA."""
    try:
        return _initialize()[1]
    except DeviceUnavailable:
        return 0


def _initialize() -> tuple[Any, int]:
    """Return PyCUDA's driver module and the number of GPUs.

    Raises:
        DeviceUnavailable: PyCUDA is not installed, or there is no driver, or no GPU.
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
    """Return the driver's own library, for the two calls that PyCUDA lacks."""
    return ctypes.CDLL("libcuda.so.1")


def _driver_version() -> str:
    """Return the kernel module's version, such as "580.65.06"; empty if unknown (WSL, Jetson)."""
    try:
        text = _DRIVER_FILE.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    words = text.partition("Kernel Module")[2].split()
    return next((word for word in words if word[0].isdigit() and "." in word), "")
