"""The smoke networks: an image and its background model in, a soft mask and an image score out.

`TwoPathNetwork` is the shipped `smoke`, after the Deep Smoke Segmentation Network (Yuan et al.,
arXiv 1809.00774): a deep path for semantics, a shallow path for detail and for the difference to
the background, and a small fusion network. `FastNetwork` is `smoke-fast`, a smaller version.
`PlainNetwork` is the baseline of both.

All take the same `Planes` and return mask logits at half size, image logits, and the class
activation map (Zhou et al., arXiv 1512.04150) from which the image logits are pooled. Masks are
upsampled by sub-pixel convolution (Shi et al., arXiv 1609.05158).

Preprocessing is part of the exported graph. Training and export only: running needs the ONNX file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.common.encoder import Encoder

if TYPE_CHECKING:
    from collections.abc import Mapping

STRIDE = 32
"""Height and width must be multiples of this."""
MASK_STRIDE = 2
"""Input size divided by mask size, in each direction."""


class Planes(NamedTuple):
    """Preprocessed input of n images; see `prepare`."""

    image: Tensor
    """(n, 3, h, w), -1 to 1."""
    difference: Tensor
    """(n, 3, h, w), image minus background; 0 without background."""
    flag: Tensor
    """(n, 1, 1, 1), 1 with a background, 0 without."""


class Logits(NamedTuple):
    """Output of a network for n images, before the sigmoid."""

    mask: Tensor
    """(n, 1, h/2, w/2)."""
    image_score: Tensor
    """(n,)."""
    cam: Tensor
    """(n, 1, h/s, w/s), class activation map; s is 16 or 32."""


class ConvNorm(nn.Sequential):
    """Convolution, batch normalisation and, unless `active` is false, ReLU."""

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


class FirstConv(nn.Module):
    """3x3 convolution of stride 2 over `Planes`, batch normalisation, ReLU.

    Equals a convolution over the concatenated planes. Concatenating seven planes of full size took
    longer than convolving them.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.image = nn.Conv2d(3, outputs, 3, 2, 1, bias=False)
        self.difference = nn.Conv2d(3, outputs, 3, 2, 1, bias=False)
        self.flag = nn.Parameter(torch.zeros(outputs, 1, 1))
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, planes: Planes) -> Tensor:
        """Map planes to (n, outputs, h/2, w/2)."""
        y = self.image(planes.image) + self.difference(planes.difference)
        return functional.relu(self.norm(y + planes.flag * self.flag))


class PlainBlock(nn.Module):
    """A residual block of two 3x3 convolutions: cheap on large maps with few channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvNorm(channels, channels), ConvNorm(channels, channels, active=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to the same shape."""
        return functional.relu(x + self.body(x))


class MBConv(nn.Module):
    """An inverted residual with a 5x5 depthwise kernel: a large receptive field, few parameters."""

    def __init__(self, channels: int, *, expansion: int = 2) -> None:
        super().__init__()
        inner = channels * expansion
        self.body = nn.Sequential(
            ConvNorm(channels, inner, kernel=1),
            ConvNorm(inner, inner, kernel=5, groups=inner),
            ConvNorm(inner, channels, kernel=1, active=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to the same shape."""
        y: Tensor = x + self.body(x)
        return y


class SqueezeExcite(nn.Module):
    """Scales channels by global context: fog everywhere makes fog at one place likely."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Conv2d(channels, channels // 4, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // 4, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to the same shape."""
        y: Tensor = x * self.gate(x.mean((2, 3), keepdim=True))
        return y


class TwoPathNetwork(nn.Module):
    """`smoke`: a deep path on the image, a fine path on image and difference to the background."""

    def __init__(self) -> None:
        super().__init__()
        self.deep = Encoder()
        self.fine = nn.Sequential(FirstConv(16), ConvNorm(16, 32, stride=2), PlainBlock(32))
        # Differences to the background enter the deep path after its frozen layers.
        self.difference = ConvNorm(32, 40, stride=2, active=False)
        self.gate = SqueezeExcite(192)
        self.up_sixteenth, self.at_sixteenth = (ConvNorm(c, 96, kernel=1) for c in (192, 112))
        self.mix_sixteenth = MBConv(96)
        self.score_head = nn.Conv2d(96, 1, 1)
        self.up_eighth, self.at_eighth = (ConvNorm(c, 48, kernel=1) for c in (96, 40))
        self.mix_eighth = PlainBlock(48)
        self.up_quarter, self.at_quarter = (ConvNorm(c, 32, kernel=1) for c in (48, 24))
        self.fuse = nn.Sequential(ConvNorm(64, 32), PlainBlock(32))
        self.mask_head = _mask_head(32)

    def train(self, mode: bool = True) -> TwoPathNetwork:  # noqa: FBT001, FBT002  torch's own
        """Set the mode; the deep path keeps its pretrained batch statistics."""
        super().train(mode)
        self.deep.eval()
        return self

    def forward(self, planes: Planes) -> Logits:
        """Run the network on preprocessed planes."""
        quarter = self.deep.stem_features(planes.image)
        fine = self.fine(planes)
        eighth = self.deep.stages[2](quarter) + self.difference(fine)
        sixteenth = self.deep.stages[4](self.deep.stages[3](eighth))
        deepest = self.gate(self.deep.stages[5](sixteenth))
        y = self.mix_sixteenth(self.at_sixteenth(sixteenth) + _double(self.up_sixteenth(deepest)))
        cam = self.score_head(y)
        y = self.mix_eighth(self.at_eighth(eighth) + _double(self.up_eighth(y)))
        y = self.at_quarter(quarter) + _double(self.up_quarter(y))
        y = self.fuse(torch.cat([y, fine], 1))
        return Logits(_unfold(self.mask_head(y)), _pool(cam), cam)


class FastNetwork(nn.Module):
    """`smoke-fast`: the same two paths, the deep one with four stages on the image at half size.

    Semantics survive the lower resolution; small plumes are left to the fine path.
    """

    def __init__(self) -> None:
        super().__init__()
        self.deep = Encoder(stages=4)
        self.fine = nn.Sequential(FirstConv(24), ConvNorm(24, 32, stride=2), PlainBlock(32))
        self.to_eighth, self.at_eighth = ConvNorm(32, 48, stride=2), ConvNorm(24, 48, kernel=1)
        self.mix_details = PlainBlock(48)
        self.difference = ConvNorm(48, 40, stride=2, active=False)
        self.gate = SqueezeExcite(80)
        self.score_head = nn.Conv2d(80, 1, 1)
        self.up_sixteenth, self.at_sixteenth = (ConvNorm(c, 64, kernel=1) for c in (80, 40))
        self.mix_sixteenth = MBConv(64)
        self.up_eighth = ConvNorm(64, 48, kernel=1)
        self.mix_eighth = PlainBlock(48)
        self.up_quarter = ConvNorm(48, 32, kernel=1)
        self.mix_quarter = PlainBlock(32)
        self.mask_head = _mask_head(32)

    def train(self, mode: bool = True) -> FastNetwork:  # noqa: FBT001, FBT002  torch's own
        """Set the mode; the deep path keeps its pretrained batch statistics."""
        super().train(mode)
        self.deep.eval()
        return self

    def forward(self, planes: Planes) -> Logits:
        """Run the network on preprocessed planes."""
        quarter = self.fine(planes)
        deep = self.deep.stem_features(planes.image, half=True)
        eighth = self.mix_details(self.to_eighth(quarter) + self.at_eighth(deep))
        sixteenth = self.deep.stages[2](deep) + self.difference(eighth)
        deepest = self.gate(self.deep.stages[3](sixteenth))
        cam = self.score_head(deepest)
        y = self.mix_sixteenth(self.at_sixteenth(sixteenth) + _double(self.up_sixteenth(deepest)))
        y = self.mix_eighth(eighth + _double(self.up_eighth(y)))
        y = self.mix_quarter(quarter + _double(self.up_quarter(y)))
        return Logits(_unfold(self.mask_head(y)), _pool(cam), cam)


class PlainNetwork(nn.Module):
    """The baseline: a U-Net (arXiv 1505.04597) of 0.8 M parameters that sees only the image."""

    def __init__(self, widths: tuple[int, ...] = (24, 36, 56, 88, 120)) -> None:
        super().__init__()
        self.down = nn.ModuleList()
        channels = 3
        for width in widths:
            self.down.append(nn.Sequential(ConvNorm(channels, width), ConvNorm(width, width)))
            channels = width
        self.up = nn.ModuleList()
        for width in reversed(widths[:-1]):
            self.up.append(nn.Sequential(ConvNorm(channels + width, width), ConvNorm(width, width)))
            channels = width
        self.mask_head = nn.Conv2d(channels, 1, 1)
        self.score_head = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, planes: Planes) -> Logits:
        """Run the network on preprocessed planes, of which it uses the image only."""
        # At half size: the mask needs no more, and the receptive field doubles.
        y = functional.avg_pool2d(planes.image, MASK_STRIDE)
        # The exporter would drop unused inputs.
        y = y + 0 * (planes.difference[:, :1, :1, :1] + planes.flag)
        skips = []
        for number, block in enumerate(self.down):
            y = block(y if number == 0 else functional.max_pool2d(y, 2))
            skips.append(y)
        cam = self.score_head(skips.pop())
        for block in self.up:
            y = block(torch.cat([_double(y), skips.pop()], 1))
        return Logits(self.mask_head(y), _pool(cam), cam)


NETWORKS: Mapping[str, type[nn.Module]] = {
    "smoke": TwoPathNetwork,
    "smoke-fast": FastNetwork,
    "plain-unet": PlainNetwork,
}
"""By the name in the model file."""


class DeployedNetwork(nn.Module):
    """The exported graph: bytes in, probabilities out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, image: Tensor, background: Tensor, has_background: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run preprocessing, network and sigmoid.

        Args:
            image: (n, h, w, 3) uint8 RGB; h and w multiples of `STRIDE`.
            background: Background model of the same view, of the same shape.
            has_background: (n,) float, 1 where the background counts, else 0.

        Returns:
            Mask (n, h/2, w/2), image score (n,) and class activation map (n, h/s, w/s), 0 to 1.
        """
        logits: Logits = self.network(prepare(image, background, has_background))
        return (
            torch.sigmoid(logits.mask[:, 0]),
            torch.sigmoid(logits.image_score),
            torch.sigmoid(logits.cam[:, 0]),
        )


def prepare(image: Tensor, background: Tensor, has_background: Tensor) -> Planes:
    """Turn bytes (n, h, w, 3) into the input of the networks."""
    pixels = image.float()
    flag = has_background.reshape(-1, 1, 1, 1)
    # Differences are small: scaled by four, a faint plume weighs as much as an edge.
    difference = (pixels - background.float()) * (flag * (4 / 255))
    # Channels stay last in memory, the layout that convolutions on CPUs prefer.
    return Planes(
        (pixels * (2 / 255) - 1).permute(0, 3, 1, 2), difference.permute(0, 3, 1, 2), flag
    )


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def _mask_head(channels: int) -> nn.Conv2d:
    head = nn.Conv2d(channels, MASK_STRIDE * MASK_STRIDE, 1)
    # Smoke is rare: starting at a probability of 0.05 saves the first thousand steps.
    nn.init.constant_(head.bias, -3.0)  # type: ignore[arg-type]
    return head


def _unfold(cells: Tensor) -> Tensor:
    return functional.pixel_shuffle(cells, MASK_STRIDE)


def _pool(cam: Tensor) -> Tensor:
    # Half mean, half peak, so that both a plume of two cells and a room full of smoke count.
    return 0.5 * (cam.mean((1, 2, 3)) + cam.amax((1, 2, 3)))
