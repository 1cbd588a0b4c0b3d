"""The state of a network continues from frame to frame, separately for each stream."""

import numpy as np
import pytest

from engines.engine import EngineState
from engines.errors import (
    DeviceLost,
    DeviceUnavailable,
    EngineError,
    OutOfDeviceMemory,
    StateLost,
)
from engines.plans.fallback import FallbackEngine
from engines.spec import EngineSpec, TensorSpec
from engines.stateful import stateful_session


class Summing:
    """Adds what comes to what was."""

    spec = EngineSpec(
        "sum",
        tuple(TensorSpec(name, (1,), np.dtype(int)) for name in ("past", "x")),
        tuple(TensorSpec(name, (1,), np.dtype(int)) for name in ("next", "double")),
        "0",
    )
    broken = False

    def infer(self, inputs):
        if self.broken:
            raise EngineError("broken")
        total = inputs["past"] + inputs["x"]
        return {"next": total, "double": 2 * total}


def one(value):
    return {"x": np.array([value])}


def started(engine, value=0):
    session = stateful_session(engine, {"next": "past"})
    session.start({"past": np.array([value])})
    return session


def test_an_output_is_the_next_input_and_is_not_returned():
    session = started(Summing(), 10)
    outputs = [session.infer(one(value)) for value in (1, 2, 3)]
    assert [int(each["double"][0]) for each in outputs] == [22, 26, 32]
    assert outputs[0].keys() == {"double"}


def test_two_streams_of_one_engine_have_separate_states():
    engine = Summing()
    first, second = started(engine), started(engine, 100)
    first.infer(one(1))
    assert int(second.infer(one(1))["double"][0]) == 202
    assert int(first.infer(one(1))["double"][0]) == 4


def test_after_an_error_there_is_no_state():
    engine = Summing()
    session = started(engine)
    engine.broken = True
    with pytest.raises(EngineError, match="broken"):
        session.infer(one(1))
    engine.broken = False
    with pytest.raises(StateLost, match="sum: there is no state to continue from"):
        session.infer(one(1))
    session.start({"past": np.array([5])})
    assert int(session.infer(one(1))["double"][0]) == 12


def test_there_is_no_state_after_closing():
    session = started(Summing())
    session.close()
    with pytest.raises(StateLost):
        session.infer(one(1))


def test_an_engine_that_supports_states_keeps_them():
    class Keeping(Summing):
        def stateful_session(self, links):
            return ("kept here", dict(links))

        def is_ready(self, shapes):
            return True

    assert stateful_session(Keeping(), {"next": "past"}) == ("kept here", {"next": "past"})


class OnGpu(Summing):
    """An engine on a GPU, which fails on request."""

    backend, state = "fake gpu", EngineState("cuda:0")

    def __init__(self):
        self.error = None
        self.closed = False

    def infer(self, inputs):
        if self.closed:
            raise EngineError("the engine is closed")
        if self.error is not None:
            raise self.error
        return super().infer(inputs)

    def is_ready(self, shapes):
        return True

    def prepare(self, shapes):
        pass

    def close(self):
        self.closed = True


class OnCpu(OnGpu):
    backend, state = "fake cpu", EngineState("cpu")


class Provider:
    where = "cuda:0"

    def __init__(self, gpu):
        self._gpu = gpu

    def ready(self):
        return self._gpu


@pytest.fixture
def gpu():
    return OnGpu()


@pytest.fixture
def engine(gpu):
    engine = FallbackEngine(OnCpu(), Provider(gpu))
    with engine._work:
        assert engine._work.wait_for(lambda: engine._building is None, 10)
    yield engine
    engine.close()


def test_the_state_is_on_the_engine_that_calls_go_to(engine):
    session = started(engine, 3)
    assert [int(session.infer(one(1))["double"][0]) for _ in range(2)] == [8, 10]
    session.close()
    with pytest.raises(StateLost):
        session.infer(one(1))


def test_the_state_is_lost_while_the_gpu_is_not_ready(engine, gpu):
    session = started(engine)
    session.infer(one(1))
    gpu.is_ready = lambda shapes: False
    with pytest.raises(StateLost, match="not ready"):
        session.infer(one(1))
    gpu.is_ready = lambda shapes: True
    session.start({"past": np.array([7])})
    assert int(session.infer(one(1))["double"][0]) == 16


def test_a_lost_device_is_reported_and_calls_go_to_the_cpu(engine, gpu):
    session, other = started(engine), started(engine)
    gpu.error = DeviceLost("fell off the bus")
    with pytest.raises(DeviceLost):
        session.infer(one(1))
    assert engine.state.device == "cpu"
    assert engine.state.degraded
    assert "fell off the bus" in engine.state.reason
    for each in (session, other):
        with pytest.raises(StateLost):
            each.infer(one(1))
    with pytest.raises(DeviceUnavailable, match="runs on the CPU"):
        session.start({"past": np.array([1])})


def test_too_little_memory_is_reported_until_it_works_again(engine, gpu):
    now = [0.0]
    engine._clock = lambda: now[0]
    session = started(engine)
    gpu.error = OutOfDeviceMemory("full")
    with pytest.raises(OutOfDeviceMemory):
        session.infer(one(1))
    gpu.error = None
    assert "full" in engine.state.reason
    with pytest.raises(StateLost):
        session.infer(one(1))
    now[0] = 1e6
    session.start({"past": np.array([0])})
    session.infer(one(1))
    assert not engine.state.degraded
