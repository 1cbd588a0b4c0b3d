"""The recall stage: what was seen and judged in an earlier pass, given to the frames of its time.

An alarm remembers minutes. Where a recording is converted piece by piece, in any order, it was
judged in one pass before, and each frame gets what held at its time.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from streamer.core.frame import AlarmStatus, Frame, SegmentationResult


class DetectionLog(Protocol):
    """All inferences of a pass in order of time; see `streamer.convert.detection_log`."""

    def before(self, pts_ns: int, /) -> int | None:
        """The number of the last look at or before a media time; `None` before the first."""
        ...

    def __getitem__(self, number: int, /) -> tuple[SegmentationResult, AlarmStatus]:
        """A look, and the verdict after it."""
        ...


class ApplyDetections:
    """Sets `Frame.smoke` and `Frame.alarm_status` by the frame's time; synthetic frames too.

    Frames before the first look have neither. A call belongs to one thread, `looks` to many.

    Args:
        looks: What was seen.
        carried_ns: Media time for which a map is carried on, as in the segment stage.
    """

    def __init__(self, looks: DetectionLog, *, carried_ns: int) -> None:
        self._looks = looks
        self._carried_ns = carried_ns

    def __call__(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield every frame with what was seen last at its time."""
        known: int | None = None
        look: tuple[SegmentationResult, AlarmStatus] | None = None
        for frame in frames:
            number = self._looks.before(frame.pts_ns)
            if number != known:
                known, look = number, None if number is None else self._looks[number]
            # As in a replay, a picture arrives at its media time: that is what an overlay shows.
            shown = replace(frame, arrived_ns=frame.pts_ns)
            if look is None:
                yield shown
                continue
            smoke, alarm_status = look
            old = frame.pts_ns - smoke.pts_ns > self._carried_ns
            yield replace(shown, segmentation=None if old else smoke, alarm_status=alarm_status)
