"""The apply-detections stage: gives frames the results of an earlier detection pass.

An alarm depends on the minutes before it, while chunks of a recording are converted in any order.
The recording is therefore inferred once, in order of time, and each frame then gets the result that
was current at its time.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from streamer.core.frame import AlarmStatus, Frame, SegmentationResult


class DetectionLog(Protocol):
    """The inferences of a detection pass in order of time; see `streamer.convert.detection_log`."""

    def before(self, pts_ns: int, /) -> int | None:
        """Return the index of the last inference at or before a media time; `None` without one."""
        ...

    def __getitem__(self, index: int, /) -> tuple[SegmentationResult, AlarmStatus]:
        """Return an inference and the status of the alarm after it."""
        ...


class ApplyDetections:
    """Sets `Frame.segmentation` and `Frame.alarm_status` by media time, on synthetic frames too.

    Frames before the first inference get neither. Each call is for one thread; the log is shared.

    Args:
        log: Results of the detection pass.
        result_hold_ns: Media time for which a segmentation is carried on; see
            `streamer.stages.detect.result_hold_ns`.
    """

    def __init__(self, log: DetectionLog, *, result_hold_ns: int) -> None:
        self._log = log
        self._hold_ns = result_hold_ns

    def __call__(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield every frame with the newest result at its time."""
        current: int | None = None
        result: tuple[SegmentationResult, AlarmStatus] | None = None
        for frame in frames:
            index = self._log.before(frame.pts_ns)
            if index != current:
                current, result = index, None if index is None else self._log[index]
            # As in a replay, a frame arrives at its media time, which the overlay shows.
            timed = replace(frame, arrived_ns=frame.pts_ns)
            if result is None:
                yield timed
                continue
            segmentation, alarm_status = result
            outdated = frame.pts_ns - segmentation.pts_ns > self._hold_ns
            yield replace(
                timed, segmentation=None if outdated else segmentation, alarm_status=alarm_status
            )
