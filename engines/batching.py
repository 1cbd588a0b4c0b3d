"""Joins the calls of many threads into batches, within a deadline: one launch for many cameras.

An engine in front of an engine whose arrays all begin with the batch. It has no thread of its own:
the first caller of a batch waits for others, runs it and hands out what came of it.
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
"""Of a camera's latency budget a call may wait for others: twice at most, for both looks.
Arbitrary; the other nine tenths are for decoding, queues and the network."""


def longest_wait_s(*, latency_budget_ms: float, look_interval_s: float) -> float:
    """How long a call may wait for others.

    Args:
        latency_budget_ms: smallest of all cameras.
        look_interval_s: smallest of all cameras; who waits longer than part of it falls behind.
    """
    return SHARE_OF_BUDGET * min(latency_budget_ms / 1000, look_interval_s)


@dataclass(slots=True, eq=False)
class _Batch:
    """Calls that run together. All fields are guarded by the batcher's lock."""

    key: _Key
    due: float
    changed: threading.Condition
    calls: list[tuple[Arrays, int]] = field(default_factory=list)
    """What each call gave, and how many rows of it."""
    rows: int = 0
    leaves: bool = False
    """Whether it waits for nobody any more, only for its turn."""
    done: bool = False
    outputs: Arrays = field(default_factory=dict)
    error: BaseException | None = None


class Batcher:
    """An `engines.engine.Engine` that many threads share.

    A batch leaves when it is full, when its first call has waited for `wait_s`, or when nobody is
    left who could join it. Then it waits for its turn, and whoever comes meanwhile still joins.

    Args:
        engine: runs batches, several at once; closed with this.
        most: rows of a batch; a call of more runs alone.
        callers: threads that call; when all of them wait, none waits any longer.
        wait_s: see above.
        at_once: batches that run side by side: copies of one overlap the arithmetic of another.
        clock: seconds that never fall.
        pause: waits for a condition, at most so many seconds; for tests.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        most: int,
        callers: int,
        wait_s: float,
        at_once: int = 2,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[threading.Condition, float | None], object] = threading.Condition.wait,
    ) -> None:
        if min(most, callers, at_once) < 1 or wait_s < 0:
            raise ValueError(
                f"most, callers and at_once must be at least 1 and wait_s at least 0, "
                f"got {most}, {callers}, {at_once} and {wait_s}"
            )
        self._engine = engine
        self.spec = engine.spec
        self._most, self._callers, self._at_once = most, callers, at_once
        self._wait_s, self._clock, self._pause = wait_s, clock, pause
        self._lock = threading.Lock()  # Guards all below, and every batch.
        self._left = threading.Condition(self._lock)
        self._open: dict[_Key, _Batch] = {}
        self._queue: list[_Batch] = []  # Not yet running, oldest first.
        self._running = 0
        self._inside = 0
        self._closed = False

    @property
    def backend(self) -> str:
        """Of the engine behind."""
        return self._engine.backend

    @property
    def state(self) -> EngineState:
        """Of the engine behind."""
        return self._engine.state

    def infer(self, inputs: Arrays) -> Arrays:
        """Run the network once, with whoever else calls; see `engines.engine.Engine`.

        What fails a batch fails all of its calls. Inputs that do not fit fail their caller alone.
        """
        self.spec.check(inputs)
        rows = _rows(self.spec.name, inputs)
        with self._lock:
            if self._closed:
                raise EngineError(f"{self.spec.name}: the engine is closed")
            self._inside += 1
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
                raise batch.error if leads else _again(batch.error)
            # Copies: who keeps one picture must not keep the whole batch.
            span = slice(first_row, first_row + rows)
            return {name: array[span].copy() for name, array in batch.outputs.items()}
        finally:
            with self._lock:
                self._leave()

    def close(self) -> None:
        """Refuse further calls, finish those under way, then close the engine behind."""
        with self._lock:
            self._closed = True
            self._let_go()
            while self._inside:
                self._left.wait()
        self._engine.close()

    def _join(self, inputs: Arrays, rows: int) -> tuple[_Batch, int, bool]:
        """The batch of a call, its first row there, and whether the call leads it."""
        key = tuple(inputs[tensor.name].shape[1:] for tensor in self.spec.inputs)
        batch = self._open.get(key)
        if batch is not None and batch.rows + rows > self._most:
            self._send(batch)
            batch = None
        leads = batch is None
        if batch is None:
            due = self._clock() + self._wait_s
            batch = _Batch(key, due, threading.Condition(self._lock))
            self._open[key] = batch
            self._queue.append(batch)
        first_row = batch.rows
        batch.calls.append((inputs, rows))
        batch.rows += rows
        if batch.rows >= self._most:
            self._send(batch)
        if self._inside >= self._callers:
            self._let_go()
        return batch, first_row, leads

    def _send(self, batch: _Batch) -> None:
        """Nobody joins it any more."""
        self._open.pop(batch.key, None)
        batch.leaves = True
        batch.changed.notify_all()

    def _let_go(self) -> None:
        """Nobody else will come: whoever waits for company need not."""
        for batch in self._queue:
            batch.leaves = True
            batch.changed.notify_all()

    def _run(self, batch: _Batch) -> None:
        """Wait for the batch's turn and run it; what came of it, or went wrong, is in it then."""
        running = False
        try:
            with self._lock:
                self._await_turn(batch)
                running = True
            batch.outputs = self._checked(self._engine.infer(_joined(batch.calls)), batch.rows)
        # Whatever it was: it is raised again in every caller, and none is left waiting.
        except BaseException as error:  # noqa: BLE001
            batch.error = error
        with self._lock:
            self._running -= running
            self._withdraw(batch)
            batch.done = True
            batch.changed.notify_all()
            self._wake_next()

    def _await_turn(self, batch: _Batch) -> None:
        while not (batch.leaves and self._running < self._at_once and self._next() is batch):
            left_s = None if batch.leaves else batch.due - self._clock()
            if left_s is not None and left_s <= 0:
                batch.leaves = True
            else:
                self._pause(batch.changed, left_s)
        self._running += 1
        self._withdraw(batch)
        self._wake_next()

    def _withdraw(self, batch: _Batch) -> None:
        if self._open.get(batch.key) is batch:
            del self._open[batch.key]
        if batch in self._queue:
            self._queue.remove(batch)

    def _next(self) -> _Batch | None:
        return next((batch for batch in self._queue if batch.leaves), None)

    def _wake_next(self) -> None:
        following = self._next()
        if following is not None and self._running < self._at_once:
            following.changed.notify_all()

    def _leave(self) -> None:
        self._inside -= 1
        if not self._inside:
            self._left.notify_all()

    def _checked(self, outputs: Arrays, rows: int) -> Arrays:
        for name, array in outputs.items():
            if array.shape[:1] != (rows,):
                raise EngineError(
                    f"{self.spec.name}: of a batch of {rows} came {name} {array.shape}: "
                    "its first side is not the batch"
                )
        return outputs


def _rows(name: str, inputs: Arrays) -> int:
    sides: set[int] = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
    if len(sides) != 1 or 0 in sides:
        shapes = ", ".join(f"{key} {array.shape}" for key, array in inputs.items())
        raise ModelMismatch(f"{name}: the first sides of a batch must be alike, got {shapes}")
    return sides.pop()


def _joined(calls: list[tuple[Arrays, int]]) -> Arrays:
    if len(calls) == 1:
        return calls[0][0]
    return {name: np.concatenate([inputs[name] for inputs, _ in calls]) for name in calls[0][0]}


def _again(error: BaseException) -> BaseException:
    """The same error for another thread: a traceback belongs to one."""
    if isinstance(error, EngineError):
        copy: BaseException = type(error)(*error.args)
    else:
        copy = EngineError(f"the batch failed in another thread: {error!r}")
    copy.__cause__ = error
    return copy
