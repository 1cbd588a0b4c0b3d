"""The section `enhance`: dark 1080p pictures made visible, as the program does it."""

from __future__ import annotations

import itertools
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from engines.lowlight import full_resolution_gpu
from engines.lowlight.enhancer import Enhancer
from engines.lowlight.full_resolution import FullResolution, OnCpu
from engines.lowlight.model import LowLightModel
from engines.registry import find
from engines.yuv import Yuv
from gpu import runtimes
from gpu.material import RATE, darkened, pictures
from gpu.measuring import latency, throughput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpu.sections import Options, ResultLog

GOAL = 300
"""Frames a second at 1080p on a datacentre card."""
_PICTURES = 12


def run(options: Options, notebook: ResultLog) -> None:
    """Measure: the network by the first way there is, the full size on processor and device."""
    dark = _dark(options)
    way, runner = runtimes.best(options, find("lowlight"), notebook)
    model = LowLightModel(runner.engine)
    measure = partial(_measure, options, notebook, model=model, dark=dark)
    try:
        what = f"{way.name}, full size on the processor"
        notebook.attempt(what, partial(measure, what, full_resolution=OnCpu))
        if options.on_gpu:
            notebook.attempt("full size", partial(_on_device, options, notebook, measure))
    finally:
        runner.close()


def _dark(options: Options) -> list[Yuv]:
    night = darkened(pictures(options, 3 if options.quick else _PICTURES))
    return [Yuv(planes[0], planes[1:]) for planes in (picture.planes() for picture in night)]


def _on_device(options: Options, notebook: ResultLog, measure: Callable[..., None]) -> None:
    way, runner = runtimes.best(options, find("lowlight-full-size"), notebook)
    failures: list[str] = []
    try:
        on_device = partial(full_resolution_gpu.OnDevice, runner.engine, failed=failures.append)
        measure(f"{way.name}, full size on the device", full_resolution=on_device, goal=True)
    finally:
        runner.close()
    if failures:
        raise RuntimeError(f"the device failed {len(failures)} pictures: {failures[0]}")


def _measure(
    options: Options,
    notebook: ResultLog,
    name: str,
    *,
    model: LowLightModel,
    dark: Sequence[Yuv],
    full_size: Callable[[], FullResolution],
    goal: bool = False,
) -> None:
    stream = _Stream(model, dark, full_size)
    figures = dict(latency(stream, seconds=options.seconds, warm=8, least=options.least))
    for threads in (1, 4):
        rate = throughput(stream, threads=threads, seconds=options.seconds)
        figures[f"streams_{threads}_per_s"] = round(rate, 1)
    notebook.add(name, figures)
    best = max(figures["streams_1_per_s"], figures["streams_4_per_s"])
    held: dict[str, Any] = {}
    if goal:
        held = {"goal": f"{GOAL} a second", "reached": best >= GOAL}
    height, width = dark[0].y.shape
    notebook.row(
        f"{width}x{height}, {name}",
        f"{figures['streams_1_per_s']:.0f} frames a second of one stream, "
        f"{figures['streams_4_per_s']:.0f} of four; p99 {figures['p99_ms']:.2f} ms",
        **held,
    )


class _Stream(threading.local):
    """Pictures of a stream, to and fro; each thread that calls has a stream of its own."""

    def __init__(
        self, model: LowLightModel, dark: Sequence[Yuv], full_size: Callable[[], FullResolution]
    ) -> None:
        self._enhance = Enhancer(model, always=True, full_resolution=full_size())
        self._pictures = itertools.cycle([*dark, *dark[-2:0:-1]])
        self._number = 0

    def __call__(self) -> None:
        """Enhance the next one."""
        self._enhance(next(self._pictures), self._number / RATE)
        self._number += 1
