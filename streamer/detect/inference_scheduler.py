"""Which camera's frame is inferred next: admission to an engine that all cameras share.

An engine runs only so many inferences at once, its *slots*. Frames of live cameras wait for a slot
in front of the engine, never inside it, where they could neither be replaced by newer ones nor be
given up. The rules:

* *Newest first.* A camera waits with its newest frame. An older one is passed on without an
  inference as soon as a newer one arrives; the right to an inference moves to the newer frame.
* *Admission before the work.* An inference that cannot end within the latency budget, by the
  measured service times of that camera, is not started. One that ends in time with a probability of
  95 % is preferred to one that does with 50 %; less is not tried.
* *Order.* While everything that waits can be served in time: earliest deadline first. Otherwise
  the camera goes first whose last inference is the longest ago, which shares the engine by max-min
  fairness: no camera gets more than another one that wants more than it gets.
* *Guaranteed minimum.* A camera that would fall below its minimum rate, and whose results cannot be
  in time, gets late ones: no camera goes blind because the engine is slow.

It has no thread of its own and reads only the clock that it is given. `Seat` is the `Gate` of the
link in front of a camera's detect stage.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from streamer.core.clock import Clock
from streamer.core.frame import Frame
from streamer.core.latency import LatencyCounts, LatencyHistogram

from .overload import OverloadMonitor, OverloadState
from .service_time import ServiceTime

_NS: Final = 1_000_000_000

_AFTERWARDS: Final = 0.05
"""Share of the latency budget that is kept free for what follows the inference: alarm, overlay,
sinks. Arbitrary; they take milliseconds on an idle machine."""

_TICK_S: Final = 0.001
"""Added to a wait so that it does not end a moment too early."""

_REFUSALS: Final = 3
"""So many frames in a row may get no inference for lack of time before the camera's guaranteed
minimum is kept with late results. Its turn comes first, so its next frame will probably be in time;
late results at once would delay other cameras' frames, until all of them are late."""


SKIPPED: Final = ("superseded", "no_time", "failed", "discarded")
"""Reasons why a sampled frame was not inferred: a newer one took its place; it could not be
finished within the latency budget; the detector raised an error; the pipeline ended."""


@dataclass(frozen=True, slots=True)
class SeatStatistics:
    """Inferences of one camera since the program started.

    Every frame that was sampled for inference is counted once: wanted = inferred + the sum of
    skipped + `waiting` + 1 if `running_since_ns` is not `None`.
    """

    wanted: int
    """Frames that were sampled for inference."""

    inferred: int
    late: int
    """Of the inferred ones, those that ended after the latency budget."""

    skipped: Mapping[str, int]
    """By reason, one of `SKIPPED`."""

    waiting: int
    """Frames that wait for the engine."""

    running_since_ns: int | None
    """When the inference in progress began."""

    service: LatencyCounts
    """How long inferences took, from the start of one to its result."""

    overload: OverloadState

    @property
    def skipped_total(self) -> int:
        """Sampled frames that were not inferred."""
        return sum(self.skipped.values())


class InferenceScheduler:
    """Grants the slots of one engine to the seats of its cameras. Thread-safe.

    Args:
        slots: Returns how many inferences the engine runs at once; at least 1 is assumed.
        clock: Measures ages and service times.
    """

    def __init__(self, slots: Callable[[], int], *, clock: Clock) -> None:
        self._slots = slots
        self.clock = clock
        self.lock = threading.Lock()
        """Guards the scheduler, its seats, and the links in front of them."""

        # All below are guarded by lock.
        self._seats: list[Seat] = []
        self._removed: list[Seat] = []

    def seat(
        self, camera: str, *, budget_ns: int, interval_ns: int, min_interval_ns: int
    ) -> "Seat":
        """Return a new seat.

        Args:
            camera: Name of the camera.
            budget_ns: Age at which a result is late.
            interval_ns: Time between two sampled frames.
            min_interval_ns: Time between two inferences that is guaranteed at least.
        """
        if min(budget_ns, interval_ns, min_interval_ns) < 1:
            raise ValueError(
                "budget_ns, interval_ns and min_interval_ns must be at least 1, got "
                f"{budget_ns}, {interval_ns} and {min_interval_ns}"
            )
        seat = Seat(self, camera, budget_ns, interval_ns, min_interval_ns)
        with self.lock:
            self._seats.append(seat)
        return seat

    def remove(self, seat: "Seat") -> None:
        """Forget the seat of a camera that is not watched any more.

        An inference that is still in progress, e.g. one that hangs, keeps its slot until it ends.
        """
        with self.lock:
            self._removed.append(seat)
            self._forget_removed()

    def seats(self) -> "list[Seat]":
        """Return all seats."""
        with self.lock:
            return list(self._seats)

    def dispatch(self, now_ns: int) -> None:
        """Grant free slots to waiting seats. The lock is held."""
        if self._removed:
            self._forget_removed()
        free = max(1, self._slots()) - sum(seat.holds_slot for seat in self._seats)
        while free > 0 and (seat := self._next(now_ns)) is not None:
            seat.grant(now_ns)
            free -= 1

    def estimate_ns(self) -> int:
        """Return the service time of a camera that has not been measured yet. The lock is held."""
        known = [seat.service.typical_ns for seat in self._seats if seat.service.known]
        return sorted(known)[len(known) // 2] if known else 0

    def _forget_removed(self) -> None:
        for seat in [one for one in self._removed if not one.holds_slot]:
            self._removed.remove(seat)
            if seat in self._seats:
                self._seats.remove(seat)

    def _next(self, now_ns: int) -> "Seat | None":
        waiting = [seat for seat in self._seats if seat.waits]
        in_time = [seat for seat in waiting if seat.will_be_in_time(now_ns)]
        if len(in_time) == len(waiting) and self._all_fit(in_time, now_ns):
            return min(in_time, key=Seat.due_ns, default=None)
        chosen = in_time or [seat for seat in waiting if seat.can_be_in_time(now_ns)]
        chosen += [seat for seat in waiting if seat.may_be_late(now_ns)]
        return min(chosen, key=_longest_unserved, default=None)

    def _all_fit(self, seats: "list[Seat]", now_ns: int) -> bool:
        """Whether each can start in time if they start in the order of their deadlines."""
        starts_ns, slots = float(now_ns), max(1, self._slots())
        for seat in sorted(seats, key=Seat.due_ns):
            if starts_ns > seat.due_ns():
                return False
            starts_ns += seat.high_ns / slots
        return True


def _longest_unserved(seat: "Seat") -> int:
    return seat.last_start_ns


class Seat:
    """One camera's place at the engine: its waiting frame, its inference, its counts.

    It is the `Gate` of the link in front of the camera's detect stage. The methods of a gate, and
    those for the scheduler, are called with the scheduler's lock held. It outlives restarts of the
    pipeline.
    """

    def __init__(
        self,
        scheduler: InferenceScheduler,
        camera: str,
        budget_ns: int,
        interval_ns: int,
        min_interval_ns: int,
    ) -> None:
        self.camera = camera
        self.lock = scheduler.lock
        self._scheduler = scheduler
        self._clock = scheduler.clock
        self._budget_ns = budget_ns
        self._usable_ns = round(budget_ns * (1 - _AFTERWARDS))
        self._interval_ns = interval_ns
        self._min_interval_ns = max(min_interval_ns, interval_ns)
        self._wake: Callable[[], None] = _nobody
        # All below are guarded by lock.
        self.service = ServiceTime()
        self.holds_slot = False
        """From the grant to the end of the inference."""
        self.last_start_ns = -(2**63)
        self._refusals = 0
        self._futile = (
            False  # Whether the waiting frame came too late or its inference takes too long.
        )
        self._head: Frame | None = None  # The frame that the link offered last.
        self._claimed_ns: int | None = (
            None  # Since when an inference is wanted; kept by newer ones.
        )
        self._running_ns: int | None = None
        self._wanted = self._in_time = self._late = 0
        self._skipped: Counter[str] = Counter()
        self._services = LatencyHistogram()
        self._monitor = OverloadMonitor(interval_ns)

    # For the link.

    def attach(self, wake: Callable[[], None]) -> None:
        """Begin with a new link, whose receiver *wake* wakes."""
        self._wake = wake

    def arrived(self, frame: Frame) -> None:
        """Count a frame that was put into the link."""
        if _wants_inference(frame):
            self._wanted += 1
            self._overload(self._clock.monotonic_ns())

    def dropped(self, frame: Frame) -> None:
        """Count a frame that was pushed out of the full link by a newer one."""
        # The right of the frame that was offered last moves to the next one.
        if _wants_inference(frame) and frame is not self._head:
            self._skipped["superseded"] += 1

    def discarded(self, frame: Frame) -> None:
        """Count a frame that still waited when the pipeline ended."""
        if _wants_inference(frame) and frame is not self._head:
            self._skipped["discarded"] += 1

    def closed(self) -> None:
        """Give up the frame that waits: the link delivers no more. A running inference goes on."""
        if self._running_ns is None:
            self._withdraw("discarded")

    def admit(self, frame: Frame, *, newer: bool, closing: bool) -> Frame | None:
        """Return the oldest waiting frame to be delivered now, or `None` to let it wait.

        A frame that is returned with `sampled` set is to be inferred now, others never.

        Args:
            frame: The oldest frame in the link.
            newer: Whether others wait behind it.
            closing: Whether no frames will follow.
        """
        if frame.synthetic:
            return frame
        now_ns = self._clock.monotonic_ns()
        if frame is not self._head:
            self._offer(frame, now_ns)
        if self._claimed_ns is None:
            return frame
        if not newer and not self.holds_slot:
            self._scheduler.dispatch(now_ns)
        if newer:  # Its right moves to the newer frame.
            return replace(frame, sampled=False)
        if self.holds_slot:
            self._claimed_ns = None
            self._running_ns = now_ns
            return replace(frame, sampled=True)
        if self.can_be_in_time(now_ns) or (self.may_be_late(now_ns) and not closing):
            return None
        self._refusals += 1
        self._withdraw("no_time")
        return replace(frame, sampled=False)

    def patience_s(self) -> float | None:
        """Return for how long the frame may wait before `admit` must be called again."""
        left_ns = self._start_by_ns(self._typical_ns) - self._clock.monotonic_ns()
        return left_ns / _NS + _TICK_S if left_ns >= 0 else None

    # For the scheduler.

    @property
    def waits(self) -> bool:
        """Whether a frame waits for a slot."""
        return self._claimed_ns is not None and not self.holds_slot

    def grant(self, now_ns: int) -> None:
        """Give it a slot, until its inference ends."""
        self.holds_slot = True
        self.last_start_ns = now_ns
        self._refusals = 0
        self._wake()

    def will_be_in_time(self, now_ns: int) -> bool:
        """Whether an inference that starts now will very likely be in time."""
        return now_ns <= self._start_by_ns(self.high_ns)

    def can_be_in_time(self, now_ns: int) -> bool:
        """Whether an inference that starts now is more likely in time than not."""
        return now_ns <= self._start_by_ns(self._typical_ns)

    def may_be_late(self, now_ns: int) -> bool:
        """Whether a late result is better than missing the guaranteed minimum."""
        owed = now_ns + self._interval_ns - self.last_start_ns > self._min_interval_ns
        return owed and (self._futile or self._refusals >= _REFUSALS)

    def due_ns(self) -> int:
        """Return when the inference must start: in time for the budget and for the next frame."""
        assert self._claimed_ns is not None
        return min(self._start_by_ns(self.high_ns), self._claimed_ns + self._interval_ns)

    @property
    def high_ns(self) -> int:
        """What its inference will very likely take at most."""
        return self.service.high_ns if self.service.known else self._scheduler.estimate_ns()

    @property
    def _typical_ns(self) -> int:
        return self.service.typical_ns if self.service.known else self._scheduler.estimate_ns()

    def _start_by_ns(self, takes_ns: int) -> int:
        assert self._head is not None
        return self._head.arrived_ns + self._usable_ns - takes_ns

    # For the detect stage and the status. These take the lock.

    @contextmanager
    def inference(self, frame: Frame) -> Iterator[None]:
        """Measure the inference of an admitted frame, and free its slot at the end."""
        completed = False
        try:
            yield
            completed = True
        finally:
            with self.lock:
                now_ns = self._clock.monotonic_ns()
                if self._running_ns is not None and completed:
                    self._note_result(frame, now_ns - self._running_ns, now_ns)
                self._withdraw("failed")

    def is_late(self, frame: Frame) -> bool:
        """Whether a result of *frame* is late at this moment."""
        return self._clock.monotonic_ns() - frame.arrived_ns > self._budget_ns

    def statistics(self) -> SeatStatistics:
        """Return a consistent snapshot."""
        with self.lock:
            now_ns = self._clock.monotonic_ns()
            inferred = self._in_time + self._late
            skipped = self._skipped.total()
            running_ns = self._running_ns
            return SeatStatistics(
                wanted=self._wanted,
                inferred=inferred,
                late=self._late,
                skipped=dict(self._skipped),
                waiting=self._wanted - inferred - skipped - (running_ns is not None),
                running_since_ns=running_ns,
                service=self._services.counts(),
                overload=self._overload(now_ns),
            )

    def _overload(self, now_ns: int) -> OverloadState:
        ended = self._in_time + self._late + self._skipped.total()
        return self._monitor.update(now_ns, wanted=ended, in_time=self._in_time, late=self._late)

    def _offer(self, frame: Frame, now_ns: int) -> None:
        """Consider a frame that has become the oldest of the link."""
        self._head = frame
        if not _wants_inference(frame):
            return
        if self._claimed_ns is not None:
            self._skipped["superseded"] += 1
            return
        self._claimed_ns = now_ns
        self._futile = not self.can_be_in_time(now_ns)
        if self._futile and now_ns - frame.arrived_ns < self._usable_ns // 2:
            self.service.refuse()

    def _note_result(self, frame: Frame, took_ns: int, now_ns: int) -> None:
        self.service.add(took_ns)
        self._services.add(took_ns)
        if now_ns - frame.arrived_ns > self._budget_ns:
            self._late += 1
        else:
            self._in_time += 1
        self._running_ns = None

    def _withdraw(self, reason: str) -> None:
        """End what is in progress; an inference that is not made counts as skipped."""
        if self._claimed_ns is not None or self._running_ns is not None:
            self._skipped[reason] += 1
        self._claimed_ns = self._running_ns = self._head = None
        if self.holds_slot:
            self.holds_slot = False
            self._scheduler.dispatch(self._clock.monotonic_ns())


def _nobody() -> None:
    """Wake nobody: there is no link."""


def _wants_inference(frame: Frame) -> bool:
    return frame.sampled and not frame.synthetic
