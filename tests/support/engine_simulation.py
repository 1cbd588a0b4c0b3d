"""Discrete-event simulation of cameras at one engine: real links and seats, simulated time."""

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from streamer.core.frame import Frame
from streamer.core.link import Link
from streamer.core.pipeline import live_links
from streamer.detect.inference_scheduler import InferenceScheduler, Seat, SeatStatistics

from .frames import GREY

NS = 1_000_000_000


class SimulatedClock:
    """Stands still until the simulation moves it."""

    def __init__(self) -> None:
        self.now_ns = NS

    def monotonic_ns(self) -> int:
        return self.now_ns


class WouldWait(Exception):  # noqa: N818  not an error
    """The receiver would wait."""


class _Waiting:
    """Stands in for the condition on which the receiver of a link waits."""

    def __init__(self) -> None:
        self.timeout_s: float | None = None

    def wait(self, timeout_s: float | None) -> None:
        self.timeout_s = timeout_s
        raise WouldWait

    def wait_for(self, _: Callable[[], bool]) -> None:
        self.timeout_s = None
        raise WouldWait

    def notify(self) -> None:
        """Do nothing: the simulation asks every receiver after each event."""

    notify_all = notify


@dataclass
class Camera:
    """What one camera sends, and what became of it."""

    fps: float
    """Frames per second; each `sample_every`-th of them is sampled for inference."""
    budget_s: float = 2.0
    phase_s: float = 0.0
    min_fps: float = 0.2
    sample_every: int = 1
    delay_s: float = 0.0
    """Age of a frame when it comes out of the decoder."""
    service_s: Callable[[], float] = lambda: 0.1
    seat: Seat = field(init=False)
    link: Link[Frame] = field(init=False)
    passed: list[Frame] = field(default_factory=list)
    starts_s: list[float] = field(default_factory=list)
    ends_s: list[float] = field(default_factory=list)
    ages_s: list[float] = field(default_factory=list)
    inferring: Frame | None = None
    timer_ns: int | None = None

    @property
    def interval_s(self) -> float:
        return self.sample_every / self.fps

    def in_time(self, after_s: float = 0.0) -> int:
        return sum(
            age <= self.budget_s
            for start, age in zip(self.starts_s, self.ages_s, strict=False)
            if start >= after_s
        )

    def spans_s(self) -> list[tuple[float, float]]:
        """Start and end of each inference; the last one may not have ended."""
        ends = [*self.ends_s, *[start + 1e-9 for start in self.starts_s[len(self.ends_s) :]]]
        return list(zip(self.starts_s, ends, strict=True))

    def gaps_s(self, now_s: float) -> list[float]:
        """Times without a start of an inference, until *now_s*; none while one runs."""
        begins = [1 + self.phase_s, *self.starts_s]
        ends = [*self.starts_s, now_s]
        if self.inferring is not None:
            begins, ends = begins[:-1], ends[:-1]
        return [end - begin for begin, end in zip(begins, ends, strict=True)]


class Simulation:
    """Runs cameras at an engine with *slots* for *seconds*."""

    def __init__(self, cameras: Sequence[Camera], *, slots: int = 1) -> None:
        self.clock = SimulatedClock()
        self.cameras = cameras
        self.slots = slots
        self.busy_s = 0.0
        self.most_running = 0
        self.scheduler = InferenceScheduler(lambda: slots, clock=self.clock)
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        for index, camera in enumerate(cameras):
            interval_ns = round(NS * camera.interval_s)
            camera.seat = self.scheduler.seat(
                str(index),
                budget_ns=round(NS * camera.budget_s),
                interval_ns=interval_ns,
                min_interval_ns=max(interval_ns, round(NS / camera.min_fps)),
            )
            make_link = live_links(latency_budget_ns=round(NS * camera.budget_s), clock=self.clock)
            camera.link = make_link("link", gate=camera.seat)
            camera.link._arrived = _Waiting()

    def run(self, seconds: float) -> None:
        end_ns = self.clock.now_ns + round(NS * seconds)
        for camera in self.cameras:
            self._at(self.clock.now_ns + round(NS * camera.phase_s), self._arrival(camera, 0))
        while self._events and self._events[0][0] <= end_ns:
            at_ns, _, event = heapq.heappop(self._events)
            self.clock.now_ns = max(self.clock.now_ns, at_ns)
            event()
            self._receive()
        self.clock.now_ns = end_ns

    def close(self) -> None:
        for camera in self.cameras:
            camera.link.abort()

    def statistics(self) -> list[SeatStatistics]:
        return [camera.seat.statistics() for camera in self.cameras]

    def _at(self, at_ns: int, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_ns, next(self._order), event))

    def _arrival(self, camera: Camera, number: int) -> Callable[[], None]:
        def event() -> None:
            now_ns = self.clock.now_ns
            frame = Frame(
                GREY,
                pts_ns=number,
                arrived_ns=now_ns - round(NS * camera.delay_s),
                number=number,
                sampled=number % camera.sample_every == 0,
            )
            camera.link.put(frame)
            following = self._arrival(camera, number + 1)
            self._at(now_ns + round(NS / camera.fps), following)

        return event

    def _receive(self) -> None:
        """Let every idle receiver take what it gets, until all of them wait."""
        moved = True
        while moved:
            moved = False
            for camera in self.cameras:
                while camera.inferring is None:
                    try:
                        frame = camera.link._get()
                    except WouldWait:
                        break
                    assert frame is not None
                    moved = True
                    camera.passed.append(frame)
                    if frame.sampled:
                        self._start(camera, frame)
                timeout_s = camera.link._arrived.timeout_s
                if camera.inferring is None and timeout_s is not None:
                    self._wake_at(camera, self.clock.now_ns + round(NS * timeout_s))
        running = sum(camera.inferring is not None for camera in self.cameras)
        self.most_running = max(self.most_running, running)

    def _wake_at(self, camera: Camera, at_ns: int) -> None:
        """Ask the receivers again then; one timer for each camera."""
        if camera.timer_ns is None or camera.timer_ns > at_ns:
            camera.timer_ns = at_ns

            def event() -> None:
                if camera.timer_ns == at_ns:
                    camera.timer_ns = None

            self._at(at_ns, event)

    def _start(self, camera: Camera, frame: Frame) -> None:
        inference = camera.seat.inference(frame)
        inference.__enter__()
        camera.inferring = frame
        camera.starts_s.append(self.clock.now_ns / NS)
        service_s = camera.service_s()
        self.busy_s += service_s

        def finish() -> None:
            inference.__exit__(None, None, None)
            camera.inferring = None
            camera.ends_s.append(self.clock.now_ns / NS)
            camera.ages_s.append((self.clock.now_ns - frame.arrived_ns) / NS)

        self._at(self.clock.now_ns + round(NS * service_s), finish)
