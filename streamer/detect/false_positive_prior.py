"""What the network usually says of each place at each time of the day, and what exceeds it.

A network is wrong about the same things of a fixed view again and again: a mast, a pale roof, a
ridge in haze, a glare at five. Whatever it says there every day is no news. The memory keeps, for
each place and time of the day, the probability that is seldom exceeded there; what is judged is the
excess.

A high quantile, followed by small steps (stochastic approximation, Robbins and Monro, 1951): a
place that is called smoke every third look is known by it as well as one that always is.

A camera has more than one view: by day and in infrared, between two glitches, back from a preset.
What was learnt of a view is set aside while another is shown, and taken up again when it is back.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from .view import SIGNATURE_SIZE, Signature, same

Map = NDArray[np.float32]

CELLS: Final = (48, 80)
"""(rows, columns) of the memory."""

BINS: Final = 12
"""Times of the day that are told apart: two hours each, the time between two blended."""

_QUANTILE: Final = 0.9
"""Share of the looks in which a place stays at or below what is usual there."""

_NOT_WORTH: Final = 0.1
"""Less than this is usual everywhere: there the network's word stands as it is."""

_MOST: Final = 0.85
"""However usual, smoke that the network is sure of still counts."""

_LONGEST_S: Final = 10.0
"""A look speaks for at most so many seconds: a gap teaches nothing."""

_LESSONS: Final = 60
"""What exceeds is judged by a memory that is at most so many looks, or a minute, old."""

_VIEWS: Final = 3
"""Views that are remembered: by day, in infrared, and room for a glitch."""

_KNOWN_S: Final = 600.0
"""A view that was learnt for less makes room first: a glitch must not push out the day."""

_LEVELS: Final = 255
_DAY_S: Final = 86_400


@dataclass(slots=True, eq=False)
class _Learnt:
    """What is known of one view."""

    maps: Map
    """(12, 48, 80), 0 to 1."""

    view: Signature | None = None
    """As it was last seen; `None` before the first."""

    taught_s: float = 0.0
    """Seconds of looks that went into it; 0 while nothing is known."""


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """What is usual now, at the size of the network's maps; `None` where nothing is."""

    key: tuple[object, ...]
    base: Map | None
    scale: Map | None


class FalsePositivePrior:
    """The memory of one camera.

    Memory: 12 maps of 48x80 a view, 184 kB; at most three views. For one thread.

    Args:
        learn_s: Seconds in which a place that is always at 0.6 becomes usual. It is forgotten nine
            times as slowly, and only by looks at that time of the day.
    """

    def __init__(self, *, learn_s: float = 1500) -> None:
        if learn_s <= 0:
            raise ValueError(f"learn_s must be above 0, got {learn_s}")
        self._per_s = 0.6 / (learn_s * _QUANTILE)
        self._learnt = [_nothing_learnt()]  # Of the view that is shown, then the latest before it.
        self._looked_ns: int | None = None
        self._lessons = 0
        self._prepared: _Prepared | None = None

    def excess(self, probability: Map, utc: datetime) -> Map:
        """What exceeds the usual, of the same shape, 0 to 1; the very same array if nothing does.

        Args:
            probability: (h, w), 0 to 1.
            utc: When it was seen, aware.
        """
        if self.blank:
            return probability
        key = (probability.shape, utc.hour, utc.minute, self._lessons // _LESSONS)
        if self._prepared is None or self._prepared.key != key:
            self._prepared = _prepare(self.at(utc), key)
        usual = self._prepared
        if usual.base is None or usual.scale is None:
            return probability
        return cast("Map", np.maximum((probability - usual.base) * usual.scale, 0))

    def learn(self, probability: Map, utc: datetime, pts_ns: int, *, hold: bool = False) -> None:
        """Take a look into the memory.

        Args:
            probability: (h, w), 0 to 1, as the network said it.
            utc: When it was seen, aware.
            pts_ns: Media time; never falls.
            hold: Learn nothing: a fire must never become usual.
        """
        before_ns, self._looked_ns = self._looked_ns, pts_ns
        if hold or before_ns is None:
            return
        shown = self._learnt[0]
        seconds = min(max(0, pts_ns - before_ns) / 1e9, _LONGEST_S)
        step = self._per_s * seconds
        seen = _pooled(probability)
        bins = _bins(utc)
        # So that both together rise by a step, however they share this moment.
        step /= sum(weight**2 for _, weight in bins)
        for number, weight in bins:
            usual = shown.maps[number]
            rise, fall = step * weight * _QUANTILE, -step * weight * (1 - _QUANTILE)
            # Never past what was seen: at rest it stays there.
            np.add(usual, np.clip(seen - usual, fall, rise), out=usual)
        shown.taught_s += seconds
        self._lessons += 1

    def at(self, utc: datetime) -> Map:
        """What is usual at a time of the day, (48, 80), 0 to 1; a copy."""
        total = np.zeros(CELLS, np.float32)
        for number, weight in _bins(utc):
            total += np.float32(weight) * self._learnt[0].maps[number]
        return total

    def see(self, view: Signature | None) -> bool:
        """Be told which view the camera shows, before each look.

        Args:
            view: What it is known by; `None` changes nothing.

        Returns:
            Whether something was known, but of another view than this.
        """
        if view is None:
            return False
        shown = self._learnt[0]
        if shown.view is None or same(shown.view, view):
            shown.view = view
            return False
        before = self._learnt[1:]
        back = next((each for each in before if _is_of(each, view)), None)
        if back is not None:
            before.remove(back)
            back.view = view
        self._learnt = [back or _nothing_learnt(view), shown, *before]
        self._prepared = None
        if len(self._learnt) > _VIEWS:
            # The latest that was hardly learnt, or else the one not shown for longest.
            hardly = (each for each in self._learnt[1:] if each.taught_s < _KNOWN_S)
            self._learnt.remove(next(hardly, self._learnt[-1]))
        return back is None and shown.taught_s > 0

    def forget(self) -> None:
        """Begin anew, whatever the view."""
        self._learnt = [_nothing_learnt(self._learnt[0].view)]
        self._prepared = None

    @property
    def blank(self) -> bool:
        """Whether nothing is known of the view that is shown."""
        return self._learnt[0].taught_s <= 0

    def state(self) -> dict[str, NDArray[Any]] | None:
        """Everything that is known, for `restore`; `None` while that is nothing.

        `maps` are (views, 12, 48, 80) uint8, 255 for certain; `view` (views, 24, 40) float32;
        `taught_s` (views,) float32.
        """
        worth = [(each, each.view) for each in self._learnt if each.taught_s > 0]
        known = [(each, view) for each, view in worth if view is not None]
        if not known:
            return None
        maps = np.stack([each.maps for each, _ in known])
        return {
            "maps": np.rint(np.clip(maps, 0, 1) * _LEVELS).astype(np.uint8),
            "view": np.stack([view for _, view in known]).astype(np.float32),
            "taught_s": np.array([each.taught_s for each, _ in known], np.float32),
        }

    def restore(self, state: dict[str, NDArray[Any]]) -> None:
        """Take over what another program learnt; `see` decides which of it is of this view.

        Raises:
            ValueError: It is of another form, or holds what no memory can.
        """
        count = checked(state)
        self._learnt = [
            _Learnt(
                state["maps"][number].astype(np.float32) / _LEVELS,
                state["view"][number],
                float(state["taught_s"][number]),
            )
            for number in range(count)
        ]
        self._prepared = None


def checked(state: dict[str, NDArray[Any]]) -> int:
    """How many views a state is of.

    Raises:
        ValueError: It is of another form, or holds what no memory can.
    """
    try:
        maps, view, taught_s = state["maps"], state["view"], state["taught_s"]
    except KeyError as error:
        raise ValueError(f"not a memory of this form: there is no {error}") from None
    count = len(taught_s) if taught_s.ndim == 1 else 0
    forms = ((maps, (BINS, *CELLS), np.uint8), (view, SIGNATURE_SIZE, np.float32),
             (taught_s, (), np.float32))  # fmt: skip
    if not 1 <= count <= _VIEWS or any(
        array.shape != (count, *shape) or array.dtype != kind for array, shape, kind in forms
    ):
        raise ValueError("not a memory of this form")
    if not (np.isfinite(view).all() and np.isfinite(taught_s).all()):
        raise ValueError("not a memory: it holds what is no number")
    return count


def _nothing_learnt(view: Signature | None = None) -> _Learnt:
    return _Learnt(np.zeros((BINS, *CELLS), np.float32), view)


def _is_of(learnt: _Learnt, view: Signature) -> bool:
    return learnt.view is not None and same(learnt.view, view)


def _prepare(usual: Map, key: tuple[tuple[int, ...], int, int, int]) -> _Prepared:
    if float(usual.max()) < _NOT_WORTH:
        return _Prepared(key, None, None)
    usual[usual < _NOT_WORTH] = 0
    usual = np.minimum(cv2.dilate(usual, np.ones((3, 3), np.uint8)), _MOST)  # things sway
    base = cast("Map", cv2.resize(usual, key[0][::-1], interpolation=cv2.INTER_LINEAR))
    return _Prepared(key, base, np.float32(1) / (np.float32(1) - base))


def _pooled(probability: Map) -> Map:
    """(48, 80): the highest probability in each cell, and no less than that."""
    rows, columns = probability.shape
    tall, wide = math.ceil(rows / CELLS[0]), math.ceil(columns / CELLS[1])
    if (tall, wide) != (1, 1):
        # Anchored so that each sample below sees its own cell.
        kernel = np.ones((tall, wide), np.uint8)
        probability = cast("Map", cv2.dilate(probability, kernel, anchor=(0, 0)))
    y = np.arange(CELLS[0]) * rows // CELLS[0]
    x = np.arange(CELLS[1]) * columns // CELLS[1]
    return probability[np.ix_(y, x)]


def _bins(utc: datetime) -> tuple[tuple[int, float], tuple[int, float]]:
    """The two times of the day nearest to this one, and the share of each; cyclic at midnight."""
    seconds = utc.hour * 3600 + utc.minute * 60 + utc.second
    at = seconds / _DAY_S * BINS - 0.5  # bins are known by their middle
    first = math.floor(at)
    share = at - first
    return (first % BINS, 1 - share), ((first + 1) % BINS, share)
