"""Inference on one image of any size as the program runs it, with zoom verification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.smoke.zoom_verification import crop_region, verify

if TYPE_CHECKING:
    from engines.smoke.model import SmokeOutput

Rgb = NDArray[np.uint8]
"""(h, w, 3)."""
Map = NDArray[np.float32]
"""(h, w), 0 to 1."""

INPUT_WIDTH_PX = 640


def input_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the (height, width) of the network input for an image of this shape.

    The width is `INPUT_WIDTH_PX`; the aspect ratio is kept to the nearest multiple of 32 rows.
    """
    return max(32, round(shape[0] * INPUT_WIDTH_PX / shape[1] / 32) * 32), INPUT_WIDTH_PX


def resize(image: Rgb, size: tuple[int, int]) -> Rgb:
    """Return the image scaled to (height, width): area averages down, bilinear up."""
    interpolation = cv2.INTER_AREA if image.shape[1] > size[1] else cv2.INTER_LINEAR
    return cast("Rgb", cv2.resize(image, size[::-1], interpolation=interpolation))


class Network(Protocol):
    """A smoke network; `SmokeModel` is one."""

    threshold: float
    low_threshold: float

    def predict(  # noqa: D102
        self, image: Rgb, background: Rgb | None = None, /
    ) -> SmokeOutput: ...

    def __call__(self, image: Rgb, background: Rgb | None = None, /) -> Map: ...  # noqa: D102


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Result of inference on one image."""

    probability: Map
    """(h/2, w/2), after zoom verification."""
    first_pass: SmokeOutput
    """Output of the network on the whole image, before zoom verification."""


def predict(
    model: Network,
    image: Rgb,
    background: Rgb | None = None,
    *,
    thresholds: tuple[float, float] | None = None,
    first_pass: SmokeOutput | None = None,
) -> Prediction:
    """Run the network on an image of any size and verify candidate regions at a larger scale.

    Args:
        model: The network.
        image: (h, w, 3) RGB.
        background: Background model of the same view.
        thresholds: (high, low): regions above `high` are verified and grown to `low`. The model's
            own operating point when left out.
        first_pass: Output for the whole image, if it has been computed already.
    """
    size = input_size(image.shape)
    small_background = None if background is None else resize(background, size)
    if first_pass is None:
        first_pass = model.predict(resize(image, size), small_background)
    threshold, low_threshold = thresholds or (model.threshold, model.low_threshold)
    verified = verify(
        model,
        first_pass.mask,
        lambda box, wanted: crop_region(image, box, wanted),
        native=image.shape[:2],
        background=small_background,
        threshold=threshold,
        low_threshold=low_threshold,
    )
    return Prediction(verified, first_pass)
