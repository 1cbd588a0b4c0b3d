"""Simulates a plume of smoke that grows, rises, shears and breaks up.

A two-dimensional fluid: advection is semi-Lagrangian (Stam: Stable Fluids, SIGGRAPH 1999), heat
lifts smoke (Fedkiw, Stam, Jensen: Visual Simulation of Smoke, SIGGRAPH 2001), wind shears it, and
curl noise stirs it (Bridson, Hourihan, Nordenstam: Curl-Noise for Procedural Fluid Flow, SIGGRAPH
2007). `compositing.py` draws the result over an image.
"""

import math
from typing import Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.smoke.compositing import Plane

_STEP_S: Final = 0.2
"""Longest time step: smoke moves by a few cells in it."""

_LIFE_S: Final = np.array([1.6, 1.6, 14, 60], np.float32)
"""Decay times to 1 / e of the two velocity components, of heat and of optical depth."""

_MIXING_PER_S: Final = np.array([4, 4, 1.4, 1.4], np.float32)
"""Mixing rates that stand for eddies below the grid's resolution. Two dimensions lack the cascade
to smaller eddies: without mixing, smoke would wind up into threads, unlike a real plume."""


class PlumeSimulator:
    """A plume on its own grid, released at the middle of the lower edge.

    Lengths are in cells, times in seconds. The same arguments and steps give the same plume.

    Args:
        height: Rows of the grid, at least 16.
        width: Columns of the grid, at least 16.
        seed: Of the turbulence and of the source's variation.
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
        self._rng = np.random.default_rng(seed)
        self._height, self._width = height, width
        # OpenCV's cosine transform needs even sides.
        shape = (height + height % 2, width + width % 2)
        self._rows, self._columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
        up = 1 - self._rows / (shape[0] - 1)
        # A given updraught keeps the column upright; heat and puffs add the rest.
        drift = np.stack([wind * (0.25 + 0.75 * up), -0.6 * rise * (1 - 0.4 * up)])
        self._drift = drift.astype(np.float32)
        self._size = 0.025 * height + 0.7
        self._rise = np.float32(rise)
        self._lift = np.float32(rise**2 / (3 * self._size))
        self._gusts = np.float32(0.5 * turbulence)
        self._inverse = _inverse_laplacian(shape)
        self._state = np.zeros((*shape, 4), np.float32)
        """Velocity along columns and rows relative to the wind, heat, and optical depth."""
        # Two noise fields are blended over time; the blend's duration is the eddies' lifetime.
        self._phase = 0.0
        self._eddies = [self._swirl() for _ in range(2)]
        self._variation = self._rng.standard_normal(3)
        self._rim = _fade_at_rim(height, width)

    @property
    def density(self) -> Plane:
        """(height, width), optical depth along the line of sight, at least 0; fades at the rim."""
        return cast("Plane", self._state[-self._height :, : self._width, 3] * self._rim)

    def step(self, seconds: float, *, strength: float = 1.0) -> None:
        """Advance by `seconds` while the source emits with `strength`; 0 for a fire that is out."""
        steps = math.ceil(seconds / _STEP_S)
        for _ in range(steps):
            self._step(np.float32(seconds / steps), strength)

    def _step(self, seconds: np.float32, strength: float) -> None:
        across, down = self._drift + self._gust(seconds)
        origin = (
            self._columns - (across + self._state[..., 0]) * seconds,
            self._rows - (down + self._state[..., 1]) * seconds,
        )
        # Cubic: linear interpolation would blur the puffs within seconds.
        moved = cast("Plane", cv2.remap(self._state, *origin, cv2.INTER_CUBIC))
        moved += _MIXING_PER_S * seconds * (cv2.GaussianBlur(moved, (0, 0), 1.5) - moved)
        np.maximum(moved[..., 2:], 0, out=moved[..., 2:])
        moved *= np.exp(-seconds / _LIFE_S)
        moved[..., 1] -= self._lift * seconds * moved[..., 2]
        self._release(moved, float(seconds), strength)
        self._project(moved)
        self._state = moved

    def _release(self, state: Plane, seconds: float, strength: float) -> None:
        """Add hot smoke at the source, in puffs."""
        decay = math.exp(-seconds / 0.7)
        self._variation = decay * self._variation + math.sqrt(
            1 - decay**2
        ) * self._rng.standard_normal(3)
        x = self._width / 2 + 0.45 * self._size * self._variation[0]
        y = len(state) - 1 - self._size * (0.4 + 0.3 * abs(self._variation[1]))
        amount = strength * seconds * math.exp(0.55 * self._variation[2])
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
        """Remove the divergence of the velocity in place: air is incompressible."""
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
        """Return the wind's eddies, (2, rows, columns): speed along columns and rows."""
        self._phase += float(seconds) / 3.0
        while self._phase >= 1:
            self._phase -= 1
            self._eddies = [self._eddies[1], self._swirl()]
        angle = self._phase * math.pi / 2
        old, new = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        return cast("Plane", self._gusts * (old * self._eddies[0] + new * self._eddies[1]))

    def _swirl(self) -> Plane:
        """Return the curl of smooth noise, (2, rows, columns), mean square 1: divergence-free."""
        height, width = self._rows.shape
        stream = np.zeros((height, width), np.float32)
        for octave, weight in ((3, 1.0), (8, 0.5), (18, 0.3)):
            cells = (max(2, octave * height // max(height, width)) + 2, octave + 2)
            grid = self._rng.standard_normal(cells).astype(np.float32)
            stream += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        down, across = np.gradient(stream)
        swirl = np.stack([down, -across])
        return cast("Plane", swirl / (np.sqrt(np.mean(swirl**2)) + np.float32(1e-6)))


def _inverse_laplacian(shape: tuple[int, int]) -> Plane:
    """Return the inverse Laplacian with Neumann boundaries in the cosine-transform domain."""
    rows, columns = (2 - 2 * np.cos(np.pi * np.arange(size) / size) for size in shape)
    eigenvalues = -(rows[:, None] + columns)
    eigenvalues[0, 0] = 1
    inverse = 1 / eigenvalues
    inverse[0, 0] = 0  # The mean pressure moves nothing.
    return cast("Plane", inverse.astype(np.float32))


def _fade_at_rim(height: int, width: int) -> Plane:
    """Return a window that falls from 1 to 0 at the sides and the top, where smoke leaves."""
    columns, rows = np.arange(width) + 0.5, np.arange(height) + 0.5
    sides = np.clip(np.minimum(columns, width - columns) / (0.14 * width), 0, 1)
    top = np.clip(rows / (0.22 * height), 0, 1)
    return (_smooth(top)[:, None] * _smooth(sides)).astype(np.float32)


def _smooth(share: NDArray[np.floating]) -> NDArray[np.floating]:
    return share**2 * (3 - 2 * share)


def place(
    density: Plane, *, into: tuple[int, int], anchor: tuple[float, float], height_px: float
) -> Plane:
    """Return optical depth (h, w) of a plume placed into an image with its source at `anchor`.

    Args:
        density: A simulator's field, with the source at the middle of the lower edge.
        into: (height, width) of the image.
        anchor: (y, x) of the source in pixels.
        height_px: Height of the whole field in pixels of the image.
    """
    rows, columns = density.shape
    scale = height_px / rows
    matrix = np.array(
        [[scale, 0, anchor[1] - scale * columns / 2], [0, scale, anchor[0] - scale * (rows - 1)]]
    )
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    placed = cv2.warpAffine(density, matrix, (into[1], into[0]), flags=smooth)
    return cast("Plane", np.maximum(placed, 0))
