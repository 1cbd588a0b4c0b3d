"""The alarm stage: judges each look and hands events over before the frame goes on.

So an alarm that anybody sees drawn is recorded already, and a frame that a live link drops
behind this stage carries no alarm away with it.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from streamer.alarm.background import Background
from streamer.alarm.event import Event
from streamer.alarm.regions import find_regions
from streamer.alarm.rule import Alarm, Observation
from streamer.alarm.zones import Zones
from streamer.clock import Clock
from streamer.frame import Frame


class Judge:
    """Sets `Frame.verdict`.

    Args:
        alarm: The camera's.
        threshold: Probability from which a region counts, 0 to 1.
        zones: Where smoke counts.
        clock: Gives a picture its wall time.
        record: Puts an event and its evidence on disk; raises when it cannot.
        background: Held while smoke is suspected.
    """

    def __init__(
        self,
        alarm: Alarm,
        *,
        threshold: float,
        zones: Zones,
        clock: Clock,
        record: Callable[[Event, Frame], None],
        background: Background | None = None,
    ) -> None:
        self._alarm = alarm
        self._threshold = threshold
        self._zones = zones
        self._clock = clock
        self._record = record
        self._background = background

    def __call__(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Yield every frame with the verdict as it is after it."""
        for frame in frames:
            event = self._judge(frame) if frame.looked and not frame.synthetic else None
            judged = replace(frame, verdict=self._alarm.verdict)
            if event is not None:
                self._record(event, judged)
            yield judged

    def _judge(self, frame: Frame) -> Event | None:
        assert frame.smoke is not None, "who was looked at has a map"
        rule = self._alarm.rule
        threshold = self._threshold * (rule.keep_ratio if self._alarm.alert else 1)
        regions = find_regions(
            frame.smoke.probability,
            threshold=threshold,
            zones=self._zones,
            min_area=rule.min_area,
            motion=frame.smoke.motion,
        )
        utc = self._clock.utc_at(frame.arrived_ns)
        event = self._alarm.update(Observation(frame.pts_ns, utc, regions))
        if self._background is not None:
            self._background.hold = self._alarm.alert
        return event
