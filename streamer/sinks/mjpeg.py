"""The MJPEG sink: the newest frame of one camera as a JPEG image, for any number of viewers.

A frame is encoded once for all viewers, and only when somebody asks for it. The HTTP side is
`streamer.web`.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC

from streamer.core.clock import Clock
from streamer.core.drawing import no_signal
from streamer.core.frame import Frame
from streamer.core.image import Image
from streamer.core.jpeg import PREVIEW_QUALITY, encode_jpeg


@dataclass(frozen=True, slots=True)
class LiveImage:
    """A frame as viewers get it."""

    version: int
    """Differs for each frame of a camera."""

    jpeg: bytes
    arrived_ns: int
    """Of the frame, by `Clock.monotonic_ns`."""


class MjpegSink:
    """Holds the newest frame of a camera. It outlives restarts of the camera's pipeline.

    All methods may be called from any thread, and none waits.

    Args:
        camera: Name of the camera.
        clock: Measures the age of frames.
        stale_after_s: Frames older than this no longer show the present.
        reason: Returns why no frames arrive, for the NO SIGNAL card; empty when unknown.
    """

    def __init__(
        self, camera: str, *, clock: Clock, stale_after_s: float, reason: Callable[[], str]
    ) -> None:
        self.camera = camera
        self.stale_after_s = stale_after_s
        self._clock = clock
        self._reason = reason
        self._began_ns = clock.monotonic_ns()
        self._lock = threading.Lock()
        # Guarded by _lock.
        self._frame: Frame | None = None
        self._version = 0
        self._closed = False
        self._listeners: list[Callable[[], None]] = []
        self._encoding = threading.Lock()
        self._encoded: LiveImage | None = None  # Guarded by _encoding.

    def __call__(self, frames: Iterator[Frame]) -> None:
        """Hold the newest frame for the viewers."""
        for frame in frames:
            with self._lock:
                self._frame = frame
                self._version += 1
            self._notify()

    @property
    def version(self) -> int:
        """Version of the newest frame; 0 before the first."""
        with self._lock:
            return self._version

    @property
    def closed(self) -> bool:
        """Whether `close` was called; viewers leave then."""
        with self._lock:
            return self._closed

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call *listener* after each change, from the camera's thread; return how to end that."""
        with self._lock:
            self._listeners.append(listener)

        def end() -> None:
            with self._lock:
                self._listeners.remove(listener)

        return end

    def newest(self) -> LiveImage | None:
        """Return the newest frame, however old it is; `None` before the first."""
        with self._encoding:
            with self._lock:
                frame, version = self._frame, self._version
            if frame is None:
                return None
            if self._encoded is None or self._encoded.version != version:
                self._encoded = LiveImage(version, _encode(frame.image), frame.arrived_ns)
            return self._encoded

    def shown(self) -> LiveImage:
        """Return the newest frame, or a NO SIGNAL card when it is too old or there is none."""
        with self._lock:
            frame = self._frame
        if frame is not None and self.age_s(frame.arrived_ns) <= self.stale_after_s:
            newest = self.newest()
            assert newest is not None, "a frame is replaced and never removed"
            return newest
        return LiveImage(0, _encode(self._card(frame)), self._clock.monotonic_ns())

    def age_s(self, arrived_ns: int) -> float:
        """Return how long ago a frame arrived."""
        return (self._clock.monotonic_ns() - arrived_ns) / 1e9

    def close(self) -> None:
        """Wake all viewers for the last time."""
        with self._lock:
            self._closed = True
        self._notify()

    def _notify(self) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def _card(self, last: Frame | None) -> Image:
        since_ns = self._began_ns if last is None else last.arrived_ns
        utc = self._clock.utc_at(since_ns).astimezone(UTC)
        return no_signal(
            None if last is None else last.image.size,
            camera=self.camera,
            since=f"{utc:%Y-%m-%d %H:%M:%S} UTC, {self.age_s(since_ns):.0f} s",
            reason=self._reason(),
        )


def _encode(image: Image) -> bytes:
    return encode_jpeg(image.rgb(), quality=PREVIEW_QUALITY)
