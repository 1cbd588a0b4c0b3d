"""The detect stage: which frames are inferred, and how long a result is carried on."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.alarm.policy import Alarm
from streamer.core.clock import SystemClock
from streamer.core.frame import AlarmState, AlarmStatus, Frame
from streamer.core.image import Canvas
from streamer.core.pipeline import live_links
from streamer.detect.detector import Detector, Thresholds
from streamer.detect.inference_scheduler import InferenceScheduler
from streamer.detect.segmenter import Segmentation
from streamer.stages.detect import DetectStage

NS = 1_000_000_000
IMAGE = Canvas.blank((48, 80)).image()


def segmenter(image, pts_ns, background, *, enhanced):
    return Segmentation(np.zeros((48, 80, 3), np.uint8), np.zeros((24, 40), np.float32), False)


class RecordingDetector(Detector):
    """A detector that records the state of the alarm at each call."""

    def __init__(self):
        super().__init__(segmenter, Thresholds(0.5, 0.4, 0.3), clock=SystemClock())
        self.states = []
        self.flushed = []

    def detect(self, frame, *, alarm_state):
        self.states.append(alarm_state)
        return super().detect(frame, alarm_state=alarm_state)

    def flush(self, *, alarm_state):
        self.flushed.append(alarm_state)


def stage(detector=None, *, alarm=None, interval_s=1):
    return DetectStage(
        detector or RecordingDetector(),
        alarm or Alarm("here"),
        inference_interval_ns=round(interval_s * NS),
    )


def frames(*seconds, sampled=True, synthetic=False):
    return [
        Frame(IMAGE, round(at * NS), round(at * NS), number, sampled=sampled, synthetic=synthetic)
        for number, at in enumerate(seconds)
    ]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_exactly_the_sampled_frames_that_are_not_synthetic_are_inferred(flags):
    given_frames = [
        Frame(IMAGE, number * NS, number * NS, number, sampled=sampled, synthetic=synthetic)
        for number, (sampled, synthetic) in enumerate(flags)
    ]
    passed = list(stage()(iter(given_frames)))
    assert [frame.number for frame in passed] == list(range(len(flags))), "every frame goes on"
    inferred = [frame.number for frame in passed if frame.detector_result is not None]
    assert inferred == [n for n, (sampled, synthetic) in enumerate(flags) if sampled > synthetic]
    assert inferred == [frame.number for frame in passed if frame.has_fresh_result]


def test_between_two_inferences_a_frame_carries_the_earlier_result():
    first, *between = frames(0, 0.5, 0.9)
    carrying = [replace(frame, sampled=False) for frame in between]
    passed = list(stage()(iter([first, *carrying])))
    assert passed[0].segmentation is passed[1].segmentation is passed[2].segmentation
    assert [frame.detector_result is None for frame in passed] == [False, True, True]


def test_after_a_gap_the_old_result_is_not_carried_on():
    first = frames(0)
    later = [replace(frame, sampled=False) for frame in frames(4, 4.001)]
    passed = list(stage()(iter([*first, *later])))
    assert [frame.segmentation is None for frame in passed] == [False, False, True]


def test_before_the_first_inference_a_frame_has_no_result():
    (frame,) = stage()(iter(frames(0, sampled=False)))
    assert frame.segmentation is None


def test_the_state_of_the_alarm_after_the_frame_before_is_passed_to_the_detector():
    alarm, detector = Alarm("here"), RecordingDetector()
    passed = stage(detector, alarm=alarm)(iter(frames(0, 1, 2)))
    for state in (AlarmState.PENDING, AlarmState.ALARM, AlarmState.IDLE):
        next(passed)
        alarm.status = AlarmStatus(state, since_ns=0)
    assert detector.states == [AlarmState.IDLE, AlarmState.PENDING, AlarmState.ALARM]
    assert list(passed) == []
    assert detector.flushed == [AlarmState.IDLE]


@pytest.mark.parametrize("end", ["close", "error"])
def test_the_detector_is_flushed_however_the_stream_ends(end):
    def broken():
        yield from frames(0)
        raise RuntimeError("camera gone")

    detector = RecordingDetector()
    passed = stage(detector)(broken())
    next(passed)
    if end == "close":
        passed.close()
    else:
        with pytest.raises(RuntimeError, match="camera gone"):
            next(passed)
    assert detector.flushed == [AlarmState.IDLE]


def test_an_interval_of_zero_is_refused():
    with pytest.raises(ValueError, match="inference_interval_ns"):
        stage(interval_s=0)


def test_an_admitted_frame_is_inferred_and_a_late_result_is_marked():
    clock = SystemClock()
    scheduler = InferenceScheduler(lambda: 1, clock=clock)
    seat = scheduler.seat("here", budget_ns=NS, interval_ns=NS, min_interval_ns=NS)
    link = live_links(latency_budget_ns=NS, clock=clock)("here/detect", gate=seat)
    detect = DetectStage(RecordingDetector(), Alarm("here"), inference_interval_ns=NS, seat=seat)
    passed = detect(iter(link))
    now_ns = clock.monotonic_ns()
    link.put(Frame(IMAGE, 0, now_ns, 0))
    assert not next(passed).detector_result.late
    link.put(Frame(IMAGE, NS, now_ns - 60 * NS, 1))
    assert next(passed).detector_result.late, "the minimum rate is kept even so"
    passed.close()
    link.leave()
    counts = seat.statistics()
    assert (counts.wanted, counts.inferred, counts.late, counts.waiting) == (2, 2, 1, 0)
    assert not seat.holds_slot
