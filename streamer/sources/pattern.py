"""`PatternSource`: a moving test pattern, the same on every run."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Final

import cv2
import numpy as np

from streamer.core.clock import CancelToken, Clock
from streamer.core.frame import Frame
from streamer.core.image import Image

from .frame_sampler import FrameSampler

_NS: Final = 1_000_000_000
_BAR_SHARE: Final = 16  # The bar is a sixteenth of the width.


class PatternSource:
    """Yields colour bars, a white bar that crosses the frame in four seconds, and the frame number.

    A further call continues where the last one ended, as a camera does.

    Args:
        clock: Gives each frame its arrival time.
        width: Even, at least 64.
        height: Even, at least 48.
        rate: Frames per second.
        frames: Frames per call; `None` for no end.
        realtime: Yield each frame at its time; `False` yields them as fast as they are consumed.
        inference_interval_ns: Media time from one frame sampled for inference to the next; `None`
            samples every frame. All frames are yielded.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        width: int = 1280,
        height: int = 720,
        rate: float = 25,
        frames: int | None = None,
        realtime: bool = True,
        inference_interval_ns: int | None = None,
    ) -> None:
        if width < 64 or height < 48 or width % 2 or height % 2:  # noqa: PLR2004  as documented
            raise ValueError(f"size must be even and at least 64x48, got {width}x{height}")
        if rate <= 0:
            raise ValueError(f"rate must be above 0, got {rate}")
        self._clock = clock
        self._rate = Fraction(rate).limit_denominator(1001)
        self._frames = frames
        self._realtime = realtime
        self._sampler = FrameSampler(inference_interval_ns)
        self._number = 0
        self._background = Image.from_rgb(_bars(width, height))

    def __repr__(self) -> str:
        return f"<PatternSource {self._background!r} at {float(self._rate):g}/s>"

    def __call__(self, cancel: CancelToken) -> Iterator[Frame]:
        """Yield frames.

        Raises:
            Cancelled: *cancel* was set while the source waited for the time of a frame.
        """
        end = None if self._frames is None else self._number + self._frames
        start_ns = self._clock.monotonic_ns() - self._media_ns(self._number)
        while not cancel.is_set() and self._number != end:
            pts_ns = self._media_ns(self._number)
            if self._realtime:
                ahead_ns = start_ns + pts_ns - self._clock.monotonic_ns()
                if ahead_ns > 0:
                    cancel.sleep(ahead_ns / _NS)
            self._clock.advance_to(pts_ns)
            yield Frame(
                self.image(self._number),
                pts_ns,
                self._clock.arrival_of(pts_ns),
                self._number,
                sampled=self._sampler.selects(pts_ns),
            )
            self._number += 1

    def image(self, number: int) -> Image:
        """Return the image of a frame number."""
        canvas = self._background.canvas()
        luma = canvas.planes[0]
        height, width = luma.shape
        bar = max(2, width // _BAR_SHARE)
        crossing = max(1, round(4 * self._rate))
        left = number % crossing * (width - bar) // crossing
        luma[height // 4 : height // 2, left : left + bar] = 235
        cv2.putText(
            luma, str(number), (width // 16, height * 7 // 8), cv2.FONT_HERSHEY_PLAIN,
            height / 90, 235, thickness=max(1, height // 180),
        )  # fmt: skip
        return canvas.image()

    def _media_ns(self, number: int) -> int:
        return number * _NS * self._rate.denominator // self._rate.numerator


def _bars(width: int, height: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """(height, width, 3) RGB: the eight corners of the colour cube at 75 %, above a grey ramp."""
    bits = 7 - np.arange(width) * 8 // width
    image = np.empty((height, width, 3), np.uint8)
    for channel, bit in enumerate((1, 2, 0)):
        image[:, :, channel] = (bits >> bit & 1) * 191
    image[height * 3 // 4 :] = np.linspace(16, 235, width).astype(np.uint8)[None, :, None]
    return image
