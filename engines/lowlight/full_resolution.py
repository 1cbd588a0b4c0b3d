"""The full-resolution part of low-light enhancement: denoising, then tone curves on every pixel.

`Enhancer` decides the adjustment of a stream and passes it to a `FullResolution`. `OnCpu` is the
reference; `full_resolution_gpu.OnDevice` does the same on a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engines.lowlight.denoise import Denoiser

if TYPE_CHECKING:
    from engines.lowlight.curves import Adjustment
    from engines.lowlight.denoise import Noise
    from engines.yuv import Yuv


class FullResolution(Protocol):
    """The full-resolution part of one stream; holds its history and is used by one thread."""

    def reset(self) -> None:
        """Drop the history: a new scene starts."""
        ...

    def __call__(self, planes: Yuv, adjustment: Adjustment, noise: Noise, *, gain: float) -> Yuv:
        """Denoise, then adjust; return new planes of the same sizes.

        Args:
            planes: The next image, of any depth and subsampling; not changed.
            adjustment: What is applied to it.
            noise: Its noise.
            gain: Mean amplification of differences, at least 1.
        """
        ...


class OnCpu:
    """The full-resolution part on the CPU, by OpenCV, at any size.

    Args:
        denoise: Whether to denoise first.
    """

    def __init__(self, *, denoise: bool = True) -> None:
        self.denoiser = Denoiser() if denoise else None

    def reset(self) -> None:
        """See `FullResolution`."""
        if self.denoiser is not None:
            self.denoiser.reset()

    def __call__(self, planes: Yuv, adjustment: Adjustment, noise: Noise, *, gain: float) -> Yuv:
        """See `FullResolution`."""
        if self.denoiser is None:
            return adjustment.apply(planes)
        return adjustment.apply(self.denoiser(planes, noise, gain=gain))
