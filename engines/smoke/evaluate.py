"""Measures the shipped network: `python -m engines.smoke.evaluate`.

Everything runs through the ONNX file and the engine that the program uses, at the operating point
in the file. Three questions:

* pictures (default): masks and false alarms on views never trained on, or on any `--index`;
* `--background`: plumes laid into later pictures of unseen clear views, with an earlier picture of
  the view as background and without;
* `--clips`: what a temporal rule would be given on the development clips.

`--choose` names the operating point on the development views; nothing reported is used for it.
"""

# ruff: noqa: PLR2004  limits of what is measured stand where they act
from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import cv2
import numpy as np

from engines.smoke.data import (
    Row,
    data_folder,
    in_part,
    read_index,
    read_still,
    same_view,
    training_rows,
)
from engines.smoke.densities import simulated
from engines.smoke.model import SHIPPED, SmokeModel, open_smoke_model
from engines.smoke.synthesis import air_of, lay, stand

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

SIZES = {"under_0.2": (0.0, 0.002), "0.2_to_1": (0.002, 0.01), "over_1": (0.01, 1.01)}
"""Plumes by share of the picture, in per cent in the name."""
LEAST_REGION = 0.0002
"""Share of the picture from which connected pixels count as a region: 60 pixels of 640x480."""
LEAST_OVERLAP = 0.1
"""Share of a drawn plume that regions must cover for it to count as found."""
DRAWS = 1000
"""Bootstrap draws over groups."""
LOOK_WIDTH_PX = 640


@dataclass(frozen=True, slots=True)
class Seen:
    """One picture, compared."""

    group: str
    """Its camera view."""
    share: float | None
    """Share of the picture that is smoke; None for a clear one."""
    both: int
    """Pixels rightly called smoke."""
    said: int
    """Pixels called smoke."""
    truth: int
    """Pixels that are smoke."""
    called: bool
    """Whether any region was big enough to call the picture smoke."""
    found: bool
    """Whether the regions cover enough of the plume."""


def look_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) of a look: 640 wide, the picture's shape kept, in whole strides."""
    return max(32, round(shape[0] * LOOK_WIDTH_PX / shape[1] / 32) * 32), LOOK_WIDTH_PX


def scaled(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture at (height, width)."""
    smooth = cv2.INTER_AREA if image.shape[1] > size[1] else cv2.INTER_LINEAR
    return cast("NDArray[np.uint8]", cv2.resize(image, size[::-1], interpolation=smooth))


def regions(
    mask: NDArray[np.float32], threshold: float
) -> tuple[NDArray[np.bool_], list[dict[str, float]]]:
    """Pixels in regions that count, and each region's area share, mean and peak; largest first."""
    _, labels, boxes, _ = cv2.connectedComponentsWithStats((mask >= threshold).astype(np.uint8))
    keep = np.zeros(mask.shape, bool)
    found = []
    for label in range(1, len(boxes)):
        area = int(boxes[label, cv2.CC_STAT_AREA])
        if area < LEAST_REGION * mask.size:
            continue
        inside = labels == label
        keep |= inside
        values = mask[inside]
        found.append(
            {"area": area / mask.size, "mean": float(values.mean()), "peak": float(values.max())}
        )
    return keep, sorted(found, key=lambda region: -region["area"])


def compare(
    probability: NDArray[np.float32],
    mask: NDArray[np.uint8] | None,
    *,
    threshold: float,
    group: str,
) -> Seen:
    """Compare a map of probabilities with a drawn mask of any size, or with a clear picture."""
    keep, found = regions(probability, threshold)
    if mask is None:
        return Seen(group, None, 0, int(keep.sum()), 0, bool(found), found=False)
    truth = mask > 127
    wide = cv2.resize(probability, mask.shape[::-1], interpolation=cv2.INTER_LINEAR) >= threshold
    covered = (
        cv2.resize(keep.astype(np.uint8), mask.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    )
    return Seen(
        group=group,
        share=float(truth.mean()),
        both=int((wide & truth).sum()),
        said=int(wide.sum()),
        truth=int(truth.sum()),
        called=bool(found),
        found=bool((covered & truth).sum() >= LEAST_OVERLAP * max(truth.sum(), 1)),
    )


def figures(seen: Sequence[Seen]) -> dict[str, float | None]:
    """The figures of a set of pictures; None where nothing in it speaks to one."""
    smoke = [one for one in seen if one.share is not None]
    clear = [one for one in seen if one.share is None]
    result: dict[str, float | None] = {
        "iou": _iou(smoke),
        "f1": _ratio(2 * sum(s.both for s in smoke), sum(s.said + s.truth for s in smoke)),
        "recall": _ratio(sum(s.found for s in smoke), len(smoke)),
        "clear_false_positive_rate": _ratio(sum(s.called for s in clear), len(clear)),
    }
    for name, (low, high) in SIZES.items():
        these = [s for s in smoke if s.share is not None and low <= s.share < high]
        result[f"recall_{name}"] = _ratio(sum(s.found for s in these), len(these))
        result[f"iou_{name}"] = _iou(these)
    return result


def _iou(seen: Sequence[Seen]) -> float | None:
    both = sum(one.both for one in seen)
    return _ratio(both, sum(one.said + one.truth for one in seen) - both)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def intervals(seen: Sequence[Seen]) -> dict[str, tuple[float, float]]:
    """95 % intervals of the figures, by drawing views, not pictures, with replacement."""
    by_group: dict[str, list[Seen]] = defaultdict(list)
    for one in seen:
        by_group[one.group].append(one)
    groups = list(by_group.values())
    random = np.random.default_rng(1)
    drawn: dict[str, list[float]] = defaultdict(list)
    for _ in range(DRAWS if len(groups) > 1 else 0):
        picked = random.integers(len(groups), size=len(groups))
        for name, value in figures([one for index in picked for one in groups[index]]).items():
            if value is not None:
                drawn[name].append(value)
    return {
        name: (float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975)))
        for name, values in drawn.items()
    }


def look_at(
    model: SmokeModel, rows: Sequence[Row]
) -> Iterator[tuple[Row, NDArray[np.float32], Any]]:
    """Each row that can be judged, the network's map of it, and its mask where it has one."""
    for row in rows:
        if row.smoke and row.mask is None:
            continue
        still = read_still(row, max_width=10_000)
        yield row, model(scaled(still.image, look_size(still.image.shape))), still.mask


def measure_pictures(model: SmokeModel, rows: Sequence[Row]) -> dict[str, Any]:
    """Figures on pictures with masks and on clear ones, each alone, without background."""
    seen = [
        compare(probability, mask, threshold=model.threshold, group=row.group or row.path.name)
        for row, probability, mask in look_at(model, rows)
    ]
    numbers = figures(seen)
    return {
        **{name: value for name, value in numbers.items() if not _by_size(name)},
        "recall_by_size": {name: numbers[f"recall_{name}"] for name in SIZES},
        "iou_by_size": {name: numbers[f"iou_{name}"] for name in SIZES},
        "intervals": intervals(seen),
        "groups": len({one.group for one in seen}),
        "smoke_pictures": sum(one.share is not None for one in seen),
        "clear_pictures": sum(one.share is None for one in seen),
        "engine": model.backend,
        "threshold": model.threshold,
    }


def _by_size(name: str) -> bool:
    return name.partition("_")[2] in SIZES


def choose_threshold(model: SmokeModel, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Figures at many thresholds; the operating point is the one of the best `score`.

    The score is F1 of the pixels plus recall minus clear pictures called smoke: a missed plume and
    a false alarm weigh the same.
    """
    maps = [(row.group, probability, mask) for row, probability, mask in look_at(model, rows)]
    table = []
    for threshold in np.arange(0.2, 0.96, 0.05):
        seen = [compare(p, m, threshold=float(threshold), group=g) for g, p, m in maps]
        line = figures(seen)
        score = (line["f1"] or 0) + (line["recall"] or 0) - (line["clear_false_positive_rate"] or 0)
        table.append({"threshold": round(float(threshold), 2), "score": score, **line})
    return sorted(table, key=lambda entry: -float(cast("float", entry["score"])))


def measure_background(model: SmokeModel, rows: Sequence[Row]) -> dict[str, Any]:
    """Plumes in later pictures of clear views, with an earlier one as background and without."""
    stills = [
        read_still(row) for row in rows if not row.smoke and row.source == "hpwren_aiformankind"
    ]
    twins = same_view(stills)
    plumes = list(simulated(24, seed=2))  # none of these were trained on: training has seed 1
    random = np.random.default_rng(3)
    outcomes: dict[str, list[Seen]] = defaultdict(list)
    for index, still in enumerate(stills):
        if not twins[index]:
            continue
        background = stills[int(random.choice(twins[index]))].image
        size = look_size(still.image.shape)
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
            for mode, other in (("with", scaled(background, size)), ("without", None)):
                probability = model(scaled(image, size), other)
                outcomes[f"{mode}_{name}"].append(
                    compare(probability, truth, threshold=model.threshold, group=still.row.group)
                )
    return {
        mode: {
            "recall": _ratio(
                sum(s.found for s in outcomes[f"{mode}_smoke"]), len(outcomes[f"{mode}_smoke"])
            ),
            "iou": _iou(outcomes[f"{mode}_smoke"]),
            "clear_false_positive_rate": _ratio(
                sum(s.called for s in outcomes[f"{mode}_clear"]), len(outcomes[f"{mode}_clear"])
            ),
            "pairs": len(outcomes[f"{mode}_clear"]),
        }
        for mode in ("with", "without")
    }


def measure_clips(
    model: SmokeModel, rows: Sequence[Row], *, looks_per_second: float
) -> list[dict[str, Any]]:
    """What each clip gives a rule, alone and with the clip's first picture as background."""
    result = []
    for row in rows:
        pictures = list(clip_looks(row.path, looks_per_second=looks_per_second))
        size = look_size(pictures[0].shape)
        for background in (None, scaled(pictures[0], size)):
            largest = [
                (
                    regions(model(scaled(picture, size), background), model.threshold)[1]
                    or [_NOTHING]
                )[0]
                for picture in pictures
            ]
            result.append(
                {
                    "clip": row.path.name,
                    "smoke": row.smoke,
                    "background": background is not None,
                    "looks": len(largest),
                    "share_of_looks": float(np.mean([region["area"] > 0 for region in largest])),
                    **{
                        f"{name}_{kind}": float(value)
                        for name in ("area", "mean", "peak")
                        for kind, value in zip(
                            ("median", "max"),
                            (
                                np.median([region[name] for region in largest]),
                                max(region[name] for region in largest),
                            ),
                            strict=True,
                        )
                    },
                }
            )
    return result


_NOTHING = {"area": 0.0, "mean": 0.0, "peak": 0.0}


def clip_looks(path: Path, *, looks_per_second: float) -> Iterator[NDArray[np.uint8]]:
    """Pictures of a clip at a steady rate."""
    with av.open(path) as clip:
        stream = clip.streams.video[0]
        rate = float(stream.average_rate or 25)
        # A rate that no camera has: the clip was made of single pictures, five for a second.
        step = (rate if rate < 240 else 5.0) / looks_per_second
        due = 0.0
        for number, frame in enumerate(clip.decode(stream)):
            if number >= due:
                due += step
                yield cast("NDArray[np.uint8]", frame.to_ndarray(format="rgb24"))


def clip_rows() -> list[Row]:
    """The development clips; none of them is ever trained on."""
    sources = {"clips_smoke", "clips_nonsmoke", "fszhang_smoke_sequences"}
    return [
        row for row in read_index(data_folder() / "smoke" / "index.csv") if row.source in sources
    ]


def judged_rows(part: str) -> list[Row]:
    """Pictures of one side of the split with hand-drawn masks, and clear ones of such cameras."""
    sources = {"smoke5k_real", "hpwren_aiformankind"}
    return [row for row in in_part(training_rows(), part) if row.source in sources]


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument(
        "--index", type=Path, help="a CSV like the development index; all of it is measured"
    )
    parser.add_argument("--background", action="store_true")
    parser.add_argument("--clips", action="store_true")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--looks-per-second", type=float, default=1.0)
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    a = parser.parse_args()
    model = open_smoke_model(a.model, precision=a.precision)
    result: dict[str, Any]
    if a.choose:
        result = {"thresholds": choose_threshold(model, judged_rows("development"))}
    elif a.background:
        result = {"background": measure_background(model, judged_rows("validation"))}
    elif a.clips:
        result = {"clips": measure_clips(model, clip_rows(), looks_per_second=a.looks_per_second)}
    else:
        rows = read_index(a.index) if a.index else judged_rows("validation")
        result = measure_pictures(model, rows)
    print(json.dumps(result) if a.json else _table(result))


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
