"""Evaluate alarms on whole clips: `python tools/evaluate_clips.py --model smoke --json`.

Each development clip runs through `streamer replay` with the shipped settings: alarm or not, and
when. Beside it stands how much the network's masks flicker. No clip is ever trained on.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from numpy.typing import NDArray

from engines.common.dataset import data_folder
from engines.smoke.data import Entry, read_index
from engines.smoke.inference import Rgb, predict
from engines.smoke.metrics import flicker, ratio, regions
from engines.smoke.model import SmokeModel, open_smoke_model

SOURCES = {"clips_smoke", "clips_nonsmoke", "fszhang_smoke_sequences"}
FPS = 1.0
"""Sampled frames per second, as the program's default."""
MAX_REPLAY_S = 600
STILLS_FPS, STILLS_FROM_FPS = 5.0, 240
"""A clip that states this rate or more was made of stills: it is replayed at five per second."""


def measure_clips(model: SmokeModel, entries: Sequence[Entry], *, engine: str) -> dict[str, Any]:
    """Return alarms by clip, false alarms per hour, and the flicker of the masks.

    Args:
        model: Its masks are checked for flicker.
        entries: The clips.
        engine: Value of the setting `engine.model`: a name or a path.
    """
    clips: list[dict[str, Any]] = []
    for entry in entries:
        masks = [_mask(model, frame) for frame in sampled_frames(entry.path, fps=FPS)]
        raised, seconds = replay(entry.path, engine)
        clips.append(
            {
                "clip": entry.path.name,
                "smoke": entry.smoke,
                "seconds": seconds,
                "raised_after_s": raised[0] if raised else None,
                "alarms": len(raised),
                "frames_with_smoke": float(np.mean([mask.any() for mask in masks])),
                "flicker": flicker(masks),
            }
        )
    clear = [clip for clip in clips if not clip["smoke"]]
    hours = sum(clip["seconds"] for clip in clear) / 3600
    return {
        "clips": clips,
        "raised": sum(clip["alarms"] > 0 for clip in clips if clip["smoke"]),
        "with_smoke": len(clips) - len(clear),
        "false_alarms": sum(clip["alarms"] for clip in clear),
        "hours_without_smoke": hours,
        "false_alarms_per_hour": ratio(sum(clip["alarms"] for clip in clear), hours),
    }


def _mask(model: SmokeModel, frame: Rgb) -> NDArray[np.bool_]:
    probability = predict(model, frame).probability
    return regions(probability, model.threshold, model.low_threshold)[0]


def replay(path: Path, engine: str) -> tuple[list[float], float]:
    """Return the seconds at which `streamer replay` raised alarms, and the clip's length.

    Raises:
        RuntimeError: The replay failed.
    """
    rate = _rate_of_stills(path)
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
            command, capture_output=True, text=True, timeout=MAX_REPLAY_S, check=False
        )
    if done.returncode:
        raise RuntimeError(f"{path.name}: {done.stderr.strip()}")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    raised = [float(line["media_s"]) for line in lines if line["kind"] == "raised"]
    return raised, float(lines[-1]["media_seconds"])


def sampled_frames(path: Path, *, fps: float) -> Iterator[Rgb]:
    """Yield the frames of a clip at a steady rate, (h, w, 3) RGB."""
    with av.open(path) as clip:
        stream = clip.streams.video[0]
        rate = _rate_of_stills(path) or float(stream.average_rate or 25)
        due = 0.0
        for number, frame in enumerate(clip.decode(stream)):
            if number >= due:
                due += rate / fps
                yield cast("Rgb", frame.to_ndarray(format="rgb24"))


def _rate_of_stills(path: Path) -> float | None:
    with av.open(path) as clip:
        rate = float(clip.streams.video[0].average_rate or 25)
        return STILLS_FPS if rate >= STILLS_FROM_FPS else None


def main() -> None:
    """Read the command line, evaluate, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smoke", help="name of a shipped network, or a path")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    a = parser.parse_args()
    index = read_index(data_folder() / "smoke" / "index.csv")
    clips = [entry for entry in index if entry.source in SOURCES]
    engine = str(Path(a.model).resolve()) if "/" in a.model else a.model
    result = measure_clips(open_smoke_model(a.model), clips, engine=engine)
    print(json.dumps(result) if a.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
