"""Encoding of RGB arrays as JPEG, and as PNG by the file's suffix. One encoder for all parts."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

EVIDENCE_QUALITY: Final = 92
"""OpenCV's scale of 0 to 100. Details of thin smoke survive."""

PREVIEW_QUALITY: Final = 80
"""OpenCV's scale of 0 to 100. A third of the bytes of `EVIDENCE_QUALITY`."""


def encode_jpeg(rgb: NDArray[np.uint8], *, quality: int) -> bytes:
    """Return *rgb*, (height, width, 3) RGB, as a JPEG file.

    Args:
        rgb: The image.
        quality: 0 to 100.
    """
    return _encode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), cv2.IMWRITE_JPEG_QUALITY, quality)


def encode_image(rgb: NDArray[np.uint8], suffix: str) -> bytes:
    """Return *rgb*, (height, width, 3) RGB, as the kind of file that *suffix* names.

    Raises:
        ValueError: The suffix names no kind of image.
    """
    if not cv2.haveImageWriter(suffix):
        raise ValueError(f"{suffix!r} is not the suffix of an image; use .png or .jpg")
    return _encode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


def encode_gray_png(gray: NDArray[np.uint8]) -> bytes:
    """Return *gray*, (height, width), as a PNG file."""
    return _encode(".png", gray)


def _encode(suffix: str, array: NDArray[np.uint8] | cv2.typing.MatLike, *options: int) -> bytes:
    ok, data = cv2.imencode(suffix, array, options)
    assert ok, "8-bit RGB and gray can always be encoded"
    return data.tobytes()
