"""Measures how long each part of a chunk's pipeline works, as opposed to waiting for others."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from streamer.core.clock import CancelToken
from streamer.core.frame import Frame
from streamer.core.pipeline import Sink, Source, Stage


@dataclass(slots=True)
class StageTimer:
    """Accumulated working time. One thread writes it; any thread may read it."""

    seconds: float = 0.0


def _timed(frames: Iterator[Frame], timer: StageTimer) -> Iterator[Frame]:
    """Yield *frames*, adding the time spent in `next` to *timer*."""
    while True:
        started = time.perf_counter()
        frame = next(frames, None)
        timer.seconds += time.perf_counter() - started
        if frame is None:
            return
        yield frame


def timed_source(source: Source, busy: StageTimer) -> Source:
    """Return *source* with its working time measured in *busy*."""

    def timed(cancel: CancelToken) -> Iterator[Frame]:
        return _timed(source(cancel), busy)

    return timed


def timed_stage(stage: Stage, busy: StageTimer) -> Stage:
    """Return *stage* with its working time measured in *busy*."""

    def timed(frames: Iterator[Frame]) -> Iterator[Frame]:
        waiting, total = StageTimer(), StageTimer()
        for frame in _timed(stage(_timed(frames, waiting)), total):
            busy.seconds = total.seconds - waiting.seconds
            yield frame

    return timed


def timed_sink(sink: Sink, busy: StageTimer) -> Sink:
    """Return *sink* with its working time measured in *busy*."""

    def timed(frames: Iterator[Frame]) -> None:
        waiting, started = StageTimer(), time.perf_counter()

        def inlet() -> Iterator[Frame]:
            for frame in _timed(frames, waiting):
                busy.seconds = time.perf_counter() - started - waiting.seconds
                yield frame

        sink(inlet())
        busy.seconds = time.perf_counter() - started - waiting.seconds

    return timed
