"""The retime stage: which pictures a conversion shows between two of the recording, and makes them.

A repeated picture says nothing about where things were at its time: what is shown then is made
from the pictures around it. Pictures on both sides of a cut are never mixed.
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

_LONGEST_RUN: Final = 3
"""Repeats in a row that are filled with motion: film in video repeats up to three times, drawn
pictures are held for four. What stands longer stands still on purpose."""


class InterpolationPair(Protocol):
    """What a network found out about two pictures."""

    def at(self, t: float, /) -> Sequence[Plane]: ...  # noqa: D102  described by the class


class Interpolator(Protocol):
    """Makes what lies between; `engines.interpolation.model.Interpolator` is one."""

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
"""Of two luma planes, (height, width): does the second repeat the first, go on, or cut?"""


class FrameRateConverter:
    """Yields the frames of a conversion, still by the recording's clock. For one chunk.

    Args:
        retiming: What is asked for.
        form: How the pictures are stored.
        interpolator: Makes pictures; `None` repeats instead, and cuts need not be known.
        compare: Tells repeats and cuts; `None` takes every interval as motion.
        across: Whether what repeats is replaced by motion.
        window_ns: Beginning and end of what is to be shown: frames before only lead up to it, and
            of those after, the first is what the last is mixed with.
    """

    def __init__(
        self,
        retiming: FrameSchedule,
        layout: PixelLayout,
        *,
        interpolator: Interpolator | None,
        compare: Compare | None,
        across: bool,
        window_ns: tuple[int, int],
    ) -> None:
        self._retiming = retiming
        self._layout = layout
        self._interpolator = interpolator
        self._compare = compare if interpolator else None
        self._across = across
        self._begin_ns, self._end_ns = window_ns
        self.synthetic = 0
        self.cuts = 0
        self.repeats = 0

    def __call__(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield what is shown, in order of time."""
        held: list[Frame] = []  # A picture, and its repeats.
        still = False
        for frame in frames:
            if frame.pts_ns < self._begin_ns:
                continue
            relation = self._relation(held, frame)
            if relation is Relation.SAME and frame.pts_ns < self._end_ns:
                self.repeats += 1
                still = still or not self._across or len(held) > _LONGEST_RUN
                if not still:
                    held.append(frame)
                    continue
            else:
                still = False
            if held:
                yield from self._shown(held, frame, relation)
            held = [frame]
        if held and held[0].pts_ns < self._end_ns:
            yield from self._frozen(held, None, self._end_ns)

    def _relation(self, held: list[Frame], frame: Frame) -> Relation:
        if not held or self._compare is None:
            return Relation.MOVING
        return self._compare(self._luma(held[0]), self._luma(frame))

    def _shown(self, held: list[Frame], right: Frame, relation: Relation) -> Iterator[Frame]:
        """What is shown from *held* up to *right*."""
        self.cuts += relation is Relation.CUT
        if self._interpolator is None or relation is not Relation.MOVING:
            yield from self._frozen(held, right, right.pts_ns)
            return
        left, between = held[0], None
        for frame, after, instant in self._instants(held, right, right.pts_ns):
            original = self._original(frame, after, instant)
            if original is left or original is right:
                yield replace(original, pts_ns=instant.pts_ns)
                continue
            between = between or self._between(left, right)
            share = (instant.pts_ns - left.pts_ns) / (right.pts_ns - left.pts_ns)
            picture = frame_from_planes(between.at(share), left.image.video_frame(), self._layout)
            self.synthetic += 1
            yield replace(left, image=Image(picture), pts_ns=instant.pts_ns, synthetic=True)

    def _between(self, left: Frame, right: Frame) -> InterpolationPair:
        assert self._interpolator is not None
        return self._interpolator.between(
            self._planes(left), self._planes(right), depth=self._layout.depth, rgb=self._layout.rgb
        )

    def _frozen(self, held: list[Frame], right: Frame | None, until_ns: int) -> Iterator[Frame]:
        """Pictures as they are, each until the next."""
        for frame, after, instant in self._instants(held, right, until_ns):
            shown = self._original(frame, after, instant) or frame
            yield replace(shown, pts_ns=instant.pts_ns)

    def _instants(
        self, held: list[Frame], right: Frame | None, until_ns: int
    ) -> Iterator[tuple[Frame, Frame | None, OutputFrame]]:
        """What is shown until then, each with the pictures around it."""
        for frame, after in zip(held, [*held[1:], right], strict=True):
            for instant in self._retiming.between(
                frame.pts_ns, until_ns if after is None else after.pts_ns
            ):
                yield frame, after, instant

    @staticmethod
    def _original(frame: Frame, after: Frame | None, instant: OutputFrame) -> Frame | None:
        """The picture of the recording that is shown then, if it is one."""
        return {0.0: frame, 1.0: after}.get(instant.share)

    def _planes(self, frame: Frame) -> Sequence[Plane]:
        return plane_views(frame.image.video_frame(), self._layout)

    def _luma(self, frame: Frame) -> NDArray[np.uint8]:
        luma = self._planes(frame)[0]
        return (
            luma if luma.dtype == np.uint8 else (luma >> (self._layout.depth - 8)).astype(np.uint8)
        )
