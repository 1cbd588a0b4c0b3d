"""What a network remembers goes on from picture to picture, for each stream apart."""

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
from engines.stateful import recurrence


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
    memory = recurrence(engine, {"next": "past"})
    memory.start({"past": np.array([value])})
    return memory


def test_an_output_is_the_next_input_and_does_not_come_back():
    memory = started(Summing(), 10)
    outputs = [memory.infer(one(value)) for value in (1, 2, 3)]
    assert [int(each["double"][0]) for each in outputs] == [22, 26, 32]
    assert outputs[0].keys() == {"double"}


def test_two_streams_of_one_engine_remember_apart():
    engine = Summing()
    first, second = started(engine), started(engine, 100)
    first.infer(one(1))
    assert int(second.infer(one(1))["double"][0]) == 202
    assert int(first.infer(one(1))["double"][0]) == 4


def test_after_an_error_nothing_is_remembered():
    engine = Summing()
    memory = started(engine)
    engine.broken = True
    with pytest.raises(EngineError, match="broken"):
        memory.infer(one(1))
    engine.broken = False
    with pytest.raises(StateLost, match="sum: there is no state to go on from"):
        memory.infer(one(1))
    memory.start({"past": np.array([5])})
    assert int(memory.infer(one(1))["double"][0]) == 12


def test_nothing_is_remembered_once_it_is_closed():
    memory = started(Summing())
    memory.close()
    with pytest.raises(StateLost):
        memory.infer(one(1))


def test_an_engine_that_keeps_memory_on_its_device_is_asked():
    class Keeping(Summing):
        def recurrence(self, links):
            return ("kept here", dict(links))

    assert recurrence(Keeping(), {"next": "past"}) == ("kept here", {"next": "past"})


class Fast(Summing):
    """On a GPU; keeps memories there, and fails when it is told to."""

    backend, state = "fast", EngineState("cuda:0")

    def __init__(self):
        self.error = None
        self.closed = False

    def infer(self, inputs):
        if self.closed:
            raise EngineError("the engine is closed")
        if self.error is not None:
            raise self.error
        return super().infer(inputs)

    def close(self):
        self.closed = True


class Standby(Fast):
    backend, state = "standby", EngineState("cpu")


class PlanProvider:
    where = "cuda:0"

    def __init__(self, ready, *builds):
        self._ready, self._builds = ready, list(builds)

    def ready(self):
        return self._ready

    def older(self):
        return None

    def build(self, tell, stop):
        return self._builds.pop(0)


@pytest.fixture
def fast():
    return Fast()


@pytest.fixture
def engine(fast):
    front = FallbackEngine(Standby(), PlanProvider(fast))
    yield front
    front.close()


def test_a_memory_is_where_calls_go(engine):
    memory = started(engine, 3)
    assert [int(memory.infer(one(1))["double"][0]) for _ in range(2)] == [8, 10]
    memory.close()
    with pytest.raises(StateLost):
        memory.infer(one(1))


def test_a_memory_goes_when_another_engine_takes_over(engine, fast):
    memory = started(engine)
    memory.infer(one(1))
    newer = Fast()
    engine._change_to(newer)
    assert fast.closed
    with pytest.raises(StateLost, match="calls go elsewhere now"):
        memory.infer(one(1))
    memory.start({"past": np.array([7])})
    assert int(memory.infer(one(1))["double"][0]) == 16
    assert engine.state == EngineState("cuda:0")


def test_a_call_that_meets_a_closed_engine_is_no_failure(engine, fast):
    memory = started(engine)

    def taken_over(inputs):
        engine._change_to(Fast())
        raise EngineError("the engine is closed")

    fast.infer = taken_over
    with pytest.raises(StateLost):
        memory.infer(one(1))
    assert not engine.state.degraded


def test_a_lost_device_is_told_and_shown_and_calls_go_to_the_cpu(engine, fast):
    memory = started(engine)
    fast.error = DeviceLost("fell off the bus")
    with pytest.raises(DeviceLost):
        memory.infer(one(1))
    assert engine.state.device == "cpu"
    assert engine.state.degraded
    assert "fell off the bus" in engine.state.reason
    with pytest.raises(StateLost):
        memory.infer(one(1))
    with pytest.raises(DeviceUnavailable, match="runs on the CPU"):
        memory.start({"past": np.array([1])})


def test_too_little_memory_is_shown_until_it_works_again(engine, fast):
    now = [0.0]
    engine._clock = lambda: now[0]
    memory = started(engine)
    fast.error = OutOfDeviceMemory("full")
    with pytest.raises(OutOfDeviceMemory):
        memory.infer(one(1))
    fast.error = None
    assert "full" in engine.state.reason
    with pytest.raises(StateLost):
        memory.infer(one(1))
    now[0] = 1e6
    memory.start({"past": np.array([0])})
    memory.infer(one(1))
    assert not engine.state.degraded
