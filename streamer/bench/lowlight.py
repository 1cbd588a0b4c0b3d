"""Cost of low-light enhancement: the stage alone, its decision by day, a live camera."""

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice, pairwise
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

_FRAMES: Final = 25
_ROUNDS: Final = 5
_FPS: Final = 25
_LIVE_S: Final = 20
_BUDGET_MS: Final = 500
_LIGHT: Final = 0.03
"""Fraction of the day's light."""
_NOISE: Final = 2.5
"""Standard deviation of the sensor's noise in bytes."""


def measure() -> Mapping[str, Any]:
    """Return `<height>p_fps` and `day_ms` of the stage; `live_p99_ms` and `live_dropped` at 720p25.

    Live is a dark camera whose frames are enhanced and encoded as they arrive.
    """
    with closing(open_lowlight_model()) as model:
        day = {height: _images(height) for height in (1080, 720)}
        dark = {height: _darkened(images) for height, images in day.items()}
        figures: dict[str, Any] = {
            f"{height}p_fps": round(1 / _seconds(model, images), 1)
            for height, images in dark.items()
        }
        figures["day_ms"] = round(1e3 * _seconds(model, day[1080]), 3)
        return figures | _live(model, dark[720])


def _images(height: int) -> list[Image]:
    with av.open(str(clip(height=height, seconds=10))) as file:
        return [Image(frame) for frame in islice(file.decode(video=0), _FRAMES)]


def _darkened(images: Sequence[Image]) -> list[Image]:
    """Return the images at night: less linear light, then noise."""
    rng = np.random.default_rng(1)
    dark = []
    for image in images:
        light = ((image.rgb() / np.float32(255)) ** 2.2 * _LIGHT) ** (1 / 2.2) * 255
        light += rng.normal(0, _NOISE, light.shape)
        dark.append(Image.from_rgb(np.clip(np.rint(light), 0, 255).astype(np.uint8)))
    return dark


def _frames(images: Sequence[Image], count: int) -> Iterator[Frame]:
    """Yield the images forwards and backwards, so that there is no scene change."""
    there_and_back = [*images, *images[-2:0:-1]]
    for number in range(count):
        image = there_and_back[number % len(there_and_back)]
        yield Frame(image, number * 1_000_000_000 // _FPS, time.monotonic_ns(), number)


def _seconds(model: LowLightModel, images: Sequence[Image]) -> float:
    """Return the seconds per frame in the stage: median of rounds after a warm-up."""
    stage = Enhance(LowLightFilter(model.enhancer()))
    ends = [time.perf_counter()]
    for number, _ in enumerate(stage(_frames(images, (_ROUNDS + 1) * len(images)))):
        if (number + 1) % len(images) == 0:
            ends.append(time.perf_counter())
    rounds = [after - before for before, after in pairwise(ends)][1:]
    return statistics.median(rounds) / len(images)


def _live(model: LowLightModel, images: Sequence[Image]) -> dict[str, Any]:
    clock = SystemClock()
    latencies = LatencyHistogram()

    def camera(stop: Any) -> Iterator[Frame]:
        started_ns = clock.monotonic_ns()
        for frame in _frames(images, _FPS * _LIVE_S):
            stop.sleep(max(0.0, (started_ns + frame.pts_ns - clock.monotonic_ns()) / 1e9))
            yield replace(frame, arrived_ns=clock.monotonic_ns())

    def measured(frames: Iterator[Frame]) -> Iterator[Frame]:
        """Record the latency of each frame when the encoder is finished with it."""
        for frame in frames:
            yield frame
            latencies.add(clock.monotonic_ns() - frame.arrived_ns)

    sink = VideoFileSink(folder() / "night.mp4", preset="ultrafast")

    pipeline = Pipeline(
        "night",
        camera,
        {"enhance": Enhance(LowLightFilter(model.enhancer()))},
        {"encode": lambda frames: sink(measured(frames))},
        make_link=live_links(latency_budget_ns=_BUDGET_MS * 1_000_000, clock=clock),
    )
    pipeline.run()
    dropped = sum(link.dropped_full + link.dropped_late for link in pipeline.statistics())
    return {
        "live_p99_ms": round(latencies.quantiles().p99_ms, 1),
        "live_dropped": dropped,
        "live_frames": _FPS * _LIVE_S,
    }
