"""The detect stage: runs the detector on sampled frames and carries its result on to the others."""

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Final

import structlog

from streamer.alarm.policy import Alarm
from streamer.core.frame import Frame, SegmentationResult
from streamer.detect.detector import Detector
from streamer.detect.inference_scheduler import Seat

_NS: Final = 1_000_000_000

_log = structlog.get_logger(__name__)


def result_hold_ns(inference_interval_ns: int) -> int:
    """Return the media time for which a result is carried on; an older one is from before a gap."""
    return 3 * inference_interval_ns + _NS


class DetectStage:
    """Sets `Frame.segmentation`, and `Frame.detector_result` on frames that were inferred.

    The stage behind it must update the alarm with each result before it takes the next frame, in
    the same thread: the state of the alarm decides how the next frame is handled.

    Args:
        detector: Of this camera.
        alarm: Of this camera; only read.
        inference_interval_ns: Media time between two sampled frames.
        seat: The camera's place at the engine. It admits the frames to be inferred, as the gate of
            the link in front of this stage. `None` infers every sampled frame.
    """

    def __init__(
        self,
        detector: Detector,
        alarm: Alarm,
        *,
        inference_interval_ns: int,
        seat: Seat | None = None,
    ) -> None:
        if inference_interval_ns < 1:
            raise ValueError(
                f"inference_interval_ns must be at least 1, got {inference_interval_ns}"
            )
        self._detector = detector
        self._alarm = alarm
        self._hold_ns = result_hold_ns(inference_interval_ns)
        self._seat = seat

    def __call__(self, frames: Iterator[Frame]) -> Generator[Frame]:
        """Yield every frame with the newest result, its own or that of an earlier frame."""
        newest: SegmentationResult | None = None
        try:
            for frame in frames:
                if frame.sampled and not frame.synthetic:
                    detected = self._detect(frame)
                    newest = detected.segmentation
                    yield detected
                elif newest is None or frame.pts_ns - newest.pts_ns > self._hold_ns:
                    yield frame
                else:
                    yield replace(frame, segmentation=newest)
        finally:
            self._detector.flush(alarm_state=self._alarm.status.state)

    def _detect(self, frame: Frame) -> Frame:
        with self._inference(frame):
            result = self._detector.detect(frame, alarm_state=self._alarm.status.state)
        if self._seat is not None and self._seat.is_late(frame):
            result = replace(result, late=True)
        if result.entered_new_scene:
            _log.info("new scene: learns a false-positive prior", camera=self._alarm.camera)
        return replace(frame, segmentation=result.segmentation, detector_result=result)

    def _inference(self, frame: Frame) -> AbstractContextManager[None]:
        return nullcontext() if self._seat is None else self._seat.inference(frame)
