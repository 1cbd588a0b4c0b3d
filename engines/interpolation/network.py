"""The fusion network: blend weights of four guesses at an intermediate frame.

The guesses are both frames warped by the optical flow, and both warped by the background's motion.
Their weights are visibility maps as in Super SloMo (Jiang et al., CVPR 2018, arXiv 1712.00080),
with a second motion for what is covered or uncovered. A small U-Net on the reduced frame; the
guesses are made outside.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.interpolation.flow import LOG_UNIT, PAIRS

GUESSES = 4
"""Earlier and later frame by the optical flow, earlier and later by the background's motion."""
DIFFERENCES = len(PAIRS) + 3
"""Channels of `differences`, see `flow.difference_maps`."""
FIELDS = 4
"""Flow minus background motion, forward minus backward flow, (x, y) each."""
MOTION_UNIT_PX = 8.0
"""Motion fields are divided by this many pixels."""
DOUBT = -3.0
"""Initial logit of the background's guesses relative to the flow's."""


def conv(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    """Return a 3x3 convolution with leaky ReLU."""
    return nn.Sequential(nn.Conv2d(inside, outside, 3, stride, 1), nn.LeakyReLU(0.1, inplace=True))


class Residual(nn.Module):
    """A residual 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to the same shape."""
        return functional.leaky_relu(x + self.conv(x), 0.1)


class Up(nn.Module):
    """Upsampling by two with a skip connection."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(inside, outside, 1)
        self.conv = Residual(outside)

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        """Map (n, inside, h, w) and (n, outside, 2h, 2w) to the latter shape."""
        x = functional.interpolate(self.mix(x), scale_factor=2.0, mode="nearest")
        return cast("Tensor", self.conv(x + beside))


class FusionNet(nn.Module):
    """Predicts the blend weights of the guesses."""

    def __init__(self) -> None:
        super().__init__()
        # Channels at 1/2, 1/4, 1/8 and 1/16 of the input.
        c2, c4, c8, c16 = 16, 32, 64, 96
        self.stem = nn.Conv2d(DIFFERENCES, c2, 3, 2, 1)
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
        zero = [0.0] * len(PAIRS) + [128.0] * 3
        self.register_buffer("middle", torch.tensor(zero).view(1, -1, 1, 1), persistent=False)
        units = [1 / MOTION_UNIT_PX] * FIELDS + [1 / LOG_UNIT] * len(PAIRS)
        self.register_buffer("units", torch.tensor(units).view(1, -1, 1, 1), persistent=False)
        self._begin()

    def forward(
        self, differences: Tensor, blurred_differences: Tensor, motion_fields: Tensor, t: Tensor
    ) -> Tensor:
        """Predict the blend weights of the guesses.

        Args:
            differences: (n, 9, h, w), bytes, see `flow.difference_maps`.
            blurred_differences: (n, 6, h/2, w/2), bytes.
            motion_fields: (n, 4, h/2, w/2), in pixels of that size.
            t: (n, 1, 1, 1), the intermediate time.

        Returns:
            (n, 4, h, w), adding up to 1.
        """
        context = torch.cat([motion_fields, blurred_differences], 1)
        x2 = self.stem((differences - self.middle) * (1 / 64)) + self.beside(context * self.units)
        x2 = x2 + self.moment(t)
        x2 = functional.leaky_relu(x2, 0.1)
        x4 = self.down4(x2)
        x8 = self.down8(x4)
        x = self.up4(self.up8(self.down16(x8), x8), x4)
        logits = self.head(self.up2(x, x2))
        # Without further information the weights follow the time.
        nearer = torch.log((1 - t) / t) * 0.5
        prior = torch.stack([nearer, -nearer, nearer + DOUBT, DOUBT - nearer], 1)
        # Softmax before the pixel shuffle: the large map is traversed once.
        n, _, rows, columns = logits.shape
        weights = (logits.view(n, GUESSES, 4, rows, columns) + prior).softmax(1)
        return functional.pixel_shuffle(weights.view(n, 4 * GUESSES, rows, columns), 2)

    def _begin(self) -> None:
        """Initialise by He et al., 2015; the head starts near zero."""
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, a=0.1)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
        for part in self.modules():
            if isinstance(part, Residual):
                part.conv.weight.data *= 0.3
        # Small weights for luma: its content matters less than the agreement of the guesses.
        self.stem.weight.data[:, -1] *= 0.25
        nn.init.normal_(self.head.weight, std=1e-3)


class DeployedFusionNet(nn.Module):
    """The exported graph: takes the arrays of the program."""

    def __init__(self, network: FusionNet) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        # Units are folded into the weights, which saves a pass over the inputs.
        self.network.beside.weight.data *= self.network.units
        self.network.units.fill_(1)

    def forward(
        self, differences: Tensor, blurred_differences: Tensor, motion_fields: Tensor, t: Tensor
    ) -> Tensor:
        """Return blend weights (1, 4, h, w).

        Args:
            differences: (9, h, w) uint8.
            blurred_differences: (6, h/2, w/2) uint8.
            motion_fields: (2, h/2, w/2, 2) float32.
            t: (1,).
        """
        _, height, width, _ = motion_fields.shape
        planar = motion_fields.permute(0, 3, 1, 2).reshape(1, -1, height, width)
        inputs = differences[None].float(), blurred_differences[None].float(), planar
        return cast("Tensor", self.network(*inputs, t.view(1, 1, 1, 1)))
