"""Measures a smoke network on darkened pictures: `python -m engines.smoke.evaluate_dark --json`.

Day pictures are made night, in linear light and with a sensor's noise; the network then looks at
them as they are, with their tones lifted, and with tones lifted and noise held down. For each way
the threshold is the best on the development views; beside it stands what comes of the threshold by
day, and what the program makes of it in the dark. What is reported is of views never trained on.
"""

from __future__ import annotations

import argparse
import json
import zlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.lowlight.model import open_lowlight_model
from engines.lowlight.still_image import darkened, enhance_picture
from engines.smoke.data import mislabelled, read_still
from engines.smoke.evaluate import judged_rows
from engines.smoke.inference import predict
from engines.smoke.metrics import Seen, compare, figures
from engines.smoke.model import SmokeModel, open_smoke_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from engines.smoke.data import Entry
    from engines.smoke.model import SmokeOutput

    Rgb = NDArray[np.uint8]
    Way = Callable[[Rgb], Rgb]

LIGHTS = {"dusk": 0.15, "night": 0.03}
"""Light, of the day's."""
THRESHOLDS = tuple(np.arange(0.2, 0.91, 0.1).round(2).tolist())
"""From which one is chosen for each way."""


def ways() -> Mapping[str, Way]:
    """What may be shown to the network."""
    lowlight = open_lowlight_model()
    return {
        "raw": lambda picture: picture,
        "lifted": partial(enhance_picture, lowlight, denoise=False),
        "lifted, denoised": partial(enhance_picture, lowlight),
    }


class InTheDark:
    """A network as the program asks it when a picture was dark and has been lifted."""

    def __init__(self, model: SmokeModel) -> None:
        self._model = model
        self.threshold, self.low_threshold = model.threshold, model.low_threshold

    def predict(self, image: Rgb, background: Rgb | None = None) -> SmokeOutput:
        """See `SmokeModel.look`."""
        return self._model.predict(image, background, dark=True)

    def __call__(self, image: Rgb, background: Rgb | None = None) -> NDArray[np.float32]:
        """The mask of `predict`."""
        return self.predict(image, background).mask


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a network saw in a set of pictures."""

    by_threshold: dict[float, list[Seen]]
    """At thresholds that might be chosen, and at that by day."""
    shipped: list[Seen]
    """As the program asks it in the dark."""


def seen_in(model: SmokeModel, rows: Sequence[Entry], way: Way, *, light: float | None) -> Outcome:
    """What the network sees in darkened pictures; `None` leaves them light."""
    seen = Outcome({threshold: [] for threshold in sorted({*THRESHOLDS, model.threshold})}, [])
    wrong, dark = mislabelled(), InTheDark(model)
    for row in rows:
        if (row.smoke and row.mask is None) or row.path.name in wrong:
            continue
        still = read_still(row)
        image, mask = still.image, still.mask
        if light is not None:
            random = np.random.default_rng(zlib.crc32(row.path.name.encode()))
            image = way(darkened(image, random, light=light))
        if mask is not None:  # planes have even sides
            mask = mask[: image.shape[0], : image.shape[1]]
        group = row.group or row.path.name
        first = predict(model, image, thresholds=(1.0, 1.0)).first_pass
        for threshold, said in seen.by_threshold.items():
            levels = threshold, model.low_threshold
            map_ = predict(model, image, thresholds=levels, first_pass=first).probability
            said.append(
                compare(map_, mask, threshold=threshold, low_threshold=levels[1], group=group)
            )
        map_ = predict(dark, image).probability
        levels = model.threshold, model.low_threshold
        seen.shipped.append(
            compare(map_, mask, threshold=levels[0], low_threshold=levels[1], group=group)
        )
    return seen


def score(line: Mapping[str, float | None]) -> float:
    """As the operating point by day is chosen: a miss and a false alarm weigh the same."""
    return (line["f1"] or 0) + (line["recall"] or 0) - (line["clear_false_positive_rate"] or 0)


def measure(model: SmokeModel, *, every: int = 1) -> dict[str, Any]:
    """Figures by light and way: at the threshold by day, and at the way's own."""
    parts = {part: judged_rows(part)[::every] for part in ("development", "validation")}
    day = seen_in(model, parts["validation"], lambda picture: picture, light=None)
    result: dict[str, Any] = {
        "threshold": model.threshold,
        "threshold_dark": model.threshold_dark,
        "day": figures(day.by_threshold[model.threshold]),
    }
    for name, light in LIGHTS.items():
        result[name] = {}
        for label, way in ways().items():
            chosen = seen_in(model, parts["development"], way, light=light).by_threshold
            scores = {threshold: score(figures(chosen[threshold])) for threshold in THRESHOLDS}
            best = max(scores, key=lambda threshold: scores[threshold])
            seen = seen_in(model, parts["validation"], way, light=light)
            result[name][label] = {
                "best": best,
                "development_score": scores[best],
                "at_best": figures(seen.by_threshold[best]),
                "at_threshold": figures(seen.by_threshold[model.threshold]),
                "as_shipped": figures(seen.shipped),
            }
    return result


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smoke", help="a shipped one by name, or a path")
    parser.add_argument("--every", type=int, default=1, help="of so many pictures, one")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    a = parser.parse_args()
    result = measure(open_smoke_model(a.model), every=a.every)
    print(json.dumps(result) if a.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
