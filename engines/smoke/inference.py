"""One look at a picture of any size, as the program does it: the network, then the second look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.smoke.zoom_verification import part_of_picture, verify

if TYPE_CHECKING:
    from engines.smoke.model import Look

Rgb = NDArray[np.uint8]
"""(h, w, 3)."""
Map = NDArray[np.float32]
"""(h, w), 0 to 1."""

LOOK_WIDTH_PX = 640


def look_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) of a look: 640 wide, the picture's shape kept, in whole strides."""
    return max(32, round(shape[0] * LOOK_WIDTH_PX / shape[1] / 32) * 32), LOOK_WIDTH_PX


def scaled(image: Rgb, size: tuple[int, int]) -> Rgb:
    """A picture at (height, width)."""
    smooth = cv2.INTER_AREA if image.shape[1] > size[1] else cv2.INTER_LINEAR
    return cast("Rgb", cv2.resize(image, size[::-1], interpolation=smooth))


class Network(Protocol):
    """What looks; `SmokeModel` is one."""

    threshold: float
    outline: float

    def look(self, image: Rgb, background: Rgb | None = None, /) -> Look: ...  # noqa: D102

    def __call__(self, image: Rgb, background: Rgb | None = None, /) -> Map: ...  # noqa: D102


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """One picture through the network, as the program sees it."""

    probability: Map
    """(h/2, w/2), after the second look."""
    looked: Look
    """What the network said before it."""


def look(
    model: Network,
    image: Rgb,
    background: Rgb | None = None,
    *,
    levels: tuple[float, float] | None = None,
    first: Look | None = None,
) -> Prediction:
    """Look at a picture of any size once, and again at what is suspect.

    Args:
        model: Looks.
        image: (h, w, 3) RGB.
        background: The same view without what is new in it.
        levels: Probability above which a place is suspect, and to which it grows; the model's own
            when left out.
        first: The first look, if it was taken already.
    """
    size = look_size(image.shape)
    normal = None if background is None else scaled(background, size)
    if first is None:
        first = model.look(scaled(image, size), normal)
    threshold, outline = levels or (model.threshold, model.outline)
    again = verify(
        model,
        first.mask,
        lambda box, wanted: part_of_picture(image, box, wanted),
        native=image.shape[:2],
        background=normal,
        threshold=threshold,
        outline=outline,
    )
    return Prediction(again, first)
