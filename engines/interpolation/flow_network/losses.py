"""How the network of the GPU way is taught: by the picture, and by motion that knows the middle.

While it is taught, the frame between is at hand, and the motion from it to either side is searched
(`flow.flow`): a privileged teacher as in IFNet (Huang et al., ECCV 2022), without a network. Where
that motion does not lead to the same thing, nothing is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.interpolation import flow
from engines.interpolation.data import planes_of
from engines.interpolation.downscale import downscale_geometry, reduced
from engines.interpolation.flow_network.network import FlowNetwork, synthesise
from engines.interpolation.losses import FRAME_WEIGHTS, frame_terms, stacked
from engines.interpolation.warp_fields import grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Plane = NDArray[np.uint8]

SCALE_WEIGHTS = (0.1, 0.15, 0.25, 0.4, 0.6)
"""Of the motion at each scale, the coarsest first."""
TRUSTED_BYTES = 8.0
"""Difference at which a searched motion is believed by a third."""


@dataclass(frozen=True, slots=True, eq=False)
class FlowSample:
    """Three frames, reduced ones, and the motion from the middle one."""

    frames: list[list[Plane]]
    """Planes of before, between and after."""
    outer: NDArray[np.uint8]
    """(2, h, w, 3): before and after, reduced."""
    taught: NDArray[np.float32]
    """(h/2, w/2, 4): where the middle's pixels lie in before (x, y) and in after."""
    trust: NDArray[np.float32]
    """(h/2, w/2, 2): how far each is believed, 0 to 1."""
    t: float


@dataclass(frozen=True, slots=True, eq=False)
class FlowBatch:
    """Samples as tensors; planes 0 to 1."""

    luma: Tensor
    """(n, 3, h, w): before, between, after."""
    chroma: Tensor
    """(n, 6, h/2, w/2)."""
    outer: Tensor
    """(n, 6, h/2, w/2): before and after, reduced, around 0."""
    taught: Tensor
    """(n, 4, h/4, w/4)."""
    trust: Tensor
    """(n, 2, h/4, w/4)."""
    t: Tensor
    """(n, 1, 1, 1)."""


class FlowTask:
    """Everything is differentiated: motion, visibility, picture."""

    code = (
        "data.py", "samples.py", "flow.py", "warp_fields.py", "downscale.py", "losses.py",
        "flow_network/network.py", "flow_network/losses.py",
    )  # fmt: skip
    weights: Mapping[str, float] = {**FRAME_WEIGHTS, "motion": 0.3, "ways": 0.3}

    def network(self) -> nn.Module:
        """A network that has learnt nothing."""
        return FlowNetwork()

    def prepare(self, frames: Sequence[Any], t: float) -> FlowSample:
        """A sample with its taught motion."""
        planes = [[np.ascontiguousarray(p) for p in planes_of(frame)] for frame in frames]
        geometry = downscale_geometry(planes[0], depth=8, rgb=False, step=2)
        before, middle, after = (reduced(p, geometry) for p in planes)
        ways, trusts = [], []
        for side in (before, after):
            one, other = (np.ascontiguousarray(p[..., 0]) for p in (middle, side))
            way = flow.flow(one, other)
            found = flow.sample(side, grid(*one.shape) + way)
            off = np.abs(found.astype(np.float32) - middle).sum(2)
            off = cv2.blur(off, (5, 5))
            trusts.append(np.exp(-off / TRUSTED_BYTES).astype(np.float32))
            ways.append(way)
        half = (middle.shape[1] // 2, middle.shape[0] // 2)
        small = [cv2.resize(x, half, interpolation=cv2.INTER_AREA) for x in (*ways, *trusts)]
        taught = np.concatenate(small[:2], 2) * np.float32(0.5)
        trust = np.dstack(small[2:]).astype(np.float32)
        return FlowSample(planes, np.stack([before, after]), taught, trust, t)

    def collate(self, samples: Sequence[FlowSample]) -> FlowBatch:
        """Samples as one batch."""

        def planar(x: Tensor) -> Tensor:
            return x.movedim(-1, -3).contiguous()

        outer = planar(stacked([s.outer for s in samples])).flatten(1, 2)
        return FlowBatch(
            luma=stacked([np.stack([f[0] for f in s.frames]) for s in samples]) / 255,
            chroma=stacked([np.stack([p for f in s.frames for p in f[1:]]) for s in samples]) / 255,
            outer=outer / 255 - 0.5,
            taught=planar(stacked([s.taught for s in samples])),
            trust=planar(stacked([s.trust for s in samples])),
            t=torch.tensor([s.t for s in samples], dtype=torch.float32).view(-1, 1, 1, 1),
        )

    def terms(self, network: nn.Module, batch: FlowBatch) -> dict[str, Tensor]:
        """Every term of the loss for one batch."""
        t = batch.t
        found = cast("FlowNetwork", network)(batch.outer[:, :3], batch.outer[:, 3:], t)
        luma = synthesise(batch.luma[:, :1], batch.luma[:, 2:], found) - batch.luma[:, 1:2]
        chroma = synthesise(batch.chroma[:, :2], batch.chroma[:, 4:], found)
        both = batch.trust.prod(1, keepdim=True)
        wanted = batch.taught[:, 2:] - batch.taught[:, :2]
        motion = torch.zeros(())
        for weight, said in zip(SCALE_WEIGHTS, found.motions, strict=True):
            times = wanted.shape[2] // said.shape[2]
            sure = functional.avg_pool2d(both, times)
            right = functional.avg_pool2d(wanted * both, times) / (sure + 1e-3) / times
            motion = motion + weight * _off(said - right, sure)
        apart = found.ways - batch.taught
        ways = _off(apart[:, :2], batch.trust[:, :1]) + _off(apart[:, 2:], batch.trust[:, 1:])
        terms = frame_terms(luma, chroma - batch.chroma[:, 2:4])
        return {**terms, "motion": motion, "ways": ways}


def _off(apart: Tensor, trust: Tensor) -> Tensor:
    """Mean length of a difference (n, 2, h, w), where it is believed."""
    length = (apart.square().sum(1, keepdim=True) + 1e-4).sqrt()
    return (length * trust).mean()
