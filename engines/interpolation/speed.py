"""Time interpolation beside its baselines: `python -m engines.interpolation.speed`.

The RIFE network runs on the same backend as ours, without the conversion of its frames: in bf16
like ours, and in f32, in which `evaluate` measures its quality. FFmpeg's `minterpolate` runs as a
program that doubles the rate of a clip and discards the frames. All methods are interleaved in one
run, with all cores busy.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from engines.benchmark import interleaved
from engines.interpolation.baselines import Rife, averaged_flow
from engines.interpolation.data import held_out, planes_of, planes_to_rgb
from engines.interpolation.evaluate import BASELINES_FOLDER
from engines.interpolation.model import open_interpolator
from engines.malloc import disable_malloc_trim

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Plane = NDArray[np.uint8]

SIZES = ((640, 360), (1280, 720), (1920, 1080))
"""(width, height)."""
FRAMES = 16
"""Frames of the clip that `minterpolate` doubles."""


def measure(sizes: Sequence[tuple[int, int]], *, rounds: int) -> dict[str, Any]:
    """Return ms per intermediate frame, by size and method, and the ratios to ours."""
    model = open_interpolator(validate=False)
    BASELINES_FOLDER.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"engine": model.backend, "cores": len(os.sched_getaffinity(0))}
    for width, height in sizes:
        clip = _clip(width, height)
        before, after = clip[0], clip[1]
        rife, full = (
            Rife(height, width, BASELINES_FOLDER, precision=precision)
            for precision in ("bf16", "f32")
        )
        inputs = rife.inputs(planes_to_rgb(before), planes_to_rgb(after), 0.5)
        between = model.between(before, after)
        taken = interleaved(
            {
                "ours": lambda a=before, b=after: model.between(a, b).at(0.5),  # type: ignore[misc]
                "ours_each_more": lambda found=between: found.at(0.5),  # type: ignore[misc]
                "rife": lambda r=rife, g=inputs: r.infer(g),  # type: ignore[misc]
                "rife_f32": lambda r=full, g=inputs: r.infer(g),  # type: ignore[misc]
                "averaged_flow": lambda a=before, b=after: averaged_flow(a, b),  # type: ignore[misc]
            },
            rounds=rounds,
        )
        rife.close()
        full.close()
        taken["minterpolate"] = _minterpolate(clip, BASELINES_FOLDER / "clip.yuv")
        result[f"{width}x{height}"] = {
            "milliseconds": {name: round(value, 2) for name, value in taken.items()},
            "times_as_fast": {
                name: round(taken[name] / taken["ours"], 1)
                for name in ("rife", "rife_f32", "minterpolate")
            },
        }
    model.close()
    return result


def _clip(width: int, height: int) -> list[list[Plane]]:
    """Return frames of a held-out clip at a size."""
    frames = held_out()[-2].frames()
    made = []
    for number in range(FRAMES):
        planes = planes_of(np.asarray(frames[2 * number]))
        sizes = [(width, height), *[(width // 2, height // 2)] * 2]
        made.append(
            [
                np.asarray(cv2.resize(np.ascontiguousarray(plane), size), np.uint8)
                for plane, size in zip(planes, sizes, strict=True)
            ]
        )
    return made


def _minterpolate(clip: Sequence[Sequence[Plane]], file: Path) -> float:
    """Return the ms that FFmpeg's motion-compensated interpolation takes per frame."""
    height, width = clip[0][0].shape
    file.write_bytes(b"".join(plane.tobytes() for frame in clip for plane in frame))
    command = ["ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", "yuv420p"]
    command += ["-s", f"{width}x{height}", "-r", "25", "-i", str(file)]
    taken = []
    for graph in ("null", "minterpolate=fps=50"):
        began = time.perf_counter()
        subprocess.run([*command, "-vf", graph, "-f", "null", "-"], check=True)
        taken.append(time.perf_counter() - began)
    file.unlink()
    return 1e3 * (taken[1] - taken[0]) / (len(clip) - 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", nargs="+", default=[f"{w}x{h}" for w, h in SIZES])
    a = parser.parse_args()
    disable_malloc_trim()  # as the program does
    sizes = [(int(w), int(h)) for w, h in (size.split("x") for size in a.sizes)]
    print(json.dumps(measure(sizes, rounds=a.rounds), indent=1))


if __name__ == "__main__":
    main()
