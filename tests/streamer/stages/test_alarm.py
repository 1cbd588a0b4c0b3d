"""The alarm stage: judges what exceeds the usual, and lets nothing of a fire become usual."""

from datetime import UTC, datetime

import numpy as np
import pytest
from structlog.testing import capture_logs

from streamer.alarm.policy import Alarm
from streamer.core.clock import MediaClock
from streamer.core.frame import AlarmState, Frame, SegmentationResult
from streamer.core.image import Image
from streamer.detect.background import Background
from streamer.detect.false_positive_prior import FalsePositivePrior
from streamer.detect.view import SceneTracker
from streamer.detect.zones import Zones
from streamer.stages.alarm import AlarmStage

NS = 1_000_000_000
PICTURE = Image.blank((96, 160))
VIEW = np.tile(np.linspace(0, 255, 160, dtype=np.uint8)[None, :, None], (96, 1, 3))


def known(image):
    view = SceneTracker()
    view.at(0, image)
    return view.signature


def frames(chance, seconds, *, start_s=0, view=None):
    view = known(VIEW) if view is None else view
    for second in range(start_s, start_s + seconds):
        probability = np.full((96, 160), 0.02, np.float32)
        probability[40:50, 60:70] = chance
        pts_ns = second * NS
        yield Frame(
            image=PICTURE,
            pts_ns=pts_ns,
            arrived_ns=pts_ns,
            number=second,
            segmentation=SegmentationResult(probability, pts_ns, scene_signature=view),
        )


class Station:
    """A judge with its memory, and what came of it."""

    def __init__(self):
        self.events, self.kept = [], 0
        self.background = Background()
        self.usual = FalsePositivePrior(learn_s=60)
        self.alarm = Alarm("here")
        self.judge = AlarmStage(
            self.alarm,
            threshold=0.4,
            zones=Zones(),
            clock=MediaClock(datetime(2026, 6, 1, 13, tzinfo=UTC)),
            record=lambda event, frame: self.events.append(event),
            background=self.background,
            usual=self.usual,
            keep=self.keep,
        )

    def keep(self):
        self.kept += 1

    def watch(self, shown):
        return [frame.alarm_status.state for frame in self.judge(shown)]


def test_what_smoulders_becomes_usual_and_smoke_there_still_raises():
    station = Station()
    states = station.watch(frames(0.45, 300))
    assert AlarmState.PENDING in states
    assert states[-1] is AlarmState.IDLE
    assert station.events == []
    assert AlarmState.ALARM in station.watch(frames(0.97, 60, start_s=300))
    assert station.background.hold


def test_a_fire_never_becomes_usual():
    station = Station()
    states = station.watch(frames(0.95, 900))
    assert states[-1] is AlarmState.ALARM
    highest = station.usual.at(datetime(2026, 6, 1, 13, tzinfo=UTC)).max()
    assert highest < 0.2, "only the seconds before the alarm were learnt"


def test_a_view_that_moved_is_learnt_anew_and_known_again_when_it_is_back():
    station = Station()
    station.watch(frames(0.45, 300))
    random = np.random.default_rng(1).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    elsewhere = known(random.repeat(8, 0).repeat(8, 1))
    with capture_logs() as logs:
        states = station.watch(frames(0.45, 10, start_s=302, view=elsewhere))
        assert AlarmState.PENDING in states
    assert [(entry["camera"], entry["event"]) for entry in logs] == [
        ("here", "another view: learns anew what is usual")
    ]
    assert AlarmState.IDLE is station.watch(frames(0.45, 30, start_s=320))[-1]


def test_what_was_learnt_is_kept_every_ten_minutes():
    station = Station()
    station.watch(frames(0.1, 1805))
    assert station.kept == 3


def test_without_a_background_nothing_can_be_usual():
    with pytest.raises(ValueError, match="background"):
        AlarmStage(
            Alarm("here"),
            threshold=0.4,
            zones=Zones(),
            clock=MediaClock(datetime(2026, 6, 1, tzinfo=UTC)),
            record=lambda event, frame: None,
            usual=FalsePositivePrior(),
        )
