"""The low-light network: a thumbnail in, tone curves and where each applies out.

It never sees the full picture: what it says is applied there by `curves.py`. Zero-DCE (Guo et al.,
arXiv 2001.06826) asks a curve of every pixel; here a few curves are asked of the picture and a
small map says which applies where, as slicing a bilateral grid does (HDRNet, Gharbi et al., arXiv
1707.02880). Training and export only: running needs the ONNX file alone.
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
"""Curves of a picture; exposure goes from the first to the last."""
POINTS = 10
"""Control points of a curve; closer in the dark, where curves bend."""
POWERS = (1.0, 0.6, 0.36, 0.2)
"""What the curves are before a picture bends them, all alike: a place is lifted more or less, but
never by a curve of another kind."""
BINS = 24
"""Of the histogram the network is told; even steps of the root of luma."""
FORGOTTEN = 0.25
"""Share of what is known of the scene that is left out in training: there are a hundred scenes."""
WIDEST_BALANCE = 12.0
"""Of chroma, in bytes, either way."""
LARGEST_GAIN = 7.9
"""Of chroma: beyond it there is only noise to amplify."""


class Output(NamedTuple):
    """What the network says of n thumbnails."""

    curves: Tensor
    """(n, LEVELS, 256), what each luma becomes, 0 to 1; none falls."""
    gains: Tensor
    """(n, LEVELS, 256), what chroma is to be multiplied by at each luma."""
    exposure: Tensor
    """(n, 1, h/8, w/8), 0 for the first curve to 1 for the last."""
    balance: Tensor
    """(n, 2), bytes to add to chroma u and v."""


class Splines(NamedTuple):
    """Cubic B-splines with clamped ends (de Boor, A Practical Guide to Splines, 1978)."""

    values: NDArray[np.float64]
    """(256, POINTS), a curve at every byte from its control points; it rises if they do."""
    slopes: NDArray[np.float64]
    """(256, POINTS), its slope there."""
    identity: NDArray[np.float64]
    """(POINTS,), the control points of the straight line."""


def splines() -> Splines:
    """The matrices that all curves are made with."""
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
    """Nought where knots coincide, as the recursion has it."""
    return np.where(below > 0, above / np.where(below > 0, below, 1), 0)


class Block(nn.Module):
    """Two convolutions around a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, 1, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out as in."""
        y: Tensor = functional.relu(x + self.body(x))
        return y


class LowLightNetwork(nn.Module):
    """Eyes for the thumbnail, a word about the scene, a map of places."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.eyes = nn.Sequential(
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
        """Look at thumbnails.

        Args:
            thumbnail: (n, 3, h, w) RGB, 0 to 1.
            noise: (n,) standard deviation of the picture's noise, in parts of white.
        """
        luma = (thumbnail * thumbnail.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(
            1, keepdim=True
        )
        # Dark pictures live in the lowest tenth: the root spreads it out.
        root = luma.clamp(min=1e-4).sqrt()
        x = self.eyes(torch.cat([thumbnail, root], 1) * 2 - 1)
        about = [x.mean((2, 3)), x.amax((2, 3)), _histogram(root), luma.mean((2, 3))]
        scene = self.scene(torch.cat([*about, noise[:, None] * 20], 1))
        place = self.place(functional.relu(x + scene[:, :, None, None]))
        # A little blur: exposure is light on a scene, not paint on its edges.
        place = functional.avg_pool2d(functional.pad(place, (1, 1, 1, 1), mode="replicate"), 3, 1)
        steps = torch.softmax(self.get_buffer("steps") + self.curves(scene)[:, None], 2)
        # The last step is what a curve stays below white.
        points = steps[:, :, :POINTS].cumsum(2)
        return Output(
            points @ self.get_buffer("values"),
            (points @ self.get_buffer("slopes")).clamp(0.5, LARGEST_GAIN),
            torch.sigmoid(place),
            WIDEST_BALANCE * torch.tanh(self.balance(scene)),
        )


def enhance(picture: Tensor, said: Output) -> Tensor:
    """Apply what was said to pictures, (n, 3, h, w) RGB, 0 to 1, as `curves.py` does."""
    y, u, v = to_yuv(picture)
    exposure = functional.interpolate(
        said.exposure, size=picture.shape[2:], mode="bilinear", align_corners=False
    )
    at = torch.cat([y, exposure], 1).permute(0, 2, 3, 1) * 2 - 1
    tables = torch.stack([said.curves, said.gains], 1)
    looked = functional.grid_sample(tables, at, align_corners=True, padding_mode="border")
    lifted, gain = looked[:, :1], looked[:, 1:]
    balance = (said.balance / 255)[:, :, None, None]
    return to_rgb(lifted, u * gain + balance[:, :1], v * gain + balance[:, 1:])


class DeployedNetwork(nn.Module):
    """Bytes in, what `curves.py` needs out: what is exported."""

    def __init__(self, network: LowLightNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, thumbnail: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Run on what the program holds.

        Args:
            thumbnail: (n, h, w, 3) uint8 RGB; h and w multiples of `STRIDE`.
            noise: (n,) float, standard deviation of the full picture's noise in bytes.

        Returns:
            Curves (n, LEVELS, 256), 0 to 1, gains (n, LEVELS, 256), exposure (n, h/8, w/8) and
            balance (n, 2).
        """
        said: Output = self.network(thumbnail.float().permute(0, 3, 1, 2) / 255, noise / 255)
        return said.curves, said.gains, said.exposure[:, 0], said.balance


def to_yuv(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(n, 3, h, w) to luma 0 to 1 and chroma around 0 (ITU-R BT.601)."""
    r, g, b = rgb[:, :1], rgb[:, 1:2], rgb[:, 2:]
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return y, (b - y) / 1.772, (r - y) / 1.402


def to_rgb(y: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """The way back; not clipped."""
    r, b = y + 1.402 * v, y + 1.772 * u
    return torch.cat([r, (y - 0.299 * r - 0.114 * b) / 0.587, b], 1)


def _histogram(plane: Tensor) -> Tensor:
    """Shares of (n, 1, h, w), 0 to 1, near each of `BINS` even steps: (n, BINS)."""
    steps = torch.linspace(0, 1, BINS, device=plane.device)[:, None, None]
    return functional.relu(1 - (plane - steps).abs() * (BINS - 1)).mean((2, 3))
