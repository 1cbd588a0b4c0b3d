"""What the measurements run on: clips of our own making, and this machine in words."""

import os
import platform
import tempfile
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from engines.smoke.clip import make_clip

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
