"""The networks that all cameras of a program share."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import structlog

from engines.batching import longest_wait_s
from engines.engine import Precision
from engines.errors import EngineError
from engines.lowlight.model import LowLightModel, open_lowlight_model
from engines.smoke.model import SmokeModel, open_smoke_model
from engines.smoke.yuv_model import SmokeYuvModel, open_smoke_by_planes
from engines.smoke.zoom_verification import WINDOW
from engines.yuv import ChromaOrder  # noqa: TC001  one place for imports
from streamer import __version__
from streamer.config import CameraSettings, Config
from streamer.evidence.folder import Provenance
from streamer.health.program_status import EngineStatus

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Models:
    """Open networks."""

    smoke: SmokeModel
    lowlight: LowLightModel | None = None
    """Brightens dark pictures, for people and for the other; `None` leaves them as they are."""

    on_gpu: SmokeYuvModel | None = None
    """The smoke network where a GPU is, for decoded planes; `smoke` is on the CPU then and looks
    whenever this is not ready."""

    @property
    def backend(self) -> str:
        """What looks for smoke at this moment."""
        by_planes = self.on_gpu is not None and self.on_gpu.ready
        return self.on_gpu.backend if self.on_gpu and by_planes else self.smoke.backend

    def status(self) -> list[EngineStatus]:
        """Return what each network runs on at this moment, and why."""
        models = [
            model for model in (self.on_gpu or self.smoke, self.lowlight) if model is not None
        ]
        return [
            EngineStatus(
                engine=model.name,
                backend=model.backend,
                device=model.state.device,
                degraded=model.state.degraded,
                reason=model.state.reason,
                building=model.state.building,
            )
            for model in models
        ]


@contextmanager
def open_models(config: Config) -> Iterator[Models]:
    """The networks that *config* names and its cameras need; closed at the end of the block.

    Raises:
        EngineError: One cannot be used here.
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
            device=engine.device if on_gpu is None else "cpu",
            precision=precision if on_gpu is None else None,
        )
        opened.callback(smoke.close)
        if any(camera.detect.zoom_verification for camera in cameras):
            smoke.prepare(WINDOW)  # Else the first suspect would wait for it.
        lowlight = _lowlight(config, cameras)
        if lowlight is not None:
            opened.callback(lowlight.close)
        yield Models(smoke, lowlight, on_gpu)


def _on_gpu(
    config: Config, precision: Precision | None, cameras: Sequence[CameraSettings]
) -> SmokeYuvModel | None:
    """The smoke network for decoded planes, in the layouts that the cameras' decoders give."""
    layouts: set[ChromaOrder] = {
        "planar" if camera.source.hwaccel is None else "nv12" for camera in cameras
    }
    waits_s = (
        longest_wait_s(
            latency_budget_ms=camera.latency_budget_ms,
            look_interval_s=1 / camera.detect.fps,
        )
        for camera in cameras
    )
    return open_smoke_by_planes(
        config.engine.model,
        layouts=sorted(layouts or {"planar"}),
        device=config.engine.device,
        precision=precision,
        callers=max(1, len(cameras)),
        wait_s=min(waits_s, default=0.0),
    )


def _lowlight(config: Config, cameras: Sequence[CameraSettings]) -> LowLightModel | None:
    """The low-light network, if it is needed. Who asked for it does not go without."""
    shown = any(camera.enhance.enabled for camera in cameras)
    if not shown and not any(camera.detect.low_light for camera in cameras):
        return None
    try:
        return open_lowlight_model(device=config.engine.device)
    except EngineError as error:
        if shown:
            raise
        # A fire watch begins, whatever becomes of what helps it at night.
        _log.warning("dark pictures are looked at as they are", why=str(error))
        return None


def provenance(config: Config, models: Models) -> Provenance:
    """What decides, by name, version and digest."""
    model = models.smoke
    return Provenance(
        program=f"streamer {__version__}",
        model=model.name,
        model_digest=model.digest,
        backend=models.backend,
        threshold=model.threshold,
        config_digest=config.digest(),
    )
