"""`streamer replay`: runs a recording through the same parts as a camera, as fast as possible."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output
from .common import configuration

if TYPE_CHECKING:
    from streamer.alarm.event import Event
    from streamer.config import Config


def replay(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Video, or folder of images.")],
    *,
    config: Annotated[
        list[Path] | None, typer.Option(help="Configuration with the camera's settings.")
    ] = None,
    camera: Annotated[str | None, typer.Option(help="Camera whose settings are used.")] = None,
    evidence: Annotated[
        Path | None, typer.Option(help="Folder for evidence; none is written by default.")
    ] = None,
    overlay: Annotated[
        Path | None, typer.Option(help="MP4 to write: sampled frames with the overlay.")
    ] = None,
    start: Annotated[
        datetime | None, typer.Option(help="UTC time of the first frame; default 1970.")
    ] = None,
    frame_rate: Annotated[
        float | None, typer.Option(min=0.01, help="Frame rate, for files with unusable timestamps.")
    ] = None,
) -> None:
    """Run a recording through detection and alarm. The same input gives the same events."""
    from streamer.app.models import open_models
    from streamer.app.replay import EPOCH
    from streamer.app.replay import replay as run

    loaded = configuration(config or [], source=None if config else file)
    settings = _with_frame_rate(loaded.config, frame_rate)
    out = output.current()
    chosen = _chosen(settings, camera)
    with open_models(settings) as models:
        summary = run(
            file,
            settings,
            chosen,
            models=models,
            on_event=show_event,
            evidence=evidence,
            overlay=overlay,
            start=EPOCH if start is None else start.replace(tzinfo=UTC),
        )
    record = {
        "kind": "summary",
        "frames": summary.frames,
        "media_seconds": round(summary.media_seconds, 3),
        "wall_seconds": round(summary.wall_seconds, 3),
        "raised": summary.raised,
    }
    out.result(
        record,
        f"{summary.raised} alarms; {summary.frames} frames from {summary.media_seconds:.1f} s of "
        f"video in {summary.wall_seconds:.1f} s, {summary.speed:.1f} times real time",
    )


def show_event(event: "Event") -> None:
    """Write one event to standard output, as `replay` and `watch` do."""
    line = f"{event.pts_ns / 1e9:10.1f} s  {event.camera}  {event.kind.value}: {event.reason}"
    output.current().result(event.as_json(), line)


def _chosen(config: "Config", camera: str | None) -> str:
    names = list(config.cameras)
    if camera is None and len(names) == 1:
        return names[0]
    if camera not in names:
        raise typer.BadParameter(f"choose a camera with --camera: {', '.join(names)}")
    return camera


def _with_frame_rate(config: "Config", frame_rate: float | None) -> "Config":
    if frame_rate is None:
        return config
    cameras = {
        name: camera.model_copy(
            update={"source": camera.source.model_copy(update={"frame_rate": frame_rate})}
        )
        for name, camera in config.cameras.items()
    }
    return config.model_copy(update={"cameras": cameras})
