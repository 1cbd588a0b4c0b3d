"""Train the smoke networks: `python -m engines.smoke.train`.

The averaged weights are evaluated on the development views after every `--check` steps; the best
are written to `best.pt`. A network may be distilled from another one (`--teacher`).
"""

# ruff: noqa: PLR2004  limits of what is measured stand where they act
from __future__ import annotations

import argparse
import json
import os
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
from engines.common.encoder import Encoder, imagenet_weights
from engines.smoke.data import (
    LabelledImage,
    digest_of,
    entries_of,
    read_labelled,
    training_entries,
)
from engines.smoke.densities import read_densities
from engines.smoke.network import MASK_STRIDE, NETWORKS, Logits, Planes, prepare
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
    "../common/encoder.py",
    "../common/training.py",
)
"""Files whose digest goes into the checkpoint."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Parameters that decide the outcome of a training run."""

    network: str
    """One of `NETWORKS`."""
    steps: int
    """Number of steps."""
    batch: int = 12
    """Samples per step."""
    height: int = 320
    """Height of a sample: plumes and their surroundings at about the scale of inference."""
    width: int = 512
    """Width of a sample."""
    rate: float = 3e-3
    """Peak learning rate; a pretrained encoder gets a third of it."""
    seed: int = 1
    """Seed of weights and samples."""
    kinds: tuple[str, ...] = KINDS
    """Kinds of samples; see `synthesis.SampleMaker`."""


class Stream(Dataset[tuple[Tensor, ...]]):
    """Samples from number `first` on, as tensors."""

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
        torch.tensor(float(sample.has_mask)),
        torch.tensor(float(sample.smoke)),
    )


def loss_of(
    logits: Logits, target: Tensor, has_mask: Tensor, smoke: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of a batch and its terms.

    Args:
        logits: Output of the network.
        target: (n, h, w) soft masks, 0 to 1.
        has_mask: (n,) 1 where the mask is known, 0 where only the label of the image is.
        smoke: (n,) label of the image, 0 or 1.
    """
    mask = logits.mask[:, 0].float()
    each = functional.binary_cross_entropy_with_logits(mask, target, reduction="none").flatten(1)
    wanted = target.flatten(1)
    # Smoke is rare, and missing it is worse than a mask that is too wide.
    each = each * (1 + 2 * wanted)
    # Relative to the plume's size, and to 1 % of the image at least: a distant plume of thirty
    # cells weighs as much as an image full of smoke.
    relative = each.mean(1) / (wanted.mean(1) + 0.01)
    probability = torch.sigmoid(mask).flatten(1)
    overlap = (2 * (probability * wanted).sum(1) + 20) / (
        probability.square().sum(1) + wanted.square().sum(1) + 20
    )
    has_smoke = (wanted.amax(1) > 0.3).float()
    # A false alarm is one confident spot: on clear images the worst 0.2 % of pixels count extra.
    worst = each.topk(max(1, each.shape[1] // 500), dim=1).values.mean(1)
    per_image = 0.3 * relative + has_smoke * (1 - overlap) + 0.2 * (1 - has_smoke) * worst
    mask_loss = (per_image * has_mask).sum() / has_mask.sum().clamp(min=1)
    # With an image label only, the highest 2 % of pixels must be smoke.
    peak = mask.flatten(1).topk(max(1, mask[0].numel() // 50), dim=1).values.mean(1)
    weak = 1 - has_mask
    weak_loss = (functional.softplus(-peak) * weak).sum() / max(len(weak), 1)
    score_loss = functional.binary_cross_entropy_with_logits(logits.image_score.float(), smoke)
    total = mask_loss + weak_loss + 0.25 * score_loss
    return total, {"loss": total, "mask": mask_loss, "image_score": score_loss}


def distillation_target(target: Tensor, smoke: Tensor, teacher: Logits) -> Tensor:
    """Return the mean of drawn mask and teacher's mask where there is smoke, else the drawn mask.

    A drawn mask is an outline; the teacher's mask follows the density.
    """
    predicted = torch.sigmoid(teacher.mask[:, 0].float())
    return target + 0.5 * smoke[:, None, None] * (predicted - target)


def measure(network: nn.Module, images: Sequence[LabelledImage]) -> dict[str, float]:
    """Return pooled IoU, recall by size and false positive rate at 0.5, without background."""
    network.eval()
    device = next(network.parameters()).device
    inter = union = 0.0
    found: dict[str, list[bool]] = {"small": [], "middle": [], "large": [], "clear": []}
    for labelled in images:
        if labelled.entry.smoke and labelled.mask is None:
            continue
        height, width = (side // 32 * 32 for side in labelled.image.shape[:2])
        image = torch.from_numpy(
            cv2.resize(labelled.image, (width, height), interpolation=cv2.INTER_AREA)
        )
        with torch.no_grad():
            planes = prepare(image[None], image[None], torch.zeros(1))
            logits = network(Planes(*(each.to(device) for each in planes)))
        predicted = (logits.mask[0, 0] > 0).cpu().numpy()
        if labelled.mask is None:
            found["clear"].append(int(predicted.sum()) >= 8)
            continue
        size = (width // MASK_STRIDE, height // MASK_STRIDE)
        actual = cv2.resize(labelled.mask, size, interpolation=cv2.INTER_AREA) > 127
        inter += float((predicted & actual).sum())
        union += float((predicted | actual).sum())
        share = float(actual.mean())
        name = "small" if share < 0.002 else "middle" if share < 0.01 else "large"
        found[name].append(bool((predicted & actual).sum() >= 0.1 * actual.sum()))
    shares = {name: float(np.mean(values)) for name, values in found.items() if values}
    return {"iou": inter / max(union, 1), **shares}


class Training:
    """A training run of one smoke network; see `TrainingRun` for checkpoint and resume."""

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
        self.recipe = recipe
        self.device = torch.device(device)
        network = NETWORKS[recipe.network]()
        if (encoder := _encoder_of(network)) is not None:
            encoder.load_pretrained(imagenet_weights())
        network = network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.run = training.TrainingRun(
            network,
            torch.optim.AdamW(_groups(network, recipe.rate), weight_decay=1e-2),
            folder,
            schedule=training.cosine_schedule(
                lambda step, _: step / recipe.steps, warmup_steps=200, floor=0.005
            ),
            max_gradient_norm=5.0,
            average_buffers=True,
        )
        if begin is not None and not self.run.resumed:
            state = torch.load(begin, map_location=self.device, weights_only=True)
            self.run.start_from(state["average"])
        self._teacher = read_network(teacher).to(self.device) if teacher is not None else None

    def train_step(self, batch: Sequence[Tensor]) -> float:
        """Make one step; return the loss before it."""
        image, background, flag, target, has_mask, smoke = (
            each.to(self.device, non_blocking=True) for each in batch
        )
        self.run.network.train()
        planes = prepare(image, background, flag)
        wanted = target.float() / 255
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            logits = self.run.network(planes)
            if self._teacher is not None:
                with torch.no_grad():
                    wanted = distillation_target(wanted, smoke, self._teacher(planes))
        loss, terms = loss_of(logits, wanted, has_mask, smoke)
        self.run.optimize(loss, terms)
        return float(loss.detach())


def _groups(network: nn.Module, rate: float) -> list[dict[str, Any]]:
    """Return parameter groups with their peak learning rates."""
    encoder = _encoder_of(network)
    if encoder is None:
        return [{"params": list(network.parameters()), "lr": rate}]
    pretrained = {id(parameter) for parameter in encoder.parameters()}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in pretrained]
    return [
        {"params": rest, "lr": rate},
        {"params": [p for p in encoder.parameters() if p.requires_grad], "lr": rate / 3},
    ]


def _encoder_of(network: nn.Module) -> Encoder | None:
    return next((part for part in network.modules() if isinstance(part, Encoder)), None)


def read_network(checkpoint: Path) -> nn.Module:
    """Return the averaged network of a checkpoint in evaluation mode."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    network = NETWORKS[state["name"]]()
    network.load_state_dict(state["average"])
    return network.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def code_digest() -> str:
    """Return the digest of the code that decides what is learned."""
    return training.code_digest(Path(__file__).parent, CODE)


def draw_curves(log: Path, image: Path) -> None:
    """Draw loss and development figures of a log over the steps."""
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
    cv2.imwrite(str(image), canvas)


def score_of(measured: dict[str, float]) -> float:
    """Return IoU plus mean recall minus false positive rate: what checkpoints are chosen by."""
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
    """Train for `recipe.steps`, resuming from the folder's checkpoint if there is one."""
    # Workers are forked: OpenCV's thread pool, if it was started before, would deadlock in them.
    cv2.setNumThreads(0)
    entries = training_entries()
    chosen = entries_of(entries, "train")
    development = [
        read_labelled(entry)
        for entry in entries_of(entries, "development")
        if entry.source in {"smoke5k_real", "hpwren_aiformankind"}
    ]
    maker = SampleMaker(
        [read_labelled(entry) for entry in chosen],
        read_densities(densities),
        size=(recipe.height, recipe.width),
        seed=recipe.seed,
        kinds=recipe.kinds,
    )
    trainer = Training(recipe, folder, begin=begin, teacher=teacher, device=device)
    run = trainer.run
    left = recipe.steps - run.step
    loader = DataLoader(
        Stream(maker, first=run.step * recipe.batch, count=left * recipe.batch),
        batch_size=recipe.batch,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=device != "cpu",
    )
    facts = {"name": recipe.network, "data": digest_of(chosen), "code": code_digest()}
    for batch in loader:
        trainer.train_step(batch)
        if run.step % 100 and run.step != recipe.steps:
            continue
        figures: dict[str, float] = {}
        if run.step % check == 0 or run.step == recipe.steps:
            figures = measure(run.average, development)
            figures["score"] = score_of(figures)
            run.save_if_best(figures["score"], **facts)
        print(json.dumps(run.log(**figures)), flush=True)
        run.save(**facts)
        draw_curves(folder / "log.jsonl", folder / "curves.png")


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
