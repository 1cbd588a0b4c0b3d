"""Time of an inference: each shipped network, and the processing of its mask."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from engines.benchmark import interleaved
from engines.errors import DeviceUnavailable
from engines.smoke.model import (
    SHIPPED,
    TOLERANCES,
    SmokeModel,
    open_smoke_model,
    validation_samples,
)
from streamer.detect.regions import find_regions
from streamer.detect.scene import FrameDifference

_NS = 1_000_000_000
_MAP = (192, 320)
"""(height, width) of a mask."""


def measure() -> Mapping[str, float]:
    """Measure the milliseconds of an inference at 640x384 with every core busy.

    `<network>_<precision>_ms` for each that this CPU has; `post_ms` for motion and regions of a
    map with a plume in it, and `post_share`, that over the cheapest f32 network's time.
    """
    sample = validation_samples()[1]
    image, background = sample["image"][0], sample["background"][0]
    models = dict(_models())
    calls: dict[str, Callable[[], object]] = {
        name: partial(model, image, background) for name, model in models.items()
    }
    probability = _plume()

    def post() -> None:
        motion = FrameDifference()
        motion.update(0, image, _MAP)
        moved = motion.update(_NS, image, _MAP)
        find_regions(probability, threshold=0.6, low_threshold=0.1, min_area=0.0002, motion=moved)

    figures = {f"{name}_ms": value for name, value in interleaved(calls | {"post": post}).items()}
    for model in models.values():
        model.close()
    cheapest = min(figures[f"{name}_f32_ms"] for name in SHIPPED)
    return {name: round(value, 2) for name, value in figures.items()} | {
        "post_share": round(figures["post_ms"] / cheapest, 3)
    }


def _plume() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """A map as a network makes it: a soft plume of 1 % of the frame and grain everywhere."""
    rows, columns = np.mgrid[0 : _MAP[0], 0 : _MAP[1]].astype(np.float32)
    away = ((columns - 160) / 16) ** 2 + ((rows - 90) / 22) ** 2
    grain = np.random.default_rng(1).uniform(0, 0.05, away.shape)
    return np.asarray(0.9 * np.exp(-away) + grain, np.float32)


def _models() -> list[tuple[str, SmokeModel]]:
    found = []
    for name in SHIPPED:
        for precision in TOLERANCES:
            try:
                model = open_smoke_model(name, precision=precision, validate=False)
            except DeviceUnavailable:
                continue
            found.append((f"{name}_{precision}", model))
    return found
