"""How long each part of a chunk worked, rather than waited for its neighbours."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from streamer.core.clock import CancelToken
from streamer.core.frame import Frame
from streamer.core.pipeline import Sink, Source, Stage


@dataclass(slots=True)
class StageTimer:
    """Written by one thread, read by any."""

    seconds: float = 0.0


def _watched(frames: Iterator[Frame], spent: StageTimer) -> Iterator[Frame]:
    """*frames*, adding up the time that making them takes."""
    while True:
        started = time.perf_counter()
        frame = next(frames, None)
        spent.seconds += time.perf_counter() - started
        if frame is None:
            return
        yield frame


def watched_source(source: Source, busy: StageTimer) -> Source:
    """The same source; *busy* tells how long it worked."""

    def watched(cancel: CancelToken) -> Iterator[Frame]:
        return _watched(source(cancel), busy)

    return watched


def watched_stage(stage: Stage, busy: StageTimer) -> Stage:
    """The same stage; *busy* tells how long it worked."""

    def watched(frames: Iterator[Frame]) -> Iterator[Frame]:
        waited, inside = StageTimer(), StageTimer()
        for frame in _watched(stage(_watched(frames, waited)), inside):
            busy.seconds = inside.seconds - waited.seconds
            yield frame

    return watched


def watched_sink(sink: Sink, busy: StageTimer) -> Sink:
    """The same sink; *busy* tells how long it worked."""

    def watched(frames: Iterator[Frame]) -> None:
        waited, started = StageTimer(), time.perf_counter()

        def inlet() -> Iterator[Frame]:
            for frame in _watched(frames, waited):
                busy.seconds = time.perf_counter() - started - waited.seconds
                yield frame

        sink(inlet())
        busy.seconds = time.perf_counter() - started - waited.seconds

    return watched
