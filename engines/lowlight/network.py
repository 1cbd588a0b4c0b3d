"""The low-light network: a thumbnail in, tone curves and an exposure map out.

It never sees the full frame, to which `curves.py` applies its output. Zero-DCE (Guo et al., arXiv
2001.06826) predicts a curve per pixel; here a few curves are predicted per frame, and a small map
blends between them, as in slicing a bilateral grid (HDRNet, Gharbi et al., arXiv 1707.02880).
Training and export only: running needs the ONNX file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray

STRIDE = 8
"""Sides of a thumbnail must be multiples of this; the exposure map is this much smaller."""
LEVELS = 4
"""Curves per frame; exposure goes from the first to the last."""
POINTS = 10
"""Control points of a curve; denser in the dark, where curves bend."""
POWERS = (1.0, 0.6, 0.36, 0.2)
"""Exponents of the initial curves. All are bent alike by the network, so that regions differ in the
amount of brightening only."""
BINS = 24
"""Bins of the input histogram; even steps of the square root of luma."""
FORGOTTEN = 0.25
"""Dropout of the scene features: there are only a hundred training scenes."""
WIDEST_BALANCE = 12.0
"""Limit of the chroma balance, in bytes."""
LARGEST_GAIN = 7.9
"""Limit of the chroma gain: above it only noise is amplified."""


class Output(NamedTuple):
    """Output of the network for n thumbnails."""

    curves: Tensor
    """(n, LEVELS, 256), output by luma, 0 to 1; monotonic."""
    gains: Tensor
    """(n, LEVELS, 256), factor on chroma by luma."""
    exposure: Tensor
    """(n, 1, h/8, w/8), 0 for the first curve to 1 for the last."""
    balance: Tensor
    """(n, 2), offset of chroma u and v in bytes."""


class Splines(NamedTuple):
    """Cubic B-splines with clamped ends (de Boor, A Practical Guide to Splines, 1978)."""

    values: NDArray[np.float64]
    """(256, POINTS), values at every byte from control points; monotonic if these are."""
    slopes: NDArray[np.float64]
    """(256, POINTS), slopes at every byte."""
    identity: NDArray[np.float64]
    """(POINTS,), control points of the identity."""


def splines() -> Splines:
    """Return the matrices from which all curves are computed."""
    knots = np.concatenate([[0.0] * 3, np.linspace(0, 1, POINTS - 2) ** 1.7, [1.0] * 3])
    at = np.clip(np.arange(256) / 255, 0, 1 - 1e-9)[:, None]
    basis = ((knots[:-1] <= at) & (at < knots[1:])).astype(np.float64)
    below = basis
    for degree in (1, 2, 3):
        below = basis
        starts, ends = knots[: -degree - 1], knots[degree + 1 :]
        rising = _ratio(at - starts, knots[degree:-1] - starts)
        falling = _ratio(ends - at, ends - knots[1:-degree])
        basis = rising * below[:, :-1] + falling * below[:, 1:]
    parts = _ratio(below, knots[3:] - knots[:-3])
    middle = (knots[1:-3] + knots[2:-2] + knots[3:-1]) / 3
    return Splines(basis, 3 * (parts[:, :-1] - parts[:, 1:]), middle)


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return above / below; 0 where knots coincide, as the recursion defines it."""
    return np.where(below > 0, above / np.where(below > 0, below, 1), 0)


class Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to the same shape."""
        y: Tensor = functional.relu(x + self.body(x))
        return y


class LowLightNetwork(nn.Module):
    """An encoder of the thumbnail, a scene vector for the curves, and an exposure map."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(4, 16, 3, 2, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, width, 3, 2, 1),
            nn.ReLU(inplace=True),
            Block(width),
        )
        self.scene = nn.Sequential(
            nn.Linear(2 * width + BINS + 2, 2 * width),
            nn.ReLU(inplace=True),
            nn.Linear(2 * width, width),
            nn.ReLU(inplace=True),
            nn.Dropout(FORGOTTEN),
        )
        self.place = nn.Sequential(Block(width), nn.Conv2d(width, 1, 3, 1, 1))
        self.curves = nn.Linear(width, POINTS + 1)
        self.balance = nn.Linear(width, 2)
        for head in (self.curves, self.balance):
            nn.init.normal_(head.weight, std=1e-3)
            nn.init.zeros_(head.bias)
        made = splines()
        powers = np.stack([made.identity**power for power in POWERS])
        steps = np.diff(powers, axis=1, prepend=0, append=1).clip(min=2e-3)
        for name, values in (
            ("values", made.values.T),
            ("slopes", made.slopes.T),
            ("steps", np.log(steps)),
        ):
            self.register_buffer(name, torch.from_numpy(values).float(), persistent=False)

    def forward(self, thumbnail: Tensor, noise: Tensor) -> Output:
        """Compute curves, gains, exposure and balance.

        Args:
            thumbnail: (n, 3, h, w) RGB, 0 to 1.
            noise: (n,) standard deviation of the frame's noise; 1 is white.
        """
        luma = (thumbnail * thumbnail.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(
            1, keepdim=True
        )
        # Dark frames use the lowest tenth of the range, which the square root spreads out.
        root = luma.clamp(min=1e-4).sqrt()
        x = self.encoder(torch.cat([thumbnail, root], 1) * 2 - 1)
        about = [x.mean((2, 3)), x.amax((2, 3)), _histogram(root), luma.mean((2, 3))]
        scene = self.scene(torch.cat([*about, noise[:, None] * 20], 1))
        place = self.place(functional.relu(x + scene[:, :, None, None]))
        # A slight blur: exposure follows the light on a scene, not its edges.
        place = functional.avg_pool2d(functional.pad(place, (1, 1, 1, 1), mode="replicate"), 3, 1)
        steps = torch.softmax(self.get_buffer("steps") + self.curves(scene)[:, None], 2)
        # The last step is the distance of the curve's end from white.
        points = steps[:, :, :POINTS].cumsum(2)
        return Output(
            points @ self.get_buffer("values"),
            (points @ self.get_buffer("slopes")).clamp(0.5, LARGEST_GAIN),
            torch.sigmoid(place),
            WIDEST_BALANCE * torch.tanh(self.balance(scene)),
        )


def enhance(image: Tensor, output: Output) -> Tensor:
    """Apply an output to images, (n, 3, h, w) RGB, 0 to 1, as `curves.py` does."""
    y, u, v = to_yuv(image)
    exposure = functional.interpolate(
        output.exposure, size=image.shape[2:], mode="bilinear", align_corners=False
    )
    at = torch.cat([y, exposure], 1).permute(0, 2, 3, 1) * 2 - 1
    tables = torch.stack([output.curves, output.gains], 1)
    sampled = functional.grid_sample(tables, at, align_corners=True, padding_mode="border")
    luma, gain = sampled[:, :1], sampled[:, 1:]
    balance = (output.balance / 255)[:, :, None, None]
    return to_rgb(luma, u * gain + balance[:, :1], v * gain + balance[:, 1:])


class DeployedNetwork(nn.Module):
    """The exported graph: bytes in, the arrays of an `Adjustment` out."""

    def __init__(self, network: LowLightNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, thumbnail: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Run the network on bytes.

        Args:
            thumbnail: (n, h, w, 3) uint8 RGB; h and w multiples of `STRIDE`.
            noise: (n,) float, standard deviation of the full frame's noise in bytes.

        Returns:
            Curves (n, LEVELS, 256), 0 to 1, gains (n, LEVELS, 256), exposure (n, h/8, w/8) and
            balance (n, 2).
        """
        output: Output = self.network(thumbnail.float().permute(0, 3, 1, 2) / 255, noise / 255)
        return output.curves, output.gains, output.exposure[:, 0], output.balance


def to_yuv(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Convert (n, 3, h, w) to luma, 0 to 1, and chroma around 0 (ITU-R BT.601)."""
    r, g, b = rgb[:, :1], rgb[:, 1:2], rgb[:, 2:]
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return y, (b - y) / 1.772, (r - y) / 1.402


def to_rgb(y: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Convert luma and chroma back to RGB, not clipped."""
    r, b = y + 1.402 * v, y + 1.772 * u
    return torch.cat([r, (y - 0.299 * r - 0.114 * b) / 0.587, b], 1)


def _histogram(plane: Tensor) -> Tensor:
    """Return the soft histogram (n, BINS) of (n, 1, h, w), 0 to 1."""
    steps = torch.linspace(0, 1, BINS, device=plane.device)[:, None, None]
    return functional.relu(1 - (plane - steps).abs() * (BINS - 1)).mean((2, 3))
