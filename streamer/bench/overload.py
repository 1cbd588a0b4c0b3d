"""Eight cameras that want more inferences than the engine can do: what still comes out in time.

The cameras want 0.9 to 4 times the capacity, which is measured before and after each load with the
same detectors, as many at once as the engine runs. Two engines: the real one on the CPU, and a slow
one that only sleeps, so that the result depends on the program alone. Pipelines, links, stages and
scheduler are those of `watch`; frames come from memory.
"""

import math
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from engines.engine import EngineState
from streamer.alarm.policy import Alarm
from streamer.app.detector_builder import build_detector, detection_stage
from streamer.app.models import Models, open_models
from streamer.config import Config
from streamer.config.camera import CameraSettings
from streamer.core.clock import CancelToken, SystemClock
from streamer.core.frame import AlarmState, Frame
from streamer.core.image import Image
from streamer.core.pipeline import Pipeline, live_links
from streamer.detect.detector import Detector
from streamer.detect.inference_scheduler import InferenceScheduler, Seat

from .fixtures import clip, folder, resident_mb

_LOADS: Final = (0.9, 1.1, 1.5, 2.0, 4.0)
"""Wanted inferences as multiples of the capacity."""

_CAMERAS: Final = 8
_BUDGET_MS: Final = 2000
_HEIGHT: Final = 360
"""Small frames, so that the engine is the slowest part."""

_SLICES: Final = 3
"""Parts of the time at each load, each between two measurements of the capacity: other work on the
machine changes it within seconds."""

_WARM_S: Final = 1.5
_MEASURED_S: Final = 3.5
_CAPACITY_S: Final = 1.0
_SLOW_ENGINE_S: Final = 0.1

_NS: Final = 1_000_000_000
_Rgb = NDArray[np.uint8]


def measure() -> Mapping[str, Any]:
    """Return `goodput`, `worst_share` and `p99_age_ms` by load, drops by reason, memory growth.

    The figures are those of the real engine; the key `slow-engine` holds those of the slow one.
    """
    config = _config()
    with open_models(config) as models:
        figures = _figures(models, config)
    return {**figures, "slow-engine": _figures(Models(_SlowNetwork()), config)}  # type: ignore[arg-type]


class _SlowNetwork:
    """Takes a tenth of a second for one image at a time, without using the CPU."""

    name, digest, backend = "slow", "", "sleep"
    input_size = (384, 640)
    threshold, low_threshold = 0.9, 0.8
    concurrency = 1
    state = EngineState("cpu")

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(
        self, image: _Rgb, background: _Rgb | None = None, *, dark: bool = False
    ) -> NDArray[np.float32]:
        del background, dark
        with self._lock:
            time.sleep(_SLOW_ENGINE_S)
        return np.zeros((image.shape[0] // 2, image.shape[1] // 2), np.float32)


@dataclass(slots=True)
class _Camera:
    """One camera of a round, and the results that came out of its pipeline."""

    seat: Seat
    pipeline: Pipeline
    sent: int = 0
    ages_ns: list[int] = field(default_factory=list)
    """Age of each frame with a result at the end of the pipeline, after the warm-up."""
    memory_mb: list[float] = field(default_factory=list)
    """Resident memory of the process at each of them."""


def _figures(models: Models, config: Config) -> dict[str, Any]:
    images = _images()
    _capacity(models, config, images)  # Compiles the network.
    before = _capacity(models, config, images)
    rounds: dict[str, dict[str, Any]] = {}
    for load in _LOADS:
        capacities, slices = [], []
        for seed in range(_SLICES):
            interval_s = _CAMERAS / (load * before)
            slices.append(_run(models, config, images, interval_s=interval_s, seed=seed))
            after = _capacity(models, config, images)
            capacities.append((before + after) / 2)
            before = after
        rounds[f"{load:g}"] = _summary(slices, load=load, capacity=float(np.mean(capacities)))
    return {
        "cameras": _CAMERAS,
        "budget_ms": _BUDGET_MS,
        **{
            key: {load: one[key] for load, one in rounds.items()}
            for key in ("goodput", "worst_share", "p99_age_ms", "capacity", "dropped")
        },
        "uncounted": sum(one["uncounted"] for one in rounds.values()),
        "memory_growth_mb": max(one["growth_mb"] for one in rounds.values()),
    }


def _run(
    models: Models, config: Config, images: Sequence[Image], *, interval_s: float, seed: int
) -> list[_Camera]:
    """Run all cameras for one slice, and return them when they have ended."""
    clock = SystemClock()
    scheduler = models.scheduler(clock)
    rng = random.Random(seed)  # noqa: S311  phases of cameras, not secrets
    cameras = [
        _camera(
            _Sending(images, interval_s=interval_s, phase_s=rng.random() * interval_s),
            scheduler,
            build_detector(settings, models, clock=clock),
            settings,
        )
        for settings in config.cameras.values()
    ]
    threads = [threading.Thread(target=camera.pipeline.run) for camera in cameras]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return cameras


@dataclass(frozen=True, slots=True)
class _Sending:
    """What a camera sends."""

    images: Sequence[Image]
    interval_s: float
    phase_s: float

    def frames(self, cancel: CancelToken) -> Iterator[Frame]:
        began = time.monotonic() + self.phase_s
        for number in range(math.ceil((_WARM_S + _MEASURED_S - self.phase_s) / self.interval_s)):
            ahead_s = began + number * self.interval_s - time.monotonic()
            if ahead_s > 0:
                cancel.sleep(ahead_s)
            arrived_ns = time.monotonic_ns()
            image = _copy(self.images[number % len(self.images)])
            yield Frame(image, round(number * self.interval_s * _NS), arrived_ns, number)


def _camera(
    sending: _Sending, scheduler: InferenceScheduler, detector: Detector, settings: CameraSettings
) -> _Camera:
    """Return a camera, assembled as `CameraRuntime` does it."""
    clock, interval_ns = scheduler.clock, round(sending.interval_s * _NS)
    seat = scheduler.seat(
        "bench",
        budget_ns=_BUDGET_MS * 1_000_000,
        interval_ns=interval_ns,
        min_interval_ns=max(interval_ns, round(_NS / settings.detect.min_fps)),
    )

    def source(cancel: CancelToken) -> Iterator[Frame]:
        for frame in sending.frames(cancel):
            camera.sent += 1
            yield frame

    def sink(frames: Iterator[Frame]) -> None:
        warm_ns = clock.monotonic_ns() + round(_WARM_S * _NS)
        ends_ns = warm_ns + round(_MEASURED_S * _NS)
        for frame in frames:
            now_ns = clock.monotonic_ns()
            if frame.has_fresh_result and warm_ns <= now_ns < ends_ns:
                camera.ages_ns.append(now_ns - frame.arrived_ns)
                camera.memory_mb.append(resident_mb())

    detect = detection_stage(
        detector,
        Alarm("bench", settings.alarm),
        inference_interval_ns=interval_ns,
        clock=clock,
        record=lambda _event, _frame: None,
        seat=seat,
    )
    pipeline = Pipeline(
        "bench",
        source,
        {"detect": detect},
        {"sink": sink},
        make_link=live_links(latency_budget_ns=_BUDGET_MS * 1_000_000, clock=clock),
        gates={"detect": seat},
    )
    camera = _Camera(seat, pipeline)
    return camera


def _summary(
    slices: Sequence[Sequence[_Camera]], *, load: float, capacity: float
) -> dict[str, Any]:
    """Summarize the slices at one load; drops are those of the warm-up too."""
    span_s = _MEASURED_S * len(slices)
    budget_ns = _BUDGET_MS * 1_000_000
    rates = [
        sum(age_ns <= budget_ns for camera in same for age_ns in camera.ages_ns) / span_s
        for same in zip(*slices, strict=True)
    ]
    cameras = [camera for one in slices for camera in one]
    ages_ns = [age_ns for camera in cameras for age_ns in camera.ages_ns]
    fair = min(load, 1.0) * capacity / _CAMERAS
    dropped: Counter[str] = Counter()
    for camera in cameras:
        dropped.update(camera.seat.statistics().skipped)
        for link in camera.pipeline.statistics():
            dropped.update(full=link.dropped_full, late=link.dropped_late)
    return {
        "capacity": round(capacity, 2),
        "goodput": round(sum(rates) / capacity, 3),
        "worst_share": round(min(rates) / fair, 3),
        "p99_age_ms": round(float(np.quantile(ages_ns, 0.99)) / 1e6, 1) if ages_ns else None,
        "dropped": dict(dropped),
        "uncounted": sum(map(_uncounted, cameras)),
        "growth_mb": round(max(_growth(camera.memory_mb) for camera in cameras), 1),
    }


def _uncounted(camera: _Camera) -> int:
    """Return the frames and inferences whose fate is not known after the end."""
    links, seat = camera.pipeline.statistics(), camera.seat.statistics()
    lost = sum(link.dropped_full + link.dropped_late + link.discarded for link in links)
    inferences = seat.wanted - seat.inferred - seat.skipped_total
    return (
        abs(camera.sent - links[-1].delivered - lost)
        + abs(inferences)
        + abs(camera.sent - seat.wanted)
    )


def _growth(memory_mb: Sequence[float]) -> float:
    """Return how much higher the memory was at last than at first: medians of a fifth each."""
    if not memory_mb:
        return 0.0
    fifth = max(1, len(memory_mb) // 5)
    return float(np.median(memory_mb[-fifth:]) - np.median(memory_mb[:fifth]))


def _copy(image: Image) -> Image:
    """Return a copy in memory of its own, as from a decoder, without cached scaled versions."""
    planes = [plane.copy() for plane in image.planes()]
    return Image.from_planes(planes, image.color, pixel_format=image.layout.name)


def _capacity(models: Models, config: Config, images: Sequence[Image]) -> float:
    """Return detections per second with as many callers as the engine runs at once."""
    ends = time.monotonic() + _CAPACITY_S
    counts: list[int] = []

    def work(settings: CameraSettings) -> None:
        detector = build_detector(settings, models, clock=SystemClock())
        count = 0
        while time.monotonic() < ends:
            frame = Frame(_copy(images[count % len(images)]), count, time.monotonic_ns(), count)
            detector.detect(frame, alarm_state=AlarmState.IDLE)
            count += 1
        counts.append(count)

    began = time.monotonic()
    threads = [
        threading.Thread(target=work, args=(settings,))
        for settings in list(config.cameras.values())[: models.concurrency]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - began)


def _images() -> list[Image]:
    with av.open(str(clip(height=_HEIGHT, seconds=1))) as container:
        decoded = list(container.decode(video=0))[:: 25 // 4]
    rgb = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in decoded]
    return [Image.from_rgb(one) for one in rgb]


def _config() -> Config:
    one = {
        "source": {"address": "pattern:"},
        "latency_budget_ms": _BUDGET_MS,
        "outputs": {"preview": False},
        "detect": {"fps": 4},
    }
    return Config.model_validate(
        {"data_dir": str(folder()), "preview": {"enabled": False},
         "cameras": {f"camera-{number}": one for number in range(_CAMERAS)}}
    )  # fmt: skip
