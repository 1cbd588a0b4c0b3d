"""What making dark pictures visible costs: the stage alone, its decision by day, a live camera."""

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final

import av
import numpy as np

from engines.lowlight.model import LowLightModel, open_lowlight_model
from streamer.core.clock import SystemClock
from streamer.core.frame import Frame
from streamer.core.image import Image
from streamer.core.latency import LatencyHistogram
from streamer.core.pipeline import Pipeline, live_links
from streamer.sinks.file import VideoFileSink
from streamer.stages.low_light import Enhance, LowLightFilter

from .fixtures import clip, folder

_PICTURES: Final = 25
_ROUNDS: Final = 5
_RATE: Final = 25
_LIVE_S: Final = 20
_BUDGET_MS: Final = 500
_LIGHT: Final = 0.03
"""Of the day's light: what `night` means in the low-light room."""
_NOISE: Final = 2.5
"""Deviation of a sensor's noise, in bytes."""


def measure() -> Mapping[str, Any]:
    """`<height>p_fps` and `day_ms` of the stage alone; `live_p99_ms` and `live_dropped` at 720p25.

    Live is a dark camera whose pictures are enhanced and encoded as they come.
    """
    model = open_lowlight_model()
    try:
        day = {height: _pictures(height) for height in (1080, 720)}
        dark = {height: _darkened(pictures) for height, pictures in day.items()}
        figures: dict[str, Any] = {
            f"{height}p_fps": round(1 / _seconds(model, pictures), 1)
            for height, pictures in dark.items()
        }
        figures["day_ms"] = round(1e3 * _seconds(model, day[1080]), 3)
        return figures | _live(model, dark[720])
    finally:
        model.close()


def _pictures(height: int) -> list[Image]:
    with av.open(str(clip(height=height, seconds=10))) as file:
        return [Image(frame) for frame in islice(file.decode(video=0), _PICTURES)]


def _darkened(pictures: Sequence[Image]) -> list[Image]:
    """The same at night: less linear light, then noise."""
    rng = np.random.default_rng(1)
    dark = []
    for picture in pictures:
        light = ((picture.rgb() / np.float32(255)) ** 2.2 * _LIGHT) ** (1 / 2.2) * 255
        light += rng.normal(0, _NOISE, light.shape)
        dark.append(Image.from_rgb(np.clip(np.rint(light), 0, 255).astype(np.uint8)))
    return dark


def _frames(pictures: Sequence[Image], count: int) -> Iterator[Frame]:
    """To and fro through the pictures, so that nothing jumps."""
    there_and_back = [*pictures, *pictures[-2:0:-1]]
    for number in range(count):
        picture = there_and_back[number % len(there_and_back)]
        yield Frame(picture, number * 1_000_000_000 // _RATE, time.monotonic_ns(), number)


def _seconds(model: LowLightModel, pictures: Sequence[Image]) -> float:
    """Of one picture in the stage, in the median of rounds; the first round warms up."""
    stage = Enhance(LowLightFilter(model.enhancer()))
    ends = [time.perf_counter()]
    for number, _ in enumerate(stage(_frames(pictures, (_ROUNDS + 1) * len(pictures)))):
        if (number + 1) % len(pictures) == 0:
            ends.append(time.perf_counter())
    rounds = [after - before for before, after in pairwise(ends)][1:]
    return statistics.median(rounds) / len(pictures)


def _live(model: LowLightModel, pictures: Sequence[Image]) -> dict[str, Any]:
    clock = SystemClock()
    ages = LatencyHistogram()

    def camera(stop: Any) -> Iterator[Frame]:
        began = clock.monotonic_ns()
        for frame in _frames(pictures, _RATE * _LIVE_S):
            stop.sleep(max(0.0, (began + frame.pts_ns - clock.monotonic_ns()) / 1e9))
            yield replace(frame, arrived_ns=clock.monotonic_ns())

    def encode(frames: Iterator[Frame]) -> None:
        VideoFileSink(Path(folder()) / "night.mp4", preset="ultrafast")(_aged(frames, ages, clock))

    pipeline = Pipeline(
        "night",
        camera,
        {"enhance": Enhance(LowLightFilter(model.enhancer()))},
        {"encode": encode},
        make_link=live_links(latency_budget_ns=_BUDGET_MS * 1_000_000, clock=clock),
    )
    pipeline.run()
    dropped = sum(link.dropped_full + link.dropped_late for link in pipeline.statistics())
    return {
        "live_p99_ms": round(ages.quantiles().p99_ms, 1),
        "live_dropped": dropped,
        "live_pictures": _RATE * _LIVE_S,
    }


def _aged(frames: Iterator[Frame], ages: LatencyHistogram, clock: SystemClock) -> Iterator[Frame]:
    """Note how old each frame is when the encoder has done with it."""
    for frame in frames:
        yield frame
        ages.add(clock.monotonic_ns() - frame.arrived_ns)
