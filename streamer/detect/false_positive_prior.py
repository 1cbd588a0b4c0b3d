"""Learned false-positive prior: what the network reports at each place of a scene without smoke.

A network makes the same mistakes in a fixed scene again and again: a mast, a pale roof, a ridge in
haze, a glare at five o'clock. The prior holds the 90th percentile of the smoke probability for each
cell of a 48 x 80 grid and each two hours of the day. It is subtracted before thresholding.

The percentile is followed in small steps (stochastic approximation, Robbins and Monro, 1951), so
that a place reported in every third inference is learned like one reported in all of them.

A camera shows several scenes: by day, in infrared, during a glitch, at another preset. Each scene
has a prior of its own, which is used again when the scene is back.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from .scene import SIGNATURE_SIZE, Signature, same_scene

Map = NDArray[np.float32]
"""(height, width) of probabilities, 0 to 1."""

CELLS: Final = (48, 80)
"""(rows, columns) of the grid."""

BINS: Final = 12
"""Time bins of a day, two hours each; times between two bin centres are interpolated."""

_QUANTILE: Final = 0.9
"""Share of the inferences in which a cell stays at or below its prior."""

_MIN_VALUE: Final = 0.1
"""A prior below this is ignored: the probability is passed through unchanged."""

_MAX_VALUE: Final = 0.85
"""Upper limit of the prior, so that smoke the network is sure of always counts."""

_MAX_STEP_S: Final = 10.0
"""Longest time that one inference stands for: nothing is learned from a gap."""

_REFRESH_UPDATES: Final = 60
"""`suppress` works with a prior that is at most so many updates, or one minute, old."""

_MAX_SCENES: Final = 3
"""Scenes that are stored: by day, in infrared, and one for a glitch."""

_SETTLED_S: Final = 600.0
"""A scene learned for less than this is discarded first: a glitch must not replace the day."""

_LEVELS: Final = 255
_DAY_S: Final = 86_400


@dataclass(slots=True, eq=False)
class _ScenePrior:
    maps: Map
    """(12, 48, 80), 0 to 1."""

    signature: Signature | None = None
    """The newest signature of the scene; `None` before the first."""

    learned_s: float = 0.0
    """Media seconds learned from; 0 while the prior is empty."""


@dataclass(frozen=True, slots=True, eq=False)
class _Suppression:
    """The prior of this minute at the size of the network's maps; `None` if it is ignored."""

    key: tuple[object, ...]
    offset: Map | None
    scale: Map | None


class FalsePositivePrior:
    """The false-positive prior of one camera; for one thread.

    Memory: 12 maps of 48x80, 184 kB, for each of at most three scenes.

    Args:
        learn_s: Seconds in which the prior of a cell rises to 0.6 when its probability always is
            0.6. It falls nine times as slowly, and only by inferences at that time of the day.
    """

    def __init__(self, *, learn_s: float = 1500) -> None:
        if learn_s <= 0:
            raise ValueError(f"learn_s must be above 0, got {learn_s}")
        self._per_s = 0.6 / (learn_s * _QUANTILE)
        self._scenes = [_new_scene()]  # The current one first, then from the latest to the oldest.
        self._updated_ns: int | None = None
        self._updates = 0
        self._suppression: _Suppression | None = None

    def suppress(self, probability: Map, utc: datetime) -> Map:
        """Return `(probability - prior) / (1 - prior)`, at least 0, in the same shape.

        The very same array is returned when nothing is suppressed.

        Args:
            probability: (height, width), 0 to 1.
            utc: Wall time of the frame, aware.
        """
        if self.is_empty:
            return probability
        key = (probability.shape, utc.hour, utc.minute, self._updates // _REFRESH_UPDATES)
        if self._suppression is None or self._suppression.key != key:
            self._suppression = _suppression(self.value_at(utc), key)
        prior = self._suppression
        if prior.offset is None or prior.scale is None:
            return probability
        return cast("Map", np.maximum((probability - prior.offset) * prior.scale, 0))

    def update(self, probability: Map, utc: datetime, pts_ns: int, *, frozen: bool = False) -> None:
        """Learn from one inference.

        Args:
            probability: (height, width), 0 to 1, as the network reported it.
            utc: Wall time of the frame, aware.
            pts_ns: Media time; never decreases.
            frozen: Learn nothing, because there is an alarm: a fire must never be suppressed.
        """
        previous_ns, self._updated_ns = self._updated_ns, pts_ns
        if frozen or previous_ns is None:
            return
        scene = self._scenes[0]
        seconds = min(max(0, pts_ns - previous_ns) / 1e9, _MAX_STEP_S)
        step = self._per_s * seconds
        cells = _max_pool(probability)
        bins = _time_bins(utc)
        # The interpolated value rises by one step, however the two bins share this moment.
        step /= sum(weight**2 for _, weight in bins)
        for number, weight in bins:
            prior = scene.maps[number]
            rise, fall = step * weight * _QUANTILE, -step * weight * (1 - _QUANTILE)
            # Never beyond the current probability, so that a constant one is kept exactly.
            np.add(prior, np.clip(cells - prior, fall, rise), out=prior)
        scene.learned_s += seconds
        self._updates += 1

    def value_at(self, utc: datetime) -> Map:
        """Return the prior at a time of the day, (48, 80), 0 to 1; a copy."""
        total = np.zeros(CELLS, np.float32)
        for number, weight in _time_bins(utc):
            total += np.float32(weight) * self._scenes[0].maps[number]
        return total

    def select_scene(self, signature: Signature | None) -> bool:
        """Select the prior of the scene that the camera shows; call it before `suppress`.

        Args:
            signature: Edge signature of the scene; `None` keeps the current scene.

        Returns:
            Whether a learned scene was left for one without a prior.
        """
        if signature is None:
            return False
        current = self._scenes[0]
        if current.signature is None or same_scene(current.signature, signature):
            current.signature = signature
            return False
        others = self._scenes[1:]
        stored = next((each for each in others if _is_scene(each, signature)), None)
        if stored is not None:
            others.remove(stored)
            stored.signature = signature
        self._scenes = [stored or _new_scene(signature), current, *others]
        self._suppression = None
        if len(self._scenes) > _MAX_SCENES:
            # The latest that is not settled, or else the one not shown for longest.
            unsettled = (each for each in self._scenes[1:] if each.learned_s < _SETTLED_S)
            self._scenes.remove(next(unsettled, self._scenes[-1]))
        return stored is None and current.learned_s > 0

    def clear(self) -> None:
        """Forget everything, in all scenes."""
        self._scenes = [_new_scene(self._scenes[0].signature)]
        self._suppression = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was learned yet in the current scene."""
        return self._scenes[0].learned_s <= 0

    def state(self) -> dict[str, NDArray[Any]] | None:
        """Return all that was learned, for `restore`; `None` while that is nothing.

        `maps` are (scenes, 12, 48, 80) uint8, 255 for probability 1; `signatures` (scenes, 24, 40)
        float32; `learned_s` (scenes,) float32, the media seconds learned from.
        """
        learned = [
            (each, each.signature)
            for each in self._scenes
            if each.learned_s > 0 and each.signature is not None
        ]
        if not learned:
            return None
        maps = np.stack([each.maps for each, _ in learned])
        return {
            "maps": np.rint(np.clip(maps, 0, 1) * _LEVELS).astype(np.uint8),
            "signatures": np.stack([signature for _, signature in learned]).astype(np.float32),
            "learned_s": np.array([each.learned_s for each, _ in learned], np.float32),
        }

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Replace everything by a state; `select_scene` then finds the scene that is shown.

        Raises:
            ValueError: The state has another form or holds invalid values.
        """
        count = check_state(state)
        self._scenes = [
            _ScenePrior(
                state["maps"][number].astype(np.float32) / _LEVELS,
                state["signatures"][number],
                float(state["learned_s"][number]),
            )
            for number in range(count)
        ]
        self._suppression = None


def check_state(state: dict[str, NDArray[Any]]) -> int:
    """Return the number of scenes in a state.

    Raises:
        ValueError: The state has another form or holds invalid values.
    """
    try:
        maps, signatures, learned_s = state["maps"], state["signatures"], state["learned_s"]
    except KeyError as error:
        raise ValueError(f"not a false-positive prior: {error} is missing") from None
    count = len(learned_s) if learned_s.ndim == 1 else 0
    forms = ((maps, (BINS, *CELLS), np.uint8), (signatures, SIGNATURE_SIZE, np.float32),
             (learned_s, (), np.float32))  # fmt: skip
    if not 1 <= count <= _MAX_SCENES or any(
        array.shape != (count, *shape) or array.dtype != kind for array, shape, kind in forms
    ):
        raise ValueError("not a false-positive prior: wrong shapes or types")
    if not (np.isfinite(signatures).all() and np.isfinite(learned_s).all()):
        raise ValueError("not a false-positive prior: a value is not finite")
    return count


def _new_scene(signature: Signature | None = None) -> _ScenePrior:
    return _ScenePrior(np.zeros((BINS, *CELLS), np.float32), signature)


def _is_scene(scene: _ScenePrior, signature: Signature) -> bool:
    return scene.signature is not None and same_scene(scene.signature, signature)


def _suppression(prior: Map, key: tuple[tuple[int, ...], int, int, int]) -> _Suppression:
    if float(prior.max()) < _MIN_VALUE:
        return _Suppression(key, None, None)
    prior[prior < _MIN_VALUE] = 0
    # Dilated by one cell: things sway.
    prior = np.minimum(cv2.dilate(prior, np.ones((3, 3), np.uint8)), _MAX_VALUE)
    offset = cast("Map", cv2.resize(prior, key[0][::-1], interpolation=cv2.INTER_LINEAR))
    return _Suppression(key, offset, np.float32(1) / (np.float32(1) - offset))


def _max_pool(probability: Map) -> Map:
    """Return (48, 80): at least the highest probability in each cell."""
    rows, columns = probability.shape
    height, width = math.ceil(rows / CELLS[0]), math.ceil(columns / CELLS[1])
    if (height, width) != (1, 1):
        # Anchored so that each sample below covers its own cell.
        kernel = np.ones((height, width), np.uint8)
        probability = cast("Map", cv2.dilate(probability, kernel, anchor=(0, 0)))
    y = np.arange(CELLS[0]) * rows // CELLS[0]
    x = np.arange(CELLS[1]) * columns // CELLS[1]
    return probability[np.ix_(y, x)]


def _time_bins(utc: datetime) -> tuple[tuple[int, float], tuple[int, float]]:
    """Return the two bins nearest to a time of the day with their weights; midnight wraps."""
    seconds = utc.hour * 3600 + utc.minute * 60 + utc.second
    position = seconds / _DAY_S * BINS - 0.5  # The centre of bin 0 is at 0.
    first = math.floor(position)
    weight = position - first
    return (first % BINS, 1 - weight), ((first + 1) % BINS, weight)
