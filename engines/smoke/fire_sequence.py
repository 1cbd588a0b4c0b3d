"""A fire that starts in a photograph: pictures of one view through time, with the exact opacity.

The plume is simulated, lit by the scene's own sky and stands on its terrain; sensor noise is new in
every picture, and each goes through x264 as a camera's key frame does. Any number of clips follow
from pictures and seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from engines.smoke.plume import PlumeSimulator, composite, place, sky_light
from engines.smoke.synthesis import ground, x264

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engines.smoke.compositing import Plane, Rgb

GRID = (120, 160)
"""(rows, columns) of the simulation."""
NOISE = (1.0, 3.0)
"""Standard deviation of the sensor's noise in bytes, least and most."""
QUALITY = (23, 30)
"""x264's constant rate factor, best and worst: about 4 and 1 Mbit/s at 1080p25."""


@dataclass(frozen=True, slots=True, eq=False)
class SequenceFrame:
    """One picture of a clip."""

    seconds: float
    """Since the fire began; below 0 before it."""
    image: Rgb
    """(h, w, 3)."""
    alpha: Plane
    """(h, w), exact opacity of the smoke, 0 to 1."""


def growing(
    scene: Rgb,
    *,
    seed: int,
    seconds: int = 40,
    before: int = 5,
    reach: tuple[float, float] = (0.08, 0.3),
    thickness: tuple[float, float] = (0.5, 1.5),
) -> Iterator[SequenceFrame]:
    """Let a fire start in a picture; one picture a second.

    Args:
        scene: (h, w, 3) RGB without smoke.
        seed: Chooses place, wind, light, noise and quality.
        seconds: Length of the fire.
        before: Seconds before it.
        reach: Height of the whole plume when grown as a share of the picture's, from and to.
        thickness: What its optical depth is multiplied by, from and to.
    """
    random = np.random.default_rng(seed)
    height, width = scene.shape[:2]
    plume = PlumeSimulator(
        height=GRID[0],
        width=GRID[1],
        seed=seed,
        wind=float(random.normal(0, 5)),
        rise=float(random.uniform(4, 10)),
    )
    anchor = (
        ground(scene, random, close=False) * height,
        float(random.uniform(0.12, 0.88)) * width,
    )
    tall = float(random.uniform(*reach)) * height
    thick = float(random.uniform(*thickness))
    sky = sky_light(scene)
    # Smoke is greyer than the sky that lights it.
    light = (sky + 0.7 * (sky.mean() - sky)) * np.float32(random.uniform(0.7, 1.2))
    noise = float(random.uniform(*NOISE))
    quality = int(random.integers(QUALITY[0], QUALITY[1] + 1))
    for second in range(-before, seconds):
        if second >= 0:
            plume.step(1.0, strength=min(1.0, 0.4 + 0.03 * second))
        density = place(plume.density, into=(height, width), anchor=anchor, height_px=tall)
        image, alpha = composite(
            scene, density, opacity=thick, air_light=np.minimum(light, np.float32(0.97))
        )
        grain = random.normal(0, noise, scene.shape).astype(np.float32)
        noisy = cast("Rgb", cv2.add(image, grain, dtype=cv2.CV_8U))
        yield SequenceFrame(float(second), x264(noisy, crf=quality), alpha)
