"""The newest frame of a camera as a JPEG image, with a clock that the test moves."""

from dataclasses import replace

import numpy as np
import pytest

from streamer.core.image import Image
from streamer.sinks import mjpeg
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
    first, again = sink.newest(), sink.shown()
    assert first is again


def test_nothing_is_encoded_while_nobody_asks(sink, clock, monkeypatch):
    encoded = []
    monkeypatch.setattr(mjpeg, "encode_jpeg", lambda *_, **__: encoded.append(1) or b"jpeg")
    sink([shown(level, clock) for level in range(100)])
    assert encoded == []
    assert sink.newest().jpeg == b"jpeg"
    assert encoded == [1]


def test_each_frame_has_a_version(sink, clock):
    assert (sink.version, sink.newest()) == (0, None)
    sink([shown(90, clock)])
    first = sink.newest()
    sink([shown(200, clock)])
    second = sink.newest()
    assert 0 < first.version < second.version == sink.version
    assert first.jpeg != second.jpeg


def test_listeners_learn_of_each_change_until_they_end(sink, clock):
    called = []
    end = sink.listen(lambda: called.append(sink.version))
    sink([shown(90, clock), shown(90, clock)])
    sink.close()
    end()
    sink([shown(90, clock)])
    assert called == [1, 2, 2]
    assert sink.closed


def test_a_stale_frame_is_shown_as_a_card_and_keeps_its_age(sink, clock):
    sink([shown(200, clock)])
    fresh = sink.shown()
    clock.step(5)
    card = sink.shown()
    assert card.jpeg != fresh.jpeg
    assert sink.newest() is fresh
    assert sink.age_s(fresh.arrived_ns) == 5


def test_the_card_of_a_camera_without_any_frame_changes_with_the_reason(clock):
    reasons = iter(["", "wrong password"])
    sink = MjpegSink("north", clock=clock, stale_after_s=1.0, reason=lambda: next(reasons))
    one, other = sink.shown(), sink.shown()
    assert (one.version, other.version) == (0, 0)
    assert one.jpeg != other.jpeg
