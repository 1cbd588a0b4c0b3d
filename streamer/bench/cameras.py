"""How many 1080p cameras this machine watches at one inference a second, and what fails first.

Real pipelines, assembled as `watch` assembles them, read 1080p25 H.264 with a key frame a second in
real time, each from its own start. Cameras are added until an inference is late or missing.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

from streamer.app.camera_runtime import AppContext, CameraRuntime
from streamer.app.camera_spec import camera_specs
from streamer.app.models import open_models, provenance
from streamer.config import Config
from streamer.core import log
from streamer.core.clock import SystemClock
from streamer.store.sqlite import SqliteEventStore

from .fixtures import clip, folder, resident_mb

_STEPS: Final = {
    "smoke": (8, 12, 16, 20, 24, 28, 32, 40, 48, 64, 80, 96, 112, 128),
    "smoke-fast": (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128),
}
"""Cameras of each round, by network."""

_WARM_S: Final = 6.0
"""Time to open, measure the GOP length and fill the packet rings."""

_MEASURED_S: Final = 16.0
_ROUND_TIMEOUT_S: Final = 120.0
"""Of a round, including start and end."""

_MIN_COMPLETED: Final = 0.97
"""Fraction of inferences that must be completed; the ends of the measured time cut off some."""

_BUDGET_MS: Final = 2000


@dataclass(frozen=True, slots=True)
class _Round:
    cameras: int
    completed: float
    """Completed inferences as a fraction of one per second."""

    p99_age_ms: float
    dropped: int
    cpu: float
    """Cores in use."""

    memory_mb: float

    @property
    def failure(self) -> str:
        """What failed; empty if nothing did."""
        if self.completed < _MIN_COMPLETED:
            return f"{100 * (1 - self.completed):.0f} % of the inferences are missing"
        if self.p99_age_ms > _BUDGET_MS:
            return f"p99 age {self.p99_age_ms:.0f} ms"
        if self.dropped:
            return f"{self.dropped} frames dropped"
        return ""


def measure() -> Mapping[str, Any]:
    """Return `cameras` watched in time, `mb_per_camera`, and what fails with more cameras.

    The figures are those of `smoke`; the key `smoke-fast` holds the figures of that network.
    """
    return {**_figures("smoke"), "smoke-fast": _figures("smoke-fast")}


def _figures(network: str) -> dict[str, Any]:
    path = str(clip(height=1080, seconds=30))
    rounds: list[_Round] = []
    for count in _STEPS[network]:
        rounds.append(_run_in_own_process(path, count, network))
        if rounds[-1].failure:
            break
    passed = [one for one in rounds if not one.failure]
    best = passed[-1] if passed else rounds[0]
    few, many = passed[0] if passed else rounds[0], best
    more = many.cameras - few.cameras
    return {
        "cameras": best.cameras if passed else 0,
        "mb_per_camera": round((many.memory_mb - few.memory_mb) / more, 1) if more else None,
        "p99_age_ms": round(best.p99_age_ms, 1),
        "budget_ms": _BUDGET_MS,
        "cores_in_use": round(best.cpu, 2),
        "cpu_ms_per_camera_second": round(1000 * best.cpu / best.cameras, 1),
        "broke_at": rounds[-1].cameras if rounds[-1].failure else None,
        "broke_by": rounds[-1].failure or "did not break",
    }


def _run_in_own_process(path: str, count: int, network: str) -> _Round:
    """Run one round in a process of its own, so that its memory is not that of earlier rounds."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, path, str(count), network],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, timeout=_ROUND_TIMEOUT_S,
    )  # fmt: skip
    return _Round(**json.loads(done.stdout))


def _round(path: str, count: int, network: str) -> _Round:
    config = _config(path, count, network)
    with open_models(config) as models, SqliteEventStore(folder() / "events.sqlite") as store:
        clock = SystemClock()
        context = AppContext(
            clock=clock,
            models=models,
            scheduler=models.scheduler(clock),
            provenance=partial(provenance, config, models),
            store=store,
        )
        cameras = [CameraRuntime(spec, context) for spec in camera_specs(config)]
        threads = [threading.Thread(target=camera.run, name=camera.name) for camera in cameras]
        for thread in threads:
            thread.start()
            time.sleep(_WARM_S / 2 / count)  # Cameras do not send their key frames all at once.
        time.sleep(_WARM_S)
        frames_before, cpu = _inferred_frames(cameras), time.process_time()
        began = time.monotonic()
        time.sleep(_MEASURED_S)
        span_s = time.monotonic() - began
        completed = (_inferred_frames(cameras) - frames_before) / (count * span_s)
        used = (time.process_time() - cpu) / span_s
        links = [link for camera in cameras for link in camera.report().links]
        result = _Round(
            cameras=count,
            completed=min(1.0, completed),
            # The worst camera counts, not the average.
            p99_age_ms=max(link.age.p99_ms for link in links),
            dropped=sum(link.dropped_full + link.dropped_late for link in links),
            cpu=used,
            memory_mb=resident_mb(),
        )
        for camera in cameras:
            camera.stop()
        for thread in threads:
            thread.join()
    return result


def _inferred_frames(cameras: Sequence[CameraRuntime]) -> int:
    return sum(camera.report().frames for camera in cameras)


def _config(path: str, count: int, network: str) -> Config:
    one = {
        "source": {"address": path, "realtime": True, "loop": True},
        "latency_budget_ms": _BUDGET_MS,
        "outputs": {"preview": False},
    }
    return Config.model_validate(
        {"data_dir": str(folder()), "preview": {"enabled": False}, "engine": {"model": network},
         "cameras": {f"camera-{number}": one for number in range(count)}}
    )  # fmt: skip


if __name__ == "__main__":
    log.set_up(level="error", style="text")
    sys.stdout.write(json.dumps(asdict(_round(sys.argv[1], int(sys.argv[2]), sys.argv[3]))))
