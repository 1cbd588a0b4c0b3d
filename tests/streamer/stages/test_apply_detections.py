"""The apply-detections stage: frames get the result of their time, however they are split."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.clock import MediaClock
from streamer.core.frame import AlarmState, AlarmStatus, Detection, Frame, SegmentationResult
from streamer.core.image import Image
from streamer.stages.apply_detections import ApplyDetections
from streamer.stages.overlay import Overlay

NS = 1_000_000_000
IMAGE = Image.from_rgb(np.full((360, 640, 3), 90, np.uint8))
REGION = Detection(
    box=(0.4, 0.4, 0.6, 0.6),
    centroid=(0.5, 0.5),
    ground_point=(0.5, 0.6),
    area=0.04,
    confidence=0.8,
    peak=0.9,
)


class DetectionLog:
    """One inference at each of these seconds; pending from 2 s on, alarm from 5 s on."""

    def __init__(self, *seconds):
        self.times = [round(second * NS) for second in seconds]
        self.fetched = []

    def before(self, pts_ns):
        earlier = [number for number, at in enumerate(self.times) if at <= pts_ns]
        return earlier[-1] if earlier else None

    def __getitem__(self, number):
        self.fetched.append(number)
        at_ns = self.times[number]
        states = ((5, AlarmState.ALARM), (2, AlarmState.PENDING), (0, AlarmState.IDLE))
        since, state = next((begin, one) for begin, one in states if at_ns >= begin * NS)
        probability = np.full((24, 40), 0.6, np.float32)
        regions = () if state is AlarmState.IDLE else (REGION,)
        return SegmentationResult(probability, at_ns), AlarmStatus(state, since * NS, regions)


def frames(times_ns):
    return [
        Frame(IMAGE, pts_ns, arrived_ns=7, number=number, synthetic=number % 2 == 1)
        for number, pts_ns in enumerate(times_ns)
    ]


def applied(log, shown):
    return list(ApplyDetections(log, result_hold_ns=4 * NS)(iter(shown)))


def seen(frame):
    return frame.pts_ns, frame.segmentation and frame.segmentation.pts_ns, frame.alarm_status


@pytest.mark.parametrize(
    ("at_s", "inference_s", "state"),
    [
        (0, 0, AlarmState.IDLE),
        (0.999, 0, AlarmState.IDLE),
        (1, 1, AlarmState.IDLE),
        (2.5, 2, AlarmState.PENDING),
        (5.02, 5, AlarmState.ALARM),
    ],
)
def test_a_frame_gets_the_last_inference_at_or_before_its_time(at_s, inference_s, state):
    (frame,) = applied(DetectionLog(*range(10)), frames([round(at_s * NS)]))
    assert frame.segmentation.pts_ns == inference_s * NS
    assert frame.alarm_status.state is state


def test_synthetic_frames_carry_the_result_before_them_which_is_not_fresh():
    shown = applied(DetectionLog(0, 1, 2), frames([0, NS // 50, NS, NS + NS // 50]))
    assert [frame.synthetic for frame in shown] == [False, True, False, True]
    assert [frame.has_fresh_result for frame in shown] == [True, False, True, False]
    assert [frame.segmentation.pts_ns for frame in shown] == [0, 0, NS, NS]


def test_before_the_first_inference_a_frame_has_no_result():
    (frame,) = applied(DetectionLog(1), frames([NS // 2]))
    assert (frame.segmentation, frame.alarm_status) == (None, None)


def test_after_a_gap_the_old_segmentation_is_dropped_and_the_alarm_status_stays():
    before, after = applied(DetectionLog(3), frames([7 * NS, 7 * NS + 1]))
    assert before.segmentation.pts_ns == 3 * NS
    assert after.segmentation is None
    assert after.alarm_status.state is AlarmState.PENDING


@given(
    st.integers(1, 60).flatmap(
        lambda count: st.tuples(
            st.lists(st.integers(0, 12 * NS), min_size=count, max_size=count, unique=True),
            st.lists(st.integers(0, count), max_size=5),
        )
    )
)
def test_frames_in_pieces_get_the_same_results_as_in_one(drawn):
    times, cuts = drawn
    shown = frames(sorted(times))
    log = DetectionLog(0.5, 1.5, 2, 3, 5.25, 11)
    whole = [seen(frame) for frame in applied(log, shown)]
    edges = [0, *sorted(cuts), len(shown)]
    pieces = [shown[begin:end] for begin, end in pairwise(edges)]
    # In any order: each has a stage of its own.
    done = {n: applied(log, pieces[n]) for n in reversed(range(len(pieces)))}
    assert [seen(frame) for n in range(len(pieces)) for frame in done[n]] == whole


def test_a_result_is_fetched_once_for_all_frames_that_carry_it():
    log = DetectionLog(0, 1, 2)
    applied(log, frames(range(0, 3 * NS, NS // 25)))
    assert log.fetched == [0, 1, 2]


def test_an_overlay_shows_media_time_and_marks_every_frame_of_an_interpolated_file():
    clock = MediaClock(datetime.fromtimestamp(0, UTC))
    overlay = Overlay("gate", clock=clock, interpolated=True)
    original, synthetic = applied(DetectionLog(*range(99)), frames([62 * NS, 62 * NS + NS // 50]))
    assert (original.arrived_ns, synthetic.arrived_ns) == (62 * NS, 62 * NS + NS // 50)
    first, second = (overlay.draw(frame).luma() for frame in (original, synthetic))
    np.testing.assert_array_equal(first, second)
    plain = Overlay("gate", clock=clock)
    apart = plain.draw(original).luma() != plain.draw(synthetic).luma()
    assert apart.any(), "without it, only what is synthetic is marked"
    later = overlay.draw(replace(original, arrived_ns=63 * NS)).luma()
    assert (later != first).any(), "the time is drawn"
