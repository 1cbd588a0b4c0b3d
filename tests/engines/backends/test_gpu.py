"""What only a real GPU can say; elsewhere skipped, with `REQUIRE_GPU=1` a skip is a failure."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engines.backends import cuda, tensorrt
from engines.backends.tensorrt import TensorRtEngine
from engines.engine import reference_spec
from engines.errors import DeviceUnavailable, ModelMismatch, OutOfDeviceMemory, PlanUnfit
from engines.modelfile import read_model_file
from engines.plans.builder import build
from engines.plans.cache import Profile, Target
from engines.plans.provider import PlanProvider
from engines.registry import REGISTRY
from engines.smoke.model import TOLERANCES, open_smoke_model, validation_samples
from tests.support.onnx_bytes import metadata, one_node

pytestmark = pytest.mark.gpu

SIZES = Profile({"x": ((1, 1), (1, 4), (1, 64))})
LEFT_OVER = 32 << 20
"""Bytes that the driver may keep for itself, whatever is freed. Arbitrary."""


@pytest.fixture
def gpu():
    try:
        return cuda.gpu()
    except DeviceUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def library(gpu):
    try:
        return tensorrt.library()
    except DeviceUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("STREAMER_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def tanh(cache, gpu, library):
    """An engine of one node, and what it is made of."""
    path = cache / "tanh.onnx"
    path.write_bytes(one_node("Tanh") + metadata("name", "tanh"))
    model = read_model_file(path)
    target = Target(gpu.capability, "f32", (SIZES,), driver=gpu.driver_major)
    try:
        plan = build(model, library, target).content
    except DeviceUnavailable as error:
        pytest.skip(str(error))

    def opened(content=plan):
        return TensorRtEngine(
            content, library=library, gpu=gpu, spec=reference_spec(model), precision="f32"
        )

    return opened


def row(width, start=0.0):
    return (np.arange(width, dtype=np.float32)[None] + np.float32(start)) / 10


def agree(engine, x):
    np.testing.assert_allclose(engine.infer({"x": x})["y"], np.tanh(x), atol=1e-3)


def test_bytes_go_up_and_come_down_at_once_and_recorded(gpu):
    there, back = gpu.pinned((1 << 20,), np.uint8), gpu.pinned((1 << 20,), np.uint8)
    buffer, stream, done = gpu.allocate(1 << 20), gpu.stream(), gpu.event()
    with gpu.current("recording"), stream.capture() as graph:
        stream.upload(buffer, there)
        stream.download(back, buffer)
    for value in (3, 7):
        there.array[...] = value
        with gpu.current("launching"):
            stream.launch(graph)
            stream.record(done)
            done.wait()
        assert (back.array == value).all()
    for each in (graph, done, stream):
        each.close()
    for each in (buffer, there, back):
        each.free()


def test_too_much_memory_is_refused_and_the_device_goes_on(gpu):
    _, total = gpu.memory()
    with pytest.raises(OutOfDeviceMemory):
        gpu.allocate(2 * total)
    gpu.check()
    gpu.allocate(1 << 20).free()


def test_results_are_right_at_every_size_first_and_recorded(tanh):
    engine = tanh()
    for turn in range(4):
        for width in (1, 4, 64):
            agree(engine, row(width, turn))
    with pytest.raises(ModelMismatch, match="compiled for"):
        engine.infer({"x": row(65)})
    engine.close()


def test_eight_threads_get_their_own_results(tanh):
    engine = tanh()

    def work(number):
        for turn in range(200):
            agree(engine, row(1 + (number + turn) % 64, number - 4))

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(work, number) for number in range(8)]:
            done.result(120)
    engine.close()


def test_opening_and_closing_fifty_times_leaves_the_memory_free(tanh, gpu):
    engine = tanh()
    agree(engine, row(4))
    engine.close()
    free, _ = gpu.memory()
    for _ in range(50):
        engine = tanh()
        for width in (1, 4, 64):
            agree(engine, row(width))
        closing = threading.Thread(target=engine.close)  # whatever thread it is
        closing.start()
        closing.join()
    assert gpu.memory()[0] > free - LEFT_OVER


def test_a_damaged_plan_is_refused_and_a_good_one_still_runs(tanh):
    with pytest.raises(PlanUnfit):
        tanh(b"rubbish" * 100)
    engine = tanh()
    agree(engine, row(4))
    engine.close()


@pytest.mark.parametrize("entry", REGISTRY, ids=lambda entry: entry.name)
def test_every_network_is_built_and_proven_here(entry, cache, gpu, library):
    preparer = PlanProvider(entry.model(), entry, library=library, gpu=gpu)
    try:
        engine = preparer.build(lambda share: None, threading.Event())
    except DeviceUnavailable as error:
        pytest.skip(str(error))
    engine.close()
    again = preparer.ready()
    assert again is not None
    again.close()


def test_smoke_goes_over_from_the_cpu_to_the_gpu_in_mid_run(cache, gpu, library):
    model = open_smoke_model(device="cuda")
    sample = validation_samples()[0]
    image, until = sample["image"][0], time.monotonic() + 600
    first = model.predict(image).mask
    while model.state.building is not None:
        assert time.monotonic() < until
        model.predict(image)
    if model.state.degraded:
        model.close()
        pytest.skip(model.state.reason)
    assert model.state.device == "cuda:0"
    apart = np.abs(model.predict(image).mask - first).max()
    assert apart <= TOLERANCES["f16"].largest
    model.close()
