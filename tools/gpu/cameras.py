"""The section `cameras`: the number of 1080p30 cameras at 5 inferences per second.

The pipelines and networks are those of `streamer watch`; each camera plays the clip in real time.
Cameras are added until inferences are late, dropped or missing.
"""

from __future__ import annotations

import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.errors import DeviceUnavailable
from engines.smoke.model import SHIPPED
from gpu.material import RATE, watch_clip
from streamer.app.camera_runtime import AppContext, CameraRuntime
from streamer.app.camera_spec import camera_specs
from streamer.app.models import Models, open_models, provenance
from streamer.config import Config
from streamer.core import log
from streamer.core.clock import SystemClock
from streamer.store.sqlite import SqliteEventStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpu.sections import Options, ResultLog

STEPS = (8, 16, 32, 50, 64, 96, 128, 160, 192, 224, 256)
INFERENCES_PER_S = 5
BUDGET_MS = 250
"""Older frames are dropped and counted."""
GOAL = 50
"""Cameras on a data-center GPU."""
_READY_S = 120.0
"""Time limit for loading a stored plan and using it."""
_ENOUGH = 0.97
"""Share of the inferences that must be done; a few are cut off at the ends of the measurement."""


@dataclass(frozen=True, slots=True)
class Round:
    """Result with a number of cameras."""

    cameras: int
    inferences: float
    """Share of the inferences that were due."""
    p50_ms: float
    p99_ms: float
    """Age of a frame when its result was ready, of the slowest camera."""
    dropped: int
    unreported: int
    """Frames that are neither delivered, dropped, discarded nor waiting; must be 0."""
    cores: float
    """CPU time divided by time."""

    @property
    def failure(self) -> str:
        """Why it was too many cameras; empty if it was not."""
        if self.unreported:
            return f"{self.unreported} frames are unaccounted for"
        if self.inferences < _ENOUGH:
            return f"{100 * (1 - self.inferences):.0f} % of the inferences are missing"
        if self.dropped:
            return f"{self.dropped} dropped"
        return f"p99 {self.p99_ms:.0f} ms" if self.p99_ms > BUDGET_MS else ""


def run(options: Options, results: ResultLog) -> None:
    """Measure with hardware and with software decoding."""
    log.set_up(level="error", style="text")
    named = [name for name in options.engines if name in SHIPPED]
    for network in named or SHIPPED:
        for decoder in (options.device, None) if options.on_gpu else (None,):
            what = f"{network}, decoded by {decoder or 'the CPU'}"
            search = partial(_search, options, results, what, network=network, decoder=decoder)
            results.attempt(what, search)


def _search(
    options: Options, results: ResultLog, what: str, *, network: str, decoder: str | None
) -> None:
    if decoder is not None:
        from streamer.core.hwaccel import open_hwaccel

        open_hwaccel(decoder)  # else every camera would be decoded on the CPU, with a warning
    steps = (1,) if options.quick else STEPS
    rounds: list[Round] = []
    for count in [step for step in steps if step <= options.cameras] or [options.cameras]:
        rounds.append(_round(options, network, count, decoder))
        results.add(f"{what}, {count}", asdict(rounds[-1]) | {"failure": rounds[-1].failure})
        if rounds[-1].failure:
            break
    passed = [one for one in rounds if not one.failure]
    last = rounds[-1]
    most = passed[-1].cameras if passed else 0
    text = f"{most} cameras"
    if passed:
        text += f" at p99 {passed[-1].p99_ms:.0f} ms, {passed[-1].cores:.1f} cores"
    text += f"; {last.cameras} fail: {last.failure}" if last.failure else "; more were not tried"
    goal: dict[str, Any] = {}
    if options.on_gpu:
        goal = {"goal": f"{GOAL} at p99 under {BUDGET_MS} ms", "reached": most >= GOAL}
    results.row(f"1080p{RATE}, {INFERENCES_PER_S} inferences per second, {what}", text, **goal)


def _round(options: Options, network: str, count: int, decoder: str | None) -> Round:
    warm_s, watched_s = (1.0, 2.0) if options.quick else (6.0, 12.0)
    with tempfile.TemporaryDirectory(prefix="gpu-cameras-") as name:
        folder = Path(name)
        config = _config(options, folder, network, count, decoder)
        with (
            _ready_models(config) as models,
            SqliteEventStore(folder / "events.sqlite") as store,
        ):
            clock = SystemClock()
            context = AppContext(
                clock=clock, models=models, scheduler=models.scheduler(clock), store=store,
                provenance=partial(provenance, config, models),
            )  # fmt: skip
            cameras = [CameraRuntime(spec, context) for spec in camera_specs(config)]
            return _watch(cameras, warm_s=warm_s, watched_s=watched_s)


@contextmanager
def _ready_models(config: Config) -> Iterator[Models]:
    """Yield the program's networks once they run on the device of the configuration.

    Raises:
        DeviceUnavailable: They do not run there.
    """
    on_gpu = config.engine.device != "cpu"
    with open_models(config) as models:
        ends = time.monotonic() + _READY_S
        while late := [each for each in models.status() if on_gpu and each.device == "cpu"]:
            if late[0].building is None and late[0].degraded:
                raise DeviceUnavailable(late[0].reason)
            if time.monotonic() > ends:
                raise DeviceUnavailable(f"after {_READY_S:.0f} s still on the CPU: {late[0]}")
            time.sleep(0.1)
        yield models


def _watch(cameras: Sequence[CameraRuntime], *, warm_s: float, watched_s: float) -> Round:
    threads = [threading.Thread(target=one.run, name=one.name) for one in cameras]
    try:
        for thread in threads:
            thread.start()
            time.sleep(warm_s / 2 / len(cameras))  # key frames must not come all at once
        time.sleep(warm_s)
        done, lost, cpu = _inferences(cameras), _dropped(cameras), time.process_time()
        began = time.monotonic()
        time.sleep(watched_s)
        span_s = time.monotonic() - began
        share = (_inferences(cameras) - done) / (len(cameras) * span_s * INFERENCES_PER_S)
        cores = (time.process_time() - cpu) / span_s
        dropped = _dropped(cameras) - lost
        ages = [link.age for one in cameras for link in one.report().links]
    finally:
        for one in cameras:
            one.stop()
        for thread in threads:
            thread.join()
    links = [link for one in cameras for link in one.report().links]
    unreported = sum(
        link.received - link.delivered - link.dropped_full - link.dropped_late
        - link.discarded - link.depth
        for link in links
    )  # fmt: skip
    return Round(
        cameras=len(cameras),
        inferences=round(min(1.0, share), 4),
        p50_ms=round(max(age.p50_ms for age in ages), 2),
        p99_ms=round(max(age.p99_ms for age in ages), 2),
        dropped=dropped,
        unreported=unreported,
        cores=round(cores, 2),
    )


def _inferences(cameras: Sequence[CameraRuntime]) -> int:
    return sum(camera.report().frames for camera in cameras)


def _dropped(cameras: Sequence[CameraRuntime]) -> int:
    return sum(
        link.dropped_full + link.dropped_late for one in cameras for link in one.report().links
    )


def _config(
    options: Options, folder: Path, network: str, count: int, decoder: str | None
) -> Config:
    address = str(watch_clip(options))
    one = {
        "source": {"address": address, "realtime": True, "loop": True, "hwaccel": decoder},
        "latency_budget_ms": BUDGET_MS,
        "detect": {"fps": INFERENCES_PER_S, "low_light": False},
        "outputs": {"preview": False},
    }
    whole = {
        "data_dir": str(folder),
        "preview": {"enabled": False},
        "engine": {"model": network, "device": options.device},
        "cameras": {f"camera-{number}": one for number in range(count)},
    }
    return Config.model_validate(whole)
