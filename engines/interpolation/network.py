"""The network of the CPU way: which of four pictures to believe, at every place.

Four guesses at the picture between are laid before it: each of the two pictures moved by the motion
that was searched, and each moved as the background moves. It says how much of each to take: that
is visibility as in Super SloMo (Jiang et al., CVPR 2018, arXiv 1712.00080), with a second guess
for what is covered or uncovered. A small U-Net on the reduced picture of `reduced.py`; the guesses
are made outside. Nothing here is taken from another's code.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.interpolation.flow import FELT, PAIRS

GUESSES = 4
"""Before and after by the searched motion, before and after by the background's."""
SEEN = len(PAIRS) + 3
"""Differences of pairs, felt; the motion's two guesses against each other, and the background's,
with signs; luma."""
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


class FusionNet(nn.Module):
    """How much of each guess to take."""

    def __init__(self) -> None:
        super().__init__()
        # At a half, a quarter, an eighth and a sixteenth of what goes in.
        c2, c4, c8, c16 = 16, 32, 64, 96
        self.stem = nn.Conv2d(SEEN, c2, 3, 2, 1)
        self.beside = nn.Conv2d(FIELDS + len(PAIRS), c2, 1)
        self.moment = nn.Conv2d(1, c2, 1, bias=False)
        self.down4 = nn.Sequential(conv(c2, c4, 2), Residual(c4))
        self.down8 = nn.Sequential(conv(c4, c8, 2), Residual(c8))
        self.down16 = nn.Sequential(conv(c8, c16, 2), Residual(c16), Residual(c16))
        self.up8 = Up(c16, c8)
        self.up4 = Up(c8, c4)
        self.up2 = Up(c4, c2)
        self.head = nn.Conv2d(c2, 4 * GUESSES, 1)
        self.middle: Tensor
        self.units: Tensor
        nought = [0.0] * len(PAIRS) + [128.0] * 3
        self.register_buffer("middle", torch.tensor(nought).view(1, -1, 1, 1), persistent=False)
        units = [1 / MOTION_UNIT_PX] * FIELDS + [1 / FELT] * len(PAIRS)
        self.register_buffer("units", torch.tensor(units).view(1, -1, 1, 1), persistent=False)
        self._begin()

    def forward(self, seen: Tensor, crowd: Tensor, fields: Tensor, t: Tensor) -> Tensor:
        """Shares of the guesses.

        Args:
            seen: (n, 9, h, w), bytes: how far the guesses of each of `PAIRS` are apart, as it is
                felt; how much brighter one is than the other; the luma of one; see `flow.seen`.
            crowd: (n, 6, h/2, w/2), bytes: how far they are apart around each pixel.
            fields: (n, 4, h/2, w/2), in pixels of that size.
            t: (n, 1, 1, 1).

        Returns:
            (n, 4, h, w), adding up to 1.
        """
        told = torch.cat([fields, crowd], 1)
        x2 = self.stem((seen - self.middle) * (1 / 64)) + self.beside(told * self.units)
        x2 = x2 + self.moment(t)
        x2 = functional.leaky_relu(x2, 0.1)
        x4 = self.down4(x2)
        x8 = self.down8(x4)
        x = self.up4(self.up8(self.down16(x8), x8), x4)
        said = self.head(self.up2(x, x2))
        nearer = torch.log((1 - t) / t) * 0.5
        usual = torch.stack([nearer, -nearer, nearer + DOUBT, DOUBT - nearer], 1)
        # Four pixels at a time: the large picture is gone through once.
        n, _, rows, columns = said.shape
        shares = (said.view(n, GUESSES, 4, rows, columns) + usual).softmax(1)
        return functional.pixel_shuffle(shares.view(n, 4 * GUESSES, rows, columns), 2)

    def _begin(self) -> None:
        """Signals keep their size from layer to layer (He et al., 2015); nothing is said yet."""
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, a=0.1)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        for part in self.modules():
            if isinstance(part, Residual):
                part.conv.weight.data *= 0.3
        # Little of the picture itself: what it shows hardly matters beside how the guesses agree.
        self.stem.weight.data[:, -1] *= 0.25
        nn.init.normal_(self.head.weight, std=1e-3)


class DeployedFusionNet(nn.Module):
    """The network with the arrays of the program in and out."""

    def __init__(self, network: FusionNet) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        # Into the weights: an engine would go through every input once more for its unit.
        self.network.beside.weight.data *= self.network.units
        self.network.units.fill_(1)

    def forward(self, seen: Tensor, crowd: Tensor, fields: Tensor, t: Tensor) -> Tensor:
        """Shares (1, 4, h, w).

        Args:
            seen: (9, h, w) uint8.
            crowd: (6, h/2, w/2) uint8.
            fields: (2, h/2, w/2, 2) float32.
            t: (1,).
        """
        _, height, width, _ = fields.shape
        planar = fields.permute(0, 3, 1, 2).reshape(1, -1, height, width)
        moment = t.view(1, 1, 1, 1)
        return cast("Tensor", self.network(seen[None].float(), crowd[None].float(), planar, moment))
