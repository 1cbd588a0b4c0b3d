"""A recording through the very same parts as a camera, on a clock that is its media time.

The same file and configuration give byte-equal events, however fast the machine is.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from streamer.alarm.event import Event, EventKind
from streamer.config import CameraSettings, Config
from streamer.config.camera import FileOutput, OutputSettings, RecordSettings
from streamer.config.values import Address
from streamer.core.clock import MediaClock

from .camera_runtime import AppContext, CameraRuntime
from .models import Models, provenance

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Where wall time begins in a replay unless told: the times shown are then those of the file."""


@dataclass(frozen=True, slots=True)
class ReplaySummary:
    """What a replay did."""

    frames: int
    """Pictures that were looked at."""

    media_seconds: float
    wall_seconds: float
    raised: int

    @property
    def speed(self) -> float:
        """Times faster than real time."""
        return self.media_seconds / self.wall_seconds if self.wall_seconds else 0.0


def replay(
    file: str,
    config: Config,
    camera: str,
    *,
    models: Models,
    on_event: Callable[[Event], None],
    evidence: Path | None = None,
    overlay: Path | None = None,
    every_frame: bool = False,
    start: datetime = EPOCH,
) -> ReplaySummary:
    """Run *file* through the settings of *camera*; nothing is stored and nobody is told.

    Args:
        file: A video, or a folder of images.
        config: Holds the camera.
        camera: Whose settings are used.
        models: The networks.
        on_event: Told of every event, in order.
        evidence: Root for evidence; `None` keeps none.
        overlay: Video of the pictures that were looked at, drawn on; `None` makes none.
        every_frame: Put every frame into that video.
        start: Wall time of the first picture, aware.

    Raises:
        ExceptionGroup: With the error of each part that failed; of `SourceError` if the file
            cannot be read.
    """
    clock = MediaClock(start)
    raised = 0

    def tell(event: Event) -> None:
        nonlocal raised
        raised += event.kind is EventKind.RAISED
        on_event(event)

    site = AppContext(
        config=config,
        clock=clock,
        models=models,
        provenance=partial(provenance, config, models),
        evidence=evidence,
        on_event=tell,
    )
    settings = _as_recording(config.cameras[camera], file, overlay, every_frame=every_frame)
    built = CameraRuntime(camera, settings, site)
    began = time.perf_counter()
    built.pipeline().run()
    return ReplaySummary(
        frames=built.monitor.status().frames,
        media_seconds=clock.monotonic_ns() / 1e9,
        wall_seconds=time.perf_counter() - began,
        raised=raised,
    )


def _as_recording(
    settings: CameraSettings, file: str, overlay: Path | None, *, every_frame: bool
) -> CameraSettings:
    """The settings of a camera for a file in its place."""
    source = settings.source.model_copy(
        update={
            "address": Address(file),
            "kind": "auto",
            "live": "never",
            "realtime": False,
            "loop": False,
        }
    )
    drawn = None if overlay is None else FileOutput(path=overlay)
    return settings.model_copy(
        update={
            "source": source,
            "outputs": OutputSettings(file=drawn, preview=False, every_frame=every_frame),
            "record": RecordSettings(),
            "notify": (),
        }
    )
