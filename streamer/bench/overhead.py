"""CPU time that the pipeline adds to its work: decode, scale, infer, draw.

The CPU time of the whole process is compared, which includes the threads of libraries. Pipeline and
bare loop alternate, so that noise from other processes affects both; each pair gives one ratio.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import av

from engines.smoke.model import SmokeModel, open_smoke_model
from streamer.core.clock import SystemClock
from streamer.core.frame import Frame, SegmentationResult
from streamer.core.image import Image
from streamer.core.pipeline import Pipeline, file_links
from streamer.sources.options import VideoOptions
from streamer.sources.video import VideoSource
from streamer.stages.overlay import Overlay

from .fixtures import clip, detect_stage

_ROUNDS = 10


def measure() -> Mapping[str, float]:
    """Return `overhead_ratio`: CPU time per frame, pipeline over bare loop, 720p."""
    path = clip(height=720, seconds=8)
    with closing(open_smoke_model()) as model:
        # The first pair warms caches and clocks up.
        pairs = [
            _pair(path, model, pipeline_first=number % 2 == 0) for number in range(_ROUNDS + 1)
        ][1:]
    ratios = [pipeline / bare for pipeline, bare in pairs]
    return {
        "overhead_ratio": round(statistics.median(ratios), 3),
        "overhead_ratio_min": round(min(ratios), 3),
        "overhead_ratio_max": round(max(ratios), 3),
        "pipeline_cpu_ms": round(statistics.median(pipeline for pipeline, _ in pairs), 2),
        "bare_cpu_ms": round(statistics.median(bare for _, bare in pairs), 2),
    }


def _pair(path: Path, model: SmokeModel, *, pipeline_first: bool) -> tuple[float, float]:
    """Return the CPU time of pipeline and bare loop. The order alternates: the machine drifts."""
    order = (_pipeline, _bare) if pipeline_first else (_bare, _pipeline)
    used = {work: _cpu_ms(partial(work, path, model)) for work in order}
    return used[_pipeline], used[_bare]


def _cpu_ms(work: Callable[[], int]) -> float:
    began = time.process_time()
    frames = work()
    return (time.process_time() - began) * 1e3 / frames


def _pipeline(path: Path, model: SmokeModel) -> int:
    seen = 0

    def count(frames: Iterator[Frame]) -> None:
        nonlocal seen
        for _ in frames:
            seen += 1

    clock = SystemClock()
    Pipeline(
        "bench",
        VideoSource(str(path), clock=clock, live=False, options=VideoOptions()),
        {"detect": detect_stage(model), "overlay": Overlay("bench", clock=clock)},
        {"count": count},
        make_link=file_links(),
    ).run()
    return seen


def _bare(path: Path, model: SmokeModel) -> int:
    draw = Overlay("bench", clock=SystemClock()).draw
    number = 0
    with av.open(str(path)) as container:
        for number, decoded in enumerate(container.decode(video=0), start=1):
            image = Image(decoded)
            segmentation = SegmentationResult(model(image.rgb(model.input_size)), pts_ns=number)
            frame = Frame(image, pts_ns=number, arrived_ns=time.monotonic_ns(), number=number)
            draw(replace(frame, segmentation=segmentation))
    return number
