"""The alarm stage: judges each look and hands events over before the frame goes on.

So an alarm that anybody sees drawn is recorded already, and a frame that a live link drops
behind this stage carries no alarm away with it.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from streamer.alarm.event import Event
from streamer.alarm.policy import Alarm, Observation
from streamer.core.clock import Clock
from streamer.core.frame import AlarmState, Frame, SegmentationResult
from streamer.detect.background import Background
from streamer.detect.false_positive_prior import FalsePositivePrior
from streamer.detect.regions import find_regions
from streamer.detect.zones import Zones

_KEEP_NS: Final = 600 * 1_000_000_000
"""Media time after which what was learnt is worth keeping again."""

_log = structlog.get_logger(__name__)


class AlarmStage:
    """Sets `Frame.alarm_status`.

    Args:
        alarm: The camera's.
        threshold: Probability that a region must reach somewhere, 0 to 1.
        outline: Probability to which it grows from there.
        zones: Where smoke counts.
        clock: Gives a picture its wall time.
        record: Puts an event and its evidence on disk; raises when it cannot.
        background: Held while smoke is suspected.
        usual: Only what exceeds it counts; learns unless an alarm is on. Needs a background, with
            which the segment stage knows the view.
        keep: Called now and then, to keep what was learnt.
    """

    def __init__(
        self,
        alarm: Alarm,
        *,
        threshold: float,
        outline: float | None = None,
        zones: Zones,
        clock: Clock,
        record: Callable[[Event, Frame], None],
        background: Background | None = None,
        usual: FalsePositivePrior | None = None,
        keep: Callable[[], None] | None = None,
    ) -> None:
        if usual is not None and background is None:
            raise ValueError("usual needs a background, by which a moved view is known")
        self._alarm = alarm
        self._threshold = threshold
        self._outline = outline
        self._zones = zones
        self._clock = clock
        self._record = record
        self._background = background
        self._usual = usual
        self._keep = keep
        self._kept_ns: int | None = None

    def __call__(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield every frame with the verdict as it is after it."""
        for frame in frames:
            event = self._judge(frame) if frame.has_fresh_result and not frame.synthetic else None
            judged = replace(frame, alarm_status=self._alarm.alarm_status)
            if event is not None:
                self._record(event, judged)
            yield judged

    def _judge(self, frame: Frame) -> Event | None:
        assert frame.segmentation is not None, "who was looked at has a map"
        rule = self._alarm.rule
        threshold = self._threshold * (
            rule.hysteresis_ratio if self._alarm.active_or_pending else 1
        )
        utc = self._clock.utc_at(frame.arrived_ns)
        regions = find_regions(
            self._news(frame.segmentation, utc),
            threshold=threshold,
            outline=self._outline,
            zones=self._zones,
            min_area=rule.min_area,
            motion=frame.segmentation.motion,
            said=frame.segmentation.probability,
        )
        event = self._alarm.update(
            Observation(
                frame.pts_ns, utc, regions, used_background=frame.segmentation.used_background
            )
        )
        if self._background is not None:
            self._background.hold = self._alarm.active_or_pending
        if self._usual is not None:
            burns = self._alarm.alarm_status.state is AlarmState.ALARM
            self._usual.learn(frame.segmentation.probability, utc, frame.pts_ns, hold=burns)
            self._keep_now_and_then(frame.pts_ns)
        return event

    def _news(self, smoke: SegmentationResult, utc: datetime) -> NDArray[np.float32]:
        """What exceeds the usual."""
        if self._usual is None:
            return smoke.probability
        if self._usual.see(smoke.scene_signature):
            _log.info("another view: learns anew what is usual", camera=self._alarm.camera)
        return self._usual.excess(smoke.probability, utc)

    def _keep_now_and_then(self, pts_ns: int) -> None:
        if self._kept_ns is None:
            self._kept_ns = pts_ns
        elif pts_ns - self._kept_ns >= _KEEP_NS:
            self._kept_ns = pts_ns
            if self._keep is not None:
                self._keep()
