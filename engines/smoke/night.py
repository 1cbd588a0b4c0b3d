"""Measures a smoke network on darkened pictures: `python -m engines.smoke.night --json`.

Day pictures are made night, in linear light and with a sensor's noise; the network then looks at
them as they are, with their tones lifted, and with tones lifted and noise held down. For each way
the threshold is the best on the development views; what is reported is of views never trained on.
"""

from __future__ import annotations

import argparse
import json
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from engines.lowlight.model import open_lowlight_model
from engines.lowlight.picture import darkened, enhance_picture
from engines.smoke.data import mislabelled, read_still
from engines.smoke.evaluate import judged_rows
from engines.smoke.look import look
from engines.smoke.measures import Seen, compare, figures
from engines.smoke.model import SmokeModel, open_smoke_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from engines.smoke.data import Row

    Rgb = NDArray[np.uint8]
    Way = Callable[[Rgb], Rgb]

LIGHTS = {"dusk": 0.15, "night": 0.03}
"""Light, of the day's."""
THRESHOLDS = tuple(np.arange(0.2, 0.91, 0.1).round(2).tolist())


def ways() -> Mapping[str, Way]:
    """What may be shown to the network."""
    lowlight = open_lowlight_model()
    return {
        "raw": lambda picture: picture,
        "lifted": partial(enhance_picture, lowlight, denoise=False),
        "lifted, denoised": partial(enhance_picture, lowlight),
    }


def seen_in(
    model: SmokeModel, rows: Sequence[Row], way: Way, *, light: float | None
) -> dict[float, list[Seen]]:
    """What the network sees in darkened pictures at each threshold; `None` leaves them light."""
    seen: dict[float, list[Seen]] = {threshold: [] for threshold in THRESHOLDS}
    wrong = mislabelled()
    for row in rows:
        if (row.smoke and row.mask is None) or row.path.name in wrong:
            continue
        still = read_still(row)
        image = still.image
        if light is not None:
            random = np.random.default_rng(zlib.crc32(row.path.name.encode()))
            image = way(darkened(image, random, light=light))
        mask = still.mask
        if mask is not None:  # planes have even sides
            mask = mask[: image.shape[0], : image.shape[1]]
        first = look(model, image, levels=(1.0, 1.0)).looked
        for threshold, said in seen.items():
            levels = (threshold, model.outline)
            probability = look(model, image, levels=levels, first=first).probability
            said.append(
                compare(
                    probability,
                    mask,
                    threshold=threshold,
                    outline=model.outline,
                    group=row.group or row.path.name,
                )
            )
    return seen


def score(line: Mapping[str, float | None]) -> float:
    """As the operating point by day is chosen: a miss and a false alarm weigh the same."""
    return (line["f1"] or 0) + (line["recall"] or 0) - (line["clear_false_positive_rate"] or 0)


def measure(model: SmokeModel, *, every: int = 1) -> dict[str, Any]:
    """Figures by light and way: at the threshold by day, and at the way's own."""
    parts = {part: judged_rows(part)[::every] for part in ("development", "validation")}
    near = min(THRESHOLDS, key=lambda threshold: abs(threshold - model.threshold))
    day = figures(seen_in(model, parts["validation"], lambda picture: picture, light=None)[near])
    result: dict[str, Any] = {"threshold_by_day": near, "day": day}
    for name, light in LIGHTS.items():
        result[name] = {}
        for label, way in ways().items():
            chosen = {
                threshold: score(figures(seen))
                for threshold, seen in seen_in(
                    model, parts["development"], way, light=light
                ).items()
            }
            best = max(chosen, key=lambda threshold: chosen[threshold])
            seen = seen_in(model, parts["validation"], way, light=light)
            result[name][label] = {
                "threshold": best,
                "development_score": chosen[best],
                "at_its_own": figures(seen[best]),
                "at_that_of_day": figures(seen[near]),
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
