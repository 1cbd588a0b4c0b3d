"""`streamer demo`: raises an alarm on a generated clip and checks everything that is written."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output
from .replay import show_event

if TYPE_CHECKING:
    from streamer.alarm.event import Event
    from streamer.config import Config


def demo(
    *,
    out: Annotated[Path, typer.Option(help="Folder for everything that is written.")] = Path(
        "demo-output"
    ),
    seed: Annotated[int, typer.Option(help="Selects landscape and plume.")] = 3,
) -> None:
    """Raise an alarm on a generated clip. Writes the clip, the evidence and an overlay video."""
    from engines.smoke.demo_clip import make_clip
    from streamer.app.models import open_models
    from streamer.app.replay import replay
    from streamer.config import from_source

    say = output.current()
    out.mkdir(parents=True, exist_ok=True)
    clip, overlay = out / "clip.mp4", out / "overlay.mp4"
    say.note("generating a clip of a starting fire")
    truth = make_clip(clip, seed=seed)
    evidence = Path(tempfile.mkdtemp(prefix="evidence-", dir=out))
    config = _with_fast_background(from_source(str(clip), name="demo").config)
    events: list[Event] = []

    def note(event: "Event") -> None:
        events.append(event)
        show_event(event)

    with open_models(config) as models:
        say.note(f"watching it with {models.smoke.name} on {models.backend}")
        replay(
            str(clip),
            config,
            "demo",
            models=models,
            on_event=note,
            evidence=evidence,
            overlay=overlay,
            every_frame=True,
        )
    folder = _checked(events, truth.onset_s or 0.0, evidence, overlay)
    raised = events[0]
    record = {
        "kind": "summary",
        "onset_s": truth.onset_s,
        "raised_s": round(raised.pts_ns / 1e9, 3),
        "reason": raised.reason,
        "clip": str(clip),
        "evidence": str(folder),
        "overlay": str(overlay),
    }
    say.result(
        record,
        f"smoke from {truth.onset_s:.0f} s, alarm at {raised.pts_ns / 1e9:.0f} s\n"
        f"reason    {raised.reason}\nclip      {clip}\nevidence  {folder}\noverlay   {overlay}",
    )


def _with_fast_background(config: "Config") -> "Config":
    """Settings whose background is complete within seconds, before the fire starts."""
    demo = config.cameras["demo"]
    background = demo.detect.background.model_copy(update={"min_age_s": 3.0, "step_s": 1.0})
    detect = demo.detect.model_copy(update={"background": background})
    return config.model_copy(
        update={"cameras": {"demo": demo.model_copy(update={"detect": detect})}}
    )


def _checked(events: "list[Event]", onset_s: float, evidence: Path, overlay: Path) -> Path:
    """The alarm's evidence folder, after checking that alarm, evidence and overlay are complete."""
    import av

    from streamer.alarm.event import EventKind
    from streamer.core.errors import StreamerError
    from streamer.evidence.manifest import MANIFEST, verify

    if not events or events[0].kind is not EventKind.RAISED:
        raise StreamerError("the demonstration failed: no alarm was raised")
    if events[0].pts_ns < onset_s * 1e9:
        raise StreamerError("the demonstration failed: the alarm came before the smoke")
    folder = next(evidence.rglob(MANIFEST)).parent
    sealed = set(json.loads((folder / MANIFEST).read_bytes())["files"])
    wanted = {"still-0.jpg", "overlay-0.jpg", "mask-0.png", "event-0.json", "clip.mp4"}
    wrong = [*verify(folder), *(f"{name}: missing" for name in sorted(wanted - sealed))]
    for video in (folder / "clip.mp4", overlay):
        with av.open(str(video)) as container:
            if not any(True for _ in container.decode(video=0)):
                wrong.append(f"{video.name}: no frame in it")
    if wrong:
        raise StreamerError(f"the demonstration failed: {'; '.join(wrong)}")
    return folder
