"""What only a real GPU can show. With `REQUIRE_GPU=1` a skipped test is a failure."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engines.backends import cuda, tensorrt
from engines.backends.cpu import reference_spec
from engines.backends.tensorrt_engine import TensorRtEngine
from engines.errors import DeviceUnavailable, ModelMismatch, OutOfDeviceMemory, PlanUnfit
from engines.modelfile import read_model_file
from engines.plans.builder import build
from engines.plans.provider import PlanProvider
from engines.registry import COMPILED
from engines.smoke.model import SmokeModel, validation_samples
from engines.smoke.yuv_model import Request, _as_decoded, open_smoke_by_planes
from engines.spec import Profile, Target
from tests.support.onnx_bytes import metadata, one_node

pytestmark = pytest.mark.gpu

PROFILE = Profile({"x": ((1, 1), (1, 4), (1, 64))})
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
    """Opens an engine of one node."""
    path = cache / "tanh.onnx"
    path.write_bytes(one_node("Tanh") + metadata("name", "tanh"))
    model = read_model_file(path)
    target = Target(gpu.capability, "f32", (PROFILE,), driver=gpu.driver_major)
    try:
        plan = build(model, library, target).content
    except DeviceUnavailable as error:
        pytest.skip(str(error))

    def opened(content=plan):
        return TensorRtEngine(
            content, library=library, gpu=gpu, spec=reference_spec(model), precision="f32",
            kernels=cache / "tanh.kernels",
        )  # fmt: skip

    return opened


def row(width, start=0.0):
    return (np.arange(width, dtype=np.float32)[None] + np.float32(start)) / 10


def agree(engine, x):
    np.testing.assert_allclose(engine.infer({"x": x})["y"], np.tanh(x), atol=1e-3)


def test_too_much_memory_is_refused_and_the_device_goes_on(gpu):
    _, total = gpu.memory()
    with pytest.raises(OutOfDeviceMemory):
        gpu.allocate(2 * total)
    gpu.check()
    gpu.allocate(1 << 20).free()


def test_results_are_right_at_every_shape_and_when_shapes_alternate(tanh):
    engine = tanh()
    for turn in range(4):
        for width in (1, 4, 64):
            agree(engine, row(width, turn))
    with pytest.raises(ModelMismatch, match="compiled for"):
        engine.infer({"x": row(65)})
    engine.close()
    again = tanh()  # with the kernels of the first one
    agree(again, row(4))
    again.close()


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
        closing = threading.Thread(target=engine.close)
        closing.start()
        closing.join()
    assert gpu.memory()[0] > free - LEFT_OVER


def test_a_damaged_plan_is_refused_and_a_good_one_still_runs(tanh):
    with pytest.raises(PlanUnfit):
        tanh(b"rubbish" * 100)
    engine = tanh()
    agree(engine, row(4))
    engine.close()


@pytest.mark.parametrize("entry", COMPILED, ids=lambda entry: entry.name)
def test_every_network_that_the_program_runs_on_gpus_is_built_and_validated(
    entry, cache, gpu, library
):
    provider = PlanProvider(entry.model(), entry.plan_settings(), library=library, gpu=gpu)
    try:
        engine = provider.build(lambda progress: None, threading.Event())
    except DeviceUnavailable as error:
        pytest.skip(str(error))
    assert all(engine.is_ready(shapes) for shapes in entry.plan_settings().warm_shapes)
    engine.close()
    again = provider.ready()
    assert again is not None
    again.close()


def test_the_programs_smoke_model_changes_over_to_the_gpu(cache, gpu, library):
    model = open_smoke_by_planes(clients={"planar": 1}, device="cuda", max_queue_delay_s=0)
    sample = validation_samples()[0]
    planes = _as_decoded(sample["image"][0], full_range=False)
    request = Request(planes, planes.full_window, SmokeModel.input_size)
    (on_cpu,) = model.predict([request], level=0.1)
    until = time.monotonic() + 600
    while model.state.building is not None:
        assert time.monotonic() < until
        model.predict([request], level=0.1)
    if model.state.degraded:
        model.close()
        pytest.skip(model.state.reason)
    assert model.state.device == "cuda:0"
    (on_gpu,) = model.predict([request], level=0.1)
    assert np.abs(on_gpu.mask - on_cpu.mask).max() <= 39 / 255
    model.close()
