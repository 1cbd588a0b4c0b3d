"""Inferences and their latency, counted behind the alarm, with a clock that the test moves."""

from dataclasses import replace

import pytest

from streamer.core.frame import DetectorResult
from streamer.stages.result_statistics import ResultStatistics
from tests.support.frames import frame
from tests.support.stepping import StepClock

SECOND = 1_000_000_000


def inferred(number, *, arrived_ns):
    result = DetectorResult(segmentation=None, detections=())
    return replace(frame(number, arrived_ns=arrived_ns), detector_result=result)


def test_only_frames_with_a_result_of_their_own_count():
    stage = ResultStatistics(clock=StepClock())
    given = [inferred(0, arrived_ns=0), frame(1, arrived_ns=0), inferred(2, arrived_ns=0)]
    assert list(stage(iter(given))) == given
    assert stage.counts().inferences == 2


def test_the_latency_begins_with_the_packet_and_counts_go_on_over_restarts():
    clock = StepClock()
    stage = ResultStatistics(clock=clock)
    for number in range(3):
        clock.step(1)
        arrived_ns = clock.monotonic_ns() - SECOND // 4
        list(stage(iter([inferred(number, arrived_ns=arrived_ns)])))
    counts = stage.counts()
    assert counts.inferences == 3
    assert counts.latency.sum_s == pytest.approx(0.75)
    assert counts.quantiles.p50_ms == pytest.approx(250, rel=0.05)
    assert counts.fps == pytest.approx(1)
    clock.step(60)
    assert stage.counts().fps < 0.1
