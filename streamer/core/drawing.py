"""Drawing on decoded planes: what a person sees of the alarm, without a detour over RGB.

All functions paint on the `Planes` of a `Canvas` and cost in proportion to what they cover.
"""

import functools
from dataclasses import dataclass
from typing import Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from .image import Canvas, Image, Planes

Plane = NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom, each 0 to 1."""

_FONT: Final = cv2.FONT_HERSHEY_DUPLEX
_CARD: Final = (360, 640)


@dataclass(frozen=True, slots=True)
class Color:
    """A colour as BT.709 luma and chroma, full range; `Painter` fits it to the picture's range."""

    y: int
    u: int
    v: int


WHITE: Final = Color(245, 128, 128)
BLACK: Final = Color(12, 128, 128)
GREEN: Final = Color(170, 92, 80)
AMBER: Final = Color(178, 40, 168)
RED: Final = Color(105, 105, 225)


class Painter:
    """Paints on one canvas. Sizes follow the height of the picture, so 240p and 4K look alike."""

    def __init__(self, canvas: Canvas) -> None:
        self._planes: Planes = canvas.planes
        self._full_range = canvas.full_range
        self.height, self.width = canvas.planes.y.shape
        self.line: Final = max(1, round(self.height / 360))
        """Width of lines in pixels."""

        self.text_height: Final = max(9, self.height // 36)
        """Height of capital letters and their plate in pixels."""

    def tint(
        self, probability: NDArray[np.float32], box: Box, color: Color, *, floor: float
    ) -> None:
        """Colour the picture where *probability* exceeds *floor*, within *box* only.

        Args:
            probability: (h, w) of the whole picture at any size, 0 to 1.
            box: What of it is to be coloured.
            color: Its chroma is mixed in by up to two thirds; luma stays, so the smoke is seen.
            floor: 0 to 1.
        """
        part, (left, top, right, bottom) = self._part(probability, box)
        if part is None:
            return
        strength = np.clip((part - floor) / max(1e-3, 1 - floor), 0, 1) * 0.45 + 0.2 * (
            part > floor
        )
        half = self._planes.u.shape
        x0, y0 = left // 2, top // 2
        x1, y1 = min(half[1], (right + 1) // 2), min(half[0], (bottom + 1) // 2)
        if x1 <= x0 or y1 <= y0:
            return
        weight = cv2.resize(
            strength.astype(np.float32), (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR
        )
        for plane, level in ((self._planes.u, color.u), (self._planes.v, color.v)):
            here = plane[y0:y1, x0:x1]
            here[:] = here + weight * (level - here.astype(np.float32)) + 0.5

    def outline(
        self, probability: NDArray[np.float32], box: Box, color: Color, *, floor: float
    ) -> None:
        """Draw a line around where *probability* exceeds *floor*, within *box* only."""
        part, (left, top, right, bottom) = self._part(probability, box)
        if part is None:
            return
        fine = cv2.resize(part, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
        mask = (fine > floor).astype(np.uint8)
        contours, _ = cv2.findContours(
            mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(left, top)
        )
        self._lines(cast("list[NDArray[np.int32]]", contours), color)

    def box(self, box: Box, color: Color) -> None:
        """Draw the corners of a box, a little outside of it."""
        left, top, right, bottom = self._pixels(box)
        gap = 2 * self.line
        left, top = max(0, left - gap), max(0, top - gap)
        right, bottom = min(self.width - 1, right + gap), min(self.height - 1, bottom + gap)
        tick = max(4, min(right - left, bottom - top) // 4)
        corners = [
            [(left, top + tick), (left, top), (left + tick, top)],
            [(right - tick, top), (right, top), (right, top + tick)],
            [(right, bottom - tick), (right, bottom), (right - tick, bottom)],
            [(left + tick, bottom), (left, bottom), (left, bottom - tick)],
        ]
        self._lines([np.array(corner, np.int32) for corner in corners], color, closed=False)

    def text(
        self,
        words: str,
        at: tuple[int, int],
        color: Color,
        *,
        plate: Color = BLACK,
        scale: float = 1,
    ) -> int:
        """Write *words* on a plate; returns the plate's right edge.

        Args:
            words: Characters that the font lacks show as '?'.
            at: x, y of the plate's upper left corner in pixels; moved so that it fits.
            color: Of the letters.
            plate: Of the ground, mixed in by two thirds.
            scale: Times `text_height`.
        """
        ink = _ink(words, max(9, round(self.text_height * scale)))
        height, width = ink.shape
        x = max(0, min(at[0], self.width - width)) & ~1
        y = max(0, min(at[1], self.height - height)) & ~1
        ink = ink[: self.height - y, : self.width - x]
        height, width = ink.shape
        luma = self._planes.y[y : y + height, x : x + width]
        ground = luma.astype(np.float32) * 0.3 + self._luma(plate) * 0.7
        luma[:] = ground + ink * (self._luma(color) - ground) + 0.5
        small = ink[::2, ::2]
        for plane, letter, below in (
            (self._planes.u, color.u, plate.u),
            (self._planes.v, color.v, plate.v),
        ):
            chroma = plane[y // 2 : y // 2 + small.shape[0], x // 2 : x // 2 + small.shape[1]]
            soft = chroma.astype(np.float32) * 0.3 + below * 0.7
            chroma[:] = soft + small * (letter - soft) + 0.5
        return int(x + width)

    def _part(
        self, probability: NDArray[np.float32], box: Box
    ) -> tuple[NDArray[np.float32] | None, tuple[int, int, int, int]]:
        """The map within *box*, a cell wider on each side, and the pixels that it covers."""
        rows, columns = probability.shape
        x0, y0 = max(0, int(box[0] * columns) - 1), max(0, int(box[1] * rows) - 1)
        x1, y1 = min(columns, int(box[2] * columns) + 2), min(rows, int(box[3] * rows) + 2)
        pixels = self._pixels((x0 / columns, y0 / rows, x1 / columns, y1 / rows))
        if x1 <= x0 or y1 <= y0 or pixels[2] <= pixels[0] or pixels[3] <= pixels[1]:
            return None, pixels
        return probability[y0:y1, x0:x1], pixels

    def _pixels(self, box: Box) -> tuple[int, int, int, int]:
        left, top, right, bottom = box
        return (
            round(left * self.width), round(top * self.height),
            round(right * self.width), round(bottom * self.height),
        )  # fmt: skip

    def _lines(self, lines: list[NDArray[np.int32]], color: Color, *, closed: bool = True) -> None:
        cv2.polylines(self._planes.y, lines, closed, int(self._luma(color)), self.line, cv2.LINE_AA)
        halves = [line // 2 for line in lines]
        thin = max(1, self.line // 2)
        cv2.polylines(self._planes.u, halves, closed, color.u, thin)
        cv2.polylines(self._planes.v, halves, closed, color.v, thin)

    def _luma(self, color: Color) -> float:
        return color.y if self._full_range else 16 + color.y * 219 / 255


@functools.lru_cache(maxsize=512)
def _ink(words: str, height: int) -> NDArray[np.float32]:
    """Letters on an empty plate, (h, w), 0 to 1; a margin of a third of the height around them."""
    scale = cv2.getFontScaleFromHeight(_FONT, height)
    thickness = max(1, round(height / 14))
    (width, above), below = cv2.getTextSize(words, _FONT, scale, thickness)
    margin = height // 3
    plate = np.zeros((above + below + 2 * margin, width + 2 * margin), np.uint8)
    cv2.putText(plate, words, (margin, margin + above), _FONT, scale, 255, thickness, cv2.LINE_AA)
    ink = (plate / 255).astype(np.float32)
    ink.flags.writeable = False
    return ink


def no_signal(size: tuple[int, int] | None, *, camera: str, since: str, reason: str = "") -> Image:
    """A card that cannot be taken for a live picture.

    Args:
        size: (height, width) of the picture that is missing; a default when it was never seen.
        camera: Its name.
        since: Since when, for people.
        reason: Why, in a word or two.
    """
    height, width = size or _CARD
    canvas = Image.from_rgb(np.full((height, width, 3), 28, np.uint8)).canvas()
    painter = Painter(canvas)
    lines = [("NO SIGNAL", WHITE, 2.0), (camera, WHITE, 1.0), (f"since {since}", AMBER, 1.0)]
    if reason:
        lines.append((reason, AMBER, 1.0))
    y = height // 3
    for words, color, scale in lines:
        ink = _ink(words, max(9, round(painter.text_height * scale)))
        painter.text(words, ((width - ink.shape[1]) // 2, y), color, scale=scale)
        y += ink.shape[0] + painter.text_height // 2
    return canvas.picture()
