"""Joins the calls of many threads into batches within a deadline: dynamic batching.

An engine in front of an engine whose arrays all begin with the batch. It has no thread of its own:
the first caller of a batch waits for others, runs it and distributes the results.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.errors import EngineError, ModelMismatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from engines.engine import Engine, EngineState

Arrays = Mapping[str, NDArray[Any]]
_Key = tuple[tuple[int, ...], ...]

SHARE_OF_BUDGET = 0.05
"""Share of a camera's latency budget that a call may wait for others: at most twice per frame, for
the frame and for zoom verification. Arbitrary; the rest is for decoding, queues and inference."""


def max_queue_delay_s(*, latency_budget_ms: float, inference_interval_s: float) -> float:
    """Return how long a call may wait for others.

    Args:
        latency_budget_ms: Smallest of all cameras.
        inference_interval_s: Smallest of all cameras; a longer wait would delay the next frame.
    """
    return SHARE_OF_BUDGET * min(latency_budget_ms / 1000, inference_interval_s)


@dataclass(slots=True, eq=False)
class _Batch:
    """Calls that run together. All fields are guarded by the batcher's lock."""

    key: _Key
    due: float
    changed: threading.Condition
    calls: list[tuple[Arrays, int]] = field(default_factory=list)
    """Inputs of each call, and their rows."""
    rows: int = 0
    complete: bool = False
    """Whether it waits for no other call, only for its turn."""
    done: bool = False
    outputs: Arrays = field(default_factory=dict)
    error: BaseException | None = None


class Batcher:
    """An `engines.engine.Engine` that many threads share; one batch runs at a time.

    A batch is complete when it is full, when its first call has waited for `max_queue_delay_s`, or
    when all clients wait. Calls that come before its turn still join it.

    Args:
        engine: Runs the batches; closed with this.
        max_batch_size: Rows of a batch; a call with more rows runs alone.
        clients: Threads that call this; when all of them wait, none waits longer.
        max_queue_delay_s: See above.
        clock: Monotonic seconds.
        pause: Waits for a condition for at most so many seconds; for tests.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_batch_size: int,
        clients: int,
        max_queue_delay_s: float,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[threading.Condition, float | None], object] = threading.Condition.wait,
    ) -> None:
        if min(max_batch_size, clients) < 1 or max_queue_delay_s < 0:
            raise ValueError(
                f"max_batch_size and clients must be at least 1 and max_queue_delay_s at least 0, "
                f"got {max_batch_size}, {clients} and {max_queue_delay_s}"
            )
        self._engine = engine
        self.spec = engine.spec
        self._max_batch_size, self._clients = max_batch_size, clients
        self._delay_s, self._clock, self._pause = max_queue_delay_s, clock, pause
        self._lock = threading.Lock()  # Guards all fields below, and every batch.
        self._idle = threading.Condition(self._lock)
        self._open: dict[_Key, _Batch] = {}
        self._queue: list[_Batch] = []  # Not running yet, oldest first.
        self._running = False
        self._callers = 0
        self._closed = False

    @property
    def backend(self) -> str:
        """Backend of the engine that runs the batches."""
        return self._engine.backend

    @property
    def state(self) -> EngineState:
        """State of the engine that runs the batches."""
        return self._engine.state

    @property
    def concurrency(self) -> int:
        """Two batches of single rows: while one runs, the next one fills."""
        return 2 * self._max_batch_size

    def infer(self, inputs: Arrays) -> Arrays:
        """Run the network once, together with other callers; see `engines.engine.Engine`.

        An error of a batch is raised in all of its callers. Inputs that do not fit fail their
        caller alone.
        """
        self.spec.check(inputs)
        rows = _rows(self.spec.name, inputs)
        with self._lock:
            if self._closed:
                raise EngineError(f"{self.spec.name}: the engine is closed")
            self._callers += 1
            try:
                batch, first_row, leads = self._join(inputs, rows)
                if not leads:
                    while not batch.done:
                        self._pause(batch.changed, None)
            except BaseException:
                self._leave()
                raise
        try:
            if leads:
                self._run(batch)
            if batch.error is not None:
                raise batch.error if leads else _copy_of(batch.error)
            # Copies: a caller that keeps its rows must not keep the whole batch.
            span = slice(first_row, first_row + rows)
            return {name: array[span].copy() for name, array in batch.outputs.items()}
        finally:
            with self._lock:
                self._leave()

    def close(self) -> None:
        """Refuse further calls, finish those in progress, then close the engine behind this."""
        with self._lock:
            self._closed = True
            self._complete_all()
            while self._callers:
                self._idle.wait()
        self._engine.close()

    def _join(self, inputs: Arrays, rows: int) -> tuple[_Batch, int, bool]:
        """Return the batch of a call, its first row in it, and whether the call runs the batch."""
        key = tuple(inputs[tensor.name].shape[1:] for tensor in self.spec.inputs)
        batch = self._open.get(key)
        if batch is not None and batch.rows + rows > self._max_batch_size:
            self._complete(batch)
            batch = None
        leads = batch is None
        if batch is None:
            due = self._clock() + self._delay_s
            batch = _Batch(key, due, threading.Condition(self._lock))
            self._open[key] = batch
            self._queue.append(batch)
        first_row = batch.rows
        batch.calls.append((inputs, rows))
        batch.rows += rows
        if batch.rows >= self._max_batch_size:
            self._complete(batch)
        if self._callers >= self._clients:
            self._complete_all()
        return batch, first_row, leads

    def _complete(self, batch: _Batch) -> None:
        """Close the batch to further calls."""
        self._open.pop(batch.key, None)
        batch.complete = True
        batch.changed.notify_all()

    def _complete_all(self) -> None:
        """Let no batch wait for others; calls may still join until it runs."""
        for batch in self._queue:
            batch.complete = True
            batch.changed.notify_all()

    def _run(self, batch: _Batch) -> None:
        """Wait for the batch's turn and run it; its results or its error are stored in it."""
        running = False
        try:
            with self._lock:
                self._await_turn(batch)
                running = True
            batch.outputs = self._checked(self._engine.infer(_joined(batch.calls)), batch.rows)
        # Any error is raised in every caller, so that none waits for ever.
        except BaseException as error:  # noqa: BLE001
            batch.error = error
        with self._lock:
            if running:
                self._running = False
            self._withdraw(batch)
            batch.done = True
            batch.changed.notify_all()
            self._wake_next()

    def _await_turn(self, batch: _Batch) -> None:
        while not (batch.complete and not self._running and self._next() is batch):
            left_s = None if batch.complete else batch.due - self._clock()
            if left_s is not None and left_s <= 0:
                batch.complete = True
            else:
                self._pause(batch.changed, left_s)
        self._running = True
        self._withdraw(batch)

    def _withdraw(self, batch: _Batch) -> None:
        if self._open.get(batch.key) is batch:
            del self._open[batch.key]
        if batch in self._queue:
            self._queue.remove(batch)

    def _next(self) -> _Batch | None:
        return next((batch for batch in self._queue if batch.complete), None)

    def _wake_next(self) -> None:
        following = self._next()
        if following is not None and not self._running:
            following.changed.notify_all()

    def _leave(self) -> None:
        self._callers -= 1
        if not self._callers:
            self._idle.notify_all()

    def _checked(self, outputs: Arrays, rows: int) -> Arrays:
        for name, array in outputs.items():
            if array.shape[:1] != (rows,):
                raise EngineError(
                    f"{self.spec.name}: a batch of {rows} returned {name} {array.shape}: "
                    "its first side is not the batch"
                )
        return outputs


def _rows(name: str, inputs: Arrays) -> int:
    sides: set[int] = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
    if len(sides) != 1 or 0 in sides:
        shapes = ", ".join(f"{key} {array.shape}" for key, array in inputs.items())
        raise ModelMismatch(f"{name}: the first sides of a batch must be equal, got {shapes}")
    return sides.pop()


def _joined(calls: list[tuple[Arrays, int]]) -> Arrays:
    if len(calls) == 1:
        return calls[0][0]
    return {name: np.concatenate([inputs[name] for inputs, _ in calls]) for name in calls[0][0]}


def _copy_of(error: BaseException) -> BaseException:
    """Return a copy of an error for another thread: a traceback belongs to one thread."""
    if isinstance(error, EngineError):
        copy: BaseException = type(error)(*error.args)
    else:
        copy = EngineError(f"the batch failed in another thread: {error!r}")
    copy.__cause__ = error
    return copy
