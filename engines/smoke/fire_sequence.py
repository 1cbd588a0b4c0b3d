"""Simulates a fire that starts in a photograph: frames of one view over time, with exact opacity.

The plume is lit by the scene's own sky and stands on its terrain. Sensor noise is new in every
frame, and each frame is encoded by x264 like a key frame of a camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from engines.smoke.compositing import composite_density, sky_light
from engines.smoke.plume import PlumeSimulator, place
from engines.smoke.synthesis import horizon_row, x264

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
    """One frame of a sequence."""

    seconds: float
    """Since the fire started; negative before it."""
    image: Rgb
    """(h, w, 3)."""
    alpha: Plane
    """(h, w), exact opacity of the smoke, 0 to 1."""


def simulate(
    scene: Rgb,
    *,
    seed: int,
    seconds: int = 40,
    before: int = 5,
    reach: tuple[float, float] = (0.08, 0.3),
    thickness: tuple[float, float] = (0.5, 1.5),
) -> Iterator[SequenceFrame]:
    """Yield one frame per second of a fire that starts in an image.

    Args:
        scene: (h, w, 3) RGB without smoke.
        seed: Chooses place, wind, light, noise and quality.
        seconds: Length of the fire.
        before: Seconds before it.
        reach: Range of the grown plume's height, as a fraction of the image's.
        thickness: Range of the factor on its optical depth.
    """
    rng = np.random.default_rng(seed)
    height, width = scene.shape[:2]
    plume = PlumeSimulator(
        height=GRID[0],
        width=GRID[1],
        seed=seed,
        wind=float(rng.normal(0, 5)),
        rise=float(rng.uniform(4, 10)),
    )
    anchor = (
        horizon_row(scene, rng, close=False) * height,
        float(rng.uniform(0.12, 0.88)) * width,
    )
    tall = float(rng.uniform(*reach)) * height
    thick = float(rng.uniform(*thickness))
    sky = sky_light(scene)
    # Smoke is greyer than the sky that lights it.
    light = (sky + 0.7 * (sky.mean() - sky)) * np.float32(rng.uniform(0.7, 1.2))
    noise = float(rng.uniform(*NOISE))
    quality = int(rng.integers(QUALITY[0], QUALITY[1] + 1))
    for second in range(-before, seconds):
        if second >= 0:
            plume.step(1.0, strength=min(1.0, 0.4 + 0.03 * second))
        density = place(plume.density, into=(height, width), anchor=anchor, height_px=tall)
        image, alpha = composite_density(
            scene, density, opacity=thick, airlight=np.minimum(light, np.float32(0.97))
        )
        grain = rng.normal(0, noise, scene.shape).astype(np.float32)
        noisy = cast("Rgb", cv2.add(image, grain, dtype=cv2.CV_8U))
        yield SequenceFrame(float(second), x264(noisy, crf=quality), alpha)
