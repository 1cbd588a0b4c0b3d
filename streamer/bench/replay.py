"""How many times faster than real time a recording is replayed."""

import statistics
from collections.abc import Mapping

from streamer.app.models import open_models
from streamer.app.replay import replay
from streamer.config import from_source

from .fixtures import clip

_SECONDS = 30
_ROUNDS = 3


def measure() -> Mapping[str, float]:
    """Return `replay_speed`: 1080p25 H.264 with a key frame a second, at one inference a second."""
    path = str(clip(height=1080, seconds=_SECONDS))
    config = from_source(path).config
    with open_models(config) as models:
        runs = [
            replay(path, config, "camera", models=models, on_event=lambda _: None)
            for _ in range(_ROUNDS + 1)
        ][1:]
    return {
        "replay_speed": round(statistics.median(run.speed for run in runs), 1),
        "inferences": runs[0].frames,
    }
