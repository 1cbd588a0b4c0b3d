"""`PatternSource`: a moving test pattern, the same on every run."""

from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np

from streamer.core.clock import CancelToken, Clock
from streamer.core.frame import Frame
from streamer.core.image import Image

from .constant_rate import ConstantRate

_WIDTH: Final = 1280
_HEIGHT: Final = 720
_BAR: Final = 80
"""Width of the moving bar."""

_RATE: Final = 25


class PatternSource:
    """Yields colour bars, a white bar that crosses the frame in four seconds, and the frame number.

    25 frames of 1280x720 per second. A further call continues where the last one ended, as a
    camera does.

    Args:
        clock: Gives each frame its arrival time.
        realtime: See `ConstantRate`.
        inference_interval_ns: See `ConstantRate`.
    """

    def __init__(
        self, *, clock: Clock, realtime: bool = True, inference_interval_ns: int | None = None
    ) -> None:
        self._frames = ConstantRate(
            clock, rate=_RATE, realtime=realtime, inference_interval_ns=inference_interval_ns
        )
        self._background = Image.from_rgb(_bars(_WIDTH, _HEIGHT))

    def __repr__(self) -> str:
        return "<PatternSource>"

    def __call__(self, cancel: CancelToken) -> Iterator[Frame]:
        """Yield frames.

        Raises:
            Cancelled: *cancel* was set while the source waited for the time of a frame.
        """
        self._frames.begin()
        while not cancel.is_set():
            yield self._frames.frame(self.image(self._frames.number), cancel)

    def image(self, number: int) -> Image:
        """Return the image of a frame number."""
        canvas = self._background.canvas()
        luma = canvas.planes[0]
        left = number % (4 * _RATE) * (_WIDTH - _BAR) // (4 * _RATE)
        luma[_HEIGHT // 4 : _HEIGHT // 2, left : left + _BAR] = 235
        corner = (_WIDTH // 16, _HEIGHT * 7 // 8)
        cv2.putText(luma, str(number), corner, cv2.FONT_HERSHEY_PLAIN, 8, 235, thickness=4)
        return canvas.image()


def _bars(width: int, height: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """(height, width, 3) RGB: the eight corners of the colour cube at 75 %, above a grey ramp."""
    bits = 7 - np.arange(width) * 8 // width
    image = np.empty((height, width, 3), np.uint8)
    for channel, bit in enumerate((1, 2, 0)):
        image[:, :, channel] = (bits >> bit & 1) * 191
    image[height * 3 // 4 :] = np.linspace(16, 235, width).astype(np.uint8)[None, :, None]
    return image
