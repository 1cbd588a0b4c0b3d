"""Decoding on hardware gives the same frames, or a reason why it cannot."""

import os

import av
import numpy as np
import pytest
import structlog

from streamer.convert.chunk_source import ChunkSource, DecodeOptions
from streamer.convert.chunks import plan_chunks
from streamer.convert.inspection import inspect
from streamer.core.clock import CancelToken, SystemClock
from streamer.core.errors import DecoderUnavailable
from streamer.core.hwaccel import is_hardware_decoded, open_hwaccel
from streamer.sources import video
from streamer.sources.options import VideoOptions
from streamer.sources.video import VideoSource
from tests.support.clips import video_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return video_clip(
        tmp_path_factory.mktemp("hwaccel") / "a.mp4",
        frames=30,
        b_frames=2,
        options={"preset": "medium"},
    )


@pytest.fixture
def no_gpu():
    try:
        open_hwaccel("cuda")
    except DecoderUnavailable:
        return
    pytest.skip("there is a GPU")


@pytest.fixture
def cuda():
    try:
        return open_hwaccel("cuda")
    except DecoderUnavailable as error:
        if os.environ.get("REQUIRE_GPU") == "1":
            raise
        pytest.skip(str(error))


def camera(path, **options):
    return VideoSource(str(path), clock=SystemClock(), live=False, options=VideoOptions(**options))


def lumas(source):
    return [frame.image.luma().copy() for frame in source(CancelToken())]


@pytest.mark.parametrize("device", ["nonsense", "", "cuda:x", "drm"])
def test_a_device_that_cannot_decode_is_refused_by_name(device):
    with pytest.raises(DecoderUnavailable, match=device.partition(":")[0] or "''"):
        open_hwaccel(device)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_its_decoder_is_refused():
    with pytest.raises(DecoderUnavailable, match="cuda cannot be opened here; is its driver"):
        open_hwaccel("cuda")


def test_a_camera_whose_hardware_is_missing_is_decoded_all_the_same_and_says_so_once(clip):
    source = camera(clip, hwaccel="nonsense")
    with structlog.testing.capture_logs() as logs:
        twice = lumas(source) + lumas(source)
    assert all(map(np.array_equal, twice, lumas(camera(clip)) * 2))
    assert len(twice) == 60
    warnings = [line for line in logs if line["log_level"] == "warning"]
    assert [line["event"] for line in warnings] == ["decoded on the CPU"]
    assert "nonsense" in warnings[0]["reason"]
    assert source.statistics().decoder == "cpu"


def test_a_codec_that_the_hardware_does_not_support_is_reported_as_decoded_on_the_cpu(
    clip, monkeypatch
):
    monkeypatch.setattr(video, "open_hwaccel", lambda device: None)
    source = camera(clip, hwaccel="cuda")
    with structlog.testing.capture_logs() as logs:
        assert len(lumas(source)) == 30
    assert [line["reason"] for line in logs if line["log_level"] == "warning"] == [
        "cuda does not decode this h264"
    ]


def test_a_camera_decoded_on_the_cpu_on_purpose_logs_no_warning(clip):
    source = camera(clip)
    with structlog.testing.capture_logs() as logs:
        lumas(source)
    assert not [line for line in logs if line["log_level"] == "warning"]
    assert source.statistics().decoder == "cpu"


def test_a_conversion_on_missing_hardware_ends_before_it_decodes(clip):
    media = inspect(clip)
    options = DecodeOptions(media.video.pixel_format, hwaccel="nonsense")
    source = ChunkSource(media, plan_chunks(media.video)[0], options)
    with pytest.raises(DecoderUnavailable, match="nonsense"):
        list(source(CancelToken()))


def test_a_conversion_does_not_fall_back_to_the_cpu(clip, monkeypatch):
    monkeypatch.setattr("streamer.convert.chunk_source.open_hwaccel", lambda device: None)
    media = inspect(clip)
    options = DecodeOptions(media.video.pixel_format, hwaccel="cuda")
    source = ChunkSource(media, plan_chunks(media.video)[0], options)
    with pytest.raises(DecoderUnavailable, match="cuda cannot decode h264; without --hwaccel"):
        list(source(CancelToken()))


class _Context:
    """A decoder as PyAV shows it."""

    def __init__(self, pix_fmt, *, is_hwaccel=True):
        self.pix_fmt, self.is_hwaccel = pix_fmt, is_hwaccel


@pytest.mark.parametrize(
    ("context", "on"),
    [
        (_Context("cuda"), True),
        (_Context("yuv422p10le"), False),  # FFmpeg fell back: a profile unknown to the device
        (_Context("yuv420p", is_hwaccel=False), False),
        (_Context(None), False),
    ],
    ids=["cuda", "fallen back", "cpu", "nothing yet"],
)
def test_the_pixel_format_of_the_decoder_tells_what_decoded(context, on):
    assert is_hardware_decoded(context) is on


@pytest.mark.gpu
def test_a_gpu_decodes_the_same_frames_as_the_cpu(clip, cuda):
    with av.open(str(clip), hwaccel=cuda) as container:
        context = container.streams.video[0].codec_context
        formats = {frame.format.name for frame in container.decode(video=0)}
        assert is_hardware_decoded(context)
        assert formats == {"nv12"}
    source = camera(clip, hwaccel="cuda")
    assert all(map(np.array_equal, lumas(source), lumas(camera(clip))))
    assert source.statistics().decoder == "cuda"


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda")
def test_a_gpu_decodes_key_frames_alone_as_well(tmp_path):
    path = video_clip(tmp_path / "a.mp4", frames=150, gop=25)
    sampling = {"inference_interval_ns": 1_000_000_000}
    on_gpu, on_cpu = (lumas(camera(path, hwaccel=device, **sampling)) for device in ("cuda", None))
    assert len(on_gpu) == len(on_cpu)
    assert all(map(np.array_equal, on_gpu, on_cpu))


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda")
def test_a_conversion_decoded_by_a_gpu_has_the_frames_of_the_cpu(clip):
    media = inspect(clip)
    chunk = plan_chunks(media.video)[0]
    on_gpu, on_cpu = (
        lumas(ChunkSource(media, chunk, DecodeOptions("yuv420p", hwaccel=device)))
        for device in ("cuda", None)
    )
    assert len(on_gpu) == len(on_cpu) == 30
    assert all(map(np.array_equal, on_gpu, on_cpu))
