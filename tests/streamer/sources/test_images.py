"""Sources without a stream: the test pattern and folders of images; and probing a file."""

from datetime import UTC, datetime
from itertools import islice

import numpy as np
import pytest

from streamer.core.clock import CancelToken, MediaClock, SystemClock
from streamer.core.errors import Cancelled, SourceFault, SourceRejected
from streamer.sources.constant_rate import ConstantRate
from streamer.sources.frame_sampler import DecodeMode
from streamer.sources.images import ImageFolderSource
from streamer.sources.options import VideoOptions
from streamer.sources.pattern import PatternSource
from streamer.sources.probe import probe
from tests.support.clips import jpeg, video_clip
from tests.support.stepping import StepClock, StepStop

MS = 1_000_000


def pattern(**settings):
    return PatternSource(**{"clock": SystemClock(), "realtime": False, **settings})


def first(count, source, cancel=None):
    return list(islice(source(cancel or CancelToken()), count))


def test_the_pattern_is_the_same_on_every_run_and_moves():
    images = [frame.image.rgb() for frame in first(3, pattern())]
    again = [frame.image.rgb() for frame in first(3, pattern())]
    assert all(np.array_equal(a, b) for a, b in zip(images, again, strict=True))
    assert not np.array_equal(images[0], images[1])


def test_the_pattern_goes_on_where_it_was():
    source = pattern()
    frames = [*first(2, source), *first(2, source)]
    assert [(frame.number, frame.pts_ns // MS) for frame in frames] == [
        (0, 0), (1, 40), (2, 80), (3, 120)
    ]  # fmt: skip


def test_a_pattern_in_real_time_keeps_its_rate():
    clock = StepClock()
    cancel = StepStop(clock)
    frames = first(51, pattern(clock=clock, realtime=True), cancel)
    assert sum(cancel.pauses) == pytest.approx(2.0)
    assert all(frame.arrived_ns == frame.pts_ns for frame in frames)


def test_a_pattern_marks_the_frames_that_are_sampled():
    frames = first(100, pattern(inference_interval_ns=1000 * MS))
    assert [frame.number for frame in frames if frame.sampled] == [0, 25, 50, 75]


def test_a_stop_ends_the_pause_of_a_pattern():
    clock = StepClock()
    with pytest.raises(Cancelled):
        list(pattern(clock=clock, realtime=True)(StepStop(clock, limit=3)))


def test_a_pattern_without_end_ends_with_a_stop():
    cancel = CancelToken()
    frames = pattern()(cancel)
    next(frames)
    cancel.set()
    assert list(frames) == []


def test_a_rate_of_zero_is_refused():
    with pytest.raises(ValueError, match="must be above 0"):
        ConstantRate(SystemClock(), rate=0, realtime=False, inference_interval_ns=None)


@pytest.fixture
def folder(tmp_path):
    for number in (1, 2, 10):
        (tmp_path / f"view_{number}.jpg").write_bytes(jpeg(number=number))
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def images(folder, **settings):
    loop = settings.pop("loop", False)
    rate = {"rate": 1, "realtime": False, "inference_interval_ns": None, **settings}
    return ImageFolderSource(
        folder, ConstantRate(rate.pop("clock", SystemClock()), **rate), loop=loop
    )


def test_a_folder_gives_its_images_in_the_order_of_their_numbers(folder):
    frames = list(images(folder, rate=2)(CancelToken()))
    assert [frame.pts_ns / MS for frame in frames] == [0, 500, 1000]
    bars = [int(np.argmax(frame.image.luma()[90] > 230)) for frame in frames]
    assert bars == pytest.approx([4, 8, 40], abs=1)


def test_an_image_that_cannot_be_read_is_skipped_and_counted(folder):
    (folder / "view_3.jpg").write_bytes(b"no image")
    source = images(folder)
    assert len(list(source(CancelToken()))) == 3
    assert source.damaged == 1


def test_a_folder_is_looped_with_one_time(folder):
    frames = list(islice(images(folder, rate=1, loop=True)(CancelToken()), 7))
    assert [frame.pts_ns / 1e9 for frame in frames] == list(range(7))


def test_a_folder_is_replayed_by_the_media_clock(folder):
    clock = MediaClock(datetime(2026, 1, 1, tzinfo=UTC))
    assert [f.arrived_ns == f.pts_ns for f in images(folder, clock=clock)(CancelToken())] == [
        True
    ] * 3


def test_a_folder_marks_the_images_that_are_sampled(folder):
    frames = images(folder, rate=2, inference_interval_ns=1000 * MS)(CancelToken())
    assert [frame.sampled for frame in frames] == [True, False, True]


def test_a_folder_in_real_time_waits_for_each_image(folder):
    clock = StepClock()
    cancel = StepStop(clock)
    list(images(folder, clock=clock, rate=0.5, realtime=True)(cancel))
    assert cancel.pauses == [2, 2]


@pytest.mark.parametrize(
    ("name", "fault"), [("none", SourceFault.NOT_FOUND), ("empty", SourceFault.NO_VIDEO)]
)
def test_a_folder_without_images_is_rejected(tmp_path, name, fault):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceRejected) as caught:
        list(images(tmp_path / name, loop=True)(CancelToken()))
    assert caught.value.fault is fault


def test_a_probe_of_a_file_reports_its_stream_and_what_must_be_decoded(tmp_path):
    path = video_clip(tmp_path / "a.mp4", frames=100, b_frames=2, options={"preset": "medium"})
    report = probe(str(path), options=VideoOptions(), cancel=CancelToken())
    assert (report.codec, report.width, report.height) == ("h264", 320, 180)
    assert (report.pixel_format, report.reordered) == ("yuv420p", True)
    assert report.rate == pytest.approx(25)
    assert report.gop_s == pytest.approx(1)
    assert report.bit_rate == pytest.approx(path.stat().st_size * 8 / 4, rel=0.4)
    decodes = {plan.fps: plan.plan.decode for plan in report.plans}
    assert decodes[1] is DecodeMode.KEY_FRAMES
    assert decodes[2] is DecodeMode.EVERY_FRAME


def test_a_probe_of_a_missing_file_gives_the_fault(tmp_path):
    with pytest.raises(SourceRejected) as caught:
        probe(str(tmp_path / "none.mp4"), options=VideoOptions(), cancel=CancelToken())
    assert caught.value.fault is SourceFault.NOT_FOUND


def test_a_probe_reports_when_there_are_too_few_key_frames(tmp_path):
    path = video_clip(tmp_path / "a.mp4", frames=60, gop=250)
    report = probe(str(path), options=VideoOptions(), cancel=CancelToken())
    assert report.gop_s is None
    assert all("fewer than two key frames in 2.4 s" in plan.plan.reason for plan in report.plans)
