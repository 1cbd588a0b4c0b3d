"""The MJPEG sink: the newest frame of one camera as a JPEG image, for any number of viewers.

A frame is encoded once for all viewers, and only while somebody watches. When the newest frame is
too old, a NO SIGNAL card takes its place: an old frame is never shown as live. The HTTP side is
`streamer.web`.
"""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC

from streamer.core.clock import Clock
from streamer.core.drawing import no_signal
from streamer.core.frame import Frame
from streamer.core.image import Image
from streamer.core.jpeg import PREVIEW_QUALITY, encode_jpeg
from streamer.core.link import LatestValue


class MjpegSink:
    """Holds the newest frame of a camera. It outlives restarts of the camera's pipeline.

    Args:
        camera: Name of the camera.
        clock: Measures the age of frames.
        stale_after_s: Frames older than this are not shown.
        reason: Returns why no frames arrive, for the NO SIGNAL card; empty when unknown.
    """

    def __init__(
        self, camera: str, *, clock: Clock, stale_after_s: float, reason: Callable[[], str]
    ) -> None:
        self.camera = camera
        self._clock = clock
        self._stale_ns = round(stale_after_s * 1e9)
        self._reason = reason
        self._newest: LatestValue[Frame] = LatestValue()
        self._began_ns = clock.monotonic_ns()
        self._lock = threading.Lock()
        self._encoded = 0, b""  # Version and JPEG of the newest encoded frame. Guarded by _lock.

    def __call__(self, frames: Iterator[Frame]) -> None:
        """Hold the newest frame for the viewers."""
        for frame in frames:
            self._newest.set(frame)

    @property
    def closed(self) -> bool:
        """Whether `close` was called; viewers leave then."""
        return self._newest.closed

    def jpeg(self, newer_than: int, *, timeout_s: float) -> tuple[int, bytes]:
        """Return the newest frame as a JPEG image, or a NO SIGNAL card when there is no fresh one.

        Args:
            newer_than: Version that the viewer already has; 0 for none.
            timeout_s: How long to wait for a newer one.

        Returns:
            The version to pass as *newer_than* next time, and the JPEG image.
        """
        found = self._newest.wait(newer_than, timeout_s)
        if found is None:
            found = self._newest.wait(0, 0)  # Nothing new: is what the viewer has still fresh?
        if found is None:
            return newer_than, _encode(self._card(None))
        version, frame = found
        if self._clock.monotonic_ns() - frame.arrived_ns > self._stale_ns:
            return version, _encode(self._card(frame))
        with self._lock:
            if self._encoded[0] != version:
                self._encoded = version, _encode(frame.image)
            return self._encoded

    def close(self) -> None:
        """Wake all viewers for the last time."""
        self._newest.close()

    def _card(self, last: Frame | None) -> Image:
        since_ns = self._began_ns if last is None else last.arrived_ns
        gone_s = (self._clock.monotonic_ns() - since_ns) / 1e9
        utc = self._clock.utc_at(since_ns).astimezone(UTC)
        return no_signal(
            None if last is None else last.image.size,
            camera=self.camera,
            since=f"{utc:%Y-%m-%d %H:%M:%S} UTC, {gone_s:.0f} s",
            reason=self._reason(),
        )


def _encode(image: Image) -> bytes:
    return encode_jpeg(image.rgb(), quality=PREVIEW_QUALITY)
