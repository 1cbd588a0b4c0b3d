"""The segment stage: asks the network where there is smoke, once an interval."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.smoke.second_look import Network, look_again
from streamer.alarm.background import Background
from streamer.alarm.motion import Motion
from streamer.frame import Frame, SmokeMap
from streamer.picture import Picture

_NS: Final = 1_000_000_000
_EARLY: Final = 0.05
"""A frame that comes this share of the interval early still counts as due: cameras jitter."""


def carried_ns(interval_ns: int) -> int:
    """Media time for which a map is carried on; an older one is of a picture before a gap."""
    return 3 * interval_ns + _NS


class _Timetable:
    """When looks are due: on a grid, so that their rate is what was asked for at any frame rate."""

    def __init__(self, interval_ns: int) -> None:
        self._interval_ns = interval_ns
        self._early_ns = round(interval_ns * _EARLY)
        self._due_ns: int | None = None

    def due(self, pts_ns: int) -> bool:
        """Whether the frame at *pts_ns* is to be looked at; each is asked for once."""
        if self._due_ns is None:
            self._due_ns = pts_ns
        if pts_ns < self._due_ns - self._early_ns:
            return False
        self._due_ns += self._interval_ns
        if self._due_ns - self._early_ns <= pts_ns:  # After a gap the grid begins anew.
            self._due_ns = pts_ns + self._interval_ns
        return True


class Looker(Protocol):
    """A smoke network; `engines.smoke.model.SmokeModel` is one."""

    input_size: tuple[int, int]

    def __call__(  # noqa: D102  described by the class
        self,
        image: NDArray[np.uint8],
        background: NDArray[np.uint8] | None = None,
        /,
        *,
        dark: bool = False,
    ) -> NDArray[np.float32]: ...


class Segment:
    """Sets `Frame.smoke`. Between two looks a frame carries the last look's map on.

    Args:
        model: Shared by all cameras.
        interval_ns: Media time from look to look.
        background: The camera's slow background; `None` for cameras that move.
        suspect: Probability above which a place is looked at again, larger, before it counts, and
            that to which it grows; `None` looks once.
        brighten: Gives the picture to look at, another one if it was dark; `None` looks at what
            the camera sent.
    """

    def __init__(
        self,
        model: Looker,
        *,
        interval_ns: int,
        background: Background | None = None,
        suspect: tuple[float, float] | None = None,
        brighten: Callable[[Frame], Picture] | None = None,
    ) -> None:
        if interval_ns < 1:
            raise ValueError(f"interval_ns must be at least 1, got {interval_ns}")
        self._model = model
        self._timetable = _Timetable(interval_ns)
        self._carried_ns = carried_ns(interval_ns)
        self._background = background
        self._suspect = suspect
        self._brighten = brighten
        self._motion = Motion()

    def __call__(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield every frame, with what the network saw in it or in one before."""
        last: SmokeMap | None = None
        for frame in frames:
            if frame.synthetic:
                yield frame if last is None else replace(frame, smoke=last)
                continue
            if self._timetable.due(frame.pts_ns) or last is None:
                last = self._look(frame)
            old = frame.pts_ns - last.pts_ns > self._carried_ns
            yield frame if old else replace(frame, smoke=last)

    def _look(self, frame: Frame) -> SmokeMap:
        picture = frame.picture if self._brighten is None else self._brighten(frame)
        lifted = picture is not frame.picture
        model: Network = partial(self._model, dark=True) if lifted else self._model
        image = picture.rgb(self._model.input_size)
        normal = self._background.at(frame.pts_ns, image) if self._background else None
        probability = model(image, normal)
        if self._suspect is not None:
            probability = look_again(
                model,
                probability,
                picture.rgb_part,
                threshold=self._suspect[0],
                outline=self._suspect[1],
                native=picture.size,
                background=normal,
            )
        probability.flags.writeable = False
        motion = self._motion.at(frame.pts_ns, image, probability.shape)
        # In the map, because the stage that asks for it runs behind this one.
        view = self._background.view.signature if self._background else None
        return SmokeMap(probability, frame.pts_ns, motion, view, compared=normal is not None)
