"""What is done to every pixel of a picture, once it is decided what: a piece of its own.

`Enhancer` decides for a stream and hands the decision to a `FullSize`. `OnCpu` is the one that
everything else is held to; `device.OnDevice` does the same on a GPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engines.lowlight.denoise import Denoiser

if TYPE_CHECKING:
    from engines.lowlight.curves import Adjustment
    from engines.lowlight.denoise import Noise
    from engines.yuv import Yuv


class FullSize(Protocol):
    """The full-size part of one stream: holds its past, belongs to its thread."""

    def begin_anew(self) -> None:
        """Forget the past: another scene begins."""
        ...

    def __call__(self, planes: Yuv, done: Adjustment, noise: Noise, *, gain: float) -> Yuv:
        """Hold noise down, then adjust. New planes of the same sizes; those given stay as they are.

        Args:
            planes: The next image, of any depth and subsampling.
            done: What is to be done to it.
            noise: Its noise.
            gain: What differences are multiplied by on average, at least 1.
        """
        ...


class OnCpu:
    """By OpenCV, at any size.

    Args:
        denoise: Whether noise is held down first.
    """

    def __init__(self, *, denoise: bool = True) -> None:
        self.denoiser = Denoiser() if denoise else None

    def begin_anew(self) -> None:
        """See `FullSize`."""
        if self.denoiser is not None:
            self.denoiser.reset()

    def __call__(self, planes: Yuv, done: Adjustment, noise: Noise, *, gain: float) -> Yuv:
        """See `FullSize`."""
        if self.denoiser is None:
            return done.apply(planes)
        return done.apply(self.denoiser(planes, noise, gain=gain))
