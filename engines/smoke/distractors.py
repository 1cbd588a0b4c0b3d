"""What is no smoke but looks like it, laid over a picture and not labelled.

Fog banks, haze, heaps of cloud and their shadows; dust along the ground; sun in the lens, drops and
dirt on the glass; things that pass by. Light through air is added up by the code that lays smoke.
"""

# ruff: noqa: PLR2004  chances and ranges of chance stand where they act
from __future__ import annotations

from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from engines.smoke.compositing import air_of, clouds, lay

if TYPE_CHECKING:
    from numpy.random import Generator

    from engines.smoke.compositing import Plane, Rgb


def distract(image: Rgb, background: Rgb | None, random: Generator) -> tuple[Rgb, Rgb | None]:
    """Lay one of them, or none, over a picture and sometimes over its background."""
    choice = random.random()
    if choice < 0.3:
        image = lay(image, _veil(image, random), air=air_of(image, random), random=random)
        if background is not None and random.random() < 0.5:
            background = lay(
                background, _veil(image, random), air=air_of(image, random), random=random
            )
    elif choice < 0.4 and background is not None:
        shade = 1 - random.uniform(0.15, 0.6) * clouds(image.shape[:2], random, cells=3)
        image = (image * shade[..., None]).astype(np.uint8)
    elif choice < 0.53 and background is not None:
        image = _pass_by(image, random)
    elif choice < 0.58:
        image = _dust(image, random)
    elif choice < 0.64:
        image = _flare(image, random)
    elif choice < 0.7:
        image, background = _on_the_glass(image, background, random)
    return image, background


def _veil(image: Rgb, random: Generator) -> Plane:
    """Opacity of a fog bank, a haze layer or a sheet of cloud, (h, w)."""
    height, width = image.shape[:2]
    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    kind = random.random()
    level = random.uniform(0.2, 0.7)
    if kind < 0.45:  # a bank lying in a valley or along the horizon
        band = np.exp(-(((rows - level) / random.uniform(0.03, 0.2)) ** 2))
    elif kind < 0.7:  # haze that thickens with distance, up to the sky
        band = 1 / (1 + np.exp((rows - level) / random.uniform(0.02, 0.15)))
    else:  # cloud overhead
        band = np.clip((level - rows) * random.uniform(3, 12), 0, 1)
    cells = int(random.integers(2, 9))
    if random.random() < 0.2:
        return cast(
            "Plane", np.broadcast_to(band * random.uniform(0.2, 0.95), (height, width)).copy()
        )
    texture = clouds((height, width), random, cells=cells)
    if kind >= 0.7 and random.random() < 0.7:  # heaps with edges, as thick as smoke ever is
        texture = np.clip((texture - random.uniform(0.1, 0.5)) * random.uniform(2, 7), 0, 1)
    return cast("Plane", (band * texture * random.uniform(0.25, 1.0)).astype(np.float32))


def _pass_by(image: Rgb, random: Generator) -> Rgb:
    """Something new with hard edges: a person, a car, a bird, a lens spot."""
    height, width = image.shape[:2]
    result = image.copy()
    for _ in range(int(random.integers(1, 4))):
        size = np.exp(random.uniform(np.log(0.01), np.log(0.12), 2)) * width
        centre = random.uniform(0, [width, height])
        colour = random.integers(0, 256, 3).tolist()
        box = (tuple(map(float, centre)), tuple(map(float, size)), float(random.uniform(0, 180)))
        if random.random() < 0.5:
            cv2.ellipse(result, box, colour, -1, cv2.LINE_AA)
        else:
            cv2.fillPoly(result, [cv2.boxPoints(box).astype(np.int32)], colour, cv2.LINE_AA)
    return result


def _dust(image: Rgb, random: Generator) -> Rgb:
    """Dust that a car or the wind drags along: low, long, the colour of the ground it came from."""
    height, width = image.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = random.uniform(0, width), random.uniform(0.5, 1.0) * height
    long = np.exp(random.uniform(np.log(0.03), np.log(0.3))) * width
    tall = long * random.uniform(0.05, 0.2)
    alpha = np.exp(-(((columns - x) / long) ** 2) - ((rows - y) / tall) ** 2)
    alpha *= random.uniform(0.3, 0.9) * clouds((height, width), random, cells=12)
    ground = image[int(0.7 * height) :].reshape(-1, 3)
    earth = np.quantile(ground, 0.8, axis=0) * [1.15, 1.0, 0.8]
    air = (np.clip(earth / 255, 0.02, 1) ** 2.2).astype(np.float32)
    return lay(image, alpha.astype(np.float32), air=air, random=random)


def _flare(image: Rgb, random: Generator) -> Rgb:
    """Sun in the lens: a glow about it, and its ghosts on the line through the middle."""
    height, width = image.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    middle = np.array([width, height]) / 2
    sun = random.uniform(-0.1, 1.1, 2) * [width, 0.6 * height]
    added = np.zeros((height, width, 3), np.float32)

    def spot(at: np.ndarray, radius: float, power: float) -> Plane:
        away = np.hypot(columns - at[0], rows - at[1]) / radius
        return cast("Plane", np.exp(-(away**power)))

    glow = width * random.uniform(0.03, 0.2)
    added += random.uniform(60, 255) * spot(sun, glow, random.uniform(0.7, 2))[..., None]
    for _ in range(int(random.integers(0, 5))):
        ghost = middle + (middle - sun) * random.uniform(-0.6, 1.4)
        tint = random.uniform(0.3, 1, 3)
        disc = spot(ghost, width * random.uniform(0.01, 0.06), random.uniform(2, 8))
        added += random.uniform(10, 70) * tint * disc[..., None]
    return cast("Rgb", np.clip(image + added, 0, 255).astype(np.uint8))


def _on_the_glass(image: Rgb, background: Rgb | None, random: Generator) -> tuple[Rgb, Rgb | None]:
    """Drops and dirt: blurred and paler within soft discs; dirt was there before, drops may be."""
    height, width = image.shape[:2]
    cover = np.zeros((height, width), np.float32)
    for _ in range(int(random.integers(1, 9))):
        axes = np.exp(random.uniform(np.log(0.008), np.log(0.07), 2)) * width
        box = (tuple(random.uniform(0, [width, height])), tuple(axes), random.uniform(0, 180))
        cv2.ellipse(cover, box, random.uniform(0.4, 1.0), -1, cv2.LINE_AA)
    soft = cv2.GaussianBlur(cover, (0, 0), random.uniform(1, 6))[..., None]
    lift, spread = random.uniform(-40, 60), random.uniform(3, 12)

    def through(picture: Rgb) -> Rgb:
        smeared = cv2.GaussianBlur(picture, (0, 0), spread) + lift
        return np.clip(picture * (1 - soft) + smeared * soft, 0, 255).astype(np.uint8)

    if background is not None and random.random() < 0.6:
        background = through(background)
    return through(image), background
