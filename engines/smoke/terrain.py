"""Generates mountain terrain from a seed: heights, woods and light on the ground.

Heights are ridged multifractal noise (Musgrave, Kolb, Mace: The Synthesis and Rendering of Eroded
Fractal Terrains, SIGGRAPH 1989). Woods are crowns scattered on a jittered grid (Worley: A Cellular
Texture Basis Function, SIGGRAPH 1996). Repeating detail is stored as small tiles and sampled at
world coordinates. Lengths are in metres: x to the right, z away from the camera, height up.
"""

from typing import Final, cast

import cv2
import numpy as np
from numpy.random import Generator

from engines.smoke.compositing import Plane

_GRID: Final = 1024
_CELL_M: Final = 32.0
"""The map is 33 km wide and deep, the visual range of a hazy day."""

_TILE: Final = 512
_CROWN_TILE_M: Final = 640.0
_CROWNS: Final = 88
"""Trees stand about seven metres apart."""

_CROWN_M: Final = 15.0
_GULLY_TILE_M: Final = 2000.0
_GULLY_M: Final = 9.0

TOWARDS_SUN: Final = np.array([-0.69, 0.61, -0.39], np.float32)
"""Unit vector (x, height, z): afternoon sun over the left shoulder."""


class Terrain:
    """Mountain terrain.

    Args:
        seed: Chooses all of it.
    """

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        heights = _mountains(rng)
        down, right = np.gradient(heights, _CELL_M)
        self._map = np.dstack([heights, right, down, _sunlit(heights)])
        """Height, its slopes along x and z, and the fraction of sunlight, 0 to 1."""
        gullies = noise_tile(rng, _TILE, steepness=1.7) * np.float32(_GULLY_M)
        self._gullies = np.dstack([gullies, *_tile_slopes(gullies, _GULLY_TILE_M)])
        crowns, tone = _crown_tile(rng)
        self._crowns = np.dstack([crowns, tone, *_tile_slopes(crowns * _CROWN_M, _CROWN_TILE_M)])
        self._patches = noise_tile(rng, _TILE, steepness=1.35)
        self._grain = noise_tile(rng, _TILE, steepness=0.7)

    def ground(self, x: Plane, z: Plane) -> tuple[Plane, Plane, Plane, Plane]:
        """Return height, slopes along x and z, and sunlight, without woods, of the shape of `x`."""
        coarse = _on_map(self._map, x, z, smoothing=cv2.INTER_LINEAR)
        fine = sample_tile(self._gullies, x, z, across_m=_GULLY_TILE_M)
        total = coarse[..., :3] + fine
        return total[..., 0], total[..., 1], total[..., 2], coarse[..., 3]

    def canopy(self, x: Plane, z: Plane) -> tuple[Plane, Plane, Plane, Plane]:
        """Return crown height, 0 to 1, tone of the tree, and the crown's slopes along x and z."""
        crowns = sample_tile(self._crowns, x, z, across_m=_CROWN_TILE_M)
        return crowns[..., 0], crowns[..., 1], crowns[..., 2], crowns[..., 3]

    def woods(self, x: Plane, z: Plane) -> Plane:
        """Return the density of the woods, 0 to 1."""
        broad = self.patches(x, z, across_m=5200)
        return cast("Plane", np.clip(2.2 * broad + 1.3 * self.patches(x, z, 1300) + 1.35, 0, 1))

    def patches(self, x: Plane, z: Plane, across_m: float) -> Plane:
        """Return noise of deviation 1 that repeats after `across_m`."""
        return sample_tile(self._patches, x, z, across_m=across_m)

    def grain(self, x: Plane, z: Plane) -> Plane:
        """Return fine noise of deviation 1: grass, stones, twigs."""
        return sample_tile(self._grain, x, z, across_m=410)

    def tops(self, x: Plane, z: Plane) -> Plane:
        """Return the height of the visible surface: ground, or crowns in the woods."""
        crown = sample_tile(
            np.ascontiguousarray(self._crowns[..., 0]), x, z, across_m=_CROWN_TILE_M
        )
        heights = np.ascontiguousarray(self._map[..., 0])
        gullies = np.ascontiguousarray(self._gullies[..., 0])
        # Cubic: linear interpolation would show facets along the skyline.
        ground = _on_map(heights, x, z, smoothing=cv2.INTER_CUBIC)
        ground = ground + sample_tile(gullies, x, z, across_m=_GULLY_TILE_M)
        return cast("Plane", ground + _CROWN_M * crown * self.woods(x, z))


def _on_map(field: Plane, x: Plane, z: Plane, *, smoothing: int) -> Plane:
    """Sample the map at world coordinates; its edges are replicated."""
    at = (x / np.float32(_CELL_M) + np.float32(_GRID / 2), z / np.float32(_CELL_M))
    return cast("Plane", cv2.remap(field, *at, smoothing, borderMode=cv2.BORDER_REPLICATE))


def sample_tile(tile: Plane, x: Plane, z: Plane, *, across_m: float) -> Plane:
    """Sample a tile that repeats after `across_m` in both directions, at world coordinates."""
    cells = tile.shape[0]
    rim = cv2.copyMakeBorder(tile, 0, 1, 0, 1, cv2.BORDER_WRAP)
    columns, rows = (at * np.float32(1 / across_m) for at in (x, z))
    columns -= np.floor(columns)
    rows -= np.floor(rows)
    scaled = (columns * np.float32(cells), rows * np.float32(cells))
    return cast("Plane", cv2.remap(rim, *scaled, cv2.INTER_LINEAR))


def noise_tile(rng: Generator, cells: int, *, steepness: float) -> Plane:
    """Return periodic noise (cells, cells), mean 0, deviation 1, amplitude f**-steepness."""
    frequency = np.hypot(np.fft.fftfreq(cells)[:, None], np.fft.rfftfreq(cells)[None])
    frequency[0, 0] = np.inf
    white = np.fft.rfft2(rng.standard_normal((cells, cells), np.float32))
    tile = np.fft.irfft2(white / frequency**steepness, (cells, cells))
    return cast("Plane", (tile / tile.std()).astype(np.float32))


def _mountains(rng: Generator) -> Plane:
    """Return the heights of the map: hills in front, higher ranges behind."""
    rows, columns = np.mgrid[0:_GRID, 0:_GRID].astype(np.float32)
    # Domain warping removes the noise's regularity.
    bend = [14 * _octaves(rng, cells=6, octaves=4) for _ in range(2)]
    straight = _ridged(rng, cells=9, octaves=7)
    bent = (columns + bend[0], rows + bend[1])
    ridges = cv2.remap(straight, *bent, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    broad = _spread(_octaves(rng, cells=4, octaves=3))
    away_m = rows * np.float32(_CELL_M)
    size_m = 560 + 520 * np.clip((away_m - 3000) / 16_000, 0, 1)
    heights = size_m * (0.3 + _spread(cast("Plane", ridges)) * (0.32 + 0.81 * broad)) + 60 * (
        broad - 0.5
    )
    # The terrain falls away from the camera's hill.
    return cast("Plane", (heights * np.clip(0.5 + away_m / 6000, 0, 1)).astype(np.float32))


def _octaves(rng: Generator, *, cells: int, octaves: int) -> Plane:
    total = np.zeros((_GRID, _GRID), np.float32)
    for octave in range(octaves):
        total += np.float32(0.5**octave) * _smooth(rng, cells * 2**octave)
    return total


def _ridged(rng: Generator, *, cells: int, octaves: int) -> Plane:
    """Return ridged noise: ridges at its zeros, finer ridges only on coarse ones."""
    total = np.zeros((_GRID, _GRID), np.float32)
    weight = np.ones((_GRID, _GRID), np.float32)
    for octave in range(octaves):
        noise = np.abs(_smooth(rng, min(cells * 2**octave, _GRID - 3)))
        crease = (1 - np.minimum(1, 0.9 * noise)) ** 2
        total += np.float32(0.48**octave) * weight * crease
        weight = np.clip(1.6 * crease, 0, 1)
    return total


def _smooth(rng: Generator, cells: int) -> Plane:
    grid = rng.standard_normal((cells + 3, cells + 3), np.float32)
    return cast("Plane", cv2.resize(grid, (_GRID, _GRID), interpolation=cv2.INTER_CUBIC))


def _spread(field: Plane) -> Plane:
    low, high = np.quantile(field[::4, ::4], (0.002, 0.998))
    return cast("Plane", ((field - low) / (high - low)).astype(np.float32))


def _tile_slopes(tile: Plane, across_m: float) -> tuple[Plane, Plane]:
    step_m = across_m / tile.shape[0]
    right = (np.roll(tile, -1, axis=1) - np.roll(tile, 1, axis=1)) / np.float32(2 * step_m)
    down = (np.roll(tile, -1, axis=0) - np.roll(tile, 1, axis=0)) / np.float32(2 * step_m)
    return right, down


def _sunlit(heights: Plane) -> Plane:
    """Return the fraction of sunlight that is not blocked by other mountains, 0 to 1."""
    level = float(np.hypot(TOWARDS_SUN[0], TOWARDS_SUN[2]))
    right, away = TOWARDS_SUN[0] / level, TOWARDS_SUN[2] / level
    rise_m = _CELL_M * float(TOWARDS_SUN[1]) / level
    highest = np.full_like(heights, -np.inf)
    for steps in np.arange(2, 50, 2):
        shift = np.array([[1, 0, -right * steps], [0, 1, -away * steps]])
        moved = cv2.warpAffine(heights, shift, (_GRID, _GRID), borderMode=cv2.BORDER_REPLICATE)
        np.maximum(highest, moved - rise_m * steps, out=highest)
    return cast("Plane", np.clip(1 - (highest - heights) / 25, 0, 1))


def _crown_tile(rng: Generator) -> tuple[Plane, Plane]:
    """Return crowns on a jittered grid: height, 0 to 1, and tone of each tree, (_TILE, _TILE)."""
    grid = (_CROWNS, _CROWNS)
    south, east = (rng.random(grid, np.float32) for _ in range(2))
    tall, wide = (rng.uniform(0.55, high, grid).astype(np.float32) for high in (1.0, 0.95))
    tones = rng.standard_normal(grid, np.float32)
    at = (np.arange(_TILE, dtype=np.float32) + 0.5) * (_CROWNS / _TILE)
    rows, columns = np.meshgrid(at, at, indexing="ij")
    height, tone = np.zeros_like(rows), np.zeros_like(rows)
    for row_shift in (-1, 0, 1):
        for column_shift in (-1, 0, 1):
            row, column = rows.astype(np.intp) + row_shift, columns.astype(np.intp) + column_shift
            tree = (row % _CROWNS, column % _CROWNS)
            down = rows - row.astype(np.float32) - south[tree]
            right = columns - column.astype(np.float32) - east[tree]
            away = np.hypot(down, right) / wide[tree]
            crown = tall[tree] * np.clip(1 - away**1.5, 0, 1)
            higher = crown > height
            height, tone = np.where(higher, crown, height), np.where(higher, tones[tree], tone)
    return height, tone
