"""The result statistics stage: counts inferences, and how old their packets were at the result."""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from streamer.core.clock import Clock
from streamer.core.frame import Frame
from streamer.core.latency import LatencyCounts, LatencyHistogram, LatencyQuantiles
from streamer.core.rate import events_per_second

_FPS_RESULTS: Final = 30
"""Results over which `fps` is measured."""


@dataclass(frozen=True, slots=True)
class ResultCounts:
    """A consistent snapshot, over all restarts of the pipeline."""

    inferences: int
    fps: float
    """Inferences per second, recent; falls towards 0 while none end."""

    latency: LatencyCounts
    """From the arrival of the packet to the result."""

    quantiles: LatencyQuantiles


class ResultStatistics:
    """Counts frames that carry a detector result. It stands behind the alarm, in its thread.

    One object serves all runs of a camera's pipeline.
    """

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # All below are guarded by _lock.
        self._latency = LatencyHistogram()
        self._ended: deque[int] = deque(maxlen=_FPS_RESULTS)

    def __call__(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield every frame unchanged."""
        for frame in frames:
            if frame.detector_result is not None:
                now_ns = self._clock.monotonic_ns()
                with self._lock:
                    self._latency.add(now_ns - frame.arrived_ns)
                    self._ended.append(now_ns)
            yield frame

    def counts(self) -> ResultCounts:
        """Return a consistent snapshot, from any thread."""
        with self._lock:
            latency = self._latency.counts()
            return ResultCounts(
                inferences=latency.count,
                fps=events_per_second(self._ended, self._clock.monotonic_ns()),
                latency=latency,
                quantiles=self._latency.quantiles(),
            )
