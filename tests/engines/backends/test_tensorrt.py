"""Plans on a GPU: right results, plain errors, no leaks. The libraries are fakes;
`test_fakes.py` compares them with the real interface."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engines.backends import cuda, execution, tensorrt
from engines.backends.cpu import reference_spec
from engines.backends.tensorrt import ErrorLog, Library
from engines.backends.tensorrt_engine import TensorRtEngine
from engines.engine import EngineState
from engines.errors import (
    DeviceLost,
    DeviceUnavailable,
    EngineError,
    ModelMismatch,
    OutOfDeviceMemory,
    PlanUnfit,
)
from engines.modelfile import read_model_file
from tests.support import fake_tensorrt
from tests.support.fake_cuda import Machine
from tests.support.fake_tensorrt import FakeTensorRt
from tests.support.onnx_bytes import metadata, one_node

SHAPES = {"x": ((1, 1), (1, 4), (1, 8))}
LARGE = {"x": ((1, 100), (1, 100), (1, 200))}


@pytest.fixture
def machine(monkeypatch):
    return Machine(memory=1 << 20).install(monkeypatch)


@pytest.fixture
def trt(machine):
    return FakeTensorRt(machine)


@pytest.fixture(params=["tensorrt", "rtx"])
def library(request, trt):
    return Library(request.param, trt.__version__, trt, ErrorLog(trt))


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "negative.onnx"
    path.write_bytes(one_node("Neg") + metadata("name", "negative"))
    return read_model_file(path)


@pytest.fixture
def open_plan(machine, library, model):
    def opened(content=None, *, spec=None, kernels=None, **facts):
        if content is None:
            content = fake_tensorrt.plan(model.content, [SHAPES, LARGE], **facts)
        return TensorRtEngine(
            content, library=library, gpu=cuda.gpu(), spec=spec or reference_spec(model),
            precision="f16", kernels=kernels,
        )  # fmt: skip

    return opened


def row(width, start=0.0):
    return np.arange(width, dtype=np.float32)[None] + np.float32(start)


def test_results_are_the_networks_at_every_shape(open_plan):
    engine = open_plan()
    for turn in range(3):
        for width in (1, 4, 8, 100, 200):
            x = row(width, turn)
            np.testing.assert_array_equal(engine.infer({"x": x})["y"], -x)
    assert engine.state == EngineState("cuda:0")
    assert engine.backend.endswith("10.14.1 Fake GPU sm89 f16")
    engine.close()


def test_results_belong_to_the_caller_and_inputs_may_be_strided(open_plan):
    engine = open_plan()
    x = row(16)[:, ::-2]
    first = engine.infer({"x": x})["y"]
    engine.infer({"x": row(8, 50)})
    np.testing.assert_array_equal(first, -x)
    first += 1
    engine.close()


def test_closing_frees_everything_and_later_calls_are_errors(open_plan, machine, trt):
    engine = open_plan()
    for width in (1, 4, 100):
        engine.infer({"x": row(width)})
    engine.close()
    engine.close()
    assert not any(machine.live.values()), machine.live
    assert (trt.contexts, trt.engines, trt.strayed) == (0, 0, 0)
    with pytest.raises(EngineError, match="closed"):
        engine.infer({"x": row(4)})


def test_opening_and_closing_a_hundred_times_leaves_the_memory_as_it_was(open_plan, machine):
    for _ in range(100):
        engine = open_plan()
        engine.infer({"x": row(4)})
        engine.close()
    assert machine.used() == 0
    assert not any(machine.live.values())


def test_eight_threads_get_their_own_results_one_at_a_time(open_plan, trt):
    engine = open_plan()
    running, guard = [0], threading.Lock()

    def watch(given):
        assert guard.acquire(blocking=False), "two calls at once on one stream"
        running[0] += 1
        guard.release()

    trt.before_run = watch

    def work(number):
        for turn in range(30):
            x = row(1 + (number + turn) % 8, number * 100 + turn)
            np.testing.assert_array_equal(engine.infer({"x": x})["y"], -x)

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(work, number) for number in range(8)]:
            done.result(30)
    assert running[0] >= 240
    engine.close()


def test_close_waits_for_the_call_in_progress(open_plan, trt, machine):
    engine = open_plan()
    engine.prepare({"x": (1, 4)})
    inside, go_on = threading.Event(), threading.Event()

    def hold(given):
        inside.set()
        assert go_on.wait(10)

    trt.before_run = hold
    with ThreadPoolExecutor(2) as threads:
        running = threads.submit(engine.infer, {"x": row(4)})
        assert inside.wait(10)
        closing = threads.submit(engine.close)
        go_on.set()
        np.testing.assert_array_equal(running.result(10)["y"], -row(4))
        closing.result(10)
    assert not any(machine.live.values())


def test_shapes_outside_the_profiles_are_errors_that_name_the_profiles(open_plan):
    engine = open_plan()
    with pytest.raises(
        ModelMismatch, match=r"x \(1, 1\) to \(1, 8\) or x \(1, 100\) to \(1, 200\)"
    ):
        engine.infer({"x": row(50)})
    engine.infer({"x": row(4)})
    engine.close()


@pytest.mark.parametrize(
    "inputs",
    [{"z": row(4)}, {}, {"x": row(4), "z": row(4)}, {"x": row(4).astype(np.float64)}],
    ids=["another name", "nothing", "one too many", "another type"],
)
def test_arrays_that_do_not_fit_are_named(open_plan, inputs):
    engine = open_plan()
    with pytest.raises(ModelMismatch, match=r"x \(1, any\) float32"):
        engine.infer(inputs)
    engine.close()


DAMAGED = {
    "rubbish": (b"rubbish" * 50, "magicTag"),
    "nothing": (b"", "magicTag"),
    "another version": (fake_tensorrt.plan(one_node("Neg"), [SHAPES], version="9"), "Version tag"),
    "another GPU": (
        fake_tensorrt.plan(one_node("Neg"), [SHAPES], capability="sm86"),
        "incompatible device",
    ),
    "other names": (
        fake_tensorrt.plan(one_node("Neg", target="z"), [SHAPES]),
        "another network",
    ),
    "another type": (
        fake_tensorrt.plan(one_node("Identity", kind="uint8"), [SHAPES]),
        r"not x \(1, any\) float32",
    ),
}


@pytest.mark.parametrize(("content", "words"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_plan_that_does_not_fit_is_refused(open_plan, machine, trt, content, words):
    with pytest.raises(PlanUnfit, match=words):
        open_plan(content)
    assert not any(machine.live.values())
    assert (trt.engines, trt.strayed) == (0, 0)


@pytest.fixture
def batched(machine, library, tmp_path):
    """An engine whose first side is the batch."""
    path = tmp_path / "batched.onnx"
    path.write_bytes(one_node("Neg", shape=("n", 4)) + metadata("name", "batched"))
    model = read_model_file(path)
    plan = fake_tensorrt.plan(model.content, [{"x": ((1, 4), (4, 4), (8, 4))}])
    engine = TensorRtEngine(
        plan, library=library, gpu=cuda.gpu(), spec=reference_spec(model), precision="f32"
    )
    yield engine
    engine.close()


@pytest.mark.parametrize(("rows", "padded"), [(1, 1), (2, 2), (3, 4), (5, 8), (8, 8)])
def test_batches_are_padded_to_a_few_shapes_and_only_used_rows_are_copied(
    batched, trt, machine, rows, padded
):
    batched.prepare({"x": (padded, 4)})
    ran = []
    trt.before_run = lambda given: ran.append(given["x"].shape)
    machine.copied.clear()
    x = np.arange(4 * rows, dtype=np.float32).reshape(rows, 4)
    assert batched.is_ready({"x": x.shape})
    np.testing.assert_array_equal(batched.infer({"x": x})["y"], -x)
    assert ran == [(padded, 4)]
    assert machine.copied == [("up", x.nbytes), ("down", x.nbytes)]


def test_after_preparing_a_call_makes_no_context_compiles_nothing_and_allocates_nothing(
    batched, trt, machine
):
    for rows in (1, 2, 4, 8):
        batched.prepare({"x": (rows, 4)})
    contexts, compiled, live = trt.contexts, trt.compiled, dict(machine.live)
    for rows in range(1, 9):
        batched.infer({"x": np.ones((rows, 4), np.float32)})
    assert (trt.contexts, trt.compiled, machine.live) == (contexts, compiled, live)


def test_a_shape_is_ready_once_it_is_prepared(open_plan):
    engine = open_plan()
    assert not engine.is_ready({"x": (1, 4)})
    engine.prepare({"x": (1, 4)})
    assert engine.is_ready({"x": (1, 4)})
    assert not engine.is_ready({"x": (1, 5)})
    engine.close()


def test_kernels_of_rtx_are_compiled_once_and_found_by_the_next_start(
    open_plan, trt, library, tmp_path
):
    if library.edition != "rtx":
        pytest.skip("TensorRT compiles all kernels with the plan")
    for compiled in (2, 2):
        engine = open_plan(kernels=tmp_path / "plan.kernels")
        for width in (4, 8):
            engine.prepare({"x": (1, width)})
        engine.close()
        assert trt.compiled == compiled


def test_rtx_runs_with_cuda_graphs_and_eager_kernels(open_plan, library):
    engine = open_plan()
    config = engine._plan._config
    if library.edition == "rtx":
        assert config.cuda_graph_strategy.name == "WHOLE_GRAPH_CAPTURE"
        assert config.dynamic_shapes_kernel_specialization_strategy.name == "EAGER"
    else:
        assert config is None
    engine.close()


def test_a_plan_without_room_leaves_nothing_behind(open_plan, machine):
    with pytest.raises(OutOfDeviceMemory, match="allocating"):
        open_plan(activations=2 << 20)
    assert machine.used() == 0
    assert not any(machine.live.values())


def test_the_oldest_of_too_many_shapes_is_dropped(open_plan, machine, trt, monkeypatch):
    monkeypatch.setattr(execution, "MAX_SHAPES", 2)
    engine = open_plan()
    for width in (1, 2, 3, 4, 1):
        np.testing.assert_array_equal(engine.infer({"x": row(width)})["y"], -row(width))
    assert trt.contexts == 2
    engine.close()
    assert not any(machine.live.values())


def test_a_device_lost_during_a_call_is_reported_as_that_and_closing_is_no_error(
    open_plan, machine, trt
):
    engine = open_plan()
    engine.infer({"x": row(4)})
    trt.before_run = lambda given: machine.lose()
    with pytest.raises(DeviceLost, match="illegal address"):
        engine.infer({"x": row(4)})
    with pytest.raises(DeviceLost):
        engine.infer({"x": row(5)})
    engine.close()


def test_a_refused_run_is_an_error_in_the_librarys_words(open_plan, monkeypatch):
    engine = open_plan()
    monkeypatch.setattr(
        fake_tensorrt.IExecutionContext,
        "execute_async_v3", lambda self, stream: self._refuse("Error Code 7: out of luck"),
    )  # fmt: skip
    with pytest.raises(EngineError, match="negative refuses running it: Error Code 7: out of luck"):
        engine.infer({"x": row(4)})
    engine.close()


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    tensorrt._load.cache_clear()
    with pytest.raises(DeviceUnavailable, match=r"TensorRT \(extra `tensorrt`\): not installed"):
        tensorrt.library("tensorrt")
    tensorrt._load.cache_clear()
