"""The monitor sink: what people may know of a camera at this moment."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from streamer.core.clock import Clock
from streamer.core.frame import AlarmState, Frame

_NS: Final = 1_000_000_000
_RATE_OVER: Final = 30
"""Frames over which the rate is taken."""


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """A snapshot."""

    camera: str
    frames: int
    """Since the program started."""

    rate: float
    """Frames a second, lately; falls towards 0 while none come."""

    last_utc: datetime | None
    """Wall time of the newest picture."""

    age_s: float | None
    """How old that is."""

    alarm: AlarmState
    size: tuple[int, int] | None
    """(height, width)"""

    def as_json(self) -> dict[str, Any]:
        """For scripts."""
        return {
            "camera": self.camera,
            "frames": self.frames,
            "rate": round(self.rate, 2),
            "last_utc": self.last_utc and self.last_utc.isoformat(timespec="milliseconds"),
            "age_s": None if self.age_s is None else round(self.age_s, 3),
            "alarm": self.alarm.value,
            "size": self.size,
        }


class StatusSink:
    """Remembers the newest frame's figures, never its picture. Outlives restarts of its camera.

    Args:
        camera: Its name.
        clock: Tells ages.
    """

    def __init__(self, camera: str, *, clock: Clock) -> None:
        self._camera = camera
        self._clock = clock
        self._lock = threading.Lock()
        # All below are guarded by _lock.
        self._frames = 0
        self._arrivals: deque[int] = deque(maxlen=_RATE_OVER)
        self._alarm = AlarmState.IDLE
        self._size: tuple[int, int] | None = None

    def __call__(self, frames: Iterator[Frame]) -> None:
        """Take note of every frame."""
        for frame in frames:
            with self._lock:
                self._frames += 1
                self._arrivals.append(frame.arrived_ns)
                self._size = frame.image.size
                if frame.alarm_status is not None:
                    self._alarm = frame.alarm_status.state

    def status(self) -> CameraStatus:
        """A consistent snapshot, from any thread."""
        with self._lock:
            arrivals, now_ns = list(self._arrivals), self._clock.monotonic_ns()
            last_ns = arrivals[-1] if arrivals else None
            return CameraStatus(
                camera=self._camera,
                frames=self._frames,
                rate=_rate(arrivals, now_ns),
                last_utc=None if last_ns is None else self._clock.utc_at(last_ns),
                age_s=None if last_ns is None else (now_ns - last_ns) / _NS,
                alarm=self._alarm,
                size=self._size,
            )


def _rate(arrivals: Sequence[int], now_ns: int) -> float:
    """Arrivals a second; falls once the next one is overdue."""
    if len(arrivals) < 2:  # noqa: PLR2004  one picture has no rate
        return 0.0
    came = (len(arrivals) - 1) / max(1, arrivals[-1] - arrivals[0])
    return _NS * min(came, len(arrivals) / max(1, now_ns - arrivals[0]))
