"""The loss terms of the low-light network; `train.py` weighs them.

With a reference: distance and structure. Without: the terms of Zero-DCE (Guo et al., arXiv
2001.06826) and of SCL-LLE (Liang et al., AAAI 2022), and temporal consistency. All take images
(n, 3, h, w), RGB, 0 to 1 (enhanced ones may exceed the range), and return a scalar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

WELL_LIT = 0.5
"""Mean of a well exposed patch; Zero-DCE uses 0.6, the references here have 0.45 to 0.5."""
MARGIN = 0.04
"""Margin of the contrastive term."""


def distance(enhanced: Tensor, reference: Tensor) -> Tensor:
    """Return the mean absolute difference, plus that at a quarter of the size."""
    one, other = (functional.avg_pool2d(each, 4) for each in (enhanced, reference))
    return functional.l1_loss(enhanced, reference) + functional.l1_loss(one, other)


def structure(enhanced: Tensor, reference: Tensor) -> Tensor:
    """Return 1 - SSIM (Wang et al., 2004) over windows of 7x7."""
    return 1 - ssim(enhanced.clamp(0, 1), reference)


def ssim(one: Tensor, other: Tensor, *, window: int = 7) -> Tensor:
    """Return the mean structural similarity with flat windows; differentiable."""

    def mean(x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, window, 1)

    a, b = mean(one), mean(other)
    aa, bb, ab = mean(one * one) - a * a, mean(other * other) - b * b, mean(one * other) - a * b
    c1, c2 = 0.01**2, 0.03**2
    similar: Tensor = (2 * a * b + c1) * (2 * ab + c2)
    return (similar / ((a * a + b * b + c1) * (aa + bb + c2))).mean()


def exposure(enhanced: Tensor) -> Tensor:
    """Penalise patches that are not well exposed (Zero-DCE's exposure control)."""
    return (functional.avg_pool2d(enhanced.mean(1, keepdim=True), 16) - WELL_LIT).square().mean()


def grey_world(enhanced: Tensor) -> Tensor:
    """Penalise colour casts (Zero-DCE's colour constancy)."""
    r, g, b = enhanced.mean((2, 3)).unbind(1)
    return ((r - g).square() + (g - b).square() + (b - r).square()).mean()


def spatial(enhanced: Tensor, image: Tensor) -> Tensor:
    """Penalise lost contrast between neighbours (Zero-DCE's spatial consistency)."""
    one, other = (
        functional.avg_pool2d(each.mean(1, keepdim=True), 4) for each in (enhanced, image)
    )
    total = one.new_zeros(())
    for axis in (2, 3):
        change = one.diff(dim=axis).abs() - other.diff(dim=axis).abs()
        # Brightening raises contrasts: only losses count.
        total = total + change.clamp(max=0).square().mean()
    return total


def smooth(exposure_map: Tensor) -> Tensor:
    """Penalise steps of the exposure map (Zero-DCE's illumination smoothness)."""
    return exposure_map.diff(dim=2).square().mean() + exposure_map.diff(dim=3).square().mean()


def contrast(
    features: Callable[[Tensor], Tensor], enhanced: Tensor, good: Tensor, bad: Tensor
) -> Tensor:
    """Pull features towards well exposed images and away from badly exposed ones (SCL-LLE).

    Args:
        features: Maps images to (n, c).
        enhanced: The images.
        good: Well exposed images of other scenes.
        bad: Under- and over-exposed images.
    """
    ours = features(enhanced.clamp(0, 1))
    with torch.no_grad():
        positive, negative = features(good), features(bad)
    near = (ours[:, None] - positive[None]).abs().mean(2).mean(1)
    far = (ours[:, None] - negative[None]).abs().mean(2).mean(1)
    return (near - far + MARGIN).clamp(min=0).mean()


def semantic_brightness(exposure_map: Tensor, regions: Tensor) -> Tensor:
    """Penalise exposure that differs within a region (SCL-LLE's semantic brightness consistency).

    Args:
        exposure_map: (n, 1, h, w).
        regions: (n, k, h, w), 1 where a pixel belongs to region k.
    """
    size = regions.sum((2, 3)).clamp(min=1)
    mean = (exposure_map * regions).sum((2, 3)) / size
    deviation = (exposure_map - mean[:, :, None, None]).square() * regions
    return (deviation.sum((2, 3)) / size).mean()


def temporal(now: Tensor, later: Tensor) -> Tensor:
    """Penalise outputs that change when the image is shifted, or has other gain and noise."""
    return (now - later).abs().mean()
