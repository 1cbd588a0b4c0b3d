"""The figures of a camera, with a clock that the test moves."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from streamer.core.image import Image
from streamer.sinks.status import StatusSink
from tests.support.frames import frame
from tests.support.stepping import StepClock

SECOND = 1_000_000_000


def test_before_the_first_frame_nothing_is_claimed():
    status = StatusSink(clock=StepClock()).statistics()
    assert (status.frames, status.fps) == (0, 0.0)
    assert status.last_frame_ns is status.size is None


def test_the_last_arrival_is_that_of_the_newest_frame():
    sink = StatusSink(clock=StepClock())
    sink([frame(0, arrived_ns=0), frame(1, arrived_ns=2 * SECOND)])
    assert sink.statistics().last_frame_ns == 2 * SECOND


@pytest.mark.parametrize("rate", [1, 10, 25])
def test_the_rate_is_that_at_which_frames_came(rate):
    clock = StepClock()
    sink = StatusSink(clock=clock)
    sink(frame(n, arrived_ns=n * SECOND // rate) for n in range(10 * rate))
    clock.step(10)
    assert sink.statistics().fps == pytest.approx(rate, rel=0.05)


def test_the_rate_follows_a_change_of_pace():
    clock = StepClock()
    sink = StatusSink(clock=clock)
    sink(frame(n, arrived_ns=n * SECOND // 25) for n in range(100))
    sink(frame(100 + n, arrived_ns=(4 + n) * SECOND) for n in range(60))
    clock.step(64)
    assert sink.statistics().fps == pytest.approx(1, rel=0.05)


def test_the_rate_falls_while_nothing_comes():
    clock = StepClock()
    sink = StatusSink(clock=clock)
    sink(frame(n, arrived_ns=n * SECOND // 25) for n in range(25))
    rates = []
    for _ in range(4):
        clock.step(10)
        rates.append(sink.statistics().fps)
    assert rates == sorted(set(rates), reverse=True)
    assert rates[-1] < 1


def test_after_an_outage_the_rate_is_that_of_the_frames_since():
    clock = StepClock()
    sink = StatusSink(clock=clock)
    sink(frame(n, arrived_ns=n * SECOND) for n in range(20))
    sink(frame(20 + n, arrived_ns=(600 + n) * SECOND) for n in range(5))
    clock.step(604)
    assert sink.statistics().fps == pytest.approx(1, rel=0.05)


def test_frames_are_counted_over_restarts_of_the_camera():
    sink = StatusSink(clock=StepClock())
    sink(frame(n, arrived_ns=0) for n in range(3))
    sink(frame(n, arrived_ns=0) for n in range(4))
    assert sink.statistics().frames == 7


def test_a_camera_that_breaks_off_keeps_its_last_figures():
    def breaking():
        yield frame(0, arrived_ns=0)
        raise OSError("camera gone")

    sink = StatusSink(clock=StepClock())
    with pytest.raises(OSError, match="camera gone"):
        sink(breaking())
    status = sink.statistics()
    assert status.frames == 1


def test_the_size_is_that_of_the_newest_frame():
    sink = StatusSink(clock=StepClock())
    wide = Image.from_rgb(np.zeros((90, 160, 3), np.uint8))
    sink([frame(0, arrived_ns=0), replace(frame(1, arrived_ns=0), image=wide)])
    assert sink.statistics().size == (90, 160)


def test_a_snapshot_does_not_change_when_more_comes():
    sink = StatusSink(clock=StepClock())
    sink([frame(0, arrived_ns=0)])
    status = sink.statistics()
    sink([frame(1, arrived_ns=0)])
    assert status.frames == 1


def test_a_snapshot_taken_while_frames_come_fits_together():
    clock = StepClock()
    sink = StatusSink(clock=clock)
    clock.step(2000)

    def changing():
        for number in range(2000):
            yield frame(number, arrived_ns=number * SECOND)

    camera = threading.Thread(target=sink, args=(changing(),))
    camera.start()
    seen = [sink.statistics() for _ in range(300)]
    camera.join(10)
    seen.append(sink.statistics())
    for status in seen:
        if status.frames:
            assert status.last_frame_ns == (status.frames - 1) * SECOND
    assert seen[-1].frames == 2000
    assert [status.frames for status in seen] == sorted(status.frames for status in seen)


def test_a_single_frame_has_no_rate():
    clock = StepClock()
    sink = StatusSink(clock=clock)
    sink([frame(0, arrived_ns=0)])
    clock.step(0.001)
    assert sink.statistics().fps == 0
