"""Measures a network through time: fires that start in photographs, and whole clips."""

# ruff: noqa: PLR2004  limits of what is measured stand where they act
from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np

from engines.smoke.data import Entry, read_still
from engines.smoke.fire_sequence import growing
from engines.smoke.inference import Rgb, predict
from engines.smoke.metrics import compare, flicker, ratio, regions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from engines.smoke.model import SmokeModel

LOOKS_PER_SECOND = 1.0
"""On clips; what the program does unless told otherwise."""
LONGEST_REPLAY_S = 600


def measure_growing(model: SmokeModel, rows: Sequence[Entry], *, fires: int = 16) -> dict[str, Any]:
    """Fires that start in clear pictures: when and how small they are found, with background.

    Each starts in another picture, its views in turns. A plume can be seen once an opacity of 0.3
    covers 0.02 % of the picture; delay counts from there.
    """
    views: dict[str, list[Entry]] = defaultdict(list)
    for row in rows:
        if not row.smoke:
            views[row.group].append(row)
    turns = [group[at % len(group)] for at in range(fires) for group in views.values()][:fires]
    found = list[tuple[float, float]]()
    early = visible = 0
    for seed, row in enumerate(turns):
        scene = read_still(row).image
        background: Rgb | None = None
        since: float | None = None
        for moment in growing(scene, seed=seed):
            if background is None:
                background = moment.image
            covers = float((moment.alpha > 0.3).mean())
            said = predict(model, moment.image, background).probability
            seen = compare(
                said,
                np.where(moment.alpha > 0.15, 255, 0).astype(np.uint8),
                threshold=model.threshold,
                low_threshold=model.low_threshold,
                group=row.group,
            )
            if moment.seconds < 0:
                early += seen.called
                continue
            if since is None and covers >= 0.0002:
                since, visible = moment.seconds, visible + 1
            if since is not None and seen.found:
                found.append((moment.seconds - since, 100 * covers))
                break
    delays, sizes = np.array(found).reshape(-1, 2).T
    return {
        "fires": visible,
        "found": len(found),
        "looks_called_before": early,
        "delay_s": _spread(delays),
        "size_percent": _spread(sizes),
    }


def _spread(values: NDArray[np.floating[Any]]) -> dict[str, float] | None:
    """Median, worst tenth and worst; None without any."""
    if not values.size:
        return None
    return {
        "median": float(np.median(values)),
        "p90": float(np.quantile(values, 0.9)),
        "worst": float(values.max()),
    }


def measure_clips(model: SmokeModel, rows: Sequence[Entry], *, engine: str) -> dict[str, Any]:
    """What the program does on whole clips, and how steady the masks are.

    Args:
        model: Looked through for the flicker.
        rows: The clips.
        engine: What the program's setting `engine.model` is to be: a name or a path.
    """
    clips: list[dict[str, Any]] = []
    for row in rows:
        pictures = list(clip_looks(row.path, fps=LOOKS_PER_SECOND))
        masks = [_mask(model, picture) for picture in pictures]
        raised, seconds = replayed(row.path, engine)
        clips.append(
            {
                "clip": row.path.name,
                "smoke": row.smoke,
                "seconds": seconds,
                "raised_after_s": raised[0] if raised else None,
                "alarms": len(raised),
                "looks_with_smoke": float(np.mean([mask.any() for mask in masks])),
                "flicker": flicker(masks),
            }
        )
    quiet = [clip for clip in clips if not clip["smoke"]]
    hours = sum(clip["seconds"] for clip in quiet) / 3600
    return {
        "clips": clips,
        "raised": sum(clip["alarms"] > 0 for clip in clips if clip["smoke"]),
        "with_smoke": len(clips) - len(quiet),
        "false_alarms": sum(clip["alarms"] for clip in quiet),
        "hours_without_smoke": hours,
        "false_alarms_per_hour": ratio(sum(clip["alarms"] for clip in quiet), hours),
    }


def _mask(model: SmokeModel, picture: Rgb) -> NDArray[np.bool_]:
    return regions(predict(model, picture).probability, model.threshold, model.low_threshold)[0]


def replayed(path: Path, engine: str) -> tuple[list[float], float]:
    """Seconds after which the program raised on a clip, and how long it is.

    Raises:
        RuntimeError: The program could not.
    """
    rate = _rate_if_unknown(path)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "evaluate.yaml"
        config.write_text(
            json.dumps(
                {"engine": {"model": engine}, "cameras": {"clip": {"source": {"address": "-"}}}}
            ),
            encoding="utf-8",
        )
        command = [sys.executable, "-m", "streamer.cli", "replay", str(path), "--json"]
        command += ["--config", str(config), "--quiet"]
        command += ["--frame-rate", str(rate)] if rate else []
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LONGEST_REPLAY_S, check=False
        )
    if done.returncode:
        raise RuntimeError(f"{path.name}: {done.stderr.strip()}")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    raised = [float(line["media_s"]) for line in lines if line["kind"] == "raised"]
    return raised, float(lines[-1]["media_seconds"])


def clip_looks(path: Path, *, fps: float) -> Iterator[Rgb]:
    """Pictures of a clip at a steady rate."""
    with av.open(path) as clip:
        stream = clip.streams.video[0]
        rate = _rate_if_unknown(path) or float(stream.average_rate or 25)
        due = 0.0
        for number, frame in enumerate(clip.decode(stream)):
            if number >= due:
                due += rate / fps
                yield cast("Rgb", frame.to_ndarray(format="rgb24"))


def _rate_if_unknown(path: Path) -> float | None:
    """Five a second for a clip that was made of single pictures: no camera has its rate."""
    with av.open(path) as clip:
        return 5.0 if float(clip.streams.video[0].average_rate or 25) >= 240 else None
