"""Evaluate the smoke networks: `python -m engines.smoke.evaluate --json`.

Everything runs through the ONNX file and the engine that the program uses, at the operating point
of the file, with zoom verification. Each section answers one question; `--only` selects sections:

* `images`: masks and false alarms on views never trained on, or on any `--index`;
* `close`: stills of close smoke that have an image label only;
* `background`: plumes composited into later images of unseen clear views, with an earlier image of
  the view as background and without;
* `fire_sequences`: simulated fires in images of unseen clear views: detected size and delay.

`--choose` prints figures of the development views for many operating points; nothing reported is
used for it. `--worst FOLDER` draws the worst images of each kind. Whole clips are evaluated by
`tools/evaluate_clips.py`, darkened images by `tools/evaluate_dark.py`.
"""

# ruff: noqa: PLR2004  limits of what is measured stand where they act
from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

from engines.smoke.compositing import composite, random_airlight
from engines.smoke.data import (
    Entry,
    entries_of,
    mislabelled,
    read_index,
    read_labelled,
    same_view,
    training_entries,
)
from engines.smoke.densities import simulated
from engines.smoke.evaluate_video import measure_fire_sequences
from engines.smoke.inference import predict
from engines.smoke.metrics import (
    SIZES,
    Calibration,
    ImageResult,
    aggregate,
    bootstrap_ci,
    compare,
    iou,
    ratio,
    regions,
)
from engines.smoke.model import SmokeModel, open_smoke_model
from engines.smoke.synthesis import place_plume
from engines.smoke.worst_cases import WorstCases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from engines.common.dataset import Part

    Map = NDArray[np.float32]

CLOSE_SOURCE = "fszhang_cls"
THRESHOLDS = tuple(np.arange(0.2, 0.96, 0.05).round(2).tolist())
LOW_THRESHOLDS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
"""Candidates for the operating point."""
SECTIONS = ("images", "close", "background", "fire_sequences")
FULL_WIDTH_PX = 10_000
"""Images are read at their own resolution: zoom verification needs it."""


def measure_images(
    model: SmokeModel, entries: Sequence[Entry], worst: WorstCases | None = None
) -> dict[str, Any]:
    """Return figures on images with masks and on clear ones, each alone, without background."""
    verified, first_pass = list[ImageResult](), list[ImageResult]()
    wrong, labelled_right = mislabelled(), list[ImageResult]()
    pixels, scores = Calibration(), Calibration()
    for entry in entries:
        if entry.smoke and entry.mask is None:
            continue
        labelled = read_labelled(entry, max_width=FULL_WIDTH_PX)
        prediction = predict(model, labelled.image)
        first = prediction.first_pass
        group = entry.group or entry.path.name
        for probability, into in (
            (prediction.probability, verified),
            (first.mask, first_pass),
        ):
            into.append(_compare(model, probability, labelled.mask, group))
        if entry.path.name not in wrong:
            labelled_right.append(verified[-1])
        pixels.add(first.mask, _resized_mask(labelled.mask, first.mask.shape))
        scores.add(np.array([first.image_score]), np.array([entry.smoke]))
        if worst is not None:
            worst.add(
                entry.path.name,
                labelled.image,
                prediction.probability,
                labelled.mask,
                verified[-1],
            )
    figures = aggregate(verified)
    return {
        **{name: value for name, value in figures.items() if not _by_size(name)},
        "recall_by_size": {name: figures[f"recall_{name}"] for name in SIZES},
        "iou_by_size": {name: figures[f"iou_{name}"] for name in SIZES},
        "intervals": bootstrap_ci(verified),
        "without_mislabelled": _false_positives(labelled_right),
        "without_zoom_verification": aggregate(first_pass),
        "by_group": _by_group(verified),
        "calibration": {"pixels": pixels.figures(), "images": scores.figures()},
        "groups": len({one.group for one in verified}),
        "smoke_images": sum(one.share is not None for one in verified),
        "clear_images": sum(one.share is None for one in verified),
    }


def _resized_mask(mask: NDArray[np.uint8] | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if mask is None:
        return np.zeros(shape, bool)
    return cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_AREA) > 127


def _by_size(name: str) -> bool:
    return name.partition("_")[2] in SIZES


def _by_group(results: Sequence[ImageResult]) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[ImageResult]] = defaultdict(list)
    for one in results:
        groups[one.group].append(one)
    return {
        name: {
            "images": len(group),
            "iou": iou(group),
            "found": sum(one.found for one in group),
            "smoke": sum(one.share is not None for one in group),
            "false_positives": sum(one.alarm for one in group if one.share is None),
        }
        for name, group in sorted(groups.items())
    }


def measure_close(model: SmokeModel, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return recall and false positive rate on close stills, which have an image label only."""
    alarms: dict[bool, list[bool]] = {True: [], False: []}
    for entry in entries:
        probability = predict(
            model, read_labelled(entry, max_width=FULL_WIDTH_PX).image
        ).probability
        found = regions(probability, model.threshold, model.low_threshold)[1]
        alarms[entry.smoke].append(bool(found))
    return {
        "recall": ratio(sum(alarms[True]), len(alarms[True])),
        "clear_false_positive_rate": ratio(sum(alarms[False]), len(alarms[False])),
        "smoke_images": len(alarms[True]),
        "clear_images": len(alarms[False]),
    }


def choose_thresholds(
    model: SmokeModel, far: Sequence[Entry], close: Sequence[Entry]
) -> list[dict[str, Any]]:
    """Return figures at many operating points, the highest `score` first.

    The score is F1 of the pixels, plus recall, minus the mean false positive rate of far and close
    clear images: a missed plume and a false alarm weigh the same.
    """
    images = [
        (entry, labelled, predict(model, labelled.image, thresholds=(1.0, 1.0)).first_pass)
        for entry in (*far, *close)
        if entry.mask is not None or not entry.smoke
        for labelled in [read_labelled(entry, max_width=FULL_WIDTH_PX)]
    ]
    table = []
    for low_threshold in LOW_THRESHOLDS:
        for threshold in [each for each in THRESHOLDS if each >= low_threshold]:
            thresholds = (threshold, low_threshold)
            results: dict[bool, list[ImageResult]] = {True: [], False: []}
            for entry, labelled, first_pass in images:
                probability = predict(
                    model, labelled.image, thresholds=thresholds, first_pass=first_pass
                ).probability
                results[entry.source == CLOSE_SOURCE].append(
                    _compare(model, probability, labelled.mask, entry.group, thresholds)
                )
            line = aggregate(results[False])
            close_rate = aggregate(results[True])["clear_false_positive_rate"]
            rates = [
                each for each in (line["clear_false_positive_rate"], close_rate) if each is not None
            ]
            false = float(np.mean(rates)) if rates else 0.0
            table.append(
                {
                    "threshold": threshold,
                    "low_threshold": low_threshold,
                    "score": (line["f1"] or 0) + (line["recall"] or 0) - false,
                    **line,
                    "close_false_positive_rate": close_rate,
                }
            )
    return sorted(table, key=lambda line: -float(cast("float", line["score"])))


def _false_positives(results: Sequence[ImageResult]) -> dict[str, float | int | None]:
    clear = [one for one in results if one.share is None]
    rate = ratio(sum(one.alarm for one in clear), len(clear))
    return {"clear_false_positive_rate": rate, "clear_images": len(clear)}


def _compare(
    model: SmokeModel,
    probability: Map,
    mask: NDArray[np.uint8] | None,
    group: str,
    thresholds: tuple[float, float] | None = None,
) -> ImageResult:
    threshold, low_threshold = thresholds or (model.threshold, model.low_threshold)
    return compare(probability, mask, threshold=threshold, low_threshold=low_threshold, group=group)


def measure_background(model: SmokeModel, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return figures on composited plumes, with an earlier image as background and without."""
    images = [
        read_labelled(entry)
        for entry in entries
        if not entry.smoke and entry.source == "hpwren_aiformankind"
    ]
    others = same_view(images)
    wrong = mislabelled()
    plumes = list(simulated(24, seed=2))  # unseen: training uses seed 1
    rng = np.random.default_rng(3)
    outcomes: dict[str, list[ImageResult]] = defaultdict(list)
    for index, labelled in enumerate(images):
        if not others[index]:
            continue
        image = labelled.image
        background = images[int(rng.choice(others[index]))].image
        share = float(np.exp(rng.uniform(np.log(0.001), np.log(0.02))))
        plume = plumes[int(rng.integers(len(plumes)))]
        depth = place_plume(plume, image, rng, share=share, close=False)
        alpha = (1 - np.exp(-rng.uniform(0.6, 2.5) * depth)).astype(np.float32)
        burning = composite(image, alpha, airlight=random_airlight(image, rng), rng=rng)
        mask = np.where(alpha > 0.15, 255, 0).astype(np.uint8)
        cases = [("smoke", burning, mask), ("clear", image, None)]
        for name, shown, actual in cases:
            if actual is not None and (alpha.max() < 0.3 or (actual > 0).mean() < 0.001):
                continue
            for mode, behind in (("with", background), ("without", None)):
                probability = predict(model, shown, behind).probability
                result = _compare(model, probability, actual, labelled.entry.group)
                outcomes[f"{mode}_{name}"].append(result)
                if actual is None and labelled.entry.path.name not in wrong:
                    outcomes[f"{mode}_labelled_right"].append(result)
    return {mode: _background_figures(outcomes, mode) for mode in ("with", "without")}


def _background_figures(outcomes: dict[str, list[ImageResult]], mode: str) -> dict[str, Any]:
    smoke, clear = outcomes[f"{mode}_smoke"], outcomes[f"{mode}_clear"]
    return {
        "recall": ratio(sum(one.found for one in smoke), len(smoke)),
        "iou": iou(smoke),
        "clear_false_positive_rate": ratio(sum(one.alarm for one in clear), len(clear)),
        "without_mislabelled": _false_positives(outcomes[f"{mode}_labelled_right"]),
        "plumes": len(smoke),
        "pairs": len(clear),
    }


def far_entries(part: Part) -> list[Entry]:
    """Return the images of fire-watch cameras of one part of the split."""
    sources = {"smoke5k_real", "hpwren_aiformankind"}
    return [entry for entry in entries_of(training_entries(), part) if entry.source in sources]


def close_entries(part: Part) -> list[Entry]:
    """Return the close-range stills of one part of the split."""
    return [entry for entry in entries_of(training_entries(), part) if entry.source == CLOSE_SOURCE]


def main() -> None:
    """Read the command line, evaluate, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smoke", help="name of a shipped network, or a path")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument(
        "--index", type=Path, help="a CSV like the development index; all of it is evaluated"
    )
    parser.add_argument("--only", choices=SECTIONS, action="append", help="may be repeated")
    parser.add_argument("--choose", action="store_true", help="compare operating points")
    parser.add_argument("--worst", type=Path, help="folder for drawings of the worst images")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    a = parser.parse_args()
    model = open_smoke_model(a.model, precision=a.precision)
    if a.choose:
        table = choose_thresholds(model, far_entries("development"), close_entries("development"))
        result: dict[str, Any] = {"thresholds": table}
    else:
        worst = WorstCases() if a.worst else None
        sections = a.only or (["images"] if a.index else list(SECTIONS))
        result = measure(model, sections, index=a.index, worst=worst)
        if worst is not None:
            worst.write(a.worst)
    print(json.dumps(result) if a.json else _table(result))


def measure(
    model: SmokeModel,
    sections: Sequence[str],
    *,
    index: Path | None,
    worst: WorstCases | None = None,
) -> dict[str, Any]:
    """Return the figures of the section `images` at the top level, each other under its name."""
    result: dict[str, Any] = {
        "model": model.name,
        "digest": model.digest,
        "engine": model.backend,
        "threshold": model.threshold,
        "low_threshold": model.low_threshold,
    }
    if "images" in sections:
        entries = read_index(index) if index else far_entries("validation")
        result |= measure_images(model, entries, worst)
    if "close" in sections:
        result["close"] = measure_close(model, close_entries("validation"))
    if "background" in sections:
        result["background"] = measure_background(model, far_entries("validation"))
    if "fire_sequences" in sections:
        result["fire_sequences"] = measure_fire_sequences(model, far_entries("validation"))
    return result


def _table(result: dict[str, Any]) -> str:
    lines = []
    for name, value in result.items():
        for row in value if isinstance(value, list) else [value]:
            words = (
                " ".join(f"{key}={_short(item)}" for key, item in row.items())
                if isinstance(row, dict)
                else _short(row)
            )
            lines.append(f"{name}: {words}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return "-".join(map(_short, value))
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
