"""Whatever becomes of the GPU, calls go on: none fails, none waits, and the state says where."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from engines.engine import EngineState, open_engine
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
from engines.plans.cache import Profile
from engines.plans.fallback import FIRST_PAUSE_S, LONGEST_PAUSE_S, FallbackEngine
from tests.support.onnx_bytes import metadata, one_node

X = np.arange(4, dtype=np.float32)[None]
MARK = 1000.0
"""What the engines here add to their results, so that it shows who computed."""


class Fast:
    """An engine on a GPU: adds a mark, and fails when it is told to."""

    def __init__(self, spec, mark=MARK):
        self.spec, self.backend, self._mark = spec, f"fast {mark:g}", mark
        self.state = EngineState("cuda:0")
        self.error = None
        self.calls = 0
        self.closed = threading.Event()

    def infer(self, inputs):
        self.calls += 1
        if self.closed.is_set():
            raise EngineError("the engine is closed")
        if self.error is not None:
            raise self.error
        return {"y": self._mark - inputs["x"]}

    def close(self):
        self.closed.set()


class PlanProvider:
    """Gives what it was told to give, when it was told to."""

    where = "cuda:0 Fake GPU"

    def __init__(self, *, ready=None, older=None, builds=()):
        self._ready, self._older, self._builds = ready, older, list(builds)
        self.go_on = threading.Semaphore(0)
        self.tried = threading.Semaphore(0)
        self.told = threading.Event()

    def ready(self):
        return _given(self._ready)

    def older(self):
        return _given(self._older)

    def build(self, tell, stop):
        tell(0.25)
        self.told.set()
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
def standby(tmp_path):
    path = tmp_path / "negative.onnx"
    path.write_bytes(one_node("Neg") + metadata("name", "negative"))
    return open_engine(path, device="cpu")


@pytest.fixture
def fast(standby):
    return Fast(standby.spec)


@pytest.fixture
def opened(standby):
    made = []

    def start(preparer, **settings):
        made.append(FallbackEngine(standby, preparer, **settings))
        return made[-1]

    yield start
    for each in made:
        each.close()


def wait_for(state):
    """Wait until that is true; for what a thread does soon."""
    until = time.monotonic() + 10
    while not state():
        assert time.monotonic() < until
        time.sleep(0.001)


def by_gpu(engine, x=X, mark=MARK):
    return float(engine.infer({"x": x})["y"][0, 0]) == mark


def test_a_plan_that_is_there_is_used_from_the_first_call(opened, fast):
    engine = opened(PlanProvider(ready=fast))
    assert by_gpu(engine)
    assert engine.state == EngineState("cuda:0")
    assert engine.backend == "fast 1000"


def test_the_cpu_runs_while_a_plan_is_built_and_the_next_call_after_goes_to_the_gpu(opened, fast):
    preparer = PlanProvider(builds=[fast])
    engine = opened(preparer)
    assert preparer.told.wait(10)
    assert not by_gpu(engine)
    assert engine.state == EngineState(
        "cpu", reason="a plan for cuda:0 Fake GPU is being built", building=0.25
    )
    assert engine.backend.startswith("openvino")
    preparer.go_on.release()
    wait_for(lambda: engine.state.device == "cuda:0")
    assert by_gpu(engine)
    assert engine.state == EngineState("cuda:0")


def test_an_older_plan_runs_meanwhile_and_is_closed_after_it(opened, standby, fast):
    older = Fast(standby.spec, mark=50.0)
    preparer = PlanProvider(older=older, builds=[fast])
    engine = opened(preparer)
    assert preparer.told.wait(10)
    assert by_gpu(engine, mark=50.0)
    state = engine.state
    assert (state.device, state.degraded, state.building) == ("cuda:0", False, 0.25)
    preparer.go_on.release()
    assert older.closed.wait(10)
    assert by_gpu(engine)


@pytest.mark.parametrize(
    "error",
    [
        UnsupportedLayer("cannot run layer 'crop' (Loop)"),
        InaccurateEngine("differs from the reference by up to 0.5"),
        DeviceLost("a kernel failed"),
        OSError("cannot start a process"),
    ],
)
def test_a_plan_that_cannot_be_had_is_told_and_not_tried_again(opened, standby, error):
    older = Fast(standby.spec, mark=50.0)
    preparer = PlanProvider(older=older, builds=[error])
    preparer.go_on.release()
    engine = opened(preparer)
    wait_for(lambda: engine.state.degraded)
    assert engine.state == EngineState("cuda:0", degraded=True, reason=str(error))
    assert by_gpu(engine, mark=50.0)  # the previous one stays


def test_too_little_memory_for_a_plan_is_tried_again_later(opened, fast, monkeypatch):
    monkeypatch.setattr(fallback, "FIRST_PAUSE_S", 0.01)
    preparer = PlanProvider(
        ready=OutOfDeviceMemory("full"), builds=[OutOfDeviceMemory("full"), fast]
    )  # fmt: skip
    engine = opened(preparer)
    for _ in range(2):
        assert preparer.tried.acquire(timeout=10)
        preparer.go_on.release()
    wait_for(lambda: engine.state == EngineState("cuda:0"))


def test_closing_ends_a_build_and_a_pause(opened, standby, fast):
    engine = opened(PlanProvider(builds=[fast]))
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer({"x": X})
    paused = FallbackEngine(standby, preparer := PlanProvider(builds=[OutOfDeviceMemory("full")]))
    preparer.go_on.release()
    wait_for(lambda: paused.state.degraded)
    paused.close()


def test_networks_are_built_one_after_the_other_and_who_waits_can_be_closed(
    opened, standby, fast, tmp_path
):
    first, second = PlanProvider(builds=[fast]), PlanProvider(builds=[fast])
    opened(first)
    assert first.told.wait(10)
    waiting = FallbackEngine(open_engine(tmp_path / "negative.onnx", device="cpu"), second)
    assert waiting.state.building == 0.0
    waiting.close()
    assert not second.told.is_set()


@pytest.mark.parametrize("error", [DeviceLost("fell off the bus"), EngineError("refuses to run")])
def test_a_gpu_that_fails_in_mid_run_fails_no_call_and_is_not_asked_again(opened, fast, error):
    engine = opened(PlanProvider(ready=fast))
    assert by_gpu(engine)
    fast.error = error
    for _ in range(3):
        np.testing.assert_array_equal(engine.infer({"x": X})["y"], -X)
    assert fast.calls == 2
    assert fast.closed.is_set()
    assert engine.state == EngineState(
        "cpu",
        degraded=True,
        reason=f"{error}; on the CPU until the program is started again",
    )


def test_many_threads_lose_no_call_when_the_gpu_is_lost_or_replaced(opened, standby, fast):
    older = Fast(standby.spec, mark=50.0)
    preparer = PlanProvider(older=older, builds=[fast])
    engine = opened(preparer)
    stop = threading.Event()

    def work(number):
        seen = set()
        while not stop.is_set():
            seen.add(float(engine.infer({"x": X})["y"][0, 0]))
        return seen

    with ThreadPoolExecutor(4) as threads:
        working = [threads.submit(work, number) for number in range(4)]
        preparer.go_on.release()
        assert older.closed.wait(10)
        wait_for(lambda: fast.calls > 100)
        fast.error = DeviceLost("fell off the bus")
        wait_for(lambda: engine.state.degraded)
        stop.set()
        for done in working:
            assert done.result(10) <= {0.0, 50.0, MARK}


def test_a_size_without_room_runs_on_the_cpu_and_is_tried_again_after_growing_pauses(opened, fast):
    now = [0.0]
    engine = opened(PlanProvider(ready=fast), clock=lambda: now[0])
    wide = np.ones((1, 9), np.float32)

    def infer(inputs, real=fast.infer):
        if inputs["x"].shape == wide.shape:
            fast.calls += 1
            raise OutOfDeviceMemory("no room")
        return real(inputs)

    fast.infer = infer
    pause, calls = FIRST_PAUSE_S, 1
    for _ in range(9):
        assert not by_gpu(engine, wide)
        assert not by_gpu(engine, wide)  # not asked again so soon
        assert fast.calls == calls
        assert by_gpu(engine)  # other sizes go on
        state = engine.state
        assert (state.device, state.degraded, state.reason) == (
            "cuda:0", True, "no room; on the CPU for now",
        )  # fmt: skip
        now[0] += pause
        pause, calls = min(2 * pause, LONGEST_PAUSE_S), calls + 2
    del fast.infer
    assert by_gpu(engine, wide, mark=MARK - 1)
    assert engine.state == EngineState("cuda:0")


def test_sizes_that_the_plan_was_not_made_for_run_on_the_cpu_and_it_is_said(opened, fast):
    engine = opened(PlanProvider(ready=fast))
    fast.error = ModelMismatch("compiled for x (1, 1) to (1, 8)")
    assert not by_gpu(engine)
    fast.error = None
    assert not by_gpu(engine)
    assert by_gpu(engine, np.zeros((1, 2), np.float32))
    assert engine.state.degraded
    assert "compiled for x (1, 1) to (1, 8)" in engine.state.reason


def test_what_does_not_fit_the_network_is_the_callers_mistake_and_no_state(opened, fast):
    engine = opened(PlanProvider(ready=fast))
    with pytest.raises(ModelMismatch, match="was given"):
        engine.infer({"x": np.zeros((1, 4))})
    assert fast.calls == 0
    assert not engine.state.degraded


def test_a_batch_runs_row_by_row_on_a_cpu_engine_that_knows_no_batches(opened, standby):
    profile = Profile({"x": ((1, 1), (2, 4), (8, 4))})
    spec = with_dynamic_batch(standby.spec, [profile])
    assert [str(tensor) for tensor in (*spec.inputs, *spec.outputs)] == [
        "x (any, any) float32",
        "y (any, any) float32",
    ]
    engine = opened(None, spec=spec, trouble="no library")
    batch = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(engine.infer({"x": batch})["y"], -batch)
    assert engine.state == EngineState("cpu", degraded=True, reason="no library")


def test_sizes_that_never_vary_stay_as_the_file_has_them(standby):
    fixed = Profile({"x": ((1, 4),) * 3})
    assert with_dynamic_batch(standby.spec, [fixed]) == standby.spec
