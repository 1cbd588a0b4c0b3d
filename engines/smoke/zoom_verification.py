"""The second look: what the first look suspects is looked at again, larger, before it counts.

The first look sees the whole view at 640 pixels: a far plume is a few of them, and so are a pale
rock, a roof and a rag of cloud. The second takes a window around each suspect out of the picture as
the camera gave it, and asks the same network again. A place is as likely smoke as both say
together: the geometric mean of the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray


Box = tuple[float, float, float, float]
"""(left, top, right, bottom) as shares of a picture."""
WINDOW = (192, 320)
"""(height, width) of what the network is given: a quarter of a first look's cost."""
MOST = 3
"""Suspects looked at again, the most alarming first; more in one picture are no fire."""
LARGE = 0.15
"""A suspect wider or higher than this share of the picture is large already."""
LARGER = 2.0
"""A window shows things at least so many times as large as the first look did."""
ROOM = 2.5
"""A window is at least so many times as wide and high as the suspect: smoke needs surroundings."""


_SMOOTH_ABOVE = 0.6
"""Scale below which single pixels would be picked and others lost."""


class Network(Protocol):
    """What looks; `SmokeModel` is one."""

    def __call__(  # noqa: D102  described by the class
        self, image: NDArray[np.uint8], background: NDArray[np.uint8] | None = None, /
    ) -> NDArray[np.float32]: ...


def verify(
    network: Network,
    probability: NDArray[np.float32],
    cut: Callable[[Box, tuple[int, int]], NDArray[np.uint8]],
    *,
    threshold: float,
    outline: float,
    native: tuple[int, int],
    background: NDArray[np.uint8] | None = None,
) -> NDArray[np.float32]:
    """Look again at each suspect.

    Args:
        network: Looks.
        probability: (h, w), 0 to 1, of the first look.
        cut: Gives a part of the picture, (left, top, right, bottom) as shares of it, scaled to
            (height, width), as (height, width, 3) RGB.
        threshold: Probability above which a place is suspect.
        outline: Probability to which a suspect grows from there.
        native: (height, width) of the picture as the camera gave it: windows need not be smaller
            than their own pixels.
        background: What the first look was given, at its size.

    Returns:
        (h, w), 0 to 1; the very same array when nothing is suspect.
    """

    def look(windows: Sequence[Box]) -> Iterable[NDArray[np.float32]]:
        for window in windows:
            image = cut(window, WINDOW)
            normal = None if background is None else part_of_picture(background, window, WINDOW)
            yield network(image, normal)

    return verify_regions(probability, look, threshold=threshold, outline=outline, native=native)


def verify_regions(
    probability: NDArray[np.float32],
    look: Callable[[Sequence[Box]], Iterable[NDArray[np.float32]]],
    *,
    threshold: float,
    outline: float,
    native: tuple[int, int],
) -> NDArray[np.float32]:
    """What is left of a first look when each suspect has been looked at again.

    Args:
        probability: (h, w), 0 to 1, of the first look.
        look: Looks at windows of the picture at `WINDOW`, (left, top, right, bottom) as shares of
            it, and gives a map of each.
        threshold: Probability above which a place is suspect.
        outline: Probability to which a suspect grows from there.
        native: (height, width) of the picture as the camera gave it.

    Returns:
        (h, w), 0 to 1; the very same array when nothing is suspect.
    """
    suspects = _suspects(probability, threshold, outline)
    if not suspects:
        return probability
    result = probability.copy()
    shape = probability.shape[:2]
    tall, wide = (
        max(side, round(LARGER * 2 * least)) for side, least in zip(native, shape, strict=True)
    )
    windows = [_window(box, shape, (tall, wide)) for box, _ in suspects]
    for (_, inside), window, said in zip(suspects, windows, look(windows), strict=True):
        again = _spread(said, window, shape)
        result[inside] = np.sqrt(probability[inside] * again[inside])
    return result


def _suspects(
    probability: NDArray[np.float32], threshold: float, outline: float
) -> list[tuple[tuple[int, int, int, int], NDArray[np.bool_]]]:
    """Boxes (x, y, w, h) and pixels of what is to be looked at again."""
    grown = (probability > min(outline, threshold)).view(np.uint8)
    if not cv2.hasNonZero(grown):
        return []
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(grown, connectivity=8)
    rows, columns = probability.shape
    found = []
    for label, (x, y, w, h, area) in enumerate(boxes.tolist()):
        if label == 0 or w > LARGE * columns or h > LARGE * rows:
            continue
        inside = labels == label
        peak = float(probability[inside].max())
        if peak > threshold:
            found.append((area * peak, (x, y, w, h), inside))
    found.sort(key=lambda suspect: -suspect[0])
    return [(box, inside) for _, box, inside in found[:MOST]]


def _window(box: tuple[int, int, int, int], shape: tuple[int, ...], native: tuple[int, int]) -> Box:
    """A window around a suspect, within the picture: native pixels, or wider for a wide suspect."""
    x, y, w, h = box
    rows, columns = shape
    tall, wide = native
    scale = max(1.0, ROOM * w / columns * wide / WINDOW[1], ROOM * h / rows * tall / WINDOW[0])
    width, height = min(1.0, WINDOW[1] * scale / wide), min(1.0, WINDOW[0] * scale / tall)
    left = min(max(0.0, (x + w / 2) / columns - width / 2), 1 - width)
    top = min(max(0.0, (y + h / 2) / rows - height / 2), 1 - height)
    return left, top, min(1.0, left + width), min(1.0, top + height)


def _spread(again: NDArray[np.float32], window: Box, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A window's map at its place in the whole one; 1 outside, where nobody looked again."""
    rows, columns = shape
    left, top, right, bottom = window
    across = (right - left) * columns / again.shape[1]
    down = (bottom - top) * rows / again.shape[0]
    matrix = np.array(
        [
            [across, 0, left * columns + 0.5 * across - 0.5],
            [0, down, top * rows + 0.5 * down - 0.5],
        ]
    )
    there = cv2.warpAffine(
        again, matrix, (columns, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    spread = np.ones((rows, columns), np.float32)
    looked = np.s_[
        round(top * rows) : round(bottom * rows), round(left * columns) : round(right * columns)
    ]
    spread[looked] = there[looked]
    return spread


def part_of_picture(
    picture: NDArray[np.uint8], window: Box, size: tuple[int, int]
) -> NDArray[np.uint8]:
    """A window of a picture, (left, top, right, bottom) as shares of it, scaled to (h, w)."""
    rows, columns = picture.shape[:2]
    left, top, right, bottom = window
    across = size[1] / ((right - left) * columns)
    down = size[0] / ((bottom - top) * rows)
    if across < _SMOOTH_ABOVE:
        whole = np.s_[
            round(top * rows) : round(bottom * rows), round(left * columns) : round(right * columns)
        ]
        small = cv2.resize(picture[whole], size[::-1], interpolation=cv2.INTER_AREA)
        return cast("NDArray[np.uint8]", small)
    # Pixel centres: the half pixels keep both pictures in step.
    matrix = np.array(
        [
            [across, 0, across * (0.5 - left * columns) - 0.5],
            [0, down, down * (0.5 - top * rows) - 0.5],
        ]
    )
    cut = cv2.warpAffine(
        picture, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return cast("NDArray[np.uint8]", cut)
