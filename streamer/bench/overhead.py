"""What the pipeline adds to the bare sum of its work: decode, scale, infer, draw.

CPU time of the whole process is compared, so threads of libraries count, and noise from other
processes hits both sides alike. The two sides take turns; the ratio of each pair is kept.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
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
    """`overhead_ratio`: CPU time per frame of the pipeline over that of the bare loop, 720p."""
    path = clip(height=720, seconds=8)
    model = open_smoke_model()
    try:
        # The first pair warms caches and clocks.
        pairs = [_pair(path, model, ours_first=number % 2 == 0) for number in range(_ROUNDS + 1)][
            1:
        ]
    finally:
        model.close()
    return {
        "overhead_ratio": round(statistics.median(ours / bare for ours, bare in pairs), 3),
        "overhead_ratio_min": round(min(ours / bare for ours, bare in pairs), 3),
        "overhead_ratio_max": round(max(ours / bare for ours, bare in pairs), 3),
        "pipeline_cpu_ms": round(statistics.median(ours for ours, _ in pairs), 2),
        "bare_cpu_ms": round(statistics.median(bare for _, bare in pairs), 2),
    }


def _pair(path: Path, model: SmokeModel, *, ours_first: bool) -> tuple[float, float]:
    """CPU time of the pipeline and of the bare loop, in turns: the machine drifts."""
    if ours_first:
        ours = _cpu_ms(lambda: _pipeline(path, model))
        return ours, _cpu_ms(lambda: _bare(path, model))
    bare = _cpu_ms(lambda: _bare(path, model))
    return _cpu_ms(lambda: _pipeline(path, model)), bare


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
    """The same work in one plain loop, with nothing of the pipeline's."""
    draw = Overlay("bench", clock=SystemClock()).draw
    number = 0
    with av.open(str(path)) as container:
        for number, decoded in enumerate(container.decode(video=0), start=1):
            picture = Image(decoded)
            seen = SegmentationResult(model(picture.rgb(model.input_size)), pts_ns=number)
            frame = Frame(picture, pts_ns=number, arrived_ns=time.monotonic_ns(), number=number)
            draw(replace(frame, segmentation=seen))
    return number
