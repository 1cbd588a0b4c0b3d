"""Replay: a recording through the same parts as a camera, on a clock that is its media time.

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
from streamer.config import Config
from streamer.core.clock import MediaClock

from .camera_runtime import AppContext, CameraRuntime
from .camera_spec import replay_spec
from .models import Models, provenance

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Default wall time of the first frame: the times shown are then those of the file."""


@dataclass(frozen=True, slots=True)
class ReplaySummary:
    """Counts and durations of a replay."""

    frames: int
    """Frames that reached the end of the pipeline: the sampled ones, or every frame."""

    media_seconds: float
    wall_seconds: float
    raised: int
    """Alarms."""

    @property
    def speed(self) -> float:
        """Media time per wall time."""
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
    """Run *file* with the settings of *camera*; no event is stored or delivered.

    Args:
        file: A video, or a folder of images.
        config: Holds the camera.
        camera: Name of the camera whose settings are used.
        models: The open networks.
        on_event: Called with every event, in order.
        evidence: Root of the evidence folders; `None` writes none.
        overlay: MP4 file for the sampled frames with the overlay; `None` writes none.
        every_frame: Write every frame to that file instead of the sampled ones.
        start: Wall time of the first frame, aware.

    Raises:
        ExceptionGroup: With the error of each part that failed; of `SourceError` if the file
            cannot be read.
    """
    clock = MediaClock(start)
    raised = 0

    def count(event: Event) -> None:
        nonlocal raised
        raised += event.kind is EventKind.RAISED
        on_event(event)

    context = AppContext(
        clock=clock, models=models, provenance=partial(provenance, config, models), on_event=count
    )
    spec = replay_spec(
        camera,
        config.cameras[camera],
        file,
        evidence=evidence,
        overlay=overlay,
        every_frame=every_frame,
    )
    runtime = CameraRuntime(spec, context)
    began = time.perf_counter()
    runtime.run()
    runtime.close()
    return ReplaySummary(
        frames=runtime.report().frames,
        media_seconds=clock.monotonic_ns() / 1e9,
        wall_seconds=time.perf_counter() - began,
        raised=raised,
    )
