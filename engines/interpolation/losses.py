"""Batches and loss terms for training the fusion network.

The guesses are fixed; only their blend weights are learned. The main loss term is the logarithm of
the squared error, which is also the reported figure; absolute errors and gradients are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.interpolation.warp_fields import OUTSIDE_WEIGHT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engines.interpolation.samples import Sample

FLOOR = 5e-5
"""Added to a mean square before its logarithm: above 43 dB little can be gained, and without it
samples that hardly move would dominate the gradient."""
CHROMA = 1.76
"""Weight of the squared error of both chroma planes relative to luma, as in RGB."""
WEIGHTS: Mapping[str, float] = {"decibels": 1.0, "distance": 10.0, "edges": 3.0}
"""Weights of the loss terms."""


def _stacked(arrays: Sequence[np.ndarray[Any, Any]]) -> Tensor:
    """Stack arrays of one shape into a float32 tensor."""
    return torch.from_numpy(np.stack(arrays)).float()


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Samples for the fusion network as tensors; planes 0 to 1."""

    luma: Tensor
    """(n, 1, h, w): the target."""
    chroma: Tensor
    """(n, 2, h/2, w/2)."""
    guesses_luma: Tensor
    """(n, 4, h, w): the guesses."""
    guesses_chroma: Tensor
    """(n, 4, 2, h/2, w/2)."""
    inside: Tensor
    """(n, 4, h/2, w/2): factor on the weights, small where a guess is outside the frame."""
    differences: Tensor
    """(n, 9, h/2, w/2), bytes."""
    blurred_differences: Tensor
    """(n, 6, h/4, w/4), bytes."""
    motion_fields: Tensor
    """(n, 4, h/4, w/4)."""
    t: Tensor
    """(n, 1, 1, 1)."""


def collate(samples: Sequence[Sample]) -> Batch:
    """Collate samples into one batch."""
    fields = _stacked([s.motion_fields for s in samples])
    return Batch(
        luma=_stacked([s.target[0][None] for s in samples]) / 255,
        chroma=_stacked([np.stack(s.target[1:]) for s in samples]) / 255,
        guesses_luma=_stacked([s.guesses[0] for s in samples]) / 255,
        guesses_chroma=_stacked([np.stack(s.guesses[1:], 1) for s in samples]) / 255,
        inside=(_stacked([s.inside for s in samples]) / 255).clamp_min(OUTSIDE_WEIGHT),
        differences=_stacked([s.differences for s in samples]),
        blurred_differences=_stacked([s.blurred_differences for s in samples]),
        motion_fields=fields.permute(0, 1, 4, 2, 3).flatten(1, 2).contiguous(),
        t=torch.tensor([s.t for s in samples], dtype=torch.float32).view(-1, 1, 1, 1),
    )


def loss_terms(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Return every loss term for one batch."""
    weights = (
        network(batch.differences, batch.blurred_differences, batch.motion_fields, batch.t)
        * batch.inside
    )
    weights = weights / weights.sum(1, keepdim=True)
    large = functional.interpolate(weights, scale_factor=2.0, mode="bilinear", align_corners=False)
    luma = (batch.guesses_luma * large).sum(1, keepdim=True) - batch.luma
    chroma = (batch.guesses_chroma * weights.unsqueeze(2)).sum(1) - batch.chroma
    square = luma.square().mean((1, 2, 3)) + CHROMA * chroma.square().mean((1, 2, 3))
    return {
        "decibels": (square + FLOOR).log().mean(),
        "distance": (luma.square() + 1e-6).sqrt().mean() + (chroma.square() + 1e-6).sqrt().mean(),
        "edges": luma.diff(dim=2).abs().mean() + luma.diff(dim=3).abs().mean(),
    }
