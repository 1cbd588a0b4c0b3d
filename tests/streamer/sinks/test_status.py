"""The figures of a camera, with a clock that the test moves."""

import json
import threading
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from streamer.core.frame import AlarmState, AlarmStatus
from streamer.core.image import Image
from streamer.sinks.status import StatusSink
from tests.support.frames import frame
from tests.support.stepping import START, StepClock

SECOND = 1_000_000_000


def judged(number, state, *, arrived_ns=0):
    return replace(
        frame(number, arrived_ns=arrived_ns), alarm_status=AlarmStatus(state, since_ns=0)
    )


def test_before_the_first_picture_nothing_is_claimed():
    status = StatusSink("north", clock=StepClock()).status()
    assert (status.camera, status.frames, status.rate) == ("north", 0, 0.0)
    assert status.last_utc is status.age_s is status.size is None
    assert status.alarm is AlarmState.IDLE


def test_the_age_is_that_of_the_newest_picture_and_grows():
    clock = StepClock()
    monitor = StatusSink("north", clock=clock)
    monitor([frame(0, arrived_ns=0), frame(1, arrived_ns=2 * SECOND)])
    clock.step(2.5)
    assert monitor.status().age_s == 0.5
    clock.step(60)
    status = monitor.status()
    assert status.age_s == 60.5
    assert status.last_utc == START + timedelta(seconds=2)


@pytest.mark.parametrize("rate", [1, 10, 25])
def test_the_rate_is_that_at_which_pictures_came(rate):
    clock = StepClock()
    monitor = StatusSink("north", clock=clock)
    monitor(frame(n, arrived_ns=n * SECOND // rate) for n in range(10 * rate))
    clock.step(10)
    assert monitor.status().rate == pytest.approx(rate, rel=0.05)


def test_the_rate_follows_a_change_of_pace():
    clock = StepClock()
    monitor = StatusSink("north", clock=clock)
    monitor(frame(n, arrived_ns=n * SECOND // 25) for n in range(100))
    monitor(frame(100 + n, arrived_ns=(4 + n) * SECOND) for n in range(60))
    clock.step(64)
    assert monitor.status().rate == pytest.approx(1, rel=0.05)


def test_the_rate_falls_while_nothing_comes():
    clock = StepClock()
    monitor = StatusSink("north", clock=clock)
    monitor(frame(n, arrived_ns=n * SECOND // 25) for n in range(25))
    rates = []
    for _ in range(4):
        clock.step(10)
        rates.append(monitor.status().rate)
    assert rates == sorted(set(rates), reverse=True)
    assert rates[-1] < 1


def test_pictures_are_counted_over_restarts_of_the_camera():
    monitor = StatusSink("north", clock=StepClock())
    monitor(frame(n, arrived_ns=0) for n in range(3))
    monitor(frame(n, arrived_ns=0) for n in range(4))
    assert monitor.status().frames == 7


def test_a_camera_that_breaks_off_keeps_its_last_figures():
    def breaking():
        yield judged(0, AlarmState.ALARM)
        raise OSError("camera gone")

    monitor = StatusSink("north", clock=StepClock())
    with pytest.raises(OSError, match="camera gone"):
        monitor(breaking())
    status = monitor.status()
    assert (status.frames, status.alarm) == (1, AlarmState.ALARM)


def test_the_alarm_is_that_of_the_newest_verdict():
    monitor = StatusSink("north", clock=StepClock())
    states = []
    for number, state in enumerate(
        [AlarmState.PENDING, AlarmState.ALARM, AlarmState.IDLE, AlarmState.PENDING]
    ):
        monitor([judged(number, state)])
        states.append(monitor.status().alarm.value)
    assert states == ["pending", "alarm", "idle", "pending"]


def test_a_picture_without_a_verdict_does_not_end_an_alarm():
    monitor = StatusSink("north", clock=StepClock())
    monitor([judged(0, AlarmState.ALARM), frame(1, arrived_ns=0), frame(2, arrived_ns=0)])
    assert monitor.status().alarm is AlarmState.ALARM


def test_the_size_is_that_of_the_newest_picture():
    monitor = StatusSink("north", clock=StepClock())
    wide = Image.from_rgb(np.zeros((90, 160, 3), np.uint8))
    monitor([frame(0, arrived_ns=0), replace(frame(1, arrived_ns=0), image=wide)])
    assert monitor.status().size == (90, 160)


def test_a_snapshot_does_not_change_when_more_comes():
    monitor = StatusSink("north", clock=StepClock())
    monitor([frame(0, arrived_ns=0)])
    status = monitor.status()
    monitor([judged(1, AlarmState.ALARM)])
    assert (status.frames, status.alarm) == (1, AlarmState.IDLE)


def test_as_json_it_is_plain_and_rounded():
    clock = StepClock()
    monitor = StatusSink("north", clock=clock)
    monitor(judged(n, AlarmState.ALARM, arrived_ns=n * SECOND) for n in range(3))
    clock.step(3.123456)
    assert json.loads(json.dumps(monitor.status().as_json())) == {
        "camera": "north",
        "frames": 3,
        "rate": 0.96,
        "last_utc": "2026-01-01T00:00:02.000+00:00",
        "age_s": 1.123,
        "alarm": "alarm",
        "size": [16, 16],
    }


def test_as_json_what_is_unknown_is_null():
    said = json.loads(json.dumps(StatusSink("north", clock=StepClock()).status().as_json()))
    assert [key for key, value in said.items() if value is None] == ["last_utc", "age_s", "size"]


def test_a_snapshot_taken_while_pictures_come_fits_together():
    clock = StepClock()
    monitor = StatusSink("north", clock=clock)
    clock.step(2000)

    def changing():
        for number in range(2000):
            state = AlarmState.ALARM if number % 2 else AlarmState.IDLE
            yield judged(number, state, arrived_ns=number * SECOND)

    camera = threading.Thread(target=monitor, args=(changing(),))
    camera.start()
    seen = [monitor.status() for _ in range(300)]
    camera.join(10)
    seen.append(monitor.status())
    for status in seen:
        if status.frames:
            assert status.age_s == 2001 - status.frames
            assert status.alarm is (AlarmState.IDLE if status.frames % 2 else AlarmState.ALARM)
    assert seen[-1].frames == 2000
    assert [status.frames for status in seen] == sorted(status.frames for status in seen)


def test_a_single_picture_has_no_rate():
    clock = StepClock()
    monitor = StatusSink("north", clock=clock)
    monitor([frame(0, arrived_ns=0)])
    clock.step(0.001)
    assert monitor.status().rate == 0
