"""What a look costs: each shipped network, and what is done with its map."""

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from engines.errors import DeviceUnavailable
from engines.smoke.model import SHIPPED, TOLERANCES, SmokeModel, open_smoke_model, proof_samples
from streamer.alarm.motion import Motion
from streamer.alarm.regions import find_regions

_ROUNDS = 40
_NS = 1_000_000_000


def measure() -> Mapping[str, float]:
    """Median milliseconds of a look at 640x384, alone on the machine.

    `<network>_<precision>_ms` for each that this CPU has; `post_ms` for motion and regions of a
    map with a plume in it, and `post_share`, that over the cheapest f32 network's time.
    """
    sample = proof_samples()[1]
    image, background = sample["image"][0], sample["background"][0]
    models = dict(_models())
    calls: dict[str, Callable[[], object]] = {
        name: partial(model, image, background) for name, model in models.items()
    }
    probability = next(iter(models.values()))(image, background)
    motion = Motion()
    now_ns = 0

    def post() -> None:
        nonlocal now_ns
        now_ns += _NS
        moved = motion.at(now_ns, image, probability.shape)
        find_regions(probability, threshold=0.5, outline=0.2, min_area=0.0002, motion=moved)

    calls["post"] = post
    # In turns: what else runs on the machine then slows all of them alike.
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(_ROUNDS + 3):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if turn >= 3:  # noqa: PLR2004  the first rounds warm up
                taken[name].append(time.perf_counter() - began)
    for model in models.values():
        model.close()
    figures = {f"{name}_ms": statistics.median(times) * 1e3 for name, times in taken.items()}
    cheapest = min(figures[f"{name}_f32_ms"] for name in SHIPPED)
    return {name: round(value, 2) for name, value in figures.items()} | {
        "post_share": round(figures["post_ms"] / cheapest, 3),
        "plume_share_of_map": round(float(np.mean(probability > 0.3)), 4),  # noqa: PLR2004  as above
    }


def _models() -> list[tuple[str, SmokeModel]]:
    found = []
    for name in SHIPPED:
        for precision in TOLERANCES:
            try:
                model = open_smoke_model(name, device="cpu", precision=precision, prove=False)
            except DeviceUnavailable:
                continue
            found.append((f"{name}_{precision}", model))
    return found
