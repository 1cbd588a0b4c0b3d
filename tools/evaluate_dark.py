"""Evaluate a smoke network on darkened images: `python tools/evaluate_dark.py --json`.

Day images are darkened in linear light, with sensor noise. The network gets them unchanged,
enhanced, and enhanced with denoising. Each preprocessing is reported at the threshold that is best
on the development views, at the threshold for the day, and as the program runs it. Reported images
are of views never trained on.
"""

import argparse
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.lowlight.model import open_lowlight_model
from engines.lowlight.still_image import darken, enhance_image
from engines.smoke.data import Entry, mislabelled, read_labelled
from engines.smoke.evaluate import far_entries
from engines.smoke.inference import predict
from engines.smoke.metrics import ImageResult, aggregate, compare
from engines.smoke.model import SmokeModel, SmokeOutput, open_smoke_model

Rgb = NDArray[np.uint8]
Preprocess = Callable[[Rgb], Rgb]

LIGHTS = {"dusk": 0.15, "night": 0.03}
"""Light as a fraction of the day's."""
THRESHOLDS = tuple(np.arange(0.2, 0.91, 0.1).round(2).tolist())
"""Candidates for the threshold of each preprocessing."""


def preprocessings() -> Mapping[str, Preprocess]:
    """Return the preprocessings that are compared, by name."""
    lowlight = open_lowlight_model()
    return {
        "raw": lambda image: image,
        "enhanced": partial(enhance_image, lowlight, denoise=False),
        "enhanced, denoised": partial(enhance_image, lowlight),
    }


class DarkModel:
    """A network as the program runs it on an enhanced dark image."""

    def __init__(self, model: SmokeModel) -> None:
        self._model = model
        self.threshold, self.low_threshold = model.threshold, model.low_threshold

    def predict(self, image: Rgb, background: Rgb | None = None) -> SmokeOutput:
        """See `SmokeModel.predict`."""
        return self._model.predict(image, background, dark=True)

    def __call__(self, image: Rgb, background: Rgb | None = None) -> NDArray[np.float32]:
        """Return the mask of `predict`."""
        return self.predict(image, background).mask


@dataclass(frozen=True, slots=True)
class Outcome:
    """Results on a set of images."""

    by_threshold: dict[float, list[ImageResult]]
    """At each candidate threshold and at the threshold for the day."""
    shipped: list[ImageResult]
    """Results with the threshold that the program uses in the dark."""


def evaluate(
    model: SmokeModel, entries: Sequence[Entry], preprocess: Preprocess, *, light: float | None
) -> Outcome:
    """Return the results on darkened images; `light` None leaves them as they are."""
    outcome = Outcome({threshold: [] for threshold in sorted({*THRESHOLDS, model.threshold})}, [])
    wrong, dark = mislabelled(), DarkModel(model)
    for entry in entries:
        if (entry.smoke and entry.mask is None) or entry.path.name in wrong:
            continue
        labelled = read_labelled(entry)
        image, mask = labelled.image, labelled.mask
        if light is not None:
            rng = np.random.default_rng(zlib.crc32(entry.path.name.encode()))
            image = preprocess(darken(image, rng, light=light))
        if mask is not None:  # 4:2:0 planes have even sides
            mask = mask[: image.shape[0], : image.shape[1]]
        group = entry.group or entry.path.name
        low = model.low_threshold
        first = predict(model, image, thresholds=(1.0, 1.0)).first_pass
        for threshold, results in outcome.by_threshold.items():
            predicted = predict(model, image, thresholds=(threshold, low), first_pass=first)
            results.append(
                compare(
                    predicted.probability,
                    mask,
                    threshold=threshold,
                    low_threshold=low,
                    group=group,
                )
            )
        outcome.shipped.append(
            compare(
                predict(dark, image).probability,
                mask,
                threshold=model.threshold,
                low_threshold=low,
                group=group,
            )
        )
    return outcome


def score(figures: Mapping[str, float | None]) -> float:
    """Return F1 plus recall minus false positive rate, as `engines.smoke.evaluate` chooses by."""
    false = figures["clear_false_positive_rate"] or 0
    return (figures["f1"] or 0) + (figures["recall"] or 0) - false


def measure(model: SmokeModel, *, every: int = 1) -> dict[str, Any]:
    """Return figures by light and preprocessing.

    Args:
        model: The network.
        every: Use one image of so many.
    """
    development = far_entries("development")[::every]
    validation = far_entries("validation")[::every]
    day = evaluate(model, validation, lambda image: image, light=None)
    result: dict[str, Any] = {
        "threshold": model.threshold,
        "threshold_dark": model.threshold_dark,
        "day": aggregate(day.by_threshold[model.threshold]),
    }
    for name, light in LIGHTS.items():
        result[name] = {}
        for label, preprocess in preprocessings().items():
            tried = evaluate(model, development, preprocess, light=light).by_threshold
            scores = {threshold: score(aggregate(tried[threshold])) for threshold in THRESHOLDS}
            best = max(scores, key=lambda threshold: scores[threshold])
            outcome = evaluate(model, validation, preprocess, light=light)
            result[name][label] = {
                "best": best,
                "development_score": scores[best],
                "at_best": aggregate(outcome.by_threshold[best]),
                "at_threshold": aggregate(outcome.by_threshold[model.threshold]),
                "as_shipped": aggregate(outcome.shipped),
            }
    return result


def main() -> None:
    """Read the command line, evaluate, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smoke", help="name of a shipped network, or a path")
    parser.add_argument("--every", type=int, default=1, help="use one image of so many")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    a = parser.parse_args()
    result = measure(open_smoke_model(a.model), every=a.every)
    print(json.dumps(result) if a.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
