"""The alarm stage: updates the alarm with each detector result and records its events.

An event is recorded before its frame is passed on. An alarm that is shown is therefore always
stored, and a frame that a live link drops behind this stage takes no alarm with it.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

from streamer.alarm.event import Event
from streamer.alarm.policy import Alarm, Observation
from streamer.core.clock import Clock
from streamer.core.frame import Frame


class AlarmStage:
    """Sets `Frame.alarm_status`.

    Args:
        alarm: Of this camera.
        clock: Gives the wall time of a frame.
        record: Stores an event with its evidence; raises if it cannot.
    """

    def __init__(
        self, alarm: Alarm, *, clock: Clock, record: Callable[[Event, Frame], None]
    ) -> None:
        self._alarm = alarm
        self._clock = clock
        self._record = record

    def __call__(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield every frame with the status of the alarm after it."""
        for frame in frames:
            events = self._update(frame)
            updated = replace(frame, alarm_status=self._alarm.status)
            with ExitStack() as recording:  # One that fails keeps no other from being recorded.
                for event in reversed(events):
                    recording.callback(self._record, event, updated)
            yield updated

    def _update(self, frame: Frame) -> tuple[Event, ...]:
        result = frame.detector_result
        if result is None:
            return ()
        return self._alarm.update(
            Observation(
                frame.pts_ns,
                self._clock.utc_at(frame.arrived_ns),
                result.detections,
                used_background=result.used_background,
            )
        )
