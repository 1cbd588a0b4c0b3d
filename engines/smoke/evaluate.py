"""Measures the shipped networks: `python -m engines.smoke.evaluate --json`.

Everything runs through the ONNX file and the engine that the program uses, at the operating point
in the file, with the second look. Each question is a section of the answer, `--only` asks one:

* `pictures`: masks and false alarms on views never trained on, or on any `--index`; far plumes;
* `close`: stills of close smoke with an image label only;
* `background`: plumes laid into later pictures of unseen clear views, with an earlier picture of
  the view as background and without;
* `growing`: fires that start in pictures of unseen clear views: how small one is found, and when;
* `clips`: the program itself, `streamer replay`, on the development clips: alarm or not, when.

`--choose` names the operating point on the development views; nothing reported is used for it.
`--sheets FOLDER` draws the twenty worst pictures of each kind.
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

from engines.smoke.compositing import air_of, lay
from engines.smoke.data import (
    Entry,
    data_folder,
    in_part,
    mislabelled,
    read_index,
    read_still,
    same_view,
    training_rows,
)
from engines.smoke.densities import simulated
from engines.smoke.evaluate_video import measure_clips, measure_growing
from engines.smoke.inference import predict
from engines.smoke.metrics import (
    SIZES,
    Calibration,
    Seen,
    compare,
    figures,
    intervals,
    iou,
    ratio,
    regions,
)
from engines.smoke.model import SmokeModel, open_smoke_model
from engines.smoke.synthesis import stand
from engines.smoke.worst_cases import Sheets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Rgb = NDArray[np.uint8]
    Map = NDArray[np.float32]

CLOSE_SOURCE = "fszhang_cls"
THRESHOLDS = tuple(np.arange(0.2, 0.96, 0.05).round(2).tolist())
LOW_THRESHOLDS = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
"""From which the operating point is chosen."""
SECTIONS = ("pictures", "close", "background", "growing", "clips")


def measure_pictures(
    model: SmokeModel, rows: Sequence[Entry], sheets: Sheets | None = None
) -> dict[str, Any]:
    """Figures on pictures with masks and on clear ones, each alone, without background."""
    seen, once, wrong = list[Seen](), list[Seen](), mislabelled()
    honest = list[Seen]()
    pixels, labels = Calibration(), Calibration()
    for row in rows:
        if row.smoke and row.mask is None:
            continue
        still = read_still(row, max_width=10_000)
        said = predict(model, still.image)
        group = row.group or row.path.name
        for maps, into in ((said.probability, seen), (said.first_pass.mask, once)):
            into.append(_compare(model, maps, still.mask, group))
        if row.path.name not in wrong:
            honest.append(seen[-1])
        pixels.add(said.first_pass.mask, _truth(still.mask, said.first_pass.mask.shape))
        labels.add(np.array([said.first_pass.image_score]), np.array([row.smoke]))
        if sheets is not None:
            sheets.add(row.path.name, still.image, said.probability, still.mask, seen[-1])
    numbers, spread = figures(seen), intervals(seen)
    return {
        **{name: value for name, value in numbers.items() if not _by_size(name)},
        "recall_by_size": {name: numbers[f"recall_{name}"] for name in SIZES},
        "iou_by_size": {name: numbers[f"iou_{name}"] for name in SIZES},
        "intervals": spread,
        "without_mislabelled": _called(honest),
        "without_second_look": figures(once),
        "by_group": _by_group(seen),
        "calibration": {"pixels": pixels.figures(), "pictures": labels.figures()},
        "groups": len({one.group for one in seen}),
        "smoke_pictures": sum(one.share is not None for one in seen),
        "clear_pictures": sum(one.share is None for one in seen),
    }


def _truth(mask: NDArray[np.uint8] | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if mask is None:
        return np.zeros(shape, bool)
    return cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_AREA) > 127


def _by_size(name: str) -> bool:
    return name.partition("_")[2] in SIZES


def _by_group(seen: Sequence[Seen]) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[Seen]] = defaultdict(list)
    for one in seen:
        groups[one.group].append(one)
    return {
        name: {
            "pictures": len(group),
            "iou": iou(group),
            "found": sum(one.found for one in group),
            "smoke": sum(one.share is not None for one in group),
            "clear_called": sum(one.called for one in group if one.share is None),
        }
        for name, group in sorted(groups.items())
    }


def measure_close(model: SmokeModel, rows: Sequence[Entry]) -> dict[str, Any]:
    """Stills of close smoke and of the same places without it: called smoke or not."""
    called: dict[bool, list[bool]] = {True: [], False: []}
    for row in rows:
        said = predict(model, read_still(row, max_width=10_000).image)
        called[row.smoke].append(
            bool(regions(said.probability, model.threshold, model.low_threshold)[1])
        )
    return {
        "recall": ratio(sum(called[True]), len(called[True])),
        "clear_false_positive_rate": ratio(sum(called[False]), len(called[False])),
        "smoke_pictures": len(called[True]),
        "clear_pictures": len(called[False]),
    }


def choose_levels(
    model: SmokeModel, far: Sequence[Entry], close: Sequence[Entry]
) -> list[dict[str, Any]]:
    """Figures at many thresholds and outlines; the operating point is that of the best `score`.

    The score is F1 of the pixels, plus recall, minus the mean of far and close clear pictures that
    are called smoke: a missed plume and a false alarm weigh the same.
    """
    stills = [
        (row, still, predict(model, still.image, thresholds=(1.0, 1.0)).first_pass)
        for row in (*far, *close)
        if row.mask is not None or not row.smoke
        for still in [read_still(row, max_width=10_000)]
    ]
    table = []
    for low_threshold in LOW_THRESHOLDS:
        for threshold in [each for each in THRESHOLDS if each >= low_threshold]:
            levels = (threshold, low_threshold)
            seen: dict[bool, list[Seen]] = {True: [], False: []}
            for row, still, first in stills:
                said = predict(model, still.image, thresholds=levels, first_pass=first).probability
                near = row.source == CLOSE_SOURCE
                seen[near].append(_compare(model, said, still.mask, row.group, levels))
            line = figures(seen[False])
            near_rate = figures(seen[True])["clear_false_positive_rate"]
            rates = [
                each for each in (line["clear_false_positive_rate"], near_rate) if each is not None
            ]
            false = float(np.mean(rates)) if rates else 0.0
            score = (line["f1"] or 0) + (line["recall"] or 0) - false
            table.append(
                {
                    "threshold": threshold,
                    "low_threshold": low_threshold,
                    "score": score,
                    **line,
                    "close_false_positive_rate": near_rate,
                }
            )
    return sorted(table, key=lambda entry: -float(cast("float", entry["score"])))


def _called(seen: Sequence[Seen]) -> dict[str, float | int | None]:
    """Clear pictures called smoke, and how many there are."""
    clear = [one for one in seen if one.share is None]
    rate = ratio(sum(one.called for one in clear), len(clear))
    return {"clear_false_positive_rate": rate, "clear_pictures": len(clear)}


def _compare(
    model: SmokeModel,
    probability: Map,
    mask: NDArray[np.uint8] | None,
    group: str,
    levels: tuple[float, float] | None = None,
) -> Seen:
    threshold, low_threshold = levels or (model.threshold, model.low_threshold)
    return compare(probability, mask, threshold=threshold, low_threshold=low_threshold, group=group)


def measure_background(model: SmokeModel, rows: Sequence[Entry]) -> dict[str, Any]:
    """Plumes in later pictures of clear views, with an earlier one as background and without."""
    stills = [
        read_still(row) for row in rows if not row.smoke and row.source == "hpwren_aiformankind"
    ]
    twins = same_view(stills)
    wrong = mislabelled()
    plumes = list(simulated(24, seed=2))  # none of these were trained on: training has seed 1
    random = np.random.default_rng(3)
    outcomes: dict[str, list[Seen]] = defaultdict(list)
    for index, still in enumerate(stills):
        if not twins[index]:
            continue
        background = stills[int(random.choice(twins[index]))].image
        share = float(np.exp(random.uniform(np.log(0.001), np.log(0.02))))
        depth = stand(
            plumes[int(random.integers(len(plumes)))], still.image, random, share=share, close=False
        )
        alpha = 1 - np.exp(-random.uniform(0.6, 2.5) * depth)
        burning = lay(
            still.image, alpha.astype(np.float32), air=air_of(still.image, random), random=random
        )
        mask = np.where(alpha > 0.15, 255, 0).astype(np.uint8)
        cases = [("smoke", burning, mask), ("clear", still.image, None)]
        for name, image, truth in cases:
            if truth is not None and (alpha.max() < 0.3 or (truth > 0).mean() < 0.001):
                continue
            for mode, other in (("with", background), ("without", None)):
                probability = predict(model, image, other).probability
                seen = _compare(model, probability, truth, still.row.group)
                outcomes[f"{mode}_{name}"].append(seen)
                if truth is None and still.row.path.name not in wrong:
                    outcomes[f"{mode}_honest"].append(seen)
    return {
        mode: {
            "recall": ratio(
                sum(s.found for s in outcomes[f"{mode}_smoke"]), len(outcomes[f"{mode}_smoke"])
            ),
            "iou": iou(outcomes[f"{mode}_smoke"]),
            "clear_false_positive_rate": ratio(
                sum(s.called for s in outcomes[f"{mode}_clear"]), len(outcomes[f"{mode}_clear"])
            ),
            "without_mislabelled": _called(outcomes[f"{mode}_honest"]),
            "plumes": len(outcomes[f"{mode}_smoke"]),
            "pairs": len(outcomes[f"{mode}_clear"]),
        }
        for mode in ("with", "without")
    }


def clip_rows() -> list[Entry]:
    """The development clips; none of them is ever trained on."""
    sources = {"clips_smoke", "clips_nonsmoke", "fszhang_smoke_sequences"}
    return [
        row for row in read_index(data_folder() / "smoke" / "index.csv") if row.source in sources
    ]


def judged_rows(part: str) -> list[Entry]:
    """Pictures of one side of the split with hand-drawn masks, and clear ones of such cameras."""
    sources = {"smoke5k_real", "hpwren_aiformankind"}
    return [row for row in in_part(training_rows(), part) if row.source in sources]


def close_rows(part: str) -> list[Entry]:
    """Close-range stills of one side of the split."""
    return [row for row in in_part(training_rows(), part) if row.source == CLOSE_SOURCE]


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smoke", help="a shipped one by name, or a path")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument(
        "--index", type=Path, help="a CSV like the development index; all of it is measured"
    )
    parser.add_argument("--only", choices=SECTIONS, action="append", help="may be given repeatedly")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--sheets", type=Path, help="folder for the sheets of the worst pictures")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    a = parser.parse_args()
    model = open_smoke_model(a.model, precision=a.precision)
    if a.choose:
        result: dict[str, Any] = {
            "levels": choose_levels(model, judged_rows("development"), close_rows("development"))
        }
    else:
        sheets = Sheets() if a.sheets else None
        sections = a.only or (["pictures"] if a.index else list(SECTIONS))
        result = measure(
            model,
            sections,
            index=a.index,
            engine=str(Path(a.model).resolve()) if "/" in a.model else a.model,
            sheets=sheets,
        )
        if sheets is not None:
            sheets.write(a.sheets)
    print(json.dumps(result) if a.json else _table(result))


def measure(
    model: SmokeModel,
    sections: Sequence[str],
    *,
    index: Path | None,
    engine: str,
    sheets: Sheets | None = None,
) -> dict[str, Any]:
    """The answer: the pictures' figures, and each other section under its name."""
    result: dict[str, Any] = {
        "model": model.name,
        "digest": model.digest,
        "engine": model.backend,
        "threshold": model.threshold,
        "low_threshold": model.low_threshold,
    }
    if "pictures" in sections:
        rows = read_index(index) if index else judged_rows("validation")
        result |= measure_pictures(model, rows, sheets)
    if "close" in sections:
        result["close"] = measure_close(model, close_rows("validation"))
    if "background" in sections:
        result["background"] = measure_background(model, judged_rows("validation"))
    if "growing" in sections:
        result["growing"] = measure_growing(model, judged_rows("validation"))
    if "clips" in sections:
        result["clips"] = measure_clips(model, clip_rows(), engine=engine)
    return result


def _table(result: dict[str, Any]) -> str:
    lines = []
    for name, value in result.items():
        rows = value if isinstance(value, list) else [value]
        for row in rows:
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
