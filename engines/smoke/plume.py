"""A plume of smoke that grows, rises, shears and breaks up, and how it looks over a scene.

A small fluid: advection is semi-Lagrangian (Stam: Stable Fluids, SIGGRAPH 1999), heat lifts smoke
(Fedkiw, Stam, Jensen: Visual Simulation of Smoke, SIGGRAPH 2001), the wind shears it and stirs it
with curl noise (Bridson, Hourihan, Nordenstam: Curl-Noise for Procedural Fluid Flow, SIGGRAPH
2007). What is seen follows Beer and Lambert: opacity is 1 - exp(-density), and light adds up in
linear light, not in sRGB bytes. Arrays in, arrays out.
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

_LIFE_S: Final = np.array([1.6, 1.6, 14, 60], np.float32)
"""Velocity is rubbed away, heat is radiated, smoke thins out: time to a share of 1 / e."""

_MIXING_PER_S: Final = np.array([4, 4, 1.4, 1.4], np.float32)
"""Eddies too small for the grid mix smoke with clean air. Two dimensions lack the cascade to ever
smaller eddies: without this, smoke would wind up into threads as no real plume does."""


def to_linear(image: Rgb) -> Plane:
    """Turn sRGB bytes into linear light, 0 to 1; any shape."""
    return _TO_LINEAR[image]


def from_linear(light: Plane) -> Rgb:
    """Turn linear light, clipped to 0 to 1, into sRGB bytes; any shape."""
    return cast("Rgb", _FROM_LINEAR[(np.clip(light, 0, 1) * (_FINE - 1) + 0.5).astype(np.int32)])


class PlumeSimulator:
    """A plume on a grid of its own, released at the middle of the lower edge.

    Lengths are in cells, times in seconds. The same arguments and steps give the same plume.

    Args:
        height: Rows of the grid, at least 16.
        width: Columns of the grid, at least 16.
        seed: Chooses the turbulence and the fire's moods.
        wind: Columns per second at the top of the grid; near the ground it is a quarter of that.
        rise: Rows per second of the hot smoke over the source; it slows down with height.
        turbulence: Typical speed of the wind's own eddies in cells per second.
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
        self._height, self._width = height, width
        # The cosine transform wants even sides.
        shape = (height + height % 2, width + width % 2)
        self._rows, self._columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
        up = 1 - self._rows / (shape[0] - 1)
        # Much of the rise is given, which keeps a column standing; heat and puffs make the rest.
        drift = np.stack([wind * (0.25 + 0.75 * up), -0.6 * rise * (1 - 0.4 * up)])
        self._drift = drift.astype(np.float32)
        self._size = 0.025 * height + 0.7
        self._rise = np.float32(rise)
        self._lift = np.float32(rise**2 / (3 * self._size))
        self._gusts = np.float32(0.5 * turbulence)
        self._inverse = _inverse_laplacian(shape)
        self._state = np.zeros((*shape, 4), np.float32)
        """Velocity along columns and rows besides the wind, heat, and optical depth."""
        # Two noise fields, turned into each other over time: eddies live about as long as that.
        self._phase = 0.0
        self._eddies = [self._swirl() for _ in range(2)]
        self._mood = self._random.standard_normal(3)
        self._rim = _fade_at_rim(height, width)

    @property
    def density(self) -> Plane:
        """(height, width), optical depth along the line of sight, at least 0; fades at the rim."""
        return cast("Plane", self._state[-self._height :, : self._width, 3] * self._rim)

    def step(self, seconds: float, *, strength: float = 1.0) -> None:
        """Let *seconds* pass while the source smokes with *strength*, 0 for a dead fire."""
        steps = math.ceil(seconds / _STEP_S)
        for _ in range(steps):
            self._step(np.float32(seconds / steps), strength)

    def _step(self, seconds: np.float32, strength: float) -> None:
        across, down = self._drift + self._gust(seconds)
        origin = (
            self._columns - (across + self._state[..., 0]) * seconds,
            self._rows - (down + self._state[..., 1]) * seconds,
        )
        # Cubic: linear would wash the puffs out within seconds.
        moved = cast("Plane", cv2.remap(self._state, *origin, cv2.INTER_CUBIC))
        moved += _MIXING_PER_S * seconds * (cv2.GaussianBlur(moved, (0, 0), 1.5) - moved)
        np.maximum(moved[..., 2:], 0, out=moved[..., 2:])
        moved *= np.exp(-seconds / _LIFE_S)
        moved[..., 1] -= self._lift * seconds * moved[..., 2]
        self._release(moved, float(seconds), strength)
        self._project(moved)
        self._state = moved

    def _release(self, state: Plane, seconds: float, strength: float) -> None:
        """Add hot smoke at the source, in puffs: a fire breathes."""
        keep = math.exp(-seconds / 0.7)
        self._mood = keep * self._mood + math.sqrt(1 - keep**2) * self._random.standard_normal(3)
        x = self._width / 2 + 0.45 * self._size * self._mood[0]
        y = len(state) - 1 - self._size * (0.4 + 0.3 * abs(self._mood[1]))
        amount = strength * seconds * math.exp(0.55 * self._mood[2])
        puff = np.exp(
            -((self._columns[0] - x) ** 2)[None] / (2 * self._size**2)
            - ((self._rows[:, 0] - y) ** 2)[:, None] / (2 * self._size**2)
        ).astype(np.float32)
        if strength > 0:
            jet = np.float32(min(1.0, 3 * seconds)) * puff
            state[..., 1] -= jet * (1.5 * self._rise + state[..., 1])
        state[..., 2] += np.float32(1.1 * amount) * puff
        state[..., 3] += np.float32(5 * amount) * puff

    def _project(self, state: Plane) -> None:
        """Take the divergence out of the velocity, in place: air is not compressed."""
        across, down = state[..., 0], state[..., 1]
        divergence = np.zeros_like(across)
        divergence[:, 1:-1] += across[:, 2:] - across[:, :-2]
        divergence[1:-1] += down[2:] - down[:-2]
        pressure = cv2.idct(cv2.dct(divergence * np.float32(0.5)) * self._inverse)
        across[:, 1:-1] -= 0.5 * (pressure[:, 2:] - pressure[:, :-2])
        down[1:-1] -= 0.5 * (pressure[2:] - pressure[:-2])
        across[:, [0, -1]] = 0
        down[[0, -1]] = 0

    def _gust(self, seconds: np.float32) -> Plane:
        """The wind's eddies, (2, rows, columns): speeds along columns and rows."""
        self._phase += float(seconds) / 3.0
        while self._phase >= 1:
            self._phase -= 1
            self._eddies = [self._eddies[1], self._swirl()]
        angle = self._phase * math.pi / 2
        old, new = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        return cast("Plane", self._gusts * (old * self._eddies[0] + new * self._eddies[1]))

    def _swirl(self) -> Plane:
        """The curl of smooth noise, (2, rows, columns), mean square 1: no sources, no sinks."""
        height, width = self._rows.shape
        stream = np.zeros((height, width), np.float32)
        for octave, weight in ((3, 1.0), (8, 0.5), (18, 0.3)):
            cells = (max(2, octave * height // max(height, width)) + 2, octave + 2)
            grid = self._random.standard_normal(cells).astype(np.float32)
            stream += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        down, across = np.gradient(stream)
        swirl = np.stack([down, -across])
        return cast("Plane", swirl / (np.sqrt(np.mean(swirl**2)) + np.float32(1e-6)))


def _inverse_laplacian(shape: tuple[int, int]) -> Plane:
    """What divides by the Laplacian in the cosine transform of a field with walls around it."""
    rows, columns = (2 - 2 * np.cos(np.pi * np.arange(size) / size) for size in shape)
    eigenvalues = -(rows[:, None] + columns)
    eigenvalues[0, 0] = 1
    inverse = 1 / eigenvalues
    inverse[0, 0] = 0  # The mean pressure moves nothing.
    return cast("Plane", inverse.astype(np.float32))


def _fade_at_rim(height: int, width: int) -> Plane:
    """1 inside, falling to 0 at the sides and the top, where smoke leaves the grid."""
    columns, rows = np.arange(width) + 0.5, np.arange(height) + 0.5
    sides = np.clip(np.minimum(columns, width - columns) / (0.14 * width), 0, 1)
    top = np.clip(rows / (0.22 * height), 0, 1)
    return (_smooth(top)[:, None] * _smooth(sides)).astype(np.float32)


def _smooth(share: NDArray[np.floating]) -> NDArray[np.floating]:
    return share**2 * (3 - 2 * share)


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
