"""Measures interpolation: `python -m engines.interpolation.evaluate --json`.

Every second frame is dropped and predicted from its neighbours. Everything runs on 4:2:0 planes,
as video has them; pictures of a list are turned into such planes first, and every method is given
the same. PSNR is over red, green and blue, SSIM and the gradient deviation (GMSD, a perceptual
distance) over luma; means are over clips first.

Two of the methods are ours: what a CPU runs, and the whole network of the GPU way, here on the CPU.

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
from engines.interpolation.model import WHOLE, Interpolator, open_interpolator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Plane = NDArray[np.uint8]
    Rgb = NDArray[np.uint8]

OURS, OURS_WHOLE, PEER = "ours", "whole", "rife"
LARGE, SMALL = "large motion (davis480p_val)", "clips"
"""Sets of the development material."""
EACH = 24
"""Triplets of a development clip, evenly spread."""
TEXT_EVERY = 4
"""Every so many triplets are measured again with text burnt in."""
TEXT = "2026-11-21 17:05:42"
WORST_SHARE = 0.05
RESAMPLINGS = 2000
PEERS_FOLDER = Path("runs/interpolation/peers")


@dataclass(frozen=True, slots=True, eq=False)
class Triplet:
    """Two pictures and the one between, as planes."""

    group: str
    """The set it belongs to."""
    clip: str
    before: list[Plane]
    middle: list[Plane]
    after: list[Plane]


@dataclass(slots=True)
class Scores:
    """What one method got, triplet by triplet."""

    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    gmsd: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)
    text_error: list[float] = field(default_factory=list)
    """Mean difference in bytes within the burnt-in text."""


def development(each: int) -> Iterator[Triplet]:
    """Triplets of the held-out clips."""
    for clip in held_out():
        frames = clip.frames()
        firsts = range(0, len(frames) - 2, 2)
        group = LARGE if "davis" in clip.name else SMALL
        for first in firsts[:: max(1, len(firsts) // each)][:each]:
            three = [_planes(np.asarray(frames[first + step])) for step in range(3)]
            yield Triplet(group, clip.name, *three)


def listed(path: Path) -> Iterator[Triplet]:
    """Triplets of a CSV with before, middle, after.

    Raises:
        OSError: A picture is missing.
    """
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            files = [path.parent / row[name] for name in ("before", "middle", "after")]
            three = [_planes(from_rgb(read_rgb(each))) for each in files]
            yield Triplet(row.get("set") or path.stem, str(files[1].parent), *three)


def _planes(frame: Plane) -> list[Plane]:
    return [np.ascontiguousarray(plane) for plane in planes_of(frame)]


class RifeMethod:
    """The RIFE network between planes: its time is the network's alone."""

    def __init__(self) -> None:
        PEERS_FOLDER.mkdir(parents=True, exist_ok=True)
        self._sizes: dict[tuple[int, ...], Rife] = {}

    def prepare(self, shape: tuple[int, ...]) -> Rife:
        """The network for that size."""
        if shape not in self._sizes:
            for old in self._sizes.values():
                old.close()
            # f32: its quality is not to suffer from our arithmetic.
            self._sizes = {shape: Rife(shape[0], shape[1], PEERS_FOLDER, precision="f32")}
        return self._sizes[shape]


def methods_of(model: Interpolator, names: Sequence[str]) -> dict[str, Method]:
    """The methods asked for that work on planes."""

    def by(network: Interpolator) -> Method:
        return lambda before, after: network.between(before, after).at(0.5)

    known: dict[str, Method] = {OURS: by(model), "averaged_flow": averaged_flow, "blend": blend}
    if OURS_WHOLE in names:
        known[OURS_WHOLE] = by(open_interpolator(WHOLE, device="cpu", precision="f32", prove=False))
    return {name: known[name] for name in names if name in known}


def measure(
    model: Interpolator,
    triplets: Iterator[Triplet],
    names: Sequence[str],
    sheet: Path | None = None,
) -> dict[str, Any]:
    """Every figure of every method over the triplets."""
    methods = methods_of(model, names)
    rife = RifeMethod() if PEER in names else None
    scores: dict[tuple[str, str, str], Scores] = defaultdict(Scores)
    kept = _Worst(sheet)
    for number, triplet in enumerate(triplets):
        truth = planes_to_rgb(triplet.middle)
        made: dict[str, Rgb] = {}
        for name, (picture, taken) in _made(methods, rife, triplet).items():
            line = scores[name, triplet.group, triplet.clip]
            line.psnr.append(psnr(picture, truth))
            line.ssim.append(ssim(_luma(picture), _luma(truth)))
            line.gmsd.append(gmsd(picture, truth))
            line.milliseconds.append(taken)
            made[name] = picture
        kept.offer(triplet, truth, made)
        if number % TEXT_EVERY == 0:
            burnt, inside = with_text(triplet)
            wanted = planes_to_rgb(burnt.middle).astype(np.float32)
            for name, (picture, _) in _made(methods, rife, burnt).items():
                error = float(np.abs(picture - wanted)[inside].mean())
                scores[name, triplet.group, triplet.clip].text_error.append(error)
    kept.write()
    return _summary(scores)


def _luma(picture: Rgb) -> Rgb:
    return cast("Rgb", cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))


def _made(
    methods: dict[str, Method], rife: RifeMethod | None, triplet: Triplet
) -> dict[str, tuple[Rgb, float]]:
    """What each method makes of a triplet, with the milliseconds it took."""
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
        picture = network(before, after)
        made[PEER] = picture, 1e3 * (time.perf_counter() - began)
    return made


def with_text(triplet: Triplet) -> tuple[Triplet, NDArray[np.bool_]]:
    """The triplet with a clock burnt into every picture, and where it is."""
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
    """Ours at the top level, every method by its name, each set and over all."""
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
    if OURS in methods and PEER in methods:
        result["psnr_above_rife"] = {group: _above(scores, group) for group in ["overall", *groups]}
    return result


def _figures(lines: Sequence[Scores]) -> dict[str, float]:
    """Means over clips, and the mean of the worst triplets."""
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
    """Our PSNR less the peer's, with the interval of 95 % over clips drawn again."""
    apart = [
        float(np.mean(np.array(line.psnr) - scores[PEER, g, clip].psnr))
        for (name, g, clip), line in scores.items()
        if name == OURS and group in {"overall", g}
    ]
    mean = float(np.mean(apart))
    low, high = bootstrap_ci(
        apart, lambda drawn: {"mean": float(np.mean(drawn))}, draws=RESAMPLINGS
    ).get("mean", (mean, mean))
    return {"mean": mean, "low": low, "high": high}


class _Worst:
    """Keeps the worst case of each clip, and those where the peer is most ahead, for a sheet."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._worst: dict[tuple[str, str], tuple[float, NDArray[np.uint8]]] = {}

    def offer(self, triplet: Triplet, truth: Rgb, made: dict[str, Rgb]) -> None:
        if self._folder is None or OURS not in made:
            return
        ours = psnr(made[OURS], truth)
        ranks = {"worst": ours}
        if PEER in made:
            ranks["behind"] = ours - psnr(made[PEER], truth)
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
        """Before, truth, after; then each method; then four times each method's error."""
        first = [planes_to_rgb(triplet.before), truth, planes_to_rgb(triplet.after)]
        shown = [made[name] for name in (OURS, PEER, "averaged_flow") if name in made]
        errors = [
            np.clip(4 * np.abs(picture.astype(np.int16) - truth), 0, 255).astype(np.uint8)
            for picture in shown
        ]
        rows = [first, *([*each, *[truth * 0] * (3 - len(each))] for each in (shown, errors))]
        return cast("NDArray[np.uint8]", np.vstack([np.hstack(row) for row in rows]))


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = (OURS, OURS_WHOLE, PEER, "averaged_flow", "blend")
    parser.add_argument("--model", type=Path, help="a network; the shipped one if left out")
    parser.add_argument("--triplets", type=Path, help="a CSV with before, middle, after")
    parser.add_argument("--each", type=int, default=EACH, help="triplets of a development clip")
    parser.add_argument("--methods", nargs="+", choices=every, default=every)
    parser.add_argument("--precision", choices=["f32", "bf16"])
    parser.add_argument("--sheet", type=Path, help="a folder for pictures of the worst cases")
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    a = parser.parse_args()
    model = open_interpolator(a.model, device="cpu", precision=a.precision)
    triplets = listed(a.triplets) if a.triplets else development(a.each)
    names = list(a.methods)
    try:
        result = measure(model, triplets, names, a.sheet)
    except ModuleNotFoundError:  # the peer is not installed
        triplets = listed(a.triplets) if a.triplets else development(a.each)
        result = measure(model, triplets, [n for n in names if n != PEER], a.sheet)
    result["engine"] = model.backend
    print(json.dumps(result) if a.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
