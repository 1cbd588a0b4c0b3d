"""Decoded planes for a network that computes RGB itself, on a GPU: nothing is copied."""

from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from engines.yuv import LEFT, Yuv
from streamer.core.image import ColorTags, Image

_JPEG_MATRIX: Final = 5
"""The matrix that FFmpeg's JPEG decoder reports."""

_NO_TYPE: Final = 0
"""`pict_type` of a frame that no decoder returned."""


def decoded_yuv(image: Image) -> Yuv:
    """Return the planes of *image* as 8-bit 4:2:0 with what they mean as colors.

    NV12, which hardware decoders write, stays interleaved.
    """
    frame = image.video_frame()
    if frame.format.name == "nv12":
        y, chroma = _interleaved(frame)
    else:
        y, *planar = image.as_format("yuv420p").planes()
        chroma = tuple(planar)
    return Yuv(
        y,
        chroma,
        full_range=image.color.full_range,
        matrix=image.matrix,
        siting=_siting(frame, image.color),
    )


def _interleaved(frame: av.VideoFrame) -> tuple[NDArray[np.uint8], tuple[NDArray[np.uint8], ...]]:
    """Return luma and chroma of NV12, read-only."""
    height, width = frame.height, frame.width
    luma = _view(frame.planes[0], (height, width))
    chroma = _view(frame.planes[1], ((height + 1) // 2, (width + 1) // 2, 2))
    return luma, (chroma,)


def _view(plane: Any, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    strides = (plane.line_size, *((2, 1) if len(shape) > 2 else (1,)))  # noqa: PLR2004
    view: NDArray[np.uint8] = np.ndarray(shape, np.uint8, buffer=memoryview(plane), strides=strides)
    view.flags.writeable = False
    return view


def _siting(frame: av.VideoFrame, color: ColorTags) -> float:
    """Return where chroma lies, as swscale takes it; PyAV does not report it, so it is inferred.

    JPEG (BT.601 at full range) has it in the middle of its pixels, other video at the left. A
    frame that was not decoded carries no location, and swscale assumes the middle.
    """
    jpeg = color.full_range and color.matrix == _JPEG_MATRIX
    not_decoded = int(frame.pict_type) == _NO_TYPE
    return 0.0 if not_decoded or jpeg else LEFT
