"""Drawing on decoded planes of any depth and subsampling, without a detour over RGB.

All functions draw on the planes of a `Canvas` and cost in proportion to what they cover. On planes
of RGB every plane is drawn on like luma; alpha stays as it is.
"""

import functools
from dataclasses import dataclass
from typing import Final, NamedTuple, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from .image import Canvas, Image
from .pixel_format import Plane

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, each 0 to 1."""

_FONT: Final = cv2.FONT_HERSHEY_DUPLEX
_CARD_SIZE: Final = (360, 640)


@dataclass(frozen=True, slots=True)
class Color:
    """A color as full-range BT.709 luma and chroma, 8 bits; `Painter` converts it."""

    y: int
    u: int
    v: int

    @property
    def gbr(self) -> tuple[float, float, float]:
        """Green, blue and red, 0 to 255, as an image of limited range shows the color."""
        u, v = (self.u - 128) * 255 / 224, (self.v - 128) * 255 / 224
        gbr = (self.y - 0.1873 * u - 0.4681 * v, self.y + 1.8556 * u, self.y + 1.5748 * v)
        return cast("tuple[float, float, float]", tuple(min(max(0.0, one), 255.0) for one in gbr))


class _Target(NamedTuple):
    plane: Plane
    down: int
    """Binary logarithm of its subsampling, vertical."""

    across: int
    """Horizontal."""

    chroma: bool


WHITE: Final = Color(245, 128, 128)
BLACK: Final = Color(12, 128, 128)
GREEN: Final = Color(170, 92, 80)
AMBER: Final = Color(178, 40, 168)
RED: Final = Color(105, 105, 225)


class Painter:
    """Draws on one canvas; all sizes are proportional to the height of the image."""

    def __init__(self, canvas: Canvas) -> None:
        layout, planes = canvas.layout, canvas.planes
        self._rgb = layout.rgb
        self._full_range = canvas.full_range
        self._unit = 1 << (layout.depth - 8)
        subsampled = layout.colored and not layout.rgb
        self._targets = [
            _Target(plane, 0, 0, chroma=False) for plane in planes[: 3 if layout.rgb else 1]
        ]
        if subsampled:
            self._targets += [
                _Target(plane, *layout.log2_chroma, chroma=True) for plane in planes[1:3]
            ]
        # Text begins at a chroma sample, and at an even pixel in every format.
        self._align = max(2, *(1 << part for part in layout.log2_chroma))
        self.height, self.width = planes[0].shape
        self.line: Final = max(1, round(self.height / 360))
        """Width of lines in pixels."""

        self.text_height: Final = max(9, self.height // 36)
        """Height of capital letters in pixels, without the background around them."""

    def tint(
        self, probability: NDArray[np.float32], box: Box, color: Color, *, floor: float
    ) -> None:
        """Mix the chroma of *color* in where *probability* exceeds *floor*, within *box* only.

        Luma stays, so that the smoke remains visible; a gray image stays as it is.

        Args:
            probability: (h, w) at any size, 0 to 1; covers the whole image.
            box: The part that is colored.
            color: Its chroma is mixed in by up to two thirds.
            floor: 0 to 1.
        """
        part, (left, top, right, bottom) = self._part(probability, box)
        if part is None:
            return
        strength = np.clip((part - floor) / max(1e-3, 1 - floor), 0, 1) * 0.45 + 0.2 * (
            part > floor
        )
        targets = [one for one in self._targets if one.chroma or self._rgb]
        if not targets:
            return
        plane, down, across, _ = targets[0]
        x0, y0 = left >> across, top >> down
        x1 = min(plane.shape[1], -(-right >> across))
        y1 = min(plane.shape[0], -(-bottom >> down))
        if x1 <= x0 or y1 <= y0:
            return
        weight = cv2.resize(
            strength.astype(np.float32), (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR
        )
        views = [one.plane[y0:y1, x0:x1] for one in targets]
        if not self._rgb:
            for here, level in zip(views, self._levels(color)[1:], strict=True):
                here[:] = here + weight * (level - here.astype(np.float32)) + 0.5
            return
        green, blue, red = (view.astype(np.float32) for view in views)
        luma = 0.7152 * green + 0.0722 * blue + 0.2126 * red
        limit = 256 * self._unit - 1
        for here, old, level in zip(views, (green, blue, red), self._levels(color), strict=True):
            chroma = level - color.y * self._unit
            here[:] = np.clip(old + weight * (luma + chroma - old) + 0.5, 0, limit)

    def outline(
        self, probability: NDArray[np.float32], box: Box, color: Color, *, floor: float
    ) -> None:
        """Draw the outline of where *probability* exceeds *floor*, within *box* only."""
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
        """Draw the four corners of a box, two line widths outside of it."""
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
        text: str,
        at: tuple[int, int],
        color: Color,
        *,
        background: Color = BLACK,
        scale: float = 1,
    ) -> int:
        """Write one line of text on a translucent rectangle; return the rectangle's right edge.

        Args:
            text: Characters that the font lacks are drawn as '?'.
            at: x, y of the rectangle's upper left corner in pixels; moved so that it fits.
            color: Of the letters.
            background: Of the rectangle, mixed in by 70 %.
            scale: Height of the letters in `text_height`.
        """
        ink = _ink(text, max(9, round(self.text_height * scale)))
        height, width = ink.shape
        x = max(0, min(at[0], self.width - width)) & -self._align
        y = max(0, min(at[1], self.height - height)) & -self._align
        ink = ink[: self.height - y, : self.width - x]
        for target, letter, below in zip(
            self._targets, self._levels(color), self._levels(background), strict=False
        ):
            plane, down, across, _ = target
            small = ink[:: 1 << down, :: 1 << across]
            rows, columns = small.shape
            top, left = y >> down, x >> across
            here = plane[top : top + rows, left : left + columns]
            mixed = here.astype(np.float32) * 0.3 + below * 0.7
            here[:] = mixed + small * (letter - mixed) + 0.5
        return int(x + ink.shape[1])

    def _part(
        self, probability: NDArray[np.float32], box: Box
    ) -> tuple[NDArray[np.float32] | None, tuple[int, int, int, int]]:
        """Return the map within *box*, a cell wider on each side, and the pixels that it covers."""
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
        for target, level in zip(self._targets, self._levels(color), strict=False):
            if not target.chroma:
                _draw_smooth(target.plane, lines, closed=closed, level=int(level), width=self.line)
                continue
            shift = np.array([target.across, target.down], np.int32)
            scaled = [line >> shift for line in lines]
            thin = max(1, self.line >> min(target.across, target.down))
            cv2.polylines(target.plane, scaled, closed, int(level), thin)

    def _levels(self, color: Color) -> tuple[float, ...]:
        if self._rgb:
            return tuple(one * self._unit for one in color.gbr)
        luma = color.y if self._full_range else 16 + color.y * 219 / 255
        return luma * self._unit, color.u * self._unit, color.v * self._unit


def _draw_smooth(
    plane: Plane, lines: list[NDArray[np.int32]], *, closed: bool, level: int, width: int
) -> None:
    """Draw anti-aliased lines; OpenCV smooths lines on 8-bit planes only."""
    if plane.dtype == np.uint8:
        cv2.polylines(plane, lines, closed, level, width, cv2.LINE_AA)
        return
    points = np.concatenate([line.reshape(-1, 2) for line in lines] or [np.empty((0, 2), np.int32)])
    if not len(points):
        return
    margin = width + 2
    left, top = np.maximum(points.min(0) - margin, 0)
    right, bottom = points.max(0) + margin + 1
    here = plane[top:bottom, left:right]
    coverage = np.zeros(here.shape, np.uint8)
    moved = [line - np.array([left, top], np.int32) for line in lines]
    cv2.polylines(coverage, moved, closed, 255, width, cv2.LINE_AA)
    here[:] = here + coverage / np.float32(255) * (level - here.astype(np.float32)) + 0.5


@functools.lru_cache(maxsize=512)
def _ink(text: str, height: int) -> NDArray[np.float32]:
    """Return the coverage of letters, (h, w), 0 to 1, with a margin of a third of *height*."""
    scale = cv2.getFontScaleFromHeight(_FONT, height)
    thickness = max(1, round(height / 14))
    (width, above), below = cv2.getTextSize(text, _FONT, scale, thickness)
    margin = height // 3
    letters = np.zeros((above + below + 2 * margin, width + 2 * margin), np.uint8)
    cv2.putText(letters, text, (margin, margin + above), _FONT, scale, 255, thickness, cv2.LINE_AA)
    ink = (letters / 255).astype(np.float32)
    ink.flags.writeable = False
    return ink


def no_signal(size: tuple[int, int] | None, *, camera: str, since: str, reason: str = "") -> Image:
    """Return an image that cannot be mistaken for one of the camera.

    Args:
        size: (height, width) of the camera's frames; a default if none was received.
        camera: Its name.
        since: Time of the last frame, as text.
        reason: Why there is no signal, in a word or two.
    """
    height, width = size or _CARD_SIZE
    canvas = Image.from_rgb(np.full((height, width, 3), 28, np.uint8)).canvas()
    painter = Painter(canvas)
    lines = [("NO SIGNAL", WHITE, 2.0), (camera, WHITE, 1.0), (f"since {since}", AMBER, 1.0)]
    if reason:
        lines.append((reason, AMBER, 1.0))
    y = height // 3
    for text, color, scale in lines:
        ink = _ink(text, max(9, round(painter.text_height * scale)))
        painter.text(text, ((width - ink.shape[1]) // 2, y), color, scale=scale)
        y += ink.shape[0] + painter.text_height // 2
    return canvas.image()
