"""A GPU's memory and streams, on a simulated GPU with the driver's rules."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engines.backends import cuda
from engines.errors import DeviceLost, DeviceUnavailable, EngineError, OutOfDeviceMemory
from tests.support.fake_cuda import Machine


@pytest.fixture
def machine(monkeypatch):
    return Machine(gpus=2, memory=1 << 20).install(monkeypatch)


def test_a_gpu_is_described_as_plans_need_it(machine, monkeypatch, tmp_path):
    file = tmp_path / "version"
    file.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release\n")
    monkeypatch.setattr(cuda, "_DRIVER_FILE", file)
    gpu = cuda.gpu(1)
    assert str(gpu) == "cuda:1 Fake GPU"
    assert (gpu.capability, gpu.cuda, gpu.driver, gpu.driver_major) == (
        "sm89", "13.0", "580.65.06", 580,
    )  # fmt: skip
    assert gpu.memory() == (1 << 20, 1 << 20)


def test_a_driver_that_does_not_say_its_version_is_known_by_its_cuda(
    machine, monkeypatch, tmp_path
):
    monkeypatch.setattr(cuda, "_DRIVER_FILE", tmp_path / "none")
    assert cuda.gpu().driver_major == 13


def test_waiting_in_the_context_sleeps_or_the_video_decoder_could_not_share_it(machine):
    cuda.gpu(1)
    assert machine.waiting == {1: 4}  # CU_CTX_SCHED_BLOCKING_SYNC


def test_everybody_gets_the_same_gpu(machine):
    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(lambda _: cuda.gpu(0), range(32)))) == 1


def test_a_gpu_that_is_not_there_is_named(machine):
    with pytest.raises(DeviceUnavailable, match=r"no GPU 2: this machine has 2 GPUs"):
        cuda.gpu(2)
    assert cuda.count() == 2


def test_without_a_gpu_or_without_pycuda_the_reason_is_given(monkeypatch):
    Machine(gpus=0).install(monkeypatch)
    with pytest.raises(DeviceUnavailable, match="no CUDA-capable device"):
        cuda.gpu()
    assert cuda.count() == 0
    for name in ("pycuda", "pycuda.driver"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DeviceUnavailable, match="PyCUDA"):
        cuda.gpu()


def test_what_goes_up_comes_down_once_somebody_waits(machine):
    gpu = cuda.gpu()
    there, back = gpu.pinned((3, 5), np.float32), gpu.pinned((3, 5), np.float32)
    buffer, stream = gpu.allocate(60), gpu.stream()
    there.array[...] = 7
    back.array[...] = 0
    with gpu.current("copying"):
        stream.upload(buffer, there.array)
        stream.download(back.array, buffer)
        assert not back.array.any()
        stream.synchronize()
    np.testing.assert_array_equal(back.array, np.full((3, 5), 7))


def test_everything_is_freed_once_from_any_thread(machine):
    gpu = cuda.gpu()
    held = [gpu.allocate(1000), gpu.pinned((10,), np.uint8), gpu.stream()]
    assert all(machine.live.values())

    def free():
        for _ in range(2):
            for each in held:
                (each.free if hasattr(each, "free") else each.close)()

    thread = threading.Thread(target=free)
    thread.start()
    thread.join()
    assert not any(machine.live.values()), machine.live


def test_no_context_stays_on_a_threads_stack_whatever_happens(machine):
    gpu = cuda.gpu()
    with pytest.raises(ZeroDivisionError), gpu.current("failing"):
        1 / 0  # noqa: B018
    with pytest.raises(OutOfDeviceMemory):
        gpu.allocate(1 << 30)
    assert machine.stack() == []


def test_too_little_memory_says_what_it_was_for(machine):
    gpu = cuda.gpu()
    with pytest.raises(OutOfDeviceMemory, match=r"cuda:0 Fake GPU: .*allocating 5\.0 MB"):
        gpu.allocate(5_000_000)
    gpu.allocate(1000).free()  # what fits still fits
    gpu.check()


def test_a_refusal_is_not_taken_for_a_lost_device(machine):
    gpu = cuda.gpu()
    with pytest.raises(EngineError, match="misusing it") as caught, gpu.current("misusing it"):
        gpu._pycuda.fail("cuMemcpyHtoDAsync", 400)
    assert type(caught.value) is EngineError


def test_a_lost_device_stays_lost_and_giving_back_is_no_error(machine):
    gpu = cuda.gpu()
    buffer, stream = gpu.allocate(10), gpu.stream()
    machine.lose()
    with pytest.raises(DeviceLost, match=r"illegal address, seen while allocating"):
        gpu.allocate(10)
    for use in (gpu.memory, gpu.check, gpu.stream):
        with pytest.raises(DeviceLost, match="illegal address"):
            use()
    buffer.free()
    stream.close()
