"""Plans on a GPU: right results, plain words, nothing left behind. The libraries are fakes that
keep the real ones' manners; `test_fakes.py` holds them to the real interface."""

import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engines.backends import cuda, execution, tensorrt
from engines.backends.tensorrt import ErrorLog, Library, TensorRtEngine
from engines.engine import EngineState, open_engine, reference_spec
from engines.errors import (
    DeviceLost,
    DeviceUnavailable,
    EngineError,
    ModelMismatch,
    OutOfDeviceMemory,
    PlanUnfit,
)
from engines.modelfile import read_model_file
from engines.plans.cache import Plan, PlanCache, PlanKey, Profile, Target
from tests.support import fake_tensorrt
from tests.support.fake_cuda import Machine
from tests.support.fake_tensorrt import FakeTensorRt
from tests.support.onnx_bytes import metadata, one_node

SIZES = {"x": ((1, 1), (1, 4), (1, 8))}
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
    def opened(content=None, *, spec=None, **facts):
        if content is None:
            content = fake_tensorrt.plan(model.content, [SIZES, LARGE], **facts)
        return TensorRtEngine(
            content, library=library, gpu=cuda.gpu(), spec=spec or reference_spec(model),
            precision="f16",
        )  # fmt: skip

    return opened


def row(width, start=0.0):
    return np.arange(width, dtype=np.float32)[None] + np.float32(start)


def test_results_are_the_networks_at_every_size_first_and_recorded(open_plan, machine):
    engine = open_plan()
    for turn in range(3):
        for width in (1, 4, 8, 100, 200):
            x = row(width, turn)
            np.testing.assert_array_equal(engine.infer({"x": x})["y"], -x)
    assert machine.launches > 0
    assert engine.state == EngineState("cuda:0")
    assert engine.backend.endswith("10.14.1 Fake GPU sm89 f16")
    engine.close()


def test_results_belong_to_the_caller_and_inputs_need_not_lie_in_order(open_plan):
    engine = open_plan()
    x = row(16)[:, ::-2]
    first = engine.infer({"x": x})["y"]
    engine.infer({"x": row(8, 50)})
    np.testing.assert_array_equal(first, -x)
    first += 1
    engine.close()


def test_closing_gives_everything_back_and_more_calls_are_told(open_plan, machine, trt):
    engine = open_plan()
    for width in (1, 4, 100):
        engine.infer({"x": row(width)})
    assert trt.contexts == 3
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


def test_eight_threads_get_their_own_results_two_at_a_time(open_plan, trt):
    engine = open_plan()
    busy, most, guard = [0], [0], threading.Lock()
    both = threading.Barrier(2)

    def watch(given):
        with guard:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        if given["x"][0, 0] == -1:  # both of the first two are on the device at once
            both.wait(10)
        with guard:
            busy[0] -= 1

    trt.before_run = watch
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: engine.infer({"x": -np.ones((1, 4), np.float32)}), range(2)))

    def work(number):
        for turn in range(30):
            x = row(1 + (number + turn) % 8, number * 100 + turn)
            np.testing.assert_array_equal(engine.infer({"x": x})["y"], -x)

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(work, number) for number in range(8)]:
            done.result(30)
    assert most[0] == tensorrt.LANES
    engine.close()


def test_close_waits_for_the_call_under_way_and_those_in_line_are_told(open_plan, trt, machine):
    engine = open_plan()
    inside, go_on = threading.Semaphore(0), threading.Event()

    def hold(given):
        inside.release()
        assert go_on.wait(10)

    trt.before_run = hold
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(engine.infer, {"x": row(4, n)}) for n in range(2)]
        for _ in running:
            assert inside.acquire(timeout=10)
        waiting = threads.submit(engine.infer, {"x": row(4)})
        closing = threads.submit(engine.close)
        with pytest.raises(EngineError, match="closed"):
            waiting.result(10)
        assert not closing.done()
        go_on.set()
        for number, done in enumerate(running):
            np.testing.assert_array_equal(done.result(10)["y"], -row(4, number))
        closing.result(10)
    assert not any(machine.live.values())


def test_sizes_outside_the_profiles_are_named_with_what_was_compiled(open_plan):
    engine = open_plan()
    with pytest.raises(
        ModelMismatch, match=r"x \(1, 1\) to \(1, 8\) or x \(1, 100\) to \(1, 200\)"
    ):
        engine.infer({"x": row(50)})
    assert not engine.accepts({"x": (1, 50)})
    assert engine.accepts({"x": (1, 200)})
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
    "another version": (fake_tensorrt.plan(one_node("Neg"), [SIZES], version="9"), "Version tag"),
    "another GPU": (
        fake_tensorrt.plan(one_node("Neg"), [SIZES], capability="sm86"),
        "incompatible device",
    ),
    "other names": (fake_tensorrt.plan(one_node("Neg", target="z"), [SIZES]), "another network"),
    "another type": (
        fake_tensorrt.plan(one_node("Identity", kind="uint8"), [SIZES]),
        r"not x \(1, any\) float32",
    ),
}


@pytest.mark.parametrize(("content", "words"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_plan_that_does_not_fit_is_refused_in_words(open_plan, machine, trt, content, words):
    with pytest.raises(PlanUnfit, match=words):
        open_plan(content)
    assert not any(machine.live.values())
    assert (trt.engines, trt.strayed) == (0, 0)


def test_a_network_that_cannot_be_recorded_runs_without_a_graph_and_says_so(
    open_plan, machine, caplog
):
    with caplog.at_level(logging.INFO, logger="engines.backends.execution"):
        engine = open_plan(recordable=False)
        for turn in range(3):
            np.testing.assert_array_equal(engine.infer({"x": row(4, turn)})["y"], -row(4, turn))
    assert machine.launches == 0
    assert "without a CUDA graph" in caplog.text
    engine.close()


def test_a_library_that_can_be_asked_is_asked_before_recording(
    open_plan, machine, monkeypatch, caplog
):
    monkeypatch.setattr(
        fake_tensorrt.IExecutionContext,
        "is_stream_capturable", lambda self, stream: False, raising=False,
    )  # fmt: skip
    with caplog.at_level(logging.INFO, logger="engines.backends.execution"):
        engine = open_plan()
        for _ in range(2):
            engine.infer({"x": row(4)})
    assert "the library cannot record it" in caplog.text
    assert machine.launches == 0
    engine.close()


def test_a_plan_that_finds_no_room_leaves_nothing_behind(open_plan, machine):
    with pytest.raises(OutOfDeviceMemory, match="allocating"):
        open_plan(activations=600_000)  # one lane fits, two do not
    assert machine.used() == 0
    assert not any(machine.live.values())


def test_a_size_that_finds_no_room_is_an_error_and_the_others_go_on(open_plan, machine):
    engine = open_plan()
    engine.infer({"x": row(4)})
    machine.memory, held = machine.used() + 100, dict(machine.live)
    with pytest.raises(OutOfDeviceMemory):
        engine.infer({"x": row(200)})
    assert machine.live == held
    np.testing.assert_array_equal(engine.infer({"x": row(4, 1)})["y"], -row(4, 1))
    engine.close()


def test_sizes_beyond_those_kept_replace_the_oldest(open_plan, machine, trt, monkeypatch):
    monkeypatch.setattr(execution, "MOST_SIZES", 2)
    engine = open_plan()
    for width in (1, 2, 3, 4, 1):
        np.testing.assert_array_equal(engine.infer({"x": row(width)})["y"], -row(width))
    assert trt.contexts == 2
    engine.close()
    assert not any(machine.live.values())


@pytest.mark.parametrize("recorded", [True, False])
def test_a_device_lost_in_mid_run_is_told_as_that_and_closing_is_no_error(
    open_plan, machine, trt, recorded
):
    engine = open_plan(recordable=recorded)
    engine.infer({"x": row(4)})
    trt.before_run = lambda given: machine.lose()
    with pytest.raises(DeviceLost, match="memory that is not there"):
        engine.infer({"x": row(4)})
    with pytest.raises(DeviceLost):
        engine.infer({"x": row(5)})
    engine.close()


def test_a_refused_run_is_told_in_the_librarys_words(open_plan, monkeypatch):
    engine = open_plan()
    monkeypatch.setattr(
        fake_tensorrt.IExecutionContext,
        "execute_async_v3", lambda self, stream: self._refuse("Error Code 7: out of luck"),
    )  # fmt: skip
    with pytest.raises(EngineError, match="negative refuses running it: Error Code 7: out of luck"):
        engine.infer({"x": row(4)})
    engine.close()


def test_the_newest_plan_that_fits_is_loaded_by_device(
    machine, library, model, monkeypatch, tmp_path
):
    monkeypatch.setenv("STREAMER_CACHE", str(tmp_path))
    monkeypatch.setattr(tensorrt, "library", lambda edition=None: library)
    with pytest.raises(DeviceUnavailable, match="streamer engines build"):
        open_engine(model.path, device="cuda", precision="f16")
    assert " cpu " in open_engine(model.path, device="auto").backend

    key = PlanKey(
        model.digest, library.edition, library.version,
        Target("sm89", "f16", (Profile(SIZES),), driver=cuda.gpu().driver_major),
    )  # fmt: skip
    PlanCache().put(Plan(fake_tensorrt.plan(model.content, [SIZES]), key))
    engine = open_engine(model.path, device="cuda:0", precision="f16")
    np.testing.assert_array_equal(engine.infer({"x": row(4)})["y"], -row(4))
    engine.close()
    with pytest.raises(DeviceUnavailable, match="no GPU 1"):
        open_engine(model.path, device="cuda:1", precision="f16")


def test_a_library_that_is_not_there_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    tensorrt._load.cache_clear()
    with pytest.raises(DeviceUnavailable, match=r"TensorRT \(extra `tensorrt`\): not installed"):
        tensorrt.library("tensorrt")
    tensorrt._load.cache_clear()
