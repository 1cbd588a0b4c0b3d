"""The section `enhance`: low-light enhancement of 1080p frames, as in the program."""

from __future__ import annotations

import itertools
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from engines.backends.tensorrt_engine import TensorRtEngine
from engines.lowlight import full_resolution_gpu
from engines.lowlight.enhancer import Enhancer
from engines.lowlight.full_resolution import FullResolution, OnCpu
from engines.lowlight.model import LowLightModel, open_lowlight_model
from engines.registry import find
from engines.yuv import Yuv
from gpu import runtimes
from gpu.material import RATE, darkened, frames
from gpu.measuring import latency, throughput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpu.sections import Options, ResultLog

GOAL = 300
"""Frames per second at 1080p on a data-center GPU."""
_FRAMES = 12


def run(options: Options, results: ResultLog) -> None:
    """Measure the full-resolution part on the CPU and on the GPU; the network is on the CPU."""
    dark = _dark(options)
    model = open_lowlight_model(device="cpu", prove=False)
    measure = partial(_measure, options, results, model=model, dark=dark)
    try:
        what = "full resolution on the CPU"
        results.attempt(what, partial(measure, what, full_resolution=OnCpu))
        if options.on_gpu:
            results.attempt("full resolution", partial(_on_device, options, results, measure))
    finally:
        model.close()


def _dark(options: Options) -> list[Yuv]:
    night = darkened(frames(options, 3 if options.quick else _FRAMES))
    return [Yuv(planes[0], planes[1:]) for planes in (frame.planes() for frame in night)]


def _on_device(options: Options, results: ResultLog, measure: Callable[..., None]) -> None:
    runtime, runner = runtimes.best(options, find("lowlight-full-size"), results)
    failures: list[str] = []
    try:
        if isinstance(runner.engine, TensorRtEngine):
            for shapes in full_resolution_gpu.SETTINGS.warm_shapes:
                runner.engine.prepare(shapes)
        on_device = partial(full_resolution_gpu.OnDevice, runner.engine, failed=failures.append)
        measure(f"full resolution by {runtime.name}", full_resolution=on_device, goal=True)
    finally:
        runner.close()
    if failures:
        raise RuntimeError(f"the GPU failed {len(failures)} frames: {failures[0]}")


def _measure(
    options: Options,
    results: ResultLog,
    name: str,
    *,
    model: LowLightModel,
    dark: Sequence[Yuv],
    full_resolution: Callable[[], FullResolution],
    goal: bool = False,
) -> None:
    stream = _Stream(model, dark, full_resolution)
    figures = dict(latency(stream, seconds=options.seconds, warm=8, least=options.least))
    for threads in (1, 4):
        rate = throughput(stream, threads=threads, seconds=options.seconds)
        figures[f"streams_{threads}_per_s"] = round(rate, 1)
    results.add(name, figures)
    best = max(figures["streams_1_per_s"], figures["streams_4_per_s"])
    held: dict[str, Any] = {}
    if goal:
        held = {"goal": f"{GOAL} a second", "reached": best >= GOAL}
    height, width = dark[0].y.shape
    results.row(
        f"{width}x{height}, {name}",
        f"{figures['streams_1_per_s']:.0f} frames a second of one stream, "
        f"{figures['streams_4_per_s']:.0f} of four; p99 {figures['p99_ms']:.2f} ms",
        **held,
    )


class _Stream(threading.local):
    """Frames of a stream, forwards and backwards; each calling thread has its own stream."""

    def __init__(
        self,
        model: LowLightModel,
        dark: Sequence[Yuv],
        full_resolution: Callable[[], FullResolution],
    ) -> None:
        self._enhance = Enhancer(model, always=True, full_resolution=full_resolution())
        self._frames = itertools.cycle([*dark, *dark[-2:0:-1]])
        self._number = 0

    def __call__(self) -> None:
        """Enhance the next frame."""
        self._enhance(next(self._frames), self._number / RATE)
        self._number += 1
