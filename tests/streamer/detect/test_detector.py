"""Detector: thresholds by the state of the alarm, and what is learned in which state."""

from datetime import UTC, datetime

import numpy as np
import pytest

from streamer.core.clock import MediaClock
from streamer.core.frame import AlarmState, Frame
from streamer.core.image import Canvas
from streamer.detect.detector import Detector, Thresholds
from streamer.detect.false_positive_prior import FalsePositivePrior
from streamer.detect.scene import Background
from streamer.detect.segmenter import Segmentation
from streamer.detect.zones import Zones

NS = 1_000_000_000
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SIZE = (96, 160)
HERE = np.tile(np.linspace(0, 255, 160, dtype=np.uint8)[None, :, None], (96, 1, 3))
ELSEWHERE = (
    np.random.default_rng(1).integers(0, 256, (12, 20, 3), np.uint8).repeat(8, 0).repeat(8, 1)
)
IMAGE = Canvas.blank(SIZE).image()
THRESHOLDS = Thresholds(idle=0.5, active=0.4, low=0.3)


class SpotSegmenter:
    """Reports a spot of one probability in a given scene."""

    def __init__(self, level=0.45):
        self.level = level
        self.scene = HERE
        self.calls = []

    def __call__(self, image, pts_ns, background, *, enhanced):
        self.calls.append((image, enhanced))
        reference = background.update(pts_ns, self.scene) if background else None
        probability = np.full(SIZE, 0.02, np.float32)
        probability[40:50, 60:70] = self.level
        return Segmentation(self.scene, probability, reference is not None)


def detector(segmenter, **options):
    return Detector(segmenter, THRESHOLDS, clock=MediaClock(NOON), **options)


def run(subject, seconds, state=AlarmState.IDLE):
    """Detect in a frame of each second; return the last result."""
    for second in seconds:
        frame = Frame(IMAGE, second * NS, arrived_ns=second * NS, number=second)
        result = subject.detect(frame, alarm_state=state)
    return result


@pytest.mark.parametrize(
    ("level", "state", "found"),
    [
        (0.55, AlarmState.IDLE, 1),
        (0.45, AlarmState.IDLE, 0),
        (0.45, AlarmState.PENDING, 1),
        (0.45, AlarmState.ALARM, 1),
        (0.35, AlarmState.ALARM, 0),
    ],
)
def test_outside_of_idle_a_lower_threshold_applies(level, state, found):
    result = run(detector(SpotSegmenter(level)), [0], state)
    assert len(result.detections) == found


def test_a_detection_has_area_confidence_and_motion():
    subject = detector(SpotSegmenter(0.9), background=Background(min_age_s=1, step_s=1, slots=1))
    result = run(subject, range(3))
    (detection,) = result.detections
    assert detection.area == pytest.approx(100 / (96 * 160))
    assert detection.confidence == pytest.approx(0.9)
    assert detection.motion == 0
    assert result.used_background
    assert result.segmentation.pts_ns == 2 * NS


def test_smoke_outside_the_zones_and_small_regions_are_not_detected():
    left = ((0.0, 0.0), (0.3, 0.0), (0.3, 1.0), (0.0, 1.0))
    assert not run(detector(SpotSegmenter(0.9), zones=Zones(include=(left,))), [0]).detections
    assert not run(detector(SpotSegmenter(0.9), min_area=0.01), [0]).detections


def test_the_probability_of_a_result_cannot_be_changed():
    result = run(detector(SpotSegmenter()), [0])
    with pytest.raises(ValueError, match="read-only"):
        result.segmentation.probability[0, 0] = 1


def test_a_dark_frame_is_inferred_as_enhanced_and_shown_as_it_is():
    segmenter, bright = SpotSegmenter(), Canvas.blank(SIZE).image()
    run(detector(segmenter, preprocess=lambda frame: bright), [0])
    run(detector(segmenter, preprocess=lambda frame: frame.image), [0])
    assert segmenter.calls == [(bright, True), (IMAGE, False)]


def test_a_constant_false_positive_is_learned_and_real_smoke_there_still_detected():
    segmenter = SpotSegmenter(0.55)
    subject = detector(segmenter, background=Background(), prior=FalsePositivePrior(learn_s=60))
    assert run(subject, range(1)).detections
    result = run(subject, range(1, 200))
    assert not result.detections
    assert result.segmentation.probability.max() == np.float32(0.55), "the raw one is kept"
    segmenter.level = 0.97
    (detection,) = run(subject, [200]).detections
    assert detection.confidence == pytest.approx(0.97), "by the raw probability"


@pytest.mark.parametrize(
    ("state", "learned"),
    [(AlarmState.IDLE, True), (AlarmState.PENDING, True), (AlarmState.ALARM, False)],
)
def test_nothing_is_learned_during_an_alarm(state, learned):
    prior = FalsePositivePrior(learn_s=60)
    run(detector(SpotSegmenter(0.9), background=Background(), prior=prior), range(100), state)
    assert (prior.value_at(NOON).max() > 0.5) == learned


def test_a_frame_is_learned_by_the_state_that_it_led_to():
    prior = FalsePositivePrior(learn_s=60)
    subject = detector(SpotSegmenter(0.9), background=Background(), prior=prior)
    run(subject, range(2))
    run(subject, [2], AlarmState.ALARM)
    assert prior.is_empty, "frame 1 raised the alarm"
    subject.flush(alarm_state=AlarmState.IDLE)
    assert not prior.is_empty, "frame 2 ended it; it is learned at the end of the stream"


def test_outside_of_idle_no_frame_becomes_background():
    background = Background(min_age_s=2, step_s=1, slots=1)
    subject = detector(SpotSegmenter(), background=background)
    run(subject, range(4))
    before = background.current
    run(subject, range(4, 6), AlarmState.PENDING)
    frozen_scene = background.current
    run(subject, range(6, 60), AlarmState.PENDING)
    assert before is not None
    assert background.current is frozen_scene
    assert background.frozen
    run(subject, range(60, 62), AlarmState.IDLE)
    assert not background.frozen


def test_a_new_scene_is_reported_once_and_learned_anew():
    segmenter = SpotSegmenter(0.55)
    subject = detector(segmenter, background=Background(), prior=FalsePositivePrior(learn_s=60))
    assert not run(subject, range(200)).detections
    segmenter.scene = ELSEWHERE
    first = run(subject, [202])
    assert first.entered_new_scene
    assert first.detections
    assert not run(subject, [203]).entered_new_scene
    segmenter.scene = HERE
    back = run(subject, [210])
    assert not back.entered_new_scene, "its prior is selected again"
    assert not back.detections


def test_the_prior_is_saved_every_ten_minutes_and_at_the_end():
    saves = []
    prior = FalsePositivePrior()
    subject = detector(
        SpotSegmenter(), background=Background(), prior=prior, save_prior=lambda: saves.append(1)
    )
    run(subject, range(1810))
    assert len(saves) == 3
    subject.flush(alarm_state=AlarmState.IDLE)
    assert len(saves) == 4


def test_a_prior_without_a_background_is_refused():
    with pytest.raises(ValueError, match="background"):
        detector(SpotSegmenter(), prior=FalsePositivePrior())
