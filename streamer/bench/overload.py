"""A camera three times as fast as the engine: ages stay within the budget, memory is constant."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Final

import numpy as np

from engines.smoke.model import SmokeModel, open_smoke_model
from streamer.core.clock import CancelToken, SystemClock
from streamer.core.frame import Frame
from streamer.core.image import Image
from streamer.core.pipeline import Pipeline, live_links
from streamer.stages.overlay import Overlay

from .fixtures import detect_stage, resident_mb

_FRAMES: Final = 10_000
_TIMES_FASTER: Final = 3
_BUDGET_MS: Final = 200
_SIZE: Final = (360, 640)
"""Small frames, so that the engine is the slowest part."""


def measure() -> Mapping[str, float]:
    """Return `p99_age_ms` at the sink, `budget_ms`, drops by reason and the growth of memory."""
    with closing(open_smoke_model()) as model:
        return _measure(model)


def _measure(model: SmokeModel) -> Mapping[str, float]:
    interval_s = _engine_s(model) / _TIMES_FASTER
    memory: list[float] = []

    def watch_memory(frames: Iterator[Frame]) -> None:
        for index, _ in enumerate(frames):
            if index % 100 == 0:
                memory.append(resident_mb())

    pipeline = Pipeline(
        "bench",
        lambda cancel: _camera(cancel, interval_s),
        {"detect": detect_stage(model), "overlay": Overlay("bench", clock=SystemClock())},
        {"sink": watch_memory},
        make_link=live_links(latency_budget_ns=_BUDGET_MS * 1_000_000),
    )
    pipeline.run()
    links = pipeline.statistics()
    full, late = (
        sum(getattr(link, f"dropped_{why}") for link in links) for why in ("full", "late")
    )
    warm = memory[len(memory) // 5 :]
    return {
        "p99_age_ms": round(links[-1].age.p99_ms, 1),
        "max_age_ms": round(links[-1].age.max_ms, 1),
        "budget_ms": _BUDGET_MS,
        "frames": _FRAMES,
        "shown": links[-1].delivered,
        "dropped_full": full,
        "dropped_late": late,
        "uncounted": _FRAMES - links[-1].delivered - full - late,
        "memory_growth_mb": round(max(warm) - warm[0], 1),
    }


def _engine_s(model: SmokeModel) -> float:
    image = np.zeros((*model.input_size, 3), np.uint8)
    times = []
    for _ in range(30):
        began = time.perf_counter()
        model(image)
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2]


def _camera(cancel: CancelToken, interval_s: float) -> Iterator[Frame]:
    """Yield frames at a fixed rate, each in memory of its own, as from a decoder."""
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (*_SIZE, 3), np.uint8) for _ in range(4)]
    began = time.monotonic()
    for number in range(_FRAMES):
        ahead_s = began + number * interval_s - time.monotonic()
        if ahead_s > 0:
            cancel.sleep(ahead_s)
        image = Image.from_rgb(arrays[number % len(arrays)])
        yield Frame(image, pts_ns=int(number * interval_s * 1e9), arrived_ns=time.monotonic_ns(),
                    number=number)  # fmt: skip
