"""The planes of a YUV image and what their samples mean as colors: the engines' one plane type.

The engines know nothing of FFmpeg's pixel formats; callers translate (`PixelLayout` in the
streamer). No image is converted here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from engines.errors import ModelMismatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[Any]

ChromaOrder = Literal["planar", "nv12"]
"""Two planes of chroma, or one with U and V interleaved, which hardware decoders write."""
Window = tuple[int, int, int, int]
"""(left, top, width, height) in pixels of luma; left and top are even, where chroma begins."""

LEFT = 0.25
"""Siting of chroma at the left pixels of its four; chroma sample location type 0 in H.264."""

_LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}
"""Weights of red and blue in luma, by number of the matrix (ISO/IEC 23091-2, table 4)."""
_BT601 = 6
_BYTE = 8


@lru_cache(maxsize=16)
def yuv_to_rgb_matrix(matrix: int, *, full_range: bool) -> NDArray[np.float32]:
    """Return the (3, 4) matrix from luma, U, V and 1 to R, G, B, all 0 to 255; read-only.

    Args:
        matrix: its number in ISO/IEC 23091-2; an unknown one is taken as BT.601.
        full_range: whether luma uses 0 to 255 rather than 16 to 235.
    """
    red, blue = _LUMA_WEIGHTS.get(matrix, _LUMA_WEIGHTS[_BT601])
    green = 1 - red - blue
    from_planes = np.array(
        [
            [1, 0, 2 * (1 - red)],
            [1, -2 * blue * (1 - blue) / green, -2 * red * (1 - red) / green],
            [1, 2 * (1 - blue), 0],
        ]
    )
    luma, chroma, black = (1, 1, 0) if full_range else (255 / 219, 255 / 224, 16)
    scaled = from_planes * [luma, chroma, chroma]
    both = np.column_stack([scaled, -scaled @ [black, 128, 128]]).astype(np.float32)
    both.flags.writeable = False
    return both


@dataclass(frozen=True, slots=True, eq=False)
class Yuv:
    """The planes of an image, of any subsampling and depth; views, which are never written to."""

    y: Plane
    """(height, width), uint8 up to 8 bits, uint16 above."""
    chroma: tuple[Plane, ...]
    """U and V, each (rows, columns); or both interleaved, (rows, columns, 2); or none: gray."""
    depth: int = 8
    """Bits of a sample, 8 to 16."""
    full_range: bool = False
    """Whether luma uses 0 to 255 rather than 16 to 235, at 8 bits."""
    matrix: int = 1
    """Number of the YUV matrix in ISO/IEC 23091-2."""
    siting: float = 0.0
    """How far left of the middle of its pixels a chroma sample lies, in chroma samples: 0 for JPEG,
    `LEFT` for H.264 and its kin."""

    def __post_init__(self) -> None:
        """Check that the planes belong together.

        Raises:
            ModelMismatch: they do not.
        """
        (height, width), shapes = self.y.shape, [plane.shape for plane in self.chroma]
        fits = not shapes or (
            shapes[0][0] <= height
            and shapes[0][1] <= width
            and ([3] if len(shapes) == 1 else [2, 2]) == [len(shape) for shape in shapes]
            and len(set(shapes)) == 1
        )
        if not fits:
            raise ModelMismatch(
                f"chroma: expected two planes or an interleaved one, no larger than luma "
                f"{self.y.shape}, got {shapes}"
            )

    @property
    def u(self) -> Plane:
        """(rows, columns), of planar chroma."""
        return self.chroma[0]

    @property
    def v(self) -> Plane:
        """(rows, columns), of planar chroma."""
        return self.chroma[1]

    @property
    def chroma_order(self) -> ChromaOrder:
        """How chroma is stored."""
        return "nv12" if len(self.chroma) == 1 else "planar"

    @property
    def is_420(self) -> bool:
        """Whether the samples are 8-bit 4:2:0, which GPU preprocessing reads."""
        half = tuple(-(-side // 2) for side in self.y.shape)
        return self.depth == _BYTE and bool(self.chroma) and self.chroma[0].shape[:2] == half

    @property
    def rgb_matrix(self) -> NDArray[np.float32]:
        """(3, 4); see `yuv_to_rgb_matrix`."""
        return yuv_to_rgb_matrix(self.matrix, full_range=self.full_range)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        height, width = self.y.shape
        return height, width

    @property
    def full_window(self) -> Window:
        """The window that covers the image."""
        return 0, 0, self.y.shape[1], self.y.shape[0]

    @property
    def planes(self) -> tuple[Plane, ...]:
        """Luma, then chroma."""
        return (self.y, *self.chroma)

    def to_8_bits(self) -> Yuv:
        """Return the image without the samples' low bits; itself at 8 bits."""
        if self.depth == _BYTE:
            return self
        y, *chroma = (to_8_bits(plane, self.depth) for plane in self.planes)
        return replace(self, y=y, chroma=tuple(chroma), depth=_BYTE)

    def planar(self) -> Yuv:
        """Return the same image with U and V in planes of their own; views."""
        if self.chroma_order == "planar":
            return self
        (both,) = self.chroma
        return replace(self, chroma=(both[..., 0], both[..., 1]))

    def interleaved(self) -> Yuv:
        """Return the same image with U and V interleaved; copied unless they are."""
        if self.chroma_order == "nv12":
            return self
        return replace(self, chroma=(np.stack(self.chroma, -1),))

    def crop(self, window: Window, step: tuple[int, int]) -> tuple[Yuv, Window]:
        """Return a part of a 4:2:0 image that contains a window, and the window within the part.

        The sides of the part are multiples of *step*, (height, width), as far as the image
        reaches: parts of few sizes can share batches and captured launches.
        """
        left, top, width, height = window
        times = max(-(-height // step[0]), -(-width // step[1]))
        x, wide = _span(left, width, times * step[1], self.y.shape[1])
        y, tall = _span(top, height, times * step[0], self.y.shape[0])
        half = np.s_[y // 2 : -(-(y + tall) // 2), x // 2 : -(-(x + wide) // 2)]
        part = replace(
            self,
            y=self.y[y : y + tall, x : x + wide],
            chroma=tuple(plane[half] for plane in self.chroma),
            # The CPU crops to a frame of its own, for which swscale assumes the middle.
            siting=0.0,
        )
        return part, (left - x, top - y, width, height)


def to_8_bits(plane: Plane, depth: int) -> NDArray[np.uint8]:
    """Return a plane without the low bits of its samples; itself at 8 bits."""
    return plane if depth == _BYTE else (plane >> (depth - _BYTE)).astype(np.uint8)


def _span(first: int, length: int, wanted: int, limit: int) -> tuple[int, int]:
    """Return begin, an even one, and length of a span of *wanted* that contains another."""
    if wanted >= limit:
        return 0, limit
    begin = min(first, (limit - wanted) // 2 * 2)
    # The last column of an odd width does not fit into an even length that begins at an even one.
    return begin, max(wanted, first + length - begin)


def even_window(box: tuple[float, float, float, float], size: tuple[int, int]) -> Window:
    """Return the pixels of a relative box (left, top, right, bottom); at least two a side.

    Args:
        box: 0 to 1 each.
        size: (height, width) of the image.
    """
    left, top, right, bottom = box
    x, wide = _even(left, right, size[1])
    y, tall = _even(top, bottom, size[0])
    return x, y, wide, tall


def _even(start: float, end: float, length: int) -> tuple[int, int]:
    first = min(2 * round(start * length / 2), max(0, (length - 2) // 2 * 2))
    return first, min(max(2, 2 * round((end * length - first) / 2)), length - first)
