"""The low-light stage: enhances dark frames for viewers, and for the network if configured."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from engines.lowlight.enhancer import Enhancer
from engines.yuv import Yuv
from streamer.core.frame import Frame
from streamer.core.image import Image

_NS: Final = 1_000_000_000
_CHROMA: Final = slice(1, 3)
_ALPHA: Final = slice(3, None)
_BYTE: Final = 8


class LowLightFilter:
    """Returns the image of a frame, enhanced if it is dark. It and *enhancer* serve one stream.

    Works on planes of any depth and subsampling; alpha stays as it is. RGB becomes YUV 4:4:4.
    """

    def __init__(self, enhancer: Enhancer) -> None:
        self._enhancer = enhancer

    def __call__(self, frame: Frame) -> Image:
        """Return the next frame's image; the very same one where it is light enough."""
        image = _yuv(frame.image)
        planes = image.planes()
        before = Yuv(
            planes[0],
            planes[_CHROMA],
            depth=image.layout.depth,
            full_range=image.color.full_range,
            matrix=image.matrix,
        )
        after = self._enhancer(before, frame.pts_ns / _NS)
        if after is before:
            return frame.image
        return Image.from_planes(
            (*after.planes, *planes[_ALPHA]), image.color, pixel_format=image.layout.name
        )


def _yuv(image: Image) -> Image:
    layout = image.layout
    if not layout.rgb:
        return image
    return image.as_format("yuv444p" if layout.depth == _BYTE else f"yuv444p{layout.depth}le")


class Enhance:
    """Yields every frame; dark ones are enhanced and marked as such."""

    def __init__(self, low_light: LowLightFilter) -> None:
        self._low_light = low_light

    def __call__(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield every frame."""
        for frame in frames:
            image = self._low_light(frame)
            changed = image is not frame.image
            yield replace(frame, image=image, enhanced=True) if changed else frame
