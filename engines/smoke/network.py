"""The smoke network: a picture and its view's background in, a soft mask and one picture score out.

A U-Net that never computes at full resolution. Two strided convolutions bring the picture to a
quarter; plain 3x3 residual blocks work at 1/4 and 1/8, where small plumes live; depthwise blocks
with wide kernels work at 1/16 and 1/32, where they are cheap and see the whole scene. The head
gives each quarter-size cell four logits that unfold into a mask at half size (sub-pixel
convolution, Shi et al., arXiv 1609.05158). Blocks after MobileNetV2 (arXiv 1801.04381); the
gated global context after SENet (arXiv 1709.01507). Written for this project.

Pre-processing is the first part of the network, so that the program hands over the bytes it has.
Training and export only: running needs the ONNX file alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 32
"""Height and width must be multiples of this."""
MASK_STRIDE = 2
"""The mask is this many times smaller than the picture on either side."""


class ConvNorm(nn.Sequential):
    """Convolution, batch normalisation and, unless it ends a residual branch, ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        groups: int = 1,
        active: bool = True,
    ) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            *([nn.ReLU(inplace=True)] if active else []),
        )


class PlainBlock(nn.Module):
    """Two 3x3 convolutions around a skip: the best value where maps are large and thin."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvNorm(channels, channels), ConvNorm(channels, channels, active=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out as in."""
        return functional.relu(x + self.body(x))


class WideBlock(nn.Module):
    """An inverted residual with a 5x5 depthwise kernel: far sight for few parameters."""

    def __init__(self, channels: int, *, expansion: int = 2) -> None:
        super().__init__()
        inner = channels * expansion
        self.body = nn.Sequential(
            ConvNorm(channels, inner, kernel=1),
            ConvNorm(inner, inner, kernel=5, groups=inner),
            ConvNorm(inner, channels, kernel=1, active=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out as in."""
        y: Tensor = x + self.body(x)
        return y


class SceneGate(nn.Module):
    """Scales channels by what the whole picture shows: fog everywhere makes fog here likely."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Conv2d(channels, channels // 4, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // 4, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out as in."""
        y: Tensor = x * self.gate(x.mean((2, 3), keepdim=True))
        return y


class SmokeNetwork(nn.Module):
    """The network proper, on prepared input."""

    def __init__(self, widths: tuple[int, int, int, int, int] = (24, 32, 48, 80, 112)) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth, deepest = widths
        self.stem = nn.Sequential(
            ConvNorm(7, half, stride=2), ConvNorm(half, quarter, stride=2), PlainBlock(quarter)
        )
        self.to_eighth = nn.Sequential(
            ConvNorm(quarter, eighth, stride=2), PlainBlock(eighth), PlainBlock(eighth)
        )
        self.to_sixteenth = nn.Sequential(
            ConvNorm(eighth, sixteenth, stride=2), WideBlock(sixteenth), WideBlock(sixteenth)
        )
        self.to_deepest = nn.Sequential(
            ConvNorm(sixteenth, deepest, kernel=5, stride=2, groups=8),
            WideBlock(deepest),
            WideBlock(deepest),
            SceneGate(deepest),
        )
        self.picture_head = nn.Conv2d(deepest, 1, 1)
        self.up_sixteenth = ConvNorm(deepest, sixteenth, kernel=1)
        self.mix_sixteenth = WideBlock(sixteenth)
        self.up_eighth = ConvNorm(sixteenth, eighth, kernel=1)
        self.mix_eighth = PlainBlock(eighth)
        self.up_quarter = ConvNorm(eighth, quarter, kernel=1)
        self.mix_quarter = PlainBlock(quarter)
        self.mask_head = nn.Conv2d(quarter, MASK_STRIDE * MASK_STRIDE, 1)
        # A rare class: begin by saying no, or the first thousand steps unlearn "yes".
        nn.init.constant_(self.mask_head.bias, -3.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Prepared input (n, 7, h, w) to mask logits (n, 1, h/2, w/2), picture logits (n,)."""
        quarter = self.stem(x)
        eighth = self.to_eighth(quarter)
        sixteenth = self.to_sixteenth(eighth)
        deepest = self.to_deepest(sixteenth)
        evidence = self.picture_head(deepest)  # (n, 1, h/32, w/32): a class activation map
        # Half mean, half peak: a plume of two cells must count, and so must a room full of it.
        picture = 0.5 * (evidence.mean((1, 2, 3)) + evidence.amax((1, 2, 3)))
        y = self.mix_sixteenth(sixteenth + _double(self.up_sixteenth(deepest)))
        y = self.mix_eighth(eighth + _double(self.up_eighth(y)))
        y = self.mix_quarter(quarter + _double(self.up_quarter(y)))
        return functional.pixel_shuffle(self.mask_head(y), MASK_STRIDE), picture


class DeployedNetwork(nn.Module):
    """Bytes in, probabilities out: what is exported."""

    def __init__(self, network: SmokeNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, image: Tensor, background: Tensor, has_background: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run on what the program holds.

        Args:
            image: (n, h, w, 3) uint8 RGB; h and w multiples of `STRIDE`.
            background: the same view without what is new in it; ignored where absent.
            has_background: (n,) float, 1 where the background counts, else 0.

        Returns:
            Mask (n, h/2, w/2) and picture score (n,), both 0 to 1.
        """
        logits, picture = self.network(prepare(image, background, has_background))
        return torch.sigmoid(logits[:, 0]), torch.sigmoid(picture)


def prepare(image: Tensor, background: Tensor, has_background: Tensor) -> Tensor:
    """Bytes (n, h, w, 3) to the network's seven planes: picture, difference, flag."""
    frame = image.float()
    flag = has_background.reshape(-1, 1, 1, 1)
    # Differences are small: four times a picture's scale, so that a faint plume weighs as much
    # as an edge.
    difference = (frame - background.float()) * (flag * (4 / 255))
    plane = flag.expand(-1, frame.shape[1], frame.shape[2], 1)
    # Channels stay last until the end: joining them this way is four times as fast.
    return torch.cat([frame * (2 / 255) - 1, difference, plane], 3).permute(0, 3, 1, 2)


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
