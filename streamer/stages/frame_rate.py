"""The frame-rate stage: repeats, drops or interpolates frames so that they follow a schedule.

A duplicate does not show where things were at its time, so it is replaced by an interpolated frame.
Frames on both sides of a scene change are never mixed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.interpolation.scene_change import Relation
from streamer.core.frame import Frame
from streamer.core.frame_schedule import FrameSchedule, OutputFrame
from streamer.core.image import Image
from streamer.core.pixel_format import PixelLayout, Plane, frame_from_planes, plane_views

_MAX_DUPLICATES: Final = 3
"""Consecutive duplicates that are replaced by motion: film in video has up to three, and animation
holds a drawing for four frames. What stands longer is meant to stand still."""


class InterpolationPair(Protocol):
    """Two frames between which an interpolator has estimated the motion."""

    def at(self, t: float, /) -> Sequence[Plane]: ...  # noqa: D102  described by the class


class Interpolator(Protocol):
    """Interpolates frames; `engines.interpolation.model.Interpolator` is one."""

    def between(  # noqa: D102  described by the class
        self,
        before: Sequence[Plane],
        after: Sequence[Plane],
        /,
        *,
        depth: int,
        rgb: bool,
    ) -> InterpolationPair: ...


Compare = Callable[[NDArray[np.uint8], NDArray[np.uint8]], Relation]
"""Compares two luma planes, (height, width): is the second a duplicate, motion or another scene?"""


class FrameRateConverter:
    """Yields the output frames of a chunk, with times by the clock of the recording.

    Args:
        schedule: Of the output.
        layout: Pixel format of the frames.
        interpolator: Makes frames; `None` repeats frames instead, and compares nothing.
        compare: Finds duplicates and scene changes; `None` takes every interval as motion.
        interpolate_duplicates: Whether motion replaces duplicates.
        window_ns: Half-open interval [begin, end) of the output. Frames before it are ignored; the
            first one after it is what its last frame is interpolated with.
    """

    def __init__(
        self,
        schedule: FrameSchedule,
        layout: PixelLayout,
        *,
        interpolator: Interpolator | None,
        compare: Compare | None,
        interpolate_duplicates: bool,
        window_ns: tuple[int, int],
    ) -> None:
        self._schedule = schedule
        self._layout = layout
        self._interpolator = interpolator
        self._compare = compare if interpolator else None
        self._interpolate_duplicates = interpolate_duplicates
        self._begin_ns, self._end_ns = window_ns
        self.synthetic = 0
        """Interpolated frames so far."""

        self.scene_changes = 0
        self.duplicates = 0
        """Duplicates in the recording so far."""

    def __call__(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield the output frames in order of time."""
        pending: list[Frame] = []  # A frame, and its duplicates.
        still = False
        for frame in frames:
            if frame.pts_ns < self._begin_ns:
                continue
            relation = self._relation(pending, frame)
            if relation is Relation.SAME and frame.pts_ns < self._end_ns:
                self.duplicates += 1
                still = still or not self._interpolate_duplicates or len(pending) > _MAX_DUPLICATES
                if not still:
                    pending.append(frame)
                    continue
            else:
                still = False
            if pending:
                yield from self._interval(pending, frame, relation)
            pending = [frame]
        if pending and pending[0].pts_ns < self._end_ns:
            yield from self._repeated(pending, None, self._end_ns)

    def _relation(self, pending: list[Frame], frame: Frame) -> Relation:
        if not pending or self._compare is None:
            return Relation.MOVING
        return self._compare(self._luma(pending[0]), self._luma(frame))

    def _interval(self, pending: list[Frame], right: Frame, relation: Relation) -> Iterator[Frame]:
        """Yield the output frames from the first of *pending* up to *right*."""
        self.scene_changes += relation is Relation.CUT
        if self._interpolator is None or relation is not Relation.MOVING:
            yield from self._repeated(pending, right, right.pts_ns)
            return
        left, pair = pending[0], None
        for frame, after, output in self._scheduled(pending, right, right.pts_ns):
            original = self._original(frame, after, output)
            if original is left or original is right:
                yield replace(original, pts_ns=output.pts_ns)
                continue
            pair = pair or self._pair(left, right)
            phase = (output.pts_ns - left.pts_ns) / (right.pts_ns - left.pts_ns)
            made = frame_from_planes(pair.at(phase), left.image.video_frame(), self._layout)
            self.synthetic += 1
            yield replace(left, image=Image(made), pts_ns=output.pts_ns, synthetic=True)

    def _pair(self, left: Frame, right: Frame) -> InterpolationPair:
        assert self._interpolator is not None
        return self._interpolator.between(
            self._planes(left), self._planes(right), depth=self._layout.depth, rgb=self._layout.rgb
        )

    def _repeated(
        self, pending: list[Frame], right: Frame | None, until_ns: int
    ) -> Iterator[Frame]:
        """Yield the frames of the recording, each until the next one."""
        for frame, after, output in self._scheduled(pending, right, until_ns):
            shown = self._original(frame, after, output) or frame
            yield replace(shown, pts_ns=output.pts_ns)

    def _scheduled(
        self, pending: list[Frame], right: Frame | None, until_ns: int
    ) -> Iterator[tuple[Frame, Frame | None, OutputFrame]]:
        """Yield the output frames up to *until_ns*, each with the frames around it."""
        for frame, after in zip(pending, [*pending[1:], right], strict=True):
            for output in self._schedule.between(
                frame.pts_ns, until_ns if after is None else after.pts_ns
            ):
                yield frame, after, output

    @staticmethod
    def _original(frame: Frame, after: Frame | None, output: OutputFrame) -> Frame | None:
        """Return the frame of the recording that *output* is; `None` if it lies between two."""
        return {0.0: frame, 1.0: after}.get(output.phase)

    def _planes(self, frame: Frame) -> Sequence[Plane]:
        return plane_views(frame.image.video_frame(), self._layout)

    def _luma(self, frame: Frame) -> NDArray[np.uint8]:
        luma = self._planes(frame)[0]
        return (
            luma if luma.dtype == np.uint8 else (luma >> (self._layout.depth - 8)).astype(np.uint8)
        )
