"""End-to-end latency: from the camera sending a frame to its overlay being drawn.

Every frame carries its number as a row of black and white blocks, which is read from the frame that
comes out. So one and the same frame is timed through RTSP, decoder, smoke network and overlay.
"""

import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from engines.smoke.model import open_smoke_model
from streamer.core.clock import SystemClock
from streamer.core.errors import StreamerError
from streamer.core.frame import Frame
from streamer.core.pipeline import Pipeline, live_links
from streamer.sources.options import VideoOptions
from streamer.sources.video import VideoSource
from streamer.stages.overlay import Overlay

from .fixtures import clip, detect_stage, folder

_PYTHON: Final = "/usr/bin/python3"
_RATE: Final = 25
_SECONDS: Final = 20
_BLOCK: Final = 16
_BITS: Final = 12
_BUDGET_MS: Final = 500


def measure() -> Mapping[str, Any]:
    """Return `rtsp_ms` with p50, p95 and p99 at 720p25, every frame inferred and drawn."""
    stream = _numbered_stream(clip(height=720, seconds=10), folder() / "numbered.h264")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(__file__).with_name("rtsp_camera.py")
    camera = subprocess.Popen(
        [_PYTHON, str(program), str(stream), str(port), str(_RATE)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert camera.stdout is not None
        if camera.stdout.readline().strip() != "listening":
            raise StreamerError(
                "bench rtsp: needs GStreamer's RTSP server; on Debian: apt-get install"
                " gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good"
                " gstreamer1.0-plugins-bad"
            )
        return _measure(f"rtsp://127.0.0.1:{port}/cam", camera)
    finally:
        camera.kill()
        camera.wait()


def _measure(url: str, camera: "subprocess.Popen[str]") -> Mapping[str, Any]:
    clock = SystemClock()
    model = open_smoke_model("smoke-fast")  # fast enough to infer 25 frames a second
    shown: list[tuple[int, int]] = []

    def out(frames: Iterator[Frame]) -> None:
        shown.extend((_number(frame.image.luma()), time.monotonic_ns()) for frame in frames)

    pipeline = Pipeline(
        "bench",
        VideoSource(url, clock=clock, live=True, options=VideoOptions(transport="tcp")),
        {"detect": detect_stage(model), "overlay": Overlay("bench", clock=clock, live=True)},
        {"out": out},
        make_link=live_links(latency_budget_ns=_BUDGET_MS * 1_000_000),
    )
    thread = threading.Thread(target=pipeline.run, name="bench")
    thread.start()
    sent: list[tuple[int, int]] = []
    began = time.monotonic()
    assert camera.stdout is not None
    while time.monotonic() - began < _SECONDS:
        number, sent_ns = camera.stdout.readline().split()
        sent.append((int(number), int(sent_ns)))
    pipeline.stop()
    thread.join()
    model.close()
    ages = np.array(_ages_ms(sent, shown))
    links = pipeline.statistics()
    return {
        "rtsp_ms": {f"p{one}": round(float(np.percentile(ages, one)), 1) for one in (50, 95, 99)},
        "budget_ms": _BUDGET_MS,
        "shown": len(ages),
        "dropped": sum(link.dropped_full + link.dropped_late for link in links),
    }


def _ages_ms(sent: list[tuple[int, int]], shown: list[tuple[int, int]]) -> list[float]:
    """Return the age of each frame at the output, without the first second (opening)."""
    ages = []
    later = shown[-1][1] if shown else 0
    for number, shown_ns in shown[_RATE:]:
        times = [sent_ns for one, sent_ns in sent if one == number and sent_ns <= shown_ns]
        if times and shown_ns <= later:
            ages.append((shown_ns - times[-1]) / 1e6)
    if not ages:
        raise StreamerError("bench rtsp: no frame came through")
    return ages


def _numbered_stream(source: Path, path: Path) -> Path:
    """Encode the clip as Annex B with delimiters, without B-frames, each frame with its number."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, _RATE)
    encoder.options = {
        "preset": "veryfast", "crf": "24", "bf": "0", "g": str(_RATE), "x264-params": "aud=1",
        "tune": "zerolatency",
    }  # fmt: skip
    with av.open(str(source)) as container, path.open("wb") as file:
        for number, frame in enumerate(container.decode(video=0)):
            if not encoder.is_open:
                encoder.width, encoder.height = frame.width, frame.height
            plane = frame.planes[0]
            luma: NDArray[np.uint8] = np.ndarray(
                (frame.height, frame.width), np.uint8, memoryview(plane),
                strides=(plane.line_size, 1),
            )  # fmt: skip
            for bit in range(_BITS):
                luma[_rows(frame.height), bit * _BLOCK : (bit + 1) * _BLOCK] = (
                    235 if number >> bit & 1 else 16
                )
            frame.pts = number
            file.writelines(bytes(packet) for packet in encoder.encode(frame))
        file.writelines(bytes(packet) for packet in encoder.encode(None))
    return path


def _number(luma: NDArray[np.uint8]) -> int:
    blocks = luma[_rows(luma.shape[0]), : _BITS * _BLOCK].reshape(_BLOCK, _BITS, _BLOCK)
    bright = blocks[4:-4, :, 4:-4].mean(axis=(0, 2)) > 128  # noqa: PLR2004  half of the range
    return int(sum(1 << bit for bit in range(_BITS) if bright[bit]))


def _rows(height: int) -> slice:
    """Rows on which no overlay is drawn."""
    return slice(height // 2, height // 2 + _BLOCK)
