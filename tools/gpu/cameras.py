"""The section `cameras`: how many 1080p30 cameras are watched five times a second in time.

Real pipelines, built as `watch` builds them, each playing the clip in real time. More are added
until looks come late, are dropped or stay away. Where TensorRT runs, the program opens its networks
as it always does; else the stand-in's engine is put in its place, with calls joined into batches.
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

import numpy as np

from engines.batching import Batcher, longest_wait_s
from engines.errors import DeviceUnavailable
from engines.registry import find
from engines.smoke.model import SHIPPED, SmokeModel
from engines.smoke.zoom_verification import WINDOW
from gpu import runtimes
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

    from engines.engine import Engine, EngineState
    from engines.registry import RegistryEntry
    from gpu.runtimes import Inputs
    from gpu.sections import Options, ResultLog

STEPS = (8, 16, 32, 50, 64, 96, 128, 160, 192, 224, 256)
LOOKS_PER_S = 5
BUDGET_MS = 250
"""Older looks are dropped, and counted."""
MOST = 32
"""Rows of a batch: as many as the plans are made for."""
GOAL = 50
"""Cameras on a datacentre card."""
_CHANGEOVER_S = 120.0
"""In which a plan that is kept must have been loaded, proven and taken."""
_ENOUGH = 0.97
"""Share of the looks that must have come, less what the edges of the span cut off."""


@dataclass(frozen=True, slots=True)
class Round:
    """What so many cameras came to."""

    cameras: int
    looks: float
    """Share of the looks that were due."""
    p50_ms: float
    p99_ms: float
    """Age of a look when it was done, of the camera that fared worst."""
    dropped: int
    unreported: int
    """Frames that are neither delivered, dropped, discarded nor waiting: there must be none."""
    cores: float
    """Processor time over time."""

    @property
    def broke(self) -> str:
        """What gave way; empty when all held."""
        if self.unreported:
            return f"{self.unreported} frames are nowhere"
        if self.looks < _ENOUGH:
            return f"{100 * (1 - self.looks):.0f} % of the looks did not come"
        if self.dropped:
            return f"{self.dropped} dropped"
        return f"p99 {self.p99_ms:.0f} ms" if self.p99_ms > BUDGET_MS else ""


def run(options: Options, notebook: ResultLog) -> None:
    """Measure with NVDEC and with the processor decoding."""
    log.set_up(level="error", style="people")
    named = [name for name in options.engines if name in SHIPPED]
    for network in named or SHIPPED:
        way, runner = runtimes.best(options, find(network), notebook)
        try:
            engine: Engine | None = runner.engine
            if way.name.startswith("tensorrt"):
                runner.close()  # its plan is kept: the program finds it
                engine = None
            else:
                _prepare(options, runner.engine, find(network))
            for decoder in (options.device, None) if options.on_gpu else (None,):
                what = f"{network} by {way.name}, decoded by {decoder or 'processor'}"
                search = partial(
                    _search, options, notebook, what,
                    network=network, engine=engine, decoder=decoder,
                )  # fmt: skip
                notebook.attempt(what, search)
        finally:
            runner.close()


def _prepare(options: Options, engine: Engine, entry: RegistryEntry) -> None:
    """Let the engine see every size of batch, and that of a second look, before it counts."""
    rows = 1
    while rows <= (2 if options.quick else MOST):
        engine.infer(runtimes.batch_of(entry, rows))
        rows *= 2
    SmokeModel(engine).prepare(WINDOW)


def _search(
    options: Options,
    notebook: ResultLog,
    what: str,
    *,
    network: str,
    engine: Engine | None,
    decoder: str | None,
) -> None:
    if decoder is not None:
        from streamer.core.hwaccel import hwaccel

        hwaccel(decoder)  # else every camera would be decoded by the processor, with a warning
    steps = (1,) if options.quick else STEPS
    rounds: list[Round] = []
    for count in [step for step in steps if step <= options.cameras] or [options.cameras]:
        rounds.append(_round(options, network, engine, count, decoder))
        notebook.add(f"{what}, {count}", asdict(rounds[-1]) | {"broke": rounds[-1].broke})
        if rounds[-1].broke:
            break
    held = [one for one in rounds if not one.broke]
    last = rounds[-1]
    most = held[-1].cameras if held else 0
    told = f"{most} cameras"
    if held:
        told += f" at p99 {held[-1].p99_ms:.0f} ms, {held[-1].cores:.1f} cores"
    told += f"; {last.cameras} break: {last.broke}" if last.broke else "; more were not tried"
    goal: dict[str, Any] = {}
    if options.on_gpu:
        goal = {"goal": f"{GOAL} at p99 under {BUDGET_MS} ms", "reached": most >= GOAL}
    notebook.row(f"1080p{RATE}, {LOOKS_PER_S} looks a second, {what}", told, **goal)


class PaddedBatches:
    """An engine whose batches are padded to 1, 2, 4, ... rows, and that somebody else closes.

    An engine prepares itself for each size that comes; with so few sizes it has done so before it
    counts. What is padded with is the last row.
    """

    def __init__(self, engine: Engine) -> None:
        self.spec, self.backend = engine.spec, engine.backend
        self._engine = engine

    @property
    def state(self) -> EngineState:
        """Of the engine behind."""
        return self._engine.state

    def infer(self, inputs: Inputs) -> Inputs:
        """See `engines.engine.Engine`."""
        rows = len(next(iter(inputs.values())))
        more = (1 << (rows - 1).bit_length()) - rows
        padded = {name: np.concatenate([a, *[a[-1:]] * more]) for name, a in inputs.items()}
        said = self._engine.infer(padded if more else inputs)
        return {name: array[:rows] for name, array in said.items()}

    def close(self) -> None:
        """Leave it open."""


def _round(
    options: Options, network: str, engine: Engine | None, count: int, decoder: str | None
) -> Round:
    warm_s, watched_s = (1.0, 2.0) if options.quick else (6.0, 12.0)
    with tempfile.TemporaryDirectory(prefix="gpu-cameras-") as name:
        folder = Path(name)
        config = _config(options, folder, network, count, decoder)
        opened = _programs_own(config) if engine is None else _stand_in(engine, count)
        with opened as models, SqliteEventStore(folder / "events.sqlite") as store:
            context = AppContext(
                clock=SystemClock(), models=models, store=store,
                provenance=partial(provenance, config, models),
            )  # fmt: skip
            cameras = [CameraRuntime(spec, context) for spec in camera_specs(config)]
            return _watch(cameras, warm_s=warm_s, watched_s=watched_s)


@contextmanager
def _programs_own(config: Config) -> Iterator[Models]:
    """The networks as `watch` opens them, once they run on the GPU.

    Raises:
        DeviceUnavailable: They do not, and why.
    """
    with open_models(config) as models:
        ends = time.monotonic() + _CHANGEOVER_S
        while late := [engine for engine in models.status() if engine.device == "cpu"]:
            if late[0].building is None and late[0].degraded:
                raise DeviceUnavailable(late[0].reason)
            if time.monotonic() > ends:
                raise DeviceUnavailable(f"after {_CHANGEOVER_S:.0f} s still on the CPU: {late[0]}")
            time.sleep(0.1)
        yield models


@contextmanager
def _stand_in(engine: Engine, count: int) -> Iterator[Models]:
    """Another engine in place of the program's, its calls joined into batches as the program's."""
    wait_s = longest_wait_s(latency_budget_ms=BUDGET_MS, look_interval_s=1 / LOOKS_PER_S)
    model = SmokeModel(Batcher(PaddedBatches(engine), most=MOST, callers=count, wait_s=wait_s))
    try:
        yield Models(model)
    finally:
        model.close()


def _watch(cameras: Sequence[CameraRuntime], *, warm_s: float, watched_s: float) -> Round:
    threads = [threading.Thread(target=one.run, name=one.name) for one in cameras]
    try:
        for thread in threads:
            thread.start()
            time.sleep(warm_s / 2 / len(cameras))  # they do not send their key frames all at once
        time.sleep(warm_s)
        looked, lost, cpu = _looks(cameras), _dropped(cameras), time.process_time()
        began = time.monotonic()
        time.sleep(watched_s)
        span_s = time.monotonic() - began
        looks = (_looks(cameras) - looked) / (len(cameras) * span_s * LOOKS_PER_S)
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
        looks=round(min(1.0, looks), 4),
        p50_ms=round(max(age.p50_ms for age in ages), 2),
        p99_ms=round(max(age.p99_ms for age in ages), 2),
        dropped=dropped,
        unreported=unreported,
        cores=round(cores, 2),
    )


def _looks(cameras: Sequence[CameraRuntime]) -> int:
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
        "detect": {"fps": LOOKS_PER_S, "low_light": False},
        "outputs": {"preview": False},
    }
    whole = {
        "data_dir": str(folder),
        "preview": {"enabled": False},
        "engine": {"model": network, "device": options.device},
        "cameras": {f"camera-{number}": one for number in range(count)},
    }
    return Config.model_validate(whole)
