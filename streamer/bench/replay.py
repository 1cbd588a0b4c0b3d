"""How many times faster than real time a recording is replayed."""

import statistics
from collections.abc import Mapping

from streamer.build.camera import open_model
from streamer.config import from_source
from streamer.replaying import replay

from .material import clip

_SECONDS = 30
_ROUNDS = 3


def measure() -> Mapping[str, float]:
    """`replay_speed`: 1080p25 H.264 with a key frame a second, at one look a second."""
    path = str(clip(height=1080, seconds=_SECONDS))
    config = from_source(path).config
    model = open_model(config)
    try:
        runs = [
            replay(path, config, "camera", model=model, on_event=lambda _: None)
            for _ in range(_ROUNDS + 1)
        ][1:]
    finally:
        model.close()
    return {
        "replay_speed": round(statistics.median(run.speed for run in runs), 1),
        "looks": runs[0].frames,
    }
