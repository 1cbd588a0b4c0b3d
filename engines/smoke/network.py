"""The smoke networks: a picture and its view's background in, a soft mask and picture score out.

`TwoPathNetwork` is the shipped `smoke`, after the Deep Smoke Segmentation Network (Yuan et al.,
arXiv 1809.00774): a deep path that knows what things are, a shallow path that sees detail and what
is new, and a small network that fuses them. `FastNetwork` is `smoke-fast`, the same in little.
`PlainNetwork` is the floor that both are measured against.

All take the same `Planes` and return mask logits at half size, picture logits
and the map of evidence that these are the mean and peak of: a class activation map (Zhou et al.,
arXiv 1512.04150). Masks unfold from cells by sub-pixel convolution (Shi et al., arXiv 1609.05158).

Pre-processing is the first part of what is exported, so that the program hands over the bytes it
has. Training and export only: running needs the ONNX file alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping

STRIDE = 32
"""Height and width must be multiples of this."""
MASK_STRIDE = 2
"""The mask is this many times smaller than the picture on either side."""


class Planes(NamedTuple):
    """Prepared input of n pictures; see `prepare`."""

    picture: Tensor
    """(n, 3, h, w), -1 to 1."""
    difference: Tensor
    """(n, 3, h, w), picture less background; nothing where there is none."""
    flag: Tensor
    """(n, 1, 1, 1), 1 with a background, 0 without."""


class Logits(NamedTuple):
    """What a network says of n prepared pictures."""

    mask: Tensor
    """(n, 1, h/2, w/2)."""
    picture: Tensor
    """(n,)."""
    evidence: Tensor
    """(n, 1, h/s, w/s), where it sees smoke; s is 16 or 32."""


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


class FirstConv(nn.Module):
    """3x3 of stride 2 over `Planes`, normalisation, ReLU.

    What a convolution over their concatenation would be, but concatenating seven planes of full
    size took longer than convolving them.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.picture = nn.Conv2d(3, outputs, 3, 2, 1, bias=False)
        self.difference = nn.Conv2d(3, outputs, 3, 2, 1, bias=False)
        self.flag = nn.Parameter(torch.zeros(outputs, 1, 1))
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, planes: Planes) -> Tensor:
        """To (n, outputs, h/2, w/2)."""
        y = self.picture(planes.picture) + self.difference(planes.difference)
        return functional.relu(self.norm(y + planes.flag * self.flag))


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


class MBConv(nn.Module):
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


class SqueezeExcite(nn.Module):
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


class Depthwise(nn.Conv2d):
    """A depthwise convolution, always in f32: its gradient in bf16 is four times slower on CPUs."""

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to (n, c, h/stride, w/stride)."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class InvertedResidual(nn.Module):
    """The block of MobileNetV2 (arXiv 1801.04381), as EfficientNet-lite has it: no gate, ReLU6."""

    def __init__(
        self, inputs: int, outputs: int, *, expansion: int, kernel: int, stride: int
    ) -> None:
        super().__init__()
        inner = inputs * expansion
        widen = (
            [nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6(inplace=True)]
            if expansion > 1
            else []
        )
        self.body = nn.Sequential(
            *widen,
            Depthwise(inner, kernel, stride),
            nn.BatchNorm2d(inner),
            nn.ReLU6(inplace=True),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.skips = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, h, w) to (n, outputs, h/stride, w/stride)."""
        y: Tensor = self.body(x)
        return x + y if self.skips else y


class Encoder(nn.Module):
    """The first stages of EfficientNet-lite0 (arXiv 1905.11946).

    It begins with weights that know a million photographs: five hundred views of smoke could not
    teach what clouds, ridges, roofs and lamps are.
    """

    STAGES = (
        # blocks, channels, expansion, kernel, stride
        (1, 16, 1, 3, 1),
        (2, 24, 6, 3, 2),
        (2, 40, 6, 5, 2),
        (3, 80, 6, 3, 2),
        (3, 112, 6, 5, 1),
        (4, 192, 6, 5, 2),
    )

    def __init__(self, stages: int = len(STAGES)) -> None:
        super().__init__()
        channels = 32
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 3, 2, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU6(inplace=True),
        )
        self.stages = nn.ModuleList()
        for blocks, outputs, expansion, kernel, stride in self.STAGES[:stages]:
            stage = nn.Sequential()
            for number in range(blocks):
                stage.append(
                    InvertedResidual(
                        channels,
                        outputs,
                        expansion=expansion,
                        kernel=kernel,
                        stride=stride if number == 0 else 1,
                    )
                )
                channels = outputs
            self.stages.append(stage)
        for part in (self.stem, self.stages[0], self.stages[1]):
            part.requires_grad_(requires_grad=False)

    def early(self, picture: Tensor, *, half: bool = False) -> Tensor:
        """Edges and colours, never trained further.

        Args:
            picture: (n, 3, h, w), -1 to 1.
            half: look at it at half its size.

        Returns:
            (n, 24, h/4, w/4), or of h/8 and w/8.
        """
        convolution: nn.Conv2d
        convolution, norm, activate = self.stem  # type: ignore[assignment]
        if half:
            # Mean of 2x2 and convolution in one.
            kernel = convolution.weight.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4
            y = functional.conv2d(picture, kernel, stride=4, padding=2)
        else:
            y = convolution(picture)
        edges: Tensor = self.stages[1](self.stages[0](activate(norm(y))))
        return edges

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        """Take over the classifier's weights, which stand in the order of the layers.

        Raises:
            ValueError: they are of another network.
        """
        mine = self.state_dict()
        counters = "num_batches_tracked"
        theirs = [tensor for name, tensor in weights.items() if counters not in name]
        names = [name for name in mine if counters not in name]
        for name, tensor in zip(names, theirs, strict=False):
            if mine[name].shape != tensor.shape:
                raise ValueError(f"{name}: expected {mine[name].shape}, got {tensor.shape}")
            mine[name] = tensor
        self.load_state_dict(mine)


class TwoPathNetwork(nn.Module):
    """`smoke`: the deep path sees the picture, the fine path also what differs from normal."""

    def __init__(self) -> None:
        super().__init__()
        self.deep = Encoder()
        self.fine = nn.Sequential(FirstConv(16), ConvNorm(16, 32, stride=2), PlainBlock(32))
        # What is new enters the deep path once edges have become things.
        self.news = ConvNorm(32, 40, stride=2, active=False)
        self.gate = SqueezeExcite(192)
        self.up_sixteenth, self.at_sixteenth = (ConvNorm(c, 96, kernel=1) for c in (192, 112))
        self.mix_sixteenth = MBConv(96)
        self.picture_head = nn.Conv2d(96, 1, 1)
        self.up_eighth, self.at_eighth = (ConvNorm(c, 48, kernel=1) for c in (96, 40))
        self.mix_eighth = PlainBlock(48)
        self.up_quarter, self.at_quarter = (ConvNorm(c, 32, kernel=1) for c in (48, 24))
        self.fuse = nn.Sequential(ConvNorm(64, 32), PlainBlock(32))
        self.mask_head = _mask_head(32)

    def train(self, mode: bool = True) -> TwoPathNetwork:  # noqa: FBT001, FBT002  torch's own
        """As torch has it; the deep path keeps the statistics it came with."""
        super().train(mode)
        self.deep.eval()
        return self

    def forward(self, planes: Planes) -> Logits:
        """Look at prepared planes."""
        quarter = self.deep.early(planes.picture)
        fine = self.fine(planes)
        eighth = self.deep.stages[2](quarter) + self.news(fine)
        sixteenth = self.deep.stages[4](self.deep.stages[3](eighth))
        deepest = self.gate(self.deep.stages[5](sixteenth))
        y = self.mix_sixteenth(self.at_sixteenth(sixteenth) + _double(self.up_sixteenth(deepest)))
        evidence = self.picture_head(y)
        y = self.mix_eighth(self.at_eighth(eighth) + _double(self.up_eighth(y)))
        y = self.at_quarter(quarter) + _double(self.up_quarter(y))
        y = self.fuse(torch.cat([y, fine], 1))
        return Logits(_unfold(self.mask_head(y)), _pool(evidence), evidence)


class FastNetwork(nn.Module):
    """`smoke-fast`: the same two paths, the deep one shorter and at half size.

    What things are is seen as well in fewer cells; small plumes are the fine path's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.deep = Encoder(stages=4)
        self.fine = nn.Sequential(FirstConv(24), ConvNorm(24, 32, stride=2), PlainBlock(32))
        self.to_eighth, self.at_eighth = ConvNorm(32, 48, stride=2), ConvNorm(24, 48, kernel=1)
        self.mix_details = PlainBlock(48)
        self.news = ConvNorm(48, 40, stride=2, active=False)
        self.gate = SqueezeExcite(80)
        self.picture_head = nn.Conv2d(80, 1, 1)
        self.up_sixteenth, self.at_sixteenth = (ConvNorm(c, 64, kernel=1) for c in (80, 40))
        self.mix_sixteenth = MBConv(64)
        self.up_eighth = ConvNorm(64, 48, kernel=1)
        self.mix_eighth = PlainBlock(48)
        self.up_quarter = ConvNorm(48, 32, kernel=1)
        self.mix_quarter = PlainBlock(32)
        self.mask_head = _mask_head(32)

    def train(self, mode: bool = True) -> FastNetwork:  # noqa: FBT001, FBT002  torch's own
        """As torch has it; the deep path keeps the statistics it came with."""
        super().train(mode)
        self.deep.eval()
        return self

    def forward(self, planes: Planes) -> Logits:
        """Look at prepared planes."""
        quarter = self.fine(planes)
        things = self.deep.early(planes.picture, half=True)
        eighth = self.mix_details(self.to_eighth(quarter) + self.at_eighth(things))
        sixteenth = self.deep.stages[2](things) + self.news(eighth)
        deepest = self.gate(self.deep.stages[3](sixteenth))
        evidence = self.picture_head(deepest)
        y = self.mix_sixteenth(self.at_sixteenth(sixteenth) + _double(self.up_sixteenth(deepest)))
        y = self.mix_eighth(eighth + _double(self.up_eighth(y)))
        y = self.mix_quarter(quarter + _double(self.up_quarter(y)))
        return Logits(_unfold(self.mask_head(y)), _pool(evidence), evidence)


class PlainNetwork(nn.Module):
    """The floor: a plain U-Net (arXiv 1505.04597) of 0.8 M parameters that sees one picture."""

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
        self.picture_head = nn.Conv2d(widths[-1], 1, 1)

    def forward(self, planes: Planes) -> Logits:
        """Look at prepared planes, of which it takes the picture alone."""
        # At half size: it is asked for no finer mask, and sees as far as it can.
        y = functional.avg_pool2d(planes.picture, MASK_STRIDE)
        # An input that nothing looks at would be missing in the exported file.
        y = y + 0 * (planes.difference[:, :1, :1, :1] + planes.flag)
        skips = []
        for number, block in enumerate(self.down):
            y = block(y if number == 0 else functional.max_pool2d(y, 2))
            skips.append(y)
        evidence = self.picture_head(skips.pop())
        for block in self.up:
            y = block(torch.cat([_double(y), skips.pop()], 1))
        return Logits(self.mask_head(y), _pool(evidence), evidence)


NETWORKS: Mapping[str, type[nn.Module]] = {
    "smoke": TwoPathNetwork,
    "smoke-fast": FastNetwork,
    "plain-unet": PlainNetwork,
}
"""By the name in the file."""


class DeployedNetwork(nn.Module):
    """Bytes in, probabilities out: what is exported."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, image: Tensor, background: Tensor, has_background: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run on what the program holds.

        Args:
            image: (n, h, w, 3) uint8 RGB; h and w multiples of `STRIDE`.
            background: the same view without what is new in it; ignored where absent.
            has_background: (n,) float, 1 where the background counts, else 0.

        Returns:
            Mask (n, h/2, w/2), picture score (n,) and evidence (n, h/s, w/s), all 0 to 1.
        """
        said: Logits = self.network(prepare(image, background, has_background))
        return (
            torch.sigmoid(said.mask[:, 0]),
            torch.sigmoid(said.picture),
            torch.sigmoid(said.evidence[:, 0]),
        )


def prepare(image: Tensor, background: Tensor, has_background: Tensor) -> Planes:
    """Bytes (n, h, w, 3) to what the networks take."""
    frame = image.float()
    flag = has_background.reshape(-1, 1, 1, 1)
    # Differences are small: four times a picture's scale, so that a faint plume weighs as much
    # as an edge.
    difference = (frame - background.float()) * (flag * (4 / 255))
    # Channels stay last in memory, as convolutions on CPUs want them.
    return Planes((frame * (2 / 255) - 1).permute(0, 3, 1, 2), difference.permute(0, 3, 1, 2), flag)


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


def _mask_head(channels: int) -> nn.Conv2d:
    head = nn.Conv2d(channels, MASK_STRIDE * MASK_STRIDE, 1)
    # A rare class: begin by saying no, or the first thousand steps unlearn "yes".
    nn.init.constant_(head.bias, -3.0)  # type: ignore[arg-type]
    return head


def _unfold(cells: Tensor) -> Tensor:
    return functional.pixel_shuffle(cells, MASK_STRIDE)


def _pool(evidence: Tensor) -> Tensor:
    # Half mean, half peak: a plume of two cells must count, and so must a room full of it.
    return 0.5 * (evidence.mean((1, 2, 3)) + evidence.amax((1, 2, 3)))
