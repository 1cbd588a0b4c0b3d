"""What counts as found, what as a false alarm, and how figures are put together from pictures."""

# ruff: noqa: PLR2004  limits of what is measured stand where they act
from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

SIZES = {"under_0.2": (0.0, 0.002), "0.2_to_1": (0.002, 0.01), "over_1": (0.01, 1.01)}
"""Plumes by share of the picture, in per cent in the name."""
LEAST_REGION = 0.0002
"""Share of the picture from which connected pixels count as a region: 60 pixels of 640x480."""
LEAST_OVERLAP = 0.1
"""Share of a drawn plume that regions must cover for it to count as found."""
DRAWS = 1000
"""Bootstrap draws over groups."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One picture, compared."""

    group: str
    """Its camera view."""
    share: float | None
    """Share of the picture that is smoke; None for a clear one."""
    both: int
    """Pixels rightly called smoke."""
    said: int
    """Pixels called smoke."""
    truth: int
    """Pixels that are smoke."""
    called: bool
    """Whether any region was big enough to call the picture smoke."""
    found: bool
    """Whether the regions cover enough of the plume."""


def regions(
    mask: NDArray[np.float32], threshold: float, low_threshold: float
) -> tuple[NDArray[np.bool_], list[dict[str, float]]]:
    """Pixels in regions that count, and each region's area share, mean and peak; largest first.

    A region reaches the threshold somewhere and is drawn to the low_threshold, as in the alarm.
    """
    grown = (mask > min(low_threshold, threshold)).astype(np.uint8)
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(grown, connectivity=8)
    keep = np.zeros(mask.shape, bool)
    found = []
    for label in range(1, len(boxes)):
        area = int(boxes[label, cv2.CC_STAT_AREA])
        if area < LEAST_REGION * mask.size:
            continue
        inside = labels == label
        values = mask[inside]
        if values.max() <= threshold:
            continue
        keep |= inside
        found.append(
            {"area": area / mask.size, "mean": float(values.mean()), "peak": float(values.max())}
        )
    return keep, sorted(found, key=lambda region: -region["area"])


def compare(
    probability: NDArray[np.float32],
    mask: NDArray[np.uint8] | None,
    *,
    threshold: float,
    low_threshold: float,
    group: str,
) -> Seen:
    """Compare a map of probabilities with a drawn mask of any size, or with a clear picture."""
    keep, found = regions(probability, threshold, low_threshold)
    if mask is None:
        return Seen(group, None, 0, int(keep.sum()), 0, bool(found), found=False)
    truth = mask > 127
    # Outlined at the mask's own size, near regions that count.
    near = cv2.dilate(keep.astype(np.uint8), np.ones((3, 3), np.uint8))
    covered = cv2.resize(near, mask.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    wide = cv2.resize(probability, mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
    covered &= wide > min(low_threshold, threshold)
    return Seen(
        group=group,
        share=float(truth.mean()),
        both=int((covered & truth).sum()),
        said=int(covered.sum()),
        truth=int(truth.sum()),
        called=bool(found),
        found=bool((covered & truth).sum() >= LEAST_OVERLAP * max(truth.sum(), 1)),
    )


def figures(seen: Sequence[Seen]) -> dict[str, float | None]:
    """The figures of a set of pictures; None where nothing in it speaks to one."""
    smoke = [one for one in seen if one.share is not None]
    clear = [one for one in seen if one.share is None]
    result: dict[str, float | None] = {
        "iou": iou(smoke),
        "f1": ratio(2 * sum(s.both for s in smoke), sum(s.said + s.truth for s in smoke)),
        "recall": ratio(sum(s.found for s in smoke), len(smoke)),
        "clear_false_positive_rate": ratio(sum(s.called for s in clear), len(clear)),
    }
    for name, (low, high) in SIZES.items():
        these = [s for s in smoke if s.share is not None and low <= s.share < high]
        result[f"recall_{name}"] = ratio(sum(s.found for s in these), len(these))
        result[f"iou_{name}"] = iou(these)
    return result


def iou(seen: Sequence[Seen]) -> float | None:
    """Of the smoke's pixels, pooled over pictures; None without any."""
    both = sum(one.both for one in seen)
    return ratio(both, sum(one.said + one.truth for one in seen) - both)


def ratio(part: float, whole: float) -> float | None:
    """None where there is nothing to divide by."""
    return part / whole if whole else None


def intervals(seen: Sequence[Seen]) -> dict[str, tuple[float, float]]:
    """95 % intervals of the figures, by drawing views, not pictures, with replacement."""
    by_group: dict[str, list[Seen]] = defaultdict(list)
    for one in seen:
        by_group[one.group].append(one)
    groups = list(by_group.values())
    random = np.random.default_rng(1)
    drawn: dict[str, list[float]] = defaultdict(list)
    for _ in range(DRAWS if len(groups) > 1 else 0):
        picked = random.integers(len(groups), size=len(groups))
        for name, value in figures([one for index in picked for one in groups[index]]).items():
            if value is not None:
                drawn[name].append(value)
    return {
        name: (float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975)))
        for name, values in drawn.items()
    }


class Calibration:
    """How often it is smoke where the network says so, in ten steps of what it says."""

    def __init__(self) -> None:
        self._count = np.zeros(10)
        self._said = np.zeros(10)
        self._true = np.zeros(10)
        self._squares = 0.0

    def add(self, said: NDArray[np.floating[Any]], truth: NDArray[np.bool_]) -> None:
        """Take probabilities and what is so, of the same shape."""
        steps = np.minimum((said * 10).astype(int), 9).ravel()
        self._count += np.bincount(steps, minlength=10)
        self._said += np.bincount(steps, said.ravel(), minlength=10)
        self._true += np.bincount(steps, truth.ravel(), minlength=10)
        self._squares += float(((said - truth) ** 2).sum())

    def figures(self) -> dict[str, Any]:
        """Expected calibration error (Guo et al., arXiv 1706.04599), Brier score, and the steps.

        Each step is (mean of what was said, share that was so, count).
        """
        count = np.maximum(self._count, 1)
        total = max(self._count.sum(), 1)
        return {
            "expected_error": float(np.abs(self._said - self._true).sum() / total),
            "brier": self._squares / total,
            "steps": [
                (float(said), float(true), int(number))
                for said, true, number in zip(
                    self._said / count, self._true / count, self._count, strict=True
                )
            ],
        }


def flicker(masks: Iterable[NDArray[np.bool_]]) -> float | None:
    """Share of the smoke's outline that comes or goes from one look to the next, 0 to 1.

    The mean of 1 - IoU of neighbouring masks; None where fewer than two looks saw smoke.
    """
    changes = []
    before: NDArray[np.bool_] | None = None
    for mask in masks:
        if before is not None and (union := int((mask | before).sum())):
            changes.append(1 - int((mask & before).sum()) / union)
        before = mask
    return float(np.mean(changes)) if changes else None
