"""Renders a landscape as a fire-watch camera sees it, for the demonstration clip.

The terrain of `terrain.py` is rendered by casting rays through its height map, column by column.
Aerial perspective follows Koschmieder (1924): light is lost with distance and airlight is added.
Clouds are thin drifting slabs. Everything is linear light.
"""

from dataclasses import dataclass
from typing import Final, cast

import cv2
import numpy as np

from engines.smoke.compositing import Plane
from engines.smoke.terrain import TOWARDS_SUN, Terrain, noise_tile, sample_tile

_FINER: Final = 1.5
"""Rays per pixel and axis, against aliasing of crowns and skylines."""

_NEAR_M: Final = 420.0
_FAR_M: Final = 32_000.0
_STEPS: Final = 1400
"""Samples of a ray, in geometric progression: 0.3 % apart, a tree's width at 2 km."""

_VIEW_DEGREES: Final = 50.0
_HORIZON: Final = 0.36
"""Row of the horizon as a fraction of the height."""

_EYE_M: Final = 215.0
"""Height of the camera above the terrain near it."""

_SUN_LIGHT: Final = np.array([1.90, 1.74, 1.48], np.float32)
_SKY_LIGHT: Final = np.array([0.26, 0.30, 0.37], np.float32)
_TREE: Final = np.array([0.044, 0.058, 0.020], np.float32)
_GRASS: Final = np.array([0.175, 0.160, 0.072], np.float32)
_ROCK: Final = np.array([0.215, 0.20, 0.18], np.float32)
_AIR: Final = np.array([0.56, 0.65, 0.76], np.float32)
_LOST_PER_KM: Final = np.array([0.038, 0.048, 0.064], np.float32)
"""Extinction of red, green and blue: a visual range of about 80 km."""

_AIR_HEIGHT_M: Final = 1400.0
_LOW_SKY: Final = np.array([0.68, 0.76, 0.84], np.float32)
_HIGH_SKY: Final = np.array([0.12, 0.27, 0.60], np.float32)
_CLOUD_LIGHT: Final = np.array([1.02, 1.0, 0.98], np.float32)
_CLOUD_SHADE: Final = np.array([0.56, 0.60, 0.66], np.float32)
_CLOUD_SLABS: Final = 12
_CLOUD_BASE_M: Final = 1500.0
_CLOUD_SLAB_M: Final = 36.0
_CLOUD_LEAST: Final = 0.95
"""Noise threshold of the lowest slab; it rises with height, which makes cumulus shapes."""
_CLOUD_TILE_M: Final = 19_000.0
_WIND_M_S: Final = 9.0
_SITE_M: Final = (1800.0, 5500.0)
_BEHIND_CREST_M: Final = 60.0
"""Distance of the fire behind the crest: trees hide its base."""


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """A place on the ground for a fire."""

    x: float
    """Column in pixels."""
    y: float
    """Row in pixels."""
    distance_m: float
    """Distance from the camera."""
    air: Plane
    """(3,) linear light of the air between camera and site."""
    clear: Plane
    """(3,) transmittance of that air."""
    seen: Plane
    """(height, width), 1 where nothing nearer hides smoke at the site."""


class Landscape:
    """A static landscape under moving clouds.

    Args:
        height: Pixels.
        width: Pixels.
        seed: Chooses everything.
    """

    def __init__(self, *, height: int, width: int, seed: int) -> None:
        self._height, self._width = height, width
        rng = np.random.default_rng(seed + 1)
        self._rays = _Rays(
            Terrain(seed), height=round(_FINER * height), width=round(_FINER * width)
        )
        self._ground = self._coarse(self._rays.light())
        self._cover = self._coarse(np.isfinite(self._rays.away_m).astype(np.float32))
        with_sky = np.flatnonzero(self._cover.min(axis=1) < 1)
        self.sky_rows: int = int(with_sky.max(initial=0)) + 1
        """Rows from the top that contain sky; the others never change."""
        self._clouds = noise_tile(rng, 1024, steepness=1.75)
        self._lens = self._vignette()

    def light(self, seconds: float) -> Plane:
        """Return the scene at a time, (height, width, 3), linear light, 0 to 1."""
        still = _tone(self._ground[self.sky_rows :]) * self._lens[self.sky_rows :]
        return cast("Plane", np.concatenate([self.sky(seconds), still]))

    def sky(self, seconds: float) -> Plane:
        """Return the rows that change with time, (sky_rows, width, 3)."""
        rows = np.s_[: self.sky_rows]
        light = self._ground[rows] + (1 - self._cover[rows, :, None]) * self._heaven(seconds)
        return cast("Plane", _tone(light) * self._lens[rows])

    def site(self, x: float) -> Site:
        """Return a site near relative column `x`: a crest before dark ground, where smoke shows."""
        away = cv2.resize(
            self._rays.away_m, (self._width, self._height), interpolation=cv2.INTER_NEAREST
        )
        above = max(1, self._height // 90)
        behind = np.roll(away, above, axis=0)
        behind[:above] = 0
        crest = (away > _SITE_M[0]) & (away < _SITE_M[1]) & (behind > 1.3 * away)
        tall, wide = self._height // 6, self._width // 16
        brightness = cv2.blur(self.light(0).mean(axis=2), (wide, tall))
        # The plume fills a box above the site.
        cost = np.roll(brightness, tall // 2, axis=0)
        cost += np.abs(np.linspace(0, 1, self._width, dtype=np.float32) - np.float32(x))
        # Without a visible crest any ground is accepted.
        cost[~crest] += 10
        cost[~np.isfinite(away)] += 100
        cost[: 2 * tall] += 100
        row, column = divmod(int(np.argmin(cost)), self._width)
        distance_m = float(away[row, column]) + _BEHIND_CREST_M
        through = _through_air(np.full((), distance_m, np.float32), np.zeros((), np.float32))
        return Site(
            x=float(column),
            y=float(row),
            distance_m=distance_m,
            air=_AIR * (1 - through),
            clear=through,
            seen=self._coarse((self._rays.away_m >= distance_m).astype(np.float32)),
        )

    def _coarse(self, fine: Plane) -> Plane:
        size = (self._width, self._height)
        return cast("Plane", cv2.resize(fine, size, interpolation=cv2.INTER_AREA))

    def _vignette(self) -> Plane:
        rows, columns = np.ogrid[-1 : 1 : self._height * 1j, -1 : 1 : self._width * 1j]
        shade = 1 - 0.11 * (rows**2 + columns**2)
        return cast("Plane", shade.astype(np.float32)[..., None])

    def _heaven(self, seconds: float) -> Plane:
        """Return sky and clouds, (sky_rows, width, 3), linear light."""
        # At half the resolution of the image: clouds are soft.
        focal = self._rays.focal / _FINER / 2
        rows = np.arange((self.sky_rows + 1) // 2, dtype=np.float32)[:, None]
        width = (self._width + 1) // 2
        up = np.maximum((_HORIZON * self._height / 2 - rows - 0.5) / focal, 1e-3)
        up = up.astype(np.float32)
        across = ((np.arange(width) + 0.5 - width / 2) / focal).astype(np.float32)
        high = (1 - np.exp(-np.degrees(np.arctan(up)) / 10)).astype(np.float32)[..., None]
        # The sky is brighter on the sun's side.
        side = np.linspace(1.08, 0.94, width, dtype=np.float32)[:, None]
        sky = (_LOW_SKY + high * (_HIGH_SKY - _LOW_SKY)) * side
        for slab in reversed(range(_CLOUD_SLABS)):
            share = slab / (_CLOUD_SLABS - 1)
            away_m = (_CLOUD_BASE_M + _CLOUD_SLAB_M * slab) / up * np.ones_like(across)
            x_m = away_m * across - np.float32(_WIND_M_S * seconds)
            noise = sample_tile(self._clouds, x_m, away_m, across_m=_CLOUD_TILE_M)
            least = np.float32(_CLOUD_LEAST + 0.9 * share**1.5)
            near = np.exp(-away_m / 30_000)
            opacity = (1 - np.exp(-2.2 * np.clip(noise - least, 0, None))) * near
            light = _CLOUD_SHADE + np.float32(0.15 + 0.85 * share) * (_CLOUD_LIGHT - _CLOUD_SHADE)
            sky += opacity[..., None] * (light - sky)
        return cast("Plane", cv2.resize(sky, (self._width, self.sky_rows)))


class _Rays:
    """Distance and light of the ground for each ray of the camera."""

    def __init__(self, terrain: Terrain, *, height: int, width: int) -> None:
        self._terrain = terrain
        self._height, self._width = height, width
        self.focal = width / 2 / float(np.tan(np.radians(_VIEW_DEGREES / 2)))
        self._across = ((np.arange(width) + 0.5 - width / 2) / self.focal).astype(np.float32)
        self._eye_m = self._stand_up()
        self.away_m = self._cast()
        """(height, width): distance of the ground; infinite in the sky."""

    def light(self) -> Plane:
        """Return the light of the ground through the air, (height, width, 3); 0 in the sky."""
        top = int(np.flatnonzero(np.isfinite(self.away_m).any(axis=1))[0])
        z = self.away_m[top:]
        ground = np.isfinite(z)
        z = np.where(ground, z, np.float32(_FAR_M))
        x = z * self._across
        lit, height = self._surface(x, z)
        through = _through_air(z, cast("Plane", (height + self._eye_m) / 2))
        light = np.zeros((self._height, self._width, 3), np.float32)
        light[top:] = (lit * through + _AIR * (1 - through)) * ground[..., None]
        return light

    def _stand_up(self) -> float:
        """Return the height of the camera, well above the terrain in front of it."""
        z = np.linspace(_NEAR_M, 2500, 64, dtype=np.float32)[:, None] * np.ones(64, np.float32)
        x = z * np.linspace(-0.4, 0.4, 64, dtype=np.float32)
        return float(np.quantile(self._terrain.tops(x, z), 0.8)) + _EYE_M

    def _cast(self) -> Plane:
        z = np.geomspace(_NEAR_M, _FAR_M, _STEPS).astype(np.float32)[:, None]
        x = z * self._across
        tops = self._terrain.tops(x, z * np.ones_like(x))
        seen_at = np.float32(_HORIZON * self._height) - np.float32(self.focal) * (
            (tops - np.float32(self._eye_m)) / z
        )
        highest = np.minimum.accumulate(seen_at, axis=0)
        rows = np.arange(self._height, dtype=np.float32) + np.float32(0.5)
        first = np.empty((self._height, self._width), np.intp)
        for column in range(self._width):
            first[:, column] = _STEPS - np.searchsorted(highest[::-1, column], rows, side="right")
        step = np.clip(first, 1, _STEPS - 1)
        columns = np.arange(self._width)
        below, over = seen_at[step - 1, columns], seen_at[step, columns]
        share = np.clip((below - rows[:, None]) / np.maximum(below - over, 1e-3), 0, 1)
        away = z[step - 1, 0] + share * (z[step, 0] - z[step - 1, 0])
        return cast("Plane", np.where(first < _STEPS, away, np.float32(np.inf)))

    def _surface(self, x: Plane, z: Plane) -> tuple[Plane, Plane]:
        """Return the light that leaves the ground, (h, w, 3), and its height, (h, w)."""
        terrain = self._terrain
        height, right, away, sun = terrain.ground(x, z)
        woods = terrain.woods(x, z)
        crown, tone, crown_right, crown_away = terrain.canopy(x, z)
        speckle = terrain.grain(x, z) * np.clip(200 / z, 0, 0.2)
        # Trees finer than a pixel are a colour, not a relief.
        near = np.clip(3500 / z, 0.25, 1) * woods
        steep = np.hypot(right, away)
        right += 0.3 * near * crown_right
        away += 0.3 * near * crown_away
        upright = 1 / np.sqrt(1 + right**2 + away**2)
        sun = sun * np.clip(
            (TOWARDS_SUN[1] - right * TOWARDS_SUN[0] - away * TOWARDS_SUN[2]) * upright, 0, 1
        )
        open_sky = (0.6 + 0.4 * upright) * (1 - near * (0.7 - 0.7 * crown))
        light = sun[..., None] * _SUN_LIGHT + open_sky[..., None] * _SKY_LIGHT
        light *= (1 - 0.6 * near * (1 - crown) + speckle)[..., None]
        # Seen from afar, woods are closed; from near, the ground shows between the crowns.
        closed = np.clip(3500 / z, 0.25, 1)
        trees = woods * (1 - closed + closed * np.clip(0.25 + 2.2 * crown, 0, 1))
        patch = terrain.patches(x, z, 1700)
        tree = _TREE * (1 + 0.16 * near * tone + 0.12 * patch)[..., None]
        soil = _GRASS * (1 + 0.10 * terrain.patches(x, z, 260) + 0.08 * patch)[..., None]
        bare = 0.8 * np.clip(4 * (steep - 0.62) + 0.25 * patch, 0, 1)[..., None]
        soil += bare * (_ROCK - soil)
        return cast("Plane", (soil + trees[..., None] * (tree - soil)) * light), height


def _through_air(away_m: Plane, height_m: Plane) -> Plane:
    """Return the transmittance of red, green and blue, (..., 3); low air is denser."""
    thick_km = away_m / np.float32(1000) * np.exp((300 - height_m) / np.float32(_AIR_HEIGHT_M))
    return cast("Plane", np.exp(-thick_km[..., None] * _LOST_PER_KM))


def _tone(light: Plane) -> Plane:
    """Apply a camera's tone curve, which compresses highlights."""
    return cast("Plane", 1.32 * light / (1 + 0.35 * light))
