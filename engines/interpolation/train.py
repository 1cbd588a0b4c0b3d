"""Train the interpolation networks: `python -m engines.interpolation.train --network fusion`.

The learning rate falls over the given minutes, which are stored in the checkpoint like the steps.
The averaged weights are evaluated and exported.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from engines.common import training
from engines.interpolation.data import digest_of, training_clips
from engines.interpolation.flow_network.losses import FlowTask
from engines.interpolation.losses import FusionTask
from engines.interpolation.samples import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engines.interpolation.losses import TrainingTask

TASKS: Mapping[str, Callable[[], TrainingTask]] = {"fusion": FusionTask, "flow": FlowTask}
SAVE_INTERVAL_S = 60.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Parameters that decide the outcome of a training run."""

    network: str = "fusion"
    minutes: float = 30.0
    batch: int = 12
    rate: float = 2e-3
    seed: int = 1


class _Samples(Dataset[Any]):
    """Samples by number, from number `first` on."""

    def __init__(self, task: TrainingTask, seed: int, first: int) -> None:
        self._task, self._seed, self._first = task, seed, first
        self._sampler: Sampler | None = None

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, index: int) -> Any:
        if self._sampler is None:  # once per worker process
            cv2.setNumThreads(1)
            self._sampler = Sampler(training_clips(), self._seed)
        return self._task.prepare(*self._sampler.frames(self._first + index))


class _InOrder:
    """All numbers in order; torch's sequential sampler would make a list of them."""

    def __iter__(self) -> Any:
        number = 0
        while True:
            yield number
            number += 1


def code_digest(task: TrainingTask) -> str:
    """Return the digest of the code that decides what is learned."""
    names = (*task.code, "train.py", "../common/training.py")
    return training.code_digest(Path(__file__).parent, names)


def train(recipe: Recipe, folder: Path, *, workers: int, steps: int | None = None) -> int:
    """Train until the minutes are over, resuming from the folder's checkpoint; return the steps."""
    torch.manual_seed(recipe.seed)
    task = TASKS[recipe.network]()
    network = task.network()
    run = training.TrainingRun(
        network,
        torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=1e-3),
        folder,
        schedule=training.cosine_schedule(
            lambda _, seconds: seconds / (60 * recipe.minutes), warmup_steps=200, floor=0.01
        ),
        max_gradient_norm=3.0,
    )
    facts = {"data": digest_of(training_clips()), "code": code_digest(task)}
    loader = DataLoader(
        _Samples(task, recipe.seed, run.step * recipe.batch),
        batch_size=recipe.batch,
        sampler=cast("Any", _InOrder()),
        num_workers=workers,
        collate_fn=task.collate,
        prefetch_factor=4 if workers else None,
    )
    saved = time.monotonic()
    for batch in loader:
        terms = task.terms(network, batch)
        loss = torch.stack([task.weights[name] * term for name, term in terms.items()]).sum()
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
    parser.add_argument("--network", choices=list(TASKS), default="fusion")
    parser.add_argument("--folder", type=Path, help="default: runs/interpolation/NETWORK")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--steps", type=int, help="stop after so many steps")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that make samples")
    a = parser.parse_args()
    recipe = Recipe(a.network, a.minutes, a.batch, a.rate, a.seed)
    folder = a.folder or Path("runs/interpolation") / a.network
    train(recipe, folder, workers=a.workers, steps=a.steps)


if __name__ == "__main__":
    main()
