"""The pipeline: one source, stages in a row, sinks side by side. It owns the threads.

Every part runs in a thread of its own, and two neighbours share nothing but a link. The supervisor
decides what happens after a failure.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from typing import Protocol

from .clock import CancelToken, Clock, SystemClock
from .errors import Cancelled, ConsumerClosed, as_exception
from .frame import Frame
from .link import Gate, Link, LinkStatistics, Overflow

Frames = Iterator[Frame]


Source = Callable[[CancelToken], Frames]
"""Opens a stream and yields its frames in order of `pts_ns`, until it ends or the token is set.

It selects which frames are sampled for inference (`Frame.sampled`). It knows nothing of queues
and other cameras. A call is one attempt; a source around it repeats attempts. It raises
`SourceError` if the stream cannot be opened or broke off, and `Cancelled` if the token was set
while it waited."""

Stage = Callable[[Frames], Frames]
"""Yields the frames to pass on, in order of `pts_ns`: fewer, as many, or more.

It does no I/O, starts no thread and reads no clock of its own. `list(stage(iter(frames)))`
tests it."""

Sink = Callable[[Frames], None]
"""Consumes frames, e.g. writes a file, and returns when the output is finished. Returning early is
allowed. It does not know of other sinks."""

Worker = Callable[[CancelToken], None]
"""Runs beside the frames, e.g. a recorder that reads the packet ring, until the input ends. It
returns soon, or raises `Cancelled`, once the token is set."""


class LinkFactory(Protocol):
    """Makes the link in front of a stage or sink."""

    def __call__(self, name: str, /, *, gate: Gate[Frame] | None = None) -> Link[Frame]:
        """Return a link of this name, behind *gate* if there is one."""
        ...


def live_links(
    *, latency_budget_ns: int, clock: Clock | None = None, capacity: int = 2
) -> LinkFactory:
    """Return a factory of links for live frames, which drop frames rather than delay them.

    A full link drops frames that are not sampled for inference first: an output that shows
    every frame must not cost inferences. Capacity 2 lets a frame wait while a stage works on
    another; more would only make frames older.

    The age limit does not apply to a frame with the result of its inference, nor to one that a gate
    has admitted to its inference: the engine's work must not be lost.

    Args:
        latency_budget_ns: Frames older than this are dropped.
        clock: Measures ages.
        capacity: Maximum number of waiting frames per link.
    """
    clock = clock or SystemClock()

    def make_link(name: str, /, *, gate: Gate[Frame] | None = None) -> Link[Frame]:
        return Link(
            name,
            capacity=capacity,
            overflow=Overflow.DROP_OLDEST,
            max_age_ns=latency_budget_ns,
            expendable=_not_sampled,
            ageless=_has_fresh_result if gate is None else _sampled,
            gate=gate,
            clock=clock,
        )

    return make_link


def file_links(*, capacity: int = 4, clock: Clock | None = None) -> LinkFactory:
    """Return a factory of links for files: nothing is lost, the slowest part sets the speed."""
    return partial(Link, capacity=capacity, overflow=Overflow.BLOCK, clock=clock or SystemClock())


def _sampled(frame: Frame) -> bool:
    return frame.sampled


def _not_sampled(frame: Frame) -> bool:
    return not frame.sampled


def _has_fresh_result(frame: Frame) -> bool:
    return frame.has_fresh_result


class Pipeline:
    """One source, stages in a row, sinks side by side, and workers beside them.

    Threads are named `<pipeline>/<part>`. `run` returns only when all of them have ended. With
    `BLOCK` links a slow sink slows all others down; with `DROP_OLDEST` it drops frames of its own.

    Args:
        name: For threads, links and errors; usually the name of the camera.
        source: Yields the frames.
        stages: By name, in order.
        sinks: By name; each receives every frame. Without any, frames end after the last stage.
        make_link: Makes the link in front of each stage and sink.
        workers: By name; they end with the pipeline.
        gates: Of the links in front of some stages, by the name of the stage.
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
        gates: Mapping[str, Gate[Frame]] | None = None,
    ) -> None:
        self.name = name
        self._stop = CancelToken()
        self._finish = CancelToken()
        self._stop.on_cancel(self._finish.set)
        self._guard = threading.Lock()
        self._errors: list[Exception] = []  # Guarded by _guard.
        self._threads: list[threading.Thread] = []
        self._links: list[Link[Frame]] = []

        inlets = {
            part: make_link(f"{name}/{part}", gate=(gates or {}).get(part))
            for part in (*stages, *sinks)
        }
        self._links.extend(inlets.values())
        sink_inlets = [inlets[part] for part in sinks]
        # Outlets of the source, then of each stage: the inlet of the next stage, finally all sinks.
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
        try:
            for thread in self._threads:
                thread.start()
            self._join()
        except BaseException:  # Ctrl-C in the main thread, or no thread can be started.
            self.stop()
            self._join()
            raise
        if self._errors:
            raise ExceptionGroup(f"pipeline {self.name!r} failed", self._errors)

    def _join(self) -> None:
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def finish(self) -> None:
        """End the source and process the frames that are on their way; from any thread."""
        self._finish.set()

    def stop(self) -> None:
        """End every part soon and discard waiting frames; from any thread, any number of times."""
        self._stop.set()
        for link in self._links:
            link.abort()

    def statistics(self) -> list[LinkStatistics]:
        """Return the statistics of each link, stages first; from any thread."""
        return [link.statistics() for link in self._links]

    def _add(self, part: str, work: Callable[[], None]) -> None:
        def body() -> None:
            try:
                work()
            except Cancelled:
                pass
            except BaseException as error:  # noqa: BLE001  any failure of any part ends all
                failure = as_exception(error)
                failure.add_note(f"in thread {self.name}/{part}")
                with self._guard:
                    self._errors.append(failure)
                self.stop()

        # In the context of the caller: what it bound for the log, its threads log too.
        run = partial(copy_context().run, body)
        self._threads.append(threading.Thread(target=run, name=f"{self.name}/{part}"))

    def _produce(self, start: Callable[[], Frames], outlets: Sequence[Link[Frame]]) -> None:
        frames = start()
        try:
            _deliver(frames, outlets, until=self._finish)
        except Cancelled:
            # `finish` interrupted a pause of the source: a regular end unless all parts stop.
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
    """Send every frame to every outlet whose receiver has not left."""
    remaining = list(outlets)
    for frame in frames:
        for outlet in tuple(remaining):
            try:
                outlet.put(frame)
            except ConsumerClosed:
                remaining.remove(outlet)
                if not remaining:  # Like a closed pipe, this ends the sender too.
                    return
        if until.is_set():
            return


def _close(frames: Frames) -> None:
    """Close a generator, so that its `finally` runs; other iterators have no `close`."""
    close = getattr(frames, "close", None)
    if close is not None:
        close()
