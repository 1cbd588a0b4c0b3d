"""The overlay stage: the same marks on every pixel format, and no other sample changes."""

from dataclasses import replace
from datetime import UTC, datetime

import av
import cv2
import numpy as np
import pytest

from streamer.core.clock import MediaClock
from streamer.core.frame import (
    AlarmState,
    AlarmStatus,
    Detection,
    DetectorResult,
    Frame,
    SegmentationResult,
)
from streamer.core.image import Canvas, Image
from streamer.core.pixel_format import planar_layout
from streamer.stages.overlay import Overlay

SIZE = (360, 640)
FORMATS = [
    "yuv420p", "yuv420p10le", "yuv422p", "yuv422p12le", "yuv440p", "yuv444p", "yuv444p10le",
    "yuv411p", "yuva420p", "gray", "gray10le", "gbrp10le", "gbrap12le", "yuv420p16le",
]  # fmt: skip
BOX = (0.4, 0.3, 0.6, 0.6)
LATE = DetectorResult(SegmentationResult(np.zeros((48, 80), np.float32), 0), (), late=True)
EDGES = {"top": 80, "bottom": 240, "left": 180, "right": 460}
"""Pixels between which the box, its label and what is within them are drawn."""


def decoded(pixel_format, tmp_path):
    """A frame of that format as FFmpeg's decoder of FFV1 returns it."""
    path = tmp_path / "clip.mkv"
    image = in_format(pixel_format)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width = SIZE
        stream.pix_fmt = pixel_format
        container.mux([*stream.encode(image.video_frame()), *stream.encode()])
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    return Image(frame)


def in_format(pixel_format):
    """An image of soft colors; gray keeps its limited range, which swscale would stretch."""
    coarse = np.random.default_rng(3).integers(40, 200, (9, 16, 3), dtype=np.uint8)
    image = Image.from_rgb(cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC))
    layout = planar_layout(pixel_format)
    if layout.colored:
        return image.as_format(pixel_format)
    luma = image.luma().astype(layout.dtype) << (layout.depth - 8)
    return Image.from_planes([luma], image.color, pixel_format=pixel_format)


def drawn(image, *, status=None, **more):
    probability = np.zeros((48, 80), np.float32)
    probability[15:28, 33:47] = 0.9
    frame = Frame(image, 0, 0, 0, alarm_status=status)
    return Overlay("gate", clock=MediaClock(datetime(2026, 1, 1, tzinfo=UTC))).draw(
        replace(frame, segmentation=SegmentationResult(probability, 0), **more)
    )


def alarm():
    region = Detection(
        box=BOX, centroid=(0.5, 0.45), ground_point=(0.5, 0.6), area=0.06, confidence=0.9, peak=0.95
    )
    return AlarmStatus(AlarmState.ALARM, 0, (region,))


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_samples_that_are_not_drawn_on_stay_bit_for_bit(pixel_format, tmp_path):
    image = decoded(pixel_format, tmp_path)
    before = [plane.copy() for plane in image.planes()]
    after = drawn(image, status=alarm())
    assert after.layout == image.layout
    assert after.color == image.color
    for number, (old, new) in enumerate(zip(before, after.planes(), strict=True)):
        rows, columns = (SIZE[0] // old.shape[0], SIZE[1] // old.shape[1])
        top, bottom = EDGES["top"] // rows, EDGES["bottom"] // rows
        left, right = EDGES["left"] // columns, EDGES["right"] // columns
        changed = old != new
        # The name stands in the first rows, the time in the last ones.
        changed[: 40 // rows], changed[-40 // rows :] = False, False
        assert not changed[:, :left].any()
        assert not changed[:, right:].any()
        assert not changed[:top].any()
        assert not changed[bottom:].any()
        alpha = image.layout.alpha and number == len(before) - 1
        assert changed.any() != alpha
    for old, same in zip(before, image.planes(), strict=True):
        np.testing.assert_array_equal(old, same)


@pytest.mark.parametrize("pixel_format", FORMATS)
def test_every_format_shows_the_same_marks(pixel_format, tmp_path):
    image = decoded(pixel_format, tmp_path)
    shown = drawn(image, status=alarm())
    plain = decoded("yuv420p", tmp_path)
    wanted = drawn(plain, status=alarm())
    if not image.layout.colored:
        apart = np.abs(shown.luma().astype(int) - wanted.luma())
        assert np.mean(apart > 24) < 0.001
        return
    apart = np.abs(shown.rgb().astype(int) - wanted.rgb()).max(2)
    marks = np.abs(wanted.rgb().astype(int) - plain.rgb()).max(2) > 24
    assert 0.02 < marks.mean() < 0.3
    # Chroma of marks is sharper where it has more samples.
    assert np.mean(apart[marks] > 60) < 0.15
    assert np.median(apart[marks]) <= 16
    # FFV1 in Matroska loses the matrix: BT.709 is shown as BT.601, but not in RGB.
    assert np.median(apart[~marks]) <= (10 if image.layout.rgb else 4)


@pytest.mark.parametrize("packed", ["nv12", "p010le", "yuyv422", "rgb24"])
def test_packed_frames_are_drawn_on_as_planes(packed):
    image = Canvas.blank(SIZE, pixel_format="yuv420p").image()
    packed_image = Image(image.video_frame().reformat(format=packed))
    assert drawn(packed_image).layout == packed_image.layout


@pytest.mark.parametrize(
    ("more", "same_as"),
    [
        ({"synthetic": True}, {}),
        ({"enhanced": True}, {"synthetic": True}),
        ({"detector_result": LATE}, {}),
    ],
)
def test_the_last_line_says_what_the_camera_did_not_send_and_what_is_late(more, same_as):
    image = Image.from_rgb(np.full((*SIZE, 3), 60, np.uint8))
    changed = np.argwhere(drawn(image, **same_as).luma() != drawn(image, **more).luma())
    assert len(changed) > 50
    assert changed[:, 0].min() > 300
