"""Threads: who starts them, who stops them, and where their errors go.

Every part runs in a thread of its own; two neighbours share nothing but a link. What
happens to a failed camera afterwards is decided in `service`, not here.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

from .clock import CancelToken, Clock, SystemClock
from .errors import Cancelled, ConsumerClosed
from .frame import Frame
from .link import Link, LinkStatistics, Overflow

Frames = Iterator[Frame]


class Source(Protocol):
    """Opens a stream when called and yields its frames in order of `pts_ns`."""

    def __call__(self, stop: CancelToken, /) -> Frames: ...  # noqa: D102  described by the class


class Stage(Protocol):
    """Turns frames into frames: fewer, as many, or more."""

    def __call__(self, frames: Frames, /) -> Frames: ...  # noqa: D102  described by the class


class Sink(Protocol):
    """Uses frames up; returns when they end, having finished its output."""

    def __call__(self, frames: Frames, /) -> None: ...  # noqa: D102  described by the class


class Worker(Protocol):
    """Works beside the frames, e.g. a recorder that follows the packet ring.

    Returns when its own input ends; returns soon, or raises `Cancelled`, once stop is set.
    """

    def __call__(self, stop: CancelToken, /) -> None: ...  # noqa: D102  described by the class


LinkFactory = Callable[[str], Link[Frame]]


def live_links(
    *, latency_budget_ns: int, clock: Clock | None = None, capacity: int = 2
) -> LinkFactory:
    """Links for live pictures: the newest counts, and none older than the budget arrives.

    A capacity of two lets a stage work on one picture while the next waits; more would only
    make pictures older.
    """
    return partial(
        Link,
        capacity=capacity,
        overflow=Overflow.DROP_OLDEST,
        max_age_ns=latency_budget_ns,
        clock=clock or SystemClock(),
    )


def file_links(*, capacity: int = 4, clock: Clock | None = None) -> LinkFactory:
    """Links for files: nothing is lost, the slowest part sets the pace."""
    return partial(Link, capacity=capacity, overflow=Overflow.BLOCK, clock=clock or SystemClock())


class Pipeline:
    """One source, stages in a row, sinks side by side, and workers beside them.

    Threads are named `<pipeline>/<part>`. The pipeline owns them: `run` returns only when
    all of them have ended. With `BLOCK` links a slow sink slows all the others; with
    `DROP_OLDEST` it costs only itself.

    Args:
        name: For threads, links and errors; usually the camera's.
        source: Where the frames come from.
        stages: By name, in order.
        sinks: By name; each gets every frame. Without any, frames end after the last stage.
        make_link: Makes the link in front of each stage and sink.
        workers: By name; they end with the pipeline.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        stages: Mapping[str, Stage],
        sinks: Mapping[str, Sink],
        *,
        make_link: LinkFactory,
        workers: Mapping[str, Worker] | None = None,
    ) -> None:
        self.name = name
        self._stop = CancelToken()
        self._finish = CancelToken()
        self._stop.on_cancel(self._finish.set)
        self._guard = threading.Lock()
        self._errors: list[Exception] = []  # Guarded by _guard.
        self._threads: list[threading.Thread] = []
        self._links: list[Link[Frame]] = []

        inlets = {part: make_link(f"{name}/{part}") for part in (*stages, *sinks)}
        self._links.extend(inlets.values())
        sink_inlets = [inlets[part] for part in sinks]
        # The outlets of the source, then of each stage: the next stage's inlet, at last the sinks'.
        outlets = [*([inlets[part]] for part in stages), sink_inlets]

        self._add("source", partial(self._produce, partial(source, self._finish), outlets[0]))
        for (part, stage), outlet in zip(stages.items(), outlets[1:], strict=True):
            self._add(part, partial(self._transform, stage, inlets[part], outlet))
        for part, sink in sinks.items():
            self._add(part, partial(_consume, sink, inlets[part]))
        for part, worker in (workers or {}).items():
            self._add(part, partial(worker, self._stop))

    def run(self) -> None:
        """Run until the source ends, a part fails, or `stop` is called.

        Raises:
            ExceptionGroup: With the error of each part that failed.
        """
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise ExceptionGroup(f"pipeline {self.name!r} failed", self._errors)

    def finish(self) -> None:
        """End the source; what is on its way is finished. From any thread, any number of times."""
        self._finish.set()

    def stop(self) -> None:
        """Make every part end soon. From any thread, any number of times."""
        self._stop.set()
        for link in self._links:
            link.abort()

    def statistics(self) -> list[LinkStatistics]:
        """One entry per link, stages first; from any thread."""
        return [link.statistics() for link in self._links]

    def _add(self, part: str, work: Callable[[], None]) -> None:
        def body() -> None:
            try:
                work()
            except Cancelled:
                pass
            except Exception as error:  # noqa: BLE001  any failure of any part ends the pipeline
                error.add_note(f"in thread {self.name}/{part}")
                with self._guard:
                    self._errors.append(error)
                self.stop()

        self._threads.append(threading.Thread(target=body, name=f"{self.name}/{part}"))

    def _produce(self, start: Callable[[], Frames], outlets: Sequence[Link[Frame]]) -> None:
        frames = start()
        try:
            _deliver(frames, outlets, until=self._finish)
        except Cancelled:
            # `finish` cut a pause of the source short: an ordinary end unless all is stopping.
            if self._stop.is_set():
                raise
        finally:
            _close(frames)
        for outlet in outlets:
            outlet.close()

    def _transform(self, stage: Stage, inlet: Link[Frame], outlets: Sequence[Link[Frame]]) -> None:
        frames = stage(iter(inlet))
        try:
            _deliver(frames, outlets, until=self._stop)
        finally:
            _close(frames)
            inlet.leave()
        for outlet in outlets:
            outlet.close()


def _consume(sink: Sink, inlet: Link[Frame]) -> None:
    try:
        sink(iter(inlet))
    finally:
        inlet.leave()


def _deliver(frames: Frames, outlets: Sequence[Link[Frame]], *, until: CancelToken) -> None:
    """Give every frame to every outlet whose receiver is still there."""
    wanted = list(outlets)
    for frame in frames:
        for outlet in tuple(wanted):
            try:
                outlet.put(frame)
            except ConsumerClosed:
                wanted.remove(outlet)
                if not wanted:  # Like a closed pipe, this ends the sender too.
                    return
        if until.is_set():
            return


def _close(frames: Frames) -> None:
    """Let a generator run its `finally`; other iterators have nothing to close."""
    close = getattr(frames, "close", None)
    if close is not None:
        close()
