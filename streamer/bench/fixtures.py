"""Input of the measurements: generated clips, a detect stage, and a description of this machine."""

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

_SCENE_SCALE: Final = 1.4
"""Size of the scene that the camera pans over, as a multiple of the frame."""

_TURNS_PER_FRAME: Final = (1 / 150, 1 / 95)
"""Periods of the pan per frame, horizontal and vertical: about 10 pixels a frame at 720p."""

_FIRST_FRAME: Final = 20
"""Frame of the pan to start with: the camera hardly moves at the turning points."""

_LIBRARIES: Final = ("av", "opencv-python-headless", "openvino", "onnxruntime", "numpy")


@cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="streamer-bench-")


def clip(*, height: int, seconds: int) -> Path:
    """Return the demonstration clip at 25 fps with a key frame each second; made once."""
    path = Path(_folder().name) / f"{height}p-{seconds}s.mp4"
    if not path.exists():
        width = height * 16 // 9 // 2 * 2
        make_clip(path, seconds=seconds, size=(height, width))
    return path


def pan(*, height: int, seconds: int) -> Path:
    """Return a clip of a camera that pans over the demonstration's scene at 25 fps; made once.

    No two frames are equal.
    """
    path = Path(_folder().name) / f"pan-{height}p-{seconds}s.mp4"
    if path.exists():
        return path
    with av.open(str(clip(height=height, seconds=1))) as source:
        scene = next(source.decode(video=0)).to_ndarray(format="rgb24")
    rows, columns = scene.shape[:2]
    larger = cv2.resize(
        scene, None, fx=_SCENE_SCALE, fy=_SCENE_SCALE, interpolation=cv2.INTER_CUBIC
    )
    scene = np.asarray(larger, np.uint8)
    margin = np.array([scene.shape[1] - columns, scene.shape[0] - rows])
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = columns, rows, "yuv420p", 25
        for number in range(25 * seconds):
            turn = 2 * math.pi * (number + _FIRST_FRAME) * np.array(_TURNS_PER_FRAME)
            left, top = (margin * (1 - np.cos(turn)) / 2).round().astype(int)
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
    """Return a new empty folder for the output of a measurement, deleted with the process."""
    return Path(tempfile.mkdtemp(dir=_folder().name))


def machine() -> dict[str, Any]:
    """Return a description of this machine, to be saved with the figures."""
    return {
        "measured_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
    }


def resident_mb() -> float:
    """Return the resident memory of this process in MB (10**6 bytes)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
