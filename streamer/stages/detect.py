"""The segment stage: asks the network where there is smoke, once an interval."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.smoke.yuv_model import Seen, View
from engines.smoke.zoom_verification import (
    WINDOW,
    Box,
    Network,
    crop_region,
    verify,
    verify_regions,
)
from engines.yuv import even_window
from streamer.core.frame import Frame, SegmentationResult
from streamer.core.image import Image
from streamer.detect.background import Background
from streamer.detect.decoded_planes import decoded_yuv
from streamer.detect.motion import FrameDifference

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


class Segmenter(Protocol):
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


class GpuSegmenter(Protocol):
    """The same network on a GPU; `engines.smoke.yuv_model.SmokeYuvModel` is one."""

    input_size: tuple[int, int]

    @property
    def ready(self) -> bool:
        """Whether a GPU computes at this moment."""
        ...

    def look(  # noqa: D102  described by the class
        self, views: Sequence[View], /, *, level: float, dark: bool = False
    ) -> list[Seen]: ...


class _Look(NamedTuple):
    image: NDArray[np.uint8]
    """(h, w, 3) RGB: what was looked at."""
    probability: NDArray[np.float32]
    used_background: bool


class Segment:
    """Sets `Frame.smoke`. Between two looks a frame carries the last look's map on.

    Args:
        model: Shared by all cameras.
        on_gpu: The same, for pictures as they were decoded; whenever it is ready it looks instead.
        interval_ns: Media time from look to look.
        background: The camera's slow background; `None` for cameras that move.
        suspect: Probability above which a place is looked at again, larger, before it counts, and
            that to which it grows; `None` looks once.
        brighten: Gives the picture to look at, another one if it was dark; `None` looks at what
            the camera sent.
    """

    def __init__(
        self,
        model: Segmenter,
        *,
        interval_ns: int,
        on_gpu: GpuSegmenter | None = None,
        background: Background | None = None,
        suspect: tuple[float, float] | None = None,
        brighten: Callable[[Frame], Image] | None = None,
    ) -> None:
        if interval_ns < 1:
            raise ValueError(f"interval_ns must be at least 1, got {interval_ns}")
        self._model = model
        self._on_gpu = on_gpu
        self._timetable = _Timetable(interval_ns)
        self._carried_ns = carried_ns(interval_ns)
        self._background = background
        self._suspect = suspect
        self._brighten = brighten
        self._motion = FrameDifference()

    def __call__(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield every frame, with what the network saw in it or in one before."""
        last: SegmentationResult | None = None
        for frame in frames:
            if frame.synthetic:
                yield frame if last is None else replace(frame, segmentation=last)
                continue
            if self._timetable.due(frame.pts_ns) or last is None:
                last = self._look(frame)
            old = frame.pts_ns - last.pts_ns > self._carried_ns
            yield frame if old else replace(frame, segmentation=last)

    def _look(self, frame: Frame) -> SegmentationResult:
        picture = frame.image if self._brighten is None else self._brighten(frame)
        lifted = picture is not frame.image
        if self._on_gpu is not None and self._on_gpu.ready:
            look = self._by_planes(self._on_gpu, picture, frame.pts_ns, lifted=lifted)
        else:
            look = self._by_rgb(picture, frame.pts_ns, lifted=lifted)
        look.probability.flags.writeable = False
        motion = self._motion.at(frame.pts_ns, look.image, look.probability.shape)
        # In the map, because the stage that asks for it runs behind this one.
        view = self._background.view.signature if self._background else None
        return SegmentationResult(
            look.probability, frame.pts_ns, motion, view, used_background=look.used_background
        )

    def _by_rgb(self, picture: Image, pts_ns: int, *, lifted: bool) -> _Look:
        model: Network = partial(self._model, dark=True) if lifted else self._model
        image = picture.rgb(self._model.input_size)
        normal = self._background.at(pts_ns, image) if self._background else None
        probability = model(image, normal)
        if self._suspect is not None:
            probability = verify(
                model,
                probability,
                picture.rgb_part,
                threshold=self._suspect[0],
                low_threshold=self._suspect[1],
                native=picture.size,
                background=normal,
            )
        return _Look(image, probability, normal is not None)

    def _by_planes(
        self, model: GpuSegmenter, picture: Image, pts_ns: int, *, lifted: bool
    ) -> _Look:
        planes = decoded_yuv(picture)
        threshold, outline = self._suspect or (1.0, 1.0)
        level = min(threshold, outline)

        def look(normal: NDArray[np.uint8] | None) -> Seen:
            view = View(planes, planes.full_window, model.input_size, normal)
            return model.look([view], level=level, dark=lifted)[0]

        known = self._background.known if self._background else None
        seen = look(known)
        normal = self._background.at(pts_ns, seen.image) if self._background else None
        if normal is not known:  # Every background lasts a while: this is a picture in many.
            seen = look(normal)
        if self._suspect is None or seen.measures.peak <= threshold:
            return _Look(seen.image, seen.mask, normal is not None)

        def again(boxes: Sequence[Box]) -> Iterable[NDArray[np.float32]]:
            views = []
            for box in boxes:
                part, window = planes.crop(even_window(box, planes.size), WINDOW)
                before = None if normal is None else crop_region(normal, box, WINDOW)
                views.append(View(part, window, WINDOW, before))
            return (each.mask for each in model.look(views, level=level, dark=lifted))

        probability = verify_regions(
            seen.mask, again, threshold=threshold, low_threshold=outline, native=picture.size
        )
        return _Look(seen.image, probability, normal is not None)
