"""The status sink: figures of a camera's newest frames, for the program status."""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from streamer.core.clock import Clock
from streamer.core.frame import Frame
from streamer.core.rate import events_per_second

_FPS_FRAMES: Final = 30
"""Frames over which `fps` is measured."""


@dataclass(frozen=True, slots=True)
class FrameStatistics:
    """A consistent snapshot."""

    frames: int
    """Since the program started, over all restarts of the pipeline."""

    fps: float
    """Frames per second, recent; falls towards 0 while none arrive."""

    last_frame_ns: int | None
    """Arrival of the newest frame by `Clock.monotonic_ns`."""

    size: tuple[int, int] | None
    """(height, width) of the newest frame."""


class StatusSink:
    """Counts frames and remembers the newest one's figures. It outlives pipeline restarts."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # All below are guarded by _lock.
        self._frames = 0
        self._arrivals: deque[int] = deque(maxlen=_FPS_FRAMES)
        self._size: tuple[int, int] | None = None

    def __call__(self, frames: Iterator[Frame]) -> None:
        """Count every frame."""
        for frame in frames:
            with self._lock:
                self._frames += 1
                self._arrivals.append(frame.arrived_ns)
                self._size = frame.image.size

    def statistics(self) -> FrameStatistics:
        """Return a consistent snapshot, from any thread."""
        with self._lock:
            arrivals = list(self._arrivals)
            return FrameStatistics(
                frames=self._frames,
                fps=events_per_second(arrivals, self._clock.monotonic_ns()),
                last_frame_ns=arrivals[-1] if arrivals else None,
                size=self._size,
            )
