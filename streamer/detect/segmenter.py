"""Segmenter: smoke probabilities of one frame by the network, zoom verification included.

`CpuSegmenter` gives the network RGB. `GpuSegmenter` gives it the decoded planes, and uses the CPU
whenever the GPU is not ready. Both compare the frame with the background model and update it.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.smoke.yuv_model import Request, Result
from engines.smoke.zoom_verification import (
    WINDOW,
    Box,
    Network,
    crop_region,
    verify,
    verify_regions,
)
from engines.yuv import even_window
from streamer.core.image import Image

from .decoded_planes import decoded_yuv
from .scene import Background, Rgb

VerifyThresholds = tuple[float, float]
"""(high, low) in [0, 1]: regions above `high`, grown to `low`, are inferred again on a
full-resolution crop."""


class Segmentation(NamedTuple):
    """Output of one inference."""

    image: Rgb
    """(height, width, 3) RGB: the network's input."""

    probability: NDArray[np.float32]
    """(height / 2, width / 2), 0 to 1."""

    used_background: bool
    """Whether the network compared the frame with a background."""


class Segmenter(Protocol):
    """Runs the network on an image."""

    def __call__(
        self, image: Image, pts_ns: int, background: Background | None, *, enhanced: bool
    ) -> Segmentation:
        """Infer *image*, and update the background model with it.

        Args:
            image: As decoded or enhanced, of any size.
            pts_ns: Media time; never decreases.
            background: Model of the camera; `None` for cameras that move.
            enhanced: Whether *image* is a dark frame that was made brighter.
        """
        ...


class SmokeNetwork(Protocol):
    """A smoke network on RGB; `engines.smoke.model.SmokeModel` is one."""

    input_size: tuple[int, int]

    def __call__(  # noqa: D102  described by the class
        self,
        image: NDArray[np.uint8],
        background: NDArray[np.uint8] | None = None,
        /,
        *,
        dark: bool = False,
    ) -> NDArray[np.float32]: ...


class GpuSmokeNetwork(Protocol):
    """A smoke network on decoded planes; `engines.smoke.yuv_model.SmokeYuvModel` is one."""

    input_size: tuple[int, int]

    @property
    def ready(self) -> bool:
        """Whether a GPU runs it at this moment."""
        ...

    def predict(  # noqa: D102  described by the class
        self, views: Sequence[Request], /, *, level: float, dark: bool = False
    ) -> list[Result]: ...


class CpuSegmenter:
    """Infers RGB images.

    Args:
        network: Shared by all cameras.
        verify_thresholds: For zoom verification; `None` disables it.
    """

    def __init__(
        self, network: SmokeNetwork, *, verify_thresholds: VerifyThresholds | None = None
    ) -> None:
        self._network = network
        self._verify_thresholds = verify_thresholds

    def __call__(
        self, image: Image, pts_ns: int, background: Background | None, *, enhanced: bool
    ) -> Segmentation:
        """Infer *image*; see `Segmenter`."""
        network: Network = partial(self._network, dark=True) if enhanced else self._network
        rgb = image.rgb(self._network.input_size)
        reference = background.update(pts_ns, rgb) if background else None
        probability = network(rgb, reference)
        if self._verify_thresholds is not None:
            high, low = self._verify_thresholds
            probability = verify(
                network,
                probability,
                lambda box, size: image.rgb_crop(even_window(box, image.size), size),
                threshold=high,
                low_threshold=low,
                native=image.size,
                background=reference,
            )
        return Segmentation(rgb, probability, reference is not None)


class GpuSegmenter:
    """Infers decoded planes on a GPU, which converts, scales and crops them.

    Args:
        network: Shared by all cameras.
        fallback: Used while the GPU is not ready.
        verify_thresholds: For zoom verification; `None` disables it.
    """

    def __init__(
        self,
        network: GpuSmokeNetwork,
        fallback: Segmenter,
        *,
        verify_thresholds: VerifyThresholds | None = None,
    ) -> None:
        self._network = network
        self._fallback = fallback
        self._verify_thresholds = verify_thresholds

    def __call__(
        self, image: Image, pts_ns: int, background: Background | None, *, enhanced: bool
    ) -> Segmentation:
        """Infer *image*; see `Segmenter`."""
        network = self._network
        if not network.ready:
            return self._fallback(image, pts_ns, background, enhanced=enhanced)
        planes = decoded_yuv(image)
        high, low = self._verify_thresholds or (1.0, 1.0)
        level = min(high, low)

        def infer(reference: Rgb | None) -> Result:
            view = Request(planes, planes.full_window, network.input_size, reference)
            return network.predict([view], level=level, dark=enhanced)[0]

        previous = background.current if background else None
        seen = infer(previous)
        reference = background.update(pts_ns, seen.image) if background else None
        if reference is not previous:  # Rare: a background lasts for many frames.
            seen = infer(reference)
        if self._verify_thresholds is None or seen.stats.peak <= high:
            return Segmentation(seen.image, seen.mask, reference is not None)

        def infer_crops(boxes: Sequence[Box]) -> Iterable[NDArray[np.float32]]:
            views = []
            for box in boxes:
                part, window = planes.crop(even_window(box, planes.size), WINDOW)
                crop = None if reference is None else crop_region(reference, box, WINDOW)
                views.append(Request(part, window, WINDOW, crop))
            return (each.mask for each in network.predict(views, level=level, dark=enhanced))

        probability = verify_regions(
            seen.mask, infer_crops, threshold=high, low_threshold=low, native=image.size
        )
        return Segmentation(seen.image, probability, reference is not None)
