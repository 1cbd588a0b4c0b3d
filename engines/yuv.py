"""Planes as a decoder gives them, and what their numbers mean as colours: what a GPU is given.

No picture is converted here. Networks by planes (`planes.py`) take these arrays as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from engines.errors import ModelMismatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

Layout = Literal["planar", "nv12"]
"""Two planes of chroma, or one in which U and V take turns: what decoders on hardware write."""
Window = tuple[int, int, int, int]
"""(left, top, width, height) in pixels of luma; left and top are even, where chroma has its own."""

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


def colors(matrix: int, *, full_range: bool) -> NDArray[np.float32]:
    """What makes R, G, B from luma, U, V and 1, all 0 to 255: (3, 4).

    Args:
        matrix: its number in ISO/IEC 23091-2; BT.601 for one that is not known.
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
    return np.column_stack([scaled, -scaled @ [black, 128, 128]]).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Yuv420:
    """A picture's 8-bit 4:2:0 planes; views, which nobody writes into."""

    luma: NDArray[np.uint8]
    """(height, width)"""
    chroma: tuple[NDArray[np.uint8], ...]
    """U and V, each (ceil(height / 2), ceil(width / 2)); or both as one of (..., ..., 2)."""
    color: NDArray[np.float32]
    """(3, 4); see `colors`."""
    siting: float = 0.0
    """How far left of the middle of its four pixels a sample of chroma lies, in samples of chroma:
    0 for JPEG, `LEFT` for H.264 and its kin."""

    def __post_init__(self) -> None:
        """Check that the planes belong together.

        Raises:
            ModelMismatch: they do not.
        """
        rows, columns = (-(-side // 2) for side in self.luma.shape)
        wanted = {1: (rows, columns, 2), 2: (rows, columns)}.get(len(self.chroma))
        if wanted is None or any(plane.shape != wanted for plane in self.chroma):
            shapes = [plane.shape for plane in self.chroma]
            raise ModelMismatch(
                f"chroma: expected half the size of luma {self.luma.shape}, got {shapes}"
            )

    @property
    def layout(self) -> Layout:
        """How chroma lies."""
        return "nv12" if len(self.chroma) == 1 else "planar"

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        height, width = self.luma.shape
        return height, width

    @property
    def whole(self) -> Window:
        """All of it."""
        return 0, 0, self.luma.shape[1], self.luma.shape[0]

    def planar(self) -> Yuv420:
        """The same with U and V apart; views."""
        if self.layout == "planar":
            return self
        (both,) = self.chroma
        return replace(self, chroma=(both[..., 0], both[..., 1]))

    def interleaved(self) -> Yuv420:
        """The same with U and V taking turns; copied unless they do."""
        if self.layout == "nv12":
            return self
        return replace(self, chroma=(np.stack(self.chroma, -1),))

    def around(self, window: Window, step: tuple[int, int]) -> tuple[Yuv420, Window]:
        """A part of the planes with a window in it, and where the window is in the part.

        Its sides are multiples of *step*, (height, width), as far as the picture reaches: parts
        of few sizes can share batches and captured launches.
        """
        left, top, width, height = window
        times = max(-(-height // step[0]), -(-width // step[1]))
        x, wide = _span(left, width, times * step[1], self.luma.shape[1])
        y, tall = _span(top, height, times * step[0], self.luma.shape[0])
        half = np.s_[y // 2 : -(-(y + tall) // 2), x // 2 : -(-(x + wide) // 2)]
        part = replace(
            self,
            luma=self.luma[y : y + tall, x : x + wide],
            chroma=tuple(plane[half] for plane in self.chroma),
            # The CPU cuts a part into a picture of its own, whose siting nobody tells swscale.
            siting=0.0,
        )
        return part, (left - x, top - y, width, height)


def _span(first: int, length: int, wanted: int, most: int) -> tuple[int, int]:
    """Begin, an even one, and length of a span of *wanted* that holds another."""
    if wanted >= most:
        return 0, most
    begin = min(first, (most - wanted) // 2 * 2)
    # An odd picture's last column does not fit into a span of even length that begins even.
    return begin, max(wanted, first + length - begin)


def even_window(box: tuple[float, float, float, float], size: tuple[int, int]) -> Window:
    """Pixels of a box given as shares of a picture, (left, top, right, bottom); at least two wide.

    Args:
        box: 0 to 1 each.
        size: (height, width) of the picture.
    """
    left, top, right, bottom = box
    x, wide = _even(left, right, size[1])
    y, tall = _even(top, bottom, size[0])
    return x, y, wide, tall


def _even(start: float, end: float, length: int) -> tuple[int, int]:
    first = min(2 * round(start * length / 2), max(0, (length - 2) // 2 * 2))
    return first, min(max(2, 2 * round((end * length - first) / 2)), length - first)
