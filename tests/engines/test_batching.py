"""Batches of many threads' calls: each gets just its own, whatever the order and the sizes."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.batching import Batcher, max_queue_delay_s
from engines.engine import EngineState
from engines.errors import EngineError, ModelMismatch, OutOfDeviceMemory
from engines.spec import EngineSpec, TensorSpec

F32 = np.dtype(np.float32)
HOURS_S = 10_000.0


class Doubling:
    """Doubles rows of any length, and remembers what it was given."""

    def __init__(self, *, fails=None, begun=None, held=None):
        self.spec = EngineSpec(
            "doubling", (TensorSpec("x", (None, None), F32),), (TensorSpec("y", (None,), F32),), ""
        )
        self.backend = "fake"
        self.state = EngineState("cuda:0")
        self.batches = []
        self.at_once = self.most_at_once = 0
        self.closed = False
        self._fails, self._begun, self._held = fails, begun, held
        self._lock = threading.Lock()

    def infer(self, inputs):
        with self._lock:
            assert not self.closed
            self.batches.append(inputs["x"].shape)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        if self._begun is not None:
            self._begun.release()
            self._held.acquire()
        try:
            if self._fails is not None:
                raise self._fails
            return {"y": inputs["x"] * 2}
        finally:
            with self._lock:
                self.at_once -= 1

    def close(self):
        self.closed = True


def rows(*values):
    return {"x": np.array(values, np.float32)}


class Time:
    """A clock that goes on only where somebody waits with a limit."""

    def __init__(self):
        self.now = 100.0
        self.waits = []

    def __call__(self):
        return self.now

    def pause(self, condition, seconds):
        if seconds is None:
            condition.wait()
        else:
            self.waits.append(seconds)
            self.now += seconds


def signalled_pause():
    waits = threading.Semaphore(0)

    def pause(condition, seconds):
        waits.release()
        condition.wait(seconds)

    return waits, pause


def waiting_for_the_deadline(engine, **how):
    time = Time()
    how = {"max_batch_size": 8, "clients": 8, "max_queue_delay_s": 0.02, **how}
    return time, Batcher(engine, clock=time, pause=time.pause, **how)


@settings(max_examples=40)
@given(
    calls=st.lists(
        st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=4),
        min_size=1,
        max_size=6,
    ),
    max_batch_size=st.integers(1, 5),
    max_queue_delay_s=st.sampled_from([0.0, 0.002]),
)
def test_every_call_gets_its_own_rows_in_any_batch(calls, max_batch_size, max_queue_delay_s):
    engine = Doubling()
    batcher = Batcher(
        engine,
        max_batch_size=max_batch_size,
        clients=len(calls),
        max_queue_delay_s=max_queue_delay_s,
    )

    def camera(number):
        answers = []
        for turn, (height, length) in enumerate(calls[number]):
            given = np.arange(height * length, dtype=np.float32).reshape(height, length)
            given += 1000 * number + 100 * turn
            answers.append((given, batcher.infer({"x": given})["y"]))
        return answers

    with ThreadPoolExecutor(len(calls)) as pool:
        for answers in pool.map(camera, range(len(calls))):
            for given, got in answers:
                np.testing.assert_array_equal(got, given * 2)
    batcher.close()
    assert engine.most_at_once == 1
    requested = {height for camera in calls for height, _ in camera}
    assert all(shape[0] <= max_batch_size or shape[0] in requested for shape in engine.batches)


def test_calls_that_come_together_run_together():
    engine = Doubling()
    batcher = Batcher(engine, max_batch_size=4, clients=9, max_queue_delay_s=HOURS_S)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: batcher.infer(rows([n]))["y"][0, 0], range(4)))
    assert answers == [0, 2, 4, 6]
    assert engine.batches == [(4, 1)]


def test_nobody_waits_when_nobody_is_left_to_come():
    engine = Doubling()
    alone = Batcher(engine, max_batch_size=8, clients=1, max_queue_delay_s=HOURS_S)
    np.testing.assert_array_equal(alone.infer(rows([1, 2]))["y"], [[2, 4]])
    three = Batcher(engine, max_batch_size=8, clients=3, max_queue_delay_s=HOURS_S)
    with ThreadPoolExecutor(3) as pool:  # The third has another size: it joins nobody.
        list(pool.map(three.infer, [rows([1]), rows([2]), rows([3, 4])]))
    assert sum(shape[0] for shape in engine.batches[1:]) == 3


def test_a_lone_call_waits_for_the_deadline_and_no_longer():
    engine = Doubling()
    time, batcher = waiting_for_the_deadline(engine)
    batcher.infer(rows([1]))
    assert time.waits == [pytest.approx(0.02)]
    assert engine.batches == [(1, 1)]


def test_who_comes_while_the_device_is_busy_shares_the_next_turn():
    begun, held = threading.Semaphore(0), threading.Semaphore(0)
    engine = Doubling(begun=begun, held=held)
    waits, pause = signalled_pause()
    batcher = Batcher(engine, max_batch_size=8, clients=4, max_queue_delay_s=0.0, pause=pause)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.infer, rows([1]))
        begun.acquire()  # The device is busy now, and the deadline of the others is over at once.
        others = [pool.submit(batcher.infer, rows([n])) for n in (2, 3, 4)]
        for _ in others:
            waits.acquire()
        for _ in range(2):
            held.release()
        assert [call.result()["y"][0, 0] for call in [first, *others]] == [2, 4, 6, 8]
    assert engine.batches == [(1, 1), (3, 1)]


@pytest.mark.parametrize(
    ("error", "seen"),
    [(OutOfDeviceMemory("no room"), OutOfDeviceMemory), (ZeroDivisionError("odd"), EngineError)],
)
def test_an_error_reaches_every_caller_of_the_batch_and_the_next_one_runs(error, seen):
    engine = Doubling(fails=error)
    batcher = Batcher(engine, max_batch_size=3, clients=9, max_queue_delay_s=HOURS_S)

    def call(number):
        with pytest.raises((seen, type(error)), match=str(error)) as caught:
            batcher.infer(rows([number]))
        return caught.value

    with ThreadPoolExecutor(3) as pool:
        raised = list(pool.map(call, range(3)))
    assert len({id(each) for each in raised}) == 3, "a traceback belongs to one thread"
    engine._fails = None
    batcher._clients = 1
    assert batcher.infer(rows([5]))["y"][0, 0] == 10


def test_what_does_not_fit_fails_its_caller_alone():
    engine = Doubling()
    batcher = Batcher(engine, max_batch_size=2, clients=1, max_queue_delay_s=0)
    with pytest.raises(ModelMismatch, match="x"):
        batcher.infer({"x": np.zeros((1, 1), np.uint8)})
    with pytest.raises(ModelMismatch, match="first sides"):
        batcher.infer({"x": np.zeros((0, 1), np.float32)})
    assert engine.batches == []


def test_a_call_larger_than_a_batch_runs_alone():
    engine = Doubling()
    batcher = Batcher(engine, max_batch_size=2, clients=9, max_queue_delay_s=HOURS_S)
    batcher.infer(rows([1], [2], [3]))
    assert engine.batches == [(3, 1)]


def test_an_output_without_the_batch_is_an_error_in_words():
    engine = Doubling()
    engine.infer = lambda inputs: {"y": np.zeros(7, np.float32)}
    with pytest.raises(EngineError, match="its first side is not the batch"):
        Batcher(engine, max_batch_size=2, clients=1, max_queue_delay_s=0).infer(rows([1]))


def test_closing_finishes_what_waits_and_refuses_what_comes():
    engine = Doubling()
    waits, pause = signalled_pause()
    batcher = Batcher(engine, max_batch_size=8, clients=9, max_queue_delay_s=HOURS_S, pause=pause)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(batcher.infer, rows([1]))
        waits.acquire()
        batcher.close()
        assert waiting.result()["y"][0, 0] == 2
    assert engine.closed
    with pytest.raises(EngineError, match="closed"):
        batcher.infer(rows([1]))
    batcher.close()


def test_what_one_keeps_does_not_keep_the_batch():
    batcher = Batcher(Doubling(), max_batch_size=2, clients=2, max_queue_delay_s=HOURS_S)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(batcher.infer, [rows([1]), rows([2])]))
    assert all(answer["y"].base is None for answer in answers)


def test_it_is_the_engine_behind_to_everybody_else():
    engine = Doubling()
    batcher = Batcher(engine, max_batch_size=1, clients=1, max_queue_delay_s=0)
    assert (batcher.spec, batcher.backend, batcher.state) == (
        engine.spec,
        engine.backend,
        engine.state,
    )


@pytest.mark.parametrize(
    "wrong", [{"max_batch_size": 0}, {"clients": 0}, {"max_queue_delay_s": -1.0}]
)
def test_senseless_limits_are_refused(wrong):
    with pytest.raises(ValueError, match="at least"):
        Batcher(
            Doubling(), **{"max_batch_size": 1, "clients": 1, "max_queue_delay_s": 0.0, **wrong}
        )


def test_the_queue_delay_follows_the_budget_and_the_inference_interval():
    assert max_queue_delay_s(latency_budget_ms=2000, inference_interval_s=1) == pytest.approx(0.05)
    assert max_queue_delay_s(latency_budget_ms=250, inference_interval_s=0.2) == pytest.approx(0.01)


def test_while_one_batch_runs_the_next_one_may_fill():
    batcher = Batcher(Doubling(), max_batch_size=4, clients=9, max_queue_delay_s=0.0)
    assert batcher.concurrency == 8
