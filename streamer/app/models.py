"""The networks that all cameras of a program share."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import structlog

from engines.batching import max_queue_delay_s
from engines.errors import EngineError
from engines.loading import cpu_precision, gpu_problem
from engines.lowlight.model import LowLightModel, open_lowlight_model
from engines.smoke.model import SmokeModel, open_smoke_model
from engines.smoke.yuv_model import SmokeYuvModel, open_smoke_by_planes
from engines.smoke.zoom_verification import WINDOW
from engines.spec import Precision
from engines.yuv import ChromaOrder  # noqa: TC001  one place for imports
from streamer import __version__
from streamer.config import CameraSettings, Config
from streamer.core.clock import Clock
from streamer.detect.inference_scheduler import InferenceScheduler
from streamer.evidence.writer import Provenance
from streamer.health.program_status import EngineStatus

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Models:
    """Open networks."""

    smoke: SmokeModel
    """On the CPU."""
    lowlight: LowLightModel | None = None
    """Enhances dark frames, for people and for the smoke network; `None` leaves them unchanged."""

    on_gpu: SmokeYuvModel | None = None
    """The smoke network on a GPU, whose input is decoded planes. `smoke` runs on the CPU then and
    takes over while this one is not ready."""

    gpu_problem: str = ""
    """Why a GPU of this machine is not used; empty if nothing is wrong."""

    @property
    def concurrency(self) -> int:
        """How many inferences the smoke network runs at the same time at this moment."""
        by_planes = self.on_gpu is not None and self.on_gpu.ready
        return self.on_gpu.concurrency if self.on_gpu and by_planes else self.smoke.concurrency

    def scheduler(self, clock: Clock) -> InferenceScheduler:
        """Return a scheduler that shares the smoke network between live cameras."""
        return InferenceScheduler(lambda: self.concurrency, clock=clock)

    @property
    def backend(self) -> str:
        """What runs the smoke network at this moment."""
        by_planes = self.on_gpu is not None and self.on_gpu.ready
        return self.on_gpu.backend if self.on_gpu and by_planes else self.smoke.backend

    def status(self) -> list[EngineStatus]:
        """Return what each network runs on at this moment, and why."""
        models = [
            model for model in (self.on_gpu or self.smoke, self.lowlight) if model is not None
        ]
        return [self._status(model) for model in models]

    def _status(self, model: SmokeModel | SmokeYuvModel | LowLightModel) -> EngineStatus:
        state = model.state
        if self.gpu_problem and state.device == "cpu":
            state = replace(state, degraded=True, reason=state.reason or self.gpu_problem)
        return EngineStatus(
            engine=model.name,
            backend=model.backend,
            device=state.device,
            degraded=state.degraded,
            reason=state.reason,
            building=state.building,
        )


@contextmanager
def open_models(config: Config) -> Iterator[Models]:
    """Open the networks that *config* names and its cameras need; close them after the block.

    Raises:
        EngineError: A network cannot be used here.
    """
    engine = config.engine
    cameras = [camera for camera in config.cameras.values() if camera.enabled]
    with ExitStack() as opened:
        precision = None if engine.precision == "auto" else engine.precision
        on_gpu = _on_gpu(config, precision, cameras)
        if on_gpu is not None:
            opened.callback(on_gpu.close)
        smoke = open_smoke_model(
            engine.model,
            precision=cpu_precision(precision, engine.device) if on_gpu is None else None,
        )
        opened.callback(smoke.close)
        if any(camera.detect.zoom_verification for camera in cameras):
            smoke.prepare(WINDOW)  # Otherwise the first zoom verification would wait for it.
        lowlight = _lowlight(config, cameras)
        if lowlight is not None:
            opened.callback(lowlight.close)
        yield Models(smoke, lowlight, on_gpu, gpu_problem(engine.device))


def _on_gpu(
    config: Config, precision: Precision | None, cameras: Sequence[CameraSettings]
) -> SmokeYuvModel | None:
    """Open the smoke network on a GPU, in the layouts that the cameras' decoders produce."""
    clients: Counter[ChromaOrder] = Counter(
        "planar" if camera.source.hwaccel is None else "nv12" for camera in cameras
    )
    delays_s = (
        max_queue_delay_s(
            latency_budget_ms=camera.latency_budget_ms,
            inference_interval_s=1 / camera.detect.fps,
        )
        for camera in cameras
    )
    return open_smoke_by_planes(
        config.engine.model,
        clients=clients or {"planar": 1},
        device=config.engine.device,
        precision=precision,
        max_queue_delay_s=min(delays_s, default=0.0),
    )


def _lowlight(config: Config, cameras: Sequence[CameraSettings]) -> LowLightModel | None:
    """Open the low-light network, if a camera needs it.

    Where only detection would use it, its failure is logged and detection runs without it.
    """
    shown = any(camera.enhance.enabled for camera in cameras)
    if not shown and not any(camera.detect.low_light for camera in cameras):
        return None
    try:
        return open_lowlight_model(device=config.engine.device)
    except EngineError as error:
        if shown:
            raise
        _log.warning("dark frames are not enhanced for detection", reason=str(error))
        return None


def provenance(config: Config, models: Models) -> Provenance:
    """Return program, model and configuration with their versions and digests, for evidence."""
    model = models.smoke
    return Provenance(
        program=f"streamer {__version__}",
        model=model.name,
        model_digest=model.digest,
        backend=models.backend,
        thresholds={},  # Of each camera; it fills them in.
        zones={},
        config_digest=config.digest(),
    )
