"""The network of the CPU way: which of four pictures to believe, at every place.

Four guesses at the picture between are laid before it: each of the two pictures moved by the motion
that was searched, and each moved as the background moves. It says how much of each to take: that
is visibility as in Super SloMo (Jiang et al., CVPR 2018, arXiv 1712.00080), with a second guess
for what is covered or uncovered. A small U-Net on the reduced picture of `reduced.py`; the guesses
are made outside. Nothing here is taken from another's code.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.interpolation.flow import FELT, PAIRS

STRIDE = 8
"""Height and width of the reduced picture must be multiples of this."""
GUESSES = 4
"""Before and after by the searched motion, before and after by the background's."""
FIELDS = 4
"""Motion against the background's, and forward against backward motion, (x, y) each."""
MOTION_UNIT_PX = 8.0
"""Fields go in in units of so many of their pixels."""
DOUBT = -3.0
"""How much less the background is believed without a reason, as a logit."""


def conv(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    """A convolution of 3x3 that makes its picture smaller by the stride."""
    return nn.Sequential(nn.Conv2d(inside, outside, 3, stride, 1), nn.LeakyReLU(0.1, inplace=True))


class Residual(nn.Module):
    """What a convolution of 3x3 adds."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to the same."""
        return functional.leaky_relu(x + self.conv(x), 0.1)


class Up(nn.Module):
    """Twice the size, other channels, with what was there at that size."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(inside, outside, 1)
        self.conv = Residual(outside)

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        """(n, inside, h, w) and (n, outside, 2h, 2w) to the latter."""
        x = functional.interpolate(self.mix(x), scale_factor=2.0, mode="nearest")
        return cast("Tensor", self.conv(x + beside))


class Mixer(nn.Module):
    """How much of each guess to take."""

    def __init__(self) -> None:
        super().__init__()
        c2, c4, c8 = 16, 32, 64  # at a half, a quarter and an eighth of what goes in
        self.stem = nn.Conv2d(len(PAIRS) + 3, c2, 3, 2, 1)
        self.beside = nn.Conv2d(FIELDS + 1 + len(PAIRS), c2, 1)
        self.down4 = nn.Sequential(conv(c2, c4, 2), Residual(c4))
        self.down8 = nn.Sequential(conv(c4, c8, 2), Residual(c8), Residual(c8))
        self.up4 = Up(c8, c4)
        self.up2 = Up(c4, c2)
        self.head = nn.Conv2d(c2, 4 * GUESSES, 1)
        self._begin()

    def forward(self, seen: Tensor, crowd: Tensor, fields: Tensor, t: Tensor) -> Tensor:
        """Shares of the guesses.

        Args:
            seen: (n, 10, h, w), bytes: how far the guesses of each of `PAIRS` are apart, as it is
                felt, then the luma of each guess; see `flow.seen`.
            crowd: (n, 6, h/2, w/2), bytes: how far they are apart around each pixel.
            fields: (n, 4, h/2, w/2), in pixels of that size.
            t: (n, 1, 1, 1).

        Returns:
            (n, 4, h, w), adding up to 1.
        """
        apart, luma = seen[:, : len(PAIRS)] * (1 / FELT), seen[:, len(PAIRS) :] * (1 / 128)
        moment = t.expand(-1, 1, *fields.shape[2:])
        told = [fields * (1 / MOTION_UNIT_PX), moment, crowd * (1 / FELT)]
        # Little of the pictures themselves: what they show hardly matters beside how they agree.
        signed = (luma[:, 0::2] - luma[:, 1::2]) * 4.0
        x2 = self.stem(torch.cat([apart, signed, luma[:, :1] * 0.5 - 0.5], 1))
        x2 = x2 + self.beside(torch.cat(told, 1))
        x2 = functional.leaky_relu(x2, 0.1)
        x4 = self.down4(x2)
        x = self.up4(self.down8(x4), x4)
        said = functional.pixel_shuffle(self.head(self.up2(x, x2)), 2)
        nearer = torch.log((1 - t) / t) * 0.5
        usual = torch.cat([nearer, -nearer, nearer + DOUBT, DOUBT - nearer], 1)
        return (said + usual).softmax(1)

    def _begin(self) -> None:
        """Signals keep their size from layer to layer (He et al., 2015); nothing is said yet."""
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, a=0.1)
                assert part.bias is not None, "convolutions here have one"
                nn.init.zeros_(part.bias)
        for part in self.modules():
            if isinstance(part, Residual):
                part.conv.weight.data *= 0.3
        nn.init.normal_(self.head.weight, std=1e-3)


class DeployedMixer(nn.Module):
    """The network with the arrays of the program in and out."""

    def __init__(self, network: Mixer) -> None:
        super().__init__()
        self.network = network

    def forward(self, seen: Tensor, crowd: Tensor, fields: Tensor, t: Tensor) -> Tensor:
        """Shares (1, 4, h, w).

        Args:
            seen: (10, h, w) uint8.
            crowd: (6, h/2, w/2) uint8.
            fields: (2, h/2, w/2, 2) float32.
            t: (1,).
        """
        _, height, width, _ = fields.shape
        planar = fields.permute(0, 3, 1, 2).reshape(1, -1, height, width)
        moment = t.view(1, 1, 1, 1)
        return cast("Tensor", self.network(seen[None].float(), crowd[None].float(), planar, moment))
