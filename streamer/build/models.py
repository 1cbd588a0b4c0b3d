"""The networks that all cameras of a program share."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from engines.lowlight.model import LowLightModel, open_lowlight_model
from engines.smoke.model import SmokeModel, open_smoke_model
from engines.smoke.second_look import WINDOW
from streamer import __version__
from streamer.alarm.evidence import Provenance
from streamer.config import Config


@dataclass(frozen=True, slots=True)
class Models:
    """Open networks."""

    smoke: SmokeModel
    lowlight: LowLightModel | None = None
    """Brightens dark pictures, for people and for the other; `None` leaves them as they are."""


@contextmanager
def open_models(config: Config) -> Iterator[Models]:
    """The networks that *config* names and its cameras need; closed at the end of the block.

    Raises:
        EngineError: One cannot be used here.
    """
    engine, cameras = config.engine, config.cameras.values()
    with ExitStack() as opened:
        smoke = open_smoke_model(engine.model, device=engine.device, precision=engine.precision)
        opened.callback(smoke.close)
        if any(camera.watch.second_look for camera in cameras):
            smoke.prepare(WINDOW)  # Else the first suspect would wait for it.
        lowlight = None
        if any(camera.enhance.enabled or camera.watch.lift_dark for camera in cameras):
            lowlight = open_lowlight_model(device=engine.device)
            opened.callback(lowlight.close)
        yield Models(smoke, lowlight)


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
