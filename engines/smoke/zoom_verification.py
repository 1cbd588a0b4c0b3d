"""Zoom verification: each candidate region is inferred again on a larger crop before it counts.

The first pass sees the whole frame at 640 pixels wide, where a distant plume covers only a few
pixels and looks like a pale rock, a roof or a scrap of cloud. Verification crops a window around
each candidate region from the frame at its native resolution and runs the same network on it. The
verified probability is the geometric mean of both passes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray


Box = tuple[float, float, float, float]
"""(left, top, right, bottom) as fractions of the frame."""
WINDOW = (192, 320)
"""(height, width) of the crop given to the network; inference on it costs a quarter of a pass."""
MAX_REGIONS = 3
"""Regions verified per frame, largest area x peak first; more at once are rarely fires."""
MAX_REGION_SIZE = 0.15
"""Regions wider or higher than this fraction of the frame are large enough not to be verified."""
MIN_ZOOM = 2.0
"""Least magnification of a crop relative to the first pass."""
CONTEXT = 2.5
"""Least size of a crop relative to its region: the network needs the surroundings."""


_AREA_BELOW = 0.6
"""Scale below which area averaging is used; bilinear sampling would skip pixels."""


class Network(Protocol):
    """A smoke network; `SmokeModel` is one."""

    def __call__(  # noqa: D102  described by the class
        self, image: NDArray[np.uint8], background: NDArray[np.uint8] | None = None, /
    ) -> NDArray[np.float32]: ...


def verify(
    network: Network,
    probability: NDArray[np.float32],
    crop: Callable[[Box, tuple[int, int]], NDArray[np.uint8]],
    *,
    threshold: float,
    low_threshold: float,
    native: tuple[int, int],
    background: NDArray[np.uint8] | None = None,
) -> NDArray[np.float32]:
    """Verify each candidate region of a probability map.

    Args:
        network: Runs on the crops.
        probability: (h, w), 0 to 1, of the first pass.
        crop: Returns a region of the frame, (left, top, right, bottom) as fractions of it, scaled
            to (height, width), as (height, width, 3) RGB.
        threshold: Regions that exceed this probability somewhere are verified.
        low_threshold: Probability down to which such a region is grown (hysteresis).
        native: (height, width) of the frame at the camera's resolution, which limits the zoom.
        background: Background model, as given to the first pass.

    Returns:
        (h, w), 0 to 1; the same array object if there is no candidate region.
    """

    def infer(windows: Sequence[Box]) -> Iterable[NDArray[np.float32]]:
        for window in windows:
            image = crop(window, WINDOW)
            behind = None if background is None else crop_region(background, window, WINDOW)
            yield network(image, behind)

    return verify_regions(
        probability, infer, threshold=threshold, low_threshold=low_threshold, native=native
    )


def verify_regions(
    probability: NDArray[np.float32],
    infer: Callable[[Sequence[Box]], Iterable[NDArray[np.float32]]],
    *,
    threshold: float,
    low_threshold: float,
    native: tuple[int, int],
) -> NDArray[np.float32]:
    """Return a probability map in which each candidate region has been verified.

    Args:
        probability: (h, w), 0 to 1, of the first pass.
        infer: Runs the network on windows of the frame, (left, top, right, bottom) as fractions of
            it, scaled to `WINDOW`, and returns one probability map per window.
        threshold: Regions that exceed this probability somewhere are verified.
        low_threshold: Probability down to which such a region is grown (hysteresis).
        native: (height, width) of the frame at the camera's resolution.

    Returns:
        (h, w), 0 to 1; the same array object if there is no candidate region.
    """
    regions = _candidate_regions(probability, threshold, low_threshold)
    if not regions:
        return probability
    result = probability.copy()
    shape = probability.shape[:2]
    tall, wide = (
        max(side, round(MIN_ZOOM * 2 * least)) for side, least in zip(native, shape, strict=True)
    )
    windows = [_window(box, shape, (tall, wide)) for box, _ in regions]
    for (_, inside), window, zoomed in zip(regions, windows, infer(windows), strict=True):
        second = _paste(zoomed, window, shape)
        result[inside] = np.sqrt(probability[inside] * second[inside])
    return result


def _candidate_regions(
    probability: NDArray[np.float32], threshold: float, low_threshold: float
) -> list[tuple[tuple[int, int, int, int], NDArray[np.bool_]]]:
    """Return box (x, y, w, h) and pixel mask of each region to verify."""
    grown = (probability > min(low_threshold, threshold)).view(np.uint8)
    if not cv2.hasNonZero(grown):
        return []
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(grown, connectivity=8)
    rows, columns = probability.shape
    found = []
    for label, (x, y, w, h, area) in enumerate(boxes.tolist()):
        if label == 0 or w > MAX_REGION_SIZE * columns or h > MAX_REGION_SIZE * rows:
            continue
        inside = labels == label
        peak = float(probability[inside].max())
        if peak > threshold:
            found.append((area * peak, (x, y, w, h), inside))
    found.sort(key=lambda region: -region[0])
    return [(box, inside) for _, box, inside in found[:MAX_REGIONS]]


def _window(box: tuple[int, int, int, int], shape: tuple[int, ...], native: tuple[int, int]) -> Box:
    """Return a window around a region, within the frame, at native scale or reduced."""
    x, y, w, h = box
    rows, columns = shape
    tall, wide = native
    scale = max(
        1.0, CONTEXT * w / columns * wide / WINDOW[1], CONTEXT * h / rows * tall / WINDOW[0]
    )
    width, height = min(1.0, WINDOW[1] * scale / wide), min(1.0, WINDOW[0] * scale / tall)
    left = min(max(0.0, (x + w / 2) / columns - width / 2), 1 - width)
    top = min(max(0.0, (y + h / 2) / rows - height / 2), 1 - height)
    return left, top, min(1.0, left + width), min(1.0, top + height)


def _paste(zoomed: NDArray[np.float32], window: Box, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a window's map at its place in the whole map; 1 outside the window."""
    rows, columns = shape
    left, top, right, bottom = window
    across = (right - left) * columns / zoomed.shape[1]
    down = (bottom - top) * rows / zoomed.shape[0]
    matrix = np.array(
        [
            [across, 0, left * columns + 0.5 * across - 0.5],
            [0, down, top * rows + 0.5 * down - 0.5],
        ]
    )
    placed = cv2.warpAffine(
        zoomed, matrix, (columns, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    pasted = np.ones((rows, columns), np.float32)
    inside = np.s_[
        round(top * rows) : round(bottom * rows), round(left * columns) : round(right * columns)
    ]
    pasted[inside] = placed[inside]
    return pasted


def crop_region(image: NDArray[np.uint8], window: Box, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a window of an image, (left, top, right, bottom) as fractions, scaled to (h, w)."""
    rows, columns = image.shape[:2]
    left, top, right, bottom = window
    across = size[1] / ((right - left) * columns)
    down = size[0] / ((bottom - top) * rows)
    if across < _AREA_BELOW:
        inside = np.s_[
            round(top * rows) : round(bottom * rows), round(left * columns) : round(right * columns)
        ]
        small = cv2.resize(image[inside], size[::-1], interpolation=cv2.INTER_AREA)
        return cast("NDArray[np.uint8]", small)
    # The half pixels align pixel centres.
    matrix = np.array(
        [
            [across, 0, across * (0.5 - left * columns) - 0.5],
            [0, down, down * (0.5 - top * rows) - 0.5],
        ]
    )
    cropped = cv2.warpAffine(
        image, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return cast("NDArray[np.uint8]", cropped)
