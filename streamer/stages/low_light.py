"""The enhance stage: makes dark pictures visible to people; and to networks, for a look."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from engines.lowlight.curves import Yuv
from engines.lowlight.enhancer import Enhancer
from streamer.core.frame import Frame
from streamer.core.image import Image

_NS: Final = 1_000_000_000


class LowLightFilter:
    """A frame's picture, made brighter if it is dark. Of one stream; it remembers.

    Args:
        enhancer: Of this stream alone.
    """

    def __init__(self, enhancer: Enhancer) -> None:
        self._enhancer = enhancer

    def __call__(self, frame: Frame) -> Image:
        """The next frame's; the very same picture where it is light enough."""
        image = frame.image.as_format("yuv420p")
        planes, color = image.planes(), image.color
        before = Yuv(*planes)
        after = self._enhancer(before, frame.pts_ns / _NS, full_range=color.full_range)
        if after is before:
            return frame.image
        return Image.from_planes(after, color)


class Enhance:
    """Shows what is dark: a frame whose picture became another is marked `enhanced`."""

    def __init__(self, brighten: LowLightFilter) -> None:
        self._brighten = brighten

    def __call__(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield every frame."""
        for frame in frames:
            picture = self._brighten(frame)
            changed = picture is not frame.image
            yield replace(frame, image=picture, enhanced=True) if changed else frame
