"""A plume of smoke that grows, rises, shears and breaks up, and how it looks over a scene.

Density is carried by a turbulent wind: curl noise, which is free of divergence by construction
(Bridson, Hourihan, Nordenstam: Curl-Noise for Procedural Fluid Flow, SIGGRAPH 2007), plus a rise
that fades with height and a wind that grows with it; advection is semi-Lagrangian (Stam: Stable
Fluids, SIGGRAPH 1999). What is seen follows Beer and Lambert: opacity is 1 - exp(-density), and
light adds up in linear light, not in sRGB bytes. Arrays in, arrays out.
"""

import math
from typing import Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
Rgb = NDArray[np.uint8]

_LEVELS: Final = np.arange(256, dtype=np.float64) / 255
_TO_LINEAR: Final = np.where(
    _LEVELS <= 0.04045,  # noqa: PLR2004  constants of the standard
    _LEVELS / 12.92,
    ((_LEVELS + 0.055) / 1.055) ** 2.4,
).astype(np.float32)
"""sRGB bytes to linear light (IEC 61966-2-1)."""

_FINE: Final = 4096
_LINEAR: Final = np.arange(_FINE, dtype=np.float64) / (_FINE - 1)
_FROM_LINEAR: Final = np.rint(
    255
    * np.where(
        _LINEAR <= 0.0031308,  # noqa: PLR2004  as above
        12.92 * _LINEAR,
        1.055 * _LINEAR ** (1 / 2.4) - 0.055,
    )
).astype(np.uint8)

_UNSEEN: Final = 1 / 1024
"""Optical depth that changes no byte of a picture."""

_STEP_S: Final = 0.2
"""Longest step of the simulation: a puff moves a few cells in it."""


def to_linear(image: Rgb) -> Plane:
    """Turn sRGB bytes into linear light, 0 to 1; any shape."""
    return _TO_LINEAR[image]


def from_linear(light: Plane) -> Rgb:
    """Turn linear light, clipped to 0 to 1, into sRGB bytes; any shape."""
    return cast("Rgb", _FROM_LINEAR[(np.clip(light, 0, 1) * (_FINE - 1) + 0.5).astype(np.int32)])


class PlumeSimulator:
    """A plume on a grid of its own, released at the middle of the lower edge.

    Lengths are in cells, times in seconds. The same arguments give the same plume.

    Args:
        height: Rows of the grid.
        width: Columns of the grid.
        seed: Chooses the turbulence.
        wind: Columns per second at the top of the grid; near the ground it is a quarter of that.
        rise: Rows per second at the source; a third of that at the top.
        turbulence: Typical speed of the eddies in cells per second.
    """

    def __init__(
        self,
        *,
        height: int,
        width: int,
        seed: int,
        wind: float = 4.0,
        rise: float = 9.0,
        turbulence: float = 4.0,
    ) -> None:
        self._random = np.random.default_rng(seed)
        self._rows, self._columns = np.mgrid[0:height, 0:width].astype(np.float32)
        up = 1 - self._rows / max(1, height - 1)
        self._wind = (wind * (0.25 + 0.75 * up)).astype(np.float32)
        self._rise = (rise * (1 - 0.67 * up)).astype(np.float32)
        self._turbulence = turbulence
        self._phase = 0.0
        # Two noise fields, turned into each other over time: eddies live about as long as that.
        self._eddies = [self._stream_function() for _ in range(2)]
        self.density: Plane = np.zeros((height, width), np.float32)
        """(height, width), optical depth along the line of sight, at least 0."""

    def step(self, seconds: float, *, strength: float = 1.0) -> None:
        """Let *seconds* pass while the source smokes with *strength*, 0 for a dead fire."""
        steps = math.ceil(seconds / _STEP_S)
        for _ in range(steps):
            self._step(seconds / steps, strength)

    def _step(self, seconds: float, strength: float) -> None:
        across, down = self._velocity(seconds)
        moved = cv2.remap(
            self.density,
            self._columns - across * seconds,
            self._rows - down * seconds,
            cv2.INTER_CUBIC,  # Linear would wash the puffs out within seconds.
            borderMode=cv2.BORDER_CONSTANT,
        )
        thinned = np.maximum(moved, 0) * np.float32(np.exp(-seconds / 40))
        # Eddies too small for the grid: they mix the smoke with clean air, so a plume widens.
        spread = cv2.GaussianBlur(thinned, (0, 0), 1.6)
        mix = np.float32(min(1.0, 0.3 * seconds / _STEP_S))
        self.density = thinned + mix * (spread - thinned)
        self._release(seconds, strength)

    def _release(self, seconds: float, strength: float) -> None:
        height, width = self.density.shape
        size = 0.03 * width + 0.8
        for _ in range(2):
            x = width / 2 + self._random.normal(0, 0.5 * size)
            y = height - 1 - abs(self._random.normal(0, 0.8 * size))
            amount = strength * seconds * self._random.gamma(2.0, 1.6)
            puff = np.exp(
                -((self._columns[0] - x) ** 2)[None] / (2 * size**2)
                - ((self._rows[:, 0] - y) ** 2)[:, None] / (2 * size**2)
            )
            self.density += np.float32(amount) * puff.astype(np.float32)

    def _velocity(self, seconds: float) -> tuple[Plane, Plane]:
        self._phase += seconds / 3.0
        while self._phase >= 1:
            self._phase -= 1
            self._eddies = [self._eddies[1], self._stream_function()]
        angle = self._phase * np.pi / 2
        stream = np.cos(angle) * self._eddies[0] + np.sin(angle) * self._eddies[1]
        down, across = np.gradient(stream.astype(np.float32))
        swirl_x, swirl_y = down, -across  # The curl of a scalar: no sources, no sinks.
        scale = self._turbulence / (np.sqrt(np.mean(swirl_x**2 + swirl_y**2)) + 1e-6)
        return self._wind + scale * swirl_x, -self._rise + scale * swirl_y

    def _stream_function(self) -> Plane:
        height, width = self._rows.shape
        total = np.zeros((height, width), np.float32)
        for octave, weight in ((3, 1.0), (8, 0.5), (18, 0.3)):
            cells = (max(2, octave * height // max(height, width)) + 2, octave + 2)
            grid = self._random.standard_normal(cells).astype(np.float32)
            total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        return total


def place(
    density: Plane, *, into: tuple[int, int], anchor: tuple[float, float], height_px: float
) -> Plane:
    """Put a plume into a picture: (h, w) optical depth with the source at *anchor*.

    Args:
        density: A simulator's field; its source is at the middle of the lower edge.
        into: (height, width) of the picture.
        anchor: (y, x) of the source in pixels.
        height_px: Height of the whole field in pixels of the picture.
    """
    rows, columns = density.shape
    scale = height_px / rows
    matrix = np.array(
        [[scale, 0, anchor[1] - scale * columns / 2], [0, scale, anchor[0] - scale * (rows - 1)]]
    )
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    placed = cv2.warpAffine(density, matrix, (into[1], into[0]), flags=smooth)
    return cast("Plane", np.maximum(placed, 0))


def sky_light(image: Rgb) -> Plane:
    """The light that falls on smoke in this scene: its bright part, (3,) linear RGB."""
    tiny = cast("Rgb", cv2.resize(image, (32, 24), interpolation=cv2.INTER_AREA))
    light = to_linear(tiny).reshape(-1, 3)
    brightest = light[np.argsort(light.sum(axis=1))[-len(light) // 4 :]]
    return cast("Plane", brightest.mean(axis=0))


def composite(
    background: Rgb, density: Plane, *, opacity: float, air_light: Plane, relief: float = 0.35
) -> tuple[Rgb, Plane]:
    """Lay smoke over a scene in linear light.

    Args:
        background: (h, w, 3) sRGB.
        density: (h, w) optical depth.
        opacity: Multiplies the density: alpha = 1 - exp(-opacity * density).
        air_light: (3,) linear RGB of the smoke, see `sky_light`.
        relief: How much thick smoke shades itself, 0 for flat.

    Returns:
        The picture, (h, w, 3) sRGB, and its exact alpha, (h, w), 0 to 1.
    """
    alpha = np.zeros_like(density)
    picture = background.copy()
    x, y, width, height = cv2.boundingRect((density * opacity > _UNSEEN).astype(np.uint8))
    if width == 0:
        return picture, alpha
    part = np.s_[y : y + height, x : x + width]
    alpha[part] = 1 - np.exp(-np.float32(opacity) * density[part])
    light = _shading(density[part], relief)[..., None] * air_light
    cover = alpha[part][..., None]
    picture[part] = from_linear(to_linear(background[part]) * (1 - cover) + light * cover)
    return picture, alpha


def _shading(density: Plane, relief: float) -> Plane:
    """Brightness of the smoke, around 1: lit from above left, darker where thick and below."""
    if relief == 0:
        return np.ones_like(density)
    depth = np.sqrt(cv2.GaussianBlur(density, (0, 0), 1.2))
    slope = cv2.Sobel(depth, cv2.CV_32F, 1, 0) + cv2.Sobel(depth, cv2.CV_32F, 0, 1)
    lit = slope / (np.quantile(np.abs(slope), 0.98) + 1e-6)
    thick = depth / (depth.max() + 1e-6)
    return cast(
        "Plane", (1 + relief * (0.45 * np.clip(lit, -1, 1) - 0.55 * thick)).astype(np.float32)
    )
