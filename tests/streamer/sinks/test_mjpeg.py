"""The newest frame of a camera as a JPEG image, with a clock that the test moves."""

from dataclasses import replace

import numpy as np
import pytest

from streamer.core.image import Image
from streamer.sinks.mjpeg import MjpegSink
from tests.support.frames import frame
from tests.support.stepping import StepClock


@pytest.fixture
def clock():
    return StepClock()


@pytest.fixture
def sink(clock):
    return MjpegSink("north", clock=clock, stale_after_s=1.0, reason=str)


def shown(level, clock):
    image = Image.from_rgb(np.full((96, 128, 3), level, np.uint8))
    return replace(frame(0, arrived_ns=clock.now_ns), image=image)


def test_a_frame_is_encoded_once_for_all_viewers(sink, clock):
    sink([shown(90, clock)])
    first, again = (sink.jpeg(0, timeout_s=0)[1] for _ in range(2))
    assert first is again


def test_each_frame_has_a_version_that_viewers_wait_for(sink, clock):
    sink([shown(90, clock)])
    version, first = sink.jpeg(0, timeout_s=0)
    sink([shown(200, clock)])
    later, second = sink.jpeg(version, timeout_s=0)
    assert later > version
    assert first != second


def test_a_stale_frame_gives_a_card_and_the_next_call_waits_for_a_newer_frame(sink, clock):
    sink([shown(200, clock)])
    fresh = sink.jpeg(0, timeout_s=0)[1]
    clock.step(5)
    version, card = sink.jpeg(0, timeout_s=0)
    later, again = sink.jpeg(version, timeout_s=0)
    assert version > 0
    assert later == version
    assert fresh not in (card, again)


def test_the_card_of_a_camera_without_any_frame_changes_with_the_reason(clock):
    reasons = iter(["", "wrong password"])
    sink = MjpegSink("north", clock=clock, stale_after_s=1.0, reason=lambda: next(reasons))
    one, other = (sink.jpeg(0, timeout_s=0) for _ in range(2))
    assert (one[0], other[0]) == (0, 0)
    assert one[1] != other[1]


def test_closing_wakes_a_viewer(sink):
    assert not sink.closed
    sink.close()
    assert sink.closed
    assert sink.jpeg(0, timeout_s=3600)[1]
