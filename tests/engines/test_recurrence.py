"""What a network remembers goes on from picture to picture, for each stream apart."""

import numpy as np
import pytest

from engines.errors import EngineError
from engines.recurrence import recurrence
from engines.spec import EngineSpec


class Summing:
    """Adds what comes to what was."""

    spec = EngineSpec("sum", (), (), "0")
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
    with pytest.raises(EngineError, match="sum: there is no state to go on from"):
        memory.infer(one(1))
    memory.start({"past": np.array([5])})
    assert int(memory.infer(one(1))["double"][0]) == 12


def test_nothing_is_remembered_once_it_is_closed():
    memory = started(Summing())
    memory.close()
    with pytest.raises(EngineError, match="no state"):
        memory.infer(one(1))


def test_an_engine_that_keeps_memory_on_its_device_is_asked():
    class Keeping(Summing):
        def recurrence(self, links):
            return ("kept here", dict(links))

    assert recurrence(Keeping(), {"next": "past"}) == ("kept here", {"next": "past"})
