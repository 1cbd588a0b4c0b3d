"""Frames that say which frame they are: a moving pattern with its number in black and white.

The number survives x264 at crf 23, a change of pixel format and 64x48 pixels. A mixture of two
frames shows blocks that are neither black nor white, and so has no number.
"""

import functools
import itertools
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

COLUMNS, ROWS = 10, 2
"""Blocks of the code, along the bottom of the frame."""

_CHECK_BITS: Final = 2
NUMBERS: Final = 1 << (COLUMNS * ROWS - _CHECK_BITS)
"""Frame numbers are below this: four hours at 18 frames a second."""

_BLACK, _WHITE = 30, 220
_UNSURE: Final = 45
"""Grey levels from black or white at which a block is neither."""

_HILLS: Final = (6, 10, 5, 14)
"""Pixels of a hill in each scene."""

_SPEED: Final = 3
"""Pixels a frame by which the pattern moves."""


def frame_image(number: int, *, width: int, height: int, scene: int = 0) -> NDArray[np.uint8]:
    """Frame *number* of a video, (height, width, 3) RGB.

    Args:
        number: What `number_in` will find; also how far everything has moved.
        width: At least 40.
        height: At least 24.
        scene: Another number is another pattern in other colours, as after a cut.
    """
    image = np.roll(_landscape(width, height, scene), -_SPEED * number % width, axis=1)
    side = max(height // 8, 4)
    left = (2 * _SPEED * number) % max(width - side, 1)
    image[height // 4 : height // 4 + side, left : left + side] = 250
    for top, bottom, left, right, level in code(number % NUMBERS, height=height, width=width):
        image[top:bottom, left:right] = level
    return image


@functools.lru_cache(maxsize=16)
def _landscape(width: int, height: int, scene: int) -> NDArray[np.uint8]:
    """What moves, (height, width, 3): hills of rng, so that no two scenes are alike."""
    rng, hill = np.random.default_rng(scene), _HILLS[scene % len(_HILLS)]
    coarse = rng.integers(20, 230, (height // hill + 2, width // hill + 2, 3)).astype(np.float32)
    y = np.arange(height) / hill
    x = np.arange(width) / hill
    top, left = y.astype(int), x.astype(int)
    down, right = (y - top)[:, None, None], (x - left)[None, :, None]
    upper = coarse[top][:, left] * (1 - right) + coarse[top][:, left + 1] * right
    lower = coarse[top + 1][:, left] * (1 - right) + coarse[top + 1][:, left + 1] * right
    land = upper * (1 - down) + lower * down
    return land.astype(np.uint8)


def number_in(frame: av.VideoFrame) -> int | None:
    """The number that *frame* shows; None if it shows none, such as a mixture of two."""
    return number_in_image(frame.to_ndarray(format="gray"))


def number_in_image(gray: NDArray[np.uint8]) -> int | None:
    """As `number_in`, for an image of (height, width) grey levels."""
    height, width = gray.shape
    value = 0
    for top, bottom, left, right in _blocks(height, width):
        # The middle of a block: its edges are blurred, more so where chroma or scaling played in.
        rim_y, rim_x = max((bottom - top) // 4, 1), max((right - left) // 4, 1)
        mean = float(gray[top + rim_y : bottom - rim_y, left + rim_x : right - rim_x].mean())
        bit = mean > (_BLACK + _WHITE) / 2
        if abs(mean - (_WHITE if bit else _BLACK)) > _UNSURE:
            return None
        value = value << 1 | bit
    number, check = value >> _CHECK_BITS, value & ((1 << _CHECK_BITS) - 1)
    return number if check == _check(number) else None


def code(number: int, *, height: int, width: int) -> list[tuple[int, int, int, int, int]]:
    """Top, bottom, left, right and grey level of each block that says *number*."""
    value = number << _CHECK_BITS | _check(number)
    last = COLUMNS * ROWS - 1
    return [
        (*block, _WHITE if value >> (last - place) & 1 else _BLACK)
        for place, block in enumerate(_blocks(height, width))
    ]


def _check(number: int) -> int:
    """Two bits that most wrong readings do not hit; never those of an all black frame."""
    return ~(number.bit_count()) & ((1 << _CHECK_BITS) - 1)


@functools.cache
def _blocks(height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Top, bottom, left and right of each block, the highest bit first."""
    high = max(height // 20, 6)
    edges = [column * width // COLUMNS for column in range(COLUMNS + 1)]
    rows = [height - (ROWS - row) * high for row in range(ROWS)]
    return [
        (top, top + high, left, right) for top in rows for left, right in itertools.pairwise(edges)
    ]
