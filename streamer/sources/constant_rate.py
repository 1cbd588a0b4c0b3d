"""Numbers and times frames that come at a constant rate."""

from fractions import Fraction
from typing import Final

from streamer.core.clock import CancelToken, Clock
from streamer.core.frame import Frame
from streamer.core.image import Image

from .frame_sampler import FrameSampler

_NS: Final = 1_000_000_000


class ConstantRate:
    """Makes frames of images, numbered from 0 over all calls of a source. For one thread.

    Args:
        clock: Gives each frame its arrival time.
        rate: Frames per second of media time.
        realtime: Wait for the time of each frame; `False` yields them as fast as they are consumed.
        inference_interval_ns: Media time from one frame sampled for inference to the next; `None`
            samples every frame. All frames are yielded.
    """

    def __init__(
        self, clock: Clock, *, rate: float, realtime: bool, inference_interval_ns: int | None
    ) -> None:
        if rate <= 0:
            raise ValueError(f"rate must be above 0, got {rate}")
        self._clock = clock
        self._rate = Fraction(rate).limit_denominator(1001)
        self._realtime = realtime
        self._sampler = FrameSampler(inference_interval_ns)
        self._start_ns = 0
        self.number = 0
        """Number of the next frame."""

    def begin(self) -> None:
        """Let the next frame be due now."""
        self._start_ns = self._clock.monotonic_ns() - self._media_ns()

    def frame(self, image: Image, cancel: CancelToken) -> Frame:
        """Return the next frame, at its time.

        Raises:
            Cancelled: *cancel* was set while waiting.
        """
        pts_ns = self._media_ns()
        if self._realtime:
            ahead_ns = self._start_ns + pts_ns - self._clock.monotonic_ns()
            if ahead_ns > 0:
                cancel.sleep(ahead_ns / _NS)
        self._clock.advance_to(pts_ns)
        arrived_ns, sampled = self._clock.arrival_of(pts_ns), self._sampler.selects(pts_ns)
        frame = Frame(image, pts_ns, arrived_ns, self.number, sampled=sampled)
        self.number += 1
        return frame

    def _media_ns(self) -> int:
        return self.number * _NS * self._rate.denominator // self._rate.numerator
