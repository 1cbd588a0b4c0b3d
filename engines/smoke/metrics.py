"""Detection and segmentation metrics of smoke networks: per image, aggregated, calibrated."""

# ruff: noqa: PLR2004  limits of what is measured stand where they act
from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from engines.common import metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

SIZES = {"under_0.2": (0.0, 0.002), "0.2_to_1": (0.002, 0.01), "over_1": (0.01, 1.01)}
"""Size classes of plumes by fraction of the image; names are in per cent."""
MIN_REGION = 0.0002
"""Smallest fraction of the image that counts as a region: 60 pixels of 640x480."""
MIN_OVERLAP = 0.1
"""Fraction of a drawn plume that regions must cover for the plume to be found."""
DRAWS = 1000
"""Bootstrap draws."""


@dataclass(frozen=True, slots=True)
class ImageResult:
    """Comparison of one predicted map with the labels of its image."""

    group: str
    """Camera view."""
    share: float | None
    """Fraction of the image that is smoke; None for a clear image."""
    tp: int
    """Pixels rightly predicted as smoke."""
    predicted: int
    """Pixels predicted as smoke."""
    actual: int
    """Pixels labelled as smoke."""
    alarm: bool
    """Whether any region counts."""
    found: bool
    """Whether the regions cover enough of the plume."""


def regions(
    probability: NDArray[np.float32], threshold: float, low_threshold: float
) -> tuple[NDArray[np.bool_], list[dict[str, float]]]:
    """Return the pixels of regions that count, and area, mean and peak of each, largest first.

    A region exceeds `threshold` somewhere and is grown to `low_threshold` (hysteresis), as in the
    alarm.
    """
    grown = (probability > min(low_threshold, threshold)).astype(np.uint8)
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(grown, connectivity=8)
    counted = np.zeros(probability.shape, bool)
    found = []
    for label in range(1, len(boxes)):
        area = int(boxes[label, cv2.CC_STAT_AREA])
        if area < MIN_REGION * probability.size:
            continue
        inside = labels == label
        values = probability[inside]
        if values.max() <= threshold:
            continue
        counted |= inside
        found.append(
            {
                "area": area / probability.size,
                "mean": float(values.mean()),
                "peak": float(values.max()),
            }
        )
    return counted, sorted(found, key=lambda region: -region["area"])


def compare(
    probability: NDArray[np.float32],
    mask: NDArray[np.uint8] | None,
    *,
    threshold: float,
    low_threshold: float,
    group: str,
) -> ImageResult:
    """Compare a probability map with a drawn mask of any size, or with a clear image (None)."""
    counted, found = regions(probability, threshold, low_threshold)
    if mask is None:
        predicted = int(counted.sum())
        return ImageResult(group, None, 0, predicted, 0, bool(found), found=False)
    actual = mask > 127
    # The outline is taken at the mask's own resolution, near regions that count.
    near = cv2.dilate(counted.astype(np.uint8), np.ones((3, 3), np.uint8))
    covered = cv2.resize(near, mask.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    enlarged = cv2.resize(probability, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
    covered &= enlarged > min(low_threshold, threshold)
    return ImageResult(
        group=group,
        share=float(actual.mean()),
        tp=int((covered & actual).sum()),
        predicted=int(covered.sum()),
        actual=int(actual.sum()),
        alarm=bool(found),
        found=bool((covered & actual).sum() >= MIN_OVERLAP * max(actual.sum(), 1)),
    )


def aggregate(results: Sequence[ImageResult]) -> dict[str, float | None]:
    """Return IoU, F1, recall and false positive rate of a set; None where a figure is undefined."""
    smoke = [one for one in results if one.share is not None]
    clear = [one for one in results if one.share is None]
    figures: dict[str, float | None] = {
        "iou": iou(smoke),
        "f1": ratio(2 * sum(s.tp for s in smoke), sum(s.predicted + s.actual for s in smoke)),
        "recall": ratio(sum(s.found for s in smoke), len(smoke)),
        "clear_false_positive_rate": ratio(sum(s.alarm for s in clear), len(clear)),
    }
    for name, (low, high) in SIZES.items():
        these = [s for s in smoke if s.share is not None and low <= s.share < high]
        figures[f"recall_{name}"] = ratio(sum(s.found for s in these), len(these))
        figures[f"iou_{name}"] = iou(these)
    return figures


def iou(results: Sequence[ImageResult]) -> float | None:
    """Return the intersection over union of pixels pooled over images; None without any."""
    tp = sum(one.tp for one in results)
    return ratio(tp, sum(one.predicted + one.actual for one in results) - tp)


def ratio(part: float, whole: float) -> float | None:
    """Return part / whole; None if whole is 0."""
    return part / whole if whole else None


def bootstrap_ci(results: Sequence[ImageResult]) -> dict[str, tuple[float, float]]:
    """Return 95 % confidence intervals of the figures, by resampling views, not images."""
    by_group: dict[str, list[ImageResult]] = defaultdict(list)
    for one in results:
        by_group[one.group].append(one)
    return metrics.bootstrap_ci(
        list(by_group.values()),
        lambda groups: aggregate(list(chain.from_iterable(groups))),
        draws=DRAWS,
    )


class Calibration:
    """Reliability of probabilities, in ten bins."""

    def __init__(self) -> None:
        self._count = np.zeros(10)
        self._predicted = np.zeros(10)
        self._actual = np.zeros(10)
        self._squares = 0.0

    def add(self, predicted: NDArray[np.floating[Any]], actual: NDArray[np.bool_]) -> None:
        """Add probabilities and the labels of the same pixels or images."""
        bins = np.minimum((predicted * 10).astype(int), 9).ravel()
        self._count += np.bincount(bins, minlength=10)
        self._predicted += np.bincount(bins, predicted.ravel(), minlength=10)
        self._actual += np.bincount(bins, actual.ravel(), minlength=10)
        self._squares += float(((predicted - actual) ** 2).sum())

    def figures(self) -> dict[str, Any]:
        """Return the expected calibration error (Guo et al., arXiv 1706.04599), Brier score, bins.

        Each bin is (mean probability, fraction that is smoke, count).
        """
        count = np.maximum(self._count, 1)
        total = max(self._count.sum(), 1)
        return {
            "expected_error": float(np.abs(self._predicted - self._actual).sum() / total),
            "brier": self._squares / total,
            "bins": [
                (float(predicted), float(actual), int(number))
                for predicted, actual, number in zip(
                    self._predicted / count, self._actual / count, self._count, strict=True
                )
            ],
        }


def flicker(masks: Iterable[NDArray[np.bool_]]) -> float | None:
    """Return the mean of 1 - IoU of consecutive masks, 0 to 1: how much of the outline flickers.

    None if fewer than two consecutive masks contain smoke.
    """
    changes = []
    previous: NDArray[np.bool_] | None = None
    for mask in masks:
        if previous is not None and (union := int((mask | previous).sum())):
            changes.append(1 - int((mask & previous).sum()) / union)
        previous = mask
    return float(np.mean(changes)) if changes else None
