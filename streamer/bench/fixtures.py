"""What the measurements run on: clips of our own making, and this machine in words."""

import math
import os
import platform
import tempfile
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np

from engines.smoke.demo_clip import make_clip
from engines.smoke.model import SmokeModel
from streamer.alarm.policy import Alarm
from streamer.core.clock import SystemClock
from streamer.core.pipeline import Stage
from streamer.detect.detector import Detector, Thresholds
from streamer.detect.segmenter import CpuSegmenter
from streamer.stages.detect import DetectStage

_ROOM: Final = 1.4
"""How many times as large as a frame the scene is that a camera pans over."""

_TURNS_A_FRAME: Final = (1 / 150, 1 / 95)
"""Of the way there and back, across and down: some 10 pixels a frame at 720p."""

_BEGIN: Final = 20
"""Where its way begins, in frames: at the turning points it hardly moves."""

_LIBRARIES: Final = ("av", "opencv-python-headless", "openvino", "onnxruntime", "numpy")


@cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="streamer-bench-")


def clip(*, height: int, seconds: int) -> Path:
    """The demonstration clip at 25 frames a second with a key frame each second; made once."""
    path = Path(_folder().name) / f"{height}p-{seconds}s.mp4"
    if not path.exists():
        width = height * 16 // 9 // 2 * 2
        make_clip(path, seconds=seconds, size=(height, width))
    return path


def pan(*, height: int, seconds: int) -> Path:
    """A camera that pans over the demonstration's scene, 25 frames a second; made once.

    Every frame shows other pixels than the one before: nothing is a repeat.
    """
    path = Path(_folder().name) / f"pan-{height}p-{seconds}s.mp4"
    if path.exists():
        return path
    with av.open(str(clip(height=height, seconds=1))) as source:
        scene = next(source.decode(video=0)).to_ndarray(format="rgb24")
    rows, columns = scene.shape[:2]
    larger = cv2.resize(scene, None, fx=_ROOM, fy=_ROOM, interpolation=cv2.INTER_CUBIC)
    scene = np.asarray(larger, np.uint8)
    room = np.array([scene.shape[1] - columns, scene.shape[0] - rows])
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = columns, rows, "yuv420p", 25
        for number in range(25 * seconds):
            turn = 2 * math.pi * (number + _BEGIN) * np.array(_TURNS_A_FRAME)
            left, top = (room * (1 - np.cos(turn)) / 2).round().astype(int)
            window = np.ascontiguousarray(scene[top : top + rows, left : left + columns])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(window, format="rgb24")))
        out.mux(stream.encode(None))
    return path


def detect_stage(model: SmokeModel) -> Stage:
    """Return a detect stage that infers every frame; no region exceeds its thresholds."""
    clock = SystemClock()
    detector = Detector(CpuSegmenter(model), Thresholds(1.0, 1.0, 1.0), clock=clock)
    return DetectStage(detector, Alarm("bench"), inference_interval_ns=1)


def folder() -> Path:
    """An empty-handed place for what a measurement writes; it goes with the process."""
    return Path(tempfile.mkdtemp(dir=_folder().name))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "measured_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
    }


def resident_mb() -> float:
    """Memory of this process that is in use, in MB (10**6 bytes)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
