"""Evaluate interpolation: `python -m engines.interpolation.evaluate --json`.

Every second frame is dropped and predicted from its neighbours. Everything runs on 4:2:0 planes;
images of a list are converted to such planes first, so that every method gets the same input. PSNR
is over RGB, SSIM and GMSD (a perceptual distance) over luma; means are over clips first.

* without `--triplets`: the held-out development clips of `split.txt`;
* `--triplets`: a CSV of before,middle,after; paths relative to it; each folder counts as a clip.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np

from engines.common.dataset import read_rgb
from engines.common.metrics import bootstrap_ci, gmsd, psnr, ssim
from engines.interpolation.baselines import Method, Rife, averaged_flow, blend
from engines.interpolation.data import from_rgb, held_out, planes_of, planes_to_rgb
from engines.interpolation.model import Interpolator, open_interpolator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Plane = NDArray[np.uint8]
    Rgb = NDArray[np.uint8]

OURS, RIFE = "ours", "rife"
LARGE, SMALL = "large motion (davis480p_val)", "clips"
"""Groups of the development clips."""
EACH = 24
"""Triplets per development clip, evenly spread."""
TEXT_EVERY = 4
"""Step of the triplets that are evaluated again with burnt-in text."""
TEXT = "2026-11-21 17:05:42"
WORST_SHARE = 0.05
RESAMPLINGS = 2000
BASELINES_FOLDER = Path("runs/interpolation/baselines")


@dataclass(frozen=True, slots=True, eq=False)
class Triplet:
    """Two frames and the one between, as planes."""

    group: str
    """Group it belongs to."""
    clip: str
    before: list[Plane]
    middle: list[Plane]
    after: list[Plane]


@dataclass(slots=True)
class Scores:
    """Scores of one method on one clip, by triplet."""

    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    gmsd: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    text_error: list[float] = field(default_factory=list)
    """Mean difference in bytes inside the burnt-in text."""


def development(each: int) -> Iterator[Triplet]:
    """Yield triplets of the held-out clips."""
    for clip in held_out():
        frames = clip.frames()
        firsts = range(0, len(frames) - 2, 2)
        group = LARGE if "davis" in clip.name else SMALL
        for first in firsts[:: max(1, len(firsts) // each)][:each]:
            three = [_planes(np.asarray(frames[first + step])) for step in range(3)]
            yield Triplet(group, clip.name, *three)


def listed(path: Path) -> Iterator[Triplet]:
    """Yield triplets of a CSV with before, middle, after.

    Raises:
        OSError: An image is missing.
    """
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            files = [path.parent / row[name] for name in ("before", "middle", "after")]
            three = [_planes(from_rgb(read_rgb(each))) for each in files]
            yield Triplet(row.get("set") or path.stem, str(files[1].parent), *three)


def _planes(frame: Plane) -> list[Plane]:
    return [np.ascontiguousarray(plane) for plane in planes_of(frame)]


class RifeMethod:
    """The RIFE network for frames of any size; its time is the network's only."""

    def __init__(self) -> None:
        BASELINES_FOLDER.mkdir(parents=True, exist_ok=True)
        self._sizes: dict[tuple[int, ...], Rife] = {}

    def prepare(self, shape: tuple[int, ...]) -> Rife:
        """Return the network compiled for a size."""
        if shape not in self._sizes:
            for old in self._sizes.values():
                old.close()
            # f32, so that its quality does not depend on our precision.
            self._sizes = {shape: Rife(shape[0], shape[1], BASELINES_FOLDER, precision="f32")}
        return self._sizes[shape]


def methods_of(model: Interpolator, names: Sequence[str]) -> dict[str, Method]:
    """Return the requested methods that work on planes."""
    available: dict[str, Method] = {
        OURS: lambda before, after: model.between(before, after).at(0.5),
        "averaged_flow": averaged_flow,
        "blend": blend,
    }
    return {name: available[name] for name in names if name in available}


def measure(
    model: Interpolator,
    triplets: Iterator[Triplet],
    names: Sequence[str],
    sheet: Path | None = None,
) -> dict[str, Any]:
    """Return every figure of every method over the triplets."""
    methods = methods_of(model, names)
    rife = RifeMethod() if RIFE in names else None
    scores: dict[tuple[str, str, str], Scores] = defaultdict(Scores)
    worst_cases = _Worst(sheet)
    for number, triplet in enumerate(triplets):
        truth = planes_to_rgb(triplet.middle)
        made: dict[str, Rgb] = {}
        for name, (frame, taken) in _made(methods, rife, triplet).items():
            line = scores[name, triplet.group, triplet.clip]
            line.psnr.append(psnr(frame, truth))
            line.ssim.append(ssim(_luma(frame), _luma(truth)))
            line.gmsd.append(gmsd(frame, truth))
            line.milliseconds.append(taken)
            made[name] = frame
        worst_cases.offer(triplet, truth, made)
        if number % TEXT_EVERY == 0:
            burnt, inside = with_text(triplet)
            wanted = planes_to_rgb(burnt.middle).astype(np.float32)
            for name, (frame, _) in _made(methods, rife, burnt).items():
                error = float(np.abs(frame - wanted)[inside].mean())
                scores[name, triplet.group, triplet.clip].text_error.append(error)
    worst_cases.write()
    return _summary(scores)


def _luma(frame: Rgb) -> Rgb:
    return cast("Rgb", cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))


def _made(
    methods: dict[str, Method], rife: RifeMethod | None, triplet: Triplet
) -> dict[str, tuple[Rgb, float]]:
    """Return each method's result for a triplet, and the milliseconds it took."""
    made = {}
    for name, method in methods.items():
        began = time.perf_counter()
        planes = method(triplet.before, triplet.after)
        taken = 1e3 * (time.perf_counter() - began)
        made[name] = planes_to_rgb(planes), taken
    if rife is not None:
        before, after = planes_to_rgb(triplet.before), planes_to_rgb(triplet.after)
        network = rife.prepare(before.shape[:2])
        began = time.perf_counter()
        frame = network(before, after)
        made[RIFE] = frame, 1e3 * (time.perf_counter() - began)
    return made


def with_text(triplet: Triplet) -> tuple[Triplet, NDArray[np.bool_]]:
    """Return the triplet with a clock burnt into every frame, and the clock's mask."""
    height, width = triplet.before[0].shape
    size = height / 480
    at = (round(0.05 * width), round(0.9 * height))
    ink = np.zeros((height, width), np.uint8)
    cv2.putText(ink, TEXT, at, cv2.FONT_HERSHEY_SIMPLEX, size, 255, max(1, round(2 * size)))
    edge = cv2.dilate(ink, np.ones((3, 3), np.uint8))
    three = []
    for planes in (triplet.before, triplet.middle, triplet.after):
        luma = planes[0].copy()
        luma[edge > 0] = 16
        luma[ink > 0] = 235
        three.append([luma, *planes[1:]])
    return Triplet(triplet.group, triplet.clip, *three), edge > 0


def _summary(scores: dict[tuple[str, str, str], Scores]) -> dict[str, Any]:
    """Return ours at the top level, and every method by group and overall."""
    groups = sorted({group for _, group, _ in scores})
    names = sorted({name for name, _, _ in scores})
    methods = {
        name: {
            "overall": _figures([s for (n, _, _), s in scores.items() if n == name]),
            **{
                group: _figures([s for (n, g, _), s in scores.items() if (n, g) == (name, group)])
                for group in groups
            },
        }
        for name in names
    }
    clips: dict[str, dict[str, float]] = defaultdict(dict)
    for (name, _, clip), line in scores.items():
        clips[clip][name] = round(float(np.mean(line.psnr)), 3)
    result: dict[str, Any] = {}
    if OURS in methods:
        result |= methods[OURS]["overall"]
    result |= {"methods": methods, "clips": clips}
    if OURS in methods and RIFE in methods:
        result["psnr_above_rife"] = {group: _above(scores, group) for group in ["overall", *groups]}
    return result


def _figures(lines: Sequence[Scores]) -> dict[str, float]:
    """Return means over clips, and the mean of the worst triplets."""
    every = np.sort(np.concatenate([line.psnr for line in lines]))
    worst = every[: max(1, round(WORST_SHARE * len(every)))]
    texts = [float(np.mean(line.text_error)) for line in lines if line.text_error]
    return {
        "psnr": float(np.mean([np.mean(line.psnr) for line in lines])),
        "ssim": float(np.mean([np.mean(line.ssim) for line in lines])),
        "gmsd": float(np.mean([np.mean(line.gmsd) for line in lines])),
        "milliseconds": float(np.median(list(itertools.chain(*(x.milliseconds for x in lines))))),
        "worst_psnr": float(worst.mean()),
        "text_error": float(np.mean(texts)) if texts else float("nan"),
        "triplets": len(every),
    }


def _above(scores: dict[tuple[str, str, str], Scores], group: str) -> dict[str, float]:
    """Return our PSNR minus RIFE's, with its 95 % bootstrap interval over clips."""
    apart = [
        float(np.mean(np.array(line.psnr) - scores[RIFE, g, clip].psnr))
        for (name, g, clip), line in scores.items()
        if name == OURS and group in {"overall", g}
    ]
    mean = float(np.mean(apart))
    low, high = bootstrap_ci(
        apart, lambda drawn: {"mean": float(np.mean(drawn))}, draws=RESAMPLINGS
    ).get("mean", (mean, mean))
    return {"mean": mean, "low": low, "high": high}


class _Worst:
    """Keeps the worst triplet of each clip, and those where RIFE is most ahead."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._worst: dict[tuple[str, str], tuple[float, NDArray[np.uint8]]] = {}

    def offer(self, triplet: Triplet, truth: Rgb, made: dict[str, Rgb]) -> None:
        if self._folder is None or OURS not in made:
            return
        ours = psnr(made[OURS], truth)
        ranks = {"worst": ours}
        if RIFE in made:
            ranks["behind"] = ours - psnr(made[RIFE], truth)
        for kind, rank in ranks.items():
            if rank < self._worst.get((kind, triplet.clip), (np.inf, truth))[0]:
                self._worst[kind, triplet.clip] = rank, self._row(triplet, truth, made)

    def write(self) -> None:
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        for (kind, clip), (rank, row) in self._worst.items():
            name = f"{kind}-{Path(clip).stem}-{rank:.1f}.png"
            cv2.imwrite(str(self._folder / name), row[..., ::-1])

    @staticmethod
    def _row(triplet: Triplet, truth: Rgb, made: dict[str, Rgb]) -> NDArray[np.uint8]:
        """Return rows of images: before, truth, after; each method; four times its error."""
        first = [planes_to_rgb(triplet.before), truth, planes_to_rgb(triplet.after)]
        shown = [made[name] for name in (OURS, RIFE, "averaged_flow") if name in made]
        errors = [
            np.clip(4 * np.abs(frame.astype(np.int16) - truth), 0, 255).astype(np.uint8)
            for frame in shown
        ]
        rows = [first, *([*each, *[truth * 0] * (3 - len(each))] for each in (shown, errors))]
        return cast("NDArray[np.uint8]", np.vstack([np.hstack(row) for row in rows]))


def main() -> None:
    """Read the command line, evaluate, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = (OURS, RIFE, "averaged_flow", "blend")
    parser.add_argument("--model", type=Path, help="an ONNX file; default: the shipped one")
    parser.add_argument("--triplets", type=Path, help="a CSV with before, middle, after")
    parser.add_argument("--each", type=int, default=EACH, help="triplets per development clip")
    parser.add_argument("--methods", nargs="+", choices=every, default=every)
    parser.add_argument("--precision", choices=["f32", "bf16"])
    parser.add_argument("--sheet", type=Path, help="folder for images of the worst cases")
    parser.add_argument("--json", action="store_true", help="print one JSON object only")
    a = parser.parse_args()
    model = open_interpolator(a.model, precision=a.precision)
    triplets = listed(a.triplets) if a.triplets else development(a.each)
    names = list(a.methods)
    try:
        result = measure(model, triplets, names, a.sheet)
    except ModuleNotFoundError:  # RIFE is not installed
        triplets = listed(a.triplets) if a.triplets else development(a.each)
        result = measure(model, triplets, [n for n in names if n != RIFE], a.sheet)
    result["engine"] = model.backend
    print(json.dumps(result) if a.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
