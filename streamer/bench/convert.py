"""Benchmarks conversion: against the `ffmpeg` program, with interpolation, and at 4K.

The two programs take turns, so that a busy machine affects both alike.
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
from streamer.config.convert import ConvertOptions
from streamer.core.errors import StreamerError

from .fixtures import clip, folder, pan

_ROUNDS: Final = 5
_SECONDS: Final = 20
_JOBS: Final = 1
_HEIGHT_4K: Final = 2160
_RUN_AND_PRINT_PEAK: Final = (
    "import resource, subprocess, sys\n"
    "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode\n"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    "sys.exit(code)"
)


def measure() -> Mapping[str, float]:
    """Measure throughput and memory.

    `copy_ratio`: throughput relative to the `ffmpeg` program, 720p to x264 veryfast;
    `copy_fps`: its frames per second;
    `double_fps`: output frames per second, a panning camera's 720p25 interpolated to 50 fps, x264
    veryfast;
    `peak_mb_4k`: peak memory of the whole program in MB, 4K interpolated by factor 2.

    Raises:
        StreamerError: The `ffmpeg` program is not installed.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise StreamerError("the ffmpeg program, which is compared, is not installed")
    source = clip(height=720, seconds=_SECONDS)
    pairs = [_copy_seconds(source, program) for _ in range(_ROUNDS + 1)][1:]
    return {
        "copy_ratio": round(statistics.median(ffmpeg / ours for ours, ffmpeg in pairs), 3),
        "copy_fps": round(25 * _SECONDS / statistics.median(ours for ours, _ in pairs), 1),
        "double_fps": round(_double_fps(pan(height=720, seconds=_SECONDS)), 1),
        "peak_mb_4k": round(_peak_mb(pan(height=_HEIGHT_4K, seconds=3))),
    }


def _copy_seconds(source: Path, program: str) -> tuple[float, float]:
    """Return the seconds that this program and `ffmpeg` take for the same work."""
    options = ConvertOptions(encoder="x264", quality="draft")
    planned = make_plan(source, folder() / "copy.mp4", options)
    began = time.perf_counter()
    run_job(planned, Networks(), jobs=_JOBS)
    ours = time.perf_counter() - began
    command = [program, "-v", "error", "-y", "-i", str(source), "-c:v", "libx264",
               "-preset", "veryfast", "-crf", "23", "-c:a", "copy",
               str(folder() / "ffmpeg.mp4")]  # fmt: skip
    began = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return ours, time.perf_counter() - began


def _double_fps(source: Path) -> float:
    """Return the output frames per second of factor 2, for a recording full of motion."""
    options = ConvertOptions(factor=2, encoder="x264", quality="draft")
    rates = []
    with open_networks(options, device="cpu") as networks:
        for _ in range(_ROUNDS):
            planned = make_plan(source, folder() / "double.mp4", options)
            began = time.perf_counter()
            counts = run_job(planned, networks, jobs=_JOBS)
            rates.append(planned.output_frames / (time.perf_counter() - began))
            if counts.synthetic < planned.output_frames // 3:
                raise StreamerError(f"only {counts.synthetic} frames were interpolated")
    return statistics.median(rates)


def _peak_mb(source: Path) -> float:
    """Return the peak memory of the whole program at factor 2, in MB (10**6 bytes)."""
    output = folder() / "large.mp4"
    # Linux inherits the peak of the parent process, so a small process starts the conversion.
    done = subprocess.run(
        [sys.executable, "-c", _RUN_AND_PRINT_PEAK,
         sys.executable, "-m", "streamer.cli", "-q", "convert", str(source), "-o", str(output),
         "--factor", "2", "--quality", "draft", "--device", "cpu"],
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise StreamerError(f"the 4K conversion exited with status {done.returncode}")
    return int(done.stdout.split()[-1]) * 1024 / 1e6
