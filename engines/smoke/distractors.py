"""Distractors: what looks like smoke but is not, drawn over an image without a label.

Fog banks, haze, cumulus clouds and their shadows; dust along the ground; lens flare, drops and dirt
on the glass; passing objects.
"""

# ruff: noqa: PLR2004  random ranges stand where they act
from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from engines.smoke.compositing import clouds, composite, random_airlight

if TYPE_CHECKING:
    from numpy.random import Generator

    from engines.smoke.compositing import Plane, Rgb


def distract(image: Rgb, background: Rgb | None, rng: Generator) -> tuple[Rgb, Rgb | None]:
    """Draw one distractor, or none, over an image and sometimes over its background."""
    choice = rng.random()
    if choice < 0.3:
        image = composite(image, _veil(image, rng), airlight=random_airlight(image, rng), rng=rng)
        if background is not None and rng.random() < 0.5:
            background = composite(
                background, _veil(image, rng), airlight=random_airlight(image, rng), rng=rng
            )
    elif choice < 0.4 and background is not None:
        shade = 1 - rng.uniform(0.15, 0.6) * clouds(image.shape[:2], rng, cells=3)
        image = (image * shade[..., None]).astype(np.uint8)
    elif choice < 0.53 and background is not None:
        image = _pass_by(image, rng)
    elif choice < 0.58:
        image = _dust(image, rng)
    elif choice < 0.64:
        image = _flare(image, rng)
    elif choice < 0.7:
        image, background = _on_the_glass(image, background, rng)
    return image, background


def _veil(image: Rgb, rng: Generator) -> Plane:
    """Return the opacity (h, w) of a fog bank, a haze layer or clouds."""
    height, width = image.shape[:2]
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    kind = rng.random()
    level = rng.uniform(0.2, 0.7)
    if kind < 0.45:  # a bank lying in a valley or along the horizon
        band = np.exp(-(((rows - level) / rng.uniform(0.03, 0.2)) ** 2))
    elif kind < 0.7:  # haze that thickens with distance, up to the sky
        band = 1 / (1 + np.exp((rows - level) / rng.uniform(0.02, 0.15)))
    else:  # cloud overhead
        band = np.clip((level - rows) * rng.uniform(3, 12), 0, 1)
    cells = int(rng.integers(2, 9))
    if rng.random() < 0.2:
        return cast("Plane", np.broadcast_to(band * rng.uniform(0.2, 0.95), (height, width)).copy())
    texture = clouds((height, width), rng, cells=cells)
    if kind >= 0.7 and rng.random() < 0.7:  # cumulus with edges, as opaque as smoke
        texture = np.clip((texture - rng.uniform(0.1, 0.5)) * rng.uniform(2, 7), 0, 1)
    return cast("Plane", (band * texture * rng.uniform(0.25, 1.0)).astype(np.float32))


def _pass_by(image: Rgb, rng: Generator) -> Rgb:
    """Draw passing objects with hard edges: people, cars, birds, spots on the lens."""
    height, width = image.shape[:2]
    result = image.copy()
    for _ in range(int(rng.integers(1, 4))):
        size = np.exp(rng.uniform(np.log(0.01), np.log(0.12), 2)) * width
        centre = rng.uniform(0, [width, height])
        colour = rng.integers(0, 256, 3).tolist()
        box = (tuple(map(float, centre)), tuple(map(float, size)), float(rng.uniform(0, 180)))
        if rng.random() < 0.5:
            cv2.ellipse(result, box, colour, -1, cv2.LINE_AA)
        else:
            cv2.fillPoly(result, [cv2.boxPoints(box).astype(np.int32)], colour, cv2.LINE_AA)
    return result


def _dust(image: Rgb, rng: Generator) -> Rgb:
    """Draw dust behind a car or in the wind: low, long, of the ground's colour."""
    height, width = image.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = rng.uniform(0, width), rng.uniform(0.5, 1.0) * height
    long = np.exp(rng.uniform(np.log(0.03), np.log(0.3))) * width
    tall = long * rng.uniform(0.05, 0.2)
    alpha = np.exp(-(((columns - x) / long) ** 2) - ((rows - y) / tall) ** 2)
    alpha *= rng.uniform(0.3, 0.9) * clouds((height, width), rng, cells=12)
    ground = image[int(0.7 * height) :].reshape(-1, 3)
    earth = np.quantile(ground, 0.8, axis=0) * [1.15, 1.0, 0.8]
    air = (np.clip(earth / 255, 0.02, 1) ** 2.2).astype(np.float32)
    return composite(image, alpha.astype(np.float32), airlight=air, rng=rng)


def _flare(image: Rgb, rng: Generator) -> Rgb:
    """Draw lens flare: a glow around the sun and ghosts on the line through the centre."""
    height, width = image.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    middle = np.array([width, height]) / 2
    sun = rng.uniform(-0.1, 1.1, 2) * [width, 0.6 * height]
    added = np.zeros((height, width, 3), np.float32)

    def spot(at: np.ndarray, radius: float, power: float) -> Plane:
        away = np.hypot(columns - at[0], rows - at[1]) / radius
        return cast("Plane", np.exp(-(away**power)))

    glow = width * rng.uniform(0.03, 0.2)
    added += rng.uniform(60, 255) * spot(sun, glow, rng.uniform(0.7, 2))[..., None]
    for _ in range(int(rng.integers(0, 5))):
        ghost = middle + (middle - sun) * rng.uniform(-0.6, 1.4)
        tint = rng.uniform(0.3, 1, 3)
        disc = spot(ghost, width * rng.uniform(0.01, 0.06), rng.uniform(2, 8))
        added += rng.uniform(10, 70) * tint * disc[..., None]
    return cast("Rgb", np.clip(image + added, 0, 255).astype(np.uint8))


def _on_the_glass(image: Rgb, background: Rgb | None, rng: Generator) -> tuple[Rgb, Rgb | None]:
    """Draw drops and dirt on the glass: blur and lift inside soft discs; often in both images."""
    height, width = image.shape[:2]
    cover = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(1, 9))):
        axes = np.exp(rng.uniform(np.log(0.008), np.log(0.07), 2)) * width
        box = (tuple(rng.uniform(0, [width, height])), tuple(axes), rng.uniform(0, 180))
        cv2.ellipse(cover, box, rng.uniform(0.4, 1.0), -1, cv2.LINE_AA)
    soft = cv2.GaussianBlur(cover, (0, 0), rng.uniform(1, 6))[..., None]
    lift, spread = rng.uniform(-40, 60), rng.uniform(3, 12)

    def through(shown: Rgb) -> Rgb:
        smeared = cv2.GaussianBlur(shown, (0, 0), spread) + lift
        return np.clip(shown * (1 - soft) + smeared * soft, 0, 255).astype(np.uint8)

    if background is not None and rng.random() < 0.6:
        background = through(background)
    return through(image), background
