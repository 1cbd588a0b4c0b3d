"""Train the fusion network: `python -m engines.interpolation.train`.

The learning rate falls over the given minutes, which are stored in the checkpoint like the steps.
The averaged weights are evaluated and exported.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from engines.common import training
from engines.interpolation.data import digest_of, training_clips
from engines.interpolation.losses import WEIGHTS, collate, loss_terms
from engines.interpolation.network import FusionNet
from engines.interpolation.samples import Sampler

FOLDER = Path("runs/interpolation/fusion")
"""Default folder of the checkpoint."""
CODE = (
    "network.py", "data.py", "samples.py", "flow.py", "warp_fields.py", "downscale.py",
    "warp_blend.py", "losses.py", "train.py", "../common/training.py",
)  # fmt: skip
"""Files whose digest goes into the checkpoint."""
SAVE_INTERVAL_S = 60.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Parameters that decide the outcome of a training run."""

    minutes: float = 30.0
    batch: int = 12
    rate: float = 2e-3
    seed: int = 1


class _Samples(Dataset[Any]):
    """Samples by number, from number `first` on."""

    def __init__(self, seed: int, first: int) -> None:
        self._seed, self._first = seed, first
        self._sampler: Sampler | None = None

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, index: int) -> Any:
        if self._sampler is None:  # once per worker process
            cv2.setNumThreads(1)
            self._sampler = Sampler(training_clips(), self._seed)
        return self._sampler.sample(self._first + index)


class _InOrder:
    """All numbers in order; torch's sequential sampler would make a list of them."""

    def __iter__(self) -> Any:
        number = 0
        while True:
            yield number
            number += 1


def train(recipe: Recipe, folder: Path, *, workers: int, steps: int | None = None) -> int:
    """Train until the minutes are over, resuming from the folder's checkpoint; return the steps."""
    torch.manual_seed(recipe.seed)
    network = FusionNet()
    run = training.TrainingRun(
        network,
        torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=1e-3),
        folder,
        schedule=training.cosine_schedule(
            lambda _, seconds: seconds / (60 * recipe.minutes), warmup_steps=200, floor=0.01
        ),
        max_gradient_norm=3.0,
    )
    code = training.code_digest(Path(__file__).parent, CODE)
    facts = {"data": digest_of(training_clips()), "code": code}
    loader = DataLoader(
        _Samples(recipe.seed, run.step * recipe.batch),
        batch_size=recipe.batch,
        sampler=cast("Any", _InOrder()),
        num_workers=workers,
        collate_fn=collate,
        prefetch_factor=4 if workers else None,
    )
    saved = time.monotonic()
    for batch in loader:
        terms = loss_terms(network, batch)
        loss = torch.stack([WEIGHTS[name] * term for name, term in terms.items()]).sum()
        run.optimize(loss, terms)
        over = run.seconds >= 60 * recipe.minutes or (steps is not None and run.step >= steps)
        if not over and time.monotonic() - saved < SAVE_INTERVAL_S:
            continue
        print(json.dumps(run.log()), flush=True)
        run.save(**facts)
        saved = time.monotonic()
        if over:
            break
    return run.step


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"default: {FOLDER}")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--steps", type=int, help="stop after so many steps")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that make samples")
    a = parser.parse_args()
    recipe = Recipe(a.minutes, a.batch, a.rate, a.seed)
    train(recipe, a.folder, workers=a.workers, steps=a.steps)


if __name__ == "__main__":
    main()
