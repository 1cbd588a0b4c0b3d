"""Low-light stage: dark frames come out enhanced and marked, others as they went in."""

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
from streamer.core.image import Canvas, ColorTags, Image
from streamer.detect.detector import Detector, Thresholds
from streamer.detect.scene import Background
from streamer.detect.segmenter import CpuSegmenter
from streamer.stages.detect import DetectStage
from streamer.stages.low_light import Enhance, LowLightFilter
from tests.engines.lowlight.scenes import Model, street

NS = 1_000_000_000


HD = ColorTags(1, 1, 1)


def scene(light, *, color=HD):
    luma = np.rint(street(light)).astype(np.uint8)
    grey = np.full((72, 128), 128, np.uint8)
    return Image.from_planes((luma, grey, grey), color)


def frames(*images):
    return [
        Frame(image=each, pts_ns=number * NS // 25, arrived_ns=number, number=number)
        for number, each in enumerate(images)
    ]


def enhance(shown):
    return list(Enhance(LowLightFilter(Enhancer(Model())))(iter(shown)))


def test_day_goes_on_as_the_very_same_frames():
    day = frames(*[scene(0.9)] * 5)
    assert all(one is other for one, other in zip(enhance(day), day, strict=True))


def test_night_comes_out_enhanced_and_marked_and_the_input_stays():
    night = frames(*[scene(0.1)] * 5)
    before = night[0].image.luma().copy()
    after = enhance(night)
    assert all(frame.enhanced for frame in after)
    assert all(frame.image.luma().mean() > 1.5 * before.mean() for frame in after)
    np.testing.assert_array_equal(night[0].image.luma(), before)


def test_times_numbers_and_results_are_kept():
    (dark,) = frames(scene(0.1))
    smoke = SegmentationResult(np.zeros((4, 4), np.float32), dark.pts_ns)
    given = replace(
        dark, segmentation=smoke, alarm_status=AlarmStatus(AlarmState.IDLE, 0), synthetic=True
    )
    (after,) = enhance([given])
    assert after.segmentation is smoke
    assert after.alarm_status is given.alarm_status
    assert after.synthetic
    assert (after.pts_ns, after.arrived_ns, after.number) == (0, 0, 0)


@pytest.mark.parametrize("color", [HD, ColorTags(5, 1, 6, full_range=True)])
def test_color_tags_are_kept(color):
    (after,) = enhance(frames(scene(0.1, color=color)))
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


def inferred(network, shown, *, enhance_dark=True):
    enhancer = Enhancer(Model(), full_resolution=OnCpu(denoise=False))
    low_light = LowLightFilter(enhancer) if enhance_dark else None
    detector = Detector(
        CpuSegmenter(network),
        Thresholds(0.5, 0.4, 0.3),
        clock=MediaClock(datetime(2026, 1, 1, tzinfo=UTC)),
        background=Background(),
        preprocess=low_light,
    )
    return list(DetectStage(detector, Alarm("gate"), inference_interval_ns=1)(iter(shown)))


def test_the_network_is_given_dark_frames_enhanced_and_marked_as_dark():
    raw, lit = Network(), Network()
    night = frames(*[scene(0.1)] * 3)
    inferred(raw, night, enhance_dark=False)
    after = inferred(lit, night)
    assert all(not dark for _, dark in raw.shown)
    assert all(dark for _, dark in lit.shown)
    assert lit.shown[0][0] > 1.5 * raw.shown[0][0]
    assert [frame.image for frame in after] == [frame.image for frame in night]
    assert not any(frame.enhanced for frame in after)


def test_the_network_is_given_day_as_it_is():
    raw, lit = Network(), Network()
    day = frames(*[scene(0.9)] * 3)
    inferred(raw, day, enhance_dark=False)
    inferred(lit, day)
    assert raw.shown == lit.shown


def test_the_shipped_network_enhances_a_street():
    model = open_lowlight_model(device="cpu", validate=False)
    night = frames(*[scene(0.08)] * 3)
    after = list(Enhance(LowLightFilter(Enhancer(model)))(iter(night)))
    assert after[-1].image.luma().mean() > 2 * night[-1].image.luma().mean()
    model.close()


def test_planes_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"expected a plane of \(72, 128\)"):
        Image.from_planes(
            [np.zeros((144, 256), np.uint8), *[np.zeros((2, 2), np.uint8)] * 2], ColorTags()
        )


FORMATS = [
    "yuv420p10le", "yuv422p", "yuv422p10le", "yuv444p", "yuv444p12le", "yuv440p", "gray",
    "gray10le", "yuv420p16le", "yuva420p",
]  # fmt: skip


def night(pixel_format, count=4):
    """Noisy frames of a dark street whose luma has as many bits as the format, alike in each."""
    shape = Canvas.blank((144, 256), pixel_format=pixel_format).image()
    unit = 1 << (shape.layout.depth - 8)
    made = []
    for number in range(count):
        random = np.random.default_rng(number)
        planes = []
        for place, plane in enumerate(shape.planes()):
            level = [street(0.1), 120, 133, 77][place]
            noise = random.normal(0, 2, plane.shape) if place == 0 else 0
            planes.append(
                np.rint((level + noise) * unit).astype(plane.dtype) + np.zeros_like(plane)
            )
        made.append(Image.from_planes(planes, HD, pixel_format=pixel_format))
    return frames(*made)


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_every_depth_and_subsampling_is_enhanced_alike(pixel_format):
    shown, wanted = enhance(night(pixel_format)), enhance(night("yuv420p"))
    for one, other in zip(shown, wanted, strict=True):
        assert one.enhanced
        assert one.image.layout.name == pixel_format
        assert one.image.color == HD
        unit = 1 << (one.image.layout.depth - 8)
        first, *rest = (plane / unit for plane in one.image.planes())
        want, *want_rest = other.image.planes()
        assert first.mean() == pytest.approx(want.mean(), abs=0.5)
        assert np.abs(first - want).mean() < 1.0
        for plane, want in zip(rest, want_rest, strict=False):
            assert plane.mean() == pytest.approx(want.mean(), abs=0.75)
        assert (rest[2] == 77).all() if one.image.layout.alpha else len(rest) in {0, 2}


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "gray12le", "yuv444p16le"])
def test_deep_frames_keep_steps_between_those_of_8_bits(pixel_format):
    lit = enhance(night(pixel_format))[-1].image
    luma = lit.planes()[0]
    assert np.mean(luma % (1 << (lit.layout.depth - 8)) != 0) > 0.6
    assert len(np.unique(luma)) > 2 * len(np.unique(enhance(night("yuv420p"))[-1].image.luma()))


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv422p", "gray", "yuv444p16le"])
def test_light_frames_of_any_format_go_on_as_the_very_same_frames(pixel_format):
    day = frames(*[scene(0.9).as_format(pixel_format)] * 3)
    assert all(one is other for one, other in zip(enhance(day), day, strict=True))


def test_rgb_is_enhanced_as_yuv_444():
    (frame,) = frames(Image(scene(0.1).video_frame().reformat(format="rgb24")))
    (lit,) = enhance([frame])
    assert lit.image.layout.name == "yuv444p"
    assert lit.image.rgb().mean() > 1.5 * frame.image.rgb().mean()


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv422p", "gray"])
def test_the_shipped_network_enhances_every_format(pixel_format):
    model = open_lowlight_model(device="cpu", validate=False)
    dark = night(pixel_format)
    after = list(Enhance(LowLightFilter(Enhancer(model)))(iter(dark)))
    assert after[-1].image.luma().mean() > 1.5 * dark[-1].image.luma().mean()
    model.close()
