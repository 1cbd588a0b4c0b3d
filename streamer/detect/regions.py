"""From a map of probabilities to regions: connected patches with their measures."""

from dataclasses import replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from streamer.core.frame import Detection

from .zones import Zones

_OUTLINE: Final = 0.75
"""Where the outline lies unless told: at this share of the threshold."""

_MOST: Final = 32
"""Regions kept of one look, the most alarming first: a picture full of specks stays cheap."""


def find_regions(
    probability: NDArray[np.float32],
    *,
    threshold: float,
    outline: float | None = None,
    zones: Zones | None = None,
    min_area: float = 0.0,
    motion: NDArray[np.float32] | None = None,
    said: NDArray[np.float32] | None = None,
) -> tuple[Detection, ...]:
    """Connected patches of smoke, the most alarming first.

    Args:
        probability: (height, width), 0 to 1.
        threshold: A region holds at least one pixel above this, 0 to 1.
        outline: It grows from there to pixels above this: the thin rim of a plume belongs to it
            (hysteresis, Canny 1986), but a rim alone is none.
        zones: Where smoke counts; everywhere when left out.
        min_area: Smaller regions are left out; a share of the picture.
        motion: Change since a second ago, of the same size, if it is known.
        said: What the network itself said, of the same size, where *probability* is only what
            exceeds the usual: a region is as sure as the network was.
    """
    said = probability if said is None else said
    allowed = zones.mask(probability.shape[:2]) if zones is not None else None
    rim = threshold * _OUTLINE if outline is None else min(outline, threshold)
    grown = (probability > rim).view(np.uint8)
    if allowed is not None:
        grown &= allowed
    if not cv2.hasNonZero(grown):
        return ()
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(grown, connectivity=8)
    found = []
    smallest = max(1, min_area * probability.size)
    for label in range(1, count):
        x, y, width, height, pixels = boxes[label].tolist()
        if pixels < smallest:
            continue
        part = np.s_[y : y + height, x : x + width]
        inside = labels[part] == label
        chance = np.where(inside, probability[part], 0)
        if chance.max() > threshold:
            moved = None if motion is None else float(motion[part][inside].mean())
            region = _measure(inside, chance, (x, y), pixels, probability.shape)
            sure = _surest(said[part][inside])
            found.append(replace(region, confidence=sure, motion=moved))
    found.sort(key=lambda region: (-region.area * region.confidence, region.box))
    return tuple(found[:_MOST])


def _surest(chances: NDArray[np.float32]) -> float:
    """Mean of the highest quarter."""
    count = max(1, len(chances) // 4)
    return float(np.partition(chances, -count)[-count:].mean())


def _measure(
    inside: NDArray[np.bool_],
    chance: NDArray[np.float32],
    corner: tuple[int, int],
    pixels: int,
    shape: tuple[int, ...],
) -> Detection:
    height, width = shape[:2]
    left, top = corner
    rows, columns = inside.shape
    total = float(chance.sum())
    across = chance.sum(axis=0) @ (np.arange(columns) + 0.5) / total
    down = chance.sum(axis=1) @ (np.arange(rows) + 0.5) / total
    # The foot is the lowest tenth of the patch: one stray pixel must not move the anchor.
    foot = inside[rows - max(1, rows // 10) :].sum(axis=0)
    foot_x = foot @ (np.arange(columns) + 0.5) / max(1, foot.sum())
    return Detection(
        box=(left / width, top / height, (left + columns) / width, (top + rows) / height),
        centroid=((left + float(across)) / width, (top + float(down)) / height),
        ground_point=((left + float(foot_x)) / width, (top + rows) / height),
        area=pixels / (height * width),
        confidence=total / pixels,
        peak=float(chance.max()),
    )
