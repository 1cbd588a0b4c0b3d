"""A mountain landscape of our own making, as a fire-watch camera sees it.

Ridge behind ridge under a drifting sky, each paler with distance (aerial perspective:
Koschmieder 1924). Everything is in linear light; a seed chooses the landscape. It exists so that
the project can show itself without anybody's footage.
"""

from typing import Final, cast

import cv2
import numpy as np

from .plume import Plane

_RIDGES: Final = 5
_ZENITH: Final = np.array([0.17, 0.30, 0.54], np.float32)
_HORIZON: Final = np.array([0.60, 0.68, 0.74], np.float32)
_FOREST: Final = np.array([0.030, 0.048, 0.022], np.float32)
_MEADOW: Final = np.array([0.135, 0.140, 0.052], np.float32)
_CLOUD: Final = np.array([0.86, 0.87, 0.88], np.float32)
_CLOUD_DRIFT: Final = 0.0009
"""Widths of the picture that clouds drift per second: about a pixel at 1280."""


class Landscape:
    """A view that stands still under clouds that do not.

    Args:
        height: Pixels.
        width: Pixels.
        seed: Chooses everything.
    """

    def __init__(self, *, height: int, width: int, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._height, self._width = height, width
        self._terrain, self._cover, self._outlines = self._ground()
        self._sky = self._clear_sky()
        self._clouds = self._cloud_layer()

    def light(self, seconds: float) -> Plane:
        """The scene at a time, (height, width, 3), linear light."""
        shift = int(seconds * _CLOUD_DRIFT * self._width)
        opacity = np.roll(self._clouds, shift, axis=1)[:, : self._width, None]
        sky = self._sky + opacity * (_CLOUD - self._sky)
        return sky + self._cover[..., None] * (self._terrain - sky)

    def stand(self, x: float) -> tuple[float, float]:
        """(y, x) in pixels of a place on the second ridge from the front, at a relative *x*."""
        column = int(x * (self._width - 1))
        return float(self._outlines[-2][column] + 0.02 * self._height), float(column)

    def _clear_sky(self) -> Plane:
        up = np.linspace(1, 0, self._height, dtype=np.float32)[:, None, None]
        towards = np.clip((up - 0.62) / 0.38, 0, 1) ** 0.8
        return cast(
            "Plane", np.tile(_HORIZON + towards * (_ZENITH - _HORIZON), (1, self._width, 1))
        )

    def _cloud_layer(self) -> Plane:
        """Opacity of the clouds, (height, 1.25 width); flatter and smaller towards the horizon."""
        wide = self._width * 5 // 4
        heap = self._fractal((self._height, wide), cells=(9, 7), octaves=6)
        rows = np.linspace(0, 1, self._height, dtype=np.float32)[:, None]
        band = np.clip(1 - np.abs(rows - 0.16) / 0.2, 0, 1)
        return cast("Plane", 0.8 * np.clip((heap - 0.52) * 3.2, 0, 1) * band)

    def _ground(self) -> tuple[Plane, Plane, list[Plane]]:
        """Light and cover of all ridges, and the outline of each, farthest first."""
        height, width = self._height, self._width
        light = np.zeros((height, width, 3), np.float32)
        cover = np.zeros((height, width), np.float32)
        rows = np.arange(height, dtype=np.float32)[:, None]
        outlines = []
        for index in range(_RIDGES):
            near = index / (_RIDGES - 1)
            outline = height * (0.40 + 0.42 * near**1.25) + self._outline(near)
            outlines.append(outline)
            inside = np.clip(rows - outline + 0.5, 0, 1)  # One pixel of soft edge.
            surface = self._surface(near, rows - outline)
            haze = np.float32(0.93 * (1 - near) ** 1.1 + 0.04)
            seen = surface + haze * (0.88 * _HORIZON - surface)
            light += inside[..., None] * (seen - light)
            cover = np.maximum(cover, inside)
        return light, cover, outlines

    def _outline(self, near: float) -> Plane:
        """Height of a ridge over its mean in pixels, (width,); trees stand out on the near ones."""
        hills = self._fractal((1, self._width), cells=(1, 3 + int(3 * near)), octaves=6)[0] - 0.5
        needles = self._random.random(self._width).astype(np.float32) ** 3
        trees = cv2.GaussianBlur(needles[None], (0, 0), 0.6 + 0.6 * near)[0]
        return cast(
            "Plane", -self._height * ((0.30 - 0.12 * near) * hills + 0.022 * near**2 * trees)
        )

    def _surface(self, near: float, depth: Plane) -> Plane:
        """What grows on a ridge, (height, width, 3): forest, and meadows low on the near ones."""
        height, width = self._height, self._width
        cells = (int(60 - 30 * near), int(110 - 60 * near))
        crowns = self._fractal((height, width), cells=cells, octaves=4, fade=0.75)
        patches = self._fractal((height, width), cells=(4, 5), octaves=5)
        open_ground = np.clip((patches - 0.55 - 0.1 * (1 - near)) * 7, 0, 1)
        low = np.clip(depth / (0.06 * height + 1) - 0.6, 0, 1)
        meadow = (open_ground * low)[..., None]
        crowns = np.clip(crowns, 0, 1)
        lit = (0.35 + 1.3 * crowns)[..., None]
        forest = _FOREST * lit
        grass = _MEADOW * (0.75 + 0.5 * crowns[..., None])
        return cast("Plane", forest + meadow * (grass - forest))

    def _fractal(
        self, size: tuple[int, int], *, cells: tuple[int, int], octaves: int, fade: float = 0.5
    ) -> Plane:
        """Smooth noise at ever finer scales, (h, w); mean one half, mostly within 0 to 1."""
        total = np.zeros(size, np.float32)
        for octave in range(octaves):
            grid_size = tuple(min(count * 2**octave + 2, 4096) for count in cells)
            grid = self._random.random(grid_size).astype(np.float32)
            fine = cv2.resize(grid, size[::-1], interpolation=cv2.INTER_CUBIC)
            total += (fine - 0.5) * np.float32(fade**octave)
        return cast("Plane", 0.5 + total / (4.2 * total.std() + 1e-6))
