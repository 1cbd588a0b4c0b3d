"""Enhances one stream over time: decides when, measures noise, smooths the tone curves.

Planes and seconds in, planes out, for live streams and files alike. A daylight frame is returned
unchanged, as the same planes. The curves follow the light with a time constant, so that a lamp or a
passing car does not make the brightness pump; at a scene change, or when a camera switches its
infrared filter, they are reset. The decision is applied to every pixel by a
`full_resolution.FullResolution`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, cast

import cv2
import numpy as np

from engines.lowlight.denoise import Noise, noise_of
from engines.lowlight.full_resolution import OnCpu

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from engines.lowlight.curves import Adjustment
    from engines.lowlight.full_resolution import FullResolution
    from engines.yuv import Yuv

DARK, LIGHT = 50.0, 62.0
"""Median luma, 0 to 255, below which enhancement starts and above which it ends (hysteresis)."""
NOISE_WEIGHT = 4.0
"""Luma by which a byte of noise makes a frame count as darker: the sensor's gain is high."""
MAX_NOISE = 2.5
"""Upper limit of the noise that counts: what exceeds it may be moving texture."""
CONFIRM_S = 1.0
"""Time for which the light must have changed; the first frame of a scene decides at once."""
FADE_S, MIN_FADE_FRAMES = 1.0, 5
"""Duration of the fade in and out, and its least number of frames."""
SMOOTHING_S = 1.5
"""Time constant of the curves and of the noise measurement."""
INFERENCE_INTERVAL_S = 0.2
MAX_STRENGTH = 1.5
BRIGHTNESS_SMOOTHING_S = 1.0
"""Time constant of the brightness of the output."""
MAX_BRIGHTNESS_CORRECTION = 1.08
"""Largest factor by which that smoothing may hold brightness back: beyond it, the light changed."""

OUTLIER = 1.3
"""An inference that would change the brightness by this factor must be confirmed by the next one:
lightning is over by then."""
COLOURED = 3.0
"""Mean spread of red, green and blue, in bytes, above which the colour balance is applied in full:
under an infrared lamp there is no colour."""

_SAMPLE_STEP = 16
"""Every frame is measured at every 16th pixel in both directions: 8,000 of 1080p."""
_GREY = 128


class Model(Protocol):
    """The network that decides the adjustment; `LowLightModel` is one."""

    thumbnail_size: tuple[int, int]

    def __call__(self, thumbnail: NDArray[np.uint8], noise: float, /) -> Adjustment: ...  # noqa: D102


@dataclass(slots=True)
class _Scene:
    """State of the scene that is being enhanced."""

    histogram: NDArray[np.float32]
    """Histogram of the last frame's full-range luma."""
    noise: Noise
    target: Adjustment
    """Latest accepted output of the network."""
    current: Adjustment
    """Adjustment that is applied; moves towards the target."""
    inferred_s: float
    """Time of the last inference."""
    frame_s: float
    """Time of the last frame."""
    brightness: float
    """Smoothed brightness of the output, 0 to 1."""
    frames: int = 1
    outlier: bool = False
    """Whether the last output of the network was rejected."""
    correction: float = 1.0
    """Factor that keeps the brightness steady: flicker of lamps and iris would be amplified too."""


class Enhancer:
    """Enhancement of one stream. Used by one thread.

    Args:
        model: Shared by all streams.
        strength: 0 to `MAX_STRENGTH`; 1 is the network's output.
        always: Enhance whatever the light.
        full_resolution: Applies the adjustment; belongs to this stream. Default: on the CPU, with
            denoising.
    """

    def __init__(
        self,
        model: Model,
        *,
        strength: float = 1.0,
        always: bool = False,
        full_resolution: FullResolution | None = None,
    ) -> None:
        if not 0 <= strength <= MAX_STRENGTH:
            raise ValueError(f"strength must be 0 to {MAX_STRENGTH}, got {strength}")
        self._model = model
        self._strength = strength
        self._full_resolution = OnCpu() if full_resolution is None else full_resolution
        self._switch = _Switch(always=always)
        self._scene_change = _SceneChange()
        self._scene: _Scene | None = None
        self._previous: NDArray[np.uint8] | None = None

    @property
    def active(self) -> bool:
        """Whether the last frame was changed."""
        return self._scene is not None

    def __call__(self, planes: Yuv, seconds: float) -> Yuv:
        """Return the enhanced image, or the same object if nothing is to be done.

        Args:
            planes: Planar, of any depth and subsampling. Luma is referenced until the next call and
                must not change.
            seconds: Media time; does not decrease.
        """
        if self._strength == 0:
            return planes
        # Light, noise and scene changes are measured in 8 bits.
        eight = planes.to_8_bits()
        if self._scene_change.between(eight, seconds):
            self._switch.reset()
            self._scene = self._previous = None
        previous, self._previous = self._previous, eight.y
        fade = self._switch.fade(eight.y, previous, seconds, full_range=planes.full_range)
        if fade == 0:
            self._scene = None
            return planes
        scene = self._update(eight, previous, seconds)
        adjustment = scene.current.at_strength(self._strength * fade)
        adjustment = adjustment.scaled(1 + (scene.correction - 1) * fade)
        # Denoising fades in as well.
        noise = scene.noise._replace(deviation=scene.noise.deviation * fade)
        gain = max(1.0, adjustment.gain_of(scene.histogram))
        return self._full_resolution(planes, adjustment, noise, gain=gain)

    def _update(self, planes: Yuv, previous: NDArray[np.uint8] | None, seconds: float) -> _Scene:
        """Move the scene towards the network's output for this image."""
        histogram = _histogram(planes.y, full_range=planes.full_range)
        scene = self._scene
        if scene is None:
            self._full_resolution.reset()
            noise = noise_of(planes.y, previous)
            target = self._infer(planes, noise)
            brightness = target.brightness_of(histogram)
            self._scene = _Scene(histogram, noise, target, target, seconds, seconds, brightness)
            return self._scene
        scene.histogram = histogram
        scene.frames += 1
        # The second frame separates noise from texture: the first measurement is dropped.
        second = scene.frames == 2  # noqa: PLR2004
        if second or not 0 <= seconds - scene.inferred_s < INFERENCE_INTERVAL_S:
            weight = 1.0 if second else _step(seconds - scene.inferred_s, SMOOTHING_S)
            scene.noise = scene.noise.toward(noise_of(planes.y, previous), weight)
            self._accept(scene, self._infer(planes, scene.noise))
            scene.inferred_s = seconds
        elapsed = seconds - scene.frame_s
        scene.frame_s = seconds
        scene.current = scene.current.toward(scene.target, _step(elapsed, SMOOTHING_S))
        unsmoothed = scene.current.brightness_of(histogram)
        weight = _step(elapsed, BRIGHTNESS_SMOOTHING_S)
        scene.brightness += (unsmoothed - scene.brightness) * weight
        scene.brightness = min(
            max(scene.brightness, unsmoothed / MAX_BRIGHTNESS_CORRECTION),
            unsmoothed * MAX_BRIGHTNESS_CORRECTION,
        )
        scene.correction = scene.brightness / max(unsmoothed, 1e-3)
        return scene

    @staticmethod
    def _accept(scene: _Scene, output: Adjustment) -> None:
        """Make an output the target, unless it is an outlier that was not confirmed yet."""
        new, old = (each.brightness_of(scene.histogram) for each in (output, scene.target))
        outlier = not 1 / OUTLIER < (new + 0.01) / (old + 0.01) < OUTLIER
        if not outlier or scene.outlier:
            scene.target = output
        scene.outlier = outlier and not scene.outlier

    def _infer(self, planes: Yuv, noise: Noise) -> Adjustment:
        """Run the network; without colour in the image its colour balance is left out."""
        thumbnail = thumbnail_of(planes, self._model.thumbnail_size)
        output = self._model(thumbnail, noise.deviation)
        spread = thumbnail.max(2).astype(np.int16) - thumbnail.min(2)
        colour = min(1.0, float(spread.mean()) / COLOURED)
        return replace(output, balance=(output.balance[0] * colour, output.balance[1] * colour))


def _step(elapsed_s: float, constant_s: float) -> float:
    """Return the fraction of the way that exponential smoothing covers in a time."""
    return 1 - math.exp(-max(0.0, elapsed_s) / constant_s)


def _as_full_range(luma: NDArray[np.uint8], *, full_range: bool) -> NDArray[np.uint8]:
    return luma if full_range else cv2.LUT(luma, _FULL)  # type: ignore[return-value]


def _histogram(luma: NDArray[np.uint8], *, full_range: bool) -> NDArray[np.float32]:
    """Return (256,) fractions of full-range luma; of every second row, as fewer would flicker."""
    rows = luma[:: min(2, luma.shape[0])]
    counts = cv2.calcHist([rows], [0], None, [256], [0, 256]).ravel() / rows.size
    if full_range:
        return cast("NDArray[np.float32]", counts)
    return np.bincount(_FULL, weights=counts, minlength=256).astype(np.float32)


_FULL = np.clip((np.arange(256) - 16) * 255 / 219, 0, 255).round().astype(np.uint8)


class _Switch:
    """Decides whether it is dark, with hysteresis, and fades in and out."""

    def __init__(self, *, always: bool) -> None:
        self._always = always
        self._fade = 0.0
        self._frame_s: float | None = None
        self.reset()

    def reset(self) -> None:
        """Let the next frame decide at once."""
        self._dark: bool | None = None
        self._changed_s: float | None = None
        self._noise, self._measured_s = 0.0, -math.inf

    def fade(
        self,
        luma: NDArray[np.uint8],
        previous: NDArray[np.uint8] | None,
        seconds: float,
        *,
        full_range: bool,
    ) -> float:
        """Return the strength of enhancement for the next frame, 0 to 1."""
        if self._always:
            return 1.0
        elapsed = 0.0 if self._frame_s is None else max(0.0, seconds - self._frame_s)
        self._frame_s = seconds
        light = self._light(luma, previous, seconds, full_range=full_range)
        if self._dark is None:
            self._dark = light < DARK
            self._fade = float(self._dark)
            return self._fade
        if light > LIGHT if self._dark else light < DARK:
            if self._changed_s is None or seconds < self._changed_s:
                self._changed_s = seconds
            if seconds - self._changed_s >= CONFIRM_S:
                self._dark, self._changed_s = not self._dark, None
        else:
            self._changed_s = None
        step = min(elapsed / FADE_S, 1 / MIN_FADE_FRAMES)
        self._fade = min(1.0, self._fade + step) if self._dark else max(0.0, self._fade - step)
        return self._fade

    def _light(
        self,
        luma: NDArray[np.uint8],
        previous: NDArray[np.uint8] | None,
        seconds: float,
        *,
        full_range: bool,
    ) -> float:
        """Return the median luma, 0 to 255, less the weighted noise."""
        median = float(np.percentile(_as_full_range(_samples(luma), full_range=full_range), 50))
        # In daylight noise does not matter, and measuring it would cost more than all the rest.
        if not DARK <= median < LIGHT + NOISE_WEIGHT * MAX_NOISE:
            return median
        if not 0 <= seconds - self._measured_s < INFERENCE_INTERVAL_S:
            self._noise = min(noise_of(luma, previous).deviation, MAX_NOISE)
            self._measured_s = seconds
        return median - NOISE_WEIGHT * self._noise


class _SceneChange:
    """Detects another scene, or the same scene after an infrared filter was switched."""

    CHANGED = 0.2
    """Least relative change of brightness for another scene."""
    ALIKE = 0.6
    """Least correlation of two frames' brightness for the same scene."""
    COLOUR = 5.0
    """Change of the mean distance from grey, in bytes, when an infrared filter is switched."""
    FLOOR = 6.0
    """Brightness in bytes below which relative changes are noise."""
    NOISE = 1.5
    """Structure of this many bytes is noise."""

    MIN_INTERVAL_S = 10.0
    """A filter switches less often; what changes faster is a flashing lamp, or a fire."""

    def __init__(self) -> None:
        self._switched_s = -math.inf
        self._previous: tuple[tuple[int, ...], NDArray[np.float32], float] | None = None

    def between(self, planes: Yuv, seconds: float) -> bool:
        """Whether the scene changed between the previous frame and this one."""
        tiny = _tiny(planes.y)
        colour = sum(
            float(np.abs(_samples(plane).astype(np.int16) - _GREY).mean())
            for plane in planes.chroma
        )
        previous, self._previous = self._previous, (planes.y.shape, tiny, colour)
        if previous is None:
            return False
        size, past, past_colour = previous
        if size != planes.y.shape:
            return True
        light = float(tiny.mean() + past.mean()) / 2 + self.FLOOR
        if float(np.abs(tiny - past).mean()) < self.CHANGED * light:
            return self._filter_switched(colour - past_colour, seconds)
        covariance = float(((tiny - tiny.mean()) * (past - past.mean())).mean())
        # Frames without structure count as alike.
        alike = (covariance + self.NOISE**2) / (float(tiny.std() * past.std()) + self.NOISE**2)
        return alike < self.ALIKE or self._filter_switched(colour - past_colour, seconds)

    def _filter_switched(self, change: float, seconds: float) -> bool:
        """Whether an infrared filter was switched, by the change of colour."""
        if abs(change) <= self.COLOUR:
            return False
        rare = not 0 <= seconds - self._switched_s < self.MIN_INTERVAL_S
        self._switched_s = seconds
        return rare


def _samples(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a subsampled plane: every `_SAMPLE_STEP`th pixel, more of small planes."""
    step = max(1, min(_SAMPLE_STEP, min(plane.shape) // _SAMPLE_STEP))
    return plane[step // 2 :: step, step // 2 :: step]


def _tiny(luma: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (9, 16) means, in which noise is averaged out."""
    small = cv2.resize(_samples(luma), (16, 9), interpolation=cv2.INTER_AREA)
    return cast("NDArray[np.float32]", small.astype(np.float32))


def thumbnail_of(planes: Yuv, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return 8-bit planes scaled to (height, width): (h, w, 3) RGB."""
    y, *chroma = (
        cv2.resize(plane, size[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)
        for plane in planes.planes
    )
    u, v = chroma or (np.full_like(y, _GREY),) * 2
    if not planes.full_range:
        y = (y - 16) * np.float32(255 / 219)
        u, v = (_GREY + (plane - _GREY) * np.float32(255 / 224) for plane in (u, v))
    u, v = u - _GREY, v - _GREY
    # ITU-R BT.601; BT.709 makes no difference to the network.
    rgb = np.stack([y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u], 2)
    return cast("NDArray[np.uint8]", np.clip(np.rint(rgb), 0, 255).astype(np.uint8))
