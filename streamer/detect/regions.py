"""Regions: connected areas of a probability map above a threshold, with their measures."""

from dataclasses import replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.core.frame import Detection

from .zones import Zones

Map = NDArray[np.float32]

_LOW_RATIO: Final = 0.75
"""Default of `low_threshold`, as a share of the threshold."""

_MAX_REGIONS: Final = 32
"""Regions returned for one map, so that a frame full of specks stays cheap."""


def find_regions(
    probability: Map,
    *,
    threshold: float,
    low_threshold: float | None = None,
    zones: Zones | None = None,
    min_area: float = 0.0,
    motion: Map | None = None,
    raw_probability: Map | None = None,
) -> tuple[Detection, ...]:
    """Return the connected regions of smoke, the largest and most confident first.

    Two thresholds are used (Canny, 1986): a region has at least one pixel above *threshold* and
    consists of all connected pixels above *low_threshold*, so that the thin edge of a plume belongs
    to it while a faint patch alone does not count.

    Args:
        probability: (height, width), 0 to 1.
        threshold: Probability that a region exceeds somewhere, 0 to 1.
        low_threshold: Probability that all of its pixels exceed, at most *threshold*; three
            quarters of *threshold* by default.
        zones: Where smoke counts; everywhere by default.
        min_area: Smallest area of a region, as a share of the frame.
        motion: Output of `FrameDifference.update`, of the same shape.
        raw_probability: Output of the network, of the same shape, if *probability* was reduced by
            the false-positive prior. Gives the confidence of a region.
    """
    raw_probability = probability if raw_probability is None else raw_probability
    low = threshold * _LOW_RATIO if low_threshold is None else min(low_threshold, threshold)
    above = (probability > low).view(np.uint8)
    allowed = zones.mask(probability.shape[:2]) if zones is not None else None
    if allowed is not None:
        above &= allowed
    if not cv2.hasNonZero(above):
        return ()
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    found = []
    min_pixels = max(1, min_area * probability.size)
    for label in range(1, count):
        x, y, width, height, pixels = boxes[label].tolist()
        if pixels < min_pixels:
            continue
        part = np.s_[y : y + height, x : x + width]
        inside = labels[part] == label
        values = np.where(inside, probability[part], 0)
        if values.max() > threshold:
            region = _measure(inside, values, (x, y), pixels, probability.shape)
            confidence = _top_quartile_mean(raw_probability[part][inside])
            moved = None if motion is None else float(motion[part][inside].mean())
            found.append(replace(region, confidence=confidence, motion=moved))
    found.sort(key=lambda region: (-region.area * region.confidence, region.box))
    return tuple(found[:_MAX_REGIONS])


def _top_quartile_mean(values: Map) -> float:
    count = max(1, len(values) // 4)
    return float(np.partition(values, -count)[-count:].mean())


def _measure(
    inside: NDArray[np.bool_],
    values: Map,
    corner: tuple[int, int],
    pixels: int,
    shape: tuple[int, ...],
) -> Detection:
    height, width = shape[:2]
    left, top = corner
    rows, columns = inside.shape
    total = float(values.sum())
    x = values.sum(axis=0) @ (np.arange(columns) + 0.5) / total
    y = values.sum(axis=1) @ (np.arange(rows) + 0.5) / total
    # The lowest tenth of the rows: one stray pixel must not move the ground point.
    lowest = inside[rows - max(1, rows // 10) :].sum(axis=0)
    ground_x = lowest @ (np.arange(columns) + 0.5) / max(1, lowest.sum())
    return Detection(
        box=(left / width, top / height, (left + columns) / width, (top + rows) / height),
        centroid=((left + float(x)) / width, (top + float(y)) / height),
        ground_point=((left + float(ground_x)) / width, (top + rows) / height),
        area=pixels / (height * width),
        confidence=total / pixels,
        peak=float(values.max()),
    )
