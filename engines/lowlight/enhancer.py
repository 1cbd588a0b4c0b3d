"""Makes one stream visible, steadily: decides when, how noisy it is, and moves its curves slowly.

Planes and seconds in, planes out; for live pictures and for files alike. A day picture comes back
as the very same planes. Curves follow the light with a time constant, so that a lamp or a passing
car does not make the picture breathe; at a cut, or when a camera switches its infrared filter,
they begin anew at once. What is decided here, a `full_resolution.FullSize` does to every pixel.
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
    from engines.lowlight.full_resolution import FullSize
    from engines.yuv import Yuv

DARK, LIGHT = 50.0, 62.0
"""Median luma, 0 to 255, below which enhancing begins, and above which it ends."""
NOISE_COUNTS = 4.0
"""Each byte of noise makes a picture count as so much darker: the sensor's gain is up."""
NOISIEST = 2.5
"""More noise than this counts no further: it may be texture that moves."""
CERTAIN_S = 1.0
"""The light must have been so for so long; a scene's first picture decides at once."""
FADE_S, FEWEST = 1.0, 5
"""Time in which enhancing comes and goes, and the fewest pictures."""
FOLLOW_S = 1.5
"""Time constant with which curves follow the light, and the measured noise its measurement."""
LOOK_EVERY_S = 0.2
"""The network looks so often."""
MOST_STRENGTH = 1.5
STEADY_S = 1.0
"""Time constant with which the brightness of what is shown may change."""
UNSTEADY = 1.08
"""By no more than this factor is brightness held back: beyond it, the light did change."""

STRANGE = 1.3
"""A look whose picture would be brighter or darker by this factor must be borne out by the next
one: lightning is over by then."""
COLOURED = 3.0
"""Mean spread of red, green and blue, in bytes, from which colours are balanced in full: what an
infrared lamp lights has none."""

_EVERY = 16
"""What is measured of every picture is measured at every so many pixels: 8,000 of 1080p."""
_GREY = 128


class Model(Protocol):
    """What says how bright; `LowLightModel` is one."""

    thumbnail_size: tuple[int, int]

    def __call__(self, thumbnail: NDArray[np.uint8], noise: float, /) -> Adjustment: ...  # noqa: D102


@dataclass(slots=True)
class _Scene:
    """What is shown, and what is done to it."""

    histogram: NDArray[np.float32]
    """Of the last picture's full-range luma."""
    noise: Noise
    wanted: Adjustment
    """What the network said last."""
    done: Adjustment
    """What is done: on its way to what is wanted."""
    looked_s: float
    seen_s: float
    brightness: float
    """Of what is shown, 0 to 1; follows what it would be."""
    pictures: int = 1
    strange: bool = False
    """Whether the network's last word was left aside."""
    held: float = 1.0
    """Factor that keeps the brightness: a lamp's flicker and an iris that hunts are lifted too."""


class Enhancer:
    """One stream. Belongs to one thread.

    Args:
        model: Shared by all streams.
        strength: How much of it, 0 to `MOST_STRENGTH`; 1 is what the network says.
        always: Enhance whatever the light.
        full_size: Does what is decided; of this stream alone. On the CPU, with noise held down,
            unless told otherwise.
    """

    def __init__(
        self,
        model: Model,
        *,
        strength: float = 1.0,
        always: bool = False,
        full_size: FullSize | None = None,
    ) -> None:
        if not 0 <= strength <= MOST_STRENGTH:
            raise ValueError(f"strength must be 0 to {MOST_STRENGTH}, got {strength}")
        self._model = model
        self._strength = strength
        self._full_size = OnCpu() if full_size is None else full_size
        self._switch = _Switch(always=always)
        self._cuts = _Cuts()
        self._scene: _Scene | None = None
        self._before: NDArray[np.uint8] | None = None

    @property
    def on(self) -> bool:
        """Whether the last picture was changed."""
        return self._scene is not None

    def __call__(self, planes: Yuv, seconds: float) -> Yuv:
        """Return the next image enhanced; the very same planes where nothing is done.

        Args:
            planes: Planar, of any depth and subsampling. Luma is remembered until the next image
                comes, and must not change.
            seconds: Media time; never falls.
        """
        if self._strength == 0:
            return planes
        # Light, noise and scene changes are measured in 8 bits.
        eight = planes.to_8_bits()
        if self._cuts.between(eight, seconds):
            self._switch.begin_anew()
            self._scene = self._before = None
        before, self._before = self._before, eight.y
        share = self._switch.share(eight.y, before, seconds, full_range=planes.full_range)
        if share == 0:
            self._scene = None
            return planes
        scene = self._follow(eight, before, seconds)
        done = scene.done.at_strength(self._strength * share)
        done = done.scaled(1 + (scene.held - 1) * share)
        # Fades in with the light.
        noise = scene.noise._replace(deviation=scene.noise.deviation * share)
        gain = max(1.0, done.gain_of(scene.histogram))
        return self._full_size(planes, done, noise, gain=gain)

    def _follow(self, planes: Yuv, before: NDArray[np.uint8] | None, seconds: float) -> _Scene:
        """The scene, moved on towards what the network wants now."""
        histogram = _histogram(planes.y, full_range=planes.full_range)
        scene = self._scene
        if scene is None:
            self._full_size.begin_anew()
            noise = noise_of(planes.y, before)
            wanted = self._look(planes, noise)
            brightness = wanted.brightness_of(histogram)
            self._scene = _Scene(histogram, noise, wanted, wanted, seconds, seconds, brightness)
            return self._scene
        scene.histogram = histogram
        scene.pictures += 1
        # The second picture tells noise from texture: what the first one told is forgotten.
        second = scene.pictures == 2  # noqa: PLR2004
        if second or not 0 <= seconds - scene.looked_s < LOOK_EVERY_S:
            part = 1.0 if second else _share(seconds - scene.looked_s, FOLLOW_S)
            scene.noise = scene.noise.toward(noise_of(planes.y, before), part)
            self._heed(scene, self._look(planes, scene.noise))
            scene.looked_s = seconds
        passed = seconds - scene.seen_s
        scene.seen_s = seconds
        scene.done = scene.done.toward(scene.wanted, _share(passed, FOLLOW_S))
        would = scene.done.brightness_of(histogram)
        scene.brightness += (would - scene.brightness) * _share(passed, STEADY_S)
        scene.brightness = min(max(scene.brightness, would / UNSTEADY), would * UNSTEADY)
        scene.held = scene.brightness / max(would, 1e-3)
        return scene

    @staticmethod
    def _heed(scene: _Scene, said: Adjustment) -> None:
        """Take over what the network said, unless nothing but this one look speaks for it."""
        now, then = (each.brightness_of(scene.histogram) for each in (said, scene.wanted))
        strange = not 1 / STRANGE < (now + 0.01) / (then + 0.01) < STRANGE
        if not strange or scene.strange:
            scene.wanted = said
        scene.strange = strange and not scene.strange

    def _look(self, planes: Yuv, noise: Noise) -> Adjustment:
        """What the network wants."""
        thumbnail = thumbnail_of(planes, self._model.thumbnail_size)
        said = self._model(thumbnail, noise.deviation)
        spread = thumbnail.max(2).astype(np.int16) - thumbnail.min(2)
        colour = min(1.0, float(spread.mean()) / COLOURED)
        return replace(said, balance=(said.balance[0] * colour, said.balance[1] * colour))


def _share(passed_s: float, constant_s: float) -> float:
    """Of the way to go, after so long."""
    return 1 - math.exp(-max(0.0, passed_s) / constant_s)


def _shown(luma: NDArray[np.uint8], *, full_range: bool) -> NDArray[np.uint8]:
    """Luma as full range."""
    return luma if full_range else cv2.LUT(luma, _FULL)  # type: ignore[return-value]


def _histogram(luma: NDArray[np.uint8], *, full_range: bool) -> NDArray[np.float32]:
    """(256,), share of each byte of full-range luma, in every second row: fewer would flicker."""
    rows = luma[:: min(2, luma.shape[0])]
    counts = cv2.calcHist([rows], [0], None, [256], [0, 256]).ravel() / rows.size
    if full_range:
        return cast("NDArray[np.float32]", counts)
    return np.bincount(_FULL, weights=counts, minlength=256).astype(np.float32)


_FULL = np.clip((np.arange(256) - 16) * 255 / 219, 0, 255).round().astype(np.uint8)


class _Switch:
    """Dark or not, with hysteresis; and how far the fade has come."""

    def __init__(self, *, always: bool) -> None:
        self._always = always
        self._share = 0.0
        self._before_s: float | None = None
        self.begin_anew()

    def begin_anew(self) -> None:
        """The next picture decides at once."""
        self._dark: bool | None = None
        self._doubted_s: float | None = None
        self._noise, self._measured_s = 0.0, -math.inf

    def share(
        self,
        luma: NDArray[np.uint8],
        before: NDArray[np.uint8] | None,
        seconds: float,
        *,
        full_range: bool,
    ) -> float:
        """Of enhancing that the next picture gets, 0 to 1."""
        if self._always:
            return 1.0
        passed = 0.0 if self._before_s is None else max(0.0, seconds - self._before_s)
        self._before_s = seconds
        light = self._light(luma, before, seconds, full_range=full_range)
        if self._dark is None:
            self._dark = light < DARK
            self._share = float(self._dark)
            return self._share
        if light > LIGHT if self._dark else light < DARK:
            if self._doubted_s is None or seconds < self._doubted_s:
                self._doubted_s = seconds
            if seconds - self._doubted_s >= CERTAIN_S:
                self._dark, self._doubted_s = not self._dark, None
        else:
            self._doubted_s = None
        step = min(passed / FADE_S, 1 / FEWEST)
        self._share = min(1.0, self._share + step) if self._dark else max(0.0, self._share - step)
        return self._share

    def _light(
        self,
        luma: NDArray[np.uint8],
        before: NDArray[np.uint8] | None,
        seconds: float,
        *,
        full_range: bool,
    ) -> float:
        """Median luma, 0 to 255, less what noise counts."""
        shown = float(np.percentile(_shown(_samples(luma), full_range=full_range), 50))
        # In daylight noise decides nothing, and measuring it would take longer than all the rest.
        if not DARK <= shown < LIGHT + NOISE_COUNTS * NOISIEST:
            return shown
        if not 0 <= seconds - self._measured_s < LOOK_EVERY_S:
            self._noise = min(noise_of(luma, before).deviation, NOISIEST)
            self._measured_s = seconds
        return shown - NOISE_COUNTS * self._noise


class _Cuts:
    """Whether another scene begins, or the same one in another kind of light."""

    CHANGED = 0.2
    """Of the brightness that there is, must have changed."""
    ALIKE = 0.6
    """Correlation of two pictures' brightness from which they show the same scene."""
    COLOUR = 5.0
    """Mean distance from grey, in bytes, that comes or goes with an infrared filter."""
    FLOOR = 6.0
    """Bytes of brightness below which a share of it is noise."""
    NOISE = 1.5
    """Structure of so many bytes is noise as well."""

    RARELY_S = 10.0
    """A filter switches no more often: what does is a police car's lamp, or a fire."""

    def __init__(self) -> None:
        self._switched_s = -math.inf
        self._before: tuple[tuple[int, ...], NDArray[np.float32], float] | None = None

    def between(self, planes: Yuv, seconds: float) -> bool:
        """Whether there is a cut between the picture before and this one."""
        tiny = _tiny(planes.y)
        colour = sum(
            float(np.abs(_samples(plane).astype(np.int16) - _GREY).mean())
            for plane in planes.chroma
        )
        before, self._before = self._before, (planes.y.shape, tiny, colour)
        if before is None:
            return False
        size, past, past_colour = before
        if size != planes.y.shape:
            return True
        light = float(tiny.mean() + past.mean()) / 2 + self.FLOOR
        if float(np.abs(tiny - past).mean()) < self.CHANGED * light:
            return self._filtered(colour - past_colour, seconds)
        shared = float(((tiny - tiny.mean()) * (past - past.mean())).mean())
        # Of pictures without structure nothing tells that they are of two scenes.
        alike = (shared + self.NOISE**2) / (float(tiny.std() * past.std()) + self.NOISE**2)
        return alike < self.ALIKE or self._filtered(colour - past_colour, seconds)

    def _filtered(self, change: float, seconds: float) -> bool:
        """Whether an infrared filter came or went, by the change of colour."""
        if abs(change) <= self.COLOUR:
            return False
        rare = not 0 <= seconds - self._switched_s < self.RARELY_S
        self._switched_s = seconds
        return rare


def _samples(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A plane at every so many pixels; of a small one, enough."""
    step = max(1, min(_EVERY, min(plane.shape) // _EVERY))
    return plane[step // 2 :: step, step // 2 :: step]


def _tiny(luma: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(9, 16), in which noise has averaged out."""
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
    # ITU-R BT.601; at this size, and for judging light, BT.709 would say the same.
    rgb = np.stack([y + 1.402 * v, y - 0.344136 * u - 0.714136 * v, y + 1.772 * u], 2)
    return cast("NDArray[np.uint8]", np.clip(np.rint(rgb), 0, 255).astype(np.uint8))
