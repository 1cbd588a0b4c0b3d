"""The networks that all cameras of a program share."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from engines.errors import EngineError
from engines.lowlight.model import LowLightModel, open_lowlight_model
from engines.smoke.model import SmokeModel, open_smoke_model
from engines.smoke.second_look import WINDOW
from streamer import __version__
from streamer.alarm.evidence import Provenance
from streamer.config import CameraSettings, Config

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Models:
    """Open networks."""

    smoke: SmokeModel
    lowlight: LowLightModel | None = None
    """Brightens dark pictures, for people and for the other; `None` leaves them as they are."""

    def states(self) -> list[dict[str, Any]]:
        """What each runs on at this moment and why, for scripts and the page."""
        there = [model for model in (self.smoke, self.lowlight) if model is not None]
        return [
            {"engine": model.name, "backend": model.backend, **asdict(model.state)}
            for model in there
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
        smoke = open_smoke_model(engine.model, device=engine.device, precision=precision)
        opened.callback(smoke.close)
        if any(camera.watch.second_look for camera in cameras):
            smoke.prepare(WINDOW)  # Else the first suspect would wait for it.
        lowlight = _lowlight(config, cameras)
        if lowlight is not None:
            opened.callback(lowlight.close)
        yield Models(smoke, lowlight)


def _lowlight(config: Config, cameras: Sequence[CameraSettings]) -> LowLightModel | None:
    """The low-light network, if it is needed. Who asked for it does not go without."""
    shown = any(camera.enhance.enabled for camera in cameras)
    if not shown and not any(camera.watch.lift_dark for camera in cameras):
        return None
    try:
        return open_lowlight_model(device=config.engine.device)
    except EngineError as error:
        if shown:
            raise
        # A fire watch begins, whatever becomes of what helps it at night.
        _log.warning("dark pictures are looked at as they are", why=str(error))
        return None


def provenance(config: Config, model: SmokeModel) -> Provenance:
    """What decides, by name, version and digest."""
    return Provenance(
        program=f"streamer {__version__}",
        model=model.name,
        model_digest=model.digest,
        backend=model.backend,
        threshold=model.threshold,
        config_digest=config.digest(),
    )
