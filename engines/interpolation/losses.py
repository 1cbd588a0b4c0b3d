"""Training tasks of the interpolation networks: batches and loss terms.

The main term is what is reported in the end, the logarithm of the squared error; absolute errors
and gradients are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.interpolation.network import FusionNet
from engines.interpolation.samples import Sample, prepare
from engines.interpolation.warp_fields import OUTSIDE_WEIGHT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FLOOR = 5e-5
"""Added to a mean square before its logarithm: above 43 dB little can be gained, and without it
samples that hardly move would dominate the gradient."""
CHROMA = 1.76
"""Weight of the squared error of both chroma planes relative to luma, as in RGB."""
FRAME_WEIGHTS: Mapping[str, float] = {"decibels": 1.0, "distance": 10.0, "edges": 3.0}
"""Weights of the terms of `frame_terms`."""


class TrainingTask(Protocol):
    """How one kind of network is trained."""

    @property
    def code(self) -> tuple[str, ...]:
        """Files of this package whose digest goes into the checkpoint."""
        ...

    @property
    def weights(self) -> Mapping[str, float]:
        """Weights of the loss terms."""
        ...

    def network(self) -> nn.Module:
        """Return an untrained network."""
        ...

    def prepare(self, frames: Sequence[Any], t: float) -> Any:
        """Return a sample of three packed frames and the time of the middle one."""
        ...

    def collate(self, samples: Sequence[Any]) -> Any:
        """Collate samples into one batch."""
        ...

    def terms(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Return every loss term for one batch."""
        ...


def frame_terms(luma: Tensor, chroma: Tensor) -> dict[str, Tensor]:
    """Return the loss terms of errors in luma (n, 1, h, w) and chroma (n, 2, h/2, w/2)."""
    square = luma.square().mean((1, 2, 3)) + CHROMA * chroma.square().mean((1, 2, 3))
    return {
        "decibels": (square + FLOOR).log().mean(),
        "distance": (luma.square() + 1e-6).sqrt().mean() + (chroma.square() + 1e-6).sqrt().mean(),
        "edges": luma.diff(dim=2).abs().mean() + luma.diff(dim=3).abs().mean(),
    }


def stacked(arrays: Sequence[np.ndarray[Any, Any]]) -> Tensor:
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


class FusionTask:
    """Task of the fusion network: the guesses are fixed, only their weights are learned."""

    code = (
        "network.py", "data.py", "samples.py", "flow.py", "warp_fields.py", "downscale.py",
        "warp_blend.py", "losses.py",
    )  # fmt: skip
    weights = FRAME_WEIGHTS

    def network(self) -> nn.Module:
        """Return an untrained network."""
        return FusionNet()

    def prepare(self, frames: Sequence[Any], t: float) -> Sample:
        """Return a sample whose guesses are made as in the program."""
        return prepare(frames, t)

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Collate samples into one batch."""
        fields = stacked([s.motion_fields for s in samples])
        return Batch(
            luma=stacked([s.target[0][None] for s in samples]) / 255,
            chroma=stacked([np.stack(s.target[1:]) for s in samples]) / 255,
            guesses_luma=stacked([s.guesses[0] for s in samples]) / 255,
            guesses_chroma=stacked([np.stack(s.guesses[1:], 1) for s in samples]) / 255,
            inside=(stacked([s.inside for s in samples]) / 255).clamp_min(OUTSIDE_WEIGHT),
            differences=stacked([s.differences for s in samples]),
            blurred_differences=stacked([s.blurred_differences for s in samples]),
            motion_fields=fields.permute(0, 1, 4, 2, 3).flatten(1, 2).contiguous(),
            t=torch.tensor([s.t for s in samples], dtype=torch.float32).view(-1, 1, 1, 1),
        )

    def terms(self, network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return every loss term for one batch."""
        weights = (
            network(batch.differences, batch.blurred_differences, batch.motion_fields, batch.t)
            * batch.inside
        )
        weights = weights / weights.sum(1, keepdim=True)
        large = functional.interpolate(
            weights, scale_factor=2.0, mode="bilinear", align_corners=False
        )
        luma = (batch.guesses_luma * large).sum(1, keepdim=True) - batch.luma
        chroma = (batch.guesses_chroma * weights.unsqueeze(2)).sum(1) - batch.chroma
        return frame_terms(luma, chroma)
