"""`streamer replay`: a recording through the very same path as a camera, as fast as it goes."""

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
    config: Annotated[list[Path] | None, typer.Option(help="Settings to use.")] = None,
    camera: Annotated[str | None, typer.Option(help="Whose, if there are several.")] = None,
    evidence: Annotated[Path | None, typer.Option(help="Folder for evidence.")] = None,
    overlay: Annotated[
        Path | None, typer.Option(help="MP4 of what was looked at, drawn on.")
    ] = None,
    start: Annotated[
        datetime | None, typer.Option(help="UTC of the first picture; 1970 when left out.")
    ] = None,
    frame_rate: Annotated[
        float | None, typer.Option(min=0.01, help="For files whose time stamps are nonsense.")
    ] = None,
) -> None:
    """Run a recording through detection and alarm; the same input gives the same events."""
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
        f"{summary.raised} raised; {summary.frames} pictures of {summary.media_seconds:.1f} s "
        f"looked at in {summary.wall_seconds:.1f} s, {summary.speed:.1f} times real time",
    )


def show_event(event: "Event") -> None:
    """Write an event as `replay` and `watch` do."""
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
