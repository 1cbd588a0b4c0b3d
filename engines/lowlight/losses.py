"""What makes an enhanced picture good, term by term; `train.py` weighs them.

With a reference: distance and structure. Without: the terms of Zero-DCE (Guo et al., arXiv
2001.06826) and of SCL-LLE (Liang et al., AAAI 2022), and steadiness from one picture to the next.
All take pictures (n, 3, h, w), RGB, 0 to 1 (enhanced ones may overshoot), and return a scalar.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

WELL_LIT = 0.5
"""Mean of a well exposed patch; Zero-DCE takes 0.6, the references here have 0.45 to 0.5."""
MARGIN = 0.04
"""By how much nearer a picture must be to a good one than to a bad one."""


def distance(enhanced: Tensor, reference: Tensor) -> Tensor:
    """Mean absolute difference, and the same of the two scaled to a quarter: tones before grain."""
    one, other = (functional.avg_pool2d(each, 4) for each in (enhanced, reference))
    return functional.l1_loss(enhanced, reference) + functional.l1_loss(one, other)


def structure(enhanced: Tensor, reference: Tensor) -> Tensor:
    """1 - SSIM (Wang et al., 2004) over windows of 7x7."""
    return 1 - ssim(enhanced.clamp(0, 1), reference)


def ssim(one: Tensor, other: Tensor, *, window: int = 7) -> Tensor:
    """Structural similarity, flat windows, mean over all."""

    def mean(x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, window, 1)

    a, b = mean(one), mean(other)
    aa, bb, ab = mean(one * one) - a * a, mean(other * other) - b * b, mean(one * other) - a * b
    c1, c2 = 0.01**2, 0.03**2
    similar: Tensor = (2 * a * b + c1) * (2 * ab + c2)
    return (similar / ((a * a + b * b + c1) * (aa + bb + c2))).mean()


def exposed(enhanced: Tensor) -> Tensor:
    """Patches far from well lit (Zero-DCE's exposure control)."""
    return (functional.avg_pool2d(enhanced.mean(1, keepdim=True), 16) - WELL_LIT).square().mean()


def grey_world(enhanced: Tensor) -> Tensor:
    """Colour casts (Zero-DCE's colour constancy)."""
    r, g, b = enhanced.mean((2, 3)).unbind(1)
    return ((r - g).square() + (g - b).square() + (b - r).square()).mean()


def spatial(enhanced: Tensor, picture: Tensor) -> Tensor:
    """Contrasts between neighbours that became another's (Zero-DCE's spatial consistency)."""
    one, other = (
        functional.avg_pool2d(each.mean(1, keepdim=True), 4) for each in (enhanced, picture)
    )
    total = one.new_zeros(())
    for axis in (2, 3):
        change = one.diff(dim=axis).abs() - other.diff(dim=axis).abs()
        # Brightening stretches contrasts: only what is lost counts.
        total = total + change.clamp(max=0).square().mean()
    return total


def smooth(exposure: Tensor) -> Tensor:
    """Exposure that jumps from place to place (Zero-DCE's illumination smoothness)."""
    return exposure.diff(dim=2).square().mean() + exposure.diff(dim=3).square().mean()


def contrast(
    features: Callable[[Tensor], Tensor], enhanced: Tensor, good: Tensor, bad: Tensor
) -> Tensor:
    """Nearer to well exposed pictures than to under- and over-exposed ones (SCL-LLE).

    Args:
        features: What pictures are compared by, (n, c).
        enhanced: The pictures.
        good: Well exposed ones of other scenes.
        bad: Under- and over-exposed ones.
    """
    mine = features(enhanced.clamp(0, 1))
    with torch.no_grad():
        theirs, others = features(good), features(bad)
    near = (mine[:, None] - theirs[None]).abs().mean(2).mean(1)
    far = (mine[:, None] - others[None]).abs().mean(2).mean(1)
    return (near - far + MARGIN).clamp(min=0).mean()


def regional(exposure: Tensor, regions: Tensor) -> Tensor:
    """Exposure that differs within a region of the scene (SCL-LLE's brightness consistency).

    Args:
        exposure: (n, 1, h, w).
        regions: (n, k, h, w), 1 where a place belongs to region k.
    """
    size = regions.sum((2, 3)).clamp(min=1)
    mean = (exposure * regions).sum((2, 3)) / size
    away = (exposure - mean[:, :, None, None]).square() * regions
    return (away.sum((2, 3)) / size).mean()


def steady(exposure: Tensor, moved: Tensor) -> Tensor:
    """Exposure that changes when the picture is shifted, or has other gain and noise."""
    return (exposure - moved).abs().mean()
