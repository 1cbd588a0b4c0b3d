"""The enhance stage: dark pictures come out lit and marked, all else as it went in."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from engines.lowlight.enhancer import Enhancer
from engines.lowlight.full_resolution import OnCpu
from engines.lowlight.model import open_lowlight_model
from streamer.alarm.policy import Alarm
from streamer.core.clock import MediaClock
from streamer.core.frame import AlarmState, AlarmStatus, Frame, SegmentationResult
from streamer.core.image import ColorTags, Image
from streamer.detect.detector import Detector, Thresholds
from streamer.detect.scene import Background
from streamer.detect.segmenter import CpuSegmenter
from streamer.stages.detect import DetectStage
from streamer.stages.low_light import Enhance, LowLightFilter
from streamer.stages.overlay import Overlay
from tests.engines.lowlight.scenes import Model, street

NS = 1_000_000_000


HD = ColorTags(1, 1, 1)


def picture(light, *, color=HD):
    luma = np.rint(street(light)).astype(np.uint8)
    grey = np.full((72, 128), 128, np.uint8)
    return Image.from_planes((luma, grey, grey), color)


def frames(*pictures):
    return [
        Frame(image=each, pts_ns=number * NS // 25, arrived_ns=number, number=number)
        for number, each in enumerate(pictures)
    ]


def enhance(shown):
    return list(Enhance(LowLightFilter(Enhancer(Model())))(iter(shown)))


def test_day_goes_on_as_the_very_same_frames():
    day = frames(*[picture(0.9)] * 5)
    assert all(one is other for one, other in zip(enhance(day), day, strict=True))


def test_night_comes_out_lit_and_marked_and_the_old_picture_stays():
    night = frames(*[picture(0.1)] * 5)
    before = night[0].image.luma().copy()
    after = enhance(night)
    assert all(frame.enhanced for frame in after)
    assert all(frame.image.luma().mean() > 1.5 * before.mean() for frame in after)
    np.testing.assert_array_equal(night[0].image.luma(), before)


def test_times_numbers_and_what_was_found_go_with_it():
    (dark,) = frames(picture(0.1))
    smoke = SegmentationResult(np.zeros((4, 4), np.float32), dark.pts_ns)
    told = replace(
        dark, segmentation=smoke, alarm_status=AlarmStatus(AlarmState.IDLE, 0), synthetic=True
    )
    (after,) = enhance([told])
    assert after.segmentation is smoke
    assert after.alarm_status is told.alarm_status
    assert after.synthetic
    assert (after.pts_ns, after.arrived_ns, after.number) == (0, 0, 0)


@pytest.mark.parametrize("color", [HD, ColorTags(5, 1, 6, full_range=True)])
def test_colours_keep_their_meaning(color):
    (after,) = enhance(frames(picture(0.1, color=color)))
    assert after.image.color == color


def test_the_stage_ends_with_its_input():
    assert enhance([]) == []


class Network:
    """Notes what it was shown."""

    input_size = (64, 96)

    def __init__(self):
        self.shown = []

    def __call__(self, image, background=None, *, dark=False):
        self.shown.append((float(image.mean()), dark))
        return np.zeros((32, 48), np.float32)


def looks(network, shown, *, lift=True):
    brighten = LowLightFilter(Enhancer(Model(), full_size=OnCpu(denoise=False))) if lift else None
    detector = Detector(
        CpuSegmenter(network),
        Thresholds(0.5, 0.4, 0.3),
        clock=MediaClock(datetime(2026, 1, 1, tzinfo=UTC)),
        background=Background(),
        preprocess=brighten,
    )
    return list(DetectStage(detector, Alarm("gate"), inference_interval_ns=1)(iter(shown)))


def test_the_network_is_shown_dark_pictures_lit_and_is_told_so():
    raw, lit = Network(), Network()
    night = frames(*[picture(0.1)] * 3)
    looks(raw, night, lift=False)
    after = looks(lit, night)
    assert all(not dark for _, dark in raw.shown)
    assert all(dark for _, dark in lit.shown)
    assert lit.shown[0][0] > 1.5 * raw.shown[0][0]
    assert [frame.image for frame in after] == [frame.image for frame in night]
    assert not any(frame.enhanced for frame in after)


def test_the_network_is_shown_day_as_it_is():
    raw, lit = Network(), Network()
    day = frames(*[picture(0.9)] * 3)
    looks(raw, day, lift=False)
    looks(lit, day)
    assert raw.shown == lit.shown


def test_the_shipped_network_lights_a_street():
    model = open_lowlight_model(device="cpu", prove=False)
    night = frames(*[picture(0.08)] * 3)
    after = list(Enhance(LowLightFilter(Enhancer(model)))(iter(night)))
    assert after[-1].image.luma().mean() > 2 * night[-1].image.luma().mean()
    model.close()


def test_planes_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"expected a plane of \(72, 128\)"):
        Image.from_planes(
            [np.zeros((144, 256), np.uint8), *[np.zeros((2, 2), np.uint8)] * 2], ColorTags()
        )


def test_an_overlay_says_that_a_picture_is_enhanced():
    (frame,) = frames(Image.from_rgb(np.full((360, 640, 3), 60, np.uint8)))
    overlay = Overlay("gate", clock=MediaClock(datetime(2026, 1, 1, tzinfo=UTC)))
    plain, said = (overlay.draw(replace(frame, enhanced=each)).luma() for each in (False, True))
    changed = np.argwhere(plain != said)
    assert len(changed) > 50
    assert changed[:, 0].min() > 300  # in the line with the time, at the bottom
