"""Conversion: against FFmpeg's own program with the same work, interpolated, and at 4K.

Whoever is compared takes turns with us, so that a busy machine hits both sides alike.
"""

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from streamer.app.conversion import Networks, make_plan, open_networks, run_job
from streamer.convert.plan import ConvertOptions
from streamer.core.errors import StreamerError

from .fixtures import clip, folder, pan

_ROUNDS: Final = 5
_SECONDS: Final = 20
_JOBS: Final = 1
_LARGE: Final = 2160
_START_AND_TELL: Final = (
    "import resource, subprocess, sys\n"
    "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode\n"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    "sys.exit(code)"
)


def measure() -> Mapping[str, float]:
    """Throughput and memory.

    `copy_ratio`: decoding and encoding at 720p over the `ffmpeg` program, x264 veryfast;
    `double_fps`: pictures shown a second, a panning camera's 720p25 made 50, x264 veryfast;
    `peak_mb_4k`: of the whole program, 4K doubled.

    Raises:
        StreamerError: The `ffmpeg` program is not there.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise StreamerError("the ffmpeg program is compared with, and it is not installed")
    source = clip(height=720, seconds=_SECONDS)
    pairs = [_pair(source, program) for _ in range(_ROUNDS + 1)][1:]
    return {
        "copy_ratio": round(statistics.median(theirs / ours for ours, theirs in pairs), 3),
        "copy_fps": round(25 * _SECONDS / statistics.median(ours for ours, _ in pairs), 1),
        "double_fps": round(_doubled(pan(height=720, seconds=_SECONDS)), 1),
        "peak_mb_4k": round(_peak_mb(pan(height=_LARGE, seconds=3))),
    }


def _pair(source: Path, program: str) -> tuple[float, float]:
    """Seconds that we and the program take for the same work."""
    asked = ConvertOptions(encoder="x264", quality="draft")
    planned = make_plan(source, folder() / "copy.mp4", asked)
    began = time.perf_counter()
    run_job(planned, Networks(), jobs=_JOBS)
    ours = time.perf_counter() - began
    command = [program, "-v", "error", "-y", "-i", str(source), "-c:v", "libx264",
               "-preset", "veryfast", "-crf", "23", "-c:a", "copy",
               str(folder() / "theirs.mp4")]  # fmt: skip
    began = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return ours, time.perf_counter() - began


def _doubled(source: Path) -> float:
    """Pictures shown a second of a doubled recording in which everything moves."""
    asked = ConvertOptions(factor=2, encoder="x264", quality="draft")
    speeds = []
    with open_networks(asked, device="cpu") as networks:
        for _ in range(_ROUNDS):
            planned = make_plan(source, folder() / "double.mp4", asked)
            began = time.perf_counter()
            counts = run_job(planned, networks, jobs=_JOBS)
            speeds.append(planned.pictures / (time.perf_counter() - began))
            if counts.synthetic < planned.pictures // 3:
                raise StreamerError(f"only {counts.synthetic} pictures were made between others")
    return statistics.median(speeds)


def _peak_mb(source: Path) -> float:
    """Most memory that the whole program takes while it doubles a recording, in MB (10**6)."""
    output = folder() / "large.mp4"
    # Linux counts the memory of whoever started a process as its own: a small one starts it.
    done = subprocess.run(
        [sys.executable, "-c", _START_AND_TELL,
         sys.executable, "-m", "streamer.cli", "-q", "convert", str(source), "-o", str(output),
         "--factor", "2", "--quality", "draft", "--device", "cpu"],
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise StreamerError(f"converting 4K ended with {done.returncode}")
    return int(done.stdout.split()[-1]) * 1024 / 1e6
