"""The alarm stage, and the alarm's feedback to the detector when both run as one stage."""

from datetime import UTC, datetime

import numpy as np
import pytest
from structlog.testing import capture_logs

from streamer.alarm.event import EventKind
from streamer.alarm.policy import Alarm
from streamer.app.detector_builder import detection_stage
from streamer.core.clock import MediaClock
from streamer.core.errors import StorageError
from streamer.core.frame import AlarmState, Detection, DetectorResult, Frame, SegmentationResult
from streamer.core.image import Canvas
from streamer.detect.detector import Detector, Thresholds
from streamer.detect.false_positive_prior import FalsePositivePrior
from streamer.detect.scene import Background
from streamer.detect.segmenter import Segmentation
from streamer.stages.alarm import AlarmStage

NS = 1_000_000_000
START = datetime(2026, 6, 1, 13, tzinfo=UTC)
IMAGE = Canvas.blank((96, 160)).image()
HERE = np.tile(np.linspace(0, 255, 160, dtype=np.uint8)[None, :, None], (96, 1, 3))
ELSEWHERE = (
    np.random.default_rng(1).integers(0, 256, (12, 20, 3), np.uint8).repeat(8, 0).repeat(8, 1)
)
PLUME = Detection(
    box=(0.4, 0.4, 0.6, 0.6), centroid=(0.5, 0.5), ground_point=(0.5, 0.6), area=0.04,
    confidence=0.95, peak=0.97, motion=4.0,
)  # fmt: skip


def frame(second, detections=None):
    """A frame, with a detector result if *detections* are given."""
    pts_ns = second * NS
    segmentation = SegmentationResult(np.zeros((4, 4), np.float32), pts_ns)
    result = None if detections is None else DetectorResult(segmentation, detections)
    return Frame(IMAGE, pts_ns, arrived_ns=pts_ns, number=second, detector_result=result)


def run(frames):
    """Return the frames after the stage, and what it recorded."""
    recorded = []
    stage = AlarmStage(
        Alarm("here"),
        clock=MediaClock(START),
        record=lambda event, frame: recorded.append((event, frame)),
    )
    return list(stage(iter(frames))), recorded


def test_an_event_is_recorded_with_the_frame_that_caused_it():
    passed, recorded = run(frame(second, (PLUME,)) for second in range(10))
    ((event, evidence),) = recorded
    assert event.kind is EventKind.RAISED
    assert event.pts_ns == evidence.pts_ns
    assert event.utc == START.replace(second=evidence.number)
    assert evidence.alarm_status.state is AlarmState.ALARM
    states = [each.alarm_status.state for each in passed]
    assert states == [AlarmState.PENDING] * event.utc.second + [AlarmState.ALARM] * (
        10 - event.utc.second
    )


def test_an_event_is_recorded_before_its_frame_goes_on():
    order = []
    stage = AlarmStage(
        Alarm("here"),
        clock=MediaClock(START),
        record=lambda event, frame: order.append(f"recorded {frame.number}"),
    )
    for passed in stage(iter([frame(second, (PLUME,)) for second in range(8)])):
        order.append(f"passed {passed.number}")  # noqa: PERF401  `record` appends in between
    recorded = next(entry for entry in order if entry.startswith("recorded"))
    assert order.index(recorded) < order.index(recorded.replace("recorded", "passed"))


def test_an_event_that_cannot_be_recorded_keeps_no_other_of_its_frame_from_being_recorded():
    alarm, recorded = Alarm("here"), []
    events = [f"event {number}" for number in range(3)]
    alarm.update = lambda _: tuple(events)

    def record(event, _):
        recorded.append(event)
        if event == events[1]:
            raise StorageError("the disk is full")

    stage = AlarmStage(alarm, clock=MediaClock(START), record=record)
    with pytest.raises(StorageError):
        list(stage(iter([frame(0, (PLUME,))])))
    assert recorded == events


def test_a_frame_without_a_detector_result_is_no_observation():
    passed, recorded = run(frame(second) for second in range(10))
    assert recorded == []
    assert {each.alarm_status.state for each in passed} == {AlarmState.IDLE}


class Station:
    """A camera whose network reports a spot of a given probability: detector and alarm."""

    def __init__(self):
        self.level, self.scene = 0.0, HERE
        self.events, self.frozen = [], []
        self.background = Background()
        self.prior = FalsePositivePrior(learn_s=60)
        clock = MediaClock(START)
        detector = Detector(
            self._segment,
            Thresholds(idle=0.4, active=0.32, low=0.3),
            clock=clock,
            min_area=0.0002,
            background=self.background,
            prior=self.prior,
        )
        self.stage = detection_stage(
            detector,
            Alarm("here"),
            inference_interval_ns=NS,
            clock=clock,
            record=lambda event, frame: self.events.append(event),
        )

    def _segment(self, image, pts_ns, background, *, enhanced):
        self.frozen.append(background.frozen)
        probability = np.full((96, 160), 0.02, np.float32)
        probability[40:50, 60:70] = self.level
        reference = background.update(pts_ns, self.scene)
        return Segmentation(self.scene, probability, reference is not None)

    def watch(self, level, seconds, *, start_s=0, scene=HERE):
        """Return the state of the alarm after each frame, one per second."""
        self.level, self.scene = level, scene
        frames = (frame(second) for second in range(start_s, start_s + seconds))
        return [each.alarm_status.state for each in self.stage(frames)]


def test_a_constant_false_positive_is_learned_and_smoke_there_still_raises():
    station = Station()
    states = station.watch(0.45, 300)
    assert AlarmState.PENDING in states
    assert states[-1] is AlarmState.IDLE
    assert station.events == []
    assert AlarmState.ALARM in station.watch(0.97, 60, start_s=300)
    assert station.background.frozen


def test_the_background_is_frozen_for_each_frame_after_one_that_was_not_idle():
    station = Station()
    states = station.watch(0.0, 5) + station.watch(0.95, 20, start_s=5)
    states += station.watch(0.0, 100, start_s=25)
    assert set(states) == set(AlarmState)
    assert station.frozen[1:] == [state is not AlarmState.IDLE for state in states[:-1]]


def test_a_fire_is_never_learned():
    station = Station()
    states = station.watch(0.95, 900)
    assert states[-1] is AlarmState.ALARM
    assert station.prior.value_at(START).max() < 0.2, "only the seconds before the alarm"


def test_a_new_scene_is_logged_and_learned_anew_and_the_old_one_is_recognised():
    station = Station()
    station.watch(0.45, 300)
    with capture_logs() as logs:
        states = station.watch(0.45, 10, start_s=302, scene=ELSEWHERE)
        assert AlarmState.PENDING in states
    assert [(entry["camera"], entry["event"]) for entry in logs] == [
        ("here", "new scene: learns a false-positive prior")
    ]
    assert AlarmState.IDLE is station.watch(0.45, 30, start_s=320)[-1]
