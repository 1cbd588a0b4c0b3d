"""Trains the networks: `python -m engines.interpolation.train --network mixer`, or `whole`.

The rate falls over the minutes given, so a run ends when it was told to; minutes, like steps, are
kept in the checkpoint, and a run that is killed goes on where its last checkpoint stands. Every
sample follows from its number. What counts is the moving average of the weights.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from engines.common import training as common_training
from engines.interpolation.data import digest_of, training_clips
from engines.interpolation.flow_network.losses import FlowTask
from engines.interpolation.losses import FusionTask
from engines.interpolation.samples import Maker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from engines.interpolation.losses import TrainingTask

LESSONS: Mapping[str, Callable[[], TrainingTask]] = {"mixer": FusionTask, "whole": FlowTask}
KEEP = 0.998
"""Share of the old in the moving average of the weights, at the end."""
SAVE_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides the outcome."""

    network: str = "mixer"
    minutes: float = 30.0
    batch: int = 12
    rate: float = 2e-3
    seed: int = 1


class _Numbered(Dataset[Any]):
    """Samples by number, from the first that has not been seen."""

    def __init__(self, lesson: TrainingTask, seed: int, first: int) -> None:
        self._lesson, self._seed, self._first = lesson, seed, first
        self._maker: Maker | None = None

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, index: int) -> Any:
        if self._maker is None:  # in the process that makes them
            cv2.setNumThreads(1)
            self._maker = Maker(training_clips(), self._seed)
        return self._lesson.prepared(*self._maker.frames(self._first + index))


class _InOrder:
    """All numbers, without the list of them that a sampler would make."""

    def __iter__(self) -> Any:
        number = 0
        while True:
            yield number
            number += 1


def code_digest(lesson: TrainingTask) -> str:
    """One digest of the code that decides what is learnt, whatever its layout and comments."""
    return common_training.code_digest(Path(__file__).parent, (*lesson.code, "train.py"))


def train(recipe: Recipe, folder: Path, *, workers: int, steps: int | None = None) -> int:
    """Train until the minutes are over, going on from the folder's checkpoint; steps made."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    lesson = LESSONS[recipe.network]()
    network = lesson.network()
    average = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=1e-3)
    path, step, spent = folder / "checkpoint.pt", 0, 0.0
    if path.is_file():
        state = torch.load(path, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent = state["step"], state["spent"]
    facts = {"data": digest_of(training_clips()), "code": code_digest(lesson)}
    loader = DataLoader(
        _Numbered(lesson, recipe.seed, step * recipe.batch),
        batch_size=recipe.batch,
        sampler=cast("Any", _InOrder()),
        num_workers=workers,
        collate_fn=lesson.together,
        prefetch_factor=4 if workers else None,
    )
    sums, count = dict[str, float](), 0
    began = saved = time.monotonic()
    before = spent
    for batch in loader:
        done = min(1.0, spent / (60 * recipe.minutes))
        for group in optimiser.param_groups:
            fall = 0.5 * (1 + math.cos(math.pi * done))
            group["lr"] = recipe.rate * min(1, (step + 1) / 200) * max(fall, 0.01)
        terms = lesson.terms(network, batch)
        loss = torch.stack([lesson.weights[name] * term for name, term in terms.items()]).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 3.0)
        optimiser.step()
        step += 1
        common_training.follow(average, network, min(KEEP, (1 + step) / (10 + step)))
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + float(term.detach())
        count += 1
        now = time.monotonic()
        spent = before + now - began
        over = spent >= 60 * recipe.minutes or (steps is not None and step >= steps)
        if now - saved < SAVE_EVERY_S and not over:
            continue
        line: dict[str, Any] = {"step": step, "minutes": round(spent / 60, 1)}
        line |= {name: round(value / count, 4) for name, value in sums.items()}
        line["ms_per_step"] = round((now - saved) / count * 1000)
        with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
        state = {
            "network": network.state_dict(),
            "average": average.state_dict(),
            "optimiser": optimiser.state_dict(),
            "step": step,
            "spent": spent,
        }
        common_training.save(state | facts, path)
        saved, sums, count = now, {}, 0
        if over:
            break
    return step


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=list(LESSONS), default="mixer")
    parser.add_argument("--folder", type=Path, help="runs/interpolation/NETWORK if left out")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--steps", type=int, help="stop after so many, whatever the minutes")
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
