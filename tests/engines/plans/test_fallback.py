"""Calls succeed whatever happens to the GPU, and the state says what they run on."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engines.backends.cpu import open_engine
from engines.engine import EngineState
from engines.errors import (
    DeviceLost,
    EngineError,
    InaccurateEngine,
    ModelMismatch,
    OutOfDeviceMemory,
    UnsupportedLayer,
)
from engines.loading import with_dynamic_batch
from engines.plans import fallback
from engines.plans.fallback import FIRST_PAUSE_S, LONGEST_PAUSE_S, FallbackEngine
from engines.spec import Profile
from tests.support.onnx_bytes import metadata, one_node

X = np.arange(4, dtype=np.float32)[None]
MARK = 1000.0
"""Added to the results by the engine on the GPU, so that they show who computed."""


class Gpu:
    """An engine on a GPU: adds a mark, and fails on request."""

    def __init__(self, spec):
        self.spec, self.backend = spec, "fake gpu"
        self.state = EngineState("cuda:0")
        self.concurrency = 7
        self.error = None
        self.calls = 0
        self.prepared = {(1, 4)}
        self.threads = set()
        self.gate = threading.Event()
        self.gate.set()
        self.closed = threading.Event()

    def infer(self, inputs):
        self.calls += 1
        if self.closed.is_set():
            raise EngineError("the engine is closed")
        if self.error is not None:
            raise self.error
        return {"y": MARK - inputs["x"]}

    def is_ready(self, shapes):
        return shapes["x"] in self.prepared

    def prepare(self, shapes):
        self.threads.add(threading.current_thread().name)
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        self.prepared.add(shapes["x"])

    def close(self):
        self.closed.set()


class Provider:
    """Provides a given engine when it is released."""

    where = "cuda:0 Fake GPU"

    def __init__(self, *, ready=None, builds=()):
        self._ready, self._builds = ready, list(builds)
        self.go_on = threading.Semaphore(0)
        self.tried = threading.Semaphore(0)
        self.building = threading.Event()

    def ready(self):
        return _given(self._ready)

    def build(self, progress, stop):
        progress(0.25)
        self.building.set()
        self.tried.release()
        while not self.go_on.acquire(timeout=0.01):
            if stop.is_set():
                raise EngineError("stopped")
        return _given(self._builds.pop(0))


def _given(what):
    if isinstance(what, Exception):
        raise what
    return what


@pytest.fixture
def cpu(tmp_path):
    path = tmp_path / "negative.onnx"
    path.write_bytes(one_node("Neg") + metadata("name", "negative"))
    return open_engine(path)


@pytest.fixture
def gpu(cpu):
    return Gpu(cpu.spec)


@pytest.fixture
def opened(cpu):
    made = []

    def start(provider, **options):
        made.append(FallbackEngine(cpu, provider, **options))
        return made[-1]

    yield start
    for each in made:
        each.close()


def wait_for(condition):
    """Poll for something that a thread does soon."""
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_the_concurrency_is_that_of_the_engine_that_runs_the_calls(opened, cpu, gpu):
    provider = Provider(builds=[gpu])
    engine = opened(provider)
    assert engine.concurrency == cpu.concurrency == 1, "nothing is compiled yet"
    engine.infer({"x": X})
    assert engine.concurrency == cpu.concurrency >= 1
    provider.go_on.release()
    wait_for(lambda: engine.is_ready({"x": X.shape}))
    assert engine.concurrency == 7


@pytest.fixture
def ready(opened, gpu):
    """An engine that changed over to the GPU."""

    def start(**options):
        engine = opened(Provider(ready=gpu), **options)
        wait_for(lambda: engine.state.device == "cuda:0")
        return engine

    return start


def on_gpu(engine, x=X):
    return float(engine.infer({"x": x})["y"][0, 0]) == MARK - x[0, 0]


def test_a_stored_plan_is_used_without_building(ready):
    engine = ready()
    assert on_gpu(engine)
    assert engine.state == EngineState("cuda:0")
    assert engine.backend == "fake gpu"


def test_the_cpu_runs_while_a_plan_is_built_and_the_next_call_goes_to_the_gpu(opened, gpu):
    provider = Provider(builds=[gpu])
    engine = opened(provider)
    assert provider.building.wait(10)
    assert not on_gpu(engine)
    assert engine.state == EngineState(
        "cpu", reason="the plan for cuda:0 Fake GPU is being prepared", building=0.25
    )
    assert engine.backend.startswith("openvino")
    provider.go_on.release()
    wait_for(lambda: engine.state.device == "cuda:0")
    assert on_gpu(engine)
    assert engine.state == EngineState("cuda:0")


@pytest.mark.parametrize(
    "error",
    [
        UnsupportedLayer("cannot run layer 'crop' (Loop)"),
        InaccurateEngine("differs from the reference by up to 0.5"),
        DeviceLost("a kernel failed"),
        OSError("cannot start a process"),
    ],
)
def test_a_plan_that_cannot_be_built_is_reported_and_the_cpu_stays(opened, error):
    provider = Provider(builds=[error])
    provider.go_on.release()
    engine = opened(provider)
    wait_for(lambda: engine.state.degraded)
    assert engine.state == EngineState("cpu", degraded=True, reason=str(error))
    assert not on_gpu(engine)


def test_too_little_memory_for_a_plan_is_tried_again_later(opened, gpu, monkeypatch):
    monkeypatch.setattr(fallback, "FIRST_PAUSE_S", 0.01)
    provider = Provider(builds=[OutOfDeviceMemory("full"), gpu])
    engine = opened(provider)
    for _ in range(2):
        assert provider.tried.acquire(timeout=10)
        provider.go_on.release()
    wait_for(lambda: engine.state == EngineState("cuda:0"))
    assert on_gpu(engine)


def test_closing_ends_a_build_and_a_pause(opened, cpu, gpu):
    engine = opened(Provider(builds=[gpu]))
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer({"x": X})
    paused = FallbackEngine(cpu, provider := Provider(builds=[OutOfDeviceMemory("full")]))
    provider.go_on.release()
    wait_for(lambda: paused.state.degraded)
    paused.close()
    assert not paused._thread.is_alive()


def test_plans_are_built_one_after_the_other_and_a_waiting_engine_can_be_closed(
    opened, gpu, tmp_path
):
    first, second = Provider(builds=[gpu]), Provider(builds=[gpu])
    opened(first)
    assert first.building.wait(10)
    waiting = FallbackEngine(open_engine(tmp_path / "negative.onnx"), second)
    assert waiting.state.building == 0.0
    waiting.close()
    assert not second.building.is_set()


def test_a_shape_that_is_not_prepared_runs_on_the_cpu_until_another_thread_prepared_it(ready, gpu):
    engine = ready()
    gpu.gate.clear()
    wide = np.ones((1, 8), np.float32)
    assert not on_gpu(engine, wide)
    assert not on_gpu(engine, wide)
    assert on_gpu(engine)
    gpu.gate.set()
    wait_for(lambda: engine.is_ready({"x": (1, 8)}))
    assert on_gpu(engine, wide)
    assert gpu.threads == {"fallback negative"}


def test_a_shape_that_cannot_be_prepared_stays_on_the_cpu_and_is_reported(ready, gpu):
    engine = ready()
    gpu.error = OutOfDeviceMemory("no room")
    assert not on_gpu(engine, np.ones((1, 8), np.float32))
    wait_for(lambda: engine.state.degraded)
    assert engine.state.reason == "no room; on the CPU for now"
    assert engine.state.device == "cuda:0"


def test_a_lost_gpu_fails_no_call_and_is_not_used_again(ready, gpu):
    engine = ready()
    assert on_gpu(engine)
    gpu.error = DeviceLost("fell off the bus")
    for _ in range(3):
        np.testing.assert_array_equal(engine.infer({"x": X})["y"], -X)
    assert gpu.calls == 2
    assert gpu.closed.is_set()
    assert engine.state == EngineState(
        "cpu", degraded=True, reason="fell off the bus; on the CPU until the program is restarted"
    )


def test_many_threads_lose_no_call_when_the_gpu_is_lost(opened, gpu):
    provider = Provider(builds=[gpu])
    engine = opened(provider)
    stop = threading.Event()

    def work(number):
        seen = set()
        while not stop.is_set():
            seen.add(float(engine.infer({"x": X})["y"][0, 0]))
        return seen

    with ThreadPoolExecutor(4) as threads:
        working = [threads.submit(work, number) for number in range(4)]
        provider.go_on.release()
        wait_for(lambda: gpu.calls > 100)
        gpu.error = DeviceLost("fell off the bus")
        wait_for(lambda: engine.state.degraded)
        stop.set()
        for done in working:
            assert done.result(10) <= {0.0, MARK}


@pytest.mark.parametrize("error", [OutOfDeviceMemory("no room"), EngineError("refuses to run")])
def test_a_transient_failure_is_tried_again_after_growing_pauses(ready, gpu, error):
    now = [0.0]
    engine = ready(clock=lambda: now[0])
    gpu.error = error
    pause, calls = FIRST_PAUSE_S, 1
    for _ in range(9):
        assert not on_gpu(engine)
        assert not on_gpu(engine)  # not tried again so soon
        assert gpu.calls == calls
        state = engine.state
        assert (state.device, state.degraded, state.reason) == (
            "cuda:0", True, f"{error}; on the CPU for now",
        )  # fmt: skip
        now[0] += pause
        pause, calls = min(2 * pause, LONGEST_PAUSE_S), calls + 1
    gpu.error = None
    assert on_gpu(engine)
    assert engine.state == EngineState("cuda:0")


def test_shapes_outside_the_plan_run_on_the_cpu_and_the_state_says_so(ready, gpu):
    gpu.prepared |= {(1, 2)}
    engine = ready()
    gpu.error = ModelMismatch("compiled for x (1, 1) to (1, 8)")
    assert not on_gpu(engine)
    gpu.error = None
    assert not on_gpu(engine)
    assert on_gpu(engine, np.zeros((1, 2), np.float32))
    assert engine.state.degraded
    assert "compiled for x (1, 1) to (1, 8)" in engine.state.reason


def test_inputs_that_do_not_fit_the_network_are_the_callers_error_and_change_no_state(ready, gpu):
    engine = ready()
    with pytest.raises(ModelMismatch, match="expected x"):
        engine.infer({"x": np.zeros((1, 4))})
    assert gpu.calls == 0
    assert not engine.state.degraded


def test_a_batch_runs_row_by_row_on_a_cpu_engine_with_a_fixed_batch(opened, cpu):
    profile = Profile({"x": ((1, 1), (2, 4), (8, 4))})
    spec = with_dynamic_batch(cpu.spec, [profile])
    assert [str(tensor) for tensor in (*spec.inputs, *spec.outputs)] == [
        "x (any, any) float32",
        "y (any, any) float32",
    ]
    engine = opened(Provider(builds=[]), spec=spec)
    batch = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(engine.infer({"x": batch})["y"], -batch)


def test_sides_that_do_not_vary_stay_as_the_file_has_them(cpu):
    fixed = Profile({"x": ((1, 4),) * 3})
    assert with_dynamic_batch(cpu.spec, [fixed]) == cpu.spec
