"""Trains the smoke network: `python -m engines.smoke.train`.

Steps are numbered and every sample follows from its number, so a run that is killed goes on where
its last checkpoint stands and sees what it would have seen. The weights that count are the moving
average; after every `--check` steps they are measured on the development views.
"""

# ruff: noqa: PLR2004  limits of what is measured stand where they act
from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from engines.smoke.data import (
    Still,
    digest_of,
    in_part,
    read_still,
    training_rows,
)
from engines.smoke.network import SmokeNetwork, prepare
from engines.smoke.synthesis import Sample, SampleMaker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CODE = ("network.py", "data.py", "synthesis.py", "train.py", "densities.py", "plume.py")
"""Files whose digest goes into the checkpoint."""
KEEP = 0.998
"""Share of the old in the moving average of the weights, at the end."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides the outcome of a training run."""

    steps: int
    """Steps in all."""
    batch: int = 12
    """Samples a step."""
    height: int = 320
    """Of a sample; plumes and their surroundings at about the size they are looked at."""
    width: int = 512
    """Of a sample."""
    rate: float = 3e-3
    """Highest learning rate; a short rise, then a cosine to nothing."""
    seed: int = 1
    """Of weights and samples."""


class Stream(Dataset[tuple[Tensor, ...]]):
    """Samples number `first` and on, as tensors."""

    def __init__(self, maker: SampleMaker, *, first: int, count: int) -> None:
        self._maker, self._first, self._count = maker, first, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return _tensors(self._maker.sample(self._first + index))


def _tensors(sample: Sample) -> tuple[Tensor, ...]:
    return (
        torch.from_numpy(sample.image),
        torch.from_numpy(sample.background),
        torch.tensor(float(sample.has_background)),
        torch.from_numpy(sample.target),
        torch.tensor(float(sample.mask_known)),
        torch.tensor(float(sample.smoke)),
    )


def read_densities(path: Path) -> list[NDArray[np.uint8]]:
    """Plume densities, made by `synthesis.py`; none where the file is missing."""
    if not path.is_file():
        return []
    with np.load(path) as bank:
        return [bank[name] for name in bank.files]


def loss_of(
    logits: Tensor, picture: Tensor, target: Tensor, mask_known: Tensor, smoke: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Loss of a batch: mask (n, 1, h, w) against target (n, h, w), 0 to 1, and pictures' labels."""
    mask = logits[:, 0].float()
    each = functional.binary_cross_entropy_with_logits(mask, target, reduction="none").flatten(1)
    wanted = target.flatten(1)
    # Smoke is rare and missing it is worse than a mask too wide.
    each = each * (1 + 2 * wanted)
    # Relative to the plume's own size, and to 1 % of the picture at least: a far plume of thirty
    # cells weighs as much as a picture full of smoke.
    relative = each.mean(1) / (wanted.mean(1) + 0.01)
    chance = torch.sigmoid(mask).flatten(1)
    overlap = (2 * (chance * wanted).sum(1) + 20) / (
        chance.square().sum(1) + wanted.square().sum(1) + 20
    )
    has_smoke = (wanted.amax(1) > 0.3).float()
    # A false alarm is one confident spot: on clear pictures the worst 0.2 % count by themselves.
    worst = each.topk(max(1, each.shape[1] // 500), dim=1).values.mean(1)
    per_picture = 0.3 * relative + has_smoke * (1 - overlap) + 0.2 * (1 - has_smoke) * worst
    mask_loss = (per_picture * mask_known).sum() / mask_known.sum().clamp(min=1)
    # Where only the label is known: somewhere there is smoke, so the highest 2 % must say so.
    peak = mask.flatten(1).topk(max(1, mask[0].numel() // 50), dim=1).values.mean(1)
    weak = 1 - mask_known
    weak_loss = (functional.softplus(-peak) * weak).sum() / max(len(weak), 1)
    picture_loss = functional.binary_cross_entropy_with_logits(picture.float(), smoke)
    total = mask_loss + weak_loss + 0.25 * picture_loss
    return total, {
        "loss": float(total.detach()),
        "mask": float(mask_loss.detach()),
        "picture": float(picture_loss.detach()),
    }


def measure(network: SmokeNetwork, stills: Sequence[Still]) -> dict[str, float]:
    """Pooled IoU, recall by size and clear pictures called smoke, at 0.5, without background."""
    network.eval()
    inter = union = 0.0
    found: dict[str, list[bool]] = {"small": [], "middle": [], "large": [], "clear": []}
    for still in stills:
        if still.row.smoke and still.mask is None:
            continue
        height, width = (side // 32 * 32 for side in still.image.shape[:2])
        image = torch.from_numpy(
            cv2.resize(still.image, (width, height), interpolation=cv2.INTER_AREA)
        )
        with torch.no_grad():
            logits, _ = network(prepare(image[None], image[None], torch.zeros(1)))
        said = (logits[0, 0] > 0).numpy()
        if still.mask is None:
            found["clear"].append(int(said.sum()) >= 8)
            continue
        truth = (
            cv2.resize(still.mask, (width // 2, height // 2), interpolation=cv2.INTER_AREA) > 127
        )
        inter += float((said & truth).sum())
        union += float((said | truth).sum())
        share = float(truth.mean())
        size = "small" if share < 0.002 else "middle" if share < 0.01 else "large"
        found[size].append(bool((said & truth).sum() >= 0.1 * truth.sum()))
    shares = {name: float(np.mean(values)) for name, values in found.items() if values}
    return {"iou": inter / max(union, 1), **shares}


class Training:
    """A run: network, its moving average, optimiser, and where it stands."""

    def __init__(self, recipe: Recipe, folder: Path, *, begin: Path | None) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.folder, self.step = recipe, folder, 0
        self.network = SmokeNetwork().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=recipe.rate, weight_decay=1e-2
        )
        self._path = folder / "checkpoint.pt"
        if self._path.is_file():
            state = torch.load(self._path, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step = state["step"]
        elif begin is not None:
            weights = torch.load(begin, weights_only=True)["average"]
            self.network.load_state_dict(weights)
            self.average.load_state_dict(weights)

    def save(self, **facts: Any) -> None:
        """Replace the checkpoint in one move: a kill leaves the old or the new one."""
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            **facts,
        }
        torch.save(state, part := self._path.with_suffix(".part"))
        part.replace(self._path)

    def learn(self, batch: Sequence[Tensor]) -> dict[str, float]:
        """One step."""
        image, background, flag, target, known, smoke = batch
        rise = min(1.0, (self.step + 1) / 200)
        fall = 0.5 * (1 + math.cos(math.pi * self.step / self.recipe.steps))
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate * rise * max(fall, 0.005)
        self.network.train()
        x = prepare(image, background, flag)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, picture = self.network(x)
        loss, parts = loss_of(logits, picture, target.float() / 255, known, smoke)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.step += 1
        self._follow()
        return {**parts, "gradient": float(norm)}

    def _follow(self) -> None:
        keep = min(KEEP, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mine, theirs in zip(
                self.average.state_dict().values(), self.network.state_dict().values(), strict=True
            ):
                if mine.is_floating_point():
                    mine.lerp_(theirs, 1 - keep)
                else:
                    mine.copy_(theirs)


def code_digest() -> str:
    """One digest of the code that decides what is learnt, whatever its layout and comments."""
    digest = hashlib.sha256()
    for name in CODE:
        source = Path(__file__).with_name(name).read_text(encoding="utf-8")
        digest.update(ast.dump(ast.parse(source)).encode())
    return digest.hexdigest()


def draw_curves(log: Path, picture: Path) -> None:
    """Draw the log's loss and development figures over the steps."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    last = max((line["step"] for line in lines), default=1)
    canvas = np.full((420, 800, 3), 255, np.uint8)
    curves = [
        ("loss", 3.0),
        ("iou", 1.0),
        ("small", 1.0),
        ("middle", 1.0),
        ("large", 1.0),
        ("clear", 1.0),
    ]
    for number, (name, top) in enumerate(curves):
        points = [(line["step"], line[name]) for line in lines if name in line]
        colour = cv2.applyColorMap(np.full((1, 1), number * 40, np.uint8), cv2.COLORMAP_TURBO)[0, 0]
        colour = [int(part) for part in colour]
        at = [(40 + 740 * s // last, round(390 - 360 * min(v / top, 1))) for s, v in points]
        if at:
            cv2.polylines(
                canvas,
                [np.array(at, np.int32)],
                isClosed=False,
                color=colour,
                thickness=1,
                lineType=cv2.LINE_AA,
            )
        cv2.putText(
            canvas,
            f"{name} (0-{top:g})",
            (50 + 120 * number, 410),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.4,
            colour,
            1,
            cv2.LINE_AA,
        )
    cv2.imwrite(str(picture), canvas)


def train(
    recipe: Recipe, folder: Path, *, begin: Path | None, densities: Path, check: int, workers: int
) -> None:
    """Train until `recipe.steps`, going on from the folder's checkpoint if there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    # Workers are forks: a thread pool of OpenCV's made before would stand still in them for ever.
    cv2.setNumThreads(0)
    rows = training_rows()
    ours = in_part(rows, "train")
    stills = [read_still(row) for row in ours]
    unseen = [
        read_still(row)
        for row in in_part(rows, "development")
        if row.source in {"smoke5k_real", "hpwren_aiformankind"}
    ]
    maker = SampleMaker(
        stills, read_densities(densities), size=(recipe.height, recipe.width), seed=recipe.seed
    )
    run = Training(recipe, folder, begin=begin)
    left = recipe.steps - run.step
    loader = DataLoader(
        Stream(maker, first=run.step * recipe.batch, count=left * recipe.batch),
        batch_size=recipe.batch,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    facts = {"data": digest_of(ours), "code": code_digest()}
    log = folder / "log.jsonl"
    began, sums, count = time.monotonic(), dict[str, float](), 0
    for batch in loader:
        for name, value in run.learn(batch).items():
            sums[name] = sums.get(name, 0.0) + value
        count += 1
        if run.step % 100 and run.step != recipe.steps:
            continue
        line: dict[str, Any] = {
            "step": run.step,
            **{name: value / count for name, value in sums.items()},
        }
        line["ms_per_step"] = round((time.monotonic() - began) / count * 1000)
        if run.step % check == 0 or run.step == recipe.steps:
            line |= measure(run.average, unseen)
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
        run.save(**facts)
        draw_curves(log, folder / "curves.png")
        began, sums, count = time.monotonic(), {}, 0


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/smoke"), help="checkpoints, log, curves"
    )
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--size", type=int, nargs=2, default=[320, 512], help="height, width")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--begin", type=Path, help="a checkpoint whose weights to begin with")
    parser.add_argument("--densities", type=Path, default=Path("runs/densities.npz"))
    parser.add_argument("--check", type=int, default=1000, help="measure after so many steps")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    a = parser.parse_args()
    height, width = a.size
    recipe = Recipe(a.steps, a.batch, height=height, width=width, rate=a.rate, seed=a.seed)
    train(recipe, a.folder, begin=a.begin, densities=a.densities, check=a.check, workers=a.workers)


if __name__ == "__main__":
    main()
